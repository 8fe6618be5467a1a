"""How many who wait at once share one write: what comes in while one is under way goes into the next one together.

Whoever hands something over waits for it, and learns what became of it. What was handed over is written, also if they
no longer wait. It knows nothing of files and of requests.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import TypeAlias

from authsec_core._fork import renew_after_fork
from authsec_fastapi.errors import AuditUnavailableError

__all__ = ["Grouped", "Outcome"]

Outcome: TypeAlias = "BaseException | None"
"""What became of one of those that were written together: None is good."""


class Grouped:
    """Writes on a thread of its own, which lives for as long as there is something to write. Thread- and loop-safe.

    Args:
        write: Writes some, and returns what became of each, or raises what became of all.
        most: How many it takes at once.
        largest: How many bytes it takes at once, unless it is one.
        waiting: How many may wait: at least two.
    """

    def __init__(
        self, write: Callable[[Sequence[bytes]], Sequence[Outcome]], *, most: int, largest: int, waiting: int
    ) -> None:
        self._write = write
        self._most, self._largest, self._waiting = most, largest, waiting
        self.after_fork()
        renew_after_fork(self)

    def after_fork(self) -> None:
        """Leave the parent what waits there: nobody waits for it here."""
        self._queue: deque[tuple[bytes, Future[None]]] = deque()
        self._lock = threading.Lock()  # guards the queue, and whether the thread is to look at it again
        self._is_writing = False

    def write(self, item: bytes, *, yields: bool = False) -> None:
        """Return once it is written.

        Args:
            yields: It leaves half of the places to what does not.

        Raises:
            AuditUnavailableError: It is not.
        """
        _settle(self._submit(item, yields).exception())

    async def awrite(self, item: bytes, *, yields: bool = False) -> None:
        """Do what `write` does, without blocking the loop."""
        future = self._submit(item, yields)
        waiter = asyncio.wrap_future(future)
        waiter.add_done_callback(_look_at)
        await asyncio.wait({waiter})  # which does not cancel it together with who waits
        _settle(future.exception())

    def _submit(self, item: bytes, yields: bool) -> Future[None]:
        future: Future[None] = Future()
        with self._lock:
            if len(self._queue) >= (self._waiting // 2 if yields else self._waiting):
                raise AuditUnavailableError("Too many events wait to be put on record.")
            self._queue.append((item, future))
            if not self._is_writing:
                self._start()
        return future

    def _start(self) -> None:
        try:
            # Not a daemon: what was handed over is written before the process ends.
            threading.Thread(target=self._run, name="authsec-audit", daemon=False).start()
        except RuntimeError as exc:  # the process ends, or has no thread left
            self._queue.pop()
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

    def _next(self) -> list[tuple[bytes, Future[None]]]:
        with self._lock:
            batch: list[tuple[bytes, Future[None]]] = []
            size = 0
            while self._queue and len(batch) < self._most:
                size += len(self._queue[0][0])
                if batch and size > self._largest:
                    break
                batch.append(self._queue.popleft())
            self._is_writing = bool(batch)
            return batch


def _look_at(waiter: asyncio.Future[None]) -> None:
    if not waiter.cancelled():
        waiter.exception()  # else asyncio complains of an error that somebody who has gone does not fetch


def _settle(error: BaseException | None) -> None:
    """Raise an error of one's own: several wait for the same one, each with a traceback of theirs."""
    if isinstance(error, AuditUnavailableError):
        raise AuditUnavailableError(error.message) from error
    if error is not None:
        raise AuditUnavailableError(f"The event could not be put on record: {type(error).__name__}.") from error
