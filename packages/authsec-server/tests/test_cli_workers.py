"""`serve --workers`: several processes at one address, which come and go while nobody who asks notices."""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import cast

import httpx
import pytest
from behaviour.support import BARE
from server_cli_support import Desk

from authsec_core._clock import SYSTEM_CLOCK
from authsec_core.testing import FakeClock
from authsec_core.wire import DELEGATION_TOKEN_PATH
from authsec_server.audit.verify import verify_database
from authsec_server.cli import _database, _serve, _workers
from authsec_server.cli._arguments import parse
from authsec_server.db.engine import Database

PATIENCE = 60.0  # seconds: a guard against what never comes
pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes as only Linux shows them")


class Supervised:
    """A server with workers, in processes of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        self.process = process
        self._lines: list[str] = []
        self._more = threading.Condition()  # guards the lines
        threading.Thread(target=self._read, daemon=True).start()
        self.served: dict[str, str] = json.loads(process.stdout.readline())

    def workers(self) -> set[int]:
        """Return the ids of the processes that it has started."""
        pid = self.process.pid
        return {int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}

    def wait_for(self, words: str, *, times: int = 1) -> None:
        """Wait until its log has these words so often."""
        with self._more:
            found = self._more.wait_for(lambda: sum(words in line for line in self._lines) >= times, PATIENCE)
            assert found, self._lines

    def ask(self, client: httpx.Client | None = None) -> httpx.Response:
        """Ask for a token, on a new connection unless a client is given."""
        url = f"{self.served['base_url']}{DELEGATION_TOKEN_PATH}"
        params = {"client_id": self.served["client_id"]}
        if client is not None:
            return client.get(url, params=params)
        return httpx.get(url, params=params, trust_env=False, verify=BARE, timeout=PATIENCE)

    @property
    def log(self) -> str:
        """What it has said."""
        with self._more:
            return "".join(self._lines)

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._more:
                self._lines.append(line)
                self._more.notify_all()


@contextmanager
def supervised(folder: Path) -> Iterator[Supervised]:
    """Run a try-out with two workers."""
    argv = [sys.executable, "-m", "authsec_server", "serve", "--dev", "--json", "--port", "0", "--workers", "2"]
    environ = {name: value for name, value in os.environ.items() if not name.startswith("AUTHSEC_")}
    with subprocess.Popen(
        argv, cwd=folder, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, encoding="utf-8"
    ) as process:
        try:
            yield Supervised(process)
        finally:
            process.kill()


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Supervised]:
    """One for all tests that leave it as it was. In the end it is killed, and nothing survives it."""
    with supervised(tmp_path_factory.mktemp("workers")) as found:
        found.wait_for("Application startup complete", times=2)
        yield found
        assert "Traceback" not in found.log, found.log
        nothing_survives(found)


def nothing_survives(server: Supervised) -> None:
    """Kill the command, and see that the system kills its workers, and that its port is free."""
    ends = [os.pidfd_open(pid) for pid in server.workers()]  # type: ignore[attr-defined,unused-ignore]  # on Linux only
    server.process.kill()
    for descriptor in ends:
        assert select.select([descriptor], [], [], PATIENCE)[0], "it is still there"
        os.close(descriptor)
    server.process.wait(PATIENCE)
    with socket.create_server(("127.0.0.1", int(server.served["base_url"].rpartition(":")[2]))):
        pass


class Load:
    """Someone who asks for tokens without a pause, each time on a new connection; every answer has to be good."""

    def __init__(self, server: Supervised) -> None:
        self._server = server
        self._enough = threading.Event()
        self.answers = 0

    def __enter__(self) -> Load:
        self._threads = ThreadPoolExecutor(2)
        self._tasks = [self._threads.submit(self._go_on) for _ in range(2)]
        return self

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        self._threads.shutdown()
        self.answers = sum(task.result() for task in self._tasks)

    def _go_on(self) -> int:
        count = 0
        while not self._enough.is_set():
            reply = self._server.ask()
            assert reply.status_code == 200, reply.text
            count += 1
        return count


def test_workers_share_an_address(server: Supervised) -> None:
    """Two processes answer at it, one database has what both did, and its audit has one order."""
    assert len(server.workers()) == 2
    jtis = {server.ask().json()["jti"] for _ in range(20)}
    assert len(jtis) == 20
    url = f"sqlite:///{Path(server.served['data_dir']) / 'authsec.db'}"

    async def verify() -> int:
        database = Database(url, clock=SYSTEM_CLOCK, timeout=60.0)
        try:
            return (await verify_database(database)).entries
        finally:
            await database.close()

    assert _database.run(verify) >= 20


def test_workers_count_together(server: Supervised) -> None:
    """Whichever answers, `/metrics` has what all of them did; also those that are gone."""

    def issued() -> float:
        proof = {"Authorization": f"Bearer {server.served['admin_token']}"}
        url = f"{server.served['base_url']}/metrics"
        text = httpx.get(url, headers=proof, trust_env=False, verify=BARE, timeout=PATIENCE).text
        (line,) = [line for line in text.splitlines() if line.startswith("authsec_tokens_issued_total ")]
        return float(line.split()[1])

    before = issued()
    for _ in range(6):
        assert server.ask().status_code == 200
    assert [issued() for _ in range(6)] == [before + 6] * 6


def test_workers_are_replaced_one_by_one(server: Supervised) -> None:
    """After SIGHUP all are new, and everyone who asked meanwhile was answered."""
    before = server.workers()
    with Load(server) as load:
        server.process.send_signal(signal.SIGHUP)
        server.wait_for("all workers were replaced")
    assert load.answers > 0
    assert not before & server.workers()
    assert len(server.workers()) == 2


@pytest.mark.req("RO2")
def test_a_worker_that_is_killed_is_replaced(server: Supervised) -> None:
    """What waits at its socket is answered by the next one, and connections to the other go on."""
    begun = server.log.count("Application startup complete")
    lost = min(server.workers())
    os.kill(lost, signal.SIGKILL)
    server.wait_for(f"(process {lost}) ended by itself (-9)")
    assert [server.ask().status_code for _ in range(10)] == [200] * 10
    server.wait_for("Application startup complete", times=begun + 1)
    assert len(server.workers()) == 2


def test_workers_that_cannot_be_replaced_stay(server: Supervised) -> None:
    """A new one that does not start, here without its master key, costs nothing: it says why, and the old go on."""
    before = server.workers()
    key = Path(server.served["data_dir"]) / "master.key"
    key.rename(key.with_suffix(".away"))
    server.process.send_signal(signal.SIGHUP)
    server.wait_for("a new worker does not start: the old ones go on")
    assert "authsec-server: configuration: " in server.log
    assert server.workers() == before
    assert server.ask().status_code == 200
    key.with_suffix(".away").rename(key)


def test_another_server_cannot_share_the_port(server: Supervised, desk: Desk, tmp_path: Path) -> None:
    """A port of workers is in use for everyone else, also for workers of another authority."""
    port = server.served["base_url"].rpartition(":")[2]
    printed = desk.run("serve", "--dev", "--port", port, "--workers", "2", "--data", str(tmp_path / "x"), "--json")
    assert (printed.code, printed.json["code"]) == (1, "conflict")
    assert "in use" in printed.json["message"]


@pytest.fixture
def desk(clock: FakeClock, capsys: pytest.CaptureFixture[str]) -> Desk:
    """Whoever starts a server in this process, and is refused."""
    return Desk(clock, capsys, None)


@pytest.mark.parametrize(("how", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_signals_end_it_in_order(how: signal.Signals, code: int, tmp_path: Path) -> None:
    """SIGTERM is what it was told to do; Ctrl-C is an interrupt, as for every other command."""
    workers = _workers._Workers([], {}, {}, SYSTEM_CLOCK)

    async def run() -> int:
        asyncio.get_running_loop().call_soon(os.kill, os.getpid(), how)
        return await workers.run()

    if code:
        with pytest.raises(KeyboardInterrupt):
            asyncio.run(run())
    else:
        assert asyncio.run(run()) == code


def test_a_system_that_cannot_share_a_port(desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It says so, before anything is made."""
    monkeypatch.delattr(socket, "SO_REUSEPORT")
    printed = desk.run("serve", "--dev", "--workers", "2", "--port", "0", "--data", str(tmp_path / "x"), "--json")
    assert (printed.code, printed.json["code"]) == (2, "configuration")
    assert "--workers" in printed.json["message"]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("turns", range(6))
def test_whoever_is_told_to_end_ends(turns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where a worker is gone at the very moment: a supervisor that forgot it would go on for ever."""
    monkeypatch.setattr(_workers._Workers, "_forget", lambda *_: None)

    async def run() -> None:
        gone = asyncio.get_running_loop().create_future()

        class Worker:
            returncode = None
            terminate = staticmethod(lambda: None)

            async def wait(self) -> None:
                await gone

        worker = cast("asyncio.subprocess.Process", Worker())
        task = asyncio.ensure_future(_workers._Workers([], {}, {}, SYSTEM_CLOCK)._finish(worker))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        gone.set_result(None)
        for _ in range(turns):
            await asyncio.sleep(0)
        if task.cancel():  # else it was over before
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(run())


def test_the_pause_grows_with_failures() -> None:
    """A worker that was lost is replaced at once; one that cannot start is tried again ever more slowly, to a limit."""
    assert [_workers._pause(early) for early in range(8)] == [0.0, 0.0, 0.5, 1.0, 2.0, 4.0, 5.0, 5.0]


def test_the_setting_and_the_option_agree(monkeypatch: pytest.MonkeyPatch) -> None:
    """`--workers` wins over AUTHSEC_SERVER_WORKERS."""
    monkeypatch.setenv("AUTHSEC_SERVER_WORKERS", "3")
    for argv, expected in ((["--workers", "2"], 2), ([], 3)):
        settings, listener = _serve._listen(parse(["serve", "--dev", "--port", "0", *argv]))
        listener.close()
        assert settings.workers == expected
