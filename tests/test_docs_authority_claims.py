"""Is what the page about revocation says of each change true? A case for each row of its table, on a real authority.

The rules themselves have tests of their own; these hold the page to them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from authsec_core.testing import FakeClock
from authsec_core.wire import DELEGATION_TOKEN_PATH, format_time
from authsec_server.testing import OnboardedAgent, RunningAuthority

PAGE = Path(__file__).resolve().parents[1] / "docs" / "authority" / "revocation.md"


@dataclass(frozen=True)
class Case:
    """An authority, an agent that may read and write, and the token that it has."""

    authority: RunningAuthority
    clock: FakeClock
    agent: OnboardedAgent
    token: dict[str, Any]

    def send(self, method: str, path: str, body: object = None) -> Any:
        """Change something as an admin."""
        reply = self.authority.client.request(method, path, json=body)
        assert reply.is_success, reply.text
        return reply.json() if reply.content else None

    def ask(self, key: str | None = None) -> httpx.Response:
        """Ask for a token, as the agent."""
        return httpx.get(
            f"{self.agent.base_url}{DELEGATION_TOKEN_PATH}",
            params={"client_id": self.agent.client_id},
            headers={"Authorization": f"Bearer {key or self.agent.agent_key}"},
        )

    def is_revoked(self, jti: str | None = None) -> bool:
        """Return whether a token was taken back."""
        return self.send("GET", f"/tokens/{jti or self.token['jti']}")["revoked_at"] is not None

    def change(self, **terms: object) -> None:
        """Change the delegation."""
        self.send("PATCH", f"/trust-delegations/{self.agent.delegation_id}", terms)


@pytest.fixture(scope="module")
def running() -> Iterator[tuple[RunningAuthority, FakeClock]]:
    """One authority for all cases, each of which has an agent and a role of its own."""
    clock = FakeClock()
    with RunningAuthority(clock=clock) as authority:
        yield authority, clock


@pytest.fixture
def case(running: tuple[RunningAuthority, FakeClock]) -> Case:
    """A case in which nothing has happened yet."""
    authority, clock = running
    agent = authority.onboard("read:a write:a", audiences=["authsec-api", "other-api"])
    made = Case(authority, clock, agent, {})
    made.token.update(made.ask().json())
    return made


def _client(case: Case) -> str:
    return f"/clients/{case.agent.client_id}"


def _revoke_signing_key(case: Case) -> None:
    kid = case.send("GET", f"/tokens/{case.token['jti']}")["kid"]
    case.send("POST", f"/signing-keys/{kid}/revoke")


# What is done, and what a new request is answered: a refusal's code, or what the token differs in.
ROWS: Final[dict[str, tuple[Callable[[Case], object], str | dict[str, object]]]] = {
    "revoke a token": (lambda case: case.send("POST", f"/tokens/{case.token['jti']}/revoke"), {}),
    "disable an agent": (lambda case: case.send("PATCH", _client(case), {"state": "disabled"}), "client_disabled"),
    "revoke an agent": (lambda case: case.send("POST", f"{_client(case)}/revoke"), "client_revoked"),
    "revoke a key": (lambda case: case.send("POST", f"{_client(case)}/keys/{case.agent.key_id}/revoke"), "proof_wrong"),
    "revoke a delegation": (
        lambda case: case.send("POST", f"/trust-delegations/{case.agent.delegation_id}/revoke"),
        "delegation_ended",
    ),
    "disable a delegation": (lambda case: case.change(enabled=False), "no_delegation"),
    "take away actions or an audience": (lambda case: case.change(allowed_actions=["read:a"]), {"scope": "read:a"}),
    "shorten the maximum duration": (
        lambda case: case.change(max_duration=1, unit="minutes"),
        {"ttl_seconds": 60},
    ),
    "set an earlier end": (
        lambda case: case.change(not_after=format_time(int(case.clock.wall()) + 120)),
        {"ttl_seconds": 120},
    ),
    "take a permission from a role": (
        lambda case: case.send("PUT", f"/roles/{case.agent.role}", {"permissions": ["read:a"]}),
        {"scope": "read:a"},
    ),
    "revoke a signing key": (_revoke_signing_key, {}),
}


def _rows() -> dict[str, list[str]]:
    table = PAGE.read_text(encoding="utf-8").partition("| you | new requests |")[2].partition("\n\n")[0]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:]]
    return {row[0]: row[1:] for row in rows}


def test_every_row_has_a_case() -> None:
    """The page says nothing of a change that is not tried here."""
    assert list(_rows()) == list(ROWS)


@pytest.mark.parametrize("row", ROWS)
def test_the_row_is_true(row: str, case: Case) -> None:
    """The token that is out is revoked, and a new request is answered as the page says."""
    act, expected = ROWS[row]
    act(case)
    assert case.is_revoked()
    reply = case.ask()
    if isinstance(expected, str):
        assert reply.json()["details"] == expected
        assert re.findall(r"(\d{3}) `(\w+)`", _rows()[row][0]) == [(str(reply.status_code), expected)]
    else:
        assert reply.status_code == 200, reply.text
        assert {name: reply.json()[name] for name in expected} == expected


def test_an_audience_that_is_taken_away_takes_its_tokens(case: Case) -> None:
    """The other half of its row; tokens for other audiences stay."""
    case.change(audiences=["other-api"])
    assert case.is_revoked()
    assert case.ask().json()["details"] == "audience_not_covered"


def test_what_is_enabled_again_does_not_bring_tokens_back(case: Case) -> None:
    """A disabled agent's tokens stay revoked."""
    case.send("PATCH", _client(case), {"state": "disabled"})
    case.send("PATCH", _client(case), {"state": "active"})
    assert (case.is_revoked(), case.ask().status_code) == (True, 200)


def test_tokens_of_another_key_stay(case: Case) -> None:
    """Revoking a key takes those that were got with it, and no others."""
    other = case.send("POST", f"{_client(case)}/keys", {})["agent_key"]
    jti = case.ask(other).json()["jti"]
    case.send("POST", f"{_client(case)}/keys/{case.agent.key_id}/revoke")
    assert (case.is_revoked(), case.is_revoked(jti)) == (True, False)


def test_a_key_that_ends_by_itself_leaves_its_tokens(case: Case) -> None:
    """It gets no more; those that it has got live on."""
    ends = format_time(int(case.clock.wall()) + 60)
    other = case.send("POST", f"{_client(case)}/keys", {"not_after": ends})["agent_key"]
    jti = case.ask(other).json()["jti"]
    case.clock.advance(61)
    assert case.ask(other).json()["details"] == "proof_wrong"
    assert not case.is_revoked(jti)


def test_what_is_widened_changes_no_token(case: Case) -> None:
    """More permissions, and a longer life, are for the tokens to come."""
    case.send("PUT", f"/roles/{case.agent.role}", {"permissions": ["read:a", "write:a", "read:b"]})
    assert not case.is_revoked()
    assert case.send("GET", f"/tokens/{case.token['jti']}")["scope"] == "read:a write:a"


def test_revoking_a_short_delegation_lengthens_the_tokens_to_come(case: Case) -> None:
    """As agents.md says of several delegations: scopes add up, and the life is the smallest that contributes."""
    short = case.send(
        "POST",
        "/trust-delegations",
        {
            "role": case.agent.role,
            "target_type": "autonomous-workload",
            "client_id": case.agent.client_id,
            "max_duration": 1,
            "unit": "minutes",
        },
    )
    assert case.ask().json()["ttl_seconds"] == 60
    case.send("POST", f"/trust-delegations/{short['delegation_id']}/revoke")
    assert case.ask().json()["ttl_seconds"] == 1800


def test_whoever_is_not_the_first_gets_a_conflict(case: Case) -> None:
    """So that two operators know which of them it was."""
    path = f"/tokens/{case.token['jti']}/revoke"
    assert [case.authority.client.post(path).status_code for _ in range(2)] == [204, 409]
