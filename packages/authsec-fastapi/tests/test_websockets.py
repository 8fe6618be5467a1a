"""WebSockets: who is not let in learns why before the handshake, and a long connection is looked at again.

No `from __future__ import annotations`: FastAPI reads those of functions that are made inside others.
"""

import asyncio
import base64
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Depends, FastAPI, WebSocket
from guard_http import Answer, asked, authorization, scope_of, serving
from guard_support import Issuer, Memory
from starlette.types import Message

from authsec_core.errors import AuthSecError, RevokedTokenError
from authsec_fastapi import AuthSecGuard, AuthSecMiddleware, Policy, Principal, RouteRule
from authsec_fastapi.principal import Standing

issuer = Issuer()
TOKEN = issuer.token("read:feed")
POLICY = Policy(routes=(RouteRule(path="/v1/feed", methods=frozenset({"WEBSOCKET"}), scopes=frozenset({"read:feed"})),))


def by_parameter(guard: AuthSecGuard) -> FastAPI:
    """Guard a WebSocket by a parameter."""
    router = APIRouter(prefix="/v1")

    @router.websocket("/feed")
    async def feed(socket: WebSocket, caller: Annotated[Principal, Depends(guard.require("read:feed"))]) -> None:
        await socket.accept()
        await socket.send_text(caller.subject)

    app = FastAPI()
    app.include_router(router)
    return app


async def _greet(socket: WebSocket) -> None:
    await socket.accept()
    await socket.send_text("hello")


def by_route(guard: AuthSecGuard) -> FastAPI:
    """Guard it by the route's dependencies."""
    app = FastAPI()
    app.websocket("/v1/feed", dependencies=[Depends(guard.require("read:feed"))])(_greet)
    return app


def by_router(guard: AuthSecGuard) -> FastAPI:
    """Guard it by those of its router."""
    router = APIRouter(prefix="/v1", dependencies=[Depends(guard.require("read:feed"))])
    router.websocket("/feed")(_greet)
    app = FastAPI()
    app.include_router(router)
    return app


def by_application(guard: AuthSecGuard) -> FastAPI:
    """Guard it by those of the application."""
    app = FastAPI(dependencies=[Depends(guard.require("read:feed"))])
    app.websocket("/v1/feed")(_greet)
    return app


def by_middleware(guard: AuthSecGuard) -> FastAPI:
    """Guard it by the policy's rule for the route."""
    app = FastAPI()
    app.websocket("/v1/feed")(_greet)
    app.add_middleware(AuthSecMiddleware, guard=guard)
    return app


WAYS = [by_parameter, by_route, by_router, by_application, by_middleware]


@pytest.mark.req("RV7", "RV8")
@pytest.mark.parametrize("way", WAYS)
def test_a_refusal_comes_before_the_handshake(way: Any) -> None:
    """401, 403 and 503 of RFC 6750 where the server can answer; else it is closed with 1008, which servers make 403."""
    memory = Memory()
    app = way(issuer.guard(policy=POLICY, sink=memory, realm="shop"))

    def refused(headers: list[tuple[bytes, bytes]], *, answering: bool = True) -> Answer:
        return asked(app, "WEBSOCKET", "/v1/feed", headers, answering=answering)

    assert refused(authorization(TOKEN)).status == 101
    assert refused(authorization(TOKEN), answering=False).status == 101
    missing = refused([])
    assert (missing.status, missing.headers["www-authenticate"]) == (401, 'Bearer realm="shop"')
    wrong = refused(authorization("canary"))
    assert (wrong.status, wrong.headers["www-authenticate"]) == (401, 'Bearer realm="shop", error="invalid_token"')
    short = refused(authorization(issuer.token("canary")))
    assert short.status == 403
    assert short.headers["www-authenticate"] == 'Bearer realm="shop", error="insufficient_scope", scope="read:feed"'
    assert b"canary" not in wrong.body + short.body
    for headers in ([], authorization("wrong"), authorization(issuer.token())):
        assert refused(headers, answering=False).status == 1008
    assert {(event.method, event.route) for event in memory.events} <= {
        ("WEBSOCKET", "/v1/feed"),
        ("WEBSOCKET", None),
    }
    memory.failing = True
    assert (refused(authorization(TOKEN)).status, refused(authorization(TOKEN), answering=False).status) == (503, 1008)


@pytest.mark.req("RV7")
@pytest.mark.parametrize("way", WAYS)
def test_a_token_is_in_the_header_or_nowhere(way: Any) -> None:
    """Not in the query, in a cookie, or in the list of subprotocols, where browsers' code likes to put it."""
    app = way(issuer.guard(policy=POLICY))
    ways: list[tuple[dict[str, Any], list[tuple[bytes, bytes]]]] = [
        ({"query_string": f"access_token={TOKEN}&token={TOKEN}".encode()}, []),
        ({}, [(b"cookie", f"access_token={TOKEN}".encode())]),
        ({"subprotocols": ["bearer", TOKEN]}, [(b"sec-websocket-protocol", f"bearer, {TOKEN}".encode())]),
    ]
    for more, headers in ways:
        assert asked(app, "WEBSOCKET", "/v1/feed", headers, **more).status == 401


def test_a_socket_that_something_has_accepted_is_closed() -> None:
    """After the handshake there is no answer left to give: the connection ends with 1008 and nothing is sent."""
    guard = issuer.guard()

    async def accepted(socket: WebSocket) -> None:
        await socket.accept()

    app = FastAPI()
    app.websocket("/feed", dependencies=[Depends(accepted), Depends(guard.require_caller())])(_greet)
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(app(scope_of("WEBSOCKET", "/feed"), receive, send))
    assert [(message["type"], message.get("code")) for message in sent] == [
        ("websocket.accept", None),
        ("websocket.close", 1008),
    ]


class Turning(Standing):
    """A token that is good for some looks, and revoked after that."""

    def __init__(self, looks: int) -> None:
        self._left = looks

    def check(self) -> None:
        self._left -= 1
        if self._left < 0:
            raise RevokedTokenError("revoked")

    async def acheck(self) -> None:
        self.check()

    def is_of(self, authenticator: object) -> bool:
        return True


@pytest.mark.req("RV9")
def test_a_connection_ends_when_the_token_does() -> None:
    """Whoever looks again before each message sends nothing to a caller whose token was revoked meanwhile."""
    memory = Memory()
    guard = issuer.guard(sink=memory)
    caller = Principal(subject="ann", issuer="https://a.example", _standing=Turning(2))
    app = FastAPI()

    @app.websocket("/feed")
    async def feed(socket: WebSocket) -> None:
        await socket.accept()
        try:
            for count in range(5):
                await guard.check_again(caller)
                await socket.send_text(str(count))
        except AuthSecError:
            await socket.close(1008)

    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "websocket.connect"}

    async def send(message: Message) -> None:
        sent.append(message)

    asyncio.run(app(scope_of("WEBSOCKET", "/feed"), receive, send))
    assert [message.get("text") or message.get("code") for message in sent[1:]] == ["0", "1", 1008]
    assert [event.reason for event in memory.events] == ["allowed", "allowed", "token_revoked"]


@pytest.mark.req("RV8")
@pytest.mark.parametrize("way", [by_parameter, by_middleware])
def test_a_real_server_answers_the_handshake(way: Any) -> None:
    """Uvicorn sends status and challenge as HTTP, and opens the connection for who is let in."""
    with serving(way(issuer.guard(policy=POLICY))) as port:

        def handshake(*headers: str) -> tuple[int, bytes]:
            key = base64.b64encode(b"0123456789abcdef").decode()
            return port.send(
                "GET /v1/feed HTTP/1.1",
                "Upgrade: websocket",
                f"Sec-WebSocket-Key: {key}",
                "Sec-WebSocket-Version: 13",
                *headers,
                connection=b"Upgrade",
            )

        status, answer = handshake()
        assert (status, b'bearer realm="authsec"' in answer.lower()) == (401, True)
        status, answer = handshake(f"Authorization: Bearer {issuer.token()}")
        assert (status, b'scope="read:feed"' in answer) == (403, True)
        assert handshake(f"Authorization: Bearer {TOKEN}")[0] == 101
