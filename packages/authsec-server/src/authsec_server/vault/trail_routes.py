"""The vault's part of the audit over HTTP: for operators. No entry can be changed here."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Query, Request
from pydantic import Field

from authsec_server import deps
from authsec_server.pages import LARGEST_PAGE, USUAL_PAGE
from authsec_server.problems import vault_responses
from authsec_server.shapes import Reply
from authsec_server.vault.trail import DEEPEST

__all__ = ["router"]

router = APIRouter(prefix="/v1/audit", tags=["vault"], route_class=deps.OperatorRoute)


class TrailEventReply(Reply):
    """One entry of the audit."""

    id: str
    event_type: str
    actor_id: str | None
    resource_type: str
    resource_id: str | None
    metadata: Annotated[dict[str, Any], Field(description="The entry, as `/api/v1/audit` has it.")]
    created_at: Annotated[str | None, Field(description="RFC 3339, to the microsecond.")]


class TrailPageReply(Reply):
    """A page of entries."""

    events: list[TrailEventReply]
    page: int
    limit: int
    total: Annotated[int, Field(description=f"How many there are on all pages: at most {DEEPEST}.")]


@router.get("", operation_id="vault_trail", summary="Show what was asked of the vault", responses=vault_responses(403))
async def trail(
    request: Request,
    _caller: deps.Reads,
    page: Annotated[int, Query(ge=1, le=DEEPEST)] = 1,
    limit: Annotated[int, Query(ge=1, le=LARGEST_PAGE, description="How many at most.")] = USUAL_PAGE,
) -> TrailPageReply:
    """Return a page of what was asked of the vault and decided about it, the newest first."""
    return TrailPageReply.model_validate(await deps.authority(request).vault_trail.page(page, limit))
