"""Operators and their tokens over HTTP: what is sent, what is answered, and which role it takes. It decides nothing."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path, Request, Response
from pydantic import Field

from authsec_server import deps, shapes
from authsec_server.operators.access import OperatorRole
from authsec_server.problems import responses
from authsec_server.shapes import Instant, Line, Paged, Reply, Uuid, When

__all__ = ["router"]

router = APIRouter(prefix="/api/v1", tags=["operators"], route_class=deps.OperatorRoute)

TokenId = Annotated[str, Path(pattern=r"^opt_[0-9a-f]{16}$", max_length=20)]


class NewOperator(shapes.Request):
    """An operator who is to be named."""

    name: Annotated[Line, Field(min_length=1, examples=["ada"])]
    role: OperatorRole


class OperatorChanges(shapes.Request):
    """What is to be different about an operator."""

    role: Annotated[OperatorRole | None, Field(description="Without it, or null: as it is.")] = None
    enabled: Annotated[bool | None, Field(description="Without it, or null: as it is.")] = None


class NewOperatorToken(shapes.Request):
    """A token that is to be made."""

    label: Annotated[Line, Field(description="What it is for.", examples=["laptop"])] = ""
    not_after: Annotated[Instant | None, Field(description="When it ends by itself.")] = None


class OperatorReply(Reply):
    """A person, or a program of theirs, who runs the authority."""

    operator_id: str
    name: str
    role: OperatorRole
    enabled: bool
    created_at: When


class OperatorPage(Reply):
    """A page of operators."""

    items: list[OperatorReply]
    next: str | None


class OperatorTokenReply(Reply):
    """An operator's token, without what proves it."""

    token_id: str
    operator_id: str
    label: str
    created_at: When
    not_after: When | None
    revoked_at: When | None


class NewOperatorTokenReply(OperatorTokenReply):
    """A new operator's token."""

    token: Annotated[str, Field(description="The token itself. It is shown this once, and kept nowhere.")]


class OperatorTokenPage(Reply):
    """A page of an operator's tokens."""

    items: list[OperatorTokenReply]
    next: str | None


@router.get("/whoami", operation_id="whoami", summary="Say whose token this is", responses=responses(401, 403))
async def whoami(request: Request, caller: deps.Reads) -> OperatorReply:
    """Return the operator who asks."""
    return OperatorReply.model_validate(await deps.authority(request).operators.get(caller.actor.id))


@router.post(
    "/operators",
    operation_id="operator_create",
    summary="Name an operator",
    status_code=201,
    responses=responses(401, 403, 409, 422),
)
async def create(request: Request, caller: deps.Administers, body: NewOperator) -> OperatorReply:
    """Name an operator, who can sign in once they have a token."""
    created = await deps.authority(request).operators.create(caller, name=body.name, role=body.role)
    return OperatorReply.model_validate(created)


@router.get(
    "/operators", operation_id="operator_list", summary="List the operators", responses=responses(401, 403, 422)
)
async def list_operators(request: Request, _caller: deps.Reads, page: Paged) -> OperatorPage:
    """Return a page of the operators, the oldest first."""
    return OperatorPage.model_validate(await deps.authority(request).operators.list(page))


@router.patch(
    "/operators/{operator_id}",
    operation_id="operator_update",
    summary="Give an operator another role, or disable them",
    responses=responses(401, 403, 404, 409, 422),
)
async def update(request: Request, caller: deps.Administers, operator_id: Uuid, body: OperatorChanges) -> OperatorReply:
    """Change what an operator may do. The last admin who can sign in stays one: 409."""
    updated = await deps.authority(request).operators.update(caller, operator_id, role=body.role, enabled=body.enabled)
    return OperatorReply.model_validate(updated)


@router.post(
    "/operators/{operator_id}/tokens",
    operation_id="operator_token_create",
    summary="Make a token for an operator",
    status_code=201,
    responses=responses(401, 403, 404, 409, 422),
)
async def create_token(
    request: Request, response: Response, caller: deps.Administers, operator_id: Uuid, body: NewOperatorToken
) -> NewOperatorTokenReply:
    """Make a token, and show it this once."""
    token, credential = await deps.authority(request).operators.create_token(
        caller, operator_id, label=body.label, not_after=body.not_after
    )
    response.headers["Cache-Control"] = "no-store"
    return NewOperatorTokenReply(**dict(OperatorTokenReply.model_validate(token)), token=credential.text())


@router.get(
    "/operators/{operator_id}/tokens",
    operation_id="operator_token_list",
    summary="List an operator's tokens",
    responses=responses(401, 403, 404, 422),
)
async def list_tokens(request: Request, _caller: deps.Reads, operator_id: Uuid, page: Paged) -> OperatorTokenPage:
    """Return a page of an operator's tokens, the oldest first; never what proves them."""
    return OperatorTokenPage.model_validate(await deps.authority(request).operators.list_tokens(operator_id, page))


@router.post(
    "/operators/{operator_id}/tokens/{token_id}/revoke",
    operation_id="operator_token_revoke",
    summary="End an operator's token for good",
    responses=responses(401, 403, 404, 409, 422),
)
async def revoke_token(
    request: Request, caller: deps.Administers, operator_id: Uuid, token_id: TokenId
) -> OperatorTokenReply:
    """Revoke a token. Whoever is not the first to do it gets 409, and so does the last admin's last token."""
    revoked = await deps.authority(request).operators.revoke_token(caller, operator_id, token_id)
    return OperatorTokenReply.model_validate(revoked)
