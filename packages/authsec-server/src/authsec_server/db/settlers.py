"""How transactions are carried out whose work waits for nothing but the database.

Such a transaction has what all writers, on all replicas, wait for. If each of its steps was awaited on the loop that
serves requests, it would wait its turn behind every request that came in meanwhile. So the work is one step: on a
thread where answers have to travel, and on the loop where they are at hand. What is tried again is for `engine`.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from typing import Final, Generic, Protocol, TypeVar

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

__all__ = ["Attempt", "AttemptOnLoop", "PostgresSettler", "Settler", "SqliteSettler"]

_NAME: Final = "authsec-settler"

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
Work = Callable[[sa.Connection], T]


class Attempt(Protocol[T_co]):
    """One try to carry out a transaction."""

    @property
    def sent(self) -> bool:
        """Whether the commit was sent to where its outcome may be unknown."""
        ...

    async def run(self) -> T_co:
        """Carry it out, and return what its work returned."""
        ...


class Settler(Protocol):
    """A thread with a connection of its own. For one event loop."""

    def attempt(self, work: Work[T]) -> Attempt[T]:
        """Return one try at a transaction."""
        ...

    async def close(self) -> None:
        """Close the connection, and let the thread end."""
        ...


class AttemptOnLoop(Generic[T]):
    """A try on the running loop, with a connection of `engine`."""

    def __init__(self, engine: AsyncEngine, work: Callable[[AsyncConnection], Awaitable[T]]) -> None:
        self._engine, self._work = engine, work
        self.sent = False

    async def run(self) -> T:
        """See `Attempt`."""
        async with self._engine.connect() as connection:
            async with connection.begin() as transaction:
                result = await self._work(connection)
                # A local file says for certain whether it took it.
                self.sent = connection.dialect.name != "sqlite"
                await transaction.commit()
            return result


class SqliteSettler:
    """Runs the work on the loop, and on a thread what waits: for other processes as it begins, for the disk as it ends.

    The work itself waits for nothing. On a thread it would let go of the interpreter at each row, and take it from a
    busy loop again each time: that took longer than the work.
    """

    def __init__(self, engine: sa.Engine) -> None:
        self._engine = engine
        self._thread = ThreadPoolExecutor(1, thread_name_prefix=_NAME)

    def attempt(self, work: Work[T]) -> Attempt[T]:
        """See `Settler`."""
        return _SqliteAttempt(self._engine, self._thread, work)

    async def close(self) -> None:
        """See `Settler`."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._engine.dispose)
        self._thread.shutdown(wait=False)


class _SqliteAttempt(Generic[T]):
    sent: Final = False

    def __init__(self, engine: sa.Engine, thread: ThreadPoolExecutor, work: Work[T]) -> None:
        self._engine, self._thread, self._work = engine, thread, work

    async def run(self) -> T:
        begun = self._thread.submit(self._begin)
        try:
            connection = await asyncio.wrap_future(begun)
            result = self._work(connection)
        except BaseException:  # whoever waits may be gone before it has begun
            self._thread.submit(_give_up, begun)
            raise
        # Once it is on its way it ends, or its connection would be lost.
        await asyncio.shield(asyncio.get_running_loop().run_in_executor(self._thread, _commit, connection))
        return result

    def _begin(self) -> sa.Connection:
        with ExitStack() as stack:
            connection = stack.enter_context(self._engine.connect())
            connection.begin()
            stack.pop_all()
        return connection


def _give_up(begun: Future[sa.Connection]) -> None:
    if not begun.cancelled() and begun.exception() is None:
        begun.result().close()  # which rolls back


def _commit(connection: sa.Connection) -> None:
    with connection:
        connection.commit()


class PostgresSettler:
    """Runs the work on a loop of its own, which has nothing else to do; it starts with the first work."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    def attempt(self, work: Work[T]) -> Attempt[T]:
        """See `Settler`."""
        if self._loop is None:
            self._loop = type(asyncio.get_running_loop())()  # of the same kind
            self._thread = threading.Thread(target=self._run, args=(self._loop,), name=_NAME, daemon=True)
            self._thread.start()
        attempt = AttemptOnLoop(self._engine, lambda connection: connection.run_sync(work))
        return _PostgresAttempt(self._loop, attempt)

    async def close(self) -> None:
        """See `Settler`."""
        if self._loop is not None and self._thread is not None:
            await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._engine.dispose(), self._loop))
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
        finally:
            loop.close()


class _PostgresAttempt(Generic[T]):
    def __init__(self, loop: asyncio.AbstractEventLoop, attempt: AttemptOnLoop[T]) -> None:
        self._loop, self._attempt = loop, attempt

    @property
    def sent(self) -> bool:
        return self._attempt.sent

    async def run(self) -> T:
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(self._attempt.run(), self._loop))
