"""The audit of a database: every kind of damage is found on both, also while it is in use."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import sqlalchemy as sa
from audit_support import ISSUER, keys, signing_key
from server_support import entry, ledger, made
from sqlalchemy.ext.asyncio import AsyncConnection

from authsec_core._jws import Rs256Key
from authsec_core._signing import SigningKey
from authsec_core.errors import ConfigurationError
from authsec_core.testing import FakeClock
from authsec_server.audit import verify
from authsec_server.audit.chain import GENESIS, chained
from authsec_server.audit.checkpoints import Checkpoints
from authsec_server.audit.ledger import Change, Ledger
from authsec_server.audit.verify import verify_database
from authsec_server.audit.witnesses import AuditKeys
from authsec_server.db.engine import Database
from authsec_server.db.tables import signing_keys
from authsec_server.errors import DamagedAuditError

Damage = Callable[[Database], Awaitable[None]]


async def sql(database: Database, *statements: str | sa.UpdateBase, **values: object) -> None:
    """Do what someone with the database's password can do."""

    async def work(connection: AsyncConnection) -> None:
        for statement in statements:
            done = sa.text(statement).bindparams(**values) if isinstance(statement, str) else statement
            await connection.execute(done)

    await database.write(work)


async def grow(running: Ledger, by: int) -> None:
    """Add entries to the audit."""

    async def work(change: Change) -> None:
        for number in range(by):
            change.record(entry(client_id=f"client-{number}", jti=f"jti-{number}"))

    await running.change(work)


async def with_key(database: Database) -> None:
    """Let the signing key of the tests be the active one."""
    key = signing_key()
    await sql(database, sa.update(signing_keys).values(kid=key.kid, jwk=dict(key.jwk)))


def checkpoints(database: Database, clock: FakeClock, file: Path) -> Checkpoints:
    """Return what writes checkpoints with the tests' key."""

    async def key() -> SigningKey:
        return signing_key()

    return Checkpoints(database, key, issuer=ISSUER, clock=clock, file=file)


def run_on(
    url: str, clock: FakeClock, file: Path, then: Callable[[Database, Ledger, Checkpoints], Awaitable[None]]
) -> None:
    """Make an audit of 2 and 10 entries with a checkpoint after each part, and go on with `then`."""

    async def run() -> None:
        async with made(url, clock=clock) as database, ledger(database, clock=clock) as running:
            await with_key(database)
            writer = checkpoints(database, clock, file)
            for by in (2, 10):
                await grow(running, by)
                await writer.write()
            await then(database, running, writer)

    asyncio.run(run())


def jwks(path: Path, *numbers: int) -> Path:
    """Write the public halves of the tests' keys to a file."""
    path.write_text(json.dumps({"keys": [dict(signing_key(number).jwk) for number in numbers]}))
    return path


@pytest.mark.req("RU2")
def test_a_whole_audit_passes_and_the_report_says_what_was_checked(
    database_url: str, clock: FakeClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Entries, last hash, checkpoints of table and file once, progress up to the end; over page borders."""
    monkeypatch.setattr(verify, "_PAGE", 5)
    told: list[tuple[int, int]] = []

    async def then(database: Database, running: Ledger, _: Checkpoints) -> None:
        await grow(running, 3)
        report = await verify_database(
            database,
            checkpoint_files=[tmp_path / "cp"],
            jwks_files=[jwks(tmp_path / "jwks", 1)],
            progress=lambda done, of: told.append((done, of)),
            clock=clock,
        )
        assert (report.entries, report.last_seq, report.checkpoints, report.last_checkpoint) == (15, 15, 2, 12)
        assert report.notes == ()
        assert told[-1] == (15, 15)
        assert [done for done, _ in told] == sorted(done for done, _ in told)
        unpinned = await verify_database(database, clock=clock)
        assert "keys are those in the database" in unpinned.notes[0]

    run_on(database_url, clock, tmp_path / "cp", then)


@pytest.mark.req("RU2")
@pytest.mark.parametrize(
    ("seq", "statements"),
    [
        (5, ["UPDATE audit SET decision = 'deny' WHERE seq = 5"]),
        (5, ["UPDATE audit SET text = replace(text, 'allow', 'deny') WHERE seq = 5"]),
        (5, ["UPDATE audit SET at = at + 0.5 WHERE seq = 5"]),
        (5, ["UPDATE audit SET client_id = NULL WHERE seq = 5"]),
        (5, ["UPDATE audit SET hash = upper(hash) WHERE seq = 5"]),
        (5, ["DELETE FROM audit WHERE seq = 5"]),
        (5, ["DELETE FROM audit WHERE seq BETWEEN 5 AND 8"]),
        (1, ["DELETE FROM audit"]),
        (1, ["DELETE FROM audit", "UPDATE head SET seq = 0, hash = substr('0000', 1, 0)"]),
        (12, ["DELETE FROM audit WHERE seq = 12"]),
        (
            12,
            [
                "DELETE FROM audit WHERE seq = 12",
                "UPDATE head SET seq = 11, hash = (SELECT hash FROM audit WHERE seq = 11)",
            ],
        ),
        (
            5,
            [
                "UPDATE audit SET seq = 99 WHERE seq = 5",
                "UPDATE audit SET seq = 5 WHERE seq = 6",
                "UPDATE audit SET seq = 6 WHERE seq = 99",
            ],
        ),
        (
            13,
            [
                "INSERT INTO audit (seq, at, action, decision, actor, client_id, jti, text, hash) "
                "SELECT 13, at, action, decision, actor, client_id, jti, text, hash FROM audit WHERE seq = 12"
            ],
        ),
        (0, ["UPDATE audit SET seq = 0 WHERE seq = 1"]),
        (12, ["UPDATE head SET hash = 'another'"]),
        (2, ["UPDATE checkpoints SET jws = 'x' WHERE seq = 2"]),
        (2, ["UPDATE checkpoints SET seq = 3 WHERE seq = 2"]),
        (2, ["DELETE FROM signing_keys"]),
    ],
)
def test_every_kind_of_damage_is_found(
    database_url: str, clock: FakeClock, tmp_path: Path, seq: int, statements: list[str]
) -> None:
    """Edited, deleted, reordered, inserted, cut: in the table, its head, its checkpoints or its keys."""

    async def then(database: Database, _running: Ledger, _writer: Checkpoints) -> None:
        await verify_database(database, clock=clock)
        await sql(database, *statements)
        with pytest.raises(DamagedAuditError) as caught:
            await verify_database(database, clock=clock)
        assert caught.value.seq == seq

    run_on(database_url, clock, tmp_path / "cp", then)


async def make_again(database: Database, first: int) -> None:
    """Edit an entry, make all hashes and the head fit, and take the stored checkpoints away."""
    async with database.read() as connection:
        rows = (await connection.execute(sa.text("SELECT seq, text, hash FROM audit ORDER BY seq"))).all()
    previous = GENESIS
    for row in rows:
        text = row.text.replace("req-1", "req-2") if row.seq == first else row.text
        previous = chained(previous, text)
        await sql(
            database,
            "UPDATE audit SET text = :text, hash = :hash WHERE seq = :seq",
            text=text,
            hash=previous,
            seq=row.seq,
        )
    await sql(database, "UPDATE head SET hash = :hash", hash=previous)
    await sql(database, "DELETE FROM checkpoints")


@pytest.mark.req("RU2")
def test_exported_checkpoints_tell_of_a_chain_that_was_made_again(
    database_url: str, clock: FakeClock, tmp_path: Path
) -> None:
    """Without the file nobody can tell; with it, the first checkpoint after the edited entry is named."""

    async def then(database: Database, _running: Ledger, _writer: Checkpoints) -> None:
        await make_again(database, 5)
        assert (await verify_database(database, clock=clock)).checkpoints == 0
        with pytest.raises(DamagedAuditError, match="entry 3 on") as caught:
            await verify_database(database, checkpoint_files=[tmp_path / "cp"], clock=clock)
        assert caught.value.seq == 12

    run_on(database_url, clock, tmp_path / "cp", then)


@pytest.mark.req("RU2")
def test_pinned_keys_tell_of_checkpoints_that_were_made_again(
    database_url: str, clock: FakeClock, tmp_path: Path
) -> None:
    """Someone puts a key of theirs into the table and signs with it: believed without, refused with a pinned key."""

    async def then(database: Database, _running: Ledger, _writer: Checkpoints) -> None:
        await make_again(database, 5)
        theirs = {"kid": signing_key(2).kid, "jwk": dict(signing_key(2).jwk)}
        await sql(database, sa.insert(signing_keys).values(**theirs, state="retired", sealed=b"", created_at=0.0))

        async def key() -> SigningKey:
            return signing_key(2)

        await Checkpoints(database, key, issuer=ISSUER, clock=clock).write()
        assert (await verify_database(database, clock=clock)).checkpoints == 1
        with pytest.raises(DamagedAuditError, match="not among the given ones") as caught:
            await verify_database(database, jwks_files=[jwks(tmp_path / "jwks", 1)], clock=clock)
        assert caught.value.seq == 12

    run_on(database_url, clock, tmp_path / "cp", then)


def test_an_audit_in_use_is_no_damaged_one(
    database_url: str, clock: FakeClock, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Entries and checkpoints that are written between any two of its queries raise no alarm."""
    monkeypatch.setattr(verify, "_PAGE", 5)

    async def then(database: Database, running: Ledger, writer: Checkpoints) -> None:
        read = database.read
        writing = False

        def busy() -> object:
            nonlocal writing
            return read() if writing else _after_writing()

        class _after_writing:  # noqa: N801 -- stands in for a function
            async def __aenter__(self) -> object:
                nonlocal writing
                writing = True
                await grow(running, 2)
                await writer.write()
                writing = False
                self.lent = read()
                return await self.lent.__aenter__()

            async def __aexit__(self, *exc: object) -> bool | None:
                return await self.lent.__aexit__(*exc)  # type: ignore[arg-type]  # handed on

        monkeypatch.setattr(database, "read", busy)
        report = await verify_database(database, checkpoint_files=[tmp_path / "cp"], clock=clock)
        assert report.last_seq >= 12
        assert report.checkpoints >= 2

    run_on(database_url, clock, tmp_path / "cp", then)


@pytest.mark.req("RU2")
def test_bytes_that_are_no_text_are_named(clock: FakeClock, tmp_path: Path) -> None:
    """SQLite takes any bytes for text: the driver's error becomes the name of the entry."""

    async def then(database: Database, _running: Ledger, _writer: Checkpoints) -> None:
        await sql(database, "UPDATE audit SET text = CAST(x'ff' AS TEXT) WHERE seq = 7")
        with pytest.raises(DamagedAuditError) as caught:
            await verify_database(database, clock=clock)
        assert caught.value.seq == 7

    run_on(f"sqlite:///{tmp_path / 'authsec.db'}", clock, tmp_path / "cp", then)


@pytest.mark.parametrize("missing", [1, 2, 40, 300, 600])
def test_a_torn_line_of_the_file_is_noted(clock: FakeClock, tmp_path: Path, missing: int) -> None:
    """A power failure is no damage to the audit, wherever in the line it came; what follows counts."""

    async def then(database: Database, running: Ledger, _writer: Checkpoints) -> None:
        file = tmp_path / "cp"
        whole = file.read_bytes()
        file.write_bytes(whole[:-missing])
        options = {"checkpoint_files": [file], "jwks_files": [jwks(tmp_path / "jwks", 1)], "clock": clock}
        torn = () if missing == 1 else ("line 2 of cp is not a whole checkpoint and was passed over",)
        assert (await verify_database(database, **options)).notes == torn  # type: ignore[arg-type]  # as they are
        await grow(running, 1)
        again = checkpoints(database, clock, file)
        await again.write()
        report = await verify_database(database, **options)  # type: ignore[arg-type]  # as they are
        assert (report.notes, report.last_checkpoint) == (torn, 13)
        assert file.read_bytes().startswith(whole[:-missing] + b"\n")

    run_on(f"sqlite:///{tmp_path / 'authsec.db'}", clock, tmp_path / "cp", then)


@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"keys": []}', '{"keys": 1}', '{"keys": [{"kty": "oct"}]}'])
def test_key_files_that_are_none_are_refused(clock: FakeClock, tmp_path: Path, content: str | None) -> None:
    """A pinned key set that cannot be used is a wrong setting and not an audit that passes."""
    file = tmp_path / "jwks"
    if content is not None:
        file.write_text(content)

    async def then(database: Database, _running: Ledger, _writer: Checkpoints) -> None:
        with pytest.raises(ConfigurationError, match="jwks"):
            await verify_database(database, jwks_files=[file], clock=clock)
        with pytest.raises(ConfigurationError, match="elsewhere"):
            await verify_database(database, checkpoint_files=[tmp_path / "elsewhere"], clock=clock)

    run_on(f"sqlite:///{tmp_path / 'authsec.db'}", clock, tmp_path / "cp", then)


def test_many_retired_keys_are_usual(tmp_path: Path) -> None:
    """More keys than a verifier takes from a key set, and rows that are no keys, are no obstacle."""
    jwk = dict(signing_key().jwk)
    found = AuditKeys.of([{**jwk, "kid": f"key-{number}"} for number in range(100)] + [{}, jwk, None])
    assert len(found.public) == 101
    one, other = keys().public[signing_key().kid], found.public["key-7"]
    assert isinstance(one, Rs256Key)
    assert isinstance(other, Rs256Key)
    assert one.public.public_numbers() == other.public.public_numbers()
    assert found.unusable == ("None", "?")
