"""RV9 through the guard: what the authority takes back is refused in time, on every replica, and an old list is none.

The promise: `revocation_max_age` seconds after the authority has published it, which takes it a second. Checked by the
real clock against the authority itself; what happens while its lists cannot be had by a clock that stands still.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from asgi_support import open_to_callers, status_of
from guard_support import Memory

from authsec_core._clock import SYSTEM_CLOCK
from authsec_core.testing import FakeClock, LocalAuthority
from authsec_fastapi import AuthSecGuard, TrustedIssuer
from authsec_server.testing import OnboardedAgent, RunningAuthority

MAX_AGE = 1.5  # seconds
PUBLISHED_WITHIN = 1.0  # seconds
PATIENCE = 30.0  # seconds

Ask = Callable[[str], int]


@pytest.fixture(scope="module")
def authority() -> Iterator[RunningAuthority]:
    """The authority, as in production."""
    with RunningAuthority(status_list_ttl=1, client_rate=0) as authority:
        yield authority


@pytest.fixture(scope="module")
def replica(authority: RunningAuthority) -> Iterator[RunningAuthority]:
    """Another server of the same authority."""
    with authority.replica() as replica:
        yield replica


def guarded(issuer: str, jwks_url: str, **terms: Any) -> Ask:
    """Return how a service behind a guard of its own answers who presents a token."""
    trusted = TrustedIssuer(
        issuer=issuer, audience="authsec-api", jwks_url=jwks_url, **{"revocation_max_age": MAX_AGE, **terms}
    )
    app = open_to_callers(AuthSecGuard(issuers=[trusted], sink=Memory()))
    return lambda token: asyncio.run(status_of(app, f"Bearer {token}".encode()))


def token_of(agent: OnboardedAgent, base_url: str) -> str:
    """Return a delegation token, from one server of the authority."""
    reply = httpx.post(
        f"{base_url}/authsec/uflow/sdk/delegation-token",
        json={"client_id": agent.client_id},
        headers={"Authorization": f"Bearer {agent.agent_key}"},
        trust_env=False,
    )
    return str(reply.raise_for_status().json()["token"])


def _token(authority: RunningAuthority, agent: OnboardedAgent, jti: str) -> str:
    return f"/tokens/{jti}/revoke"


def _agent(authority: RunningAuthority, agent: OnboardedAgent, jti: str) -> str:
    return f"/clients/{agent.client_id}/revoke"


def _key(authority: RunningAuthority, agent: OnboardedAgent, jti: str) -> str:
    return f"/clients/{agent.client_id}/keys/{agent.key_id}/revoke"


def _delegation(authority: RunningAuthority, agent: OnboardedAgent, jti: str) -> str:
    return f"/trust-delegations/{agent.delegation_id}/revoke"
