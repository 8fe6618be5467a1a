"""Agents that act for people: a user's token of a registered identity provider is exchanged, and what that is worth."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import pytest
from behaviour.support import Site, peek
from behaviour.test_oauth import granted, refused

from authsec_core.testing import SigningKey

ID_TOKEN = "urn:ietf:params:oauth:token-type:id_token"
REJECTED = (400, "invalid_request")


@cache
def key(name: str) -> SigningKey:
    """A provider's key."""
    return SigningKey.generate()


@dataclass(frozen=True)
class Provider:
    """An identity provider of a name, which is registered at this site."""

    site: Site
    name: str

    @property
    def issuer(self) -> str:
        """Its `iss`."""
        return f"https://{self.name}.example"

    def register(self) -> str:
        """Let the authority trust it for users; return its id."""
        body = {"name": self.name, "kind": "users", "issuer": self.issuer, "audience": "the-agents"}
        made = self.site.admin(
            "POST", "/issuers", status=201, json={**body, "jwks": {"keys": [dict(key(self.name).jwk)]}}
        )
        return str(made["issuer_id"])

    def token(self, sub: str = "ada", **changes: Any) -> str:
        """Return an ID token."""
        now = int(self.site.clock.wall())
        claims = {"iss": self.issuer, "sub": sub, "aud": "the-agents", "iat": now, "exp": now + 600, **changes}
        own = key(self.name)
        return own.sign({"alg": "RS256", "typ": "JWT", "kid": own.kid}, claims)


@pytest.mark.req("RA5")
def test_a_user_stays_who_they_are(site: Site) -> None:
    """`sub` is the user, `sub_id` who says so, `act` the agent; scopes are the agent's, and the user's end is kept."""
    provider, agent = Provider(site, "idp-one"), site.onboard("read:records")
    provider.register()
    token = provider.token(exp=int(site.clock.wall()) + 120, scope="admin everything", roles=["admin"])
    claims = granted(site.exchange(agent, token, subject_token_type=ID_TOKEN))
    assert claims["sub"] == "ada"
    assert claims["sub_id"] == {"format": "iss_sub", "iss": provider.issuer, "sub": "ada"}
    assert claims["act"] == {"sub": agent.spiffe_id}
    assert (claims["scope"], claims["client_id"]) == ("read:records", agent.client_id)
    assert claims["exp"] <= peek(token)["exp"]
    assert "roles" not in claims
    (entry,) = site.entries(action="token.exchange", client_id=agent.client_id)
    assert (entry["details"]["on_behalf_of"], entry["details"]["subject_issuer"]) == ("ada", "idp-one")


@pytest.mark.req("RA5")
def test_the_user_is_kept_through_other_agents(site: Site) -> None:
    """A second agent that exchanges the first one's token acts for the same user, and the chain says through whom."""
    provider, first, second = Provider(site, "idp-two"), site.onboard(), site.onboard()
    provider.register()
    token = site.exchange(first, provider.token(), subject_token_type=ID_TOKEN).json()["access_token"]
    claims = granted(site.exchange(second, token))
    assert claims["sub"] == "ada"
    assert claims["sub_id"]["iss"] == provider.issuer
    assert claims["act"] == {"sub": second.spiffe_id, "act": {"sub": first.spiffe_id}}


@pytest.mark.req("RA4")
def test_no_user_passes_for_an_agent(site: Site) -> None:
    """A `sub` that looks like a SPIFFE ID, or that cannot be printed, is refused, whoever says so."""
    provider, agent = Provider(site, "idp-three"), site.onboard()
    provider.register()
    for sub in (agent.spiffe_id, "spiffe://elsewhere/x", "SPIFFE://x/y", "a\nb", "x" * 256):
        assert refused(site.exchange(agent, provider.token(sub), subject_token_type=ID_TOKEN)) == REJECTED, sub


@pytest.mark.req("RA5")
def test_a_bad_user_token_gives_nothing(site: Site) -> None:
    """Another audience, an end that has passed, another's key, an issuer that nobody registered, another's agent."""
    provider, stranger, agent = Provider(site, "idp-four"), Provider(site, "idp-five"), site.onboard()
    provider.register()
    forged = key("idp-five").sign({"alg": "RS256", "typ": "JWT", "kid": key("idp-four").kid}, peek(provider.token()))
    bad = {
        "audience": provider.token(aud="somebody"),
        "ended": provider.token(exp=int(site.clock.wall()) - 60),
        "key": forged,
        "issuer": stranger.token(),
        "may_act": provider.token(may_act={"sub": "somebody-else"}),
        "malformed may_act": provider.token(may_act="me"),
    }
    for what, token in bad.items():
        reply = site.exchange(agent, token, subject_token_type=ID_TOKEN)
        assert refused(reply) == REJECTED, what
        assert token not in reply.text
    mine = provider.token(may_act={"sub": agent.client_id})
    assert granted(site.exchange(agent, mine, subject_token_type=ID_TOKEN))["sub"] == "ada"


@pytest.mark.req("RV9")
def test_tokens_end_with_the_trust_in_their_issuer(site: Site) -> None:
    """Once a provider is disabled, its users' tokens give nothing, and what they gave is revoked, whoever has it."""
    provider, first, second = Provider(site, "idp-six"), site.onboard(), site.onboard()
    issuer_id = provider.register()
    token = site.exchange(first, provider.token(), subject_token_type=ID_TOKEN).json()["access_token"]
    further = site.exchange(second, token).json()["access_token"]
    own = site.token(first)
    site.admin("PATCH", f"/issuers/{issuer_id}", json={"enabled": False})
    site.forget_lists()
    assert [site.is_listed(each) for each in (token, further, own)] == [True, True, False]
    assert refused(site.exchange(first, provider.token(), subject_token_type=ID_TOKEN)) == REJECTED
    site.admin("PATCH", f"/issuers/{issuer_id}", json={"enabled": True})
    assert granted(site.exchange(first, provider.token(), subject_token_type=ID_TOKEN))["sub"] == "ada"
