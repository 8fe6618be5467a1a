"""The files of one authority: its folder, its master key, and who may use its SQLite database alone."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from authsec_core.errors import ConfigurationError
from authsec_server.db.url import database_url
from authsec_server.errors import ConflictError
from authsec_server.keys.masterkey import create_master_key
from authsec_server.settings import ServerSettings

__all__ = ["alone", "make_data_dir", "make_master_key", "require_database"]


def make_data_dir(settings: ServerSettings) -> None:
    """Make the folder, for its owner only, where the settings name one and it is missing.

    Raises:
        ConfigurationError: It cannot be made, or an SQLite database is to be in another one that is not there.
    """
    if settings.data_dir is not None:
        try:
            settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as exc:
            why = exc.strerror or "it cannot be made"
            raise ConfigurationError(f"the data folder {settings.data_dir} (--data): {why}") from exc
    if settings.uses_sqlite and not (folder := _sqlite_file(settings).parent).is_dir():
        raise ConfigurationError(f"there is no folder {folder}: make it, or mend AUTHSEC_SERVER_DATABASE_URL")


def make_master_key(settings: ServerSettings) -> Path | None:
    """Make the master key's file where the settings name one and it is missing; return it if it was made.

    Raises:
        ConfigurationError: It cannot be made.
    """
    path = settings.master_key_file
    if settings.master_key is not None or path is None or path.exists():
        return None
    create_master_key(path)
    return path


def require_database(settings: ServerSettings) -> None:
    """Refuse an SQLite database that is not there: SQLite would make an empty one of whatever name was misspelt.

    Raises:
        ConfigurationError: It is not there.
    """
    if settings.uses_sqlite and not (path := _sqlite_file(settings)).is_file():
        raise ConfigurationError(f"there is no database {path}: mend --data, or run authsec-server init")


@contextmanager
def alone(settings: ServerSettings) -> Iterator[None]:
    """Keep other servers away from an SQLite database, for as long as the block lasts or the process lives.

    PostgreSQL carries several servers. The file that is locked stays, because deleting it would let two in.

    Raises:
        ConflictError: Another server has it.
        ConfigurationError: Its folder cannot be used.
    """
    if not settings.uses_sqlite:
        yield
        return
    path = Path(f"{_sqlite_file(settings)}.serving")
    try:
        file = open(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "rb+")  # noqa: SIM115 -- closed below
    except OSError as exc:
        raise ConfigurationError(f"the database's folder {path.parent}: {exc.strerror or 'cannot be used'}") from exc
    with file:
        try:
            _lock(file)
        except OSError as exc:
            raise ConflictError(
                f"another server works on the data in {path.parent}: stop it, or name another folder with --data"
            ) from exc
        yield


def _sqlite_file(settings: ServerSettings) -> Path:
    return Path(database_url(settings.database_url.get_secret_value()).database or "")


def _lock(file: IO[bytes]) -> None:
    """Lock the file or raise OSError; the system unlocks it when the process ends, however it ends."""
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
