"""How a decision or a run gets on record: before the answer where audit-first is set, and never at its cost elsewhere.

What an event says is for `audit`; where it goes is the sink's.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Final, NoReturn, TypedDict

from authsec_core._clock import Clock
from authsec_core._quick import quickly
from authsec_core.errors import AuthSecError, VerificationUnavailableError
from authsec_fastapi.audit import AuditEvent, AuditSink, Outcome
from authsec_fastapi.errors import AccessDeniedError, AuditUnavailableError
from authsec_fastapi.principal import Principal
from authsec_fastapi.requirement import Requirement

__all__ = ["About", "Caller", "Recorder", "caller_of", "decision_event", "error_reason"]

# Where the roles are why: the operator has to see which they are, or that there are none.
_BY_ROLE: Final = frozenset({"role_missing", "action_not_permitted"})
_log = logging.getLogger("authsec.guard")
_event = quickly(AuditEvent)


class About(TypedDict, total=False):
    """Where something was decided: of a request, or of an agent's run."""

    request_id: str | None
    method: str | None
    route: str | None
    agent: str | None
    conversation: str | None
    run_id: str | None


class Recorder:
    """Puts events on record. Thread-safe and loop-safe, if the sink is.

    Args:
        audit_first: What could not be put on record is refused; else it is logged, and goes on.
    """

    def __init__(self, sink: AuditSink, *, audit_first: bool, clock: Clock) -> None:
        self._sink = sink
        self._audit_first = audit_first
        self.clock = clock

    def record(self, event: AuditEvent) -> None:
        """Put the event on record; may block.

        Raises:
            AuditUnavailableError: It is not on record, and has to be.
        """
        try:
            self._sink.record(event)
        except Exception as exc:  # noqa: BLE001 -- the rim: a sink is anybody's code
            self._failed(event, exc)

    async def arecord(self, event: AuditEvent) -> None:
        """Do what `record` does, without blocking the loop."""
        try:
            await self._sink.arecord(event)
        except Exception as exc:  # noqa: BLE001 -- the rim, as above
            self._failed(event, exc)

    def _failed(self, event: AuditEvent, exc: Exception) -> None:
        why = exc.message if isinstance(exc, AuditUnavailableError) else type(exc).__name__
        _log.error("%s (%s) could not be put on record: %s", event.event, event.outcome, why)
        # A denial stands whether it is on record or not.
        if self._audit_first and event.outcome != "deny":
            self._refuse(exc)

    def _refuse(self, exc: Exception) -> NoReturn:
        raise AuditUnavailableError("The decision cannot be put on record: nothing is done without it.") from exc


def decision_event(
    principal: Principal | None,
    requirement: Requirement,
    *,
    reason: str,
    outcome: Outcome,
    at: float,
    about: About,
    needed: Iterable[str] = (),
) -> AuditEvent:
    """Return what goes on record of a decision about a request or a tool."""
    return _event(
        event="request" if requirement.tool is None else "tool",
        outcome=outcome,
        reason=reason,
        at=at,
        needed=tuple(sorted({*requirement.scopes, *needed})),
        role=requirement.role,
        action=requirement.action,
        roles=tuple(sorted(principal.roles)) if principal is not None and reason in _BY_ROLE else (),
        tool=requirement.tool,
        **caller_of(principal),
        **about,
    )


class Caller(TypedDict):
    """Who it was, as far as that was found out."""

    subject: str | None
    issuer: str | None
    client_id: str | None
    spiffe_id: str | None
    user: str | None
    jti: str | None


def caller_of(principal: Principal | None) -> Caller:
    """Return what goes on record of a caller."""
    if principal is None:
        return Caller(subject=None, issuer=None, client_id=None, spiffe_id=None, user=None, jti=None)
    return Caller(
        subject=principal.subject,
        issuer=principal.issuer,
        client_id=principal.client_id,
        spiffe_id=principal.spiffe_id,
        user=principal.user,
        jti=principal.jti,
    )


def error_reason(error: AuthSecError) -> str:
    """Return why something was denied, as it goes on record."""
    if isinstance(error, VerificationUnavailableError) and error.unavailable is not None:
        # The caller is told nothing of it, so the operator has to see it here.
        return f"{error.unavailable}_unavailable"
    return error.reason if isinstance(error, AccessDeniedError) else error.code
