"""May this client report, and which entries does its report become? Knows no HTTP.

A report is the reporter's word for what it decided itself. So the entry has the reporter as it was proven, and all that
it says of others in `claimed`, as it has every agent's own words. The reporter needs a delegation for `audit:report`:
whoever may write into the audit can fill it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal

import sqlalchemy as sa

from authsec_server.agents.proofs import Proven
from authsec_server.agents.standing import Standing
from authsec_server.audit.entry import Decision
from authsec_server.audit.memory import used
from authsec_server.audit.questions import Slot, Verdict
from authsec_server.errors import RefusedError
from authsec_server.tokens.issue import ClientQuestion, ClientRequest
from authsec_server.tokens.policy import Ask, Caps, Refusal, decide

__all__ = ["DENIED", "MOST_EVENTS", "REPORT_SCOPE", "Report", "ReportedEvent"]

REPORT_SCOPE: Final = "audit:report"
MOST_EVENTS: Final = 100  # of one report
DENIED: Final = "audit.report"  # the action of a report that is refused
_REMEMBERED: Final = 3600.0  # seconds for which an event that comes again is known


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedEvent:
    """One thing that a service decided, or that an agent there did.

    Attributes:
        id: The reporter's name for it: the same event has the same one, however often it is sent.
        decision: As it is found by in the audit.
        jti: The token that it was decided about.
        asked: The scopes that were needed.
        claimed: All that the reporter says of it.
    """

    id: str
    action: Literal["guard.decision", "guard.run"]
    decision: Decision
    jti: str | None = None
    asked: str | None = None
    claimed: Mapping[str, str] = field(default_factory=dict)


class Report(ClientQuestion[int]):
    """Asks for some events to be recorded; the answer is how many are new."""

    def __init__(self, request: ClientRequest, events: Sequence[ReportedEvent], caps: Caps) -> None:
        super().__init__(request, DENIED)
        self._caps = caps
        self._events = {f"report:{request.client_id}:{event.id}": event for event in events}
        self.wants = tuple((_recorded, mark) for mark in self._events)

    def _allowed(self, standing: Standing, proven: Proven, slot: Slot) -> Verdict[int | RefusedError]:
        grant = decide(standing, Ask(scopes=frozenset({REPORT_SCOPE})), self._caps, slot.at)
        if isinstance(grant, Refusal):
            raise RefusedError(
                grant.code, f"this client may not report: ask an operator to delegate {REPORT_SCOPE} to it"
            )
        # Also those of this transaction: the database would refuse them, and with them everybody else's questions.
        known = slot.marked | {mark for mark in self._events if (_recorded, mark) in slot.found}
        new = {mark: event for mark, event in self._events.items() if mark not in known}
        said = self._entry(standing, proven, decision="allow")
        entries = [
            replace(
                said,
                action=event.action,
                decision=event.decision,
                jti=event.jti,
                asked=event.asked,
                details={**said.details, "event_id": event.id},
                claimed=event.claimed,
            )
            for event in new.values()
        ]
        return Verdict(result=len(new), entry=None, more=entries, marks=dict.fromkeys(new, slot.at + _REMEMBERED))


def _recorded(connection: sa.Connection, marks: Collection[str]) -> dict[str, bool]:
    """Return which of these events are on record. A `Reader` of the ledger."""
    return dict.fromkeys(used(connection, marks), True)
