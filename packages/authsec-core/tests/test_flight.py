"""One request in the air, for which threads and event loops wait side by side."""

from __future__ import annotations

import asyncio
import logging
import threading
from concurrent.futures import InvalidStateError, ThreadPoolExecutor

import pytest
from core_support import PATIENT, Joined, made_token

from authsec_core._flight import ABANDONED, LOST, Flight
from authsec_core._freshness import Lease
from authsec_core.testing import FakeClock

LEASE = Lease(made_token(FakeClock()), margin=60)


@pytest.mark.req("RS5")
def test_threads_and_loops_get_the_same_landing(joined: Joined) -> None:
    """Whoever waits, on whichever thread or loop, gets the very same lease."""
    flight = Flight()

    def loop() -> list[object]:
        async def wait() -> list[object]:
            return list(await asyncio.gather(*(flight.wait_async(PATIENT) for _ in range(3))))

        return asyncio.run(wait())

    with ThreadPoolExecutor(6) as pool:
        loops = [pool.submit(loop) for _ in range(3)]
        threads = [pool.submit(flight.wait, PATIENT) for _ in range(3)]
        joined.until(12)
        flight.land(LEASE)
        landings = [one for each in loops for one in each.result(PATIENT)] + [each.result(PATIENT) for each in threads]
    assert len(landings) == 12
    assert all(landing is LEASE for landing in landings)


def test_a_flight_that_has_landed_is_not_waited_for() -> None:
    """The landing is there at once, also without any time."""
    flight = Flight()
    flight.land(LEASE)
    assert flight.wait(0) is LEASE
    assert asyncio.run(flight.wait_async(0)) is LEASE


@pytest.mark.req("RS5")
def test_a_flight_that_does_not_land_is_lost() -> None:
    """Nobody waits for ever: the leader's loop may have been stopped and left lying."""
    flight = Flight()
    assert flight.wait(0.01) == LOST
    assert asyncio.run(flight.wait_async(0.01)) == LOST


@pytest.mark.req("RS5")
def test_a_cancelled_waiter_cancels_nobody_else(joined: Joined) -> None:
    """Neither the leader's slot, nor the waiters of its own loop, nor threads."""
    flight = Flight()

    async def main() -> tuple[object, object]:
        cancelled, other = (asyncio.create_task(flight.wait_async(PATIENT)) for _ in range(2))
        thread = asyncio.create_task(asyncio.to_thread(flight.wait, PATIENT))
        await asyncio.to_thread(joined.until, 3)
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        flight.land(LEASE)
        return await other, await thread

    assert asyncio.run(main()) == (LEASE, LEASE)


@pytest.mark.req("RS5")
def test_a_waiter_that_is_cancelled_while_the_flight_lands_is_cancelled(joined: Joined) -> None:
    """A landing in the same turn of the loop does not swallow the cancellation."""
    flight = Flight()

    async def main() -> None:
        waiter = asyncio.create_task(flight.wait_async(PATIENT))
        await asyncio.to_thread(joined.until, 1)
        flight.land(LEASE)
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter

    asyncio.run(main())


@pytest.mark.req("RS5")
def test_a_waiter_whose_loop_has_ended_is_no_trouble(caplog: pytest.LogCaptureFixture, joined: Joined) -> None:
    """Landing neither raises nor logs an error where nobody waits any more."""
    flight = Flight()
    loop = asyncio.new_event_loop()
    waiter = loop.create_task(flight.wait_async(PATIENT))
    loop.run_until_complete(asyncio.sleep(0))
    joined.until(1)
    loop.close()
    with caplog.at_level(logging.ERROR):
        flight.land(LEASE)
    assert caplog.records == []
    assert not waiter.done()
    waiter._log_destroy_pending = False  # type: ignore[attr-defined] # what asyncio says of it is not what we test


def test_it_lands_once() -> None:
    """A second landing is a mistake of ours and is not hidden."""
    flight = Flight()
    flight.land(ABANDONED)
    with pytest.raises(InvalidStateError):
        flight.land(LEASE)
    assert flight.wait(0) == ABANDONED


def test_it_knows_the_thread_of_its_leader() -> None:
    """A sync call on that thread must not wait for it."""
    assert Flight().leader == threading.get_ident()
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(Flight).result().leader != threading.get_ident()
