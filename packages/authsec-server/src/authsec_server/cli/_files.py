"""The files of one authority: its folder, its master key, and who may use them alone."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from authsec_core.errors import ConfigurationError
from authsec_server.db.url import database_url
from authsec_server.errors import ConflictError, UnsafeSettingsError
from authsec_server.keys.masterkey import create_master_key
from authsec_server.settings import ServerSettings

__all__ = ["alone", "changing_alone", "make_data_dir", "make_master_key", "require_database"]


def make_data_dir(settings: ServerSettings) -> None:
    """Make the folder, for its owner only, where the settings name one and it is missing.

    Raises:
        ConfigurationError: It cannot be made, or an SQLite database is to be in another one that is not there.
        UnsafeSettingsError: It is there, and others can write to it.
    """
    if settings.data_dir is not None:
        try:
            settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as exc:
            why = exc.strerror or "it cannot be made"
            raise ConfigurationError(f"the data folder {settings.data_dir} (--data): {why}") from exc
        _refuse_shared(settings.data_dir)
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
    """Keep other users away from the folder, and other servers from an SQLite database.

    That lasts as long as the block, or until the process ends.

    PostgreSQL carries several servers. The file that is locked stays, because deleting it would let two in.

    Raises:
        ConflictError: Another server has it.
        ConfigurationError: Its folder cannot be used.
        UnsafeSettingsError: Others can write to the data folder.
    """
    if settings.data_dir is not None:
        _refuse_shared(settings.data_dir)
    if not settings.uses_sqlite:
        yield
        return
    file = _sqlite_file(settings)
    busy = f"another server works on the data in {file.parent}: stop it, or name another folder with --data"
    with _locked(Path(f"{file}.serving"), "database", busy):
        yield


@contextmanager
def changing_alone(path: Path) -> Iterator[None]:
    """Keep other commands from changing the master key's file: each would write what it has read, and lose a key.

    Raises:
        ConflictError: Another one is at it.
        ConfigurationError: Its folder cannot be used.
    """
    with _locked(Path(f"{path}.changing"), "master key", f"another command changes {path}: wait for it"):
        yield


def _refuse_shared(folder: Path) -> None:
    """Refuse a folder whose files others can replace: what is in it decides who is let in. Follows links."""
    if sys.platform == "win32":
        return  # access is ruled by lists there, which the mode does not show
    try:
        status = folder.stat()
    except FileNotFoundError:
        return  # a server on PostgreSQL need not have one
    except OSError as exc:
        raise ConfigurationError(f"the data folder {folder} (--data): {exc.strerror or 'cannot be used'}") from exc
    if status.st_uid not in (0, os.geteuid()):
        raise UnsafeSettingsError(
            f"the data folder {folder} (--data) belongs to another user, who can replace what is in it: chown it to "
            "the user that runs the authority"
        )
    if stat.S_IMODE(status.st_mode) & (stat.S_IWGRP | stat.S_IWOTH):
        raise UnsafeSettingsError(
            f"others can write to the data folder {folder} (--data): run chmod go-w {str(folder)!r}, or name a new "
            "folder in it"
        )


def _sqlite_file(settings: ServerSettings) -> Path:
    return Path(database_url(settings.database_url.get_secret_value()).database or "")


@contextmanager
def _locked(path: Path, whose: str, busy: str) -> Iterator[None]:
    try:
        file = open(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), "rb+")  # noqa: SIM115 -- closed below
    except OSError as exc:
        raise ConfigurationError(f"the {whose}'s folder {path.parent}: {exc.strerror or 'cannot be used'}") from exc
    with file:
        try:
            _lock(file)
        except OSError as exc:
            raise ConflictError(busy) from exc
        yield


def _lock(file: IO[bytes]) -> None:
    """Lock the file or raise OSError; the system unlocks it when the process ends, however it ends."""
    if sys.platform == "win32":
        import msvcrt

        msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
    else:
        import fcntl

        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
