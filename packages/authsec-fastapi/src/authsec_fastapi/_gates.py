"""May this caller use this tool, still? Asked once for what an agent is given, and again before each call.

What is called, and by which framework, is for `tools` and the modules of the frameworks. Whoever calls is bound when a
gate is made: agent frameworks run tools on other threads and in other contexts.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeVar

from authsec_core.errors import AuthSecError, TokenRejectedError, VerificationUnavailableError
from authsec_core.fetch import FetchResult
from authsec_fastapi.errors import AccessDeniedError, AuditUnavailableError
from authsec_fastapi.judging import Judge
from authsec_fastapi.principal import Principal
from authsec_fastapi.recording import About
from authsec_fastapi.requirement import Requirement

__all__ = ["Gate", "ToolRun", "permitted", "refusal"]

T = TypeVar("T")

_ENDED: Final = "The caller's token is not good any more: nothing can be done for them until they come again."
_NOBODY_KNOWS: Final = "Whether the caller may do this cannot be told right now: try again later."
_OPERATOR: Final = "This tool cannot be used: its operator has to look at the log."
_log = logging.getLogger("authsec.guard")


class ToolRun(Protocol):
    """The run of an agent, as far as its tools are concerned."""

    @property
    def principal(self) -> Principal:
        """For whom the agent runs."""
        ...

    @property
    def about(self) -> About:
        """What goes on record of each decision."""
        ...

    def note_tools(self, names: Iterable[str]) -> None:
        """Remember what the agent was given."""
        ...


@dataclass(frozen=True, slots=True)
class Gate:
    """Stands before one tool of one caller. Thread-safe and loop-safe."""

    name: str
    principal: Principal
    _judge: Judge = field(repr=False)
    _run: ToolRun | None = field(repr=False)

    def refusal(self) -> str | None:
        """Return None if the tool may run now, which is then on record; else what the model is told. May block."""
        try:
            self._judge.recheck(self.principal, Requirement(tool=self.name), self._about())
        except AuthSecError as error:
            return _told(error)
        return None

    async def arefusal(self) -> str | None:
        """Do what `refusal` does, without blocking the loop."""
        try:
            await self._judge.arecheck(self.principal, Requirement(tool=self.name), self._about())
        except AuthSecError as error:
            return _told(error)
        return None

    def _about(self) -> About:
        return About() if self._run is None else self._run.about


def permitted(
    judge: Judge, principal: Principal, named: Sequence[tuple[str, T]], run: ToolRun | None
) -> list[tuple[Gate, T]]:
    """Return those tools that the caller may use now, each with the gate that has to be asked before each call.

    Raises:
        ValueError: Two have one name, the run is another caller's, or no guard vouches for the principal.
        ConfigurationError: The policy does not know one of them.
    """
    for name, times in Counter(name for name, _ in named).items():
        if times > 1:
            raise ValueError(f"{times} tools have the name {name!r}, and a framework would run one of them: rename")
    if run is not None and run.principal.identity != principal.identity:
        raise ValueError("this run is another caller's: an agent acts for the caller of its run")
    offered = [(Gate(name, principal, judge, run), tool) for name, tool in named if judge.offers(principal, name)]
    if run is not None:
        run.note_tools([gate.name for gate, _ in offered])
    return offered


def refusal(code: str, message: str) -> str:
    """Return the JSON text that tells a model that a tool was not run."""
    return FetchResult(status="error", mode="live", code=code, message=message).to_json()


def _told(error: AuthSecError) -> str:
    """Return what the model is told: denied, unavailable and misconfigured differ, and no name of a scope or role."""
    if isinstance(error, AccessDeniedError | AuditUnavailableError):  # whose words are the guard's own
        return FetchResult.of_error(error, "live").to_json()
    if isinstance(error, TokenRejectedError):
        return refusal(error.code, _ENDED)
    if isinstance(error, VerificationUnavailableError):
        return FetchResult(
            status="error", mode="live", code=error.code, message=_NOBODY_KNOWS, retryable=True
        ).to_json()
    _log.error("a tool could not be checked: %s", error)
    return refusal(error.code, _OPERATOR)
