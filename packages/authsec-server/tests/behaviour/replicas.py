"""An authority of several server processes on one PostgreSQL, as in production: real `authsec-server serve` commands.

Whoever asks for `base_url` gets the address of the next one each time, so that what a test does goes round all of them.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import httpx
from behaviour.balancing import Balanced, Balancer
from behaviour.shared_clock import SharedClock

from authsec_server._environment import variable
from authsec_server.authority import Authority
from authsec_server.settings import ServerSettings
from authsec_server.testing._onboarding import Administered
from authsec_server.testing._port import Port

__all__ = ["Nursery", "Replicas"]

COUNT = 3
PATIENCE = 60.0  # seconds for one reply

T = TypeVar("T")


class Nursery:
    """A process that starts servers quickly, since it has imported everything. For one thread."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("replicas_program.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**_environ(), "PYTHONPATH": str(Path(__file__).parents[1])},
        )

    def close(self) -> None:
        """End it, and all servers that are left."""
        for pipe in (self._process.stdin, self._process.stdout):
            assert pipe is not None
            pipe.close()
        self._process.wait(PATIENCE)

    def start(self, wanted: Sequence[Mapping[str, Any]]) -> list[int]:
        """Start servers at once and return their ids when they listen; fail with what they said if one does not."""
        pids: list[int | str] = self._ask({"start": [dict(each) for each in wanted]})
        found = [pid for pid in pids if isinstance(pid, int)]
        assert len(found) == len(wanted), f"{pids}\n{Path(wanted[0]['log']).read_text()}"
        return found

    def wait(self, pid: int) -> int:
        """Wait for the end of a server, and return its exit code; below zero the signal that ended it."""
        return int(self._ask({"wait": pid}))

    def _ask(self, what: object) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(what).encode() + b"\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())


class Replicas(Administered):
    """The servers. Their methods block; for one thread, but what goes over HTTP is for all.

    Args:
        nursery: Starts them.
        folder: For their logs.
        database_url: An initialised one.
        admin_token: The first admin's.
        clocks: What each of them goes by; by default the system's.
        settings: Of all servers.
    """

    def __init__(
        self,
        nursery: Nursery,
        folder: Path,
        *,
        database_url: str,
        admin_token: str,
        clocks: Sequence[SharedClock] = (),
        **settings: Any,
    ) -> None:
        self._nursery = nursery
        self._log = folder / "servers.log"
        self._ports = [Port() for _ in range(COUNT)]
        self._pids: dict[int, int] = {}
        self._turn = itertools.cycle(range(COUNT))
        self._clocks = [str(clock.file) for clock in clocks] or [""] * COUNT
        self.admin_token = admin_token
        self._balancer = Balancer([port.number for port in self._ports])
        public_url = f"http://127.0.0.1:{self._balancer.port}"
        self._given = {"database_url": database_url, "public_url": public_url, **settings}
        self.settings = ServerSettings(**self._given)
        self._client: httpx.Client | None = None

    def __enter__(self) -> Replicas:
        self.start(*range(len(self._ports)))
        self._client = httpx.Client(
            base_url=f"{self.settings.public_url}/api/v1",
            headers={"Authorization": f"Bearer {self.admin_token}"},
            timeout=PATIENCE,
            transport=Balanced(*self.base_urls),
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.client.close()
        self.stop(*self._pids)
        self._balancer.close()
        for port in self._ports:
            port.release()
        if error is not None:
            sys.stdout.write(f"the servers said:\n{self.log[-20_000:]}\n")  # shown, since the test fails

    @property
    def base_urls(self) -> list[str]:
        """Where each of them is reached."""
        return [f"http://127.0.0.1:{port.number}" for port in self._ports]

    @property
    def base_url(self) -> str:
        """Where the next of them is reached."""
        return self.base_urls[next(self._turn)]

    @property
    def issuer(self) -> str:
        """The `iss` of their tokens."""
        return self.settings.issuer

    @property
    def jwks_url(self) -> str:
        """Where the next of them has its public keys."""
        return f"{self.base_url}/authsec/.well-known/jwks.json"

    @property
    def client(self) -> httpx.Client:
        """An HTTP client for the admin API, with the first admin's token, whose requests go round all of them."""
        assert self._client is not None
        return self._client

    @property
    def log(self) -> str:
        """What they have said."""
        return self._log.read_text(errors="replace")

    def start(self, *numbers: int) -> None:
        """Start these, and wait until they listen."""
        wanted = []
        for number in numbers:
            port = self._ports[number].number
            given = {variable(name): _text(value) for name, value in self._given.items()}
            argv = ["serve", "--json", "--port", str(port)]
            clock = self._clocks[number]
            wanted.append({"environ": given, "argv": argv, "log": str(self._log), "clock": clock})
        self._pids.update(zip(numbers, self._nursery.start(wanted), strict=True))

    def stop(self, *numbers: int) -> None:
        """Have these end in order."""
        self.end(signal.SIGTERM, *numbers)

    def end(self, how: signal.Signals, *numbers: int) -> None:
        """Send these a signal, and wait until they are gone."""
        ending = [self._pids.pop(number) for number in numbers]
        for pid in ending:
            os.kill(pid, how)
        for pid in ending:
            self._nursery.wait(pid)

    def restart(self, number: int) -> None:
        """Stop one in order, and start its successor."""
        self.stop(number)
        self.start(number)

    def run(self, work: Callable[[Authority], Awaitable[T]]) -> T:
        """Run `work` with an authority that is opened here, on the same database: none of the servers sees it."""

        async def opened() -> T:
            async with Authority.open(self.settings) as authority:
                return await work(authority)

        return asyncio.run(opened())


def _environ() -> dict[str, str]:
    # Without coverage: the same tests have it in this process, and three servers would take turns with it.
    return {name: value for name, value in os.environ.items() if not name.startswith(("AUTHSEC_", "COVERAGE_"))}


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
