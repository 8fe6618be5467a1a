"""A new master key, while several servers work on one database: what is read opens, and what is written is under it.

`crash/test_master_key.py` has the same with processes that are killed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from keys_support import MASTER, World, hand_out_keys, replica, world
from server_support import CALLER, rows
from sqlalchemy.ext.asyncio import AsyncConnection

from authsec_core._signing import base64url
from authsec_core.testing import FakeClock
from authsec_server.db import tables
from authsec_server.errors import ConflictError, WrongMasterKeyError
from authsec_server.keys.masterkey import MasterKey, replace_master_keys
from authsec_server.keys.masterkeys import MasterKeys
from authsec_server.keys.resealing import Resealed, Resealing
from authsec_server.keys.sealing import DATA_KEY, PEPPER, SIGNING_KEY, seal, sealed_with, unseal
from authsec_server.vault.envelope import Envelope

NEW = MasterKey.generate()
SECRETS, VERSIONS = 30, 8  # more than two transactions' worth


@pytest.fixture(autouse=True)
def _ready_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Making one takes longer than all the rest."""
    hand_out_keys(monkeypatch)


@dataclass(frozen=True)
class Cluster:
    """Servers on one database, each with its own copy of the file."""

    file: Path
    servers: tuple[World, ...]
    rings: tuple[MasterKeys, ...]

    @property
    def first(self) -> World:
        """One of them."""
        return self.servers[0]

    def resealing(self, *keys: MasterKey) -> Resealing:
        """Return what the command does, with these master keys; by default those of the file."""
        ring = MasterKeys(keys) if keys else MasterKeys.read(self.file)
        return Resealing(self.first.ledger, self.first.database, masters=ring, tenant_id="t")

    async def rotate(self, done: Callable[[int], None] = lambda _: None) -> Resealed:
        """Put the new key first and seal everything with it."""
        replace_master_keys(self.file, [NEW, MASTER])
        resealing = self.resealing()
        await resealing.change_over(CALLER)
        return await resealing.run(CALLER, done)

    async def sealed(self) -> list[tuple[str, str, bytes]]:
        """Return all that is sealed: for what, under which name, and itself."""
        database = self.first.database
        (server,) = await rows(database, tables.server)
        found = [(PEPPER, PEPPER, bytes(server.pepper))]
        found += [(SIGNING_KEY, row.kid, bytes(row.sealed)) for row in await rows(database, tables.signing_keys)]
        versions = await rows(database, tables.secret_versions)
        found += [(DATA_KEY, f"{row.path}@{row.version}", bytes(row.wrapped_key)) for row in versions]
        return [each for each in found if each[2]]

    async def opened(self, ring: MasterKeys) -> int:
        """Open all that is sealed, and return how much that is."""
        found = await self.sealed()
        for purpose, name, sealed in found:
            plain = unseal(ring, purpose, name, "t", sealed)
            assert purpose != DATA_KEY or plain == name.encode()
        return len(found)

    async def seals(self, ring: MasterKeys) -> MasterKey:
        """Return what a server with these master keys seals a secret with."""
        async with self.first.database.read() as connection:
            return await Envelope(ring, tenant="t").master(connection)

    async def under(self) -> set[str]:
        """Return the ids of the master keys that something is sealed with."""
        return {sealed_with(sealed) for *_, sealed in await self.sealed()}


def play(url: str, clock: FakeClock, folder: Path, story: Callable[[Cluster], Awaitable[None]]) -> None:
    """Run a story with three servers, signing keys in each state, and secrets."""

    async def run() -> None:
        file = folder / "master.key"
        file.touch(0o600)
        file.write_text(base64url(MASTER.reveal()))
        async with world(url, clock) as at, AsyncExitStack() as stack:
            await at.first()
            gone = await at.keys.prepare(CALLER)
            await at.keys.revoke(CALLER, gone.kid)
            await at.keys.prepare(CALLER)
            await at.database.write(_fill)
            rings = tuple(MasterKeys.read(file) for _ in range(3))
            servers = [await stack.enter_async_context(replica(url, clock, masters=ring)) for ring in rings]
            await story(Cluster(file, tuple(servers), rings))

    asyncio.run(run())


async def _fill(connection: AsyncConnection) -> None:
    for number in range(SECRETS):
        path = f"production/secret-{number:03}"
        shared = {"path": path, "access_tier": "standard", "created_at": 0.0}
        more = {"secret_id": path, "version": VERSIONS, "secret_type": "custom", "metadata": {}, "updated_at": 0.0}
        await connection.execute(sa.insert(tables.secrets).values(**shared, **more))
        versions = [
            {**shared, "version": version, "wrapped_key": _data_key(path, version), "sealed": b"-", "created_by": "a"}
            for version in range(1, VERSIONS + 1)
        ]
        await connection.execute(sa.insert(tables.secret_versions), versions)


def _data_key(path: str, version: int) -> bytes:
    name = f"{path}@{version}"
    return seal(MASTER, DATA_KEY, name, "t", name.encode())


@pytest.mark.req("RW4")
def test_everything_comes_under_the_new_key(database_url: str, clock: FakeClock, tmp_path: Path) -> None:
    """Pepper, signing keys and data keys open with it alone; what was destroyed stays so; the audit has the counts."""

    async def story(at: Cluster) -> None:
        seen: list[int] = []
        came = await at.rotate(seen.append)
        assert came == Resealed(rows={"signing_keys": 2, "secret_versions": SECRETS * VERSIONS}, failed=())
        assert seen == sorted(seen)
        assert (len(seen), seen[-1]) == (4, 2 + SECRETS * VERSIONS)
        assert await at.opened(MasterKeys([NEW])) == 3 + SECRETS * VERSIONS
        assert await at.resealing().left() == 0
        assert (await at.first.audit())[-2:] == [
            ("master_key.activate", {"key": NEW.id, "was": MASTER.id}),
            ("master_key.reseal", {"key": NEW.id, "rows": dict(came.rows), "failed": 0}),
        ]
        before = await at.sealed()
        assert not await at.resealing().change_over(CALLER)
        assert await at.resealing().run(CALLER, seen.append) == Resealed(
            rows={"signing_keys": 0, "secret_versions": 0}, failed=()
        )
        assert await at.sealed() == before, "what is under the new key was sealed again"

    play(database_url, clock, tmp_path, story)


@pytest.mark.req("RW4")
def test_nothing_under_the_old_key_stays_in_the_files(database_url: str, clock: FakeClock, tmp_path: Path) -> None:
    """Neither in SQLite's file nor in its log: whoever has the old key and takes the disk has nothing of it."""
    if not database_url.startswith("sqlite"):
        pytest.skip("PostgreSQL keeps it until VACUUM")
    database = Path(database_url.removeprefix("sqlite:///"))

    async def story(at: Cluster) -> None:
        before = [sealed for *_, sealed in await at.sealed()]
        await at.rotate()
        left = b"".join(database.with_name(f"{database.name}{end}").read_bytes() for end in ("", "-wal"))
        assert [sealed for sealed in before if sealed in left] == []

    play(database_url, clock, tmp_path, story)


@pytest.mark.req("RW4")
def test_readers_see_old_or_new(database_url: str, clock: FakeClock, tmp_path: Path) -> None:
    """While all of it is sealed anew, three servers that began with the old file alone open, sign and make keys."""

    async def story(at: Cluster) -> None:
        stop, opened = asyncio.Event(), 0

        async def read(server: World, ring: MasterKeys) -> None:
            nonlocal opened
            while not stop.is_set():
                opened += await at.opened(ring)
                server.keyring.forget()
                assert await server.keyring.has_active()
                await asyncio.sleep(0)

        readers = [asyncio.create_task(read(*each)) for each in zip(at.servers, at.rings, strict=True)]
        await asyncio.sleep(0)
        made = [await at.servers[1].keys.prepare(CALLER)]
        rotating = asyncio.create_task(at.rotate())
        made += [await at.servers[number % 3].keys.prepare(CALLER) for number in range(6)]
        await rotating
        stop.set()
        await asyncio.gather(*readers)
        assert opened > 3 * SECRETS * VERSIONS
        assert len(made) == 7
        assert await at.under() == {NEW.id}

    play(database_url, clock, tmp_path, story)


@pytest.mark.req("RW4")
def test_it_can_end_at_any_moment_and_be_begun_again(database_url: str, clock: FakeClock, tmp_path: Path) -> None:
    """What is done stays done, both keys are needed meanwhile, and the next call does the rest and no more."""

    def end(_: int) -> None:
        raise KeyboardInterrupt

    async def story(at: Cluster) -> None:
        total, done = 2 + SECRETS * VERSIONS, 0
        replace_master_keys(at.file, [NEW, MASTER])
        assert await at.resealing().left() == total + 1
        with pytest.raises(KeyboardInterrupt):
            await at.rotate(end)
        assert await at.under() == {NEW.id, MASTER.id}
        left = await at.resealing().left()
        assert left < total
        with pytest.raises(ConflictError, match=f"{left} things"):
            await at.resealing().retire(CALLER, (MASTER.id,))
        assert await at.opened(at.rings[2]) == total + 1
        done = sum((await at.rotate()).rows.values())
        assert done == left
        assert await at.under() == {NEW.id}
        await at.resealing().retire(CALLER, (MASTER.id,))
        assert (await at.first.audit())[-1] == ("master_key.retire", {"key": NEW.id, "retired": [MASTER.id]})

    play(database_url, clock, tmp_path, story)


@pytest.mark.req("RW4")
def test_a_key_that_was_made_before_is_sealed_anew(database_url: str, clock: FakeClock, tmp_path: Path) -> None:
    """The database says which master key seals, whatever the server that made it had first in its file."""

    async def story(at: Cluster) -> None:
        late, early = at.servers[1], at.servers[2]
        made = await late.keys._make()  # under the old one
        early_ring = MasterKeys([NEW, MASTER])  # a server that was told of the new one before it is used
        await at.rotate()
        await late.keys._change(CALLER, lambda keys: keys.prepare(made))
        assert await at.under() == {NEW.id}
        assert await at.seals(MasterKeys([MASTER, NEW])) == NEW
        async with replica(database_url, clock, masters=early_ring) as other:
            await at.first.database.write(
                lambda c: c.execute(
                    sa.update(tables.server).values(pepper=seal(MASTER, PEPPER, PEPPER, "t", b"the pepper"))
                )
            )
            kid = (await other.keys.prepare(CALLER)).kid
        sealed = {name: sealed_with(each) for _, name, each in await at.sealed()}
        assert sealed[kid] == MASTER.id
        assert await at.seals(early_ring) == MASTER
        assert await early.keyring.has_active()

    play(database_url, clock, tmp_path, story)


@pytest.mark.req("RW4")
def test_a_server_without_the_new_key_says_so(
    database_url: str, clock: FakeClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It reads what it can, writes nothing, names the key that is missing, and goes on as soon as that is there."""

    async def story(at: Cluster) -> None:
        alone = tmp_path / "another.key"
        alone.touch(0o600)
        alone.write_text(base64url(MASTER.reveal()))
        ring = MasterKeys.read(alone)
        async with replica(database_url, clock, masters=ring) as server:
            kid = await server.active()
            await server.keyring.has_active()
            await at.rotate()
            server.keyring.forget()
            assert await server.keyring.sign(kid, {}, {})  # it was opened before
            before = await at.sealed()
            for refused in (server.keys.prepare(CALLER), at.opened(ring)):
                with pytest.raises(WrongMasterKeyError, match=rf"key {NEW.id}, which .*known: {MASTER.id}\)"):
                    await refused
            assert await at.sealed() == before
            replace_master_keys(alone, [NEW, MASTER])
            await server.keys.prepare(CALLER)
            await at.opened(ring)

    play(database_url, clock, tmp_path, story)


@pytest.mark.req("RW4")
def test_without_the_old_key_nothing_is_changed(database_url: str, clock: FakeClock, tmp_path: Path) -> None:
    """It is named, so that it can be found; the database is as it was."""

    async def story(at: Cluster) -> None:
        before = await at.sealed()
        with pytest.raises(WrongMasterKeyError, match=f"this database is sealed with master key {MASTER.id}"):
            await at.resealing(NEW).change_over(CALLER)
        came = await at.resealing(NEW).run(CALLER, lambda _: None)
        assert sum(came.rows.values()) == 0
        assert len(came.failed) == 10
        assert await at.sealed() == before

    play(database_url, clock, tmp_path, story)


@pytest.mark.req("RW4")
def test_what_was_damaged_holds_nothing_else_up(database_url: str, clock: FakeClock, tmp_path: Path) -> None:
    """It is named and left as it is; all the rest is done; and the old key is not given up."""

    async def story(at: Cluster) -> None:
        values: dict[str, Any] = {"wrapped_key": _data_key("production/secret-001", 1)}
        which = sa.and_(tables.secret_versions.c.path == "production/secret-000", tables.secret_versions.c.version == 3)
        await at.first.database.write(
            lambda c: c.execute(sa.update(tables.secret_versions).where(which).values(**values))
        )
        came = await at.rotate()
        assert came.failed == ("vault data key production/secret-000@3",)
        assert came.rows["secret_versions"] == SECRETS * VERSIONS - 1
        with pytest.raises(ConflictError, match="1 things"):
            await at.resealing().retire(CALLER, (MASTER.id,))

    play(database_url, clock, tmp_path, story)


def test_every_column_that_holds_bytes_is_known() -> None:
    """Whoever adds one decides here whether it is sealed with the master key, and then `resealing` has to have it."""
    from authsec_server.keys.resealing import _KINDS

    sealed = {kind.column for kind in _KINDS} | {tables.server.c.pepper}
    others = {
        tables.client_keys.c.mac,
        tables.operator_tokens.c.mac,
        tables.vault_tokens.c.mac,
        tables.secret_versions.c.sealed,  # with its data key
    }
    found = {
        column
        for table in tables.METADATA.tables.values()
        for column in table.columns
        if isinstance(column.type, sa.LargeBinary)
    }
    assert found == sealed | others
