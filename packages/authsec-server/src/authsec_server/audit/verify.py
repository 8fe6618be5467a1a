"""Is the audit what was written? Reads all of it once, and names the first entry that is not, and what became of it.

What it can and cannot find: every change that leaves the chain, the columns, the head or a checkpoint in contradiction.
Whoever can write to the database can build a new chain that contradicts nothing but the checkpoints; whoever can also
write the table of signing keys and every copy of the checkpoints leaves no trace. So the keys and the checkpoint file
are to be kept where the database's writers cannot reach, and given here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from authsec_core._clock import SYSTEM_CLOCK, Clock
from authsec_core.errors import ConfigurationError
from authsec_server.audit.integrity import AuditRow, Head, Report, Walk
from authsec_server.audit.witnesses import AuditKeys, Witnesses
from authsec_server.db import tables
from authsec_server.db.engine import Database
from authsec_server.errors import DamagedAuditError

__all__ = ["AuditRow", "Head", "Progress", "Report", "verify_audit", "verify_database"]

_PAGE: Final = 1000  # rows

Progress = Callable[[int, int], None]
"""Told how many entries were read, and of how many."""


def verify_audit(
    rows: Iterable[AuditRow],
    checkpoints: Iterable[str],
    keys: AuditKeys,
    *,
    head: Head | None = None,
    progress: Progress | None = None,
) -> Report:
    """Check entries that are read in their order, in constant memory.

    Args:
        checkpoints: Each a compact JWS.
        head: What the writers last left; without it a cut can be seen by checkpoints only.

    Raises:
        DamagedAuditError: With the first bad entry.
    """
    witnesses = Witnesses(keys)
    for checkpoint in checkpoints:
        witnesses.add(checkpoint, where="a checkpoint")
    walk = Walk(witnesses)
    for row in rows:
        walk.take(row)
        if progress is not None and walk.seq % _PAGE == 0:
            progress(walk.seq, head.seq if head is not None else walk.seq)
    return walk.finish(head)


async def verify_database(
    database: Database,
    *,
    checkpoint_files: Iterable[Path] = (),
    jwks_files: Sequence[Path] = (),
    progress: Progress | None = None,
    clock: Clock = SYSTEM_CLOCK,
) -> Report:
    """Check the audit of a database that may be in use: what is there when this begins.

    Args:
        checkpoint_files: Exported checkpoints, which are believed beside those in the database.
        jwks_files: The public keys that checkpoints must be signed with; without it, those in the database.

    Raises:
        DamagedAuditError: With the first bad entry.
        ConfigurationError: A file is missing or cannot be read.
        StorageUnavailableError: The database cannot be read.
    """
    began_at = clock.steady()
    # In this order: a checkpoint that is read now is about an entry that is read later, however busy the writers are.
    files = [(path, _size(path)) for path in checkpoint_files]
    keys = AuditKeys.pinned(jwks_files) if jwks_files else None
    stored = await _stored_checkpoints(database)
    witnesses = Witnesses(keys if keys is not None else await _stored_keys(database))
    if keys is None and (stored or files):
        witnesses.notes.append("the keys are those in the database: give a JWKS file that its writers cannot change")
    for seq, jws in stored:
        witnesses.add(jws, where=f"the stored checkpoint of entry {seq}", seq=seq)
    for path, size in files:
        witnesses.add_file(path, size=size)
    walk = Walk(witnesses)
    head, last = await _end(database)
    await _walk_database(database, walk, last, progress)
    return walk.finish(head, seconds=clock.steady() - began_at)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as exc:
        raise ConfigurationError(f"{path} cannot be read") from exc


async def _stored_checkpoints(database: Database) -> list[tuple[int, str]]:
    found: list[tuple[int, str]] = []
    while True:
        async with database.read() as connection:
            wanted = {"after": found[-1][0] if found else -(2**63), "most": _PAGE}
            rows = (await connection.execute(_CHECKPOINTS, wanted)).all()
        found += [(row.seq, str(row.jws)) for row in rows]
        if len(rows) < _PAGE:
            return found


async def _stored_keys(database: Database) -> AuditKeys:
    async with database.read() as connection:
        rows = (await connection.execute(_KEYS)).all()
    return AuditKeys.of((row.jwk for row in rows), revoked=(row.kid for row in rows if row.state == "revoked"))


async def _end(database: Database) -> tuple[Head, int]:
    async with database.read() as connection:
        row = (await connection.execute(_END)).one_or_none()
    if row is None:
        raise ConfigurationError("the database has no audit: run authsec-server init")
    return Head(row.seq, row.hash), max(row.last or 0, 0)


async def _walk_database(database: Database, walk: Walk, last: int, progress: Progress | None) -> None:
    after = -(2**63)  # from the very beginning: an entry below 1 is none of ours either
    while True:
        rows = await _page(database, after, last, walk.seq)
        for row in rows:
            walk.take(row)
        if progress is not None:
            progress(walk.seq, last)
        if not rows:
            return
        after = rows[-1].seq


async def _page(database: Database, after: int, last: int, seq: int) -> list[AuditRow]:
    limit = _PAGE
    while True:
        try:
            async with database.read() as connection:
                wanted = {"after": after, "last": last, "most": limit}
                return [AuditRow._make(row) for row in await connection.execute(_ROWS, wanted)]
        except DBAPIError as exc:  # not an outage, which `read` translates: SQLite takes any bytes for text
            if limit == 1:
                raise DamagedAuditError(f"entry {seq + 1} holds what is no text: edited", seq=seq + 1) from exc
            limit = 1


_CHECKPOINTS: Final = (
    sa.select(tables.checkpoints.c.seq, tables.checkpoints.c.jws)
    .where(tables.checkpoints.c.seq > sa.bindparam("after"))
    .order_by(tables.checkpoints.c.seq)
    .limit(sa.bindparam("most"))
)
_KEYS: Final = sa.select(tables.signing_keys.c.kid, tables.signing_keys.c.jwk, tables.signing_keys.c.state)
_END: Final = sa.select(  # one statement, and so one moment
    tables.head.c.seq, tables.head.c.hash, sa.select(sa.func.max(tables.audit.c.seq)).scalar_subquery().label("last")
)
_ROWS: Final = (
    sa.select(*(tables.audit.c[name] for name in AuditRow._fields))
    .where(tables.audit.c.seq > sa.bindparam("after"), tables.audit.c.seq <= sa.bindparam("last"))
    .order_by(tables.audit.c.seq)
    .limit(sa.bindparam("most"))
)
