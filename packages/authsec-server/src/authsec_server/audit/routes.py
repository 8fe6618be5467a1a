"""The audit over HTTP: pages and JSON lines of entries, and the checkpoints. No entry can be changed here."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import Field
from starlette.responses import StreamingResponse

from authsec_server import deps
from authsec_server.audit.entry import ActorKind, Decision, Entry
from authsec_server.audit.ledger import Change
from authsec_server.audit.log import LoggedEntry, Order, Search
from authsec_server.errors import ConflictError
from authsec_server.pages import LARGEST_PAGE, USUAL_PAGE
from authsec_server.problems import responses
from authsec_server.shapes import Instant, Reply, Uuid, When

__all__ = ["router"]

router = APIRouter(prefix="/api/v1/audit", tags=["audit"], route_class=deps.OperatorRoute)

_LINES: Final = "application/x-ndjson"

Limit = Annotated[int, Query(ge=1, le=LARGEST_PAGE, description="How many at most; JSON lines have no limit.")]
TokenName = Annotated[
    str,
    Query(
        pattern=r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$|^vlt_[0-9a-f]{16}$",
        max_length=36,
        description="A token's public name: a `jti`, or the id of a vault token.",
    ),
]
After = Annotated[
    str | None, Query(pattern=r"^[0-9]{1,18}$", description="The `next` of the page before, or the last `seq` read.")
]


class AuditActor(Reply):
    """Who acted, as far as it was proven."""

    kind: ActorKind
    id: str | None = None
    name: str | None = None


class AuditEntry(Reply):
    """One decision or change. What has no value is left out; what was too long is cut, and says so.

    Without `hash`, with its members sorted, no spaces and all but ASCII escaped, it is the line that was hashed.
    """

    v: int
    seq: int
    at: Annotated[str, Field(description="RFC 3339, to the microsecond.")]
    action: str
    decision: Decision
    actor: AuditActor
    request_id: str | None = None
    address: str | None = None
    client_id: str | None = None
    subject: str | None = None
    jti: str | None = None
    asked: Annotated[str | None, Field(description="The scopes that were asked for.")] = None
    scope: Annotated[str | None, Field(description="The scopes that were granted.")] = None
    reason: Annotated[str | None, Field(description="Why it was denied.")] = None
    details: dict[str, Any] | None = None
    claimed: Annotated[dict[str, Any] | None, Field(description="The agent's own words, which nobody checked.")] = None
    hash: Annotated[str, Field(description="SHA-256 over the hash before it, a line break and the line, in hex.")]


class DamagedEntry(Reply):
    """An entry that somebody edited, so that it is none of ours any more: run `authsec-server verify-audit`."""

    seq: int
    damaged: Literal[True]
    hash: str


class AuditPage(Reply):
    """A page of entries."""

    items: list[AuditEntry | DamagedEntry]
    next: str | None


class CheckpointReply(Reply):
    """A signed statement of what the audit was at one entry."""

    seq: int
    at: When
    jws: Annotated[str, Field(description="The checkpoint: keep it where the database's writers cannot reach.")]


class CheckpointPage(Reply):
    """A page of checkpoints."""

    items: list[CheckpointReply]
    next: str | None


def _wanted(
    client_id: Uuid | None = None,
    action: Annotated[str | None, Query(pattern=r"^[a-z_.]{1,64}$", examples=["token.issue"])] = None,
    decision: Decision | None = None,
    jti: TokenName | None = None,
    since: Annotated[Instant | None, Query(description="From this moment on.")] = None,
    until: Annotated[Instant | None, Query(description="Up to this moment, without it.")] = None,
    after: After = None,
) -> Search:
    place = None if after is None else int(after)
    return Search(client_id=client_id, action=action, decision=decision, jti=jti, since=since, until=until, after=place)


@router.get(
    "",
    operation_id="audit_search",
    summary="Find entries of the audit",
    response_model=AuditPage,
    responses={
        200: {"description": "A page; or all entries, one on each line.", "content": {_LINES: {"schema": {}}}},
        **responses(401, 403, 422),
    },
)
async def search(
    request: Request,
    _caller: deps.Reads,
    wanted: Annotated[Search, Depends(_wanted)],
    limit: Limit = USUAL_PAGE,
    order: Annotated[
        Order | None, Query(description="Pages begin with the newest, JSON lines with the oldest.")
    ] = None,
    format: Annotated[Literal["json", "jsonl"] | None, Query(description=f"`jsonl` is {_LINES}.")] = None,
) -> Response:
    """Return a page of entries, or with `Accept: application/x-ndjson` or `format=jsonl` all of them as JSON lines."""
    audit = deps.authority(request).audit
    as_lines = format == "jsonl" or (format is None and _LINES in request.headers.get("accept", ""))
    if as_lines:
        found = audit.stream(wanted.ordered(order or "oldest"))
        first = await anext(found, None)  # so that a database that is away is a 503, and no broken 200
        return StreamingResponse(_lines(first, found), media_type=_LINES)
    entries = await audit.page(wanted.ordered(order or "newest"), limit=limit + 1)
    # Not through the model: an entry that somebody edited may not fit it, and has to be seen all the same.
    shown = {
        "items": [entry.members() for entry in entries[:limit]],
        "next": _next([entry.seq for entry in entries], limit),
    }
    return Response(json.dumps(shown), media_type="application/json")


@router.get(
    "/checkpoints",
    operation_id="checkpoint_list",
    summary="List the signed checkpoints",
    responses=responses(401, 403, 422),
)
async def list_checkpoints(
    request: Request, _caller: deps.Reads, limit: Limit = USUAL_PAGE, after: After = None
) -> CheckpointPage:
    """Return a page of checkpoints, the newest first."""
    found = await deps.authority(request).audit.checkpoints(
        after=None if after is None else int(after), limit=limit + 1
    )
    items = [CheckpointReply.model_validate(checkpoint) for checkpoint in found[:limit]]
    return CheckpointPage(items=items, next=_next([checkpoint.seq for checkpoint in found], limit))


@router.post(
    "/checkpoints",
    operation_id="checkpoint_write",
    summary="Sign a checkpoint now",
    status_code=201,
    responses=responses(401, 403, 409),
)
async def write_checkpoint(request: Request, caller: deps.Administers) -> CheckpointReply:
    """Sign a checkpoint that covers everything so far, and the entry that says who asked for it."""
    authority = deps.authority(request)

    async def work(change: Change) -> None:
        change.record(Entry(action="audit.checkpoint", decision="allow", caller=caller))

    await authority.ledger.change(work, by=caller)
    written = await authority.checkpoints.write()
    if written is None:
        raise ConflictError("the audit is empty")
    return CheckpointReply.model_validate(written)


def _next(seqs: list[int], limit: int) -> str | None:
    return str(seqs[limit - 1]) if len(seqs) > limit else None


async def _lines(first: LoggedEntry | None, rest: AsyncIterator[LoggedEntry]) -> AsyncIterator[str]:
    if first is not None:
        yield first.json_line() + "\n"
    async for entry in rest:
        yield entry.json_line() + "\n"
