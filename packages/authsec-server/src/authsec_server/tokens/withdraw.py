"""Which live tokens does today's policy no longer allow? They are revoked with the change that made it so.

So one rule covers the revoked agent, key and delegation, the disabled ones, and the role that lost a permission.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any, Final, TypeVar

import sqlalchemy as sa

from authsec_server.agents.standing import Delegation, Standing, load_standings
from authsec_server.audit.ledger import Change
from authsec_server.db.tables import tokens

__all__ = ["exceeds", "withdraw_exceeding"]

_AT_ONCE: Final = 500  # names in one statement: SQLite and PostgreSQL both have a limit
T = TypeVar("T")


async def withdraw_exceeding(change: Change, client_ids: Collection[str]) -> int:
    """Revoke the live tokens of these clients that exceed what they may have now, and return how many there were.

    Call it after the change, in the same transaction. Costs two queries for 500 clients, and one for 500 tokens.
    """
    doomed: list[str] = []
    for some in _chunks(sorted(client_ids)):
        standings = await load_standings(change.connection, some)
        alive = sa.select(tokens).where(
            tokens.c.client_id.in_(some), tokens.c.expires_at > change.at, tokens.c.revoked_at.is_(None)
        )
        rows = await change.connection.execute(alive)
        doomed += [row.jti for row in rows if exceeds(row, standings.get(row.client_id), change.at)]
    for jtis in _chunks(doomed):
        await change.connection.execute(sa.update(tokens).where(tokens.c.jti.in_(jtis)).values(revoked_at=change.at))
    return len(doomed)


def exceeds(token: Any, standing: Standing | None, now: float) -> bool:
    """Return whether a token would not be issued as it is today.

    Args:
        token: A row of `tokens`.
        standing: What its client is now.
        now: Epoch seconds.
    """
    if standing is None or standing.state != "active":
        return True
    if token.key_id is not None and all(key.key_id != token.key_id or key.revoked for key in standing.keys):
        return True
    allowed: set[str] = set()
    for delegation in standing.delegations:
        if delegation.delegation_id in token.delegations and _still_covers(delegation, token, now):
            actions = delegation.allowed_actions
            allowed |= delegation.permissions if actions is None else delegation.permissions & actions
    return not set(token.scope.split()) <= allowed


def _still_covers(delegation: Delegation, token: Any, now: float) -> bool:
    return (
        delegation.enabled
        and not delegation.revoked
        and (delegation.not_after is None or (now < delegation.not_after and token.expires_at <= delegation.not_after))
        and token.expires_at - token.issued_at <= delegation.max_duration
        and token.audience in delegation.audiences
    )


def _chunks(items: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), _AT_ONCE):
        yield items[start : start + _AT_ONCE]
