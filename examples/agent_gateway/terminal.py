"""What the terminal shows of what goes on record: a line for each answer, tool and run. The file has it whole."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Final

from authsec_fastapi import AuditEvent

__all__ = ["TerminalSink"]

_FOR_WANT_OF_A_ROLE: Final = {"role_missing", "action_not_permitted"}


def _to_stderr(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


class TerminalSink:
    """Shows people what is decided, shortly. It is no record: looks at the token of a turn under way are left out.

    Args:
        names: What to call callers, by client id.
        show: Where a line goes.
    """

    def __init__(self, names: Mapping[str, str], *, show: Callable[[str], None] = _to_stderr) -> None:
        self._names = names
        self._show = show

    def record(self, event: AuditEvent) -> None:
        """Show the event, if it is one for people."""
        line = self._line(event)
        if line is not None:
            # What came with a token stays on its line, and moves no cursor.
            self._show("".join(one if one.isascii() and one.isprintable() else "?" for one in line))

    async def arecord(self, event: AuditEvent) -> None:
        """Do the same: a terminal is fast enough."""
        self.record(event)

    def _line(self, event: AuditEvent) -> str | None:
        who = self._who(event)
        if event.event == "run.ended":
            return f"{event.outcome}: run of {event.agent} for {who}, {event.duration or 0:.2f} s"
        if event.event == "tool":
            return f"{event.outcome}: tool {event.tool} for {who}{_why(event)}"
        if event.event == "request" and (event.method is not None or event.outcome == "deny"):
            what = f"{event.method} {event.route or '(no such route)'}" if event.method else "what was under way"
            return f"{event.outcome}: {what} for {who}{_why(event)}"
        return None

    def _who(self, event: AuditEvent) -> str:
        if event.subject is None:
            return "nobody known"
        name = self._names.get(event.client_id or "")
        return name or (event.user or event.client_id or event.subject)[:80]


def _why(event: AuditEvent) -> str:
    if event.outcome == "allow":
        return ""
    if event.reason in _FOR_WANT_OF_A_ROLE:
        return f" ({event.reason}; roles: {', '.join(event.roles) or 'none'})"
    return f" ({event.reason})"
