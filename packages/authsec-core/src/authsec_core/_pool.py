"""Which httpx client a request travels with: one per process, and for coroutines one per running event loop.

Classic AutoGen makes a loop for each tool call, so an async client has to work on one loop after the other, and has to
let go of its sockets when a loop ends.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable
from contextlib import nullcontext, suppress
from typing import Final, NamedTuple, TypeVar

import httpx

from authsec_core._fork import renew_after_fork
from authsec_core._http import ClientOptions, blocking_client
from authsec_core.errors import ConfigurationError

__all__ = ["AsyncPool", "Pool"]

T = TypeVar("T")
_CLOSED: Final = "this client is closed: make a new one"
_STOPPED_LOOPS: Final = 8  # that may run again and find their connections; a loop that is forgotten makes new ones


class Pool:
    """The sync client, made when it is first needed. Thread-safe; a child process gets one of its own.

    A transport that was handed in belongs to its owner and is not closed here.
    """

    def __init__(self, options: Callable[[], ClientOptions], transport: httpx.BaseTransport | None) -> None:
        self._options, self._transport = options, transport and _Lent(transport)
        self._client: httpx.Client | None = None
        self._closed = False
        self._lock = threading.Lock()  # guards the two above
        renew_after_fork(self)

    def check_open(self) -> None:
        """Raise RuntimeError where the pool is closed."""
        if self._closed:
            raise RuntimeError(_CLOSED)

    def client(self) -> httpx.Client:
        """Return the client.

        Raises:
            RuntimeError: The pool is closed.
            ConfigurationError: The environment, which is to be trusted, names a proxy that cannot be used.
        """
        with self._lock:
            self.check_open()
            if self._client is None:
                options = self._options()
                self._client = _built(lambda: blocking_client(options, self._transport), options)
            return self._client

    def close(self) -> None:
        """Close the connections. May be called twice."""
        with self._lock:
            client, self._client, self._closed = self._client, None, True
        if client is not None:
            client.close()

    def after_fork(self) -> None:
        """Leave the parent its connections."""
        self._lock = threading.Lock()
        self._client = None


class _OnLoop(NamedTuple):
    client: httpx.AsyncClient
    to_close: list[httpx.AsyncClient]
    closer: AsyncGenerator[None, None]

    def forget(self) -> None:
        """End the closer without closing anything: the loop, where that would have to be done, does not run."""
        self.to_close.clear()
        with suppress(StopIteration):
            self.closer.aclose().send(None)


class AsyncPool:
    """The async clients, one for each running event loop. Thread-safe; a loop's sockets end with the loop."""

    def __init__(self, options: Callable[[], ClientOptions], transport: httpx.AsyncBaseTransport | None) -> None:
        self._options, self._transport = options, transport and _AsyncLent(transport)
        self._loops: dict[asyncio.AbstractEventLoop, _OnLoop] = {}
        self._closed = False
        self._lock = threading.Lock()  # guards the two above
        renew_after_fork(self)

    def check_open(self) -> None:
        """Raise RuntimeError where the pool is closed."""
        if self._closed:
            raise RuntimeError(_CLOSED)

    async def client(self) -> httpx.AsyncClient:
        """Return the client of the running loop.

        Raises:
            RuntimeError: The pool is closed, or no loop is running.
            ConfigurationError: The environment, which is to be trusted, names a proxy that cannot be used.
        """
        loop = asyncio.get_running_loop()
        with self._lock:
            self.check_open()
            held = self._loops.get(loop)
            if held is not None:
                return held.client
            self._forget_loops()
            options = self._options()
            client = _built(lambda: httpx.AsyncClient(transport=self._transport, **options), options)
            to_close = [client]
            held = self._loops[loop] = _OnLoop(client, to_close, _close_with_loop(to_close))
        # The first step registers the generator with the loop, whose shutdown_asyncgens() (asyncio.run calls it) then
        # closes the connections while they still can be closed.
        await held.closer.__anext__()
        return client

    def _forget_loops(self) -> None:
        """Keep no loop from being collected that ended, or that looks dropped: stopped, idle, and of the first used."""
        for loop in [loop for loop in self._loops if loop.is_closed()]:
            del self._loops[loop]
        stopped = [loop for loop in self._loops if not loop.is_running() and not asyncio.all_tasks(loop)]
        for loop in stopped[:-_STOPPED_LOOPS]:
            self._loops.pop(loop).forget()

    async def release(self) -> None:
        """Close the connections of the running loop, and of no other."""
        with self._lock:
            held = self._loops.pop(asyncio.get_running_loop(), None)
        if held is not None:
            await held.closer.aclose()
            await held.client.aclose()

    async def aclose(self) -> None:
        """Close the connections of this loop, and ask the other running loops to close theirs. May be called twice."""
        with self._lock:
            loops, self._loops, self._closed = self._loops, {}, True
        here = asyncio.get_running_loop()
        for loop, held in loops.items():
            if loop is here:
                await held.closer.aclose()
                await held.client.aclose()
            elif loop.is_running():
                _close_on(loop, held.client)

    def after_fork(self) -> None:
        """Leave the parent its connections."""
        self._lock = threading.Lock()
        self._loops = {}


async def _close_with_loop(clients: list[httpx.AsyncClient]) -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        for client in clients:
            await client.aclose()


def _built(build: Callable[[], T], options: ClientOptions) -> T:
    with suppress(ValueError, ImportError, httpx.InvalidURL) if options["trust_env"] else nullcontext():
        return build()
    # Raised out here, because what httpx says of a proxy's address may hold its password.
    raise ConfigurationError(
        "AUTHSEC_TRUST_ENV: the proxy that HTTPS_PROXY, HTTP_PROXY or ALL_PROXY names cannot be used: mend or unset it"
    )


def _close_on(loop: asyncio.AbstractEventLoop, client: httpx.AsyncClient) -> None:
    closing = client.aclose()
    try:
        asyncio.run_coroutine_threadsafe(closing, loop)
    except RuntimeError:  # the loop has ended in this very moment
        closing.close()


class _Lent(httpx.BaseTransport):
    def __init__(self, transport: httpx.BaseTransport) -> None:
        self._transport = transport

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return self._transport.handle_request(request)


class _AsyncLent(httpx.AsyncBaseTransport):
    def __init__(self, transport: httpx.AsyncBaseTransport) -> None:
        self._transport = transport

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return await self._transport.handle_async_request(request)
