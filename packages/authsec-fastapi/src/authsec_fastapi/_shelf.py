"""Which conversations are kept, whose are they, and which has to go when there is no room? Pure: no lock, no clock.

An entry that somebody has, or waits for, stays. Of the others a caller's oldest makes room for the same caller's next,
and never for another's: who opens many conversations pushes out nobody.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from typing import Any

from authsec_fastapi._turns import Turn
from authsec_fastapi.errors import ConversationLimitError
from authsec_fastapi.principal import Identity

__all__ = ["Kept", "Shelf"]


@dataclass(slots=True, eq=False)
class Kept:
    """One conversation.

    Attributes:
        state: As the last block left it that ended well.
        holder: Who has it.
        line: Who waits for it.
        forgotten: What the holder leaves is not to be kept.
        idle_since: A steady reading, while nobody has it.
    """

    owner: Identity
    name: str
    state: Any = field(default=None, repr=False)
    holder: Turn | None = None
    line: deque[Turn] = field(default_factory=deque)
    forgotten: bool = False
    idle_since: float = 0.0


@dataclass(slots=True, eq=False)
class _Own:
    every: dict[str, Kept] = field(default_factory=dict)
    idle: OrderedDict[str, Kept] = field(default_factory=OrderedDict)  # the oldest first


class Shelf:
    """All conversations. Not thread-safe: `Conversations` has the lock."""

    def __init__(self, *, most: int, most_per_caller: int, idle: float) -> None:
        self._most = most
        self._most_per_caller = most_per_caller
        self._longest = idle
        self._owners: dict[Identity, _Own] = {}
        self._idle: OrderedDict[tuple[Identity, str], Kept] = OrderedDict()  # of all owners, the oldest first
        self._count = 0

    def __len__(self) -> int:
        return self._count

    @property
    def in_use(self) -> int:
        """How many somebody has."""
        return self._count - len(self._idle)

    def find(self, owner: Identity, name: str) -> Kept | None:
        """Return the conversation, if there is one."""
        own = self._owners.get(owner)
        return None if own is None else own.every.get(name)

    def take(self, owner: Identity, name: str) -> Kept:
        """Return the conversation, which is in use from now on; it may be a new one.

        Raises:
            ConversationLimitError: It would be one too many.
        """
        kept = self.find(owner, name)
        if kept is None:
            self._make_room(owner)
            kept = Kept(owner, name)
            self._owners.setdefault(owner, _Own()).every[name] = kept
            self._count += 1
        elif self._idle.pop((owner, name), None) is not None:
            del self._owners[owner].idle[name]
        return kept

    def put_back(self, kept: Kept, now: float) -> None:
        """Note that nobody has it any more. One without a state takes no room."""
        kept.idle_since = now
        self._owners[kept.owner].idle[kept.name] = kept
        self._idle[kept.owner, kept.name] = kept
        if kept.state is None:
            self.remove(kept)

    def remove(self, kept: Kept) -> None:
        """Forget one that nobody has."""
        del self._idle[kept.owner, kept.name]
        own = self._owners[kept.owner]
        del own.idle[kept.name], own.every[kept.name]
        self._count -= 1
        if not own.every:
            del self._owners[kept.owner]

    def sweep(self, now: float) -> None:
        """Forget those that nobody has used for too long."""
        while self._idle:
            oldest = next(iter(self._idle.values()))
            if now - oldest.idle_since < self._longest:
                return
            self.remove(oldest)

    def _make_room(self, owner: Identity) -> None:
        own = self._owners.get(owner)
        if self._count < self._most and (own is None or len(own.every) < self._most_per_caller):
            return
        if own is None or not own.idle:
            raise ConversationLimitError("No more conversations can be kept right now: try again later.")
        self.remove(next(iter(own.idle.values())))
