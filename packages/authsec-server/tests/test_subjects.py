"""Token exchange as sets: whatever is exchanged, by whomever and how often, allows no more than before."""

from __future__ import annotations

from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_policy import delegation, standing

from authsec_core.errors import VerificationUnavailableError
from authsec_core.verify import VerifiedToken
from authsec_server.agents.standing import Standing
from authsec_server.errors import RefusedError
from authsec_server.issuers.identity import UserIdentity
from authsec_server.tokens.policy import Ask, Caps, Grant, decide
from authsec_server.tokens.subjects import (
    MOST_ACTORS,
    MOST_EXCHANGES,
    BadSubject,
    Moment,
    OwnSubject,
    UnverifiedSubject,
    UserSubject,
    _actors,
    bounded,
)

NOW = 1_700_000_000.0
CAPS = Caps(default_audience="authsec-api", default_ttl=600, max_ttl=900)
SCOPES = st.frozensets(st.sampled_from("abcd"), max_size=4)
AUDIENCES = st.sampled_from(["authsec-api", "payroll"])


def at(*, parent: Any = None, issuers: frozenset[tuple[str, int]] = frozenset({("wli_1", 1)})) -> Moment:
    """A moment in a transaction."""
    return Moment(at=NOW, issuers=issuers, parent=parent)


def actor(client_id: str, scopes: Iterable[str], audiences: Iterable[str] = ("authsec-api",)) -> Standing:
    """A client to which this is delegated."""
    granted = delegation(
        permissions=frozenset(scopes), allowed_actions=None, audiences=frozenset(audiences), max_duration=900
    )
    made = standing(granted)
    return Standing(
        **{
            **{name: getattr(made, name) for name in made.__slots__},
            "client_id": client_id,
            "spiffe_id": f"spiffe://example.org/{client_id}",
        }
    )


def own(
    scopes: frozenset[str],
    audience: str = "authsec-api",
    expires_at: int = int(NOW) + 300,
    *,
    actors: tuple[str, ...] = (),
    holder: str = "c0",
) -> OwnSubject:
    """A token of ours."""
    act: dict[str, Any] = {}
    for name in reversed(actors):
        act = {"sub": name, **({"act": act} if act else {})}
    token = VerifiedToken(
        issuer="https://authority.example/authsec",
        subject="spiffe://example.org/c0",
        audience=(audience,),
        client_id=holder,
        scopes=scopes,
        roles=(),
        jti="j1",
        issued_at=int(NOW) - 10,
        expires_at=expires_at,
        key_id="k1",
        actor=actors[0] if actors else None,
        claims={"act": act} if act else {},
    )
    return OwnSubject(token=token)


def row(found: OwnSubject, **changes: Any) -> SimpleNamespace:
    """What is on record of a token."""
    token = found.token
    facts = {
        "kid": token.key_id,
        "client_id": token.client_id,
        "scope": " ".join(sorted(token.scopes)),
        "audience": token.audience[0],
        "issued_at": token.issued_at,
        "expires_at": token.expires_at,
        "subject": token.subject,
        "depth": len(_actors(token.claims)) or None,
        "revoked_at": None,
    }
    return SimpleNamespace(**{**facts, **changes})


def user(**more: Any) -> UserSubject:
    """A user who is known elsewhere."""
    facts: dict[str, Any] = {"issuer_id": "wli_1", "revision": 1, "issuer_name": "idp", "issuer": "https://idp.example"}
    facts |= {"subject": "ada", "may_act": None, "expires_at": int(NOW) + 300}
    return UserSubject(user=UserIdentity(**{**facts, **more}))


@pytest.mark.req("RA5")
@given(
    held=SCOPES,
    delegated=SCOPES,
    asked=st.none() | SCOPES,
    theirs=AUDIENCES,
    audience=st.none() | AUDIENCES,
    left=st.integers(min_value=-5, max_value=2000),
    ttl=st.none() | st.integers(min_value=1, max_value=2000),
    revoked=st.booleans(),
)
def test_exchange_agrees_with_sets(
    held: frozenset[str],
    delegated: frozenset[str],
    asked: frozenset[str] | None,
    theirs: str,
    audience: str | None,
    left: int,
    ttl: int | None,
    revoked: bool,
) -> None:
    """Granted = the subject token's ∩ delegated ∩ asked, for the token's audience, until the first of all ends."""
    subject = own(held, theirs, int(NOW) + left)
    moment = at(parent=row(subject, revoked_at=NOW if revoked else None))
    who = actor("c1", delegated, ("authsec-api", "payroll"))
    expected = held & delegated & (held if asked is None else asked)
    possible = not revoked and left >= 1 and audience in (None, theirs) and bool(expected)
    try:
        ask, on_behalf = bounded(subject, Ask(scopes=asked, audience=audience, ttl=ttl), who, moment, CAPS)
        verdict = decide(who, ask, CAPS, moment.at)
    except RefusedError:
        assert not possible
        return
    assert isinstance(verdict, Grant) == possible
    if isinstance(verdict, Grant):
        assert (verdict.scopes, verdict.audience) == (expected, theirs)
        assert verdict.ttl == min(CAPS.default_ttl if ttl is None else ttl, left, CAPS.max_ttl)
        assert on_behalf.actors == (who.spiffe_id,)


@pytest.mark.req("RA5")
@given(steps=st.lists(st.tuples(st.integers(0, 5), SCOPES, st.integers(1, 900)), max_size=8), held=SCOPES)
def test_a_chain_only_ever_narrows(steps: list[tuple[int, frozenset[str], int]], held: frozenset[str]) -> None:
    """However often a token is exchanged: scopes and end never grow, no actor is lost, and there are four at most."""
    subject = own(held)
    for number, delegated, ttl in steps:
        who, token = actor(f"c{number}", delegated), subject.token
        before = _actors(token.claims)
        try:
            ask, on_behalf = bounded(subject, Ask(ttl=ttl), who, at(parent=row(subject)), CAPS)
        except RefusedError:
            assert len(before) == MOST_ACTORS
            assert token.client_id != who.client_id
            return
        verdict = decide(who, ask, CAPS, NOW)
        if not isinstance(verdict, Grant):
            assert not token.scopes & delegated
            return
        subject = own(verdict.scopes, expires_at=int(NOW) + verdict.ttl, actors=on_behalf.actors, holder=who.client_id)
        assert subject.token.scopes <= token.scopes
        assert subject.token.expires_at <= token.expires_at
        assert on_behalf.actors[len(on_behalf.actors) - len(before) :] == before
        assert len(on_behalf.actors) - len(before) == (token.client_id != who.client_id)
        assert len(on_behalf.actors) <= MOST_ACTORS
        assert on_behalf.subject == token.subject


@pytest.mark.req("RA5")
@pytest.mark.parametrize(
    "change",
    [
        {"kid": "k2"},
        {"client_id": "c9"},
        {"scope": "a"},
        {"audience": "payroll"},
        {"expires_at": int(NOW) + 200},
        {"issued_at": int(NOW)},
        {"subject": "somebody else"},
    ],
    ids=str,
)
def test_only_the_token_on_record_can_be_exchanged(change: dict[str, Any]) -> None:
    """A signature alone may be that of a key that leaked: whatever was not issued under that `jti` is refused."""
    subject, who = own(frozenset("ab")), actor("c1", "ab")
    assert subject.bounds(who, at(parent=row(subject))).scopes == frozenset("ab")
    with pytest.raises(RefusedError, match="ended"):
        subject.bounds(who, at(parent=row(subject, **change)))


@pytest.mark.req("RA5")
def test_a_token_is_exchanged_a_few_times_only() -> None:
    """Who narrows its own token adds no actor, and comes to an end all the same: a revocation has to follow."""
    subject, who = own(frozenset("a"), holder="c1"), actor("c1", "a")
    assert subject.bounds(who, at(parent=row(subject, depth=MOST_EXCHANGES - 1))).on_behalf.depth == MOST_EXCHANGES
    with pytest.raises(RefusedError, match="too often"):
        subject.bounds(who, at(parent=row(subject, depth=MOST_EXCHANGES)))


def test_a_token_that_we_do_not_know_gives_nothing() -> None:
    """A token whose row is gone may have been revoked: it cannot be exchanged."""
    with pytest.raises(RefusedError, match="ended"):
        own(frozenset("a")).bounds(actor("c1", "a"), at())


@pytest.mark.req("RA4")
def test_a_user_keeps_the_name_of_who_named_them() -> None:
    """`sub` is unique at its issuer only, so the token says which one that is (RFC 9493)."""
    _, on_behalf = bounded(user(), Ask(), actor("c1", "a"), at(), CAPS)
    assert on_behalf.claims == {
        "sub": "ada",
        "sub_id": {"format": "iss_sub", "iss": "https://idp.example", "sub": "ada"},
        "act": {"sub": "spiffe://example.org/c1"},
    }
    assert on_behalf.parent == "wli_1"


@pytest.mark.req("RA5")
def test_a_user_says_who_may_act() -> None:
    """A `may_act` of the user's token is somebody's client id or SPIFFE ID: nobody else may act (RFC 8693, 4.4)."""
    who = actor("c1", "a")
    for named in ("c1", who.spiffe_id):
        assert user(may_act=named).bounds(who, at()).on_behalf.actors == (who.spiffe_id,)
    with pytest.raises(RefusedError, match="may_act"):
        user(may_act="c2").bounds(who, at())


@pytest.mark.parametrize("change", [{"issuer_id": "wli_2"}, {"expires_at": int(NOW)}], ids=str)
def test_a_user_is_believed_while_the_issuer_is_trusted(change: dict[str, Any]) -> None:
    """Once the issuer is disabled or gone, or the user's token has ended, it gives nothing."""
    with pytest.raises(RefusedError, match="ended"):
        user(**change).bounds(actor("c1", "a"), at())


def test_a_user_whose_issuer_has_changed_since_is_verified_again() -> None:
    """What was verified by what the issuer was gives nothing, and is no refusal either."""
    with pytest.raises(VerificationUnavailableError):
        user(revision=0).bounds(actor("c1", "a"), at())


def test_what_cannot_be_verified_now_is_no_refusal() -> None:
    """The keys of the user's provider cannot be had: the client is told to try again, and nothing is decided."""
    with pytest.raises(VerificationUnavailableError, match="the keys"):
        UnverifiedSubject("the keys cannot be had").bounds(actor("c1", "a"), at())


def test_a_bad_subject_is_refused_in_its_own_words() -> None:
    """Why a subject token is not good is said to the client that has shown who it is."""
    with pytest.raises(RefusedError, match="it has expired"):
        BadSubject("it has expired").bounds(actor("c1", "a"), at())
