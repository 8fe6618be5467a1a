"""How many who wait at once share one write: what comes in while one is under way goes into the next one together.

Whoever hands something over waits for it, and learns what became of it. What was handed over is written, also if they
no longer wait. It knows nothing of files and of requests.
"""

from __future__ import annotations

import asyncio
import math
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Final, TypeAlias

from authsec_core._clock import SYSTEM_CLOCK, Clock
from authsec_core._fork import renew_after_fork
from authsec_fastapi.errors import AuditUnavailableError

__all__ = ["Grouped", "Outcome", "Patience"]

Outcome: TypeAlias = "BaseException | None"
"""What became of one of those that were written together: None is good."""

_Item: TypeAlias = "tuple[bytes, Future[None]]"
_MOST_PASSED: Final = 10  # writes in a row that have no room for what can wait


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """How seldom there is a write of nothing but what can wait.

    Attributes:
        pause: Seconds from one to the next, where there were many.
        burst: How many there may be without a pause.
    """

    pause: float
    burst: int


class Grouped:
    """Writes on a thread of its own, which lives for as long as there is something to write. Thread- and loop-safe.

    Args:
        write: Writes some, and returns what became of each, or raises what became of all.
        most: How many it takes at once.
        largest: How many bytes it takes at once, unless it is one.
        waiting: How many may wait: at least two. Of those that can wait, twice as many as go into one write.
        patience: None makes no difference between what can wait and the rest.
    """

    def __init__(
        self,
        write: Callable[[Sequence[bytes]], Sequence[Outcome]],
        *,
        most: int,
        largest: int,
        waiting: int,
        patience: Patience | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        self._write = write
        self._most, self._largest, self._waiting = most, largest, waiting
        self._patience = patience
        self._clock = clock
        self._next_at = -math.inf  # from when on there may be a write of nothing but what can wait
        self.after_fork()
        renew_after_fork(self)

    def after_fork(self) -> None:
        """Leave the parent what waits there: nobody waits for it here."""
        self._queue: deque[_Item] = deque()
        self._patient: deque[_Item] = deque()
        self._passed = 0  # writes since the last one that had room for what can wait, if there is any
        # Guards both queues, and whether the thread is to look at them again; notified of what cannot wait.
        self._changed = threading.Condition()
        self._is_writing = False

    def write(self, item: bytes, *, yields: bool = False, patient: bool = False) -> None:
        """Return once it is written.

        Args:
            yields: It leaves half of the places to what does not.
            patient: It can wait: it goes behind the others into the same write, or with its like once there may be one.
                Where the others never leave room, its turn comes all the same.

        Raises:
            AuditUnavailableError: It is not.
        """
        _settle(self._submit(item, yields, patient).exception())

    async def awrite(self, item: bytes, *, yields: bool = False, patient: bool = False) -> None:
        """Do what `write` does, without blocking the loop."""
        future = self._submit(item, yields, patient)
        waiter = asyncio.wrap_future(future)
        waiter.add_done_callback(_look_at)
        await asyncio.wait({waiter})  # which does not cancel it together with who waits
        _settle(future.exception())

    def _submit(self, item: bytes, yields: bool, patient: bool) -> Future[None]:
        future: Future[None] = Future()
        waits = patient and self._patience is not None
        queue, places = (self._patient, 2 * self._most) if waits else (self._queue, self._waiting)
        with self._changed:
            if len(queue) >= (places // 2 if yields and not waits else places):
                raise AuditUnavailableError("Too many events wait to be put on record.")
            queue.append((item, future))
            if not self._is_writing:
                self._start(queue)
            elif not waits:
                self._changed.notify()
        return future

    def _start(self, queue: deque[_Item]) -> None:
        try:
            # Not a daemon: what was handed over is written before the process ends.
            threading.Thread(target=self._run, name="authsec-audit", daemon=False).start()
        except RuntimeError as exc:  # the process ends, or has no thread left
            queue.pop()
            raise AuditUnavailableError("No thread can be had that puts events on record.") from exc
        self._is_writing = True

    def _run(self) -> None:
        while batch := self._next():
            try:
                outcomes = self._write([item for item, _ in batch])
            except BaseException as exc:  # noqa: BLE001 -- whatever it is, whoever waits has to be told
                outcomes = [exc] * len(batch)
            for (_, future), outcome in zip(batch, outcomes, strict=True):
                if outcome is None:
                    future.set_result(None)
                else:
                    future.set_exception(outcome)

    def _next(self) -> list[_Item]:
        with self._changed:
            if self._patient and not self._queue:
                self._pause()
            waiting = len(self._patient)
            if self._passed < _MOST_PASSED:
                batch = self._taken(self._queue, self._patient)
            else:
                batch = self._taken(self._patient, self._queue)
            self._passed = self._passed + 1 if len(self._patient) == waiting > 0 else 0
            self._is_writing = bool(batch)
            return batch

    def _taken(self, first: deque[_Item], then: deque[_Item]) -> list[_Item]:
        batch: list[_Item] = []
        size = 0
        while (queue := first or then) and len(batch) < self._most:
            size += len(queue[0][0])
            if batch and size > self._largest:
                break
            batch.append(queue.popleft())
        return batch

    def _pause(self) -> None:
        """Wait until there may be a write of nothing but what can wait, or something comes that cannot."""
        assert self._patience is not None
        if not self._changed.wait_for(lambda: bool(self._queue), self._next_at - self._clock.steady()):
            pause, now = self._patience.pause, self._clock.steady()
            self._next_at = max(self._next_at, now - self._patience.burst * pause) + pause


def _look_at(waiter: asyncio.Future[None]) -> None:
    if not waiter.cancelled():
        waiter.exception()  # else asyncio complains of an error that somebody who has gone does not fetch


def _settle(error: BaseException | None) -> None:
    """Raise an error of one's own: several wait for the same one, each with a traceback of theirs."""
    if isinstance(error, AuditUnavailableError):
        raise AuditUnavailableError(error.message) from error
    if error is not None:
        raise AuditUnavailableError(f"The event could not be put on record: {type(error).__name__}.") from error
