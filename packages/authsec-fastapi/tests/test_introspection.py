"""What the issuer's word is worth: asked last, believed only where it says plainly `true`, and never instead of checks.

Against a stub that misbehaves, and against the authority itself.
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import pickle
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from guard_support import AUDIENCE, Issuer, Memory

from authsec_core import ConfigurationError, RevokedTokenError, TokenRejectedError, VerificationUnavailableError
from authsec_core._clock import SYSTEM_CLOCK, Clock
from authsec_core.testing import FakeClock, LoopbackServer, Raw, Reply, Request
from authsec_fastapi import AuthSecGuard, Introspection, Principal, TrustedIssuer
from authsec_fastapi.authentication import TokenAuthenticator
from authsec_server.testing import OnboardedAgent, RunningAuthority

KEY = "canary.of-a:client/key"
Authenticate = Callable[[TokenAuthenticator, str], Principal]
issuer = Issuer()


@pytest.fixture(params=["sync", "async"])
def authenticate(request: pytest.FixtureRequest) -> Authenticate:
    """Ask who a caller is blocking, or on a loop of its own."""
    if request.param == "sync":
        return lambda authenticator, token: authenticator.authenticate(token)
    return lambda authenticator, token: asyncio.run(authenticator.aauthenticate(token))


class Stub:
    """An introspection endpoint that answers as it is told: by default what it is shown, and that it is active."""

    def __init__(self) -> None:
        self.changes: dict[str, Any] = {}
        self.answer: Reply | Raw | None = None
        self.server = LoopbackServer(self._handle)

    @property
    def url(self) -> str:
        return f"{self.server.base_url}/introspect"

    @property
    def asked(self) -> list[Request]:
        return list(self.server.requests)

    def trusting(self, *, clock: Clock = SYSTEM_CLOCK, max_age: float = 0.0, **terms: Any) -> TokenAuthenticator:
        asking = Introspection(client_id="a/guard", client_key=KEY, url=self.url, max_age=max_age)
        trusted = issuer.trusted(revocation="introspection", introspection=asking, **terms)
        return TokenAuthenticator([trusted], clock=clock)

    def _handle(self, request: Request) -> Reply | Raw:
        if self.answer is not None:
            return self.answer
        token = dict(pair.split("=") for pair in request.body.decode().split("&"))["token"]
        payload = token.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
        said = {"active": True, **claims, **self.changes}
        body = json.dumps({name: value for name, value in said.items() if value is not ...}).encode()
        return Reply(headers={"Content-Type": "application/json"}, body=body)


@pytest.fixture
def stub() -> Iterator[Stub]:
    """A healthy endpoint."""
    stub = Stub()
    with stub.server:
        yield stub


@pytest.mark.req("RV9")
def test_each_look_at_a_token_asks_anew(stub: Stub, authenticate: Authenticate) -> None:
    """By default nothing is remembered: the first look after the issuer changes its mind is a refusal."""
    authenticator, token = stub.trusting(), issuer.token("read")
    for _ in range(2):
        assert authenticate(authenticator, token).scopes == {"read"}
    assert len(stub.asked) == 2
    stub.changes = {"active": False}
    with pytest.raises(RevokedTokenError):
        authenticate(authenticator, token)


@pytest.mark.req("RV9")
def test_a_caller_that_was_let_in_is_asked_about_again(stub: Stub) -> None:
    """What an agent's tools and streams do, long after the request was let in, is refused as soon."""
    caller = stub.trusting().authenticate(issuer.token("read"))
    standing = caller._standing
    assert standing is not None
    standing.check()
    asyncio.run(standing.acheck())
    stub.changes = {"active": False}
    with pytest.raises(RevokedTokenError):
        standing.check()
    with pytest.raises(RevokedTokenError):
        asyncio.run(standing.acheck())


def test_the_request_is_that_of_rfc_7662(stub: Stub, authenticate: Authenticate) -> None:
    """A form, the guard's own credentials percent-encoded in Basic, nothing in the URL, no cookie, no encoding."""
    token = issuer.token("read")
    authenticate(stub.trusting(), token)
    [request] = stub.asked
    assert (request.method, request.path, request.query) == ("POST", "/introspect", ())
    assert request.body.decode() == f"token={token}&token_type_hint=access_token"
    assert request.headers["content-type"] == "application/x-www-form-urlencoded"
    basic = base64.b64decode(request.headers["authorization"].removeprefix("Basic ")).decode()
    assert basic == "a%2Fguard:canary.of-a%3Aclient%2Fkey"
    assert "cookie" not in request.headers


@pytest.mark.req("RV2")
@pytest.mark.parametrize(
    "token",
    [
        issuer.token(exp=1),
        issuer.token(aud=["another"]),
        issuer.token(iss="https://another.example"),
        issuer.token("read")[:-4] + "AAAA",
        "a.b.c",
        "x",
    ],
    ids=["ended", "other audience", "other issuer", "forged", "no token", "no text of three"],
)
def test_what_is_refused_here_costs_the_issuer_nothing(stub: Stub, authenticate: Authenticate, token: str) -> None:
    """Made-up tokens are not passed on, though the issuer would call everything active."""
    stub.answer = Reply(body=b'{"active": true}')
    with pytest.raises(TokenRejectedError):
        authenticate(stub.trusting(), token)
    assert stub.asked == []


@pytest.mark.req("RV9")
@pytest.mark.parametrize(
    "answer",
    [
        Reply(status=500),
        Reply(status=503),
        Reply(status=401, body=b'{"error": "invalid_client"}'),
        Reply(status=403),
        Reply(status=429, headers={"Retry-After": "1"}),
        Reply(status=204),
        Reply(status=302, headers={"Location": "https://elsewhere.example/"}),
        Reply(body=b""),
        Reply(body=b"true"),
        Reply(body=b"[]"),
        Reply(body=b"{}"),
        Reply(body=b'{"active": "true"}'),
        Reply(body=b'{"active": 1}'),
        Reply(body=b'{"active": null}'),
        Reply(body=b'{"active": [true]}'),
        Reply(body=b'{"active": false, "active": true}'),
        Reply(body=b'{"active": true'),
        Reply(body=b'{"active": true}' + b" " * 70_000),
        Reply(body=b'{"active": true}', headers={"Content-Encoding": "gzip"}),
        Reply(body=b'{"active": true, "sub": "spiffe://example.org/somebody/else"}'),
        Raw(),
        Raw(data=b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{"),
        Raw(data=b"garbage\r\n\r\n"),
    ],
    ids=lambda answer: str(answer)[:80],
)
def test_only_a_plain_yes_is_one(
    stub: Stub, authenticate: Authenticate, answer: Reply | Raw, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever is neither `true` nor `false` in a well-formed 200 means that nobody can tell: never 200, never 401."""
    stub.answer = answer
    with pytest.raises(VerificationUnavailableError) as caught:
        authenticate(stub.trusting(), issuer.token("read"))
    assert len(stub.asked) == 1
    assert "canary" not in str(caught.value) + caplog.text
    assert caught.value.unavailable == "introspection"
    if isinstance(answer, Reply) and answer.status in (401, 403):
        assert [one.levelname for one in caplog.records if "mend them" in one.getMessage()] == ["ERROR"]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("iss", "https://another.example"),
        ("sub", "spiffe://example.org/other"),
        ("sub", None),
        ("aud", ["another"]),
        ("aud", [AUDIENCE, "another"]),
        ("aud", [[AUDIENCE]]),
        ("aud", {"a": AUDIENCE}),
        ("exp", 1),
        ("exp", 2.5),
        ("exp", "soon"),
        ("iat", True),
        ("jti", "jti-2"),
        ("client_id", "another"),
    ],
)
def test_an_answer_about_another_token_is_none(
    stub: Stub, authenticate: Authenticate, name: str, value: object
) -> None:
    """Each claim that the issuer repeats has to be the token's own."""
    stub.changes = {name: value}
    with pytest.raises(VerificationUnavailableError, match=f"its {name} differs"):
        authenticate(stub.trusting(), issuer.token("read"))


def test_the_issuer_may_say_less_and_adds_nothing(stub: Stub, authenticate: Authenticate) -> None:
    """`active` alone is enough; scopes, roles and names of the answer are not the caller's."""
    stub.changes = dict.fromkeys(("iss", "sub", "aud", "exp", "iat", "jti", "client_id"), ...)
    stub.changes |= {"scope": "admin", "permissions": ["admin"], "roles": ["admin"], "username": "root"}
    caller = authenticate(stub.trusting(), issuer.token("read"))
    assert caller.scopes == {"read"}
    assert caller.roles == frozenset()
    stub.changes = {"aud": AUDIENCE}  # RFC 7662 has it as text too
    authenticate(stub.trusting(), issuer.token("read"))
    stub.changes = {"client_id": "known to the issuer alone"}
    authenticate(stub.trusting(), issuer.token("read", client_id=None))


@pytest.mark.req("RV9")
def test_an_outage_is_no_answer_and_ends_by_itself(stub: Stub, authenticate: Authenticate) -> None:
    """While nobody listens: 503. Once somebody does: as before."""
    authenticator, token = stub.trusting(), issuer.token("read")
    stub.server.close()
    with pytest.raises(VerificationUnavailableError):
        authenticate(authenticator, token)
    stub.server.start()
    assert authenticate(authenticator, token).scopes == {"read"}


def test_an_outage_is_in_the_log_and_fills_it_not(
    stub: Stub, authenticate: Authenticate, caplog: pytest.LogCaptureFixture
) -> None:
    """A warning once in some seconds, with the address and the cause."""
    clock = FakeClock(wall=SYSTEM_CLOCK.wall())
    authenticator, token = stub.trusting(clock=clock, timeout=30.0), issuer.token("read")
    stub.answer = Reply(status=500)

    def lines() -> list[tuple[str, str]]:
        for _ in range(3):
            with pytest.raises(VerificationUnavailableError):
                authenticate(authenticator, token)
        found = [(one.levelname, one.getMessage()) for one in caplog.records if one.name == "authsec.guard"]
        caplog.clear()
        return found

    said = f"{stub.url}: the issuer's introspection endpoint answers with status 500 (nobody is let in meanwhile)"
    assert lines() == [("WARNING", said)]
    clock.advance(4.9)
    assert lines() == []
    clock.advance(0.1)
    assert lines() == [("WARNING", said)]


def test_an_endpoint_that_hangs_is_given_up(stub: Stub, authenticate: Authenticate) -> None:
    """The time for an answer is bounded in all."""
    never = threading.Event()
    stub.answer = Reply(body=b'{"active": true}', delay=never)
    started = SYSTEM_CLOCK.steady()
    with pytest.raises(VerificationUnavailableError, match="timeout"):
        authenticate(stub.trusting(timeout=0.3), issuer.token("read"))
    assert SYSTEM_CLOCK.steady() - started < 5.0
    never.set()


@pytest.mark.req("RV9")
def test_a_good_answer_counts_for_max_age_and_a_bad_one_for_nothing(stub: Stub, authenticate: Authenticate) -> None:
    """Where that was asked for, `max_age` seconds from the question on; a refusal is asked about again."""
    clock = FakeClock(wall=SYSTEM_CLOCK.wall())
    authenticator, token, other = stub.trusting(clock=clock, max_age=10.0), issuer.token("read"), issuer.token("write")
    authenticate(authenticator, token)
    stub.changes = {"active": False}
    clock.advance(9.9)
    authenticate(authenticator, token)
    with pytest.raises(RevokedTokenError):
        authenticate(authenticator, other)
    assert len(stub.asked) == 2
    clock.advance(0.1)
    for _ in range(2):
        with pytest.raises(RevokedTokenError):
            authenticate(authenticator, token)
    assert len(stub.asked) == 4


def test_what_is_remembered_is_bounded(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many good tokens of one issuer do not grow memory; the answers that are oldest go first."""
    monkeypatch.setattr("authsec_fastapi.introspection._MOST_KNOWN", 3)
    authenticator = stub.trusting(max_age=300.0)
    tokens = [issuer.token("read", jti=f"jti-{number}") for number in range(5)]
    for token in tokens:
        authenticator.authenticate(token)
    known = authenticator._known[0].introspector
    assert known is not None
    assert len(known._known._asked_at) == 3
    authenticator.authenticate(tokens[-1])
    assert len(stub.asked) == 5
    authenticator.authenticate(tokens[0])
    assert len(stub.asked) == 6


def test_terms_that_could_not_work_or_would_not_be_safe_are_refused() -> None:
    """Before anything is sent: `http` beyond loopback even where `allow_http` is set, since a key goes along."""
    good: dict[str, Any] = {"client_id": "guard", "client_key": KEY}
    for url in ("http://issuer.example/i", "https://user@issuer.example/i", "ftp://x", "https://a.example/i?x=1"):
        with pytest.raises(ConfigurationError, match="introspection url"):
            Introspection(**good, url=url)
    for changes in ({"client_id": ""}, {"client_key": ""}, {"client_key": "a b"}, {"client_id": "ü"}):
        with pytest.raises(ConfigurationError, match="client_id and client_key"):
            Introspection(**{**good, **changes})
    for max_age in (-1.0, 301.0, float("nan")):
        with pytest.raises(ConfigurationError, match="max_age"):
            Introspection(**good, max_age=max_age)

    def guard(**terms: Any) -> AuthSecGuard:
        usual = {"issuer": "http://issuer.example/authsec", "audience": "a", "allow_http": True}
        return AuthSecGuard(issuers=[TrustedIssuer(**{**usual, **terms})], sink=Memory())

    with pytest.raises(ConfigurationError, match="introspection url"):
        guard(revocation="introspection", introspection=Introspection(**good))
    with pytest.raises(ConfigurationError, match="go together"):
        guard(revocation="introspection")
    with pytest.raises(ConfigurationError, match="go together"):
        guard(introspection=Introspection(**good))
    with pytest.raises(ConfigurationError, match="introspection_endpoint"):
        guard(
            profile="oidc",
            jwks_url="https://issuer.example/keys",
            revocation="introspection",
            introspection=Introspection(**good),
        )


def test_the_key_is_never_shown() -> None:
    """Not in a repr, not in what holds it, and not in another process."""
    asking = Introspection(client_id="guard", client_key=KEY)
    trusted = issuer.trusted(revocation="introspection", introspection=asking)
    assert KEY not in repr(asking) + repr(trusted) + repr([getattr(asking, name) for name in asking.__slots__])
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(asking)


# --- the authority itself ---


@pytest.fixture(scope="module")
def authority() -> Iterator[RunningAuthority]:
    """The authority, as in production."""
    with RunningAuthority() as authority:
        yield authority


def token_of(agent: OnboardedAgent) -> str:
    """Return a token for all that is delegated to the agent."""
    reply = httpx.post(
        f"{agent.base_url}/authsec/oauth2/token",
        data={"grant_type": "client_credentials"},
        auth=(agent.client_id, agent.agent_key),
        trust_env=False,
    )
    return str(reply.raise_for_status().json()["access_token"])


def asking(authority: RunningAuthority, guards_own: OnboardedAgent, *, key: str | None = None) -> TokenAuthenticator:
    """Return who knows the callers of an authority, and asks it about each."""
    terms = Introspection(client_id=guards_own.client_id, client_key=key or guards_own.agent_key)
    trusted = TrustedIssuer(
        issuer=authority.issuer,
        audience="authsec-api",
        profile="at+jwt",
        revocation="introspection",
        introspection=terms,
        revocation_max_age=3600.0,  # so that a refusal is not the status list's doing
    )
    return TokenAuthenticator([trusted], clock=SYSTEM_CLOCK)


@pytest.mark.req("RV9")
def test_a_revoked_token_is_refused_at_once(authority: RunningAuthority, authenticate: Authenticate) -> None:
    """No status list is waited for: with the answer to the revocation the token is of no more use."""
    agent, own = authority.onboard("read:metrics"), authority.onboard("nothing:much")
    authenticator, token = asking(authority, own), token_of(agent)
    caller = authenticate(authenticator, token)
    assert caller.client_id == agent.client_id
    assert caller.scopes == {"read:metrics"}
    authority.client.post(f"/tokens/{caller.jti}/revoke", json={"reason": "test"}).raise_for_status()
    with pytest.raises(RevokedTokenError):
        authenticate(authenticator, token)


@pytest.mark.req("RV9")
def test_the_tokens_of_a_revoked_agent_are_refused_at_once(
    authority: RunningAuthority, authenticate: Authenticate
) -> None:
    """All of them, and nobody else's."""
    agent, own = authority.onboard("read:metrics"), authority.onboard("nothing:much")
    authenticator, tokens, other = asking(authority, own), [token_of(agent) for _ in range(2)], token_of(own)
    for token in tokens:
        authenticate(authenticator, token)
    authority.client.post(f"/clients/{agent.client_id}/revoke", json={"reason": "test"}).raise_for_status()
    for token in tokens:
        with pytest.raises(RevokedTokenError):
            authenticate(authenticator, token)
    assert authenticate(authenticator, other).client_id == own.client_id


def test_a_guard_whose_own_key_is_wrong_lets_nobody_in(
    authority: RunningAuthority, authenticate: Authenticate, caplog: pytest.LogCaptureFixture
) -> None:
    """503 for the caller, who cannot mend it, and an error in the log for who can."""
    agent, own = authority.onboard("read:metrics"), authority.onboard("nothing:much")
    with pytest.raises(VerificationUnavailableError), caplog.at_level(logging.ERROR, logger="authsec.guard"):
        authenticate(asking(authority, own, key=own.agent_key[:-2] + "xx"), token_of(agent))
    assert "mend them" in caplog.text
