"""What an application's OpenTelemetry is told of decisions and runs, and that nobody is told anything where none is."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from typing import Any

import pytest
from guard_support import Issuer, Memory, bearer, caller
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import StatusCode

from authsec_core._opentelemetry import Application
from authsec_core.errors import AuthSecError
from authsec_core.testing import assert_no_secret
from authsec_fastapi import AuthSecGuard, _telemetry
from authsec_fastapi._telemetry import observe_decision, observe_run
from authsec_fastapi.recording import About
from authsec_fastapi.requirement import Requirement

issuer = Issuer()
NEEDS = Requirement(scopes=frozenset({"read:metrics"}))


class Backend:
    """An SDK that keeps what it is told. It is not made the global one: only authsec finds it."""

    def __init__(self) -> None:
        self._exporter = InMemorySpanExporter()
        self._reader = InMemoryMetricReader()
        self.tracers = TracerProvider(resource=Resource.get_empty(), shutdown_on_exit=False)
        self.tracers.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.meters = MeterProvider([self._reader], resource=Resource.get_empty(), shutdown_on_exit=False)

    @property
    def spans(self) -> list[ReadableSpan]:
        """The spans, in the order in which they ended."""
        return list(self._exporter.get_finished_spans())

    @property
    def counts(self) -> dict[tuple[Any, ...], float]:
        """How often which outcome and reason were counted."""
        data = json.loads(self._exported_metrics())
        points = [
            point
            for resource in data["resource_metrics"]
            for scope in resource["scope_metrics"]
            for metric in scope["metrics"]
            for point in metric["data"]["data_points"]
        ]
        return {tuple(value for _, value in sorted(point["attributes"].items())): point["value"] for point in points}

    @property
    def exported(self) -> list[object]:
        """Everything that left the process."""
        return [*(span.to_json() for span in self.spans), self._exported_metrics()]

    def _exported_metrics(self) -> str:
        data = self._reader.get_metrics_data()
        return '{"resource_metrics": []}' if data is None else data.to_json()


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """The API is there, and nobody has set a provider."""
    monkeypatch.delenv("OTEL_SDK_DISABLED", raising=False)
    monkeypatch.setattr(_telemetry, "_application", Application(_telemetry._SCOPE, _telemetry._decisions))


@pytest.fixture
def backend(nobody: None, monkeypatch: pytest.MonkeyPatch) -> Backend:
    """An application that traces and measures."""
    found = Backend()
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: found.tracers)
    monkeypatch.setattr(metrics, "get_meter_provider", lambda: found.meters)
    return found


def decided(guard: AuthSecGuard, token: str, *, secretly: str | None = None) -> str:
    """Have a guard decide about a token, and return how it went."""
    headers = [(name.lower().encode(), value.encode()) for name, value in bearer(token).items()]
    about = About(method="GET", route="/reports/{name}", conversation=secretly, request_id=secretly)
    try:
        asyncio.run(guard.judge.admit(headers, NEEDS, about))
    except AuthSecError as error:
        return error.code
    return "allowed"


def told(span: ReadableSpan) -> dict[str, Any]:
    """Return the attributes, with lists in the place of tuples."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in (span.attributes or {}).items()}


def test_a_decision_is_a_span_and_is_counted(backend: Backend) -> None:
    """What was needed and what came of it; the token is named by its jti, and whoever called by nothing."""
    assert decided(issuer.guard(), issuer.token("read:metrics"), secretly="canary") == "allowed"
    (span,) = backend.spans
    assert span.name == "authsec.guard.decision"
    assert told(span) == {
        "authsec.guard.outcome": "allow",
        "authsec.guard.reason": "allowed",
        "authsec.guard.needed": ["read:metrics"],
        "authsec.token.jti": "jti-1",
        "http.request.method": "GET",
        "http.route": "/reports/{name}",
    }
    assert span.status.status_code is StatusCode.UNSET
    assert span.instrumentation_scope is not None
    assert span.instrumentation_scope.name == "authsec_fastapi"
    assert backend.counts == {("allow", "allowed"): 1}
    assert "canary" not in str(backend.exported)
    assert "spiffe" not in str(backend.exported)


def test_a_denial_is_no_error(backend: Backend) -> None:
    """It says why; of a token that is not good it tells nothing."""
    secret = issuer.token("other", aud="canary-canary")
    assert decided(issuer.guard(), secret) == "token_wrong_audience"
    assert decided(issuer.guard(), issuer.token("canary-scope")) == "access_denied"
    assert [(span.status.status_code, told(span)["authsec.guard.reason"]) for span in backend.spans] == [
        (StatusCode.UNSET, "token_wrong_audience"),
        (StatusCode.UNSET, "insufficient_scope"),
    ]
    assert backend.counts == {("deny", "token_wrong_audience"): 1, ("deny", "insufficient_scope"): 1}
    assert "canary" not in str(backend.exported)
    assert_no_secret(backend.exported, secret)


def test_what_could_not_be_put_on_record_was_not_allowed(backend: Backend) -> None:
    """The span and the counter have what the caller met with, and that it was no decision but a failure."""
    guard = issuer.guard(sink=Memory(failing=True))
    assert decided(guard, issuer.token("read:metrics")) == "audit_unavailable"
    (span,) = backend.spans
    assert span.status.status_code is StatusCode.ERROR
    assert told(span)["error.type"] == "audit_unavailable"
    assert backend.counts == {("deny", "audit_unavailable"): 1}


def test_a_run_holds_what_is_decided_within(backend: Backend) -> None:
    """The decisions about its tools are children of its span, also where they are made on another task."""
    guard = issuer.guard()

    async def run() -> None:
        principal = await caller(guard, issuer.token("read:metrics"))
        with observe_run(agent="support", run_id="run-1") as run_span:
            run_span.given(["look_up"])
            await asyncio.create_task(guard.judge.arecheck(principal, NEEDS, {"run_id": "run-1"}))
            guard.judge.recheck(principal, NEEDS, {"run_id": "run-1"})

    asyncio.run(run())
    _, first, second, outer = backend.spans
    assert outer.name == "authsec.guard.run"
    assert outer.context is not None
    assert [span.parent and span.parent.span_id for span in (first, second)] == [outer.context.span_id] * 2
    assert told(outer) == {
        "authsec.guard.agent": "support",
        "authsec.guard.run_id": "run-1",
        "authsec.guard.tools": ["look_up"],
        "authsec.outcome": "success",
    }


@pytest.mark.parametrize(
    ("error", "outcome", "code"),
    [(OSError("canary"), "error", "OSError"), (asyncio.CancelledError("canary"), "cancelled", None)],
)
def test_a_run_that_fails_says_how(backend: Backend, error: BaseException, outcome: str, code: str | None) -> None:
    """The class of the exception, and no word of it; a run that was cancelled did not fail."""
    with pytest.raises(type(error)), observe_run(agent="support", run_id="run-1"):
        raise error
    (span,) = backend.spans
    assert (told(span)["authsec.outcome"], told(span).get("error.type")) == (outcome, code)
    assert "canary" not in str(backend.exported)


def test_what_the_sdk_raises_decides_nothing(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """A broken exporter keeps nobody out, and lets nobody in."""

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("broken")

    monkeypatch.setattr(type(backend.tracers.get_tracer("x")), "start_span", broken)
    assert decided(issuer.guard(), issuer.token("read:metrics")) == "allowed"
    assert decided(issuer.guard(), issuer.token()) == "access_denied"


def test_a_decision_that_is_cancelled_is_neither(backend: Backend) -> None:
    """Who went away before the decision was made was not denied."""
    with pytest.raises(asyncio.CancelledError), observe_decision():
        raise asyncio.CancelledError
    assert backend.counts == {("cancelled", "cancelled"): 1}


def test_a_coroutine_that_is_thrown_away_tells_nothing(backend: Backend) -> None:
    """It is closed on any thread, perhaps on one that holds a lock of the SDK."""
    with pytest.raises(GeneratorExit), observe_decision():
        raise GeneratorExit
    with pytest.raises(GeneratorExit), observe_run(agent="support", run_id="run-1"):
        raise GeneratorExit
    assert not backend.spans
    assert not backend.counts


def test_nothing_is_loaded_where_no_sdk_is() -> None:
    """What tells OpenTelemetry loads no part of it; later versions of FastAPI themselves load the API."""
    program = """
import sys
from authsec_fastapi._telemetry import observe_decision, observe_run
with observe_run(agent="support", run_id="run-1"), observe_decision():
    pass
print([name for name in sys.modules if name.startswith("opentelemetry")])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
