"""What somebody holds who waits for a conversation: on a thread or on an event loop, until it is their turn.

Who comes when is for `conversations` to say, which calls `give` under its lock.
"""

from __future__ import annotations

import asyncio
import threading
from typing import Protocol

__all__ = ["LoopTurn", "ThreadTurn", "Turn"]


class Turn(Protocol):
    """A place in a line."""

    def give(self) -> bool:
        """Wake who waits, from any thread. Return False if nobody can be woken any more."""
        ...


class ThreadTurn:
    """A thread that waits."""

    __slots__ = ("_given",)

    def __init__(self) -> None:
        self._given = threading.Event()

    def give(self) -> bool:
        """Wake the thread."""
        self._given.set()
        return True

    def wait(self, patience: float) -> None:
        """Block until it is their turn, or for `patience` seconds."""
        self._given.wait(patience)


class LoopTurn:
    """A task that waits, on the running loop."""

    __slots__ = ("_loop", "_woken")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._woken: asyncio.Future[None] = self._loop.create_future()

    def give(self) -> bool:
        """Wake the task, unless its loop has been closed."""
        try:
            self._loop.call_soon_threadsafe(_settle, self._woken)
        except RuntimeError:
            return False
        return True

    async def wait(self, patience: float) -> None:
        """Suspend this task until it is their turn, or for `patience` seconds."""
        timer = self._loop.call_later(patience, _settle, self._woken)
        try:
            await self._woken
        finally:
            timer.cancel()


def _settle(woken: asyncio.Future[None]) -> None:
    if not woken.done():
        woken.set_result(None)
