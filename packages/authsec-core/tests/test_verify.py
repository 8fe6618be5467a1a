from __future__ import annotations

import asyncio
import base64
import gc
import hmac
import json
import pickle
import zlib
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given, settings
from hypothesis import strategies as st

from authsec_core.errors import (
    BadSignatureError,
    ConfigurationError,
    ExpiredTokenError,
    MalformedTokenError,
    NotYetValidError,
    RevokedTokenError,
    TokenRejectedError,
    VerificationUnavailableError,
    WrongAudienceError,
    WrongIssuerError,
)
from authsec_core.mock import MockAuthority
from authsec_core.testing import FakeClock
from authsec_core.testing._signing import Es256SigningKey, SigningKey, first_key, pack_statuses
from authsec_core.verify import TokenVerifier, VerifiedToken

ISSUER = "https://issuer.example/authsec"
JWKS_URL = f"{ISSUER}/.well-known/jwks.json"
LIST_URL = f"{ISSUER}/statuslists/1"
AUDIENCE = "authsec-api"

Verify = Callable[[TokenVerifier, str], VerifiedToken]


@pytest.fixture(params=["sync", "async"])
def verify(request: pytest.FixtureRequest) -> Verify:
    """Verify a token blocking, or on a loop of its own."""
    if request.param == "sync":
        return lambda verifier, token: verifier.verify(token)
    return lambda verifier, token: asyncio.run(verifier.averify(token))


@pytest.fixture(scope="module")
def key() -> SigningKey:
    """The issuer's first key."""
    return first_key()


@pytest.fixture(scope="module")
def other() -> SigningKey:
    """Another key of 2048 bits."""
    return SigningKey.generate()


@pytest.fixture
def clock() -> FakeClock:
    """A clock that stands still."""
    return FakeClock()


class Issuer:
    """An issuer behind an httpx transport: what it publishes, whether it answers, and what it was asked."""

    def __init__(self, clock: FakeClock, key: SigningKey) -> None:
        self.clock = clock
        self.keys = [key]
        self.revoked: set[int] = set()
        self.down: set[str] = set()
        self.asked: list[str] = []
        self.headers = httpx.Headers()
        self.reply: Callable[[httpx.Request], httpx.Response] | None = None
        self.transport = httpx.MockTransport(self._answer)

    def count(self, url: str) -> int:
        return self.asked.count(url)

    def claims(self, **changes: object) -> dict[str, object]:
        now = int(self.clock.wall())
        usual: dict[str, object] = {
            "iss": ISSUER,
            "sub": "spiffe://example.org/ns/default/sa/agent",
            "aud": [AUDIENCE],
            "exp": now + 1800,
            "iat": now,
            "nbf": now,
            "jti": "token-1",
            "client_id": "agent-1",
            "permissions": ["read:metrics"],
            "scope": "read:metrics",
            "status": {"status_list": {"idx": 7, "uri": LIST_URL}},
        }
        return {name: value for name, value in {**usual, **changes}.items() if value is not ...}

    def mint(self, *, by: SigningKey | None = None, header: dict[str, object] | None = None, **claims: object) -> str:
        key = by or self.keys[-1]
        whole = {"alg": "RS256", "typ": "JWT", "kid": key.kid, **(header or {})}
        return key.sign({n: v for n, v in whole.items() if v is not ...}, self.claims(**claims))

    def verifier(self, **changes: Any) -> TokenVerifier:
        usual = {"issuer": ISSUER, "audience": AUDIENCE, "jwks_url": JWKS_URL, "transport": self.transport}
        return TokenVerifier(**{**usual, "clock": self.clock, **changes})

    def _answer(self, request: httpx.Request) -> httpx.Response:
        url = str(request.url)
        self.asked.append(url)
        self.headers = request.headers
        if self.reply is not None:
            return self.reply(request)
        if url in self.down:
            raise httpx.ConnectError("refused", request=request)
        if url == JWKS_URL:
            return httpx.Response(200, json={"keys": [dict(key.jwk) for key in self.keys]})
        listed = {"sub": url, "iat": int(self.clock.wall()), "status_list": pack_statuses(self.revoked, 1024)}
        key = self.keys[-1]
        return httpx.Response(200, text=key.sign({"alg": "RS256", "typ": "statuslist+jwt", "kid": key.kid}, listed))


@pytest.fixture
def issuer(clock: FakeClock, key: SigningKey) -> Issuer:
    """A healthy issuer."""
    return Issuer(clock, key)


def _given(issuer: Issuer, *keys: SigningKey | Es256SigningKey, **changes: Any) -> TokenVerifier:
    jwks = {"keys": [dict(key.jwk) for key in keys or issuer.keys]}
    return issuer.verifier(jwks=jwks, jwks_url=None, **changes)


def _minimal(issuer: Issuer, **changes: Any) -> str:
    return issuer.mint(status=..., **changes)


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _part(members: dict[str, object]) -> str:
    return _encoded(json.dumps(members).encode())


# --- what is accepted ---


@pytest.mark.req("RV2")
def test_a_good_token_is_verified_with_keys_and_list_fetched_once(issuer: Issuer, verify: Verify) -> None:
    """The first token costs one fetch of the keys and one of its list, the next ones none."""
    verifier = issuer.verifier()
    for _ in range(3):
        token = verify(verifier, issuer.mint())
        assert (token.issuer, token.jti, token.key_id) == (ISSUER, "token-1", issuer.keys[0].kid)
        assert token.scopes == {"read:metrics"}
    assert issuer.asked == [JWKS_URL, LIST_URL]


@pytest.mark.req("RV2")
def test_tokens_that_pyjwt_mints_are_accepted(issuer: Issuer, verify: Verify) -> None:
    """An independent library's idea of RS256 is ours."""
    key = issuer.keys[0]
    token = jwt.encode(issuer.claims(status=...), key.private, algorithm="RS256", headers={"kid": key.kid})
    assert verify(_given(issuer), token).claims == {
        **issuer.claims(status=...),
        "aud": (AUDIENCE,),
        "permissions": ("read:metrics",),
    }


@pytest.mark.req("RV2")
@pytest.mark.parametrize(
    ("profile", "typ", "missing"),
    [
        ("delegation", "JWT", ()),
        ("at+jwt", "at+jwt", ("nbf", "permissions")),
        ("at+jwt", "application/at+jwt", ("roles",)),
        ("oidc", "JWT", ("jti", "client_id", "permissions", "scope")),
        ("oidc", ..., ("jti",)),
    ],
)
def test_each_profile_accepts_its_own_tokens(
    issuer: Issuer, verify: Verify, profile: str, typ: object, missing: tuple[str, ...]
) -> None:
    """`typ` and the required claims follow the profile."""
    absent: dict[str, Any] = dict.fromkeys(missing, ...)
    token = _minimal(issuer, header={"typ": typ}, **absent)
    assert verify(_given(issuer, profile=profile), token).subject.startswith("spiffe://")
    for other in {"delegation", "at+jwt", "oidc"} - {profile, "oidc" if profile == "delegation" else ""}:
        if (profile, typ, other) == ("oidc", "JWT", "delegation"):
            continue
        with pytest.raises(MalformedTokenError):
            verify(_given(issuer, profile=other), token)


@pytest.mark.req("RV2")
def test_foreign_issuers_may_sign_with_es256_and_ours_may_not(issuer: Issuer, key: SigningKey, verify: Verify) -> None:
    """With the profile oidc a key on P-256 counts beside an RSA key; with our own profiles it is no key at all."""
    curve = Es256SigningKey.generate("curve")
    text = curve.sign({"alg": "ES256", "typ": "JWT", "kid": "curve"}, issuer.claims(status=...))
    foreign = _given(issuer, key, curve, profile="oidc", remember=10)
    assert verify(foreign, text).key_id == verify(foreign, text).key_id == "curve"
    assert verify(foreign, _minimal(issuer)).key_id == key.kid
    for profile in ("delegation", "at+jwt"):
        with pytest.raises(MalformedTokenError, match=r"RS256$"):
            verify(_given(issuer, key, curve, profile=profile), text)
        with pytest.raises(ConfigurationError, match="no key"):
            _given(issuer, curve, profile=profile)


@pytest.mark.req("RV2")
@pytest.mark.parametrize("profile", ["delegation", "at+jwt", "oidc", "jwt-svid"])
def test_the_algorithm_follows_the_key_and_not_the_header(issuer: Issuer, key: SigningKey, profile: str) -> None:
    """A header that names the other algorithm than the key's is refused, however the rest was made."""
    curve = Es256SigningKey.generate("curve", use="jwt-svid" if profile == "jwt-svid" else "sig")
    trust_domain = {"issuer": "spiffe://example.org"} if profile == "jwt-svid" else {}
    rsa = {**key.jwk, "use": curve.jwk["use"]}
    verifier = issuer.verifier(jwks={"keys": [rsa, dict(curve.jwk)]}, jwks_url=None, profile=profile, **trust_domain)
    typ = profile if profile == "at+jwt" else "JWT"
    mixed: list[tuple[SigningKey | Es256SigningKey, str, str]] = [
        (key, key.kid, "ES256"),
        (key, "curve", "RS256"),
        (key, "curve", "ES256"),
        (curve, "curve", "RS256"),
        (curve, key.kid, "ES256"),
        (curve, key.kid, "RS256"),
    ]
    for signer, kid, alg in mixed:
        text = signer.sign({"alg": alg, "typ": typ, "kid": kid}, issuer.claims(status=...))
        with pytest.raises(TokenRejectedError):
            verifier.verify(text)


@pytest.mark.req("RV2")
def test_a_jwt_svid_is_verified_with_the_bundle_of_its_trust_domain(issuer: Issuer, verify: Verify) -> None:
    """RS256 or ES256, any `iss` or none; a workload of another trust domain is refused without asking for keys."""
    rsa, curve = issuer.keys[0], Es256SigningKey.generate("curve", use="jwt-svid")
    bundle = {"keys": [{**rsa.jwk, "use": "jwt-svid"}, dict(curve.jwk), {"kty": "EC", "use": "x509-svid"}]}
    issuer.reply = lambda request: httpx.Response(200, json=bundle)
    verifier = issuer.verifier(issuer="spiffe://example.org", profile="jwt-svid")
    elsewhere = issuer.mint(sub="spiffe://example.com/a", status=...)
    with pytest.raises(WrongIssuerError):
        verify(verifier, elsewhere)
    assert issuer.asked == []
    bare = {"sub": "spiffe://example.org/a", "aud": AUDIENCE, "exp": int(issuer.clock.wall()) + 60}
    for text in (
        issuer.mint(status=..., header={"typ": "JOSE"}),
        curve.sign({"alg": "ES256", "kid": "curve"}, bare),
    ):
        token = verify(verifier, text)
        assert token.issuer == "spiffe://example.org"
        assert token.subject.startswith("spiffe://example.org/")
    assert issuer.asked == [JWKS_URL]
    with pytest.raises(WrongIssuerError):
        verify(verifier, elsewhere)
    for missing in ("exp", "aud", "sub"):
        claims = {name: value for name, value in bare.items() if name != missing}
        with pytest.raises(MalformedTokenError):
            verify(verifier, curve.sign({"alg": "ES256", "kid": "curve"}, claims))


def test_what_was_verified_holds_no_token_and_cannot_be_changed(issuer: Issuer) -> None:
    """The value is frozen at every depth and shows nothing of the token's text."""
    text = issuer.mint(deep={"list": [{"a": [1]}]})
    token = issuer.verifier().verify(text)
    with pytest.raises(AttributeError):
        token.jti = "x"  # type: ignore[misc]  # it is frozen
    with pytest.raises(TypeError):
        token.claims["jti"] = "x"  # type: ignore[index]  # it is read-only
    with pytest.raises(TypeError):
        token.claims["deep"]["list"][0]["a"] = 1
    assert token.claims["deep"]["list"][0]["a"] == (1,)
    held = [repr(held) for held in gc.get_referents(token)]
    assert not any(part in shown for part in text.split(".") for shown in [repr(token), *held])


# --- what is refused ---


@pytest.mark.req("RV2")
@pytest.mark.parametrize(
    ("claims", "error"),
    [
        ({"iss": "https://other.example"}, WrongIssuerError),
        ({"aud": ["other-api"]}, WrongAudienceError),
        ({"exp": 1_800_000_000 - 5}, ExpiredTokenError),
        ({"iat": 1_800_000_000 + 6}, NotYetValidError),
        ({"nbf": 1_800_000_000 + 6}, NotYetValidError),
        ({"sub": ...}, MalformedTokenError),
        ({"jti": 7}, MalformedTokenError),
        ({"exp": 1.8e9}, MalformedTokenError),
        ({"exp": 10**400}, MalformedTokenError),
        ({"status": "valid"}, MalformedTokenError),
        ({"status": {"status_list": {"idx": 0, "uri": "https://evil.example/1"}}}, MalformedTokenError),
        ({"status": {"status_list": {"idx": 5000, "uri": LIST_URL}}}, MalformedTokenError),
        ({"mock": True}, WrongIssuerError),
    ],
    ids=str,
)
def test_each_refusal_says_why_and_quotes_nothing(
    issuer: Issuer, verify: Verify, claims: dict[str, Any], error: type[TokenRejectedError]
) -> None:
    """The class and its code tell the reason; the message is ours alone."""
    text = issuer.mint(**claims)
    with pytest.raises(error) as caught:
        verify(issuer.verifier(), text)
    assert caught.value.message.isprintable()
    assert not any(part in str(caught.value) for part in (*text.split("."), "evil.example", "other"[:4] + ".example"))


@pytest.mark.req("RV2")
def test_nothing_is_said_of_claims_before_the_signature_holds(
    issuer: Issuer, other: SigningKey, verify: Verify
) -> None:
    """A stranger's token in the name of a known key is a bad signature, whatever its claims would be refused for."""
    spoilt: list[dict[str, Any]] = [{"exp": 1}, {"aud": "x"}, {"iss": "x"}, {"sub": 7}, {"status": "odd"}, {}]
    for claims in spoilt:
        with pytest.raises(BadSignatureError):
            verify(_given(issuer), issuer.mint(by=other, header={"kid": issuer.keys[0].kid}, **claims))


@pytest.mark.req("RV2")
def test_every_changed_bit_is_refused(issuer: Issuer) -> None:
    """Each single bit of a token's text is flipped in turn, and each such token is refused."""
    verifier, text = _given(issuer), _minimal(issuer).encode("ascii")
    verifier.verify(text.decode("ascii"))
    accepted = []
    for at in range(len(text) * 8):
        changed = bytearray(text)
        changed[at // 8] ^= 1 << at % 8
        try:
            verifier.verify(changed.decode("latin-1"))
        except TokenRejectedError:
            continue
        accepted.append(at)
    assert accepted == []


@pytest.mark.req("RV2")
def test_every_other_character_at_the_end_of_a_part_is_refused(issuer: Issuer) -> None:
    """Left-over bits of base64url, where lenient decoders see no change, are part of the token."""
    verifier, text = _given(issuer), _minimal(issuer)
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_=+/ \n"
    ends = [text.index(".") - 1, text.rindex(".") - 1, len(text) - 1]
    for end in ends:
        for character in set(alphabet) - {text[end]}:
            with pytest.raises(TokenRejectedError):
                verifier.verify(text[:end] + character + text[end + 1 :])


@pytest.mark.req("RV2")
def test_a_token_over_8_kib_is_refused(issuer: Issuer) -> None:
    """8192 characters are read; a good token of one more is not."""
    verifier, short = _given(issuer), len(_minimal(issuer, pad=""))
    # three bytes of padding are four characters; which residue fits depends on the lengths of the other parts
    sizes = range((8192 - short) * 3 // 4 - 4, (8192 - short) * 3 // 4 + 5)
    texts = {len(text): text for text in (_minimal(issuer, pad="x" * size) for size in sizes)}
    for length, text in texts.items():
        if length <= 8192:
            assert verifier.verify(text).jti == "token-1"
        else:
            with pytest.raises(MalformedTokenError, match="too long"):
                verifier.verify(text)
    assert min(texts) <= 8192 < max(texts)


@pytest.mark.req("RV2")
def test_cut_spliced_and_padded_tokens_are_refused(issuer: Issuer) -> None:
    """Every prefix, every suffix and every mixture of two good tokens is refused."""
    verifier, one, two = _given(issuer), _minimal(issuer), _minimal(issuer, jti="token-2")
    for length in range(len(one)):
        for part in (one[:length], one[length + 1 :]):
            with pytest.raises(TokenRejectedError):
                verifier.verify(part)
    header, payload, signature = one.split(".")
    for mixed in (
        ".".join([header, two.split(".")[1], signature]),
        ".".join([header, payload, two.split(".")[2]]),
        ".".join([header, signature, payload]),
        one + ".",
        "." + one,
        one + two,
        f"Bearer {one}",
        one + "\n",
        one.lower(),
    ):
        with pytest.raises(TokenRejectedError):
            verifier.verify(mixed)


@pytest.mark.req("RV2")
def test_another_algorithm_in_the_header_is_refused_with_its_good_signature(issuer: Issuer, other: SigningKey) -> None:
    """HS256 with the public key as its secret, `none`, PS256 and RS512: refused by what the header says."""
    key, claims = issuer.keys[0], issuer.claims(status=...)
    public = key.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    unsigned = f"{_part({'alg': 'HS256', 'typ': 'JWT', 'kid': key.kid})}.{_part(claims)}"
    for text in (
        f"{unsigned}.{_encoded(hmac.digest(public, unsigned.encode(), 'sha256'))}",
        jwt.encode(claims, "", algorithm="none", headers={"kid": key.kid}),
        jwt.encode(claims, key.private, algorithm="PS256", headers={"kid": key.kid}),
        jwt.encode(claims, key.private, algorithm="RS512", headers={"kid": key.kid}),
    ):
        with pytest.raises(MalformedTokenError):
            _given(issuer).verify(text)


@pytest.mark.req("RV2")
def test_an_embedded_key_is_not_used(issuer: Issuer, other: SigningKey) -> None:
    """A token that brings its own key, or says where to fetch one, is refused without a look at either."""
    for member in (
        {"jwk": dict(other.jwk)},
        {"jku": "https://evil.example/"},
        {"x5u": "https://evil.example/"},
        {"x5c": ["AA"]},
    ):
        with pytest.raises(MalformedTokenError):
            issuer.verifier().verify(issuer.mint(by=other, header={"kid": issuer.keys[0].kid, **member}))
    assert issuer.asked == []


@pytest.mark.req("RV2")
@given(text=st.text(max_size=200) | st.binary(max_size=200).map(lambda raw: raw.decode("latin-1")))
@settings(deadline=None)
def test_garbage_is_refused_and_nothing_else_is_raised(text: str) -> None:
    """No text at all makes the verifier raise anything but a refusal."""
    issuer = Issuer(FakeClock(), first_key())
    with pytest.raises(TokenRejectedError):
        issuer.verifier().verify(text)
    assert issuer.asked == []


_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.text(max_size=6)
    | st.just(AUDIENCE)
    | st.just(ISSUER),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


@pytest.mark.req("RV2")
@given(
    changes=st.dictionaries(
        st.sampled_from(
            ["iss", "sub", "aud", "exp", "iat", "nbf", "jti", "scope", "permissions", "roles", "act", "client_id"]
        ),
        _values | st.just(...),
        max_size=4,
    ),
    header=st.dictionaries(
        st.sampled_from(["typ", "kid", "cty", "crit", "b64", "zip"]), _values | st.just(...), max_size=2
    ),
)
@settings(deadline=None, max_examples=200)
def test_what_is_accepted_pyjwt_accepts_too(changes: dict[str, Any], header: dict[str, Any]) -> None:
    """Whatever a key of the issuer signs, nothing is accepted that an independent library refuses."""
    issuer = Issuer(FakeClock(), first_key())
    try:
        text = _minimal(issuer, header=header, **changes)
    except UnicodeEncodeError:
        return
    try:
        token = _given(issuer).verify(text)
    except TokenRejectedError:
        return
    options: Any = {
        "require": ["iss", "aud", "sub", "exp", "iat", "jti"],
        "verify_exp": False,
        "verify_iat": False,
        "verify_nbf": False,
    }
    read = jwt.decode(text, issuer.keys[0].private.public_key(), ["RS256"], options, audience=AUDIENCE, issuer=ISSUER)
    assert (read["sub"], read["exp"], read["jti"]) == (token.subject, token.expires_at, token.jti)


@pytest.mark.req("RS2")
def test_a_mock_token_is_refused_by_a_default_verifier_without_any_fetch(issuer: Issuer, verify: Verify) -> None:
    """A real MOCK token: its issuer is not ours, and nobody is asked for its key."""
    token = MockAuthority(clock=issuer.clock).mint(frozenset({"read:metrics"}))
    for verifier in (issuer.verifier(), _given(issuer)):
        with pytest.raises(WrongIssuerError):
            verify(verifier, token.value)
    assert issuer.asked == []


@pytest.mark.req("RS2")
def test_a_mock_token_is_real_and_is_accepted_where_mock_is_configured(issuer: Issuer, verify: Verify) -> None:
    """With MOCK's own issuer and key configured, the same token passes every check."""
    authority = MockAuthority(clock=issuer.clock)
    token = authority.mint(frozenset({"read:metrics"}))
    verifier = TokenVerifier(
        issuer="https://mock.authsec.invalid", audience=AUDIENCE, jwks=authority.jwks(), clock=issuer.clock
    )
    assert verify(verifier, token.value).scopes == {"read:metrics"}


# --- keys ---


@pytest.mark.req("RV4")
def test_the_request_for_keys_asks_for_little_and_carries_nothing(issuer: Issuer, verify: Verify) -> None:
    """The pinned URL, unencoded and uncached, without cookies or credentials."""
    verify(issuer.verifier(), _minimal(issuer))
    assert issuer.asked == [JWKS_URL]
    assert issuer.headers["accept-encoding"] == "identity"
    assert issuer.headers["cache-control"] == "no-cache"
    assert issuer.headers["user-agent"].startswith("authsec-core/")
    assert not {"cookie", "authorization"} & set(issuer.headers)


@pytest.mark.req("RV4")
@pytest.mark.parametrize(
    "reply",
    [
        lambda request: httpx.Response(302, headers={"Location": "https://evil.example/jwks"}),
        lambda request: httpx.Response(204),
        lambda request: httpx.Response(206, json={"keys": []}),
        lambda request: httpx.Response(404, json={"keys": []}),
        lambda request: httpx.Response(503),
        lambda request: httpx.Response(200, content=b'{"keys":[]}' + b" " * 65536),
        lambda request: httpx.Response(200, content=b""),
    ],
    ids=["redirect", "204", "206", "404", "503", "too large", "empty"],
)
def test_only_a_small_200_is_a_key_set(
    issuer: Issuer, verify: Verify, reply: Callable[[httpx.Request], httpx.Response]
) -> None:
    """Redirects are not followed, other statuses and large bodies not read: unavailable, never "valid"."""
    issuer.reply = reply
    with pytest.raises(VerificationUnavailableError):
        verify(issuer.verifier(), _minimal(issuer))
    assert issuer.asked == [JWKS_URL]


@pytest.mark.req("RV4")
@pytest.mark.parametrize("failure", [httpx.ConnectError, httpx.ReadTimeout, httpx.RemoteProtocolError, httpx.ReadError])
def test_a_transport_failure_is_unavailable_with_its_cause(
    issuer: Issuer, verify: Verify, failure: type[httpx.TransportError]
) -> None:
    """What httpx says went wrong is the cause of an error that may be retried."""

    def fail(request: httpx.Request) -> httpx.Response:
        raise failure("no luck", request=request)

    issuer.reply = fail
    with pytest.raises(VerificationUnavailableError) as caught:
        verify(issuer.verifier(), _minimal(issuer))
    assert caught.value.retryable
    assert isinstance(caught.value.__cause__, failure)
    assert caught.value.unavailable == "keys"


class _Trickle(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body of good JSON that takes a second for each byte."""

    def __init__(self, clock: FakeClock, body: bytes) -> None:
        self._clock, self._body = clock, body

    def __iter__(self) -> Iterator[bytes]:
        for byte in self._body:
            self._clock.advance(1.0)
            yield bytes([byte])

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self:
            yield chunk


@pytest.mark.req("RV4")
def test_a_reply_that_trickles_is_given_up_at_the_deadline(issuer: Issuer, verify: Verify) -> None:
    """The time for one fetch is bounded in all, not only between two bytes."""
    text, started = _minimal(issuer), issuer.clock.steady()
    body = json.dumps({"keys": [dict(issuer.keys[0].jwk)]}).encode()
    issuer.reply = lambda request: httpx.Response(200, stream=_Trickle(issuer.clock, body))
    with pytest.raises(VerificationUnavailableError, match="timeout"):
        verify(issuer.verifier(timeout=5.0), text)
    assert issuer.clock.steady() - started == 6.0


@pytest.mark.req("RV4")
def test_a_withdrawn_key_is_refused_within_the_refresh_interval(
    issuer: Issuer, other: SigningKey, verify: Verify
) -> None:
    """When the issuer withdraws a key, its tokens fail no later than `jwks_refresh` seconds afterwards."""
    verifier, old = issuer.verifier(jwks_refresh=100.0), issuer.keys[0]
    text = _minimal(issuer)
    verify(verifier, text)
    issuer.keys = [other]
    issuer.clock.advance(99.0)
    with pytest.raises(BadSignatureError):
        verify(verifier, text)
    assert verify(verifier, _minimal(issuer)).key_id == other.kid
    with pytest.raises(BadSignatureError):
        verify(verifier, _minimal(issuer, by=old))


@pytest.mark.req("RV4")
def test_a_key_kept_under_its_name_but_exchanged_is_noticed(issuer: Issuer, other: SigningKey, verify: Verify) -> None:
    """A token that was verified before is verified again when its key's name stands for another key."""
    verifier, text, name = issuer.verifier(remember=10), _minimal(issuer), issuer.keys[0].kid
    verify(verifier, text)
    issuer.reply = lambda request: httpx.Response(200, json={"keys": [{**other.jwk, "kid": name}]})
    issuer.clock.advance(300.0)
    verify(verifier, _minimal(issuer, by=other, header={"kid": name}))
    with pytest.raises(BadSignatureError):
        verify(verifier, text)


@pytest.mark.req("RV4")
def test_keys_outlive_an_outage_up_to_their_limit(issuer: Issuer, verify: Verify) -> None:
    """JWKS down: the last good keys until `jwks_max_age`, then 503; and all is well once it is up again."""
    verifier = issuer.verifier(jwks_refresh=100.0, jwks_max_age=1000.0)
    verify(verifier, _minimal(issuer))
    issuer.down.add(JWKS_URL)
    for _ in range(19):
        issuer.clock.advance(50.0)
        verify(verifier, _minimal(issuer))
    issuer.clock.advance(50.0)
    for _ in range(2):
        with pytest.raises(VerificationUnavailableError):
            verify(verifier, _minimal(issuer))
    issuer.down.clear()
    issuer.clock.advance(5.0)
    verify(verifier, _minimal(issuer))


@pytest.mark.req("RV4")
def test_a_flood_of_made_up_key_ids_harms_no_valid_request(issuer: Issuer, other: SigningKey, verify: Verify) -> None:
    """Thousands of them: one fetch in a pause, no known key waits, and a new key is at worst "try again"."""
    verifier = issuer.verifier(cooldown=5.0)
    verify(verifier, _minimal(issuer))
    for number in range(100):
        issuer.clock.advance(0.001)
        with pytest.raises((BadSignatureError, VerificationUnavailableError)):
            verify(verifier, _minimal(issuer, by=other, header={"kid": f"made-up-{number}"}))
        verify(verifier, _minimal(issuer))
    assert issuer.count(JWKS_URL) == 2
    old, issuer.keys = issuer.keys[0], [*issuer.keys, other]
    with pytest.raises(VerificationUnavailableError):
        verify(verifier, _minimal(issuer))
    verify(verifier, _minimal(issuer, by=old))
    issuer.clock.advance(5.0)
    assert verify(verifier, _minimal(issuer)).key_id == other.kid
    assert issuer.count(JWKS_URL) == 3


@pytest.mark.req("RV4")
def test_an_interrupted_fetch_is_followed_by_a_pause(issuer: Issuer) -> None:
    """Blocking calls with made-up key ids that are interrupted fetch once in a pause, and harm no valid request."""
    verifier, text = issuer.verifier(), _minimal(issuer)
    verifier.verify(text)
    issuer.clock.advance(1.0)

    def interrupt(request: httpx.Request) -> httpx.Response:
        raise KeyboardInterrupt

    issuer.reply = interrupt
    with pytest.raises(KeyboardInterrupt):
        verifier.verify(_minimal(issuer, header={"kid": "made-up"}))
    for number in range(50):
        with pytest.raises(VerificationUnavailableError):
            verifier.verify(_minimal(issuer, header={"kid": f"made-up-{number}"}))
    assert verifier.verify(text).jti == "token-1"
    assert issuer.count(JWKS_URL) == 2


def test_a_token_of_another_issuer_causes_no_fetch(issuer: Issuer, other: SigningKey, verify: Verify) -> None:
    """Tokens of another environment are told apart before the issuer is asked about their keys."""
    with pytest.raises(WrongIssuerError):
        verify(issuer.verifier(), _minimal(issuer, by=other, iss="https://staging.example"))
    assert issuer.asked == []


# --- revocation ---


@pytest.mark.req("RV9")
def test_a_revoked_token_is_refused_within_the_promised_seconds(issuer: Issuer, verify: Verify) -> None:
    """From `revocation_max_age` seconds after the revocation on, at the latest, the token is refused."""
    verifier, text = issuer.verifier(revocation_max_age=20.0, remember=10), issuer.mint()
    verify(verifier, text)
    issuer.clock.advance(9.0)
    issuer.revoked.add(7)
    verify(verifier, text)
    issuer.clock.advance(11.0)
    with pytest.raises(RevokedTokenError):
        verify(verifier, text)
    with pytest.raises(RevokedTokenError):
        verify(verifier, text)
    assert issuer.count(LIST_URL) == 2


@pytest.mark.req("RV9")
@pytest.mark.parametrize("status", [1, 2, 3])
def test_every_status_but_valid_is_a_refusal(issuer: Issuer, verify: Verify, status: int) -> None:
    """Invalid, suspended and what an application made up: only 0 is valid."""
    statuses = bytearray(256)
    statuses[1] |= status << 6  # place 7 of a list with two bits each
    packed = {"bits": 2, "lst": _encoded(zlib.compress(bytes(statuses)))}
    key = issuer.keys[0]
    body = {"sub": LIST_URL, "iat": int(issuer.clock.wall()), "status_list": packed}
    text = issuer.mint()
    verifier = _given(issuer)
    issuer.reply = lambda request: httpx.Response(
        200, text=key.sign({"alg": "RS256", "typ": "statuslist+jwt", "kid": key.kid}, body)
    )
    with pytest.raises(RevokedTokenError):
        verify(verifier, text)


@pytest.mark.req("RV9")
def test_an_unreachable_list_is_a_refusal_once_it_is_too_old(issuer: Issuer, verify: Verify) -> None:
    """Never fetched: unavailable at once. Fetched: valid until the age is reached, and not one second longer."""
    verifier, text = issuer.verifier(revocation_max_age=20.0), issuer.mint()
    issuer.down.add(LIST_URL)
    with pytest.raises(VerificationUnavailableError):
        verify(verifier, text)
    issuer.down.clear()
    issuer.clock.advance(5.0)
    verify(verifier, text)
    issuer.down.add(LIST_URL)
    for _ in range(19):
        issuer.clock.advance(1.0)
        verify(verifier, text)
    for _ in range(3):  # the list is fetched in vain, or not again so soon
        issuer.clock.advance(1.0)
        with pytest.raises(VerificationUnavailableError) as caught:
            verify(verifier, text)
        assert caught.value.unavailable == "status_list"
    assert issuer.count(LIST_URL) <= 2 + 19 / 5


@pytest.mark.req("RV9")
def test_a_token_that_cannot_be_revoked_is_refused_where_that_is_required(issuer: Issuer, verify: Verify) -> None:
    """By default a token without `status` passes; `require_status` demands it."""
    assert verify(_given(issuer), _minimal(issuer)).jti == "token-1"
    with pytest.raises(MalformedTokenError, match="status"):
        verify(_given(issuer, require_status=True), _minimal(issuer))
    assert verify(_given(issuer, require_status=True), issuer.mint()).jti == "token-1"


@pytest.mark.req("RV9")
def test_a_list_of_lists_can_be_many(issuer: Issuer, verify: Verify) -> None:
    """Each list is fetched and judged by itself."""
    verifier = _given(issuer)
    other_list = f"{ISSUER}/statuslists/2"
    issuer.revoked.add(7)
    with pytest.raises(RevokedTokenError):
        verify(verifier, issuer.mint())
    assert verify(verifier, issuer.mint(status={"status_list": {"idx": 8, "uri": other_list}})).jti == "token-1"
    assert issuer.asked == [LIST_URL, other_list]


@pytest.mark.req("RV9")
def test_a_list_that_is_frozen_by_somebody_on_the_way_is_refused(issuer: Issuer, verify: Verify) -> None:
    """A list without `exp` that is played back for ever hides a revocation no longer than an outage would."""
    verifier, text = _given(issuer, revocation_max_age=20.0, leeway=0.0, require_status=True), issuer.mint(exp=2**37)
    claims = {"sub": LIST_URL, "iat": int(issuer.clock.wall()), "status_list": pack_statuses([], 1024)}
    frozen = issuer.keys[0].sign({"alg": "RS256", "typ": "statuslist+jwt", "kid": issuer.keys[0].kid}, claims)
    issuer.reply = lambda request: httpx.Response(200, text=frozen)
    assert verify(verifier, text).jti == "token-1"
    issuer.clock.advance(19.0)
    assert verify(verifier, text).jti == "token-1"
    for _ in range(10):
        issuer.clock.advance(5.0)
        with pytest.raises(VerificationUnavailableError):
            verify(verifier, text)
    with pytest.raises(VerificationUnavailableError, match="signed too long ago"):
        verify(_given(issuer), text)


# --- remembered tokens ---


@pytest.mark.req("RV2")
def test_a_remembered_token_still_expires_and_is_found_by_its_whole_text(issuer: Issuer, verify: Verify) -> None:
    """Remembering spares the signature only: time is looked at again, and a changed token is another token."""
    verifier, text = _given(issuer, remember=10), _minimal(issuer)
    first = verify(verifier, text)
    assert verify(verifier, text) is first
    with pytest.raises(TokenRejectedError):
        verify(verifier, text[:-1] + ("A" if text[-1] != "A" else "B"))
    issuer.clock.jump(-10)
    with pytest.raises(NotYetValidError):
        verify(verifier, text)
    issuer.clock.jump(10 + 1800 + 5)
    with pytest.raises(ExpiredTokenError):
        verify(verifier, text)


def test_remembered_tokens_are_bounded_and_refused_ones_are_none(issuer: Issuer, other: SigningKey) -> None:
    """At most so many are kept, the oldest go first, and by default none is."""
    verifier = _given(issuer, remember=3)
    texts = [_minimal(issuer, jti=str(number)) for number in range(5)]
    seen = [verifier.verify(text) for text in texts]
    assert len(verifier._recent._examined) == 3
    assert verifier.verify(texts[4]) is seen[4]
    assert verifier.verify(texts[0]) is not seen[0]
    with pytest.raises(BadSignatureError):
        verifier.verify(_minimal(issuer, by=other, header={"kid": issuer.keys[0].kid}))
    assert len(verifier._recent._examined) == 3
    assert [verifier.remembers(text) for text in texts] == [True, False, False, True, True]
    plain = _given(issuer)
    assert plain.verify(texts[0]) is not plain.verify(texts[0])
    assert not plain.remembers(texts[0])


@pytest.mark.parametrize("token", [None, b"a.b.c", 7, ["a"]])
def test_a_token_that_is_no_text_is_the_programmers_mistake(issuer: Issuer, verify: Verify, token: Any) -> None:
    """Only text can be a token."""
    with pytest.raises(TypeError):
        verify(issuer.verifier(), token)


@pytest.mark.req("RV2")
@pytest.mark.parametrize("scheme", ["Bearer ", "bearer ", "DPoP ", "Bearer  "])
def test_a_token_with_its_scheme_is_refused_with_advice(issuer: Issuer, verify: Verify, scheme: str) -> None:
    """Who passes the whole `Authorization` header is told what to pass, and nothing of it is echoed."""
    text = _minimal(issuer)
    with pytest.raises(MalformedTokenError, match=r"pass it alone, without the scheme \(Bearer\)") as caught:
        verify(issuer.verifier(), scheme + text)
    assert not any(part in str(caught.value) for part in text.split("."))
    assert issuer.asked == []


def test_a_transport_of_the_other_world_is_not_stepped_around(issuer: Issuer) -> None:
    """A verifier with a blocking transport only never reaches for the network by itself, nor the other way round."""

    class Blocking(httpx.BaseTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            return issuer.transport.handle_request(request)

    class Async(httpx.AsyncBaseTransport):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            return await issuer.transport.handle_async_request(request)

    with pytest.raises(RuntimeError, match="async_transport"):
        asyncio.run(issuer.verifier(transport=Blocking()).averify(_minimal(issuer)))
    with pytest.raises(RuntimeError, match="transport"):
        issuer.verifier(transport=None, async_transport=Async()).verify(_minimal(issuer))
    both = issuer.verifier(transport=Blocking(), async_transport=Async())
    assert both.verify(_minimal(issuer)) == asyncio.run(both.averify(_minimal(issuer)))


def test_errors_of_a_verifier_can_be_pickled(issuer: Issuer, verify: Verify) -> None:
    """What is raised survives a process boundary, as workers and test runners need."""
    issuer.down.add(JWKS_URL)
    with pytest.raises(VerificationUnavailableError) as caught:
        verify(issuer.verifier(), _minimal(issuer))
    assert pickle.loads(pickle.dumps(caught.value)).message == caught.value.message  # noqa: S301  # our own
