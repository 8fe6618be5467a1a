"""MOCK mode: real tokens of an issuer that cannot exist, and sample data that says that it is."""

from __future__ import annotations

import json
import math
import subprocess
import sys
import threading
from typing import Any

import httpx
import jwt
import pytest
from api_support import World, fetch, tool
from core_support import Driver, echo_server

from authsec_core import (
    AuthSecConfig,
    ConfigurationError,
    DelegationRefusedError,
    DownstreamDeniedError,
    DownstreamError,
    EndpointRefusedError,
    MockAuthority,
    ScopeNotGrantedError,
    TokenRejectedError,
    TokenVerifier,
    WrongIssuerError,
)
from authsec_core.mock import MOCK_CLIENT_ID, MOCK_LIFETIME, MockSource
from authsec_core.source import TokenRequest
from authsec_core.testing import FakeClock, LocalAuthority
from authsec_core.token import MOCK_ISSUER

SCOPES = frozenset({"read:metrics", "read:records"})
MOCK = AuthSecConfig(mode="mock")


def decoded(token: str, authority: MockAuthority, audience: str = "authsec-api") -> dict[str, Any]:
    """Verify with PyJWT and the published key, as a test's own API would."""
    key = jwt.PyJWK(authority.jwks()["keys"][0])
    required: Any = {"require": ["exp", "iat", "nbf", "aud", "iss", "sub", "jti"]}
    return jwt.decode(token, key, algorithms=["RS256"], audience=audience, options=required)


class TestTheToken:
    """RS2: what is minted is a real token, and cannot be taken for a good one."""

    @pytest.mark.req("RS2")
    def test_it_is_real_rs256(self) -> None:
        """Another library verifies it with the published key, and finds the claims of a delegation token."""
        authority = MockAuthority()
        token = authority.mint(SCOPES)
        claims = decoded(token.value, authority)
        header = jwt.get_unverified_header(token.value)
        assert (header["alg"], header["typ"], header["kid"]) == ("RS256", "JWT", authority.jwks()["keys"][0]["kid"])
        assert claims["iss"] == MOCK_ISSUER == "https://mock.authsec.invalid"
        assert claims["mock"] is True
        assert claims["sub"] == token.spiffe_id == "spiffe://mock.authsec.invalid/ns/default/sa/ai-agent"
        assert claims["permissions"] == sorted(SCOPES)
        assert claims["scope"] == "read:metrics read:records"
        assert (claims["jti"], claims["client_id"], tuple(claims["aud"])) == (
            token.jti,
            token.client_id,
            token.audience,
        )
        assert claims["exp"] - claims["iat"] == token.lifetime == MOCK_LIFETIME == 1800
        assert (token.mode, token.scopes, token.excess_scopes) == ("mock", SCOPES, frozenset())

    @pytest.mark.req("RS2")
    def test_every_changed_character_breaks_it(self) -> None:
        """The signature covers all of it."""
        authority = MockAuthority()
        header, claims, signature = authority.mint(SCOPES).value.split(".")
        forged = claims[:-8] + ("A" if claims[-8] != "A" else "B") + claims[-7:]
        for text in (
            f"{header}.{forged}.{signature}",
            f"{header}.{claims}.{signature[:-8]}AAAAAAAA",
            f"{header}.{claims}.",
        ):
            with pytest.raises(jwt.InvalidTokenError):
                decoded(text, authority)

    @pytest.mark.req("RS2")
    def test_the_key_is_the_processs_own(self) -> None:
        """All MOCK authorities of one process share one key; another process has another."""
        mine = MockAuthority().jwks()
        assert MockAuthority("a").jwks() == mine
        assert set(mine["keys"][0]) == {"kty", "n", "e", "kid", "alg", "use"}
        program = "import json; from authsec_core import MockAuthority; print(json.dumps(MockAuthority().jwks()))"
        theirs = json.loads(subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout)
        assert theirs["keys"][0]["kid"] != mine["keys"][0]["kid"]
        assert theirs["keys"][0]["n"] != mine["keys"][0]["n"]

    @pytest.mark.req("RS2")
    def test_the_key_is_long_enough_and_published_without_its_private_half(self) -> None:
        """2048 bits and the usual exponent."""
        (key,) = MockAuthority().jwks()["keys"]
        public = jwt.PyJWK(key).key
        assert (public.key_size, public.public_numbers().e) == (2048, 65537)
        assert not {"d", "p", "q", "dp", "dq", "qi", "k"} & set(key)
        MockAuthority().jwks()["keys"].clear()
        assert MockAuthority().jwks()["keys"]

    @pytest.mark.req("RS2")
    def test_a_default_verifier_refuses_it(self) -> None:
        """A verifier with the real authority's keys refuses it, and so does one that got the MOCK key by mistake."""
        mock = MockAuthority()
        token = mock.mint(SCOPES).value
        with LocalAuthority() as real:
            verifier = TokenVerifier(issuer=real.issuer, audience="authsec-api", jwks_url=real.jwks_url)
            with pytest.raises(WrongIssuerError):
                verifier.verify(token)
            fooled = TokenVerifier(issuer=real.issuer, audience="authsec-api", jwks=mock.jwks())
            with pytest.raises(WrongIssuerError):
                fooled.verify(token)
            assert real.count("jwks") == 0

    @pytest.mark.req("RS2")
    def test_a_token_that_pretends_to_be_real_is_refused(self) -> None:
        """A key id that the issuer does not have, `mock`, and another `iss` are each enough to be refused."""
        with LocalAuthority() as real:
            verifier = TokenVerifier(issuer=real.issuer, audience="authsec-api", jwks_url=real.jwks_url)
            kid = MockAuthority().jwks()["keys"][0]["kid"]
            for token in (real.mint(header={"kid": kid}), real.mint(mock=True), real.mint(iss=MOCK_ISSUER)):
                with pytest.raises(TokenRejectedError):
                    verifier.verify(token)
            assert verifier.verify(real.mint()).scopes

    @pytest.mark.req("RS2")
    def test_a_verifier_that_was_told_takes_it(self) -> None:
        """A test of one's own API names the MOCK issuer and hands its key over."""
        mock = MockAuthority()
        verifier = TokenVerifier(issuer=MOCK_ISSUER, audience="authsec-api", jwks=mock.jwks())
        verified = verifier.verify(mock.mint(SCOPES).value)
        assert (verified.scopes, verified.client_id) == (SCOPES, MOCK_CLIENT_ID)

    def test_each_token_is_another(self) -> None:
        """No two have the same `jti`, from one authority or from two, in one thread or in several."""
        authority = MockAuthority()
        found: list[str | None] = []
        barrier = threading.Barrier(8)

        def mint() -> None:
            barrier.wait(10)
            found.extend(authority.mint().jti for _ in range(5))

        threads = [threading.Thread(target=mint) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        assert len(set(found)) == 40

    @pytest.mark.parametrize(
        ("asked", "lifetime"), [(None, 1800), (1800.0, 1800), (1e9, 1800), (60, 60), (1.0, 1), (1.999, 1), (0.2, 1)]
    )
    def test_the_lifetime_is_whole_seconds_and_at_most_what_was_asked(self, asked: Any, lifetime: int) -> None:
        """As from a real authority: rounded down, at least a second, at most half an hour, counted by the clock."""
        clock = FakeClock(wall=1000.25, steady=7.0)
        token = MockAuthority(clock=clock).mint(ttl=asked)
        assert (token.lifetime, token.issued_at, token.sent_at) == (lifetime, 1000.25, 7.0)
        claims = jwt.decode(token.value, options={"verify_signature": False})
        assert (claims["iat"], claims["exp"]) == (1000, 1000 + lifetime)

    @pytest.mark.parametrize("ttl", [0, -1, math.nan, -math.inf])
    def test_a_lifetime_that_is_none_is_refused(self, ttl: float) -> None:
        """Zero does not mean the default."""
        with pytest.raises(ValueError, match="ttl"):
            MockAuthority().mint(ttl=ttl)

    def test_the_client_and_the_audience_can_be_named(self) -> None:
        """As in LIVE mode the settings decide them."""
        token = MockAuthority().mint(client_id="c", audience="other-api")
        assert (token.client_id, token.audience) == ("c", ("other-api",))
        assert decoded(token.value, MockAuthority(), audience="other-api")["client_id"] == "c"


class TestDenials:
    """What an agent is refused in production can be refused offline."""

    def test_without_permissions_everything_asked_is_granted(self) -> None:
        """The whole delegation is then what the samples need."""
        assert MockAuthority().mint(frozenset({"anything"})).scopes == frozenset({"anything"})
        assert MockAuthority().mint().scopes == SCOPES

    @pytest.mark.parametrize(
        "permissions", ["read:metrics write", ["read:metrics", "write"], {"read:metrics", "write"}]
    )
    def test_with_permissions_only_they_are(self, permissions: Any) -> None:
        """Some of what was asked missing, or all of it, are the two refusals of the real client."""
        authority = MockAuthority(permissions)
        granted = frozenset({"read:metrics", "write"})
        assert authority.mint().scopes == granted
        assert authority.mint(frozenset({"write"})).scopes == frozenset({"write"})
        with pytest.raises(ScopeNotGrantedError) as some:
            authority.mint(frozenset({"write", "read:records"}))
        assert some.value.missing == frozenset({"read:records"})
        with pytest.raises(DelegationRefusedError) as none:
            authority.mint(frozenset({"read:records"}))
        assert (none.value.reason, none.value.status) == ("not_delegated", 403)

    @pytest.mark.parametrize("permissions", ["", " ", [], ["a b"], 'a"'])
    def test_blank_permissions_are_a_mistake(self, permissions: Any) -> None:
        """Neither everything nor nothing: an error."""
        with pytest.raises(ValueError, match="scope"):
            MockAuthority(permissions)

    def test_a_denial_offline_reads_like_one(self, driver: Driver) -> None:
        """The model is told the same as in production, and gets no sample data."""
        client = driver.client(AuthSecConfig(mode="mock", mock_permissions="read:metrics"))
        denied = json.loads(tool(driver, client, "secure-vault/records", "read:records"))
        assert (denied["status"], denied["code"], denied["mode"]) == ("error", "delegation_refused", "mock")
        assert "data" not in denied
        assert json.loads(tool(driver, client, "secure-vault/metrics", "read:metrics"))["status"] == "success"

    def test_the_sample_api_checks_the_scope(self) -> None:
        """A token for something else is refused by the endpoint, as the protected API would."""
        authority = MockAuthority()
        with pytest.raises(DownstreamDeniedError, match="read:metrics") as caught:
            authority.answer("secure-vault/metrics", authority.mint(frozenset({"read:records"})))
        assert caught.value.status == 403
        with pytest.raises(DownstreamError) as missing:
            authority.answer("nothing/here", authority.mint())
        assert missing.value.status == 404


class TestData:
    """Sample data, and one's own."""

    def test_own_data_can_be_registered(self, driver: Driver) -> None:
        """Anything that JSON holds, for a scope; the tool then knows the endpoint."""
        mock = MockAuthority()
        data = {"text": "gar\u00e7on", "list": [1, 2.5, None, True], "deep": {"a": {"b": []}}}
        mock.register("/reports/latest/", data, scope="read:reports")
        client = driver.client(MOCK, mock=mock)
        assert fetch(driver, client, "reports/latest", "read:reports").data == data
        assert "'reports/latest' with scope 'read:reports'" in client.policy.describe()
        mock.register("reports/latest", None, scope="read:other")
        assert fetch(driver, client, "reports/latest", "read:other").data is None

    @pytest.mark.parametrize("data", [{1, 2}, b"x", object(), {"a": {1}}, {("a",): 1}])
    def test_what_json_cannot_hold_is_refused_at_once(self, data: object) -> None:
        """The person who registers it is told, not the model that asks for it later."""
        with pytest.raises(TypeError):
            MockAuthority().register("a", data, scope="s")

    @pytest.mark.parametrize("data", [math.nan, [math.inf]])
    def test_numbers_that_json_does_not_have_are_refused(self, data: object) -> None:
        """Python would write NaN, which is no JSON."""
        with pytest.raises(ValueError, match="JSON"):
            MockAuthority().register("a", data, scope="s")

    @pytest.mark.parametrize("endpoint", ["", "..", "https://evil.test", "a//b", "a?x=1"])
    def test_an_endpoint_that_could_never_be_asked_for_is_refused(self, endpoint: str) -> None:
        """The same rules hold as for a model's endpoint."""
        with pytest.raises(ValueError, match=r"path|query"):
            MockAuthority().register(endpoint, 1, scope="s")
        with pytest.raises(ValueError, match="blank"):
            MockAuthority().register("a", 1, scope=" ")

    @pytest.mark.req("RD7")
    def test_two_agents_do_not_share_data(self, driver: Driver) -> None:
        """What one registers, or does to an answer, the other never sees."""
        one, two = MockAuthority(), MockAuthority()
        mine = {"secret": ["of", "one"]}
        one.register("private", mine, scope="s")
        mine["secret"].append("changed later")
        first, second = driver.client(MOCK, mock=one), driver.client(MOCK, mock=two)
        answer = fetch(driver, first, "private", "s")
        assert answer.data == {"secret": ["of", "one"]}
        answer.data["secret"].clear()
        assert fetch(driver, first, "private", "s").data == {"secret": ["of", "one"]}
        with pytest.raises(EndpointRefusedError):
            fetch(driver, second, "private", "s")
        shared = fetch(driver, first, "secure-vault/metrics", "read:metrics")
        shared.data.clear()
        assert fetch(driver, second, "secure-vault/metrics", "read:metrics").data["active_agents"] == 42

    def test_sample_data_says_that_it_is(self, driver: Driver) -> None:
        """The result is marked, and the model is told to say so."""
        result = fetch(driver, driver.client(MOCK), "secure-vault/records", "read:records")
        assert (result.mode, result.code, result.token is not None) == ("mock", 200, True)
        shown = json.loads(result.to_json())
        assert shown["mode"] == "mock"
        assert "invented sample data" in shown["notice"]

    def test_only_what_has_data_is_permitted(self, driver: Driver) -> None:
        """Without an allow-list of the operator's, MOCK mode permits what is registered, with its scopes."""
        client = driver.client(MOCK)
        assert client.policy.describe() == (
            "Permitted endpoints: 'secure-vault/metrics' with scope 'read:metrics'; "
            "'secure-vault/records' with scope 'read:records'."
        )
        with pytest.raises(EndpointRefusedError):
            fetch(driver, client, "secure-vault/other", "read:metrics")

    def test_the_operators_list_holds_in_mock_mode_too(self, driver: Driver) -> None:
        """A policy is tried out offline as it will be."""
        client = driver.client(AuthSecConfig(mode="mock", allowed_endpoints=("secure-vault/metrics", "elsewhere")))
        assert fetch(driver, client, "secure-vault/metrics", "read:metrics").ok
        with pytest.raises(EndpointRefusedError):
            fetch(driver, client, "secure-vault/records", "read:records")
        with pytest.raises(DownstreamError, match="MOCK mode has no data"):
            fetch(driver, client, "elsewhere", "s")


class TestNothingLeaves:
    """A MOCK token goes to this machine, or nowhere."""

    @pytest.mark.req("RS2", "RD2")
    def test_mock_mode_never_contacts_a_remote_api(self, driver: Driver) -> None:
        """With a remote API configured, `fetch` and the tool answer from the samples; nothing is sent anywhere."""
        world = World()
        for api in (None, "https://api.test/v2", "https://secure-vault"):
            config = AuthSecConfig(
                mode="mock", base_url="https://authority.test", api_base_url=api, agent_key="k" * 32, retries=3
            )
            client = driver.client(config, handler=world)
            assert fetch(driver, client, "secure-vault/metrics", "read:metrics").mode == "mock"
            assert '"success"' in tool(driver, client, "secure-vault/records", "read:records", per_call=True)
            driver.run(client.get_delegation_token())
        assert world.silent

    @pytest.mark.req("RS2", "RD3")
    @pytest.mark.parametrize("url", ["https://api.test/x", "http://10.0.0.1/x", "http://localhost.evil.test/x"])
    def test_a_mock_token_is_not_put_on_a_request_that_leaves(self, driver: Driver, url: str) -> None:
        """Not even where the program lists the origin."""
        client = driver.client(MOCK, handler=World())
        auth = client.auth("read:metrics", origins=[url.removesuffix("/x")])
        sent: list[httpx.Request] = []
        transport = httpx.MockTransport(lambda request: sent.append(request) or httpx.Response(200))  # type: ignore[func-returns-value]  # records
        with pytest.raises(EndpointRefusedError, match="AUTHSEC_MODE=live"):
            driver.run(get(driver, transport, url, auth))
        assert not sent

    def test_an_api_on_this_machine_gets_the_mock_token(self, driver: Driver) -> None:
        """So that one's own API can be tried with one's own agent, offline; the data is then that API's."""
        mock = MockAuthority()
        with echo_server() as api:
            client = driver.client(AuthSecConfig(mode="mock", api_base_url=api.base_url), mock=mock)
            result = fetch(driver, client, "secure-vault/metrics", "read:metrics")
            assert (result.mode, result.data) == ("mock", {"path": "/secure-vault/metrics"})
            assert '"notice"' in result.to_json()
            (request,) = api.requests
        claims = decoded(request.headers["authorization"].removeprefix("Bearer "), mock)
        assert (claims["iss"], claims["permissions"]) == (MOCK_ISSUER, ["read:metrics"])

    @pytest.mark.req("RS1")
    def test_a_mock_authority_is_refused_in_live_mode(self, driver: Driver) -> None:
        """It would be LIVE turned into MOCK by a forgotten argument."""
        with pytest.raises(ConfigurationError, match="mock= was given"):
            driver.client(World().config(), mock=MockAuthority())


def get(driver: Driver, transport: httpx.MockTransport, url: str, auth: httpx.Auth) -> Any:
    """GET with a client of the program's own."""
    if driver.kind == "sync":
        with httpx.Client(transport=transport) as http:
            return http.get(url, auth=auth)

    async def awaited() -> httpx.Response:
        async with httpx.AsyncClient(transport=transport) as http:
            return await http.get(url, auth=auth)

    return awaited()


def test_the_source_mints_for_its_client_and_audience() -> None:
    """And for as long as was asked."""
    source = MockSource(MockAuthority(), client_id="c", audience="a")
    token = source.token(TokenRequest(scopes=frozenset({"s"}), ttl=5.0))
    assert (token.scopes, token.lifetime, token.client_id, token.audience) == (frozenset({"s"}), 5.0, "c", ("a",))
