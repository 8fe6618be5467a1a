"""What the application's OpenTelemetry is told of a decision, and of an agent's run.

It loads nothing, as `authsec_core._opentelemetry` does not. What is told is a closed list: never a token, a subject, a
user, a client, a conversation or a path. The token's `jti` leads to the record, which has who it was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Final, TypeAlias

from authsec_core._opentelemetry import Application, harmless
from authsec_core.errors import AuthSecError
from authsec_fastapi.audit import AuditEvent

if TYPE_CHECKING:
    from opentelemetry.metrics import Counter, Meter
    from opentelemetry.trace import Span, Tracer

__all__ = ["DecisionSpan", "RunSpan", "observe_decision", "observe_run"]

_Value: TypeAlias = "str | Sequence[str]"

_SCOPE: Final = "authsec_fastapi"  # the instrumentation scope: who speaks
_OF_A_DECISION: Final = {  # a field of the event -> the attribute of the span
    "needed": "authsec.guard.needed",
    "role": "authsec.guard.role",
    "action": "authsec.guard.action",
    "tool": "authsec.guard.tool",
    "agent": "authsec.guard.agent",
    "run_id": "authsec.guard.run_id",
    "jti": "authsec.token.jti",
    "method": "http.request.method",
    "route": "http.route",
}


def observe_decision() -> DecisionSpan:
    """Return the span of one decision, a context manager; it costs next to nothing where no SDK is set up."""
    return DecisionSpan(_application.tracer(), _application.instruments())


def observe_run(*, agent: str, run_id: str) -> RunSpan:
    """Return the span of one run of an agent, a context manager; what is decided within lies below it."""
    return RunSpan(_application.tracer(), agent, run_id)


class _Spanned:
    """One piece of work, as a span that is current meanwhile, where there is a tracer."""

    __slots__ = ("_attached", "_attributes", "_name", "_span", "_tracer")

    def __init__(self, name: str, tracer: Tracer | None, attributes: Mapping[str, _Value]) -> None:
        self._name, self._tracer = name, tracer
        self._attributes: dict[str, _Value] = dict(attributes)
        self._span: Span | None = None

    def _begin(self) -> None:
        if self._tracer is not None:
            with harmless():
                self._enter_span(self._tracer)

    def _enter_span(self, tracer: Tracer) -> None:
        from opentelemetry import context, trace

        span = tracer.start_span(self._name, attributes=self._attributes)
        self._attached = context.attach(trace.set_span_in_context(span))
        self._span = span

    def _leave(self) -> None:
        """Put back the span that was current before, unless this is another context than the one that was entered."""
        if self._span is not None:
            from opentelemetry import context, trace

            if trace.get_current_span() is self._span:
                context.detach(self._attached)

    def _end(self, code: str | None) -> None:
        self._leave()
        if self._span is not None:
            with harmless():
                _ended(self._span, self._attributes, code)


class DecisionSpan(_Spanned):
    """What is told of one decision."""

    __slots__ = ("_counter", "_event")

    def __init__(self, tracer: Tracer | None, counter: Counter | None) -> None:
        super().__init__("authsec.guard.decision", tracer, {})
        self._counter = counter
        self._event: AuditEvent | None = None

    def __enter__(self) -> DecisionSpan:
        self._begin()
        return self

    def decided(self, event: AuditEvent) -> AuditEvent:
        """Note what was decided, and return it."""
        self._event = event
        return event

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the decision; the exception, if any, goes on."""
        if (self._span is None and self._counter is None) or isinstance(error, GeneratorExit):
            self._leave()  # a coroutine that was thrown away is closed on any thread, and tells nothing
            return
        outcome, reason = _what_came_of(self._event, error)
        labels = {"authsec.guard.outcome": outcome, "authsec.guard.reason": reason}
        if self._counter is not None:  # while the span is current, so that exemplars can name it
            with harmless():
                self._counter.add(1, labels)
        self._attributes |= {**_shown(self._event), **labels}
        self._end(_failure(error))


class RunSpan(_Spanned):
    """What is told of one run."""

    __slots__ = ()

    def __init__(self, tracer: Tracer | None, agent: str, run_id: str) -> None:
        super().__init__("authsec.guard.run", tracer, {"authsec.guard.agent": agent, "authsec.guard.run_id": run_id})

    def __enter__(self) -> RunSpan:
        self._begin()
        return self

    def given(self, tools: Sequence[str]) -> None:
        """Note which tools the agent has."""
        self._attributes["authsec.guard.tools"] = list(tools)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the run; the exception, if any, goes on."""
        if isinstance(error, GeneratorExit):
            self._leave()
            return
        self._attributes["authsec.outcome"] = (
            "success" if error is None else "error" if isinstance(error, Exception) else "cancelled"
        )
        self._end(None if error is None or not isinstance(error, Exception) else _error_type(error))


def _what_came_of(event: AuditEvent | None, error: BaseException | None) -> tuple[str, str]:
    """Return what the caller met with: who was allowed and then not put on record was let in nowhere."""
    if error is not None and not isinstance(error, Exception):
        return "cancelled", "cancelled"
    if event is None or (error is not None and event.outcome == "allow"):
        return "deny", "unknown" if error is None else _error_type(error)
    return event.outcome or "deny", event.reason


def _failure(error: BaseException | None) -> str | None:
    """Return the code of what kept us from deciding; a denial is none."""
    if isinstance(error, AuthSecError):
        return error.code if error.retryable else None
    return type(error).__name__ if isinstance(error, Exception) else None


def _error_type(error: BaseException) -> str:
    return error.code if isinstance(error, AuthSecError) else type(error).__name__


def _shown(event: AuditEvent | None) -> dict[str, _Value]:
    if event is None:
        return {}
    known = event.to_dict()
    return {shown: known[name] for name, shown in _OF_A_DECISION.items() if name in known}


def _ended(span: Span, attributes: Mapping[str, _Value], code: str | None) -> None:
    from opentelemetry.trace import Status, StatusCode

    span.set_attributes(attributes)
    if code is not None:
        span.set_attribute("error.type", code)
        span.set_status(Status(StatusCode.ERROR, code))
    span.end()


def _decisions(meter: Meter) -> Counter:
    return meter.create_counter("authsec.guard.decisions", "{decision}", "Whether somebody may do something")


_application = Application(_SCOPE, _decisions)
