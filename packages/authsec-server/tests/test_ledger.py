"""The only writer: group commit, the chain, and what one failure may not do to others."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

import pytest
import sqlalchemy as sa
from server_support import Asks, entry, ledger, made, rows

from authsec_core._clock import SYSTEM_CLOCK
from authsec_core.testing import FakeClock
from authsec_server.agents.standing import Standing
from authsec_server.audit.chain import GENESIS, chained
from authsec_server.audit.entry import Entry
from authsec_server.audit.ledger import Change, Ledger
from authsec_server.audit.questions import Slot, Verdict
from authsec_server.db import tables
from authsec_server.db.engine import Database
from authsec_server.errors import StorageUnavailableError
from authsec_server.telemetry.observer import Observer

T = TypeVar("T")


async def chain_is_whole(database: Database) -> int:
    """Check the chain from end to end, and return how many entries it has."""
    (head,) = await rows(database, tables.head)
    previous = GENESIS
    written = await rows(database, tables.audit)
    for seq, row in enumerate(written, 1):
        assert row.seq == seq == json.loads(row.text)["seq"]
        previous = chained(previous, row.text)
        assert row.hash == previous
    assert (head.seq, head.hash) == (len(written), previous)
    return len(written)


@pytest.mark.req("RU1")
@pytest.mark.req("RU2")
def test_a_decision_is_durable_before_it_is_told(database_url: str) -> None:
    """Whoever has the answer finds its entry, chained, and the token's row in the database."""

    async def run() -> None:
        async with made(database_url) as database, ledger(database) as running:
            told = await asyncio.gather(*(running.judge(Asks(f"q{n}", token=True)) for n in range(40)))
            assert told == [f"q{n}" for n in range(40)]
            assert await chain_is_whole(database) == 40
            issued = await rows(database, tables.tokens)
            assert sorted(row.status_index for row in issued) == list(range(40))
            assert (await rows(database, tables.head))[0].next_index == 40

    asyncio.run(run())


def test_many_decisions_share_a_transaction(database_url: str) -> None:
    """What arrives while a transaction is under way is settled together in the next one."""

    async def run() -> None:
        transactions = 0

        class Counts(Database):
            async def settle(self, work: Callable[[sa.Connection], T]) -> T:
                nonlocal transactions
                transactions += 1
                return await super().settle(work)

        async with made(database_url):
            database = Counts(database_url, clock=SYSTEM_CLOCK)
            async with ledger(database) as running:
                await asyncio.gather(*(running.judge(Asks(f"q{n}")) for n in range(100)))
            await database.close()
        assert 1 <= transactions <= 2

    asyncio.run(run())


def test_a_decision_that_fails_harms_no_neighbour(database_url: str) -> None:
    """Of a batch, the question with a bug and the row that the database refuses fail alone."""

    async def run() -> None:
        async with made(database_url) as database, ledger(database) as running:
            told = await asyncio.gather(
                running.judge(Asks("good", token=True)),
                running.judge(Asks("broken", broken=True)),
                running.judge(Asks("twice", token=True)),
                running.judge(Asks("twice", token=True)),
                running.judge(Asks("also good", token=True)),
                return_exceptions=True,
            )
            assert [told[0], told[2], told[4]] == ["good", "twice", "also good"]
            assert isinstance(told[1], ZeroDivisionError)
            assert isinstance(told[3], StorageUnavailableError)
            assert isinstance(told[3].__cause__, sa.exc.IntegrityError)
            assert await chain_is_whole(database) == 3

    asyncio.run(run())


def test_what_one_question_uses_the_next_ones_know(database_url: str) -> None:
    """Two reports of one event are settled together: neither makes the database refuse everybody else's batch."""

    class Reports(Asks):
        def judge(self, standing: Standing | None, slot: Slot) -> Verdict[str]:
            new = not (slot.marked & {"report:a:1"})
            return replace(super().judge(standing, slot), result=str(new), marks={"report:a:1": 1e12} if new else {})

    async def run() -> None:
        transactions = 0

        class Counts(Database):
            async def settle(self, work: Callable[[sa.Connection], T]) -> T:
                nonlocal transactions
                transactions += 1
                return await super().settle(work)

        async with made(database_url):
            database = Counts(database_url, clock=SYSTEM_CLOCK)
            async with ledger(database) as running:
                questions = [Asks("before"), Reports("one"), Asks("between"), Reports("two")]
                told = await asyncio.gather(*(running.judge(question) for question in questions))
            assert await chain_is_whole(database) == 4
            await database.close()
        assert told == ["before", "True", "between", "False"]
        assert transactions == 1

    asyncio.run(run())


def test_a_change_and_its_entries_are_one(database_url: str) -> None:
    """A change that raises leaves neither rows nor entries; one that succeeds leaves both."""

    async def run() -> None:
        async def good(change: Change) -> str:
            await change.connection.execute(
                sa.insert(tables.roles).values(name="r", permissions=["a"], created_at=change.at, updated_at=change.at)
            )
            change.record(entry("role.put"))
            change.policy_changed()
            return "done"

        async def bad(change: Change) -> None:
            await good(change)
            raise LookupError

        async with made(database_url) as database, ledger(database) as running:
            with pytest.raises(LookupError):
                await running.change(bad)
            assert await chain_is_whole(database) == 0
            assert await running.change(good) == "done"
            assert await chain_is_whole(database) == 1
            assert (await rows(database, tables.head))[0].policy_version == 1

    asyncio.run(run())


@pytest.mark.req("RV9")
def test_a_decision_sees_what_another_process_changed(database_url: str) -> None:
    """Two ledgers on one database: what the one changes, the next decision of the other goes by."""

    async def run() -> None:
        async def onboard(change: Change) -> None:
            await change.connection.execute(
                sa.insert(tables.clients).values(
                    client_id="c",
                    name="c",
                    agent_type="mcp-agent",
                    platform="vm",
                    selectors={},
                    spiffe_id="spiffe://x/y",
                    state="active",
                    created_at=change.at,
                    created_by="ada",
                )
            )
            change.policy_changed()

        async def revoke(change: Change) -> None:
            await change.connection.execute(sa.update(tables.clients).values(state="revoked"))
            change.policy_changed()

        async with made(database_url) as database, ledger(database) as one:
            other_database = Database(database_url, clock=FakeClock(), timeout=60.0)
            async with ledger(other_database) as other:
                states = []
                for work in (None, onboard, revoke):
                    if work is not None:
                        await other.change(work)
                    question = Asks("q", client_id="c")
                    await one.judge(question)
                    ((standing, _),) = question.seen
                    states.append(standing and standing.state)
            await other_database.close()
        assert states == [None, "active", "revoked"]

    asyncio.run(run())


@pytest.mark.req("RU2")
def test_writers_on_several_replicas_give_one_order(database_url: str) -> None:
    """Three ledgers that write at once leave one chain without gaps, and no place in a status list twice."""

    async def run() -> None:
        async with made(database_url) as first:
            databases = [first, *(Database(database_url, clock=FakeClock(), timeout=60.0) for _ in range(2))]
            ledgers = [Ledger(database, clock=FakeClock()) for database in databases]
            for running in ledgers:
                running.start()
            await asyncio.gather(
                *(ledgers[n % 3].judge(Asks(f"q{n}", token=True)) for n in range(60)),
            )
            for running in ledgers:
                await running.close()
            assert await chain_is_whole(first) == 60
            assert len({row.status_index for row in await rows(first, tables.tokens)}) == 60
            for database in databases[1:]:
                await database.close()

    asyncio.run(run())


def test_a_caller_that_leaves_does_not_undo_a_change(database_url: str) -> None:
    """A cancelled caller's change is made all the same, whole, and the ledger goes on."""

    async def run() -> None:
        entered, go_on = asyncio.Event(), asyncio.Event()

        async def slow(change: Change) -> None:
            entered.set()
            await go_on.wait()
            change.record(entry("client.revoke"))

        async with made(database_url) as database, ledger(database) as running:
            caller = asyncio.create_task(running.change(slow))
            await entered.wait()
            caller.cancel()
            go_on.set()
            assert await running.judge(Asks("next")) == "next"
            assert await chain_is_whole(database) == 2

    asyncio.run(run())


@pytest.mark.req("RU1")
def test_without_a_database_there_is_no_decision() -> None:
    """When the entry cannot be made durable, the caller gets an error and no answer."""

    async def run() -> None:
        database = Database("postgresql://nobody:x@127.0.0.1:1/none", clock=FakeClock(), timeout=1.0)
        async with ledger(database, clock=FakeClock()) as running:
            question = Asks("q")
            with pytest.raises(StorageUnavailableError):
                await running.judge(question)
            assert question.seen == []
        await database.close()

    asyncio.run(run())


def test_a_closed_ledger_takes_nothing(database_url: str) -> None:
    """What waits when it is closed is settled; what comes later is refused, and never lost in silence."""

    async def run() -> None:
        async with made(database_url) as database:
            running = Ledger(database, clock=FakeClock())
            running.start()
            waiting = [asyncio.create_task(running.judge(Asks(f"q{n}"))) for n in range(5)]
            await asyncio.sleep(0)
            await running.close()
            assert await asyncio.gather(*waiting) == [f"q{n}" for n in range(5)]
            with pytest.raises(StorageUnavailableError):
                await running.judge(Asks("late"))
            assert await chain_is_whole(database) == 5

    asyncio.run(run())


def test_without_an_active_key_nothing_is_decided(database_url: str) -> None:
    """A database whose signing key is gone refuses, and makes no key of its own."""

    async def run() -> None:
        async with made(database_url) as database, ledger(database) as running:
            await database.write(lambda connection: connection.execute(sa.delete(tables.signing_keys)))
            with pytest.raises(StorageUnavailableError, match="no signing key"):
                await running.judge(Asks("q"))
            assert await rows(database, tables.audit) == []

    asyncio.run(run())


def test_who_has_gone_is_not_decided_about(database_url: str) -> None:
    """A question whose caller was cancelled while it waited leaves no entry: a storm of them costs nothing."""

    async def run() -> None:
        entered, go_on = asyncio.Event(), asyncio.Event()

        async def slow(change: Change) -> None:
            entered.set()
            await go_on.wait()

        async with made(database_url) as database, ledger(database) as running:
            change = asyncio.create_task(running.change(slow))
            await entered.wait()
            gone = [asyncio.create_task(running.judge(Asks(f"gone-{n}"))) for n in range(5)]
            stays = asyncio.create_task(running.judge(Asks("stays")))
            await asyncio.sleep(0)
            for task in gone:
                task.cancel()
            go_on.set()
            await change
            assert await stays == "stays"
            assert await chain_is_whole(database) == 1

    asyncio.run(run())


def test_a_crowd_of_questions_does_not_keep_a_change_waiting(database_url: str) -> None:
    """Decisions and changes take turns: a change goes before the second batch of the crowd that came first."""

    async def run() -> None:
        async def work(change: Change) -> None:
            change.record(entry("client.revoke"))

        async with made(database_url) as database, ledger(database) as running:
            crowd = [asyncio.create_task(running.judge(Asks(f"q{n}"))) for n in range(600)]
            await asyncio.sleep(0)
            await running.change(work)
            await asyncio.gather(*crowd)
            actions = [row.action for row in await rows(database, tables.audit)]
            assert actions.index("client.revoke") <= 256

    asyncio.run(run())


def test_who_counts_is_told_what_is_durable_and_harms_nothing(database_url: str) -> None:
    """Entries, questions and tokens of each transaction; of what failed nothing. A fault of theirs harms nobody."""
    told: list[tuple[list[str], int, int]] = []

    class Counts(Observer):
        def settled(self, entries: Sequence[Entry], *, asked: int, issued: int, seconds: float) -> None:
            told.append(([entry.action for entry in entries], asked, issued))
            raise OSError("no space left on device")

    async def run() -> None:
        async def work(change: Change) -> None:
            change.record(entry("client.revoke"))

        async def fails(change: Change) -> None:
            change.record(entry("client.revoke"))
            raise ZeroDivisionError

        async with made(database_url) as database:
            running = Ledger(database, clock=SYSTEM_CLOCK, observer=Counts())
            running.start()
            questions = (Asks("a", token=True), Asks("b"), Asks("c", broken=True))
            await asyncio.gather(*(running.judge(question) for question in questions), return_exceptions=True)
            await running.change(work)
            with pytest.raises(ZeroDivisionError):
                await running.change(fails)
            assert running.is_running
            assert running.waiting == 0
            await running.close()
        assert told == [(["token.issue", "token.issue"], 3, 1), (["client.revoke"], 0, 0)]

    asyncio.run(run())
