"""A token as its holder sees it: a frozen value whose secret has to be asked for."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
from typing import Any

import pytest
from core_support import compact

from authsec_core import DelegationToken
from authsec_core._clock import SYSTEM_CLOCK
from authsec_core._freshness import Freshness, Lease
from authsec_core.testing import assert_no_secret
from authsec_core.token import Secret

JWT = compact({"jti": "jti-1", "sub": "agent"}, signature="c2lnbmF0dXJlLW9mLXRoZS10b2tlbg")


def made(**changes: Any) -> DelegationToken:
    """Return a token."""
    fields: dict[str, Any] = {
        "secret": Secret(JWT),
        "mode": "live",
        "scopes": frozenset({"read:metrics"}),
        "issued_at": 1_000.0,
        "expires_at": 2_800.0,
        "jti": "jti-1",
        "sent_at": 5.0,
    }
    return DelegationToken(**{**fields, **changes})


def test_the_token_is_there_for_who_asks() -> None:
    """`value` is the compact JWS, `authorization` the header that carries it; the lifetime is what the two ends say."""
    token = made()
    assert (token.value, token.authorization, token.lifetime) == (JWT, f"Bearer {JWT}", 1800.0)
    assert str(token) == "delegation token jti-1"
    assert str(made(jti=None)) == "delegation token (no jti)"


@pytest.mark.req("RS8")
@pytest.mark.parametrize(
    "thing", [made(), Secret(JWT), [made()], {"token": made()}], ids=["token", "secret", "list", "dict"]
)
def test_nothing_that_prints_it_prints_the_secret(thing: Any) -> None:
    """Text, f-strings, formatting, JSON with a fallback, copies and dictionaries show no part of the token."""
    shown = [thing, repr(thing), str(thing), f"{thing}", f"{thing!r:>80}", "%s %r" % (thing, thing), ascii(thing)]  # noqa: UP031 -- as old log lines do
    shown += [json.dumps(thing, default=str), json.dumps(thing, default=repr), copy.copy(thing), copy.deepcopy(thing)]
    assert_no_secret(shown, JWT)


@pytest.mark.req("RS8")
def test_taking_a_token_apart_finds_a_closed_secret() -> None:
    """`asdict`, `astuple` and a look at each slot yield the wrapper and not the text; there is no `__dict__`."""
    token = made()
    apart = [dataclasses.asdict(token), dataclasses.astuple(token), [getattr(token, name) for name in token.__slots__]]
    assert_no_secret([*apart, json.dumps(apart, default=str)], JWT)
    assert not hasattr(token, "__dict__")
    assert not hasattr(token.secret, "__dict__")
    with pytest.raises(TypeError):
        json.dumps(apart[1])


@pytest.mark.req("RS8")
@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("thing", [made(), Secret(JWT), {"token": made()}], ids=["token", "secret", "dict"])
def test_a_token_is_not_pickled(thing: Any, protocol: int) -> None:
    """Not by any protocol, alone or in something else: a pickle is a file, a queue, a cache."""
    with pytest.raises(TypeError, match="a token is not pickled: hand the settings over"):
        pickle.dumps(thing, protocol)


def test_copies_share_the_secret() -> None:
    """A copied token is as good as the original."""
    token = made()
    for twin in (copy.copy(token), copy.deepcopy(token), dataclasses.replace(token)):
        assert twin == token
        assert twin.value == JWT
    assert copy.copy(token.secret) is token.secret


def test_a_token_cannot_be_changed() -> None:
    """It may be shared freely, so that nobody may widen it."""
    token = made()
    for name, value in (("scopes", frozenset({"admin"})), ("secret", Secret("x")), ("mode", "mock"), ("extra", 1)):
        with pytest.raises((dataclasses.FrozenInstanceError, TypeError, AttributeError)):
            setattr(token, name, value)
    assert token == made()


def test_tokens_are_equal_by_what_they_say() -> None:
    """The same grant is equal whenever it was received; another secret makes another token."""
    assert made() == made(sent_at=99.0)
    assert hash(made()) == hash(made(sent_at=99.0))
    assert made() != made(secret=Secret("other"))
    assert made() != made(scopes=frozenset())
    assert Secret("a") != "a"
    assert len({Secret("a"), Secret("a"), Secret("b")}) == 2


def test_a_source_of_ones_own_hands_out_a_token_that_lives() -> None:
    """What was received just now is fresh, and ends after its lifetime by the clock that the SDK measures with."""
    token = DelegationToken.of("a.b.c", scopes=["read:metrics"], lifetime=300, jti="jti-1", audience=["api"])
    assert (token.value, token.mode, token.lifetime) == ("a.b.c", "live", 300)
    assert token.scopes == {"read:metrics"}
    assert (token.jti, token.audience) == ("jti-1", ("api",))
    lease, now = Lease(token, margin=60), SYSTEM_CLOCK.steady()
    assert (lease.at(now), lease.at(now + 301)) == (Freshness.FRESH, Freshness.EXPIRED)
