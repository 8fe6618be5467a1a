"""A way past the framework for the one route that has to be fast; it answers what the framework would.

FastAPI takes as long to find a route and to prepare its arguments as the authority takes to decide. The route is
declared there all the same: for OpenAPI, and for every other method.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from fastapi import Request, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from authsec_core.errors import AuthSecError
from authsec_server.problems import refusal

__all__ = ["Direct"]

_METHOD: Final = "GET"


class Direct:
    """Answer GET on one path by calling its handler; whatever else is asked goes on to the framework.

    Args:
        app: The framework.
        path: The whole path, without parameters.
        handler: What the framework would call: it takes the request alone, and returns a response.
    """

    def __init__(self, app: ASGIApp, *, path: str, handler: Callable[[Request], Awaitable[Response]]) -> None:
        self._app, self._path, self._handler = app, path, handler
        self._route: Final = Route(path, handler, methods=[_METHOD])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request. What no error of ours explains is raised, for `LastResort`."""
        if scope["type"] != "http" or scope["path"] != self._path or scope["method"] != _METHOD:
            await self._app(scope, receive, send)
            return
        scope["route"] = self._route  # the log names it
        try:
            response = await self._handler(Request(scope, receive, send))
        except AuthSecError as exc:
            response = refusal(scope, exc)
        await response(scope, receive, send)
