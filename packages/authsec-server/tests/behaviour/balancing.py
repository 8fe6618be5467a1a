"""How requests reach one of several servers: in turn, as a balancer sends them, behind one port or by a client."""

from __future__ import annotations

import asyncio
import itertools
import ssl
import threading
from collections.abc import Sequence
from contextlib import suppress
from urllib.parse import urlsplit

import httpx

__all__ = ["BARE", "Balanced", "Balancer"]

# Loading the usual certificates takes longer than any request here, and plain http needs none.
BARE = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
_PASSING = (httpx.ConnectError, httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError)


class Balanced(httpx.HTTPTransport):
    """Sends each request to the next server, wherever it was to go.

    What can be sent twice goes to another server where one refuses the connection, or closes it before it says
    anything, as nginx does by itself: a server that stops may have accepted what it never reads.

    Args:
        base_urls: The servers.
    """

    def __init__(self, *base_urls: str) -> None:
        # Each on a connection of its own: one that is kept may be closed by a server that ends, just when it is used.
        keep = httpx.Limits(max_keepalive_connections=0) if len(base_urls) > 1 else httpx.Limits()
        super().__init__(verify=BARE, limits=keep)
        self._places = [urlsplit(url) for url in base_urls]
        self._turn = itertools.cycle(self._places)
        self._alone = threading.Lock()  # guards the turn

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send it; each server is tried once if need be."""
        passing = _PASSING if request.method == "GET" else httpx.ConnectError
        for _ in self._places[1:]:
            try:
                return self._send(request)
            except passing:
                continue
        return self._send(request)

    def _send(self, request: httpx.Request) -> httpx.Response:
        with self._alone:
            place = next(self._turn)
        request.url = request.url.copy_with(host=place.hostname, port=place.port)
        return super().handle_request(request)


class Balancer:
    """Listens at a port of its own, and hands each connection to the next server that takes it. Close it.

    Attributes:
        port: Where it listens, on 127.0.0.1.
    """

    def __init__(self, ports: Sequence[int]) -> None:
        self._turn = itertools.cycle(ports)
        self._count = len(ports)
        self._loop = asyncio.new_event_loop()
        self._open: set[asyncio.StreamWriter] = set()
        self._server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port: int = self._server.sockets[0].getsockname()[1]
        self._thread = threading.Thread(target=self._loop.run_forever, name="balancer", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Hang up on everyone."""
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        self._server.close()
        for writer in tuple(self._open):
            writer.close()
        others = asyncio.all_tasks() - {asyncio.current_task()}
        await asyncio.gather(*others, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for _ in range(self._count):
            with suppress(ConnectionError):
                there = await asyncio.open_connection("127.0.0.1", next(self._turn))
                await asyncio.gather(self._copy(reader, there[1]), self._copy(there[0], writer))
                return
        writer.close()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            with suppress(ConnectionError):
                while data := await reader.read(65536):
                    writer.write(data)
                    await writer.drain()
        finally:
            writer.close()
            self._open.discard(writer)
