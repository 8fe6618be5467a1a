"""When checkpoints are made, what is read as one, and what the exported file endures."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import os
import stat
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from audit_support import ISSUER, START, keys, signing_key
from server_support import entry, ledger, made, rows

from authsec_core._signing import SigningKey
from authsec_core.testing import FakeClock
from authsec_server.audit.checkpoint_file import CheckpointFile
from authsec_server.audit.checkpoint_jws import (
    TYPE,
    BadCheckpointError,
    peek_checkpoint,
    read_checkpoint,
    sign_checkpoint,
)
from authsec_server.audit.checkpoints import Checkpoints
from authsec_server.audit.ledger import Change, Ledger
from authsec_server.db import tables
from authsec_server.db.engine import Database
from authsec_server.errors import DamagedAuditError, StorageUnavailableError

HASH = "ab" * 32
CLAIMS = {"iss": ISSUER, "iat": 1_800_000_000, "seq": 7, "hash": HASH, "at": START + 0.25, "previous": 3}


async def active_key() -> SigningKey:
    """Return the key that is active."""
    return signing_key()


async def grow(running: Ledger, by: int) -> None:
    """Add entries to the audit."""

    async def work(change: Change) -> None:
        for _ in range(by):
            change.record(entry())

    await running.change(work)


@asynccontextmanager
async def audited(url: str, clock: FakeClock) -> AsyncIterator[tuple[Database, Ledger]]:
    """Lend a database that has the tests' signing key, and its ledger."""
    async with made(url, clock=clock) as database, ledger(database, clock=clock) as running:
        key = sa.update(tables.signing_keys).values(kid=signing_key().kid, jwk=dict(signing_key().jwk))
        await database.write(lambda connection: connection.execute(key))
        yield database, running


def writer(database: Database, clock: FakeClock, file: Path | None = None) -> Checkpoints:
    """Return what writes a checkpoint each minute and each ten entries."""
    return Checkpoints(database, active_key, issuer=ISSUER, clock=clock, file=file, interval=60.0, every=10)


def exported(file: Path) -> list[int]:
    """Return the entries of the file's checkpoints."""
    return [peek_checkpoint(line.text).seq for line in CheckpointFile(file).read()]


def test_a_checkpoint_is_read_as_it_was_signed() -> None:
    """It names entry, hash, time, the checkpoint before and its issuer; its type is its own."""
    jws = sign_checkpoint(signing_key(), ISSUER, 7, HASH, START + 0.25, previous=3, issued_at=START + 9.75)
    found = read_checkpoint(jws, keys().public)
    assert (found.issuer, found.seq, found.hash, found.at) == (ISSUER, 7, HASH, START + 0.25)
    assert (found.previous, found.issued_at, found.kid) == (3, int(START) + 9, signing_key().kid)
    header = json.loads(base64.urlsafe_b64decode(jws.split(".")[0] + "=="))
    assert header == {"alg": "RS256", "typ": "audit-checkpoint+jwt", "kid": signing_key().kid}


@pytest.mark.req("RU2")
@pytest.mark.parametrize(
    ("header", "claims"),
    [
        ({"typ": "JWT"}, {}),
        ({"typ": "statuslist+jwt"}, {}),
        ({"typ": TYPE.upper()}, {}),
        ({"alg": "none"}, {}),
        ({"alg": "HS256"}, {}),
        ({"kid": "another"}, {}),
        ({"crit": ["exp"]}, {}),
        *(({}, {name: None}) for name in CLAIMS),
        ({}, {"seq": "7"}),
        ({}, {"seq": 7.0}),
        ({}, {"seq": True}),
        ({}, {"seq": -1}),
        ({}, {"seq": 0, "previous": 0}),
        ({}, {"seq": 2**63}),
        ({}, {"previous": 7}),
        ({}, {"hash": HASH.upper()}),
        ({}, {"hash": HASH[:-1]}),
        ({}, {"hash": HASH + "\n"}),
        ({}, {"at": "2026-01-01T00:00:00Z"}),
        ({}, {"at": True}),
        ({}, {"iat": 1.5}),
        ({}, {"iss": ""}),
    ],
)
def test_what_is_not_exactly_a_checkpoint_is_refused(header: dict[str, Any], claims: dict[str, Any]) -> None:
    """Another type, algorithm or key, or a claim that is missing or of another kind: not a checkpoint."""
    key = signing_key()
    good = {"alg": "RS256", "typ": TYPE, "kid": key.kid}
    read_checkpoint(key.sign(good, CLAIMS), keys().public)
    with pytest.raises(BadCheckpointError):
        read_checkpoint(key.sign({**good, **header}, {**CLAIMS, **claims}), keys().public)


@pytest.mark.parametrize("text", ["", "a.b.c", "x" * 10_000, "é", "eyJhbGciOiJSUzI1NiJ9.e30"])
def test_what_is_no_jws_is_refused(text: str) -> None:
    """With the one error that says so, also without looking at the signature."""
    with pytest.raises(BadCheckpointError):
        peek_checkpoint(text)


def test_a_checkpoint_is_due_by_entries_or_by_time(database_url: str, clock: FakeClock) -> None:
    """At once for the first entries; then after ten more, or after a minute if there was any; never without growth."""

    async def run() -> None:
        async with audited(database_url, clock) as (database, running):
            checkpoints = writer(database, clock)
            due = checkpoints.write_if_due
            assert await due() is None
            await grow(running, 1)
            first = await due()
            assert first is not None
            assert first.seq == 1
            clock.advance(59.9)
            await grow(running, 9)
            assert await due() is None
            await grow(running, 1)
            assert (await due() or first).seq == 11
            clock.advance(1000)
            assert await due() is None
            await grow(running, 1)
            assert (await due() or first).seq == 12
            await grow(running, 1)
            clock.jump(-10_000)  # else the next would have to wait for hours
            assert (await due() or first).seq == 13
            stored = await rows(database, tables.checkpoints)
            said = [read_checkpoint(row.jws, keys().public) for row in stored]
            assert [(found.seq, found.previous) for found in said] == [(1, 0), (11, 1), (12, 11), (13, 12)]
            audit = {row.seq: row for row in await rows(database, tables.audit)}
            assert all((found.hash, found.at) == (audit[found.seq].hash, audit[found.seq].at) for found in said)

    asyncio.run(run())


def test_replicas_that_write_at_once_make_one_checkpoint(database_url: str, clock: FakeClock, tmp_path: Path) -> None:
    """One is stored, all return it, and each replica's file has it."""

    async def run() -> None:
        async with audited(database_url, clock) as (database, running):
            await grow(running, 3)
            together = asyncio.Barrier(4) if hasattr(asyncio, "Barrier") else None

            async def key() -> SigningKey:
                if together is not None:
                    await together.wait()  # all have seen the same head, and none has stored anything
                return signing_key()

            files = [tmp_path / f"{number}.jsonl" for number in range(4)]
            replicas = [Checkpoints(database, key, issuer=ISSUER, clock=clock, file=file) for file in files]
            written = await asyncio.gather(*(replica.write() for replica in replicas))
            (stored,) = await rows(database, tables.checkpoints)
            assert {found.jws for found in written if found is not None} == {stored.jws}
            assert all(file.read_text() == stored.jws + "\n" for file in files)

    asyncio.run(run())


def test_the_file_catches_up(database_url: str, clock: FakeClock, tmp_path: Path) -> None:
    """What was stored while the file could not be written, or by another replica, follows; nothing comes twice."""

    async def run() -> None:
        async with audited(database_url, clock) as (database, running):
            file = tmp_path / "checkpoints.jsonl"
            await grow(running, 1)
            await writer(database, clock).write()
            await grow(running, 1)
            await writer(database, clock, file).write()
            assert exported(file) == [1, 2]
            await grow(running, 1)
            await writer(database, clock).write()
            again = writer(database, clock, file)
            assert await again.write_if_due() is None
            await again.write_if_due()
            await again.write()
            assert exported(file) == [1, 2, 3]

    asyncio.run(run())


def test_workers_share_a_file(database_url: str, clock: FakeClock, tmp_path: Path) -> None:
    """Each checkpoint is in it once, whoever of them wrote it; also after it was moved away."""
    file = tmp_path / "checkpoints.jsonl"

    async def run() -> None:
        async with audited(database_url, clock) as (database, running):
            workers = [writer(database, clock, file) for _ in range(3)]
            for _ in range(3):
                await grow(running, 10)
                await asyncio.gather(*(worker.write_if_due() for worker in workers))
                await asyncio.gather(*(worker.write_if_due() for worker in workers))
            assert exported(file) == [10, 20, 30]
            file.rename(tmp_path / "kept.jsonl")
            await grow(running, 10)
            for worker in workers:
                await worker.write_if_due()
            assert exported(file) == [40]

    asyncio.run(run())


def test_a_file_that_cannot_be_written_is_told_and_tried_again(
    database_url: str, clock: FakeClock, tmp_path: Path
) -> None:
    """The checkpoint is stored all the same, and exported when the folder is there."""

    async def run() -> None:
        async with audited(database_url, clock) as (database, running):
            file = tmp_path / "missing" / "checkpoints.jsonl"
            await grow(running, 1)
            checkpoints = writer(database, clock, file)
            for _ in range(2):
                with pytest.raises(StorageUnavailableError, match="checkpoint file"):
                    await checkpoints.write()
            assert len(await rows(database, tables.checkpoints)) == 1
            file.parent.mkdir()
            await checkpoints.write_if_due()
            assert exported(file) == [1]

    asyncio.run(run())


def test_foreign_rows_hold_up_nothing_and_are_not_passed_off(
    database_url: str, clock: FakeClock, tmp_path: Path
) -> None:
    """Foreign words for an entry to come are passed over; those for the last entry are not returned as ours."""

    async def run() -> None:
        async with audited(database_url, clock) as (database, running):
            file = tmp_path / "checkpoints.jsonl"

            async def store(seq: int) -> None:
                row = {"seq": seq, "at": clock.wall(), "jws": "mine"}
                await database.write(lambda connection: connection.execute(sa.insert(tables.checkpoints).values(row)))

            await store(10**12)
            await grow(running, 1)
            checkpoints = writer(database, clock, file)
            assert await checkpoints.write_if_due() is not None
            assert exported(file) == [1]
            await grow(running, 1)
            await store(2)
            with pytest.raises(DamagedAuditError) as caught:
                await checkpoints.write()
            assert caught.value.seq == 2

    asyncio.run(run())


def forged(seq: int, by: int) -> str:
    """Return a checkpoint that one of the keys signed."""
    return sign_checkpoint(signing_key(by), ISSUER, seq, HASH, START, issued_at=START)


@pytest.mark.parametrize(
    "jws",
    [
        "a\nINJECTED\nb",
        "\u00e9",
        "a.b.c",
        forged(2, 1) + "\n",
        forged(2, 2),
        forged(10**9, 1),
        pytest.param(b"\xff\xfe", id="no text"),
    ],
    ids=["lines", "not ascii", "no checkpoint", "line break", "another key", "another entry", None],
)
def test_what_is_stored_and_no_checkpoint_is_not_exported(
    jws: str | bytes, database_url: str, clock: FakeClock, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Foreign words in the table get into no line of the file, hold up no other checkpoint, and are told once."""
    if isinstance(jws, bytes) and database_url.startswith("postgresql"):
        pytest.skip("PostgreSQL takes text only")

    async def run() -> None:
        async with audited(database_url, clock) as (database, running):
            for _ in range(3):
                await grow(running, 1)
                await writer(database, clock).write()
            kept = tables.checkpoints.c
            words = sa.cast(sa.literal(jws, sa.LargeBinary), sa.Text) if isinstance(jws, bytes) else jws
            forge = sa.update(tables.checkpoints).values(jws=words).where(kept.seq == 2)
            await database.write(lambda connection: connection.execute(forge))
            file = tmp_path / "checkpoints.jsonl"
            checkpoints = writer(database, clock, file)
            for _ in range(2):
                await checkpoints.write_if_due()
            stored = sa.select(kept.jws).where(kept.seq != 2).order_by(kept.seq)
            async with database.read() as connection:
                good = (await connection.execute(stored)).scalars().all()
            assert file.read_text().splitlines() == good
            await grow(running, 1)
            await checkpoints.write()
            assert exported(file) == [1, 3, 4]

    asyncio.run(run())
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert len(told) == 1
    assert "checkpoint of entry 2 " in told[0]
    assert "INJECTED" not in told[0]


def test_an_audit_without_its_last_entry_gets_no_signature(database_url: str, clock: FakeClock) -> None:
    """What is obviously damaged is not vouched for."""

    async def run() -> None:
        async with audited(database_url, clock) as (database, running):
            await grow(running, 2)
            await database.write(
                lambda connection: connection.execute(sa.delete(tables.audit).where(tables.audit.c.seq == 2))
            )
            with pytest.raises(DamagedAuditError) as caught:
                await writer(database, clock).write()
            assert caught.value.seq == 2
            assert await rows(database, tables.checkpoints) == []

    asyncio.run(run())


def test_the_file_is_private_and_only_ever_grows(tmp_path: Path) -> None:
    """Mode 0600, one checkpoint on each line, what was there stays."""
    file = CheckpointFile(tmp_path / "checkpoints.jsonl")
    assert list(file.read()) == []
    file.append(["a.b.c"])
    before = file.path.stat()
    file.append(["d.e.f", "g.h.i"])
    assert stat.S_IMODE(before.st_mode) == 0o600
    assert file.path.stat().st_ino == before.st_ino
    assert file.path.read_bytes() == b"a.b.c\nd.e.f\ng.h.i\n"
    assert [(line.number, line.text, line.whole) for line in file.read(size=8)] == [
        (1, "a.b.c", True),
        (2, "d.", False),
    ]


@pytest.mark.parametrize("torn", [b"a.b", b"\xff\xfe", b"x" * 40_000])
def test_a_torn_line_is_reported_and_not_continued(tmp_path: Path, torn: bytes) -> None:
    """After a stop in the middle of a line, the next checkpoint begins on a line of its own."""
    file = CheckpointFile(tmp_path / "checkpoints.jsonl")
    file.append(["a.b.c"])
    with file.path.open("ab") as stream:
        stream.write(torn)
    assert [line.whole for line in file.read()][0::100] == [True]
    assert not list(file.read())[-1].whole
    file.append(["d.e.f"])
    lines = list(file.read())
    assert (lines[0].text, lines[-1].text, lines[-1].whole) == ("a.b.c", "d.e.f", True)


@pytest.mark.skipif(not hasattr(os, "O_NOFOLLOW"), reason="needs O_NOFOLLOW")
def test_the_file_is_not_written_through_a_link(tmp_path: Path) -> None:
    """Whoever may write to the folder cannot point the server to another file."""
    target = tmp_path / "target"
    target.write_text("precious")
    (tmp_path / "checkpoints.jsonl").symlink_to(target)
    with pytest.raises(OSError, match="symbolic"):
        CheckpointFile(tmp_path / "checkpoints.jsonl").append(["a.b.c"])
    assert target.read_text() == "precious"
