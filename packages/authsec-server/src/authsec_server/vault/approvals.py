"""Consent to tokens for secrets above `standard`: who has to give it, and when is it good? Rules and facts.

A sensitive secret takes one operator. A critical one takes two, and then a delay in which somebody may notice. Neither
can be somebody who has, or had, a key of the agent in hand: they would be asking themselves. Who made another
operator's token has that in hand, and counts as them. The token can be fetched with the key alone that it was asked for
with, since one of them may have made another one.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final, Literal

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from authsec_server.db.tables import approval_votes, approvals, operator_tokens, operators
from authsec_server.vault.policy import AccessTier
from authsec_server.vault.wanted import WantedToken

__all__ = [
    "NEEDED",
    "Approval",
    "ApprovalState",
    "Vote",
    "approval_of",
    "end_consents",
    "read_approvals",
    "read_open",
    "votes_of",
]

ApprovalState = Literal["pending", "approved", "denied", "redeemed", "ended"]
NEEDED: Final[dict[AccessTier, int]] = {"standard": 0, "sensitive": 1, "critical": 2}  # operators who approve


@dataclass(frozen=True, slots=True, kw_only=True)
class Vote:
    """What one operator said.

    Attributes:
        operator: Their name.
        token_maker: Who made the token that they said it with; empty where it was made on the host.
        at: Epoch seconds.
    """

    operator: str
    token_maker: str
    decision: Literal["approve", "deny"]
    reason: str
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Approval:
    """A token that was asked for and needs consent. Instants are epoch seconds.

    Attributes:
        key_id: The agent key that it was asked for with.
        approved_at: When the last one who was needed said yes.
        token_id: What it was redeemed for.
    """

    approval_id: str
    client_id: str
    key_id: str
    tier: AccessTier
    wanted: WantedToken
    status: Literal["pending", "approved", "denied", "redeemed"]
    created_at: float
    expires_at: float
    approved_at: float | None = None
    token_id: str | None = None

    def state(self, now: float) -> ApprovalState:
        """Return how it stands; what was not redeemed in time has ended."""
        if self.status in ("pending", "approved") and now >= self.expires_at:
            return "ended"
        return self.status

    def good_from(self, critical_delay: float) -> float | None:
        """Return from when on the token can be had; None where consent is missing.

        Args:
            critical_delay: Seconds.
        """
        if self.approved_at is None:
            return None
        return self.approved_at + (critical_delay if self.tier == "critical" else 0)


def approval_of(row: Any) -> Approval:
    """Return the approval of a row of `approvals`."""
    return Approval(
        approval_id=row.approval_id,
        client_id=row.client_id,
        key_id=row.key_id,
        tier=row.access_tier,
        wanted=WantedToken.of(row.wanted),
        status=row.status,
        created_at=row.created_at,
        expires_at=row.expires_at,
        approved_at=row.approved_at,
        token_id=row.token_id,
    )


def read_approvals(connection: sa.Connection, approval_ids: Collection[str]) -> dict[str, Approval]:
    """Return these approvals, by their ids. A `Reader` of the ledger."""
    query = sa.select(approvals).where(approvals.c.approval_id.in_(approval_ids))
    return {row.approval_id: approval_of(row) for row in connection.execute(query)}


def read_open(connection: sa.Connection, client_ids: Collection[str]) -> dict[str, tuple[Approval, ...]]:
    """Return what each of these clients has asked for and not got as yet, ended or not. A `Reader` of the ledger."""
    query = sa.select(approvals).where(
        approvals.c.client_id.in_(client_ids), approvals.c.status.in_(("pending", "approved"))
    )
    found: dict[str, tuple[Approval, ...]] = {}
    for row in connection.execute(query.order_by(approvals.c.created_at)):
        found[row.client_id] = (*found.get(row.client_id, ()), approval_of(row))
    return found


def votes_of(connection: sa.Connection, approval_ids: Collection[str]) -> dict[str, tuple[Vote, ...]]:
    """Return what operators said to each of these approvals, in that order."""
    query = (
        sa.select(approval_votes, operators.c.name, operator_tokens.c.created_by)
        .join(operators, operators.c.operator_id == approval_votes.c.operator_id)
        .join(operator_tokens, operator_tokens.c.token_id == approval_votes.c.token_id)
        .where(approval_votes.c.approval_id.in_(approval_ids))
        .order_by(approval_votes.c.at)
    )
    found: dict[str, tuple[Vote, ...]] = {}
    for row in connection.execute(query):
        vote = Vote(
            operator=row.name,
            token_maker=row.created_by or "",
            decision=row.decision,
            reason=row.reason,
            at=row.at,
        )
        found[row.approval_id] = (*found.get(row.approval_id, ()), vote)
    return found


async def end_consents(connection: AsyncConnection, operator_id: str) -> list[str]:
    """Take back what this operator consented to and no token has come of yet, and return the ids of the approvals.

    Somebody else is needed then. Who said no has still said it.
    """
    query = (
        sa.select(approvals.c.approval_id)
        .join(approval_votes)
        .where(
            approval_votes.c.operator_id == operator_id,
            approval_votes.c.decision == "approve",
            approvals.c.status.in_(("pending", "approved")),
        )
    )
    ended = list((await connection.execute(query.order_by(approvals.c.created_at))).scalars())
    of_theirs = (approval_votes.c.operator_id == operator_id, approval_votes.c.approval_id.in_(ended))
    await connection.execute(sa.delete(approval_votes).where(*of_theirs))
    reopened = {"status": "pending", "approved_at": None}
    await connection.execute(sa.update(approvals).where(approvals.c.approval_id.in_(ended)).values(reopened))
    return ended
