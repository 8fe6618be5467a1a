"""What is in the database that the settings name, before anything is done to it; and drivers' errors in our words."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError

from authsec_core.errors import ConfigurationError
from authsec_server.db import migrate
from authsec_server.db.engine import Database
from authsec_server.db.url import database_url
from authsec_server.errors import ConflictError, UnsafeSettingsError
from authsec_server.settings import ServerSettings

__all__ = ["Found", "look", "run", "shown_url"]

T = TypeVar("T")
_LONGEST: Final = 200  # characters of a driver's words


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What is there.

    Attributes:
        revision: The database's shape; None where it is empty.
        made_by_dev: Whether `serve --dev` made it; None where it was not initialised.
    """

    revision: str | None
    made_by_dev: bool | None

    def require_kind(self, settings: ServerSettings) -> None:
        """Refuse to touch a try-out as if it were real, or the other way round.

        Raises:
            UnsafeSettingsError: The settings are for the other kind.
        """
        if self.made_by_dev is not None and self.made_by_dev != settings.dev:
            was = "was made by serve --dev: add --dev" if self.made_by_dev else "was not made by --dev: leave --dev out"
            raise UnsafeSettingsError(f"the database {was}, or name another folder with --data")

    def require_empty(self) -> None:
        """Refuse a database that was initialised.

        Raises:
            ConflictError: It was.
        """
        if self.made_by_dev is not None:
            raise ConflictError(
                "the database was initialised before: nothing was changed; grant-admin makes new tokens"
            )


def run(work: Callable[[], Awaitable[T]]) -> T:
    """Run `work` on a loop of its own.

    Raises:
        ConfigurationError: The database's driver refuses what the settings say.
        AuthSecError: What `work` raises.
    """

    async def main() -> T:
        return await work()

    try:
        return asyncio.run(main())
    except DBAPIError as exc:
        problem = _problem(exc.orig)
    except OSError as exc:
        problem = ConfigurationError(f"{exc.filename or 'a file'}: {exc.strerror or 'cannot be used'}")
    raise problem  # out here: SQLAlchemy's errors show statements and their parameters


def _problem(error: BaseException | None) -> ConfigurationError:
    words = (str(error).splitlines() or [type(error).__name__])[0][:_LONGEST]
    return ConfigurationError(f"the database cannot be used (AUTHSEC_SERVER_DATABASE_URL): {words}")


async def look(database: Database) -> Found:
    """Return what is there. Changes nothing.

    Raises:
        StorageUnavailableError: The database cannot be reached.
    """
    revision = await migrate.current(database)
    if revision is None:
        return Found(revision=None, made_by_dev=None)
    # In words, because an older release's table may have other columns than ours.
    query = sa.text("SELECT made_by_dev FROM server").columns(sa.column("made_by_dev", sa.Boolean))
    async with database.read() as connection:
        made_by_dev = (await connection.execute(query)).scalar_one_or_none()
    return Found(revision=revision, made_by_dev=made_by_dev)


def shown_url(settings: ServerSettings) -> str:
    """Return where the database is, without its password."""
    text = settings.database_url.get_secret_value()
    scheme = text.partition(":")[0]
    return database_url(text).set(drivername=scheme).render_as_string(hide_password=True)
