"""A small HTTP/1.1 server on 127.0.0.1 for tests, demos and examples, which can misbehave when told to.

A handler is a function from `Request` to `Reply` or `Raw`. What a server *means* (an authority, a model, a protected
API) is not decided here. Standard library only; it starts in under a millisecond and leaves no thread or socket behind.
"""

from __future__ import annotations

import socket
import sys
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from http.client import responses
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import parse_qsl

from authsec_core.testing._http import Answer, Handler, Raw, Reply, Request

if TYPE_CHECKING:
    import ssl
    from types import TracebackType

__all__ = ["LoopbackServer"]

_LARGEST_BODY = 16 * 1024 * 1024  # bytes
_JOIN = 5.0  # seconds that closing waits for one handler
_CRASHED = Reply(status=500, body=b"the handler failed")


class LoopbackServer:
    """Serve `handler` on a free port of 127.0.0.1, one daemon thread for each connection.

    Leaving the `with` block re-raises the first exception that a handler raised, unless another is on its way: an
    assertion inside a handler fails the test.

    Args:
        handler: Answers one request. Called from several threads at once.
        tls: A server-side context, to speak https.
        wait: Waits out a `delay` given in seconds. The default really waits, but no longer than until `close`.
        on_crash: What the client is told when the handler raises.

    >>> with LoopbackServer(lambda request: Reply(body=b"hello")) as server:
    ...     server.base_url.startswith("http://127.0.0.1:")
    True
    """

    def __init__(
        self,
        handler: Handler,
        *,
        tls: ssl.SSLContext | None = None,
        wait: Callable[[float], object] | None = None,
        on_crash: Reply = _CRASHED,
    ) -> None:
        self._handler = handler
        self._tls = tls
        self._closing = threading.Event()
        self._wait = wait or self._closing.wait
        self._on_crash = on_crash
        self._arrived = threading.Condition()
        self._requests: list[Request] = []
        self._port = 0
        self._listener: _Listener | None = None
        self._acceptor: threading.Thread | None = None
        self._let_port_go: Callable[[], object] = lambda: None
        self.failures: list[BaseException] = []

    @property
    def base_url(self) -> str:
        """The server's root, without a trailing slash; the same after `close` and `start`."""
        if not self._port:
            raise RuntimeError("the server has not been started: use it in a with block, or call start()")
        return f"{'https' if self._tls else 'http'}://127.0.0.1:{self._port}"

    @property
    def requests(self) -> tuple[Request, ...]:
        """Every request received so far."""
        with self._arrived:
            return tuple(self._requests)

    def wait_for_requests(self, count: int, *, path: str | None = None, timeout: float = 30.0) -> None:
        """Wait until `count` requests in all have come, for `path` or for any; they need not have been answered.

        Raises:
            AssertionError: They did not come within `timeout` seconds.
        """

        def come() -> int:
            return sum(path in (None, request.path) for request in self._requests)

        with self._arrived:
            if not self._arrived.wait_for(lambda: come() >= count, timeout):
                raise AssertionError(f"{come()} of {count} requests came within {timeout} s")

    def start(self) -> LoopbackServer:
        """Listen. After `close`, listen again on the same port."""
        if self._listener is not None:
            raise RuntimeError("the server is running already")
        self._closing.clear()
        self._let_port_go()
        self._listener = _Listener(self, self._port, self._tls)
        self._port = self._listener.server_port
        self._acceptor = threading.Thread(target=self._accept, args=(self._listener,), daemon=True)
        self._acceptor.start()
        return self

    def close(self) -> None:
        """Refuse new connections, drop the open ones, end all delays, wait for the handlers. Harmless when closed.

        The port stays ours until the `with` block ends, or until there is no server any more that could start again.
        """
        listener, acceptor = self._listener, self._acceptor
        if listener is None or acceptor is None:
            return
        self._listener = self._acceptor = None
        self._closing.set()
        with suppress(OSError):  # wakes the acceptor, which otherwise sleeps until a client comes
            socket.create_connection(("127.0.0.1", self._port), timeout=1.0).close()
        acceptor.join()
        listener.server_close()
        self._keep_port()
        listener.drop_connections()

    def __enter__(self) -> LoopbackServer:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        self._let_port_go()
        if error is None and self.failures:
            raise self.failures[0]

    @property
    def is_closing(self) -> bool:
        """Whether `close` has begun."""
        return self._closing.is_set()

    def respond(self, request: Request) -> Answer:
        """Record the request, ask the handler and wait out the delay of its answer; while closing, answer nothing."""
        with self._arrived:
            self._requests.append(request)
            self._arrived.notify_all()
        try:
            answer = self._handler(request)
        except Exception as error:  # noqa: BLE001 - a composition root: kept, and raised again by __exit__
            self.failures.append(error)
            answer = self._on_crash
        self._pause(answer.delay)
        return Raw() if self._closing.is_set() else answer

    def _keep_port(self) -> None:
        """Let nobody else have the port, who would answer in our place, until we start again or are forgotten."""
        kept = socket.socket()
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._let_port_go = weakref.finalize(self, kept.close)
        with suppress(OSError):  # somebody was quicker
            kept.bind(("127.0.0.1", self._port))

    def _accept(self, listener: _Listener) -> None:
        while not self._closing.is_set():
            listener.handle_request()

    def _pause(self, delay: float | threading.Event) -> None:
        if isinstance(delay, threading.Event):
            # Two events cannot be waited for at once, and closing must not depend on the test's own one.
            while not delay.wait(0.05) and not self._closing.is_set():
                pass
        elif delay > 0:
            self._wait(delay)


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 1024  # the default of 5 makes a burst of clients wait a second for their SYN to be repeated

    def __init__(self, owner: LoopbackServer, port: int, tls: ssl.SSLContext | None) -> None:
        self.owner = owner
        self._tls = tls
        self._lock = threading.Lock()  # guards _live
        self._live: dict[threading.Thread, socket.socket] = {}  # by threads that have not ended, and some that have
        super().__init__(("127.0.0.1", port), _Connection)

    def server_bind(self) -> None:
        # HTTPServer's own asks the resolver for the name of 127.0.0.1, which takes seconds on some machines.
        TCPServer.server_bind(self)
        self.server_name, self.server_port = "127.0.0.1", int(self.server_address[1])

    def verify_request(self, request: Any, client_address: Any) -> bool:
        return not self.owner.is_closing

    def process_request(self, request: Any, client_address: Any) -> None:
        thread = threading.Thread(target=self.process_request_thread, args=(request, client_address), daemon=True)
        with self._lock:
            # Forgotten when it has ended, and not by itself when it is about to: `close` leaves no thread behind.
            self._live = {other: its for other, its in self._live.items() if other.is_alive()}
            self._live[thread] = request
        thread.start()

    def finish_request(self, request: Any, client_address: Any) -> None:
        if self._tls is None:
            super().finish_request(request, client_address)
            return
        with self._lock:
            # In one step: wrapping takes the descriptor away from `request`, which could then not be shut down.
            if self.owner.is_closing:
                return
            secure = self._tls.wrap_socket(request, server_side=True, do_handshake_on_connect=False)
            self._live[threading.current_thread()] = secure
        with secure:
            secure.do_handshake()
            super().finish_request(secure, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        error = sys.exc_info()[1]
        # A peer that hung up or failed the handshake (ssl.SSLError is an OSError) is what many tests are about.
        if error is not None and not isinstance(error, OSError):
            self.owner.failures.append(error)

    def drop_connections(self) -> None:
        with self._lock:
            live = dict(self._live)
        for connection in live.values():
            with suppress(OSError):
                # Not SSLSocket's own, which takes the TLS state away from the thread that is using it.
                socket.socket.shutdown(connection, socket.SHUT_RDWR)
        for thread in live:
            thread.join(_JOIN)
            if thread.is_alive():
                self.owner.failures.append(RuntimeError("a handler was still busy long after the server was closed"))


class _Connection(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def _serve(self) -> None:
        request = self._read()
        if request is None:
            self._write(Reply(status=411, headers={"Connection": "close"}))
            return
        answer = cast("_Listener", self.server).owner.respond(request)
        if isinstance(answer, Raw):
            self.close_connection = True
            self.wfile.write(answer.data)
        else:
            self._write(answer)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = _serve  # noqa: N815 - the stdlib's names

    def _read(self) -> Request | None:
        length = self.headers.get("Content-Length", "0")
        if "Transfer-Encoding" in self.headers or not length.isdecimal() or int(length) > _LARGEST_BODY:
            return None
        headers: dict[str, str] = {}
        for name, value in self.headers.items():
            key = name.lower()
            headers[key] = f"{headers[key]}, {value}" if key in headers else value
        # Not self.path: the standard library mends a leading "//" there, and a test wants to see what was sent.
        path, _, query = self.requestline.split()[1].partition("?")
        return Request(
            method=self.command,
            path=path,
            query=tuple(parse_qsl(query, keep_blank_values=True)),
            headers=headers,
            body=self.rfile.read(int(length)),
        )

    def _write(self, reply: Reply) -> None:
        headers = {"Content-Length": str(len(reply.body)), **reply.headers}
        phrase = responses.get(reply.status, "")
        lines = [f"HTTP/1.1 {reply.status} {phrase}", *(f"{name}: {value}" for name, value in headers.items())]
        body = b"" if self.command == "HEAD" else reply.body[: reply.cut_after]
        if reply.cut_after is not None or headers.get("Connection", "").lower() == "close":
            self.close_connection = True
        self.wfile.write("\r\n".join([*lines, "", ""]).encode("latin-1") + body)

    def log_message(self, format: str, *args: object) -> None:
        """Print nothing."""
