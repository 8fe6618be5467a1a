"""How replicas count together: each tells the others through the database what it charged, and learns what they did.

Within a second each replica may let through a burst of its own; over any longer time the rates are those of all
together. The database keeps when each bucket is full by its own clock, so that the clocks of replicas may differ; what
travels are durations. Where it does not answer, each replica counts for itself.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.ext.asyncio import AsyncConnection

from authsec_core._clock import Clock
from authsec_server.db.engine import Database
from authsec_server.db.tables import rate_limits
from authsec_server.errors import StorageUnavailableError
from authsec_server.limits.buckets import Buckets
from authsec_server.limits.service import Limits

__all__ = ["SharedLimits"]

_MOST_TOLD: Final = 1_000  # buckets of one kind in one statement
_MOST_OWED: Final = 600.0  # seconds: a calendar that was set wrong must not lock anyone out for longer
_MOST_PURGED: Final = 10_000  # rows at once
_KEPT: Final = 60.0  # seconds after which a full bucket is forgotten

_log = logging.getLogger("authsec.server.limits")


class SharedLimits:
    """Tells and learns. Call `exchange` about once a second. For one event loop.

    Args:
        limits: Made with `notes=True`.
        clock: The time of SQLite's processes, which are on one machine; PostgreSQL has its own.
    """

    def __init__(self, database: Database, limits: Limits, *, clock: Clock) -> None:
        self._database = database
        self._clock = clock
        self._kinds: Final = {"client": limits.clients, "address": limits.addresses}

    async def exchange(self) -> None:
        """Tell what was charged since the last time, and take over what the others have charged of the same.

        Some thousand buckets at most; the rest is told the next time.
        """
        charges = {kind: buckets.take_charges(_MOST_TOLD) for kind, buckets in self._kinds.items()}
        named = {f"{kind}:{name}": seconds for kind, told in charges.items() for name, seconds in told.items()}
        if not named:
            return
        asked_at = self._clock.steady()
        try:
            owed = await self._database.write(lambda connection: self._tell(connection, named))
        except StorageUnavailableError:
            for kind, told in charges.items():
                self._kinds[kind].give_back(told)
            _log.warning("replicas cannot count together while the database does not answer: each counts for itself")
            return
        for kind, buckets in self._kinds.items():
            _take_over(buckets, kind, owed, asked_at)

    async def purge(self) -> int:
        """Forget buckets that are full, and return how many. Waits for nobody who is about to charge one."""
        full = (
            sa.select(rate_limits.c.bucket)
            .where(rate_limits.c.full_at < self._now() - _KEPT)
            .limit(_MOST_PURGED)
            .with_for_update(skip_locked=True)
        )

        async def work(connection: AsyncConnection) -> int:
            return (await connection.execute(sa.delete(rate_limits).where(rate_limits.c.bucket.in_(full)))).rowcount

        return await self._database.write(work)

    async def _tell(self, connection: AsyncConnection, charges: Mapping[str, float]) -> dict[str, float]:
        found = await connection.execute(self._statement(charges))
        return {row.bucket: row.owed for row in found}

    def _statement(self, charges: Mapping[str, float]) -> Any:
        """Return one statement that adds to each bucket and says what it owes; sorted, so that two never deadlock."""
        insert = sqlite.insert if self._database.is_sqlite else postgresql.insert
        now = self._now()
        rows = [{"bucket": name, "full_at": now + charges[name]} for name in sorted(charges)]
        new = insert(rate_limits).values(rows)
        before = _least(_greatest(rate_limits.c.full_at, now), now + _MOST_OWED)
        return new.on_conflict_do_update(
            index_elements=[rate_limits.c.bucket], set_={"full_at": before + (new.excluded.full_at - now)}
        ).returning(rate_limits.c.bucket, (rate_limits.c.full_at - now).label("owed"))

    def _now(self) -> sa.ColumnElement[float]:
        if self._database.is_sqlite:
            return sa.literal(self._clock.wall(), sa.Double)
        return sa.cast(sa.extract("epoch", sa.func.statement_timestamp()), sa.Double)


def _take_over(buckets: Buckets, kind: str, owed: Mapping[str, float], now: float) -> None:
    mine = {name.partition(":")[2]: seconds for name, seconds in owed.items() if name.startswith(f"{kind}:")}
    buckets.take_over(mine, now)


def _greatest(one: Any, other: Any) -> Any:
    return sa.case((one > other, one), else_=other)


def _least(one: Any, other: Any) -> Any:
    return sa.case((one < other, one), else_=other)
