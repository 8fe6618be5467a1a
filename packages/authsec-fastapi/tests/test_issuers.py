"""Several issuers at once: each token is held against the terms of the issuer that it is from, and of no other."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from guard_support import AUDIENCE, ISSUER, Issuer, Memory, key

from authsec_core import ConfigurationError, MockAuthority, TokenRejectedError
from authsec_core._clock import SYSTEM_CLOCK
from authsec_core._jws import parse_jws
from authsec_core.testing import SigningKey
from authsec_core.testing._signing import Es256SigningKey
from authsec_fastapi import AuthSecGuard, Principal, TrustedIssuer, authentication
from authsec_fastapi.authentication import TokenAuthenticator
from authsec_fastapi.principal import ClaimPath

IDP = "https://idp.example/realms/shop"
DOMAIN = "spiffe://example.org"
curve = Es256SigningKey.generate("curve")
svid_curve = Es256SigningKey.generate("curve", use="jwt-svid")  # the same name at another issuer
other = SigningKey.generate()

ours = Issuer()
theirs = Issuer(url=IDP)
same_kid = {**other.jwk, "kid": key().kid}


def _spelled(value: object) -> str:
    """Return how a case is called: by every process alike, whatever order its sets have."""
    return str(sorted(value)) if isinstance(value, (set, frozenset)) else str(value)


def now() -> int:
    """Return epoch seconds."""
    return int(SYSTEM_CLOCK.wall())


def all_of_them() -> TokenAuthenticator:
    """Return who trusts four kinds of issuer: delegation, access tokens, an identity provider and a trust domain.

    The authority and the provider have a key of the same name, and the provider and the trust domain another one.
    """
    return TokenAuthenticator(
        [
            ours.trusted(),
            ours.trusted(profile="at+jwt"),
            TrustedIssuer(
                issuer=IDP,
                audience=AUDIENCE,
                profile="oidc",
                jwks={"keys": [same_kid, dict(curve.jwk)]},
                roles_claim="realm_access.roles",
            ),
            TrustedIssuer(issuer=DOMAIN, audience=AUDIENCE, profile="jwt-svid", jwks={"keys": [dict(svid_curve.jwk)]}),
        ],
        clock=SYSTEM_CLOCK,
    )


def signed(by: SigningKey | Es256SigningKey, *, header: dict[str, object] | None = None, **claims: Any) -> str:
    """Return a token of the provider's kind; what is given as None is left out."""
    alg = "ES256" if isinstance(by, Es256SigningKey) else "RS256"
    usual = {"iss": IDP, "sub": "ann", "aud": AUDIENCE, "iat": now(), "exp": now() + 60}
    whole = {"alg": alg, "kid": by.kid, **(header or {})}
    return by.sign(
        {name: value for name, value in whole.items() if value is not None},
        {name: value for name, value in {**usual, **claims}.items() if value is not None},
    )


def caller(token: str) -> Principal:
    """Return who presents the token to whoever trusts all four."""
    return all_of_them().authenticate(token)


def test_each_kind_of_issuer_is_known_by_its_tokens() -> None:
    """Delegation, access token, provider's RS256 and ES256 without typ and jti, and a workload's JWT-SVID."""
    assert caller(ours.token("read", roles=["viewer"])).roles == {"viewer"}
    access = Issuer(typ="at+jwt").token("read")
    assert caller(access).scopes == {"read"}
    for by, kid in ((other, key().kid), (curve, "curve")):
        ann = caller(signed(by, header={"kid": kid}, realm_access={"roles": ["agent"]}, scope="openid read"))
        assert (ann.subject, ann.issuer, ann.jti, ann.spiffe_id) == ("ann", IDP, None, None)
        assert ann.roles == {"agent"}
        assert ann.scopes == {"openid", "read"}
    workload = caller(signed(svid_curve, sub=f"{DOMAIN}/ns/shop/sa/bot", iss=None, iat=None))
    assert (workload.issuer, workload.spiffe_id) == (DOMAIN, f"{DOMAIN}/ns/shop/sa/bot")
    assert workload.scopes == workload.roles == frozenset()


def _confusions() -> dict[str, str]:
    svid: dict[str, Any] = {"sub": f"{DOMAIN}/ns/shop/sa/bot", "iss": None, "iat": None}
    delegation: dict[str, Any] = {"jti": "jti-1", "client_id": "agent", "permissions": ["read"]}
    return {
        "ours, signed by the provider": signed(
            other, header={"typ": "JWT", "kid": key().kid}, iss=ISSUER, **delegation
        ),
        "ours, signed by the provider's curve": signed(curve, header={"typ": "JWT"}, iss=ISSUER, **delegation),
        "the provider's, signed by us": signed(key()),
        "the provider's, signed by the trust domain": signed(svid_curve),
        "a workload's, signed by the provider": signed(curve, **svid),
        "a workload's, signed by us": signed(key(), **svid),
        "a workload of another trust domain": signed(svid_curve, **{**svid, "sub": "spiffe://example.com/bot"}),
        "a trust domain without a workload": signed(svid_curve, **{**svid, "sub": DOMAIN}),
        "ours with the provider's typ": signed(key(), header={"typ": None}, iss=ISSUER, **delegation),
        "access token of the provider": signed(curve, header={"typ": "at+jwt"}),
        "a status list as a token": signed(key(), header={"typ": "statuslist+jwt"}, iss=ISSUER, **delegation),
        "typ in another spelling": signed(key(), header={"typ": "jwt"}, iss=ISSUER, **delegation),
        "RS256 said of a curve": signed(curve, header={"alg": "RS256"}),
        "ES256 said of an RSA key": signed(other, header={"alg": "ES256", "kid": key().kid}),
        "none": signed(curve, header={"alg": "none"}),
        "HS256": signed(curve, header={"alg": "HS256"}),
        "slash at the end": ours.token(iss=ISSUER + "/"),
        "another case": ours.token(iss=ISSUER.replace("issuer", "Issuer")),
        "the port said": ours.token(iss=ISSUER.replace(".example", ".example:443")),
        "another scheme": ours.token(iss=ISSUER.replace("https", "http")),
        "a dot at the end of the host": ours.token(iss=ISSUER.replace(".example", ".example.")),
        "the provider's slash": signed(curve, iss=IDP + "/"),
        "a space before": signed(curve, iss=" " + IDP),
        "a list of issuers": signed(curve, iss=[IDP]),
        "no issuer": signed(curve, iss=None),
        "no audience": signed(curve, aud=None),
        "another audience": signed(curve, aud=["another"]),
        "MOCK": MockAuthority().mint(frozenset({"read"})).value,
        "MOCK in our name": ours.token("read", mock=True),
        "MOCK in the provider's name": signed(curve, mock=True),
    }


@pytest.mark.req("RV2")
@pytest.mark.parametrize("confusion", _confusions())
def test_no_issuer_speaks_for_another(confusion: str) -> None:
    """Signed by the wrong one, typ or alg swapped, the same key id at both, `iss` nearly the same, MOCK: refused."""
    with pytest.raises(TokenRejectedError):
        caller(_confusions()[confusion])


@pytest.mark.req("RS2")
def test_mock_is_refused_by_a_guard_of_one_issuer_too() -> None:
    """Where there is nothing to choose from, the verifier itself says so."""
    alone = TokenAuthenticator([ours.trusted()], clock=SYSTEM_CLOCK)
    for token in (MockAuthority().mint(frozenset({"read"})).value, ours.token("read", mock=True)):
        with pytest.raises(TokenRejectedError):
            alone.authenticate(token)


def test_the_order_of_issuers_means_nothing() -> None:
    """Two kinds of token of one issuer are told apart by their type, whichever is named first."""
    terms = [ours.trusted(), ours.trusted(profile="at+jwt", roles_claim="groups")]
    for issuers in (terms, terms[::-1]):
        authenticator = TokenAuthenticator(issuers, clock=SYSTEM_CLOCK)
        assert authenticator.authenticate(ours.token(groups=["x"])).roles == frozenset()
        assert authenticator.authenticate(Issuer(typ="at+jwt").token(groups=["x"])).roles == {"x"}


@pytest.mark.req("RV5")
def test_a_remembered_token_is_read_once_and_stays_its_issuers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory spares reading a token again to find its issuer, whose terms it is held against as before."""
    read: list[str] = []

    def noting(text: str, **terms: Any) -> Any:
        read.append(text)
        return parse_jws(text, **terms)

    monkeypatch.setattr(authentication, "parse_jws", noting)
    callers, token, access = all_of_them(), ours.token("read"), Issuer(typ="at+jwt").token("write")
    for _ in range(3):
        assert callers.authenticate(access).scopes == {"write"}
        assert callers.authenticate(token).scopes == {"read"}
    assert read == [access, token]
    with pytest.raises(TokenRejectedError):
        callers.authenticate(f"{token[:-1]}{'A' if token[-1] != 'A' else 'Q'}")


@pytest.mark.req("RV5")
@pytest.mark.parametrize("profiles", [("delegation", "delegation"), ("delegation", "oidc"), ("oidc", "oidc")])
def test_issuers_that_cannot_be_told_apart_are_refused(profiles: tuple[str, str]) -> None:
    """Else it would depend on their order which audience and which roles count."""
    with pytest.raises(ConfigurationError, match="merge their audiences"):
        TokenAuthenticator([ours.trusted(profile=profile) for profile in profiles], clock=SYSTEM_CLOCK)


@pytest.mark.parametrize(
    ("path", "claims", "roles"),
    [
        ("roles", {"roles": ["a", "b"]}, {"a", "b"}),
        ("role", {"role": "a"}, {"a"}),
        ("role", {"role": "a b"}, {"a b"}),
        ("realm_access.roles", {"realm_access": {"roles": ["a"]}}, {"a"}),
        ("resource_access.shop.roles", {"resource_access": {"shop": {"roles": ["a"]}, "x": {"roles": ["b"]}}}, {"a"}),
        (("https://shop.example/roles",), {"https://shop.example/roles": ["a"]}, {"a"}),
        (("https://shop.example/x", "roles"), {"https://shop.example/x": {"roles": ["a"]}}, {"a"}),
        ("https://shop.example/roles", {"https://shop.example/roles": ["a"]}, set()),
        ("cognito:groups", {"cognito:groups": ["a"]}, {"a"}),
        ("groups", {}, set()),
        ("groups", {"groups": []}, set()),
        ("realm_access.roles", {"realm_access": "roles"}, set()),
        ("realm_access.roles", {"realm_access": ["roles"]}, set()),
        ("realm_access.roles", {"realm_access.roles": ["a"]}, set()),
        ("realm_access", {"realm_access": {"roles": ["a"]}}, None),
        ("groups", {"groups": 7}, None),
        ("groups", {"groups": True}, None),
        ("groups", {"groups": ["a", 7]}, None),
        ("groups", {"groups": ["a", ["b"]]}, None),
        ("groups", {"groups": ["a", ""]}, None),
        ("groups", {"groups": ""}, None),
    ],
    ids=_spelled,
)
def test_roles_stand_where_the_issuer_puts_them(
    path: ClaimPath, claims: dict[str, Any], roles: set[str] | None
) -> None:
    """Nested, with dots in a name, one text or a list; what has another form is refused, not passed over."""
    trusted = theirs.trusted(profile="oidc", roles_claim=path)
    authenticator = TokenAuthenticator([trusted], clock=SYSTEM_CLOCK)
    if roles is not None:
        assert authenticator.authenticate(theirs.token(**claims)).roles == roles
    else:
        with pytest.raises(TokenRejectedError):
            authenticator.authenticate(theirs.token(**claims))


@pytest.mark.req("RV6")
@pytest.mark.parametrize(
    ("path", "claims", "scopes"),
    [
        (None, {"scope": "read write"}, {"read", "write"}),
        (None, {"scp": "read"}, set()),
        ("scp", {"scp": "read write"}, {"read", "write"}),  # Entra
        ("scp", {"scp": ["read", "write"]}, {"read", "write"}),  # Okta
        ("scp", {"scp": []}, set()),
        ("scp", {"scp": ""}, set()),
        ("scp", {}, set()),
        ("scp", {"scope": "read"}, set()),
        ("scp", {"scope": "read", "scp": "read write"}, {"read"}),
        ("scp", {"permissions": ["write"], "scp": ["read", "write"]}, {"write"}),
        ("scp", {"permissions": ["read"], "scope": "read write", "scp": "read write"}, {"read"}),
        ("scp", {"scope": "", "scp": "read"}, set()),
        (("https://shop.example/scp",), {"https://shop.example/scp": ["read"]}, {"read"}),
        ("a.scp", {"a": {"scp": "read"}}, {"read"}),
        ("scp", {"scp": 7}, None),
        ("scp", {"scp": False}, None),
        ("scp", {"scp": {"read": True}}, None),
        ("scp", {"scp": ["read", 7]}, None),
        ("scp", {"scp": ["read write"]}, None),
        ("scp", {"scp": 'read"'}, None),
        ("scp", {"scp": " "}, None),
    ],
    ids=_spelled,
)
def test_scopes_stand_where_the_issuer_puts_them_and_are_never_more(
    path: ClaimPath | None, claims: dict[str, Any], scopes: set[str] | None
) -> None:
    """By `scopes_claim`, as text or as a list; of a token with the usual claims too only what all of them grant."""
    trusted = theirs.trusted(profile="oidc", scopes_claim=path)
    authenticator = TokenAuthenticator([trusted], clock=SYSTEM_CLOCK)
    token = theirs.token(permissions=None, **claims) if "permissions" not in claims else theirs.token(**claims)
    if scopes is not None:
        assert authenticator.authenticate(token).scopes == scopes
    else:
        with pytest.raises(TokenRejectedError):
            authenticator.authenticate(token)


KEYCLOAK = {
    "typ": "Bearer",
    "azp": "shop",
    "realm_access": {"roles": ["agent", "offline_access"]},
    "resource_access": {"account": {"roles": ["view-profile"]}},
    "scope": "openid profile",
    "preferred_username": "ann",
    "acr": "1",
    "email_verified": True,
}
AUTH0 = {
    "azp": "shop",
    "scope": "openid read:metrics write:metrics",
    "permissions": ["read:metrics"],
    "https://shop.example/roles": ["agent"],
    "gty": "password",
}
ENTRA = {
    "ver": "2.0",
    "tid": "b0c0",
    "oid": "a0a0",
    "azp": "c0c0",
    "scp": "metrics.read",
    "roles": ["agent"],
    "nbf": 0,
    "aio": "x",
    "uti": "y",
}


@pytest.mark.parametrize(
    ("claims", "terms", "scopes"),
    [
        (KEYCLOAK, {"roles_claim": "realm_access.roles"}, {"openid", "profile"}),
        (AUTH0, {"roles_claim": ("https://shop.example/roles",)}, {"read:metrics"}),
        (ENTRA, {"scopes_claim": "scp"}, {"metrics.read"}),
    ],
    ids=["Keycloak", "Auth0", "Entra"],
)
def test_the_tokens_of_well_known_providers_are_read(
    claims: dict[str, Any], terms: dict[str, Any], scopes: set[str]
) -> None:
    """With the terms that the docs name, on the claims that each of them sends; one role is that of the policy."""
    trusted = TrustedIssuer(
        issuer=IDP, audience=AUDIENCE, profile="oidc", jwks={"keys": [dict(curve.jwk), dict(other.jwk)]}, **terms
    )
    authenticator = TokenAuthenticator([trusted], clock=SYSTEM_CLOCK)
    for by in (other, curve):
        ann = authenticator.authenticate(signed(by, header={"typ": "JWT"}, **claims))
        assert ann.scopes == scopes
        assert "agent" in ann.roles


@pytest.mark.req("RV5")
@pytest.mark.parametrize(
    ("terms", "says"),
    [
        ({"revocation": "off"}, "revocation"),
        ({"profile": "jwt"}, "profile"),
        ({"audience": ()}, "audience"),
        ({"audience": ""}, "audience"),
        ({"issuer": ""}, "issuer"),
        ({"issuer": "http://issuer.example"}, "http"),
        ({"jwks": {"keys": []}}, "no key"),
        ({"jwks": None, "jwks_url": "http://issuer.example/keys"}, "http"),
        ({"jwks": None, "profile": "oidc"}, "jwks_url"),
        ({"jwks_url": "https://issuer.example/keys"}, "either"),
        ({"leeway": -1.0}, "leeway"),
        ({"leeway": 301.0}, "leeway"),
        ({"remember": -1}, "remember"),
        ({"revocation_max_age": 0.0}, "revocation_max_age"),
        ({"jwks": None, "jwks_refresh": 0.0}, "jwks_refresh"),
        ({"jwks": None, "jwks_refresh": 10.0, "jwks_max_age": 5.0}, "jwks_max_age"),
        ({"timeout": 0.0}, "timeout"),
        ({"ca_file": "/nowhere/at/all"}, "ca_file"),
        ({"profile": "jwt-svid"}, "trust domain"),
        ({"roles_claim": ""}, "blank"),
        ({"roles_claim": "a."}, "blank"),
        ({"roles_claim": ()}, "blank"),
        ({"scopes_claim": ("",)}, "blank"),
    ],
    ids=_spelled,
)
def test_terms_that_cannot_hold_are_refused_when_the_guard_is_made(terms: dict[str, Any], says: str) -> None:
    """Never later, when somebody stands at the door."""
    with pytest.raises(ConfigurationError, match=says):
        TokenAuthenticator([ours.trusted(**terms)], clock=SYSTEM_CLOCK)
    with pytest.raises(ConfigurationError):
        AuthSecGuard(issuers=[ours.trusted(**terms)], sink=Memory())


def test_issuers_are_values() -> None:
    """Equal terms are equal, and a changed copy leaves the other as it was."""
    trusted = ours.trusted()
    assert trusted == ours.trusted()
    assert replace(trusted, leeway=1.0).leeway != trusted.leeway
    assert hash(trusted) == hash(ours.trusted())
