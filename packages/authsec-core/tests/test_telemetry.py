"""What an application's OpenTelemetry is told, and that nobody is told anything, at no cost, where there is none."""

from __future__ import annotations

import asyncio
import contextvars
import json
import logging
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from api_support import World, fetch
from core_support import CLIENT_ID, PATIENT, AnyClient, Driver, Joined
from opentelemetry import metrics, trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader, NumberDataPoint
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from authsec_core import (
    AsyncAuthSecClient,
    AuthorityUnreachableError,
    AuthSecClient,
    AuthSecConfig,
    AuthSecError,
    DelegationRefusedError,
    EndpointRefusedError,
    TokenCache,
    _telemetry,
)
from authsec_core._opentelemetry import Application
from authsec_core._telemetry import UNOBSERVED, observe
from authsec_core.testing import FakeClock, LocalAuthority, LoopbackServer, Raw, Reply, Request, assert_no_secret

KEY = "agent-7f3a.q2w3e4r5t6y7u8i9o0p1a2s3d4f5g6h7"
SPAN_KEYS = frozenset(
    {"authsec.mode", "authsec.outcome", "authsec.scopes", "authsec.token.jti", "error.type"}
    | {"http.request.resend_count", "http.response.status_code", "server.address", "server.port"}
)
METRIC_KEYS = frozenset({"authsec.cache.result", "authsec.mode", "authsec.outcome", "error.type"})
READ = ["read:metrics"]


class Backend:
    """An SDK that keeps what it is told. It is not made the global one: only authsec finds it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("OTEL_SDK_DISABLED", raising=False)  # CrewAI's sessions set it
        self._monkeypatch = monkeypatch
        self._exporter = InMemorySpanExporter()
        self._reader = InMemoryMetricReader()
        self.tracers = TracerProvider(resource=Resource.get_empty(), shutdown_on_exit=False)
        self.tracers.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.meters = MeterProvider([self._reader], resource=Resource.get_empty(), shutdown_on_exit=False)
        monkeypatch.setattr(_telemetry, "_application", Application(_telemetry._SCOPE, _telemetry._Instruments))

    def trace(self) -> None:
        """Set the tracer provider."""
        self._monkeypatch.setattr(trace, "get_tracer_provider", lambda: self.tracers)

    def measure(self) -> None:
        """Set the meter provider."""
        self._monkeypatch.setattr(metrics, "get_meter_provider", lambda: self.meters)

    @property
    def spans(self) -> list[ReadableSpan]:
        """The spans, in the order in which they ended."""
        return list(self._exporter.get_finished_spans())

    def span(self, name: str) -> ReadableSpan:
        """Return the one span of this name."""
        (found,) = [span for span in self.spans if span.name == name]
        return found

    def points(self, name: str) -> dict[tuple[str, ...], float]:
        """Return a metric's points: counts, or how many were measured, by the values of their attributes in order."""
        return {
            tuple(str(value) for _, value in sorted((point.attributes or {}).items())): (
                point.count if isinstance(point, HistogramDataPoint) else point.value
            )
            for point in self._points(name)
        }

    def histogram(self, name: str) -> HistogramDataPoint:
        """Return the one point of a histogram."""
        (point,) = self._points(name)
        assert isinstance(point, HistogramDataPoint)
        return point

    @property
    def exported(self) -> list[object]:
        """Everything that left the process, in the forms in which it does."""
        told = [span.to_json() for span in self.spans]
        told += [
            repr([span.name, span.attributes, span.events, span.links, span.status.description]) for span in self.spans
        ]
        data = self._reader.get_metrics_data()
        return [*told, "" if data is None else data.to_json()]

    def _points(self, name: str) -> list[NumberDataPoint | HistogramDataPoint]:
        data = self._reader.get_metrics_data()
        found = [] if data is None else data.resource_metrics
        return [
            point
            for resource in found
            for scope in resource.scope_metrics
            for metric in scope.metrics
            if metric.name == name
            for point in metric.data.data_points
            if isinstance(point, (NumberDataPoint, HistogramDataPoint))
        ]


@pytest.fixture
def nobody(monkeypatch: pytest.MonkeyPatch) -> Backend:
    """The API is there, and nobody has set a provider."""
    return Backend(monkeypatch)


@pytest.fixture
def backend(nobody: Backend) -> Backend:
    """An application that traces and measures."""
    nobody.trace()
    nobody.measure()
    return nobody


@pytest.fixture
def world() -> World:
    """An authority and an API in the network's place."""
    return World()


def attributes(span: ReadableSpan) -> dict[str, Any]:
    """Return them with lists in the place of tuples."""
    return {name: list(value) if isinstance(value, tuple) else value for name, value in (span.attributes or {}).items()}


def token(driver: Driver, client: AnyClient, **wish: Any) -> str:
    """Ask for a token of one scope."""
    return driver.run(client.get_delegation_token("read:metrics", **wish))


class TestSpans:
    """What a trace shows."""

    def test_an_exchange_is_a_client_span(self, driver: Driver, backend: Backend, world: World) -> None:
        """It says whom was asked, for what, and what came of it; the token is named by its jti."""
        token(driver, world.client(driver))
        span = backend.span("authsec.exchange")
        assert span.kind is SpanKind.CLIENT
        assert attributes(span) == {
            "authsec.mode": "live",
            "authsec.outcome": "success",
            "authsec.scopes": READ,
            "authsec.token.jti": "jti-1",
            "http.response.status_code": 200,
            "server.address": "authority.test",
            "server.port": 443,
        }
        assert span.status.status_code is StatusCode.UNSET
        assert span.instrumentation_scope is not None
        assert span.instrumentation_scope.name == "authsec_core"

    def test_a_fetch_holds_the_exchange_that_it_needed(self, driver: Driver, backend: Backend, world: World) -> None:
        """The exchange is its child; of the address it says the origin alone, for a path may name a person."""
        fetch(driver, world.client(driver), "people/ada?born=1815", "read:metrics")
        span, child = backend.span("authsec.fetch"), backend.span("authsec.exchange")
        assert span.kind is SpanKind.INTERNAL
        assert attributes(span) == {
            "authsec.mode": "live",
            "authsec.outcome": "success",
            "authsec.scopes": READ,
            "authsec.token.jti": "jti-1",
            "http.response.status_code": 200,
            "server.address": "api.test",
            "server.port": 443,
        }
        assert child.parent is not None
        assert span.context is not None
        assert child.parent.span_id == span.context.span_id
        assert not [told for told in backend.exported if "people" in str(told) or "born" in str(told)]

    def test_a_mock_fetch_names_no_server(self, driver: Driver, backend: Backend) -> None:
        """Nothing was asked of anyone, so that there is a fetch and no exchange."""
        fetch(driver, driver.client(AuthSecConfig(mode="mock")), "secure-vault/metrics", "read:metrics")
        (span,) = backend.spans
        told = attributes(span)
        assert told.pop("authsec.token.jti")
        assert told == {"authsec.mode": "mock", "authsec.outcome": "success", "authsec.scopes": READ}

    def test_a_refusal_is_told_by_its_code(self, driver: Driver, backend: Backend, world: World) -> None:
        """Both spans have the stable code as their error and as nothing but that; no exception is written down."""
        world.refusal = 403
        with pytest.raises(DelegationRefusedError):
            fetch(driver, world.client(driver), "x", "read:metrics")
        for name in ("authsec.exchange", "authsec.fetch"):
            span = backend.span(name)
            assert span.status.status_code is StatusCode.ERROR
            assert span.status.description == "delegation_refused"
            assert attributes(span)["authsec.outcome"] == "error"
            assert attributes(span)["error.type"] == "delegation_refused"
            assert not span.events
        assert attributes(backend.span("authsec.exchange"))["http.response.status_code"] == 403
        assert "server.address" not in attributes(backend.span("authsec.fetch"))  # the API was never called

    def test_an_endpoint_that_is_refused_is_not_repeated(self, driver: Driver, backend: Backend, world: World) -> None:
        """The attempt of a model is seen as such, and its words are not."""
        with pytest.raises(EndpointRefusedError):
            fetch(driver, world.client(driver), "https://evil.example/gotcha", "words:of:a:model")
        assert attributes(backend.span("authsec.fetch")) == {
            "authsec.mode": "live",
            "authsec.outcome": "error",
            "error.type": "endpoint_refused",
        }

    def test_repeated_requests_are_counted_in_one_span(
        self, driver: Driver, backend: Backend, clock: FakeClock
    ) -> None:
        """Three attempts are one exchange; the status is that of the last, and there is none where nothing answered."""
        answers = iter([httpx.Response(503), httpx.Response(429)])

        def handler(_: httpx.Request) -> httpx.Response:
            answer = next(answers, None)
            if answer is None:
                raise httpx.ConnectError("no route")
            return answer

        client = driver.client(World().config(retries=2), handler=handler, clock=clock)
        with pytest.raises(AuthorityUnreachableError):
            token(driver, client)
        told = attributes(backend.span("authsec.exchange"))
        assert told["http.request.resend_count"] == 2
        assert told["error.type"] == "authority_unreachable"
        assert "http.response.status_code" not in told

    def test_an_error_of_another_library_is_named_by_its_class(
        self, driver: Driver, backend: Backend, world: World
    ) -> None:
        """A transport of the program's own may raise anything; what it says stays out."""

        def broken(_: httpx.Request) -> httpx.Response:
            raise LookupError("words of another library")

        world.answer = broken
        with pytest.raises(LookupError):
            fetch(driver, world.client(driver), "x", "read:metrics")
        assert backend.span("authsec.fetch").status.description == "LookupError"
        assert not [told for told in backend.exported if "words" in str(told)]

    def test_requests_are_made_inside_the_span(self, driver: Driver, backend: Backend, world: World) -> None:
        """An instrumentation of httpx then puts its own spans below ours; afterwards the caller's is current again."""
        inside: list[object] = []

        def handler(request: httpx.Request) -> httpx.Response:
            inside.append(trace.get_current_span().get_span_context())
            return world(request)

        before = trace.get_current_span()
        fetch(driver, driver.client(world.config(), handler=handler), "x", "read:metrics")
        assert inside == [backend.span("authsec.exchange").context, backend.span("authsec.fetch").context]
        assert trace.get_current_span() is before

    def test_nothing_is_added_to_requests(self, driver: Driver, backend: Backend, world: World) -> None:
        """Neither the authority nor the API learns of the application's traces or its baggage."""
        fetch(driver, world.client(driver), "x", "read:metrics")
        usual = {"accept", "accept-encoding", "authorization", "connection", "host", "user-agent"}
        assert {name for request in world.exchanges + world.calls for name in request.headers} <= usual

    def test_a_token_that_was_refused_is_not_the_one_that_is_named(
        self, driver: Driver, backend: Backend, world: World
    ) -> None:
        """After a replay the fetch names the token that was taken."""
        refusal = httpx.Response(401, headers={"WWW-Authenticate": 'Bearer error="invalid_token"'})
        world.answer = lambda _: refusal if len(world.calls) == 1 else httpx.Response(200, json={})
        fetch(driver, world.client(driver), "x", "read:metrics")
        assert attributes(backend.span("authsec.fetch"))["authsec.token.jti"] == "jti-2"
        assert [span.name for span in backend.spans].count("authsec.exchange") == 2


class TestEnds:
    """Operations that are ended from outside."""

    def test_a_cancelled_exchange_is_no_error(self, backend: Backend, world: World) -> None:
        """Its span ends as cancelled, without the status of an error, and the task's own span is current again."""
        asked = asyncio.Event()
        current: list[object] = []

        async def handler(request: httpx.Request) -> httpx.Response:
            asked.set()
            await asyncio.Event().wait()
            return world(request)

        async def call(client: AsyncAuthSecClient) -> None:
            before = trace.get_current_span()
            try:
                await client.fetch("x", "read:metrics")
            finally:
                current.append(trace.get_current_span() is before)

        async def cancel() -> None:
            async with AsyncAuthSecClient(world.config(), transport=httpx.MockTransport(handler)) as client:
                task = asyncio.ensure_future(call(client))
                await asked.wait()
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task

        asyncio.run(cancel())
        assert current == [True]
        for name in ("authsec.exchange", "authsec.fetch"):
            assert attributes(backend.span(name))["authsec.outcome"] == "cancelled"
            assert "error.type" not in attributes(backend.span(name))
            assert backend.span(name).status.status_code is StatusCode.UNSET
            assert backend.points(f"{name}.requests") == {("live", "cancelled"): 1}

    def test_an_interrupt_ends_the_span(self, backend: Backend, world: World) -> None:
        """Ctrl-C in a blocking call is told like a cancellation."""

        def interrupted(_: httpx.Request) -> httpx.Response:
            raise KeyboardInterrupt

        world.answer = interrupted
        with (
            AuthSecClient(world.config(), transport=httpx.MockTransport(world)) as client,
            pytest.raises(KeyboardInterrupt),
        ):
            client.fetch("x", "read:metrics")
        assert attributes(backend.span("authsec.fetch"))["authsec.outcome"] == "cancelled"

    @pytest.mark.parametrize("elsewhere", [True, False])
    def test_a_coroutine_that_is_thrown_away_is_not_told(
        self, backend: Backend, caplog: pytest.LogCaptureFixture, elsewhere: bool
    ) -> None:
        """The collector may close it on a thread that holds a lock of the SDK; a stranger's context is left alone."""
        begun = _operation()
        before = trace.get_current_span()
        with caplog.at_level(logging.DEBUG, "opentelemetry"):
            if elsewhere:
                contextvars.copy_context().run(begun.send, None)
            else:
                begun.send(None)
            assert (trace.get_current_span() is before) is elsewhere
            begun.close()
        assert trace.get_current_span() is before
        assert not backend.spans
        assert not backend.points("authsec.fetch.requests")
        assert not [record for record in caplog.records if record.name.startswith("opentelemetry")]

    def test_an_interrupted_count_strands_nobody(
        self, driver: Driver, backend: Backend, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """An interrupt that comes while a leader is being counted lets the next caller lead."""
        instruments = _telemetry._application.instruments()
        assert instruments is not None
        client = world.client(driver)
        with monkeypatch.context() as patch:
            patch.setattr(instruments.lookups, "add", _interrupt)
            with pytest.raises(KeyboardInterrupt):
                token(driver, client)
        assert token(driver, client) == world.tokens[0]
        assert _lookups(backend) == {"miss": 1}  # nobody had to wait for the one that was interrupted


class _Never:
    def __await__(self) -> Generator[None, None, None]:
        yield


async def _operation() -> None:
    with observe("fetch", "mock", FakeClock()):
        await _Never()


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


class TestMetrics:
    """What is counted and measured."""

    def test_operations_are_counted_by_outcome(self, driver: Driver, backend: Backend, world: World) -> None:
        """Outcomes and stable codes are the only things that tell points apart; scopes and names would be too many."""
        client = world.client(driver, failure_cooldown=0)
        fetch(driver, client, "x", "read:metrics")
        fetch(driver, client, "y", "read:metrics")
        world.refusal = 410
        with pytest.raises(DelegationRefusedError):
            fetch(driver, client, "x", "read:other")
        assert backend.points("authsec.exchange.requests") == {
            ("live", "success"): 1,
            ("live", "error", "delegation_refused"): 1,
        }
        assert backend.points("authsec.fetch.requests") == {
            ("live", "success"): 2,
            ("live", "error", "delegation_refused"): 1,
        }
        assert backend.points("authsec.fetch.duration") == backend.points("authsec.fetch.requests")

    def test_durations_are_seconds(self, driver: Driver, backend: Backend, clock: FakeClock) -> None:
        """They are measured by the client's clock, and fall into the buckets that conventions have for HTTP."""
        world = World()

        def handler(request: httpx.Request) -> httpx.Response:
            clock.advance(0.3)
            return world(request)

        fetch(driver, driver.client(world.config(), handler=handler, clock=clock), "x", "read:metrics")
        assert backend.histogram("authsec.exchange.duration").sum == pytest.approx(0.3)
        measured = backend.histogram("authsec.fetch.duration")
        assert measured.sum == pytest.approx(0.6)
        assert tuple(measured.explicit_bounds) == _telemetry._BUCKETS

    def test_looks_into_the_cache_are_counted(self, driver: Driver, backend: Backend, clock: FakeClock) -> None:
        """Misses, hits (a token at hand is one), stale tokens that go on being used, and failures that are recent."""
        world = World()
        client = driver.client(world.config(refresh_margin=60), handler=world, clock=clock)
        token(driver, client)
        token(driver, client)
        fetch(driver, client, "x", "read:metrics")
        assert _lookups(backend) == {"miss": 1, "hit": 2}
        clock.advance(1750)
        world.refusal = 503
        token(driver, client)  # asks, in vain
        token(driver, client)  # within the cool-down
        assert _lookups(backend) == {"miss": 2, "hit": 2, "stale": 1}
        clock.advance(100)
        for _ in range(2):
            with pytest.raises(AuthorityUnreachableError):
                token(driver, client)
        assert _lookups(backend) == {"miss": 3, "hit": 2, "stale": 1, "failed": 1}

    def test_who_waits_for_another_has_joined(self, backend: Backend, joined: Joined) -> None:
        """One exchange has one span, whoever waits for it; each fetch names the token by the same jti."""
        answer, world = threading.Event(), World()

        def handler(request: httpx.Request) -> httpx.Response:
            assert answer.wait(PATIENT)
            return world(request)

        with AuthSecClient(world.config(), transport=httpx.MockTransport(handler)) as client:
            callers = [threading.Thread(target=client.fetch, args=("x", "read:metrics")) for _ in range(3)]
            for caller in callers:
                caller.start()
            joined.until(2)
            answer.set()
            for caller in callers:
                caller.join(PATIENT)
        assert _lookups(backend) == {"miss": 1, "joined": 2}
        exchange = backend.span("authsec.exchange")
        fetches = [span for span in backend.spans if span.name == "authsec.fetch"]
        assert [attributes(span)["authsec.token.jti"] for span in (exchange, *fetches)] == ["jti-1"] * 4
        leaders = [span for span in fetches if span.context and exchange.parent == span.context]
        assert len(leaders) == 1

    def test_each_instrument_is_made_once(self, backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
        """Threads that come at the same time must not make two of a name: both would be exported."""
        made = threading.Barrier(2)
        meter = backend.meters.get_meter("authsec_core")
        names: list[str] = []
        locked: list[bool] = []
        create = meter.create_counter

        def get_meter(*_: object) -> metrics.Meter:
            made.wait(PATIENT)
            return meter

        def create_counter(name: str, *more: Any) -> metrics.Counter:
            names.append(name)
            locked.append(_telemetry._application._lock.locked())
            return create(name, *more)

        monkeypatch.setattr(meter, "create_counter", create_counter)
        monkeypatch.setattr(backend.meters, "get_meter", get_meter)
        callers = [threading.Thread(target=_telemetry._application.instruments) for _ in range(2)]
        for caller in callers:
            caller.start()
        for caller in callers:
            caller.join(PATIENT)
        assert sorted(names) == ["authsec.cache.lookups", "authsec.exchange.requests", "authsec.fetch.requests"]
        assert all(locked)

    def test_an_api_that_takes_no_advice_is_given_none(self, backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
        """Before 1.30 histograms had no advice on their buckets; an agent framework may insist on such a version."""
        meter = backend.meters.get_meter("authsec_core")
        create = meter.create_histogram

        def create_histogram(name: str, unit: str = "", description: str = "") -> metrics.Histogram:
            return create(name, unit, description)

        monkeypatch.setattr(meter, "create_histogram", create_histogram)
        monkeypatch.setattr(backend.meters, "get_meter", lambda *_: meter)
        with observe("fetch", "mock", FakeClock()):
            pass
        assert backend.points("authsec.fetch.duration") == {("mock", "success"): 1}


def _lookups(backend: Backend) -> dict[str, float]:
    return {result: count for (result,), count in backend.points("authsec.cache.lookups").items()}


class TestBrokenSdk:
    """An application whose processors, exporters or instruments raise."""

    @pytest.mark.parametrize("moment", ["on_start", "on_end", "add", "record"])
    def test_it_takes_no_answer_from_a_caller(
        self, driver: Driver, backend: Backend, world: World, monkeypatch: pytest.MonkeyPatch, moment: str
    ) -> None:
        """What they are told is no part of what was asked; the span that was current before is current again."""

        def broken(*_: object, **__: object) -> None:
            raise RuntimeError("full disk")

        client = world.client(driver)
        if moment in {"add", "record"}:
            instruments = _telemetry._application.instruments()
            assert instruments is not None
            for kind in (type(instruments.lookups), type(instruments.durations["fetch"])):
                monkeypatch.setattr(kind, moment, broken, raising=False)
        else:
            monkeypatch.setattr(SimpleSpanProcessor, moment, broken)
        assert fetch(driver, client, "x", "read:metrics").ok
        assert trace.get_current_span() is trace.INVALID_SPAN


class TestNobodyListens:
    """Without an SDK all of it comes to nothing."""

    def test_without_a_provider_nothing_is_done(self, nobody: Backend) -> None:
        """The API alone has stand-ins; they are not even called."""
        assert observe("exchange", "live", FakeClock()) is UNOBSERVED
        assert not _telemetry.counts_lookups()

    def test_an_import_that_is_forbidden_is_not_tried(self, backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
        """A program may have put None in the API's place."""
        for module in ("opentelemetry", "opentelemetry.metrics", "opentelemetry.trace"):
            monkeypatch.setitem(sys.modules, module, None)
        assert observe("exchange", "live", FakeClock()) is UNOBSERVED
        assert not _telemetry.counts_lookups()

    def test_a_disabled_sdk_is_none(self, nobody: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
        """`OTEL_SDK_DISABLED` is heeded: its providers hand out stand-ins."""
        monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
        disabled = TracerProvider(shutdown_on_exit=False), MeterProvider(shutdown_on_exit=False)
        monkeypatch.setattr(trace, "get_tracer_provider", lambda: disabled[0])
        monkeypatch.setattr(metrics, "get_meter_provider", lambda: disabled[1])
        assert observe("exchange", "live", FakeClock()) is UNOBSERVED
        assert not _telemetry.counts_lookups()

    def test_a_warm_token_is_at_hand_where_nobody_counts(
        self, driver: Driver, nobody: Backend, world: World, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The fast path then asks neither the cache nor OpenTelemetry."""
        client = world.client(driver)
        token(driver, client)
        for touched in ("enter", "now"):
            monkeypatch.setattr(TokenCache, touched, _interrupt)
        monkeypatch.setattr(_telemetry, "_application", None)
        assert token(driver, client) == world.tokens[0]

    @pytest.mark.parametrize("half", ["trace", "measure"])
    def test_either_half_does_without_the_other(self, driver: Driver, nobody: Backend, world: World, half: str) -> None:
        """An application may trace and not measure, or the other way round."""
        getattr(nobody, half)()
        fetch(driver, world.client(driver), "x", "read:metrics")
        traced, measured = bool(nobody.spans), bool(nobody.points("authsec.fetch.requests"))
        assert (traced, measured) == (half == "trace", half == "measure")

    def test_providers_may_come_late(self, driver: Driver, nobody: Backend, world: World) -> None:
        """What happens after they are set is told, also by a client that was there before."""
        client = world.client(driver)
        fetch(driver, client, "x", "read:metrics")
        nobody.trace()
        nobody.measure()
        fetch(driver, client, "x", "read:metrics")
        assert [span.name for span in nobody.spans] == ["authsec.fetch"]
        assert _lookups(nobody) == {"hit": 1}


PROGRAM = """
import base64, importlib.abc, json, sys, time
import httpx

def encoded(part):
    return base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode()

def handler(request):
    if request.url.host == "api.test":
        return httpx.Response(200, json="data")
    now = int(time.time())
    claims = {"iat": now, "exp": now + 1800, "jti": "jti-1", "permissions": ["read"]}
    return httpx.Response(200, json={"token": ".".join([encoded({"alg": "RS256"}), encoded(claims), "c2ln"])})

def use():
    from authsec_core import AuthSecClient, AuthSecConfig
    config = AuthSecConfig(base_url="https://a.test", client_id=CLIENT_ID, api_base_url="https://api.test")
    with AuthSecClient(config, transport=httpx.MockTransport(handler)) as client:
        return client.fetch("x", "read").data
"""
BLOCK = """
class Blocked(importlib.abc.MetaPathFinder):
    def find_spec(self, name, *_):
        if name.partition(".")[0] == "opentelemetry":
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Blocked())
"""
LOADED = "json.dumps([data, [name for name in sys.modules if name.startswith('opentelemetry')]])"


def run(program: str) -> Any:
    """Run a program in a fresh interpreter that treats warnings as errors; return what it says."""
    command = [sys.executable, "-W", "error", "-c", f"CLIENT_ID = {CLIENT_ID!r}\n{PROGRAM}\n{program}"]
    environment = {**os.environ, "OTEL_SDK_DISABLED": "false"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return json.loads(done.stdout)


@pytest.mark.req("RO3")
def test_authsec_never_loads_the_api_itself() -> None:
    """Only an application that has loaded it can have set a provider; everyone else saves the time."""
    assert run(f"data = use(); print({LOADED})") == ["data", []]


def test_the_api_need_not_be_installed() -> None:
    """Where it cannot be imported, all goes on as ever."""
    assert run(f"{BLOCK}\ndata = use(); print({LOADED})") == ["data", []]


def test_the_global_providers_are_found() -> None:
    """A program that sets up OpenTelemetry as its manual says gets all of it, and needs to tell authsec nothing."""
    told = run(
        "from opentelemetry import metrics, trace\n"
        "from opentelemetry.sdk.metrics import MeterProvider\n"
        "from opentelemetry.sdk.metrics.export import InMemoryMetricReader\n"
        "from opentelemetry.sdk.trace import TracerProvider\n"
        "from opentelemetry.sdk.trace.export import SimpleSpanProcessor\n"
        "from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter\n"
        "use()\n"  # nobody listens yet
        "exporter, reader, tracers = InMemorySpanExporter(), InMemoryMetricReader(), TracerProvider()\n"
        "tracers.add_span_processor(SimpleSpanProcessor(exporter))\n"
        "trace.set_tracer_provider(tracers)\n"
        "metrics.set_meter_provider(MeterProvider([reader]))\n"
        "use()\n"
        "named = [m.name for m in reader.get_metrics_data().resource_metrics[0].scope_metrics[0].metrics]\n"
        "print(json.dumps([[span.name for span in exporter.get_finished_spans()], sorted(named)]))"
    )
    assert told == [
        ["authsec.exchange", "authsec.fetch"],
        [
            "authsec.cache.lookups",
            "authsec.exchange.duration",
            "authsec.exchange.requests",
            "authsec.fetch.duration",
            "authsec.fetch.requests",
        ],
    ]


# RS8


class Canaries:
    """A real authority and a real API, both of which repeat whatever they know, and all the secrets that there are."""

    def __init__(self, authority: LocalAuthority) -> None:
        self.authority = authority
        self.agent = authority.register(["read", "write"], agent_key=KEY)
        self.seen: list[str] = [KEY]
        self.answer: Callable[[str], Reply | Raw] = lambda _: Reply.of_json("data")

    def handle(self, asked: Request) -> Reply | Raw:
        """Answer for the API."""
        token = asked.headers["authorization"].removeprefix("Bearer ")
        self.seen.append(token)
        return self.answer(token)

    def minted(self, **claims: Any) -> str:
        """Return one more token of the agent, to be put where it does not belong."""
        self.seen.append(self.authority.mint(self.agent, **claims))
        return self.seen[-1]


@pytest.mark.req("RS8")
def test_no_secret_is_exported(driver: Driver, backend: Backend) -> None:
    """Successes, refusals, outages and hostile replies: no key and no token in any name, attribute, event or point."""
    with LocalAuthority() as authority:
        canaries = Canaries(authority)
        with LoopbackServer(canaries.handle) as api:
            given: dict[str, Any] = {
                "base_url": authority.base_url,
                "client_id": canaries.agent.client_id,
                "agent_key": KEY,
            }
            config = AuthSecConfig(**given, api_base_url=api.base_url, retries=1, failure_cooldown=0, timeout=5)
            _provoke(driver, driver.client(config), canaries)
            authority.close()
            _try(driver, driver.client(config))
    outcomes = {str(attributes(span).get("error.type", "success")) for span in backend.spans}
    assert outcomes >= {"success", "delegation_refused", "authority_unreachable", "bad_reply", "scope_not_granted"}
    assert outcomes >= {"downstream_denied", "downstream_error", "downstream_unavailable", "endpoint_refused"}
    assert len(set(canaries.seen)) > 9
    assert_no_secret(backend.exported, *set(canaries.seen))
    assert not [event for span in backend.spans for event in span.events]
    assert {name for span in backend.spans for name in attributes(span)} <= SPAN_KEYS


def _provoke(driver: Driver, client: AnyClient, canaries: Canaries) -> None:
    token, less = canaries.minted(), canaries.minted(permissions=["x"], scope="x")
    shown = json.dumps({"you sent": token, "and": KEY}).encode()
    faults: list[dict[str, Any]] = [
        {"status": 403, "garbage": shown},
        {"status": 503, "garbage": shown},
        {"garbage": shown},
        {"raw": f"HTTP/1.1 200 {token}\r\nContent-Length: x{token}\r\n\r\n".encode()},
        {"status": 302, "headers": {"Location": f"http://127.0.0.1:9/?{token}"}},
        {"alter": lambda good: {**good, "token_type": token}},
        {"alter": lambda good: {**good, "token": less}},
    ]
    for fault in faults:
        canaries.authority.fail(**fault)
        _try(driver, client)
        canaries.authority.recover()
    answers: list[Callable[[str], Reply | Raw]] = [
        lambda sent: Reply.of_json({"you sent": sent}),
        lambda sent: Reply(status=403, body=sent.encode()),
        lambda sent: Reply(status=503, headers={"Retry-After": sent}, body=sent.encode()),
        lambda sent: Reply(status=302, headers={"Location": f"http://127.0.0.1:9/?t={sent}"}),
        lambda sent: Raw(data=f"{sent}\r\n\r\n".encode()),
        lambda sent: Reply(status=401, headers={"WWW-Authenticate": f'Bearer error="invalid_token", realm="{sent}"'}),
    ]
    for answer in answers:
        canaries.answer = answer
        _try(driver, client)
    _try(driver, client, endpoint=f"//{token}")


def _try(driver: Driver, client: AnyClient, *, endpoint: str = "x") -> None:
    with suppress(AuthSecError):
        fetch(driver, client, endpoint, "read", cache=False)


@pytest.mark.req("RS8")
def test_a_cancelled_fetch_exports_no_secret(backend: Backend) -> None:
    """What a task was doing when it was cancelled holds the key, and the trace does not."""
    held = threading.Event()
    with LocalAuthority() as authority:
        agent = authority.register(["read"], agent_key=KEY)
        authority.fail(delay=held, times=1)
        config = AuthSecConfig(
            base_url=authority.base_url, client_id=agent.client_id, agent_key=KEY, api_base_url=authority.base_url
        )

        async def cancel() -> None:
            async with AsyncAuthSecClient(config) as client:
                task = asyncio.ensure_future(client.fetch("x", "read"))
                await asyncio.to_thread(authority.wait_for_requests, 1)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task

        asyncio.run(cancel())
        held.set()
    assert {str(attributes(span)["authsec.outcome"]) for span in backend.spans} == {"cancelled"}
    assert_no_secret(backend.exported, KEY)


def test_metrics_have_no_attribute_of_their_own_making(driver: Driver, backend: Backend, world: World) -> None:
    """What a model, a caller or a server can choose would make a new series each time."""
    client = world.client(driver, failure_cooldown=0)
    for scope in ("read:a", "read:b"):
        fetch(driver, client, f"x/{scope}", scope)
    world.refusal = 400
    with pytest.raises(DelegationRefusedError):
        token(driver, client)
    named = {
        name
        for metric in ("exchange.requests", "exchange.duration", "fetch.requests", "fetch.duration", "cache.lookups")
        for point in backend._points(f"authsec.{metric}")
        for name in point.attributes or {}
    }
    assert named == METRIC_KEYS


def test_the_page_names_everything_that_is_told() -> None:
    """`docs/observability.md` has each attribute and each metric, and no other, but for those of the guard."""
    page = (Path(__file__).parents[3] / "docs" / "observability.md").read_text(encoding="utf-8")
    page, _, _ = page.partition("## The guard")
    named = set(re.findall(r"`((?:authsec|error|http|server)\.[a-z_.]+)`", page))
    instruments = [f"authsec.{name}.{what}" for name in ("exchange", "fetch") for what in ("requests", "duration")]
    spans = ["authsec.exchange", "authsec.fetch"]
    assert named == {*SPAN_KEYS, *METRIC_KEYS, *instruments, *spans, "authsec.cache.lookups"}
