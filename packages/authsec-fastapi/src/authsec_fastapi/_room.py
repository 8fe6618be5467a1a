"""Who has a conversation, and who comes next? One lock around the shelf, and a line for each conversation.

Nobody holds the lock while they wait: what one waits on is a turn, of a thread or of a task on any loop.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

from authsec_core._clock import Clock
from authsec_core._fork import renew_after_fork
from authsec_fastapi._shelf import Kept, Shelf
from authsec_fastapi._turns import Turn
from authsec_fastapi.errors import ConversationBusyError
from authsec_fastapi.principal import Identity

__all__ = ["UNCHANGED", "Place", "Room", "busy"]

UNCHANGED: Final = object()
"""The state stays what it was."""

_LONGEST_LINE: Final = 16  # requests that wait for one conversation: each holds a connection


class Place(NamedTuple):
    """Somebody's place at a conversation: the first has it, the others wait."""

    kept: Kept
    turn: Turn


class Room:
    """All conversations, and who is at which. Thread-safe, for any number of loops.

    Args:
        shelf: Makes an empty one.
    """

    def __init__(self, shelf: Callable[[], Shelf], *, clock: Clock) -> None:
        self._empty = shelf
        self._clock = clock
        self.after_fork()
        renew_after_fork(self)

    def __str__(self) -> str:
        return f"{len(self._shelf)} kept, {self._shelf.in_use} in use"

    def join(self, owner: Identity, name: str, turn: Turn) -> Place:
        """Take a place at a conversation.

        Raises:
            ConversationBusyError: Too many wait for it.
            ConversationLimitError: It would be one conversation too many.
        """
        with self._locked():
            kept = self._shelf.take(owner, name)
            if kept.holder is None:
                kept.holder = turn
            elif len(kept.line) < _LONGEST_LINE:
                kept.line.append(turn)
            else:
                raise busy()
            return Place(kept, turn)

    def has(self, place: Place) -> bool:
        """Return whether the conversation is theirs now."""
        with self._locked():
            return place.kept.holder is place.turn

    def leave(self, place: Place, state: Any = UNCHANGED) -> None:
        """Give the conversation on, or step out of the line.

        It never blocks: the garbage collector may end a forgotten block at any place, also where this very thread has
        the lock. Who has it then does this too.
        """
        self._left.append((place, state))
        self._catch_up()

    @contextmanager
    def given_on_if_it_fails(self, place: Place) -> Iterator[None]:
        """Leave where the block raises, so that a place of somebody who failed or was cancelled strands nobody."""
        try:
            yield
        except BaseException:
            self.leave(place)
            raise

    def forget(self, owner: Identity, name: str) -> bool:
        """Forget a conversation and what its holder will leave, and return whether there was one."""
        with self._locked():
            kept = self._shelf.find(owner, name)
            if kept is None:
                return False
            kept.state, kept.forgotten = None, True
            if kept.holder is None:
                self._shelf.remove(kept)
            return True

    def after_fork(self) -> None:
        """Begin with none: a child process has the parent's memory, and none of the requests that it was for."""
        self._lock = threading.Lock()  # guards the shelf and what is on it; for a few steps at a time
        self._shelf = self._empty()
        self._left: deque[tuple[Place, Any]] = deque()  # appended to without the lock

    @contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            with self._lock:
                self._let_leave()
                self._shelf.sweep(self._clock.steady())
                yield
        finally:
            self._catch_up()

    def _catch_up(self) -> None:
        # Whoever has the lock comes by here after letting go of it, so that nobody who left stays.
        while self._left and self._lock.acquire(blocking=False):
            try:
                self._let_leave()
            finally:
                self._lock.release()

    def _let_leave(self) -> None:
        while self._left:
            (kept, turn), state = self._left.popleft()
            if self._shelf.find(kept.owner, kept.name) is not kept:
                continue  # a block that was open when the process forked
            if kept.holder is turn:
                if state is not UNCHANGED and not kept.forgotten:
                    kept.state = state
                self._give_on(kept)
            elif turn in kept.line:
                kept.line.remove(turn)

    def _give_on(self, kept: Kept) -> None:
        kept.holder, kept.forgotten = None, False
        while kept.line and kept.holder is None:
            turn = kept.line.popleft()
            if turn.give():
                kept.holder = turn
        if kept.holder is None:
            self._shelf.put_back(kept, self._clock.steady())


def busy() -> ConversationBusyError:
    """Return what somebody is told who waited for too long, or cannot wait."""
    return ConversationBusyError("The conversation is in use by another request: try again when that has its answer.")
