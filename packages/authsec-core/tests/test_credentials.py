"""Where credentials go: the agent's proof to its authority, its tokens to its API, and neither anywhere else (RS9)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from core_support import CLIENT_ID, Driver

from authsec_core import AuthSecConfig
from authsec_core.errors import BadReplyError, ConfigurationError, DownstreamError, InsecureTransportError
from authsec_core.testing import FakeClock, LocalAuthority, LoopbackServer, Reply, Request, loopback_certificate

pytestmark = pytest.mark.req("RS9")

KEY = "agent-1.0123456789abcdef0123456789abcdef"
PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy")


class Place:
    """A server that remembers what it was sent."""

    def __init__(self) -> None:
        self.answer: Callable[[Request], Reply] = lambda request: Reply.of_json({"real": True})
        self.server = LoopbackServer(lambda request: self.answer(request))

    @property
    def credentials(self) -> list[str]:
        """What came in Authorization headers."""
        return [request.headers.get("authorization", "") for request in self.server.requests]

    @property
    def everything(self) -> str:
        """Whatever came in, as one text."""
        return repr([(request, dict(request.headers), request.body) for request in self.server.requests])


@pytest.fixture
def api() -> Iterator[Place]:
    """The protected API."""
    place = Place()
    with place.server:
        yield place


@pytest.fixture
def stranger() -> Iterator[Place]:
    """A server that is to get nothing."""
    place = Place()
    with place.server:
        yield place


@pytest.fixture
def authority() -> Iterator[LocalAuthority]:
    """An authority that knows one agent, by its key."""
    with LocalAuthority() as authority:
        authority.register(["read"], client_id=CLIENT_ID, agent_key=KEY)
        yield authority


@pytest.fixture
def config(authority: LocalAuthority, api: Place) -> Callable[..., AuthSecConfig]:
    """Return the agent's settings."""

    def config(**more: Any) -> AuthSecConfig:
        return AuthSecConfig(
            **{
                "base_url": authority.base_url,
                "client_id": CLIENT_ID,
                "agent_key": KEY,
                "api_base_url": api.server.base_url,
                **more,
            }
        )

    return config


Config = Callable[..., AuthSecConfig]


def test_each_side_gets_its_own(driver: Driver, config: Config, api: Place) -> None:
    """The authority sees the key and never a token again; the API sees the token and never the key."""
    place = Place()

    with LocalAuthority() as authority, place.server:
        authority.register(["read"], client_id=CLIENT_ID)
        token = driver.run(driver.client(base_url=authority.base_url, client_id=CLIENT_ID).get_delegation_token("read"))
        place.answer = lambda request: Reply.of_json({"token": token})
        client = driver.client(config(base_url=place.server.base_url))
        for _ in range(2):
            driver.run(client.fetch("path", "read"))
    assert place.credentials == [f"Bearer {KEY}"]
    assert token not in place.everything
    assert api.credentials == [f"Bearer {token}"] * 2
    assert KEY not in api.everything


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_the_authority_leads_nowhere_else(
    driver: Driver, config: Config, authority: LocalAuthority, stranger: Place, status: int
) -> None:
    """A redirect is a broken reply, be it to another server or to the same one."""
    for target in (f"{stranger.server.base_url}/x", f"{authority.base_url}/x", "//127.0.0.1/x", "/x"):
        authority.recover()
        authority.fail(status=status, headers={"Location": target})
        with pytest.raises(BadReplyError, match="redirects are not followed") as caught:
            driver.run(driver.client(config()).get_delegation_token("read"))
        assert not caught.value.retryable
    assert stranger.server.requests == ()
    assert authority.count("delegation") == 4


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_the_api_leads_nowhere_else(driver: Driver, config: Config, api: Place, stranger: Place, status: int) -> None:
    """A token is for the operator's API and not for wherever that points."""
    api.answer = lambda request: Reply(status=status, headers={"Location": f"{stranger.server.base_url}/x"})
    with pytest.raises(DownstreamError, match="redirect"):
        driver.run(driver.client(config()).fetch("path", "read"))
    assert stranger.server.requests == ()


def test_what_a_reply_points_to_is_not_asked(
    driver: Driver, config: Config, authority: LocalAuthority, stranger: Place
) -> None:
    """No member of a reply and no header of a token makes the client reach for another address."""
    where = stranger.server.base_url
    hostile = {name: f"{where}/{name}" for name in ("issuer", "token_endpoint", "jwks_uri", "refresh", "status_uri")}
    token = authority.mint(
        authority.register(["read"], client_id=CLIENT_ID, agent_key=KEY),
        header={"jku": f"{where}/jku", "x5u": f"{where}/x5u"},
        iss=where,
        status={"status_list": {"idx": 0, "uri": f"{where}/list"}},
    )
    headers = {"Link": f'<{where}/link>; rel="preload"', "Refresh": f"0; url={where}", "Alt-Svc": 'h2="evil.test:1"'}
    authority.fail(alter=lambda reply: {**reply, **hostile, "token": token}, headers=headers)
    client = driver.client(config())
    for _ in range(3):
        assert driver.run(client.get_delegation_token("read", force_refresh=True)) == token
    driver.run(client.fetch("path", "read"))
    assert stranger.server.requests == ()


def test_netrc_is_ignored(
    driver: Driver, config: Config, api: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither in HOME nor where NETRC points, not even where the environment is trusted."""
    for name in (".netrc", "_netrc"):
        (tmp_path / name).write_text("default login mallory password swordfish\n")
        (tmp_path / name).chmod(0o600)
    for name in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(name, str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    place = Place()
    place.answer = lambda request: Reply(status=403)
    for trust_env in (False, True):
        driver.run(driver.client(config(trust_env=trust_env)).fetch("path", "read"))
        with place.server:
            bare = config(base_url=place.server.base_url, agent_key=None, trust_env=trust_env)
            with pytest.raises(Exception, match="403"):
                driver.run(driver.client(bare).get_delegation_token("read"))
    assert place.credentials == ["", ""]
    assert all(credential.startswith("Bearer eyJ") for credential in api.credentials)
    assert "swordfish" not in api.everything


def test_proxies_are_ignored(
    driver: Driver, config: Config, api: Place, stranger: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy that the environment names would read every request that is not encrypted."""
    for name in PROXIES:
        monkeypatch.setenv(name, stranger.server.base_url)
    driver.run(driver.client(config()).fetch("path", "read"))
    assert stranger.server.requests == ()
    assert len(api.credentials) == 1


def test_proxies_are_used_where_the_environment_is_trusted(
    driver: Driver, config: Config, authority: LocalAuthority, stranger: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`AUTHSEC_TRUST_ENV` is the operator's word for it."""
    for name in ("HTTP_PROXY", "http_proxy"):
        monkeypatch.setenv(name, stranger.server.base_url)
    monkeypatch.setenv("AUTHSEC_TRUST_ENV", "true")
    stranger.answer = lambda request: Reply(status=403)
    with pytest.raises(Exception, match="403"):
        driver.run(driver.client(config()).get_delegation_token("read"))
    assert stranger.credentials == [f"Bearer {KEY}"]
    assert authority.requests == ()


@pytest.mark.req("RS3")
def test_certificates_that_the_environment_names_are_not_trusted(
    driver: Driver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless the environment is: or a variable would be enough to read along."""
    certificate = loopback_certificate(tmp_path)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate.ca_file))
    with LocalAuthority(certificate=certificate) as authority:
        agent = authority.register(["read"])
        where: dict[str, Any] = {"base_url": authority.base_url, "client_id": agent.client_id}
        with pytest.raises(InsecureTransportError):
            driver.run(driver.client(AuthSecConfig(**where)).get_delegation_token())
        assert authority.requests == ()
        assert driver.run(driver.client(AuthSecConfig(**where, trust_env=True)).get_delegation_token())


def test_cookies_are_not_kept(driver: Driver, config: Config, authority: LocalAuthority, api: Place) -> None:
    """Neither the authority's nor the API's, and not from one to the other: they share a host name here."""
    cookie = {"Set-Cookie": "session=swordfish; Path=/"}
    authority.fail(headers=cookie)
    api.answer = lambda request: Reply(headers=cookie, body=b"{}")
    client = driver.client(config())
    for _ in range(2):
        driver.run(client.fetch("path", "read", cache=False))
    received = [*(request.headers for request in authority.requests), *(r.headers for r in api.server.requests)]
    assert len(received) == 4
    assert not any("cookie" in headers for headers in received)


def test_a_key_is_bound_to_its_authority(
    driver: Driver, authority: LocalAuthority, stranger: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Code that passes another base URL does not get the environment's key sent there."""
    for name, value in authority.environ(authority.register(["read"], agent_key=KEY)).items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match="AUTHSEC_AGENT_KEY"):
        driver.client(base_url=stranger.server.base_url)
    assert driver.run(driver.client().get_delegation_token("read"))
    assert stranger.server.requests == ()


def test_without_an_api_nobody_gets_a_token(driver: Driver, config: Config, authority: LocalAuthority) -> None:
    """An unset `AUTHSEC_API_BASE_URL` is an error, and never stands for the authority itself."""
    client = driver.client(config(api_base_url=None))
    with pytest.raises(ConfigurationError, match="AUTHSEC_API_BASE_URL"):
        driver.run(client.fetch("path", "read"))
    assert authority.requests == ()


def test_the_proof_is_in_no_address(driver: Driver, config: Config, authority: LocalAuthority) -> None:
    """Addresses end up in logs: the key is in none, and the query has nothing but what was asked for."""
    driver.run(driver.client(config(audience="https://api.test")).get_delegation_token("read", ttl=60))
    [request] = authority.requests
    assert dict(request.query) == {"client_id": CLIENT_ID, "scope": "read", "audience": "https://api.test", "ttl": "60"}
    assert KEY not in json.dumps(dict(request.query))


def test_mock_tokens_stay_on_this_machine(driver: Driver, clock: FakeClock) -> None:
    """An API elsewhere is answered for by the samples; it is not called with a MOCK token."""
    client = driver.client(AuthSecConfig(mode="mock", api_base_url="https://api.test"), clock=clock)
    result = driver.run(client.fetch("secure-vault/metrics", "read:metrics"))
    assert result.mode == "mock"
