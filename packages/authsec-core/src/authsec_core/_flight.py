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
from functools import partial
from typing import Final, Literal, TypeAlias

from authsec_core._freshness import Lease
from authsec_core.errors import AuthSecError

__all__ = ["ABANDONED", "LOST", "Flight", "Landing"]

ABANDONED: Final = "abandoned"
LOST: Final = "lost"
Landing: TypeAlias = "Lease | AuthSecError | Literal['abandoned', 'lost']"


class Flight:
    """A slot that is filled exactly once. Thread-safe and loop-safe; no lock of ours is held while it is awaited."""

    __slots__ = ("_future", "_waiting", "leader")

    def __init__(self) -> None:
        self._future: Future[Landing] = Future()
        self._future.set_running_or_notify_cancel()
        self.leader: int = threading.get_ident()
        # Who waits on which loop. Each entry is of one thread; all tasks of a loop are woken together, because waking a
        # loop is a write to a socket.
        self._waiting: dict[asyncio.AbstractEventLoop, set[asyncio.Future[None]]] = {}

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
        waiting = self._waiting.get(loop)
        if waiting is None or self._future.done():
            waiting = self._waiting[loop] = set()
            self._future.add_done_callback(partial(_tell, loop, waiting))
        woken: asyncio.Future[None] = loop.create_future()
        waiting.add(woken)
        timer = loop.call_later(timeout, _settle, woken) if timeout is not None else None
        try:
            await woken
        finally:
            waiting.discard(woken)
            if timer is not None:
                timer.cancel()
        return self._future.result() if self._future.done() else LOST


def _tell(loop: asyncio.AbstractEventLoop, waiting: set[asyncio.Future[None]], _: object) -> None:
    with suppress(RuntimeError):  # the loop has been closed, so that nobody waits there any more
        loop.call_soon_threadsafe(_wake, waiting)


def _wake(waiting: set[asyncio.Future[None]]) -> None:
    for woken in tuple(waiting):
        _settle(woken)


def _settle(landed: asyncio.Future[None]) -> None:
    if not landed.done():
        landed.set_result(None)
