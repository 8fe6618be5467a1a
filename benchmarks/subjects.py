"""The clients that are measured, behind one shape: a warm loop, and cold callers that share one client.

A warm loop holds the very call that a user writes, so that no wrapper of ours is measured with it. Each client is
imported when it is constructed, in its own environment, and by name, because the type checker has none of them.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from importlib import import_module
from time import perf_counter
from typing import Any, Protocol

__all__ = ["SUBJECTS", "Cold", "Subject"]

Cold = Callable[[], object]
AsyncCold = Callable[[], Awaitable[object]]

_CLIENT_ID = "6f9619ff-8b86-4011-b42d-00cf4fc964ff"
_SCOPE = "read:metrics"
_AUDIENCE = "https://api.example.com"


class Subject(Protocol):
    """One client, configured for the endpoint at `url`."""

    def __init__(self, url: str) -> None: ...

    def warm(self, calls: int) -> float:
        """Return the seconds that so many calls for a held token take."""
        ...

    def cold(self) -> Cold | None:
        """Return a blocking call for a token, of a client that holds none; None where the client has no such call."""
        ...

    def cold_async(self) -> AsyncCold | None:
        """Return the same for tasks."""
        ...

    def cold_mixed(self) -> tuple[Cold, AsyncCold] | None:
        """Return both, over one cache."""
        ...


class _Blocking:
    """What a client has that knows threads only."""

    def cold_async(self) -> AsyncCold | None:
        return None

    def cold_mixed(self) -> tuple[Cold, AsyncCold] | None:
        return None


class Authsec:
    """Ours."""

    def __init__(self, url: str) -> None:
        from authsec_core import AuthSecClient, AuthSecConfig

        self._config = AuthSecConfig(base_url=url, client_id=_CLIENT_ID, api_base_url=url)
        self.client = AuthSecClient(self._config)

    def warm(self, calls: int) -> float:
        client = self.client
        client.get_delegation_token(scope="read:metrics")
        started = perf_counter()
        for _ in range(calls):
            client.get_delegation_token(scope="read:metrics")
        return perf_counter() - started

    def cold(self) -> Cold:
        from authsec_core import AuthSecClient

        client = AuthSecClient(self._config)
        return lambda: client.get_delegation_token(scope="read:metrics")

    def cold_async(self) -> AsyncCold:
        from authsec_core import AsyncAuthSecClient

        client = AsyncAuthSecClient(self._config)
        return lambda: client.get_delegation_token(scope="read:metrics")

    def cold_mixed(self) -> tuple[Cold, AsyncCold]:
        from authsec_core import AsyncAuthSecClient, AuthSecClient, TokenCache

        cache = TokenCache()
        blocking = AuthSecClient(self._config, token_cache=cache)
        for_tasks = AsyncAuthSecClient(self._config, token_cache=cache)
        return (
            lambda: blocking.get_delegation_token(scope="read:metrics"),
            lambda: for_tasks.get_delegation_token(scope="read:metrics"),
        )


class AuthsecAsync(Authsec):
    """Ours, for coroutines."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        from authsec_core import AsyncAuthSecClient

        self._for_tasks = AsyncAuthSecClient(self._config)

    def warm(self, calls: int) -> float:
        return _on_a_loop(self._warm(calls))

    async def _warm(self, calls: int) -> float:
        client = self._for_tasks
        await client.get_delegation_token(scope="read:metrics")
        started = perf_counter()
        for _ in range(calls):
            await client.get_delegation_token(scope="read:metrics")
        return perf_counter() - started


class AuthsecLangchain(_Blocking):
    """authsec-langchain-sdk: one token for each client, whatever the scope."""

    def __init__(self, url: str) -> None:
        self._url, self._module = url, import_module("authsec_langchain")
        self._client = self._made()

    def _made(self) -> Any:
        return self._module.AuthsecClient(self._module.AuthsecConfig(base_url=self._url, client_id=_CLIENT_ID))

    def warm(self, calls: int) -> float:
        client = self._client
        client.get_delegation_token()
        started = perf_counter()
        for _ in range(calls):
            client.get_delegation_token()
        return perf_counter() - started

    def cold(self) -> Cold:
        client = self._made()
        return lambda: client.get_delegation_token()


class AuthsecSdk:
    """authsec-sdk: for coroutines, one token for each client."""

    def __init__(self, url: str) -> None:
        self._url = f"{url}/authsec/uflow"
        self._made = import_module("authsec_sdk.delegation").DelegationClient
        self._client = self._made(client_id=_CLIENT_ID, userflow_url=self._url)

    def warm(self, calls: int) -> float:
        return _on_a_loop(self._warm(calls))

    async def _warm(self, calls: int) -> float:
        client = self._client
        await client.ensure_token()
        started = perf_counter()
        for _ in range(calls):
            await client.ensure_token()
        return perf_counter() - started

    def cold(self) -> Cold | None:
        return None

    def cold_async(self) -> AsyncCold:
        client = self._made(client_id=_CLIENT_ID, userflow_url=self._url)
        return lambda: client.ensure_token()

    def cold_mixed(self) -> tuple[Cold, AsyncCold] | None:
        return None


class Authlib:
    """authlib's httpx clients: one token for each client. What an expired token needs is what a cold caller needs."""

    def __init__(self, url: str) -> None:
        self._url, self._module = f"{url}/oauth", import_module("authlib.integrations.httpx_client")
        self._client = self._made("OAuth2Client")
        self._client.ensure_active_token(self._client.token)

    def _made(self, kind: str) -> Any:
        return getattr(self._module, kind)(
            "client",
            "secret",
            token_endpoint=self._url,
            grant_type="client_credentials",
            token={"access_token": "old", "token_type": "Bearer", "expires_at": 1},
        )

    def warm(self, calls: int) -> float:
        client = self._client
        started = perf_counter()
        for _ in range(calls):
            client.ensure_active_token(client.token)
            client.token["access_token"]
        return perf_counter() - started

    def cold(self) -> Cold:
        client = self._made("OAuth2Client")
        return lambda: client.ensure_active_token(client.token)

    def cold_async(self) -> AsyncCold:
        client = self._made("AsyncOAuth2Client")
        return lambda: client.ensure_active_token(client.token)

    def cold_mixed(self) -> tuple[Cold, AsyncCold] | None:
        return None


class HttpxAuth(_Blocking):
    """httpx-auth: an `httpx.Auth` and one cache for the process; a request has to be there to be authorized."""

    def __init__(self, url: str) -> None:
        self._module = import_module("httpx_auth")
        self._request = import_module("httpx").Request("GET", _AUDIENCE)
        self._auth = self._module.OAuth2ClientCredentials(f"{url}/oauth", "client", "secret", scope=_SCOPE)

    def warm(self, calls: int) -> float:
        auth, request = self._auth, self._request
        next(auth.auth_flow(request))
        started = perf_counter()
        for _ in range(calls):
            next(auth.auth_flow(request))
        return perf_counter() - started

    def cold(self) -> Cold:
        self._module.OAuth2.token_cache.clear()
        return lambda: next(self._auth.auth_flow(self._request))


class GoogleAuth(_Blocking):
    """google-auth: one token for each credentials object."""

    def __init__(self, url: str) -> None:
        self._url = f"{url}/oauth"
        self._kind = import_module("google.oauth2.credentials").Credentials
        self._request = import_module("google.auth.transport.requests").Request()
        self._credentials = self._made()

    def _made(self) -> Any:
        given = {"refresh_token": "refresh", "client_id": "client", "client_secret": "secret"}
        return self._kind(None, token_uri=self._url, scopes=[_SCOPE], **given)

    def warm(self, calls: int) -> float:
        credentials, request = self._credentials, self._request
        credentials.before_request(request, "GET", _AUDIENCE, {})
        started = perf_counter()
        for _ in range(calls):
            credentials.before_request(request, "GET", _AUDIENCE, {})
        return perf_counter() - started

    def cold(self) -> Cold:
        credentials = self._made()
        return lambda: credentials.before_request(self._request, "GET", _AUDIENCE, {})


class Botocore(_Blocking):
    """botocore: refreshable credentials, fetched as a container's are."""

    def __init__(self, url: str) -> None:
        self._url = f"{url}/container"
        self._kind = import_module("botocore.credentials").DeferredRefreshableCredentials
        self._fetcher = import_module("botocore.utils").ContainerMetadataFetcher()
        self._credentials = self._made()

    def _made(self) -> Any:
        return self._kind(self._fetch, "container-role")

    def _fetch(self) -> dict[str, str]:
        told = self._fetcher.retrieve_full_uri(self._url)
        return {
            "access_key": told["AccessKeyId"],
            "secret_key": told["SecretAccessKey"],
            "token": told["Token"],
            "expiry_time": told["Expiration"],
        }

    def warm(self, calls: int) -> float:
        credentials = self._credentials
        credentials.get_frozen_credentials()
        started = perf_counter()
        for _ in range(calls):
            credentials.get_frozen_credentials()
        return perf_counter() - started

    def cold(self) -> Cold:
        credentials = self._made()
        return lambda: credentials.get_frozen_credentials()


class Msal(_Blocking):
    """msal: the managed identity of a host that names its endpoint in the environment."""

    def __init__(self, url: str) -> None:
        os.environ.update(IDENTITY_ENDPOINT=f"{url}/managed-identity", IDENTITY_HEADER="header")
        self._module, self._session = import_module("msal"), import_module("requests").Session()
        self._client = self._made()

    def _made(self) -> Any:
        identity = self._module.SystemAssignedManagedIdentity()
        return self._module.ManagedIdentityClient(identity, http_client=self._session)

    def warm(self, calls: int) -> float:
        client = self._client
        client.acquire_token_for_client(resource=_AUDIENCE)
        started = perf_counter()
        for _ in range(calls):
            client.acquire_token_for_client(resource=_AUDIENCE)
        return perf_counter() - started

    def cold(self) -> Cold:
        client = self._made()
        return lambda: client.acquire_token_for_client(resource=_AUDIENCE)["access_token"]


class AzureIdentity(_Blocking):
    """azure-identity: the same managed identity."""

    def __init__(self, url: str) -> None:
        os.environ.update(IDENTITY_ENDPOINT=f"{url}/managed-identity", IDENTITY_HEADER="header")
        self._kind = import_module("azure.identity").ManagedIdentityCredential
        self._credential = self._kind()

    def warm(self, calls: int) -> float:
        credential = self._credential
        credential.get_token(f"{_AUDIENCE}/.default")
        started = perf_counter()
        for _ in range(calls):
            credential.get_token("https://api.example.com/.default")
        return perf_counter() - started

    def cold(self) -> Cold:
        credential = self._kind()
        return lambda: credential.get_token(f"{_AUDIENCE}/.default")


def _on_a_loop(warm: Any) -> float:
    import asyncio  # here: what a client needs in memory is measured with this module loaded

    seconds: float = asyncio.run(warm)
    return seconds


SUBJECTS: dict[str, type[Subject]] = {
    "authsec": Authsec,
    "authsec-async": AuthsecAsync,
    "authsec-langchain-sdk": AuthsecLangchain,
    "authsec-sdk": AuthsecSdk,
    "authlib": Authlib,
    "httpx-auth": HttpxAuth,
    "google-auth": GoogleAuth,
    "botocore": Botocore,
    "msal": Msal,
    "azure-identity": AzureIdentity,
}
