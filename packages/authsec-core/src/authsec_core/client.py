"""The two clients: one for threads, one for coroutines. They decide nothing; both are put together from the same parts.

`_Parts` turns settings into those parts; the clients differ in what they await.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from types import TracebackType
from typing import Any, NoReturn

import httpx

from authsec_core._clock import SYSTEM_CLOCK, Clock
from authsec_core._exchange import ExchangeRules
from authsec_core._freshness import Lease
from authsec_core._http import Call, ClientOptions, Failure, Reply, client_options, send, send_async
from authsec_core._origin import is_loopback, origin_of
from authsec_core._pool import AsyncPool, Pool
from authsec_core._proof import AgentKey, NoProof, Proof, WorkloadTokenFile
from authsec_core._version import __version__
from authsec_core.auth import DelegationAuth
from authsec_core.cache import TokenCache
from authsec_core.config import AuthSecConfig
from authsec_core.endpoints import EndpointGrant, EndpointPolicy
from authsec_core.errors import ConfigurationError
from authsec_core.fetch import FetchResult, read_answer
from authsec_core.mock import MOCK_CLIENT_ID, MockAuthority, MockSource
from authsec_core.source import (
    AsyncCachingSource,
    AsyncLiveSource,
    AsyncTokenSource,
    CachingSource,
    Identity,
    LiveSource,
    TokenRequest,
    TokenSource,
)
from authsec_core.token import MOCK_ISSUER, DelegationToken, Mode, Secret

__all__ = ["AsyncAuthSecClient", "AuthSecClient"]

_log = logging.getLogger("authsec")
_AT_HAND = 256  # scopes whose lease a client keeps at hand


class _Parts:
    """What both clients are made of. Opens no socket and starts no thread."""

    def __init__(
        self,
        config: AuthSecConfig | None,
        given: dict[str, Any],
        *,
        mock: MockAuthority | None,
        token_cache: TokenCache | None,
        product: str | None,
        clock: Clock,
    ) -> None:
        given = {name: value for name, value in given.items() if value is not None}
        if config is not None and given:
            raise TypeError(f"give a config or {', '.join(given)}, not both")
        self.config = config or AuthSecConfig(**given)
        self.mode: Mode = self.config.resolved_mode
        self.clock = clock
        self.mock = _mock_authority(self.config, mock, clock)
        self.identity = _identity(self.config)
        self.rules = ExchangeRules(timeout=self.config.timeout, retries=self.config.retries, issuer=self.config.issuer)
        self.cache = token_cache or TokenCache(
            refresh_margin=self.config.refresh_margin, failure_cooldown=self.config.failure_cooldown, clock=clock
        )
        self.options = _Options(self.config, f"authsec-core/{__version__}" + (f" ({product})" if product else ""))
        if self.mode == "mock" and self.config.mode == "auto":
            _log.warning(
                "MOCK mode: AUTHSEC_BASE_URL and AUTHSEC_AGENT_CLIENT_ID are unset; tokens and data are samples"
            )

    @property
    def offline(self) -> bool:
        """Whether `fetch` answers with sample data: in MOCK mode, unless the API itself is on this machine."""
        api = self.config.api_base_url
        return self.mode == "mock" and (api is None or not is_loopback(origin_of(api).host))

    @property
    def policy(self) -> EndpointPolicy:
        if self.offline and self.config.allowed_endpoints is None and self.config.endpoint_scopes is None:
            return self.mock.policy()
        return self.config.policy(MOCK_ISSUER if self.offline else self._api_base_url())

    def auth(
        self, source: TokenSource | AsyncTokenSource, request: TokenRequest, origins: Iterable[str] | None = None
    ) -> DelegationAuth:
        return DelegationAuth(
            source,
            request,
            origins=[self._api_base_url()] if origins is None else origins,
            loopback_only=self.mode == "mock",
            allow_http=self.config.allow_http,
        )

    def call(self, grant: EndpointGrant) -> Call:
        deadline = self.clock.steady() + self.config.timeout
        return Call(url=grant.url, deadline=deadline, limit=self.config.max_response_bytes)

    def answer(self, answer: Reply | Failure, token: DelegationToken) -> FetchResult:
        return read_answer(answer, token, limit=self.config.max_response_bytes)

    def sample(self, grant: EndpointGrant, token: DelegationToken) -> FetchResult:
        data = self.mock.answer(grant.path, token)
        return FetchResult(status="success", mode="mock", code=200, data=data, token=token)

    def describe(self, name: str) -> str:
        return f"{name}(mode={self.mode!r}, base_url={self.config.base_url!r}, client_id={self.config.client_id!r})"

    def _api_base_url(self) -> str:
        url = self.config.api_base_url
        if url is None:
            raise ConfigurationError(
                "AUTHSEC_API_BASE_URL is missing: set it to the address of the protected API (never the authority's)"
            )
        return url


class _Options:
    """The httpx options, made once, so that all loops share one TLS context (it takes some 20 ms to make)."""

    def __init__(self, config: AuthSecConfig, user_agent: str) -> None:
        self._config, self._user_agent = config, user_agent
        self._made: ClientOptions | None = None
        if config.ca_file is not None:
            self()  # a bad CA file is found at start

    def __call__(self) -> ClientOptions:
        config = self._config
        if self._made is None:
            try:
                self._made = client_options(
                    user_agent=self._user_agent,
                    timeout=config.timeout,
                    connect_timeout=config.connect_timeout,
                    ca_file=config.ca_file,
                    trust_env=config.trust_env,
                )
            except OSError as exc:
                raise ConfigurationError(
                    f"AUTHSEC_CA_FILE: {config.ca_file} is not a PEM file of certificates"
                ) from exc
        return self._made


def _mock_authority(config: AuthSecConfig, given: MockAuthority | None, clock: Clock) -> MockAuthority:
    if given is not None and config.resolved_mode == "live":
        raise ConfigurationError("mock= was given, but the settings mean LIVE mode: set AUTHSEC_MODE=mock, or drop it")
    return given or MockAuthority(config.mock_permissions, clock=clock)


def _identity(config: AuthSecConfig) -> Identity:
    if config.resolved_mode == "mock":
        client_id = config.client_id or MOCK_CLIENT_ID
        return Identity(base_url=MOCK_ISSUER, client_id=client_id, proof=NoProof(), audience=config.audience)
    proof: Proof = NoProof()
    if config.agent_key is not None:
        proof = AgentKey(Secret(config.agent_key.get_secret_value()))
    elif config.workload_token_file is not None:
        proof = WorkloadTokenFile(config.workload_token_file)
    # LIVE means that both are set: AuthSecConfig has checked it.
    return Identity(
        base_url=str(config.base_url).rstrip("/"),
        client_id=str(config.client_id),
        proof=proof,
        audience=config.audience,
    )


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
        given = {"base_url": base_url, "client_id": client_id, "agent_key": agent_key, "api_base_url": api_base_url}
        self._parts = parts = _Parts(config, given, mock=mock, token_cache=token_cache, product=product, clock=clock)
        self._pool = Pool(parts.options, transport)
        self._direct: TokenSource = (
            MockSource(parts.mock, client_id=parts.identity.client_id, audience=parts.identity.audience)
            if parts.mode == "mock"
            else LiveSource(parts.identity, parts.rules, self._pool, clock)
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
            lease = self._at_hand.get(scope)
            if lease is not None and self._steady() < lease.fresh_until:
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
        grant = parts.policy.grant(endpoint, scope)
        request = TokenRequest.of(None, ttl).narrowed(grant.scopes)
        token = source.token(request)
        if parts.offline:
            return parts.sample(grant, token)
        used = _Used(source, token)
        answer = send(self._pool.client(), parts.call(grant), parts.clock, auth=parts.auth(used, request))
        return parts.answer(answer, used.last)

    def close(self) -> None:
        """Close the connections and forget the tokens at hand. May be called twice."""
        self._at_hand.clear()
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
        return self._parts.describe("AuthSecClient")

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
        given = {"base_url": base_url, "client_id": client_id, "agent_key": agent_key, "api_base_url": api_base_url}
        self._parts = parts = _Parts(config, given, mock=mock, token_cache=token_cache, product=product, clock=clock)
        self._pool = AsyncPool(parts.options, transport)
        self._direct: AsyncTokenSource = (
            MockSource(parts.mock, client_id=parts.identity.client_id, audience=parts.identity.audience)
            if parts.mode == "mock"
            else AsyncLiveSource(parts.identity, parts.rules, self._pool, clock)
        )
        self._caching = AsyncCachingSource(self._direct, parts.identity, parts.cache)
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
            lease = self._at_hand.get(scope)
            if lease is not None and self._steady() < lease.fresh_until:
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
        grant = parts.policy.grant(endpoint, scope)
        request = TokenRequest.of(None, ttl).narrowed(grant.scopes)
        token = await source.atoken(request)
        if parts.offline:
            return parts.sample(grant, token)
        used = _AsyncUsed(source, token)
        http = await self._pool.client()
        answer = await send_async(http, parts.call(grant), parts.clock, auth=parts.auth(used, request))
        return parts.answer(answer, used.last)

    async def aclose(self) -> None:
        """Close the connections and forget the tokens at hand. May be called twice."""
        self._at_hand.clear()
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
        return self._parts.describe("AsyncAuthSecClient")

    def __reduce__(self) -> NoReturn:
        raise TypeError("AsyncAuthSecClient holds credentials and is not pickled: make one in the other process")

    def __deepcopy__(self, memo: object) -> AsyncAuthSecClient:
        return self


class _Used:
    """A source for one request: the token that is already there, and a new one only once that was refused."""

    def __init__(self, source: TokenSource, token: DelegationToken) -> None:
        self._source, self.last, self._refused = source, token, False

    def token(self, request: TokenRequest, *, force: bool = False) -> DelegationToken:
        if self._refused:
            self.last, self._refused = self._source.token(request), False
        return self.last

    def forget(self, token: DelegationToken) -> None:
        self._source.forget(token)
        self._refused = True


class _AsyncUsed:
    """What `_Used` is, for coroutines."""

    def __init__(self, source: AsyncTokenSource, token: DelegationToken) -> None:
        self._source, self.last, self._refused = source, token, False

    async def atoken(self, request: TokenRequest, *, force: bool = False) -> DelegationToken:
        if self._refused:
            self.last, self._refused = await self._source.atoken(request), False
        return self.last

    def forget(self, token: DelegationToken) -> None:
        self._source.forget(token)
        self._refused = True


def _keep_at_hand(at_hand: dict[str | None, Lease], scope: str | None, lease: Lease) -> None:
    if len(at_hand) >= _AT_HAND:
        at_hand.clear()
    at_hand[scope] = lease
