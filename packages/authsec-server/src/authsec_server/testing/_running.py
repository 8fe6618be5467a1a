"""The authority in this process, over real HTTP: the app in a thread with a loop of its own, for tests.

Where a process of its own matters (to kill it, or to run the command), it is `DevAuthority`.
"""

from __future__ import annotations

import asyncio
import shutil
import socket
import tempfile
import threading
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from pathlib import Path
from types import TracebackType
from typing import Any, Final, TypeVar

import httpx
import uvicorn
from fastapi import FastAPI

from authsec_core._clock import SYSTEM_CLOCK, Clock
from authsec_server.app import create_app
from authsec_server.authority import Authority, initialise
from authsec_server.keys.masterkey import create_master_key
from authsec_server.serving import uvicorn_config
from authsec_server.settings import ServerSettings
from authsec_server.testing._onboarding import Administered, admin_client
from authsec_server.testing._port import Port

__all__ = ["RunningAuthority"]

_PATIENCE: Final = 60.0  # seconds, for starting on a busy machine
_BACKLOG: Final = 1024
_LAST_REQUESTS: Final = 5  # seconds that running requests are given when it is stopped

T = TypeVar("T")


class RunningAuthority(Administered):
    """An authority on a free port of 127.0.0.1, with a new database and its first admin. Thread-safe.

    It is configured as in production (agents prove who they are) unless `dev=True`. Without a `database_url` it uses
    SQLite, in a private temporary folder that is removed in the end. The environment's settings count, as for `serve`.

    Args:
        clock: What the authority goes by. A `FakeClock` moves only when the test moves it.
        chores: Rotate keys and write checkpoints by themselves. Not with a `FakeClock`, by which they would never rest.
        settings: Of `ServerSettings`.

    Raises:
        ConfigurationError: The settings are wrong or unsafe.

    >>> with RunningAuthority() as authority:
    ...     agent = authority.onboard("read:metrics")
    ...     sorted(agent.environ())
    ['AUTHSEC_AGENT_CLIENT_ID', 'AUTHSEC_AGENT_KEY', 'AUTHSEC_BASE_URL']
    """

    def __init__(self, *, clock: Clock = SYSTEM_CLOCK, chores: bool = False, **settings: Any) -> None:
        self._clock = clock
        self._chores = chores
        self._given = settings
        self._origin: RunningAuthority | None = None  # whose replica it is
        self._lock = threading.RLock()  # one at a time starts or ends; guards what follows
        self._folder: Path | None = None
        self._port: Port | None = None
        self._settings: ServerSettings | None = None
        self._admin_token = ""
        self._serving: _Serving | None = None
        self._client: httpx.Client | None = None

    def replica(self, **settings: Any) -> RunningAuthority:
        """Return another server of the same authority: same database, keys and issuer, another port. Not started.

        Args:
            settings: That differ from this one's.
        """
        twin = RunningAuthority(clock=self._clock, chores=self._chores, **{**self._given, **settings})
        twin._origin = self
        return twin

    def start(self) -> RunningAuthority:
        """Serve; after `stop`, on the same port and with the same data. Harmless when it serves.

        Raises:
            AuthSecError: It cannot serve with these settings, or its database cannot be used.
        """
        with self._lock:
            if self._serving is None:
                settings = self._settings = self._settings or self._made()
                serving = _Serving(settings, self._clock, chores=self._chores)
                self._admin_token = serving.start(first=not self._admin_token) or self._admin_token
                self._serving = serving
                self._client = admin_client(self.base_url, self._admin_token)
        return self

    def stop(self) -> None:
        """End every connection and stop serving; what was stored stays. Harmless when it does not serve."""
        with self._lock:
            if self._client is not None:
                self._client.close()
                self._client = None
            if self._serving is not None:
                self._serving.stop()
                self._serving = None

    def close(self) -> None:
        """Stop, and remove its folder. Harmless when closed. A database that was named stays."""
        with self._lock:
            self.stop()
            if self._port is not None:
                self._port.release()
            if self._folder is not None:
                shutil.rmtree(self._folder, ignore_errors=True)
            self._port = self._folder = self._settings = None
            self._admin_token = ""

    def __enter__(self) -> RunningAuthority:
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
    def settings(self) -> ServerSettings:
        """What it serves with."""
        return self._must(self._settings)

    @property
    def base_url(self) -> str:
        """Where this server is reached, for `AUTHSEC_BASE_URL`."""
        return self.settings.listen_url

    @property
    def issuer(self) -> str:
        """The `iss` of its tokens; of a replica, the other's."""
        return self.settings.issuer

    @property
    def jwks_url(self) -> str:
        """Where this server has its public keys."""
        return f"{self.base_url}/authsec/.well-known/jwks.json"

    @property
    def admin_token(self) -> str:
        """The first admin's token."""
        self._must(self._serving)
        return self._admin_token

    @property
    def client(self) -> httpx.Client:
        """An HTTP client for the admin API, with the first admin's token: `client.get("/clients")`."""
        return self._must(self._client)

    def run(self, work: Callable[[Authority], Awaitable[T]]) -> T:
        """Run `work` with the authority itself, on its own loop, and return what it returns. Not from that loop."""
        return self._must(self._serving).run(work)

    def _made(self) -> ServerSettings:
        port = self._port = self._port or Port()
        given = dict(self._given)
        if self._origin is not None:
            given = {**_shared(self._origin.settings), **given}
            self._admin_token = self._origin.admin_token
        elif "data_dir" not in given:
            self._folder = self._folder or Path(tempfile.mkdtemp(prefix="authsec-authority-"))
            given["data_dir"] = self._folder
        given.setdefault("public_url", f"http://127.0.0.1:{port.number}")
        settings = ServerSettings(**given, port=port.number)
        key_file = settings.master_key_file if settings.master_key is None else None
        if key_file is not None and not key_file.exists():
            create_master_key(key_file)
        return settings

    def _must(self, part: T | None) -> T:
        if part is None:
            raise RuntimeError("the authority does not run: use it in a with block, or call start()")
        return part


class _Serving:
    """The thread, its loop, and the HTTP server on it."""

    def __init__(self, settings: ServerSettings, clock: Clock, *, chores: bool) -> None:
        self._settings, self._clock = settings, clock
        self._app: FastAPI = create_app(settings, clock=clock, chores=chores)
        self._http = _Http(self._app, settings, clock)
        self._begun: Future[str | None] = Future()
        self._loop: asyncio.AbstractEventLoop | None = None

    def start(self, *, first: bool) -> str | None:
        """Serve; return the first admin's token where the authority was made just now."""
        self._thread = threading.Thread(target=self._run, args=(first,), name="authsec-authority", daemon=True)
        self._thread.start()
        return self._begun.result(_PATIENCE)

    def stop(self) -> None:
        self._http.should_exit = True
        self._thread.join(_PATIENCE)

    def run(self, work: Callable[[Authority], Awaitable[T]]) -> T:
        async def done() -> T:
            return await work(self._app.state.authority)

        if self._loop is None:
            raise RuntimeError("the authority does not run")
        return asyncio.run_coroutine_threadsafe(done(), self._loop).result(_PATIENCE)

    def _run(self, first: bool) -> None:
        try:
            asyncio.run(self._serve(first))
        except BaseException as exc:  # whoever waits in `start` raises it
            if self._begun.done():
                raise
            self._begun.set_exception(exc)

    async def _serve(self, first: bool) -> None:
        settings = self._settings
        self._loop = asyncio.get_running_loop()
        token = await self._initialised() if first else None
        if not first:  # else uvicorn would only log why it cannot be opened
            async with Authority.open(settings, clock=self._clock):
                pass
        self._http.when_started = lambda: self._begun.set_result(token)
        with socket.create_server((settings.host, settings.port), backlog=_BACKLOG) as listener:
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)  # for the reason in `cli/_serve.py`
            await self._http.serve(sockets=[listener])
        if not self._begun.done():
            raise RuntimeError("the authority did not start: see the log of uvicorn.error")

    async def _initialised(self) -> str:
        credential = await initialise(self._settings, clock=self._clock)
        return credential.text()


class _Http(uvicorn.Server):
    """A server that says when it has started."""

    def __init__(self, app: FastAPI, settings: ServerSettings, clock: Clock) -> None:
        super().__init__(uvicorn_config(app, settings, last_requests=_LAST_REQUESTS, clock=clock))
        self.when_started: Callable[[], object] = lambda: None

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self.when_started()


def _shared(settings: ServerSettings) -> dict[str, Any]:
    """Return what replicas of one authority have in common."""
    return {
        "dev": settings.dev,
        "data_dir": settings.data_dir,
        "database_url": settings.database_url.get_secret_value(),
        "public_url": settings.public_url,
        "trust_domain": settings.trust_domain,
        "tenant_id": settings.tenant_id,
    }
