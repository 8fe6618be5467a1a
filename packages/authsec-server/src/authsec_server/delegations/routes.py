"""Roles and trust delegations over HTTP: what is sent, what is answered, which role it takes. It decides nothing."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Query, Request, Response
from pydantic import Field

from authsec_server import deps, shapes
from authsec_server.checks import AgentType
from authsec_server.delegations.service import Wanted
from authsec_server.delegations.values import KEEP, DelegationChanges, Keep, MaxDuration, TrustDelegation, Unit
from authsec_server.errors import InvalidRequestError
from authsec_server.problems import responses
from authsec_server.shapes import Instant, Paged, Reply, RoleName, Scope, Uuid, When

__all__ = ["roles", "router"]

roles = APIRouter(prefix="/api/v1/roles", tags=["roles"], route_class=deps.OperatorRoute)
router = APIRouter(prefix="/api/v1/trust-delegations", tags=["trust delegations"], route_class=deps.OperatorRoute)

_LONGEST: Final = 2_592_000  # 30 days in the smallest unit
Scopes = Annotated[list[Scope], Field(max_length=256, examples=[["read:metrics"]])]
Audiences = Annotated[
    list[Annotated[str, Field(min_length=1, max_length=256)]],
    Field(min_length=1, max_length=16, examples=[["authsec-api"]]),
]
Amount = Annotated[int, Field(ge=1, le=_LONGEST, description="In this unit; at most 30 days in all.")]
_ALL: Final = "Some of the role's permissions; null is all that it has, now and later."


class NewPermissions(shapes.Request):
    """What a role is to mean."""

    permissions: Scopes


class RoleReply(Reply):
    """A name for permissions."""

    name: str
    permissions: list[str]
    created_at: When
    updated_at: When


class RolePage(Reply):
    """A page of roles."""

    items: list[RoleReply]
    next: str | None


class NewDelegation(shapes.Request):
    """A trust delegation that is to be made."""

    role: RoleName
    target_type: Annotated[AgentType, Field(description="The kind of agent that is meant: must be the client's.")]
    client_id: Uuid
    allowed_actions: Annotated[Scopes | None, Field(description=_ALL)] = None
    audiences: Annotated[
        Audiences | None, Field(description="The APIs that tokens may be for; null is the default audience.")
    ] = None
    max_duration: Amount
    unit: Unit
    enabled: bool = True
    not_after: Annotated[Instant | None, Field(description="When it ends by itself.")] = None


class NewTerms(shapes.Request):
    """What is to be different about a trust delegation. What is left out stays as it is."""

    allowed_actions: Annotated[Scopes | None, Field(description=_ALL)] = None
    audiences: Annotated[Audiences | None, Field(description="Null: as they are.")] = None
    max_duration: Annotated[Amount | None, Field(description="With its unit. Null: as it is.")] = None
    unit: Annotated[Unit | None, Field(description="With max_duration. Null: as it is.")] = None
    enabled: Annotated[bool | None, Field(description="Null: as it is.")] = None
    not_after: Annotated[Instant | None, Field(description="When it ends by itself; null is never.")] = None


class DelegationReply(Reply):
    """A trust delegation."""

    delegation_id: str
    role: str
    target_type: str
    client_id: str
    allowed_actions: Annotated[list[str] | None, Field(description=_ALL)]
    audiences: list[str]
    max_duration: int
    unit: Unit
    enabled: bool
    not_after: When | None
    revoked_at: When | None
    created_at: When
    created_by: str


class DelegationPage(Reply):
    """A page of trust delegations."""

    items: list[DelegationReply]
    next: str | None


@roles.get("", operation_id="role_list", summary="List the roles", responses=responses(401, 403, 422))
async def list_roles(request: Request, _caller: deps.Reads, page: Paged) -> RolePage:
    """Return a page of the roles, the oldest first."""
    return RolePage.model_validate(await deps.authority(request).roles.list(page))


@roles.put(
    "/{name}",
    operation_id="role_put",
    summary="Say what a role may do",
    responses={201: {"model": RoleReply, "description": "The role is new."}, **responses(401, 403, 422)},
)
async def put_role(
    request: Request, response: Response, caller: deps.Administers, name: RoleName, body: NewPermissions
) -> RoleReply:
    """Make a role, or say anew what it may do. Live tokens that hold what it loses are revoked."""
    role, is_new = await deps.authority(request).roles.put(caller, name, body.permissions)
    response.status_code = 201 if is_new else 200
    return RoleReply.model_validate(role)


@roles.get("/{name}", operation_id="role_get", summary="Look up a role", responses=responses(401, 403, 404, 422))
async def get_role(request: Request, _caller: deps.Reads, name: RoleName) -> RoleReply:
    """Return a role."""
    return RoleReply.model_validate(await deps.authority(request).roles.get(name))


@roles.delete(
    "/{name}",
    operation_id="role_delete",
    summary="Forget a role",
    status_code=204,
    response_class=Response,
    responses=responses(401, 403, 404, 409, 422),
)
async def delete_role(request: Request, caller: deps.Administers, name: RoleName) -> Response:
    """Forget a role that no trust delegation names."""
    await deps.authority(request).roles.delete(caller, name)
    return Response(status_code=204)


@router.post(
    "",
    operation_id="delegation_create",
    summary="Delegate to an agent",
    status_code=201,
    responses=responses(401, 403, 409, 422),
)
async def create(request: Request, caller: deps.Manages, body: NewDelegation) -> DelegationReply:
    """Delegate to an agent what a role may do, or some of it."""
    wanted = Wanted(
        role=body.role,
        target_type=body.target_type,
        client_id=body.client_id,
        duration=MaxDuration(amount=body.max_duration, unit=body.unit),
        allowed_actions=body.allowed_actions,
        audiences=body.audiences,
        enabled=body.enabled,
        not_after=body.not_after,
    )
    return _reply(await deps.authority(request).delegations.create(caller, wanted))


@router.get("", operation_id="delegation_list", summary="List trust delegations", responses=responses(401, 403, 422))
async def list_delegations(
    request: Request,
    _caller: deps.Reads,
    page: Paged,
    client_id: Annotated[Uuid | None, Query(description="Only those to this agent.")] = None,
    role: Annotated[RoleName | None, Query(description="Only those by this role.")] = None,
) -> DelegationPage:
    """Return a page of the trust delegations, the oldest first; also of those that were revoked."""
    found = await deps.authority(request).delegations.list(page, client_id=client_id, role=role)
    return DelegationPage(items=[_reply(item) for item in found.items], next=found.next)


@router.get(
    "/{delegation_id}",
    operation_id="delegation_get",
    summary="Look up a trust delegation",
    responses=responses(401, 403, 404, 422),
)
async def get(request: Request, _caller: deps.Reads, delegation_id: Uuid) -> DelegationReply:
    """Return a trust delegation."""
    return _reply(await deps.authority(request).delegations.get(delegation_id))


@router.patch(
    "/{delegation_id}",
    operation_id="delegation_update",
    summary="Change a trust delegation",
    responses=responses(401, 403, 404, 409, 422),
)
async def update(request: Request, caller: deps.Manages, delegation_id: Uuid, body: NewTerms) -> DelegationReply:
    """Change a trust delegation. Live tokens that exceed what is left are revoked."""
    changed = await deps.authority(request).delegations.update(caller, delegation_id, _changes(body))
    return _reply(changed)


@router.post(
    "/{delegation_id}/revoke",
    operation_id="delegation_revoke",
    summary="End a trust delegation for good",
    responses=responses(401, 403, 404, 409, 422),
)
async def revoke(request: Request, caller: deps.Manages, delegation_id: Uuid) -> DelegationReply:
    """Revoke a trust delegation and the live tokens that rest on it. Whoever is not the first to do it gets 409."""
    return _reply(await deps.authority(request).delegations.revoke(caller, delegation_id))


def _changes(body: NewTerms) -> DelegationChanges:
    named, actions = body.model_fields_set, body.allowed_actions
    return DelegationChanges(
        allowed_actions=KEEP if "allowed_actions" not in named else None if actions is None else tuple(actions),
        audiences=KEEP if body.audiences is None else tuple(body.audiences),
        duration=_duration(body),
        enabled=KEEP if body.enabled is None else body.enabled,
        not_after=body.not_after if "not_after" in named else KEEP,
    )


def _duration(body: NewTerms) -> MaxDuration | Keep:
    if body.max_duration is None and body.unit is None:
        return KEEP
    if body.max_duration is None or body.unit is None:
        raise InvalidRequestError("max_duration and unit go together", field="max_duration")
    return MaxDuration(amount=body.max_duration, unit=body.unit)


def _reply(delegation: TrustDelegation) -> DelegationReply:
    return DelegationReply(
        delegation_id=delegation.delegation_id,
        role=delegation.role,
        target_type=delegation.target_type,
        client_id=delegation.client_id,
        allowed_actions=None if delegation.allowed_actions is None else list(delegation.allowed_actions),
        audiences=list(delegation.audiences),
        max_duration=delegation.duration.amount,
        unit=delegation.duration.unit,
        enabled=delegation.enabled,
        not_after=delegation.not_after,
        revoked_at=delegation.revoked_at,
        created_at=delegation.created_at,
        created_by=delegation.created_by,
    )
