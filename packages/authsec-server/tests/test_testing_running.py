from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import jwt
import pytest

from authsec_core import AuthSecClient
from authsec_core.errors import ConfigurationError, DelegationRefusedError
from authsec_core.testing import FakeClock
from authsec_server.authority import Authority
from authsec_server.errors import ConflictError
from authsec_server.testing import LocalPostgres, OnboardedAgent, RunningAuthority


@pytest.fixture(scope="module")
def authority() -> Iterator[RunningAuthority]:
    """One authority for the tests that leave it running."""
    with RunningAuthority() as running:
        yield running


def token_for(agent: OnboardedAgent) -> str:
    """Return a token that our SDK gets with the agent's key."""
    with AuthSecClient(base_url=agent.base_url, client_id=agent.client_id, agent_key=agent.agent_key) as client:
        return client.get_delegation_token()


def refuses(url: str) -> bool:
    """Whether nothing listens there."""
    try:
        httpx.get(f"{url}/healthz", trust_env=False)
    except httpx.ConnectError:
        return True
    return False


def test_an_onboarded_agent_gets_a_token(authority: RunningAuthority) -> None:
    """With what `onboard` returns our SDK gets a token, which PyJWT verifies against the JWKS."""
    agent = authority.onboard("read:metrics write:notes", allowed_actions=["read:metrics"])
    token = token_for(agent)
    key = jwt.PyJWKClient(authority.jwks_url).get_signing_key_from_jwt(token)
    claims = jwt.decode(token, key, algorithms=["RS256"], audience="authsec-api", issuer=authority.issuer)
    assert claims["permissions"] == ["read:metrics"]
    assert claims["delegated_by"] == agent.role
    assert claims["sub"] == agent.spiffe_id


def test_the_environment_of_an_agent_makes_a_client(
    authority: RunningAuthority, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`environ` is all that `AuthSecClient()` needs, and the key is not in the agent's repr."""
    agent = authority.onboard()
    environ = agent.environ(api_base_url="http://127.0.0.1:1")
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    with AuthSecClient() as client:
        assert client.get_delegation_token()
    assert environ["AUTHSEC_API_BASE_URL"] == "http://127.0.0.1:1"
    assert agent.agent_key not in repr(agent)


def test_it_is_as_in_production_unless_told_otherwise(authority: RunningAuthority) -> None:
    """A bare client id is proof enough with `dev=True` only."""
    bare = authority.onboard()
    with (
        AuthSecClient(base_url=bare.base_url, client_id=bare.client_id) as client,
        pytest.raises(DelegationRefusedError),
    ):
        client.get_delegation_token()
    with RunningAuthority(dev=True) as trial:
        bare = trial.onboard()
        with AuthSecClient(base_url=bare.base_url, client_id=bare.client_id) as client:
            assert client.get_delegation_token()


def test_the_client_is_an_admin(authority: RunningAuthority) -> None:
    """`client` speaks to the admin API as the first admin."""
    assert authority.client.get("/whoami").json()["role"] == "admin"
    bare = httpx.get(f"{authority.base_url}/api/v1/whoami", trust_env=False)
    assert bare.status_code == 401
    own = httpx.get(
        f"{authority.base_url}/api/v1/whoami",
        headers={"Authorization": f"Bearer {authority.admin_token}"},
        trust_env=False,
    )
    assert own.status_code == 200


def test_a_refused_onboarding_says_why(authority: RunningAuthority) -> None:
    """What the authority refuses is an error with its words, and no token of ours."""
    with pytest.raises(RuntimeError, match=r"POST /clients: 4\d\d ") as caught:
        authority.onboard(agent_type="nobody-knows")
    assert authority.admin_token not in str(caught.value)


def test_stored_things_outlive_a_restart(authority: RunningAuthority) -> None:
    """After `stop` nothing listens; after `start` the same authority serves at the same address."""
    agent = authority.onboard()
    authority.stop()
    assert refuses(agent.base_url)
    with pytest.raises(RuntimeError, match="with block"):
        _ = authority.client
    authority.start()
    assert authority.base_url == agent.base_url
    assert token_for(agent)


def test_a_replica_is_the_same_authority_at_another_address(authority: RunningAuthority) -> None:
    """Agents, keys and issuer are shared, and the first admin's token is good at both."""
    agent = authority.onboard()
    with authority.replica() as replica:
        assert replica.base_url != authority.base_url
        assert replica.issuer == authority.issuer
        assert replica.client.get(f"/clients/{agent.client_id}").json()["name"] == agent.name
        key = jwt.PyJWKClient(replica.jwks_url).get_signing_key_from_jwt(token_for(agent))
        assert jwt.PyJWKClient(authority.jwks_url).get_signing_key(key.key_id or "").key_id == key.key_id
    assert token_for(agent)


def test_it_runs_on_postgres(postgres: LocalPostgres) -> None:
    """With the URL of an empty PostgreSQL database it is an authority on that; one that is not empty is refused."""
    url = postgres.create_database()
    with RunningAuthority(database_url=url, database_timeout=30.0, request_timeout=60.0) as authority:
        assert token_for(authority.onboard())
    with pytest.raises(ConflictError):
        RunningAuthority(database_url=url).__enter__()
    postgres.drop_database(url)


def test_it_goes_by_the_clock_of_the_test() -> None:
    """Tokens are issued at the time that the test's clock shows."""
    clock = FakeClock(wall=1_900_000_000.0)
    with RunningAuthority(clock=clock, dev=True) as authority:
        agent = authority.onboard()
        reply = httpx.get(
            f"{agent.base_url}/authsec/uflow/sdk/delegation-token",
            params={"client_id": agent.client_id},
            trust_env=False,
        )
    assert jwt.decode(reply.json()["token"], options={"verify_signature": False})["iat"] == 1_900_000_000


def test_work_runs_inside(authority: RunningAuthority) -> None:
    """`run` gives a test the authority itself, on the authority's own loop, and passes errors on."""

    async def is_ready(inner: Authority) -> bool:
        return all((await inner.ready()).values())

    async def fails(inner: Authority) -> None:
        raise LookupError("inside")

    assert authority.run(is_ready)
    with pytest.raises(LookupError, match="inside"):
        authority.run(fails)


def test_it_starts_where_a_loop_runs() -> None:
    """An async test may start one: it needs a loop of its own, and not the caller's."""

    async def test() -> int:
        with RunningAuthority() as running:
            async with httpx.AsyncClient(trust_env=False) as client:
                return (await client.get(f"{running.base_url}/healthz")).status_code

    assert asyncio.run(test()) == 200


def test_settings_are_passed_on_and_wrong_ones_refused() -> None:
    """Settings are those of `ServerSettings`; what it refuses is refused here, and nothing is left behind."""
    with RunningAuthority(token_ttl=60) as running:
        assert running.settings.token_ttl == 60
        folder = running.settings.data_dir
    assert isinstance(folder, Path)
    assert not folder.exists()
    refused = RunningAuthority(token_ttl=60, max_token_ttl=30)
    with pytest.raises(ConfigurationError, match="TOKEN_TTL"):
        refused.__enter__()
    assert refused._folder is None


def test_what_does_not_run_says_so() -> None:
    """Asking one that was not started is misuse, and closing it is harmless."""
    authority = RunningAuthority()
    authority.close()
    authority.stop()
    for name in ("base_url", "issuer", "jwks_url", "admin_token", "client", "settings"):
        with pytest.raises(RuntimeError, match="with block"):
            getattr(authority, name)


def test_it_is_on_loopback(authority: RunningAuthority) -> None:
    """It listens on 127.0.0.1, and its issuer is its own address."""
    assert urlsplit(authority.base_url).hostname == "127.0.0.1"
    assert authority.issuer == f"{authority.base_url}/authsec"
