"""What goes on record of each decision and each run of an agent, and where to. One value, one protocol, one sink.

Sinks that write files, and the authority's audit, are in modules of their own. Nothing on record is a token, or a word
that an unknown caller wrote. Whatever somebody else wrote, an event is one line of ASCII of limited length.
"""

from __future__ import annotations

import json
import logging
import secrets
from dataclasses import dataclass, field, fields
from datetime import datetime, timezone
from typing import Any, Final, Literal, Protocol, TypeAlias

__all__ = ["AuditEvent", "AuditSink", "EventKind", "LoggingSink", "Outcome"]

EventKind: TypeAlias = Literal["request", "tool", "run.started", "run.ended"]
Outcome: TypeAlias = Literal["allow", "deny", "success", "error", "cancelled"]

_LONGEST_LINE: Final = 32768  # characters
_log = logging.getLogger("authsec.audit")
_told = logging.getLogger("authsec.guard")


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditEvent:
    """One decision, or the beginning or end of one run. Immutable.

    Attributes:
        id: Its own, at random, by which it is known again if it comes twice.
        event: `request` and `tool` are decisions.
        outcome: `allow` or `deny` of a decision, `success`, `error` or `cancelled` of a run that has ended.
        reason: Why: `allowed`, a reason of `authsec_fastapi.requirement`, or the stable code of an error.
        at: Epoch seconds.
        subject: These six are of the caller, and missing where no good token was presented.
        needed: The scopes that were needed; `role` and `action` likewise.
        roles: What the caller is; only of who was denied for want of a role, or of one that permits the action.
        request_id: As the request's `x-request-id` says, if that is plain.
        method: Of the request; `WEBSOCKET` for a WebSocket.
        route: The route's template, such as `/reports/{name}`, which names nobody; None where no route matched.
        agent: Which agent runs.
        conversation: For which conversation.
        tools: What the agent was given.
        duration: Seconds that a run took.
        run_id: The same for the beginning of a run, its tools and its end.
    """

    id: str = field(default_factory=lambda: secrets.token_hex(16))
    event: EventKind
    outcome: Outcome | None
    reason: str
    at: float
    subject: str | None = None
    issuer: str | None = None
    client_id: str | None = None
    spiffe_id: str | None = None
    user: str | None = None
    jti: str | None = None
    needed: tuple[str, ...] = ()
    role: str | None = None
    action: str | None = None
    roles: tuple[str, ...] = ()
    tool: str | None = None
    request_id: str | None = None
    method: str | None = None
    route: str | None = None
    agent: str | None = None
    conversation: str | None = None
    tools: tuple[str, ...] = ()
    duration: float | None = None
    run_id: str | None = None

    @property
    def yields(self) -> bool:
        """Whether it makes way for others where a sink is full: a denial stands also where it is not on record.

        Else who has no token, and asks often enough, would take the places of those whose requests wait for them.
        """
        return self.outcome == "deny"

    @property
    def is_of_a_stranger(self) -> bool:
        """Whether it is a denial of somebody who presented no good token. Anybody can cause these, and any number."""
        return self.outcome == "deny" and self.subject is None

    def to_dict(self) -> dict[str, Any]:
        """Return what is known, as JSON has it, and the `time` for people; what is too long is cut."""
        return _shown(self, _USUAL)

    def to_json(self) -> str:
        """Return one line of ASCII: whatever stands in it ends no line and moves no cursor."""
        line = _line(self.to_dict())
        return line if len(line) <= _LONGEST_LINE else _line(_shown(self, _SHORT))


class AuditSink(Protocol):
    """Where events go. Thread-safe and loop-safe.

    With audit-first an answer waits for it, and is refused with 503 when it raises; else what it raises is logged.
    """

    def record(self, event: AuditEvent) -> None:
        """Return once the event is on record; may block. Raises whatever it likes when it is not."""
        ...

    async def arecord(self, event: AuditEvent) -> None:
        """Do what `record` does, without blocking the loop."""
        ...


class LoggingSink:
    """Logs each event as a line of JSON to `authsec.audit`: INFO what was allowed, WARNING what was denied.

    Python's logging drops INFO unless it is told otherwise, and so does uvicorn's: that is warned of, once.
    """

    def __init__(self) -> None:
        self._warned = False

    def record(self, event: AuditEvent) -> None:
        """Log the event. It cannot fail: `logging` tells nobody when a handler does."""
        level = logging.WARNING if event.outcome in {"deny", "error"} else logging.INFO
        if not (_log.isEnabledFor(level) or self._warned):
            self._warned = True
            _told.warning(
                "what is allowed goes on record nowhere, because the log authsec.audit drops %s: give it a level and "
                "a handler, or give the guard a sink",
                logging.getLevelName(level),
            )
        _log.log(level, "%s", event.to_json())

    async def arecord(self, event: AuditEvent) -> None:
        """Do the same: what blocks is the application's handlers."""
        self.record(event)


@dataclass(frozen=True, slots=True)
class _Bounds:
    text: int  # characters
    items: int
    item: int  # characters


_USUAL: Final = _Bounds(text=500, items=64, item=200)
_SHORT: Final = _Bounds(text=40, items=16, item=40)  # fits, even if each character takes twelve
_FIELDS: Final = tuple(one.name for one in fields(AuditEvent))
_encode: Final = json.JSONEncoder(ensure_ascii=True, allow_nan=False).encode


def _shown(event: AuditEvent, bounds: _Bounds) -> dict[str, Any]:
    known = {name: getattr(event, name) for name in _FIELDS}
    shown = {name: _bounded(value, bounds) for name, value in known.items() if value is not None and value != ()}
    return {**shown, "time": datetime.fromtimestamp(event.at, timezone.utc).isoformat(timespec="milliseconds")}


def _bounded(value: Any, bounds: _Bounds) -> Any:
    if isinstance(value, str):
        return _cut(value, bounds.text)
    if isinstance(value, tuple):
        return [_cut(one, bounds.item) for one in value[: bounds.items]]
    return value


def _cut(text: str, most: int) -> str:
    text = text if len(text) <= most else f"{text[:most]}…"
    if text.isascii():
        return text
    # Half a character, which readers of JSON refuse, becomes the mark of one that cannot be read.
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _line(shown: dict[str, Any]) -> str:
    return _encode(shown).replace("\x7f", "\\u007f")  # the one control character that JSON leaves as it is
