"""A secret on requests of the program's own: to which origins, on which request, and what is left of it afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from core_support import Driver
from vault_support import PATH, VALUE, VAULT

from authsec_core import (
    AgentVault,
    AgentVaultSync,
    ConfigurationError,
    EndpointRefusedError,
    MockVault,
    VaultScopeDeniedError,
)
from authsec_core.testing import FakeClock, LoopbackServer, Reply, Request

API = "https://api.test"
Handler = Callable[[httpx.Request], httpx.Response]


@pytest.fixture
def mock(clock: FakeClock) -> MockVault:
    """A vault with one secret."""
    return MockVault({PATH: VALUE}, clock=clock)


@pytest.fixture
def vault(driver: Driver, mock: MockVault, clock: FakeClock) -> Any:
    """A client of it."""
    return driver.vault(secrets=mock, clock=clock)


@pytest.fixture
def api() -> Iterator[LoopbackServer]:
    """An API that redirects from `/old` to `/new`, and from `/away` to where the test says."""

    def answer(request: Request) -> Reply:
        return Reply(status=307, headers={"Location": "/new"}) if request.path == "/old" else Reply.of_json({})

    with LoopbackServer(answer) as server:
        yield server


def request(
    driver: Driver, auth: httpx.Auth, url: str, *, handler: Handler | None = None, **more: Any
) -> httpx.Response:
    """Send a request with a client of the program's own, over the network where there is no handler."""
    transport = None if handler is None else httpx.MockTransport(handler)
    options: dict[str, Any] = {
        "transport": transport,
        "trust_env": False,
        "follow_redirects": more.pop("follow_redirects", False),
    }
    method = more.pop("method", "GET")
    if driver.kind == "sync":
        with httpx.Client(**options) as http:
            return http.request(method, url, auth=auth, **more)

    async def awaited() -> httpx.Response:
        async with httpx.AsyncClient(**options) as client:
            return await client.request(method, url, auth=auth, **more)

    return driver.run(awaited())


class Seen(list[dict[str, str]]):
    """The headers that an API saw."""

    def __call__(self, sent: httpx.Request) -> httpx.Response:
        """Note them and answer."""
        self.append(dict(sent.headers))
        return httpx.Response(200, json={})


@pytest.mark.parametrize(
    ("how", "name", "value"),
    [
        ({}, "authorization", f"Bearer {VALUE}"),
        ({"prefix": "Token "}, "authorization", f"Token {VALUE}"),
        ({"header": "X-API-Key"}, "x-api-key", VALUE),
        ({"header": "X-API-Key", "prefix": "k:"}, "x-api-key", f"k:{VALUE}"),
        ({"prefix": ""}, "authorization", VALUE),
    ],
)
def test_the_secret_stands_where_the_api_looks(
    driver: Driver, vault: Any, how: dict[str, str], name: str, value: str
) -> None:
    """As a bearer by default; in another header as it is."""
    seen = Seen()
    request(driver, vault.auth(PATH, **how), f"{API}/x", handler=seen)
    assert seen[0][name] == value


def test_each_request_reads_the_secret(driver: Driver, vault: Any, mock: MockVault) -> None:
    """So that the audit has each use, with what the agent says of it; and a rotated secret is used at once."""
    auth, seen = vault.auth(PATH, metadata={"agent_name": "researcher"}), Seen()
    request(driver, auth, f"{API}/x", handler=seen)
    mock.register(PATH, "sk-rotated")
    request(driver, auth, f"{API}/x", handler=seen)
    assert [headers["authorization"] for headers in seen] == [f"Bearer {VALUE}", "Bearer sk-rotated"]
    assert [access.claimed for access in mock.accesses] == [{"agent_name": "researcher"}] * 2


def test_a_secret_can_be_kept_for_a_while(driver: Driver, vault: Any, mock: MockVault, clock: FakeClock) -> None:
    """For `cache_seconds`, and not for one more."""
    auth, seen = vault.auth(PATH, cache_seconds=10), Seen()
    for seconds in (0, 9, 1):
        clock.advance(seconds)
        request(driver, auth, f"{API}/x", handler=seen)
    assert len(mock.accesses) == 2


def test_a_token_is_used_where_there_is_one(driver: Driver, vault: Any, mock: MockVault) -> None:
    """What it does not reach does not go out."""
    token = driver.run(vault.request_token("secrets:read:production/search/*"))
    seen = Seen()
    with pytest.raises(VaultScopeDeniedError):
        request(driver, vault.auth(PATH, token=token), f"{API}/x", handler=seen)
    assert not seen
    assert mock.accesses[-1].token_id == token.token_id


@pytest.mark.req("RS9")
class TestOrigins:
    """Where the secret goes."""

    def test_the_first_request_decides(self, driver: Driver, vault: Any, mock: MockVault) -> None:
        """Without `origins=` the secret is for the first request's origin; no other one has it read."""
        auth, seen = vault.auth(PATH), Seen()
        request(driver, auth, f"{API}/x", handler=seen)
        request(driver, auth, "https://API.test:443/y", handler=seen)
        for url in ("https://evil.test/x", "https://api.test:444/x", "http://api.test/x", "https://api.test.evil/x"):
            with pytest.raises(EndpointRefusedError):
                request(driver, auth, url, handler=seen)
        assert (len(seen), len(mock.accesses)) == (2, 2)

    def test_origins_that_are_named_are_the_only_ones(self, driver: Driver, vault: Any, mock: MockVault) -> None:
        """From the first request on."""
        auth, seen = vault.auth(PATH, origins=[API, "https://other.test"]), Seen()
        with pytest.raises(EndpointRefusedError):
            request(driver, auth, "https://evil.test/x", handler=seen)
        request(driver, auth, "https://other.test/x", handler=seen)
        assert (len(seen), len(mock.accesses)) == (1, 1)

    @pytest.mark.req("RS3")
    def test_http_is_for_this_machine(self, driver: Driver, vault: Any, mock: MockVault) -> None:
        """A first request over plain http is refused before the secret is read, and binds nothing."""
        auth, seen = vault.auth(PATH), Seen()
        with pytest.raises(EndpointRefusedError, match="plain http"):
            request(driver, auth, "http://api.test/x", handler=seen)
        assert (len(seen), len(mock.accesses)) == (0, 0)
        request(driver, auth, f"{API}/x", handler=seen)

    @pytest.mark.parametrize("origins", ["https://api.test", ["api.test"], ["https://api.test/path"]])
    def test_what_is_no_origin_is_refused(self, vault: Any, origins: Any) -> None:
        """At the start."""
        with pytest.raises(ConfigurationError, match="origins="):
            vault.auth(PATH, origins=origins)

    @pytest.mark.parametrize("header", ["Authorization", "X-API-Key"])
    def test_a_redirect_gets_no_secret(self, driver: Driver, vault: Any, api: LoopbackServer, header: str) -> None:
        """Neither to another origin nor to the same one, in whichever header it stood."""
        with LoopbackServer(lambda _: Reply(status=302, headers={"Location": f"{api.base_url}/new"})) as elsewhere:
            request(driver, vault.auth(PATH, header=header), f"{elsewhere.base_url}/x", follow_redirects=True)
            assert header.lower() in elsewhere.requests[0].headers
        request(driver, vault.auth(PATH, header=header), f"{api.base_url}/old", follow_redirects=True)
        assert [header.lower() in sent.headers for sent in api.requests] == [False, True, False]

    def test_a_trace_of_the_programs_own_goes_on(self, driver: Driver, vault: Any, api: LoopbackServer) -> None:
        """It hears what it would hear without us."""
        events: list[str] = []

        def trace(event: str, info: Any) -> None:
            events.append(event)

        async def atrace(event: str, info: Any) -> None:
            events.append(event)

        extensions = {"trace": trace if driver.kind == "sync" else atrace}
        request(driver, vault.auth(PATH), f"{api.base_url}/x", extensions=extensions)
        assert "http11.send_request_headers.complete" in events
        assert "http11.response_closed.complete" in events


@pytest.mark.req("RS8")
class TestWhatIsLeft:
    """Of the secret, once it was used."""

    def test_the_request_has_it_no_more(self, driver: Driver, vault: Any) -> None:
        """A response keeps its request, and programs log both."""
        response = request(driver, vault.auth(PATH, header="X-API-Key"), f"{API}/x", handler=Seen())
        assert "x-api-key" not in response.request.headers

    def test_a_failed_request_has_it_no_more(self, driver: Driver, vault: Any) -> None:
        """Its exception keeps the request, too."""

        def fail(sent: httpx.Request) -> httpx.Response:
            raise httpx.ReadError("broke off", request=sent)

        with pytest.raises(httpx.ReadError) as caught:
            request(driver, vault.auth(PATH, header="X-API-Key"), f"{API}/x", handler=fail)
        assert "x-api-key" not in caught.value.request.headers

    @pytest.mark.parametrize("value", ["a\r\nX-Evil: 1", "a\nb", " x", "x ", "é", "\x00"])
    def test_a_secret_that_is_no_header_stays_here(
        self, driver: Driver, vault: Any, mock: MockVault, value: str
    ) -> None:
        """The error names the path and not the value."""
        mock.register("a/b", value)
        seen = Seen()
        with pytest.raises(ConfigurationError, match="The secret a/b") as caught:
            request(driver, vault.auth("a/b"), f"{API}/x", handler=seen)
        assert value.strip() not in str(caught.value) or value.strip() in {"x"}
        assert not seen

    @pytest.mark.parametrize("how", [{"header": "X Key"}, {"header": ""}, {"prefix": "a\r\n"}, {"prefix": "é"}])
    def test_a_header_that_is_none_is_refused(self, vault: Any, how: dict[str, str]) -> None:
        """At the start."""
        with pytest.raises(ValueError, match="header="):
            vault.auth(PATH, **how)


def test_each_kind_is_for_its_kind_of_client() -> None:
    """A blocking read in a loop, or a coroutine that nobody awaits, would be the alternative."""
    with AgentVaultSync(secrets={PATH: VALUE}) as vault, pytest.raises(TypeError, match="AgentVault"):
        vault.auth(PATH).async_auth_flow(httpx.Request("GET", VAULT)).__anext__().send(None)
    with pytest.raises(TypeError, match=r"httpx\.AsyncClient"):
        next(AgentVault(secrets={PATH: VALUE}).auth(PATH).sync_auth_flow(httpx.Request("GET", VAULT)))
