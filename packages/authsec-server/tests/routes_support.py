"""The routes of agents, roles, delegations, issuers and operators on their own app, and a client that reads OpenAPI.

What stands before them in the real app, and the databases, are for the tests of the whole.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, cast
from urllib.parse import unquote

import httpx
from fastapi import FastAPI
from fastapi.routing import APIRoute
from registry_support import Registry, registry, sqlite

from authsec_core.testing import FakeClock
from authsec_server import problems
from authsec_server.agents import routes as agents
from authsec_server.authority import Authority
from authsec_server.delegations import routes as delegations
from authsec_server.issuers import routes as issuers
from authsec_server.operators import routes as operators

NOBODY = "00000000-0000-4000-8000-000000000000"
_ROUTERS = (agents.router, delegations.roles, delegations.router, issuers.router, operators.router)


def routes() -> list[APIRoute]:
    """Return the routes, as their routers have them: newer apps of FastAPI no longer list what they include."""
    return [cast("APIRoute", route) for router in _ROUTERS for route in router.routes]


def app_of(one: Registry | None) -> FastAPI:
    """Return the routes, with these services behind them."""
    app = FastAPI()
    for router in _ROUTERS:
        app.include_router(router)
    problems.install(app)
    app.state.authority = cast("Authority", one)  # the services that these routes ask for, and no more
    return app


class Speaker:
    """Speaks to the app as one operator, and sees to it that every status it gets was declared."""

    def __init__(self, app: FastAPI, http: httpx.AsyncClient, token: str) -> None:
        self._app, self._http, self._token = app, http, token

    async def __call__(self, method: str, path: str, *, status: int, token: str | None = None, **more: Any) -> Any:
        """Send a request below `/api/v1`, and return the body of the reply.

        Args:
            status: The one that has to come.
            token: Another operator's; the empty text is none.
        """
        reply = await self.reply(method, path, token=token, **more)
        assert reply.status_code == status, reply.text
        return reply.json() if reply.content else None

    async def reply(self, method: str, path: str, *, token: str | None = None, **more: Any) -> httpx.Response:
        """Send a request, and return the whole reply."""
        shown = self._token if token is None else token
        headers = {"Authorization": f"Bearer {shown}"} if shown else {}
        reply = await self._http.request(method, f"/api/v1{path}", headers=headers, **more)
        assert str(reply.status_code) in self._declared(method, f"/api/v1{path}"), reply.text
        return reply

    def _declared(self, method: str, path: str) -> set[str]:
        for route in routes():
            if method in (route.methods or ()) and route.path_regex.match(unquote(path)):
                return set(self._app.openapi()["paths"][route.path][method.lower()]["responses"])
        raise LookupError(f"{method} {path}")


def speaking(folder: Path, test: Callable[[Speaker, Registry], Coroutine[Any, Any, None]]) -> None:
    """Run a test that speaks to the app as an admin."""

    async def run() -> None:
        clock = FakeClock()
        async with registry(sqlite(folder), clock=clock) as one:
            _, credential = await one.admin()
            app = app_of(one)
            transport = httpx.ASGITransport(app=app)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
                await test(Speaker(app, http, credential.text()), one)

    asyncio.run(run())
