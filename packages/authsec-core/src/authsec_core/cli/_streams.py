"""Where values come from and go to: stdin, a prompt, a file of one's own, stdout. It never sees the command line.

Values are text of at most 64 KiB, as the vault keeps them. What is read is wrapped before it is handed on.
"""

from __future__ import annotations

import getpass
import os
import sys
from pathlib import Path
from typing import IO, Final, TextIO

from authsec_core.cli._outcome import InputError, plain
from authsec_core.token import Secret

__all__ = [
    "confirm",
    "read_file",
    "read_limited",
    "read_value",
    "require_absent",
    "stdout_is_terminal",
    "write_new",
    "write_value",
]

_LARGEST_VALUE: Final = 65536  # bytes
_LARGEST_FILE: Final = 1024 * 1024  # bytes


def read_value(path: str, *, exact: bool = False) -> Secret:
    """Return the value for the secret at `path`: typed twice on a terminal, otherwise all that stdin holds.

    Args:
        exact: Keep the line end that stdin ends in, which is otherwise taken to be that of `echo` or an editor.

    Raises:
        InputError: There is none, it is too long, or it is no text.
    """
    if sys.stdin.isatty():
        typed = _asked(f"Value of {path}: ")
        if _asked("The same again: ") != typed:
            raise InputError("the two are not the same: nothing was stored")
    else:
        text = _text(_stdin().read(_LARGEST_VALUE + 3), "stdin")
        typed = Secret(text if exact else text.removesuffix("\n").removesuffix("\r"))
    if not typed():
        raise InputError("there is no value: type it, or pipe it in; nothing was stored")
    if len(_bytes(typed)) > _LARGEST_VALUE:
        raise InputError("the value is longer than 64 KiB: nothing was stored")
    return typed


def read_file(source: Path) -> Secret:
    """Return what a file holds, or stdin for `-`.

    Raises:
        InputError: It cannot be read, is larger than 1 MiB, or is no text.
    """
    name = "stdin" if str(source) == "-" else str(source)
    data = _stdin().read(_LARGEST_FILE + 1) if str(source) == "-" else read_limited(source, _LARGEST_FILE + 1)
    if len(data) > _LARGEST_FILE:
        raise InputError(f"{name} is larger than 1 MiB")
    return Secret(_text(data, name))


def read_limited(source: Path, limit: int) -> bytes:
    """Return the first bytes of a file.

    Raises:
        InputError: It cannot be read.
    """
    try:
        with source.open("rb") as file:
            return file.read(limit)
    except OSError as exc:
        raise InputError(f"{source} cannot be read: {exc.strerror}") from exc


def confirm(question: str) -> bool:
    """Ask on a terminal and return whether the answer was yes.

    Raises:
        InputError: There is no terminal to ask on.
    """
    if not sys.stdin.isatty():
        raise InputError("nobody can be asked here: say --yes if you mean it")
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def stdout_is_terminal() -> bool:
    """Return whether somebody would see what is written to stdout."""
    return sys.stdout.isatty()


def require_absent(path: Path | None) -> None:
    """Refuse a file that is there already, before anything is asked for that should go into it.

    Raises:
        InputError: It is there.
    """
    if path is not None and (path.exists() or path.is_symlink()):
        raise InputError(_THERE.format(path))


def write_new(path: Path, content: Secret) -> None:
    """Write a new file that only its owner can read; it is complete or not there.

    Raises:
        InputError: It is there already, or cannot be written.
    """
    try:
        # Exclusively, so that nobody can have put a link or a file of theirs in this place.
        file = os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
    except FileExistsError as exc:
        raise InputError(_THERE.format(path)) from exc
    except OSError as exc:
        raise InputError(f"{path} cannot be written: {exc.strerror}") from exc
    try:
        with file:
            file.write(_bytes(content))
    except OSError as exc:
        path.unlink(missing_ok=True)
        raise InputError(f"{path} cannot be written: {exc.strerror}") from exc


def write_value(value: Secret, stream: TextIO) -> bool:
    """Write a value: as it is; on a terminal with a line end, and spelled out where it could take hold of that.

    Returns:
        Whether all of it was written as it is.
    """
    if stream.isatty():
        shown = plain(value(), lines=True)
        stream.write(f"{shown.removesuffix(chr(10))}\n")
        return shown == value()
    buffer: IO[bytes] = stream.buffer
    stream.flush()
    buffer.write(_bytes(value))
    buffer.flush()
    return True


_THERE: Final = "{} is there already: remove it, or name another file"


def _asked(prompt: str) -> Secret:
    try:
        return Secret(getpass.getpass(prompt))
    except EOFError:
        return Secret("")


def _stdin() -> IO[bytes]:
    return sys.stdin.buffer


def _text(data: bytes, name: str) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError:
        pass
    # Raised out here: the error carries what was read, and would ride along as the context.
    raise InputError(f"{name} is not UTF-8")


def _bytes(value: Secret) -> bytes:
    return value().encode("utf-8", "surrogatepass")  # which JSON can carry, and no error about must quote
