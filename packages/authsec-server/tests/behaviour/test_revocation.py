"""How soon is what was revoked refused? By the list within a second, by core's verifier within its usual five."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import sqlalchemy as sa
from behaviour.support import OpenSite, Site, peek

from authsec_core.errors import RevokedTokenError, VerificationUnavailableError
from authsec_core.testing import FakeClock
from authsec_core.verify import TokenVerifier
from authsec_server.testing import OnboardedAgent

PUBLISHED = 1.0  # seconds after which the list says so, as the documentation promises
MAX_AGE = 5.0  # seconds: core's `revocation_max_age` where nothing is said
Ending = Callable[[Site, OnboardedAgent, str], Any]


def _client(site: Site, agent: OnboardedAgent, token: str) -> None:
    site.admin("POST", f"/clients/{agent.client_id}/revoke", status=200)


def _disabled_client(site: Site, agent: OnboardedAgent, token: str) -> None:
    site.admin("PATCH", f"/clients/{agent.client_id}", json={"state": "disabled"})


def _key(site: Site, agent: OnboardedAgent, token: str) -> None:
    site.admin("POST", f"/clients/{agent.client_id}/keys/{agent.key_id}/revoke", status=200)


def _token(site: Site, agent: OnboardedAgent, token: str) -> None:
    site.admin("POST", f"/tokens/{peek(token)['jti']}/revoke", status=204)


def _delegation(site: Site, agent: OnboardedAgent, token: str) -> None:
    site.admin("POST", f"/trust-delegations/{agent.delegation_id}/revoke", status=200)


def _role(site: Site, agent: OnboardedAgent, token: str) -> None:
    site.admin("PUT", f"/roles/{agent.role}", json={"permissions": ["read:records"]})


def _terms(**terms: Any) -> Ending:
    def ends(site: Site, agent: OnboardedAgent, token: str) -> None:
        site.admin("PATCH", f"/trust-delegations/{agent.delegation_id}", json=terms)

    return ends


ENDINGS: dict[str, Ending] = {
    "the token": _token,
    "the client": _client,
    "the client, disabled": _disabled_client,
    "the key": _key,
    "the delegation": _delegation,
    "the delegation, disabled": _terms(enabled=False),
    "the delegation, for another API": _terms(audiences=["billing-api"]),
    "the delegation, for fewer actions": _terms(allowed_actions=["read:records"]),
    "the delegation, for shorter": _terms(max_duration=1, unit="minutes"),
    "the role, narrowed": _role,
}


@pytest.fixture(scope="module")
def replicas(timed: Site) -> Iterator[list[Site]]:
    """Three servers of one authority."""
    with ExitStack() as stack:
        yield [timed, *(stack.enter_context(timed.replica()) for _ in range(2))]


@pytest.fixture
def verifiers(replicas: list[Site]) -> Iterator[list[TokenVerifier]]:
    """Verifiers as they are by default, one for each server."""
    with ExitStack() as stack:
        yield [stack.enter_context(replica.verifier()) for replica in replicas]


def until(clock: FakeClock, second: float) -> None:
    """Move on to this part of a second, so that what is measured does not depend on where it began."""
    clock.advance((second - clock.wall()) % 1.0)


@pytest.mark.req("RV9")
@pytest.mark.parametrize("ending", list(ENDINGS))
def test_what_was_revoked_is_refused_in_time(replicas: list[Site], verifiers: list[TokenVerifier], ending: str) -> None:
    """Ended at one server: the list of each says so within a second, and a verifier at each refuses within five."""
    first, clock = replicas[0], replicas[0].fake
    agent, other = first.onboard("read:metrics read:records"), first.onboard("read:metrics read:records")
    token, others = first.token(agent), first.token(other)
    clock.advance(PUBLISHED)
    for replica, verifier in zip(replicas, verifiers, strict=True):
        assert verifier.verify(token).client_id == agent.client_id
        assert not replica.is_listed(token), "each has a list in its hands that is as new as can be"
    ENDINGS[ending](first, agent, token)
    clock.advance(PUBLISHED)
    assert [replica.is_listed(token) for replica in replicas] == [True, True, True]
    assert not first.is_listed(others)
    clock.advance(MAX_AGE - PUBLISHED)
    for verifier in verifiers:
        with pytest.raises(RevokedTokenError):
            verifier.verify(token)
        with pytest.raises(RevokedTokenError):
            asyncio.run(verifier.averify(token))
        assert verifier.verify(others).client_id == other.client_id


@pytest.mark.req("RV9")
@pytest.mark.parametrize("phase", [0.0, 0.25, 0.5, 0.999])
def test_a_list_is_never_older_than_a_second(replicas: list[Site], phase: float) -> None:
    """Wherever in a second it happens, and however often the list is asked for: a second later every server says so."""
    clock = replicas[0].fake
    agent = replicas[0].onboard()
    token = replicas[0].token(agent)
    clock.advance(2.0)
    until(clock, phase)
    for replica in replicas:
        assert not replica.is_listed(token), "each has made its list just now"
    _token(replicas[1], agent, token)
    for _ in range(4):
        clock.advance(0.25)
        for replica in replicas:
            replica.status_list()
    assert all(replica.is_listed(token) for replica in replicas)


@pytest.mark.req("RV9")
def test_what_was_revoked_gets_no_new_token_at_once(replicas: list[Site]) -> None:
    """No server waits for anything: the next request is refused everywhere, whoever had asked there before."""
    agent = replicas[0].onboard()
    asked = [replica.ask(agent).status_code for replica in replicas]
    _delegation(replicas[1], agent, "")
    assert asked == [200, 200, 200]
    assert [replica.ask(agent).status_code for replica in replicas] == [410, 410, 410]


@pytest.mark.req("RV9")
def test_an_authority_that_is_away_cannot_vouch(open_site: OpenSite) -> None:
    """A verifier goes by the list that it has for `revocation_max_age` seconds, and then refuses; until it is back."""
    clock = FakeClock()
    with open_site(clock=clock) as site, site.verifier() as verifier:
        agent = site.onboard()
        token = site.token(agent)
        assert verifier.verify(token).key_id
        site.authority.stop()
        clock.advance(MAX_AGE - 0.001)
        assert verifier.verify(token).key_id
        clock.advance(0.001)
        with pytest.raises(VerificationUnavailableError):
            verifier.verify(token)
        site.authority.start()
        clock.advance(MAX_AGE)
        assert verifier.verify(token).key_id
        _client(site, agent, token)
        clock.advance(MAX_AGE)
        with pytest.raises(RevokedTokenError):
            verifier.verify(token)


@pytest.mark.req("RV9")
def test_a_list_that_cannot_be_read_is_not_made_up(open_site: OpenSite) -> None:
    """Without its table the authority publishes no list, not even the one it has, and verifiers refuse in time."""
    clock = FakeClock()
    with open_site(clock=clock) as site, site.verifier() as verifier:
        token = site.token(site.onboard())
        assert verifier.verify(token).key_id
        site.authority.run(_without_tokens)
        try:
            url = f"{site.authority.base_url}/authsec/statuslists/0"
            clock.advance(PUBLISHED)
            assert site.http.get(url).status_code >= 500
            clock.advance(MAX_AGE - PUBLISHED)
            with pytest.raises(VerificationUnavailableError):
                verifier.verify(token)
        finally:
            site.authority.run(_with_tokens)


@pytest.mark.req("RV9")
def test_a_restart_forgets_no_revocation(open_site: OpenSite) -> None:
    """What was acknowledged is in the list of the server that comes after."""
    clock = FakeClock()
    with open_site(clock=clock) as site:
        agent = site.onboard()
        token, other = site.token(agent), site.token(site.onboard())
        _token(site, agent, token)
        site.authority.stop()
        site.authority.start()
        assert (site.is_listed(token), site.is_listed(other)) == (True, False)


async def _without_tokens(inner: Any) -> None:
    await _execute(inner, "ALTER TABLE tokens RENAME TO tokens_away")


async def _with_tokens(inner: Any) -> None:
    await _execute(inner, "ALTER TABLE tokens_away RENAME TO tokens")


async def _execute(inner: Any, statement: str) -> None:
    await inner.database.write(lambda connection: connection.execute(sa.text(statement)))
