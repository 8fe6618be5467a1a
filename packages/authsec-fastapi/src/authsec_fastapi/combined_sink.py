"""Events in several places. One sink of several; it puts nothing on record itself."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from authsec_fastapi.audit import AuditEvent, AuditSink
from authsec_fastapi.errors import AuditUnavailableError

__all__ = ["CombinedSink"]


class CombinedSink:
    """Hands each event to all of some sinks. It is on record when all of them have it.

    Where one fails, the others have it all the same.

    Args:
        sinks: At least one.

    Raises:
        ValueError: There is none.
    """

    def __init__(self, *sinks: AuditSink) -> None:
        if not sinks:
            raise ValueError("name at least one sink")
        self._sinks: Final = sinks

    def record(self, event: AuditEvent) -> None:
        """Hand it to one after the other.

        Raises:
            AuditUnavailableError: At least one of them does not have it.
        """
        errors: list[BaseException] = []
        for sink in self._sinks:
            try:
                sink.record(event)
            except Exception as exc:  # noqa: BLE001 -- a sink is anybody's code, and the next one comes all the same
                errors.append(exc)
        self._raise(errors)

    async def arecord(self, event: AuditEvent) -> None:
        """Hand it to all at once."""
        outcomes = await asyncio.gather(*(sink.arecord(event) for sink in self._sinks), return_exceptions=True)
        self._raise([outcome for outcome in outcomes if outcome is not None])

    def _raise(self, errors: Sequence[BaseException]) -> None:
        if errors:
            raise AuditUnavailableError(
                f"{len(errors)} of {len(self._sinks)} sinks could not put the event on record: "
                + ", ".join(sorted({_why(error) for error in errors}))
            ) from errors[0]


def _why(error: BaseException) -> str:
    # Of an exception of somebody else's the class alone: its words may hold anything.
    return error.message if isinstance(error, AuditUnavailableError) else type(error).__name__
