"""How a refusal is sent: over HTTP as an answer, and to a WebSocket too where the server can do that.

What it says is for `refusals`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from starlette.responses import JSONResponse

from authsec_fastapi.refusals import Refusal

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

__all__ = ["POLICY_VIOLATION", "can_answer", "refuse"]

POLICY_VIOLATION: Final = 1008  # RFC 6455 section 7.4.1; before the handshake, servers answer 403 instead


def can_answer(scope: Mapping[str, Any]) -> bool:
    """Return whether a request can be given an answer; most servers can do so for a WebSocket before the handshake."""
    return scope["type"] == "http" or "websocket.http.response" in (scope.get("extensions") or {})


async def refuse(refusal: Refusal, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer in the form that FastAPI gives to an `HTTPException`, or close the WebSocket."""
    if not can_answer(scope):
        await send({"type": "websocket.close", "code": POLICY_VIOLATION, "reason": ""})
        return
    answer = JSONResponse({"detail": refusal.detail}, refusal.status, dict(refusal.headers))
    await answer(scope, receive, send)
