"""The delegation-token endpoint's messages: what is sent, and how far a reply can be taken apart."""

from __future__ import annotations

import base64
import json
import math
from typing import Any

import pytest
from core_support import CLIENT_ID, compact, reply_json
from hypothesis import example, given
from hypothesis import strategies as st

from authsec_core.testing import FakeClock
from authsec_core.wire import DelegationRequest, WireError, format_time, granted, parse_reply, parse_time, seconds

AUTHORITY = "https://authority.test"
TOKEN = compact({"exp": 1, "permissions": ["read:metrics"]})
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
grants = ("permissions", "scope", "client_id", "jti", "spiffe_id")
members = st.sampled_from((*grants, "token", "access_token", "token_type", "expires_at", "expires_in", "ttl_seconds"))


def _body(**members: object) -> bytes:
    return json.dumps({"token": TOKEN, **members}).encode()


def _segment(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


@pytest.mark.parametrize("base", ["", "/", "/authsec", "/authsec/", "/tenants/a", "/tenants/a/authsec"])
def test_the_url_is_the_same_for_every_spelling_of_the_base(base: str) -> None:
    """A trailing slash, and a base that already ends in /authsec, are tolerated."""
    url = DelegationRequest(base_url=AUTHORITY + base, client_id=CLIENT_ID).url
    prefix = "/tenants/a" if "tenants" in base else ""
    assert url == f"{AUTHORITY}{prefix}/authsec/uflow/sdk/delegation-token"


def test_only_what_was_asked_for_is_sent() -> None:
    """Without scope, audience and ttl the query is that of the hosted service: the client id alone."""
    assert DelegationRequest(base_url=AUTHORITY, client_id=CLIENT_ID).params == {"client_id": CLIENT_ID}


def test_what_was_asked_for_is_sent_in_one_spelling() -> None:
    """Scopes are sorted, and a ttl is whole seconds and never more than what was asked."""
    request = DelegationRequest(
        base_url=AUTHORITY, client_id=CLIENT_ID, scopes=frozenset({"b", "a"}), audience="api", ttl=59.9
    )
    assert request.params == {"client_id": CLIENT_ID, "scope": "a b", "audience": "api", "ttl": "59"}


@pytest.mark.parametrize(("ttl", "sent"), [(0.001, "1"), (1.0, "1"), (1.999, "1"), (2.0, "2"), (86400.0, "86400")])
def test_a_ttl_below_a_second_is_asked_for_as_one_second(ttl: float, sent: str) -> None:
    """The wire knows whole seconds only; zero would be refused."""
    assert DelegationRequest(base_url=AUTHORITY, client_id=CLIENT_ID, ttl=ttl).params["ttl"] == sent


def test_a_whole_reply_is_taken_apart() -> None:
    """Each member that the SDK uses is found, and its type is checked."""
    reply = parse_reply(json.dumps(reply_json(FakeClock(wall=1000.9), expires_at="1970-01-01T00:30:00.25Z")).encode())
    assert reply.header["alg"] == "RS256"
    assert (reply.claims["iat"], reply.expires_at, reply.expires_in) == (1000, 1800.25, 1800.0)
    assert (reply.client_id, reply.jti, reply.token_type) == (CLIENT_ID, "jti-1", "Bearer")
    assert reply.spiffe_id == "spiffe://example.org/ns/default/sa/agent"
    assert granted(reply) == frozenset({"read:metrics"})


def test_a_reply_does_not_show_its_token() -> None:
    """The repr of a reply is safe to log."""
    assert TOKEN not in repr(parse_reply(_body()))


def test_access_token_stands_in_for_token() -> None:
    """An OAuth-shaped reply is understood too."""
    assert parse_reply(json.dumps({"access_token": TOKEN}).encode()).token() == TOKEN


@pytest.mark.parametrize(
    ("members", "lives"),
    [({"expires_in": 7}, 7), ({"ttl_seconds": 8}, 8), ({"expires_in": 7, "ttl_seconds": 8}, 7), ({}, None)],
)
def test_a_lifetime_is_read_from_either_member(members: dict[str, object], lives: float | None) -> None:
    """`expires_in` and `ttl_seconds` mean the same; the first is asked first."""
    assert parse_reply(_body(**members)).expires_in == lives


@pytest.mark.req("RS10")
@pytest.mark.parametrize(
    ("claimed", "said", "expected"),
    [
        (["a"], ["a", "b"], {"a"}),
        ([], ["a"], set()),
        (None, ["a", "b"], {"a", "b"}),
        (None, None, None),
    ],
)
def test_the_token_says_what_is_granted(claimed: Any, said: Any, expected: set[str] | None) -> None:
    """The API will read the token, so the body of the reply counts only where the token says nothing."""
    token = compact({"exp": 1} if claimed is None else {"exp": 1, "permissions": claimed})
    assert granted(parse_reply(_body(token=token, permissions=said))) == expected


@pytest.mark.parametrize("where", ["token", "body"])
def test_a_scope_text_stands_in_for_permissions(where: str) -> None:
    """`scope` is read where there are no `permissions`."""
    said = {"scope": "a  b"}
    token = compact(said if where == "token" else {})
    assert granted(parse_reply(_body(token=token, **(said if where == "body" else {})))) == frozenset({"a", "b"})


@pytest.mark.req("RS10")
@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"<!doctype html><title>Sign in</title>", id="html"),
        pytest.param(_body()[:-1], id="cut"),
        pytest.param(_body() + b"x", id="more than one value"),
        pytest.param(b"\xff\xfe\x00", id="not text"),
        pytest.param(b"[" * 100_000, id="nested too deep"),
        pytest.param(b"null", id="null"),
        pytest.param(b'["token"]', id="list"),
        pytest.param(b'"' + TOKEN.encode() + b'"', id="bare token"),
        pytest.param(b"{}", id="no token"),
        pytest.param(b'{"token": null, "access_token": null}', id="null token"),
        pytest.param(b'{"token": ""}', id="blank token"),
        pytest.param(b'{"token": {"value": "a.b.c"}}', id="token is an object"),
        pytest.param(b'{"token": 7}', id="token is a number"),
        pytest.param(b'{"token": true}', id="token is a boolean"),
        pytest.param(b'{"token": NaN}', id="NaN"),
        pytest.param(_body()[:-1] + b', "extra": Infinity}', id="Infinity"),
        pytest.param(_body()[:-1] + b', "extra": ' + b"9" * 5000 + b"}", id="number of 5000 digits"),
    ],
)
def test_a_body_that_is_no_reply_is_refused(raw: bytes) -> None:
    """Whatever else a 200 may carry, it is one JSON object with a token in it."""
    with pytest.raises(WireError):
        parse_reply(raw)


HEADER, PAYLOAD = TOKEN.split(".")[:2]


@pytest.mark.req("RS10")
@pytest.mark.parametrize(
    "token",
    [
        pytest.param("opaque", id="opaque"),
        pytest.param(f"{HEADER}.{PAYLOAD}", id="two segments"),
        pytest.param(f"{HEADER}.{PAYLOAD}.", id="no signature"),
        pytest.param(f".{PAYLOAD}.c2ln", id="no header"),
        pytest.param(f"{HEADER}..c2ln", id="no payload"),
        pytest.param(f"{HEADER}.{PAYLOAD}.c2ln.c2ln", id="four segments"),
        pytest.param(f"{HEADER}.{PAYLOAD}.c2l!", id="illegal character in the signature"),
        pytest.param(f"{HEADER}.{PAYLOAD}.c2ln=", id="padding in the signature"),
        pytest.param(f"{HEADER}.{PAYLOAD}.c2+n", id="base64 and not base64url"),
        pytest.param(f"{HEADER}.{PAYLOAD}.c2lnx", id="a length that base64 does not have"),
        pytest.param(f"{HEADER}.{PAYLOAD}.c2ln\n", id="line end"),
        pytest.param(f"{HEADER}.{PAYLOAD}.c2ln\r\nX-Evil: 1", id="a header in the signature"),
        pytest.param(f" {HEADER}.{PAYLOAD}.c2ln", id="leading space"),
        pytest.param(f"{HEADER}.{PAYLOAD}.c2lé", id="not ASCII"),
        pytest.param(f"{_segment(b'no json')}.{PAYLOAD}.c2ln", id="header is not JSON"),
        pytest.param(f"{_segment(b'[]')}.{PAYLOAD}.c2ln", id="header is a list"),
        pytest.param(f"{HEADER}.{_segment(b'no json')}.c2ln", id="payload is not JSON"),
        pytest.param(f"{HEADER}.{_segment(b'7')}.c2ln", id="payload is a number"),
    ],
)
def test_a_token_that_is_no_compact_jws_is_refused(token: str) -> None:
    """It is going into a header: it must be three segments of base64url and nothing else."""
    with pytest.raises(WireError):
        parse_reply(_body(token=token))


@pytest.mark.req("RS10")
@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("permissions", "read"),
        ("permissions", {"read": True}),
        ("permissions", ["read", 7]),
        ("permissions", [["read"]]),
        ("permissions", False),
        ("scope", ["read"]),
        ("scope", 7),
        ("token_type", 7),
        ("token_type", ["Bearer"]),
        ("client_id", 7),
        ("expires_at", 1_800_000_000),
        ("expires_at", ""),
        ("expires_at", "tomorrow"),
        ("expires_at", True),
        ("expires_in", "1800"),
        ("expires_in", True),
        ("expires_in", [1800]),
        ("expires_in", 1e12),
        ("expires_in", -1e12),
        ("expires_in", 10**400),
        ("ttl_seconds", "1800"),
        ("ttl_seconds", {}),
    ],
)
def test_a_member_of_the_wrong_type_is_refused(name: str, value: object) -> None:
    """No member is coerced: a wrong type means that the other side speaks another protocol."""
    with pytest.raises(WireError):
        parse_reply(_body(**{name: value}))


@pytest.mark.req("RS10")
@pytest.mark.parametrize("claims", [{"permissions": "read"}, {"permissions": [7]}, {"scope": 7}])
def test_a_claimed_grant_of_the_wrong_type_is_refused(claims: dict[str, object]) -> None:
    """What the token grants is read with the same care as what the body says."""
    reply = parse_reply(_body(token=compact(claims)))
    with pytest.raises(WireError):
        granted(reply)


UNPLAIN = [
    "x\n2026-11-20 authsec.tool CRITICAL forged",
    "x\r",
    "\x1b[2J",
    "a\0",
    "a\x85b",
    "a\u2028b",
    "\u202ea",
    "\udc80",
    "a" * 2049,
]


@pytest.mark.req("RS8", "RS10")
@pytest.mark.parametrize("value", UNPLAIN, ids=lambda value: repr(value)[:20])
@pytest.mark.parametrize(
    ("where", "name"),
    [("token", "jti"), ("token", "sub"), ("token", "client_id")]
    + [("body", name) for name in ("jti", "spiffe_id", "client_id", "token_type")],
)
def test_a_name_that_could_forge_a_log_line_is_refused(where: str, name: str, value: str) -> None:
    """What becomes part of log lines and messages has no control characters, no hidden ones, and an end."""
    said = {name: value}
    with pytest.raises(WireError, match=f"{name} is too long or has characters") as caught:
        parse_reply(_body(token=compact(said if where == "token" else {}), **(said if where == "body" else {})))
    assert value not in str(caught.value)


@pytest.mark.req("RS10")
@pytest.mark.parametrize("value", UNPLAIN, ids=lambda value: repr(value)[:20])
def test_a_permission_that_could_forge_a_log_line_is_refused(value: str) -> None:
    """So it is with each permission, in the token and around it."""
    with pytest.raises(WireError, match="plain text"):
        parse_reply(_body(permissions=["read:metrics", value]))
    with pytest.raises(WireError, match="plain text"):
        granted(parse_reply(_body(token=compact({"permissions": [value]}))))


@pytest.mark.parametrize(
    "value",
    [
        "spiffe://example.org/" + "a" * 2027,
        "7b1c3f5e-2a4d-4c6b-8e9f-0a1b2c3d4e5f",
        "urn:uuid:7b1c3f5e-2a4d-4c6b-8e9f-0a1b2c3d4e5f",
        "agent@example.org",
        "J\u00fcrgen M\u00fcller",
    ],
    ids=lambda value: value[:30],
)
def test_the_names_that_authorities_use_are_read(value: str) -> None:
    """SPIFFE IDs up to their full length, UUIDs, URNs, e-mail addresses and names of people."""
    reply = parse_reply(_body(token=compact({"jti": value, "sub": value})))
    assert (reply.jti, reply.spiffe_id) == (value, value)


@pytest.mark.req("RS10")
@given(json_values)
@example([])
@example({"token": {"a": 1}})
def test_arbitrary_json_is_a_reply_or_a_wire_error(value: object) -> None:
    """No JSON value makes the parser raise anything but its own error."""
    with pytest.raises(WireError):
        parse_reply(json.dumps(value).encode())


@pytest.mark.req("RS10")
@given(st.dictionaries(members, json_values), json_values, json_values)
def test_arbitrary_members_and_claims_are_a_reply_or_a_wire_error(
    changes: dict[str, object], header: object, claims: object
) -> None:
    """The same holds around and inside a token that is well-formed on the outside."""
    parts = [_segment(json.dumps(part).encode()) for part in (header, claims)]
    try:
        reply = parse_reply(json.dumps({"token": ".".join([*parts, "c2ln"]), **changes}).encode())
        granted(reply)
        [seconds(reply.claims, name) for name in ("exp", "iat")]
    except WireError:
        return
    assert isinstance(header, dict)
    assert isinstance(claims, dict)


@given(st.binary(max_size=64))
def test_arbitrary_bytes_are_a_reply_or_a_wire_error(raw: bytes) -> None:
    """Nor do bytes that are no JSON, in whatever encoding Python's parser guesses."""
    with pytest.raises(WireError):
        parse_reply(raw)


@pytest.mark.req("RS8", "RS10")
@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(_body()[:-1], id="cut"),
        pytest.param(_body(token=TOKEN + "x"), id="signature of an impossible length"),
        pytest.param(_body(token=f"{_segment(b'{' + TOKEN.encode())}.{PAYLOAD}.c2ln"), id="header cut"),
    ],
)
def test_a_wire_error_holds_nothing_of_the_body(raw: bytes) -> None:
    """Neither its message nor any error that it came from carries the text: a JSONDecodeError has all of it."""
    with pytest.raises(WireError) as caught:
        parse_reply(raw)
    related = [caught.value, caught.value.__cause__, caught.value.__context__]
    assert related[1:] == [None, None]
    assert TOKEN[:24] not in repr([vars(error) for error in related if error] + [caught.value.args])


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("1970-01-01T00:00:00Z", 0.0),
        ("1970-01-01T00:00:00z", 0.0),
        ("1970-01-01t00:00:01Z", 1.0),
        ("1970-01-01 00:00:01Z", 1.0),
        ("1970-01-01T00:00:01.5Z", 1.5),
        ("1970-01-01T00:00:01.123456Z", 1.123456),
        ("1970-01-01T00:00:01.123456789Z", 1.123456789),
        ("1970-01-01T00:00:01.1234567891234Z", 1.1234567891234),
        ("1970-01-01T01:00:00+01:00", 0.0),
        ("1969-12-31T19:00:00-05:00", 0.0),
        ("2026-11-20T14:30:00Z", 1795185000.0),
    ],
)
def test_rfc_3339_times_are_read(text: str, at: float) -> None:
    """With or without fraction digits, however many, in any zone."""
    assert parse_time(text) == pytest.approx(at, abs=1e-6)


@pytest.mark.req("RS10")
@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026-11-20",
        "2026-11-20T14:30:00",
        "2026-11-20T14:30Z",
        "2026-11-20T14:30:00.Z",
        "2026-11-20T14:30:00+0100",
        "2026-11-20T14:30:00+25:00",
        "2026-13-20T14:30:00Z",
        "2026-02-30T14:30:00Z",
        "2026-11-20T25:30:00Z",
        "0000-01-01T00:00:00Z",
        "٢٠٢٦-11-20T14:30:00Z",
        "2026-11-20T14:30:00Z\n",
        None,
        0,
    ],
)
def test_what_is_no_rfc_3339_time_is_refused(text: object) -> None:
    """A time without its zone, or one that no calendar has, is not guessed at."""
    with pytest.raises(WireError):
        parse_time(text)


@given(st.floats(min_value=0, max_value=253402300799))
def test_a_printed_time_reads_back(at: float) -> None:
    """`format_time` and `parse_time` agree to the whole second."""
    assert parse_time(format_time(at)) == math.floor(at)
