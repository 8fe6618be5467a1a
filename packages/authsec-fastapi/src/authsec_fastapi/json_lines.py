"""Events in a file, one on each line. Several processes may share it, and `logrotate` may move it away.

Each event is one write at the end of the file, under a lock that all who write like this respect. What a full disk or a
crash left of a line is taken away or ended, so that it swallows no other.
"""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from authsec_core._fork import renew_after_fork
from authsec_core.errors import ConfigurationError
from authsec_fastapi._grouping import Grouped, Outcome
from authsec_fastapi.audit import AuditEvent

try:
    import fcntl
except ImportError:  # Windows: one process for each file
    fcntl = None  # type: ignore[assignment]  # what stands for a module that is not there

__all__ = ["JsonLinesSink"]

_MOST: Final = 512  # events in one go
_LARGEST: Final = 1024 * 1024  # bytes
_WAITING: Final = 4096


class JsonLinesSink:
    """Appends each event to a file as a line of JSON. Thread-safe, loop-safe, and a child process has its own.

    `arecord` writes on a thread, and so does `record` where it is durable: what waits goes into the file together.

    Args:
        path: Made for its owner alone (0600) if it is not there. A symbolic link is refused, not followed; the folders
            before it may be some.
        durable: Wait until the disk has it. Else a crash of the machine, not of the process, can lose what is younger
            than some seconds.

    Raises:
        ConfigurationError: The file cannot be written to, or is none.
    """

    def __init__(self, path: str | Path, *, durable: bool = False) -> None:
        self._path = Path(path).absolute()
        self._durable = durable
        self._lock = threading.Lock()  # guards the descriptor and what stands at the file's end, within this process
        self._descriptor: int | None = None
        self._closed = False
        try:
            self._open()
        except OSError as exc:
            raise ConfigurationError(f"the audit cannot be written to {self._path}: {exc.strerror}") from exc
        self._grouped = Grouped(self._write, most=_MOST, largest=_LARGEST, waiting=_WAITING)
        renew_after_fork(self)

    def record(self, event: AuditEvent) -> None:
        """Return once the event is in the file.

        Raises:
            OSError, AuditUnavailableError: It is not.
        """
        line = _line(event)
        if self._durable:
            self._grouped.write(line, yields=event.yields)
        else:
            self._write([line])

    async def arecord(self, event: AuditEvent) -> None:
        """Do what `record` does, without blocking the loop."""
        await self._grouped.awrite(_line(event), yields=event.yields)

    def reopen(self) -> None:
        """Write to the file that has the path now: after `logrotate` has moved the old one away.

        Raises:
            OSError: It cannot be opened; the old one is still written to.
        """
        with self._lock:
            self._open()

    def close(self) -> None:
        """Let go of the file. May be called twice; what is recorded after it fails."""
        with self._lock:
            self._closed = True
            self._let_go()

    def after_fork(self) -> None:
        """Have a descriptor of one's own: a lock on the parent's is the parent's, too."""
        self._lock = threading.Lock()
        self._let_go()

    def _open(self) -> None:
        descriptor = _opened(self._path)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            os.close(descriptor)
            raise OSError(0, "it is not a regular file")
        if self._durable:
            _keep_name(self._path.parent)
        self._let_go()
        self._descriptor = descriptor

    def _let_go(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _write(self, lines: Sequence[bytes]) -> list[Outcome]:
        with self._lock:
            if self._closed:
                raise OSError("the file of the audit was closed")
            if self._descriptor is None or os.fstat(self._descriptor).st_nlink == 0:
                self._open()  # after a fork; or what is written would go into a file that has no name any more
            descriptor = self._descriptor
            assert descriptor is not None
            _append(descriptor, b"".join(lines))
            if self._durable:
                os.fsync(descriptor)
        return [None] * len(lines)


def _opened(path: Path) -> int:
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT
    # O_NONBLOCK: a pipe without a reader must not stop the start. O_NOFOLLOW: who may write to the folder, and not to
    # the file that they have in mind, must not have a service do it for them. Windows has none of the three.
    for name in ("O_CLOEXEC", "O_NONBLOCK", "O_NOFOLLOW"):
        flags |= getattr(os, name, 0)
    try:
        return os.open(path, flags, 0o600)
    except OSError as exc:
        if path.is_symlink():  # else it is "too many levels", or something else on another system
            raise OSError(exc.errno, "it is a symbolic link: name the file that it leads to") from exc
        raise


def _line(event: AuditEvent) -> bytes:
    return event.to_json().encode("ascii") + b"\n"


def _append(descriptor: int, data: bytes) -> None:
    """Write all of it at the end, or nothing."""
    if fcntl is not None:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        end = os.fstat(descriptor).st_size
        if end and _last(descriptor, end) != b"\n":
            data = b"\n" + data  # of a line that a crash cut off
        try:
            written = os.write(descriptor, data)
        except OSError:
            os.ftruncate(descriptor, end)
            raise
        if written != len(data):
            os.ftruncate(descriptor, end)
            raise OSError("the disk took only a part of the line, which was taken away again")
    finally:
        if fcntl is not None:
            fcntl.flock(descriptor, fcntl.LOCK_UN)


def _last(descriptor: int, end: int) -> bytes:
    os.lseek(descriptor, end - 1, os.SEEK_SET)  # Windows has no pread; what is written goes to the end anyhow
    return os.read(descriptor, 1)


def _keep_name(folder: Path) -> None:
    """Have the disk know that there is such a file."""
    if hasattr(os, "O_DIRECTORY"):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
