"""What operators do with tokens: look one up, take one back, and ask why an agent gets what it gets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from authsec_core._clock import Clock
from authsec_server.agents.standing import load_standings
from authsec_server.audit.entry import Caller, Entry
from authsec_server.audit.ledger import Change, Ledger
from authsec_server.db.engine import Database
from authsec_server.db.tables import tokens, used_marks
from authsec_server.errors import ConflictError, NotFoundError
from authsec_server.tokens.policy import Ask, Caps, Explanation, explain
from authsec_server.tokens.withdraw import revoke_tokens

__all__ = ["PURGED_AT_ONCE", "TokenRecord", "TokenRecords"]

_KEPT_AFTER_END: Final = 86_400  # seconds: for "what became of this token?"
_REVOKED_KEPT: Final = 30 * 86_400  # seconds: a clock that was set wrong must not bring one back to life
_CLOCKS_DIFFER: Final = 600.0  # seconds by which the calendar may have moved against the steady clock
PURGED_AT_ONCE: Final = 5_000  # rows, so that nobody waits long for the purge


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRecord:
    """What is kept of a token: never the token.

    Attributes:
        issued_at: Epoch seconds, as are the other instants.
    """

    jti: str
    client_id: str
    key_id: str | None
    delegations: tuple[str, ...]
    scope: str
    audience: str
    kid: str
    issued_at: int
    expires_at: int
    revoked_at: float | None


class TokenRecords:
    """Looks up, revokes and forgets tokens. For one event loop."""

    def __init__(self, ledger: Ledger, database: Database, *, caps: Caps, clock: Clock) -> None:
        self._ledger = ledger
        self._database = database
        self._caps = caps
        self._clock = clock
        self._offset = clock.wall() - clock.steady()

    async def get(self, jti: str) -> TokenRecord:
        """Return what is kept of a token: until a day after its end.

        Raises:
            NotFoundError: Nothing is.
        """
        async with self._database.read() as connection:
            row = (await connection.execute(sa.select(tokens).where(tokens.c.jti == jti))).one_or_none()
        if row is None:
            raise _unknown()
        return TokenRecord(
            jti=row.jti,
            client_id=row.client_id,
            key_id=row.key_id,
            delegations=tuple(row.delegations),
            scope=row.scope,
            audience=row.audience,
            kid=row.kid,
            issued_at=row.issued_at,
            expires_at=row.expires_at,
            revoked_at=row.revoked_at,
        )

    async def revoke(self, caller: Caller, jti: str) -> None:
        """Take a token back: the status list says so within a second.

        Raises:
            NotFoundError: There is no such token.
            ConflictError: It was taken back before; of many who try at once, one succeeds.
        """

        async def work(change: Change) -> None:
            row = (await change.connection.execute(sa.select(tokens).where(tokens.c.jti == jti))).one_or_none()
            if row is None:
                raise _unknown()
            if row.revoked_at is not None:
                raise ConflictError("the token was revoked before")
            await revoke_tokens(change, [jti])
            change.record(
                Entry(action="token.revoke", decision="allow", caller=caller, client_id=row.client_id, jti=jti)
            )

        await self._ledger.change(work, by=caller)

    async def explain(self, client_id: str, ask: Ask) -> Explanation:
        """Return what the agent would get for this, and why. Issues and records nothing.

        Raises:
            NotFoundError: There is no such client.
        """
        async with self._database.read() as connection:
            standings = await load_standings(connection, [client_id])
        if client_id not in standings:
            raise NotFoundError("there is no such client")
        return explain(standings[client_id], ask, self._caps, self._clock.wall())

    async def purge(self) -> int:
        """Forget what ended, and return how many rows that were. The audit keeps them.

        Tokens a day after their end, revoked ones thirty; marks of single use as soon as no clock of a replica can be
        before their end. Some thousands at once; none while the calendar has jumped since this process began.
        """
        now = self._clock.wall()
        if abs(now - self._clock.steady() - self._offset) > _CLOCKS_DIFFER:
            return 0
        ended = (
            sa.select(tokens.c.jti)
            .where(
                tokens.c.expires_at < now - _KEPT_AFTER_END,
                sa.or_(tokens.c.revoked_at.is_(None), tokens.c.expires_at < now - _REVOKED_KEPT),
            )
            .limit(PURGED_AT_ONCE)
        )
        over = sa.select(used_marks.c.mark).where(used_marks.c.expires_at < now - _CLOCKS_DIFFER).limit(PURGED_AT_ONCE)

        async def work(change: Change) -> int:
            forgotten = await change.connection.execute(sa.delete(tokens).where(tokens.c.jti.in_(ended)))
            unmarked = await change.connection.execute(sa.delete(used_marks).where(used_marks.c.mark.in_(over)))
            return forgotten.rowcount + unmarked.rowcount

        return await self._ledger.change(work)


def _unknown() -> NotFoundError:
    return NotFoundError("there is no such token, or it ended more than a day ago")
