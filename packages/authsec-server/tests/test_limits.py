"""How many at once, how many in time, who pays, and what a replica learns of the others."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any, get_args

import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from server_support import made, rows

from authsec_core.testing import FakeClock
from authsec_server.db import tables
from authsec_server.db.engine import Database
from authsec_server.errors import RateLimitedError, RefusalCode, RefusedError
from authsec_server.limits.addresses import neighbourhood
from authsec_server.limits.buckets import BURST, Buckets, Rate
from authsec_server.limits.service import Limits
from authsec_server.limits.shared import SharedLimits
from authsec_server.refusals import REFUSALS

HOME = "192.0.2.1"
AGENT = "7b1c3f5e-2a4d-4c6b-8e9f-0a1b2c3d4e5f"


def taken(buckets: Buckets, now: float, *, most: int = 10_000, name: str = "x") -> int:
    """Take out as much as there is, and return how much that was."""
    for count in range(most):
        if buckets.wait(name, now):
            return count
        buckets.charge(name, now)
    return most


@pytest.mark.req("RA9")
@pytest.mark.parametrize(("rate", "at_once"), [(50.0, 500), (5.0, 50), (0.3, 3), (0.1, 1), (0.05, 1), (0.001, 1)])
def test_ten_seconds_worth_may_come_at_once(rate: float, at_once: int) -> None:
    """But at least one, or a slow rate would be none; and again when the window is over."""
    buckets, window = Buckets(Rate(per_second=rate)), max(BURST, 1 / rate)
    assert taken(buckets, 1000.0) == at_once
    assert taken(buckets, 1000.0) == 0
    assert taken(buckets, 1000.0 + window) == at_once


@pytest.mark.req("RA9")
def test_waiting_as_long_as_told_is_enough() -> None:
    """The wait is whole seconds, at least one, and after it there is room; a moment before half of one there is not."""
    buckets = Buckets(Rate(per_second=5))
    taken(buckets, 0.0)
    assert [buckets.wait("x", now) for now in (0.0, 0.19, 0.2)] == [1, 1, 0]
    for _ in range(50):  # all of them were under way when the first was refused
        buckets.charge("x", 0.0)
    wait = buckets.wait("x", 0.0)
    assert wait == 11  # what was too much is not forgiven
    assert (buckets.wait("x", wait - 0.81), buckets.wait("x", float(wait))) == (1, 0)


@given(
    rate=st.floats(0.01, 1000),
    pauses=st.lists(st.floats(0, 30), min_size=1, max_size=200),
)
def test_over_any_time_the_rate_holds(rate: float, pauses: list[float]) -> None:
    """Never more than the burst and what the time since has made good, by a count kept apart."""
    buckets, now, let_in = Buckets(Rate(per_second=rate)), 0.0, []
    for pause in pauses:
        now += pause
        if not buckets.wait("x", now):
            buckets.charge("x", now)
            let_in.append(now)
    most = max(1.0, BURST * rate)
    for first, since in enumerate(let_in):
        for count, until in enumerate(let_in[first:], 1):
            assert count <= most + (until - since) * rate + 1e-3 * rate + 1e-6


def test_no_limit_keeps_nothing() -> None:
    """A rate of 0 limits nobody, and remembers nobody."""
    buckets = Buckets(Rate(per_second=0), notes=True)
    assert taken(buckets, 0.0) == 10_000
    assert (len(buckets), buckets.take_charges(10)) == (0, {})


@pytest.mark.req("RA9")
def test_strangers_do_not_fill_the_memory() -> None:
    """There is a most; who came last is known, and who was not seen for longest is forgotten."""
    buckets = Buckets(Rate(per_second=0.1), notes=True, most=100)
    for number in range(1000):
        buckets.charge(str(number), 0.0)
        buckets.charge("often", 0.0)
    assert len(buckets) == 100
    assert buckets.wait("999", 0.0)
    assert not buckets.wait("0", 0.0)
    assert buckets.wait("often", 0.0)
    assert len(buckets.take_charges(1000)) == 100


def limits(clock: FakeClock, **given: Any) -> Limits:
    """One client token a second, and one refusal in ten."""
    return Limits(**{"client_rate": 1.0, "refusal_rate": 0.1, "clock": clock, **given})


@pytest.mark.req("RA9")
def test_who_is_refused_pays_and_nobody_else() -> None:
    """An address that was refused waits; others do not, and the client that it claimed to be does not either."""
    clock = FakeClock()
    one = limits(clock)
    one.enter(HOME, AGENT)
    one.judged(RefusedError("proof_wrong", "no"), address=HOME, client_id=AGENT)
    with pytest.raises(RateLimitedError) as caught:
        one.enter(HOME, AGENT)
    assert caught.value.retry_after == 10
    one.enter("192.0.2.2", AGENT)
    one.enter(None, AGENT)
    clock.advance(10)
    one.enter(HOME, AGENT)


@pytest.mark.req("RA9")
def test_a_client_pays_once_it_is_proven() -> None:
    """For tokens, and for what is refused to it, wherever it comes from; its neighbours at the address go on."""
    clock = FakeClock()
    one = limits(clock)
    for outcome in ["a token"] * 5 + [RefusedError("not_covered", "no")] * 5:
        one.enter(HOME, AGENT)
        one.judged(outcome, address=HOME, client_id=AGENT)
    for address in (HOME, "192.0.2.2", None):
        with pytest.raises(RateLimitedError, match="client"):
            one.enter(address, AGENT)
    one.enter(HOME, "another")
    one.enter(HOME)
    clock.advance(1)
    one.enter(HOME, AGENT)


@pytest.mark.parametrize("code", get_args(RefusalCode))
def test_every_refusal_has_somebody_who_pays(code: RefusalCode) -> None:
    """Before the proof was good it is a stranger's: 400, 401 and an unknown client. The rest is the agent's."""
    one = limits(FakeClock())
    one.judged(RefusedError(code, "no"), address=HOME, client_id=AGENT)
    stranger = REFUSALS[code] in (400, 401) or code == "client_unknown"
    stranger = stranger and code not in ("subject_rejected", "target_rejected")
    assert (len(one.addresses), len(one.clients)) == ((1, 0) if stranger else (0, 1))


@pytest.mark.req("RA9")
def test_an_ipv6_connection_is_one_address() -> None:
    """It has 2^64 of them; the next connection's are others. IPv4 is IPv4, however it is written."""
    one = limits(FakeClock())
    one.refused("2001:db8:1:2::1")
    for address in ("2001:db8:1:2::2", "2001:db8:1:2:ffff:ffff:ffff:ffff", "2001:db8:1:2::1%eth0"):
        with pytest.raises(RateLimitedError):
            one.enter(address)
    one.enter("2001:db8:1:3::1")
    one.refused("::ffff:192.0.2.9")
    with pytest.raises(RateLimitedError):
        one.enter("192.0.2.9")
    assert neighbourhood("not:an:address") == "not:an:address"


@pytest.mark.req("RA9")
def test_a_flood_is_counted_and_hardly_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Each request that has to wait is counted, and one line a second says so, without saying whose it is."""
    clock = FakeClock()
    told: list[str] = []
    one = limits(clock, limited=told.append)
    one.refused(HOME)
    with caplog.at_level(logging.DEBUG, "authsec"):
        for _ in range(100):
            with pytest.raises(RateLimitedError):
                one.enter(HOME)
        clock.advance(1)
        with pytest.raises(RateLimitedError):
            one.enter(HOME)
    assert told == ["address"] * 101
    assert [record.getMessage() for record in caplog.records] == ["requests of one address have to wait"] * 2


# Replicas that count together


class Replica:
    """One server's limits, on a database that all share."""

    def __init__(self, database: Database, clock: FakeClock) -> None:
        self.limits = limits(clock, notes=True, client_rate=0.01)
        self.shared = SharedLimits(database, self.limits, clock=clock)

    def may(self, address: str = HOME) -> bool:
        """Whether it would let this address ask."""
        try:
            self.limits.enter(address)
        except RateLimitedError:
            return False
        return True


def together(
    database_url: str, test: Callable[[Replica, Replica, Database, FakeClock], Coroutine[Any, Any, None]]
) -> None:
    """Run a test with two replicas, which have connections of their own."""

    async def run() -> None:
        clock = FakeClock()
        async with AsyncExitStack() as stack:
            first = await stack.enter_async_context(made(database_url, clock=clock))
            second = Database(database_url, clock=clock, timeout=60.0)
            stack.push_async_callback(second.close)
            await test(Replica(first, clock), Replica(second, clock), first, clock)

    asyncio.run(run())


@pytest.mark.req("RA9")
def test_replicas_learn_of_each_other(database_url: str) -> None:
    """What one has charged, the other knows after both have told; and both add to the same bucket."""

    async def test(one: Replica, two: Replica, database: Database, clock: FakeClock) -> None:
        for _ in range(3):
            one.limits.refused(HOME)
        two.limits.refused(HOME)
        await one.shared.exchange()
        await two.shared.exchange()
        now = clock.steady()
        assert 11 <= one.limits.addresses.wait(HOME, now) <= 30
        assert 20 < two.limits.addresses.wait(HOME, now) <= 40
        one.limits.refused(HOME)
        await one.shared.exchange()
        assert 35 < one.limits.addresses.wait(HOME, now) <= 50
        assert len(await rows(database, tables.rate_limits)) == 1
        one.limits.proven(AGENT)
        await one.shared.exchange()
        two.limits.proven(AGENT)
        await two.shared.exchange()
        with pytest.raises(RateLimitedError, match="client"):
            two.limits.enter("192.0.2.77", AGENT)
        assert two.limits.clients.wait(AGENT, clock.steady()) > 100

    together(database_url, test)


def test_who_charged_nothing_asks_nothing(database_url: str) -> None:
    """A quiet replica costs the database nothing: not even a transaction."""

    async def test(one: Replica, two: Replica, database: Database, clock: FakeClock) -> None:
        await one.shared.exchange()
        two.limits.refused(HOME)
        await two.shared.exchange()
        before = await rows(database, tables.rate_limits)
        await two.shared.exchange()
        assert await rows(database, tables.rate_limits) == before
        assert len(before) == 1

    together(database_url, test)


def test_a_flood_of_addresses_is_told_in_pieces(database_url: str) -> None:
    """A thousand at a time, so that no statement is too long; none is lost."""

    async def test(one: Replica, two: Replica, database: Database, clock: FakeClock) -> None:
        for number in range(2100):
            one.limits.refused(f"10.0.{number // 256}.{number % 256}")
        counts = []
        for _ in range(4):
            await one.shared.exchange()
            counts.append(len(await rows(database, tables.rate_limits)))
        assert counts == [1000, 2000, 2100, 2100]

    together(database_url, test)


@pytest.mark.req("RA9")
def test_without_a_database_each_counts_for_itself(caplog: pytest.LogCaptureFixture) -> None:
    """And what was charged meanwhile is told when it is back."""

    async def test() -> None:
        clock = FakeClock()
        database = Database("postgresql://nobody:x@127.0.0.1:1/none", clock=clock, timeout=1.0)
        one = Replica(database, clock)
        one.limits.refused(HOME)
        await one.shared.exchange()
        assert not one.may()
        assert one.limits.addresses.take_charges(10) == {HOME: 10.0}
        await database.close()

    asyncio.run(test())
    assert "each counts for itself" in caplog.text


def test_a_calendar_that_was_wrong_locks_nobody_out(database_url: str) -> None:
    """A bucket that would be full in a year, because a clock was a year ahead, is soon what it ought to be."""

    async def test(one: Replica, two: Replica, database: Database, clock: FakeClock) -> None:
        one.limits.refused(HOME)
        await one.shared.exchange()

        async def spoil(connection: Any) -> None:
            await connection.execute(sa.update(tables.rate_limits).values(full_at=9e9))

        await database.write(spoil)
        one.limits.refused(HOME)
        await one.shared.exchange()
        assert one.limits.addresses.wait(HOME, clock.steady()) <= 611

    together(database_url, test)


def test_full_buckets_are_forgotten(database_url: str) -> None:
    """A minute after they are full; what still owes something stays."""

    async def test(one: Replica, two: Replica, database: Database, clock: FakeClock) -> None:
        for address in ("192.0.2.1", "192.0.2.2", "192.0.2.3"):
            one.limits.refused(address)
        await one.shared.exchange()
        assert await one.shared.purge() == 0

        async def age(connection: Any) -> None:
            old = sa.update(tables.rate_limits).where(tables.rate_limits.c.bucket != "address:192.0.2.3")
            await connection.execute(old.values(full_at=1000.0))

        await database.write(age)
        assert await one.shared.purge() == 2
        assert [row.bucket for row in await rows(database, tables.rate_limits)] == ["address:192.0.2.3"]

    together(database_url, test)


def test_many_replicas_do_not_stand_in_each_others_way(database_url: str) -> None:
    """All of them tell of the same buckets at once: each charge counts, and no two wait for each other."""

    async def test(one: Replica, two: Replica, database: Database, clock: FakeClock) -> None:
        for number in range(300):
            one.limits.refused(f"10.0.0.{number % 100}")
            two.limits.refused(f"10.0.0.{99 - number % 100}")
        await asyncio.gather(one.shared.exchange(), two.shared.exchange(), two.shared.purge())
        owed = [row.full_at for row in await rows(database, tables.rate_limits)]
        assert len(owed) == 100
        assert max(owed) - min(owed) < 20

    together(database_url, test)
