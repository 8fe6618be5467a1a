"""What is on record of an agent's run, however it ends, and what happens when it cannot be."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Callable
from typing import Any, Literal

import anyio
import pytest
from fastapi import FastAPI
from guard_support import Issuer, Memory, caller
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from starlette.responses import StreamingResponse
from starlette.types import Message

from authsec_core.errors import ExpiredTokenError
from authsec_core.testing import FakeClock
from authsec_fastapi import (
    AgentRun,
    AuditEvent,
    AuditUnavailableError,
    AuthSecGuard,
    ConversationIdError,
    Principal,
    _telemetry,
)

issuer = Issuer()
Driver = Literal["with", "async with"]


@pytest.fixture(params=["with", "async with"])
def driver(request: pytest.FixtureRequest) -> Driver:
    """Return how a run is entered."""
    kind: Driver = request.param
    return kind


def run_of(guard: AuthSecGuard, **given: Any) -> AgentRun:
    """Return a run of an agent for a caller of the guard."""
    principal = asyncio.run(caller(guard, issuer.token()))
    return guard.run(principal, **{"agent": "support", "conversation": "c1", **given})


def drive(run: AgentRun, driver: Driver, work: Callable[[], None] = lambda: None) -> None:
    """Enter the run, do the work in it, and leave it."""

    async def within() -> None:
        async with run:
            work()

    if driver == "async with":
        asyncio.run(within())
        return
    with run:
        work()


def failing(error: BaseException | None, sink: Memory | None = None) -> Callable[[], None]:
    """Return work that lets the sink fail, and then raises the error, where there is one."""

    def work() -> None:
        if sink is not None:
            sink.failing = True
        if error is not None:
            raise error

    return work


def ends(sink: Memory) -> list[AuditEvent]:
    """Return the ends of runs that are on record."""
    return [event for event in sink.events if event.event == "run.ended"]


class Alarm(BaseException):
    """Neither an error of the agent's, nor one that asyncio treats in a way of its own."""


def test_a_run_is_on_record_from_its_beginning_to_its_end(driver: Driver) -> None:
    """Both say who, which agent and which conversation, and have one id; the end says the tools and the seconds."""
    clock, sink = FakeClock(), Memory()
    guard = issuer.guard(sink=sink)
    run = run_of(guard)
    del sink.events[:]
    guard.judge.recorder.clock = clock
    run.note_tools(["lookup"])

    class Ticking(Memory):
        def record(self, event: AuditEvent) -> None:
            super().record(event)
            clock.advance(1.5)

    guard.judge.recorder._sink = ticking = Ticking()
    drive(run, driver)
    started, ended = ticking.events
    assert (started.event, started.outcome, started.tools, started.duration) == ("run.started", None, ("lookup",), None)
    assert (ended.event, ended.outcome, ended.reason, ended.duration) == ("run.ended", "success", "ended", 1.5)
    for event in (started, ended):
        assert (event.subject, event.jti) == (run.principal.subject, "jti-1")
        assert (event.agent, event.conversation, event.run_id) == ("support", "c1", run.run_id)
    assert run.about == {"agent": "support", "conversation": "c1", "run_id": run.run_id}
    assert run_of(guard).run_id != run.run_id


@pytest.mark.parametrize(
    ("error", "outcome", "reason"),
    [
        (ValueError("canary"), "error", "ValueError"),
        (ExpiredTokenError("canary"), "error", "token_expired"),
        (asyncio.CancelledError("canary"), "cancelled", "CancelledError"),
        (Alarm("canary"), "cancelled", "Alarm"),
    ],
)
def test_how_a_run_ended_is_on_record_without_its_words(
    driver: Driver, error: BaseException, outcome: str, reason: str
) -> None:
    """An error is named by its code or class, never by its message, and goes on."""
    sink = Memory()
    with pytest.raises(type(error)):
        drive(run_of(issuer.guard(sink=sink)), driver, failing(error))
    [ended] = ends(sink)
    assert (ended.outcome, ended.reason) == (outcome, reason)
    assert "canary" not in ended.to_json()


def test_tools_are_on_record_once_each_in_their_order() -> None:
    """What is noted in the run is on record with its end; after that nothing can be noted."""
    sink = Memory()
    with run_of(issuer.guard(sink=sink)) as run:
        run.note_tools(["b", "a"])
        run.note_tools(["a", "c"])
    assert ends(sink)[0].tools == run.tools == ("b", "a", "c")
    with pytest.raises(RuntimeError, match="ended"):
        run.note_tools(["d"])


def test_a_run_is_entered_once(driver: Driver) -> None:
    """A second time would put two runs on record as one."""
    sink = Memory()
    run = run_of(issuer.guard(sink=sink))
    drive(run, driver)
    with pytest.raises(RuntimeError, match="before"):
        drive(run, driver)
    assert len(ends(sink)) == 1


def test_a_run_is_of_somebody_whom_a_guard_knows() -> None:
    """A principal that was made by hand, an agent without a name and an odd conversation are refused."""
    guard = issuer.guard()
    with pytest.raises(ValueError, match="did not come from a guard"):
        guard.run(Principal(subject="a", issuer="b"), agent="support")
    with pytest.raises(ValueError, match="name"):
        run_of(guard, agent="")
    with pytest.raises(ConversationIdError):
        run_of(guard, conversation="a\nb")
    assert "spiffe" not in repr(run_of(guard))


@pytest.mark.req("RU1")
def test_what_cannot_be_put_on_record_does_not_begin(driver: Driver) -> None:
    """With audit-first, the block of a run whose beginning is not on record is not entered, nor is it later."""
    sink = Memory()
    run = run_of(issuer.guard(sink=sink, audit_first=True))
    sink.failing = True
    with pytest.raises(AuditUnavailableError):
        drive(run, driver, failing(AssertionError("the agent ran")))
    sink.failing = False
    with pytest.raises(RuntimeError, match="before"):
        drive(run, driver)
    assert not ends(sink)


@pytest.mark.req("RU1")
@pytest.mark.parametrize("error", [None, ValueError(), asyncio.CancelledError()])
def test_an_answer_whose_end_is_not_on_record_does_not_leave(driver: Driver, error: BaseException | None) -> None:
    """With audit-first, a run that went well raises; an error or a cancellation, which is no answer, goes on."""
    sink = Memory()
    run = run_of(issuer.guard(sink=sink, audit_first=True))

    with pytest.raises(AuditUnavailableError if error is None else type(error)):
        drive(run, driver, failing(error, sink))


def test_without_audit_first_a_failing_sink_costs_no_answer(driver: Driver) -> None:
    """It is logged, and the run goes on."""
    sink = Memory()
    run = run_of(issuer.guard(sink=sink, audit_first=False))
    sink.failing = True
    drive(run, driver)


class Slow(Memory):
    """A sink that takes as long as it is told to, and notes who gave up on it."""

    def __init__(self) -> None:
        super().__init__()
        self.reached = asyncio.Event()
        self.release = asyncio.Event()

    async def arecord(self, event: AuditEvent) -> None:
        self.reached.set()
        await self.release.wait()
        self.record(event)


async def _slow_run(sink: Slow, began: asyncio.Event, **given: Any) -> Callable[[], Any]:
    """Return what runs an agent whose beginning and end wait for the sink."""
    guard = issuer.guard(**given)
    run = guard.run(await caller(guard, issuer.token()), agent="support")
    guard.judge.recorder._sink = sink

    async def work() -> None:
        async with run:
            began.set()
            sink.reached.clear()
            sink.release.clear()

    return work


@pytest.mark.parametrize("kind", ["run.started", "run.ended"])
def test_a_cancellation_waits_for_the_record(kind: str) -> None:
    """Cancelled while its beginning or its end is put on record, a run has both on record, and is then cancelled."""

    async def cancelled() -> list[AuditEvent]:
        sink, began = Slow(), asyncio.Event()
        task = asyncio.ensure_future((await _slow_run(sink, began))())
        if kind == "run.ended":
            sink.release.set()
            await began.wait()
        await sink.reached.wait()
        task.cancel()
        await asyncio.wait({task}, timeout=0.01)
        assert not task.done()
        sink.release.set()
        await asyncio.wait({task})
        assert task.cancelled()
        assert began.is_set() == (kind == "run.ended")
        return sink.events

    started, ended = asyncio.run(cancelled())
    assert (started.event, ended.event) == ("run.started", "run.ended")
    assert ended.outcome == ("success" if kind == "run.ended" else "cancelled")


def test_a_cancelled_scope_of_anyio_waits_for_the_record(monkeypatch: pytest.MonkeyPatch) -> None:
    """Starlette's way of cancelling, which says it again at each step: the record is awaited, once, all the same."""
    waits: list[object] = []
    wait = asyncio.wait

    def counted(*arguments: Any, **named: Any) -> Any:
        waits.append(arguments)
        return wait(*arguments, **named)

    async def cancelled() -> list[AuditEvent]:
        sink, began = Slow(), asyncio.Event()
        work = await _slow_run(sink, began)
        sink.release.set()

        async with anyio.create_task_group() as group:
            group.start_soon(work)
            await began.wait()
            await sink.reached.wait()
            monkeypatch.setattr(asyncio, "wait", counted)
            group.cancel_scope.cancel()
            for _ in range(50):
                with anyio.CancelScope(shield=True):
                    await asyncio.sleep(0)
            sink.release.set()
        return sink.events

    assert [event.event for event in asyncio.run(cancelled())] == ["run.started", "run.ended"]
    assert len(waits) <= 1


def test_a_cancelled_run_is_on_record_before_the_cancellation_goes_on() -> None:
    """An agent that is cancelled at work has ended, on record, when whoever awaits it is told."""

    async def cancelled() -> list[AuditEvent]:
        sink = Memory()
        guard = issuer.guard(sink=sink)
        run = guard.run(await caller(guard, issuer.token()), agent="support")
        at_work = asyncio.Event()

        async def work() -> None:
            async with run:
                at_work.set()
                await asyncio.Event().wait()

        task = asyncio.ensure_future(work())
        await at_work.wait()
        task.cancel()
        await asyncio.wait({task})
        assert task.cancelled()
        return ends(sink)

    [ended] = asyncio.run(cancelled())
    assert (ended.outcome, ended.reason) == ("cancelled", "CancelledError")


def test_a_failing_record_of_a_cancelled_run_is_nobodys_unretrieved_error() -> None:
    """The cancellation goes on, and asyncio has nothing to complain about."""

    async def cancelled() -> list[dict[str, Any]]:
        complaints: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context))
        sink = Slow()
        task = asyncio.ensure_future((await _slow_run(sink, asyncio.Event(), audit_first=True))())
        sink.failing = True
        await sink.reached.wait()
        task.cancel()
        await asyncio.sleep(0)
        sink.release.set()
        await asyncio.wait({task})
        assert task.cancelled()
        del task
        gc.collect()
        return complaints

    assert asyncio.run(cancelled()) == []


@pytest.mark.parametrize("leaves", ["after the last word", "in the middle", "between two words"])
def test_a_streams_run_ends_when_its_reader_leaves(leaves: str) -> None:
    """A run around a stream is on record as cancelled if the client goes away, and as a success if it stays."""

    async def streamed() -> list[AuditEvent]:
        sink = Memory()
        guard = issuer.guard(sink=sink)
        principal = await caller(guard, issuer.token())
        gone, stuck = asyncio.Event(), asyncio.Event()

        async def words() -> AsyncIterator[str]:
            async with guard.run(principal, agent="support"):
                yield "one "
                if leaves == "in the middle":
                    gone.set()
                    await stuck.wait()
                yield "two"

        app = FastAPI()
        app.add_api_route("/stream", lambda: StreamingResponse(words()), response_model=None)

        asked = False

        async def receive() -> Message:
            nonlocal asked
            if not asked:
                asked = True
                return {"type": "http.request", "body": b"", "more_body": False}
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            if leaves == "between two words" and message.get("body"):
                gone.set()
                await stuck.wait()

        scope = {
            "type": "http",
            "asgi": {"version": "3.0", "spec_version": "2.3"},
            "method": "GET",
            "path": "/stream",
            "raw_path": b"/stream",
            "root_path": "",
            "query_string": b"",
            "headers": [],
            "http_version": "1.1",
            "scheme": "http",
        }
        await app(scope, receive, send)
        gc.collect()
        for _ in range(10):
            await asyncio.sleep(0)
        return ends(sink)

    [ended] = asyncio.run(streamed())
    assert ended.outcome == ("success" if leaves == "after the last word" else "cancelled")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (None, "success"),
        (ValueError(), "error"),
        (asyncio.CancelledError(), "cancelled"),
        (GeneratorExit(), "cancelled"),
    ],
)
def test_opentelemetry_is_told_how_a_run_ended(
    driver: Driver, error: BaseException | None, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also of a stream whose reader left, which is closed; and with which tools it was."""
    monkeypatch.delenv("OTEL_SDK_DISABLED", raising=False)  # with it, a provider makes no spans
    exporter = InMemorySpanExporter()
    tracers = TracerProvider(resource=Resource.get_empty(), shutdown_on_exit=False)
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    run = run_of(issuer.guard())
    monkeypatch.setattr(_telemetry._application, "tracer", lambda: tracers.get_tracer("test"))
    run.note_tools(["lookup"])
    opened, closed = (run.__enter__, run.__exit__) if driver == "with" else _on_loops(run)
    opened()
    closed(None if error is None else type(error), error, None)
    (span,) = exporter.get_finished_spans()
    assert span.attributes is not None
    assert span.name == "authsec.guard.run"
    assert (span.attributes["authsec.outcome"], span.attributes["authsec.guard.tools"]) == (told, ("lookup",))


@pytest.mark.req("RU1")
def test_a_run_that_may_not_begin_or_answer_failed(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenTelemetry is told why, where the sink fails at the beginning and where it fails at the end."""
    monkeypatch.delenv("OTEL_SDK_DISABLED", raising=False)  # with it, a provider makes no spans
    exporter = InMemorySpanExporter()
    tracers = TracerProvider(resource=Resource.get_empty(), shutdown_on_exit=False)
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(_telemetry._application, "tracer", lambda: tracers.get_tracer("test"))
    for at_the_end in (False, True):
        sink = Memory()
        run = run_of(issuer.guard(sink=sink, audit_first=True))
        exporter.clear()
        sink.failing = not at_the_end
        with pytest.raises(AuditUnavailableError):
            drive(run, driver, failing(None, sink))
        spans = [span for span in exporter.get_finished_spans() if span.name == "authsec.guard.run"]
        assert [(span.attributes or {})["error.type"] for span in spans] == ["audit_unavailable"]


def _on_loops(run: AgentRun) -> tuple[Callable[..., Any], Callable[..., Any]]:
    return (lambda: asyncio.run(run.__aenter__()), lambda *how: asyncio.run(run.__aexit__(*how)))
