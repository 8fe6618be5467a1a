"""Who presents a token: one brain for both worlds, callers that can be looked at again, and memory that is bounded."""

from __future__ import annotations

import asyncio
import gc
import pickle
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from guard_support import AUDIENCE, Issuer, Memory, caller

from authsec_core import BadSignatureError, ConfigurationError, TokenRejectedError, VerificationUnavailableError
from authsec_core._clock import SYSTEM_CLOCK
from authsec_core.testing import FakeClock, LocalAuthority
from authsec_core.testing._signing import Es256SigningKey
from authsec_fastapi import AuditEvent, AuthSecGuard, Identity, Introspection, Principal, StaticToken, TrustedIssuer
from authsec_fastapi.authentication import StaticAuthenticator, TokenAuthenticator
from authsec_fastapi.requirement import ANY_CALLER

Authenticate = Callable[[TokenAuthenticator, str], Principal]
issuer = Issuer()


@pytest.fixture(params=["sync", "async"])
def authenticate(request: pytest.FixtureRequest) -> Authenticate:
    """Ask who a caller is blocking, or on a loop of its own."""
    if request.param == "sync":
        return lambda authenticator, token: authenticator.authenticate(token)
    return lambda authenticator, token: asyncio.run(authenticator.aauthenticate(token))


def trusting(*, clock: Any = SYSTEM_CLOCK, **terms: Any) -> TokenAuthenticator:
    """Return who knows the callers of one issuer."""
    return TokenAuthenticator([issuer.trusted(**terms)], clock=clock)


@pytest.mark.parametrize(
    ("claims", "caller"),
    [
        (
            {},
            {
                "subject": "spiffe://example.org/ns/shop/sa/bot",
                "spiffe_id": "spiffe://example.org/ns/shop/sa/bot",
                "user": None,
                "actor": None,
            },
        ),
        (
            {"sub": "ann", "act": {"sub": "spiffe://example.org/ns/shop/sa/bot"}},
            {
                "subject": "ann",
                "spiffe_id": "spiffe://example.org/ns/shop/sa/bot",
                "user": "ann",
                "actor": "spiffe://example.org/ns/shop/sa/bot",
            },
        ),
        (
            {"sub": "spiffe://example.org/user", "act": {"sub": "a client"}},
            {"subject": "spiffe://example.org/user", "spiffe_id": None, "user": "spiffe://example.org/user"},
        ),
        ({"sub": "ann", "client_id": None}, {"subject": "ann", "client_id": None, "spiffe_id": None, "user": None}),
        ({"delegated_by": "operator"}, {"delegated_by": "operator"}),
        ({"delegated_by": ["operator"]}, {"delegated_by": None}),
    ],
    ids=["workload", "on behalf of a user", "a client for a workload", "a user alone", "delegated", "oddly delegated"],
)
def test_a_caller_is_who_the_token_names(
    authenticate: Authenticate, claims: dict[str, Any], caller: dict[str, Any]
) -> None:
    """The workload that acts and the user for whom it acts are never taken for one another."""
    found = authenticate(trusting(), issuer.token("read", **claims))
    assert {name: getattr(found, name) for name in caller} == caller
    assert found.covers("read")
    assert not found.covers("read", "write")


def test_two_callers_are_one_only_where_everything_that_names_them_is_equal() -> None:
    """The same name at another issuer, through another agent, or for itself, is somebody else."""
    authenticator = trusting()
    tokens = [
        issuer.token(sub="ann"),
        issuer.token(sub="ann", client_id="another"),
        issuer.token(sub="ann", client_id=None),
        issuer.token(sub="ann", act={"sub": "bot"}),
        issuer.token(sub="ann", act={"sub": "another"}),
        issuer.token(sub="Ann"),
    ]
    callers = [authenticator.authenticate(token) for token in tokens]
    elsewhere = Issuer(url="https://another.example")
    callers.append(
        TokenAuthenticator([elsewhere.trusted()], clock=SYSTEM_CLOCK).authenticate(elsewhere.token(sub="ann"))
    )
    assert len({caller.identity for caller in callers}) == len(callers)
    again = authenticator.authenticate(issuer.token("more", sub="ann", jti="jti-2"))
    assert again.identity == callers[0].identity
    assert isinstance(again.identity, Identity)


@pytest.mark.req("RV9")
def test_a_caller_can_be_looked_at_again(authenticate: Authenticate) -> None:
    """A token that has ended since is refused, whichever way it is looked at; the principal stays what it was."""
    clock = FakeClock(wall=SYSTEM_CLOCK.wall())
    caller = authenticate(trusting(clock=clock), issuer.token("read"))
    standing = caller._standing
    assert standing is not None
    standing.check()
    asyncio.run(standing.acheck())
    clock.advance(606.0)
    for look in (standing.check, lambda: asyncio.run(standing.acheck())):
        with pytest.raises(TokenRejectedError):
            look()
    assert caller.covers("read")


def test_a_caller_shows_no_token_and_takes_none_along(authenticate: Authenticate) -> None:
    """Printed, compared or pickled, a principal gives nothing away that would let in somebody else."""
    token = issuer.token("read")
    caller = authenticate(trusting(), token)
    assert not any(part in repr(caller) for part in token.split("."))
    assert caller == authenticate(trusting(), token)
    with pytest.raises(TypeError, match="pickle"):
        pickle.dumps(caller)
    with pytest.raises(AttributeError):
        caller.subject = "root"  # type: ignore[misc]  # it is frozen
    with pytest.raises(TypeError):
        caller.claims["sub"] = "root"  # type: ignore[index]  # it is read-only


def test_a_static_token_is_one_caller_in_both_worlds() -> None:
    """It has no end; every other text is refused, of whatever length and characters."""
    authenticator = StaticAuthenticator(StaticToken("a-token-for-a-first-try", subject="ann"))
    caller = authenticator.authenticate("a-token-for-a-first-try")
    assert caller == asyncio.run(authenticator.aauthenticate("a-token-for-a-first-try"))
    assert (caller.subject, caller.expires_at) == ("ann", None)
    standing = caller._standing
    assert standing is not None
    standing.check()
    asyncio.run(standing.acheck())
    for other in ("", "a", "a-token-for-a-first-tr", "a-token-for-a-first-trY", "ü" * 23, "\ud800", "x" * 100_000):
        with pytest.raises(BadSignatureError):
            authenticator.authenticate(other)


def test_a_guard_without_an_issuer_is_refused() -> None:
    """Nobody could be let in, and everybody might think that somebody is."""
    with pytest.raises(ConfigurationError, match="AUTHSEC_GUARD_ISSUER"):
        TokenAuthenticator([], clock=SYSTEM_CLOCK)


class _Nowhere:
    """A sink that keeps nothing."""

    def record(self, event: AuditEvent) -> None:
        pass

    async def arecord(self, event: AuditEvent) -> None:
        pass


@pytest.mark.parametrize("where", ["jwks", "statuslist", "introspection"])
def test_what_could_not_be_had_is_on_record(where: Any) -> None:
    """Keys, status list or introspection: the caller hears one sentence, and the operator has to know where to look."""
    sink = Memory()
    with LocalAuthority() as local:
        terms: dict[str, Any] = {"issuer": local.issuer, "audience": AUDIENCE, "timeout": 30.0}
        if where == "introspection":  # which this authority does not have
            asked = Introspection(client_id="guard", client_key="canary", url=f"{local.base_url}/introspect")
            terms |= {"revocation": "introspection", "introspection": asked}
        else:
            local.fail(where=where, status=500)
        guard = AuthSecGuard(issuers=[TrustedIssuer(**terms)], sink=sink)
        with pytest.raises(VerificationUnavailableError):
            asyncio.run(caller(guard, local.mint()))
    [event] = sink.events
    expected = {"jwks": "keys", "statuslist": "status_list"}.get(where, where)
    assert (event.outcome, event.reason) == ("deny", f"{expected}_unavailable")


def test_many_tokens_do_not_grow_memory() -> None:
    """Thousands of callers, each with a token, scopes and roles of their own: what is kept is `remember` of them."""
    key, now = Es256SigningKey.generate("curve"), int(SYSTEM_CLOCK.wall())
    trusted = TrustedIssuer(
        issuer="https://idp.example", audience=AUDIENCE, profile="oidc", jwks={"keys": [dict(key.jwk)]}, remember=64
    )
    judge = AuthSecGuard(issuers=[trusted], sink=_Nowhere()).judge

    async def admit(numbers: range) -> None:
        for number in numbers:
            claims = {
                "iss": "https://idp.example",
                "aud": AUDIENCE,
                "sub": f"user-{number}",
                "jti": f"jti-{number}",
                "iat": now,
                "exp": now + 600,
                "scope": f"read:{number}",
                "roles": [f"role-{number}"],
            }
            token = key.sign({"alg": "ES256", "kid": "curve", "typ": "JWT"}, claims)
            await judge.admit([(b"authorization", f"Bearer {token}".encode())], ANY_CALLER, {})

    def kept(numbers: range) -> int:
        asyncio.run(admit(numbers))
        gc.collect()
        return tracemalloc.get_traced_memory()[0]

    tracemalloc.start()
    try:
        first = kept(range(400))  # fills what is bounded
        later = kept(range(400, 1200))
    finally:
        tracemalloc.stop()
    assert later - first < 100_000  # bytes: of 800 tokens that were kept it would be millions
