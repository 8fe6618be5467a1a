"""How requests reach one of several servers: in turn, as a balancer sends them."""

from __future__ import annotations

import itertools
import ssl
import threading
from urllib.parse import urlsplit

import httpx

__all__ = ["BARE", "Balanced"]

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
