"""Finding entries of the audit: by agent, action, decision, token and time, always in the order of the chain.

A cursor is a place in the chain, so that a reader who comes back goes on where they stopped and misses nothing. Whether
the entries are the ones that were written is for `verify`.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from authsec_server.audit.checkpoint_jws import StoredCheckpoint
from authsec_server.audit.entry import Decision
from authsec_server.db.engine import Database
from authsec_server.db.tables import audit, checkpoints

__all__ = ["AuditLog", "LoggedEntry", "Order", "Search", "logged"]

Order = Literal["newest", "oldest"]

# Entries are nearly in the order of their times: replicas' clocks differ, and clocks are set. What is this many seconds
# older than what is wanted comes before it, and so on: a search misses nothing unless a clock was wrong by more.
_DISORDER: Final = 300.0
_STREAMED: Final = 500  # rows at once


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """Which entries are wanted. What is None does not matter.

    Attributes:
        since: Epoch seconds; the first moment.
        until: Epoch seconds; the first moment that is too late.
        after: The cursor: only entries beyond this one, in the wanted order.
    """

    client_id: str | None = None
    action: str | None = None
    decision: Decision | None = None
    jti: str | None = None
    since: float | None = None
    until: float | None = None
    after: int | None = None
    order: Order = "newest"

    def ordered(self, order: Order) -> Search:
        """Return the same search in this order."""
        return replace(self, order=order)


@dataclass(frozen=True, slots=True, kw_only=True)
class LoggedEntry:
    """One entry as it is stored.

    Attributes:
        line: What was recorded, taken apart. Without its spaces and with its members sorted it is what was hashed.
    """

    seq: int
    hash: str
    line: Mapping[str, Any]

    def members(self) -> dict[str, Any]:
        """Return the line's members, and the hash."""
        return {**self.line, "hash": self.hash}

    def json_line(self) -> str:
        """Return the members as one line of ASCII."""
        return json.dumps(self.members(), sort_keys=True, separators=(",", ":"))


class AuditLog:
    """Reads the audit. Blocks no writer."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(self, search: Search, *, limit: int) -> tuple[LoggedEntry, ...]:
        """Return the first `limit` entries that are found; the next page begins after the last one's `seq`.

        Costs one query by an index, or three with times.

        Raises:
            StorageUnavailableError: The database cannot be read.
        """
        async with self._database.read() as connection:
            bounds = await _bounds(connection, search)
            rows = await connection.execute(_query(search, bounds).limit(limit))
            return tuple(logged(row) for row in rows)

    async def stream(self, search: Search) -> AsyncIterator[LoggedEntry]:
        """Yield all entries that are found, up to the one that is the last when this begins.

        No connection is held while the reader takes its time.

        Raises:
            StorageUnavailableError: The database cannot be read.
        """
        async with self._database.read() as connection:
            last = (await connection.execute(_LAST)).scalar_one_or_none()
        while last is not None:
            entries = await self.page(search, limit=_STREAMED)
            for entry in entries:
                if entry.seq <= last:
                    yield entry
            if len(entries) < _STREAMED or (search.order == "oldest" and entries[-1].seq >= last):
                return
            search = replace(search, after=entries[-1].seq)

    async def checkpoints(self, *, after: int | None, limit: int) -> tuple[StoredCheckpoint, ...]:
        """Return checkpoints, the newest first; the next page begins after the last one's `seq`.

        Raises:
            StorageUnavailableError: The database cannot be read.
        """
        query = sa.select(checkpoints).order_by(checkpoints.c.seq.desc()).limit(limit)
        if after is not None:
            query = query.where(checkpoints.c.seq < after)
        async with self._database.read() as connection:
            return tuple(
                StoredCheckpoint(seq=row.seq, at=row.at, jws=row.jws) for row in await connection.execute(query)
            )


@dataclass(frozen=True, slots=True)
class _Bounds:
    first: int | None  # comes before all that is wanted
    last: int | None  # comes after it


async def _bounds(connection: AsyncConnection, search: Search) -> _Bounds:
    """Return between which entries those of the wanted time are."""
    first = last = None
    if search.since is not None:
        first = (await connection.execute(_LAST_BEFORE, {"at": search.since - _DISORDER})).scalar_one_or_none()
    if search.until is not None:
        last = (await connection.execute(_FIRST_FROM, {"at": search.until + _DISORDER})).scalar_one_or_none()
    return _Bounds(first, last)


def _query(search: Search, bounds: _Bounds) -> sa.Select[Any]:
    wanted: list[sa.ColumnElement[bool]] = [
        column == value
        for column, value in (
            (audit.c.client_id, search.client_id),
            (audit.c.action, search.action),
            (audit.c.decision, search.decision),
            (audit.c.jti, search.jti),
        )
        if value is not None
    ]
    # The place in the chain narrows the search by whichever index is used; the time itself only says yes or no, as an
    # expression, because an index on it would have all that it finds sorted.
    wanted += [audit.c.at + 0.0 >= search.since] if search.since is not None else []
    wanted += [audit.c.at + 0.0 < search.until] if search.until is not None else []
    wanted += [audit.c.seq > bounds.first] if bounds.first is not None else []
    wanted += [audit.c.seq < bounds.last] if bounds.last is not None else []
    newest = search.order == "newest"
    if search.after is not None:
        wanted.append(audit.c.seq < search.after if newest else audit.c.seq > search.after)
    query = sa.select(audit.c.seq, audit.c.text, audit.c.hash).where(*wanted)
    return query.order_by(audit.c.seq.desc() if newest else audit.c.seq.asc())


def logged(row: Any) -> LoggedEntry:
    """Return the entry of a row of `audit`."""
    try:
        line = json.loads(row.text)
    except (ValueError, TypeError, RecursionError):
        line = None
    if not isinstance(line, dict) or line.get("seq") != row.seq:
        # Show that it is there, and not what somebody would like to be seen in its place: `verify` tells more.
        line = {"seq": row.seq, "damaged": True}
    return LoggedEntry(seq=row.seq, hash=row.hash, line=line)


_LAST: Final = sa.select(sa.func.max(audit.c.seq))
_FIRST_FROM: Final = sa.select(audit.c.seq).where(audit.c.at >= sa.bindparam("at")).order_by(audit.c.at).limit(1)
_LAST_BEFORE: Final = sa.select(audit.c.seq).where(audit.c.at < sa.bindparam("at")).order_by(audit.c.at.desc()).limit(1)
