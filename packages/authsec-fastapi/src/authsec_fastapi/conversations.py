"""What an agent remembers of a conversation, for the caller whose conversation it is, and for nobody else.

A conversation belongs to an identity: the same id of another caller is another conversation, and nobody can find out
that there is one. It holds values, such as an agent's `save_state()` returns, and no agent: make the agent anew for
each request, with the tools of the token that came with it, and let it load what is here.

All of this is in the memory of one process and ends with it. With several workers either send each caller to the same
one, or keep the states in a store of your own, under the same key: `principal.identity` and the id, both.
"""

from __future__ import annotations

import copy
import math
import re
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final

from authsec_core._clock import SYSTEM_CLOCK, Clock
from authsec_fastapi._room import UNCHANGED, Place, Room, busy
from authsec_fastapi._shelf import Shelf
from authsec_fastapi._turns import LoopTurn, ThreadTurn, Turn
from authsec_fastapi.errors import ConversationIdError
from authsec_fastapi.principal import Identity, Principal

__all__ = ["Conversation", "Conversations", "Opening", "checked_conversation_id"]

_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,128}")


def checked_conversation_id(conversation_id: str) -> str:
    """Return the id of a conversation, which a caller may have chosen.

    Raises:
        ConversationIdError: It is not 1 to 128 of `A-Z a-z 0-9 . _ -`.
    """
    if not isinstance(conversation_id, str) or not _ID.fullmatch(conversation_id):
        raise ConversationIdError("A conversation's id is 1 to 128 letters of ASCII, digits, dots, _ and -.")
    return conversation_id


@dataclass(slots=True, eq=False)
class Conversation:
    """A conversation that is open.

    Attributes:
        state: None at first. It is a copy: what you make of it, or put in its place, is kept when the block ends
            without an error, and only then.
    """

    id: str
    state: Any = field(default=None, repr=False)


class Conversations:
    """The conversations of all callers, within bounds. Thread-safe, for any number of loops; nothing to close.

    The bounds count conversations and not bytes: how long one may become is for you to limit.

    Args:
        most: How many are kept at once, of all callers. When there is no more room, a caller's own oldest makes some.
        most_per_caller: How many of them may be one caller's.
        idle: Seconds after which one that nobody has used is forgotten.
        patience: Seconds that a request waits for another that has the same conversation.
        clock: For tests.

    Raises:
        ValueError: A bound is none.
    """

    def __init__(
        self,
        *,
        most: int = 1000,
        most_per_caller: int = 50,
        idle: float = 1800.0,
        patience: float = 10.0,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        if not all(0 < bound < math.inf for bound in (most, most_per_caller, idle)) or not 0 <= patience < math.inf:
            raise ValueError("most, most_per_caller and idle are above 0, patience is not below, and all are finite")
        self._room = Room(lambda: Shelf(most=most, most_per_caller=most_per_caller, idle=idle), clock=clock)
        self._patience = patience

    def __repr__(self) -> str:
        return f"<Conversations: {self._room}>"

    def open(self, principal: Principal, conversation_id: str) -> Opening:
        """Return a block, for `with` or `async with`, that has the conversation for itself.

        Who comes while another has it waits, and gets it in the order of coming. Put the agent's run (`guard.run`)
        into the block, and not around it: an answer that may not leave is then not remembered.

        Raises:
            ConversationIdError: No conversation can be called that.
            ConversationBusyError: When entered: another has it for longer than `patience`, or too many wait.
            ConversationLimitError: When entered: all that may be kept are in use, or are other callers'.
        """
        return Opening(self._room, principal.identity, checked_conversation_id(conversation_id), self._patience)

    def forget(self, principal: Principal, conversation_id: str) -> bool:
        """Forget one of the caller's conversations, and return whether there was one.

        What a block that is open now leaves behind is not kept.

        Raises:
            ConversationIdError: No conversation can be called that.
        """
        return self._room.forget(principal.identity, checked_conversation_id(conversation_id))


class Opening:
    """A block that has a conversation for itself; it is used once. In a coroutine use `async with`: `with` blocks."""

    __slots__ = ("_conversation", "_name", "_owner", "_patience", "_place", "_room")

    def __init__(self, room: Room, owner: Identity, name: str, patience: float) -> None:
        self._room = room
        self._owner = owner
        self._name = name
        self._patience = patience
        self._place: Place | None = None

    def __enter__(self) -> Conversation:
        turn = ThreadTurn()
        place = self._come(turn)
        with self._room.given_on_if_it_fails(place):
            if not self._room.has(place):
                turn.wait(self._patience)
            return self._begin(place)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._end(error)

    async def __aenter__(self) -> Conversation:
        turn = LoopTurn()
        place = self._come(turn)
        with self._room.given_on_if_it_fails(place):
            if not self._room.has(place):
                await turn.wait(self._patience)
            return self._begin(place)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        self._end(error)

    def _come(self, turn: Turn) -> Place:
        if self._place is not None:
            raise RuntimeError("this was entered before: open the conversation again")
        self._place = self._room.join(self._owner, self._name, turn)
        return self._place

    def _begin(self, place: Place) -> Conversation:
        if not self._room.has(place):
            raise busy()
        self._conversation = Conversation(self._name, copy.deepcopy(place.kept.state))
        return self._conversation

    def _end(self, error: BaseException | None) -> None:
        if self._place is None:
            raise RuntimeError("this was not entered")
        with self._room.given_on_if_it_fails(self._place):
            # A copy here too: what the block still holds is not what is kept, and what cannot be copied is an error
            # now, and not with the next request.
            state = UNCHANGED if error is not None else copy.deepcopy(self._conversation.state)
        self._room.leave(self._place, state)
