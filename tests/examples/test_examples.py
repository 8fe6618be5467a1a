"""Every example runs, offline, as a user would run it."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from authsec_core import TokenVerifier
from authsec_core.testing import LocalAuthority, LoopbackServer, Reply, Request

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
Run = Callable[..., "subprocess.CompletedProcess[str]"]

# What each prints when it has worked. MOCK data is invented, so that its numbers occur nowhere else.
PROGRAMS = {
    "ag2_agent.py": ["42 agents are active"],
    "agent_framework_agent.py": ["42 agents are active"],
    "agentchat_assistant.py": ["The vault is sealed and 42 agents are active"],
    "autogen_two_agents.py": ["42 agents are active", "sealed"],
    "autogen_function_map.py": ["gold plan"],
    "autogen_groupchat.py": ["tool_refused", "rec-1002"],
    "crewai_crew.py": ["42 agents are active"],
    "plain_httpx.py": ["rec-1001", "refused: scope_refused"],
    "vault_audited_tool.py": ["tvly-sample"],
    "vault_crew.py": ["ready to be published"],
    "vault_groupchat.py": ["vault_scope_denied", "tool_refused", "wp-sample", "gr-sample"],
    "vault_research_agent.py": ["tvly-sample"],
    "vault_secret_fetch.py": ["Agents that check"],
    "smoke_local.py": ["mode      mock", "identity  0000…0000", "cache     hit"],
}
# LIVE, against an API of which this is all the data; the group chat is MOCK only. Of the vault's, see another file.
LIVE = {
    "ag2_agent.py": ("read:metrics", {"vault_status": "ajar", "active_agents": 17}, "vault is ajar and 17"),
    "agent_framework_agent.py": ("read:metrics", {"vault_status": "ajar", "active_agents": 17}, "vault is ajar and 17"),
    "agentchat_assistant.py": ("read:metrics", {"vault_status": "ajar", "active_agents": 17}, "vault is ajar and 17"),
    "autogen_two_agents.py": ("read:metrics", {"vault_status": "ajar", "active_agents": 17}, "vault is ajar and 17"),
    "autogen_function_map.py": ("read:customers", {"id": "42", "plan": "tin"}, "Customer 42 is on the tin plan"),
    "crewai_crew.py": ("read:metrics", {"vault_status": "ajar", "active_agents": 17}, "vault is ajar and 17"),
    "plain_httpx.py": ("read:records", [{"id": "rec-7", "owner": "Lin Muster"}], "rec-7  Lin Muster"),
}
MODULES = {"authsec_helper.py", "demo.py", "model.py", "protected_api.py", "sample_vault.py"}


def test_each_example_is_listed_here() -> None:
    """An example without a test fails here."""
    assert {path.name for path in EXAMPLES.glob("*.py")} == PROGRAMS.keys() | MODULES


@pytest.mark.parametrize("program", PROGRAMS)
def test_example_runs_offline(program: str, run: Run) -> None:
    """An example works with nothing set and nothing but this machine."""
    done = run(str(EXAMPLES / program))
    assert done.returncode == 0, done.stderr
    for expected in PROGRAMS[program]:
        assert expected in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("program", LIVE)
def test_example_runs_live(program: str, run: Run) -> None:
    """The same program, unchanged, works against an authority and an API that checks the token; nothing is invented."""
    scope, data, expected = LIVE[program]
    with LocalAuthority() as authority:
        verifier = TokenVerifier(issuer=authority.issuer, audience="authsec-api", jwks_url=authority.jwks_url)

        def answer(request: Request) -> Reply:
            verified = verifier.verify(request.headers["authorization"].removeprefix("Bearer "))
            assert verified.covers(scope)
            return Reply.of_json(data)

        with LoopbackServer(answer) as api:
            environ = authority.environ(authority.register([scope]), api_base_url=api.base_url)
            done = run(str(EXAMPLES / program), **environ, DOWNSTREAM_URL=api.base_url)
        assert done.returncode == 0, done.stderr
        assert expected in done.stdout
        assert len(authority.issued) == 1
        assert len(api.requests) == 1
    assert "eyJ" not in done.stdout + done.stderr


def test_smoke_test_reports_a_live_agent_masked(run: Run) -> None:
    """LIVE, the smoke test exchanges for real, masks the client id, and shows no token and no key."""
    with LocalAuthority() as authority:
        agent = authority.register(["read:metrics"], agent_key="the-key-of-the-smoke-test")
        done = run(str(EXAMPLES / "smoke_local.py"), **authority.environ(agent))
        assert done.returncode == 0, done.stderr
        assert len(authority.issued) == 1
    assert "mode      live" in done.stdout
    assert agent.client_id not in done.stdout
    assert "the-key-of" not in done.stdout + done.stderr
    assert "eyJ" not in done.stdout + done.stderr


def test_smoke_test_fails_with_a_code_where_the_agent_is_refused(run: Run) -> None:
    """The exit code tells: a refused agent is no success, and LIVE does not turn into MOCK."""
    with LocalAuthority() as authority:
        agent = authority.register(["read:metrics"])
        authority.revoke_agent(agent.client_id)
        done = run(str(EXAMPLES / "smoke_local.py"), **authority.environ(agent))
    assert done.returncode == 1
    assert "delegation_refused" in done.stderr
    assert "mock" not in done.stdout


@pytest.mark.parametrize("options", [[], ["--postgres"]], ids=["sqlite", "postgresql"])
def test_demo_reports_each_step_to_programs(run: Run, options: list[str]) -> None:
    """`--json` prints one document in which every step came out as it should, and no credential."""
    demo = str(EXAMPLES / "demo.py")
    done = run(demo, "--json", *options, AUTHSEC_MODE="live")  # the demo is about nobody's own settings
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["ok"] is True
    assert [(step["mode"], step["decision"]) for step in report["steps"]] == [
        ("mock", "allowed"),
        ("mock", "allowed"),
        ("live", "allowed"),
        ("live", "allowed"),
        ("live", "refused: delegation_refused"),
        ("live", "refused: delegation_refused"),
    ]
    recorded = [(entry["action"], entry["decision"], entry.get("reason")) for entry in report["audit"]]
    assert recorded[-2:] == [("client.revoke", "allow", None), ("token.issue", "deny", "client_revoked")]
    assert "eyJ" not in done.stdout
    assert not re.search(r"(agk|opt)_[0-9a-f]{16}\.", done.stdout + done.stderr)


def test_demo_prints_a_transcript_and_a_table(run: Run, tmp_path: Path) -> None:
    """People get a readable transcript, that the API was not called for a scope never granted, and a table."""
    done = run(str(EXAMPLES / "demo.py"))
    assert done.returncode == 0, done.stderr
    assert "agent calls  fetch_secure_data(endpoint='secure-vault/metrics'," in done.stdout
    assert "the API was called 0 times" in done.stdout
    assert "agent          mode  scope" in done.stdout
    assert "Everything came out as it should" in done.stdout
