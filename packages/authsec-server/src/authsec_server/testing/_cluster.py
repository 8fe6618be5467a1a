"""One PostgreSQL cluster: its private folder, its port, and the processes that serve it. Not thread-safe.

What is asked of it in SQL, and who may ask, is for `LocalPostgres`.
"""

from __future__ import annotations

import ctypes
import os
import select
import shutil
import signal
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from authsec_core._clock import SYSTEM_CLOCK
from authsec_server.testing._binaries import installation, ordinary_user, private_folder, runnable_by
from authsec_server.testing._child import Child, User
from authsec_server.testing._port import Port

__all__ = ["ENVIRONMENT", "PATIENCE", "ROLE", "Cluster"]

ROLE: Final = "authsec"
PATIENCE: Final = 30.0  # seconds that one step may take on a busy machine
ENVIRONMENT: Final = {"LC_ALL": "C", "TZ": "UTC", "PATH": os.defpath}
_PAUSE: Final = 0.005  # seconds between two looks
_PORTS_TO_TRY: Final = 5
_REMOVE: Final = 0  # IPC_RMID, on Linux and macOS
# A password of 256 random bits needs no slow hash. Dynamic shared memory is kept in the folder, so that a `kill -9`
# leaves none behind in the machine's.
_SETTINGS: Final = ("scram_iterations=1", "dynamic_shared_memory_type=mmap", "max_connections=200")


class Cluster:
    """A cluster that is made now, and not started yet.

    Args:
        password: Of the one role.
        settings: Of the server, as `name=value`.

    Raises:
        ConfigurationError: PostgreSQL is not installed, or cannot be used here.
        RuntimeError: It could not be made.
    """

    def __init__(self, password: str, settings: Sequence[str]) -> None:
        installed = installation()
        self.psql = installed / "bin" / "psql"  # runs with our own rights, and where it is
        self._settings = tuple(settings)
        self._user = ordinary_user()
        self._folder = private_folder(self._user)
        self._data = self._folder / "data"
        self._log = self._folder / "postgres.log"
        self._processes: _Processes | None = None
        self._has_been_up = False
        self._port = Port()
        try:
            self._programs = runnable_by(self._user, installed, self._folder) / "bin"
            self._initialise(password)
        except BaseException:
            self.remove()
            raise

    @property
    def port(self) -> int:
        """Where it listens, on 127.0.0.1."""
        return self._port.number

    @property
    def pid(self) -> int | None:
        """The postmaster's process id; None where it does not run."""
        processes = self._processes
        return None if processes is None or processes.have_ended else processes.pid

    def start(self) -> None:
        """Start it, where it does not run, and wait until it takes connections.

        Raises:
            RuntimeError: It did not start; the message has the end of its log.
        """
        if self.pid is not None:
            return
        self.end(signal.SIGKILL)
        for _ in range(_PORTS_TO_TRY):
            self._processes = self._launched()
            if self._is_ready(self._processes):
                self._has_been_up = True
                return
            self.end(signal.SIGKILL)
            if self._has_been_up or "Address already in use" not in self._last_words():
                break
            self._port.change()
        raise RuntimeError(f"PostgreSQL did not start:\n{self._last_words()}")

    def end(self, how: signal.Signals) -> None:
        """Send the postmaster this signal and wait until all of its processes are gone; nothing where none runs."""
        if self._processes is not None:
            self._processes.end(how)
            self._processes = None

    def remove(self) -> None:
        """Leave nothing of it. It must not run."""
        self._port.release()
        _remove_segment(self._notes())
        shutil.rmtree(self._folder, ignore_errors=True)

    def _initialise(self, password: str) -> None:
        user = self._user
        words = self._folder / "password"
        with os.fdopen(os.open(words, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(password)
        if user is not None:
            os.chown(words, user.uid, user.gid)
        command = [str(self._programs / "initdb"), f"--pgdata={self._data}", f"--pwfile={words}", "--no-sync"]
        command += [f"--username={ROLE}", "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"]
        command += [f"--set={setting}" for setting in _SETTINGS]
        done = subprocess.run(  # noqa: S603 - the wheel's program, and arguments of ours
            command,
            cwd=self._folder,
            env=ENVIRONMENT,
            user=user.uid if user else None,
            group=user.gid if user else None,
            extra_groups=() if user else None,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        words.unlink()
        if done.returncode != 0:
            raise RuntimeError(f"PostgreSQL's initdb failed:\n{done.stderr.decode(errors='replace')}")

    def _launched(self) -> _Processes:
        listen = (f"port={self.port}", "listen_addresses=127.0.0.1", "unix_socket_directories=")
        options = [word for setting in (*listen, *self._settings) for word in ("-c", setting)]
        command = [str(self._programs / "postgres"), "-D", str(self._data), *options]
        return _Processes(command, folder=self._folder, log=self._log, user=self._user)

    def _is_ready(self, processes: _Processes) -> bool:
        ends = SYSTEM_CLOCK.steady() + PATIENCE
        while SYSTEM_CLOCK.steady() < ends and not processes.have_ended:
            notes = self._notes()
            if notes[:1] == [str(processes.pid)] and notes[7:] and notes[7].strip() == "ready":
                return True
            SYSTEM_CLOCK.sleep(_PAUSE)
        return False

    def _notes(self) -> list[str]:
        """Return the lines of the file that PostgreSQL keeps about itself: it is there until it stops in order."""
        with suppress(FileNotFoundError):
            return (self._data / "postmaster.pid").read_text().splitlines()
        return []

    def _last_words(self) -> str:
        return self._log.read_text(errors="replace")[-2000:]


class _Processes:
    """A postmaster and its processes. Each of them inherits a pipe, which reads as ended when the last is gone."""

    def __init__(self, command: Sequence[str], *, folder: Path, log: Path, user: User | None) -> None:
        self._alive, inherited = os.pipe()
        try:
            with log.open("wb") as file:
                self._postmaster = Child(
                    command,
                    cwd=folder,
                    env=ENVIRONMENT,
                    death=signal.SIGQUIT,  # on which it ends all of its processes at once
                    user=user,
                    stdout=file,
                    stderr=file,
                    keep=(inherited,),
                )
        except OSError:
            os.close(self._alive)
            raise
        finally:
            os.close(inherited)

    @property
    def pid(self) -> int:
        return self._postmaster.process.pid

    @property
    def have_ended(self) -> bool:
        return self._postmaster.has_ended

    def end(self, how: signal.Signals) -> None:
        for sent in dict.fromkeys((how, signal.SIGQUIT, signal.SIGKILL)):
            self._postmaster.send(sent)
            if self._postmaster.wait(PATIENCE):
                break
        watched = select.poll()
        watched.register(self._alive)
        watched.poll(PATIENCE * 1000)
        os.close(self._alive)


def _remove_segment(notes: list[str]) -> None:
    """Remove the few bytes of the machine's shared memory by which PostgreSQL knows that its folder is in use.

    It does that itself, unless it was killed; its notes, which are then still there, say which segment it is.
    """
    numbers = notes[6].split() if notes[6:] else []
    if len(numbers) == 2:
        ctypes.CDLL(None).shmctl(int(numbers[1]), _REMOVE, None)
