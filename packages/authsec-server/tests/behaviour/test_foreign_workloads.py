"""Workloads outside of Kubernetes: JWT-SVIDs of a SPIFFE trust domain, and tokens of any OIDC issuer.

What others make of it is asked of others: the library `spiffe` has a validator of its own.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from behaviour.support import Site, peek
from behaviour.workloads import bring, fetch
from spiffe import JwtBundle, JwtSvid, TrustDomain
from spiffe.svid.errors import InvalidTokenError

from authsec_core.testing import LoopbackServer, Reply, Request
from authsec_core.testing._signing import Es256SigningKey, SigningKey, first_key
from authsec_server.testing import OnboardedAgent

Mint = Callable[..., str]


class Domain:
    """A SPIFFE trust domain with an ES256 key, whose bundle is published on loopback as SPIRE publishes its own."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.id = f"spiffe://{name}"
        self.key = Es256SigningKey.generate(secrets.token_urlsafe(16), use="jwt-svid")
        self.server = LoopbackServer(self._answer)

    def bundle(self) -> dict[str, Any]:
        """Return the bundle: the key for JWT-SVIDs, and one for X.509-SVIDs, which is not for us."""
        x509 = {**Es256SigningKey.generate("x", use="x509-svid").jwk, "x5c": ["MIIB"]}
        del x509["kid"]
        return {"spiffe_sequence": 1, "spiffe_refresh_hint": 300, "keys": [x509, dict(self.key.jwk)]}

    def svid(self, path: str, audience: str, now: float, **claims: object) -> str:
        """Return a JWT-SVID as SPIRE makes them, with these claims besides; `...` leaves one out."""
        at = int(now)
        usual = {"aud": [audience], "exp": at + 300, "iat": at, "sub": f"{self.id}{path}", **claims}
        said = {name: value for name, value in usual.items() if value is not ...}
        return self.key.sign({"alg": "ES256", "kid": self.key.kid, "typ": "JWT"}, said)

    def _answer(self, request: Request) -> Reply:
        return Reply(headers={"Content-Type": "application/json"}, body=json.dumps(self.bundle()).encode())


@pytest.fixture
def domain() -> Iterator[Domain]:
    """A trust domain that nobody has registered."""
    one = Domain(f"{secrets.token_hex(4)}.example.org")
    with one.server:
        yield one


def _register(site: Site, domain: Domain, **more: Any) -> dict[str, Any]:
    body = {"name": f"spire-{secrets.token_hex(4)}", "kind": "spiffe", "issuer": domain.id, **more}
    made: dict[str, Any] = site.admin("POST", "/issuers", json=body, status=201)
    return made


def _agent(site: Site, selectors: dict[str, str], platform: str = "vm") -> OnboardedAgent:
    agent: OnboardedAgent = site.onboard(platform=platform, selectors=selectors)
    return agent


def _refused(site: Site, agent: OnboardedAgent, token: str) -> bool:
    return bring(site, agent, token).status_code == 401


def test_a_jwt_svid_proves_the_workload(site: Site, domain: Domain, tmp_path: Path) -> None:
    """The SDK sends what a SPIFFE helper wrote to a file, signed with ES256, and gets a token."""
    _register(site, domain, jwks_url=f"{domain.server.base_url}/bundle")
    agent = _agent(site, {"spiffe:id": f"{domain.id}/billing"})
    file = tmp_path / "svid"
    file.write_text(domain.svid("/billing", site.authority.issuer, site.clock.wall()))
    assert fetch(agent, file).client_id == agent.client_id
    assert len(domain.server.requests) == 1
    (entry,) = site.entries(client_id=agent.client_id, action="token.issue")
    assert entry["details"]["workload"] == f"{domain.id}/billing"


def test_another_svid_proves_nothing(site: Site, domain: Domain) -> None:
    """Another path, audience, trust domain, time or key: 401."""
    _register(site, domain, jwks=domain.bundle())
    agent = _agent(site, {"spiffe:id": f"{domain.id}/billing"})
    audience, now = site.authority.issuer, site.clock.wall()
    assert bring(site, agent, domain.svid("/billing", audience, now, iat=..., iss="anybody")).status_code == 200
    other = Domain(domain.name)
    for wrong in (
        domain.svid("/billing/batch", audience, now),
        domain.svid("/Billing", audience, now),
        domain.svid("/billing", "https://other.example", now),
        domain.svid("/billing", audience, now - 400),
        domain.svid("/billing", audience, now, sub="spiffe://example.com/billing"),
        domain.svid("/billing", audience, now, exp=...),
        domain.svid("", audience, now),
        other.svid("/billing", audience, now),
        first_key().sign({"alg": "RS256", "kid": domain.key.kid}, peek(domain.svid("/billing", audience, now))),
    ):
        assert _refused(site, agent, wrong)


def test_a_cluster_and_a_trust_domain_are_told_apart(site: Site, domain: Domain) -> None:
    """An SVID whose `iss` is that of a registered OIDC issuer is that issuer's, which did not sign it."""
    _register(site, domain, jwks=domain.bundle())
    issuer = f"https://{secrets.token_hex(4)}.example"
    site.admin(
        "POST",
        "/issuers",
        json={
            "name": secrets.token_hex(4),
            "kind": "oidc",
            "issuer": issuer,
            "jwks": {"keys": [dict(first_key().jwk)]},
        },
        status=201,
    )
    agent = _agent(site, {"spiffe:id": f"{domain.id}/a"})
    assert _refused(site, agent, domain.svid("/a", site.authority.issuer, site.clock.wall(), iss=issuer))


@pytest.fixture
def mint(site: Site) -> Mint:
    """A function that makes tokens of an OIDC issuer, such as a CI system, which is registered with two claims."""
    key, issuer = SigningKey.generate(), f"https://{secrets.token_hex(4)}.ci.example"
    body = {
        "name": f"ci-{secrets.token_hex(4)}",
        "kind": "oidc",
        "issuer": issuer,
        "jwks": {"keys": [dict(key.jwk)]},
        "claims": ["repository", "ref_protected", "run_attempt", "actor", "groups"],
    }
    site.admin("POST", "/issuers", json=body, status=201)

    def minted(**claims: object) -> str:
        now = int(site.clock.wall())
        usual = {"iss": issuer, "sub": "repo:acme/app:ref:refs/heads/main", "aud": site.authority.issuer,
                 "exp": now + 300, "iat": now, "repository": "acme/app"}  # fmt: skip
        return key.sign({"alg": "RS256", "typ": "JWT", "kid": key.kid}, {**usual, **claims})

    return minted


def test_claims_of_an_oidc_issuer_become_selectors(site: Site, mint: Mint) -> None:
    """Listed claims that are text, numbers or booleans prove something; lists, and what is not listed, never."""
    issuer = peek(mint())["iss"]
    agent = _agent(site, {"oidc:iss": issuer, "oidc:repository": "acme/app"}, "other")
    typed = {"oidc:iss": issuer, "oidc:ref_protected": "true", "oidc:run_attempt": "2"}
    assert bring(site, agent, mint()).status_code == 200
    for wrong in (mint(repository="acme/other"), mint(repository=["acme/app"]), mint(repository=None)):
        assert _refused(site, agent, wrong)
    assert bring(site, _agent(site, typed), mint(ref_protected=True, run_attempt=2)).status_code == 200
    assert _refused(site, _agent(site, typed), mint(ref_protected=False, run_attempt=2))
    assert _refused(site, _agent(site, {"oidc:iss": issuer, "oidc:unlisted": "x"}), mint(unlisted="x"))
    assert _refused(site, _agent(site, {"oidc:iss": issuer, "oidc:groups": "a"}), mint(groups=["a"]))
    assert _refused(site, _agent(site, {"oidc:iss": issuer}), mint())
    assert _refused(site, _agent(site, {"oidc:repository": "acme/app"}), mint())


def test_no_claim_can_be_another_selector(site: Site, mint: Mint) -> None:
    """An issuer of one kind proves nothing of another kind, whatever it writes."""
    forged = mint(**{"k8s:ns": "production", "k8s:sa": "support-sa", "spiffe:id": "spiffe://example.org/a"})
    kubernetes = _agent(site, {"k8s:ns": "production", "k8s:sa": "support-sa"}, "kubernetes")
    for agent in (kubernetes, _agent(site, {"spiffe:id": "spiffe://example.org/a"})):
        assert _refused(site, agent, forged)


# What others make of our tokens, and of those that the tests make


def test_the_svids_of_these_tests_are_svids(domain: Domain, site: Site) -> None:
    """The library `spiffe` takes them, with the bundle."""
    token = domain.svid("/billing", site.authority.issuer, site.clock.wall())
    keys = json.dumps({"keys": domain.bundle()["keys"][1:]}).encode()  # it wants a key id of each
    svid = JwtSvid.parse_and_validate(token, JwtBundle.parse(TrustDomain(domain.name), keys), {site.authority.issuer})
    assert str(svid.spiffe_id) == f"{domain.id}/billing"


def test_our_tokens_are_jwt_svids(site: Site) -> None:
    """Delegation tokens validate with the library `spiffe` and our JWKS as the bundle of our trust domain."""
    agent = site.onboard(platform="kubernetes", selectors={"k8s:ns": "production", "k8s:sa": "support-sa"})
    token = site.token(agent)
    jwks = site.http.get(site.authority.jwks_url).content
    bundle = JwtBundle.parse(TrustDomain(site.authority.settings.trust_domain), jwks)
    svid = JwtSvid.parse_and_validate(token, bundle, {"authsec-api"})
    assert str(svid.spiffe_id) == agent.spiffe_id == f"spiffe://{bundle.trust_domain}/ns/production/sa/support-sa"
    with pytest.raises(InvalidTokenError, match="Audience"):
        JwtSvid.parse_and_validate(token, bundle, {"other-api"})
