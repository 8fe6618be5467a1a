"""What the tests of the vault's tools share: secrets, the vault that has them, tokens, and a service that wants one."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from authsec_core import AgentVaultSync, MockVault
from authsec_core.testing import LoopbackServer, Reply, Request

__all__ = ["CANARY", "PUBLISHING", "QUALITY", "SEARCH", "SECRETS", "code", "mock", "reads", "service", "token"]

CANARY = "tvly-canary-0123456789abcdef0123456789abcdef"
SECRETS = {
    "production/search/tavily-key": CANARY,
    "production/publishing/wordpress-key": "wp-canary-0123456789abcdef",
    "production/quality/grammarly-key": "gr-canary-0123456789abcdef",
}
SEARCH, PUBLISHING, QUALITY = SECRETS


@pytest.fixture
def mock(mock_vault: MockVault) -> MockVault:
    """The vault that `AgentVault()` finds. It has the secrets, and remembers who asked for what."""
    for path, value in SECRETS.items():
        mock_vault.register(path, value)
    return mock_vault


@pytest.fixture
def token(mock: MockVault) -> Callable[..., Any]:
    """A function that asks for a token for an area."""

    def ask(area: str, **more: Any) -> Any:
        with AgentVaultSync(secrets=mock) as agent:
            return agent.request_token(scope=f"secrets:read:production/{area}/*", **more)

    return ask


@pytest.fixture
def service() -> Iterator[LoopbackServer]:
    """A careless service: what it was sent comes back."""

    def answer(request: Request) -> Reply:
        if request.headers.get("authorization") != f"Bearer {CANARY}":
            return Reply(status=401)
        return Reply.of_json({"found": 3, "debug": dict(request.headers)})

    with LoopbackServer(answer) as server:
        yield server


def code(text: str) -> str:
    """Return the code of an error that a model was told."""
    answer = json.loads(text)
    assert (answer["status"], "message" in answer) == ("error", True)
    return str(answer["code"])


def reads(mock: MockVault) -> list[tuple[Any, ...]]:
    """Return path, decision and claims of each read that the vault was asked for."""
    return [(one.path, one.decision, one.claimed) for one in mock.accesses if one.action == "read"]
