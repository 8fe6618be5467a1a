"""How the guard's tests speak to an application: by ASGI as a server would, and by bytes to a server on loopback."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import uvicorn
from starlette.types import ASGIApp, Message

__all__ = ["Answer", "Port", "ask", "asked", "authorization", "scope_of", "serving"]

_PATIENCE = 30.0  # seconds
_DENIAL: dict[str, Any] = {"websocket.http.response": {}}


@dataclass(frozen=True)
class Answer:
    """An answer, or the code with which a WebSocket was closed, or `accepted`."""

    status: int
    headers: Mapping[str, str]
    body: bytes = b""


def scope_of(
    method: str, path: str, headers: Iterable[tuple[bytes, bytes]] = (), *, answering: bool = True, **more: Any
) -> dict[str, Any]:
    """Return the scope of a request, as a server would make it; the method `WEBSOCKET` gives that of a WebSocket.

    Args:
        answering: Whether the server can answer a WebSocket's request.
    """
    scope: dict[str, Any] = {
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "path": path,
        "raw_path": path.encode("utf-8", "surrogatepass"),
        "query_string": b"",
        "root_path": "",
        "headers": list(headers),
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 80),
        "extensions": _DENIAL if answering else {},
    }
    kind = {"type": "websocket", "scheme": "ws", "subprotocols": []} if method == "WEBSOCKET" else {"type": "http"}
    return {**scope, "scheme": "http", "method": method, **kind, **more}


def authorization(token: str) -> list[tuple[bytes, bytes]]:
    """Return the header that carries a token, as ASGI has it."""
    return [(b"authorization", f"Bearer {token}".encode())]


async def ask(app: ASGIApp, scope: dict[str, Any], body: bytes = b"") -> Answer:
    """Return what an application answers: 101 for a WebSocket that is accepted, its code for one that is closed."""
    sent: list[Message] = []
    socketed = scope["type"] == "websocket"
    waiting = [{"type": "websocket.connect"}] if socketed else [{"type": "http.request", "body": body}]

    async def receive() -> Message:
        gone = {"type": "websocket.disconnect", "code": 1000} if socketed else {"type": "http.disconnect"}
        return waiting.pop(0) if waiting else gone

    async def send(message: Message) -> None:
        sent.append(message)

    await app(scope, receive, send)
    first = sent[0]
    if first["type"] == "websocket.accept":
        return Answer(101, {})
    if first["type"] == "websocket.close":
        return Answer(first["code"], {})
    headers = {name.decode(): value.decode() for name, value in first.get("headers", [])}
    return Answer(first["status"], headers, b"".join(message.get("body", b"") for message in sent[1:]))


def asked(app: ASGIApp, method: str, path: str, headers: Iterable[tuple[bytes, bytes]] = (), **more: Any) -> Answer:
    """Return what an application answers to one request."""
    return asyncio.run(ask(app, scope_of(method, path, headers, **more)))


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.begun = threading.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.begun.set()


class Port:
    """A server on loopback, spoken to in bytes, so that no client mends what is sent."""

    def __init__(self, number: int) -> None:
        self.number = number

    def send(self, *lines: str | bytes, connection: bytes = b"close", body: bytes = b"") -> tuple[int, bytes]:
        """Return status and bytes of the answer to a request of these lines; 0 where the server only hangs up.

        Args:
            connection: Where it is not `close`, only the head of the answer is read.
        """
        coded = [line if isinstance(line, bytes) else line.encode("latin-1") for line in lines]
        with socket.create_connection(("127.0.0.1", self.number), timeout=_PATIENCE) as peer:
            peer.sendall(b"\r\n".join([*coded, b"Host: localhost", b"Connection: " + connection, b"", body]))
            answer = b""
            while not (connection != b"close" and b"\r\n\r\n" in answer) and (more := peer.recv(65536)):
                answer += more
        return (int(answer.split(b" ", 2)[1]) if answer.startswith(b"HTTP/") else 0), answer


@contextmanager
def serving(app: ASGIApp, **options: Any) -> Iterator[Port]:
    """Serve an application with uvicorn in a thread."""
    usual = {"log_level": "critical", "lifespan": "off", "access_log": False, "ws": "wsproto"}
    server = _Server(uvicorn.Config(app, **{**usual, **options}))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])), daemon=True)
        thread.start()
        assert server.begun.wait(_PATIENCE)
        try:
            yield Port(listener.getsockname()[1])
        finally:
            server.should_exit = True
            thread.join(_PATIENCE)
