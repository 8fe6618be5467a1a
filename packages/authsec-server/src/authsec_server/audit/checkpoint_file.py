"""The file that checkpoints are exported to: one JWS on each line, appended and flushed to the disk, never rewritten.

It may end in the middle of a line, if the machine stopped there: that is reported, and what comes next begins on a line
of its own. What the lines say is for `checkpoints`.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

__all__ = ["CheckpointFile", "Line"]

_LONGEST: Final = 16384  # bytes of a line; a longer one is none of ours, and is not kept in memory


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the file.

    Attributes:
        number: From 1.
        whole: Whether it ends in a line break and could be read in full.
    """

    number: int
    text: str
    whole: bool


class CheckpointFile:
    """One file of checkpoints. Opened for each use, so that it may be moved away while the server runs.

    Args:
        path: Made when something is first appended, readable by its owner only.
    """

    def __init__(self, path: Path) -> None:
        self.path: Final = path

    def append(self, checkpoints: Iterable[str], *, after: int | None = None) -> int | None:
        """Add lines, and return the file's size when they are on the disk.

        Args:
            after: The size that the file must have for it: with another one nothing is added, and None returned.

        Raises:
            OSError: They are not, or not all of them.
        """
        data = "".join(f"{jws}\n" for jws in checkpoints).encode("ascii")
        # Not through a link: whoever may write to the folder could have the server append to a file of their choice.
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
        descriptor = os.open(self.path, flags, 0o600)
        with os.fdopen(descriptor, "r+b", buffering=0) as file:
            _lock(descriptor)
            size = file.seek(0, os.SEEK_END)
            if after is not None and size != after:
                return None
            if size:
                file.seek(size - 1)
                data = data if file.read(1) == b"\n" else b"\n" + data
            while data:
                data = data[file.write(data) :]
            os.fsync(descriptor)
            end = file.seek(0, os.SEEK_END)
        if not size:
            _sync_folder(self.path.parent)
        return end

    def size(self) -> int:
        """Return how many bytes it has; none where there is no file.

        Raises:
            OSError: It cannot be looked at.
        """
        try:
            return self.path.stat().st_size
        except FileNotFoundError:
            return 0

    def read(self, *, size: int | None = None) -> Iterator[Line]:
        """Return the lines that are there, the blank ones left out; none where there is no file.

        Args:
            size: Read no further than this byte.

        Raises:
            OSError: The file cannot be read.
        """
        try:
            file = self.path.open("rb")
        except FileNotFoundError:
            return
        with file:
            left = os.fstat(file.fileno()).st_size if size is None else size
            number = 0
            while left > 0 and (raw := file.readline(min(left, _LONGEST))):
                number, left = number + 1, left - len(raw)
                text = raw.decode("ascii", "replace").strip()
                if text:
                    yield Line(number, text, raw.endswith(b"\n"))


def _lock(descriptor: int) -> None:
    """Let the workers of one server append one after the other; the system ends it when the file is closed."""
    if sys.platform != "win32":  # one worker is all that there is there
        import fcntl

        fcntl.flock(descriptor, fcntl.LOCK_EX)


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # has no such thing
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
