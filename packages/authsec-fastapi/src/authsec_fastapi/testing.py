"""What every `AuditSink` promises, as a class of tests to inherit. What a particular sink adds is for its own tests."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from typing import Any, Final

import pytest

from authsec_fastapi.audit import AuditEvent, AuditSink

__all__ = ["AuditSinkContract"]

_MANY: Final = 40
_WAIT: Final = 30.0  # seconds for what should come at once


class AuditSinkContract:
    """Inherit it, and define the fixtures `sink` and `recorded`; and `outage`, where the sink can fail."""

    @pytest.fixture
    def sink(self) -> AuditSink:
        """The sink to be tested, anew for each test: to be overridden."""
        raise NotImplementedError("define a fixture `sink` in the class that inherits the contract")

    @pytest.fixture
    def recorded(self) -> Callable[[], Sequence[Mapping[str, Any]]]:
        """A function that returns what is on record, as `AuditEvent.to_dict` has it: to be overridden."""
        raise NotImplementedError("define a fixture `recorded` in the class that inherits the contract")

    @pytest.fixture
    def outage(self) -> Callable[[], AbstractContextManager[object]] | None:
        """A function that returns a context in which nothing can be recorded; None where there is no such time."""
        return None

    @pytest.fixture(params=["record", "arecord"])
    def put(self, request: pytest.FixtureRequest, sink: AuditSink) -> Callable[[AuditEvent], None]:
        """A function that puts an event on record, in each of the two ways."""
        if request.param == "record":
            return sink.record
        return lambda event: asyncio.run(sink.arecord(event))

    def test_an_event_is_on_record_when_it_returns(
        self, put: Callable[[AuditEvent], None], recorded: Callable[[], Sequence[Mapping[str, Any]]]
    ) -> None:
        """All that is known of it, and in the order in which one caller hands it over."""
        events = [_event(subject=f"s{number}", needed=("read:a", "read:b")) for number in range(3)]
        for number, event in enumerate(events, 1):
            put(event)
            found = recorded()
            assert len(found) == number, "an event was not on record when the sink returned"
            assert found[-1]["id"] == event.id
            assert found[-1]["subject"] == event.subject
            assert list(found[-1]["needed"]) == ["read:a", "read:b"]

    def test_whatever_is_in_an_event_harms_no_other(
        self, put: Callable[[AuditEvent], None], recorded: Callable[[], Sequence[Mapping[str, Any]]]
    ) -> None:
        """Line ends, escapes, quotes, NULs, halves of characters and a megabyte leave what is around them as it was."""
        hostile = ("\r\n", "\x1b[2J", "\u2028\u0085", '"}\n{"', "\x00\x7f", "\ud800", "\U0001f600", "x" * 1_000_000)
        events = [_event(conversation=text, agent=text, tools=(text,) * 100) for text in hostile]
        for event in events:
            put(event)
        found = recorded()
        assert [one["id"] for one in found] == [event.id for event in events]
        assert all(len(str(one)) < 100_000 for one in found), "what somebody else wrote has to be cut"

    def test_many_threads_lose_nothing(
        self, sink: AuditSink, recorded: Callable[[], Sequence[Mapping[str, Any]]]
    ) -> None:
        """Each event is there once, however many come at the same time."""
        events, together = [_event() for _ in range(_MANY)], threading.Barrier(_MANY)

        def put(event: AuditEvent) -> None:
            together.wait(_WAIT)
            sink.record(event)

        with ThreadPoolExecutor(_MANY) as threads:
            list(threads.map(put, events))
        _all_there(events, recorded())

    def test_many_tasks_lose_nothing(
        self, sink: AuditSink, recorded: Callable[[], Sequence[Mapping[str, Any]]]
    ) -> None:
        """The same on a loop, and on one loop after the other."""
        events = [_event() for _ in range(_MANY)]

        async def put(some: Sequence[AuditEvent]) -> None:
            await asyncio.gather(*(sink.arecord(event) for event in some))

        asyncio.run(put(events[: _MANY // 2]))
        asyncio.run(put(events[_MANY // 2 :]))
        _all_there(events, recorded())

    def test_who_is_cancelled_takes_no_others_event_along(
        self, sink: AuditSink, recorded: Callable[[], Sequence[Mapping[str, Any]]]
    ) -> None:
        """Of those that were cancelled an event may be there or not; the others are."""
        events = [_event() for _ in range(_MANY)]

        async def put() -> None:
            tasks: list[asyncio.Task[None]] = [asyncio.ensure_future(_coroutine(sink.arecord(one))) for one in events]
            await asyncio.sleep(0)
            for task in tasks[::2]:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert not [task for task in tasks[1::2] if task.exception() is not None]

        asyncio.run(put())
        sink.record(last := _event())  # whatever was handed over before is written by then
        ids = [one["id"] for one in recorded()]
        assert {event.id for event in [*events[1::2], last]} <= set(ids)
        assert len(ids) == len(set(ids))

    def test_what_is_not_on_record_raises(
        self,
        put: Callable[[AuditEvent], None],
        recorded: Callable[[], Sequence[Mapping[str, Any]]],
        outage: Callable[[], AbstractContextManager[object]] | None,
    ) -> None:
        """A sink that fails says so, each time, and works again once it can; what comes next is whole."""
        if outage is None:
            pytest.skip("this sink cannot fail")
        before, during, after = _event(), [_event(), _event()], _event()
        put(before)
        with outage():
            for event in during:
                with pytest.raises(Exception):  # noqa: B017, PT011 -- a sink raises what it likes
                    put(event)
        put(after)
        ids = [one["id"] for one in recorded()]
        assert (ids[0], ids[-1]) == (before.id, after.id)


def _event(**said: Any) -> AuditEvent:
    return AuditEvent(**{"event": "request", "outcome": "allow", "reason": "allowed", "at": 1_800_000_000.0, **said})


def _all_there(events: Sequence[AuditEvent], found: Sequence[Mapping[str, Any]]) -> None:
    assert sorted(one["id"] for one in found) == sorted(event.id for event in events)


async def _coroutine(waiting: Awaitable[None]) -> None:
    await waiting
