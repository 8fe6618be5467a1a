"""The authority as an ASGI application: which routes there are, and what stands before them. Wiring only."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any, Final

from fastapi import FastAPI

import authsec_server.agents.routes as agents
import authsec_server.audit.routes as audit
import authsec_server.delegations.routes as delegations
import authsec_server.issuers.routes as issuers
import authsec_server.keys.routes as keys
import authsec_server.oauth.routes as oauth
import authsec_server.operators.routes as operators
import authsec_server.reports.routes as reports
import authsec_server.telemetry.routes as telemetry
import authsec_server.tokens.routes as tokens
import authsec_server.vault.access_routes as vault_access
import authsec_server.vault.account_routes as vault_account
import authsec_server.vault.agent_routes as vault_agents
import authsec_server.vault.approval_routes as vault_approvals
import authsec_server.vault.secret_routes as vault_secrets
import authsec_server.vault.token_routes as vault_tokens
import authsec_server.vault.trail_routes as vault_trail
from authsec_core._clock import SYSTEM_CLOCK, Clock
from authsec_core._version import __version__
from authsec_core.wire import DELEGATION_TOKEN_PATH
from authsec_server import health, middleware, problems
from authsec_server.authority import Authority
from authsec_server.direct import Direct
from authsec_server.settings import ServerSettings
from authsec_server.telemetry.metrics import Metrics

__all__ = ["create_app"]

# FastAPI's own, from 0.160 or so on: it would export paths and queries, which have client ids in them, and the words of
# exceptions, and let anyone say which trace a request belongs to. Ours is in `telemetry`.
_NO_TELEMETRY: Final[Any] = {"tracing": False, "metrics": False, "logs": False, "auto_configure": False}
_SUMMARY = "Agents, trust delegations, delegation tokens, signing keys, revocation and audit."


def create_app(settings: ServerSettings, *, clock: Clock = SYSTEM_CLOCK, chores: bool = True) -> FastAPI:
    """Return the authority that these settings describe. It opens its database when it starts, not before.

    Args:
        settings: Safe ones: a ServerSettings cannot be otherwise.
        clock: For tests.
        chores: Rotate keys, write checkpoints and forget old tokens in this process.
    """
    metrics = Metrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        async with Authority.open(settings, clock=clock, observer=metrics) as authority:
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
        telemetry=_NO_TELEMETRY,  # an older one keeps it as it keeps every name that it does not know
    )
    for router in (
        health.router,
        keys.public,
        tokens.public,
        tokens.sdk,
        reports.router,
        oauth.router,
        agents.router,
        delegations.roles,
        delegations.router,
        tokens.admin,
        keys.admin,
        issuers.router,
        operators.router,
        audit.router,
        telemetry.router,
        vault_secrets.reading,
        vault_secrets.router,
        vault_access.router,
        vault_tokens.router,
        vault_approvals.router,
        vault_approvals.admin,
        vault_agents.router,
        vault_account.public,
        vault_account.router,
        vault_trail.router,
    ):
        app.include_router(router)
    app.state.metrics = metrics
    problems.install(app)
    app.add_middleware(
        Direct,
        handlers={DELEGATION_TOKEN_PATH: tokens.delegation_token, vault_secrets.AT_A_PATH: vault_secrets.get},
    )
    middleware.install(app, settings, clock=clock, observer=metrics)
    return app
