"""The two clients as a program uses them: over real HTTP where the network matters, with a clock that is not real."""

from __future__ import annotations

import asyncio
import copy
import gc
import logging
import pickle
import socket
import threading
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from core_support import CLIENT_ID, PATIENT, AnyClient, Driver, echo_server, reply_json

from authsec_core import AsyncAuthSecClient, AuthSecClient, AuthSecConfig, MockAuthority, TokenCache
from authsec_core.errors import (
    AuthorityUnreachableError,
    ConfigurationError,
    DelegationRefusedError,
    EndpointRefusedError,
    ProofUnavailableError,
    ScopeNotGrantedError,
)
from authsec_core.testing import FakeClock, LocalAgent, LocalAuthority, LoopbackServer, loopback_certificate
from authsec_core.testing import Reply as Answer

KEY = "agent-1.0123456789abcdef0123456789abcdef"
AUTHORITY = "https://authority.test"


@pytest.fixture
def authority(clock: FakeClock) -> Iterator[LocalAuthority]:
    """A loopback authority that goes by the test's clock."""
    with LocalAuthority(clock=clock) as authority:
        yield authority


@pytest.fixture
def agent(authority: LocalAuthority) -> LocalAgent:
    """An agent with two scopes."""
    return authority.register(["read", "write"])


@pytest.fixture
def client(driver: Driver, authority: LocalAuthority, agent: LocalAgent, clock: FakeClock) -> AnyClient:
    """That agent's client."""
    return driver.client(base_url=authority.base_url, client_id=agent.client_id, clock=clock)


class Token:
    """Asks one client for tokens, in either half."""

    def __init__(self, driver: Driver, client: AnyClient) -> None:
        self._driver, self._client = driver, client

    def __call__(self, scope: str | None = None, **wish: Any) -> str:
        """Return the text of a token."""
        return self._driver.run(self._client.get_delegation_token(scope, **wish))


@pytest.fixture
def token(driver: Driver, client: AnyClient) -> Token:
    """Ask the client for a token."""
    return Token(driver, client)


# Making one


@pytest.mark.req("RO3")
def test_making_a_client_reaches_for_nothing(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    """No connection, no look-up, no thread: an agent can be put together where there is no network."""

    def fail(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError

    threads = set(threading.enumerate())
    for name in ("socket", "getaddrinfo", "create_connection"):
        monkeypatch.setattr(socket, name, fail)
    if driver.kind == "sync":
        AuthSecClient(base_url=AUTHORITY, client_id=CLIENT_ID).close()
    else:
        AsyncAuthSecClient(base_url=AUTHORITY, client_id=CLIENT_ID)
    assert set(threading.enumerate()) <= threads


def test_the_environment_alone_is_enough(
    driver: Driver, authority: LocalAuthority, agent: LocalAgent, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client without arguments is who the variables say."""
    for name, value in authority.environ(agent).items():
        monkeypatch.setenv(name, value)
    client = driver.client()
    assert (client.mode, client.config.client_id) == ("live", agent.client_id)
    assert driver.run(client.delegation_token()).client_id == agent.client_id


def test_a_config_and_single_settings_are_too_much(driver: Driver) -> None:
    """One of them would silently win."""
    with pytest.raises(TypeError, match="client_id"):
        driver.client(AuthSecConfig(mode="mock"), client_id=CLIENT_ID)


@pytest.mark.req("RS1")
def test_live_takes_no_mock(driver: Driver) -> None:
    """A MOCK authority that was left in the code is a mistake that LIVE does not overlook."""
    with pytest.raises(ConfigurationError, match="AUTHSEC_MODE"):
        driver.client(base_url=AUTHORITY, client_id=CLIENT_ID, mock=MockAuthority())


def test_a_bad_ca_file_is_found_at_the_start(driver: Driver, tmp_path: Path) -> None:
    """Not in the middle of an agent's work."""
    file = tmp_path / "ca.pem"
    file.write_text("no certificate")
    with pytest.raises(ConfigurationError, match="AUTHSEC_CA_FILE"):
        driver.client(AuthSecConfig(base_url=AUTHORITY, client_id=CLIENT_ID, ca_file=file))


def test_so_is_one_that_the_environment_names(driver: Driver, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it is to be trusted."""
    file = tmp_path / "ca.pem"
    file.write_text("no certificate")
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    with pytest.raises(ConfigurationError, match="SSL_CERT_FILE"):
        driver.client(AuthSecConfig(base_url=AUTHORITY, client_id=CLIENT_ID, trust_env=True))
    driver.client(AuthSecConfig(base_url=AUTHORITY, client_id=CLIENT_ID))


@pytest.mark.req("RS8")
def test_a_client_does_not_leave_the_process(driver: Driver) -> None:
    """It is not pickled, a deep copy is itself, and its repr shows who it is and no key."""
    client = driver.client(base_url=AUTHORITY, client_id=CLIENT_ID, agent_key=KEY)
    for leave in (pickle.dumps, copy.copy):
        with pytest.raises(TypeError, match="not pickled"):
            leave(client)
    assert copy.deepcopy({"client": client})["client"] is client
    assert CLIENT_ID in repr(client)
    assert KEY not in repr(client) + repr(vars(client)) + repr(vars(vars(client)["_parts"]))


def test_a_client_says_who_it_is(driver: Driver, authority: LocalAuthority, agent: LocalAgent) -> None:
    """The User-Agent has the SDK's version, and the adapter's where there is one."""
    for product in (None, "authsec-crewai/0.2.0"):
        client = driver.client(base_url=authority.base_url, client_id=agent.client_id, product=product)
        driver.run(client.get_delegation_token())
    plain, adapter = (request.headers["user-agent"] for request in authority.requests)
    assert plain.startswith("authsec-core/")
    assert adapter == f"{plain} (authsec-crewai/0.2.0)"


# Asking


def test_a_held_token_is_used_again(token: Token, authority: LocalAuthority) -> None:
    """One exchange serves any number of calls."""
    assert len({token("read") for _ in range(5)}) == 1
    assert authority.count("delegation") == 1


@pytest.mark.req("RS4")
def test_each_wish_has_a_token_of_its_own(token: Token, authority: LocalAuthority) -> None:
    """Other scopes or another ttl are other tokens; another order of scopes is not."""
    wishes: list[dict[str, Any]] = [{}, {"scope": "read"}, {"scope": "read write"}, {"scope": "read", "ttl": 60}]
    assert len({token(**wish) for _ in range(2) for wish in wishes}) == len(wishes)
    assert token("write  read") == token("read write")
    assert authority.count("delegation") == len(wishes)


@pytest.mark.req("RS4")
def test_clients_that_differ_share_a_cache_and_no_token(
    driver: Driver, authority: LocalAuthority, agent: LocalAgent, clock: FakeClock
) -> None:
    """Another agent, proof, audience or authority under one cache: each gets what is its own."""
    other = authority.register(["read", "write"])
    cache = TokenCache(clock=clock)
    settings: list[dict[str, Any]] = [
        {"client_id": agent.client_id},
        {"client_id": other.client_id},
        {"client_id": agent.client_id, "agent_key": KEY},
        {"client_id": agent.client_id, "agent_key": KEY + "0"},
        {"client_id": agent.client_id, "audience": "https://api.test"},
    ]
    with LocalAuthority(clock=clock) as elsewhere:
        elsewhere.register(["read"], client_id=agent.client_id)
        configs = [AuthSecConfig(base_url=authority.base_url, **one) for one in settings]
        configs.append(AuthSecConfig(base_url=elsewhere.base_url, client_id=agent.client_id))
        clients = [driver.client(config, token_cache=cache, clock=clock) for config in configs]
        tokens = [driver.run(client.get_delegation_token("read")) for client in clients for _ in range(2)]
    assert len(set(tokens)) == len(configs)
    assert len(cache._slots) == len(configs)


def test_threads_and_coroutines_can_share_tokens(
    authority: LocalAuthority, agent: LocalAgent, clock: FakeClock
) -> None:
    """A sync and an async client of one agent, given one cache."""
    config, cache = AuthSecConfig(base_url=authority.base_url, client_id=agent.client_id), TokenCache(clock=clock)
    asynchronous = AsyncAuthSecClient(config, token_cache=cache, clock=clock)
    with AuthSecClient(config, token_cache=cache, clock=clock) as client:
        assert asyncio.run(asynchronous.get_delegation_token()) == client.get_delegation_token()


def test_a_forced_refresh_is_for_everyone(token: Token) -> None:
    """The new token takes the old one's place at once, also on the fast path."""
    old = token("read")
    new = token("read", force_refresh=True)
    assert old != new == token("read")


def test_a_token_for_one_call_is_kept_by_nobody(token: Token, authority: LocalAuthority) -> None:
    """`cache=False` neither takes a held token nor leaves one behind."""
    held = token("read")
    once = [token("read", cache=False) for _ in range(2)]
    assert len({held, *once}) == 3
    assert token("read") == held


def test_the_life_asked_for_is_asked_for(token: Token, authority: LocalAuthority, clock: FakeClock) -> None:
    """`ttl=` reaches the authority and bounds the token; another life is another token."""
    short = token("read", ttl=60.0)
    assert authority.requests[0].query["ttl"] == "60"
    assert authority.issued[0].ttl == 60
    clock.advance(44)
    assert token("read", ttl=60.0) == short
    clock.advance(1)
    assert token("read", ttl=60.0) != short


@pytest.mark.parametrize("wish", [{"scope": ""}, {"scope": " "}, {"scope": 'a"b'}, {"ttl": 0}, {"ttl": -1.0}])
def test_a_mistake_of_the_caller_reaches_nobody(
    driver: Driver, client: AnyClient, authority: LocalAuthority, wish: dict[str, Any]
) -> None:
    """A blank scope or an impossible life is a ValueError, with and without the cache."""
    for cache in (True, False):
        with pytest.raises(ValueError, match=r"scope|ttl"):
            driver.run(client.get_delegation_token(**wish, cache=cache))
    assert authority.requests == ()


@pytest.mark.req("RS10")
def test_a_grant_that_is_too_narrow_is_an_error(token: Token) -> None:
    """A token that does not cover what was asked is thrown away."""
    with pytest.raises(ScopeNotGrantedError) as caught:
        token("read admin")
    assert caught.value.missing == {"admin"}


def test_any_number_of_scopes_is_kept_in_bounds(driver: Driver, clock: FakeClock) -> None:
    """A model that invents scopes does not fill the memory of the client, either."""

    def issue(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json=reply_json(clock, claims={"permissions": [request.url.params["scope"]]}))

    client = driver.client(base_url=AUTHORITY, client_id=CLIENT_ID, clock=clock, handler=issue)
    for number in range(1500):
        driver.run(client.get_delegation_token(f"invented:{number}"))
    held: Any = vars(client)
    assert len(held["_at_hand"]) <= 256
    assert len(held["_parts"].cache._slots) <= 1024


# Renewing them


@pytest.mark.req("RS6")
@pytest.mark.parametrize(("lifetime", "fresh"), [(1, 0.75), (4, 3), (240, 180), (2_592_000, 2_591_940)])
def test_tokens_of_every_life_are_renewed_in_time(
    driver: Driver, authority: LocalAuthority, clock: FakeClock, lifetime: int, fresh: float
) -> None:
    """A one-second token and a 30-day token: used until they go STALE, then renewed, with the old one still alive."""
    agent = authority.register(["read"], ttl=lifetime)
    client = driver.client(base_url=authority.base_url, client_id=agent.client_id, clock=clock)
    token = Token(driver, client)
    tokens = [token()]
    for _ in range(3):
        clock.advance(fresh - 0.001)
        assert token() == tokens[-1]
        clock.advance(0.001)
        tokens.append(token())
    assert len(set(tokens)) == 4
    assert authority.count("delegation") == 4


@pytest.mark.req("RS6")
@pytest.mark.parametrize("years", [-10, 10])
def test_a_wrong_local_clock_does_no_harm(
    driver: Driver, authority: LocalAuthority, agent: LocalAgent, years: int
) -> None:
    """Neither one that was wrong from the beginning nor one that is set in between."""
    clock = FakeClock()
    clock.jump(years * 31_557_600)
    client = driver.client(base_url=authority.base_url, client_id=agent.client_id, clock=clock)
    first = driver.run(client.delegation_token())
    assert first.lifetime == pytest.approx(1800)
    for jump in (years, -2 * years):
        clock.jump(jump * 31_557_600)
        clock.advance(800)
        assert driver.run(client.delegation_token()) is first
    clock.advance(140)
    assert driver.run(client.delegation_token()) is not first


@pytest.mark.req("RS6")
def test_a_revoked_agent_keeps_no_token_at_hand(
    token: Token, authority: LocalAuthority, agent: LocalAgent, clock: FakeClock
) -> None:
    """The refusal of one renewal is seen by the fast path, too."""
    token("read")
    authority.revoke_agent(agent.client_id)
    with pytest.raises(DelegationRefusedError, match="410"):
        token("read", force_refresh=True)
    with pytest.raises(DelegationRefusedError, match="410"):
        token("read")
    authority.register(["read"], client_id=agent.client_id)
    clock.advance(1)
    assert token("read")


# Proofs


def test_the_agent_key_is_the_proof(driver: Driver, authority: LocalAuthority) -> None:
    """Without it, or with another one, the authority refuses."""
    agent = authority.register(["read"], agent_key=KEY)
    where: dict[str, Any] = {"base_url": authority.base_url, "client_id": agent.client_id}
    assert driver.run(driver.client(**where, agent_key=KEY).get_delegation_token())
    wrong: list[dict[str, Any]] = [{}, {"agent_key": KEY[:-1] + "0"}]
    for more in wrong:
        with pytest.raises(DelegationRefusedError) as caught:
            driver.run(driver.client(**where, **more).get_delegation_token())
        assert caught.value.reason == "proof_rejected"


def test_a_workload_token_is_read_for_each_exchange(
    driver: Driver, authority: LocalAuthority, clock: FakeClock, tmp_path: Path
) -> None:
    """The platform rewrites the file; the client goes on without being told, and keeps its tokens."""
    file = tmp_path / "token"
    agent = authority.register(["read"], agent_key="first")
    config = AuthSecConfig(base_url=authority.base_url, client_id=agent.client_id, workload_token_file=file)
    token = Token(driver, driver.client(config, clock=clock))
    with pytest.raises(ProofUnavailableError):
        token()
    assert authority.requests == ()
    file.write_text("first\n")
    clock.advance(1)
    held = token()
    authority.register(["read"], client_id=agent.client_id, agent_key="second")
    file.write_text("second")
    assert token() == held
    assert token(force_refresh=True) != held


@pytest.mark.req("RS6")
def test_a_missing_workload_token_does_not_end_a_held_one(
    driver: Driver, authority: LocalAuthority, agent: LocalAgent, clock: FakeClock, tmp_path: Path
) -> None:
    """A mount that is being renewed is an outage like any other."""
    file = tmp_path / "token"
    file.write_text("any")
    config = AuthSecConfig(base_url=authority.base_url, client_id=agent.client_id, workload_token_file=file)
    token = Token(driver, driver.client(config, clock=clock))
    held = token()
    file.unlink()
    clock.advance(1790)
    assert token() == held
    clock.advance(10)
    with pytest.raises(ProofUnavailableError):
        token()


# Closing


@pytest.mark.parametrize("mode", ["live", "mock"])
def test_a_closed_client_says_so(
    driver: Driver, authority: LocalAuthority, agent: LocalAgent, clock: FakeClock, mode: str
) -> None:
    """Also for a token that it had, and also in MOCK mode, so that tests find what LIVE would."""
    live = AuthSecConfig(base_url=authority.base_url, client_id=agent.client_id, api_base_url=authority.base_url)
    client = driver.client(live if mode == "live" else AuthSecConfig(mode="mock"), clock=clock)
    driver.run(client.get_delegation_token("read"))
    driver.close_client(client)
    driver.close_client(client)
    uses: list[Callable[[], object]] = [
        lambda: client.get_delegation_token("read"),
        lambda: client.get_delegation_token("read", cache=False),
        lambda: client.delegation_token("write"),
        lambda: client.fetch("secure-vault/metrics", "read:metrics"),
    ]
    for use in uses:
        with pytest.raises(RuntimeError, match="closed: make a new one"):
            driver.run(use())
    assert authority.count("delegation") == (mode == "live")


def test_a_with_block_closes(authority: LocalAuthority, agent: LocalAgent) -> None:
    """Both kinds are context managers; entering hands out the client itself."""
    where: dict[str, Any] = {"base_url": authority.base_url, "client_id": agent.client_id}
    with AuthSecClient(**where) as client:
        assert client.get_delegation_token()
    with pytest.raises(RuntimeError, match="closed"):
        client.get_delegation_token()

    async def main() -> None:
        async with AsyncAuthSecClient(**where) as client:
            assert await client.get_delegation_token()
        with pytest.raises(RuntimeError, match="closed"):
            await client.get_delegation_token()

    asyncio.run(main())


@pytest.mark.parametrize("tls", [False, True], ids=["http", "https"])
def test_one_async_client_works_on_three_loops_in_turn(tmp_path: Path, tls: bool) -> None:
    """Classic AutoGen makes a loop for each tool call; each one's connections end with it, and nothing is warned of."""
    certificate = loopback_certificate(tmp_path) if tls else None
    gc.collect()  # what another test has left is not what is looked for
    with (
        LocalAuthority(certificate=certificate) as authority,
        echo_server() as api,
        warnings.catch_warnings(record=True) as caught,
    ):
        warnings.simplefilter("always")
        agent = authority.register(["read"])
        client = AsyncAuthSecClient(
            AuthSecConfig(
                base_url=authority.base_url,
                client_id=agent.client_id,
                api_base_url=api.base_url,
                ca_file=certificate.ca_file if certificate else None,
            )
        )

        async def turn(force: bool) -> tuple[str, object]:
            text = await client.get_delegation_token("read", force_refresh=force)
            return text, (await client.fetch("path", "read")).data

        tokens = {asyncio.run(turn(force))[0] for force in (True, False, True)}
        assert asyncio.run(turn(False))[1] == {"path": "/path"}
        asyncio.run(client.aclose())
        gc.collect()
    assert (len(tokens), authority.count("delegation")) == (2, 2)
    assert [str(warning.message) for warning in caught] == []


@pytest.mark.req("RS1")
@pytest.mark.parametrize(
    ("driver", "end"), [("sync", "close"), ("async", "close"), ("async", "release")], indirect=["driver"]
)
def test_a_request_that_is_cut_off_by_closing_is_an_outage(
    driver: Driver, client: AnyClient, authority: LocalAuthority, end: str
) -> None:
    """Whoever still waits when another caller closes the client gets a typed error, and not what a socket says."""
    answer = threading.Event()
    authority.fail(delay=answer)
    if isinstance(client, AuthSecClient):
        with ThreadPoolExecutor(1) as threads:
            waiting = threads.submit(client.get_delegation_token)
            authority.wait_for_requests(1)
            client.close()
            answer.set()
            with pytest.raises(AuthorityUnreachableError):
                waiting.result(PATIENT)
        return
    asynchronous = client

    async def main() -> None:
        waiting = asyncio.create_task(asynchronous.get_delegation_token())
        await asyncio.to_thread(authority.wait_for_requests, 1)
        await (asynchronous.aclose() if end == "close" else asynchronous.release())
        answer.set()
        with pytest.raises(AuthorityUnreachableError):
            await waiting

    driver.run(main())


def test_one_async_client_works_on_several_loops_at_once(authority: LocalAuthority, agent: LocalAgent) -> None:
    """Each thread runs a loop of its own, and all ask the network."""
    client, gate = AsyncAuthSecClient(base_url=authority.base_url, client_id=agent.client_id), threading.Barrier(4)

    async def main() -> list[str]:
        gate.wait(PATIENT)
        return list(await asyncio.gather(*(client.get_delegation_token("read", cache=False) for _ in range(5))))

    with ThreadPoolExecutor(4) as threads:
        running = [threads.submit(asyncio.run, main()) for _ in range(4)]
        tokens = {text for one in running for text in one.result(PATIENT)}
    assert len(tokens) == 20


class Lent(httpx.MockTransport):
    """A transport that belongs to the test."""

    closed = False

    def close(self) -> None:
        self.closed = True

    async def aclose(self) -> None:
        self.closed = True


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_transport_is_used_for_everything_and_not_closed(clock: FakeClock, kind: str) -> None:
    """The authority and the API are reached through it, and it stays the caller's to close."""
    hosts: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        hosts.append(request.url.host)
        return httpx.Response(200, json=reply_json(clock))

    transport = Lent(answer)
    config = AuthSecConfig(base_url=AUTHORITY, client_id=CLIENT_ID, api_base_url="https://api.test")
    if kind == "sync":
        with AuthSecClient(config, transport=transport, clock=clock) as client:
            client.fetch("metrics", "read:metrics")
    else:

        async def main() -> None:
            async with AsyncAuthSecClient(config, transport=transport, clock=clock) as client:
                await client.fetch("metrics", "read:metrics")

        asyncio.run(main())
    assert hosts == ["authority.test", "api.test"]
    assert not transport.closed


# What is said of MOCK


@pytest.mark.req("RS1")
def test_falling_into_mock_mode_is_said_once(driver: Driver, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever forgot the settings finds out from the log; whoever asked for MOCK is left alone."""
    with caplog.at_level(logging.WARNING, "authsec"):
        driver.client(AuthSecConfig(mode="mock"))
        assert caplog.records == []
        client = driver.client()
        driver.run(client.get_delegation_token("read"))
    [record] = caplog.records
    assert "MOCK" in record.getMessage()


def test_mock_mode_reaches_for_no_network(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens and sample data are made in this process."""
    client = driver.client(AuthSecConfig(mode="mock"))

    def fail(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError

    for name in ("getaddrinfo", "create_connection"):
        monkeypatch.setattr(socket, name, fail)
    token = driver.run(client.delegation_token("read:metrics"))
    assert (token.mode, token.scopes) == ("mock", frozenset({"read:metrics"}))
    assert driver.run(client.fetch("secure-vault/metrics", "read:metrics")).mode == "mock"
    with pytest.raises(EndpointRefusedError):
        driver.run(client.fetch("elsewhere", "read:metrics"))


@pytest.mark.req("RS9")
@pytest.mark.parametrize("shared", [False, True])
def test_an_auth_ends_with_its_client(authsec_authority: LocalAuthority, shared: bool) -> None:
    """Once a client is closed, what it handed out sends no token any more, unless another client shares the cache."""
    agent = authsec_authority.register(["read:metrics"])
    with LoopbackServer(lambda _: Answer.of_json({})) as api:
        config = AuthSecConfig(
            base_url=authsec_authority.base_url, client_id=agent.client_id, api_base_url=api.base_url
        )
        client = AuthSecClient(config, token_cache=TokenCache() if shared else None)
        auth = client.auth("read:metrics")
        with httpx.Client() as http:
            assert http.get(api.base_url, auth=auth).status_code == 200
            client.close()
            if shared:
                assert http.get(api.base_url, auth=auth).status_code == 200
            else:
                with pytest.raises(RuntimeError, match="closed"):
                    http.get(api.base_url, auth=auth)
        assert len(api.requests) == (2 if shared else 1)
