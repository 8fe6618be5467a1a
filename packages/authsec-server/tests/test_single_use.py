"""What is good for one use is used once, by whichever replica; and it stays used until it could not be used anyway."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack

import pytest
from server_support import Asks, ledger, made, rows

from authsec_core.testing import FakeClock
from authsec_server.agents.standing import Standing
from authsec_server.audit.entry import Entry
from authsec_server.audit.questions import Slot, Verdict
from authsec_server.db import tables
from authsec_server.db.engine import Database
from authsec_server.tokens.policy import Caps
from authsec_server.tokens.service import TokenRecords

MANY = 64
CAPS = Caps(default_audience="authsec-api", default_ttl=60, max_ttl=60)
KEPT = 600.0  # seconds after its end


class Uses(Asks):
    """A question that wants to use a mark, and is told whether it did."""

    def __init__(self, mark: str, *, until: float) -> None:
        super().__init__(mark, mark=mark)
        self._until = until

    def judge(self, standing: Standing | None, slot: Slot) -> Verdict[str]:
        """Use it if it is free; who comes too late is in the audit."""
        entry: Entry | None = super().judge(standing, slot).entry
        if slot.is_used:
            return Verdict(result="too late", entry=entry)
        return Verdict(result="used", entry=entry, used_until=self._until)


@pytest.mark.req("RO2")
@pytest.mark.req("RA8")
def test_of_many_one_uses_it(database_url: str) -> None:
    """64 at once at three ledgers, each with connections of its own: one uses the mark, 63 come too late."""

    async def run() -> None:
        async with made(database_url, timeout=30.0) as first, AsyncExitStack() as stack:
            clock = FakeClock()
            databases = [first, *(Database(database_url, clock=clock, timeout=30.0) for _ in range(2))]
            for database in databases[1:]:
                stack.push_async_callback(database.close)
            ledgers = [await stack.enter_async_context(ledger(database)) for database in databases]
            for mark in ("an assertion", "another one"):
                told = await asyncio.gather(
                    *(ledgers[number % 3].judge(Uses(mark, until=clock.wall() + 60)) for number in range(MANY))
                )
                assert sorted(told) == ["too late"] * (MANY - 1) + ["used"]
            assert [row.mark for row in await rows(first, tables.used_marks)] == ["an assertion", "another one"]
            assert len(await rows(first, tables.audit)) == 2 * MANY

    asyncio.run(run())


@pytest.mark.req("RO2")
def test_a_mark_is_forgotten_after_its_end(database_url: str) -> None:
    """Not while the clock of a replica might still be before it, and not while the calendar has jumped."""

    async def run() -> None:
        clock = FakeClock()
        async with made(database_url, clock=clock) as database, ledger(database, clock=clock) as running:
            records = TokenRecords(running, database, caps=CAPS, clock=clock)
            assert await running.judge(Uses("once", until=clock.wall() + 60)) == "used"
            clock.advance(60 + KEPT)
            assert await records.purge() == 0
            clock.jump(86_400)
            assert await records.purge() == 0
            assert await running.judge(Uses("once", until=clock.wall() + 60)) == "too late"
            clock.jump(-86_400)
            clock.advance(0.001)
            assert await records.purge() == 1
            assert await rows(database, tables.used_marks) == []

    asyncio.run(run())
