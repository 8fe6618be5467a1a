"""An `httpx.Auth` that puts a secret of the vault on a request, so that nobody else has to hold it: no model above all.

The secret is read when the request is sent, goes to the origins that it is for and to no others, and is taken off the
request once that is under way: a redirect that httpx follows gets none.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Iterable
from typing import Any

import httpx

from authsec_core._clock import Clock
from authsec_core._origin import Origin, is_loopback
from authsec_core._origins import origins_of, url_origin
from authsec_core._secret_header import SecretHeader
from authsec_core.errors import EndpointRefusedError
from authsec_core.vault_values import VaultSecret

__all__ = ["VaultAuth"]

_UNDER_WAY = "send_request_headers.complete"  # what httpcore says when it has sent them, over HTTP/1.1 and HTTP/2
_ANOTHER = "This origin gets no secret: add it to origins= if it should."


class VaultAuth(httpx.Auth):
    """Puts one secret on requests. Have it from `AgentVault.auth` or `AgentVaultSync.auth`; it may be shared.

    Args:
        read: Reads the secret, for `httpx.Client`.
        aread: Reads it without blocking the loop, for `httpx.AsyncClient`.
        header: Where the secret goes.
        prefix: What stands before it; by default `Bearer ` in `Authorization`, and nothing elsewhere.
        origins: The only origins that get it (`https://api.example.com`). By default that of the first request.
        cache_seconds: For how long a secret that was read is used again. 0 reads it for each request, so that the
            vault's audit has each of them.
        allow_http: Permit plain http beyond loopback.

    Raises:
        ConfigurationError: An origin is not one.
        ValueError: The header or the prefix cannot be one.

    A request to any other origin raises `EndpointRefusedError` before the secret is read. What takes the header off
    is httpcore's `trace`: a transport that is not httpcore's keeps it on until the answer is there, so let the client
    of such a one follow no redirects.
    """

    def __init__(
        self,
        read: Callable[[], VaultSecret] | None,
        aread: Callable[[], Awaitable[VaultSecret]] | None,
        *,
        header: str,
        prefix: str | None,
        origins: Iterable[str] | None,
        cache_seconds: float,
        allow_http: bool,
        clock: Clock,
    ) -> None:
        self._read, self._aread = read, aread
        self._header = SecretHeader.of(header, prefix)
        self._origins: frozenset[Origin] | None = None if origins is None else origins_of(origins)
        self._first: dict[str, Origin] = {}
        self._cache_seconds, self._allow_http, self._clock = cache_seconds, allow_http, clock
        self._held: tuple[VaultSecret, float] | None = None

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Put the secret on; called by `httpx.Client`."""
        if self._read is None:
            raise TypeError("this auth came from an AgentVault: use it with httpx.AsyncClient")
        self._check(request.url)
        self._put(request, self._fresh() or self._hold(self._read()))
        following = request.extensions.get("trace")

        def trace(event: str, info: dict[str, Any]) -> None:
            self._take_off(request, event)
            if following is not None:
                following(event, info)

        request.extensions = {**request.extensions, "trace": trace}
        try:
            yield request
        finally:
            self._take_off(request, _UNDER_WAY)

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """Put the secret on; called by `httpx.AsyncClient`."""
        if self._aread is None:
            raise TypeError("this auth came from an AgentVaultSync, which would block the loop: use AgentVault")
        self._check(request.url)
        self._put(request, self._fresh() or self._hold(await self._aread()))
        following = request.extensions.get("trace")

        async def trace(event: str, info: dict[str, Any]) -> None:
            self._take_off(request, event)
            if following is not None:
                await following(event, info)

        request.extensions = {**request.extensions, "trace": trace}
        try:
            yield request
        finally:
            self._take_off(request, _UNDER_WAY)

    def _check(self, url: httpx.URL) -> None:
        origin = url_origin(url.scheme, url.netloc)
        if origin is None or (self._origins is not None and origin not in self._origins):
            raise EndpointRefusedError(_ANOTHER)
        if origin.scheme != "https" and not self._allow_http and not is_loopback(origin.host):
            raise EndpointRefusedError("A secret does not travel over plain http: use https.")
        # One step, so that of two requests that come first at once only one does.
        if self._origins is None and self._first.setdefault("origin", origin) != origin:
            raise EndpointRefusedError(_ANOTHER)

    def _fresh(self) -> VaultSecret | None:
        held = self._held  # read once: another thread may change it
        return held[0] if held is not None and self._clock.steady() < held[1] else None

    def _hold(self, secret: VaultSecret) -> VaultSecret:
        if self._cache_seconds > 0:
            self._held = (secret, self._clock.steady() + self._cache_seconds)
        return secret

    def _put(self, request: httpx.Request, secret: VaultSecret) -> None:
        request.headers[self._header.name] = self._header.value(secret)

    def _take_off(self, request: httpx.Request, event: str) -> None:
        if event.endswith(_UNDER_WAY):
            request.headers.pop(self._header.name, None)
