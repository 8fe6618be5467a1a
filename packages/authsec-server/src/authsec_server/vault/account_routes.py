"""The vault about itself and about who asks, over HTTP."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from authsec_core._version import __version__
from authsec_server import deps
from authsec_server.problems import vault_responses
from authsec_server.vault.requests import Asks, VaultRoute

__all__ = ["public", "router"]

public = APIRouter(prefix="/v1", tags=["vault"])
router = APIRouter(prefix="/v1", tags=["vault"], route_class=VaultRoute)


class VaultHealth(BaseModel):
    """The process answers."""

    status: Literal["ok"] = "ok"
    version: str


class AccountReply(BaseModel):
    """Who asks, in the members that clients of vaults know."""

    email: Annotated[str, Field(description="Empty: agents have none.")] = ""
    name: Annotated[str, Field(description="The agent's.")]
    plan: Literal["self-hosted"] = "self-hosted"
    secret_count: Annotated[int, Field(description="How many secrets this credential can read, but for their tiers.")]
    agent_count: Annotated[Literal[1], Field(description="An agent sees itself alone.")] = 1


@public.get(
    "/health", operation_id="vault_health", summary="Is the process alive?", responses=vault_responses(public=True)
)
async def health() -> VaultHealth:
    """Say so, and which release it is, without asking the database."""
    return VaultHealth(version=__version__)


@router.get("/me", operation_id="vault_me", summary="Say whose credential this is", responses=vault_responses())
async def me(request: Request, asker: Asks) -> AccountReply:
    """Return who asks, and how much they can read. It does not count as a use of a token."""
    account = await deps.authority(request).vault_accounts.of(asker[0])
    return AccountReply(name=account.name, secret_count=account.secrets)
