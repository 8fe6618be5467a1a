"""Where master keys come from, and which ones are refused. Which one seals is for `masterkeys`.

One is 32 random bytes, written as base64url: in a file that only its owner can read, or in a setting. While it is being
changed there are several, the new one first. Whoever has them and a copy of the database can sign tokens and read every
secret, so they are never printed, pickled or overwritten, and a guessable one is refused.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import os
import secrets
import stat
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Final, NoReturn

from authsec_core._signing import base64url
from authsec_core.errors import ConfigurationError
from authsec_server.errors import UnsafeSettingsError

__all__ = [
    "MAKE_ONE",
    "PUT_BACK",
    "MasterKey",
    "create_master_key",
    "parse_master_keys",
    "read_master_keys",
    "replace_master_keys",
]

# What to do where there is no good one: it depends on whether there is a database that somebody's master key sealed.
MAKE_ONE: Final = (
    'Make one with: python -c "import base64, os; print(base64.urlsafe_b64encode(os.urandom(32)).decode())"'
)
PUT_BACK: Final = "Put your copy of it back: a new master key opens nothing of the database that is there"

_SIZE: Final = 32  # bytes
_LARGEST_FILE: Final = 1024  # bytes; more is some other file
_FEWEST_VALUES: Final = 16  # different bytes, and steps between them, among 32: chance never gives fewer
_TELLTALE: Final = ("changeme", "default", "example", "insecure", "masterkey", "password")


class MasterKey:
    """The key that seals what the database holds. It does not show itself; two are compared in constant time.

    Attributes:
        id: Public: the first 8 hexadecimal digits of its SHA-256. Tells master keys apart.

    Raises:
        UnsafeSettingsError: It was not made by chance.
    """

    __slots__ = ("_key", "id")

    def __init__(self, key: bytes) -> None:
        if len(key) != _SIZE:
            raise ConfigurationError(f"the master key must be {_SIZE} bytes")
        if _is_guessable(key):
            raise UnsafeSettingsError("the master key can be guessed")
        self._key = key
        self.id: Final = hashlib.sha256(key).hexdigest()[:8]

    @classmethod
    def generate(cls) -> MasterKey:
        """Make one of 256 random bits."""
        return cls(secrets.token_bytes(_SIZE))

    @classmethod
    def parse(cls, text: str) -> MasterKey:
        """Read base64url, with or without padding.

        Raises:
            ConfigurationError: It is not that, or not of 32 bytes.
            UnsafeSettingsError: It was not made by chance.
        """
        key = _decoded(text.strip())
        if key is None:  # raised out here: the decoder's own error quotes what it was given
            raise ConfigurationError(f"the master key is not {_SIZE} bytes as base64url")
        if any(word in text.lower() for word in _TELLTALE):
            raise UnsafeSettingsError("the master key is a sample text")
        return cls(key)

    def reveal(self) -> bytes:
        """Return the 32 bytes, for a cipher."""
        return self._key

    def __repr__(self) -> str:
        return f"<master key {self.id}>"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, MasterKey) and hmac.compare_digest(other._key, self._key)

    def __hash__(self) -> int:
        return hash(self.id)

    def __copy__(self) -> MasterKey:
        return self

    def __deepcopy__(self, memo: object) -> MasterKey:
        return self

    def __reduce__(self) -> NoReturn:
        raise TypeError("a master key is not pickled: let the other process read it for itself")


def parse_master_keys(text: str, *, otherwise: str = PUT_BACK) -> tuple[MasterKey, ...]:
    """Read one or several master keys, which white space divides.

    Args:
        otherwise: What the message says to do.

    Raises:
        ConfigurationError: One of them is not 32 bytes as base64url, or there is none.
        UnsafeSettingsError: One was not made by chance.
    """
    try:
        return tuple(dict.fromkeys(MasterKey.parse(part) for part in text.split() or [text]))
    except ConfigurationError as exc:
        raise type(exc)(f"{exc.message}. {otherwise}") from None


def read_master_keys(path: Path, *, otherwise: str = PUT_BACK) -> tuple[MasterKey, ...]:
    """Read the master keys from a file that nobody else can read: one, or several in lines of their own.

    Args:
        otherwise: What the message says to do where there is none that is good.

    Raises:
        ConfigurationError: There is no such file, or it holds something else.
        UnsafeSettingsError: Others can read or replace it, or a key can be guessed.
    """
    try:
        # O_NONBLOCK, or opening a FIFO would wait for ever. Links are followed: Kubernetes mounts secrets as links.
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
        with open(descriptor, "rb") as file:
            _refuse_exposed(path, os.fstat(descriptor))
            raw = file.read(_LARGEST_FILE + 1)
    except FileNotFoundError as exc:
        raise ConfigurationError(f"there is no master key file {str(path)!r}. {otherwise}") from exc
    except OSError as exc:
        why = exc.strerror or "it cannot be read"
        raise ConfigurationError(f"the master key file {str(path)!r} cannot be read: {why}") from exc
    if len(raw) > _LARGEST_FILE:  # else the last key could be cut
        raise ConfigurationError(f"the master key file {str(path)!r} is too long: it is some other file. {otherwise}")
    try:
        return parse_master_keys(raw.decode("ascii", "replace"), otherwise=otherwise)
    except ConfigurationError as exc:
        raise type(exc)(f"in the file {str(path)!r}: {exc.message}") from None


def create_master_key(path: Path) -> MasterKey:
    """Make a master key and keep it in a new file, durably. The file appears whole or not at all.

    Raises:
        ConfigurationError: The file exists (it is never overwritten), or cannot be made.
    """
    master = MasterKey.generate()
    try:
        with _written_beside(path, _lines([master])) as finished:
            os.link(finished, path)  # unlike a rename, it fails where there is a file
        _sync_folder(path.parent)
    except FileExistsError as exc:
        raise ConfigurationError(
            f"the master key file {str(path)!r} exists: it is never overwritten, for what it sealed would be lost"
        ) from exc
    except OSError as exc:
        why = exc.strerror or "it cannot be written"
        raise ConfigurationError(f"the master key file {str(path)!r} cannot be made: {why}") from exc
    return master


def replace_master_keys(path: Path, keys: Iterable[MasterKey]) -> None:
    """Put these keys in the place of the file's, durably and at one stroke. Only one process may do it at a time.

    Raises:
        ConfigurationError: It is a link, or cannot be written: whoever put it there has to do it.
    """
    if path.is_symlink():
        raise ConfigurationError(f"the master key file {str(path)!r} is a link: change what it leads to yourself")
    try:
        status = path.stat()
        with _written_beside(path, _lines(keys)) as finished:
            if sys.platform != "win32":  # root may do this for the user that runs the authority
                os.chown(finished, status.st_uid, status.st_gid)
                finished.chmod(stat.S_IMODE(status.st_mode))
            finished.replace(path)
        _sync_folder(path.parent)
    except OSError as exc:
        why = exc.strerror or "it cannot be written"
        raise ConfigurationError(f"the master key file {str(path)!r} cannot be replaced: {why}") from exc


def _lines(keys: Iterable[MasterKey]) -> bytes:
    return b"".join(base64url(key.reveal()).encode() + b"\n" for key in keys)


def _is_guessable(key: bytes) -> bool:
    steps = {(after - before) % 256 for before, after in pairwise(key)}
    return (
        len(set(key)) < _FEWEST_VALUES or len(steps) < _FEWEST_VALUES or (key.isascii() and key.decode().isprintable())
    )


def _decoded(text: str) -> bytes | None:
    unpadded = text.rstrip("=")
    try:
        key = base64.b64decode(unpadded.encode("ascii") + b"=" * (-len(unpadded) % 4), altchars=b"-_", validate=True)
    except (ValueError, binascii.Error):
        return None
    # One spelling for each key: stray last bits would be a typing error that goes unnoticed.
    return key if len(key) == _SIZE and base64url(key) == unpadded else None


def _refuse_exposed(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise UnsafeSettingsError(f"the master key file {str(path)!r} is not a regular file")
    if sys.platform == "win32":
        return  # access is ruled by lists there, which the mode does not show
    if status.st_uid not in (0, os.geteuid()):
        raise UnsafeSettingsError(
            f"the master key file {str(path)!r} belongs to another user, who can replace it: chown it to the user "
            "that runs the authority"
        )
    # systemd lets the service read its credentials by an access list, whose mask shows as rights of the group.
    theirs = 0o137 if _is_credential(path) else 0o177
    if stat.S_IMODE(status.st_mode) & theirs:
        raise UnsafeSettingsError(f"others can use the master key file {str(path)!r}: run chmod 600 {str(path)!r}")


def _is_credential(path: Path) -> bool:
    """Return whether systemd put it there for this service, in a folder that nobody else can enter."""
    folder = os.environ.get("CREDENTIALS_DIRECTORY")
    return folder is not None and path.parent == Path(folder) and not stat.S_IMODE(path.parent.stat().st_mode) & 0o027


@contextmanager
def _written_beside(path: Path, content: bytes) -> Iterator[Path]:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(descriptor)
        yield temporary
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()


def _sync_folder(folder: Path) -> None:
    if sys.platform == "win32":
        return  # a folder cannot be opened there
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
