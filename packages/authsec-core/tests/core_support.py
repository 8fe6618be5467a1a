"""What the tests of the exchange, the caching and the clients share: one driver for both halves, and made-up replies.

It checks nothing itself.
"""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from collections.abc import Callable, Coroutine, Mapping
from functools import cache
from typing import Any, Literal, TypeAlias, TypeVar, cast, overload

import httpx
import pytest

from authsec_core import (
    AgentVault,
    AgentVaultSync,
    AsyncAuthSecClient,
    AuthSecClient,
    AuthSecConfig,
    DelegationToken,
)
from authsec_core._clock import SYSTEM_CLOCK, Clock
from authsec_core._exchange import ExchangeRules, exchange, exchange_async
from authsec_core._flight import Flight, Landing
from authsec_core._http import Call, ClientOptions, Failure, Reply, blocking_client, client_options, send, send_async
from authsec_core._proof import NoProof, Proof
from authsec_core.cache import TokenCache
from authsec_core.mock import MockAuthority
from authsec_core.source import (
    AsyncCachingSource,
    AsyncTokenSource,
    CachingSource,
    Identity,
    TokenRequest,
    TokenSource,
)
from authsec_core.testing import FakeClock, LoopbackServer
from authsec_core.testing import Reply as Answer
from authsec_core.token import Secret
from authsec_core.wire import DelegationRequest

__all__ = [
    "CLIENT_ID",
    "PATIENT",
    "AnyClient",
    "AnyVault",
    "Driver",
    "Joined",
    "ScriptedSource",
    "compact",
    "echo_server",
    "made_token",
    "options",
    "reply_json",
]

CLIENT_ID = "7b1c3f5e-2a4d-4c6b-8e9f-0a1b2c3d4e5f"
PATIENT = 60.0  # seconds that a test waits for what must happen at once, before it fails
AnyClient: TypeAlias = "AuthSecClient | AsyncAuthSecClient"
AnyVault: TypeAlias = "AgentVaultSync | AgentVault"
Kind: TypeAlias = Literal["sync", "async"]
Handler: TypeAlias = Callable[[httpx.Request], httpx.Response]
T = TypeVar("T")


@cache
def options() -> ClientOptions:
    """Return what the SDK builds its httpx clients with; made once, because TLS contexts take a while."""
    return client_options(user_agent="tests", timeout=PATIENT, connect_timeout=PATIENT, ca_file=None, trust_env=False)


class Driver:
    """Runs one test through the half of the SDK for threads, or the one for coroutines (all on one loop)."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self._loop = asyncio.new_event_loop() if kind == "async" else None
        self._clients: list[AnyClient | AnyVault] = []

    @overload
    def run(self, outcome: Coroutine[Any, Any, T]) -> T: ...
    @overload
    def run(self, outcome: T | Coroutine[Any, Any, T]) -> T: ...
    def run(self, outcome: Any) -> Any:
        """Return what a call of either half came to."""
        return outcome if self._loop is None else self._loop.run_until_complete(outcome)

    def client(
        self,
        config: AuthSecConfig | None = None,
        *,
        clock: Clock = SYSTEM_CLOCK,
        handler: Handler | None = None,
        token_cache: TokenCache | None = None,
        mock: MockAuthority | None = None,
        product: str | None = None,
        **given: str,
    ) -> AnyClient:
        """Return a client of this half, closed at the end of the test; `handler` answers in the network's place."""
        client: AnyClient
        transport = None if handler is None else httpx.MockTransport(handler)
        if self._loop is None:
            client = AuthSecClient(
                config,
                clock=clock,
                transport=transport,
                token_cache=token_cache,
                mock=mock,
                product=product,
                **cast("Any", given),
            )
        else:
            client = AsyncAuthSecClient(
                config,
                clock=clock,
                transport=transport,
                token_cache=token_cache,
                mock=mock,
                product=product,
                **cast("Any", given),
            )
        self._clients.append(client)
        return client

    def vault(
        self, url: str | None = None, *, clock: Clock = SYSTEM_CLOCK, handler: Handler | None = None, **given: Any
    ) -> Any:
        """Return a vault of this half, closed at the end of the test; `handler` answers in the network's place."""
        kind: Any = AgentVaultSync if self._loop is None else AgentVault
        transport = None if handler is None else httpx.MockTransport(handler)
        vault = kind(url, clock=clock, transport=transport, **given)
        self._clients.append(vault)
        return vault

    def close_client(self, client: AnyClient | AnyVault) -> None:
        """Close it."""
        if isinstance(client, AuthSecClient | AgentVaultSync):
            client.close()
        else:
            self.run(client.aclose())

    def exchange(
        self,
        request: DelegationRequest,
        rules: ExchangeRules,
        clock: Clock,
        *,
        proof: Proof | None = None,
        handler: Handler | None = None,
    ) -> DelegationToken:
        """Do one exchange; `handler` answers in the network's place."""
        proof, transport = proof or NoProof(), None if handler is None else httpx.MockTransport(handler)
        if self._loop is None:
            with blocking_client(options(), transport) as http:
                return exchange(request, proof, rules, http, clock)

        async def awaited() -> DelegationToken:
            async with httpx.AsyncClient(transport=transport, **options()) as http:
                return await exchange_async(request, proof, rules, http, clock)

        return self.run(awaited())

    def send(self, call: Call, clock: Clock, *, auth: httpx.Auth | None = None) -> Reply | Failure:
        """Do one GET."""
        if self._loop is None:
            with blocking_client(options(), None) as http:
                return send(http, call, clock, auth=auth)

        async def awaited() -> Reply | Failure:
            async with httpx.AsyncClient(**options()) as http:
                return await send_async(http, call, clock, auth=auth)

        return self.run(awaited())

    def caching(self, source: ScriptedSource, identity: Identity, cache: TokenCache) -> CachingSource | Awaited:
        """Return a caching source around `source`."""
        if self._loop is None:
            return CachingSource(source, identity, cache, patience=PATIENT)
        return Awaited(self, AsyncCachingSource(source, identity, cache, patience=PATIENT))

    def close(self) -> None:
        """Close every client and the loop."""
        for client in self._clients:
            self.close_client(client)
        if self._loop is not None:
            self._loop.run_until_complete(self._loop.shutdown_asyncgens())
            self._loop.run_until_complete(self._loop.shutdown_default_executor())
            self._loop.close()


class Awaited:
    """An `AsyncCachingSource` that can be called like a `CachingSource`."""

    def __init__(self, driver: Driver, source: AsyncCachingSource) -> None:
        self._driver, self._source = driver, source

    def token(self, request: TokenRequest, *, force: bool = False) -> DelegationToken:
        """Return a token."""
        return self._driver.run(self._source.atoken(request, force=force))

    def forget(self, token: DelegationToken) -> None:
        """Forget one."""
        self._source.forget(token)


class ScriptedSource(TokenSource, AsyncTokenSource):
    """A source that does what the test says and counts how often it was asked."""

    def __init__(self, answer: Callable[[], DelegationToken]) -> None:
        self.answer = answer
        self.asked: list[TokenRequest] = []

    def token(self, request: TokenRequest, *, force: bool = False) -> DelegationToken:
        """Ask the script."""
        self.asked.append(request)
        return self.answer()

    async def atoken(self, request: TokenRequest, *, force: bool = False) -> DelegationToken:
        """Ask the script."""
        return self.token(request)

    def forget(self, token: DelegationToken) -> None:
        """Hold nothing."""


class Joined:
    """Knows how many callers wait for someone else's request."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._change = threading.Condition()
        self._count = 0
        original, original_async = Flight.wait, Flight.wait_async

        def wait(flight: Flight, timeout: float) -> Landing:
            self._one_more()
            return original(flight, timeout)

        async def wait_async(flight: Flight, timeout: float | None = None) -> Landing:
            self._one_more()
            return await original_async(flight, timeout)

        monkeypatch.setattr(Flight, "wait", wait)
        monkeypatch.setattr(Flight, "wait_async", wait_async)

    @property
    def count(self) -> int:
        """How many have begun to wait so far."""
        with self._change:
            return self._count

    def until(self, count: int) -> None:
        """Block until `count` callers in all have begun to wait."""
        with self._change:
            assert self._change.wait_for(lambda: self._count >= count, PATIENT), f"only {self._count} callers wait"

    def _one_more(self) -> None:
        with self._change:
            self._count += 1
            self._change.notify_all()


def made_token(clock: Clock, *, lifetime: float = 100.0, scopes: str = "read", jti: str = "jti-1") -> DelegationToken:
    """Return a token as an exchange would have made it just now."""
    return DelegationToken(
        secret=Secret(f"secret.of.{jti}"),
        mode="live",
        scopes=frozenset(scopes.split()),
        issued_at=clock.wall(),
        expires_at=clock.wall() + lifetime,
        jti=jti,
        sent_at=clock.steady(),
    )


def compact(
    claims: Mapping[str, object], *, header: Mapping[str, object] | None = None, signature: str = "c2ln"
) -> str:
    """Return what looks like a signed JWT; the client has no keys to tell."""
    parts = [dict({"alg": "RS256", "typ": "JWT"}, **(header or {})), claims]
    encoded = [base64.urlsafe_b64encode(json.dumps(part).encode()).rstrip(b"=").decode() for part in parts]
    return ".".join([*encoded, signature])


def reply_json(
    clock: FakeClock, *, omit: str = "", claims: Mapping[str, object] | None = None, **changes: object
) -> dict[str, Any]:
    """Return the body of a good reply (one scope, 1800 s), changed as told; a None takes a member or a claim out."""
    now = int(clock.wall())
    claimed: dict[str, object] = {
        "iss": "https://authority.test/authsec",
        "sub": "spiffe://example.org/ns/default/sa/agent",
        "aud": ["authsec-api"],
        "iat": now,
        "nbf": now,
        "exp": now + 1800,
        "jti": "jti-1",
        "client_id": CLIENT_ID,
        "permissions": ["read:metrics"],
        "scope": "read:metrics",
        **(claims or {}),
    }
    body: dict[str, object] = {
        "token": compact({name: value for name, value in claimed.items() if value is not None}),
        "token_type": "Bearer",
        "client_id": CLIENT_ID,
        "permissions": ["read:metrics"],
        "ttl_seconds": 1800,
        **changes,
    }
    return {name: value for name, value in body.items() if value is not None}


def echo_server() -> LoopbackServer:
    """Return a protected API that answers everyone, and remembers who asked for what."""
    return LoopbackServer(lambda request: Answer.of_json({"path": request.path}))
