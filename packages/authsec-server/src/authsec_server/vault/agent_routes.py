"""Agents over HTTP as the vault's clients know them: for operators. It decides nothing."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Request, Response
from pydantic import Field

from authsec_core.vault_scopes import MOST_SCOPES
from authsec_server import deps, shapes
from authsec_server.problems import vault_responses
from authsec_server.shapes import Line, Paged, Reply, Uuid, When
from authsec_server.vault.access import MOST_NAMESPACES
from authsec_server.vault.access_routes import Namespace, VaultScopeText
from authsec_server.vault.agents import VaultAgent

__all__ = ["router"]

router = APIRouter(prefix="/v1/agents", tags=["vault"], route_class=deps.OperatorRoute)


class NewVaultAgent(shapes.Request):
    """An agent that is to be registered, and what it may do in the vault. An empty list allows nothing."""

    name: Annotated[Line, Field(min_length=1, examples=["researcher"])]
    description: Annotated[Line, Field(description="One line for the audit, which alone keeps it.")] = ""
    allowed_namespaces: Annotated[
        list[Namespace],
        Field(max_length=MOST_NAMESPACES, description="Each with all that is below it; `*` is everywhere."),
    ]
    allowed_scopes: Annotated[
        list[VaultScopeText], Field(max_length=MOST_SCOPES, description="As far as they lie in the namespaces.")
    ]


class VaultAgentReply(Reply):
    """An agent, without what proves it."""

    id: str
    name: str
    active: bool
    api_key_prefix: Annotated[str | None, Field(description="The id of its newest key, which is no secret.")]
    created_at: When
    last_active_at: Annotated[When | None, Field(description="When it last proved who it is, as far as that is seen.")]


class NewVaultAgentReply(VaultAgentReply):
    """A registered agent with its key."""

    api_key: Annotated[str, Field(description="The key itself. It is shown this once, and kept nowhere.")]


class VaultAgentPage(Reply):
    """A page of agents."""

    items: list[VaultAgentReply]
    next: str | None


@router.get("", operation_id="vault_agent_list", summary="List the agents", responses=vault_responses(403))
async def list_agents(request: Request, _caller: deps.Reads, page: Paged) -> VaultAgentPage:
    """Return a page of the agents, the oldest first."""
    found = await deps.authority(request).vault_agents.list(page)
    return VaultAgentPage(items=[VaultAgentReply(**_members(agent)) for agent in found.items], next=found.next)


@router.post(
    "",
    operation_id="vault_agent_onboard",
    summary="Register an agent for the vault",
    status_code=201,
    responses=vault_responses(403, 409),
)
async def onboard(
    request: Request, response: Response, caller: deps.Manages, body: NewVaultAgent
) -> NewVaultAgentReply:
    """Register an agent, say what it may do in the vault, and show its key this once."""
    agent, credential = await deps.authority(request).vault_agents.onboard(
        caller,
        name=body.name,
        description=body.description,
        namespaces=body.allowed_namespaces,
        scopes=body.allowed_scopes,
    )
    response.headers["Cache-Control"] = "no-store"
    return NewVaultAgentReply(**_members(agent), api_key=credential.text())


@router.delete(
    "/{agent_id}",
    operation_id="vault_agent_revoke",
    summary="End an agent for good",
    status_code=204,
    responses=vault_responses(403, 404, 409),
)
async def revoke(request: Request, caller: deps.Manages, agent_id: Uuid) -> Response:
    """Revoke an agent with its keys and all of its tokens. Whoever is not the first to do it gets 409."""
    await deps.authority(request).agents.revoke(caller, agent_id)
    return Response(status_code=204)


def _members(agent: VaultAgent) -> dict[str, Any]:
    return {
        "id": agent.client_id,
        "name": agent.name,
        "active": agent.active,
        "api_key_prefix": agent.key_id,
        "created_at": agent.created_at,
        "last_active_at": agent.last_active_at,
    }
