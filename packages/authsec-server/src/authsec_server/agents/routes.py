"""Agents and their keys over HTTP: what is sent, what is answered, and which role it takes. It decides nothing."""

from __future__ import annotations

from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Path, Request, Response
from pydantic import Field

from authsec_server import deps, shapes
from authsec_server.agents.standing import ClientState
from authsec_server.checks import AgentType
from authsec_server.problems import responses
from authsec_server.shapes import Instant, Line, Paged, Reply, Uuid, When

__all__ = ["router"]

router = APIRouter(prefix="/api/v1/clients", tags=["agents"], route_class=deps.OperatorRoute)

KeyId = Annotated[str, Path(pattern=r"^agk_[0-9a-f]{16}$", max_length=20)]
Selector = Annotated[str, Field(max_length=512)]
SelectorName = Annotated[str, Field(max_length=400)]
_SHOWN_ONCE: Final = "The key itself. It is shown this once, and kept nowhere."


class NewClient(shapes.Request):
    """An agent that is to be registered."""

    name: Annotated[Line, Field(min_length=1, examples=["Customer Support"])]
    agent_type: AgentType
    platform: Annotated[str, Field(max_length=32, examples=["kubernetes"])]
    selectors: Annotated[
        dict[SelectorName, Selector],
        Field(
            default_factory=dict,
            max_length=32,
            examples=[{"k8s:ns": "production", "k8s:sa": "customer-support-sa"}],
        ),
    ]


class NewState(shapes.Request):
    """Whether an agent may get tokens."""

    state: Literal["active", "disabled"]


class NewKey(shapes.Request):
    """A key that is to be made."""

    label: Annotated[Line, Field(description="What it is for.", examples=["rotation of January"])] = ""
    not_after: Annotated[Instant | None, Field(description="When it ends by itself.")] = None


class NewPublicKey(NewKey):
    """The public half of a key that the agent keeps."""

    jwk: Annotated[
        dict[Annotated[str, Field(max_length=40)], Any],
        Field(max_length=16, description="A public JWK: RSA of 2048 to 4096 bits, or EC on P-256."),
    ]


class ClientReply(Reply):
    """A registered agent."""

    client_id: str
    name: str
    agent_type: str
    platform: str
    selectors: dict[str, str]
    spiffe_id: str
    state: ClientState
    created_at: When
    created_by: str
    ended_at: When | None


class NewClientReply(ClientReply):
    """A registered agent with its first key."""

    key_id: str
    agent_key: Annotated[str, Field(description=_SHOWN_ONCE)]


class ClientPage(Reply):
    """A page of agents."""

    items: list[ClientReply]
    next: str | None


class KeyReply(Reply):
    """An agent key, without what proves it."""

    key_id: str
    client_id: str
    label: str
    jwk: Annotated[
        dict[str, str] | None,
        Field(description="The public half, where the agent keeps the key; null where the authority made it."),
    ]
    created_at: When
    not_after: When | None
    revoked_at: When | None


class NewKeyReply(KeyReply):
    """A new agent key."""

    agent_key: Annotated[str, Field(description=_SHOWN_ONCE)]


class KeyPage(Reply):
    """A page of agent keys."""

    items: list[KeyReply]
    next: str | None


@router.post(
    "",
    operation_id="client_onboard",
    summary="Register an agent",
    status_code=201,
    responses=responses(401, 403, 409, 422),
)
async def onboard(request: Request, response: Response, caller: deps.Manages, body: NewClient) -> NewClientReply:
    """Register an agent, and show its first key this once."""
    client, credential = await deps.authority(request).agents.onboard(
        caller, name=body.name, agent_type=body.agent_type, platform=body.platform, selectors=body.selectors
    )
    response.headers["Cache-Control"] = "no-store"
    shown = dict(ClientReply.model_validate(client))
    return NewClientReply(**shown, key_id=credential.id, agent_key=credential.text())


@router.get("", operation_id="client_list", summary="List the agents", responses=responses(401, 403, 422))
async def list_clients(request: Request, _caller: deps.Reads, page: Paged) -> ClientPage:
    """Return a page of the agents, the oldest first."""
    return ClientPage.model_validate(await deps.authority(request).agents.list(page))


@router.get(
    "/{client_id}", operation_id="client_get", summary="Look up an agent", responses=responses(401, 403, 404, 422)
)
async def get(request: Request, _caller: deps.Reads, client_id: Uuid) -> ClientReply:
    """Return an agent."""
    return ClientReply.model_validate(await deps.authority(request).agents.get(client_id))


@router.patch(
    "/{client_id}",
    operation_id="client_set_state",
    summary="Disable an agent, or let it work again",
    responses=responses(401, 403, 404, 409, 422),
)
async def set_state(request: Request, caller: deps.Manages, client_id: Uuid, body: NewState) -> ClientReply:
    """Say whether an agent may get tokens. Those that a disabled one has are revoked, and stay so."""
    return ClientReply.model_validate(await deps.authority(request).agents.set_state(caller, client_id, body.state))


@router.post(
    "/{client_id}/revoke",
    operation_id="client_revoke",
    summary="End an agent for good",
    responses=responses(401, 403, 404, 409, 422),
)
async def revoke(request: Request, caller: deps.Manages, client_id: Uuid) -> ClientReply:
    """Revoke an agent and all of its live tokens. Whoever is not the first to do it gets 409."""
    return ClientReply.model_validate(await deps.authority(request).agents.revoke(caller, client_id))


@router.post(
    "/{client_id}/keys",
    operation_id="key_create",
    summary="Make another key for an agent",
    status_code=201,
    responses=responses(401, 403, 404, 409, 422),
)
async def create_key(
    request: Request, response: Response, caller: deps.Manages, client_id: Uuid, body: NewKey
) -> NewKeyReply:
    """Make another key, and show it this once. The others go on working, so that keys can be rotated."""
    key, credential = await deps.authority(request).agents.create_key(
        caller, client_id, label=body.label, not_after=body.not_after
    )
    response.headers["Cache-Control"] = "no-store"
    return NewKeyReply(**dict(KeyReply.model_validate(key)), agent_key=credential.text())


@router.post(
    "/{client_id}/public-keys",
    operation_id="key_register",
    summary="Register a public key of an agent",
    status_code=201,
    responses=responses(401, 403, 404, 409, 422),
)
async def register_key(request: Request, caller: deps.Manages, client_id: Uuid, body: NewPublicKey) -> KeyReply:
    """Let an agent prove who it is by assertions that it signs with the private half (`private_key_jwt`)."""
    key = await deps.authority(request).agents.register_key(
        caller, client_id, body.jwk, label=body.label, not_after=body.not_after
    )
    return KeyReply.model_validate(key)


@router.get(
    "/{client_id}/keys",
    operation_id="key_list",
    summary="List an agent's keys",
    responses=responses(401, 403, 404, 422),
)
async def list_keys(request: Request, _caller: deps.Reads, client_id: Uuid, page: Paged) -> KeyPage:
    """Return a page of an agent's keys, the oldest first; never what proves them."""
    return KeyPage.model_validate(await deps.authority(request).agents.list_keys(client_id, page))


@router.post(
    "/{client_id}/keys/{key_id}/revoke",
    operation_id="key_revoke",
    summary="End an agent key for good",
    responses=responses(401, 403, 404, 409, 422),
)
async def revoke_key(request: Request, caller: deps.Manages, client_id: Uuid, key_id: KeyId) -> KeyReply:
    """Revoke a key and the live tokens that were issued for it. Whoever is not the first to do it gets 409."""
    return KeyReply.model_validate(await deps.authority(request).agents.revoke_key(caller, client_id, key_id))
