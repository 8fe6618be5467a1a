"""Where a gateway keeps its audit and the tokens of sample callers: a folder that one gateway has at a time.

The audit goes on from one start to the next, and is never deleted. Tokens of an earlier start are replaced: the
authority that signed them is gone.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from authsec_core.errors import ConfigurationError

__all__ = ["held", "write_private"]


@contextlib.contextmanager
def held(folder: Path) -> Iterator[Path]:
    """Provide the folder, which is made if it is not there, to this process alone.

    Raises:
        ConfigurationError: Another gateway has it, or it cannot be written to.
    """
    folder = folder.resolve()
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as exc:
        raise ConfigurationError(f"{folder} cannot be used ({exc.strerror}): name another with `--folder`") from exc
    try:
        _take(lock, folder)
        yield folder
    finally:
        os.close(lock)  # which gives it back, as does whatever else ends the process


def write_private(path: Path, text: str) -> Path:
    """Write a file that nobody else can read, in the place of what was there, and return its path."""
    path.unlink(missing_ok=True)
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    return path


def _take(lock: int, folder: Path) -> None:
    try:
        if sys.platform == "win32":
            import msvcrt

            msvcrt.locking(lock, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as exc:
        raise ConfigurationError(
            f"another gateway uses {folder}: stop that one, or name another folder with `--folder`"
        ) from exc
