"""A process of ours that does not outlive us, whatever ends us: on Linux not even `kill -9` does.

It knows nothing of what runs in it. Elsewhere than on Linux a `kill -9` of this process leaves the child running.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import IO

__all__ = ["Child", "User"]

_LAUNCHER = Path(__file__).with_name("_launch.py")


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """Whose rights a child has."""

    uid: int
    gid: int


class Child:
    """A running process. Thread-safe.

    A thread starts it and waits for it, and does nothing else: Linux sends the signal of a parent's death when the
    *thread* that started the child ends, so that a thread of the caller's would not do.

    Args:
        command: The program's absolute path, and its arguments.
        cwd: A folder that the child may enter.
        env: All of its environment.
        death: The signal that our own end sends it, on Linux.
        user: Whose rights it has; ours by default.
        stdout: As for `subprocess.Popen`, like `stderr`.
        keep: Descriptors that it inherits.

    Attributes:
        process: What was started; its pipes, if there are any, are the caller's to close.

    Raises:
        OSError: It could not be started.
    """

    def __init__(
        self,
        command: Sequence[str],
        *,
        cwd: Path,
        env: Mapping[str, str],
        death: int,
        user: User | None = None,
        stdout: IO[bytes] | int = subprocess.DEVNULL,
        stderr: IO[bytes] | int = subprocess.DEVNULL,
        keep: Sequence[int] = (),
    ) -> None:
        launched = _launched(command, death, user)

        def start() -> subprocess.Popen[bytes]:
            return subprocess.Popen(  # noqa: S603 - what our own modules ask for
                launched,
                cwd=cwd,
                env=dict(env),
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                pass_fds=tuple(keep),
            )

        self._process: Future[subprocess.Popen[bytes]] = Future()
        self._thread = threading.Thread(target=self._run, args=(start,), name="authsec-child", daemon=True)
        self._thread.start()
        self.process = self._process.result()

    @property
    def has_ended(self) -> bool:
        """Whether it has ended."""
        return not self._thread.is_alive()

    def send(self, signal: int) -> None:
        """Send it a signal; nothing where it has ended."""
        self.process.send_signal(signal)

    def wait(self, timeout: float) -> bool:
        """Wait for its end, for at most `timeout` seconds, and return whether it has come."""
        self._thread.join(timeout)
        return self.has_ended

    def _run(self, start: Callable[[], subprocess.Popen[bytes]]) -> None:
        try:
            process = start()
        except OSError as exc:
            self._process.set_exception(exc)
            return
        self._process.set_result(process)
        process.wait()


def _launched(command: Sequence[str], death: int, user: User | None) -> list[str]:
    if os.name != "posix":
        return list(command)
    whose = "-" if user is None else f"{user.uid}:{user.gid}"
    return [sys.executable, "-I", "-S", str(_LAUNCHER), str(os.getpid()), str(int(death)), whose, *command]
