"""Is the database's shape the one that this release expects, and how does it get there? alembic, on both databases.

A migration runs in one transaction: it is there or it is not.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncConnection

from authsec_server.db.engine import Database

__all__ = ["current", "expected", "upgrade"]

_MIGRATIONS: Final = Path(__file__).with_name("migrations")
_LOCK: Final = 4_702_111_234_219_981  # of PostgreSQL's advisory locks: any number that nobody else uses


def expected() -> str:
    """Return the revision that this release works with."""
    revision = ScriptDirectory.from_config(_config()).get_current_head()
    if revision is None:
        raise RuntimeError("the package has no migrations: it is not installed in full")
    return revision


async def current(database: Database) -> str | None:
    """Return the database's revision; None where it has none yet."""
    async with database.read() as connection:
        return await connection.run_sync(lambda sync: MigrationContext.configure(sync).get_current_revision())


async def upgrade(database: Database) -> None:
    """Bring the database to the expected revision. Harmless when it is there, and beside another that does the same."""

    async def work(connection: AsyncConnection) -> None:
        if not database.is_sqlite:
            await connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
        await connection.run_sync(_upgrade)

    await database.write(work)


def _upgrade(connection: Connection) -> None:
    config = _config()
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    return config
