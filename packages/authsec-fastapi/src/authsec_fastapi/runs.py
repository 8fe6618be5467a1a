"""One run of an agent, on record: for whom, which agent and conversation, with which tools, how it ended and when.

What the agent does in it is decided and recorded call by call, by `tools`.
"""

from __future__ import annotations

import asyncio
import secrets
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Literal

from authsec_core.errors import AuthSecError
from authsec_fastapi._telemetry import RunSpan, observe_run
from authsec_fastapi._to_the_end import to_the_end
from authsec_fastapi.audit import AuditEvent, EventKind, Outcome
from authsec_fastapi.conversations import checked_conversation_id
from authsec_fastapi.errors import AuditUnavailableError
from authsec_fastapi.principal import Principal
from authsec_fastapi.recording import About, Recorder, caller_of, error_reason

__all__ = ["AgentRun"]


class AgentRun:
    """A block, for `with` or `async with`, that puts a run's beginning and end on record; made by `guard.run`.

    With audit-first, a run whose beginning cannot be put on record does not begin, and one whose end cannot raises
    `AuditUnavailableError` instead of ending well: the answer does not leave. Where the block ends with an error or is
    cancelled there is no answer, and that goes on as it is. Around a stream, the words have left by then; its beginning
    and each call of a tool are on record before them.

    A run that is cancelled, or whose stream is closed because the client went away, is recorded as `cancelled` before
    the cancellation goes on. Thread-safe; in a coroutine use `async with`, because `with` blocks on the sink.

    Attributes:
        principal: For whom the agent runs.
        run_id: What all records of this run have in common.
    """

    def __init__(
        self, recorder: Recorder, principal: Principal, *, agent: str, conversation: str | None = None
    ) -> None:
        if principal._standing is None:
            raise ValueError("this principal did not come from a guard, so that nothing can be put on record of it")
        if not agent:
            raise ValueError("give the agent a name")
        self._recorder = recorder
        self.principal = principal
        self.run_id: str = secrets.token_hex(16)
        self._agent = agent
        self._conversation = None if conversation is None else checked_conversation_id(conversation)
        self._lock = threading.Lock()  # guards these three
        self._stage: Literal["new", "running", "ended"] = "new"
        self._tools: dict[str, None] = {}
        self._began = 0.0

    def __repr__(self) -> str:
        return f"<AgentRun {self.run_id} of {self._agent!r}: {self._stage}>"

    @property
    def about(self) -> About:
        """What the decisions about its tools have on record of it."""
        return About(agent=self._agent, conversation=self._conversation, run_id=self.run_id)

    @property
    def tools(self) -> tuple[str, ...]:
        """What the agent was given, in that order."""
        with self._lock:
            return tuple(self._tools)

    def note_tools(self, names: Iterable[str]) -> None:
        """Note what the agent is given, before the run or in it; it is recorded with the run's end.

        Raises:
            RuntimeError: The run has ended, and its record with it.
        """
        with self._lock:
            if self._stage == "ended":
                raise RuntimeError("this run has ended: an agent gets its tools before or in its run")
            self._tools.update(dict.fromkeys(names))

    def __enter__(self) -> AgentRun:
        started = self._begin()
        try:
            self._recorder.record(started)
        except BaseException as exc:
            self._not_begun(exc)
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        with self._ending(error) as ended:
            self._recorder.record(ended)

    async def __aenter__(self) -> AgentRun:
        started = self._begin()
        try:
            await to_the_end(self._recorder.arecord(started))
        except AuditUnavailableError as exc:
            self._not_begun(exc)
            raise
        except BaseException as exc:  # cancelled, but the beginning is on record: so has to be the end
            await self.__aexit__(type(exc), exc, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        with self._ending(error) as ended:
            await to_the_end(self._recorder.arecord(ended))

    def _begin(self) -> AuditEvent:
        with self._lock:
            if self._stage != "new":
                raise RuntimeError("this run was entered before: make one for each run")
            self._stage = "running"
            self._began = self._recorder.clock.steady()
        self._span = observe_run(agent=self._agent, run_id=self.run_id)
        self._span.__enter__()
        return self._event("run.started", outcome=None, reason="started")

    def _not_begun(self, error: BaseException) -> None:
        with self._lock:
            self._stage = "ended"
        self._span.__exit__(type(error), error, None)

    @contextmanager
    def _ending(self, error: BaseException | None) -> Iterator[AuditEvent]:
        """End the run: what is yielded is to be put on record."""
        with self._lock:
            self._stage = "ended"
            duration = self._recorder.clock.steady() - self._began
        left_with = error
        try:
            yield self._event("run.ended", outcome=_outcome(error), reason=_reason(error), duration=duration)
        except AuditUnavailableError as exc:
            # Nothing leaves with an error that audit-first would hold back, and a cancellation has to arrive; the
            # recorder has logged that the end is not on record.
            if error is None:
                left_with = exc
                raise
        finally:
            self._span.given(self.tools)
            _end_span(self._span, left_with)

    def _event(
        self, event: EventKind, *, outcome: Outcome | None, reason: str, duration: float | None = None
    ) -> AuditEvent:
        return AuditEvent(
            event=event,
            outcome=outcome,
            reason=reason,
            at=self._recorder.clock.wall(),
            duration=duration,
            tools=self.tools,
            **caller_of(self.principal),
            **self.about,
        )


def _end_span(span: RunSpan, error: BaseException | None) -> None:
    if isinstance(error, GeneratorExit):
        # A stream that is closed because its reader left is a run that was cancelled, and no coroutine thrown away.
        error = asyncio.CancelledError()
    span.__exit__(None if error is None else type(error), error, None)


def _outcome(error: BaseException | None) -> Outcome:
    if error is None:
        return "success"
    # CancelledError, GeneratorExit of a stream that nobody reads any more, KeyboardInterrupt: not the agent's doing.
    return "error" if isinstance(error, Exception) else "cancelled"


def _reason(error: BaseException | None) -> str:
    if error is None:
        return "ended"
    # Never its message, which may hold anything.
    return error_reason(error) if isinstance(error, AuthSecError) else type(error).__name__
