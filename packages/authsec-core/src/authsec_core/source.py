"""Where tokens come from, as small things that wrap each other: an authority, a mock, and a cache around either.

`TokenSource` is the contract. Nothing here knows what a token is used for.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Generator
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol, TypeAlias, cast, runtime_checkable

import httpx

from authsec_core._clock import Clock
from authsec_core._exchange import ExchangeRules, exchange, exchange_async
from authsec_core._flight import LOST, Flight, Landing
from authsec_core._freshness import Freshness, Lease
from authsec_core._proof import Proof
from authsec_core._telemetry import count_lookup, counts_lookups, observe
from authsec_core.cache import CacheKey, Join, Lead, TokenCache
from authsec_core.errors import AuthorityUnreachableError, AuthSecError
from authsec_core.scopes import parse_scopes
from authsec_core.token import DelegationToken
from authsec_core.wire import DelegationRequest

__all__ = [
    "AsyncCachingSource",
    "AsyncLiveSource",
    "AsyncTokenSource",
    "CachingSource",
    "Identity",
    "LiveSource",
    "TokenRequest",
    "TokenSource",
]

_log = logging.getLogger("authsec.source")


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenRequest:
    """What a caller wants of a token.

    Attributes:
        scopes: The scopes to ask for; None is the whole delegation.
        ttl: The longest life wanted, in seconds; None leaves it to the authority.
    """

    scopes: frozenset[str] | None = None
    ttl: float | None = None

    @classmethod
    def of(cls, scope: str | None = None, ttl: float | None = None) -> TokenRequest:
        """Check what a caller typed.

        Raises:
            ValueError: The scope is blank or not valid, or the ttl is not a positive number of seconds.
        """
        if ttl is not None and not (ttl > 0 and math.isfinite(ttl)):
            raise ValueError("ttl is not a positive number of seconds")
        return cls(scopes=parse_scopes(scope), ttl=ttl)

    def narrowed(self, scopes: frozenset[str] | None) -> TokenRequest:
        """Return the same request for `scopes`, which a policy has already parsed."""
        return TokenRequest(scopes=scopes, ttl=self.ttl)


@runtime_checkable
class TokenSource(Protocol):
    """Something that yields delegation tokens. Thread-safe; the tokens are immutable and may be shared."""

    def token(self, request: TokenRequest, *, force: bool = False) -> DelegationToken:
        """Return a token that is good now and covers `request`.

        Args:
            force: Return none that was held or asked for before this call.

        Raises:
            TokenUnavailableError: None can be had.
        """
        ...

    def forget(self, token: DelegationToken) -> None:
        """Never return this token again: an API has refused it."""
        ...


@runtime_checkable
class AsyncTokenSource(Protocol):
    """What `TokenSource` is, for coroutines. Usable from several event loops."""

    async def atoken(self, request: TokenRequest, *, force: bool = False) -> DelegationToken:
        """Return a token that is good now and covers `request`."""
        ...

    def forget(self, token: DelegationToken) -> None:
        """Never return this token again: an API has refused it."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Who asks, whom, and for which API."""

    base_url: str
    client_id: str
    proof: Proof
    audience: str | None = None
    issuer: str | None = None

    def wire_request(self, request: TokenRequest) -> DelegationRequest:
        """Return the request as it goes to the authority."""
        return DelegationRequest(
            base_url=self.base_url,
            client_id=self.client_id,
            scopes=request.scopes,
            audience=self.audience,
            ttl=request.ttl,
        )

    def key(self, request: TokenRequest) -> CacheKey:
        """Return what tells this request from every other one."""
        scopes = None if request.scopes is None else tuple(sorted(request.scopes))
        # A client that insists on an issuer must not get what one that does not has accepted.
        issuer = self.base_url if self.issuer is None else f"{self.base_url} {self.issuer}"
        return CacheKey(issuer, self.client_id, self.proof.fingerprint, self.audience, scopes, request.ttl)


class _Http(Protocol):
    def client(self) -> httpx.Client: ...


class _AsyncHttp(Protocol):
    async def client(self) -> httpx.AsyncClient: ...


class LiveSource:
    """Asks the authority each time."""

    def __init__(self, identity: Identity, rules: ExchangeRules, http: _Http, clock: Clock) -> None:
        self._identity, self._rules, self._http, self._clock = identity, rules, http, clock

    def token(self, request: TokenRequest, *, force: bool = False) -> DelegationToken:
        """Do one exchange over the network, with its retries."""
        identity, rules, clock = self._identity, self._rules, self._clock
        with observe("exchange", "live", clock) as seen:
            return exchange(identity.wire_request(request), identity.proof, rules, self._http.client(), clock, seen)

    def forget(self, token: DelegationToken) -> None:
        """Hold nothing, so there is nothing to forget."""


class AsyncLiveSource:
    """Asks the authority each time, without blocking the loop."""

    def __init__(self, identity: Identity, rules: ExchangeRules, http: _AsyncHttp, clock: Clock) -> None:
        self._identity, self._rules, self._http, self._clock = identity, rules, http, clock

    async def atoken(self, request: TokenRequest, *, force: bool = False) -> DelegationToken:
        """Do one exchange over the network, with its retries."""
        identity, rules, clock = self._identity, self._rules, self._clock
        with observe("exchange", "live", clock) as seen:
            http = await self._http.client()
            return await exchange_async(identity.wire_request(request), identity.proof, rules, http, clock, seen)

    def forget(self, token: DelegationToken) -> None:
        """Hold nothing, so there is nothing to forget."""


class CachingSource:
    """Hands out held tokens until they go STALE, and asks `source` once for any number of callers.

    A caller waits at most `patience` seconds for another one's request, which is then given up: one of those who wait
    makes another request, and the rest wait for that. Nobody waits for more than twice `patience` in all.
    """

    def __init__(self, source: TokenSource, identity: Identity, cache: TokenCache, *, patience: float = 30.0) -> None:
        self._source, self._identity, self._cache, self._patience = source, identity, cache, patience

    def token(self, request: TokenRequest, *, force: bool = False) -> DelegationToken:
        """Return a held token, or wait for a new one."""
        return self.lease(request, force=force).token

    def lease(self, request: TokenRequest, *, force: bool = False) -> Lease:
        """Return the token with its ends, for callers that keep it at hand."""
        steps = _steps(self._cache, self._identity.key(request), force, self._patience)
        try:
            step = next(steps)
            while True:
                try:
                    outcome = (
                        self._source.token(request)
                        if step is ASK
                        else LOST  # its leader is a task of the loop that this very thread runs: waiting is deadlock
                        if step.flight.leader == threading.get_ident()
                        else step.flight.wait(step.seconds)
                    )
                except BaseException as exc:  # noqa: BLE001 -- handed on: `_steps` decides what it means
                    step = steps.throw(exc)
                else:
                    step = steps.send(outcome)
        except StopIteration as done:
            lease: Lease = done.value
            return lease

    def forget(self, token: DelegationToken) -> None:
        """Drop this very token."""
        self._cache.forget(token)


class AsyncCachingSource:
    """What `CachingSource` is, for coroutines; both kinds may share one `TokenCache`."""

    def __init__(
        self, source: AsyncTokenSource, identity: Identity, cache: TokenCache, *, patience: float = 30.0
    ) -> None:
        self._source, self._identity, self._cache, self._patience = source, identity, cache, patience

    async def atoken(self, request: TokenRequest, *, force: bool = False) -> DelegationToken:
        """Return a held token, or wait for a new one."""
        return (await self.lease(request, force=force)).token

    async def lease(self, request: TokenRequest, *, force: bool = False) -> Lease:
        """Return the token with its ends, for callers that keep it at hand."""
        steps = _steps(self._cache, self._identity.key(request), force, self._patience)
        try:
            step = next(steps)
            while True:
                try:
                    outcome = await (
                        self._source.atoken(request) if step is ASK else step.flight.wait_async(step.seconds)
                    )
                except BaseException as exc:  # noqa: BLE001 -- handed on: a cancelled leader lets a waiter lead
                    step = steps.throw(exc)
                else:
                    step = steps.send(outcome)
        except StopIteration as done:
            lease: Lease = done.value
            return lease

    def forget(self, token: DelegationToken) -> None:
        """Drop this very token."""
        self._cache.forget(token)


ASK: Final = None  # a step: ask the wrapped source


class _Wait(NamedTuple):
    """A step: wait for this flight for at most so many seconds."""

    flight: Flight
    seconds: float


_Steps: TypeAlias = Generator["_Wait | None", "DelegationToken | Landing", Lease]


def _steps(cache: TokenCache, key: CacheKey, force: bool, patience: float) -> _Steps:
    """Say what to do next to get a lease: ask the source (`ASK`), or wait for a flight."""
    after = cache.mark() if force else None  # what was sent before this call may be what the caller wants replaced
    until = cache.now() + 2 * patience
    while True:
        turn = _look_up(cache, key, after)
        if isinstance(turn, Lease):
            return turn
        if isinstance(turn, Lead):
            return (yield from _lead(cache, turn))
        seconds = min(patience, until - cache.now())
        landing = yield _Wait(turn.flight, seconds)
        if landing == LOST:
            if seconds < patience:  # our time is up, which says nothing of the leader
                raise AuthorityUnreachableError("The requests of other callers did not end in time: try again later.")
            cache.lose(key, turn.flight)
        elif isinstance(landing, Lease) and not turn.older:
            return landing
        elif isinstance(landing, AuthSecError) and not turn.older:
            raise landing.again() from landing


def _look_up(cache: TokenCache, key: CacheKey, after: int | None) -> Lease | Lead | Join:
    """Enter the cache, and count what is found. A lead is counted by `_lead`, where an interrupt strands nobody."""
    if not counts_lookups():
        return cache.enter(key, after=after)
    try:
        turn = cache.enter(key, after=after)
    except AuthSecError:
        count_lookup("failed")
        raise
    if isinstance(turn, Lease):
        count_lookup("hit" if turn.at(cache.now()) is Freshness.FRESH else "stale")
    elif isinstance(turn, Join):
        count_lookup("joined")
    return turn


def _lead(cache: TokenCache, lead: Lead) -> _Steps:
    try:
        count_lookup("miss")
        token = yield ASK
    except AuthSecError as error:
        held = cache.fail(lead, error)
        if held is None:
            raise
        _log.warning("%s could not be renewed (%s) and is used until it ends", held.token, error.code)
        return held
    except BaseException:
        cache.abandon(lead)
        raise
    return cache.store(lead, cast("DelegationToken", token))
