"""What the authority's tests share: a migrated database with a head, and entries to write."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from authsec_core._clock import SYSTEM_CLOCK, Clock
from authsec_server.agents.standing import Standing
from authsec_server.audit.chain import GENESIS
from authsec_server.audit.entry import Actor, Caller, Entry
from authsec_server.audit.ledger import Ledger
from authsec_server.audit.memory import Want
from authsec_server.audit.questions import Slot, Verdict
from authsec_server.db import migrate, tables
from authsec_server.db.engine import Database

CALLER = Caller(actor=Actor(kind="operator", id="op-1", name="ada"), request_id="req-1", address="127.0.0.1")


def entry(action: str = "client.onboard", **more: Any) -> Entry:
    """Return an entry that says little."""
    return Entry(action=action, decision="allow", caller=CALLER, **more)


@asynccontextmanager
async def made(url: str, *, clock: Clock = SYSTEM_CLOCK, timeout: float = 60.0) -> AsyncIterator[Database]:
    """Lend a database with all tables, the head of an empty audit, and a row that passes for an active key."""
    is_copied = url.startswith("sqlite:")
    if is_copied:
        shutil.copy(await _furnished_file(), url.removeprefix("sqlite:///"))
    database = Database(url, clock=clock, timeout=timeout)
    try:
        if not is_copied:
            await migrate.upgrade(database)
            await database.write(_furnish)
        yield database
    finally:
        await database.close()


_furnished: list[Path] = []  # made once for each process, since migrating takes longer than most tests


async def _furnished_file() -> Path:
    if not _furnished:
        folder = Path(tempfile.mkdtemp(prefix="authsec-tests-"))
        atexit.register(shutil.rmtree, folder, ignore_errors=True)
        database = Database(f"sqlite:///{folder / 'furnished.db'}", clock=SYSTEM_CLOCK)
        try:
            await migrate.upgrade(database)
            await database.write(_furnish)
        finally:
            await database.close()
        _furnished.append(folder / "furnished.db")
    return _furnished[0]


@asynccontextmanager
async def ledger(database: Database, *, clock: Clock = SYSTEM_CLOCK) -> AsyncIterator[Ledger]:
    """Lend a ledger that runs."""
    running = Ledger(database, clock=clock)
    running.start()
    try:
        yield running
    finally:
        await running.close()


async def rows(database: Database, table: sa.Table) -> list[Any]:
    """Return all rows, in the order of the primary key."""
    async with database.read() as connection:
        return list(await connection.execute(sa.select(table).order_by(*table.primary_key)))


class Asks:
    """A question with a fixed answer, about one client or nobody, that remembers what it was judged with."""

    def __init__(
        self,
        name: str,
        *,
        client_id: str | None = None,
        token: bool = False,
        broken: bool = False,
        mark: str | None = None,
    ) -> None:
        self.name, self.client_id, self.token, self.broken = name, client_id, token, broken
        self.wants: tuple[Want, ...] = ()
        self.mark = mark
        self.seen: list[tuple[Standing | None, Slot]] = []

    def judge(self, standing: Standing | None, slot: Slot) -> Verdict[str]:
        """Say yes."""
        self.seen.append((standing, slot))
        if self.broken:
            raise ZeroDivisionError(self.name)
        row = None
        if self.token:
            row = {
                "jti": self.name,
                "status_index": slot.index,
                "client_id": self.client_id or "",
                "key_id": None,
                "delegations": [],
                "scope": "read",
                "audience": "authsec-api",
                "kid": slot.kid,
                "issued_at": int(slot.at),
                "expires_at": int(slot.at) + 60,
            }
        return Verdict(result=self.name, entry=entry("token.issue", jti=self.name), token=row)


async def _furnish(connection: AsyncConnection) -> None:
    await connection.execute(sa.insert(tables.head).values(id=1, seq=0, hash=GENESIS, policy_version=0, next_index=0))
    await connection.execute(
        sa.insert(tables.signing_keys).values(kid="kid-1", state="active", sealed=b"", jwk={}, created_at=0.0)
    )
