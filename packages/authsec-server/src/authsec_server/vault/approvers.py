"""What operators do about tokens that need consent: look at what was asked for, and say yes or no.

Each operator has one say. The last yes that is needed approves, and a single no denies for good.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from authsec_core._clock import Clock
from authsec_core.vault_scopes import format_vault_scopes
from authsec_server import checks
from authsec_server.audit.entry import Caller, Entry
from authsec_server.audit.ledger import Change, Ledger
from authsec_server.db.engine import Database
from authsec_server.db.tables import approval_votes, approvals, client_keys, clients, operator_tokens
from authsec_server.errors import ConflictError, ForbiddenError, NotFoundError
from authsec_server.pages import Page, Paging, fetch_page
from authsec_server.vault.approvals import NEEDED, Approval, ApprovalState, Vote, approval_of, votes_of

__all__ = ["ApprovalRecord", "Approvers", "Say"]

Say = Literal["approve", "deny"]
_ACTIONS: Final[dict[Say, str]] = {"approve": "vault.approval.approve", "deny": "vault.approval.deny"}
_FORBIDDEN: Final[dict[str, str]] = {
    "own_agent": "whoever onboarded an agent or made a key for it cannot approve what it asks for, neither with a token"
    " of their own nor with one that they made: ask another operator",
    "own_vote": "whoever made an operator's token has it in hand, and one of the two has approved this already: ask"
    " another operator",
}
_STANDS_AS: Final[dict[Say, Literal["approved", "denied"]]] = {"approve": "approved", "deny": "denied"}


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalRecord:
    """What was asked for, by whom, and who has said what."""

    approval: Approval
    agent_name: str
    votes: tuple[Vote, ...]


class Approvers:
    """Lets operators decide on tokens that need consent. For one event loop."""

    def __init__(self, ledger: Ledger, database: Database, *, clock: Clock) -> None:
        self._ledger = ledger
        self._database = database
        self._clock = clock

    def now(self) -> float:
        """Return by when an approval's state is to be told; epoch seconds."""
        return self._clock.wall()

    async def list(self, state: ApprovalState | None, paging: Paging) -> Page[ApprovalRecord]:
        """Return a page of what was asked for, the oldest first; only of this state."""
        query = _RECORDS if state is None else _RECORDS.where(*_stands(state, self.now()))
        async with self._database.read() as connection:
            key = (approvals.c.created_at, approvals.c.approval_id)
            page = await fetch_page(connection, query, key, paging, _record)
            votes = await connection.run_sync(votes_of, [each.approval.approval_id for each in page.items])
        items = (replace(each, votes=votes.get(each.approval.approval_id, ())) for each in page.items)
        return Page(items=tuple(items), next=page.next)

    async def decide(self, caller: Caller, approval_id: str, say: Say, *, reason: str = "") -> ApprovalRecord:
        """Let an operator say yes or no, and return how it stands then.

        Raises:
            InvalidRequestError: The reason is not one line of visible characters.
            NotFoundError: There is no such approval.
            ForbiddenError: Who has the operator's token in hand has had a key of the agent, too, or has approved
                before; that they tried is in the audit.
            ConflictError: It was decided on, or has ended, or this operator has had a say before; or it is not known
                who made the token.
        """
        checks.label(reason, field="reason")

        async def work(change: Change) -> ApprovalRecord | ForbiddenError:
            record = await _find(change.connection, approval_id)
            approval = record.approval
            _require_open(record, caller, say, change.at)
            maker = await _maker(change, caller)
            with_what = {"token_id": caller.token_id, "token_made_by": maker}
            if say == "approve" and (why := await _why_not(change, record, caller.actor.name, maker)):
                change.record(_entry(say, caller, approval, reason=why, details=with_what))
                return ForbiddenError(_FORBIDDEN[why])
            await _take_back(change, approval_id, caller)
            await change.connection.execute(
                sa.insert(approval_votes).values(
                    approval_id=approval_id,
                    operator_id=caller.actor.id,
                    token_id=caller.token_id,
                    decision=say,
                    reason=reason,
                    at=change.at,
                )
            )
            if say == "deny" or _approving(record) + 1 >= NEEDED[approval.tier]:
                await _settle(change, approval, say)
            after = await _find(change.connection, approval_id)
            said = {"status": after.approval.status, "reason": reason}
            change.record(_entry(say, caller, approval, details={**said, **with_what}))
            return after

        outcome = await self._ledger.change(work, by=caller)
        if isinstance(outcome, ForbiddenError):
            raise outcome
        return outcome


def _require_open(record: ApprovalRecord, caller: Caller, say: Say, now: float) -> None:
    state = record.approval.state(now)
    # What the delay is for: until the token was fetched anybody may object, also who approved.
    if state != "pending" and (say, state) != ("deny", "approved"):
        raise ConflictError(f"nothing is to be decided: it is {state}")
    if say == "approve" and any(vote.operator == caller.actor.name for vote in record.votes):
        raise ConflictError("you have had your say: another operator is needed")


async def _take_back(change: Change, approval_id: str, caller: Caller) -> None:
    """Let a no stand in the place of this operator's yes."""
    own = (approval_votes.c.approval_id == approval_id) & (approval_votes.c.operator_id == caller.actor.id)
    await change.connection.execute(sa.delete(approval_votes).where(own))


async def _maker(change: Change, caller: Caller) -> str | None:
    """Return who made the token that the operator says it with: empty where it was made on the host."""
    query = sa.select(operator_tokens.c.created_by).where(operator_tokens.c.token_id == caller.token_id)
    maker: str | None = (await change.connection.execute(query)).scalar_one()
    return maker


async def _why_not(change: Change, record: ApprovalRecord, operator: str, maker: str | None) -> str | None:
    if maker is None:
        # Of a release that did not note it, and so perhaps whoever asks.
        raise ConflictError("it is not known who made this token of yours: have another one made")
    hands = {operator, maker} - {""}
    if hands & await _had_a_key(change, record.approval.client_id):
        return "own_agent"
    if any(hands & {vote.operator, vote.token_maker} for vote in record.votes):
        return "own_vote"
    return None


async def _had_a_key(change: Change, client_id: str) -> set[str | None]:
    """Return who has, or had, what the agent proves itself with."""
    made = sa.select(client_keys.c.created_by, client_keys.c.created_at).where(client_keys.c.client_id == client_id)
    client = (await change.connection.execute(sa.select(clients).where(clients.c.client_id == client_id))).one()
    makers = {client.created_by}
    for key in await change.connection.execute(made):
        if key.created_by is None and key.created_at != client.created_at:
            # Of a release that did not note it, and so perhaps this operator.
            raise ConflictError("it is not known who made one of the agent's keys: onboard the agent anew")
        makers.add(key.created_by)
    return makers


def _approving(record: ApprovalRecord) -> int:
    return sum(vote.decision == "approve" for vote in record.votes)


async def _settle(change: Change, approval: Approval, say: Say) -> None:
    decided: dict[str, Any] = {"status": _STANDS_AS[say]}
    if say == "approve":
        decided["approved_at"] = change.at
    this = approvals.c.approval_id == approval.approval_id
    await change.connection.execute(sa.update(approvals).where(this).values(decided))


def _entry(
    say: Say, caller: Caller, approval: Approval, *, reason: str | None = None, details: dict[str, Any] | None = None
) -> Entry:
    scopes = format_vault_scopes(approval.wanted.scopes)
    return Entry(
        action=_ACTIONS[say],
        decision="allow" if reason is None else "deny",
        caller=caller,
        client_id=approval.client_id,
        asked=scopes,
        reason=reason,
        details={"approval_id": approval.approval_id, "access_tier": approval.tier, **(details or {})},
    )


def _stands(state: ApprovalState, now: float) -> tuple[sa.ColumnElement[bool], ...]:
    if state == "ended":
        return approvals.c.status.in_(("pending", "approved")), approvals.c.expires_at <= now
    if state in ("pending", "approved"):
        return approvals.c.status == state, approvals.c.expires_at > now
    return (approvals.c.status == state,)


async def _find(connection: AsyncConnection, approval_id: str) -> ApprovalRecord:
    row = (await connection.execute(_RECORDS.where(approvals.c.approval_id == approval_id))).one_or_none()
    if row is None:
        raise NotFoundError("there is no such approval, or it ended more than a day ago")
    votes = await connection.run_sync(votes_of, [approval_id])
    return replace(_record(row), votes=votes.get(approval_id, ()))


def _record(row: Any) -> ApprovalRecord:
    return ApprovalRecord(approval=approval_of(row), agent_name=row.agent_name, votes=())


_RECORDS: Final = sa.select(approvals, clients.c.name.label("agent_name")).join(
    clients, clients.c.client_id == approvals.c.client_id
)
