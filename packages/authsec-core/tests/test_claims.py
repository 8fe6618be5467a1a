from __future__ import annotations

from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsec_core._claims import Profile, Rules, VerifiedToken, check_type, claims_issuer, read_claims
from authsec_core.errors import (
    ExpiredTokenError,
    MalformedTokenError,
    NotYetValidError,
    TokenRejectedError,
    WrongAudienceError,
    WrongIssuerError,
)

ISSUER = "https://issuer.example/authsec"
TRUST_DOMAIN = "spiffe://example.org"
MOCK = "https://mock.authsec.invalid"
NOW = 1_800_000_000
GOOD: dict[str, Any] = {
    "iss": ISSUER,
    "sub": "spiffe://example.org/ns/default/sa/agent",
    "aud": ("authsec-api", "other"),
    "exp": NOW + 600,
    "iat": NOW,
    "nbf": NOW,
    "jti": "one",
    "client_id": "agent",
    "permissions": ("read:metrics", "read:records"),
    "scope": "read:records read:metrics",
    "roles": ("analyst",),
    "act": MappingProxyType({"sub": "spiffe://example.org/actor"}),
    "custom": 1.5,
}


def _rules(**changes: Any) -> Rules:
    usual: dict[str, Any] = {
        "issuer": ISSUER,
        "audiences": frozenset({"authsec-api"}),
        "profile": "delegation",
        "leeway": 5.0,
    }
    return Rules(**{**usual, **changes})


def _read(claims: dict[str, Any], *, now: float = NOW, **rules: Any) -> VerifiedToken:
    return read_claims(MappingProxyType(claims), key_id="k", rules=_rules(**rules), now=now)


def _without(*names: str, **changes: Any) -> dict[str, Any]:
    return {name: value for name, value in {**GOOD, **changes}.items() if name not in names}


@pytest.mark.req("RV2")
def test_a_good_token_says_what_its_claims_say() -> None:
    """Each claim arrives where it belongs, with the scopes as a set."""
    token = _read(GOOD)
    assert token == VerifiedToken(
        issuer=ISSUER,
        subject="spiffe://example.org/ns/default/sa/agent",
        audience=("authsec-api", "other"),
        client_id="agent",
        scopes=frozenset({"read:metrics", "read:records"}),
        roles=("analyst",),
        jti="one",
        issued_at=NOW,
        expires_at=NOW + 600,
        key_id="k",
        actor="spiffe://example.org/actor",
        claims=MappingProxyType(GOOD),
    )
    assert hash(token)
    assert "custom" not in repr(token)


@pytest.mark.req("RV2")
@pytest.mark.parametrize("profile", ["delegation", "at+jwt", "oidc", "jwt-svid"])
@pytest.mark.parametrize("name", ["iss", "aud", "sub", "exp", "iat", "jti"])
def test_each_required_claim_is_required(profile: Profile, name: str) -> None:
    """Without one of them a token is refused; a foreign provider may leave out `jti`, a JWT-SVID `iat` and `iss`."""
    spared = {"oidc": ["jti"], "jwt-svid": ["jti", "iat", "iss"]}
    rules: dict[str, Any] = {"profile": profile, "issuer": TRUST_DOMAIN if profile == "jwt-svid" else ISSUER}
    if name in spared.get(profile, []):
        token = _read(_without(name), **rules)
        assert {"jti": token.jti, "iat": token.issued_at, "iss": None}[name] is None
        return
    with pytest.raises(MalformedTokenError):
        _read(_without(name), **rules)


@pytest.mark.req("RV2")
def test_the_issuer_of_a_jwt_svid_is_its_trust_domain() -> None:
    """`iss` says nothing, whatever it is; `sub` says it all."""
    for iss in ("https://anybody.example", 7, None):
        token = _read(_without("iat", iss=iss), profile="jwt-svid", issuer=TRUST_DOMAIN)
        assert (token.issuer, token.issued_at) == (TRUST_DOMAIN, None)
    with pytest.raises(NotYetValidError):
        _read(_without("iat", nbf=NOW + 6), profile="jwt-svid", issuer=TRUST_DOMAIN)
    with pytest.raises(NotYetValidError):
        _read(_without("nbf", iat=NOW + 6), profile="jwt-svid", issuer=TRUST_DOMAIN)
    for other in ("spiffe://example.com/a", "spiffe://sub.example.org/a", "spiffe://example.org.evil/a"):
        with pytest.raises(WrongIssuerError):
            _read(_without(sub=other, iss=TRUST_DOMAIN), profile="jwt-svid", issuer=TRUST_DOMAIN)


@pytest.mark.req("RV2")
@pytest.mark.parametrize(
    "subject",
    ["agent", "https://example.org/a", "spiffe://example.org", "spiffe://example.org/", "spiffe://example.org/a/",
     "spiffe://example.org//a", "spiffe://example.org/a/../b", "spiffe://example.org/.", "spiffe://example.org/a%2fb",
     "spiffe://Example.org/a", "SPIFFE://example.org/a", "spiffe://example.org:1/a", "spiffe://u@example.org/a",
     "spiffe://example.org/a?b", "spiffe://example.org/a#b", "spiffe:///a", "spiffe://example.org/a\n",
     "spiffe://example.org/\u00e9", f"spiffe://{'a' * 256}/b", "spiffe://example.org/" + "a" * 2028],
)  # fmt: skip
def test_the_subject_of_a_jwt_svid_is_a_workloads_spiffe_id(subject: str) -> None:
    """Anything but a well-formed SPIFFE ID with a path is refused, and names no issuer."""
    claims = _without(sub=subject)
    with pytest.raises(MalformedTokenError):
        _read(claims, profile="jwt-svid", issuer=TRUST_DOMAIN)
    if len(subject) <= 2048:
        assert claims_issuer(claims, "jwt-svid") is None


@pytest.mark.req("RV2")
def test_who_a_token_claims_to_be_from_depends_on_its_kind() -> None:
    """Before anything is verified: `iss`, or the trust domain of `sub`; a claim of another type names nobody."""
    assert claims_issuer(GOOD, "delegation") == claims_issuer(GOOD, "oidc") == ISSUER
    assert claims_issuer(GOOD, "jwt-svid") == TRUST_DOMAIN
    for odd in (None, 7, (ISSUER,)):
        assert claims_issuer({"iss": odd, "sub": odd}, "oidc") is None
        assert claims_issuer({"iss": odd, "sub": odd}, "jwt-svid") is None


ODD_INSTANTS: list[object] = [
    None, True, False, -1, -0.5, 0.0, float(NOW), "1", "", (), (NOW,), MappingProxyType({}),
    float("nan"), float("inf"), 253_402_300_800, 2**63, 10**400, -(10**400),
]  # fmt: skip
ODD_TEXTS: list[object] = [
    None, True, 0, 1.5, "", (), ("a",), MappingProxyType({}), "a\nb", "a\rb", "a\0b", "\x1b[31m", "a\u2028b",
    "\u202ea", "a\x7f", "a\udc80", "a" * 2049,
]  # fmt: skip
ODD_LISTS: list[object] = [
    None,
    True,
    0,
    "a b",
    MappingProxyType({}),
    ("",),
    (None,),
    (1,),
    (True,),
    (("a",),),
    ("a\n",),
    ("a" * 2049,),
]


@pytest.mark.req("RV2")
@pytest.mark.parametrize("value", ODD_INSTANTS, ids=lambda value: repr(value)[:30])
@pytest.mark.parametrize("name", ["exp", "iat", "nbf"])
@pytest.mark.parametrize("profile", ["delegation", "at+jwt", "oidc"])
def test_an_instant_is_a_whole_number_of_epoch_seconds(profile: Profile, name: str, value: object) -> None:
    """Booleans, floats, NaN, negatives, text, arrays and numbers beyond the calendar are refused, never coerced."""
    with pytest.raises(MalformedTokenError):
        _read(_without(**{name: value}), profile=profile)


@pytest.mark.req("RV2")
@pytest.mark.parametrize("value", ODD_TEXTS, ids=repr)
@pytest.mark.parametrize("name", ["iss", "sub", "jti", "client_id"])
def test_a_name_is_plain_text(name: str, value: object) -> None:
    """Anything but text without control characters is refused: names end up in logs and audits."""
    with pytest.raises(MalformedTokenError):
        _read(_without(**{name: value}))


@pytest.mark.req("RV2")
@pytest.mark.parametrize(
    "value",
    [
        "spiffe://example.org/ns/default/sa/agent",
        "spiffe://example.org/" + "a" * 2027,
        "7b1c3f5e-2a4d-4c6b-8e9f-0a1b2c3d4e5f",
        "urn:uuid:7b1c3f5e-2a4d-4c6b-8e9f-0a1b2c3d4e5f",
        "system:serviceaccount:default:agent",
        "auth0|5f7c8ec7c33c6c004bbafe82",
        "agent@example.org",
        "J\u00fcrgen M\u00fcller",
        "https://client.example/metadata.json?a=b#c",
    ],
    ids=lambda value: value[:30],
)
@pytest.mark.parametrize("name", ["sub", "jti", "client_id", "act"])
def test_the_names_that_issuers_use_are_plain_text(name: str, value: str) -> None:
    """SPIFFE IDs up to their full length, UUIDs, URNs, e-mail addresses and names of people are accepted."""
    token = _read(_without(**{name: MappingProxyType({"sub": value}) if name == "act" else value}))
    assert {"sub": token.subject, "jti": token.jti, "client_id": token.client_id, "act": token.actor}[name] == value


@pytest.mark.req("RV2")
@pytest.mark.parametrize("value", [*ODD_LISTS[:3], *ODD_LISTS[4:], (), "", "a\n"], ids=repr)
def test_an_audience_is_text_or_a_list_of_text(value: object) -> None:
    """Another type, an empty list or an odd member is refused."""
    with pytest.raises(MalformedTokenError):
        _read(_without(aud=value))


@pytest.mark.req("RV2")
@pytest.mark.parametrize("value", ODD_LISTS, ids=repr)
@pytest.mark.parametrize("name", ["permissions", "roles"])
@pytest.mark.parametrize("profile", ["delegation", "oidc"])
def test_permissions_and_roles_are_lists_of_text(profile: Profile, name: str, value: object) -> None:
    """Text in the place of a list, or an odd member in it, is refused."""
    with pytest.raises(MalformedTokenError):
        _read(_without("scope", **{name: value}), profile=profile)


@pytest.mark.req("RV2")
@pytest.mark.parametrize(
    "value", [None, 1, (), ("read",), "read\nwrite", 'a"b', "a\\b", "\u00e9", " ", "x" * 5000], ids=repr
)
def test_a_scope_is_text_of_the_rfcs_characters(value: object) -> None:
    """RFC 6749 section 3.3 says what a scope may be; nothing else is."""
    with pytest.raises(MalformedTokenError):
        _read(_without("permissions", scope=value))


@pytest.mark.req("RV2")
@pytest.mark.parametrize("value", [None, "agent", (), MappingProxyType({}), MappingProxyType({"sub": ""})], ids=repr)
def test_an_actor_is_an_object_with_a_subject(value: object) -> None:
    """`act` without a usable `sub` is refused, rather than read as "nobody acts"."""
    with pytest.raises(MalformedTokenError):
        _read(_without(act=value))


@pytest.mark.req("RV2")
@pytest.mark.parametrize(
    ("permissions", "scope", "granted"),
    [
        (("a", "b"), "b a", {"a", "b"}),
        (("a",), None, {"a"}),
        (None, "a b", {"a", "b"}),
        (None, None, set()),
        ((), "", set()),
        ((), None, set()),
        (None, "", set()),
        (("a", "a"), "a", {"a"}),
    ],
)
def test_what_is_granted(permissions: object, scope: object, granted: set[str]) -> None:
    """Either claim grants; neither grants nothing."""
    claims = _without("permissions", "scope")
    claims |= {n: v for n, v in (("permissions", permissions), ("scope", scope)) if v is not None}
    assert _read(claims).scopes == granted


@pytest.mark.req("RV2")
@pytest.mark.parametrize("profile", ["delegation", "at+jwt"])
@pytest.mark.parametrize(("permissions", "scope"), [(("a",), "a b"), (("a", "b"), "a"), ((), "a"), (("a",), "")])
def test_two_claims_that_grant_differently_are_refused(profile: Profile, permissions: object, scope: str) -> None:
    """`permissions` and `scope` of our own issuers agree or the token is refused."""
    with pytest.raises(MalformedTokenError, match="agree"):
        _read(_without(permissions=permissions, scope=scope), profile=profile)


def test_a_foreign_provider_grants_what_both_claims_grant() -> None:
    """A provider whose `scope` also names `openid` and the like grants the intersection."""
    claims = _without(permissions=("read:metrics", "admin"), scope="openid profile read:metrics")
    assert _read(claims, profile="oidc").scopes == {"read:metrics"}


@pytest.mark.req("RV2")
@pytest.mark.parametrize(
    ("profile", "good"),
    [
        ("delegation", {"JWT"}),
        ("at+jwt", {"at+jwt", "application/at+jwt"}),
        ("oidc", {"JWT", None}),
        ("jwt-svid", {"JWT", "JOSE", None}),
    ],
)
def test_the_kinds_of_token_never_mix(profile: Profile, good: set[str | None]) -> None:
    """Each profile accepts its own types, exactly as spelled, and none of another kind."""
    kinds = ["JWT", "JOSE", "at+jwt", "application/at+jwt", None, "jwt", "AT+JWT", "", "JWT ", "statuslist+jwt",
             "dpop+jwt", "client-authentication+jwt", "audit-checkpoint+jwt", "logout+jwt"]  # fmt: skip
    for kind in kinds:
        if kind in good:
            check_type(kind, profile)
        else:
            with pytest.raises(MalformedTokenError):
                check_type(kind, profile)


@pytest.mark.req("RV2")
@pytest.mark.parametrize(
    "issuer", [ISSUER + "/", ISSUER[:-1], ISSUER.upper(), "https://evil.example", MOCK, ISSUER + "\u200b", "authsec"]
)
def test_the_issuer_is_compared_exactly(issuer: str) -> None:
    """Neither a part, nor a longer name, nor another spelling is the issuer."""
    with pytest.raises(TokenRejectedError) as caught:
        _read(_without(iss=issuer))
    assert isinstance(caught.value, (WrongIssuerError, MalformedTokenError))
    assert issuer not in str(caught.value)


@pytest.mark.req("RS2")
@pytest.mark.parametrize("mock", [True, 1, "true", "false", ("x",)])
def test_a_mock_token_is_refused_unless_mock_is_what_was_configured(mock: object) -> None:
    """The `mock` claim spoils a token of any issuer but MOCK's own."""
    with pytest.raises(WrongIssuerError):
        _read(_without(mock=mock))
    assert _read(_without(mock=mock, iss=MOCK), issuer=MOCK).issuer == MOCK


@pytest.mark.req("RS2")
@pytest.mark.parametrize("mock", [False, None, 0, ""])
def test_a_token_may_say_that_it_is_not_mock(mock: object) -> None:
    """A `mock` claim that denies it changes nothing."""
    assert _read(_without(mock=mock)).jti == "one"


@pytest.mark.req("RV2")
@pytest.mark.parametrize(
    "audience", ["authsec-api ", "Authsec-api", "authsec", ("x", "authsec-api/"), ("authsec-apis",)]
)
def test_the_audience_is_compared_exactly(audience: object) -> None:
    """A token for another API, however similar, is not for us."""
    with pytest.raises(WrongAudienceError):
        _read(_without(aud=audience))


def test_one_of_several_audiences_is_enough() -> None:
    """A verifier for several audiences accepts a token for any one of them."""
    both = frozenset({"a", "b"})
    assert _read(_without(aud="b"), audiences=both).audience == ("b",)
    assert _read(_without(aud=("x", "a")), audiences=both).audience == ("x", "a")


@pytest.mark.req("RV2")
@pytest.mark.parametrize("leeway", [0.0, 5.0])
@pytest.mark.parametrize(("offset", "good"), [(-1, True), (-0.001, True), (0, False), (1, False)])
def test_a_token_ends_at_its_expiry(leeway: float, offset: float, good: bool) -> None:
    """On or after `exp`, plus the leeway, a token is expired; before, it is not."""
    now = GOOD["exp"] + leeway + offset
    if good:
        assert _read(GOOD, now=now, leeway=leeway).jti == "one"
    else:
        with pytest.raises(ExpiredTokenError):
            _read(GOOD, now=now, leeway=leeway)


@pytest.mark.req("RV2")
@pytest.mark.parametrize("leeway", [0.0, 5.0])
@pytest.mark.parametrize("name", ["iat", "nbf"])
@pytest.mark.parametrize(("offset", "good"), [(-1, False), (-0.001, False), (0, True), (1, True)])
def test_a_token_begins_at_the_later_of_iat_and_nbf(leeway: float, name: str, offset: float, good: bool) -> None:
    """Before either of them, less the leeway, a token is not valid yet."""
    now, claims = NOW - leeway + offset, _without(**{name: NOW, ("nbf" if name == "iat" else "iat"): NOW - 100})
    if good:
        assert _read(claims, now=now, leeway=leeway).jti == "one"
    else:
        with pytest.raises(NotYetValidError):
            _read(claims, now=now, leeway=leeway)


def test_nbf_may_be_missing() -> None:
    """`nbf` is optional."""
    assert _read(_without("nbf")).issued_at == NOW


def test_covers_is_exact_and_asks_for_something() -> None:
    """A scope covers itself and nothing that resembles it; asking for nothing is a mistake."""
    token = _read(GOOD)
    assert token.covers("read:metrics")
    assert token.covers("read:metrics", "read:records")
    for other in ("read", "read:", "read:metrics ", "READ:METRICS", "read:*", "*", "", "read:metrics read:records"):
        assert not token.covers(other)
        assert not token.covers("read:metrics", other)
    with pytest.raises(ValueError, match="name the scopes"):
        token.covers()


_scalar = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
_value = _scalar | st.lists(_scalar, max_size=3).map(tuple) | st.just(MappingProxyType({"sub": "x"}))


@pytest.mark.req("RV2")
@given(
    st.dictionaries(st.sampled_from(sorted(GOOD)), _value, max_size=6),
    st.sampled_from(["delegation", "at+jwt", "oidc"]),
)
def test_arbitrary_claims_are_read_or_refused_and_what_is_read_has_its_types(
    changes: dict[str, Any], profile: Profile
) -> None:
    """No claims make the reader raise anything but a refusal, and nothing that it returns has another type."""
    try:
        token = _read({**GOOD, **changes}, profile=profile)
    except TokenRejectedError:
        return
    assert type(token.issued_at) is type(token.expires_at) is int
    assert token.issued_at is not None
    assert token.issued_at <= NOW + 5
    assert token.expires_at > NOW - 5
    texts = [token.issuer, token.subject, *token.audience, *token.roles, *token.scopes, token.client_id, token.jti]
    assert all(text is None or (type(text) is str and text and text.isprintable()) for text in texts)
