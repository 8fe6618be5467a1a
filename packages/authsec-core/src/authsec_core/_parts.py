"""From settings to the parts that both clients are made of: identity, source, policy, HTTP options.

It opens no socket and starts no thread. What is done with the parts is said in `client`.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from authsec_core._clock import Clock
from authsec_core._exchange import ExchangeRules
from authsec_core._http import Call, Failure, Reply
from authsec_core._options import Options
from authsec_core._origin import is_loopback, origin_of
from authsec_core._proof import AgentKey, NoProof, Proof, WorkloadTokenFile
from authsec_core.auth import DelegationAuth
from authsec_core.cache import TokenCache
from authsec_core.config import AuthSecConfig
from authsec_core.endpoints import EndpointGrant, EndpointPolicy
from authsec_core.errors import ConfigurationError
from authsec_core.fetch import FetchResult, read_answer
from authsec_core.source import AsyncTokenSource, Identity, TokenRequest, TokenSource
from authsec_core.token import MOCK_ISSUER, DelegationToken, Mode, Secret

if TYPE_CHECKING:
    from authsec_core.mock import MockAuthority, MockSource

__all__ = ["AsyncUsed", "Parts", "Used", "identity_of"]

_log = logging.getLogger("authsec")


class Parts:
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
        api = self.config.api_base_url
        # Whether `fetch` answers with sample data: in MOCK mode, unless the API itself is on this machine.
        self.offline = self.mode == "mock" and (api is None or not is_loopback(origin_of(api).host))
        # Worked out when they are first needed. No `cached_property`: until 3.11 it has a lock that no child can renew.
        self._policy: EndpointPolicy | None = None
        self._origins: list[str] | None = None
        self.mock = _mock_authority(self.config, mock, clock)
        self.identity = identity_of(self.config)
        self.rules = ExchangeRules(timeout=self.config.timeout, retries=self.config.retries, issuer=self.config.issuer)
        self._shares_cache = token_cache is not None
        self.cache = token_cache or TokenCache(
            refresh_margin=self.config.refresh_margin, failure_cooldown=self.config.failure_cooldown, clock=clock
        )
        self.options = Options(self.config, product)
        if self.mode == "mock" and self.config.mode == "auto":
            _log.warning(
                "MOCK mode: AUTHSEC_BASE_URL and AUTHSEC_AGENT_CLIENT_ID are unset; tokens and data are samples"
            )

    @property
    def policy(self) -> EndpointPolicy:
        if self.offline and self.config.allowed_endpoints is None and self.config.endpoint_scopes is None:
            return self.mock.policy()
        if self._policy is None:
            self._policy = self.config.policy(MOCK_ISSUER if self.offline else self._api_base_url())
        return self._policy

    def mock_source(self) -> MockSource:
        from authsec_core.mock import MockSource

        return MockSource(self.mock, client_id=self.identity.client_id, audience=self.identity.audience)

    def forget_tokens(self) -> None:
        """Drop what is held, so that an `auth` handed out earlier ends with its client; a shared cache stays."""
        if not self._shares_cache:
            self.cache.clear()

    def auth(
        self, source: TokenSource | AsyncTokenSource, request: TokenRequest, origins: Iterable[str] | None = None
    ) -> DelegationAuth:
        return DelegationAuth(
            source,
            request,
            origins=self._api_origins() if origins is None else origins,
            loopback_only=self.mode == "mock",
            allow_http=self.config.allow_http,
        )

    def call(self, grant: EndpointGrant) -> Call:
        deadline = self.clock.steady() + self.config.timeout
        return Call(url=grant.url, deadline=deadline, limit=self.config.max_response_bytes)

    def answer(self, answer: Reply | Failure, used: Used | AsyncUsed) -> FetchResult:
        return read_answer(answer, used.last, limit=self.config.max_response_bytes, refused=used.refused)

    def sample(self, grant: EndpointGrant, token: DelegationToken) -> FetchResult:
        data = self.mock.answer(grant.path, token)
        return FetchResult(status="success", mode="mock", code=200, data=data, token=token)

    def describe(self, name: str) -> str:
        return f"{name}(mode={self.mode!r}, base_url={self.config.base_url!r}, client_id={self.config.client_id!r})"

    def _api_origins(self) -> list[str]:
        if self._origins is None:
            self._origins = [str(origin_of(self._api_base_url()))]
        return self._origins

    def _api_base_url(self) -> str:
        url = self.config.api_base_url
        if url is None:
            raise ConfigurationError(
                "AUTHSEC_API_BASE_URL is missing: set it to the address of the protected API (never the authority's)"
            )
        return url


def _mock_authority(config: AuthSecConfig, given: MockAuthority | None, clock: Clock) -> MockAuthority:
    if given is not None and config.resolved_mode == "live":
        raise ConfigurationError("mock= was given, but the settings mean LIVE mode: set AUTHSEC_MODE=mock, or drop it")
    if given is not None and config.mock_permissions is not None:
        raise ConfigurationError("AUTHSEC_MOCK_PERMISSIONS and mock= are both given: tell MockAuthority instead")
    from authsec_core.mock import MockAuthority  # here, as below: not before there is a client

    return given or MockAuthority(config.mock_permissions, clock=clock)


def identity_of(config: AuthSecConfig) -> Identity:
    """Return which agent the settings mean, and how it proves that."""
    if config.resolved_mode == "mock":
        from authsec_core.mock import MOCK_CLIENT_ID

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
        issuer=config.issuer,
    )


class Used:
    """A source for one request: the token that is already there, and a new one only once that was refused."""

    def __init__(self, source: TokenSource, token: DelegationToken) -> None:
        self._source, self.last = source, token
        self.refused: DelegationToken | None = None  # what the API has seen before `last`

    def token(self, request: TokenRequest, *, force: bool = False) -> DelegationToken:
        if self.last is self.refused:
            self.last = self._source.token(request)
        return self.last

    def forget(self, token: DelegationToken) -> None:
        self._source.forget(token)
        self.refused = token


class AsyncUsed:
    """What `Used` is, for coroutines."""

    def __init__(self, source: AsyncTokenSource, token: DelegationToken) -> None:
        self._source, self.last = source, token
        self.refused: DelegationToken | None = None  # what the API has seen before `last`

    async def atoken(self, request: TokenRequest, *, force: bool = False) -> DelegationToken:
        if self.last is self.refused:
            self.last = await self._source.atoken(request)
        return self.last

    def forget(self, token: DelegationToken) -> None:
        self._source.forget(token)
        self.refused = token
