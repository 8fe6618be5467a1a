"""What agents may do in the vault, over HTTP: for operators, with the rest of the admin API. It decides nothing."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Request
from pydantic import Field

from authsec_server import deps, shapes
from authsec_server.problems import responses
from authsec_server.shapes import Reply, Uuid, When
from authsec_server.vault.access import MOST_NAMESPACES

__all__ = ["Namespace", "VaultScopeText", "router"]

router = APIRouter(prefix="/api/v1/clients", tags=["agents"], route_class=deps.OperatorRoute)

Namespace = Annotated[str, Field(max_length=512, examples=["production"])]
VaultScopeText = Annotated[str, Field(max_length=560, examples=["secrets:read:production/*"])]
_NOTHING = "An empty list allows nothing."


class NewVaultAccess(shapes.Request):
    """What an agent is to be allowed in the vault, in place of what it was allowed before."""

    namespaces: Annotated[
        list[Namespace],
        Field(
            max_length=MOST_NAMESPACES, description=f"With all that is below them; `*` is the whole vault. {_NOTHING}"
        ),
    ]
    scopes: Annotated[list[VaultScopeText], Field(max_length=64, description=f"As far as they lie there. {_NOTHING}")]


class VaultAccessReply(Reply):
    """What an agent may do in the vault, and who said so last."""

    client_id: str
    namespaces: list[str]
    scopes: list[str]
    updated_at: When | None
    updated_by: str | None


@router.get(
    "/{client_id}/vault-access",
    operation_id="vault_access_get",
    summary="Look up what an agent may do in the vault",
    responses=responses(401, 403, 404, 422),
)
async def get(request: Request, _caller: deps.Reads, client_id: Uuid) -> VaultAccessReply:
    """Return what an agent may do in the vault."""
    return VaultAccessReply.model_validate(await deps.authority(request).vault_access.get(client_id))


@router.put(
    "/{client_id}/vault-access",
    operation_id="vault_access_put",
    summary="Say what an agent may do in the vault",
    responses=responses(401, 403, 404, 409, 422),
)
async def put(request: Request, caller: deps.Manages, client_id: Uuid, body: NewVaultAccess) -> VaultAccessReply:
    """Say what an agent, and every vault token of its, may do from now on."""
    record = await deps.authority(request).vault_access.put(
        caller, client_id, namespaces=body.namespaces, scopes=body.scopes
    )
    return VaultAccessReply.model_validate(record)
