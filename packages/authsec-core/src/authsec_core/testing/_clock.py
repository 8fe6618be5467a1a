"""A clock that stands still until a test moves it. It reads no real time, and to sleep by it takes none.

Nobody is woken when the time comes: a test that needs two threads to meet uses an event or a barrier.
"""

from __future__ import annotations

import asyncio
import threading

__all__ = ["FakeClock"]


class FakeClock:
    """A `Clock` whose two hands a test moves. Thread-safe.

    Args:
        wall: Epoch seconds to start at.
        steady: The steady reading to start at; only its differences mean something.
        chance: What `chance` always returns.

    >>> clock = FakeClock(wall=1_000.0, steady=5.0)
    >>> clock.advance(2.5)
    >>> clock.wall(), clock.steady()
    (1002.5, 7.5)
    >>> clock.jump(-3600)
    >>> clock.wall(), clock.steady()
    (-2597.5, 7.5)
    """

    def __init__(self, *, wall: float = 1_800_000_000.0, steady: float = 1_000.0, chance: float = 0.5) -> None:
        self._lock = threading.Lock()  # guards both hands and the list
        self._slept: list[float] = []
        self._chance = chance
        self._wall = float(wall)
        self._steady = float(steady)

    def wall(self) -> float:
        """Return the epoch time in seconds."""
        with self._lock:
            return self._wall

    def steady(self) -> float:
        """Return the steady reading in seconds."""
        with self._lock:
            return self._steady

    def sleep(self, seconds: float) -> None:
        """Return at once, having moved both hands as a sleeper would find them."""
        self.advance(seconds)
        with self._lock:
            self._slept.append(seconds)

    async def asleep(self, seconds: float) -> None:
        """Do as `sleep` does, and let the other tasks of the loop have a turn."""
        self.sleep(seconds)
        await asyncio.sleep(0)

    def chance(self) -> float:
        """Return the number that the clock was made with."""
        return self._chance

    @property
    def slept(self) -> tuple[float, ...]:
        """How long each sleep was to be, in seconds."""
        with self._lock:
            return tuple(self._slept)

    def advance(self, seconds: float) -> None:
        """Let time pass: both hands move on.

        Raises:
            ValueError: The number is negative. Time does not run backwards; `jump` sets the wall clock.
        """
        if seconds < 0:
            raise ValueError("time does not run backwards: use jump() to set the wall clock")
        with self._lock:
            self._wall += seconds
            self._steady += seconds

    def jump(self, seconds: float) -> None:
        """Set the wall clock forward, or back with a negative number, as NTP or a person does. No time passes."""
        with self._lock:
            self._wall += seconds
