"""A way past the framework for the routes that have to be fast; it answers what the framework would.

FastAPI takes as long to find a route and to prepare its arguments as the authority takes to decide. The routes are
declared there all the same: for OpenAPI, and for every other method.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from fastapi import Request, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from authsec_core.errors import AuthSecError
from authsec_server.problems import refusal

__all__ = ["Direct", "Handler"]

Handler = Callable[[Request], Awaitable[Response]]

_METHOD: Final = "GET"
_ANY_PATH: Final = "{path:path}"


class Direct:
    """Answer GET on some paths by calling their handlers; whatever else is asked goes on to the framework.

    Args:
        app: The framework.
        handlers: What the framework would call: it takes the request alone, and returns a response. By its path, which
            has no parameters, or ends in `{path:path}`.
    """

    def __init__(self, app: ASGIApp, *, handlers: Mapping[str, Handler]) -> None:
        self._app = app
        self._exact: dict[str, Route] = {}
        self._below: dict[str, Route] = {}
        for path, handler in handlers.items():
            stem = path.removesuffix(_ANY_PATH)
            (self._exact if stem == path else self._below)[stem] = Route(path, handler, methods=[_METHOD])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request. What no error of ours explains is raised, for `LastResort`."""
        route = self._found(scope["path"]) if scope["type"] == "http" and scope["method"] == _METHOD else None
        if route is None:
            await self._app(scope, receive, send)
            return
        scope["route"] = route  # the log names it
        try:
            response = await route.endpoint(Request(scope, receive, send))
        except AuthSecError as exc:
            response = refusal(scope, exc)
        await response(scope, receive, send)

    def _found(self, path: str) -> Route | None:
        if (route := self._exact.get(path)) is not None:
            return route
        return next((below for stem, below in self._below.items() if path.startswith(stem)), None)
