"""The two clients: one for threads, one for coroutines. They decide nothing and differ in what they await.

What they are made of is put together in `_parts`.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING, NoReturn

import httpx
from pydantic import SecretStr

from authsec_core._clock import SYSTEM_CLOCK, Clock
from authsec_core._freshness import Lease
from authsec_core._http import send, send_async
from authsec_core._parts import AsyncUsed, Parts, Used
from authsec_core._pool import AsyncPool, Pool
from authsec_core._telemetry import counts_lookups, observe
from authsec_core.auth import DelegationAuth
from authsec_core.cache import TokenCache
from authsec_core.config import AuthSecConfig
from authsec_core.endpoints import EndpointPolicy
from authsec_core.fetch import FetchResult
from authsec_core.source import (
    AsyncCachingSource,
    AsyncLiveSource,
    AsyncTokenSource,
    CachingSource,
    LiveSource,
    TokenRequest,
    TokenSource,
)
from authsec_core.token import DelegationToken, Mode

if TYPE_CHECKING:
    from authsec_core.mock import MockAuthority

__all__ = ["AsyncAuthSecClient", "AuthSecClient"]

_AT_HAND = 256  # scopes whose lease a client keeps at hand


class AuthSecClient:
    """Delegation tokens for one agent, and requests to protected APIs that carry them.

    `AuthSecClient()` reads the environment; `AuthSecClient(base_url=..., client_id=...)` and
    `AuthSecClient(AuthSecConfig(...))` are told. Constructing it opens no connection. It may be shared by threads, and
    a forked child may go on using it.

    Args:
        config: The settings; or give single ones by name, and the environment supplies the rest.
        transport: An httpx transport to send everything through; it stays the caller's to close.
        mock: Where MOCK tokens and sample data come from.
        token_cache: A cache to share with other clients.
        product: Named in the `User-Agent`, as `name/version`.

    Raises:
        ConfigurationError: The settings are missing, wrong or unsafe.
    """

    def __init__(
        self,
        config: AuthSecConfig | None = None,
        *,
        base_url: str | None = None,
        client_id: str | None = None,
        agent_key: str | None = None,
        api_base_url: str | None = None,
        transport: httpx.BaseTransport | None = None,
        mock: MockAuthority | None = None,
        token_cache: TokenCache | None = None,
        product: str | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        key = agent_key and SecretStr(agent_key)
        del agent_key  # an error that is raised below may be reported with this frame's locals
        given = {"base_url": base_url, "client_id": client_id, "agent_key": key, "api_base_url": api_base_url}
        self._parts = parts = Parts(config, given, mock=mock, token_cache=token_cache, product=product, clock=clock)
        self._pool = Pool(parts.options, transport)
        self._direct: TokenSource = (
            parts.mock_source() if parts.mode == "mock" else LiveSource(parts.identity, parts.rules, self._pool, clock)
        )
        self._caching = CachingSource(self._direct, parts.identity, parts.cache, patience=2 * parts.rules.timeout)
        self._at_hand: dict[str | None, Lease] = {}
        self._steady = clock.steady

    @property
    def config(self) -> AuthSecConfig:
        """The settings in force."""
        return self._parts.config

    @property
    def mode(self) -> Mode:
        """`"live"` or `"mock"`; decided at the start and never changed."""
        return self._parts.mode

    @property
    def policy(self) -> EndpointPolicy:
        """Which endpoints `fetch` may reach. In MOCK mode without an allow-list: those with sample data.

        Raises:
            ConfigurationError: LIVE without `AUTHSEC_API_BASE_URL`.
        """
        return self._parts.policy

    def get_delegation_token(
        self, scope: str | None = None, *, force_refresh: bool = False, ttl: float | None = None, cache: bool = True
    ) -> str:
        """Return the delegation token as text, for an `Authorization: Bearer` header. See `delegation_token`."""
        if cache and ttl is None and not force_refresh:
            try:  # the fastest look-up that there is; `get` would be a call
                lease = self._at_hand[scope]
            except KeyError:
                pass
            else:
                if self._steady() < lease.fresh_until:
                    return lease.text
        return self.delegation_token(scope, force_refresh=force_refresh, ttl=ttl, cache=cache).value

    def delegation_token(
        self, scope: str | None = None, *, force_refresh: bool = False, ttl: float | None = None, cache: bool = True
    ) -> DelegationToken:
        """Return a token that is good now; a held one where it is not yet STALE, else one exchange over the network.

        Args:
            scope: The scopes to ask for, separated by spaces; None is the whole delegation.
            force_refresh: Ask the authority even where a good token is held.
            ttl: The longest life wanted, in seconds.
            cache: False asks for a token of its own for this one call.

        Raises:
            TokenUnavailableError: None can be had; see its subclasses for what to do.
            ValueError: The scope is blank or not valid, or the ttl is not positive.
            RuntimeError: The client is closed.
        """
        self._pool.check_open()
        request = TokenRequest.of(scope, ttl)
        if not cache:
            return self._direct.token(request)
        lease = self._caching.lease(request, force=force_refresh)
        if ttl is None:
            _keep_at_hand(self._at_hand, scope, lease)
        return lease.token

    def auth(
        self,
        scope: str | None = None,
        *,
        ttl: float | None = None,
        cache: bool = True,
        origins: Iterable[str] | None = None,
    ) -> DelegationAuth:
        """Return an `httpx.Auth` that carries this agent's token to `origins`; by default the API base URL's.

        Raises:
            ConfigurationError: No `origins`, and `AUTHSEC_API_BASE_URL` is unset.
            ValueError: The scope is blank or not valid, or the ttl is not positive.
        """
        return self._parts.auth(self._source(cache), TokenRequest.of(scope, ttl), origins)

    def fetch(
        self, endpoint: str, scope: str | None = None, *, ttl: float | None = None, cache: bool = True
    ) -> FetchResult:
        """GET `endpoint` from the protected API with a token for `scope`, and return its data.

        The policy is asked first, then the authority, then the API; each may refuse. In MOCK mode the data is sample
        data and the result says so.

        Raises:
            EndpointRefusedError: The policy does not allow the endpoint or the scope; nothing was requested.
            TokenUnavailableError: No token can be had; the API was not called.
            DownstreamError: The API refused, failed or answered with something unusable.
            ConfigurationError: LIVE without `AUTHSEC_API_BASE_URL`.
        """
        self._pool.check_open()
        parts, source = self._parts, self._source(cache)
        with observe("fetch", parts.mode, parts.clock) as seen:
            grant = parts.policy.grant(endpoint, scope)
            seen.asked(grant.scopes)
            request = TokenRequest.of(None, ttl).narrowed(grant.scopes)
            token = source.token(request)
            seen.got(token)
            if parts.offline:
                return parts.sample(grant, token)
            used = Used(source, token)
            seen.calls(grant.url)
            answer = send(self._pool.client(), parts.call(grant), parts.clock, auth=parts.auth(used, request))
            seen.answered(answer)
            seen.got(used.last)
            return parts.answer(answer, used)

    def close(self) -> None:
        """Close the connections and forget the tokens, but for those of a shared cache. May be called twice."""
        self._at_hand.clear()
        self._parts.forget_tokens()
        self._pool.close()

    def _source(self, cache: bool) -> TokenSource:
        return self._caching if cache else self._direct

    def __enter__(self) -> AuthSecClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        # The constructor may have failed, and who reports that prints its frames.
        return self._parts.describe("AuthSecClient") if hasattr(self, "_parts") else "AuthSecClient()"

    def __reduce__(self) -> NoReturn:
        raise TypeError("AuthSecClient holds credentials and is not pickled: make one in the other process")

    def __deepcopy__(self, memo: object) -> AuthSecClient:
        return self


class AsyncAuthSecClient:
    """What `AuthSecClient` is, for coroutines. One instance serves any number of event loops, at once or in turn."""

    def __init__(
        self,
        config: AuthSecConfig | None = None,
        *,
        base_url: str | None = None,
        client_id: str | None = None,
        agent_key: str | None = None,
        api_base_url: str | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
        mock: MockAuthority | None = None,
        token_cache: TokenCache | None = None,
        product: str | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        key = agent_key and SecretStr(agent_key)
        del agent_key  # an error that is raised below may be reported with this frame's locals
        given = {"base_url": base_url, "client_id": client_id, "agent_key": key, "api_base_url": api_base_url}
        self._parts = parts = Parts(config, given, mock=mock, token_cache=token_cache, product=product, clock=clock)
        self._pool = AsyncPool(parts.options, transport)
        self._direct: AsyncTokenSource = (
            parts.mock_source()
            if parts.mode == "mock"
            else AsyncLiveSource(parts.identity, parts.rules, self._pool, clock)
        )
        self._caching = AsyncCachingSource(self._direct, parts.identity, parts.cache, patience=2 * parts.rules.timeout)
        self._at_hand: dict[str | None, Lease] = {}
        self._steady = clock.steady

    @property
    def config(self) -> AuthSecConfig:
        """The settings in force."""
        return self._parts.config

    @property
    def mode(self) -> Mode:
        """`"live"` or `"mock"`; decided at the start and never changed."""
        return self._parts.mode

    @property
    def policy(self) -> EndpointPolicy:
        """Which endpoints `fetch` may reach. See `AuthSecClient.policy`."""
        return self._parts.policy

    async def get_delegation_token(
        self, scope: str | None = None, *, force_refresh: bool = False, ttl: float | None = None, cache: bool = True
    ) -> str:
        """Return the delegation token as text. See `AuthSecClient.get_delegation_token`."""
        if cache and ttl is None and not force_refresh:
            try:  # the fastest look-up that there is; `get` would be a call
                lease = self._at_hand[scope]
            except KeyError:
                pass
            else:
                if self._steady() < lease.fresh_until:
                    return lease.text
        return (await self.delegation_token(scope, force_refresh=force_refresh, ttl=ttl, cache=cache)).value

    async def delegation_token(
        self, scope: str | None = None, *, force_refresh: bool = False, ttl: float | None = None, cache: bool = True
    ) -> DelegationToken:
        """Return a token that is good now. See `AuthSecClient.delegation_token`."""
        self._pool.check_open()
        request = TokenRequest.of(scope, ttl)
        if not cache:
            return await self._direct.atoken(request)
        lease = await self._caching.lease(request, force=force_refresh)
        if ttl is None:
            _keep_at_hand(self._at_hand, scope, lease)
        return lease.token

    def auth(
        self,
        scope: str | None = None,
        *,
        ttl: float | None = None,
        cache: bool = True,
        origins: Iterable[str] | None = None,
    ) -> DelegationAuth:
        """Return an `httpx.Auth` for `httpx.AsyncClient`. See `AuthSecClient.auth`."""
        return self._parts.auth(self._source(cache), TokenRequest.of(scope, ttl), origins)

    async def fetch(
        self, endpoint: str, scope: str | None = None, *, ttl: float | None = None, cache: bool = True
    ) -> FetchResult:
        """GET `endpoint` from the protected API with a token for `scope`. See `AuthSecClient.fetch`."""
        self._pool.check_open()
        parts, source = self._parts, self._source(cache)
        with observe("fetch", parts.mode, parts.clock) as seen:
            grant = parts.policy.grant(endpoint, scope)
            seen.asked(grant.scopes)
            request = TokenRequest.of(None, ttl).narrowed(grant.scopes)
            token = await source.atoken(request)
            seen.got(token)
            if parts.offline:
                return parts.sample(grant, token)
            used = AsyncUsed(source, token)
            seen.calls(grant.url)
            http = await self._pool.client()
            answer = await send_async(http, parts.call(grant), parts.clock, auth=parts.auth(used, request))
            seen.answered(answer)
            seen.got(used.last)
            return parts.answer(answer, used)

    async def release(self) -> None:
        """Close the connections of the running loop; the client and its tokens stay usable, here too.

        For a loop that is about to be closed without `shutdown_asyncgens`, as AutoGen's are: `asyncio.run` needs none.
        """
        await self._pool.release()

    async def aclose(self) -> None:
        """Close the connections and forget the tokens, but for those of a shared cache. May be called twice."""
        self._at_hand.clear()
        self._parts.forget_tokens()
        await self._pool.aclose()

    def _source(self, cache: bool) -> AsyncTokenSource:
        return self._caching if cache else self._direct

    async def __aenter__(self) -> AsyncAuthSecClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __repr__(self) -> str:
        # The constructor may have failed, and who reports that prints its frames.
        return self._parts.describe("AsyncAuthSecClient") if hasattr(self, "_parts") else "AsyncAuthSecClient()"

    def __reduce__(self) -> NoReturn:
        raise TypeError("AsyncAuthSecClient holds credentials and is not pickled: make one in the other process")

    def __deepcopy__(self, memo: object) -> AsyncAuthSecClient:
        return self


def _keep_at_hand(at_hand: dict[str | None, Lease], scope: str | None, lease: Lease) -> None:
    if at_hand.get(scope) is lease or counts_lookups():  # a token at hand is one that is not looked up
        return
    if len(at_hand) >= _AT_HAND:
        at_hand.clear()
    at_hand[scope] = lease
