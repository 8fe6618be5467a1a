"""What the application's OpenTelemetry is told of an exchange, of a look into the cache and of a fetch.

What is told is a closed list of attributes that can hold no token, no key and no words of a server; of an exception it
is the stable code. It adds nothing to requests: no `traceparent`, no baggage.

Names follow https://opentelemetry.io/docs/specs/semconv/ where it has them; `docs/observability.md` lists them all.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from authsec_core._clock import Clock
from authsec_core._http import Failure, Reply
from authsec_core._opentelemetry import Application, harmless
from authsec_core._origin import origin_of
from authsec_core.errors import AuthSecError
from authsec_core.token import DelegationToken, Mode

if TYPE_CHECKING:
    from opentelemetry.metrics import Counter, Histogram, Meter
    from opentelemetry.trace import Span, Tracer

__all__ = ["UNOBSERVED", "Lookup", "Observation", "count_lookup", "counts_lookups", "observe"]

Lookup: TypeAlias = Literal["hit", "stale", "miss", "joined", "failed"]
_Name: TypeAlias = Literal["exchange", "fetch"]
_Value: TypeAlias = "str | int | Sequence[str]"

_SCOPE: Final = "authsec_core"  # the instrumentation scope: who speaks
# Seconds; those of http.client.request.duration. An SDK's own default is made for milliseconds.
_BUCKETS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)


class Observation:
    """One operation as a context manager, and what is said of it on the way. This one tells nobody."""

    __slots__ = ()

    def __enter__(self) -> Observation:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the operation; the exception, if any, goes on."""

    def asked(self, scopes: frozenset[str] | None) -> None:
        """Note the scopes that are asked for."""

    def calls(self, url: str) -> None:
        """Note that a request goes out, and to which origin; for a second time, if it is repeated."""

    def answered(self, outcome: Reply | Failure | None) -> None:
        """Note the status of what came back."""

    def got(self, token: DelegationToken) -> None:
        """Note the token's public name."""


UNOBSERVED: Final = Observation()


def observe(name: _Name, mode: Mode, clock: Clock) -> Observation:
    """Return an observation of one exchange or fetch; it costs next to nothing where no SDK is set up."""
    tracer, instruments = _application.tracer(), _application.instruments()
    if tracer is None and instruments is None:
        return UNOBSERVED
    return _Told(name, mode, clock, tracer, instruments)


def counts_lookups() -> bool:
    """Tell whether anyone counts: where nobody does, callers may keep tokens at hand and look nothing up."""
    return _application.instruments() is not None


def count_lookup(result: Lookup) -> None:
    """Count one look into the cache. Call it with no lock held: what it calls is the application's."""
    instruments = _application.instruments()
    if instruments is not None:
        with harmless():
            instruments.lookups.add(1, {"authsec.cache.result": result})


class _Told(Observation):
    """An observation that somebody hears of: as a span, in metrics, or both."""

    __slots__ = ("_attached", "_attributes", "_began", "_calls", "_clock", "_instruments", "_name", "_span", "_tracer")

    def __init__(
        self, name: _Name, mode: Mode, clock: Clock, tracer: Tracer | None, instruments: _Instruments | None
    ) -> None:
        self._name, self._clock, self._tracer, self._instruments = name, clock, tracer, instruments
        self._attributes: dict[str, _Value] = {"authsec.mode": mode}
        self._span: Span | None = None
        self._calls = 0

    def __enter__(self) -> Observation:
        self._began = self._clock.steady()
        if self._tracer is not None:
            with harmless():
                self._enter_span(self._tracer)
        return self

    def _enter_span(self, tracer: Tracer) -> None:
        from opentelemetry import context, trace

        # A fetch is more than one request (perhaps an exchange, and a GET), so that it is no CLIENT itself.
        kind = trace.SpanKind.CLIENT if self._name == "exchange" else trace.SpanKind.INTERNAL
        span = tracer.start_span(f"authsec.{self._name}", kind=kind, attributes=self._attributes)
        self._attached = context.attach(trace.set_span_in_context(span))
        self._span = span

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the operation; the exception, if any, goes on."""
        if isinstance(error, GeneratorExit):
            # The collector closes a coroutine that was thrown away, wherever it happens to run: perhaps on a thread
            # that holds a lock of the SDK, which telling it would wait for. So this one is never told.
            self._leave()
            return
        code = _error_type(error)
        labels = {"authsec.mode": self._attributes["authsec.mode"], "authsec.outcome": _outcome(error)}
        labels |= {} if code is None else {"error.type": code}
        if self._instruments is not None:  # while the span is current, so that exemplars can name it
            with harmless():
                self._instruments.requests[self._name].add(1, labels)
            with harmless():
                self._instruments.durations[self._name].record(self._clock.steady() - self._began, labels)
        self._leave()
        if self._span is not None:
            with harmless():
                _end(self._span, {**self._attributes, **labels}, code)

    def asked(self, scopes: frozenset[str] | None) -> None:
        """Note the scopes that are asked for."""
        if scopes is not None:
            self._attributes["authsec.scopes"] = sorted(scopes)

    def calls(self, url: str) -> None:
        """Note that a request goes out. Of the URL only the origin is told: paths and queries may name people."""
        self._calls += 1
        if self._calls > 1:
            self._attributes["http.request.resend_count"] = self._calls - 1
        with suppress(ValueError):
            origin = origin_of(url)
            self._attributes |= {"server.address": origin.host, "server.port": origin.port}

    def answered(self, outcome: Reply | Failure | None) -> None:
        """Note the status of what came back; what was said of an earlier attempt is no longer true."""
        self._attributes.pop("http.response.status_code", None)
        if isinstance(outcome, Reply):
            self._attributes["http.response.status_code"] = outcome.status

    def got(self, token: DelegationToken) -> None:
        """Note the token's public name."""
        if token.jti is not None:
            self._attributes["authsec.token.jti"] = token.jti

    def _leave(self) -> None:
        """Put back the span that was current before, unless this is another context than the one that was entered."""
        if self._span is not None:
            from opentelemetry import context, trace

            if trace.get_current_span() is self._span:
                context.detach(self._attached)


def _end(span: Span, attributes: dict[str, _Value], code: str | None) -> None:
    from opentelemetry.trace import Status, StatusCode

    span.set_attributes(attributes)
    if code is not None:
        span.set_status(Status(StatusCode.ERROR, code))
    span.end()


def _error_type(error: BaseException | None) -> str | None:
    if isinstance(error, AuthSecError):
        return error.code
    return type(error).__name__ if isinstance(error, Exception) else None


def _outcome(error: BaseException | None) -> str:
    if error is None:
        return "success"
    return "error" if isinstance(error, Exception) else "cancelled"


class _Instruments:
    """The metrics, by the name of what they measure."""

    def __init__(self, meter: Meter) -> None:
        names: tuple[_Name, ...] = ("exchange", "fetch")
        self.lookups: Counter = meter.create_counter("authsec.cache.lookups", "{lookup}", "Looks into the token cache")
        self.requests: dict[_Name, Counter] = {
            name: meter.create_counter(f"authsec.{name}.requests", "{request}", "Begun and ended, whatever the outcome")
            for name in names
        }
        self.durations: dict[_Name, Histogram] = {name: _seconds(meter, f"authsec.{name}.duration") for name in names}


def _seconds(meter: Meter, name: str) -> Histogram:
    about = "Seconds from the beginning to the end, whatever the outcome"
    try:
        return meter.create_histogram(name, "s", about, explicit_bucket_boundaries_advisory=_BUCKETS)
    except TypeError:  # API 1.29 and older take no advice
        return meter.create_histogram(name, "s", about)


_application = Application(_SCOPE, _Instruments)
