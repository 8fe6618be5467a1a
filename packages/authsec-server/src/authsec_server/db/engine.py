"""How a transaction is had on SQLite and on PostgreSQL: which are tried again, and which end as "unavailable".

Two doors. `read` is a snapshot that blocks nobody. `write` has the database to itself on SQLite; on PostgreSQL whoever
writes takes the row that all writers share first. So all of them, on all replicas, stand in one line.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, closing
from typing import Any, Final, TypeVar

import anyio
import sqlalchemy as sa
from sqlalchemy.engine import URL
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool, ConnectionPoolEntry, QueuePool

from authsec_core._clock import Clock
from authsec_server.db.settlers import Attempt, AttemptOnLoop, PostgresSettler, Settler, SqliteSettler
from authsec_server.db.url import database_url, tls
from authsec_server.errors import StorageUnavailableError

__all__ = ["Database"]

_SQLITE_WAIT: Final = 0.25  # seconds that SQLite itself waits for another writer, before we look at the clock
_FIRST_PAUSE: Final = 0.01  # seconds
_LONGEST_PAUSE: Final = 0.5  # seconds
# Serialization failure, deadlock, lock timeout, too many connections, still starting, shut down by an administrator.
_PASSING: Final = frozenset({"40001", "40P01", "55P03", "53300", "57P01", "57P02", "57P03"})

T = TypeVar("T")


class Database:
    """One database. For one event loop.

    Args:
        url: `sqlite:///path` or `postgresql://user:password@host/name`.
        clock: Paces retries.
        timeout: Seconds to try for, until a transaction counts as failed.
        pool_size: Connections for reading.
        failed: Is told of what the database did not take: a `read` or a `write`.
    """

    def __init__(
        self,
        url: str,
        *,
        clock: Clock,
        timeout: float = 5.0,
        pool_size: int = 10,
        failed: Callable[[str], None] | None = None,
    ) -> None:
        location = database_url(url)
        self.is_sqlite: Final = location.get_backend_name() == "sqlite"
        self._file = location.database if self.is_sqlite else None
        self._clock = clock
        self._timeout = timeout
        self._failed = failed
        self._troubles = _troubles(is_sqlite=self.is_sqlite)
        self._reader = _engine(location, "BEGIN", timeout=timeout, pool_size=pool_size)
        self._writer = _engine(location, "BEGIN IMMEDIATE", timeout=timeout, pool_size=1)
        self._settler = _settler(location, timeout)
        # SQLite lets one write at a time, and would have the other one look again and again.
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def read(self) -> AsyncIterator[AsyncConnection]:
        """Lend a connection for reading.

        Raises:
            StorageUnavailableError: The database cannot be reached, or the connection broke.
        """
        try:
            async with self._reader.connect() as connection:
                try:
                    yield connection
                except DBAPIError:
                    await connection.invalidate()  # else SQLite's could be left in the snapshot of now, for ever
                    raise
        except self._troubles as exc:
            if not _is_trouble(exc):
                raise
            raise self._unavailable("read", exc) from exc

    async def write(self, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
        """Run `work` in a transaction that has the database to itself, and commit.

        It is run again while the database is busy: it must not change anything but the database. Nothing is repeated
        once a commit was sent, since nobody can tell then whether it arrived.

        Raises:
            StorageUnavailableError: The database was busy or away for too long.
        """
        return await self._tried(lambda: AttemptOnLoop(self._writer, work))

    async def settle(self, work: Callable[[sa.Connection], T]) -> T:
        """Do the same with work that waits for nothing but the database.

        It is one step for the loop that serves requests, and not one for each statement. See `settlers`.

        Raises:
            StorageUnavailableError: As for `write`.
        """
        return await self._tried(lambda: self._settler.attempt(work))

    async def clear_log(self) -> None:
        """Empty SQLite's log, which has what was overwritten or deleted until then. PostgreSQL keeps its own.

        Whatever somebody reads at this moment stays, for the next time.

        Raises:
            StorageUnavailableError: The database is busy or away.
        """
        if self._file is None:
            return
        try:
            async with self._turn_taken():
                await asyncio.to_thread(_clear_log, self._file)
        except (sqlite3.Error, TimeoutError) as exc:
            raise self._unavailable("write", exc) from exc

    async def _tried(self, attempts: Callable[[], Attempt[T]]) -> T:
        pause, give_up_at = _FIRST_PAUSE, self._clock.steady() + self._timeout
        while True:
            attempt = attempts()
            try:
                if not self.is_sqlite:
                    return await attempt.run()
                async with self._turn_taken():
                    return await attempt.run()
            except self._troubles as exc:
                if not _is_trouble(exc):
                    raise
                if attempt.sent or _is_locked_out(exc) or self._clock.steady() + pause >= give_up_at:
                    raise self._unavailable("write", exc) from exc
            await self._clock.asleep(pause * (0.5 + self._clock.chance() / 2))
            pause = min(2 * pause, _LONGEST_PAUSE)

    @asynccontextmanager
    async def _turn_taken(self) -> AsyncIterator[None]:
        if self._turn.locked():
            # Not by `asyncio.wait_for`: before Python 3.12 it forgets a cancellation that comes together with the turn.
            with anyio.fail_after(self._timeout):
                await self._turn.acquire()
        else:
            await self._turn.acquire()
        try:
            yield
        finally:
            self._turn.release()

    async def close(self) -> None:
        """Close all connections."""
        await self._reader.dispose()
        await self._writer.dispose()
        await self._settler.close()

    def _unavailable(self, where: str, error: BaseException) -> StorageUnavailableError:
        if self._failed is not None:
            self._failed(where)
        return _unavailable(error)


def _settler(url: URL, timeout: float) -> Settler:
    if url.get_backend_name() != "sqlite":
        return PostgresSettler(_engine(url, "BEGIN", timeout=timeout, pool_size=1))
    engine = sa.create_engine(
        url.set(drivername="sqlite"),
        poolclass=QueuePool,
        pool_size=1,
        max_overflow=0,
        hide_parameters=True,
        connect_args={"check_same_thread": False},  # whichever thread the pool of threads has; one at a time
    )
    _set_up_sqlite(engine, "BEGIN IMMEDIATE")
    return SqliteSettler(engine)


def _engine(url: URL, begin: str, *, timeout: float, pool_size: int) -> AsyncEngine:
    if url.get_backend_name() == "sqlite":
        engine = create_async_engine(
            url,
            poolclass=AsyncAdaptedQueuePool,  # SQLAlchemy before 2.0.38 has none for SQLite files
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=timeout,
            hide_parameters=True,
        )
        _set_up_sqlite(engine.sync_engine, begin)
        return engine
    milliseconds = str(int(timeout * 1000))
    settings = {"lock_timeout": milliseconds, "idle_in_transaction_session_timeout": milliseconds}
    return create_async_engine(
        url.set(query={}),
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=timeout,
        hide_parameters=True,  # they would get into errors, and from there into logs
        isolation_level="READ COMMITTED",
        connect_args={
            "timeout": timeout,
            "command_timeout": timeout,
            "server_settings": settings,
            "ssl": tls(url),
        },
    )


def _set_up_sqlite(engine: sa.Engine, begin: str) -> None:
    @sa.event.listens_for(engine, "connect")
    def on_connect(connection: Any, _record: ConnectionPoolEntry) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves: the driver would begin without IMMEDIATE
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {int(_SQLITE_WAIT * 1000)}")
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = FULL")  # NORMAL can lose the last commits when the power fails
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.execute("PRAGMA secure_delete = ON")  # a secret that was destroyed must not stay in a page that is free
        cursor.close()

    @sa.event.listens_for(engine, "begin")
    def on_begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql(begin)


def _clear_log(file: str) -> None:
    with closing(sqlite3.connect(file, timeout=_SQLITE_WAIT)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


def _troubles(*, is_sqlite: bool) -> tuple[type[Exception], ...]:
    # A timeout of asyncio's is an OSError from Python 3.11 on.
    troubles = (DBAPIError, OSError, asyncio.TimeoutError, sa.exc.TimeoutError)
    if is_sqlite:
        return troubles
    import asyncpg  # here, because SQLite does without

    # SQLAlchemy lets the first through while it connects, and the second, of asyncpg 0.30, when a connection breaks.
    return (*troubles, asyncpg.PostgresError, asyncpg.InternalClientError)


def _is_trouble(error: BaseException) -> bool:
    """Return whether the database is busy or away, as opposed to the statement being wrong."""
    if not isinstance(error, DBAPIError):
        return True
    state = _state(error)
    if state is not None:
        return state in _PASSING or state.startswith("08") or _is_locked_out(error)
    text = str(error.orig)
    busy = "database is locked" in text or "database table is locked" in text or "disk I/O error" in text
    return (
        busy or "disk is full" in text or error.connection_invalidated or isinstance(error.orig, asyncio.TimeoutError)
    )


def _is_locked_out(error: BaseException) -> bool:
    """Return whether the database does not let us in: wrong user or password, or no database of this name."""
    state = _state(error)
    return state is not None and (state.startswith("28") or state == "3D000")


def _state(error: BaseException) -> str | None:
    state = getattr(error.orig if isinstance(error, DBAPIError) else error, "sqlstate", None)
    return state if isinstance(state, str) else None


def _unavailable(error: BaseException) -> StorageUnavailableError:
    if _is_locked_out(error):
        return StorageUnavailableError(
            f"the database does not let the authority in (SQLSTATE {_state(error)}): mend AUTHSEC_SERVER_DATABASE_URL"
        )
    return StorageUnavailableError("the database did not take it in time: try again; if it goes on, see /readyz")
