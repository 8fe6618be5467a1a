"""Consent to vault tokens over HTTP: for operators, where the vault's clients look for it and in the admin API.

It decides nothing.
"""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request
from pydantic import Field

from authsec_server import deps, shapes
from authsec_server.problems import responses, vault_responses
from authsec_server.shapes import Line, Paged, Reply, Uuid, When
from authsec_server.vault.approvals import ApprovalState
from authsec_server.vault.approvers import ApprovalRecord, Say
from authsec_server.vault.policy import AccessTier

__all__ = ["admin", "router"]

router = APIRouter(prefix="/v1/approvals", tags=["vault"], route_class=deps.OperatorRoute)
admin = APIRouter(prefix="/api/v1/approvals", tags=["vault"], route_class=deps.OperatorRoute)


class Decided(shapes.Request):
    """Why an operator decides as they do."""

    reason: Annotated[Line, Field(description="One line for the audit.")] = ""


class VoteReply(Reply):
    """What one operator said."""

    operator: str
    decision: Say
    reason: str
    at: When


class ApprovalReply(Reply):
    """A token that an agent asked for and that needs consent."""

    id: str
    agent_id: str
    agent_name: str
    access_tier: AccessTier
    status: ApprovalState
    scopes: list[str]
    ttl: Annotated[int, Field(description="Seconds that the token would live.")]
    max_uses: int | None
    ip_allowlist: list[str] | None
    description: Annotated[str, Field(description="The agent's own words, which nobody checked.")]
    created_at: When
    expires_at: Annotated[When, Field(description="Until when it can be decided on, and the token be had.")]
    good_from: Annotated[When | None, Field(description="From when on the token can be had; null before all approved.")]
    votes: list[VoteReply]


class ApprovalPage(Reply):
    """A page of what was asked for."""

    items: list[ApprovalReply]
    next: str | None


@admin.get(
    "", operation_id="approval_list", summary="List tokens that need consent", responses=responses(401, 403, 422)
)
@router.get(
    "", operation_id="vault_approval_list", summary="List tokens that need consent", responses=vault_responses(403)
)
async def list_approvals(
    request: Request,
    _caller: deps.Reads,
    page: Paged,
    status: Annotated[ApprovalState | None, Query(description="Only these; by default all.")] = None,
) -> ApprovalPage:
    """Return a page of what agents have asked for, the oldest first."""
    found = await deps.authority(request).approvers.list(status, page)
    return ApprovalPage(items=[_shown(request, record) for record in found.items], next=found.next)


@admin.post(
    "/{approval_id}/approve",
    operation_id="approval_approve",
    summary="Consent to a token",
    responses=responses(401, 403, 404, 409, 422),
)
@router.post(
    "/{approval_id}/approve",
    operation_id="vault_approval_approve",
    summary="Consent to a token",
    responses=vault_responses(403, 404, 409),
)
async def approve(
    request: Request, caller: deps.Manages, approval_id: Uuid, body: Decided | None = None
) -> ApprovalReply:
    """Say yes. Not for whoever onboarded the agent or made a key for it; a critical one takes two operators."""
    return await _decided(request, caller, approval_id, "approve", body)


@admin.post(
    "/{approval_id}/deny",
    operation_id="approval_deny",
    summary="Refuse a token",
    responses=responses(401, 403, 404, 409, 422),
)
@router.post(
    "/{approval_id}/deny",
    operation_id="vault_approval_deny",
    summary="Refuse a token",
    responses=vault_responses(403, 404, 409),
)
async def deny(request: Request, caller: deps.Manages, approval_id: Uuid, body: Decided | None = None) -> ApprovalReply:
    """Say no, for good: the agent has to ask anew."""
    return await _decided(request, caller, approval_id, "deny", body)


async def _decided(
    request: Request, caller: deps.Manages, approval_id: str, say: Say, body: Decided | None
) -> ApprovalReply:
    reason = "" if body is None else body.reason
    record = await deps.authority(request).approvers.decide(caller, approval_id, say, reason=reason)
    return _shown(request, record)


def _shown(request: Request, record: ApprovalRecord) -> ApprovalReply:
    authority, approval = deps.authority(request), record.approval
    wanted = approval.wanted
    return ApprovalReply(
        id=approval.approval_id,
        agent_id=approval.client_id,
        agent_name=record.agent_name,
        access_tier=approval.tier,
        status=approval.state(authority.approvers.now()),
        scopes=[str(scope) for scope in wanted.scopes],
        ttl=wanted.ttl,
        max_uses=wanted.max_uses,
        ip_allowlist=None if wanted.addresses is None else list(wanted.addresses),
        description=wanted.description,
        created_at=approval.created_at,
        expires_at=approval.expires_at,
        good_from=approval.good_from(authority.vault_tokens.limits.critical_delay),
        votes=[VoteReply.model_validate(vote) for vote in record.votes],
    )
