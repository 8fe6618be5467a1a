"""The `authsec` command and the vault itself: what one says, the other understands, and the audit has it."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from authsec_core.cli import main
from authsec_core.testing import assert_no_secret
from authsec_server.testing import OnboardedAgent, RunningAuthority

CANARY = "sk-canary-0f3b7d21c9a84e56b1d2"
OPENAI = "production/openai/api-key"
GUARDED = "guarded/openai/api-key"


@pytest.fixture(scope="module")
def authority() -> Iterator[RunningAuthority]:
    """An authority with its vault."""
    with RunningAuthority() as authority:
        yield authority


class Terminal:
    """An agent's settings, and the command."""

    def __init__(
        self,
        authority: RunningAuthority,
        agent: OnboardedAgent,
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        self.authority, self.agent = authority, agent
        self._monkeypatch, self._capsys = monkeypatch, capsys
        for name, value in agent.environ().items():
            monkeypatch.setenv(name, value)

    def run(self, *argv: str, stdin: str = "", code: int = 0) -> Any:
        """Run the command, see what it comes to, and return its document."""
        self._monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode()), encoding="utf-8"))
        self._capsys.readouterr()
        assert main([*argv, "--json"]) == code
        out, err = self._capsys.readouterr()
        assert err == ""
        assert_no_secret([argv, out if "--reveal" not in argv else ""], CANARY, self.agent.agent_key)
        return json.loads(out)

    def entries(self) -> list[Any]:
        """Return what the audit has of the agent's vault, the newest first."""
        reply = self.authority.client.get("/audit", params={"client_id": self.agent.client_id, "limit": "100"})
        return [entry for entry in reply.raise_for_status().json()["items"] if entry["action"].startswith("vault.")]


@pytest.fixture
def terminal(
    authority: RunningAuthority, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Terminal:
    """An agent that may use all of the vault."""
    return Terminal(authority, authority.onboard(vault="secrets:*:*"), monkeypatch, capsys)


def test_a_secret_s_whole_life(terminal: Terminal) -> None:
    """Stored, shown, replaced, listed and deleted; what is kept beside it stays with it."""
    path = "life/openai/api-key"  # in a namespace of its own: the tests share the vault
    beside = ("--type", "api_key", "--metadata", "owner=search")
    assert terminal.run("secrets", "set", path, *beside, stdin=f"{CANARY}\n")["secret"]["version"] == 1
    assert terminal.run("secrets", "rotate", path, stdin=f"new-{CANARY}")["secret"]["version"] == 2
    said = terminal.run("secrets", "get", path)["secret"]
    assert (said["path"], said["version"], said["metadata"]) == (path, 2, {"owner": "search"})
    assert terminal.run("secrets", "get", path, "--reveal")["value"] == f"new-{CANARY}"
    assert terminal.run("secrets", "get", path, "--reveal", "--version", "1")["value"] == CANARY
    assert [each["path"] for each in terminal.run("secrets", "list", "life")["secrets"]] == [path]
    terminal.run("secrets", "delete", path, "--yes")
    assert terminal.run("secrets", "get", path, code=1)["code"] == "secret_not_found"
    assert terminal.run("secrets", "get", path, "--reveal", code=1)["code"] == "secret_not_found"


def test_what_is_exported_is_what_is_imported(terminal: Terminal, tmp_path: Path) -> None:
    """Every value that a `.env` file can hold comes back; a file with a line that is none stores nothing."""
    values = [
        f"{CANARY}",
        f"it's \\ '{CANARY}'",
        f"{CANARY}\nsecond # line\n\n",
        f'"{CANARY}" $HOME ${{X}}',
        f" {CANARY} \\",
        f"{CANARY}\r\ncarriage",
        f"\u2028{CANARY}\ufeff",
    ]
    for number, value in enumerate(values):
        terminal.run("secrets", "set", f"round/KEY_{number}", "--exact", stdin=value)
    out = tmp_path / "exported.env"
    terminal.run("secrets", "export", "--namespace", "round", "--out", str(out))
    imported = terminal.run("secrets", "import", str(out), "--namespace", "trip")
    assert imported["names"] == [f"KEY_{number}" for number in range(len(values))]
    content = terminal.run("secrets", "export", "--namespace", "trip", "--format", "json", "--reveal")["content"]
    assert list(json.loads(content).values()) == values
    said = terminal.run("secrets", "import", "-", "--namespace", "bad", stdin=f"A=1\n{CANARY}\n", code=1)
    assert (said["code"], said["lines"]) == ("vault_bad_request", [2])
    assert terminal.run("secrets", "list", "bad")["secrets"] == []


def test_a_token_does_what_it_was_issued_for(terminal: Terminal, tmp_path: Path) -> None:
    """One read of one secret, and nothing once it is used up or revoked."""
    terminal.run("secrets", "set", OPENAI, stdin=CANARY)
    file = tmp_path / "token"
    issue = ("tokens", "issue", "--scope", f"secrets:read:{OPENAI}", "--ttl", "5m", "--description", "for the test")
    terminal.run(*issue, "--max-uses", "1", "--out", str(file))
    use = ("--token-file", str(file))
    assert terminal.run("secrets", "set", OPENAI, *use, stdin="other", code=1)["code"] == "vault_scope_denied"
    assert terminal.run("secrets", "get", OPENAI, "--reveal", *use)["value"] == CANARY
    assert terminal.run("secrets", "get", OPENAI, "--reveal", *use, code=1)["code"] == "vault_token_exhausted"
    file.unlink()
    issued = terminal.run(*issue, "--allow-ip", "127.0.0.1", "--out", str(file))
    terminal.run("secrets", "get", OPENAI, "--reveal", *use)
    terminal.run("tokens", "revoke", issued["token_id"])
    assert terminal.run("secrets", "get", OPENAI, "--reveal", *use, code=1)["code"] == "vault_unauthorized"


def test_a_token_that_somebody_has_to_approve(terminal: Terminal, tmp_path: Path) -> None:
    """Is collected by the id of the request, once; until then there is a code and no token."""
    terminal.run("secrets", "set", GUARDED, "--tier", "sensitive", stdin=CANARY)
    said = terminal.run("secrets", "get", GUARDED, "--reveal", code=1)
    assert (said["code"], said["approval_id"]) == ("approval_required", None)
    issue = ("tokens", "issue", "--scope", f"secrets:read:{GUARDED}")
    approval = terminal.run(*issue, code=1)["approval_id"]
    collect = (*issue, "--approval-id", approval, "--out", str(tmp_path / "token"))
    assert terminal.run(*collect, code=1)["approval_id"] == approval
    _approve(terminal.authority, approval)
    terminal.run(*collect)
    use = ("--token-file", str(tmp_path / "token"))
    assert terminal.run("secrets", "get", GUARDED, "--reveal", *use)["value"] == CANARY


def test_what_the_vault_does_not_take_is_explained(terminal: Terminal) -> None:
    """By the command, which knows the vault's limits; the vault's own words are not shown."""
    issue = ("tokens", "issue", "--scope", "secrets:read:production/*", "--ttl")
    assert "A token lives a day at most" in terminal.run(*issue, "2d", code=1)["message"]
    wide = ("--metadata", f"owner={'x' * 257}")
    assert "texts of up to 256" in terminal.run("secrets", "set", OPENAI, *wide, stdin=CANARY, code=1)["message"]
    text = "".join(f"KEY_{number}=value\n" for number in range(129))
    said = terminal.run("secrets", "import", "-", "--namespace", "many", stdin=text, code=1)
    assert "1 to 128 names" in said["message"]


def test_the_doctor_finds_the_vault(terminal: Terminal) -> None:
    """At the authority's own address, with the agent's key."""
    found = {finding["check"]: finding for finding in terminal.run("doctor")["findings"]}
    assert (found["vault"]["status"], found["vault_credential"]["status"]) == ("ok", "ok")
    assert found["vault_credential"]["message"].endswith(f"it is {terminal.agent.name}'s")


def test_the_audit_has_the_program_s_name(terminal: Terminal) -> None:
    """What `run` says of itself stands beside the agent that was proven, marked as claimed."""
    stored = terminal.run("secrets", "set", OPENAI, stdin=CANARY)["secret"]
    script = "import os; raise SystemExit(os.environ['KEY'] != os.environ['WANTED'])"
    command = [sys.executable, "-m", "authsec_core", "run", "--agent-name", "nightly", "--env", f"KEY={OPENAI}"]
    environ = {**terminal.agent.environ(), "WANTED": CANARY}
    done = subprocess.run(
        [*command, "--", sys.executable, "-c", script], env=environ, capture_output=True, check=False, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    read = next(entry for entry in terminal.entries() if entry["action"] == "vault.secret.read")
    assert (read["decision"], read["details"]["path"]) == ("allow", OPENAI)
    assert read["details"]["version"] == stored["version"]
    assert read["claimed"] == {"agent_name": "nightly", "reason": f"authsec run {Path(sys.executable).name}"}


@pytest.mark.req("RW5")
def test_nothing_of_a_value_is_logged_or_audited(terminal: Terminal, caplog: pytest.LogCaptureFixture) -> None:
    """Neither by the command nor by the vault, at any level; what fails says nothing of it either."""
    with caplog.at_level(1):
        terminal.run("secrets", "set", OPENAI, stdin=CANARY)
        terminal.run("secrets", "get", OPENAI, "--reveal")
        terminal.run("secrets", "rotate", OPENAI, stdin=CANARY)
        terminal.run("secrets", "import", "-", "--namespace", "bad", stdin=CANARY, code=1)
    assert caplog.records
    ours = [record for record in caplog.records if not record.name.startswith(("httpcore", "hpack"))]
    assert_no_secret([record.getMessage() for record in ours], CANARY, terminal.agent.agent_key)
    assert_no_secret(terminal.entries(), CANARY, terminal.agent.agent_key)
    assert logging.getLogger("authsec").handlers == []


def _approve(authority: RunningAuthority, approval_id: str) -> None:
    """Let an operator approve who had no part in onboarding the agent, with a token that they made for themselves."""
    made = authority.client.post("/operators", json={"name": f"approver {approval_id}", "role": "admin"})
    tokens = f"/operators/{made.raise_for_status().json()['operator_id']}/tokens"
    bearer: dict[str, str] = {}
    for _ in range(2):
        token = authority.client.post(tokens, json={}, headers=bearer).raise_for_status().json()["token"]
        bearer = {"Authorization": f"Bearer {token}"}
    url = f"{authority.base_url}/v1/approvals/{approval_id}/approve"
    authority.client.post(url, json={}, headers=bearer).raise_for_status()
