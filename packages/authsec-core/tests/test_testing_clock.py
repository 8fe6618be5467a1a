"""The clock that tests move."""

from __future__ import annotations

import asyncio
import threading

import pytest

from authsec_core._clock import Clock
from authsec_core.testing import FakeClock


def test_it_stands_still() -> None:
    """Nothing but the test moves the clock, and its readings are floats."""
    clock: Clock = FakeClock(wall=10, steady=20)
    assert [clock.wall(), clock.wall(), clock.steady()] == [10.0, 10.0, 20.0]
    assert isinstance(clock.wall(), float)


def test_time_that_passes_moves_both_hands() -> None:
    """`advance` moves wall and steady by the same seconds."""
    clock = FakeClock(wall=10, steady=20)
    clock.advance(0.5)
    assert (clock.wall(), clock.steady()) == (10.5, 20.5)


@pytest.mark.parametrize("seconds", [3600, -3600])
def test_a_clock_that_is_set_moves_the_wall_only(seconds: float) -> None:
    """`jump` sets the wall clock, forward or back, and no time passes."""
    clock = FakeClock(wall=10_000, steady=20)
    clock.jump(seconds)
    assert (clock.wall(), clock.steady()) == (10_000 + seconds, 20)


def test_time_does_not_run_backwards() -> None:
    """A negative `advance` is a mistake in the test, and says so."""
    with pytest.raises(ValueError, match="jump"):
        FakeClock().advance(-1)


def test_to_sleep_takes_no_time_and_moves_both_hands() -> None:
    """`sleep` and `asleep` return at once; the hands and the record say how long it would have been."""
    clock = FakeClock(wall=10, steady=20)
    clock.sleep(2.0)
    asyncio.run(clock.asleep(0.5))
    assert (clock.wall(), clock.steady(), clock.slept) == (12.5, 22.5, (2.0, 0.5))


def test_other_tasks_have_a_turn_while_one_sleeps() -> None:
    """A task that sleeps by the fake clock does not starve the loop."""
    clock, order = FakeClock(), []

    async def sleeper() -> None:
        order.append("sleeps")
        await clock.asleep(60)
        order.append("wakes")

    async def other() -> None:
        order.append("other")

    async def both() -> None:
        await asyncio.gather(sleeper(), other())

    asyncio.run(both())
    assert order == ["sleeps", "other", "wakes"]


def test_chance_is_fixed() -> None:
    """What depends on chance can be predicted."""
    clock = FakeClock(chance=0.25)
    assert [clock.chance(), clock.chance()] == [0.25, 0.25]


def test_no_advance_is_lost_between_threads() -> None:
    """Threads that advance the clock at once all count."""
    clock, gate = FakeClock(wall=0, steady=0), threading.Barrier(8)

    def tick() -> None:
        gate.wait()
        for _ in range(500):
            clock.advance(1)

    threads = [threading.Thread(target=tick) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (clock.wall(), clock.steady()) == (4000, 4000)
