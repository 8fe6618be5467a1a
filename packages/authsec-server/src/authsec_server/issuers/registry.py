"""What a process remembers of the registered issuers: those that are trusted, as they were at most a second ago.

Good enough to pick the issuer of a token that somebody brings. Whether it is still trusted when the token is used is
looked at again in the transaction that decides.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final

import sqlalchemy as sa

from authsec_core._clock import Clock
from authsec_server.db.engine import Database
from authsec_server.db.tables import issuers
from authsec_server.issuers.values import RegisteredIssuer, issuer_of

__all__ = ["Known", "Registry"]

_FRESH: Final = 1.0  # seconds for which what was read serves


class Known:
    """The issuers that are trusted at one moment. Immutable."""

    def __init__(self, trusted: Iterable[RegisteredIssuer]) -> None:
        self._by_issuer: Final = {(issuer.is_for_users, issuer.issuer): issuer for issuer in trusted}

    def get(self, issuer: str | None, *, for_users: bool) -> RegisteredIssuer | None:
        """Return the one of this `iss`, or trust domain, and purpose."""
        return None if issuer is None else self._by_issuer.get((for_users, issuer))


class Registry:
    """The registered issuers of this process. For one event loop.

    Args:
        clock: Tells how old they are.
    """

    def __init__(self, database: Database, *, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._held: tuple[float, Known] | None = None  # when it was asked for, by the steady clock
        self._reading: asyncio.Task[Known] | None = None

    async def read(self) -> Known:
        """Return the issuers as they were within the last second, on whichever replica they changed.

        Raises:
            StorageUnavailableError: The database does not answer.
        """
        if self._held is not None and 0 <= self._clock.steady() - self._held[0] < _FRESH:
            return self._held[1]
        if self._reading is None:
            self._reading = asyncio.create_task(self._read(), name="authsec-issuers")
        return await asyncio.shield(self._reading)  # one caller that is cancelled must not fail the others

    async def latest(self) -> Known:
        """Return the issuers as they are now. Costs a query.

        Raises:
            StorageUnavailableError: The database does not answer.
        """
        self.forget()
        return await self.read()

    def forget(self) -> None:
        """Read again when somebody asks: something was changed, or may have been."""
        self._held = self._reading = None

    async def _read(self) -> Known:
        mine, asked_at = asyncio.current_task(), self._clock.steady()
        trusted = sa.select(issuers).where(issuers.c.enabled, issuers.c.revoked_at.is_(None))
        try:
            async with self._database.read() as connection:
                known = Known(issuer_of(row) for row in await connection.execute(trusted))
            if self._reading is mine:  # else something was changed while it was read
                self._held = (asked_at, known)
            return known
        finally:
            if self._reading is mine:
                self._reading = None
