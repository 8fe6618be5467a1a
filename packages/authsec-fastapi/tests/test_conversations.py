"""Whose a conversation is, who has it, when, and what of it is kept."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from authsec_core.testing import FakeClock
from authsec_fastapi import (
    Conversation,
    ConversationBusyError,
    ConversationIdError,
    ConversationLimitError,
    Conversations,
    Principal,
)

ANNA = Principal(subject="anna", issuer="https://issuer.example")
BORIS = Principal(subject="boris", issuer="https://issuer.example")


def say(conversations: Conversations, principal: Principal, name: str, word: Any) -> Any:
    """Put a word in place of the state, and return the state that was there."""
    with conversations.open(principal, name) as conversation:
        before, conversation.state = conversation.state, word
    return before


def heard(conversations: Conversations, principal: Principal, name: str) -> Any:
    """Return the state, and leave it as it is."""
    with conversations.open(principal, name) as conversation:
        return conversation.state


def test_a_conversation_is_remembered_for_who_had_it() -> None:
    """The same id of another caller is another conversation, in blocks of both kinds."""

    async def asay(principal: Principal, word: str) -> Any:
        async with conversations.open(principal, "c1") as conversation:
            before, conversation.state = conversation.state, word
        return before

    conversations = Conversations()
    assert say(conversations, ANNA, "c1", "a") is None
    assert asyncio.run(asay(BORIS, "b")) is None
    assert asyncio.run(asay(ANNA, "a2")) == "a"
    assert heard(conversations, BORIS, "c1") == "b"
    assert heard(conversations, BORIS, "c2") is None


@pytest.mark.parametrize("name", ["", "a b", "a\n", "ä", "a/b", "..\\", "a" * 129, "a:b", None, 7, b"a"])
def test_an_id_is_plain_and_bounded(name: Any) -> None:
    """Whatever else it is, it is refused before anything is looked up."""
    conversations = Conversations()
    for refused in (conversations.open, conversations.forget):
        with pytest.raises(ConversationIdError):
            refused(ANNA, name)
    assert heard(conversations, ANNA, "A.z_-" + "9" * 123) is None


@pytest.mark.parametrize("error", [ValueError, asyncio.CancelledError, GeneratorExit])
def test_a_block_that_fails_leaves_the_state_from_before(error: type[BaseException]) -> None:
    """Also where it changed the state in place: what a block gets is a copy."""
    conversations = Conversations()
    say(conversations, ANNA, "c1", ["one"])
    with conversations.open(ANNA, "c1") as conversation:
        conversation.state.append("two")
    opening = conversations.open(ANNA, "c1")
    opening.__enter__().state.append("half of three")
    opening.__exit__(error, error(), None)
    assert heard(conversations, ANNA, "c1") == ["one", "two"]


def test_what_a_block_still_holds_is_not_what_is_kept() -> None:
    """An agent that goes on after its block cannot change what is remembered."""
    conversations = Conversations()
    state: list[str] = []
    say(conversations, ANNA, "c1", state)
    state.append("later")
    with conversations.open(ANNA, "c1") as conversation:
        assert conversation.state == []
    conversation.state.append("later")
    assert heard(conversations, ANNA, "c1") == []


def test_what_cannot_be_copied_is_an_error_at_once() -> None:
    """The block that leaves it fails, and the conversation is there for the next one."""
    conversations = Conversations(patience=0)
    with pytest.raises(TypeError):
        say(conversations, ANNA, "c1", threading.Lock())
    assert heard(conversations, ANNA, "c1") is None


def test_a_state_of_none_takes_no_room() -> None:
    """A block that keeps nothing, or clears what was kept, leaves nothing behind."""
    conversations = Conversations(most=1)
    assert heard(conversations, ANNA, "c1") is None
    say(conversations, BORIS, "c1", "b")
    say(conversations, BORIS, "c1", None)
    assert repr(conversations) == "<Conversations: 0 kept, 0 in use>"


def test_a_callers_oldest_makes_room_for_the_same_callers_next() -> None:
    """Neither bound lets a caller push out another's, nor one that is in use."""
    conversations = Conversations(most=3, most_per_caller=2)
    say(conversations, BORIS, "c1", "b")
    say(conversations, ANNA, "c1", 1)
    say(conversations, ANNA, "c2", 2)
    say(conversations, ANNA, "c1", 3)
    say(conversations, ANNA, "c3", 4)
    assert [heard(conversations, ANNA, name) for name in ("c1", "c3")] == [3, 4]
    with (
        conversations.open(ANNA, "c1"),
        conversations.open(ANNA, "c3"),
        pytest.raises(ConversationLimitError),
        conversations.open(ANNA, "c4"),
    ):
        pass
    third = Principal(subject="carla", issuer="https://issuer.example")
    with pytest.raises(ConversationLimitError), conversations.open(third, "c1"):
        pass
    assert say(conversations, BORIS, "c2", "b2") is None
    assert [heard(conversations, ANNA, name) for name in ("c1", "c3")] == [3, 4]
    assert heard(conversations, BORIS, "c1") is None
    assert heard(conversations, BORIS, "c2") is None


def test_what_nobody_uses_is_forgotten() -> None:
    """Seconds count from the end of the last block, and not while one is open."""
    clock = FakeClock()
    conversations = Conversations(idle=60.0, clock=clock)
    with conversations.open(ANNA, "c1") as conversation:
        conversation.state = 1
        clock.advance(1000)
    clock.advance(59.9)
    assert heard(conversations, ANNA, "c1") == 1
    clock.advance(60)
    assert heard(conversations, ANNA, "c1") is None


def test_a_caller_can_have_a_conversation_forgotten() -> None:
    """Theirs and no other, also what an open block is about to leave."""
    conversations = Conversations()
    for principal in (ANNA, BORIS):
        say(conversations, principal, "c1", principal.subject)
    assert conversations.forget(ANNA, "c1")
    assert not conversations.forget(ANNA, "c1")
    assert heard(conversations, ANNA, "c1") is None
    with conversations.open(BORIS, "c1") as conversation:
        assert conversation.state == "boris"
        assert conversations.forget(BORIS, "c1")
    assert heard(conversations, BORIS, "c1") is None
    say(conversations, BORIS, "c1", "anew")
    assert heard(conversations, BORIS, "c1") == "anew"


def test_what_comes_after_a_forgotten_block_is_kept() -> None:
    """Who waited meanwhile begins anew, and is remembered."""

    async def forgotten() -> None:
        async with conversations.open(ANNA, "c1") as conversation:
            conversation.state = "old"
            next_one = asyncio.ensure_future(_asay(conversations, "new"))
            await asyncio.sleep(0)
            assert conversations.forget(ANNA, "c1")
        assert await next_one is None

    conversations = Conversations()
    say(conversations, ANNA, "c1", "older")
    asyncio.run(forgotten())
    assert heard(conversations, ANNA, "c1") == "new"


async def _asay(conversations: Conversations, word: str) -> Any:
    async with conversations.open(ANNA, "c1") as conversation:
        before, conversation.state = conversation.state, word
    return before


def test_one_caller_has_so_many_and_no_more() -> None:
    """Also where there is room for others."""
    conversations = Conversations(most_per_caller=2)
    for name in ("c1", "c2", "c3"):
        say(conversations, ANNA, name, name)
    assert [heard(conversations, ANNA, name) for name in ("c2", "c3", "c1")] == ["c2", "c3", None]


def test_nothing_of_a_conversation_is_printed() -> None:
    """Neither its state nor whose it is."""
    conversations = Conversations()
    with conversations.open(ANNA, "c1") as conversation:
        conversation.state = "canary"
        assert "canary" not in repr(conversation)
        assert repr(conversations) == "<Conversations: 1 kept, 1 in use>"


@pytest.mark.parametrize("bound", ["most", "most_per_caller", "idle", "patience"])
@pytest.mark.parametrize("value", [-1, float("nan"), float("inf")])
def test_a_bound_is_a_bound(bound: str, value: float) -> None:
    """What would bound nothing is refused."""
    with pytest.raises(ValueError, match="finite"):
        Conversations(**{bound: value})  # type: ignore[arg-type] # a float is no count, and that is the point


def test_an_opening_is_used_once() -> None:
    """A second block needs a second opening; a block that was not entered cannot end."""
    conversations = Conversations(patience=0)
    opening = conversations.open(ANNA, "c1")
    with pytest.raises(RuntimeError, match="not entered"):
        opening.__exit__(None, None, None)
    with opening, pytest.raises(RuntimeError, match="before"):
        opening.__enter__()
    assert heard(conversations, ANNA, "c1") is None


def test_who_does_not_want_to_wait_is_told_that_it_is_busy() -> None:
    """One at a time; the other finds the conversation free afterwards."""

    async def twice() -> None:
        async with conversations.open(ANNA, "c1"):
            with pytest.raises(ConversationBusyError):
                heard(conversations, ANNA, "c1")
            with pytest.raises(ConversationBusyError):
                async with conversations.open(ANNA, "c1"):
                    pass
        async with conversations.open(ANNA, "c1"):
            pass

    conversations = Conversations(patience=0.01)
    asyncio.run(twice())


def _in_line(conversations: Conversations, count: int, name: str = "c1") -> Callable[[], bool]:
    def are() -> bool:
        kept = conversations._room._shelf.find(ANNA.identity, name)
        return kept is not None and len(kept.line) == count

    return are


def test_who_waits_gets_it_in_the_order_of_coming_on_threads_and_on_loops() -> None:
    """Threads, and tasks of several loops, stand in one line."""
    conversations = Conversations(patience=30.0)
    order: list[int] = []

    def on_a_thread(number: int) -> None:
        with conversations.open(ANNA, "c1") as conversation:
            order.append(number)
            conversation.state = [*(conversation.state or []), number]

    def on_a_loop(number: int) -> None:
        async def within() -> None:
            async with conversations.open(ANNA, "c1") as conversation:
                order.append(number)
                await asyncio.sleep(0)
                conversation.state = [*(conversation.state or []), number]

        asyncio.run(within())

    with ThreadPoolExecutor(8) as pool:
        with conversations.open(ANNA, "c1"):
            waiting = []
            for number in range(8):
                waiting.append(pool.submit(on_a_loop if number % 2 else on_a_thread, number))
                _spin_until(_in_line(conversations, number + 1))
        for one in waiting:
            one.result(30)
    assert order == heard(conversations, ANNA, "c1") == list(range(8))


def _spin_until(condition: Callable[[], bool]) -> None:
    waited = threading.Event()
    for _ in range(3000):
        if condition():
            return
        waited.wait(0.01)
    raise AssertionError("it does not come true")


def test_a_line_has_an_end() -> None:
    """The seventeenth who would wait is told at once."""

    async def crowd() -> int:
        async with conversations.open(ANNA, "c1"):
            waiting = [asyncio.ensure_future(_once(conversations)) for _ in range(20)]
            await asyncio.sleep(0)
            busy = sum(one.done() for one in waiting)
        for one in waiting[:16]:
            await one
        assert all(isinstance(one.exception(), ConversationBusyError) for one in waiting[16:])
        return busy

    conversations = Conversations()
    assert asyncio.run(crowd()) == 4


async def _once(conversations: Conversations) -> None:
    async with conversations.open(ANNA, "c1"):
        pass


@pytest.mark.parametrize("when", ["before its turn", "when it is given its turn"])
def test_a_cancelled_waiter_strands_nobody(when: str) -> None:
    """The next in line gets the conversation, whenever the one before was cancelled."""

    async def cancelled() -> None:
        async with conversations.open(ANNA, "c1"):
            first, second = [asyncio.ensure_future(_once(conversations)) for _ in range(2)]
            await asyncio.sleep(0)
            if when == "before its turn":
                first.cancel()
                await asyncio.wait({first})
        first.cancel()
        await asyncio.wait_for(second, 10)
        assert first.cancelled()

    conversations = Conversations()
    asyncio.run(cancelled())
    assert heard(conversations, ANNA, "c1") is None


def test_a_loop_that_was_closed_strands_nobody() -> None:
    """Who waited there is passed over; a task that is thrown away gives its conversation back."""
    conversations = Conversations(patience=0)
    patient = Conversations(patience=30.0)
    for one in (conversations, patient):
        loop = asyncio.new_event_loop()
        if one is patient:
            with patient.open(ANNA, "c1"):
                task = loop.create_task(_once(patient))
                loop.run_until_complete(asyncio.sleep(0))
                loop.close()
        else:
            task = loop.create_task(_for_ever(conversations))
            loop.run_until_complete(asyncio.sleep(0))
            loop.close()
            task._log_destroy_pending = False  # type: ignore[attr-defined] # asyncio would complain, as it should
        task._log_destroy_pending = False  # type: ignore[attr-defined] # as above
        del task, loop
        gc.collect()
        assert heard(one, ANNA, "c1") is None


async def _for_ever(conversations: Conversations) -> None:
    async with conversations.open(ANNA, "c1"):
        await asyncio.Event().wait()


def test_what_the_collector_ends_under_the_lock_is_done_after_it() -> None:
    """A forgotten block may end where this very thread has the lock: it does not wait for itself."""
    conversations = Conversations(patience=0)
    opening = conversations.open(ANNA, "c1")
    opening.__enter__()
    with conversations._room._locked():
        opening.__exit__(None, None, None)
    assert repr(conversations) == "<Conversations: 0 kept, 0 in use>"
    assert heard(conversations, ANNA, "c1") is None


def test_a_child_process_begins_with_none() -> None:
    """It has the parent's memory; a block that was open when it was forked ends without a trace."""
    conversations = Conversations(patience=0)
    say(conversations, ANNA, "c1", "parent")
    with conversations.open(ANNA, "c2") as conversation:
        conversation.state = "parent"
        conversations._room.after_fork()
        assert heard(conversations, ANNA, "c1") is None
    assert heard(conversations, ANNA, "c2") is None


CALLERS = [
    Principal(subject=subject, issuer=issuer, client_id=client_id, actor=actor)
    for subject in ("a", "b")
    for issuer in ("https://one.example", "https://two.example")
    for client_id, actor in ((None, None), ("x", None), (None, "x"))
]
callers = st.sampled_from(CALLERS)
names = st.sampled_from(["c1", "c2", "c3", "c4"])
MOST, PER_CALLER, IDLE = 9, 2, 10.0


class Isolation(RuleBasedStateMachine):
    """Blocks of many callers, interleaved: each sees what its own caller left, or nothing where that had to go."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = FakeClock()
        self.conversations = Conversations(
            most=MOST, most_per_caller=PER_CALLER, idle=IDLE, patience=0, clock=self.clock
        )
        self.kept: dict[tuple[Principal, str], tuple[Any, float]] = {}  # with the moment when it was left
        self.may_be_gone: set[tuple[Principal, str]] = set()
        self.open: dict[tuple[Principal, str], tuple[Any, Conversation]] = {}
        self.forgotten: set[tuple[Principal, str]] = set()
        self.words = 0

    @rule(principal=callers, name=names)
    def begin(self, principal: Principal, name: str) -> None:
        """Open one, which shows its own state."""
        key = (principal, name)
        opening = self.conversations.open(principal, name)
        try:
            conversation = opening.__enter__()
        except ConversationBusyError:
            assert key in self.open
            return
        except ConversationLimitError:
            assert key not in self.open
            own = [one for one in self.open if one[0] == principal]
            assert len(own) >= PER_CALLER or len(self.kept.keys() | self.open.keys()) >= MOST
            return
        assert key not in self.open
        state, left_at = self.kept.get(key, (None, 0.0))
        if state is not None and self.clock.steady() - left_at >= IDLE:
            assert conversation.state is None
        elif key in self.may_be_gone:
            assert conversation.state in (None, state)
        else:
            assert conversation.state == state
        if conversation.state is None:
            self.kept.pop(key, None)
            self.may_be_gone |= {one for one in self.kept if one[0] == principal and one not in self.open}
        self.may_be_gone.discard(key)
        self.open[key] = (opening, conversation)

    @rule(pick=st.integers(0, 99), ends_well=st.booleans())
    def end(self, pick: int, ends_well: bool) -> None:
        """End one, well or with an error."""
        if not self.open:
            return
        key = list(self.open)[pick % len(self.open)]
        opening, conversation = self.open.pop(key)
        self.words += 1
        conversation.state = self.words
        opening.__exit__(None, None if ends_well else ValueError(), None)
        if key in self.forgotten:
            self.forgotten.discard(key)
            self.kept.pop(key, None)
        elif ends_well:
            self.kept[key] = (self.words, self.clock.steady())
        elif key in self.kept:
            self.kept[key] = (self.kept[key][0], self.clock.steady())

    @rule(principal=callers, name=names)
    def forget(self, principal: Principal, name: str) -> None:
        """Forget one, of this caller alone."""
        self.conversations.forget(principal, name)
        key = (principal, name)
        self.kept.pop(key, None)
        if key in self.open:
            self.forgotten.add(key)

    @rule(seconds=st.floats(0, 6))
    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self.clock.advance(seconds)

    @invariant()
    def stays_within_bounds(self) -> None:
        """There are never more than may be, and those that are in use are counted."""
        assert len(self.conversations._room._shelf) <= MOST
        assert self.conversations._room._shelf.in_use == len(self.open)


TestIsolation = pytest.mark.req("RD7")(Isolation.TestCase)
TestIsolation.settings = settings(max_examples=50, stateful_step_count=50, deadline=None)
