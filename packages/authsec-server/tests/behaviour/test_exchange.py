"""Agents that act for others: an exchanged token says for whom and through whom, and is worth no more than before."""

from __future__ import annotations

from typing import Any

import httpx
import jwt
import pytest
from behaviour.support import Site, peek
from behaviour.test_oauth import granted, refused

from authsec_server.authority import Authority
from authsec_server.oauth.requests import ACCESS_TOKEN, JWT
from authsec_server.testing import OnboardedAgent
from authsec_server.tokens import withdraw
from authsec_server.tokens.withdraw import Withdrawals

EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"


def exchanged(site: Site, agent: OnboardedAgent, token: str, **form: Any) -> str:
    """Return the token that an agent gets for another one."""
    reply = site.exchange(agent, token, **form)
    assert reply.status_code == 200, reply.text
    return str(reply.json()["access_token"])


@pytest.mark.req("RA5")
def test_an_exchanged_token_names_subject_and_actor(site: Site) -> None:
    """`sub` is whose token it was, `act.sub` who acts, `client_id` who asked (RFC 8693 sections 4.1 and 4.3)."""
    first, second = site.onboard("read:metrics write:metrics"), site.onboard("read:metrics")
    reply = site.exchange(second, site.token(first))
    claims = granted(reply)
    assert reply.json()["issued_token_type"] == ACCESS_TOKEN
    assert (claims["sub"], claims["act"]) == (first.spiffe_id, {"sub": second.spiffe_id})
    assert (claims["client_id"], claims["scope"]) == (second.client_id, "read:metrics")
    assert jwt.get_unverified_header(reply.json()["access_token"])["typ"] == "at+jwt"
    with site.verifier(profile="at+jwt") as verifier:
        assert verifier.verify(reply.json()["access_token"]).actor == second.spiffe_id
    (entry,) = site.entries(action="token.exchange", client_id=second.client_id)
    assert entry["details"]["on_behalf_of"] == first.spiffe_id
    assert entry["details"]["actors"] == [second.spiffe_id]


def test_a_delegation_token_can_be_asked_for(site: Site) -> None:
    """With `requested_token_type` `jwt` it is a delegation token, which the SDK's verifiers take."""
    first, second = site.onboard(), site.onboard()
    reply = site.exchange(second, site.token(first), requested_token_type=JWT)
    assert reply.json()["issued_token_type"] == JWT
    with site.verifier() as verifier:
        assert verifier.verify(reply.json()["access_token"]).subject == first.spiffe_id


@pytest.mark.req("RA5")
def test_the_chain_of_actors_is_kept_and_ends(site: Site) -> None:
    """The current actor is outermost, those before it inside; after four the token goes no further."""
    agents = [site.onboard() for _ in range(6)]
    token = site.token(agents[0])
    for agent in agents[1:5]:
        token = exchanged(site, agent, token)
    chain, act = [], peek(token)["act"]
    while act:
        chain.append(act["sub"])
        act = act.get("act")
    assert chain == [agent.spiffe_id for agent in reversed(agents[1:5])]
    assert peek(token)["sub"] == agents[0].spiffe_id
    assert refused(site.exchange(agents[5], token)) == (400, "invalid_request")


@pytest.mark.req("RA5")
def test_nothing_is_widened_or_lengthened(site: Site) -> None:
    """Scopes are those of both, the audience is the token's, and the end is not later than the token's."""
    first = site.onboard("read:metrics read:records", audiences=["authsec-api", "payroll"])
    second = site.onboard("read:metrics write:metrics", audiences=["authsec-api", "payroll"])
    token = site.token(first, ttl=100)
    claims = granted(site.exchange(second, token))
    assert (claims["scope"], claims["aud"]) == ("read:metrics", ["authsec-api"])
    assert claims["exp"] <= peek(token)["exp"]
    for scope in ("write:metrics", "read:records", "admin"):
        assert refused(narrowed := site.exchange(second, token, scope=scope)) == (400, "invalid_scope")
        # The others are none of the subject's to begin with.
        assert (scope in narrowed.text) is (scope == "read:records")
    assert granted(site.exchange(second, token, scope="read:metrics write:metrics"))["scope"] == "read:metrics"
    assert refused(elsewhere := site.exchange(second, token, audience="payroll")) == (400, "invalid_target")
    assert "not for the audience 'payroll'" in elsewhere.json()["error_description"]
    assert granted(site.exchange(second, site.token(first, audience="payroll")))["aud"] == ["payroll"]


@pytest.mark.req("RA5")
def test_who_narrows_a_token_of_its_own_adds_no_actor(site: Site) -> None:
    """An agent can give up scopes of its token; no new actor appears, and the life is not renewed."""
    agent = site.onboard("read:metrics write:metrics")
    token = site.token(agent, ttl=50)
    claims = granted(site.exchange(agent, token, scope="read:metrics"))
    assert "act" not in claims
    assert (claims["sub"], claims["scope"]) == (agent.spiffe_id, "read:metrics")
    assert claims["exp"] <= peek(token)["exp"]


@pytest.mark.req("RV9")
def test_what_hangs_on_a_revoked_token_is_revoked_with_it(site: Site) -> None:
    """Whoever takes a token back, or ends its client, takes back all that it was exchanged for, and that again."""
    for ends in ("token", "client"):
        first, second, third = site.onboard(), site.onboard(), site.onboard()
        token = site.token(first)
        once = exchanged(site, second, token)
        twice = exchanged(site, third, once)
        beside = site.token(second)
        if ends == "token":
            site.admin("POST", f"/tokens/{peek(token)['jti']}/revoke")
        else:
            site.admin("POST", f"/clients/{first.client_id}/revoke")
        site.forget_lists()
        assert [site.is_listed(each) for each in (token, once, twice, beside)] == [True, True, True, False]
        assert refused(site.exchange(third, once)) == (400, "invalid_request")


def test_an_actor_that_loses_its_delegation_loses_what_it_exchanged(site: Site) -> None:
    """An exchanged token rests on the actor's delegation as its own tokens do."""
    first, second = site.onboard(), site.onboard()
    token = exchanged(site, second, site.token(first))
    site.admin("POST", f"/trust-delegations/{second.delegation_id}/revoke")
    site.forget_lists()
    assert site.is_listed(token)


@pytest.mark.req("RA5")
def test_a_bad_subject_token_gives_nothing(site: Site) -> None:
    """Ended, revoked, changed, signed by nobody, of no kind that we know: refused, on record, and never quoted."""
    first, second = site.onboard(), site.onboard()
    good, revoked = site.token(first), site.token(first)
    site.admin("POST", f"/tokens/{peek(revoked)['jti']}/revoke")
    unsigned = jwt.encode(peek(good), "", algorithm="none")
    for text in (revoked, good[:-6] + "AAAAAA", unsigned, first.agent_key, "x"):
        reply = site.exchange(second, text)
        assert refused(reply) == (400, "invalid_request")
        assert text not in reply.text or text == "x"
    (entry, *_) = site.entries(action="token.exchange", client_id=second.client_id, decision="deny")
    assert entry["reason"] == "subject_rejected"


def test_an_ended_subject_token_gives_nothing(timed: Site) -> None:
    """A token that has ended, or has less than a second left, cannot be exchanged."""
    first, second = timed.onboard(), timed.onboard()
    token = timed.token(first, ttl=60)
    timed.fake.advance(59.5)
    assert refused(timed.exchange(second, token)) == (400, "invalid_request")
    timed.fake.advance(1)
    assert refused(timed.exchange(second, token)) == (400, "invalid_request")


@pytest.mark.parametrize(
    "form",
    [
        {"subject_token": ""},
        {"subject_token_type": ""},
        {"subject_token_type": "urn:ietf:params:oauth:token-type:saml2"},
        {"requested_token_type": "urn:ietf:params:oauth:token-type:refresh_token"},
        {"actor_token": "x", "actor_token_type": ACCESS_TOKEN},
    ],
    ids=str,
)
def test_what_is_not_supported_is_said(site: Site, form: dict[str, str]) -> None:
    """Members of RFC 8693 that this server does not take are `invalid_request`, and not passed over."""
    first, second = site.onboard(), site.onboard()
    assert refused(site.exchange(second, site.token(first), **form)) == (400, "invalid_request")


def test_strangers_learn_nothing_of_a_subject_token(site: Site) -> None:
    """Without a proof the answer is the same, whatever the subject token is."""
    first = site.onboard()

    def reply(token: str) -> httpx.Response:
        form = {"grant_type": EXCHANGE, "subject_token": token, "subject_token_type": ACCESS_TOKEN}
        return site.oauth("token", client_id=first.client_id, **form)

    answers = {reply(token).text for token in (site.token(first), "x", site.token(first)[:-5] + "AAAAA")}
    assert len(answers) == 1
    assert "invalid_client" in answers.pop()


@pytest.mark.inside
@pytest.mark.req("RV9")
def test_a_crowd_that_hangs_on_one_token_ends_with_it(timed: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Agents exchange as many as they like: a revocation takes some of them at once, and the rest in turns."""
    monkeypatch.setattr(withdraw, "MOST_AT_ONCE", 5)
    first, second, third = timed.onboard(), timed.onboard(), timed.onboard()
    token = timed.token(first)
    children = [exchanged(timed, second, token) for _ in range(9)]
    grandchildren = [exchanged(timed, third, child) for child in children]
    timed.admin("POST", f"/clients/{first.client_id}/revoke")
    timed.forget_lists()
    assert timed.is_listed(token), "what was named is gone at once"
    assert sum(map(timed.is_listed, children)) >= 5
    timed.authority.run(lambda inner: Withdrawals(inner.database, inner.ledger).finish())
    timed.forget_lists()
    assert all(map(timed.is_listed, [*children, *grandchildren]))
    assert not timed.is_listed(timed.token(second))


@pytest.mark.inside
@pytest.mark.req("RA5")
def test_a_forged_token_is_not_laundered(site: Site) -> None:
    """Who has a signing key, but not the database, gets nothing for a token that was never issued like that."""
    first, second = site.onboard(), site.onboard("read:metrics write:metrics")
    claims = peek(site.token(first))

    async def forge(inner: Authority) -> str:
        changed = {**claims, "sub": "somebody", "scope": "write:metrics", "permissions": ["write:metrics"]}
        return await inner.keyring.active().sign("JWT", changed)

    forged = site.authority.run(forge)
    assert refused(site.exchange(second, forged)) == (400, "invalid_request")
    assert site.oauth("introspect", second, token=forged).json() == {"active": False}
