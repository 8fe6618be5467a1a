"""No token, static token or key is shown: not on record, in logs, answers, errors, spans or reprs, on whichever way.

No `from __future__ import annotations`: FastAPI reads those of functions that are made inside others.
"""

import asyncio
import logging
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI
from guard_http import ask, authorization, scope_of
from guard_support import Issuer
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from authsec_core._opentelemetry import Application
from authsec_core.testing import LoopbackServer, Reply, Request, assert_no_secret
from authsec_fastapi import (
    AuditEvent,
    AuditUnavailableError,
    AuthoritySink,
    AuthSecGuard,
    AuthSecMiddleware,
    CombinedSink,
    JsonLinesSink,
    LoggingSink,
    Policy,
    Principal,
    StaticToken,
    ToolRule,
    _telemetry,
)

KEY = "agk_0123456789abcdef.kkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkkk"
STATIC = "a-static-token-that-nobody-shows"
CLIENT_ID = "ce608d83-40df-4bcf-93ae-f0bf0552589c"
issuer = Issuer()
POLICY = Policy(
    roles={"admin": frozenset({"read"})},
    tools={"lookup": ToolRule(scopes=frozenset({"read:orders"})), "refund": ToolRule(role="admin")},
)


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    """What an application's SDK is told."""
    monkeypatch.delenv("OTEL_SDK_DISABLED", raising=False)
    exporter, tracers = InMemorySpanExporter(), TracerProvider(shutdown_on_exit=False)
    tracers.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(_telemetry, "_application", Application(_telemetry._SCOPE, _telemetry._decisions))
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: tracers)
    return exporter


@pytest.fixture
def authority() -> Iterator[LoopbackServer]:
    """What reports are sent to: it takes two, and then fails with what it was shown."""
    answers = [Reply.of_json({"recorded": 1}, status=201)] * 2

    def handle(request: Request) -> Reply:
        return answers.pop() if answers else Reply(status=500, body=request.headers["authorization"].encode())

    with LoopbackServer(handle) as running:
        yield running


def build(guard: AuthSecGuard, seen: list[Any]) -> Any:
    """Return an application in which a tool is used and a run takes place, and that keeps what it can see."""
    app = FastAPI()

    def lookup(order: str) -> str:
        """Look an order up."""
        return order

    def refund(order: str) -> str:
        """Pay back."""
        return order

    @app.get("/chat")
    async def chat(caller: Annotated[Principal, Depends(guard.require("read:orders"))]) -> str:
        async with guard.run(caller, agent="support", conversation="c1") as run:
            tools = guard.tools(caller, [lookup, refund], run=run)
            seen.extend([caller, repr(vars(type(caller))), run, run.about, *[tool(order="1") for tool in tools]])
        return caller.subject

    app.add_middleware(AuthSecMiddleware, guard=guard)
    return app


def what_comes(app: Any, scope: dict[str, Any]) -> tuple[Any, ...]:
    """Return an answer; or what the application did not catch: a run that could not be put on record."""
    try:
        answer = asyncio.run(ask(app, scope))
    except AuditUnavailableError as error:
        return ("raised", *shown(error))
    return answer.status, dict(answer.headers), answer.body


def shown(error: BaseException) -> list[str]:
    """Return an exception as programs print it."""
    return [repr(error), "".join(traceback.format_exception(error))]


@pytest.mark.req("RS8")
@pytest.mark.parametrize("kind", ["issuer", "static"])
def test_no_way_shows_a_secret(
    kind: str,
    spans: InMemorySpanExporter,
    authority: LoopbackServer,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """In, out, denied, malformed, with a failing sink, by the middleware, a dependency, a tool and a run."""
    caplog.set_level(logging.DEBUG)
    reporting = AuthoritySink(base_url=authority.base_url, client_id=CLIENT_ID, agent_key=KEY, retries=0)
    sink, answers, seen = CombinedSink(LoggingSink(), JsonLinesSink(tmp_path / "audit.jsonl")), [], list[Any]()
    good, short, ended = issuer.token("read:orders"), issuer.token("other"), issuer.token("read:orders", exp=1)
    static = StaticToken(STATIC, subject="ann", scopes="read:orders")
    given: dict[str, Any] = {"issuers": [issuer.trusted()]} if kind == "issuer" else {"static_token": static}
    guards = [AuthSecGuard(policy=POLICY, sink=each, **given) for each in (sink, CombinedSink(sink, reporting))]
    let_in = good if kind == "issuer" else STATIC
    secrets = {good, short, ended, KEY, STATIC, let_in[:-4] + "AAAA"}
    for guard in guards:
        app = build(guard, seen)
        tokens = (
            let_in,
            short,
            ended,
            let_in[:-4] + "AAAA",
            f"{let_in} {let_in}",
            f"{let_in}\x00",
            "é" + let_in,
            let_in,
        )
        twice = [*authorization(let_in), *authorization(short)]
        basic = [(b"authorization", f"Basic {let_in}".encode())]
        for headers in (*map(authorization, (*tokens, let_in)), twice, basic, []):
            scope = scope_of("GET", "/chat", headers, query_string=f"access_token={let_in}".encode())
            answers += [what_comes(app, scope)]
    with pytest.raises(AuditUnavailableError) as caught:
        reporting.record(AuditEvent(event="tool", outcome="allow", reason="allowed", at=0.0))
    assert {200, 400, 401, 503, "raised"} <= {answer[0] for answer in answers}
    # FastAPI itself, in later versions, tells of requests with their query.
    ours = [span for span in spans.get_finished_spans() if "authsec" in str(span.instrumentation_scope)]
    told = [span.to_json() for span in ours]
    assert told
    on_record = (tmp_path / "audit.jsonl").read_text()
    assert on_record.count("\n") > 10
    printed = capfd.readouterr()
    things = [*guards, *[vars(guard) for guard in guards], sink, reporting, static, seen]
    material = [things, answers, told, on_record, shown(caught.value), caplog.records, printed.out, printed.err]
    assert_no_secret(material, *secrets)
    reporting.close()
