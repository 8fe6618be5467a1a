from __future__ import annotations

import json
import os
import select
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import jwt
import pytest

from authsec_core import AuthSecClient
from authsec_server.testing import DevAuthority, LocalPostgres

LINUX = pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells a child of its parent's end")
PROGRAM = Path(__file__).with_name("dev_authority_program.py")
PATIENT = 60.0  # seconds


@pytest.fixture(scope="module")
def authority() -> Iterator[DevAuthority]:
    """One authority for the tests that leave it running."""
    with DevAuthority() as running:
        yield running


def sample_token(authority: DevAuthority) -> str:
    """Return a token for the sample agent, as our SDK gets it."""
    with AuthSecClient(base_url=authority.base_url, client_id=authority.client_id) as client:
        return client.get_delegation_token()


def authority_is_gone(url: str) -> None:
    """Show that nothing listens there."""
    with pytest.raises(httpx.ConnectError):
        httpx.get(f"{url}/healthz", trust_env=False)


def test_the_sample_agent_gets_a_token(authority: DevAuthority, monkeypatch: pytest.MonkeyPatch) -> None:
    """`environ` is all that `AuthSecClient()` needs."""
    for name, value in authority.environ().items():
        monkeypatch.setenv(name, value)
    with AuthSecClient() as client:
        assert client.get_delegation_token()


def test_the_client_is_an_admin(authority: DevAuthority) -> None:
    """`client` speaks to the admin API as the first admin, and `onboard` makes agents with it."""
    assert authority.client.get("/whoami").json()["role"] == "admin"
    agent = authority.onboard("write:notes")
    with AuthSecClient(base_url=agent.base_url, client_id=agent.client_id, agent_key=agent.agent_key) as client:
        assert client.get_delegation_token("write:notes")


@pytest.mark.parametrize("how", ["stop", "kill", "die"])
def test_it_goes_on_where_it_was(authority: DevAuthority, how: str) -> None:
    """After an orderly end, a `kill -9` and an unasked end, `start` serves the same agents at the same address."""
    agent = authority.onboard()
    before, url = authority.pid, authority.base_url
    if how == "die":
        os.kill(before, signal.SIGTERM)
        assert authority._child is not None
        assert authority._child.wait(PATIENT)
    else:
        getattr(authority, how)()
        authority_is_gone(url)
    authority.start()
    assert authority.pid != before
    assert authority.base_url == url
    assert authority.client.get(f"/clients/{agent.client_id}").json()["name"] == agent.name
    assert sample_token(authority)


def test_a_start_that_fails_says_why() -> None:
    """What the command says about it is in the error, and nothing is left behind."""
    authority = DevAuthority(environ={"AUTHSEC_SERVER_TOKEN_TTL": "not a number"})
    with pytest.raises(RuntimeError, match="AUTHSEC_SERVER_TOKEN_TTL"):
        authority.__enter__()
    assert authority._folder is None


def test_it_runs_on_postgres_and_leaves_nothing(postgres: LocalPostgres, monkeypatch: pytest.MonkeyPatch) -> None:
    """It keeps everything where it is told to, knows only the variables that it is given, and ends with its block.

    One start shows it all, for a start takes a second.
    """
    monkeypatch.setenv("AUTHSEC_SERVER_TOKEN_TTL", "not a number")
    url = postgres.create_database()
    patient = {"AUTHSEC_SERVER_DATABASE_TIMEOUT": "30", "AUTHSEC_SERVER_REQUEST_TIMEOUT": "60"}
    with DevAuthority(database_url=url, environ={**patient, "AUTHSEC_SERVER_TENANT_ID": "mine"}) as authority:
        folder, pid = authority.data_dir, authority.pid
        claims = jwt.decode(sample_token(authority), options={"verify_signature": False})
        assert claims["tenant_id"] == "mine"
        assert folder.exists()
        assert not list(folder.glob("*.db"))
    postgres.drop_database(url)
    assert not folder.parent.exists()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_the_admin_token_is_in_no_log(authority: DevAuthority) -> None:
    """What it says on stderr has no credential in it."""
    agent = authority.onboard()
    assert "/api/v1/clients" in authority.log
    assert authority.admin_token not in authority.log
    assert authority.agent_key not in authority.log
    assert agent.agent_key not in authority.log


def test_what_does_not_run_says_so() -> None:
    """Asking one that was not started is misuse, and closing it is harmless."""
    authority = DevAuthority()
    authority.close()
    authority.stop()
    for name in (
        "base_url",
        "issuer",
        "jwks_url",
        "admin_token",
        "client_id",
        "agent_key",
        "client",
        "pid",
        "data_dir",
        "log",
    ):
        with pytest.raises(RuntimeError, match="with block"):
            getattr(authority, name)


@LINUX
def test_it_does_not_survive_a_kill_of_the_parent() -> None:
    """When the process that started it is killed with -9, it ends too."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    with subprocess.Popen(
        [sys.executable, str(PROGRAM)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**environment, "PYTHONPATH": os.pathsep.join(sys.path)},
        text=True,
    ) as parent:
        assert parent.stdout is not None
        said = json.loads(parent.stdout.readline() or "null")
        descriptor = os.pidfd_open(said["pid"])
        parent.kill()
        watched = select.poll()
        watched.register(descriptor, select.POLLIN)
        ended = watched.poll(PATIENT * 1000)
        os.close(descriptor)
        shutil.rmtree(said["folder"])
    assert ended
