"""What the application's OpenTelemetry is told of a request, of its decision and of its signature.

It loads nothing: a provider can only have been set by a program that has loaded `opentelemetry` itself (such as
`opentelemetry-instrument`), and before that nothing is recorded. What is told is a closed list of attributes: the
route's template and never a path, a query, a client, a scope or a token; of an exception, its class. Whoever sends a
`traceparent` is believed only where it is a trusted proxy, or strangers could write into anyone's traces.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Final, Literal

from authsec_core._opentelemetry import find_tracer, harmless

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Tracer

__all__ = ["CARRIERS", "UNTRACED", "Trace", "request_span", "step"]

CARRIERS: Final = ("traceparent", "tracestate")  # the headers of https://www.w3.org/TR/trace-context/
_SCOPE: Final = "authsec_server"  # the instrumentation scope: who speaks
_FAILED: Final = 500


class Trace:
    """One piece of work as a context manager, and what is said of it on the way. This one tells nobody."""

    __slots__ = ()

    def __enter__(self) -> Trace:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it; the exception, if any, goes on."""

    def answered(self, method: str, route: str | None, status: int) -> None:
        """Note what was asked and how it was answered; 0 where it was not."""


UNTRACED: Final = Trace()


def request_span(request_id: str, carried: Callable[[], Mapping[str, str]]) -> Trace:
    """Return the span of one request. It is here that it is looked whether anyone listens.

    Args:
        carried: Returns the headers of `CARRIERS`, from a peer that may say which trace it belongs to; else nothing.
    """
    tracer = _application.look()
    return UNTRACED if tracer is None else _Span(tracer, "HTTP", {"authsec.request_id": request_id}, carried())


def step(name: Literal["authsec.decide", "authsec.sign"]) -> Trace:
    """Return the span of one step on the way to an answer, below the request's."""
    tracer = _application.tracer
    return UNTRACED if tracer is None else _Span(tracer, name, {}, None)


class _Span(Trace):
    """A span that somebody hears of.

    Args:
        carried: None is no request.
    """

    __slots__ = ("_attached", "_attributes", "_carried", "_failed", "_name", "_span", "_tracer")

    def __init__(
        self, tracer: Tracer, name: str, attributes: dict[str, str | int], carried: Mapping[str, str] | None
    ) -> None:
        self._tracer, self._name, self._attributes, self._carried = tracer, name, attributes, carried
        self._span: object = None
        self._failed: str | None = None

    def __enter__(self) -> Trace:
        with harmless():
            self._begin()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it; the exception, if any, goes on."""
        if isinstance(error, Exception):
            self._failed = type(error).__name__
        with harmless():
            self._end()

    def answered(self, method: str, route: str | None, status: int) -> None:
        """Note what was asked and how it was answered."""
        self._name = method if route is None else f"{method} {route}"
        self._attributes["http.request.method"] = method
        if route is not None:
            self._attributes["http.route"] = route
        if status:
            self._attributes["http.response.status_code"] = status
        if status >= _FAILED:
            self._failed = str(status)

    def _begin(self) -> None:
        from opentelemetry import context, trace

        kind = trace.SpanKind.INTERNAL if self._carried is None else trace.SpanKind.SERVER
        span = self._tracer.start_span(self._name, context=_parent(self._carried), kind=kind)
        self._attached = context.attach(trace.set_span_in_context(span))
        self._span = span

    def _end(self) -> None:
        from opentelemetry import context, trace

        span = self._span
        if span is None:
            return
        if trace.get_current_span() is span:  # else this is another context than the one that was entered
            context.detach(self._attached)
        assert isinstance(span, trace.Span)
        span.update_name(self._name)
        if self._failed is not None:
            self._attributes["error.type"] = self._failed
            span.set_status(trace.Status(trace.StatusCode.ERROR, self._failed))
        span.set_attributes(self._attributes)
        span.end()


def _parent(carried: Mapping[str, str] | None) -> Context | None:
    """Return where a span belongs: the trace that the headers name, or, by None, whatever is current."""
    if not carried:
        return None
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator().extract(carried)


class _Application:
    """The application's tracer, from the moment that it has set up an SDK."""

    def __init__(self) -> None:
        self.tracer: Tracer | None = None

    def look(self) -> Tracer | None:
        if self.tracer is None:
            self.tracer = find_tracer(_SCOPE)
        return self.tracer


_application = _Application()
