"""What the types of `authsec_core` say to who uses it. Checked by `nox -s types` and never run.

A line with `type: ignore` must be an error: both checkers report an ignore that nothing needs.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal

import httpx
from typing_extensions import assert_type

from authsec_core import (
    AsyncAuthSecClient,
    AsyncTokenSource,
    AuthorityUnreachableError,
    AuthSecClient,
    AuthSecConfig,
    AuthSecError,
    DelegationAuth,
    DelegationRefusedError,
    DelegationToken,
    DownstreamError,
    EndpointPolicy,
    FetchResult,
    MockAuthority,
    ScopeNotGrantedError,
    TokenCache,
    TokenRequest,
    TokenSource,
    TokenVerifier,
    VerifiedToken,
)


def clients_are_made_in_three_ways() -> None:
    """From the environment, from settings, or told."""
    assert_type(AuthSecClient(), AuthSecClient)
    assert_type(AuthSecClient(AuthSecConfig(base_url="https://a.example.com", client_id="c")), AuthSecClient)
    AuthSecClient(base_url="https://a.example.com", client_id="c", agent_key="k", api_base_url="https://b.example.com")
    AuthSecClient(transport=httpx.HTTPTransport(), mock=MockAuthority("a b"), token_cache=TokenCache(), product="p/1")
    AsyncAuthSecClient(transport=httpx.AsyncHTTPTransport(), mock=MockAuthority(["a", "b"]))
    AuthSecClient("https://a.example.com")  # type: ignore[arg-type]
    AuthSecClient(url="https://a.example.com")  # type: ignore[call-arg]
    AuthSecClient(transport=httpx.AsyncHTTPTransport())  # type: ignore[arg-type]
    AsyncAuthSecClient(transport=httpx.HTTPTransport())  # type: ignore[arg-type]


def settings_take_what_people_write() -> None:
    """Text, lists and mappings; and what they hold is exact."""
    config = AuthSecConfig(
        mode="mock",
        agent_key="k",
        allowed_endpoints=["a", "b"],
        endpoint_scopes={"a": "read:a", "b": ["read:b"]},
        timeout=3,
        mock_permissions="read:a read:b",
    )
    AuthSecConfig(allowed_endpoints="a,b", endpoint_scopes='{"a": "read:a"}', env_file="agent.env")
    assert_type(config.base_url, str | None)
    assert_type(config.timeout, float)
    assert_type(config.resolved_mode, Literal["live", "mock"])
    assert_type(config.allowed_endpoints, tuple[str, ...] | None)
    assert_type(config.policy("https://b.example.com"), EndpointPolicy)
    AuthSecConfig(mode="test")  # type: ignore[arg-type]
    AuthSecConfig(timeout="3")  # type: ignore[arg-type]
    AuthSecConfig(base_uri="https://a.example.com")  # type: ignore[call-arg]


def blocking(client: AuthSecClient) -> None:
    """What the client for threads returns."""
    with client as same:
        assert_type(same, AuthSecClient)
    assert_type(client.get_delegation_token("read:a", force_refresh=True, ttl=60, cache=False), str)
    assert_type(client.delegation_token(), DelegationToken)
    assert_type(client.fetch("a", scope="read:a", ttl=60.0), FetchResult)
    assert_type(client.auth(scope="read:a", origins=["https://b.example.com"]), DelegationAuth)
    assert_type(client.mode, Literal["live", "mock"])
    httpx.get("https://b.example.com/a", auth=client.auth("read:a"))
    client.delegation_token("read:a", True)  # type: ignore[call-arg]
    client.delegation_token(["read:a"])  # type: ignore[arg-type]
    client.fetch("a", method="POST")  # type: ignore[call-arg]
    client.mode = "mock"  # type: ignore[misc]


async def coroutines(client: AsyncAuthSecClient) -> None:
    """What the client for coroutines returns: the same, to be awaited."""
    async with client as same:
        assert_type(same, AsyncAuthSecClient)
    assert_type(await client.get_delegation_token("read:a"), str)
    assert_type(await client.delegation_token(), DelegationToken)
    assert_type(await client.fetch("a", "read:a"), FetchResult)
    assert_type(client.auth("read:a"), DelegationAuth)  # not awaited
    with client:  # type: ignore[attr-defined]
        pass


def values(token: DelegationToken, result: FetchResult) -> None:
    """What tokens and results hold; neither can be changed."""
    assert_type(token.value, str)
    assert_type(token.scopes, frozenset[str])
    assert_type(token.expires_at, float)
    assert_type(token.jti, str | None)
    assert_type(token.audience, tuple[str, ...])
    assert_type(result.status, Literal["success", "error"])
    assert_type(result.code, int | str)
    assert_type(result.data, Any)
    assert_type(result.token, DelegationToken | None)
    assert_type(result.to_json(limit=1024), str)
    token.jti = "another"  # type: ignore[misc]
    result.data = {}  # type: ignore[misc]


def errors() -> None:
    """What handlers can look at."""
    try:
        AuthSecClient().fetch("a")
    except AuthorityUnreachableError as error:
        assert_type(error.retry_after, float | None)
    except DelegationRefusedError as error:
        assert_type(error.reason, str)
    except ScopeNotGrantedError as error:
        assert_type(error.missing, frozenset[str])
    except DownstreamError as error:
        assert_type(error.status, int | None)
    except AuthSecError as error:
        assert_type(error.code, str)
        assert_type(error.retryable, bool)
        assert_type(error.message, str)


async def verifiers(verifier: TokenVerifier) -> None:
    """Blocking and async, with the same outcome."""
    verified = verifier.verify("eyJ")
    assert_type(verified, VerifiedToken)
    assert_type(await verifier.averify("eyJ"), VerifiedToken)
    assert_type(verified.covers("read:a"), bool)
    assert_type(verified.scopes, frozenset[str])
    TokenVerifier(issuer="https://a.example.com", audience="api", jwks_url="https://a.example.com/jwks.json")
    TokenVerifier(issuer="https://a.example.com", audience="api", profile="id")  # type: ignore[arg-type]


class OwnSource:
    """A source of one's own needs no base class."""

    def token(self, request: TokenRequest, *, force: bool = False) -> DelegationToken:
        """Return a token."""
        return AuthSecClient().delegation_token(None if request.scopes is None else " ".join(request.scopes))

    def forget(self, token: DelegationToken) -> None:
        """Hold nothing."""


class WrongSource:
    """Returns the text."""

    def token(self, request: TokenRequest, *, force: bool = False) -> str:
        """Return a text."""
        return "eyJ"

    def forget(self, token: DelegationToken) -> None:
        """Hold nothing."""


def sources(origins: Iterable[str]) -> DelegationAuth:
    """Protocols are matched by their shape."""
    source: TokenSource = OwnSource()
    wrong: TokenSource = WrongSource()  # type: ignore[assignment]
    other: AsyncTokenSource = OwnSource()  # type: ignore[assignment]
    del wrong, other
    return DelegationAuth(source, TokenRequest.of("read:a", 60.0), origins=origins)
