"""An `httpx.Auth` that puts a delegation token on requests to the origins it is for, and on no others.

A 401 `invalid_token` makes it forget that token and try once more with a new one, where repeating does no harm.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Generator, Iterable
from typing import cast

import httpx

from authsec_core._origin import is_loopback
from authsec_core._origins import origins_of, url_origin
from authsec_core.errors import EndpointRefusedError
from authsec_core.source import AsyncTokenSource, TokenRequest, TokenSource
from authsec_core.token import DelegationToken

__all__ = ["DelegationAuth"]

_IDEMPOTENT = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"})  # RFC 9110 section 9.2.2
_REFUSED_AS_INVALID = r'(?i)(?:^|[\s,])error\s*=\s*"?invalid_token"?(?:$|[\s,])'  # RFC 6750 section 3


class DelegationAuth(httpx.Auth):
    """Carries delegation tokens to `origins`. Immutable; may be shared by threads and, with an async source, by loops.

    Args:
        source: Where tokens come from: a `TokenSource` for `httpx.Client`, an `AsyncTokenSource` for
            `httpx.AsyncClient`.
        request: What to ask the source for.
        origins: The only origins that get a token: scheme, host and port alone (`https://api.example.com`).
        loopback_only: Refuse every origin beyond this machine, for MOCK tokens.
        allow_http: Permit plain http beyond loopback.

    Raises:
        ConfigurationError: An origin is not one, or has a user name, a path or anything else in it.

    A request to any other origin raises `EndpointRefusedError` before a token is asked for, so nothing is sent.
    """

    def __init__(
        self,
        source: TokenSource | AsyncTokenSource,
        request: TokenRequest,
        *,
        origins: Iterable[str],
        loopback_only: bool = False,
        allow_http: bool = False,
    ) -> None:
        self._source = cast("TokenSource", source) if hasattr(source, "token") else None
        self._async_source = cast("AsyncTokenSource", source) if hasattr(source, "atoken") else None
        self._request = request
        self._origins = origins_of(origins)
        self._loopback_only = loopback_only
        self._allow_http = allow_http

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Attach a token; called by `httpx.Client`."""
        if self._source is None:
            raise TypeError("this auth came from an AsyncAuthSecClient: use it with httpx.AsyncClient")
        self._check(request.url)
        token = self._source.token(self._request)
        response = yield _bearing(request, token)
        if _worth_repeating(request, response):
            self._source.forget(token)
            again = _bearing(request, self._source.token(self._request))
            if isinstance(response.stream, httpx.SyncByteStream):
                response.stream.close()
            response.stream = httpx.ByteStream(b"")  # httpx would read the refusal to its end, however long that is
            yield again

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """Attach a token; called by `httpx.AsyncClient`."""
        if self._async_source is None:
            raise TypeError("this auth came from an AuthSecClient, which would block the loop: use AsyncAuthSecClient")
        self._check(request.url)
        token = await self._async_source.atoken(self._request)
        response = yield _bearing(request, token)
        if _worth_repeating(request, response):
            self._async_source.forget(token)
            again = _bearing(request, await self._async_source.atoken(self._request))
            if isinstance(response.stream, httpx.AsyncByteStream):
                await response.stream.aclose()
            response.stream = httpx.ByteStream(b"")  # as above
            yield again

    def _check(self, url: httpx.URL) -> None:
        origin = url_origin(url.scheme, url.netloc)
        if origin is None or origin not in self._origins:
            raise EndpointRefusedError("This origin gets no token: add it to origins= if it should.")
        if is_loopback(origin.host):
            return
        if self._loopback_only:
            raise EndpointRefusedError("A MOCK token goes to this machine only: set AUTHSEC_MODE=live for other APIs.")
        if origin.scheme != "https" and not self._allow_http:
            raise EndpointRefusedError("A token does not travel over plain http: use https.")


def _bearing(request: httpx.Request, token: DelegationToken) -> httpx.Request:
    request.headers["Authorization"] = token.authorization
    return request


def _worth_repeating(request: httpx.Request, response: httpx.Response) -> bool:
    """Say whether the API refused the token itself, and a second request does no more than one would."""
    return (
        response.status_code == 401
        and "Authorization" in response.request.headers  # else a redirect led elsewhere, and who refused saw no token
        and request.method in _IDEMPOTENT
        and isinstance(request.stream, httpx.ByteStream)  # a body that is still there to be sent again
        and re.search(_REFUSED_AS_INVALID, response.headers.get("WWW-Authenticate", "")) is not None
    )
