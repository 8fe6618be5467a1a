"""The only reader of time, the only sleeper and the only source of chance. Everything else is handed a `Clock`.

Two hands, because they answer different questions: `wall` is what the calendar says and may jump; `steady` never goes
back and, where the platform can, counts the time that a machine sleeps, so that a laptop does not wake up trusting an
old token.
"""

from __future__ import annotations

import random
import time
from functools import partial
from typing import Protocol

__all__ = ["SYSTEM_CLOCK", "Clock"]


class Clock(Protocol):
    """What the SDK needs of time, in float seconds. Thread-safe and loop-safe."""

    def wall(self) -> float:
        """Return the epoch time: for `exp`, `iat` and for people."""
        ...

    def steady(self) -> float:
        """Return a reading that only differences of mean something: for lifetimes and deadlines."""
        ...

    def sleep(self, seconds: float) -> None:
        """Block this thread."""
        ...

    async def asleep(self, seconds: float) -> None:
        """Suspend this task."""
        ...

    def chance(self) -> float:
        """Return a number in [0, 1), so that many clients do not retry in step."""
        ...


class _SystemClock:
    # A C function and no method of ours around it: the path of a held token consists of little else.
    steady = staticmethod(
        partial(time.clock_gettime, time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic
    )

    def wall(self) -> float:
        return time.time()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)

    async def asleep(self, seconds: float) -> None:
        import asyncio

        await asyncio.sleep(seconds)

    def chance(self) -> float:
        return random.SystemRandom().random()


SYSTEM_CLOCK: Clock = _SystemClock()
