from __future__ import annotations

import base64
import contextlib
import json
import sys
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsec_core._jwks import parse_keys
from authsec_core._jws import Jws, check_signature, decode_base64url, parse_json, parse_jws
from authsec_core.errors import BadSignatureError, MalformedTokenError
from authsec_core.testing._signing import SigningKey, first_key

LIMIT = 8192
VECTORS: list[dict[str, Any]] = json.loads(Path(__file__).with_name("vectors").joinpath("jws_rs256.json").read_text())
GOOD_HEADER = {"alg": "RS256", "typ": "JWT", "kid": "one"}


@pytest.fixture(scope="module")
def key() -> SigningKey:
    """A key of 2048 bits."""
    return first_key()


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
    """What the RFCs sign with RS256 verifies, byte for byte as they print it."""
    keys = parse_keys({"keys": [{"kid": "any", **vector["key"]}]})
    signed = f"{vector['header']}.{vector['payload']}".encode()
    signature = decode_base64url(vector["signature"].encode())
    check_signature(Jws(None, signed, signature, b""), next(iter(keys.values())))  # type: ignore[arg-type]  # not read


@pytest.mark.req("RV1")
@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["source"])
def test_the_rfc_signatures_of_something_else_are_bad(vector: dict[str, Any]) -> None:
    """The RFCs' signatures do not verify for a payload that differs in one bit."""
    keys = parse_keys({"keys": [{"kid": "any", **vector["key"]}]})
    signed = bytearray(f"{vector['header']}.{vector['payload']}".encode())
    signed[-1] ^= 1
    jws = Jws(None, bytes(signed), decode_base64url(vector["signature"].encode()), b"")  # type: ignore[arg-type]  # not read
    with pytest.raises(BadSignatureError):
        check_signature(jws, next(iter(keys.values())))


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
    check_signature(jws, key.private.public_key())
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
        check_signature(Jws(jws.header, jws.signed + b"A", jws.signature, b""), key.private.public_key())
    assert "canary" not in repr(caught.value)
