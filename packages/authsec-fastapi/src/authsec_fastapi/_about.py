"""What goes on record of a request: nothing that may be a secret or name a person, and no word that is not plain. Pure.

Not its path, for instance, but the template of its route.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from authsec_fastapi.recording import About

__all__ = ["KNOWN_METHODS", "WEBSOCKET", "about_request", "method_of"]

WEBSOCKET: Final = "WEBSOCKET"
KNOWN_METHODS: Final = frozenset(
    {"CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "QUERY", "TRACE", WEBSOCKET}
)
_OTHER: Final = "OTHER"
_REQUEST_ID = b"x-request-id"
_LONGEST_ID = 128  # characters


def about_request(scope: Mapping[str, Any], *, route: str | None = None) -> About:
    """Return what goes on record of the request of an ASGI scope.

    Args:
        route: The template, where the application has not chosen its route yet.
    """
    method = method_of(scope)
    return About(
        request_id=_request_id(scope),
        method=method if method in KNOWN_METHODS else _OTHER,  # else it is any word of the caller's
        route=route if route is not None else _template(scope),
    )


def method_of(scope: Mapping[str, Any]) -> str:
    """Return the method as it was sent; `WEBSOCKET` for a WebSocket, and for nothing else."""
    if scope["type"] == "websocket":
        return WEBSOCKET
    method: str = scope["method"]
    # Servers pass on any word. This one must not be a request's way in by the rule of a WebSocket.
    return _OTHER if method == WEBSOCKET else method


def _request_id(scope: Mapping[str, Any]) -> str | None:
    found: list[bytes] = [value for name, value in scope["headers"] if name.lower() == _REQUEST_ID]
    if len(found) != 1 or not 1 <= len(found[0]) <= _LONGEST_ID or not all(0x21 <= byte <= 0x7E for byte in found[0]):
        return None
    return found[0].decode("ascii")


def _template(scope: Mapping[str, Any]) -> str | None:
    # Newer versions of FastAPI leave out of `scope["route"]` what `include_router` and its routers put before the path.
    context = scope.get("fastapi", {}).get("effective_route_context")
    for found in (getattr(context, "starlette_route", None), context, scope.get("route")):
        path = getattr(found, "path", None)
        if isinstance(path, str):
            return path
    return None
