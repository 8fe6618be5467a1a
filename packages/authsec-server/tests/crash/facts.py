"""What a server has acknowledged, and whether the database has all of it. The oracle of the crash tests.

Only what was answered is a fact; what was asked and not answered may have happened or not.
"""

from __future__ import annotations

import base64
import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import sqlalchemy as sa

from authsec_core._clock import SYSTEM_CLOCK
from authsec_server.audit.integrity import AuditRow, Walk
from authsec_server.audit.witnesses import AuditKeys, Witnesses
from authsec_server.db import tables
from authsec_server.db.engine import Database

__all__ = ["Agent", "Books", "Fact", "Facts", "Token"]


class Fact(NamedTuple):
    """What an audit entry must say."""

    action: str
    decision: str
    client_id: str | None
    jti: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Agent:
    """A registered agent."""

    client_id: str
    key_id: str
    key: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """An issued token."""

    jti: str
    client_id: str
    index: int
    text: str = field(repr=False)

    @classmethod
    def read(cls, text: str) -> Token:
        """Return what the token says, unverified."""
        payload = text.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        place = claims["status"]["status_list"]
        return cls(jti=claims["jti"], client_id=claims["client_id"], index=place["idx"], text=text)


@dataclass(slots=True)
class Facts:
    """What was acknowledged.

    Attributes:
        entries: What the audit must have, and how often.
        issued: By jti.
        attempted: Tokens that somebody tried to take back, by whatever means.
        revoked: Those of which that was acknowledged.
        ended: Agents whose revocation was acknowledged.
    """

    entries: Counter[Fact] = field(default_factory=Counter)
    issued: dict[str, Token] = field(default_factory=dict)
    attempted: set[str] = field(default_factory=set)
    revoked: set[str] = field(default_factory=set)
    ended: dict[str, Agent] = field(default_factory=dict)

    def note(self, action: str, client_id: str, *, jti: str | None = None, decision: str = "allow") -> None:
        """Remember that the audit must have one more entry."""
        self.entries[Fact(action, decision, client_id, jti)] += 1

    def __str__(self) -> str:
        return f"{self.entries.total()} entries, {len(self.issued)} tokens, {len(self.revoked)} revocations"


class Books:
    """What the database holds, read on from where it was read last; the chain is verified on the way.

    Args:
        url: Of the database. It is opened to read, and closed again: nobody but the server may have it open when the
            server is killed, or SQLite would have nothing to recover from.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._walk = Walk(Witnesses(AuditKeys.of(())))
        self._places = 0
        self.recorded: Counter[Fact] = Counter()
        self.tokens: dict[str, int] = {}
        self.revoked: set[str] = set()

    async def check(self, facts: Facts) -> None:
        """Read on, and fail where the books contradict themselves or lack something that was acknowledged."""
        await self._read_on()
        self._check_tokens()
        lost = facts.entries - self.recorded
        assert not lost, f"lost from the audit: {dict(lost)}"
        strays = {jti for jti, token in facts.issued.items() if self.tokens.get(jti) != token.index}
        assert not strays, f"lost tokens, or with another place in the status list: {strays}"
        forgotten = facts.revoked - self.revoked
        assert not forgotten, f"lost revocations: {forgotten}"

    def _check_tokens(self) -> None:
        """Nothing is there by halves: a token is there if and only if its entry is."""
        entries = Counter(fact.jti for fact in self.recorded.elements() if fact[:2] == ("token.issue", "allow"))
        assert entries == Counter(self.tokens.keys()), "tokens without an entry, or entries without a token"
        taken_back = {fact.jti for fact in self.recorded if fact[:2] == ("token.revoke", "allow")}
        assert taken_back <= self.revoked, "entries of revocations that are not there"

    async def _read_on(self) -> None:
        head, entries, tokens = await self._new()
        for row in entries:
            self._walk.take(row)
            self.recorded[Fact(row.action, row.decision, row.client_id, row.jti)] += 1
        assert (self._walk.seq, self._walk.hash) == (head.seq, head.hash), "the head is not the last entry"
        new = [row for row in tokens if row.status_index >= self._places]
        assert [row.status_index for row in new] == list(range(self._places, head.next_index)), "gaps or doubles"
        self._places = head.next_index
        self.tokens.update({row.jti: row.status_index for row in new})
        self.revoked = {row.jti for row in tokens if row.revoked_at is not None}

    async def _new(self) -> tuple[Any, list[AuditRow], list[Any]]:
        """Return what is new up to the head, and the tokens that were taken back; old ones may have been."""
        database = Database(self._url, clock=SYSTEM_CLOCK, timeout=60.0)
        try:
            async with database.read() as connection:
                head = (await connection.execute(sa.select(tables.head))).one()
                entries = (await connection.execute(_ENTRIES, {"after": self._walk.seq, "last": head.seq})).all()
                places = {"first": self._places, "end": head.next_index}
                tokens = (await connection.execute(_TOKENS, places)).all()
        finally:
            await database.close()
        return head, [AuditRow._make(entry) for entry in entries], list(tokens)


_ENTRIES = (
    sa.select(*(tables.audit.c[name] for name in AuditRow._fields))
    .where(tables.audit.c.seq > sa.bindparam("after"), tables.audit.c.seq <= sa.bindparam("last"))
    .order_by(tables.audit.c.seq)
)
_TOKENS = (
    sa.select(tables.tokens.c.jti, tables.tokens.c.status_index, tables.tokens.c.revoked_at)
    .where(
        tables.tokens.c.status_index < sa.bindparam("end"),
        sa.or_(tables.tokens.c.status_index >= sa.bindparam("first"), tables.tokens.c.revoked_at.is_not(None)),
    )
    .order_by(tables.tokens.c.status_index)
)
