"""OAuth clients that others made work with the authority as they are: token, exchange, introspection, revocation."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from authsec_core.testing import SigningKey
from authsec_server.testing import OnboardedAgent, RunningAuthority

pytest.importorskip("authlib")
pytest.importorskip("requests_oauthlib")

from authlib.integrations.httpx_client import AsyncOAuth2Client, OAuth2Client
from authlib.integrations.requests_client import OAuth2Session as AuthlibSession
from authlib.oauth2.rfc7523 import PrivateKeyJWT
from oauthlib.oauth2 import BackendApplicationClient, OAuth2Error
from requests_oauthlib import OAuth2Session

ACCESS_TOKEN = "urn:ietf:params:oauth:token-type:access_token"
EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"


@pytest.fixture(scope="module")
def authority() -> Iterator[RunningAuthority]:
    """One authority for all tests here."""
    with RunningAuthority() as running:
        yield running


@pytest.fixture(scope="module")
def agent(authority: RunningAuthority) -> OnboardedAgent:
    """The agent that asks."""
    return authority.onboard("read:metrics read:records")


@pytest.fixture(scope="module")
def other(authority: RunningAuthority) -> OnboardedAgent:
    """An agent that acts for it."""
    return authority.onboard("read:metrics")


@pytest.fixture(scope="module")
def metadata(authority: RunningAuthority) -> dict[str, Any]:
    """What clients configure themselves from."""
    found: dict[str, Any] = httpx.get(f"{authority.issuer}/.well-known/oauth-authorization-server").json()
    return found


@pytest.fixture(autouse=True)
def _http_on_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let oauthlib speak http: it knows no loopback."""
    monkeypatch.setenv("OAUTHLIB_INSECURE_TRANSPORT", "1")


def claims_of(authority: RunningAuthority, token: str) -> dict[str, Any]:
    """Return what a token says, after PyJWT and its JWKS client found it good."""
    key = jwt.PyJWKClient(authority.jwks_url).get_signing_key_from_jwt(token)
    found: dict[str, Any] = jwt.decode(
        token, key, algorithms=["RS256"], audience="authsec-api", issuer=authority.issuer
    )
    return found


@pytest.mark.parametrize("method", ["client_secret_basic", "client_secret_post"])
def test_authlib(
    authority: RunningAuthority, agent: OnboardedAgent, other: OnboardedAgent, metadata: dict[str, Any], method: str
) -> None:
    """Authlib's client gets, exchanges, introspects and revokes a token."""
    with (
        OAuth2Client(agent.client_id, agent.agent_key, token_endpoint_auth_method=method) as client,
        OAuth2Client(other.client_id, other.agent_key, token_endpoint_auth_method=method) as acting,
    ):
        token = client.fetch_token(metadata["token_endpoint"], grant_type="client_credentials", scope="read:metrics")
        assert claims_of(authority, token["access_token"])["sub"] == agent.spiffe_id
        exchanged = acting.fetch_token(
            metadata["token_endpoint"],
            grant_type=EXCHANGE,
            subject_token=token["access_token"],
            subject_token_type=ACCESS_TOKEN,
        )
        assert claims_of(authority, exchanged["access_token"])["act"] == {"sub": other.spiffe_id}
        introspected = client.introspect_token(metadata["introspection_endpoint"], token=exchanged["access_token"])
        assert introspected.json()["sub"] == agent.spiffe_id
        revoked = client.revoke_token(metadata["revocation_endpoint"], token=token["access_token"])
        assert revoked.status_code == 200
        for text in (token["access_token"], exchanged["access_token"]):
            asked = client.introspect_token(metadata["introspection_endpoint"], token=text)
            assert asked.json() == {"active": False}


def test_authlib_signs_assertions(authority: RunningAuthority, agent: OnboardedAgent, metadata: dict[str, Any]) -> None:
    """Authlib's `private_key_jwt` is taken, each assertion once, when it is made out to the issuer."""
    key = SigningKey.generate()
    made = authority.client.post(f"/clients/{agent.client_id}/public-keys", json={"jwk": dict(key.jwk)})
    assert made.status_code == 201, made.text
    pem = key.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    with AuthlibSession(agent.client_id, pem, token_endpoint_auth_method="private_key_jwt") as client:
        client.register_client_auth_method(PrivateKeyJWT(authority.issuer))
        for _ in range(2):
            token = client.fetch_token(metadata["token_endpoint"], grant_type="client_credentials")
            assert claims_of(authority, token["access_token"])["client_id"] == agent.client_id


@pytest.mark.anyio
async def test_authlib_async(authority: RunningAuthority, agent: OnboardedAgent, metadata: dict[str, Any]) -> None:
    """Authlib's async client gets a token."""
    async with AsyncOAuth2Client(agent.client_id, agent.agent_key) as client:
        token = await client.fetch_token(metadata["token_endpoint"], grant_type="client_credentials")
        assert claims_of(authority, token["access_token"])["scope"] == "read:metrics read:records"


def test_requests_oauthlib(
    authority: RunningAuthority, agent: OnboardedAgent, other: OnboardedAgent, metadata: dict[str, Any]
) -> None:
    """requests-oauthlib's session gets a token and names our errors; the rest it sends as forms."""
    session = OAuth2Session(client=BackendApplicationClient(agent.client_id, scope=["read:metrics"]))
    token = session.fetch_token(metadata["token_endpoint"], client_secret=agent.agent_key, include_client_id=True)
    assert token["scope"] == ["read:metrics"]
    assert claims_of(authority, token["access_token"])["sub"] == agent.spiffe_id

    by_other = (other.client_id, other.agent_key)
    form = {"grant_type": EXCHANGE, "subject_token": token["access_token"], "subject_token_type": ACCESS_TOKEN}
    with session:
        exchanged = session.post(metadata["token_endpoint"], data=form, auth=by_other, withhold_token=True).json()
        assert claims_of(authority, exchanged["access_token"])["act"] == {"sub": other.spiffe_id}
        asked = {"token": exchanged["access_token"]}
        introspected = session.post(metadata["introspection_endpoint"], data=asked, auth=by_other, withhold_token=True)
        assert introspected.json()["client_id"] == other.client_id
        revoked = session.post(metadata["revocation_endpoint"], data=asked, auth=by_other, withhold_token=True)
        assert revoked.status_code == 200
        with pytest.raises(OAuth2Error, match="invalid_scope"):
            session.fetch_token(metadata["token_endpoint"], client_secret=agent.agent_key, scope=["admin"])
