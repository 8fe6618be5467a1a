"""What a search of the audit finds, in which order, and by which index."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
import sqlalchemy as sa
from audit_support import START, entry, row
from hypothesis import given
from hypothesis import strategies as st
from server_support import made

from authsec_core.testing import FakeClock
from authsec_server.audit import log as audit_log
from authsec_server.audit.chain import GENESIS, chained
from authsec_server.audit.integrity import AuditRow
from authsec_server.audit.log import AuditLog, Search
from authsec_server.db import tables
from authsec_server.db.engine import Database

LATE = START + 2 * 86400.0
ACTIONS = ("token.issue", "client.revoke", "role.put")


def audit(length: int, at: Callable[[int], float] = lambda seq: START + seq) -> list[AuditRow]:
    """Return entries of three agents, three actions and both decisions."""
    rows: list[AuditRow] = []
    for seq in range(1, length + 1):
        said = entry(seq, client_id=f"client-{seq % 3}")
        said = type(said)(
            action=ACTIONS[seq % len(ACTIONS) if seq % 5 else 0],
            decision="deny" if seq % 7 == 0 else "allow",
            caller=said.caller,
            client_id=said.client_id,
            jti=said.jti,
        )
        rows.append(row(seq, rows[-1].hash if rows else GENESIS, said, at(seq)))
    return rows


def with_log(
    url: str, clock: FakeClock, rows: Sequence[AuditRow], then: Callable[[Database, AuditLog], Awaitable[None]]
) -> None:
    """Lend a database that has these rows."""

    async def run() -> None:
        async with made(url, clock=clock) as database:
            values = [found._asdict() for found in rows]
            await database.write(lambda connection: connection.execute(sa.insert(tables.audit), values))
            await then(database, AuditLog(database))

    asyncio.run(run())


def expected(rows: Sequence[AuditRow], search: Search) -> list[int]:
    """Return what a search finds, the slow way."""
    found = [
        one.seq
        for one in rows
        if (search.client_id is None or one.client_id == search.client_id)
        and (search.action is None or one.action == search.action)
        and (search.decision is None or one.decision == search.decision)
        and (search.jti is None or one.jti == search.jti)
        and (search.since is None or one.at >= search.since)
        and (search.until is None or one.at < search.until)
    ]
    return found if search.order == "oldest" else found[::-1]


async def paged(log: AuditLog, search: Search, limit: int) -> list[int]:
    """Read page by page."""
    found: list[int] = []
    while page := await log.page(search, limit=limit):
        found += [one.seq for one in page]
        search = Search(**{**{name: getattr(search, name) for name in search.__slots__}, "after": found[-1]})
    return found


searches = st.builds(
    Search,
    client_id=st.none() | st.sampled_from(["client-0", "client-1", "nobody"]),
    action=st.none() | st.sampled_from(ACTIONS),
    decision=st.none() | st.sampled_from(["allow", "deny"]),
    jti=st.none() | st.sampled_from(["jti-5", "jti-0"]),
    since=st.none() | st.integers(0, 70).map(lambda seconds: START + seconds),
    until=st.none() | st.integers(0, 70).map(lambda seconds: START + seconds),
    order=st.sampled_from(["newest", "oldest"]),
)


def test_a_search_finds_what_it_should_in_the_order_of_the_chain(
    database_url: str, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By agent, action, decision, token and time, in pages of any size and as a stream; clocks may have gone back."""
    monkeypatch.setattr(audit_log, "_STREAMED", 7)
    rows = audit(60, at=lambda seq: START + seq - (30 if 20 < seq < 40 else 0))

    async def then(_: Database, log: AuditLog) -> None:
        cases: list[Search] = []

        @given(searches)
        def collect(search: Search) -> None:
            cases.append(search)

        collect()
        for search in cases:
            wanted = expected(rows, search)
            assert await paged(log, search, 7) == wanted, search
            assert [one.seq async for one in log.stream(search)] == wanted, search

    with_log(database_url, clock, rows, then)


def test_clocks_that_differ_hide_nothing(database_url: str, clock: FakeClock) -> None:
    """Entries that a clock dated some minutes back or ahead are found by the time that they bear."""
    rows = audit(200, at=lambda seq: START + seq * 60 - (270 if seq % 11 == 0 else 0) + (20 if seq % 13 == 0 else 0))

    async def then(_: Database, log: AuditLog) -> None:
        for hour in range(0, 34, 3):
            search = Search(since=START + hour * 360, until=START + hour * 360 + 540)
            assert await paged(log, search, 50) == expected(rows, search)

    with_log(database_url, clock, rows, then)


@pytest.mark.parametrize(
    ("search", "index"),
    [
        (Search(), "sqlite_autoindex_audit_1"),
        (Search(after=5_000_000), "sqlite_autoindex_audit_1"),
        (Search(order="oldest", after=5), "sqlite_autoindex_audit_1"),
        (Search(client_id="client-1"), "ix_audit_client_id_seq"),
        (Search(action="client.revoke"), "ix_audit_action_seq"),
        (Search(decision="deny"), "ix_audit_decision_seq"),
        (Search(client_id="client-1", since=LATE, until=LATE + 9), "ix_audit_client_id_seq"),
        (Search(action="client.revoke", since=LATE, until=LATE + 9, after=7), "ix_audit_action_seq"),
        (Search(decision="deny", since=LATE), "ix_audit_decision_seq"),
        (Search(since=LATE, until=LATE + 9), "sqlite_autoindex_audit_1"),
        (Search(until=START + 1e6), "sqlite_autoindex_audit_1"),
    ],
)
def test_no_search_reads_or_sorts_the_whole_audit(
    tmp_path: object, clock: FakeClock, search: Search, index: str
) -> None:
    """Each query walks one index in its order; where nothing narrows it, it stops after the page."""
    statements: list[tuple[str, Any]] = []

    async def then(database: Database, log: AuditLog) -> None:
        engine = database._reader.sync_engine

        def note(_c: object, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
            if statement.startswith("SELECT"):
                statements.append((statement, parameters))

        sa.event.listen(engine, "before_cursor_execute", note)
        await log.page(search, limit=50)
        sa.event.remove(engine, "before_cursor_execute", note)
        plans = []
        async with database.read() as connection:
            for statement, parameters in statements:
                plan = await connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", parameters)
                plans.append(" | ".join(step.detail for step in plan))
        assert not any("TEMP B-TREE" in plan for plan in plans), plans
        narrow = [plan for plan in plans if "SEARCH audit" in plan]
        free = search in (Search(), Search(until=START + 1e6))  # it begins with the newest, and stops after 50
        assert len(narrow) == len(plans) - free, plans
        assert index in plans[-1], plans
        assert all("ix_audit_at" in plan for plan in plans[:-1]), plans

    with_log(f"sqlite:///{tmp_path}/authsec.db", clock, audit(60, at=lambda seq: START + seq * 7200), then)


def test_a_time_that_nothing_is_near_finds_nothing(database_url: str, clock: FakeClock) -> None:
    """Neither before the first entry nor after the last; and an empty audit has nothing at all."""

    async def then(_: Database, log: AuditLog) -> None:
        assert await log.page(Search(since=START + 1e6), limit=5) == ()
        assert await log.page(Search(until=START - 1e6), limit=5) == ()
        assert [one async for one in log.stream(Search(since=START + 1e6))] == []

    with_log(database_url, clock, audit(3), then)


def test_a_stream_ends_where_the_audit_ended_when_it_began(
    database_url: str, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Writers that are faster than the reader do not make it endless."""
    monkeypatch.setattr(audit_log, "_STREAMED", 2)
    rows = audit(20)

    async def then(database: Database, log: AuditLog) -> None:
        found = []
        late = [row._asdict() for row in rows[8:]]
        async for one in log.stream(Search(order="oldest")):
            found.append(one.seq)
            if len(found) == 1:
                await database.write(lambda connection: connection.execute(sa.insert(tables.audit), late))
        assert found == list(range(1, 9))
        assert len([one async for one in log.stream(Search())]) == 20

    with_log(database_url, clock, rows[:8], then)


def test_an_entry_can_be_checked_from_what_is_shown(database_url: str, clock: FakeClock) -> None:
    """Without its hash, its members sorted, a JSON line is what was hashed."""
    rows = audit(3)

    async def then(_: Database, log: AuditLog) -> None:
        previous = GENESIS
        async for one in log.stream(Search(order="oldest")):
            said = json.loads(one.json_line())
            digest = said.pop("hash")
            previous = chained(previous, json.dumps(said, sort_keys=True, separators=(",", ":")))
            assert digest == previous
        assert previous == rows[-1].hash

    with_log(database_url, clock, rows, then)


@pytest.mark.parametrize("text", ["not JSON", "[]", '"x"\n{"seq":1}', "[" * 100_000])
def test_an_entry_that_somebody_damaged_is_still_shown(clock: FakeClock, tmp_path: object, text: str) -> None:
    """It is marked, keeps to its line, and hides none of the others."""
    rows = audit(3)
    rows[1] = rows[1]._replace(text=text)

    async def then(_: Database, log: AuditLog) -> None:
        lines = [one.json_line() async for one in log.stream(Search(order="oldest"))]
        assert [json.loads(line)["seq"] for line in lines] == [1, 2, 3]
        assert json.loads(lines[1]) == {"seq": 2, "damaged": True, "hash": rows[1].hash}

    with_log(f"sqlite:///{tmp_path}/authsec.db", clock, rows, then)


def test_checkpoints_are_listed_from_the_newest(database_url: str, clock: FakeClock) -> None:
    """In pages that go on after the last one's entry."""

    async def then(database: Database, log: AuditLog) -> None:
        values = [{"seq": seq, "at": START, "jws": f"jws-{seq}"} for seq in (1, 5, 9)]
        await database.write(lambda connection: connection.execute(sa.insert(tables.checkpoints), values))
        assert [one.seq for one in await log.checkpoints(after=None, limit=2)] == [9, 5]
        assert [one.jws for one in await log.checkpoints(after=5, limit=2)] == ["jws-1"]

    with_log(database_url, clock, audit(1), then)
