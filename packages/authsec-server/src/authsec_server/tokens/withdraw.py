"""Which live tokens does today's policy no longer allow? They are revoked with the change that made it so.

So one rule covers the revoked agent, key and delegation, the disabled ones, and the role that lost a permission. Tokens
that rest on an issuer which is trusted less than before all go. No change waits for a crowd: what one transaction
cannot look through is noted in it, and looked through in those after it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, Final, TypeVar

import sqlalchemy as sa

from authsec_server.agents.standing import Delegation, Standing, load_standings
from authsec_server.audit.ledger import Change, Ledger
from authsec_server.db.engine import Database
from authsec_server.db.tables import issuers, signing_keys, tokens, withdrawals

__all__ = [
    "MOST_AT_ONCE",
    "STILL_ACCEPTED",
    "Withdrawals",
    "exceeds",
    "may_be_accepted",
    "revoke_tokens",
    "withdraw_exceeding",
    "withdraw_resting_on",
    "withdraw_signed_by",
]

MOST_AT_ONCE: Final = 10_000  # tokens that one transaction looks through
# Seconds after its end for which a token counts as live: the largest leeway of the core's verifier, and a minute by
# which the clock of a replica may be ahead.
STILL_ACCEPTED: Final = 300 + 60
_NAMES_AT_ONCE: Final = 500  # in one statement: SQLite and PostgreSQL both have a limit
_ISSUER: Final = "wli_"  # begins the id of a registered issuer, and of no client and no key
_EXCHANGED: Final = "exchanged"  # stands in `withdrawals` for tokens whose parent is revoked; no client's id
T = TypeVar("T")


async def withdraw_exceeding(change: Change, client_ids: Collection[str]) -> int:
    """Revoke the live tokens of these clients that exceed what they may have now, and return how many there were.

    Call it after the change, in the same transaction. What goes beyond 10 000 live tokens is left to `Withdrawals`,
    within seconds, and is not counted.
    """
    revoked, left = 0, MOST_AT_ONCE
    for some in _chunks(sorted(client_ids)):
        query = sa.select(tokens).where(tokens.c.client_id.in_(some), *may_be_accepted(change.at)).limit(left + 1)
        rows = (await change.connection.execute(query)).all()
        if len(rows) > left:
            await _leave_for_later(change, some)
            continue
        left -= len(rows)
        revoked += await _revoke_exceeding(change, rows, await load_standings(change.connection, some))
    return revoked


async def withdraw_signed_by(change: Change, kid: str) -> int:
    """Revoke live tokens that this key signed, 10 000 at most, and return how many there were."""
    some = sa.select(tokens.c.jti).where(tokens.c.kid == kid, *may_be_accepted(change.at)).limit(MOST_AT_ONCE)
    return await revoke_tokens(change, (await change.connection.execute(some)).scalars().all())


async def withdraw_resting_on(change: Change, issuer_id: str) -> int:
    """Revoke the live tokens that were issued on the word of this issuer, and return how many there were.

    What lies beyond the latest 10 000 tokens of all is left to `Withdrawals`, within seconds, and is not counted.
    """
    latest = (await change.connection.execute(sa.select(sa.func.max(tokens.c.status_index)))).scalar_one()
    return 0 if latest is None else await _look_back(change, issuer_id, latest)


async def revoke_tokens(change: Change, jtis: Sequence[str]) -> int:
    """Revoke these tokens, and with them what they were exchanged for; return how many were named.

    What hangs on them beyond 10 000 is left to `Withdrawals`, within seconds: agents exchange as many as they like, and
    must not be able to make a revocation too long for a transaction.
    """
    await _mark(change, jtis)
    parents, left = list(jtis), MOST_AT_ONCE
    while parents and left > 0:
        children: list[str] = []
        for some in _chunks(parents):
            children += await _children(change, some, left - len(children))
        await _mark(change, children)
        parents, left = children, left - len(children)
    if parents:
        await _leave_for_later(change, [_EXCHANGED])
    return len(jtis)


class Withdrawals:
    """Finishes what a change had to leave for later. On every replica; of several, one does each part."""

    def __init__(self, database: Database, ledger: Ledger) -> None:
        self._database = database
        self._ledger = ledger
        self._done: set[str] = set()  # revoked signing keys without live tokens

    async def finish(self) -> None:
        """Look through all that is left, in transactions of 10 000 tokens. Costs two queries if nothing is."""
        async with self._database.read() as connection:
            pending = (await connection.execute(sa.select(withdrawals.c.client_id).limit(1))).first() is not None
            revoked = sa.select(signing_keys.c.kid).where(signing_keys.c.state == "revoked")
            kids = set((await connection.execute(revoked)).scalars()) - self._done
        while pending:
            pending = await self._ledger.change(_look_on)
        for kid in kids:

            async def work(change: Change, kid: str = kid) -> int:
                return await withdraw_signed_by(change, kid)

            while await self._ledger.change(work) == MOST_AT_ONCE:
                pass
            self._done.add(kid)


def may_be_accepted(now: float) -> tuple[sa.ColumnElement[bool], ...]:
    """Return the conditions for a token that some verifier may still accept, unless it is revoked."""
    return tokens.c.revoked_at.is_(None), tokens.c.expires_at > now - STILL_ACCEPTED


def exceeds(token: Any, standing: Standing | None, now: float, *, trusted: Collection[str] = ()) -> bool:
    """Return whether a token would not be issued as it is today.

    Args:
        token: A row of `tokens`.
        standing: What its client is now.
        now: Epoch seconds.
        trusted: The ids of the registered issuers that are trusted now.
    """
    if standing is None or standing.state != "active":
        return True
    living = {key.key_id for key in standing.keys if not key.revoked}
    if token.key_id is not None and token.key_id not in living and token.key_id not in trusted:
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


async def _look_on(change: Change) -> bool:
    """Look through the next tokens of one client that is left, and return whether there was one."""
    left = (await change.connection.execute(sa.select(withdrawals).order_by(withdrawals.c.client_id).limit(1))).first()
    if left is None:
        return False
    if left.client_id == _EXCHANGED:
        await _look_below(change)
        return True
    if left.client_id.startswith(_ISSUER):
        await _look_back(change, left.client_id, left.after_index)
        return True
    query = (
        sa.select(tokens)
        .where(tokens.c.client_id == left.client_id, tokens.c.status_index > left.after_index)
        .where(*may_be_accepted(change.at))
        .order_by(tokens.c.status_index)
        .limit(MOST_AT_ONCE)
    )
    rows = (await change.connection.execute(query)).all()
    await _revoke_exceeding(change, rows, await load_standings(change.connection, [left.client_id]))
    this = withdrawals.c.client_id == left.client_id
    if len(rows) < MOST_AT_ONCE:
        await change.connection.execute(sa.delete(withdrawals).where(this))
    else:
        await change.connection.execute(sa.update(withdrawals).where(this).values(after_index=rows[-1].status_index))
    return True


async def _look_back(change: Change, issuer_id: str, latest: int) -> int:
    """Look through the 10 000 tokens up to this index, and note what is left below them.

    From the latest one down, because nothing comes in there: tokens that are issued now rest on what is trusted now.
    """
    below = latest - MOST_AT_ONCE
    query = (
        sa.select(tokens.c.jti)
        .where(tokens.c.status_index <= latest, tokens.c.status_index > below)
        .where(sa.or_(tokens.c.key_id == issuer_id, tokens.c.parent == issuer_id))
        .where(*may_be_accepted(change.at))
    )
    revoked = await revoke_tokens(change, (await change.connection.execute(query)).scalars().all())
    await change.connection.execute(sa.delete(withdrawals).where(withdrawals.c.client_id == issuer_id))
    earlier = sa.select(tokens.c.jti).where(tokens.c.status_index <= below).limit(1)
    if (await change.connection.execute(earlier)).first() is not None:
        await change.connection.execute(sa.insert(withdrawals).values(client_id=issuer_id, after_index=below))
    return revoked


async def _look_below(change: Change) -> None:
    """Revoke up to 10 000 tokens whose parent is revoked. A parent lives at least as long as what hangs on it."""
    parent = tokens.alias("parent")
    query = (
        sa.select(tokens.c.jti)
        .join(parent, parent.c.jti == tokens.c.parent)
        .where(parent.c.revoked_at.is_not(None), parent.c.expires_at > change.at - STILL_ACCEPTED)
        .where(*may_be_accepted(change.at))
        .limit(MOST_AT_ONCE)
    )
    found = (await change.connection.execute(query)).scalars().all()
    await _mark(change, found)
    if not found:  # not before: what hangs on those that were just found comes next
        await change.connection.execute(sa.delete(withdrawals).where(withdrawals.c.client_id == _EXCHANGED))


async def _children(change: Change, parents: Sequence[str], most: int) -> Sequence[str]:
    some = sa.select(tokens.c.jti).where(tokens.c.parent.in_(parents), *may_be_accepted(change.at)).limit(most)
    return (await change.connection.execute(some)).scalars().all()


async def _mark(change: Change, jtis: Sequence[str]) -> None:
    for some in _chunks(jtis):
        await change.connection.execute(sa.update(tokens).where(tokens.c.jti.in_(some)).values(revoked_at=change.at))


async def _leave_for_later(change: Change, client_ids: Collection[str]) -> None:
    await change.connection.execute(sa.delete(withdrawals).where(withdrawals.c.client_id.in_(client_ids)))
    await change.connection.execute(
        sa.insert(withdrawals), [{"client_id": client_id, "after_index": -1} for client_id in client_ids]
    )


async def _revoke_exceeding(change: Change, rows: Iterable[Any], standings: dict[str, Standing]) -> int:
    query = sa.select(issuers.c.issuer_id).where(issuers.c.enabled, issuers.c.revoked_at.is_(None))
    trusted = set((await change.connection.execute(query)).scalars())
    exceeding = [row.jti for row in rows if exceeds(row, standings.get(row.client_id), change.at, trusted=trusted)]
    return await revoke_tokens(change, exceeding)


def _chunks(items: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(items), _NAMES_AT_ONCE):
        yield items[start : start + _NAMES_AT_ONCE]
