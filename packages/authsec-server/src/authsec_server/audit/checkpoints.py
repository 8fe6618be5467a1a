"""When the audit gets a signed checkpoint, and where it goes: into the database, and into a file to be kept elsewhere.

Checkpoints survive whoever can rewrite the database. What one says is in `checkpoint_jws`; whether the audit agrees
with it is for `verify`.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError, IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from authsec_core._clock import Clock
from authsec_core._jwks import Keys
from authsec_core._signing import SigningKey
from authsec_server.audit.checkpoint_file import CheckpointFile
from authsec_server.audit.checkpoint_jws import (
    BadCheckpointError,
    StoredCheckpoint,
    peek_checkpoint,
    read_checkpoint,
    sign_checkpoint,
)
from authsec_server.audit.witnesses import AuditKeys
from authsec_server.db import tables
from authsec_server.db.engine import Database
from authsec_server.errors import DamagedAuditError, StorageUnavailableError
from authsec_server.logs import escaped

__all__ = ["Checkpoints"]

_MOST_EXPORTED: Final = 1000  # checkpoints at once
_COMPACT: Final = re.compile(r"[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+")
_Row = tuple[int, object]  # the entry, and what is stored as its checkpoint

_log = logging.getLogger("authsec.server")


class Checkpoints:
    """Signs the head of the audit, stores that, and exports what is stored. Several replicas do no harm to each other.

    Args:
        key: Gives the signing key that is active now.
        file: Where to export to; None exports nothing.
        interval: Seconds after which new entries get a checkpoint.
        every: Entries after which they get one sooner.
    """

    def __init__(
        self,
        database: Database,
        key: Callable[[], Awaitable[SigningKey]],
        *,
        issuer: str,
        clock: Clock,
        file: Path | None = None,
        interval: float = 60.0,
        every: int = 10_000,
    ) -> None:
        self._database = database
        self._key = key
        self._issuer = issuer
        self._clock = clock
        self._file = None if file is None else CheckpointFile(file)
        self._exported: int | None = None  # the last in the file; None until it was looked at
        self._size = 0  # of the file, when that was so
        self._interval, self._every = interval, every
        self._alone = asyncio.Lock()  # guards the file

    async def write_if_due(self) -> StoredCheckpoint | None:
        """Write a checkpoint if the audit has grown enough since the last, or at all and long ago. Costs one query.

        Raises:
            StorageUnavailableError, DamagedAuditError: As in `write`.
        """
        state = await self._state()
        grown, age = state.seq - state.last_seq, self._clock.wall() - state.last_at
        # An age below zero: the clock was set back, and waiting for it would leave the audit without a checkpoint.
        if grown > 0 and (grown >= self._every or not 0 <= age < self._interval):
            return await self._write(state)
        await self._export(state.last_seq)
        return None

    async def write(self) -> StoredCheckpoint | None:
        """Write a checkpoint of the last entry and return it, or the one that is already there; None without entries.

        Raises:
            StorageUnavailableError: The database or the file did not take it.
            DamagedAuditError: The last entry is missing, or somebody else's words are stored as its checkpoint.
        """
        return await self._write(await self._state())

    async def _write(self, state: _State) -> StoredCheckpoint | None:
        if state.seq == 0:
            return None
        if state.seq > state.last_seq:
            await self._sign_and_store(state)
        await self._export(state.seq)
        async with self._database.read() as connection:
            row = (await connection.execute(_STORED, {"seq": state.seq})).one()
        try:
            ours = peek_checkpoint(row.jws).seq == row.seq
        except BadCheckpointError:
            ours = False
        if not ours:
            raise DamagedAuditError(f"what is stored as the checkpoint of entry {row.seq} is not ours", seq=row.seq)
        return StoredCheckpoint(seq=row.seq, at=row.at, jws=row.jws)

    async def _state(self) -> _State:
        async with self._database.read() as connection:
            row = (await connection.execute(_STATE)).one_or_none()
        if row is None:
            raise StorageUnavailableError("the database has no head of the audit: run authsec-server init")
        return _State(seq=row.seq, hash=row.hash, at=row.at, last_seq=row.last_seq or 0, last_at=row.last_at or 0.0)

    async def _sign_and_store(self, state: _State) -> None:
        if state.at is None:
            raise DamagedAuditError(
                f"entry {state.seq}, the last of the audit, is missing: run verify-audit", seq=state.seq
            )
        key, now = await self._key(), self._clock.wall()
        jws = sign_checkpoint(
            key, self._issuer, state.seq, state.hash, state.at, previous=state.last_seq, issued_at=now
        )

        async def insert(connection: AsyncConnection) -> None:
            await connection.execute(_INSERT, {"seq": state.seq, "at": now, "jws": jws})

        try:
            await self._database.write(insert)
        except IntegrityError:
            return  # another replica was first; its checkpoint says the same

    async def _export(self, until: int) -> None:
        """Append what the file lacks, also what other replicas wrote, or this one just before it was killed.

        What is stored and is no checkpoint is passed over: it must neither get into the file nor hold up the others.
        """
        if self._file is None:
            return
        async with self._alone:
            try:
                self._exported = done = await self._last(self._file) if self._exported is None else self._exported
                while done < until and (rows := await self._stored_after(done, until)):
                    good, bad = await asyncio.to_thread(_told_apart, rows, await self._public_keys())
                    if good:
                        size = await asyncio.to_thread(partial(self._file.append, good, after=self._size))
                        if size is None:  # another worker has appended, or somebody has moved the file away
                            self._exported = done = max(done, await self._last(self._file))
                            continue
                        self._size = size
                    self._exported = done = rows[-1][0]
                    for seq, why in bad:
                        _log.error("the stored checkpoint of entry %s is not good and is not exported: %s", seq, why)
            except OSError as exc:
                self._exported = None  # part of it may be there
                raise StorageUnavailableError("the checkpoint file cannot be written: look at its folder") from exc

    async def _last(self, file: CheckpointFile) -> int:
        last, self._size = await asyncio.to_thread(_last_exported, file)
        return last

    async def _stored_after(self, seq: int, until: int) -> list[_Row]:
        wanted = {"seq": seq, "until": until}
        try:
            async with self._database.read() as connection:
                return [(row.seq, row.jws) for row in await connection.execute(_AFTER, wanted)]
        except DBAPIError:  # not an outage, which `read` translates: SQLite takes any bytes for text
            return await self._next_after(wanted)

    async def _next_after(self, wanted: dict[str, int]) -> list[_Row]:
        async with self._database.read() as connection:
            seq = (await connection.execute(_NEXT, wanted)).scalar_one()
        try:  # around `read`, which has to see the error: it gives such a connection up
            async with self._database.read() as connection:
                return [(seq, (await connection.execute(_STORED, {"seq": seq})).one().jws)]
        except DBAPIError:
            return [(seq, None)]

    async def _public_keys(self) -> Keys:
        async with self._database.read() as connection:
            return AuditKeys.of((await connection.execute(_KEYS)).scalars()).public


@dataclass(frozen=True, slots=True, kw_only=True)
class _State:
    seq: int
    hash: str
    at: float | None
    last_seq: int
    last_at: float


def _last_exported(file: CheckpointFile) -> tuple[int, int]:
    """Return the last entry that has a checkpoint in the file, and the size of the file that was read."""
    last, size = 0, file.size()
    for line in file.read(size=size):
        try:
            last = max(last, peek_checkpoint(line.text).seq)
        except BadCheckpointError:
            continue
    return last, size


def _told_apart(rows: Iterable[_Row], keys: Keys) -> tuple[list[str], list[tuple[int, str]]]:
    """Return the checkpoints among these, and of which entries the others are, with what is wrong with them."""
    good: list[str] = []
    bad: list[tuple[int, str]] = []
    for seq, jws in rows:
        if not isinstance(jws, str) or not _COMPACT.fullmatch(jws):
            bad.append((seq, "it is no compact JWS"))
            continue
        try:
            named = read_checkpoint(jws, keys).seq
        except BadCheckpointError as exc:
            bad.append((seq, escaped(str(exc))))
            continue
        if named == seq:
            good.append(jws)
        else:
            bad.append((seq, f"it is of entry {named}"))
    return good, bad


_LAST: Final = sa.select(tables.checkpoints.c.seq, tables.checkpoints.c.at).where(
    # What claims to be of an entry that does not exist was not written by us, and must not hold up the real ones.
    tables.checkpoints.c.seq <= sa.select(tables.head.c.seq).scalar_subquery()
)
_NEWEST: Final = _LAST.order_by(tables.checkpoints.c.seq.desc()).limit(1).subquery()
_STATE: Final = sa.select(
    tables.head.c.seq,
    tables.head.c.hash,
    sa.select(tables.audit.c.at).where(tables.audit.c.seq == tables.head.c.seq).scalar_subquery().label("at"),
    sa.select(_NEWEST.c.seq).scalar_subquery().label("last_seq"),
    sa.select(_NEWEST.c.at).scalar_subquery().label("last_at"),
)
_STORED: Final = sa.select(tables.checkpoints).where(tables.checkpoints.c.seq == sa.bindparam("seq"))
_AFTER: Final = (
    sa.select(tables.checkpoints.c.seq, tables.checkpoints.c.jws)
    .where(tables.checkpoints.c.seq > sa.bindparam("seq"), tables.checkpoints.c.seq <= sa.bindparam("until"))
    .order_by(tables.checkpoints.c.seq)
    .limit(_MOST_EXPORTED)
)
_NEXT: Final = sa.select(sa.func.min(tables.checkpoints.c.seq)).where(
    tables.checkpoints.c.seq > sa.bindparam("seq"), tables.checkpoints.c.seq <= sa.bindparam("until")
)
_KEYS: Final = sa.select(tables.signing_keys.c.jwk)  # also those that were retired or revoked: what they signed counts
_INSERT: Final = sa.insert(tables.checkpoints)
