"""The authority as a user runs it: `authsec-server serve --dev` in a process of its own, which a test may kill.

It reads what the command says on stdout, and knows nothing of what is served.
"""

from __future__ import annotations

import atexit
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from concurrent.futures import Future, TimeoutError
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final

import httpx

from authsec_server.testing._child import Child
from authsec_server.testing._onboarding import Administered, admin_client
from authsec_server.testing._port import Port

__all__ = ["DevAuthority"]

_PATIENCE: Final = 60.0  # seconds, for starting on a busy machine
_GRACE: Final = 15.0  # seconds that an orderly end may take
_SIGKILL: Final = getattr(signal, "SIGKILL", signal.SIGTERM)  # Windows has one way to end a process


class DevAuthority(Administered):
    """`authsec-server serve --dev` on a free port of 127.0.0.1, with its data in a temporary folder. Thread-safe.

    It is told nothing of this process's own `AUTHSEC_*` variables, and ends with this process; on Linux even when that
    is killed. In the end its folder is removed.

    Args:
        database_url: Of an empty database, instead of SQLite in its folder.
        environ: More variables for it, such as `AUTHSEC_SERVER_TOKEN_TTL`.

    >>> with DevAuthority() as authority:
    ...     sorted(authority.environ())
    ['AUTHSEC_AGENT_CLIENT_ID', 'AUTHSEC_BASE_URL']
    """

    def __init__(self, *, database_url: str | None = None, environ: Mapping[str, str] | None = None) -> None:
        self._environ = dict(environ or {})
        if database_url is not None:
            self._environ["AUTHSEC_SERVER_DATABASE_URL"] = database_url
        self._owner = os.getpid()
        self._lock = threading.RLock()  # one at a time starts or ends; guards what follows
        self._folder: Path | None = None
        self._port: Port | None = None
        self._child: Child | None = None
        self._said: dict[str, Any] = {}
        self._client: httpx.Client | None = None

    def start(self) -> DevAuthority:
        """Serve; after `stop` or `kill`, on the same port and with the same data. Harmless when it serves.

        Raises:
            RuntimeError: It did not start; the message has what it said, and the end of its log.
        """
        with self._lock:
            if self._child is not None and not self._child.has_ended:
                return self
            self._end(_SIGKILL)
            if self._folder is None:
                self._folder = Path(tempfile.mkdtemp(prefix="authsec-dev-"))
                self._port = Port()
                atexit.register(self.close)
            self._child = self._launched()
            said = self._read_document(self._child)
            self._said |= {name: value for name, value in said.items() if value is not None}  # a token is said once
            self._client = admin_client(self.base_url, self.admin_token)
        return self

    def stop(self) -> None:
        """End it in order. Harmless when it does not run."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        """End it as `kill -9` does."""
        self._end(_SIGKILL)

    def close(self) -> None:
        """End it, and remove its folder. Harmless when closed."""
        if os.getpid() != self._owner:
            return  # a forked child that ends in order gets here, and it is not the child's
        with self._lock:
            self._end(signal.SIGTERM)
            if self._folder is not None and self._port is not None:
                atexit.unregister(self.close)
                self._port.release()
                shutil.rmtree(self._folder, ignore_errors=True)
            self._folder = self._port = None
            self._said = {}

    def __enter__(self) -> DevAuthority:
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
    def base_url(self) -> str:
        """The server's root, for `AUTHSEC_BASE_URL`. The same after a restart."""
        return self._told("base_url")

    @property
    def issuer(self) -> str:
        """The `iss` of its tokens."""
        return self._told("issuer")

    @property
    def jwks_url(self) -> str:
        """Where its public keys are."""
        return f"{self.issuer}/.well-known/jwks.json"

    @property
    def admin_token(self) -> str:
        """The first admin's token."""
        return self._told("admin_token")

    @property
    def client_id(self) -> str:
        """The sample agent's."""
        return self._told("client_id")

    @property
    def agent_key(self) -> str:
        """The sample agent's key, for the vault. Another one after a restart."""
        return self._told("agent_key")

    @property
    def client(self) -> httpx.Client:
        """An HTTP client for the admin API, with the first admin's token: `client.get("/clients")`."""
        if self._client is None:
            raise RuntimeError(_NOT_RUNNING)
        return self._client

    @property
    def pid(self) -> int:
        """Its process id."""
        if self._child is None:
            raise RuntimeError(_NOT_RUNNING)
        return self._child.process.pid

    @property
    def data_dir(self) -> Path:
        """The folder with its data."""
        return self._home() / "data"

    @property
    def log(self) -> str:
        """What it has written to stderr since it was made."""
        return (self._home() / "stderr.log").read_text(errors="replace")

    def environ(self, *, api_base_url: str | None = None) -> dict[str, str]:
        """Return the `AUTHSEC_*` variables that make an SDK client the sample agent, which needs no key."""
        found = {"AUTHSEC_BASE_URL": self.base_url, "AUTHSEC_AGENT_CLIENT_ID": self.client_id}
        return {**found, "AUTHSEC_API_BASE_URL": api_base_url} if api_base_url is not None else found

    def _launched(self) -> Child:
        port = str(self._port.number) if self._port else "0"
        command = [sys.executable, "-m", "authsec_server", "serve", "--dev", "--json"]
        with (self._home() / "stderr.log").open("ab") as log:
            return Child(
                [*command, "--port", port, "--data", str(self.data_dir)],
                cwd=self._home(),
                env={**_without_ours(os.environ), **self._environ},
                death=_SIGKILL,
                stdout=subprocess.PIPE,
                stderr=log,
            )

    def _read_document(self, child: Child) -> dict[str, Any]:
        read: Future[bytes] = Future()
        pipe = child.process.stdout
        threading.Thread(target=_first_document, args=(pipe, read), name="authsec-dev", daemon=True).start()
        try:
            said = json.loads(read.result(_PATIENCE))
        except (ValueError, TimeoutError):
            said = None
        if isinstance(said, dict) and "base_url" in said:
            return said
        self._end(_SIGKILL)
        why = said.get("message") if isinstance(said, dict) else "it said nothing that can be read"
        raise RuntimeError(f"authsec-server did not start: {why}\n{self.log[-2000:]}")

    def _end(self, how: int) -> None:
        with self._lock:
            if self._client is not None:
                self._client.close()
                self._client = None
            if self._child is None:
                return
            self._child.send(how)
            if not self._child.wait(_GRACE):
                self._child.send(_SIGKILL)
                self._child.wait(_GRACE)
            if self._child.process.stdout is not None:
                self._child.process.stdout.close()
            self._child = None

    def _home(self) -> Path:
        if self._folder is None:
            raise RuntimeError(_NOT_RUNNING)
        return self._folder

    def _told(self, name: str) -> str:
        if name not in self._said:
            raise RuntimeError(_NOT_RUNNING)
        return str(self._said[name])


_NOT_RUNNING: Final = "the authority does not run: use it in a with block, or call start()"


def _first_document(pipe: IO[bytes], read: Future[bytes]) -> None:
    try:
        said = pipe.readline()
        # One line when it serves; an error is a document of several, after which it ends.
        read.set_result(said if said.rstrip().endswith(b"}") else said + pipe.read())
    except (OSError, ValueError):  # closed, because it took too long
        read.set_result(b"")


def _without_ours(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environ.items() if not name.upper().startswith("AUTHSEC_")}
