"""The contracts: our own sources and cache keep them, and each of their tests fails for something that does not."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

import pytest

from authsec_core import (
    AsyncAuthSecClient,
    AuthorityUnreachableError,
    AuthSecClient,
    AuthSecConfig,
    DelegationToken,
    MockAuthority,
    TokenCache,
    TokenRequest,
)
from authsec_core.cache import CacheKey, Lead
from authsec_core.mock import MockSource
from authsec_core.testing import (
    AsyncTokenSourceContract,
    FakeClock,
    LocalAuthority,
    TokenCacheContract,
    TokenSourceContract,
)

GRANTED = "read:metrics read:records"
REFUSED = "write:metrics"
Outage = Callable[[], AbstractContextManager[object]]


@pytest.fixture
def authority(clock: FakeClock) -> Iterator[LocalAuthority]:
    """A running authority that goes by the fake clock."""
    with LocalAuthority(clock=clock) as running:
        yield running


@pytest.fixture
def config(authority: LocalAuthority) -> AuthSecConfig:
    """The settings of an agent of that authority, without a pause after a failure."""
    agent = authority.register(GRANTED)
    return AuthSecConfig(base_url=authority.base_url, client_id=agent.client_id, retries=0, failure_cooldown=0)


class Live:
    """What the sources have in common that ask the authority."""

    refused: ClassVar[str | None] = REFUSED

    @pytest.fixture
    def clock(self) -> FakeClock:
        """The clock of authority and client."""
        return FakeClock()

    @pytest.fixture
    def outage(self, authority: LocalAuthority) -> Outage:
        """The authority drops every connection for a while."""

        @contextmanager
        def dropped() -> Iterator[None]:
            authority.fail(cut=True)
            yield
            authority.recover()

        return dropped

    @pytest.fixture
    def client(self, config: AuthSecConfig, clock: FakeClock) -> Iterator[AuthSecClient]:
        """A client, which is made of sources."""
        with AuthSecClient(config, clock=clock) as client:
            yield client

    @pytest.fixture
    def async_client(self, config: AuthSecConfig, clock: FakeClock) -> AsyncAuthSecClient:
        """The same for coroutines; its loops close its connections as they end."""
        return AsyncAuthSecClient(config, clock=clock)


@pytest.mark.req("RS10")
class TestLiveSource(Live, TokenSourceContract):
    @pytest.fixture
    def source(self, client: AuthSecClient) -> object:
        """The source that asks each time."""
        return client._direct


@pytest.mark.req("RS10")
class TestAsyncLiveSource(Live, AsyncTokenSourceContract):
    @pytest.fixture
    def source(self, async_client: AsyncAuthSecClient) -> object:
        """The source that asks each time."""
        return async_client._direct


@pytest.mark.req("RS5")
class TestCachingSource(Live, TokenSourceContract):
    @pytest.fixture
    def source(self, client: AuthSecClient) -> object:
        """The source that asks when it has to."""
        return client._caching


@pytest.mark.req("RS5")
class TestAsyncCachingSource(Live, AsyncTokenSourceContract):
    @pytest.fixture
    def source(self, async_client: AsyncAuthSecClient) -> object:
        """The source that asks when it has to."""
        return async_client._caching


class TestMockSource(TokenSourceContract):
    refused = REFUSED

    @pytest.fixture
    def clock(self) -> FakeClock:
        """The clock of the mint."""
        return FakeClock()

    @pytest.fixture
    def source(self, clock: FakeClock) -> object:
        """The source that mints."""
        return MockSource(MockAuthority(GRANTED, clock=clock), client_id=None, audience=None)


class TestMockSourceForCoroutines(AsyncTokenSourceContract):
    refused = REFUSED

    @pytest.fixture
    def clock(self) -> FakeClock:
        """The clock of the mint."""
        return FakeClock()

    @pytest.fixture
    def source(self, clock: FakeClock) -> object:
        """The source that mints."""
        return MockSource(MockAuthority(GRANTED, clock=clock), client_id=None, audience=None)


@pytest.mark.req("RS4", "RS6")
class TestTokenCache(TokenCacheContract):
    @pytest.fixture
    def cache(self, clock: FakeClock) -> TokenCache:
        """A cache as every client has one."""
        return TokenCache(clock=clock)


# Sources that break their promise


class Good:
    """A source that keeps it, for those below to spoil."""

    def __init__(self, clock: FakeClock) -> None:
        self.mock = MockAuthority(GRANTED, clock=clock)
        self.held: DelegationToken | None = None

    def token(self, request: TokenRequest, *, force: bool = False) -> DelegationToken:
        return self.mock.mint(request.scopes)

    async def atoken(self, request: TokenRequest, *, force: bool = False) -> DelegationToken:
        return self.token(request, force=force)

    def forget(self, token: DelegationToken) -> None: ...


class Narrow(Good):
    """Grants less than was asked for."""

    def token(self, request: TokenRequest, *, force: bool = False) -> DelegationToken:
        return self.mock.mint(frozenset({"read:metrics"}))


class Broad(Good):
    """Grants more, and does not say so."""

    def token(self, request: TokenRequest, *, force: bool = False) -> DelegationToken:
        return self.mock.mint(None)


class Timeless(Good):
    """Does not say when it asked."""

    def token(self, request: TokenRequest, *, force: bool = False) -> DelegationToken:
        return replace(super().token(request), sent_at=0.0, expires_at=1.0)


class Stubborn(Good):
    """Keeps its one token whatever it is told."""

    def token(self, request: TokenRequest, *, force: bool = False) -> DelegationToken:
        self.held = self.held or super().token(request)
        return self.held


class Open(Stubborn):
    """Shows what it holds."""

    def __repr__(self) -> str:
        return f"Open({self.held and self.held.value})"


class Raw(Good):
    """Lets errors out as they come."""

    down = False

    def token(self, request: TokenRequest, *, force: bool = False) -> DelegationToken:
        if self.down:
            raise ConnectionError
        if REFUSED in (request.scopes or ()):
            raise PermissionError
        return super().token(request)


class Shared(Good):
    """Has its callers share one task, which dies with the first of them."""

    async def atoken(self, request: TokenRequest, *, force: bool = False) -> DelegationToken:
        if not hasattr(self, "task"):
            self.task = asyncio.ensure_future(self._mint(request))
        return await self.task

    async def _mint(self, request: TokenRequest) -> DelegationToken:
        await asyncio.sleep(0)
        return self.token(request)


class Swapped:
    """Has each method in the form of the other kind."""

    def __init__(self, clock: FakeClock) -> None: ...

    async def token(self, request: TokenRequest) -> None: ...

    def atoken(self, request: TokenRequest) -> None: ...

    def forget(self, token: DelegationToken) -> None: ...


SPOILT_SOURCES: dict[str, type[Any]] = {
    "test_a_token_covers_what_was_asked": Narrow,
    "test_no_scope_is_the_whole_delegation": Narrow,
    "test_what_was_not_asked_for_is_told": Broad,
    "test_a_token_is_good_now": Timeless,
    "test_who_insists_gets_a_new_token": Stubborn,
    "test_a_forgotten_token_does_not_come_back": Stubborn,
    "test_callers_at_the_same_time_get_what_each_asked_for": Stubborn,
    "test_a_token_that_has_ended_is_not_handed_out": Stubborn,
    "test_a_refusal_is_a_token_unavailable_error": Raw,
    "test_an_outage_is_a_token_unavailable_error": Raw,
    "test_it_shows_no_token": Open,
    "test_it_is_a_token_source": Swapped,
    "test_it_is_an_async_token_source": Swapped,
    "test_a_caller_who_is_cancelled_disturbs_nobody": Shared,
}


def _tests(contract: type[Any]) -> list[str]:
    return [name for name in dir(contract) if name.startswith("test_")]


def _run(contract: type[Any], name: str, **fixtures: Any) -> None:
    test = getattr(contract(), name)
    test(**{name: fixtures[name] for name in inspect.signature(test).parameters})


@contextmanager
def _down(source: Any) -> Iterator[None]:
    source.down = True
    yield
    source.down = False


class Sync(TokenSourceContract):
    refused = REFUSED


class Async(AsyncTokenSourceContract):
    refused = REFUSED


@pytest.mark.parametrize(("contract", "name"), [(kind, name) for kind in (Sync, Async) for name in _tests(kind)])
def test_each_test_of_a_source_can_fail(contract: type[Any], name: str) -> None:
    """There is a source that breaks the promise, and it is found."""
    clock = FakeClock()
    source = SPOILT_SOURCES[name](clock)
    broken = (AssertionError, pytest.fail.Exception, OSError, asyncio.CancelledError)
    with pytest.raises(broken):
        _run(contract, name, source=source, clock=clock, outage=partial(_down, source))


# Caches that do


class Forgetful(TokenCache):
    """Asks every time."""

    def enter(self, key: CacheKey, *, after: int | None = None) -> Any:
        return super().enter(key, after=self.mark())


class Deaf(TokenCache):
    """Does not hear who insists."""

    def enter(self, key: CacheKey, *, after: int | None = None) -> Any:
        return super().enter(key)


class Crowded(TokenCache):
    """Lets everyone lead."""

    def enter(self, key: CacheKey, *, after: int | None = None) -> Any:
        turn = super().enter(key, after=after)
        if isinstance(turn, Lead):
            self.lose(key, turn.flight)
        return turn


class Harsh(TokenCache):
    """Drops the old token whenever a renewal fails."""

    def fail(self, lead: Lead, error: Any) -> None:
        super().fail(lead, error)


class Lenient(TokenCache):
    """Takes a refusal for an outage."""

    def fail(self, lead: Lead, error: Any) -> Any:
        return super().fail(lead, AuthorityUnreachableError(str(error)))


class Stuck(TokenCache):
    """Waits for ever for a leader that is gone."""

    def abandon(self, lead: Lead) -> None: ...


class Careless(TokenCache):
    """Forgets all when it is to forget one, and none when it is to forget all; and shows what it holds."""

    def forget(self, token: DelegationToken) -> None:
        super().clear()

    def clear(self) -> None: ...

    def __repr__(self) -> str:
        return ", ".join(slot.lease.text for slot in self._slots.values() if slot.lease)


def _blind(what: str) -> Any:
    class Blind(TokenCache):
        def enter(self, key: CacheKey, *, after: int | None = None) -> Any:
            blind: Any = {what: None}
            return super().enter(key._replace(**blind), after=after)

    return Blind


SPOILT_CACHES: dict[str, Callable[..., TokenCache]] = {
    "test_a_held_token_is_for_everyone": Forgetful,
    "test_a_stale_token_is_renewed_and_an_ended_one_is_not_used": partial(TokenCache, refresh_margin=0),
    "test_an_outage_does_not_end_a_token": Harsh,
    "test_a_refusal_ends_a_token": Lenient,
    "test_a_failure_is_reported_again_without_asking": partial(TokenCache, failure_cooldown=0),
    "test_who_insists_gets_a_new_token": Deaf,
    "test_one_asks_and_the_others_wait": Crowded,
    "test_a_leader_that_breaks_makes_room": Stuck,
    "test_only_the_very_token_is_forgotten": Careless,
    "test_clearing_drops_every_token": Careless,
    "test_tokens_do_not_leave_it": Careless,
}


@pytest.mark.parametrize(
    ("name", "what"),
    [(name, "") for name in SPOILT_CACHES]
    + [("test_requests_that_differ_never_share", field) for field in CacheKey._fields],
)
def test_each_test_of_a_cache_can_fail(name: str, what: str, clock: FakeClock) -> None:
    """There is a cache that breaks the promise, and it is found."""
    from authsec_core.testing._cache_contract import _Origin

    cache = _blind(what)(clock=clock) if what else SPOILT_CACHES[name](clock=clock)
    with pytest.raises((AssertionError, pytest.fail.Exception, AuthorityUnreachableError)):
        _run(TokenCacheContract, name, cache=cache, clock=clock, origin=_Origin(clock), what=what)


def test_no_test_of_a_cache_is_left_out() -> None:
    """The table above has one for each."""
    assert {*SPOILT_CACHES, "test_requests_that_differ_never_share"} == set(_tests(TokenCacheContract))
