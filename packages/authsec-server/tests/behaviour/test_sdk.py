"""Our own SDK against the authority, LIVE and with an agent key: what it gets, and which error each refusal becomes."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from behaviour.support import NOBODY, OpenSite, Site, peek

from authsec_core import AsyncAuthSecClient, AuthSecClient, AuthSecConfig
from authsec_core.errors import AuthorityUnreachableError, DelegationRefusedError, ScopeNotGrantedError
from authsec_core.testing import assert_no_secret
from authsec_core.token import DelegationToken
from authsec_server.testing import OnboardedAgent

Ask = Callable[..., DelegationToken]


@pytest.fixture(params=["sync", "async"])
def ask(request: pytest.FixtureRequest) -> Ask:
    """A function that asks for a token as an agent, with a client of its own, blocking or not."""

    def blocking(agent: OnboardedAgent, scope: str | None = None, **more: Any) -> DelegationToken:
        with AuthSecClient(AuthSecConfig(**_settings(agent, more))) as client:
            return client.delegation_token(scope, **more)

    def running(agent: OnboardedAgent, scope: str | None = None, **more: Any) -> DelegationToken:
        async def run() -> DelegationToken:
            async with AsyncAuthSecClient(AuthSecConfig(**_settings(agent, more))) as client:
                assert inspect.iscoroutinefunction(client.delegation_token)
                return await client.delegation_token(scope, **more)

        return asyncio.run(run())

    return blocking if request.param == "sync" else running


def _settings(agent: OnboardedAgent, more: dict[str, Any]) -> dict[str, Any]:
    given = {"base_url": agent.base_url, "client_id": agent.client_id, "agent_key": agent.agent_key, "mode": "live"}
    return {**given, "retries": 0, **{name: more.pop(name) for name in ("client_id", "agent_key") if name in more}}


def refused(ask: Ask, *args: Any, **more: Any) -> tuple[str, int]:
    """Return how the authority's refusal reads."""
    with pytest.raises(DelegationRefusedError) as caught:
        ask(*args, **more)
    assert not caught.value.retryable
    return caught.value.reason, caught.value.status


def test_it_gets_what_the_authority_grants(site: Site, ask: Ask) -> None:
    """Identity, scopes, audience and lifetime of the token are those of the delegation, and a verifier takes it."""
    agent = site.onboard("read:metrics read:records")
    whole, part = ask(agent), ask(agent, "read:metrics", ttl=60.0)
    assert whole.scopes == {"read:metrics", "read:records"}
    assert part.scopes == {"read:metrics"}
    assert (whole.mode, whole.client_id, whole.spiffe_id) == ("live", agent.client_id, agent.spiffe_id)
    assert (whole.lifetime, part.lifetime) == (1800, 60)
    assert whole.jti == peek(whole.value)["jti"]
    with site.verifier() as verifier:
        assert verifier.verify(part.value).scopes == {"read:metrics"}


def test_each_refusal_has_its_reason(site: Site, ask: Ask) -> None:
    """404, 401, 403 and 410 of the authority become the SDK's reasons."""
    agent, disabled, ended, off = (site.onboard() for _ in range(4))
    site.admin("PATCH", f"/clients/{disabled.client_id}", json={"state": "disabled"})
    site.admin("POST", f"/trust-delegations/{ended.delegation_id}/revoke")
    site.admin("PATCH", f"/trust-delegations/{off.delegation_id}", json={"enabled": False})
    assert refused(ask, agent, client_id=NOBODY) == ("unknown_client", 404)
    assert refused(ask, agent, agent_key=disabled.agent_key) == ("proof_rejected", 401)
    assert refused(ask, agent, "write:records") == ("not_delegated", 403)
    assert refused(ask, disabled) == ("not_delegated", 403)
    assert refused(ask, ended) == ("delegation_ended", 410)
    assert refused(ask, off) == ("unknown_client", 404)
    assert ask(agent).client_id == agent.client_id


def test_a_narrower_grant_is_an_error_before_it_is_used(site: Site, ask: Ask) -> None:
    """Who asks for more than is delegated hears what is missing, instead of using a token that lacks it."""
    with pytest.raises(ScopeNotGrantedError) as caught:
        ask(site.onboard("read:metrics"), "read:metrics write:records")
    assert caught.value.missing == {"write:records"}


def test_revocation_reaches_a_client_that_goes_on(site: Site) -> None:
    """A client that holds a token goes on with it until it asks anew: then it is refused, and gets no mock token."""
    agent = site.onboard()
    with AuthSecClient(base_url=agent.base_url, client_id=agent.client_id, agent_key=agent.agent_key) as client:
        first = client.get_delegation_token()
        assert client.get_delegation_token() == first
        site.admin("POST", f"/clients/{agent.client_id}/revoke")
        with pytest.raises(DelegationRefusedError, match="410") as caught:
            client.get_delegation_token(force_refresh=True)
        assert caught.value.reason == "delegation_ended"
        assert_no_secret(caught.value, first, agent.agent_key)


def test_the_environment_is_enough(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """What onboarding shows, pasted into the environment, makes a LIVE client."""
    agent = site.onboard()
    for name, value in agent.environ().items():
        monkeypatch.setenv(name, value)
    with AuthSecClient() as client:
        assert client.mode == "live"
        assert peek(client.get_delegation_token())["client_id"] == agent.client_id


@pytest.fixture
def away(open_site: OpenSite) -> Iterator[Site]:
    """An authority that a test may stop."""
    with open_site() as site:
        yield site


def test_an_authority_that_is_away_is_said_to_be(away: Site, ask: Ask) -> None:
    """It can be tried again later, and then works; it is no refusal and no reason for mock tokens."""
    agent = away.onboard()
    away.authority.stop()
    with pytest.raises(AuthorityUnreachableError):
        ask(agent)
    away.authority.start()
    assert ask(agent).mode == "live"
