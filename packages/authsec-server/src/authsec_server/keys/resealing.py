"""How everything that is sealed comes under a new master key while servers serve.

The master key that seals is the one that sealed the pepper (`sealing.sealing_key`). So nothing comes under the old one
once the pepper has changed over, and what is read meanwhile opens with either: a walk through the rows, in short
transactions, may end at any moment and be begun again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from authsec_server.audit.entry import Caller, Entry
from authsec_server.audit.ledger import Change, Ledger
from authsec_server.db.engine import Database
from authsec_server.db.tables import secret_versions, server, signing_keys
from authsec_server.errors import ConflictError, UnsealError
from authsec_server.keys.masterkey import MasterKey
from authsec_server.keys.masterkeys import MasterKeys
from authsec_server.keys.sealing import DATA_KEY, PEPPER, SIGNING_KEY, seal, sealed_pepper, sealed_with, unseal
from authsec_server.vault.envelope import name_of

__all__ = ["Resealed", "Resealing", "resealed"]

_BATCH: Final = 100  # rows in one transaction, for which everyone who writes waits some 10 ms
_MOST_NAMED: Final = 10  # of what cannot be opened


def resealed(
    masters: MasterKeys, master: MasterKey, purpose: str, identifier: str, tenant: str, sealed: bytes
) -> bytes:
    """Return it sealed with `master`, as the same thing; itself if it is.

    Raises:
        UnsealError: It is not what was sealed, or was sealed with a master key that is not there.
    """
    if sealed_with(sealed) == master.id:
        return sealed
    return seal(master, purpose, identifier, tenant, unseal(masters, purpose, identifier, tenant, sealed))


@dataclass(frozen=True, slots=True, kw_only=True)
class Resealed:
    """What came of a walk through the rows.

    Attributes:
        rows: How many were sealed anew, by table.
        failed: Names of some that could not be opened, and stayed as they were.
    """

    rows: Mapping[str, int]
    failed: tuple[str, ...]


class Resealing:
    """Brings what is sealed under the first master key. Several at once do no harm.

    Args:
        masters: The one to come to first, and those that still open something.
        tenant_id: Whose database it is.
    """

    def __init__(self, ledger: Ledger, database: Database, *, masters: MasterKeys, tenant_id: str) -> None:
        self._ledger = ledger
        self._database = database
        self._masters = masters
        self._tenant = tenant_id
        self._to = masters.first

    async def left(self) -> int:
        """Return how many things are sealed with another master key than the first. Costs a walk through the rows."""
        total = 0
        async with self._database.read() as connection:
            for kind in _KINDS:
                counted = sa.select(sa.func.count()).select_from(kind.column.table).where(kind.is_not_under(self._to))
                total += (await connection.execute(counted)).scalar_one()
            return total + (sealed_with(await sealed_pepper(connection)) != self._to.id)

    async def change_over(self, caller: Caller) -> bool:
        """Let all servers seal with the first master key from now on; return whether they did not before.

        A server that has not got it can seal nothing afterwards, nor read what the others have sealed.

        Raises:
            UnsealError: The pepper is not what was sealed, or the master key that sealed it is not there.
        """

        async def transaction(change: Change) -> bool:
            before = await sealed_pepper(change.connection)
            if sealed_with(before) == self._to.id:
                return False
            after = resealed(self._masters, self._to, PEPPER, PEPPER, self._tenant, before)
            await change.connection.execute(sa.update(server).values(pepper=after))
            change.record(_entry("master_key.activate", caller, key=self._to.id, was=sealed_with(before)))
            return True

        return await self._ledger.change(transaction, by=caller)

    async def run(self, caller: Caller, progress: Callable[[int], None]) -> Resealed:
        """Seal everything anew that is not under the first master key, after `change_over`.

        Args:
            progress: Is told how many are done.

        Raises:
            StorageUnavailableError: The database was busy or away for too long: what is done stays done.
        """
        rows: dict[str, int] = {}
        failed: list[str] = []
        for kind in _KINDS:
            table, after, done = kind.column.table, None, 0
            while (batch := await self._batch(kind, after)) is not None:
                after, done = batch.last, done + batch.done
                failed += batch.failed
                progress(sum(rows.values()) + done)
            rows[table.name] = done
        if any(rows.values()) or failed:
            await self._record(caller, "master_key.reseal", key=self._to.id, rows=rows, failed=len(failed))
        await self._database.clear_log()  # else it would have what the old key opens
        return Resealed(rows=rows, failed=tuple(failed[:_MOST_NAMED]))

    async def retire(self, caller: Caller, retired: tuple[str, ...]) -> None:
        """Record that master keys are given up, if they open nothing any more.

        Raises:
            ConflictError: Something is still sealed with them.
        """
        if left := await self.left():
            raise ConflictError(f"{left} things are sealed with another master key than {self._to.id}: seal them anew")
        await self._record(caller, "master_key.retire", key=self._to.id, retired=list(retired))

    async def _batch(self, kind: _Kind, after: tuple[Any, ...] | None) -> _Batch | None:
        async def transaction(change: Change) -> _Batch | None:
            found = (await change.connection.execute(kind.next(self._to, after))).all()
            fresh, failed = [], []
            for *key, sealed in found:
                try:
                    anew = resealed(self._masters, self._to, kind.purpose, kind.name(*key), self._tenant, sealed)
                except UnsealError:
                    failed.append(f"{kind.purpose} {kind.name(*key)}")
                else:
                    fresh.append({"anew": anew, **{f"key_{place}": value for place, value in enumerate(key)}})
            if fresh:
                await change.connection.execute(kind.save, fresh)
            return _Batch(len(fresh), tuple(failed), tuple(found[-1][:-1])) if found else None

        return await self._ledger.change(transaction)

    async def _record(self, caller: Caller, action: str, **details: Any) -> None:
        async def transaction(change: Change) -> None:
            change.record(_entry(action, caller, **details))

        await self._ledger.change(transaction, by=caller)


@dataclass(frozen=True, slots=True)
class _Batch:
    done: int
    failed: tuple[str, ...]
    last: tuple[Any, ...]  # the key of its last row


class _Kind:
    """A column whose values are sealed with a master key.

    Args:
        name: Makes the name that they are sealed under from the primary key.
    """

    def __init__(self, column: sa.Column[bytes], purpose: str, name: Callable[..., str]) -> None:
        self.column: Final = column
        self.purpose: Final = purpose
        self.name: Final = name
        self._key: Final = tuple(column.table.primary_key)
        which = [each == sa.bindparam(f"key_{place}") for place, each in enumerate(self._key)]
        self.save: Final = sa.update(column.table).where(*which).values({column: sa.bindparam("anew")})

    def is_not_under(self, master: MasterKey) -> sa.ColumnElement[bool]:
        """Return the condition that something is there, and sealed with another master key."""
        key_id = sa.func.substr(self.column, 2, 4, type_=sa.LargeBinary)
        return sa.and_(self.column != b"", key_id != bytes.fromhex(master.id))

    def next(self, master: MasterKey, after: tuple[Any, ...] | None) -> sa.Select[Any]:
        """Return the query for the next batch: primary keys, and what is sealed."""
        query = sa.select(*self._key, self.column).where(self.is_not_under(master)).order_by(*self._key).limit(_BATCH)
        return query if after is None else query.where(sa.tuple_(*self._key) > sa.tuple_(*after))


_KINDS: Final = (
    _Kind(signing_keys.c.sealed, SIGNING_KEY, str),
    _Kind(secret_versions.c.wrapped_key, DATA_KEY, name_of),
)


def _entry(action: str, caller: Caller, **details: Any) -> Entry:
    return Entry(action=action, decision="allow", caller=caller, details=details)
