"""What every `TokenCache` promises to the sources and clients that share it, as a class of tests to inherit.

It is asked through the two caching sources, and step by step only where nothing else would show the difference.
"""

from __future__ import annotations

import asyncio
import itertools
import pickle
from typing import Any

import pytest

from authsec_core._freshness import Lease
from authsec_core._proof import NoProof
from authsec_core.cache import CacheKey, Join, Lead, TokenCache
from authsec_core.errors import AuthorityUnreachableError, AuthSecError, DelegationRefusedError
from authsec_core.source import AsyncCachingSource, CachingSource, Identity, TokenRequest
from authsec_core.testing._canary import assert_no_secret
from authsec_core.testing._clock import FakeClock
from authsec_core.token import DelegationToken, Secret

__all__ = ["TokenCacheContract"]

_IDENTITY = Identity(base_url="https://authority.invalid", client_id="agent", proof=NoProof())
_READ = TokenRequest.of("read")
_KEY = _IDENTITY.key(_READ)
_LIFETIME = 100.0  # seconds; STALE from 75 on, with any margin of 25 or more
_STALE, _ENDED = 80.0, 101.0
_LONG_AFTER = 60.0  # seconds: longer than any failure is heeded


class TokenCacheContract:
    """The tests of every `TokenCache`, for caches that inherit from it. Give yours in a fixture `cache`.

    It must go by the fixture `clock`, have a `refresh_margin` of at least 25 seconds and a `failure_cooldown` of more
    than none; the defaults will do.
    """

    @pytest.fixture
    def clock(self) -> FakeClock:
        """The clock that the cache is to go by."""
        return FakeClock()

    @pytest.fixture
    def cache(self, clock: FakeClock) -> TokenCache:
        """The cache to be tested, anew for each test: to be overridden."""
        raise NotImplementedError("define a fixture `cache` in the class that inherits the contract")

    @pytest.fixture
    def origin(self, clock: FakeClock) -> _Origin:
        """Where the tokens come from that the cache is to hold."""
        return _Origin(clock)

    def test_a_held_token_is_for_everyone(self, cache: TokenCache, origin: _Origin) -> None:
        """Threads and coroutines, whichever source they ask, share a token while it is FRESH."""
        token = _ask(cache, origin)
        assert _ask(cache, origin) is token, "a FRESH token was asked for again"
        source = AsyncCachingSource(origin, _IDENTITY, cache)
        assert asyncio.run(source.atoken(_READ)) is token, "a coroutine did not get the token that is held"
        assert origin.asked == 1, "a FRESH token was asked for again"

    @pytest.mark.parametrize("what", CacheKey._fields)
    def test_requests_that_differ_never_share(self, cache: TokenCache, clock: FakeClock, what: str) -> None:
        """Issuer, client, subject, audience, scopes and ttl: each alone keeps two tokens apart."""
        changed: Any = {"scopes": ("write",), "ttl": 60.0}.get(what, "another")
        other = _KEY._replace(**{what: changed})
        lease = _store(cache, clock, _KEY)
        turn = cache.enter(other)
        assert isinstance(turn, Lead), f"two requests that differ in {what} share"
        cache.store(turn, _token(clock, "jti-other"))
        assert _held(cache, _KEY).token is lease.token, f"two requests that differ in {what} share"
        assert _held(cache, other).token is not lease.token, f"two requests that differ in {what} share"

    def test_a_stale_token_is_renewed_and_an_ended_one_is_not_used(
        self, cache: TokenCache, clock: FakeClock, origin: _Origin
    ) -> None:
        """It is asked for before the old one ends, and again at each end."""
        tokens = [_ask(cache, origin)]
        for seconds in (_STALE, _ENDED):
            clock.advance(seconds)
            tokens.append(_ask(cache, origin))
        assert len({token.jti for token in tokens}) == 3, "a token was used for too long"

    def test_an_outage_does_not_end_a_token(self, cache: TokenCache, clock: FakeClock, origin: _Origin) -> None:
        """A renewal that fails is swallowed while the old token lives, and not after."""
        token = _ask(cache, origin)
        clock.advance(_STALE)
        origin.error = AuthorityUnreachableError("down")
        assert _ask(cache, origin) is token, "a failed renewal took away a token that was still good"
        clock.advance(_ENDED - _STALE)
        _must_fail(cache, origin)

    def test_a_refusal_ends_a_token(self, cache: TokenCache, clock: FakeClock, origin: _Origin) -> None:
        """What the authority has taken back is not handed out for the rest of its life."""
        _ask(cache, origin)
        clock.advance(_STALE)
        origin.error = DelegationRefusedError("no", reason="delegation_ended", status=410)
        _must_fail(cache, origin)

    def test_a_failure_is_reported_again_without_asking(
        self, cache: TokenCache, clock: FakeClock, origin: _Origin
    ) -> None:
        """Each caller gets an error of its own; after the cool-down the next one asks."""
        origin.error = AuthorityUnreachableError("down")
        errors = [_must_fail(cache, origin) for _ in range(3)]
        assert origin.asked == 1, "a failure was asked for again at once"
        assert len({id(error) for error in errors}) == 3, "callers share one exception, and with it its traceback"
        assert len({str(error) for error in errors}) == 1, "the error that is reported again says something else"
        origin.error = None
        clock.advance(_LONG_AFTER)
        assert _ask(cache, origin).jti == "jti-2", "a failure was heeded for too long"

    def test_who_insists_gets_a_new_token(self, cache: TokenCache, origin: _Origin) -> None:
        """With `force` neither a held token nor a failure keeps a caller from asking; the others get what it got."""
        _ask(cache, origin)
        assert _ask(cache, origin, force=True).jti == "jti-2", "force=True returned a token that was held"
        assert _ask(cache, origin).jti == "jti-2", "the token that was insisted on is not the one that is held"

    def test_one_asks_and_the_others_wait(self, cache: TokenCache, clock: FakeClock) -> None:
        """There is one leader for a request; who comes meanwhile waits for its flight and gets its token."""
        lead, turn = cache.enter(_KEY), cache.enter(_KEY)
        assert isinstance(lead, Lead), "the first caller was not told to ask"
        assert isinstance(turn, Join), "two callers were told to ask"
        lease = cache.store(lead, _token(clock, "jti-1"))
        assert turn.flight.wait(0) is lease, "who waited did not get the token"
        assert _held(cache, _KEY) is lease, "the token is not held"

    def test_a_leader_that_breaks_makes_room(self, cache: TokenCache) -> None:
        """Cancelled or given up, it neither blocks the next caller nor counts as an answer."""
        first = cache.enter(_KEY)
        assert isinstance(first, Lead)
        cache.abandon(first)
        second = cache.enter(_KEY)
        assert isinstance(second, Lead), "nobody may ask after a leader was cancelled"
        cache.lose(_KEY, second.flight)
        assert isinstance(cache.enter(_KEY), Lead), "nobody may ask after a leader was given up"

    def test_only_the_very_token_is_forgotten(self, cache: TokenCache, origin: _Origin) -> None:
        """Of two equal tokens the newer one stays, until it is forgotten itself."""
        origin.numbers = itertools.repeat(1)
        old, new = _ask(cache, origin), _ask(cache, origin, force=True)
        cache.forget(old)
        assert _ask(cache, origin) is new, "forgetting an old token dropped a newer one"
        cache.forget(new)
        assert _ask(cache, origin) is not new, "a token came back after forget()"

    def test_clearing_drops_every_token(self, cache: TokenCache, clock: FakeClock) -> None:
        """Who holds the lease sees it end, too."""
        other = _KEY._replace(client="another")
        leases = [_store(cache, clock, key) for key in (_KEY, other)]
        cache.clear()
        assert all(isinstance(cache.enter(key), Lead) for key in (_KEY, other)), "a token is held after clear()"
        assert all(lease.ends_at <= clock.steady() for lease in leases), "a lease goes on after clear()"

    def test_tokens_do_not_leave_it(self, cache: TokenCache, clock: FakeClock) -> None:
        """It shows none, and it is not pickled."""
        token = _store(cache, clock, _KEY).token
        assert_no_secret([repr(cache), str(cache)], token.value)
        with pytest.raises(TypeError):
            pickle.dumps(cache)


class _Origin:
    """A source for threads and coroutines that numbers its tokens, or raises what it is told to."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self.numbers: Any = itertools.count(1)
        self.asked: int = 0
        self.error: AuthSecError | None = None

    def token(self, request: TokenRequest, *, force: bool = False) -> DelegationToken:
        """Return the next one, or raise."""
        self.asked += 1
        number = next(self.numbers)
        if self.error is not None:
            raise self.error.again()
        return _token(self._clock, f"jti-{number}")

    async def atoken(self, request: TokenRequest, *, force: bool = False) -> DelegationToken:
        """Return the next one, or raise."""
        return self.token(request)

    def forget(self, token: DelegationToken) -> None:
        """Hold nothing, so there is nothing to forget."""


def _token(clock: FakeClock, jti: str) -> DelegationToken:
    now = clock.wall()
    return DelegationToken(
        secret=Secret(f"secret.of.{jti}"),
        mode="live",
        scopes=frozenset({"read"}),
        issued_at=now,
        expires_at=now + _LIFETIME,
        jti=jti,
        sent_at=clock.steady(),
    )


def _ask(cache: TokenCache, origin: _Origin, *, force: bool = False) -> DelegationToken:
    return CachingSource(origin, _IDENTITY, cache).token(_READ, force=force)


def _must_fail(cache: TokenCache, origin: _Origin) -> AuthSecError:
    with pytest.raises(AuthSecError) as caught:
        _ask(cache, origin)
    return caught.value


def _store(cache: TokenCache, clock: FakeClock, key: CacheKey) -> Lease:
    lead = cache.enter(key)
    assert isinstance(lead, Lead), "an empty cache did not tell a caller to ask"
    return cache.store(lead, _token(clock, "jti-1"))


def _held(cache: TokenCache, key: CacheKey) -> Lease:
    turn = cache.enter(key)
    assert isinstance(turn, Lease), "a token that was stored is not held"
    return turn
