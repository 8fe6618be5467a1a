"""What the application's OpenTelemetry is told of requests: enough to see where time goes, and nothing of anyone."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from behaviour.support import NOBODY, PATIENCE, OpenSite, Site
from opentelemetry import trace
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from authsec_core.testing import assert_no_secret
from authsec_server.telemetry import tracing
from authsec_server.telemetry.tracing import UNTRACED, request_span, step

ATTRIBUTES = {
    "authsec.request_id",
    "error.type",
    "http.request.method",
    "http.response.status_code",
    "http.route",
}
TRACE_ID = "0af7651916cd43dd8448eb211c80319c"
CARRIED = {"traceparent": f"00-{TRACE_ID}-b7ad6b7169203331-01", "tracestate": "a=b"}


class Backend:
    """An SDK that keeps what it is told. It is not made the global one: only authsec finds it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("OTEL_SDK_DISABLED", raising=False)
        monkeypatch.setattr(tracing, "_application", tracing._Application())
        self._monkeypatch = monkeypatch
        self._exporter = InMemorySpanExporter()
        self.tracers = TracerProvider(resource=Resource.get_empty(), shutdown_on_exit=False)

    def trace(self, exporter: SpanExporter | None = None) -> None:
        """Set the tracer provider."""
        self.tracers.add_span_processor(SimpleSpanProcessor(exporter or self._exporter))
        self._monkeypatch.setattr(trace, "get_tracer_provider", lambda: self.tracers)

    @property
    def spans(self) -> list[ReadableSpan]:
        """The spans, in the order in which they ended."""
        return list(self._exporter.get_finished_spans())

    def of(self, reply: Any) -> dict[str, ReadableSpan]:
        """Return the spans of the trace that this request is in, by name. A span ends a little after the answer."""
        request_id, pause = reply.headers["x-request-id"], threading.Event()
        found: list[ReadableSpan] = []
        for _ in range(int(PATIENCE / 0.01)):
            found = [span for span in self.spans if (span.attributes or {}).get("authsec.request_id") == request_id]
            if found:
                break
            pause.wait(0.01)
        (top,) = found
        return {span.name: span for span in self.spans if span.context.trace_id == top.context.trace_id}


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> Backend:
    """An application that traces."""
    found = Backend(monkeypatch)
    found.trace()
    return found


@pytest.fixture
def proxied(open_site: OpenSite) -> Iterator[Site]:
    """An authority behind a proxy that is trusted."""
    with open_site(trusted_proxies="127.0.0.1") as site:
        yield site


def test_a_request_is_a_span_with_its_steps(site: Site, backend: Backend) -> None:
    """The route's template, method, status and request id; below it the decision and the signature."""
    agent = site.onboard()
    reply = site.ask(agent)
    spans = backend.of(reply)
    top = spans["GET /authsec/uflow/sdk/delegation-token"]
    assert (top.kind, top.parent, top.status.status_code) == (SpanKind.SERVER, None, StatusCode.UNSET)
    assert dict(top.attributes or {}) == {
        "authsec.request_id": reply.headers["x-request-id"],
        "http.request.method": "GET",
        "http.response.status_code": 200,
        "http.route": "/authsec/uflow/sdk/delegation-token",
    }
    for name in ("authsec.decide", "authsec.sign"):
        assert spans[name].kind is SpanKind.INTERNAL
        assert spans[name].parent is not None
        assert spans[name].parent.span_id == top.context.span_id  # type: ignore[union-attr]  # it was just looked at
    assert len(spans) == 3


def test_requests_at_once_have_their_own_traces(site: Site, backend: Backend) -> None:
    """One after the other on a kept connection, none is the child of the one before."""
    replies = [site.ask(NOBODY, "Bearer x"), site.authority.client.get("/whoami"), site.ask(NOBODY, "Bearer x")]
    names = [sorted(backend.of(reply)) for reply in replies]
    refused = ["GET /authsec/uflow/sdk/delegation-token", "authsec.decide"]
    assert names == [refused, ["GET /api/v1/whoami"], refused]


def test_nothing_of_anyone_is_told(site: Site, backend: Backend) -> None:
    """The attributes are a closed list, and no path, query, id, scope, key or token is in what is exported."""
    agent = site.onboard("read:something-that-nobody-else-has")
    token = site.token(agent, scope="read:something-that-nobody-else-has")
    site.authority.client.get(f"/clients/{agent.client_id}")
    nowhere = site.http.get(f"{site.authority.base_url}/nothing/{agent.client_id}?x={agent.agent_key}")
    assert set(backend.of(nowhere)) == {"GET"}
    told = [span.to_json() for span in backend.spans]
    assert {name for span in backend.spans for name in span.attributes or {}} <= ATTRIBUTES
    assert {"GET", "GET /api/v1/clients/{client_id}"} <= {span.name for span in backend.spans}
    assert not [span for span in backend.spans if span.events]
    assert_no_secret(told, agent.client_id, agent.agent_key, agent.name, token, "something-that", "nothing/")


def test_a_failure_is_one(site: Site, backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """A refusal is none, and what nobody expected is: by its status and its class, without its words."""

    def fails(*_: Any, **__: Any) -> Any:
        raise ZeroDivisionError("secret words")

    agent = site.onboard()
    monkeypatch.setattr("authsec_server.tokens.issue.decide", fails)
    reply = site.ask(agent)
    assert reply.status_code == 500
    spans = backend.of(reply)
    top, decision = spans["GET /authsec/uflow/sdk/delegation-token"], spans["authsec.decide"]
    assert (top.status.status_code, top.status.description) == (StatusCode.ERROR, "500")
    assert (decision.status.status_code, decision.status.description) == (StatusCode.ERROR, "ZeroDivisionError")
    assert (decision.attributes or {})["error.type"] == "ZeroDivisionError"
    assert "secret words" not in "".join(span.to_json() for span in spans.values())
    refused = backend.of(site.ask(NOBODY, "Bearer x"))
    assert {span.status.status_code for span in refused.values()} == {StatusCode.UNSET}


def test_a_strangers_trace_is_not_joined(site: Site, proxied: Site, backend: Backend) -> None:
    """Only a proxy that is trusted says which trace a request belongs to."""
    url = f"{site.authority.base_url}/authsec/.well-known/jwks.json"
    for given in (CARRIED, {**CARRIED, "X-Forwarded-For": "127.0.0.1"}):
        (top,) = backend.of(site.http.get(url, headers=given)).values()
        assert top.parent is None
    url = f"{proxied.authority.base_url}/authsec/.well-known/jwks.json"
    (top,) = backend.of(site.http.get(url, headers={**CARRIED, "X-Forwarded-For": "192.0.2.1"})).values()
    assert top.parent is not None
    assert f"{top.context.trace_id:032x}" == TRACE_ID
    (top,) = backend.of(site.http.get(url, headers={"traceparent": "no trace"})).values()
    assert top.parent is None


def test_a_broken_exporter_harms_nobody(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the application's SDK raises, at the beginning or the end, agents get their tokens."""
    agent = site.onboard()

    class Broken:
        def start_span(self, *_: Any, **__: Any) -> Any:
            raise RuntimeError("broken")

    class Bad(SpanExporter):
        def export(self, spans: Any) -> Any:
            raise RuntimeError("broken")

    Backend(monkeypatch).trace(Bad())
    assert site.token(agent)
    monkeypatch.setattr(tracing._application, "tracer", Broken())
    assert site.token(agent)


def test_nothing_is_loaded_and_nobody_told_without_a_provider(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not where only the API is there, nor where a program forbade it."""
    Backend(monkeypatch)
    assert request_span("x", dict) is step("authsec.decide") is UNTRACED
    for module in ("opentelemetry", "opentelemetry.trace"):
        monkeypatch.setitem(sys.modules, module, None)
    assert request_span("x", dict) is step("authsec.sign") is UNTRACED
