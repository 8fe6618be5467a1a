"""What survives when the change of the master key is killed at any moment, while a server serves: everything.

`test_keys_resealing.py` has the rest, without processes.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random  # noqa: TID251 -- with a seed that the test shows when it fails
from typing import Any

import pytest
from crash.wire import CutError, Wire
from crash.zygote import Zygote

from authsec_server.authority import Authority, initialise, system_caller
from authsec_server.keys.masterkey import MasterKey, create_master_key, read_master_keys, replace_master_keys
from authsec_server.settings import ServerSettings
from authsec_server.testing import LocalPostgres
from authsec_server.testing._port import Port

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="forks a process that has imported everything, which only Linux bears"
)

_ROUNDS = 2  # new master keys
_SECRETS = 220  # more than one transaction's worth
_READERS = 4
_ENOUGH = 50  # reads after each command
_PATIENCE = 60.0  # seconds for one of them, on a busy machine
_MOMENTS = {"statement": 12, "commit": 4, "committed": 4}  # and how late at most
_MOST_KILLS = 5  # of one command
_COMMAND = "rotate-master-key"


@pytest.fixture
def chance() -> Random:
    """Decides when it is killed; `CRASH_SEED` repeats what was decided, as far as timing lets it."""
    seed = int(os.environ.get("CRASH_SEED") or secrets.randbits(32))
    sys.stdout.write(f"CRASH_SEED={seed}\n")  # shown when the test fails
    return Random(seed)  # noqa: S311 -- no secret hangs on it


class Scene:
    """A server, agents that read and write secrets there, and the command that changes the master key."""

    def __init__(self, settings: ServerSettings, commands: Zygote, agent_key: str, chance: Random) -> None:
        self.commands = commands
        self.read, self.read_meanwhile = 0, 0  # in all, and while a command was at work
        self._anew = asyncio.Event()
        self._tasks: list[asyncio.Task[None]] = []
        self.written: dict[str, str] = {f"production/{n}": f"value {n}" for n in range(_SECRETS)}
        self._settings = settings
        self._agent_key = agent_key
        self._chance = chance

    @property
    def file(self) -> Path:
        """The master keys."""
        assert self._settings.master_key_file is not None
        return self._settings.master_key_file

    async def fill(self) -> None:
        """Write the secrets."""
        wire = Wire(self._settings.port)
        for path, value in self.written.items():
            await self._ask(wire, "PUT", path, {"value": value}, expect={200, 201})
        await wire.close()

    async def read_all(self) -> None:
        """Read each secret once."""
        wire = Wire(self._settings.port)
        for path, value in self.written.items():
            assert (await self._ask(wire, "GET", path, expect={200}))["value"] == value
        await wire.close()

    @asynccontextmanager
    async def in_use(self) -> AsyncIterator[None]:
        """Have secrets read and written all the while: each read has to give what was written."""
        acts = [*[self._read_on] * _READERS, self._write_on]
        self._tasks = [asyncio.create_task(self._on_and_on(act)) for act in acts]
        try:
            yield
            await self.goes_on()
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)

    async def goes_on(self) -> None:
        """Wait until some more was read; fail where somebody got what was not written."""
        wanted = self.read + _ENOUGH
        while self.read < wanted:
            for task in self._tasks:
                if task.done():
                    task.result()
            self._anew.clear()
            await asyncio.wait_for(self._anew.wait(), _PATIENCE)

    async def command(self, *argv: str) -> int:
        """Run it, killed at random moments, until it comes to its end; return how often it was killed."""
        kills, before = 0, self.read
        while True:
            moment = self._chance.choice(list(_MOMENTS))
            plan = {"moment": moment, "times": self._chance.randint(1, _MOMENTS[moment])}
            code = await asyncio.to_thread(self._run, *argv, **(plan if kills < _MOST_KILLS else {}))
            assert code in (0, -9), f"{argv}: {code}\n{self.commands.log}"
            if code == 0:
                self.read_meanwhile += self.read - before
                await self.goes_on()
                return kills
            kills += 1

    def _run(self, *argv: str, **plan: Any) -> int:
        where = ("--data", str(self._settings.data_dir))
        environment = {
            "AUTHSEC_SERVER_PUBLIC_URL": self._settings.public_url,
            "AUTHSEC_SERVER_DATABASE_URL": self._settings.database_url.get_secret_value(),
            "AUTHSEC_SERVER_DATABASE_TIMEOUT": str(self._settings.database_timeout),
            "AUTHSEC_SERVER_REQUEST_TIMEOUT": str(self._settings.request_timeout),
        }
        return self.commands.run(_COMMAND, *argv, *where, environment=environment, **plan)

    async def _read_on(self, wire: Wire) -> None:
        path = self._chance.choice(list(self.written))
        reply = await self._ask(wire, "GET", path, expect={200})
        assert reply["value"] == self.written[path]
        self.read += 1
        self._anew.set()

    async def _write_on(self, wire: Wire) -> None:
        path = f"production/{len(self.written)}"
        await self._ask(wire, "PUT", path, {"value": path}, expect={200, 201})
        self.written[path] = path

    async def _on_and_on(self, act: Callable[[Wire], Awaitable[None]]) -> None:
        wire = Wire(self._settings.port)
        try:
            while True:
                try:
                    await act(wire)
                except CutError:  # the server is killed now and then
                    await wire.close()
                    await asyncio.sleep(0)
        finally:
            self._anew.set()
            await wire.close()

    async def _ask(self, wire: Wire, method: str, path: str, body: object = None, *, expect: set[int]) -> Any:
        reply = await wire.ask(method, f"/v1/secrets/{path}", bearer=self._agent_key, body=body)
        assert reply.status in expect, f"{method} {path} got {reply.status}: {reply.text!r}"
        return reply.json()


@asynccontextmanager
async def scene(folder: Path, url: str, chance: Random) -> AsyncIterator[tuple[Scene, Zygote]]:
    """Lend an authority whose agent may use the whole vault, and the process that its server is started from."""
    port = Port()
    create_master_key(folder / "master.key")
    wanted: dict[str, Any] = {
        "data_dir": str(folder),
        "database_url": url,
        "port": port.number,
        "public_url": f"http://127.0.0.1:{port.number}",
        "client_rate": 0,
        "refusal_rate": 0,
        "database_timeout": 30.0,
        "request_timeout": 60.0,
    }
    settings = ServerSettings(**wanted)
    await initialise(settings)
    key = await _agent_key(settings)
    try:
        with Zygote(wanted, folder / "servers.log") as servers, Zygote(wanted, folder / "commands.log") as commands:
            servers.start()
            one = Scene(settings, commands, key, chance)
            await one.fill()
            yield one, servers
            servers.kill()
            assert "Traceback" not in servers.log, servers.log
    finally:
        port.release()


async def _agent_key(settings: ServerSettings) -> str:
    caller = system_caller("test")
    async with Authority.open(settings) as authority:
        client, key = await authority.agents.onboard(
            caller, name="agent", agent_type="mcp-agent", platform="docker", selectors={}
        )

        await authority.vault_access.put(caller, client.client_id, namespaces=("*",), scopes=("secrets:*:*",))
        return key.text()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty database of each kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'authsec.db'}"
        return
    server: LocalPostgres = request.getfixturevalue("postgres")
    url = server.create_database()
    yield url
    server.drop_database(url)


@pytest.mark.req("RW4")
def test_no_kill_of_a_new_master_key_costs_anything(url: str, tmp_path: Path, chance: Random) -> None:
    """Twice a new one, each change killed again and again: every read meanwhile gives the secret, and all ends well."""

    async def run() -> None:
        kills = 0
        async with scene(tmp_path, url, chance) as (one, servers):
            async with one.in_use():
                for number in range(_ROUNDS):
                    (old,) = read_master_keys(one.file)
                    replace_master_keys(one.file, [MasterKey.generate(), old])
                    kills += await one.command("--rewrap-only")
                    if number == 1:
                        await asyncio.to_thread(servers.kill)
                        await asyncio.to_thread(servers.start)
                    kills += await one.command("--retire")
                    (new,) = read_master_keys(one.file)
                    assert new != old
            await asyncio.to_thread(servers.kill)
            await asyncio.to_thread(servers.start)  # with the last key alone
            await one.read_all()
        sys.stdout.write(f"{kills} kills, {one.read} reads, {len(one.written)} secrets\n")
        assert kills >= _ROUNDS
        assert one.read_meanwhile > 0, "nothing was read meanwhile"

    asyncio.run(run())
