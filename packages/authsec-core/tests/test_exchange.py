"""One exchange: what is sent, what is tried again and when, and which replies make a token. The network is respx."""

from __future__ import annotations

import gzip
import json
import logging
import math
import ssl
import traceback
from collections.abc import Callable, Iterator
from email.utils import formatdate
from typing import Any

import httpx
import pytest
import respx
from core_support import CLIENT_ID, Driver, compact, reply_json
from hypothesis import example, given
from hypothesis import strategies as st

from authsec_core import MockAuthority
from authsec_core._driving import http_date
from authsec_core._exchange import ExchangeRules
from authsec_core._proof import AgentKey
from authsec_core.errors import (
    AuthorityUnreachableError,
    BadReplyError,
    DelegationRefusedError,
    InsecureTransportError,
    ScopeNotGrantedError,
    TokenUnavailableError,
)
from authsec_core.testing import FakeClock
from authsec_core.token import DelegationToken, Secret
from authsec_core.wire import DelegationRequest, format_time

AUTHORITY = "https://authority.test"
KEY = "agent-1.0123456789abcdef0123456789abcdef"
Answers = Callable[..., "respx.Route"]
Exchange = Callable[..., DelegationToken]


@pytest.fixture
def route(web: respx.MockRouter) -> respx.Route:
    """The delegation-token endpoint."""
    return web.get(f"{AUTHORITY}/authsec/uflow/sdk/delegation-token")


@pytest.fixture
def ask(driver: Driver, clock: FakeClock) -> Exchange:
    """Do one exchange with the key above."""

    def ask(
        *, scopes: str = "read:metrics", timeout: float = 10.0, retries: int = 2, issuer: str | None = None, **wish: Any
    ) -> DelegationToken:
        named = frozenset(scopes.split()) if scopes else None
        request = DelegationRequest(base_url=AUTHORITY, client_id=CLIENT_ID, scopes=named, **wish)
        rules = ExchangeRules(timeout=timeout, retries=retries, issuer=issuer)
        return driver.exchange(request, rules, clock, proof=AgentKey(Secret(KEY)))

    return ask


def _good(clock: FakeClock, **changes: Any) -> httpx.Response:
    headers = changes.pop("headers", {})
    return httpx.Response(200, json=reply_json(clock, **changes), headers=headers)


# What is asked


def test_one_get_with_the_proof_in_its_header(ask: Exchange, route: respx.Route, clock: FakeClock) -> None:
    """The proof travels as a Bearer credential, never in the URL, and nothing else identifies the agent."""
    route.respond(json=reply_json(clock))
    ask(audience=None)
    [call] = route.calls
    assert dict(call.request.url.params) == {"client_id": CLIENT_ID, "scope": "read:metrics"}
    assert call.request.headers["Authorization"] == f"Bearer {KEY}"
    assert call.request.headers["Accept"] == "application/json"
    assert call.request.headers["Accept-Encoding"] == "identity"
    assert "Cookie" not in call.request.headers


def test_a_good_reply_becomes_a_token(ask: Exchange, route: respx.Route, clock: FakeClock) -> None:
    """The token says what was granted, and ends a lifetime after the moment of sending."""
    sent_at, issued_at = clock.steady(), clock.wall()

    def slowly(request: httpx.Request) -> httpx.Response:
        response = _good(clock)
        clock.advance(3)
        return response

    route.mock(side_effect=slowly)
    token = ask()
    assert (token.mode, token.scopes, token.excess_scopes) == ("live", frozenset({"read:metrics"}), frozenset())
    assert (token.jti, token.client_id, token.audience) == ("jti-1", CLIENT_ID, ("authsec-api",))
    assert (token.sent_at, token.issued_at, token.expires_at) == (sent_at, issued_at, issued_at + 1800)


# What is tried again (RS7)


@pytest.mark.req("RS7")
@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504, 599])
def test_a_passing_status_is_tried_again(ask: Exchange, route: respx.Route, clock: FakeClock, status: int) -> None:
    """408, 429 and 5xx say themselves that another attempt may succeed."""
    route.mock(side_effect=[httpx.Response(status), _good(clock)])
    assert ask().jti == "jti-1"
    assert route.call_count == 2


@pytest.mark.req("RS7")
@pytest.mark.parametrize("failure", [httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout])
def test_a_failed_connection_is_tried_again(
    ask: Exchange, route: respx.Route, clock: FakeClock, failure: type[httpx.TransportError]
) -> None:
    """A request that was never sent cannot have issued a token."""
    route.mock(side_effect=[failure("no"), _good(clock)])
    assert ask().jti == "jti-1"


@pytest.mark.req("RS7")
@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (400, "bad_request"),
        (401, "proof_rejected"),
        (403, "not_delegated"),
        (404, "unknown_client"),
        (410, "delegation_ended"),
    ],
)
def test_a_refusal_is_not_tried_again(ask: Exchange, route: respx.Route, status: int, reason: str) -> None:
    """The authority has answered; each status has its reason."""
    route.respond(status, json={"error": "told to"}, headers={"Retry-After": "1"})
    with pytest.raises(DelegationRefusedError) as caught:
        ask()
    assert (caught.value.status, caught.value.reason, caught.value.retryable) == (status, reason, False)
    assert route.call_count == 1


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        ({"scopes": "b a", "audience": "billing"}, "covers scope 'a b' for audience 'billing': ask its operator"),
        ({}, "covers scope 'read:metrics': ask its operator"),
        ({"scopes": "", "audience": "a\nb{0}"}, r"covers audience 'a\nb{0}': ask its operator"),
        ({"scopes": ""}, "covers the request: ask its operator"),
    ],
)
def test_a_refusal_says_what_was_asked_for(ask: Exchange, route: respx.Route, wish: dict[str, str], words: str) -> None:
    """On one line, and by what the client knows itself: an operator has to know what to delegate."""
    route.respond(403, json={"detail": "nothing covers what_the_server_says"})
    with pytest.raises(DelegationRefusedError) as caught:
        ask(**wish)
    assert caught.value.message == f"The authority refused (403): no trust delegation of this agent {words}."


def test_a_request_that_is_not_understood_is_shown(ask: Exchange, route: respx.Route) -> None:
    """A 400 is about the client id, the scope or the audience: here are the two that are easily mistyped."""
    route.respond(400)
    with pytest.raises(DelegationRefusedError, match="CLIENT_ID and scope 'read:metrics' for audience 'billing'"):
        ask(audience="billing")


@pytest.mark.req("RS7")
@pytest.mark.parametrize("status", [201, 203, 206, 301, 302, 303, 307, 308, 402, 405, 406, 409, 415, 418, 422, 451])
def test_an_unknown_status_is_not_tried_again(ask: Exchange, route: respx.Route, clock: FakeClock, status: int) -> None:
    """What the protocol does not know is a broken reply, even with a good token in it."""
    route.respond(status, json=reply_json(clock), headers={"Location": f"{AUTHORITY}/elsewhere"})
    with pytest.raises(BadReplyError, match="AUTHSEC_BASE_URL"):
        ask()
    assert route.call_count == 1


@pytest.mark.req("RS7")
@pytest.mark.parametrize(
    "failure", [httpx.ReadTimeout, httpx.WriteTimeout, httpx.ReadError, httpx.WriteError, httpx.RemoteProtocolError]
)
def test_what_may_have_issued_a_token_is_not_tried_again(
    ask: Exchange, route: respx.Route, failure: type[httpx.TransportError]
) -> None:
    """A timeout or a cut leaves open whether a token was issued; a second one is the caller's decision."""
    route.mock(side_effect=failure("no"))
    with pytest.raises(AuthorityUnreachableError) as caught:
        ask()
    assert caught.value.retryable
    assert route.call_count == 1


@pytest.mark.req("RS3", "RS7")
def test_a_tls_failure_is_not_tried_again(driver: Driver, clock: FakeClock) -> None:
    """A certificate does not become good by asking again, and there is no other way in."""
    asked: list[httpx.Request] = []

    def refuse(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        raise httpx.ConnectError("no") from ssl.SSLCertVerificationError("self-signed certificate")

    request = DelegationRequest(base_url=AUTHORITY, client_id=CLIENT_ID)
    with pytest.raises(InsecureTransportError, match="AUTHSEC_CA_FILE") as caught:
        driver.exchange(request, ExchangeRules(timeout=10, retries=3), clock, handler=refuse)
    assert (len(asked), caught.value.retryable) == (1, False)


@pytest.mark.req("RS7")
@pytest.mark.parametrize("retries", [0, 1, 2, 3])
def test_there_are_at_most_as_many_retries_as_configured(ask: Exchange, route: respx.Route, retries: int) -> None:
    """The budget is for one exchange, whatever fails in it."""
    route.mock(side_effect=[httpx.ConnectError("no"), *[httpx.Response(503)] * 3])
    with pytest.raises(AuthorityUnreachableError):
        ask(retries=retries)
    assert route.call_count == retries + 1


@pytest.mark.req("RS7")
@pytest.mark.parametrize(("chance", "pauses"), [(0.0, [0.125, 0.25, 0.5]), (0.5, [0.1875, 0.375, 0.75])])
def test_pauses_double_and_have_jitter(driver: Driver, route: respx.Route, chance: float, pauses: list[float]) -> None:
    """Between half of the usual pause and all of it, so that many clients do not come back in step."""
    clock = FakeClock(chance=chance)
    route.respond(503)
    with pytest.raises(AuthorityUnreachableError):
        driver.exchange(
            DelegationRequest(base_url=AUTHORITY, client_id=CLIENT_ID), ExchangeRules(timeout=10, retries=3), clock
        )
    assert list(clock.slept) == pauses


@pytest.mark.req("RS7")
@pytest.mark.parametrize(
    ("retry_after", "pause"),
    [("2", 2.0), (" 2 ", 2.0), ("0", 0.1875), ("-5", 0.1875), ("soon", 0.1875), ("1.5", 0.1875), ("", 0.1875)],
)
def test_retry_after_in_seconds_is_honoured(
    ask: Exchange, route: respx.Route, clock: FakeClock, retry_after: str, pause: float
) -> None:
    """It lengthens the pause and never shortens it; what is no number of seconds is ignored."""
    route.mock(side_effect=[httpx.Response(429, headers={"Retry-After": retry_after}), _good(clock)])
    ask()
    assert list(clock.slept) == [pause]


@pytest.mark.req("RS7")
def test_retry_after_as_a_date_is_honoured(ask: Exchange, route: respx.Route, clock: FakeClock) -> None:
    """RFC 9110 section 10.2.3 allows an HTTP-date."""
    headers = {"Retry-After": formatdate(clock.wall() + 4, usegmt=True)}
    route.mock(side_effect=[httpx.Response(503, headers=headers), _good(clock)])
    ask()
    assert list(clock.slept) == [4.0]


@pytest.mark.req("RS6", "RS7")
@pytest.mark.parametrize("years", [-10, 10])
def test_retry_after_as_a_date_is_measured_by_the_authoritys_clock(
    ask: Exchange, route: respx.Route, clock: FakeClock, years: int
) -> None:
    """Where the reply says what time it is there, a wrong clock here does no harm."""
    there = clock.wall()
    clock.jump(years * 31_557_600)
    headers = {"Retry-After": formatdate(there + 4, usegmt=True), "Date": formatdate(there, usegmt=True)}
    route.mock(side_effect=[httpx.Response(503, headers=headers), _good(clock)])
    ask()
    assert list(clock.slept) == [4.0]


@pytest.mark.req("RS7")
@pytest.mark.parametrize("retry_after", ["10", "999999999999999999999999", "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_a_retry_beyond_the_deadline_is_not_waited_for(
    ask: Exchange, route: respx.Route, clock: FakeClock, retry_after: str
) -> None:
    """The error comes at once and says when to come back."""
    route.respond(429, headers={"Retry-After": retry_after})
    with pytest.raises(AuthorityUnreachableError) as caught:
        ask(timeout=10)
    assert caught.value.retry_after is not None
    assert caught.value.retry_after >= 10
    assert (route.call_count, clock.slept) == (1, ())


@pytest.mark.req("RS7")
@pytest.mark.parametrize(
    ("timeout", "first_pause", "calls"), [(10.0, "10", 1), (9.3, "9", 2), (10.0, "9", 3), (10.0, "8", 4)]
)
def test_one_deadline_is_for_all_attempts(
    ask: Exchange, route: respx.Route, timeout: float, first_pause: str, calls: int
) -> None:
    """What attempts and pauses took is gone for those that follow; a pause that ends on the deadline is too long."""
    first = httpx.Response(503, headers={"Retry-After": first_pause})
    route.mock(side_effect=[first, *[httpx.Response(503)] * 3])
    with pytest.raises(AuthorityUnreachableError):
        ask(timeout=timeout, retries=3)
    assert route.call_count == calls


@pytest.mark.req("RS7")
def test_each_attempt_has_what_is_left_of_the_deadline(ask: Exchange, route: respx.Route) -> None:
    """The timeouts that httpx gets shrink with each attempt."""
    given_timeouts: list[float] = []

    def record(request: httpx.Request) -> httpx.Response:
        given_timeouts.append(request.extensions["timeout"]["read"])
        return httpx.Response(503, headers={"Retry-After": "3"})

    route.mock(side_effect=record)
    with pytest.raises(AuthorityUnreachableError):
        ask(timeout=10, retries=3)
    assert given_timeouts == [10.0, 7.0, 4.0, 1.0]


@pytest.mark.req("RS7")
def test_a_reply_that_trickles_in_past_the_deadline_is_a_timeout(
    ask: Exchange, route: respx.Route, clock: FakeClock
) -> None:
    """Each chunk comes within the read timeout, and yet the whole takes too long."""
    whole = json.dumps(reply_json(clock)).encode()
    route.mock(side_effect=lambda request: httpx.Response(200, stream=_Trickle(whole, clock)))
    with pytest.raises(AuthorityUnreachableError, match="in time"):
        ask(timeout=10)


class _Trickle(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body of which one byte comes each second."""

    def __init__(self, body: bytes, clock: FakeClock) -> None:
        self._body, self._clock = body, clock

    def __iter__(self) -> Iterator[bytes]:
        for byte in self._body:
            self._clock.advance(1)
            yield bytes([byte])

    async def __aiter__(self) -> Any:
        for chunk in self:
            yield chunk


# What makes a token (RS10)


@pytest.mark.req("RS10")
@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"token": None}, id="no token"),
        pytest.param({"token": "opaque"}, id="opaque token"),
        pytest.param({"token_type": "DPoP"}, id="token_type"),
        pytest.param({"token_type": "mac"}, id="another token_type"),
        pytest.param({"client_id": "00000000-0000-4000-8000-000000000000"}, id="client_id of another"),
        pytest.param({"claims": {"client_id": "00000000-0000-4000-8000-000000000000"}}, id="token of another"),
        pytest.param(
            {"client_id": None, "claims": {"client_id": "00000000-0000-4000-8000-000000000000"}}, id="another, unsaid"
        ),
        pytest.param({"claims": {"client_id": 7}}, id="client_id is a number"),
        pytest.param({"claims": {"aud": 7}}, id="aud is a number"),
        pytest.param({"claims": {"aud": {"authsec-api": 1}}}, id="aud is an object"),
        pytest.param({"claims": {"aud": ["a", 7]}}, id="aud holds a number"),
        pytest.param({"claims": {"exp": "soon"}}, id="exp is text"),
        pytest.param({"claims": {"exp": True}}, id="exp is a boolean"),
        pytest.param({"claims": {"exp": 1e12}}, id="exp is huge"),
        pytest.param({"claims": {"iat": "now"}}, id="iat is text"),
        pytest.param({"claims": {"mock": True}}, id="a MOCK token"),
        pytest.param({"claims": {"iss": "https://mock.authsec.invalid"}}, id="the MOCK issuer"),
        pytest.param({"ttl_seconds": 0}, id="no life"),
        pytest.param({"ttl_seconds": -1}, id="negative life"),
        pytest.param({"ttl_seconds": "1800"}, id="life as text"),
        pytest.param({"ttl_seconds": math.nan}, id="NaN"),
        pytest.param({"ttl_seconds": math.inf}, id="Infinity"),
        pytest.param({"ttl_seconds": None, "claims": {"exp": None}}, id="no end at all"),
        pytest.param({"expires_at": "yesterday"}, id="expires_at is no time"),
        pytest.param({"expires_at": "1970-01-01T00:00:00Z"}, id="expires_at is past"),
        pytest.param({"permissions": "read:metrics"}, id="permissions as text"),
        pytest.param({"claims": {"permissions": "read:metrics"}}, id="claimed permissions as text"),
        pytest.param({"claims": {"permissions": ["read:metrics", "a\nb"]}}, id="a permission that forges a log line"),
    ],
)
def test_a_reply_that_fails_a_check_makes_no_token(
    ask: Exchange, route: respx.Route, clock: FakeClock, changes: dict[str, Any]
) -> None:
    """Each check alone is enough to refuse; nothing is tried again and the reply is not quoted."""
    body = json.dumps(reply_json(clock, **changes)).encode()
    route.respond(200, content=body)
    with pytest.raises(BadReplyError) as caught:
        ask()
    assert (caught.value.retryable, route.call_count) == (False, 1)
    assert "eyJ" not in str(caught.value)


@pytest.mark.req("RS10")
@pytest.mark.parametrize("alg", ["none", "None", "HS256", "ES256", "RS512", "PS256", "rs256", "", None, 7, ["RS256"]])
def test_a_token_of_another_algorithm_is_refused(
    ask: Exchange, route: respx.Route, clock: FakeClock, alg: object
) -> None:
    """The authority signs with RS256 and with nothing else."""
    claims = {"exp": int(clock.wall()) + 60, "permissions": ["read:metrics"]}
    route.respond(json=reply_json(clock, token=compact(claims, header={"alg": alg})))
    with pytest.raises(BadReplyError, match="RS256"):
        ask()


@pytest.mark.req("RS1", "RS10")
def test_a_mock_token_in_a_live_reply_is_refused(ask: Exchange, route: respx.Route, clock: FakeClock) -> None:
    """A MOCK authority behind a LIVE address does not get its tokens through."""
    token = MockAuthority(clock=clock).mint(frozenset({"read:metrics"}), client_id=CLIENT_ID)
    route.respond(json=reply_json(clock, token=token.value))
    with pytest.raises(BadReplyError, match="MOCK"):
        ask()


@pytest.mark.req("RS10")
@pytest.mark.parametrize("aud", ["https://api.test", ["https://api.test"], ["other", "https://api.test"]])
def test_the_audience_asked_for_is_required(ask: Exchange, route: respx.Route, clock: FakeClock, aud: object) -> None:
    """One among several is enough."""
    route.respond(json=reply_json(clock, claims={"aud": aud}))
    assert "https://api.test" in ask(audience="https://api.test").audience


@pytest.mark.req("RS10")
@pytest.mark.parametrize("aud", [None, [], "", "https://api.test/", ["https://API.test"], {"https://api.test": 1}])
def test_another_audience_is_refused(ask: Exchange, route: respx.Route, clock: FakeClock, aud: object) -> None:
    """It is compared exactly, and a missing one is not any one."""
    route.respond(json=reply_json(clock, claims={"aud": aud}))
    with pytest.raises(BadReplyError, match="token's aud"):
        ask(audience="https://api.test")


@pytest.mark.req("RS10")
@pytest.mark.parametrize("iss", [None, "", "https://authority.test/authsec/", "https://evil.test", 7])
def test_another_issuer_is_refused(ask: Exchange, route: respx.Route, clock: FakeClock, iss: object) -> None:
    """Where an issuer is configured the token's must be that one, exactly."""
    route.respond(json=reply_json(clock, claims={"iss": iss}))
    with pytest.raises(BadReplyError, match="AUTHSEC_ISSUER"):
        ask(issuer="https://authority.test/authsec")


def test_any_issuer_will_do_where_none_is_configured(ask: Exchange, route: respx.Route, clock: FakeClock) -> None:
    """The hosted service's is not known in advance."""
    route.respond(json=reply_json(clock, claims={"iss": "https://elsewhere.test"}))
    assert ask().jti == "jti-1"


def test_the_client_id_is_compared_without_case(ask: Exchange, route: respx.Route, clock: FakeClock) -> None:
    """A UUID is the same in either case."""
    route.respond(json=reply_json(clock, client_id=CLIENT_ID.upper(), claims={"client_id": CLIENT_ID.upper()}))
    assert ask().client_id == CLIENT_ID


@pytest.mark.req("RS10")
@pytest.mark.parametrize("permissions", [[], ["read"], ["READ:METRICS"], ["read:metrics "], ["read:metrics:all", "*"]])
def test_a_grant_that_misses_a_scope_makes_no_token(
    ask: Exchange, route: respx.Route, clock: FakeClock, permissions: list[str]
) -> None:
    """Scopes are opaque: no prefix, no wildcard and no other case covers what was asked."""
    route.respond(json=reply_json(clock, claims={"permissions": permissions, "scope": None}))
    with pytest.raises(ScopeNotGrantedError) as caught:
        ask(scopes="read:metrics read:records")
    assert caught.value.missing == {"read:metrics", "read:records"}
    assert not caught.value.retryable


@pytest.mark.req("RS10")
def test_a_reply_that_names_no_scope_grants_none(ask: Exchange, route: respx.Route, clock: FakeClock) -> None:
    """Neither the token nor the body says what was granted: that is not taken for what was asked."""
    route.respond(json=reply_json(clock, permissions=None, claims={"permissions": None, "scope": None}))
    with pytest.raises(ScopeNotGrantedError) as caught:
        ask(scopes="read:metrics read:records")
    assert caught.value.missing == {"read:metrics", "read:records"}
    assert ask(scopes="").scopes == frozenset()  # nor is anything made up where the whole delegation was asked for


@pytest.mark.req("RS10")
def test_only_what_is_missing_is_named(ask: Exchange, route: respx.Route, clock: FakeClock) -> None:
    """The error carries the difference, so that a caller can ask for less."""
    route.respond(json=reply_json(clock))
    with pytest.raises(ScopeNotGrantedError, match="'read:records'") as caught:
        ask(scopes="read:metrics read:records")
    assert caught.value.missing == {"read:records"}


@pytest.mark.req("RS10")
def test_a_broader_grant_is_reported(
    ask: Exchange, route: respx.Route, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """More than was asked for is taken, noted on the token, and warned of."""
    route.respond(json=reply_json(clock, claims={"permissions": ["read:metrics", "admin"]}))
    with caplog.at_level(logging.WARNING, "authsec"):
        token = ask()
    assert token.excess_scopes == {"admin"}
    assert "admin" in caplog.text


def test_no_scope_asked_takes_the_whole_delegation(ask: Exchange, route: respx.Route, clock: FakeClock) -> None:
    """Whatever is granted then is what was asked for."""
    route.respond(json=reply_json(clock, claims={"permissions": ["a", "b"]}))
    token = ask(scopes="")
    assert (token.scopes, token.excess_scopes) == (frozenset({"a", "b"}), frozenset())


@pytest.mark.req("RS10")
@pytest.mark.parametrize("size", [65536, 65537])
def test_at_most_64_kib_of_reply_are_taken(ask: Exchange, route: respx.Route, clock: FakeClock, size: int) -> None:
    """The last byte that fits is taken; one more is a broken reply."""
    body = json.dumps(reply_json(clock)).encode()
    route.respond(200, content=body + b" " * (size - len(body)))
    if size == 65536:
        assert ask().jti == "jti-1"
    else:
        with pytest.raises(BadReplyError, match="64 KiB"):
            ask()


@pytest.mark.req("RS10")
@pytest.mark.parametrize("coding", ["gzip", "deflate", "br", "zstd", "GZIP", "identity, gzip"])
def test_an_encoded_reply_is_refused_before_it_is_unpacked(
    ask: Exchange, route: respx.Route, clock: FakeClock, coding: str
) -> None:
    """None was asked for, and 64 KiB of it can unpack to any size."""
    body = gzip.compress(json.dumps(reply_json(clock)).encode())
    stream = _Untouched(body)
    route.mock(side_effect=lambda request: httpx.Response(200, headers={"Content-Encoding": coding}, stream=stream))
    with pytest.raises(AuthorityUnreachableError):
        ask()
    assert not stream.read


class _Untouched(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body that knows whether somebody has begun to read it."""

    def __init__(self, body: bytes = b"") -> None:
        self._body, self.read = body, False

    def __iter__(self) -> Iterator[bytes]:
        self.read = True
        yield self._body

    async def __aiter__(self) -> Any:
        for chunk in self:
            yield chunk


@pytest.mark.req("RS1")
@pytest.mark.parametrize("status", [302, 403, 503])
def test_the_body_of_a_refusal_is_not_read(ask: Exchange, route: respx.Route, status: int) -> None:
    """However large, slow or broken it is, the status counts: a page of 1 MiB must not hide a 403."""
    stream = _Untouched()
    route.mock(side_effect=lambda request: httpx.Response(status, stream=stream))
    with pytest.raises(TokenUnavailableError):
        ask(retries=0)
    assert not stream.read


# How long it lives (RS6)


def _ends(clock: FakeClock, **changes: Any) -> httpx.Response:
    """Answer with only those ends that the test names."""
    claims = {"exp": None, **changes.pop("claims", {})}
    return _good(clock, **{"ttl_seconds": None, "claims": claims, **changes})


def _rfc3339(at: float, fraction: str = "") -> str:
    return format_time(at).replace("Z", f"{fraction}Z")


NOW = 1_800_000_000


@pytest.mark.req("RS6")
@pytest.mark.parametrize(
    ("changes", "lifetime"),
    [
        pytest.param({"claims": {"exp": NOW + 60}}, 60, id="exp"),
        pytest.param({"claims": {"exp": NOW + 60.5}}, 60.5, id="exp with a fraction"),
        pytest.param({"ttl_seconds": 60}, 60, id="ttl_seconds"),
        pytest.param({"expires_in": 60, "ttl_seconds": 90}, 60, id="expires_in before ttl_seconds"),
        pytest.param({"expires_at": _rfc3339(NOW + 60)}, 60, id="expires_at"),
        pytest.param({"expires_at": _rfc3339(NOW + 60, ".5")}, 60.5, id="expires_at with a fraction"),
        pytest.param({"expires_at": _rfc3339(NOW + 60, ".123456789")}, 60.123456789, id="expires_at in nanoseconds"),
        pytest.param({"expires_at": _rfc3339(NOW + 60), "expires_in": 30}, 60, id="expires_at before expires_in"),
        pytest.param({"expires_at": _rfc3339(NOW + 60), "claims": {"exp": NOW + 30}}, 30, id="exp caps expires_at"),
        pytest.param({"expires_in": 60, "claims": {"exp": NOW + 30}}, 30, id="exp caps expires_in"),
        pytest.param({"ttl_seconds": 60, "claims": {"exp": NOW + 30}}, 30, id="exp caps ttl_seconds"),
        pytest.param({"ttl_seconds": 30, "claims": {"exp": NOW + 60}}, 30, id="and is capped by it"),
        pytest.param({"ttl_seconds": 0.001}, 0.001, id="a millisecond"),
        pytest.param({"ttl_seconds": 2_592_000}, 2_592_000, id="thirty days"),
        pytest.param({"ttl_seconds": 9e11}, 9e11, id="for ever, nearly"),
    ],
)
def test_the_shortest_end_counts(
    ask: Exchange, route: respx.Route, clock: FakeClock, changes: dict[str, Any], lifetime: float
) -> None:
    """Of what the body says of the end `expires_at` counts, else a duration; `exp` caps them all."""
    route.mock(side_effect=[_ends(clock, **changes)])
    assert ask().lifetime == pytest.approx(lifetime, abs=1e-3)


@pytest.mark.req("RS6")
@pytest.mark.parametrize("years", [-10, -0.001, 0.001, 10])
@pytest.mark.parametrize("changes", [{"claims": {"exp": NOW + 60}}, {"expires_at": _rfc3339(NOW + 60)}])
def test_a_wrong_clock_here_does_no_harm(
    ask: Exchange, route: respx.Route, clock: FakeClock, years: float, changes: dict[str, Any]
) -> None:
    """The lifetime is the end minus `iat`, both by the authority's clock."""
    answer = _ends(clock, **changes)
    clock.jump(years * 31_557_600)
    route.mock(side_effect=[answer])
    token = ask()
    assert token.lifetime == pytest.approx(60)
    assert token.issued_at == clock.wall()


@pytest.mark.req("RS6")
@pytest.mark.parametrize("years", [-10, 10])
def test_without_iat_the_date_of_the_reply_stands_in(
    ask: Exchange, route: respx.Route, clock: FakeClock, years: float
) -> None:
    """Then, too, nothing depends on the clock here."""
    answer = _ends(clock, claims={"iat": None, "exp": NOW + 60}, headers={"Date": formatdate(NOW, usegmt=True)})
    clock.jump(years * 31_557_600)
    route.mock(side_effect=[answer])
    assert ask().lifetime == pytest.approx(60)


def test_without_any_time_of_the_authority_ours_has_to_do(ask: Exchange, route: respx.Route, clock: FakeClock) -> None:
    """With neither `iat` nor a Date, the end is counted from the moment of sending."""
    route.mock(side_effect=[_ends(clock, claims={"iat": None, "exp": NOW + 60})])
    assert ask().lifetime == pytest.approx(60)


@pytest.mark.req("RS6")
@pytest.mark.parametrize(("age", "left"), [(0, 60), (5, 60), (6, 54), (59, 1)])
def test_a_token_that_was_kept_has_lived_already(
    ask: Exchange, route: respx.Route, clock: FakeClock, age: int, left: int
) -> None:
    """Where the reply's Date is later than `iat` by more than 5 seconds, the token is not new."""
    answer = _ends(clock, claims={"exp": NOW + 60}, headers={"Date": formatdate(NOW + age, usegmt=True)})
    route.mock(side_effect=[answer])
    assert ask().lifetime == pytest.approx(left)


@pytest.mark.req("RS6", "RS10")
@pytest.mark.parametrize("exp", [NOW - 1, NOW])
def test_a_token_that_has_ended_is_refused(ask: Exchange, route: respx.Route, clock: FakeClock, exp: int) -> None:
    """At its very end a token is over."""
    route.mock(side_effect=[_ends(clock, claims={"exp": exp})])
    with pytest.raises(BadReplyError, match="already ended"):
        ask()


@pytest.mark.req("RS6")
@pytest.mark.parametrize("date", ["", "now", "Fri, 99 Foo 2026 99:99:99 GMT", "0", "Mon, 01 Jan 0000 00:00:00 GMT"])
def test_a_date_that_is_none_is_ignored(ask: Exchange, route: respx.Route, clock: FakeClock, date: str) -> None:
    """A header that cannot be read says nothing."""
    route.mock(side_effect=[_ends(clock, claims={"exp": NOW + 60}, headers={"Date": date})])
    assert ask().lifetime == pytest.approx(60)


@given(st.text())
@example("Fri, 31 Dec 9999 23:59:59 -9999")
@example("Mon, 01 Jan 0001 00:00:00 +2359")
@example("1 1 1 1 1 1 1 1")
def test_no_date_raises(text: str) -> None:
    """Whatever a server writes there is a time or nothing."""
    at = http_date(text)
    assert at is None or math.isfinite(at)


# What an error shows (RS8)


@pytest.mark.req("RS8")
@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(httpx.ConnectError("no"), id="connect"),
        pytest.param(httpx.ReadTimeout("no"), id="timeout"),
        pytest.param(httpx.ReadError("no"), id="cut"),
        pytest.param(httpx.Response(503, text="secret body"), id="503"),
        pytest.param(httpx.Response(403, text="secret body"), id="403"),
        pytest.param(httpx.Response(200, text="secret body"), id="not JSON"),
        pytest.param(httpx.Response(200, json={"token": "secret body"}), id="not a token"),
    ],
)
def test_an_error_holds_neither_the_proof_nor_the_body(
    ask: Exchange, route: respx.Route, answer: httpx.Response | httpx.TransportError
) -> None:
    """Not in its text, nor in the request that hangs on an httpx error, nor in the frames of its causes."""
    route.mock(side_effect=[answer])
    with pytest.raises(TokenUnavailableError) as caught:
        ask(retries=0)
    chain: list[BaseException] = [caught.value]
    while following := chain[-1].__cause__ or chain[-1].__context__:
        chain.append(following)
    shown = "".join(traceback.format_exception(caught.value))
    for error in chain:
        shown += repr(error) + repr(error.args) + repr(vars(error))
        if isinstance(error, httpx.RequestError):
            shown += repr(error.request.headers.raw)
    assert KEY not in shown
    assert "secret body" not in shown
    assert all(error.__traceback__ is None for error in chain[1:])


def test_what_the_caller_was_dealing_with_is_left_alone(ask: Exchange, route: respx.Route) -> None:
    """An exchange inside an `except` block neither takes the caller's error for its own nor touches its traceback."""
    route.mock(side_effect=httpx.ReadTimeout("no"))
    own = ssl.SSLError("the caller's own")
    try:
        raise own
    except ssl.SSLError:
        with pytest.raises(AuthorityUnreachableError):
            ask()
    assert own.__traceback__ is not None


@pytest.mark.parametrize(
    "answer",
    [
        *(httpx.Response(status) for status in (302, 400, 401, 403, 404, 410, 418, 429, 500)),
        httpx.Response(200, text="no JSON"),
        httpx.ConnectError("no"),
        httpx.ReadTimeout("no"),
        httpx.ReadError("no"),
    ],
    ids=str,
)
def test_every_error_says_what_to_do_next(
    ask: Exchange, route: respx.Route, answer: httpx.Response | httpx.TransportError
) -> None:
    """A message names what failed, then the mend: a setting to check, whom to ask, or to try again."""
    route.mock(side_effect=[answer])
    with pytest.raises(TokenUnavailableError) as caught:
        ask(retries=0)
    message = caught.value.message
    assert message.endswith(".")
    assert any(
        mend in message
        for mend in (
            "check AUTHSEC_",
            "Check AUTHSEC_",
            "set AUTHSEC_",
            "operator",
            "try again",
            "nothing is delegated",
        )
    ), message
