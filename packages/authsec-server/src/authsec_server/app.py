"""The authority as an ASGI application: which routes there are, and what stands before them. Wiring only."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from fastapi import FastAPI

import authsec_server.agents.routes as agents
import authsec_server.audit.routes as audit
import authsec_server.delegations.routes as delegations
import authsec_server.keys.routes as keys
import authsec_server.operators.routes as operators
import authsec_server.tokens.routes as tokens
from authsec_core._clock import SYSTEM_CLOCK, Clock
from authsec_core._version import __version__
from authsec_core.wire import DELEGATION_TOKEN_PATH
from authsec_server import health, middleware, problems
from authsec_server.authority import Authority
from authsec_server.direct import Direct
from authsec_server.settings import ServerSettings

__all__ = ["create_app"]

_SUMMARY = "Agents, trust delegations, delegation tokens, signing keys, revocation and audit."


def create_app(settings: ServerSettings, *, clock: Clock = SYSTEM_CLOCK, chores: bool = True) -> FastAPI:
    """Return the authority that these settings describe. It opens its database when it starts, not before.

    Args:
        settings: Safe ones: a ServerSettings cannot be otherwise.
        clock: For tests.
        chores: Rotate keys, write checkpoints and forget old tokens in this process.
    """

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with Authority.open(settings, clock=clock) as authority:
            app.state.authority = authority
            task = asyncio.create_task(authority.run_chores(), name="authsec-chores") if chores else None
            try:
                yield
            finally:
                if task is not None:
                    task.cancel()
                    with suppress(asyncio.CancelledError):
                        await task

    app = FastAPI(
        title="authsec authority",
        summary=_SUMMARY,
        version=__version__,
        lifespan=lifespan,
        docs_url=None,  # both pages would load scripts from elsewhere
        redoc_url=None,
        redirect_slashes=False,
    )
    for router in (
        health.router,
        keys.public,
        tokens.public,
        tokens.sdk,
        agents.router,
        delegations.roles,
        delegations.router,
        tokens.admin,
        keys.admin,
        operators.router,
        audit.router,
    ):
        app.include_router(router)
    problems.install(app)
    app.add_middleware(Direct, path=DELEGATION_TOKEN_PATH, handler=tokens.delegation_token)
    middleware.install(app, settings, clock=clock)
    return app
