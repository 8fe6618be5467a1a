"""Does each entry follow from the one before it, and agree with its columns, the head and the checkpoints? Pure.

It is handed rows in their order, keeps none of them, and names the first bad one and what became of it.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple, NoReturn

from authsec_server.audit.chain import GENESIS, chained, columns_of, format_instant
from authsec_server.audit.witnesses import Witnesses
from authsec_server.errors import DamagedAuditError

__all__ = ["AuditRow", "Head", "Report", "Walk"]

_REMEMBERED: Final = 1024  # hashes, to recognise as many inserted entries


class AuditRow(NamedTuple):
    """A row of the table, as it is found."""

    seq: int
    at: float
    action: str
    decision: str
    actor: str
    client_id: str | None
    jti: str | None
    text: str
    hash: str


class Head(NamedTuple):
    """Where the chain ends, according to the row that its writers hold."""

    seq: int
    hash: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What was checked and found good.

    Attributes:
        last_seq: The last entry; 0 for an empty audit.
        last_hash: Its hash, which stands for all entries.
        checkpoints: How many entries a signed checkpoint agrees with.
        last_checkpoint: The last of these entries; 0 where there is none. What came later nobody has vouched for.
        notes: What a person should know, and is no damage.
        seconds: How long it took.
    """

    entries: int
    last_seq: int
    last_hash: str
    checkpoints: int
    last_checkpoint: int
    notes: tuple[str, ...] = ()
    seconds: float = 0.0


class Walk:
    """One pass over the entries, in their order.

    Attributes:
        seq: The last entry that was found good; 0 at first.
        hash: Its hash.
    """

    def __init__(self, witnesses: Witnesses) -> None:
        self._witnesses = witnesses
        self._checkpoints = self._last_checkpoint = 0
        self.seq = 0
        self.hash = GENESIS
        self._recent = deque([GENESIS], maxlen=_REMEMBERED)  # the hashes up to the last entry's

    def take(self, row: AuditRow) -> None:
        """Check the next entry.

        Raises:
            DamagedAuditError: It is bad, or one before it is missing.
        """
        expected = self.seq + 1
        if row.seq > expected:
            which = f"entry {expected} is" if row.seq == expected + 1 else f"entries {expected} to {row.seq - 1} are"
            _damaged(expected, f"{which} missing: deleted")
        if row.seq < expected:
            _damaged(row.seq, f"entry {row.seq} is there twice, or not in its place: inserted or reordered")
        line = _parsed(row.text)
        if line is None:
            _damaged(expected, f"the line of entry {expected} is none of ours: edited")
        if line["seq"] != expected:
            self._explain_misplaced(row, line["seq"])
        if wrong := _wrong_columns(row, line):
            _damaged(expected, f"in entry {expected}, {' and '.join(wrong)} differ from what was recorded: edited")
        if row.hash != chained(self.hash, row.text):
            before = f", or entry {self.seq} together with its hash" if self.seq else ""
            _damaged(expected, f"entry {expected} does not follow from what is before it: it was edited{before}")
        self.seq, self.hash = expected, row.hash
        self._recent.append(row.hash)
        self._ask_witnesses()

    def finish(self, head: Head | None, *, seconds: float = 0.0) -> Report:
        """Check that this was all, and return what was found good.

        Raises:
            DamagedAuditError: Something was cut off, or added.
        """
        following = self.seq + 1
        if head is not None:
            if head.seq > self.seq:
                _damaged(following, f"the audit ends before entry {head.seq}, from {following} on: cut")
            if head.seq < self.seq:
                _damaged(head.seq + 1, f"the audit should end with entry {head.seq}: what comes after was inserted")
            if head.hash != self.hash:
                _damaged(max(1, self.seq), f"entry {self.seq} is not the one that was written last: edited")
        beyond = [seq for seq in (*self._witnesses.hashes, *self._witnesses.problems) if seq > self.seq]
        if beyond:
            _damaged(
                following, f"there are checkpoints up to entry {max(beyond)}, and no entry from {following} on: cut"
            )
        if problems := self._witnesses.problems:  # of an entry 0 or below, which none of ours can be
            _damaged(1, problems[min(problems)])
        return Report(
            entries=self.seq,
            last_seq=self.seq,
            last_hash=self.hash,
            checkpoints=self._checkpoints,
            last_checkpoint=self._last_checkpoint,
            notes=self._witnesses.all_notes(),
            seconds=seconds,
        )

    def _ask_witnesses(self) -> None:
        digest = self._witnesses.hashes.get(self.seq)
        if digest is not None and digest.hex() != self.hash:
            first = self._last_checkpoint + 1
            _damaged(
                self.seq,
                f"entry {self.seq} is not the one that its checkpoint was made of: it, or something from entry "
                f"{first} on, was edited, inserted, deleted or reordered, and the chain was made again",
            )
        if problem := self._witnesses.problems.get(self.seq):
            _damaged(self.seq, problem)
        if digest is not None:
            self._checkpoints, self._last_checkpoint = self._checkpoints + 1, self.seq

    def _explain_misplaced(self, row: AuditRow, said: int) -> NoReturn:
        told = f"entry {row.seq} holds the line of entry {said}"
        if said > row.seq:
            _damaged(row.seq, f"{told}: the one that was here was deleted or reordered")
        place = said - 1 - (self.seq + 1 - len(self._recent))  # of the hash before the entry that the line is of
        if place >= 0 and self._recent[place + 1] == row.hash:
            _damaged(row.seq, f"{told} again: inserted")
        if place >= 0 and chained(self._recent[place], row.text) == row.hash:
            _damaged(said, f"{told}, and belongs there: what is there now was inserted")
        _damaged(row.seq, f"{told}: reordered or edited")


def _damaged(seq: int, what: str) -> NoReturn:
    raise DamagedAuditError(what, seq=seq)


def _parsed(text: object) -> Mapping[str, Any] | None:
    if not isinstance(text, str) or not text.isascii():
        return None
    try:
        line = json.loads(text)
        columns_of(line)
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return None
    return line if type(line.get("seq")) is int else None


def _wrong_columns(row: AuditRow, line: Mapping[str, Any]) -> list[str]:
    said = columns_of(line)
    wrong = [name for name, value in said.items() if getattr(row, name) != value]
    try:
        at = format_instant(row.at)
    except (ValueError, TypeError):
        at = None
    return wrong if at is not None and at == line.get("at") else [*wrong, "at"]
