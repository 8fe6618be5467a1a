"""How a refusal is sent: over HTTP as an answer, and to a WebSocket too where the server can do that.

What it says is for `refusals`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import JSONResponse
from starlette.websockets import WebSocket

from authsec_core.errors import AuthSecError
from authsec_fastapi.refusals import Refusal, refusal_of

if TYPE_CHECKING:
    from starlette.requests import HTTPConnection
    from starlette.responses import Response
    from starlette.types import Receive, Scope, Send

__all__ = ["POLICY_VIOLATION", "answer", "can_answer", "refuse"]

POLICY_VIOLATION: Final = 1008  # RFC 6455 section 7.4.1; before the handshake, servers answer 403 instead


def can_answer(scope: Mapping[str, Any]) -> bool:
    """Return whether a request can be given an answer; most servers can do so for a WebSocket before the handshake."""
    return scope["type"] == "http" or "websocket.http.response" in (scope.get("extensions") or {})


async def refuse(refusal: Refusal, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer in the form that FastAPI gives to an `HTTPException`, or close the WebSocket."""
    if not can_answer(scope):
        await send({"type": "websocket.close", "code": POLICY_VIOLATION, "reason": ""})
        return
    await _answer(refusal)(scope, receive, send)


async def answer(error: Exception, connection: HTTPConnection, *, realm: str) -> Response | None:
    """Return the answer to what a route has raised, or close the WebSocket; what is not ours is raised again."""
    if not isinstance(error, AuthSecError):
        raise error
    if isinstance(connection, WebSocket):
        await connection.close(POLICY_VIOLATION)
        return None
    return _answer(refusal_of(error, realm=realm))


def _answer(refusal: Refusal) -> JSONResponse:
    return JSONResponse({"detail": refusal.detail}, refusal.status, dict(refusal.headers))
