"""An SDK that others made for the same wire contract works with `serve --dev` as it is."""

from __future__ import annotations

from collections.abc import Iterator
from uuid import uuid4

import jwt
import pytest

from authsec_server.testing import DevAuthority

pytest.importorskip("authsec_langchain")

from authsec_langchain import AuthsecCallbackHandler, AuthsecClient, AuthsecConfig, DelegationError


@pytest.fixture(scope="module")
def authority() -> Iterator[DevAuthority]:
    """One authority for all tests here, as `serve --dev` makes it."""
    with DevAuthority() as running:
        yield running


@pytest.fixture
def sdk(authority: DevAuthority) -> Iterator[AuthsecClient]:
    """The other SDK's client, for the sample agent: a base URL and a client id are all that it is given."""
    config = AuthsecConfig(base_url=authority.base_url, client_id=authority.client_id)
    with AuthsecClient(config) as client:
        yield client


def test_its_token_verifies_against_the_jwks(authority: DevAuthority, sdk: AuthsecClient) -> None:
    """PyJWT finds the signing key by the token's `kid`, and signature, issuer, audience and times hold."""
    token = sdk.get_delegation_token()
    key = jwt.PyJWKClient(authority.jwks_url).get_signing_key_from_jwt(token)
    claims = jwt.decode(
        token,
        key,
        algorithms=["RS256"],
        audience="authsec-api",
        issuer=authority.issuer,
        options={"require": ["iss", "sub", "aud", "exp", "iat", "nbf", "jti"]},
    )
    assert claims["client_id"] == authority.client_id
    assert claims["sub"].startswith("spiffe://")
    assert claims["permissions"] == ["read:metrics", "read:records"]
    assert jwt.get_unverified_header(token)["alg"] == "RS256"


def test_it_reads_when_the_token_ends(authority: DevAuthority, sdk: AuthsecClient) -> None:
    """The `expires_at` of the reply is one that it understands, and is the token's own `exp`; so its cache works."""
    token = sdk.get_delegation_token()
    claims = jwt.decode(token, options={"verify_signature": False})
    assert sdk._cached_delegation_expires == claims["exp"]
    assert sdk.get_delegation_token() == token
    assert sdk.get_delegation_token(force_refresh=True) != token


def test_its_callback_puts_the_token_where_tools_look(sdk: AuthsecClient) -> None:
    """A LangChain tool that runs with its callback handler finds the token in the run's metadata."""
    metadata: dict[str, object] = {}
    handler = AuthsecCallbackHandler(sdk)
    handler.on_tool_start({}, "", run_id=uuid4(), metadata=metadata)
    assert metadata == {"authsec_token": sdk.get_delegation_token()}


@pytest.mark.parametrize(
    ("client_id", "status"),
    [("not-a-uuid", 400), ("", 400), ("00000000-0000-4000-8000-000000000000", 404)],
)
def test_it_is_told_why_it_gets_none(authority: DevAuthority, client_id: str, status: int) -> None:
    """A refusal is its DelegationError, with the status that its documentation promises and our text."""
    config = AuthsecConfig(base_url=authority.base_url, client_id=client_id)
    with (
        AuthsecClient(config) as client,
        pytest.raises(DelegationError, match=rf"fetch failed: {status} .*\"error\""),
    ):
        client.get_delegation_token()


def test_it_is_told_that_the_delegation_ended(authority: DevAuthority) -> None:
    """After a revocation it gets 410, as its documentation promises, and no token."""
    agent = authority.onboard("read:metrics", agent_type="langchain-agent")
    config = AuthsecConfig(base_url=authority.base_url, client_id=agent.client_id)
    with AuthsecClient(config) as client:
        assert client.get_delegation_token()
        authority.client.post(f"/trust-delegations/{agent.delegation_id}/revoke").raise_for_status()
        with pytest.raises(DelegationError, match="fetch failed: 410 "):
            client.get_delegation_token(force_refresh=True)


def test_its_bootstrap_token_can_be_an_agent_key(authority: DevAuthority) -> None:
    """Its `api_token` goes out as a bearer credential: an agent key there is proof, and a wrong one is refused."""
    agent = authority.onboard("read:metrics", agent_type="langchain-agent")
    for key, works in ((agent.agent_key, True), (agent.agent_key[:-8] + "AAAAAAAA", False)):
        config = AuthsecConfig(base_url=f"{authority.base_url}/", client_id=agent.client_id, api_token=key)
        with AuthsecClient(config) as client:
            if works:
                assert client.get_delegation_token()
                continue
            with pytest.raises(DelegationError, match="fetch failed: 401 "):
                client.get_delegation_token()
