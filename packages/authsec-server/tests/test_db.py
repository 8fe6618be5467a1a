"""Transactions and migrations, on SQLite and on PostgreSQL."""

from __future__ import annotations

import asyncio
import sqlite3
import ssl
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import cast
from urllib.parse import urlsplit, urlunsplit

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from server_support import made, rows
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from authsec_core._clock import SYSTEM_CLOCK
from authsec_core.errors import ConfigurationError
from authsec_core.testing import FakeClock
from authsec_server.db import migrate, tables
from authsec_server.db.engine import Database
from authsec_server.db.settlers import SqliteSettler
from authsec_server.db.url import database_url, is_protected, tls
from authsec_server.errors import StorageUnavailableError
from authsec_server.testing import LocalPostgres


def test_the_migrations_make_what_the_tables_say(database_url: str) -> None:
    """A database that went through all migrations has exactly the tables that the code knows."""

    async def run() -> list[object]:
        database = Database(database_url, clock=SYSTEM_CLOCK, timeout=60.0)
        assert await migrate.current(database) is None
        await asyncio.gather(migrate.upgrade(database), migrate.upgrade(database))
        assert await migrate.current(database) == migrate.expected()
        async with database.read() as connection:
            differences = await connection.run_sync(
                lambda sync: compare_metadata(MigrationContext.configure(sync), tables.METADATA)
            )
        await database.close()
        return list(differences)

    assert asyncio.run(run()) == []


def test_a_second_active_signing_key_is_impossible(database_url: str) -> None:
    """The database itself refuses two keys that are active at once, whatever the code does."""

    async def run() -> None:
        async with made(database_url) as database:
            second = sa.insert(tables.signing_keys).values(
                kid="kid-2", state="active", sealed=b"", jwk={}, created_at=0.0
            )
            with pytest.raises(IntegrityError):
                await database.write(lambda connection: connection.execute(second))

    asyncio.run(run())


def test_what_raises_is_undone(database_url: str) -> None:
    """A transaction whose work raises leaves nothing behind, and the error is the work's own; on either way."""

    async def run() -> None:
        async def work(connection: AsyncConnection) -> None:
            await connection.execute(sa.delete(tables.head))
            raise LookupError

        def settled(connection: sa.Connection) -> None:
            connection.execute(sa.delete(tables.head))
            raise LookupError

        async with made(database_url) as database:
            for doing in (database.write(work), database.settle(settled)):
                with pytest.raises(LookupError):
                    await doing
            assert len(await rows(database, tables.head)) == 1

    asyncio.run(run())


def test_what_was_deleted_is_not_in_the_files_any_more(tmp_path: Path) -> None:
    """On SQLite: neither in a page that is free now nor in the log, once that is cleared; on either way."""
    canary = "canary-" + "x" * 10_000  # several pages
    files = [tmp_path / name for name in ("a.db", "a.db-wal")]

    async def run() -> None:
        def insert(connection: sa.Connection) -> None:
            connection.execute(sa.text("CREATE TABLE IF NOT EXISTS kept (text TEXT)"))
            connection.execute(sa.text("INSERT INTO kept VALUES (:text)"), {"text": canary})

        def delete(connection: sa.Connection) -> int:
            return connection.execute(sa.text("DELETE FROM kept")).rowcount

        database = Database(f"sqlite:///{files[0]}", clock=SYSTEM_CLOCK, timeout=60.0)
        for on_thread in (True, False):
            await database.settle(insert)
            await database.clear_log()
            assert b"canary" in files[0].read_bytes()
            await (database.settle(delete) if on_thread else database.write(_on_loop(delete)))
            await database.clear_log()
            assert not any(part in file.read_bytes() for file in files for part in (b"canary", b"xxxx"))
        await database.close()

    asyncio.run(run())


def test_what_is_settled_is_committed_in_one_line(database_url: str) -> None:
    """Work that is settled and work that is awaited take turns, and each sees what was committed before."""

    async def run() -> None:
        def more(connection: sa.Connection) -> int:
            before = connection.execute(sa.select(tables.head.c.seq).with_for_update()).scalar_one()
            connection.execute(sa.update(tables.head).values(seq=before + 1))
            return int(before)

        async with made(database_url) as database:
            ways = [database.settle(more) if n % 2 else database.write(_on_loop(more)) for n in range(6)]
            assert sorted([await way for way in ways]) == list(range(6))
            assert [row.seq for row in await rows(database, tables.head)] == [6]

    asyncio.run(run())


def test_who_waits_for_this_process_does_not_look_again_and_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On SQLite a transaction begins as soon as the one on the loop has ended, and not after a pause."""
    monkeypatch.setattr("authsec_server.db.engine._SQLITE_WAIT", 0.0)
    clock = FakeClock()

    async def run() -> None:
        entered, go_on = asyncio.Event(), asyncio.Event()

        async def slow(connection: AsyncConnection) -> None:
            await connection.execute(sa.update(tables.head).values(seq=7))
            entered.set()
            await go_on.wait()

        async with made(f"sqlite:///{tmp_path / 'authsec.db'}", clock=clock) as database:
            first = asyncio.create_task(database.write(slow))
            await entered.wait()
            second = asyncio.create_task(
                database.settle(lambda c: c.execute(sa.select(tables.head.c.seq)).scalar_one())
            )
            await asyncio.sleep(0)
            thread = cast("SqliteSettler", database._settler)._thread
            await asyncio.get_running_loop().run_in_executor(thread, int)  # behind what the thread was given, if it was
            go_on.set()
            await first
            assert await second == 7

    asyncio.run(run())
    assert clock.slept == ()


def test_who_goes_while_a_transaction_begins_leaves_nothing_behind(tmp_path: Path) -> None:
    """On SQLite a transaction whose caller has gone is not worked on, and keeps nobody from the database."""
    path = tmp_path / "authsec.db"
    worked: list[sa.Connection] = []

    async def run() -> None:
        async with made(f"sqlite:///{path}") as database:
            other = sqlite3.connect(path, isolation_level=None)
            other.execute("BEGIN IMMEDIATE")  # so that it has to wait on its thread
            waiting = asyncio.create_task(database.settle(worked.append))
            await asyncio.sleep(0)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            other.execute("ROLLBACK")
            thread = cast("SqliteSettler", database._settler)._thread
            await asyncio.get_running_loop().run_in_executor(thread, int)  # behind what the thread was given
            other.execute("BEGIN IMMEDIATE")
            other.close()
            assert await database.settle(lambda c: c.execute(sa.select(tables.head.c.seq)).scalar_one()) == 0

    asyncio.run(run())
    assert not worked


@pytest.mark.parametrize("turns", range(6))
def test_who_is_cancelled_as_the_turn_comes_does_not_take_it(turns: int, tmp_path: Path) -> None:
    """A server that ends does not wait for who would go on for ever; and the turn is given on."""

    async def run() -> None:
        async with made(f"sqlite:///{tmp_path / 'authsec.db'}") as database:
            took = asyncio.Event()

            async def take() -> None:
                async with database._turn_taken():
                    took.set()
                    await asyncio.Event().wait()

            first, second = asyncio.ensure_future(take()), asyncio.ensure_future(take())
            await took.wait()
            await asyncio.sleep(0)
            first.cancel()
            for _ in range(turns):
                await asyncio.sleep(0)
            second.cancel()
            assert (await asyncio.wait({first, second}, timeout=30.0))[1] == set()
            assert second.cancelled()
            async with database._turn_taken():
                pass

    asyncio.run(run())


def _on_loop(work: Callable[[sa.Connection], int]) -> Callable[[AsyncConnection], Awaitable[int]]:
    return lambda connection: connection.run_sync(work)


def test_a_thread_is_back_when_its_connection_has_gone(postgres: LocalPostgres) -> None:
    """After PostgreSQL was restarted, what is settled goes through, on a new connection."""
    url = postgres.create_database()

    async def run() -> None:
        async with made(url) as database:
            end = sa.text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()")
            assert (
                await database.settle(lambda connection: connection.execute(sa.select(sa.literal(1))).scalar_one()) == 1
            )
            await database.write(lambda connection: connection.execute(end))
            assert (
                await database.settle(lambda connection: connection.execute(sa.select(sa.literal(2))).scalar_one()) == 2
            )

    asyncio.run(run())
    postgres.drop_database(url)


@pytest.mark.req("RA8")
def test_a_busy_sqlite_is_tried_again(tmp_path: Path) -> None:
    """While somebody else writes, a transaction waits; when they are done, it goes through."""
    path = tmp_path / "authsec.db"

    class Releases(FakeClock):
        async def asleep(self, seconds: float) -> None:
            await super().asleep(seconds)
            if len(self.slept) == 2:
                other.rollback()

    clock = Releases()

    async def run() -> None:
        async with made(f"sqlite:///{path}", clock=clock) as database:
            other.execute("BEGIN IMMEDIATE")
            await database.write(lambda connection: connection.execute(sa.update(tables.head).values(seq=7)))
            assert [row.seq for row in await rows(database, tables.head)] == [7]

    other = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
    try:
        asyncio.run(run())
    finally:
        other.close()
    assert len(clock.slept) == 2


@pytest.mark.req("RA8")
def test_a_database_that_stays_busy_is_unavailable(tmp_path: Path) -> None:
    """After the timeout the caller is told to try later, and nothing was done."""
    path = tmp_path / "authsec.db"
    clock = FakeClock()

    async def run() -> None:
        async with made(f"sqlite:///{path}", clock=clock, timeout=0.25) as database:
            other = sqlite3.connect(path, isolation_level=None)
            other.execute("BEGIN IMMEDIATE")
            for doing in (
                database.write(lambda connection: connection.execute(sa.delete(tables.head))),
                database.settle(lambda connection: connection.execute(sa.delete(tables.head))),
            ):
                before = sum(clock.slept)
                with pytest.raises(StorageUnavailableError):
                    await doing
                assert 0.1 < sum(clock.slept) - before <= 0.25
            other.close()
            assert len(await rows(database, tables.head)) == 1

    asyncio.run(run())


def test_reading_does_not_wait_for_who_writes(database_url: str) -> None:
    """A reader sees what was committed, while a transaction is under way."""

    async def run() -> None:
        async with made(database_url) as database:

            async def work(connection: AsyncConnection) -> list[int]:
                await connection.execute(sa.update(tables.head).values(seq=7))
                return [row.seq for row in await rows(database, tables.head)]

            assert await database.write(work) == [0]
            assert [row.seq for row in await rows(database, tables.head)] == [7]

    asyncio.run(run())


def test_sqlite_keeps_what_it_acknowledged(tmp_path: Path) -> None:
    """WAL with synchronous=FULL on every connection: NORMAL may lose the last commits with the power."""

    async def run() -> None:
        async with made(f"sqlite:///{tmp_path / 'authsec.db'}") as database:

            async def pragmas(connection: AsyncConnection) -> list[object]:
                return await connection.run_sync(_pragmas)

            assert await database.write(pragmas) == ["wal", 2, 1]
            assert await database.settle(_pragmas) == ["wal", 2, 1]
            async with database.read() as connection:
                assert await pragmas(connection) == ["wal", 2, 1]

    asyncio.run(run())


def _pragmas(connection: sa.Connection) -> list[object]:
    names = ("journal_mode", "synchronous", "foreign_keys")
    return [connection.exec_driver_sql(f"PRAGMA {name}").scalar_one() for name in names]


@pytest.mark.parametrize(
    "url", ["mysql://u:s3cret@x/y", "sqlite://", "sqlite:///:memory:", "s3cret", "://s3cret", "postgres://u:s3cret@x/y"]
)
def test_a_database_that_is_not_supported_is_refused(url: str) -> None:
    """What is no SQLite file and no PostgreSQL is a ConfigurationError that does not quote it."""
    with pytest.raises(ConfigurationError) as caught:
        Database(url, clock=SYSTEM_CLOCK)
    assert "s3cret" not in "".join(traceback.format_exception(caught.value))


def test_a_database_that_is_away_is_unavailable() -> None:
    """A refused connection is the same error as a busy database, for reading and for writing."""

    async def run() -> None:
        database = Database("postgresql://nobody:x@127.0.0.1:1/none", clock=FakeClock(), timeout=1.0)
        with pytest.raises(StorageUnavailableError):
            await database.write(lambda connection: connection.execute(sa.text("SELECT 1")))
        with pytest.raises(StorageUnavailableError):
            await database.settle(lambda connection: connection.execute(sa.text("SELECT 1")))
        with pytest.raises(StorageUnavailableError):
            async with database.read():
                pass
        await database.close()

    asyncio.run(run())


@pytest.mark.parametrize("wrong", ["password", "database"])
def test_a_database_that_does_not_let_us_in_is_unavailable(postgres: LocalPostgres, wrong: str) -> None:
    """A wrong password or name is no bug of the request: it is tried again, and then the database is unavailable."""
    parts = urlsplit(postgres.url)
    changed = (
        parts._replace(path="/absent")
        if wrong == "database"
        else parts._replace(netloc=f"authsec:x@{parts.netloc.rpartition('@')[2]}")
    )

    async def run() -> None:
        database = Database(urlunsplit(changed), clock=FakeClock(), timeout=1.0)
        with pytest.raises(StorageUnavailableError):
            await database.write(lambda connection: connection.execute(sa.text("SELECT 1")))
        with pytest.raises(StorageUnavailableError):
            await database.settle(lambda connection: connection.execute(sa.text("SELECT 1")))
        with pytest.raises(StorageUnavailableError):
            async with database.read():
                pass
        await database.close()

    asyncio.run(run())


def test_the_way_to_postgresql_is_protected_as_the_url_says() -> None:
    """Verified TLS, TLS, or none: never one in the place of another, and no parameter is passed over."""
    full, some, none = (
        tls(database_url(f"postgresql://u:p@db.example.com/x{query}"))
        for query in ("?sslmode=verify-full", "?sslmode=require", "?sslmode=disable")
    )
    assert isinstance(full, ssl.SSLContext)
    assert full.check_hostname
    assert full.verify_mode == ssl.CERT_REQUIRED
    assert isinstance(some, ssl.SSLContext)
    assert some.verify_mode == ssl.CERT_NONE
    assert none is False
    with pytest.raises(ConfigurationError, match="sslrootcert"):
        tls(database_url("postgresql://u:p@db.example.com/x?sslmode=verify-full&sslrootcert=/absent.pem"))
    for query in ("?sslmode=prefer", "?ssl=require", "?sslmode=require&sslmode=disable", "?host=elsewhere"):
        with pytest.raises(ConfigurationError, match="sslmode"):
            database_url(f"postgresql://u:p@db.example.com/x{query}")


@pytest.mark.req("RO1")
def test_a_database_elsewhere_is_protected_or_said_not_to_be() -> None:
    """A URL that leads to another machine and says nothing of TLS is refused; loopback needs none."""
    assert not is_protected(database_url("postgresql://u:p@db.example.com/x"))
    for url in ("u:p@127.0.0.1/x", "u:p@localhost/x", "u:p@db.example.com/x?sslmode=disable"):
        assert is_protected(database_url(f"postgresql://{url}"))


def test_a_server_without_tls_is_unavailable_to_who_wants_it(postgres: LocalPostgres) -> None:
    """Where TLS was asked for, a database that offers none is not used."""

    async def run() -> None:
        database = Database(f"{postgres.url}?sslmode=require", clock=FakeClock(), timeout=1.0)
        with pytest.raises(StorageUnavailableError):
            async with database.read():
                pass
        await database.close()

    asyncio.run(run())
