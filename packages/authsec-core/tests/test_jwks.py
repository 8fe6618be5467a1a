from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key

from authsec_core._fetching import Get, Steps, Wait
from authsec_core._jwks import GivenKeys, RemoteKeys, Wanted, parse_keys
from authsec_core._jws import RS256_OR_ES256, Es256Key, Rs256Key
from authsec_core._refreshing import Pace
from authsec_core.errors import VerificationUnavailableError
from authsec_core.testing import FakeClock
from authsec_core.testing._signing import Es256SigningKey, SigningKey, first_key

URL = "https://issuer.example/authsec/.well-known/jwks.json"
FOREIGN = Wanted(use="sig", algorithms=RS256_OR_ES256)
BUNDLE = Wanted(use="jwt-svid", algorithms=RS256_OR_ES256)
REFRESH, MAX_AGE, COOLDOWN, PATIENCE = 300.0, 3600.0, 5.0, 20.0


def _number(value: int) -> str:
    return base64.urlsafe_b64encode(value.to_bytes((value.bit_length() + 7) // 8, "big")).rstrip(b"=").decode()


@pytest.fixture(scope="module")
def first() -> SigningKey:
    """A key of 2048 bits."""
    return first_key()


@pytest.fixture(scope="module")
def second() -> SigningKey:
    """Another one."""
    return SigningKey.generate()


@pytest.fixture(scope="module")
def curve() -> Es256SigningKey:
    """A key on P-256."""
    return Es256SigningKey.generate("the-kid")


@pytest.fixture(scope="module")
def small() -> RSAPrivateKey:
    """A key of 1024 bits."""
    return generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505  # weak on purpose


@pytest.fixture
def clock() -> FakeClock:
    """A clock that stands still."""
    return FakeClock()


@pytest.fixture
def keys(clock: FakeClock) -> RemoteKeys:
    """Keys at `URL` that nobody has fetched yet."""
    pace = Pace(cooldown=COOLDOWN, patience=PATIENCE)
    return RemoteKeys(URL, clock=clock, refresh=REFRESH, max_age=MAX_AGE, pace=pace)


def _jwks(*keys: SigningKey | Mapping[str, Any]) -> bytes:
    return json.dumps({"keys": [dict(key.jwk) if isinstance(key, SigningKey) else dict(key) for key in keys]}).encode()


class _Done:
    def __init__(self, value: object) -> None:
        self.value = value


def _go(steps: Steps[Any], answer: object = None) -> Get | Wait | _Done:
    """Do one step of somebody's look-up and return what it asks for next."""
    try:
        return steps.throw(answer) if isinstance(answer, Exception) else steps.send(answer)
    except StopIteration as done:
        return _Done(done.value)


def _fetch(keys: RemoteKeys, kid: str, reply: object) -> object:
    """Look `kid` up, which has to cause a fetch, and answer it."""
    steps = keys.obtain(kid)
    assert isinstance(_go(steps), Get)
    done = _go(steps, reply)
    assert isinstance(done, _Done)
    return done.value


def _without_fetching(keys: RemoteKeys, kid: str) -> object:
    done = _go(keys.obtain(kid))
    assert isinstance(done, _Done), "it wanted to fetch or to wait"
    return done.value


def _down() -> VerificationUnavailableError:
    return VerificationUnavailableError("the issuer's key set cannot be fetched (timeout)")


# --- what a key set may say ---


@pytest.mark.req("RV1")
def test_keys_for_rs256_are_taken_and_others_passed_over(first: SigningKey, second: SigningKey) -> None:
    """Keys for encryption, other algorithms and operations, and of other types are no keys of ours, and no blunder."""
    others = [
        {**second.jwk, "kid": "encrypts", "use": "enc"},
        {**second.jwk, "kid": "other-alg", "alg": "PS256"},
        {**second.jwk, "kid": "oaep", "alg": "RSA-OAEP", "use": "enc"},
        {**second.jwk, "kid": "ops", "key_ops": ["encrypt"]},
        {**second.jwk, "kid": "no-ops", "key_ops": []},
        {"kty": "EC", "kid": "ec", "crv": "P-256", "x": "AA", "y": "AA"},
        {"kty": "OKP", "kid": "ed", "crv": "Ed25519", "x": "AA"},
        {"kty": "future", "kid": "f"},
        {name: value for name, value in second.jwk.items() if name != "kid"},
    ]
    assert parse_keys({"keys": [dict(first.jwk), *others]}).keys() == {first.kid}


@pytest.mark.req("RV1")
def test_what_a_key_need_not_say_and_what_nobody_reads(first: SigningKey) -> None:
    """`use`, `alg` and `key_ops` may be missing; certificates beside the key are ignored."""
    bare = {name: first.jwk[name] for name in ("kty", "n", "e")}
    jwks = {
        "keys": [
            {**bare, "kid": "bare"},
            {**bare, "kid": "ops", "key_ops": ["verify"]},
            {**bare, "kid": "certified", "x5c": ["nonsense"], "x5t": "x", "x5u": "https://evil.example/"},
        ],
        "extra": 1,
    }
    numbers = first.private.public_key().public_numbers()
    parsed = parse_keys(jwks)
    assert parsed.keys() == {"bare", "ops", "certified"}
    assert all(isinstance(key, Rs256Key) and key.public.public_numbers() == numbers for key in parsed.values())


@pytest.mark.req("RV1")
def test_a_foreign_set_also_has_keys_on_p_256(first: SigningKey, curve: Es256SigningKey) -> None:
    """Each key is for the algorithm of its type; other curves, uses and algorithms are passed over."""
    others = [
        {**curve.jwk, "kid": "encrypts", "use": "enc"},
        {**curve.jwk, "kid": "mixed", "alg": "RS256"},
        {**first.jwk, "kid": "mixed-too", "alg": "ES256"},
        {**curve.jwk, "kid": "ops", "key_ops": ["sign"]},
        {"kty": "EC", "kid": "384", "crv": "P-384", "x": "AA", "y": "AA"},
        {"kty": "EC", "kid": "lies", "crv": "P-384", "x": "AA", "y": "AA", "alg": "ES256"},
        {"kty": "EC", "kid": "bitcoin", "crv": "secp256k1", "x": "AA", "y": "AA"},
        {"kty": "EC", "kid": "odd", "crv": ["P-256"], "x": "AA", "y": "AA"},
        {"kty": "OKP", "kid": "ed", "crv": "P-256", "x": "AA", "y": "AA"},
        {name: value for name, value in curve.jwk.items() if name != "kid"},
    ]
    parsed = parse_keys({"keys": [dict(first.jwk), {**curve.jwk, "alg": "ES256"}, *others]}, FOREIGN)
    assert {kid: (type(key), key.alg) for kid, key in parsed.items()} == {
        first.kid: (Rs256Key, "RS256"),
        curve.kid: (Es256Key, "ES256"),
    }


@pytest.mark.req("RV1")
def test_a_spiffe_bundle_has_keys_for_jwt_svids(first: SigningKey, curve: Es256SigningKey) -> None:
    """Of a bundle the keys of use jwt-svid are taken; those of X.509-SVIDs, and keys that say no use, are not."""
    bare = {name: value for name, value in curve.jwk.items() if name != "use"}
    bundle = {
        "spiffe_sequence": 7,
        "spiffe_refresh_hint": 300,
        "keys": [
            {**curve.jwk, "use": "jwt-svid"},
            {**first.jwk, "use": "jwt-svid"},
            {"kty": "EC", "use": "x509-svid", "crv": "P-256", "x": "AA", "y": "AA", "x5c": ["AA"]},
            {"kty": "RSA", "use": "x509-svid", "n": "AA", "e": "AQAB", "x5c": ["AA"]},
            {**curve.jwk, "kid": "usual"},
            {**bare, "kid": "bare"},
        ],
    }
    assert parse_keys(bundle, BUNDLE).keys() == {curve.kid, first.kid}
    with pytest.raises(ValueError, match="use jwt-svid for RS256 or ES256"):
        GivenKeys({"keys": [dict(first.jwk)]}, BUNDLE)


@pytest.mark.req("RV1")
@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"x": None}, "lacks"),
        ({"y": 3}, "lacks"),
        ({"x": "\u00e9"}, "lacks"),
        ({"x": ""}, "32 bytes"),
        ({"y": _number(2**255)[:-1]}, "base64url|32 bytes"),
        ({"x": _number(2**256)}, "32 bytes"),
        ({"x": "A" * 43}, "no point"),
        ({"x": "A" * 43, "y": "A" * 43}, "no point"),
        ({"x": _number(2**256 - 1)}, "no point"),
        ({"y": _number(2**255 + 1)}, "no point"),
        ({"x": "A" * 42 + "B"}, "base64url"),
    ],
    ids=str,
)
def test_a_key_that_is_no_point_of_the_curve_spoils_the_set(
    first: SigningKey, curve: Es256SigningKey, change: dict[str, Any], why: str
) -> None:
    """Missing, short, long and invented coordinates: the whole set is refused, where such keys are for us."""
    jwks = {"keys": [dict(first.jwk), {**curve.jwk, **change}]}
    with pytest.raises(ValueError, match=why) as caught:
        parse_keys(jwks, FOREIGN)
    assert curve.kid not in str(caught.value)
    assert parse_keys(jwks).keys() == {first.kid}


@pytest.mark.req("RV1")
def test_a_weak_modulus_spoils_the_set(first: SigningKey, small: RSAPrivateKey) -> None:
    """An RSA key below 2048 bits is refused, and with it the set that offers it."""
    weak = {**first.jwk, "kid": "weak", "n": _number(small.public_key().public_numbers().n)}
    with pytest.raises(ValueError, match="2048"):
        parse_keys({"keys": [dict(first.jwk), weak]})


@pytest.mark.req("RV1")
@pytest.mark.parametrize("bits", [2047, 8193, 16384])
def test_the_modulus_has_bounds(first: SigningKey, bits: int) -> None:
    """One bit too few is refused, and so is a modulus so large that verifying becomes an attack."""
    with pytest.raises(ValueError, match="2048 to 8192"):
        parse_keys({"keys": [{**first.jwk, "n": _number(2**bits - 1)}]})


@pytest.mark.req("RV1")
@pytest.mark.parametrize("exponent", [1, 2, 3, 17, 257, 65535, 65536, 65538, 2**64, 2**64 + 1, 2**1024 + 1])
def test_a_weak_exponent_is_refused(first: SigningKey, exponent: int) -> None:
    """Small, even and gigantic exponents are refused."""
    with pytest.raises(ValueError, match="exponent"):
        parse_keys({"keys": [{**first.jwk, "e": _number(exponent)}]})


@pytest.mark.req("RV1")
@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"n": None}, "lacks"),
        ({"n": 3}, "lacks"),
        ({"n": ""}, "2048"),
        ({"n": "\u00e9"}, "lacks"),
        ({"n": "AQAB="}, "base64url"),
        ({"n": "AQ AB"}, "base64url"),
        ({"n": "A"}, "base64url"),
        ({"e": "AQAC="}, "base64url"),
        ({"e": 65537}, "lacks"),
        ({"e": ""}, "exponent"),
        ({"n": _number(2**2048 - 2)}, "2048"),
        ({"kty": None}, "type"),
        ({"kty": 3}, "type"),
        ({"key_ops": "verify"}, "key_ops"),
        ({"kid": ""}, "key id"),
        ({"kid": None}, "key id"),
        ({"kid": 3}, "key id"),
        ({"kid": ["a"]}, "key id"),
    ],
    ids=str,
)
def test_a_malformed_key_spoils_the_set(first: SigningKey, change: dict[str, Any], why: str) -> None:
    """A key that claims to be ours and is not well formed: the whole set is refused, and nothing of it quoted."""
    with pytest.raises(ValueError, match=why) as caught:
        parse_keys({"keys": [{**first.jwk, **change}]})
    assert first.kid not in str(caught.value)


@pytest.mark.req("RV1")
def test_two_keys_of_one_name_spoil_the_set(first: SigningKey, second: SigningKey) -> None:
    """Duplicate key ids are refused, whatever kinds of keys they are."""
    for twin in ({**second.jwk, "kid": first.kid}, {"kty": "EC", "kid": first.kid}, dict(first.jwk)):
        with pytest.raises(ValueError, match="same key id"):
            parse_keys({"keys": [dict(first.jwk), twin]})


@pytest.mark.req("RV1")
@pytest.mark.parametrize(
    "blunder",
    [
        {"kty": "oct", "kid": "s", "k": "c2VjcmV0"},
        {"kty": "oct", "kid": "s"},
        {"kty": "oct"},
        {"kty": "EC", "kid": "s", "d": "AA"},
        {"kty": "RSA", "kid": "s", "use": "enc", "d": "AA"},
        {"kty": "RSA", "p": "AA"},
        {"kty": "RSA", "oth": []},
        {"kty": "future", "k": "AA"},
    ],
    ids=str,
)
def test_a_secret_in_the_set_spoils_it(first: SigningKey, blunder: dict[str, Any]) -> None:
    """A set that publishes a symmetric or private key is refused as a whole."""
    with pytest.raises(ValueError, match="must not be published"):
        parse_keys({"keys": [dict(first.jwk), blunder]})


@pytest.mark.req("RV1")
@pytest.mark.parametrize("jwks", [None, [], "keys", {}, {"keys": None}, {"keys": {}}, {"keys": ["a"]}, {"keys": [[]]}])
def test_what_is_no_key_set_is_refused(jwks: object) -> None:
    """Only an object whose `keys` is a list of objects is a key set."""
    with pytest.raises(ValueError, match="not a JWK set"):
        parse_keys(jwks)


@pytest.mark.req("RV1")
def test_the_number_of_keys_is_bounded(first: SigningKey) -> None:
    """64 keys are read, 65 are not."""
    many = [{**first.jwk, "kid": str(number)} for number in range(65)]
    assert len(parse_keys({"keys": many[:64]})) == 64
    with pytest.raises(ValueError, match="more than 64"):
        parse_keys({"keys": many})


@pytest.mark.req("RV1")
def test_given_keys_answer_at_once_and_cannot_be_none(first: SigningKey) -> None:
    """Keys that are given are known or not, without any step; a set without a usable key is refused."""
    given = GivenKeys({"keys": [dict(first.jwk)]})
    done, unknown = _go(given.obtain(first.kid)), _go(given.obtain("other"))
    assert isinstance(done, _Done)
    assert isinstance(unknown, _Done)
    assert given.peek(first.kid) is done.value is not None
    assert given.peek("other") is unknown.value is None
    with pytest.raises(ValueError, match="no key"):
        GivenKeys({"keys": []})
    with pytest.raises(ValueError, match="no key"):
        GivenKeys({"keys": [{**first.jwk, "use": "enc"}]})


# --- keys at a URL ---


@pytest.mark.req("RV4")
def test_keys_are_fetched_once_from_the_pinned_url_within_bounds(keys: RemoteKeys, first: SigningKey) -> None:
    """The first look-up asks for the configured URL and at most 64 KiB; the next ones ask for nothing."""
    steps = keys.obtain(first.kid)
    assert _go(steps) == Get(url=URL, what="the issuer's key set", accept="application/json", limit=65536)
    done = _go(steps, _jwks(first))
    assert isinstance(done, _Done)
    assert done.value is not None
    assert keys.peek(first.kid) is done.value is _without_fetching(keys, first.kid)


@pytest.mark.req("RV4")
def test_a_withdrawn_key_is_refused_within_the_refresh_interval(
    keys: RemoteKeys, clock: FakeClock, first: SigningKey, second: SigningKey
) -> None:
    """Fresh until half of `refresh`; from then on the next user fetches, and what was withdrawn is gone."""
    _fetch(keys, first.kid, _jwks(first, second))
    clock.advance(REFRESH / 2 - 0.001)
    assert keys.peek(first.kid) is not None
    clock.advance(0.001)
    assert keys.peek(first.kid) is None
    assert _fetch(keys, first.kid, _jwks(second)) is None
    assert keys.peek(second.kid) is not None


@pytest.mark.req("RV4")
def test_an_idle_verifier_never_trusts_an_old_key(keys: RemoteKeys, clock: FakeClock, first: SigningKey) -> None:
    """Past `refresh` nobody goes on with the old set, not even those for whom another is fetching."""
    _fetch(keys, first.kid, _jwks(first))
    clock.advance(REFRESH)
    leader, follower = keys.obtain(first.kid), keys.obtain(first.kid)
    assert isinstance(_go(leader), Get)
    assert isinstance(_go(follower), Wait)
    assert isinstance(_go(leader, _jwks()), _Done)
    done = _go(follower, True)
    assert isinstance(done, _Done)
    assert done.value is None


@pytest.mark.req("RV4")
def test_while_one_fetches_the_others_go_on_with_good_keys(
    keys: RemoteKeys, clock: FakeClock, first: SigningKey
) -> None:
    """Between half of `refresh` and `refresh` one caller fetches; nobody else waits or fetches."""
    _fetch(keys, first.kid, _jwks(first))
    clock.advance(REFRESH / 2)
    leader = keys.obtain(first.kid)
    assert isinstance(_go(leader), Get)
    for _ in range(3):
        assert _without_fetching(keys, first.kid) is not None
    assert isinstance(_go(leader, _jwks(first)), _Done)
    assert keys.peek(first.kid) is not None


@pytest.mark.req("RV4")
def test_while_the_url_is_down_the_last_good_keys_serve_up_to_their_limit(
    keys: RemoteKeys, clock: FakeClock, first: SigningKey
) -> None:
    """With the URL down from the start of the refresh: good until `max_age`, then nothing can be said."""
    _fetch(keys, first.kid, _jwks(first))
    clock.advance(REFRESH / 2)
    elapsed = REFRESH / 2
    while elapsed < MAX_AGE:
        assert _fetch(keys, first.kid, _down()) is not None
        assert _without_fetching(keys, first.kid) is not None, "in the pause the keys serve, and nothing is fetched"
        step = min(100.0, MAX_AGE - elapsed)
        clock.advance(step)
        elapsed += step
    steps = keys.obtain(first.kid)
    assert isinstance(_go(steps), Get)
    with pytest.raises(VerificationUnavailableError):
        _go(steps, _down())
    with pytest.raises(VerificationUnavailableError):
        _go(keys.obtain(first.kid))


@pytest.mark.req("RV4")
def test_an_outage_that_is_over_excuses_nothing(keys: RemoteKeys, clock: FakeClock, first: SigningKey) -> None:
    """A failed fetch lets the old keys serve for `refresh` more seconds: then somebody must have looked again."""
    _fetch(keys, first.kid, _jwks(first))
    clock.advance(REFRESH)
    assert _fetch(keys, first.kid, _down()) is not None
    clock.advance(REFRESH - 0.001)
    leader = keys.obtain(first.kid)
    assert isinstance(_go(leader), Get)
    assert _without_fetching(keys, first.kid) is not None
    clock.advance(0.001)
    assert isinstance(_go(keys.obtain(first.kid)), Wait)
    assert isinstance(_go(leader, _jwks()), _Done)
    assert _without_fetching(keys, first.kid) is None


@pytest.mark.req("RV4")
def test_a_flood_of_unknown_key_ids_causes_one_fetch_in_a_pause_and_harms_nobody(
    keys: RemoteKeys, clock: FakeClock, first: SigningKey
) -> None:
    """Made-up key ids cause one fetch, then none for `cooldown` seconds; known keys are answered at once throughout."""
    _fetch(keys, first.kid, _jwks(first))
    fetches = 0
    for number in range(600):
        clock.advance(0.1)
        steps = keys.obtain(f"made-up-{number}")
        try:
            assert isinstance(_go(steps), Get)
        except VerificationUnavailableError:
            continue
        fetches += 1
        assert keys.peek(first.kid) is not None
        assert _without_fetching(keys, first.kid) is not None
        done = _go(steps, _jwks(first))
        assert isinstance(done, _Done)
        assert done.value is None
    assert fetches == 60 / COOLDOWN


@pytest.mark.req("RV4")
def test_a_flood_against_a_url_that_is_down_harms_nobody(keys: RemoteKeys, clock: FakeClock, first: SigningKey) -> None:
    """The same flood while the URL fails: one fetch in each pause, and known keys serve at once."""
    _fetch(keys, first.kid, _jwks(first))
    fetches = 0
    for tick in range(60):
        clock.advance(1.0)
        steps = keys.obtain(f"made-up-{tick}")
        try:
            assert isinstance(_go(steps), Get)
        except VerificationUnavailableError:
            continue
        fetches += 1
        with pytest.raises(VerificationUnavailableError):
            _go(steps, _down())
        assert keys.peek(first.kid) is not None
    assert fetches == 60 / COOLDOWN


@pytest.mark.req("RV4")
def test_a_new_key_is_never_called_unknown_because_of_strangers(
    keys: RemoteKeys, clock: FakeClock, first: SigningKey, second: SigningKey
) -> None:
    """In the pause after a stranger's fetch a new key is "try again", not "forged"; after it, it is found."""
    _fetch(keys, first.kid, _jwks(first))
    clock.advance(1.0)
    assert _fetch(keys, "made-up", _jwks(first)) is None
    clock.advance(1.0)  # the issuer publishes the second key and uses it at once
    with pytest.raises(VerificationUnavailableError):
        _go(keys.obtain(second.kid))
    clock.advance(COOLDOWN)
    assert _fetch(keys, second.kid, _jwks(first, second)) is not None
    clock.advance(1.0)
    assert _fetch(keys, "made-up", _jwks(first, second)) is None, "a fetch that brought the key starts no pause"


@pytest.mark.req("RV4")
def test_who_arrives_during_a_fetch_is_never_told_unknown(
    keys: RemoteKeys, clock: FakeClock, first: SigningKey, second: SigningKey
) -> None:
    """A set that was asked for before a token arrived says nothing about that token's key."""
    _fetch(keys, first.kid, _jwks(first))
    clock.advance(1.0)
    stranger = keys.obtain("made-up")
    assert isinstance(_go(stranger), Get)
    clock.advance(1.0)
    late = keys.obtain(second.kid)
    assert isinstance(_go(late), Wait)
    done = _go(stranger, _jwks(first))
    assert isinstance(done, _Done)
    assert done.value is None, "for the one who asked, the answer is final"
    with pytest.raises(VerificationUnavailableError):
        _go(late, True)


@pytest.mark.req("RV4")
def test_many_that_arrive_with_a_new_key_share_one_fetch(
    keys: RemoteKeys, clock: FakeClock, first: SigningKey, second: SigningKey
) -> None:
    """After a rotation one fetch serves everybody who came meanwhile."""
    _fetch(keys, first.kid, _jwks(first))
    clock.advance(1.0)
    leader, *followers = [keys.obtain(second.kid) for _ in range(10)]
    assert isinstance(_go(leader), Get)
    assert all(isinstance(_go(follower), Wait) for follower in followers)
    assert isinstance(_go(leader, _jwks(first, second)), _Done)
    for follower in followers:
        done = _go(follower, True)
        assert isinstance(done, _Done)
        assert done.value is not None


@pytest.mark.req("RV4")
def test_a_withdrawn_key_is_refused_without_a_fetch_also_in_a_pause(
    keys: RemoteKeys, clock: FakeClock, first: SigningKey, second: SigningKey
) -> None:
    """A key id that disappeared from the set is known to be bad: no fetch, no "try again"; until it comes back."""
    _fetch(keys, first.kid, _jwks(first, second))
    clock.advance(REFRESH / 2)
    assert _fetch(keys, first.kid, _jwks(second)) is None
    assert _without_fetching(keys, first.kid) is None
    clock.advance(COOLDOWN)
    assert _fetch(keys, "made-up", _jwks(second)) is None
    assert _without_fetching(keys, first.kid) is None
    clock.advance(REFRESH / 2)
    assert _fetch(keys, first.kid, _jwks(first, second)) is not None


@pytest.mark.req("RV4")
def test_strangers_cannot_fill_the_memory_of_withdrawn_keys(keys: RemoteKeys, clock: FakeClock) -> None:
    """However often the issuer rotates, at most as many withdrawn names are kept as a set may have keys."""
    jwk = first_key().jwk
    for number in range(200):
        _fetch(keys, f"k{number}", _jwks({**jwk, "kid": f"k{number}"}))
        clock.advance(REFRESH / 2)
    _fetch(keys, "last", _jwks({**jwk, "kid": "last"}))
    published = keys._kept.peek()
    assert published is not None
    assert len(published.withdrawn) == 64
    assert "k199" in published.withdrawn


@pytest.mark.req("RV4")
def test_a_set_without_keys_withdraws_them_all(keys: RemoteKeys, clock: FakeClock, first: SigningKey) -> None:
    """An issuer that publishes no key at all is believed."""
    _fetch(keys, first.kid, _jwks(first))
    clock.advance(REFRESH / 2)
    assert _fetch(keys, first.kid, _jwks()) is None


@pytest.mark.req("RV4")
@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"<html>",
        b'{"keys":[],"keys":[]}',
        b'{"keys":[NaN]}',
        b"[]",
        b'{"keys":{}}',
        b'{"keys":[{"kty":"oct","k":"c2VjcmV0"}]}',
        b"\xff",
    ],
)
def test_a_reply_that_is_no_good_set_is_no_reply(
    keys: RemoteKeys, clock: FakeClock, first: SigningKey, reply: bytes
) -> None:
    """What cannot be read strictly counts as an outage: nothing is verified with it, and the last good keys serve."""
    steps = keys.obtain(first.kid)
    _go(steps)
    with pytest.raises(VerificationUnavailableError, match="refused"):
        _go(steps, reply)
    clock.advance(COOLDOWN)
    assert _fetch(keys, first.kid, _jwks(first)) is not None
    clock.advance(REFRESH)
    assert _fetch(keys, first.kid, reply) is not None
