"""Nothing is done that is not on record, wherever it is decided: and without audit-first, what that costs.

No `from __future__ import annotations`: FastAPI reads those of functions that are made inside others.
"""

import asyncio
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from fastapi import Depends, FastAPI, WebSocket
from guard_http import ask, asked, authorization, scope_of
from guard_support import Issuer, Memory, caller
from tool_support import Shop, guard_of

from authsec_fastapi import AuditEvent, AuditUnavailableError, AuthSecGuard, AuthSecMiddleware, JsonLinesSink

issuer = Issuer()
GOOD = issuer.token("read:metrics", sub="somebody-in-person")
SHORT = issuer.token("other", sub="somebody-in-person")
Build = Callable[[AuthSecGuard, list[str]], Any]


def by_dependency(guard: AuthSecGuard, ran: list[str]) -> Any:
    """Guard a route."""
    app = FastAPI()

    @app.get("/metrics", dependencies=[Depends(guard.require("read:metrics"))])
    async def metrics() -> None:
        ran.append("metrics")

    return app


def by_middleware(guard: AuthSecGuard, ran: list[str]) -> Any:
    """Guard an application that knows nothing of it."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        ran.append("metrics")
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body"})

    return AuthSecMiddleware(app, guard=guard)


def by_socket(guard: AuthSecGuard, ran: list[str]) -> Any:
    """Guard a WebSocket."""
    app = FastAPI()

    @app.websocket("/metrics", dependencies=[Depends(guard.require("read:metrics"))])
    async def metrics(socket: WebSocket) -> None:
        ran.append("metrics")
        await socket.accept()

    return app


WAYS = [(by_dependency, "GET", 200, 503), (by_middleware, "GET", 200, 503), (by_socket, "WEBSOCKET", 101, 503)]


@pytest.mark.req("RU1")
@pytest.mark.parametrize(("build", "method", "good", "away"), WAYS)
def test_without_a_record_nothing_is_done(build: Build, method: str, good: int, away: int) -> None:
    """A good token gets 503 and the function does not run; who is denied is denied; and it works again afterwards."""
    memory, ran = Memory(failing=True), list[str]()
    app = build(issuer.guard(sink=memory), ran)
    assert asked(app, method, "/metrics", authorization(GOOD)).status == away
    assert asked(app, method, "/metrics", authorization("x")).status == 401
    assert asked(app, method, "/metrics").status == 401
    assert not ran
    memory.failing = False
    assert asked(app, method, "/metrics", authorization(GOOD)).status == good
    assert ran == ["metrics"]


@pytest.mark.req("RU1")
@pytest.mark.parametrize(("build", "method", "good", "away"), WAYS)
def test_without_audit_first_a_failing_sink_is_one_line_of_the_log(
    build: Build, method: str, good: int, away: int, caplog: pytest.LogCaptureFixture
) -> None:
    """At level ERROR, with what could not be recorded and why, and with nothing about anybody."""
    ran = list[str]()
    app = build(issuer.guard(sink=Memory(failing=True), audit_first=False), ran)
    caplog.set_level(logging.INFO)
    assert asked(app, method, "/metrics", authorization(GOOD)).status == good
    assert ran == ["metrics"]
    (record,) = [record for record in caplog.records if record.name.startswith("authsec")]
    assert (record.levelname, record.exc_info) == ("ERROR", None)
    assert record.getMessage() == "request (allow) could not be put on record: OSError"
    caplog.clear()
    assert asked(app, method, "/metrics", authorization("x")).status == 401
    (record,) = [record for record in caplog.records if record.name.startswith("authsec")]
    assert record.getMessage() == "request (deny) could not be put on record: OSError"


@pytest.mark.req("RU1")
def test_without_a_record_no_tool_runs() -> None:
    """An agent is told that it cannot be done now, blocking or not; a denial is a denial."""
    memory, shop = Memory(), Shop()
    guard = guard_of(memory)
    principal = asyncio.run(caller(guard, issuer.token("read:orders")))
    by_name = {tool.__name__: tool for tool in guard.tools(principal, shop.tools)}
    memory.failing = True
    told = [by_name["lookup"](order="1"), asyncio.run(by_name["alookup"](order="1"))]
    assert [json.loads(text)["code"] for text in told] == ["audit_unavailable"] * 2
    assert not shop.calls
    memory.failing = False
    by_name["lookup"](order="1")
    assert len(shop.calls) == 1


class Slow:
    """A sink that has an event when it is let go, and not before."""

    def __init__(self) -> None:
        self.events: list[AuditEvent] = []
        self.has_come = asyncio.Event()
        self.may_go = asyncio.Event()

    def record(self, event: AuditEvent) -> None:
        raise NotImplementedError

    async def arecord(self, event: AuditEvent) -> None:
        self.has_come.set()
        await self.may_go.wait()
        self.events.append(event)


@pytest.mark.req("RU1")
@pytest.mark.parametrize(("build", "method", "good", "away"), WAYS)
def test_who_leaves_before_it_is_on_record_gets_nothing(build: Build, method: str, good: int, away: int) -> None:
    """Where a request is cancelled while its record is under way, the function has not run and does not run."""
    ran = list[str]()

    async def leave() -> None:
        sink = Slow()
        app = build(issuer.guard(sink=sink), ran)
        request = asyncio.create_task(ask(app, scope_of(method, "/metrics", authorization(GOOD))))
        await sink.has_come.wait()
        assert not ran, "the function ran before its record"
        request.cancel()
        sink.may_go.set()
        with pytest.raises(asyncio.CancelledError):
            await request

    asyncio.run(leave())
    assert not ran


@pytest.mark.req("RU1")
@pytest.mark.parametrize("token", [GOOD, SHORT, "x"])
def test_who_leaves_takes_no_record_along(tmp_path: Path, token: str) -> None:
    """An event that was handed to a sink of ours is written, so that nobody is denied unseen by hanging up."""
    sink, ran = JsonLinesSink(tmp_path / "audit.jsonl"), list[str]()
    app = by_dependency(issuer.guard(sink=sink), ran)

    async def leave() -> None:
        with sink._lock:  # so that nothing is written yet
            request = asyncio.create_task(ask(app, scope_of("GET", "/metrics", authorization(token))))
            while not sink._grouped._is_writing:  # noqa: ASYNC110 -- it knows no loop
                await asyncio.sleep(0)
            request.cancel()
            with pytest.raises(asyncio.CancelledError):
                await request
        await sink.arecord(AuditEvent(event="request", outcome="allow", reason="allowed", at=0.0))

    asyncio.run(leave())
    assert not ran
    assert len((tmp_path / "audit.jsonl").read_text().splitlines()) == 2


def test_the_cause_is_said_and_not_shown(caplog: pytest.LogCaptureFixture) -> None:
    """What a sink of ours says of itself is in the log; of another's exception only the class."""
    caplog.set_level(logging.DEBUG)

    class Failing(Memory):
        def record(self, event: AuditEvent) -> None:
            raise self.error

        error: Exception = AuditUnavailableError("The authority took no report (401): check its key.")

    guard, sink = issuer.guard(sink=(sink := Failing())), sink
    with pytest.raises(AuditUnavailableError) as caught:
        guard.judge.recorder.record(AuditEvent(event="tool", outcome="allow", reason="allowed", at=0.0))
    assert caplog.messages[-1].endswith("The authority took no report (401): check its key.")
    sink.error = ValueError("canary")
    with pytest.raises(AuditUnavailableError) as caught:
        guard.judge.recorder.record(AuditEvent(event="tool", outcome="allow", reason="allowed", at=0.0))
    assert "canary" not in caplog.text + str(caught.value)
