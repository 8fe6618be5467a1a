from __future__ import annotations

import base64
import contextlib
import json
import sys
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from hypothesis import given
from hypothesis import strategies as st

from authsec_core._jwks import Wanted, parse_keys
from authsec_core._jws import (
    RS256_OR_ES256,
    Algorithm,
    Es256Key,
    Header,
    Jws,
    Rs256Key,
    VerifyingKey,
    check_signature,
    decode_base64url,
    parse_json,
    parse_jws,
)
from authsec_core.errors import BadSignatureError, MalformedTokenError
from authsec_core.testing._signing import Es256SigningKey, SigningKey, first_key

LIMIT = 8192
VECTORS: list[dict[str, Any]] = [
    {**vector, "alg": alg}
    for alg in ("RS256", "ES256")
    for vector in json.loads(Path(__file__).with_name("vectors").joinpath(f"jws_{alg.lower()}.json").read_text())
]
GOOD_HEADER = {"alg": "RS256", "typ": "JWT", "kid": "one"}


@pytest.fixture(scope="module")
def key() -> SigningKey:
    """A key of 2048 bits."""
    return first_key()


@pytest.fixture(scope="module")
def es256() -> Es256SigningKey:
    """A key on P-256."""
    return Es256SigningKey.generate("one")


def _jws_of(vector: dict[str, Any]) -> Jws:
    signed = f"{vector['header']}.{vector['payload']}".encode()
    header = Header(alg=vector["alg"], kid="any", typ=None)
    return Jws(header, signed, decode_base64url(vector["signature"].encode()), b"")


def _key_of(vector: dict[str, Any]) -> VerifyingKey:
    wanted = Wanted(use="sig", algorithms=RS256_OR_ES256)
    (key,) = parse_keys({"keys": [{"kid": "any", **vector["key"]}]}, wanted).values()
    return key


def _encode(data: bytes | dict[str, Any]) -> str:
    raw = data if isinstance(data, bytes) else json.dumps(data).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def _with_header(header: bytes | dict[str, Any]) -> str:
    return f"{_encode(header)}.{_encode({})}.{_encode(b'signature')}"


def _assert_malformed(text: str) -> None:
    with pytest.raises(MalformedTokenError) as caught:
        parse_jws(text, limit=LIMIT).claims()
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None, "a lower exception that carries the token's text rides along"


@pytest.mark.req("RV1")
@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["source"])
def test_the_rfc_signatures_are_good(vector: dict[str, Any]) -> None:
    """What the RFCs sign with RS256 and ES256 verifies, byte for byte as they print it."""
    check_signature(_jws_of(vector), _key_of(vector))


@pytest.mark.req("RV1")
@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["source"])
def test_the_rfc_signatures_of_something_else_are_bad(vector: dict[str, Any]) -> None:
    """The RFCs' signatures do not verify for a payload that differs in one bit."""
    jws = _jws_of(vector)
    jws.signed = jws.signed[:-1] + bytes([jws.signed[-1] ^ 1])
    with pytest.raises(BadSignatureError):
        check_signature(jws, _key_of(vector))


@pytest.mark.req("RV1")
def test_an_es256_signature_is_64_bytes(es256: Es256SigningKey) -> None:
    """Two numbers of 32 bytes: not one byte fewer or more, not DER, not zeros, and not the other way round."""
    text = es256.sign({**GOOD_HEADER, "alg": "ES256"}, {})
    jws, key = parse_jws(text, limit=LIMIT, algorithms=RS256_OR_ES256), Es256Key(es256.private.public_key())
    check_signature(jws, key)
    good = jws.signature
    der = encode_dss_signature(int.from_bytes(good[:32], "big"), int.from_bytes(good[32:], "big"))
    for bad in (good[:-1], good + b"\0", b"\0" + good, der, good[32:] + good[:32], b"\0" * 64, good[:32] + b"\0" * 32,
                good[:32] * 2, b"\xff" * 64, good[:32] + b"\0" + good[32:]):  # fmt: skip
        jws.signature = bad
        with pytest.raises(BadSignatureError):
            check_signature(jws, key)


@pytest.mark.req("RV2")
def test_a_key_verifies_by_its_own_algorithm_alone(key: SigningKey, es256: Es256SigningKey) -> None:
    """A header that names the algorithm of another type of key is refused, whatever the signature is."""
    rsa, curve = Rs256Key(key.private.public_key()), Es256Key(es256.private.public_key())
    pairs: list[tuple[SigningKey | Es256SigningKey, Algorithm, VerifyingKey]] = [
        (key, "ES256", rsa),
        (key, "RS256", curve),
        (es256, "RS256", curve),
        (es256, "ES256", rsa),
    ]
    for signer, alg, public in pairs:
        jws = parse_jws(signer.sign({**GOOD_HEADER, "alg": alg}, {}), limit=LIMIT, algorithms=RS256_OR_ES256)
        with pytest.raises(BadSignatureError, match="algorithm"):
            check_signature(jws, public)
    with pytest.raises(MalformedTokenError, match=r"RS256$"):
        parse_jws(es256.sign({**GOOD_HEADER, "alg": "ES256"}, {}), limit=LIMIT)


@pytest.mark.req("RV1")
def test_the_rfc_7520_jws_is_parsed_and_its_text_is_no_claims() -> None:
    """A whole RFC 7520 JWS is taken apart and verifies; its payload is prose, which is refused as claims."""
    vector = VECTORS[1]
    jws = parse_jws(".".join(vector[part] for part in ("header", "payload", "signature")), limit=LIMIT)
    assert jws.header.kid == "bilbo.baggins@hobbiton.example"
    assert jws.header.typ is None
    check_signature(jws, parse_keys({"keys": [vector["key"]]})[jws.header.kid])
    with pytest.raises(MalformedTokenError):
        jws.claims()


@pytest.mark.req("RV2")
def test_a_good_jws_gives_its_header_and_claims(key: SigningKey) -> None:
    """A well-formed token is taken apart into what was put in, read-only at every depth."""
    claims = {"sub": "me", "deep": {"list": [1, [2, {"x": None}]]}, "text": "\u00e9 \N{GRINNING FACE}"}
    jws = parse_jws(key.sign(GOOD_HEADER, claims), limit=LIMIT)
    check_signature(jws, Rs256Key(key.private.public_key()))
    assert (jws.header.kid, jws.header.typ) == ("one", "JWT")
    read = jws.claims()
    assert read == {"sub": "me", "deep": {"list": (1, (2, {"x": None}))}, "text": "\u00e9 \N{GRINNING FACE}"}
    assert isinstance(read["deep"], MappingProxyType)


@pytest.mark.req("RV2")
@pytest.mark.parametrize(
    "change",
    [
        {"alg": "none"},
        {"alg": "HS256"},
        {"alg": "RS512"},
        {"alg": "ES256"},
        {"alg": "ES384"},
        {"alg": "ES256K"},
        {"alg": {"RS256": 1}},
        {"alg": "rs256"},
        {"alg": None},
        {"alg": ["RS256"]},
        {"kid": None},
        {"kid": ""},
        {"kid": 7},
        {"kid": ["one"]},
        {"kid": "k" * 257},
        {"kid": "one\nCRITICAL forged"},
        {"kid": "one\x1b[2J"},
        {"kid": "one\u2028"},
        {"typ": None},
        {"typ": 7},
        {"crit": []},
        {"crit": ["b64"]},
        {"b64": True},
        {"b64": False},
        {"jku": "https://evil.example/keys"},
        {"x5u": "https://evil.example/cert"},
        {"jwk": {}},
        {"jwk": None},
        {"x5c": []},
    ],
    ids=json.dumps,
)
def test_a_header_that_asks_for_anything_else_is_refused(change: dict[str, Any]) -> None:
    """Another algorithm, no usable key id, or a member that brings its own key or rules: refused unread."""
    _assert_malformed(_with_header({**GOOD_HEADER, **change}))
    if change != {"alg": "ES256"}:
        with pytest.raises(MalformedTokenError):
            parse_jws(_with_header({**GOOD_HEADER, **change}), limit=LIMIT, algorithms=RS256_OR_ES256)


@pytest.mark.req("RV2")
@pytest.mark.parametrize("missing", ["alg", "kid"])
def test_a_header_without_alg_or_kid_is_refused(missing: str) -> None:
    """`alg` and `kid` are required."""
    _assert_malformed(_with_header({name: value for name, value in GOOD_HEADER.items() if name != missing}))


@pytest.mark.req("RV2")
def test_a_header_may_carry_what_nobody_acts_on() -> None:
    """Members that are not understood are ignored (RFC 7515 section 4), if they are not of the forbidden ones."""
    assert parse_jws(_with_header({**GOOD_HEADER, "x5t": "abc", "new": {}}), limit=LIMIT).header.kid == "one"


NOT_STRICT_JSON = [
    b"",
    b" ",
    b"nonsense",
    b"{",
    b"{} {}",
    b"{},",
    b"\xef\xbb\xbf{}",
    b"\xff{}",
    b'{"a":"\xc0\x80"}',
    b'{"a":"\xed\xa0\x80"}',
    '{"a":1}'.encode("utf-16"),
    b'{"a":1,"a":1}',
    b'{"a":1,"\\u0061":2}',
    b'{"deep":{"a":1,"a":2}}',
    b'{"deep":[[{"a":1,"a":2}]]}',
    b'{"a":NaN}',
    b'{"a":Infinity}',
    b'{"a":-Infinity}',
    b'{"a":1e999}',
    b'{"a":-1e999}',
    b'{"a":"\\ud800"}',
    b'{"\\udc00":1}',
    b'{"a":["\\ud83d\\u0061"]}',
    b'{"a":"\n"}',
    b"{'a':1}",
    b'{"a":01}',
    b'{"a":1,}',
    b'{"a":' + b"[" * 32 + b"]" * 32 + b"}",
    b'{"a":' * 33 + b"1" + b"}" * 33,
    b'{"a":' + b"[" * 3000 + b"]" * 3000 + b"}",
    b"[" * 100_000,
]


@pytest.mark.req("RV2")
@pytest.mark.parametrize("raw", NOT_STRICT_JSON, ids=lambda raw: repr(raw[:40]))
def test_json_that_two_readers_could_read_differently_is_refused(raw: bytes) -> None:
    """Duplicate members, NaN, infinities, surrogates, deep nesting, huge numbers and broken encodings are refused."""
    with pytest.raises(ValueError, match="not JSON of the strict kind") as caught:
        parse_json(raw)
    assert caught.value.__context__ is None


_VALUES = st.sampled_from(
    ["1", "true", '""', '"a"', '":b"', '"{[,"', "[]", '["a", "b"]', '{"a": "b"}', '[{"c": [{}]}]']
)


@pytest.mark.req("RV2")
@given(members=st.lists(st.tuples(st.sampled_from("abcdefgh"), _VALUES)), deep=st.booleans(), escaped=st.booleans())
def test_a_member_is_repeated_or_it_is_not(members: list[tuple[str, str]], deep: bool, escaped: bool) -> None:
    """Whatever the values, and with escapes or without, an object is refused exactly if two members have one name."""
    text = "{" + ", ".join(f'"{name}" :{value}' for name, value in members) + "}"
    text = f'{{"deep":[{text}]}}' if deep else text
    text = text.replace("a", "\\u0061") if escaped and "true" not in text else text
    if len({name for name, _ in members}) == len(members):
        assert _thawed(parse_json(text.encode())) == json.loads(text)
    else:
        with pytest.raises(ValueError, match="not JSON of the strict kind"):
            parse_json(text.encode())


def _thawed(value: Any) -> Any:
    if isinstance(value, MappingProxyType):
        return {name: _thawed(member) for name, member in value.items()}
    return [_thawed(member) for member in value] if isinstance(value, tuple) else value


@pytest.mark.req("RV2")
@pytest.mark.skipif(not hasattr(sys, "get_int_max_str_digits"), reason="this interpreter has no limit of digits")
def test_numbers_of_thousands_of_digits_are_refused() -> None:
    """A number that is expensive to convert is refused."""
    with pytest.raises(ValueError, match="not JSON of the strict kind"):
        parse_json(b'{"a":' + b"9" * 5000 + b"}")


@pytest.mark.req("RV2")
@pytest.mark.parametrize("raw", [raw for raw in NOT_STRICT_JSON if len(raw) < 5000], ids=lambda raw: repr(raw[:40]))
def test_strictness_holds_for_header_and_claims(raw: bytes) -> None:
    """The same strict reading applies to a token's header and to its payload."""
    _assert_malformed(_with_header(raw))
    _assert_malformed(f"{_encode(GOOD_HEADER)}.{_encode(raw)}.{_encode(b'signature')}")


@pytest.mark.req("RV2")
@pytest.mark.parametrize("raw", [b"[]", b'["a"]', b"null", b"1", b'"text"', b"true", b"[{}]"])
def test_a_header_or_payload_that_is_no_object_is_refused(raw: bytes) -> None:
    """JSON of any other kind than an object is refused."""
    _assert_malformed(_with_header(raw))
    _assert_malformed(f"{_encode(GOOD_HEADER)}.{_encode(raw)}.{_encode(b'signature')}")


def test_what_json_allows_is_read() -> None:
    """Surrounding white space, 32 levels, floats, escapes of whole characters and an array on top are fine."""
    assert parse_json(b' \t\r\n{"a" : 1.5e3}\n') == {"a": 1500.0}
    assert parse_json(b"[[1],{}]") == ((1,), {})
    assert parse_json(b'{"a":"\\ud83d\\ude00"}') == {"a": "\N{GRINNING FACE}"}
    parse_json(b'{"a":' + b"[" * 31 + b"]" * 31 + b"}")
    parse_json(json.dumps({"a": "{[" * 100}).encode())  # brackets in text nest nothing


_json = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner)
    ),
    max_leaves=15,
)


def _thaw(value: Any) -> Any:
    if isinstance(value, MappingProxyType):
        return {name: _thaw(member) for name, member in value.items()}
    return [_thaw(member) for member in value] if isinstance(value, tuple) else value


@given(_json)
def test_strict_json_agrees_with_the_standard_library(value: Any) -> None:
    """Where both accept, the values are the same."""
    for ascii_only in (True, False):
        assert _thaw(parse_json(json.dumps(value, ensure_ascii=ascii_only).encode())) == value


@pytest.mark.req("RV2")
@given(st.binary(max_size=80))
def test_bytes_have_exactly_one_spelling(data: bytes) -> None:
    """Padding, white space, the standard alphabet and left-over bits are refused; the canonical spelling is not."""
    good = base64.urlsafe_b64encode(data).rstrip(b"=")
    assert decode_base64url(good) == data
    for bad in (good + b"=", good + b"==", good + b"\n", b" " + good, good + b"\0", good[:1] + b"*" + good[1:]):
        with pytest.raises(ValueError, match="base64url"):
            decode_base64url(bad)
    if (standard := base64.b64encode(data).rstrip(b"=")) != good:
        with pytest.raises(ValueError, match="base64url"):
            decode_base64url(standard)


@pytest.mark.req("RV2")
@given(st.binary(max_size=60))
def test_no_text_is_accepted_but_the_canonical_one(segment: bytes) -> None:
    """Whatever is accepted is what encoding gives back, for any bytes at all."""
    try:
        decoded = decode_base64url(segment)
    except ValueError:
        return
    assert base64.urlsafe_b64encode(decoded).rstrip(b"=") == segment


@pytest.mark.req("RV2")
@pytest.mark.parametrize(("length", "canonical"), [(1, 4), (2, 16), (3, 64), (4, 4), (256, 4)])
def test_left_over_bits_must_be_zero(length: int, canonical: int) -> None:
    """Of the 64 characters that can end a segment only those are good that leave no bits over."""
    start = _encode(bytes(length))[:-1]
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    accepted = 0
    for last in alphabet:
        with contextlib.suppress(ValueError):
            decode_base64url(f"{start}{last}".encode())
            accepted += 1
    assert accepted == canonical


@pytest.mark.req("RV2")
def test_a_token_over_8_kib_is_refused_before_any_work(key: SigningKey) -> None:
    """At the limit a token is read, one character above it nothing is."""
    token = key.sign(GOOD_HEADER, {"a": "x" * 100})
    parse_jws(token, limit=len(token))
    with pytest.raises(MalformedTokenError, match="too long"):
        parse_jws(token, limit=len(token) - 1)
    with pytest.raises(MalformedTokenError, match="too long"):
        parse_jws("\u20ac" * 10**6, limit=LIMIT)


@pytest.mark.req("RV2")
def test_the_number_of_parts_is_three_and_none_is_empty(key: SigningKey) -> None:
    """Missing, empty and additional parts (JWE, detached or unsigned JWS) are refused."""
    header, payload, signature = key.sign(GOOD_HEADER, {}).split(".")
    for text in (
        "",
        ".",
        "..",
        "....",
        "." * 8000,
        header,
        f"{header}.{payload}",
        f"{header}.{payload}.",
        f"{header}..{signature}",
        f".{payload}.{signature}",
        f"{header}.{payload}.{signature}.",
        f"{header}.{payload}.{signature}.{signature}.{signature}",
        f" {header}.{payload}.{signature}",
        f"{header}.{payload}.{signature}\n",
        f"{header}.{payload}\u200b.{signature}",
    ):
        _assert_malformed(text)


@pytest.mark.req("RV2")
@given(st.text(max_size=300) | st.from_regex(r"[A-Za-z0-9_-]{0,90}(\.[A-Za-z0-9_-]{0,90}){2}", fullmatch=True))
def test_garbage_is_malformed_and_nothing_else(text: str) -> None:
    """No text makes the parser raise anything but its one refusal."""
    try:
        parse_jws(text, limit=LIMIT).claims()
    except MalformedTokenError:
        return
    pytest.fail("garbage was accepted")


@pytest.mark.req("RV2")
@given(st.binary(max_size=120), st.binary(max_size=120))
def test_garbage_inside_good_base64_is_malformed_and_nothing_else(header: bytes, payload: bytes) -> None:
    """Nor do arbitrary bytes in the place of header and payload."""
    for text in (f"{_encode(header)}.{_encode(payload)}.AA", f"{_encode(GOOD_HEADER)}.{_encode(payload)}.AA"):
        try:
            claims = parse_jws(text, limit=LIMIT).claims()
        except MalformedTokenError:
            continue
        assert isinstance(json.loads(payload), dict)
        assert _thaw(claims) == json.loads(payload)


@pytest.mark.req("RS8")
def test_a_jws_shows_nothing_of_the_token(key: SigningKey) -> None:
    """Neither the value in hand nor the error about it prints a part of the token."""
    token = key.sign(GOOD_HEADER, {"sub": "canary"})
    jws = parse_jws(token, limit=LIMIT)
    assert not any(part in repr(jws) for part in (*token.split("."), "canary"))
    with pytest.raises(BadSignatureError) as caught:
        check_signature(Jws(jws.header, jws.signed + b"A", jws.signature, b""), Rs256Key(key.private.public_key()))
    assert "canary" not in repr(caught.value)
