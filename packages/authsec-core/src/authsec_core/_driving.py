"""A flow that yields what to do and is told what happened, and the two loops that do it: for threads and coroutines.

What is asked, and what an answer means, is the flow's to say; so nothing is decided twice.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Generator, Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import TypeAlias, TypeVar

from authsec_core._clock import Clock
from authsec_core._http import Call, Failure, Reply

__all__ = ["Pause", "Steps", "drive", "drive_async", "http_date", "retry_after", "usual_pause"]

T = TypeVar("T")
_FIRST_PAUSE = 0.25  # seconds; doubles with each attempt


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait this many seconds."""

    seconds: float


Steps: TypeAlias = Generator["Call | Pause", "Reply | Failure | None", T]


def drive(steps: Steps[T], send: Callable[[Call], Reply | Failure], clock: Clock) -> T:
    """Do what the flow says, blocking, and return what it comes to. Raises what it raises."""
    outcome: Reply | Failure | None = None
    try:
        while True:
            step = steps.send(outcome)
            if isinstance(step, Pause):
                clock.sleep(step.seconds)
                outcome = None
            else:
                outcome = send(step)
    except StopIteration as done:
        result: T = done.value
        return result


async def drive_async(steps: Steps[T], send: Callable[[Call], Awaitable[Reply | Failure]], clock: Clock) -> T:
    """Do what `drive` does, without blocking the loop."""
    outcome: Reply | Failure | None = None
    try:
        while True:
            step = steps.send(outcome)
            if isinstance(step, Pause):
                await clock.asleep(step.seconds)
                outcome = None
            else:
                outcome = await send(step)
    except StopIteration as done:
        result: T = done.value
        return result


def usual_pause(attempt: int, clock: Clock) -> float:
    """Return how many seconds to wait after this attempt, counted from 0, so that many clients do not come in step."""
    return _FIRST_PAUSE * 2.0**attempt * (0.5 + clock.chance() / 2)


def retry_after(headers: Mapping[str, str], clock: Clock) -> float | None:
    """Return RFC 9110 section 10.2.3's seconds, given as such or as a date."""
    text = headers.get("Retry-After", "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    at, date = http_date(text), http_date(headers.get("Date", ""))
    now = clock.wall() if date is None else date  # its own clock, where it tells: ours may be wrong
    return None if at is None else max(0.0, at - now)


def http_date(text: str) -> float | None:
    """Return the epoch seconds of an HTTP date, or None where it is none."""
    try:
        return parsedate_to_datetime(text).timestamp()
    except (TypeError, ValueError, IndexError, OverflowError):
        return None
