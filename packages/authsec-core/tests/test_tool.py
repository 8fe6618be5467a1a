"""The tool that a model calls: whatever it types and whatever happens, it gets one JSON text of one shape."""

from __future__ import annotations

import asyncio
import inspect
import json
import logging
import sys
from collections.abc import Iterator
from functools import partial
from typing import Any

import httpx
import pytest
from api_support import API, World, tool
from core_support import CLIENT_ID, AnyClient, Driver
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from authsec_core import (
    AsyncAuthSecClient,
    AuthSecClient,
    AuthSecConfig,
    AuthSecError,
    ConfigurationError,
    DelegationRefusedError,
    MockAuthority,
    ScopeNotGrantedError,
    errors,
)
from authsec_core.testing import assert_no_secret
from authsec_core.tool import describe_secure_fetch, secure_fetch, secure_fetch_async


def says(
    driver: Driver, client: AnyClient, endpoint: Any = "x", scope: Any = "read", **options: bool
) -> dict[str, Any]:
    """Return what the tool says, which is strict JSON of one of the two shapes."""
    text = tool(driver, client, endpoint, scope, **options)
    assert isinstance(text, str)
    value: dict[str, Any] = json.loads(text, parse_constant=lambda name: pytest.fail(name))
    if value["status"] == "success":
        assert set(value) - {"notice"} == {"status", "mode", "code", "data"}
    else:
        assert set(value) == {"status", "mode", "code", "message", "retryable"}
        assert value["status"] == "error"
        assert value["message"]
    return value


def every_error(kind: type[AuthSecError] = AuthSecError) -> Iterator[AuthSecError]:
    """Yield one error of each class in the tree."""
    extra: dict[type, dict[str, Any]] = {
        DelegationRefusedError: {"reason": "not_delegated", "status": 403},
        ScopeNotGrantedError: {"missing": frozenset({"a"})},
    }
    yield kind(f"What {kind.__name__} says.", **extra.get(kind, {}))
    for below in kind.__subclasses__():
        if below.__module__ == errors.__name__:  # the guard has some of its own, if its tests are run with these
            yield from every_error(below)


ERRORS = list(every_error())


class TestErrors:
    """Each failure reads differently, and never like data."""

    def test_the_tree_is_complete(self) -> None:
        """The table below has every exported error."""
        assert {type(error).__name__ for error in ERRORS} >= set(errors.__all__)

    @pytest.mark.req("RD4")
    @pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
    def test_each_error_becomes_its_json(self, driver: Driver, error: AuthSecError, monkeypatch: Any) -> None:
        """Code, message and whether to try again are the error's own; nothing is raised."""
        client = World().client(driver)
        failing(monkeypatch, driver, client, error)
        assert says(driver, client) == {
            "status": "error",
            "mode": "live",
            "code": error.code,
            "message": error.message,
            "retryable": error.retryable,
        }

    @pytest.mark.req("RD4")
    def test_codes_tell_the_kinds_apart(self) -> None:
        """No two classes share a code; only what passes by itself may be repeated."""
        codes = {type(error): error.code for error in ERRORS}
        assert len(set(codes.values())) == len(codes)
        retryable = {error.code for error in ERRORS if error.retryable}
        unavailable = {"verification_unavailable", "downstream_unavailable", "vault_unavailable"}
        assert retryable == {"authority_unreachable", "vault_rate_limited", *unavailable}
        assert all(code.replace("_", "").isalnum() and code.islower() for code in codes.values())

    @pytest.mark.req("RD4")
    @pytest.mark.parametrize(
        ("what", "code", "retryable"),
        [
            ("authority 401", "delegation_refused", False),
            ("authority 403", "delegation_refused", False),
            ("authority 410", "delegation_refused", False),
            ("authority 503", "authority_unreachable", True),
            ("api 401", "downstream_denied", False),
            ("api 403", "downstream_denied", False),
            ("api 404", "downstream_error", False),
            ("api 429", "downstream_unavailable", True),
            ("api 500", "downstream_unavailable", True),
            ("endpoint", "endpoint_refused", False),
            ("scope", "scope_refused", False),
            ("no api", "configuration", False),
        ],
    )
    def test_denied_unavailable_and_misconfigured_differ(
        self, driver: Driver, what: str, code: str, retryable: bool
    ) -> None:
        """As they come about in a real call."""
        world = World()
        who, _, status = what.partition(" ")
        if who == "authority":
            world.refusal = int(status)
        elif who == "api":
            world.answer = lambda _: httpx.Response(int(status), json={"data": "canary"})
        client = world.client(
            driver, endpoint_scopes={"x": "read"}, **({"api_base_url": None} if what == "no api" else {})
        )
        said = says(driver, client, "y" if what == "endpoint" else "x", "write" if what == "scope" else "read")
        assert (said["status"], said["code"], said["retryable"]) == ("error", code, retryable)
        assert "canary" not in json.dumps(said)

    @pytest.mark.req("RD4", "RS8")
    @pytest.mark.parametrize("exception", [RuntimeError, ValueError, KeyError, OSError, RecursionError, MemoryError])
    def test_the_unexpected_says_nothing_about_itself(
        self, driver: Driver, exception: type[Exception], monkeypatch: Any, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The model hears that the tool failed; the operator finds the traceback in the log, once."""
        client = World().client(driver)
        failing(monkeypatch, driver, client, exception("canary: /etc/passwd at 10.0.0.1"))
        with caplog.at_level(logging.DEBUG, "authsec"):
            said = says(driver, client)
        assert said["code"] == "internal_error"
        assert not said["retryable"]
        assert "canary" not in json.dumps(said)
        (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
        assert record.name == "authsec.tool"
        assert record.exc_info
        assert isinstance(record.exc_info[1], exception)

    @pytest.mark.parametrize("exception", [KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError])
    def test_an_interrupt_passes_through(
        self, driver: Driver, exception: type[BaseException], monkeypatch: Any
    ) -> None:
        """Whoever stops the program, or the task, is obeyed."""
        client = World().client(driver)
        failing(monkeypatch, driver, client, exception())
        with pytest.raises(exception):
            tool(driver, client, "x", "read")

    def test_a_closed_client_does_not_end_the_conversation(self, driver: Driver) -> None:
        """Nor does any other mistake of the program around the tool."""
        client = World().client(driver)
        driver.close_client(client)
        assert says(driver, client)["code"] == "internal_error"

    @pytest.mark.req("RD4")
    def test_data_at_the_edge_of_what_json_nests_is_data_or_an_error(self, driver: Driver) -> None:
        """Reading, checking and writing it need about as much stack, and none of the three may end the conversation."""
        world = World()
        client = world.client(driver)
        limit = sys.getrecursionlimit()
        seen = set()
        for depth in (*range(limit - 160, limit + 5, 5), 20_000):
            for body in ("[" * depth + "]" * depth, '{"\\u0061":' * depth + "1" + "}" * depth):
                world.answer = partial(answering, body)
                seen.add(says(driver, client)["status"])
        assert "error" in seen


def answering(body: str, _: httpx.Request) -> httpx.Response:
    """Answer with this body."""
    return httpx.Response(200, content=body)


def failing(monkeypatch: pytest.MonkeyPatch, driver: Driver, client: AnyClient, error: BaseException) -> None:
    """Let the client's `fetch` raise."""

    def fetch(*args: Any, **kwargs: Any) -> Any:
        raise error

    async def afetch(*args: Any, **kwargs: Any) -> Any:
        raise error

    monkeypatch.setattr(client, "fetch", fetch if driver.kind == "sync" else afetch)


class TestArguments:
    """RD5: two texts, and nothing else to choose."""

    @pytest.mark.req("RD5")
    @pytest.mark.parametrize("function", [secure_fetch, secure_fetch_async])
    def test_there_is_nothing_else_to_set(self, function: Any) -> None:
        """Endpoint and scope; method, headers, life, identity and the rest are not among the arguments."""
        client, endpoint, scope, *options = inspect.signature(function).parameters.values()
        assert (client.name, endpoint.name, scope.name) == ("client", "endpoint", "scope")
        assert [(option.name, option.kind) for option in options] == [("per_call", inspect.Parameter.KEYWORD_ONLY)]

    @pytest.mark.req("RD5")
    @pytest.mark.parametrize("value", [None, 5, 0.0, True, [], ["x"], {"endpoint": "x"}, b"x", object(), type, ...])
    def test_what_is_no_text_is_refused(self, driver: Driver, value: Any) -> None:
        """Some frameworks hand over whatever the model typed; nobody is asked for anything."""
        world = World()
        client = world.client(driver)
        assert says(driver, client, value)["code"] == "endpoint_refused"
        assert says(driver, client, "x", value)["code"] == "scope_refused"
        assert world.silent

    @pytest.mark.req("RD3")
    @pytest.mark.parametrize("scope", ["", " ", "\t\n", "\u3000", "\u200b", 'a"b', "a\x00b", "x" * 5000, "a\nb"])
    def test_a_model_names_a_scope(self, driver: Driver, scope: str) -> None:
        """Never the whole delegation: a blank scope, and one that is none, are refused before anything is minted."""
        world = World()
        for options in ({}, {"endpoint_scopes": {"x": "read"}}, {"allowed_endpoints": ("x",)}):
            assert says(driver, world.client(driver, **options), "x", scope)["code"] == "scope_refused"
        assert world.silent

    @pytest.mark.req("RD5")
    @pytest.mark.parametrize(
        ("endpoint", "path"),
        [
            ("x?client_id=other&ttl=99999&scope=admin", "/v2/x?client_id=other&ttl=99999&scope=admin"),
            ("x?access_token=y", "/v2/x?access_token=y"),
            ("x?_method=DELETE", "/v2/x?_method=DELETE"),
            ("x HTTP", "/v2/x%20HTTP"),
            ("DELETE x", "/v2/DELETE%20x"),
        ],
    )
    def test_an_endpoint_sets_nothing_but_the_endpoint(self, driver: Driver, endpoint: str, path: str) -> None:
        """What looks like more is part of the path or the query; the exchange and the method are what they were."""
        world = World()
        client = world.client(driver)
        says(driver, client)
        says(driver, client, endpoint)
        assert len(world.exchanges) == 1
        assert dict(world.exchanges[0].url.params) == {"client_id": CLIENT_ID, "scope": "read"}
        assert [call.method for call in world.calls] == ["GET", "GET"]
        assert world.calls[1].url.raw_path.decode() == path
        assert str(world.calls[1].url).startswith(f"{API}/")
        assert world.calls[0].headers == world.calls[1].headers

    anything = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()) | st.binary(),
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
        max_leaves=4,
    )

    @pytest.mark.req("RD4", "RD5")
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None)
    @given(anything | st.text("ab/.%2eé?", max_size=8), anything | st.sampled_from(["read", "read write", " read "]))
    def test_whatever_is_typed_the_answer_is_json(self, driver: Driver, endpoint: Any, scope: Any) -> None:
        """Data or a refusal; what was refused was asked of nobody."""
        world = World()
        client = world.client(driver)
        said = says(driver, client, endpoint, scope)
        if said["status"] == "error":
            assert said["code"] in {"endpoint_refused", "scope_refused"}
            assert world.silent
        driver.close_client(client)


class TestTokens:
    """One token for many calls, or one for each."""

    @pytest.mark.req("RD3")
    def test_per_call_mints_anew(self, driver: Driver) -> None:
        """Each call then has a token of its own, which no other call gets to see; otherwise a held one is used."""
        world = World()
        client = world.client(driver)
        for per_call in (False, False, True, True, False):
            says(driver, client, per_call=per_call)
        one, *_ = world.authorizations
        assert [authorization == one for authorization in world.authorizations] == [True, True, False, False, True]
        assert len(set(world.authorizations)) == len(world.exchanges) == 3

    @pytest.mark.req("RD7")
    def test_tools_of_two_agents_stay_apart(self, driver: Driver) -> None:
        """Each uses its own client's token, endpoints and permissions."""
        world = World()
        one = world.client(driver, endpoint_scopes={"x": "read"})
        two = world.client(driver, client_id="00000000-0000-4000-8000-000000000002", endpoint_scopes={"y": "write"})
        assert says(driver, one, "x", "read")["status"] == says(driver, two, "y", "write")["status"] == "success"
        assert says(driver, one, "y", "write")["code"] == says(driver, two, "x", "read")["code"] == "endpoint_refused"
        assert len(set(world.authorizations)) == 2
        assert "'y'" not in describe_secure_fetch(one)

    @pytest.mark.req("RS8")
    def test_the_log_names_tokens_by_their_jti(self, driver: Driver, caplog: pytest.LogCaptureFixture) -> None:
        """Each call leaves one line for the operator: mode, outcome and which token."""
        world = World()
        client = world.client(driver)
        with caplog.at_level(logging.INFO, "authsec.tool"):
            says(driver, client)
            says(driver, client, "..")
        assert [record.getMessage() for record in caplog.records if record.name == "authsec.tool"] == [
            "secure fetch: live 200 delegation token jti-1",
            "secure fetch: live endpoint_refused without a token",
        ]
        assert_no_secret(caplog.text, *world.tokens)


class TestMode:
    """What the model is told about samples, and about settings that are missing."""

    @pytest.mark.req("RS1")
    def test_sample_data_is_announced(self, driver: Driver) -> None:
        """In the result, where the model cannot overlook it."""
        said = says(driver, driver.client(AuthSecConfig(mode="mock")), "secure-vault/metrics", "read:metrics")
        assert said["mode"] == "mock"
        assert said["notice"].startswith("MOCK mode: this is invented sample data, not real data.")

    @pytest.mark.req("RS1")
    @pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 429, 500, 503])
    def test_live_errors_never_become_samples(self, driver: Driver, status: int) -> None:
        """Also not for the endpoints that have samples."""
        world = World()
        world.refusal = status
        said = says(driver, world.client(driver), "secure-vault/metrics", "read:metrics")
        assert (said["status"], said["mode"]) == ("error", "live")
        assert "active_agents" not in json.dumps(said)
        assert not world.calls

    @pytest.mark.req("RD2")
    def test_live_without_an_api_is_told_as_such(self, driver: Driver) -> None:
        """When the tool is described, at start, to the programmer; when it is called, to the model."""
        world = World()
        client = world.client(driver, api_base_url=None)
        with pytest.raises(ConfigurationError, match="AUTHSEC_API_BASE_URL"):
            describe_secure_fetch(client)
        said = says(driver, client)
        assert said["code"] == "configuration"
        assert "AUTHSEC_API_BASE_URL" in said["message"]
        assert world.silent


class TestDescription:
    """What the model is told beforehand."""

    @pytest.mark.parametrize("kind", [AuthSecClient, AsyncAuthSecClient])
    def test_it_names_what_is_permitted(self, kind: Any) -> None:
        """A task that names neither endpoint nor scope can then still be done."""
        described = describe_secure_fetch(kind(AuthSecConfig(mode="mock")))
        assert "'secure-vault/metrics' with scope 'read:metrics'" in described
        for word in ("endpoint", "scope", "JSON", "'success'", "'error'", "never ask for credentials"):
            assert word in described

    @pytest.mark.parametrize("number", [0, 1, 10, 100, 1000])
    def test_it_is_short_enough_for_every_provider(self, number: int) -> None:
        """OpenAI refuses a request with a tool that is described in more than 1024 characters."""
        mock = MockAuthority()
        for index in range(number):
            mock.register(
                f"department-{index}/reports/quarterly-{index}", 1, scope=f"read:reports-of-department-{index}"
            )
        with AuthSecClient(AuthSecConfig(mode="mock"), mock=mock) as client:
            assert len(describe_secure_fetch(client)) <= 1024
        long = {"/".join(["x" * 200] * 10): " ".join(f"scope-{index}" for index in range(400))}
        with AuthSecClient(AuthSecConfig(mode="mock", endpoint_scopes=long)) as client:
            assert len(describe_secure_fetch(client)) <= 1024

    def test_it_holds_no_address_and_no_identity(self) -> None:
        """Where the API and the authority are, and who the agent is, is none of the model's business."""
        config = AuthSecConfig(
            base_url="https://authority.test", client_id=CLIENT_ID, api_base_url=API, agent_key="k3y-" * 8
        )
        with AuthSecClient(config) as client:
            described = describe_secure_fetch(client)
        for text in ("authority.test", "api.test", CLIENT_ID, "k3y-"):
            assert text not in described
