"""What the ledger is asked, and what it is answered: questions, what a transaction gives them, and their verdicts.

Values only: when a question is judged, and how what it decides becomes durable, is for `audit.ledger`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from authsec_server.agents.standing import Standing
from authsec_server.audit.entry import Entry
from authsec_server.audit.memory import Want

__all__ = ["Question", "Settled", "Slot", "Verdict"]

R_co = TypeVar("R_co", covariant=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """What the transaction gives a decision to work with.

    Attributes:
        at: Epoch seconds, the same for the whole transaction.
        index: The place in the status lists that a token would have.
        kid: The signing key that is active now.
        issuers: The registered issuers that are trusted now: their ids, each with the number of its last change.
        found: What there is of what the question `wants`.
        is_used: Whether the question's `mark` was used before.
        marked: What questions before this one in the same transaction used, beside their own marks.
    """

    at: float
    index: int
    kid: str
    issuers: frozenset[tuple[str, int]] = frozenset()
    found: Mapping[Want, Any] = field(default_factory=dict)
    is_used: bool = False
    marked: Set[str] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict(Generic[R_co]):
    """A decision.

    Attributes:
        result: What the one who asked is told, once all is durable.
        entry: None where nothing was disclosed or refused.
        token: The row of `tokens`, if one is to be issued.
        used_until: Until when the question's `mark` counts as used, if this uses it; epoch seconds.
        more: Entries beside the first one.
        marks: What else is used by this, and until when.
    """

    result: R_co
    entry: Entry | None
    token: Mapping[str, Any] | None = None
    used_until: float | None = None
    more: Sequence[Entry] = ()
    marks: Mapping[str, float] = field(default_factory=dict)

    @property
    def entries(self) -> list[Entry]:
        """All entries, in their order."""
        return [*([] if self.entry is None else [self.entry]), *self.more]


class Question(Protocol[R_co]):
    """Something to be decided by what one client may have now."""

    @property
    def client_id(self) -> str | None:
        """Whose standing it depends on."""
        ...

    @property
    def wants(self) -> Sequence[Want]:
        """What else has to be looked up for it."""
        ...

    @property
    def mark(self) -> str | None:
        """What is good for one use only, by the name that all replicas give it."""
        ...

    def judge(self, standing: Standing | None, slot: Slot) -> Verdict[R_co]:
        """Decide. Pure and quick; the standing is None where there is no such client."""
        ...


@dataclass(frozen=True, slots=True)
class Settled:
    """A question that is answered already and has to be recorded: with others, so that a crowd costs little."""

    entry: Entry
    client_id: None = None
    wants: tuple[()] = ()
    mark: None = None

    def judge(self, standing: Standing | None, slot: Slot) -> Verdict[None]:
        """See `Question`."""
        return Verdict(result=None, entry=self.entry)
