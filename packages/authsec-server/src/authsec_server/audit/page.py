"""What one transaction appends to the audit's chain, with the tokens and marks that its entries are about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa

from authsec_server.audit.chain import chained, columns, sealed_text
from authsec_server.audit.entry import Entry
from authsec_server.db import tables
from authsec_server.db.bulk import append, first_row
from authsec_server.errors import StorageUnavailableError

__all__ = ["Page"]


class Page:
    """The head of the chain, held, and what will be appended to it."""

    def __init__(self, row: Any) -> None:
        self._seq: int = row.seq
        self._hash: str = row.hash
        self.policy_version: int = row.policy_version
        self.next_index: int = row.next_index
        self._entries: list[dict[str, Any]] = []
        self._tokens: list[Mapping[str, Any]] = []
        self._marks: list[dict[str, Any]] = []

    @classmethod
    def open(cls, connection: sa.Connection) -> Page:
        """Take the head, for which all other writers wait from now on.

        Raises:
            StorageUnavailableError: The database was not initialised.
        """
        row = first_row(connection, tables.head)
        if row is None:
            raise StorageUnavailableError("the database has no head of the audit: run authsec-server init")
        return cls(row)

    def write(self, entries: Sequence[Entry], at: float) -> None:
        """Append entries to the chain."""
        for entry in entries:
            text = sealed_text(entry, seq=self._seq + 1, at=at)
            self._hash, self._seq = chained(self._hash, text), self._seq + 1
            self._entries.append(_row(entry, self._seq, at, text, self._hash))

    def issue(self, token: Mapping[str, Any]) -> None:
        """Add a row of `tokens`, at the next place in the status lists."""
        self._tokens.append(token)
        self.next_index += 1

    def use(self, mark: str, until: float) -> None:
        """Note that something was used that is good once."""
        self._marks.append({"mark": mark, "expires_at": until})

    def close(self, connection: sa.Connection, *, policy_changed: bool) -> None:
        """Write all of it, and move the head."""
        if not (self._entries or self._tokens or self._marks or policy_changed):
            return
        append(
            connection,
            {tables.used_marks: self._marks, tables.tokens: self._tokens, tables.audit: self._entries},
            tables.head,
            {
                "seq": self._seq,
                "hash": self._hash,
                "policy_version": self.policy_version + policy_changed,
                "next_index": self.next_index,
            },
        )


def _row(entry: Entry, seq: int, at: float, text: str, digest: str) -> dict[str, Any]:
    return {"seq": seq, "at": at, **columns(entry), "text": text, "hash": digest}
