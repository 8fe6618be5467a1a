"""`authsec-server serve`: with `--dev` it needs nothing; else it refuses in one line what is unsafe or not ready."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from server_cli_support import Desk

from authsec_core import AuthSecClient, AuthSecConfig
from authsec_core._clock import SYSTEM_CLOCK
from authsec_core.testing import FakeClock
from authsec_server.authority import Authority, system_caller
from authsec_server.cli import _files, _serve
from authsec_server.cli._dev import prepare
from authsec_server.errors import ConflictError
from authsec_server.settings import ServerSettings

PATIENCE = 60.0  # seconds: a guard against a server that hangs


class Running:
    """A server in a process of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.lines: list[str] = []

    def line(self) -> str:
        """Return its next line; it fails, with what it said, where it ended before."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            assert self.process.stderr is not None
            raise AssertionError(f"exit code {self.process.wait(PATIENCE)}: {self.process.stderr.read()}")
        self.lines.append(line.rstrip("\n"))
        return self.lines[-1]

    def stop(self, how: signal.Signals = signal.SIGTERM) -> tuple[int, str]:
        """End it, and return its exit code and what is on stderr."""
        self.process.send_signal(how)
        _, err = self.process.communicate(timeout=PATIENCE)
        return self.process.returncode, err


def _heed_interrupts() -> None:
    """Undo what a shell does to jobs in the background: a server that is started there would ignore Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@contextmanager
def started(*argv: str, cwd: Path) -> Iterator[Running]:
    """Run `authsec-server serve` in a folder."""
    with subprocess.Popen(
        [sys.executable, "-m", "authsec_server", "serve", *argv],
        cwd=cwd,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
        preexec_fn=_heed_interrupts,
    ) as process:
        try:
            yield Running(process)
        finally:
            process.kill()


def dev(cwd: Path, *more: str) -> Any:
    """Run a try-out, and return a context with it."""
    return started("--dev", "--port", "0", "--json", *more, cwd=cwd)


@pytest.fixture
def desk(clock: FakeClock, capsys: pytest.CaptureFixture[str]) -> Desk:
    """Whoever starts a server in this process, and is refused."""
    return Desk(clock, capsys, None)


class TestDev:
    """The try-out."""

    def test_from_nothing_to_a_token(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """One command, nothing configured: an agent gets a token, an admin gets in, and a restart keeps both."""
        with dev(tmp_path) as server:
            first = json.loads(server.line())
            assert list(first) == [
                *("base_url", "issuer", "jwks_url", "admin_token", "client_id", "agent_key", "database", "data_dir")
            ]
            assert (first["data_dir"], first["issuer"]) == (
                str(tmp_path / "authsec-data"),
                f"{first['base_url']}/authsec",
            )
            config = AuthSecConfig(base_url=first["base_url"], client_id=first["client_id"])
            with AuthSecClient(config) as client:
                token = client.delegation_token("read:metrics read:records")
            assert token.scopes == {"read:metrics", "read:records"}
            assert httpx.get(first["jwks_url"], trust_env=False, timeout=PATIENCE).json()["keys"]
            assert self.whoami(first) == "admin"
            code, err = server.stop()
            assert "Traceback" not in err
            assert code in {0, -signal.SIGTERM}
        with dev(tmp_path) as server:
            again = json.loads(server.line())
            assert (again["admin_token"], again["client_id"]) == (None, first["client_id"])
            assert self.whoami(again | {"admin_token": first["admin_token"]}) == "admin"

    def test_the_sample_agent_may_use_the_whole_vault(self, tmp_path: Path) -> None:
        """Its key is shown at each start, and is another one each time: the one before it is good for nothing."""
        with dev(tmp_path) as server:
            first = json.loads(server.line())
            assert self.me(first, first["agent_key"]) == (200, "sample-agent")
            assert self.issue(first) == 200
            server.stop()
        with dev(tmp_path) as server:
            again = json.loads(server.line())
            assert self.me(again, again["agent_key"]) == (200, "sample-agent")
            assert self.me(again, first["agent_key"]) == (401, None)
            self.admin(again | {"admin_token": first["admin_token"]}, "clients", "end-vault-access", first["client_id"])
            server.stop()
        with dev(tmp_path) as server:
            assert self.issue(json.loads(server.line())) == 403, "what somebody has said is not undone by a start"

    def me(self, served: dict[str, str], key: str) -> tuple[int, str | None]:
        """Ask the vault whose key this is."""
        headers = {"Authorization": f"Bearer {key}"}
        reply = httpx.get(f"{served['base_url']}/v1/me", headers=headers, trust_env=False, timeout=PATIENCE)
        return reply.status_code, reply.json().get("name")

    def issue(self, served: dict[str, str]) -> int:
        """Ask for a token for the whole vault."""
        headers, body = {"Authorization": f"Bearer {served['agent_key']}"}, {"scopes": ["secrets:*:*"]}
        url = f"{served['base_url']}/v1/tokens"
        reply = httpx.post(url, headers=headers, json=body, trust_env=False, timeout=PATIENCE)
        return reply.status_code

    def whoami(self, served: dict[str, str]) -> str:
        """Ask over the command, as a person would."""
        return str(self.admin(served, "whoami")["name"])

    def admin(self, served: dict[str, str], *words: str) -> Any:
        """Run the command, as a person would."""
        environ = os.environ | {
            "AUTHSEC_ADMIN_URL": served["base_url"],
            "AUTHSEC_ADMIN_TOKEN": served["admin_token"],
        }
        done = subprocess.run(
            [sys.executable, "-m", "authsec_server", "admin", *words, "--json"],
            env=environ,
            capture_output=True,
            text=True,
            check=True,
        )
        return json.loads(done.stdout)

    def test_lines_to_paste(self, tmp_path: Path) -> None:
        """For sh and for PowerShell; the admin token at the first start only, and where the data is."""
        with started("--dev", "--port", "0", "--data", "here", cwd=tmp_path) as server:
            while "$env:AUTHSEC_ADMIN_URL" not in server.line():
                pass
            text = "\n".join(server.lines)
            assert re.search(
                r"^ +export AUTHSEC_BASE_URL=http://127\.0\.0\.1:\d+ AUTHSEC_AGENT_CLIENT_ID=\S{36}$", text, re.M
            )
            assert re.search(
                r'^ +\$env:AUTHSEC_BASE_URL = "http\S+"; \$env:AUTHSEC_AGENT_CLIENT_ID = "\S{36}"$', text, re.M
            )
            assert re.search(r'^ +export AUTHSEC_AGENT_KEY=(agk_\S+)\n +\$env:AUTHSEC_AGENT_KEY = "\1"$', text, re.M)
            assert text.count("opt_") == 2
            assert str(tmp_path / "here") in text
            assert "for development" in text
            assert server.stop(signal.SIGINT)[0] == 130
        with started("--dev", "--port", "0", "--data", "here", cwd=tmp_path) as server:
            while "grant-admin" not in server.line():
                pass
            assert "opt_" not in "\n".join(server.lines)

    def test_a_second_server_on_the_same_data(self, tmp_path: Path) -> None:
        """It is refused in one line, whatever its port; once the first is killed, the data is free again."""
        with dev(tmp_path) as server:
            server.line()
            with started("--dev", "--port", "0", cwd=tmp_path) as second:
                out, err = second.process.communicate(timeout=PATIENCE)
            assert (second.process.returncode, out, len(err.splitlines())) == (1, "", 1)
            assert err.startswith("authsec-server: conflict: another server works on the data in ")
            server.stop(signal.SIGKILL)
        with dev(tmp_path) as server:
            assert json.loads(server.line())["admin_token"] is None

    @pytest.mark.req("RO1")
    def test_loopback_only(self, desk: Desk, tmp_path: Path) -> None:
        """Whoever else could reach it would need no proof; nothing is made."""
        printed = desk.run("serve", "--dev", "--host", "0.0.0.0", "--data", str(tmp_path / "data"), "--json")  # noqa: S104 -- that is what is refused
        assert (printed.code, printed.json["code"]) == (2, "unsafe_settings")
        assert not (tmp_path / "data").exists()


def test_the_real_thing(desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `init` made is served without `--dev`, and an agent without proof gets nothing there."""
    monkeypatch.setenv("AUTHSEC_SERVER_PUBLIC_URL", "http://127.0.0.1:9")
    token = desk.run("init", "--data", str(tmp_path), "--json").json["admin_token"]
    with started("--port", "0", "--data", str(tmp_path), cwd=tmp_path) as server:
        assert server.process.stderr is not None
        said = server.process.stderr.readline()
        assert said.startswith("authsec-server: serving http://127.0.0.1:9 on http://127.0.0.1:")
        monkeypatch.setenv("AUTHSEC_ADMIN_URL", said.split()[-1])
        monkeypatch.setenv("AUTHSEC_ADMIN_TOKEN", token)
        onboard = ("admin", "clients", "onboard", "helper", "--type", "mcp-agent", "--platform", "docker", "--json")
        client = desk.run(*onboard, secrets=(token,)).json
        url = f"{said.split()[-1]}/authsec/uflow/sdk/delegation-token"
        asked = httpx.get(url, params={"client_id": client["client_id"]}, trust_env=False, timeout=PATIENCE)
        assert asked.status_code == 401
        listed = desk.run("admin", "clients", "list", secrets=(token, client["agent_key"]))
        assert client["client_id"] in listed.out


class TestRefusals:
    """What does not start says why, and what to do."""

    @pytest.mark.req("RO1")
    def test_without_any_setting(self, desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """It is no try-out unless someone says so."""
        monkeypatch.chdir(tmp_path)
        printed = desk.run("serve")
        assert (printed.code, printed.out) == (2, "")
        assert printed.err.startswith("authsec-server: unsafe_settings: AUTHSEC_SERVER_PUBLIC_URL is missing")
        assert list(tmp_path.iterdir()) == []

    def test_nothing_is_made_by_itself(self, desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Neither a master key nor a database: `init` does that when someone says so."""
        monkeypatch.setenv("AUTHSEC_SERVER_PUBLIC_URL", "https://authority.example.com")
        printed = desk.run("serve", "--port", "0", "--data", str(tmp_path), "--json")
        assert (printed.code, printed.json["code"]) == (2, "configuration")
        assert "authsec-server init" in printed.json["message"]
        monkeypatch.setenv("AUTHSEC_SERVER_MASTER_KEY", base64.urlsafe_b64encode(os.urandom(32)).decode())
        for command in ("serve --port 0", "migrate", "grant-admin ada", "rotate-keys", "verify-audit"):
            printed = desk.run(*command.split(), "--data", str(tmp_path), "--json")
            assert (printed.code, printed.json["code"]) == (2, "configuration")
            assert "there is no database" in printed.json["message"]
        assert list(tmp_path.iterdir()) == []

    def test_a_port_in_use(self, desk: Desk, tmp_path: Path) -> None:
        """One line says which, and nothing is made."""
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = str(taken.getsockname()[1])
            printed = desk.run("serve", "--dev", "--port", port, "--data", str(tmp_path / "data"), "--json")
        assert (printed.code, printed.json["code"]) == (1, "conflict")
        assert f"port {port} of 127.0.0.1 is in use" in printed.json["message"]
        assert not (tmp_path / "data").exists()

    def test_a_free_port_is_in_every_address(self) -> None:
        """`--port 0` takes the port first, so that issuer and addresses name the real one."""
        from authsec_server.cli._arguments import parse

        settings, listener = _serve._listen(parse(["serve", "--dev", "--port", "0"]))
        with listener:
            port = listener.getsockname()[1]
            assert settings.port == port != 0
            assert settings.issuer == f"http://127.0.0.1:{port}/authsec"

    def test_the_lock_ends_with_the_block(self, tmp_path: Path) -> None:
        """And keeps a second server away as long as it lasts; PostgreSQL needs none."""
        settings = ServerSettings(dev=True, data_dir=tmp_path)
        with _files.alone(settings), pytest.raises(ConflictError), _files.alone(settings):
            pass
        with _files.alone(settings):
            pass
        shared = ServerSettings(dev=True, data_dir=tmp_path, database_url="postgresql://u:p@127.0.0.1/x")
        with _files.alone(shared), _files.alone(shared):
            pass

    def test_no_password_is_announced(self, tmp_path: Path) -> None:
        """Where the database is, is said without it."""
        settings = ServerSettings(dev=True, data_dir=tmp_path, database_url="postgresql://u:s3cr3t-w0rd@127.0.0.1/x")
        announced = str(_serve._document(settings, None))
        assert "s3cr3t-w0rd" not in announced
        assert "postgresql://u:***@127.0.0.1/x" in announced


def test_a_revoked_sample_agent_is_followed_by_another(tmp_path: Path) -> None:
    """To revoke is final, so the next start of `--dev` makes a new sample agent, once."""
    settings = ServerSettings(dev=True, data_dir=tmp_path)

    async def run() -> list[str]:
        first = await prepare(settings, SYSTEM_CLOCK)
        async with Authority.open(settings) as authority:
            await authority.agents.revoke(system_caller("test"), first.client_id)
        return [first.client_id, *[(await prepare(settings, SYSTEM_CLOCK)).client_id for _ in range(2)]]

    first, second, third = asyncio.run(run())
    assert first != second == third
