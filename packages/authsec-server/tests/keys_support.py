"""What the tests of signing keys share: replicas on one database, and keys that were made beforehand."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
import sqlalchemy as sa
from server_support import CALLER, ledger, made, rows
from sqlalchemy.ext.asyncio import AsyncConnection

from authsec_core._jwks import parse_keys
from authsec_core._signing import SigningKey
from authsec_core.testing import FakeClock
from authsec_server.audit.ledger import Ledger
from authsec_server.db import tables
from authsec_server.db.engine import Database
from authsec_server.keys.changes import MOST_PUBLISHED
from authsec_server.keys.keyring import Keyring
from authsec_server.keys.masterkey import MasterKey
from authsec_server.keys.masterkeys import MasterKeys
from authsec_server.keys.rotation import Timing
from authsec_server.keys.sealing import PEPPER, seal
from authsec_server.keys.service import SigningKeys

MASTER, OTHER_MASTER = MasterKey.generate(), MasterKey.generate()
TIMING = Timing(jwks_max_age=300, longest_ttl=3600, lifetime=86_400, leeway=30)
READY, OVERLAP = 330, 3930


@cache
def ready_made() -> tuple[SigningKey, ...]:
    """Return as many keys as a test needs: making one takes longer than all the rest."""
    return tuple(SigningKey.generate() for _ in range(MOST_PUBLISHED + 1))


def hand_out_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let keys be made beforehand; no two in a test are the same."""
    pool = list(ready_made())
    monkeypatch.setattr(SigningKey, "generate", lambda bits: pool.pop())


@dataclass(frozen=True)
class World:
    """One replica."""

    database: Database
    ledger: Ledger
    keyring: Keyring
    keys: SigningKeys
    clock: FakeClock

    async def first(self) -> str:
        """Make the first key, and return its name."""
        await self.keys.run_schedule(CALLER)
        return await self.active()

    async def active(self) -> str:
        """Return the name of the one key that signs."""
        (kid,) = [row.kid for row in await self.keys.list() if row.state == "active"]
        return kid

    async def states(self) -> dict[str, str]:
        """Return what each key is."""
        return {row.kid: row.state for row in await self.keys.list()}

    async def published(self) -> list[str]:
        """Return the names in the JWKS, which the core's verifier has to take."""
        jwks = await self.keys.jwks()
        assert len(parse_keys(jwks)) == len(jwks["keys"])
        return [key["kid"] for key in jwks["keys"]]

    async def audit(self) -> list[tuple[str, dict[str, Any]]]:
        """Return the actions in the audit, with their details."""
        entries = [json.loads(row.text) for row in await rows(self.database, tables.audit)]
        assert all(entry["actor"]["id"] == CALLER.actor.id for entry in entries)
        return [(entry["action"], entry.get("details", {})) for entry in entries]

    async def policy_version(self) -> int:
        """Return how often policy changed."""
        (head,) = await rows(self.database, tables.head)
        return int(head.policy_version)

    async def damage(self, which: str, /, **values: Any) -> None:
        """Write to the database as somebody who has no master key, and have what is held forgotten."""
        where = tables.signing_keys.c.kid == which
        await self.database.write(lambda c: c.execute(sa.update(tables.signing_keys).where(where).values(**values)))
        self.clock.advance(1)


@asynccontextmanager
async def replica(url: str, clock: FakeClock, *, masters: MasterKeys | None = None) -> AsyncIterator[World]:
    """Lend one more replica on the same database."""
    masters = masters or MasterKeys([MASTER])
    database = Database(url, clock=clock, timeout=60.0)
    keyring = Keyring(database, masters, tenant_id="t", clock=clock)
    try:
        async with ledger(database, clock=clock) as running:
            keys = SigningKeys(
                running, database, masters=masters, keyring=keyring, timing=TIMING, tenant_id="t", clock=clock
            )
            yield World(database, running, keyring, keys, clock)
    finally:
        keyring.close()
        await database.close()


@asynccontextmanager
async def world(url: str, clock: FakeClock) -> AsyncIterator[World]:
    """Lend a replica on a new database that has no key yet."""
    async with made(url, clock=clock) as database:
        await database.write(_furnish)
    async with replica(url, clock) as found:
        yield found


def play(url: str, clock: FakeClock, story: Callable[[World], Awaitable[None]]) -> None:
    """Run a story in a new world."""

    async def run() -> None:
        async with world(url, clock) as found:
            await story(found)

    asyncio.run(run())


async def _furnish(connection: AsyncConnection) -> None:
    await connection.execute(sa.delete(tables.signing_keys))
    pepper = seal(MASTER, PEPPER, PEPPER, "t", b"the pepper")
    await connection.execute(
        sa.insert(tables.server).values(id=1, tenant_id="t", made_by_dev=False, pepper=pepper, created_at=0.0)
    )
