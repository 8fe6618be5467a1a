"""An agent that keeps its own key proves who it is by what it signs: once, for us alone, and a moment ago."""

from __future__ import annotations

import base64
import json
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import jwt
import pytest
from behaviour.support import Call, Site, at_once, peek
from behaviour.test_oauth import refused
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from authsec_core.testing import SigningKey, assert_no_secret
from authsec_server.testing import OnboardedAgent

KIND = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
REFUSED = (401, "invalid_client")


@dataclass
class OwnKey:
    """A key that an agent keeps."""

    algorithm: str = "RS256"
    private: Any = field(default_factory=lambda: SigningKey.generate().private)

    @property
    def jwk(self) -> dict[str, Any]:
        """The public half."""
        kind = jwt.algorithms.RSAAlgorithm if self.algorithm == "RS256" else jwt.algorithms.ECAlgorithm
        found: dict[str, Any] = kind.to_jwk(self.private.public_key(), as_dict=True)
        found.pop("key_ops", None)
        return found

    def sign(self, site: Site, agent: OnboardedAgent, *, headers: Any = None, **changes: Any) -> str:
        """Return an assertion that is good but for the changes; a change to None leaves a claim out."""
        now = int(site.clock.wall())
        claims = {
            "iss": agent.client_id,
            "sub": agent.client_id,
            "aud": site.authority.issuer,
            "jti": str(uuid.uuid4()),
            "iat": now,
            "exp": now + 60,
            **changes,
        }
        claims = {name: value for name, value in claims.items() if value is not None}
        return jwt.encode(claims, self.private, algorithm=self.algorithm, headers=headers)


@pytest.fixture(scope="module")
def key() -> OwnKey:
    """An RSA key; making one takes a while."""
    return OwnKey()


def register(site: Site, agent: OnboardedAgent, jwk: dict[str, Any], status: int = 201) -> Any:
    """Register a public key of an agent's."""
    return site.admin("POST", f"/clients/{agent.client_id}/public-keys", status=status, json={"jwk": jwk})


def ask(site: Site, assertion: str, **form: Any) -> httpx.Response:
    """Ask for a token with an assertion."""
    form = {"client_assertion_type": KIND, "client_assertion": assertion, **form}
    return site.oauth("token", grant_type="client_credentials", **form)


@pytest.mark.req("RA2")
def test_a_signed_assertion_proves_the_client(site: Site, key: OwnKey) -> None:
    """RSA or P-256, with the client id beside it or without: the token is the agent's, and rests on that key."""
    for own in (key, OwnKey("ES256", ec.generate_private_key(ec.SECP256R1()))):
        agent = site.onboard()
        key_id = register(site, agent, {**own.jwk, "kid": "mine"})["key_id"]
        for given in ({}, {"client_id": agent.client_id.upper()}):
            reply = ask(site, own.sign(site, agent, headers={"typ": "client-authentication+jwt"}), **given)
            assert reply.status_code == 200, reply.text
            claims = peek(reply.json()["access_token"])
            assert claims["client_id"] == agent.client_id
            assert site.admin("GET", f"/tokens/{claims['jti']}")["key_id"] == key_id
        assert ask(site, own.sign(site, agent, headers={"kid": "mine"})).status_code == 200
        assert refused(ask(site, own.sign(site, agent, headers={"kid": "another"}))) == REFUSED


@pytest.mark.req("RA2")
def test_an_assertion_is_good_once(site: Site, key: OwnKey) -> None:
    """The second use is refused, also at another endpoint, and is on record; another client's `jti` is its own."""
    agent, other = site.onboard(), site.onboard()
    for each in (agent, other):
        register(site, each, key.jwk)
    assertion = key.sign(site, agent, jti="used")
    assert ask(site, assertion).status_code == 200
    assert refused(ask(site, assertion)) == REFUSED
    again = site.oauth("introspect", client_assertion_type=KIND, client_assertion=assertion, token="x")
    assert refused(again) == REFUSED
    assert refused(ask(site, key.sign(site, agent, jti="used"))) == REFUSED
    assert ask(site, key.sign(site, other, jti="used")).status_code == 200
    reasons = [entry["reason"] for entry in site.entries(client_id=agent.client_id, decision="deny")]
    assert reasons == ["proof_wrong"] * 3


@pytest.mark.req("RA2")
@pytest.mark.req("RA8")
def test_of_many_who_replay_an_assertion_one_wins(site: Site, key: OwnKey) -> None:
    """64 uses at once give one token."""
    agent = site.onboard()
    register(site, agent, key.jwk)
    form = f"grant_type=client_credentials&client_assertion_type={KIND}&client_assertion={key.sign(site, agent)}"
    call = Call("POST", f"{site.authority.issuer}/oauth2/token", form=form)
    statuses = [reply.status_code for reply in at_once([call] * 64)]
    assert sorted(statuses) == [200] + [401] * 63


@pytest.mark.req("RA2")
@pytest.mark.parametrize(
    "change",
    [
        {"aud": None},
        {"aud": "https://elsewhere.example/authsec"},
        {"aud": lambda site: [site.authority.issuer, "https://elsewhere.example"]},
        {"aud": lambda site: f"{site.authority.issuer}/oauth2/token"},
        {"aud": lambda site: f"{site.authority.issuer}/"},
        {"jti": None},
        {"jti": ""},
        {"jti": 7},
        {"jti": "x" * 257},
        {"iat": None},
        {"exp": None},
        {"exp": True},
        {"iat": lambda site: site.clock.wall() - 301, "exp": lambda site: site.clock.wall() + 3600},
        {"exp": lambda site: site.clock.wall() - 1},
        {"iat": lambda site: site.clock.wall() + 90},
        {"nbf": lambda site: site.clock.wall() + 90},
        {"iss": "somebody"},
        {"sub": "somebody"},
    ],
    ids=lambda change: "-".join(change),
)
def test_an_assertion_says_what_it_has_to(site: Site, key: OwnKey, change: dict[str, Any]) -> None:
    """For the issuer alone, from and about the client, with a `jti`, five minutes old at most, or it is none."""
    agent = site.onboard()
    register(site, agent, key.jwk)
    made = {name: value(site) if callable(value) else value for name, value in change.items()}
    reply = ask(site, key.sign(site, agent, **made), client_id=agent.client_id)
    assert refused(reply) == REFUSED


def test_a_long_life_counts_for_five_minutes(timed: Site, key: OwnKey) -> None:
    """Libraries give an assertion an hour; it is good for as long as we remember that it was used."""
    agent = timed.onboard()
    register(timed, agent, key.jwk)
    hour = {"exp": int(timed.clock.wall()) + 3600}
    early, late = key.sign(timed, agent, **hour), key.sign(timed, agent, **hour)
    timed.fake.advance(299)
    assert ask(timed, early).status_code == 200
    timed.fake.advance(1)
    assert refused(ask(timed, late)) == REFUSED


@pytest.mark.req("RA2")
def test_no_other_key_will_do(site: Site, key: OwnKey) -> None:
    """Not another client's, a revoked or ended one, the public half as a secret, another algorithm, or none."""
    agent, other = site.onboard(), site.onboard()
    key_id = register(site, agent, key.jwk)["key_id"]
    foreign = OwnKey("RS256", rsa.generate_private_key(65537, 2048))
    register(site, other, foreign.jwk)
    now = int(site.clock.wall())
    claims = {"iss": agent.client_id, "sub": agent.client_id, "aud": site.authority.issuer, "jti": "1", "iat": now}
    claims["exp"] = now + 60
    bad: dict[str, Callable[[], str]] = {
        "another client's key": lambda: foreign.sign(site, agent),
        "PS256 with the RSA key": lambda: jwt.encode(claims, key.private, algorithm="PS256"),
        "the public half as a secret": lambda: jwt.encode(claims, key.jwk["n"], algorithm="HS256"),
        "no signature": lambda: jwt.encode(claims, "", algorithm="none"),
        "a delegation token": lambda: site.token(agent),
        "another type": lambda: key.sign(site, agent, headers={"typ": "at+jwt"}),
        "garbage": lambda: "garbage",
    }
    for name, made in bad.items():
        reply = ask(site, made(), client_id=agent.client_id)
        assert refused(reply)[0] in (400, 401), name
    token = ask(site, key.sign(site, agent)).json()["access_token"]
    site.admin("POST", f"/clients/{agent.client_id}/keys/{key_id}/revoke")
    assert refused(ask(site, key.sign(site, agent))) == REFUSED
    assert site.is_listed(token), "tokens that were got with a key end with it"


def test_only_a_fit_public_key_is_registered(site: Site, key: OwnKey) -> None:
    """A private key is refused without an echo of it; so is a weak one, one for another use, and one that is there."""
    agent = site.onboard()
    private = jwt.algorithms.RSAAlgorithm.to_jwk(key.private, as_dict=True)
    weak = OwnKey("RS256", rsa.generate_private_key(65537, 1024)).jwk  # noqa: S505 -- that is the point
    for jwk in (
        private,
        weak,
        {**key.jwk, "use": "enc"},
        {**key.jwk, "e": "Aw"},
        {"kty": "oct", "k": "c2VjcmV0"},
        {"kty": "EC", "crv": "P-256", "x": "A" * 43, "y": "A" * 43},
        {"kty": "EC", "crv": "P-521", "x": "AA", "y": "AA"},
        {"kty": "RSA"},
        {},
    ):
        problem = register(site, agent, jwk, status=422)
        assert problem["field"] == "jwk"
        assert_no_secret([str(problem)], private["d"], private["p"])
    registered = register(site, agent, {**key.jwk, "alg": "RS256", "use": "sig"})
    assert registered["jwk"] == {name: key.jwk[name] for name in ("kty", "n", "e")}
    register(site, agent, {**key.jwk, "kid": "again"}, status=409)
    listed = site.admin("GET", f"/clients/{agent.client_id}/keys")["items"]
    assert [found["jwk"] for found in listed] == [None, registered["jwk"]]


@pytest.mark.req("RA10")
def test_odd_assertions_are_refused_and_nothing_fails(site: Site, key: OwnKey) -> None:
    """A type that is no text, a surrogate, deep nesting, a repeated member, critical headers: no proof, and no 5xx."""
    agent = site.onboard()
    register(site, agent, key.jwk)

    def encoded(text: str) -> str:
        return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()

    payload = json.dumps({"iss": agent.client_id, "sub": agent.client_id})
    nested = "[" * 1400
    odd = [
        f"{encoded(header)}.{encoded(body)}.AAAA"
        for header, body in (
            ('{"alg":"RS256","typ":[]}', payload),
            ('{"alg":"RS256","typ":{"a":1}}', payload),
            ('{"alg":["RS256"]}', payload),
            ('{"alg":"RS256","kid":7}', payload),
            ('{"alg":"RS256"}', nested),
            (nested, payload),
            ('{"alg":"RS256"}', '{"iss":"a","iss":"b"}'),
            ("[]", "[]"),
        )
    ]
    odd += [
        key.sign(site, agent, jti="\ud800"),
        key.sign(site, agent, jti="a\nb"),
        key.sign(site, agent, headers={"crit": ["b64"], "b64": True}),
    ]
    for endpoint in ("token", "introspect", "revoke"):
        for assertion in odd:
            form = {"client_assertion_type": KIND, "client_assertion": assertion, "client_id": agent.client_id}
            reply = site.oauth(endpoint, grant_type="client_credentials", token="x", **form)
            assert refused(reply) == REFUSED, assertion
