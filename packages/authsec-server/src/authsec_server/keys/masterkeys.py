"""The master keys that a process has: the one to seal with from now on, and those that still open something.

Where they come from is for `masterkey`. A file that was replaced is read again when something was sealed with a key
that is not known, so that a server need not be started again when the master key is changed.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterable, Mapping
from pathlib import Path

from authsec_core.errors import ConfigurationError
from authsec_server.errors import WrongMasterKeyError
from authsec_server.keys.masterkey import PUT_BACK, MasterKey, read_master_keys

__all__ = ["MasterKeys"]

_log = logging.getLogger("authsec.server")


class MasterKeys:
    """Master keys by their id. Any thread may use it. What it has known once it keeps until the process ends.

    Args:
        keys: The one to change to first; at least one.
        path: Where they were read, and more may be found; None is nowhere.

    Raises:
        ConfigurationError: Two of them have the same id.
    """

    def __init__(self, keys: Iterable[MasterKey], *, path: Path | None = None) -> None:
        given = tuple(keys)
        self._path = path
        self._lock = threading.Lock()  # guards what follows
        self._first = given[0]
        self._known = _by_id(given)
        self._read: tuple[int, ...] | None = None  # which file was read last

    @classmethod
    def read(cls, path: Path, *, otherwise: str = PUT_BACK) -> MasterKeys:
        """Read them from a file, and more from the same file when they are needed.

        Raises:
            ConfigurationError, UnsafeSettingsError: As `read_master_keys`.
        """
        return cls(read_master_keys(path, otherwise=otherwise), path=path)

    @property
    def first(self) -> MasterKey:
        """The one that everything is to be sealed with, once the master key was changed."""
        return self._first

    @property
    def ids(self) -> tuple[str, ...]:
        """The ids of all that are known."""
        return tuple(self._known)

    def get(self, key_id: str, what: str) -> MasterKey:
        """Return the key of this id. Reads the file again if it is not known, and the file is another one by now.

        Args:
            what: Is sealed with it, for the message.

        Raises:
            WrongMasterKeyError: There is none. Nothing is ever made up for it.
        """
        known = self._known.get(key_id) or self._read_again().get(key_id)
        if known is None:
            where = "AUTHSEC_SERVER_MASTER_KEY" if self._path is None else f"the file {str(self._path)!r}"
            raise WrongMasterKeyError(
                f"{what} is sealed with master key {key_id}, which {where} does not hold (known: "
                f"{', '.join(self.ids)}): put that key there, from your copy; no other opens it"
            )
        return known

    def require_in_file(self, key_id: str, what: str) -> None:
        """See that a server that starts now would have the key of this id. Reads the file, where there is one.

        Raises:
            ConfigurationError: It would not start: the file cannot be read, or others can read it, or it holds others.
        """
        if self._path is not None:
            MasterKeys.read(self._path).get(key_id, what)

    def __repr__(self) -> str:
        return f"<master keys {', '.join(self.ids)}>"

    def _read_again(self) -> Mapping[str, MasterKey]:
        with self._lock:
            if self._path is None or (found := _version(self._path)) == self._read:
                return self._known
            self._read = found
            try:
                keys = read_master_keys(self._path)
                self._known = _by_id([*keys, *self._known.values()])
            except ConfigurationError as exc:  # what is known goes on being good
                _log.error("no further master key was found: %s", exc.message)
            else:
                self._first = keys[0]
            return self._known


def _version(path: Path) -> tuple[int, ...] | None:
    """Return what changes when a file is replaced, written, or made readable; None where there is none."""
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns


def _by_id(keys: Iterable[MasterKey]) -> dict[str, MasterKey]:
    known: dict[str, MasterKey] = {}
    for key in keys:
        if known.setdefault(key.id, key) != key:
            raise ConfigurationError(f"two master keys have the same id {key.id}: make another one")
    return known
