"""One token request in the air, which threads and event loops can wait for side by side.

It is a `concurrent.futures.Future`, put into RUNNING at once: a waiter that is cancelled then cannot cancel the others.
What a leader could not finish is `ABANDONED`, and a waiter takes over; a leader that takes too long is `LOST`.
"""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError  # before 3.11 it is not the builtin
from contextlib import suppress
from typing import Final, Literal, TypeAlias

from authsec_core._freshness import Lease
from authsec_core.errors import AuthSecError

__all__ = ["ABANDONED", "LOST", "Flight", "Landing"]

ABANDONED: Final = "abandoned"
LOST: Final = "lost"
Landing: TypeAlias = "Lease | AuthSecError | Literal['abandoned', 'lost']"


class Flight:
    """A slot that is filled exactly once. Thread-safe and loop-safe; no lock of ours is held while it is awaited."""

    __slots__ = ("_future", "leader")

    def __init__(self) -> None:
        self._future: Future[Landing] = Future()
        self._future.set_running_or_notify_cancel()
        self.leader: int = threading.get_ident()

    def land(self, landing: Landing) -> None:
        """Wake everyone who waits."""
        self._future.set_result(landing)

    def wait(self, timeout: float) -> Landing:
        """Block for at most `timeout` seconds: two loops that wait for each other's leaders must not wait for ever."""
        try:
            return self._future.result(timeout)
        except FutureTimeoutError:
            return LOST

    async def wait_async(self, timeout: float | None = None) -> Landing:
        """Suspend this task for at most `timeout` seconds: the leader's loop may have been stopped and left lying."""
        loop = asyncio.get_running_loop()
        landed: asyncio.Future[None] = loop.create_future()

        def tell(_: object) -> None:
            with suppress(RuntimeError):  # the loop has been closed, so that nobody waits there any more
                loop.call_soon_threadsafe(_settle, landed)

        self._future.add_done_callback(tell)
        await asyncio.wait([landed], timeout=timeout)  # before 3.12 `wait_for` could swallow our cancellation
        return self._future.result() if self._future.done() else LOST


def _settle(landed: asyncio.Future[None]) -> None:
    if not landed.done():
        landed.set_result(None)
