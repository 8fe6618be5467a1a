"""Who gets a held token, who asks and who waits: the state that callers share, step by step."""

from __future__ import annotations

import copy
import gc
import pickle
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest
from core_support import CLIENT_ID, Driver, ScriptedSource, made_token
from hypothesis import assume, given
from hypothesis import strategies as st

from authsec_core import TokenCache
from authsec_core._flight import ABANDONED
from authsec_core._freshness import Freshness, Lease
from authsec_core._proof import AgentKey, NoProof, Proof, WorkloadTokenFile
from authsec_core.cache import CacheKey, Join, Lead
from authsec_core.errors import (
    AuthorityUnreachableError,
    AuthSecError,
    BadReplyError,
    DelegationRefusedError,
    InsecureTransportError,
    ProofUnavailableError,
    ScopeNotGrantedError,
)
from authsec_core.source import CachingSource, Identity, TokenRequest
from authsec_core.testing import FakeClock
from authsec_core.token import Secret

KEY = CacheKey("https://authority.test", CLIENT_ID, "none", None, ("read",), None)
OUTAGE = AuthorityUnreachableError("down")
REFUSALS = [
    DelegationRefusedError("no", reason="delegation_ended", status=410),
    ScopeNotGrantedError("no", missing=frozenset({"read"})),
]
OUTAGES = [OUTAGE, BadReplyError("no"), InsecureTransportError("no"), ProofUnavailableError("no")]


@pytest.fixture
def cache(clock: FakeClock) -> TokenCache:
    """An empty cache with a margin of 60 seconds and a cool-down of one."""
    return TokenCache(clock=clock)


def _lead(cache: TokenCache, key: CacheKey = KEY, *, force: bool = False) -> Lead:
    turn = cache.enter(key, after=cache.mark() if force else None)
    assert isinstance(turn, Lead)
    return turn


def _held(cache: TokenCache, clock: FakeClock, key: CacheKey = KEY, **token: Any) -> Lease:
    return cache.store(_lead(cache, key), made_token(clock, **token))


# Which requests share a token (RS4)


class _Proof:
    """A proof with any fingerprint."""

    def __init__(self, fingerprint: str) -> None:
        self.fingerprint = fingerprint

    def headers(self) -> dict[str, str]:
        return {}


scope_sets = st.none() | st.frozensets(st.sampled_from(["a", "b", "c", "a:b", "A"]), min_size=1)
ttls = st.none() | st.sampled_from([1.0, 1.5, 60.0, 61.0])
texts = st.sampled_from(["https://a.test", "https://b.test", "https://a.test/", "a", "b", "", "A"])
wishes = st.fixed_dictionaries(
    {
        "issuer": texts,
        "client": texts,
        "subject": texts,
        "audience": st.none() | texts,
        "scopes": scope_sets,
        "ttl": ttls,
    }
)


def _ask(cache: TokenCache, source: ScriptedSource, wish: dict[str, Any], scopes: frozenset[str] | None) -> object:
    identity = Identity(
        base_url=wish["issuer"], client_id=wish["client"], proof=_Proof(wish["subject"]), audience=wish["audience"]
    )
    return CachingSource(source, identity, cache).token(TokenRequest(scopes=scopes, ttl=wish["ttl"]))


@pytest.mark.req("RS4")
@pytest.mark.parametrize("what", CacheKey._fields)
@given(wishes, wishes)
def test_requests_that_differ_in_one_thing_never_share(what: str, one: dict[str, Any], other: dict[str, Any]) -> None:
    """Issuer, client, subject, audience, scopes or ttl: each of them alone keeps two tokens apart."""
    assume(one[what] != other[what])
    clock = FakeClock()
    cache, source = TokenCache(clock=clock), ScriptedSource(lambda: made_token(clock))
    another = {**one, what: other[what]}
    first = _ask(cache, source, one, one["scopes"])
    second = _ask(cache, source, another, another["scopes"])
    assert first is not second
    assert len(source.asked) == 2
    assert _ask(cache, source, one, one["scopes"]) is first
    assert _ask(cache, source, another, another["scopes"]) is second


@pytest.mark.req("RS4")
@given(st.lists(st.sampled_from(["a", "b", "c"]), min_size=1), st.randoms(use_true_random=False), wishes)
def test_spelling_and_order_of_scopes_do_not_matter(names: list[str], chance: Any, wish: dict[str, Any]) -> None:
    """One set of scopes is one request, however it is written."""
    clock = FakeClock()
    cache, source = TokenCache(clock=clock), ScriptedSource(lambda: made_token(clock))
    other = names * 2
    chance.shuffle(other)
    spellings = (" ".join(names), "  ".join(["", *other, ""]))
    first, second = (_ask(cache, source, wish, TokenRequest.of(spelling).scopes) for spelling in spellings)
    assert first is second
    assert len(source.asked) == 1


@pytest.mark.req("RS4")
def test_who_insists_on_an_issuer_shares_with_nobody_who_does_not(clock: FakeClock) -> None:
    """A token that a client accepted from any issuer is not for one that insists on its own."""
    cache, source = TokenCache(clock=clock), ScriptedSource(lambda: made_token(clock))
    tokens = []
    for issuer in (None, "https://authority.test/authsec", "https://other.test"):
        identity = Identity(base_url="https://authority.test", client_id="c", proof=_Proof("none"), issuer=issuer)
        tokens.append(CachingSource(source, identity, cache).token(TokenRequest()))
    assert len(set(map(id, tokens))) == 3


@pytest.mark.req("RS4", "RS8")
def test_proofs_are_told_apart_without_being_shown() -> None:
    """The subject of a key is its proof's fingerprint, and a fingerprint gives nothing away."""
    from pathlib import Path

    proofs: list[Proof] = [
        NoProof(),
        AgentKey(Secret("agent.one")),
        AgentKey(Secret("agent.two")),
        WorkloadTokenFile(Path("/one")),
        WorkloadTokenFile(Path("/two")),
    ]
    fingerprints = {proof.fingerprint for proof in proofs}
    assert len(fingerprints) == len(proofs)
    assert "agent." not in repr(fingerprints) + repr(proofs)


# Steps


@pytest.mark.req("RS6")
def test_a_stale_token_is_renewed_by_one_and_used_by_the_others(cache: TokenCache, clock: FakeClock) -> None:
    """Nobody waits while there is a token that may be used."""
    lease = _held(cache, clock, lifetime=100)
    clock.advance(75)
    lead = _lead(cache)
    assert cache.enter(KEY) is lease
    renewed = cache.store(lead, made_token(clock, jti="jti-2"))
    assert cache.enter(KEY) is renewed
    assert lease.at(clock.steady()) is Freshness.EXPIRED


@pytest.mark.req("RS6")
@pytest.mark.parametrize("error", OUTAGES, ids=lambda error: type(error).__name__)
def test_a_failed_renewal_is_swallowed_while_the_token_lives(
    cache: TokenCache, clock: FakeClock, error: AuthSecError
) -> None:
    """The old token is used until its end, is renewed no more often than the cool-down says, and is not used after."""
    lease = _held(cache, clock, lifetime=100)
    clock.advance(75)
    assert cache.fail(_lead(cache), error) is lease
    assert cache.enter(KEY) is lease  # within the cool-down
    clock.advance(1)
    assert cache.fail(_lead(cache), error) is lease
    clock.advance(23.5)
    assert cache.enter(KEY).__class__ is Lead
    clock.advance(0.5)
    assert lease.at(clock.steady()) is Freshness.EXPIRED


@pytest.mark.req("RS6")
@pytest.mark.parametrize(("before", "used"), [(0.25, True), (0.0, False), (-1.0, False)])
def test_a_renewal_that_fails_at_the_end_leaves_nothing(
    cache: TokenCache, clock: FakeClock, before: float, used: bool
) -> None:
    """What counts is when the failure comes in, not when the renewal began."""
    lease = _held(cache, clock, lifetime=100)
    clock.advance(75)
    lead = _lead(cache)
    clock.advance(25 - before)
    assert cache.fail(lead, OUTAGE) is (lease if used else None)


@pytest.mark.req("RS6")
@pytest.mark.parametrize("error", REFUSALS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("force", [False, True])
def test_a_refusal_ends_the_held_token_at_once(
    cache: TokenCache, clock: FakeClock, error: AuthSecError, force: bool
) -> None:
    """An outage is no answer, a refusal is one: who holds the lease sees it end, too."""
    lease = _held(cache, clock, lifetime=100)
    clock.advance(75)
    assert cache.fail(_lead(cache, force=force), error) is None
    assert lease.at(clock.steady()) is Freshness.EXPIRED
    with pytest.raises(type(error)):
        cache.enter(KEY)


@pytest.mark.req("RS7")
@pytest.mark.parametrize(("asked", "quiet"), [(None, 1.0), (0.5, 1.0), (3.0, 3.0), (3600.0, 30.0)])
def test_a_failure_is_reported_again_without_asking(
    asked: float | None, quiet: float, cache: TokenCache, clock: FakeClock
) -> None:
    """Within the cool-down, which Retry-After stretches to 30 s at most, each caller gets an error of its own."""
    outage = AuthorityUnreachableError("down", retry_after=asked)
    cache.fail(_lead(cache), outage)
    errors = []
    for step in (0, quiet - 0.001):
        clock.advance(step)
        with pytest.raises(AuthorityUnreachableError) as caught:
            cache.enter(KEY)
        errors.append(caught.value)
    assert errors[0] is not errors[1]
    assert outage not in errors
    assert {(error.code, error.retry_after, error.message) for error in errors} == {(outage.code, asked, "down")}
    clock.advance(0.001)
    assert isinstance(cache.enter(KEY), Lead)


def test_a_failure_of_one_request_says_nothing_of_another(cache: TokenCache) -> None:
    """The cool-down is the key's own."""
    cache.fail(_lead(cache), OUTAGE)
    assert isinstance(cache.enter(KEY._replace(scopes=("other",))), Lead)


def test_a_success_ends_the_cool_down(cache: TokenCache, clock: FakeClock) -> None:
    """Nothing of an old failure is left when the token has ended."""
    cache.fail(_lead(cache), OUTAGE)
    cache.store(_lead(cache, force=True), made_token(clock, lifetime=0.5))
    clock.advance(0.6)
    assert isinstance(cache.enter(KEY), Lead)


def test_a_forced_request_passes_token_and_cool_down(cache: TokenCache, clock: FakeClock) -> None:
    """It asks in any case, unless somebody does who began no earlier."""
    lease = _held(cache, clock)
    mark = cache.mark()
    lead = _lead(cache, force=True)
    assert cache.enter(KEY, after=mark) == Join(lead.flight)
    assert cache.enter(KEY) is lease
    assert cache.fail(lead, OUTAGE) is None
    assert isinstance(_lead(cache, force=True), Lead)


@pytest.mark.req("RS5")
def test_a_forced_request_heeds_nothing_that_was_sent_before_it(cache: TokenCache, clock: FakeClock) -> None:
    """It waits out what is in the air, and neither that token nor that failure keeps it from asking."""
    ends: list[Callable[[Lead], object]] = [
        lambda lead: cache.store(lead, made_token(clock)),
        lambda lead: cache.fail(lead, OUTAGE),
    ]
    for end in ends:
        lead = _lead(cache, force=True)
        mark = cache.mark()
        assert cache.enter(KEY, after=mark) == Join(lead.flight, older=True)
        end(lead)
        turn = cache.enter(KEY, after=mark)
        assert isinstance(turn, Lead)
        cache.abandon(turn)


@pytest.mark.req("RS5")
def test_forced_requests_share_what_was_asked_for_after_all_of_them(cache: TokenCache, clock: FakeClock) -> None:
    """Who wakes up late finds the token, or the failure, that another one's request has brought meanwhile."""
    older, mark = _lead(cache), cache.mark()
    cache.store(older, made_token(clock))
    lead = cache.enter(KEY, after=mark)
    assert isinstance(lead, Lead)
    lease = cache.store(lead, made_token(clock, jti="jti-2"))
    assert cache.enter(KEY, after=mark) is lease
    cache.fail(_lead(cache, force=True), OUTAGE)
    assert cache.enter(KEY, after=mark) is lease
    cache.forget(lease.token)
    with pytest.raises(AuthorityUnreachableError):
        cache.enter(KEY, after=mark)


@pytest.mark.req("RS6")
def test_a_forced_request_that_fails_costs_the_others_nothing(cache: TokenCache, clock: FakeClock) -> None:
    """The caller who insisted gets the error; the token is as good as before."""
    lease = _held(cache, clock)
    assert cache.fail(_lead(cache, force=True), OUTAGE) is None
    assert cache.enter(KEY) is lease


def test_who_insists_on_a_new_token_never_gets_the_old_one(cache: TokenCache, clock: FakeClock) -> None:
    """Also not where it met a renewal that failed and whose leader goes on with the old one."""
    lease = _held(cache, clock, lifetime=100)
    clock.advance(75)
    lead = _lead(cache)
    mark = cache.mark()
    assert cache.fail(lead, OUTAGE) is lease
    assert isinstance(lead.flight.wait(0), AuthorityUnreachableError)
    assert isinstance(cache.enter(KEY, after=mark), Lead)


@pytest.mark.req("RS5")
def test_an_abandoned_flight_makes_room_for_another(cache: TokenCache) -> None:
    """A cancelled leader says nothing about the authority: no cool-down, and the next one leads."""
    lead = _lead(cache)
    cache.abandon(lead)
    assert lead.flight.wait(0) == ABANDONED
    assert isinstance(cache.enter(KEY), Lead)


@pytest.mark.req("RS5")
def test_a_leader_may_be_collected_in_the_middle_of_a_step(cache: TokenCache) -> None:
    """The collector can close a forsaken leader on the thread that holds the lock: it abandons, and nothing hangs."""
    lead = _lead(cache)

    def step() -> None:
        with cache._lock:
            before = dict(cache._slots)
            cache.abandon(lead)
            assert cache._slots == before

    thread = threading.Thread(target=step, daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive()
    assert isinstance(cache.enter(KEY), Lead)


@pytest.mark.req("RS5")
def test_a_lost_flight_is_not_waited_for_again(cache: TokenCache, clock: FakeClock) -> None:
    """One of those who gave it up leads, the others join that one; the lost leader may still come in."""
    lost = _lead(cache)
    cache.lose(KEY, lost.flight)
    lead = _lead(cache)
    cache.lose(KEY, lost.flight)
    assert cache.enter(KEY) == Join(lead.flight)
    late = cache.store(lost, made_token(clock, jti="jti-late"))
    assert lost.flight.wait(0) is late
    assert cache.enter(KEY) is late  # `lead` is on its way still
    cache.forget(late.token)
    assert cache.enter(KEY) == Join(lead.flight)
    lease = cache.store(lead, made_token(clock))
    assert cache.enter(KEY) is lease


@pytest.mark.req("RS5")
def test_a_lost_leader_that_comes_late_replaces_nothing(cache: TokenCache, clock: FakeClock) -> None:
    """Its own caller and who still waits for it get its token; the newer one stays, and nobody keeps the late one."""
    lost = _lead(cache)
    cache.lose(KEY, lost.flight)
    lease = _held(cache, clock)
    late = cache.store(lost, made_token(clock, jti="jti-late"))
    assert (late.token.jti, lost.flight.wait(0)) == ("jti-late", late)
    assert cache.enter(KEY) is lease
    assert late.at(clock.steady()) is Freshness.EXPIRED


@pytest.mark.req("RS5")
@pytest.mark.parametrize("error", [*REFUSALS, OUTAGE], ids=lambda error: type(error).__name__)
def test_a_lost_leader_that_fails_late_harms_nobody(cache: TokenCache, clock: FakeClock, error: AuthSecError) -> None:
    """It was asked before the newer token came: that one is used, also by the lost leader's caller."""
    lost = _lead(cache)
    cache.lose(KEY, lost.flight)
    lease = _held(cache, clock)
    assert cache.fail(lost, error) is lease
    assert lost.flight.wait(0) == ABANDONED  # who still waits for it looks again
    assert cache.enter(KEY) is lease
    cache.forget(lease.token)
    assert isinstance(cache.enter(KEY), Lead)  # there is no cool-down


@pytest.mark.req("RS5")
def test_a_lost_leader_does_not_undo_a_refusal(cache: TokenCache, clock: FakeClock) -> None:
    """What the authority has taken back meanwhile is not brought back by an older answer of it."""
    lost = _lead(cache)
    cache.lose(KEY, lost.flight)
    cache.fail(_lead(cache), REFUSALS[0])
    assert cache.store(lost, made_token(clock)).at(clock.steady()) is Freshness.EXPIRED
    with pytest.raises(type(REFUSALS[0])):
        cache.enter(KEY)


def test_only_the_very_token_is_forgotten(cache: TokenCache, clock: FakeClock) -> None:
    """A newer one stays, though it may be equal in all but identity."""
    old = _held(cache, clock)
    new = cache.store(_lead(cache, force=True), made_token(clock))
    assert old.token == new.token
    cache.forget(old.token)
    assert cache.enter(KEY) is new
    cache.forget(new.token)
    assert isinstance(cache.enter(KEY), Lead)
    assert new.at(clock.steady()) is Freshness.EXPIRED


def test_clearing_ends_every_token_and_error(cache: TokenCache, clock: FakeClock) -> None:
    """What is in the air goes on."""
    other = KEY._replace(client="another")
    lease = _held(cache, clock)
    cache.fail(_lead(cache, other), OUTAGE)
    third = _lead(cache, KEY._replace(client="third"))
    cache.clear()
    assert lease.at(clock.steady()) is Freshness.EXPIRED
    assert isinstance(cache.enter(KEY), Lead)
    assert isinstance(cache.enter(other), Lead)
    assert cache.enter(third.key) == Join(third.flight)


# Memory


def test_it_remembers_a_bounded_number_of_requests(cache: TokenCache, clock: FakeClock) -> None:
    """A model that invents scopes does not fill the memory; what is in the air is never dropped."""
    flying = _lead(cache, KEY._replace(client="in the air"))
    for number in range(5000):
        _held(cache, clock, KEY._replace(scopes=(f"invented:{number}",)))
    assert len(cache._slots) <= 1024
    assert cache.enter(flying.key) == Join(flying.flight)


def test_the_dead_go_before_the_living(cache: TokenCache, clock: FakeClock) -> None:
    """Room is made of what has ended or failed, if there is any."""
    lease = _held(cache, clock, lifetime=1000)
    for number in range(1023):
        _held(cache, clock, KEY._replace(scopes=(f"invented:{number}",)), lifetime=1)
    clock.advance(2)
    _held(cache, clock, KEY._replace(scopes=("one more",)))
    assert cache.enter(KEY) is lease
    assert len(cache._slots) == 2


def test_what_is_dropped_for_room_can_still_be_forgotten(cache: TokenCache, clock: FakeClock) -> None:
    """A client may have it at hand: an API's refusal of the token must reach it, so it is withdrawn."""
    lease = _held(cache, clock)
    for number in range(1024):
        _held(cache, clock, KEY._replace(scopes=(f"invented:{number}",)))
    assert KEY not in cache._slots
    assert lease.at(clock.steady()) is Freshness.EXPIRED


class _Precious:
    """Something in a caller's frame."""


@pytest.mark.req("RS8")
def test_a_remembered_error_holds_no_frames(driver: Driver, clock: FakeClock, cache: TokenCache) -> None:
    """What a caller had in its variables when its request failed is not kept until the next success."""

    def fail() -> Any:
        raise AuthorityUnreachableError("down")

    identity = Identity(base_url="https://authority.test", client_id=CLIENT_ID, proof=NoProof())
    source = driver.caching(ScriptedSource(fail), identity, cache)

    def caller() -> weakref.ref[_Precious]:
        precious = _Precious()
        with pytest.raises(AuthorityUnreachableError):
            source.token(TokenRequest())
        return weakref.ref(precious)

    seen = caller()
    gc.collect()
    assert seen() is None


@pytest.mark.req("RS8")
def test_it_cannot_leave_the_process(cache: TokenCache, clock: FakeClock) -> None:
    """A cache holds tokens: it is neither pickled nor copied nor shown."""
    _held(cache, clock)
    for leave in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="not pickled"):
            leave(cache)
    assert "secret.of" not in repr(cache) + repr(vars(cache))
