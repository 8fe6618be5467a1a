"""Is the database's shape one that this release can work on, and how does it get there? alembic, on both databases.

A migration runs in one transaction: it is there or it is not. Servers go on meanwhile, and those of an older release
after it, unless it raises the floor (`server.floor`). Revisions have names of one width, which are compared as text.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from sqlalchemy import Connection, inspect, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from authsec_core.errors import ConfigurationError
from authsec_server.db import tables
from authsec_server.db.engine import Database

if TYPE_CHECKING:
    from alembic.config import Config

__all__ = ["current", "expected", "require_shape", "suits", "upgrade"]

_MIGRATIONS: Final = Path(__file__).with_name("migrations")
_NOTED_IN: Final = "alembic_version"  # alembic's table: one row, with the revision
_LOCK: Final = 4_702_111_234_219_981  # of PostgreSQL's advisory locks: any number that nobody else uses


def expected() -> str:
    """Return the revision that this release works with: the one that the last file is named after."""
    revisions = [path.stem.partition("_")[0] for path in (_MIGRATIONS / "versions").glob("[0-9]*.py")]
    if not revisions:
        raise RuntimeError("the package has no migrations: it is not installed in full")
    return max(revisions)


async def current(database: Database) -> str | None:
    """Return the database's revision; None where it has none yet."""
    async with database.read() as connection:
        return await connection.run_sync(_current)


async def suits(database: Database) -> bool:
    """Return whether this release can work on the database as it is now."""
    return await _mismatch(database) is None


async def require_shape(database: Database) -> None:
    """Refuse a database that this release cannot work on.

    Raises:
        ConfigurationError: It is empty, older than this release, or too new for it; the message says what to do.
    """
    if (problem := await _mismatch(database)) is not None:
        raise ConfigurationError(problem)


async def upgrade(database: Database) -> None:
    """Bring the database to the expected revision; one that is there or beyond it stays as it is.

    Harmless beside servers that run, and beside another that does the same.
    """

    async def work(connection: AsyncConnection) -> None:
        if not database.is_sqlite:
            await connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        await connection.run_sync(_upgrade)

    await database.write(work)


async def _mismatch(database: Database) -> str | None:
    found, ours = await current(database), expected()
    if found is None:
        return "the database is empty: run authsec-server init, or serve --dev"
    if found < ours:
        return f"the database has revision {found}, and this release needs {ours}: run authsec-server migrate"
    if found == ours:
        return None
    async with database.read() as connection:
        floor = (await connection.execute(select(tables.server.c.floor))).scalar_one_or_none()
    if floor is None or floor <= ours:
        return None
    return (
        f"the database has revision {found}, on which releases before revision {floor} cannot run, and this one is of "
        f"{ours}: install the release that migrated it, or a newer one"
    )


def _current(connection: Connection) -> str | None:
    if not inspect(connection).has_table(_NOTED_IN):
        return None
    revision: str | None = connection.execute(text(f"SELECT version_num FROM {_NOTED_IN}")).scalar_one_or_none()  # noqa: S608
    return revision


def _upgrade(connection: Connection) -> None:
    from alembic import command  # as below

    found = _current(connection)
    if found is not None:
        if found >= expected():
            return
        # Writers come to a halt here, and not one by one at tables that the migration and they want in another order.
        connection.execute(select(tables.head.c.id).with_for_update())
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _config() -> Config:
    from alembic.config import Config  # here, because who only serves does without alembic: it takes 11 MB

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    return config
