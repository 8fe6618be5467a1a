"""What holds for the tool in every framework of coroutines: each framework's tests inherit these.

They need a fixture `framework`, and those of `coroutine_fixtures`.
"""

from __future__ import annotations

import asyncio
import copy
import json
import pickle
import threading
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from coroutine_fixtures import Framework, ProtectedApi

from authsec_autogen import AuthSecClient, AuthSecConfig
from authsec_core import AsyncAuthSecClient, ConfigurationError
from authsec_core.testing import Call, LocalAuthority, LoopbackServer, Reply, ScriptedModel, assert_no_secret, call

Start = Callable[..., ScriptedModel]
Live = Callable[..., AsyncAuthSecClient]
Shown = Callable[[], list[object]]

METRICS = {"endpoint": "secure-vault/metrics", "scope": "read:metrics"}
RECORDS = {"endpoint": "secure-vault/records", "scope": "read:records"}
PERMITTED = {"secure-vault/metrics": ("read:metrics",)}  # the delegation would give more
EVERYTHING = ["read:metrics", "read:records", "admin"]
KEY = "agent-key-canary.0123456789abcdef0123456789abcdef"
PATIENCE = 30.0  # seconds after which something hangs

ENDPOINTS = [
    "{evil}/secure-vault/metrics",
    "//{host}/secure-vault/metrics",
    "https://user@{host}/secure-vault/metrics",
    "secure-vault/records",
    "secure-vault/metrics/../records",
    "secure-vault/%2e%2e/secure-vault/records",
    "secure-vault%2frecords",
    "secure-vault\\records",
    "secure-vault/metrics\r\nHost: {host}",
    "secure-vault／records",
    "file:///etc/passwd",
    "",
]
SCOPES = ["admin", "read:records", "*", "", " ", "read:metrics\r\nadmin", "READ:METRICS"]
TYPES: list[dict[str, Any]] = [
    {"endpoint": None, "scope": "read:metrics"},
    {"endpoint": ["secure-vault/metrics"], "scope": "read:metrics"},
    {"endpoint": {"path": "secure-vault/metrics"}, "scope": "read:metrics"},
    {"endpoint": 7, "scope": "read:metrics"},
    {"endpoint": "secure-vault/metrics", "scope": None},
    {"endpoint": "secure-vault/metrics", "scope": ["read:metrics", "admin"]},
    {"endpoint": "secure-vault/metrics"},
    {},
]
# JSON, but no object.
TEXTS = ["null", "7", "[]", '["secure-vault/metrics", "admin"]', '"secure-vault/metrics"']
# No JSON, or some that Python cannot read. On these a framework may break off the run.
GARBLED = [
    '{"endpoint": ',
    "",
    '"line\nend"',
    '{"endpoint": 1' + "0" * 5000 + "}",
    '{"endpoint": ' + "[" * 100_000 + "}",
]


def answers(model: ScriptedModel) -> list[dict[str, Any]]:
    """Return what the tools told the model."""
    return [json.loads(text) for text in model.tool_results]


@pytest.fixture
def evil() -> Any:
    """A server that the operator never named; nobody must ever come."""
    with LoopbackServer(lambda _request: Reply.of_json({"pwned": True})) as server:
        yield server
        assert server.requests == ()


class Conversations:
    """Agents fetch protected data, and are told plainly where they cannot."""

    def test_with_nothing_set_it_answers_with_marked_sample_data(self, framework: Framework, model: Start) -> None:
        """MOCK mode needs no settings: a tool made without arguments is enough, and its answer says what it is."""
        llm = model(call("fetch_secure_data", **METRICS), "42 agents are active.")
        text, _ = asyncio.run(framework.ask(llm, framework.make()))
        (answer,) = answers(llm)
        assert (answer["status"], answer["mode"], answer["data"]["active_agents"]) == ("success", "mock", 42)
        assert "sample data" in answer["notice"]
        assert text == "42 agents are active."

    def test_the_environment_makes_it_live(
        self,
        framework: Framework,
        model: Start,
        authority: LocalAuthority,
        api: ProtectedApi,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """With the environment set, the same tool gets the API's data with a token for the scope that was named."""
        agent = authority.register(["read:metrics", "read:records"], agent_key=KEY)
        for name, value in authority.environ(agent, api_base_url=api.base_url).items():
            monkeypatch.setenv(name, value)
        tools = [framework.make(), framework.make(name="again")]
        llm = model(call(tools[0].name, **METRICS), call("again", **METRICS), "done")
        asyncio.run(framework.ask(llm, *tools))
        assert [(answer["mode"], answer["data"]["topic"]["active"]) for answer in answers(llm)] == [("live", 7)] * 2
        assert {(caller.client_id, caller.scopes) for caller in api.callers} == {
            (agent.client_id, frozenset({"read:metrics"}))
        }
        (asked,) = authority.requests  # the process has one client of the environment, and one token
        assert "authsec-autogen/" in asked.headers["user-agent"]

    @pytest.mark.req("RD5")
    def test_the_model_is_offered_endpoint_and_scope_and_nothing_else(
        self, framework: Framework, model: Start, live: Live, authority: LocalAuthority
    ) -> None:
        """The schema has two required texts without defaults; the description names what is permitted."""
        agent = authority.register(EVERYTHING, agent_key=KEY)
        llm = model("done")
        tools = [
            framework.make(live(agent, endpoint_scopes=PERMITTED)),
            framework.make(live(agent), name="mine", description="Fetch."),
        ]
        asyncio.run(framework.ask(llm, *tools))
        first, second = llm.offered_tools.values()
        assert "'secure-vault/metrics' with scope 'read:metrics'" in first.description
        assert (list(llm.offered_tools)[1], second.description) == ("mine", "Fetch.")
        for offered in (first, second):
            assert sorted(offered.parameters["required"]) == ["endpoint", "scope"]
            assert {
                name: {key: value for key, value in one.items() if key != "title"}
                for name, one in offered.parameters["properties"].items()
            } == {"endpoint": {"type": "string"}, "scope": {"type": "string"}}
        assert_no_secret(llm.transcript, KEY, agent.client_id)

    def test_parallel_calls_run_at_once_and_share_one_token(
        self, framework: Framework, model: Start, live: Live, authority: LocalAuthority, api: ProtectedApi
    ) -> None:
        """Calls of one turn are in flight together, the token is asked for once, and each gets its own answer."""
        together = threading.Barrier(3)
        api.meanwhile = lambda: together.wait(PATIENCE)  # none goes on before all three have come
        tool = framework.make(live(authority.register(["read:metrics", "read:records"])))
        one = {"endpoint": "secure-vault/metrics", "scope": "read:metrics read:records"}
        llm = model([call(tool.name, **one) for _ in range(3)], "done")
        asyncio.run(framework.ask(llm, tool))
        assert [answer["data"]["topic"]["active"] for answer in answers(llm)] == [7, 7, 7]
        assert len(authority.issued) == 1

    def test_with_per_call_each_call_has_a_token_of_its_own(
        self, framework: Framework, model: Start, live: Live, authority: LocalAuthority, api: ProtectedApi
    ) -> None:
        """What was used once is never sent again."""
        tool = framework.make(live(authority.register(["read:metrics"])), per_call=True)
        llm = model(call(tool.name, **METRICS), call(tool.name, **METRICS), "done")
        asyncio.run(framework.ask(llm, tool))
        assert len(set(api.tokens)) == len(api.callers) == 2

    def test_one_tool_serves_loop_after_loop(
        self, framework: Framework, model: Start, live: Live, authority: LocalAuthority, api: ProtectedApi
    ) -> None:
        """A tool outlives the loop that it was first used in, and keeps its token."""
        tool = framework.make(live(authority.register(["read:metrics"])))
        for _ in range(2):
            llm = model(call(tool.name, **METRICS), "done")
            asyncio.run(framework.ask(llm, tool))
            assert answers(llm)[0]["status"] == "success"
        assert (len(api.callers), len(authority.issued)) == (2, 1)

    @pytest.mark.req("RD3", "RD4")
    def test_a_scope_that_was_never_granted_is_refused_before_the_api_is_called(
        self, framework: Framework, model: Start, live: Live, authority: LocalAuthority, api: ProtectedApi
    ) -> None:
        """The authority says no, the model is told so, and the API never hears of it."""
        tool = framework.make(live(authority.register(["read:metrics"])))
        llm = model(call(tool.name, **RECORDS), "done")
        asyncio.run(framework.ask(llm, tool))
        assert answers(llm)[0]["code"] == "delegation_refused"
        assert api.server.requests == ()

    @pytest.mark.req("RS1", "RD4")
    def test_a_revocation_ends_access_with_the_next_call(
        self, framework: Framework, model: Start, live: Live, authority: LocalAuthority, api: ProtectedApi
    ) -> None:
        """A held token is refused by the API and a new one by the authority; the model gets no data."""
        agent = authority.register(["read:metrics"])
        tool = framework.make(live(agent))

        def revoke(_body: object) -> Any:
            authority.revoke_agent(agent.client_id)
            api.clock.advance(3.0)  # by then the API has to have read the status list again
            return call(tool.name, **METRICS)

        llm = model(call(tool.name, **METRICS), revoke, "I was refused.")
        asyncio.run(framework.ask(llm, tool))
        before, after = answers(llm)
        assert (before["status"], before["mode"]) == ("success", "live")
        assert (after["status"], after["code"], after["retryable"]) == ("error", "delegation_refused", False)
        assert "data" not in after
        assert len(api.callers) == 1

    @pytest.mark.req("RS1", "RD4")
    def test_an_outage_is_told_from_a_refusal_and_passes(
        self, framework: Framework, model: Start, live: Live, authority: LocalAuthority
    ) -> None:
        """While the authority is down the model reads that it may try again, never sample data; later it works."""
        authority.fail(status=503)
        tool = framework.make(live(authority.register(["read:metrics"]), retries=0, failure_cooldown=0))

        def recover(_body: object) -> Any:
            authority.recover()
            return call(tool.name, **METRICS)

        llm = model(call(tool.name, **METRICS), recover, "done")
        asyncio.run(framework.ask(llm, tool))
        down, up = answers(llm)
        assert (down["code"], down["mode"], down["retryable"]) == ("authority_unreachable", "live", True)
        assert (up["status"], up["mode"]) == ("success", "live")


class HostileModels:
    """Whatever a model sends, no token is minted for it that was not permitted, and nobody is called."""

    breaks_off: tuple[type[Exception], ...] = ()

    @pytest.mark.req("RD1", "RD6")
    def test_nothing_outside_the_policy_causes_a_request(
        self, framework: Framework, model: Start, live: Live, authority: LocalAuthority, api: ProtectedApi, evil: Any
    ) -> None:
        """Wrong endpoints, scopes, types and texts, alone or all at once: an error for each, and no request."""
        host = evil.base_url.removeprefix("http://")
        wrong: list[dict[str, Any] | str] = [
            *({"endpoint": one.format(evil=evil.base_url, host=host), "scope": "read:metrics"} for one in ENDPOINTS),
            *({"endpoint": "secure-vault/metrics", "scope": one} for one in SCOPES),
            *TYPES,
            *TEXTS,
        ]
        tool = framework.make(live(authority.register(EVERYTHING), endpoint_scopes=PERMITTED))
        calls = [Call(tool.name, one) for one in wrong]
        llm = model(calls[0], calls[1:], "done")
        asyncio.run(framework.ask(llm, tool))
        for arguments, text in zip(wrong, llm.tool_results, strict=True):
            assert self.refused(text), arguments
        assert (authority.requests, api.server.requests) == ((), ())

    @pytest.mark.req("RD1", "RD6")
    @pytest.mark.parametrize("text", GARBLED, ids=range(len(GARBLED)))
    def test_what_is_no_json_causes_no_request_either(
        self,
        framework: Framework,
        model: Start,
        live: Live,
        authority: LocalAuthority,
        api: ProtectedApi,
        shown: Shown,
        text: str,
    ) -> None:
        """The framework refuses it, or breaks off the run with an error of its own that holds nothing of ours."""
        tool = framework.make(live(authority.register(EVERYTHING, agent_key=KEY), endpoint_scopes=PERMITTED))
        llm = model(Call(tool.name, text), "done")
        error = None
        try:
            asyncio.run(framework.ask(llm, tool))
        except self.breaks_off as exc:
            error = exc
        assert error is not None or [self.refused(text) for text in llm.tool_results] == [True]
        assert (authority.requests, api.server.requests) == ((), ())
        assert_no_secret([error, llm.transcript, *shown()], KEY)

    def refused(self, text: str) -> bool:
        """Return whether this tells a model that its call did not work."""
        return bool(json.loads(text)["status"] == "error")

    @pytest.mark.req("RD5", "RD6")
    def test_arguments_that_do_not_exist_change_nothing(
        self, framework: Framework, model: Start, live: Live, authority: LocalAuthority, api: ProtectedApi, evil: Any
    ) -> None:
        """Method, headers, ttl, identity and address are not the model's: an error, or what it would get anyway."""
        extras: list[dict[str, Any]] = [
            {"method": "DELETE"},
            {"headers": {"X-Admin": "1"}},
            {"ttl": 1_000_000},
            {"client_id": "00000000-0000-4000-8000-000000000001"},
            {"client": {"base_url": evil.base_url}},
            {"base_url": evil.base_url, "api_base_url": evil.base_url},
            {"per_call": True, "cache": False, "force_refresh": True},
            {"self": None, "context": {}, "arguments": {}, "kwargs": {}, "tool_call_id": "x", "session": 1},
            {"__ctx__": {}, "stack": None, "cache_dependencies": {}, "dependency_provider": None},
        ]
        agent = authority.register(EVERYTHING, ttl=300)
        tool = framework.make(live(agent))
        llm = model([call(tool.name, **METRICS, **extra) for extra in extras], call(tool.name, **METRICS), "done")
        asyncio.run(framework.ask(llm, tool))
        assert [(issued.client_id, issued.scopes, issued.ttl) for issued in authority.issued] == [
            (agent.client_id, ("read:metrics",), 300)
        ]
        assert {(request.method, request.path) for request in api.server.requests} == {("GET", "/secure-vault/metrics")}
        assert not any("x-admin" in request.headers for request in api.server.requests)

    @pytest.mark.req("RD6", "RD7")
    def test_a_tool_that_was_not_offered_is_not_run(
        self, framework: Framework, model: Start, live: Live, authority: LocalAuthority, api: ProtectedApi
    ) -> None:
        """A model that knows the name of another agent's tool gets an error for it, and no data."""
        mine, theirs = (framework.make(live(authority.register(EVERYTHING))) for _ in range(2))
        llm = model(call(theirs.name, **METRICS), call(mine.name, **METRICS), "done")
        asyncio.run(framework.ask(llm, mine))
        assert theirs.name != mine.name
        assert "not found" in llm.tool_results[0].lower()
        assert json.loads(llm.tool_results[1])["status"] == "success"
        assert len(api.callers) == 1


class Identities:
    """Tools of two identities stay apart, and what they hold stays inside."""

    @pytest.mark.req("RD7")
    def test_two_identities_do_not_share_tokens_or_names(
        self, framework: Framework, model: Start, live: Live, authority: LocalAuthority, api: ProtectedApi
    ) -> None:
        """Side by side in one agent, each tool acts for its own identity, with names that tell them apart."""
        first, second = (authority.register(["read:metrics"]) for _ in range(2))
        tools = [framework.make(live(agent)) for agent in (first, second)]
        llm = model(call(tools[1].name, **METRICS), call(tools[0].name, **METRICS), "done")
        asyncio.run(framework.ask(llm, *tools))
        assert [caller.client_id for caller in api.callers] == [second.client_id, first.client_id]
        assert len(authority.issued) == len(set(api.tokens)) == 2

    def test_agents_at_work_at_once_keep_their_identities(
        self, framework: Framework, model: Start, live: Live, authority: LocalAuthority, api: ProtectedApi
    ) -> None:
        """Two agents in one loop, with tools of the same name, interleaved: each comes as itself, and only so."""
        together = threading.Barrier(2)
        api.meanwhile = lambda: together.wait(PATIENCE)
        agents = [authority.register(["read:metrics"]) for _ in range(2)]
        llms = [model(call("fetch", **METRICS), "done") for _ in agents]

        async def run() -> None:
            await asyncio.gather(
                *(
                    framework.ask(llm, framework.make(live(agent), name="fetch"))
                    for llm, agent in zip(llms, agents, strict=True)
                )
            )

        asyncio.run(run())
        assert {caller.client_id for caller in api.callers} == {agent.client_id for agent in agents}
        assert [answers(llm)[0]["status"] for llm in llms] == ["success", "success"]

    @pytest.mark.req("RS8", "RD4")
    def test_no_token_and_no_key_is_shown_to_anybody(
        self,
        framework: Framework,
        model: Start,
        live: Live,
        authority: LocalAuthority,
        api: ProtectedApi,
        shown: Shown,
    ) -> None:
        """Prompts, what the framework remembers, stdout, stderr, logs at DEBUG, and what the tool itself looks like."""
        agent = authority.register(["read:metrics", "read:records"], agent_key=KEY)
        tool = framework.make(live(agent))

        def revoke(_body: object) -> Any:
            authority.revoke_agent(agent.client_id)
            api.clock.advance(3.0)
            return call(tool.name, **METRICS)

        llm = model(
            call(tool.name, **METRICS),
            call(tool.name, **RECORDS),
            call(tool.name, **METRICS, token="give me the token"),
            call(tool.name, endpoint="/../", scope="x"),
            call(tool.name, endpoint=["what"], scope=None),
            call("not_a_tool", **METRICS),
            revoke,
            "done",
        )
        _, remembered = asyncio.run(framework.ask(llm, tool))
        assert len(api.callers) >= 2
        assert len(llm.tool_results) == 7
        assert "active" in str(remembered)  # a word of the data
        assert_no_secret([llm.transcript, remembered, tool, *shown()], KEY, *set(api.tokens))
        assert_no_secret([llm.transcript, remembered, tool], agent.client_id)  # an operator's log may name it

    def test_a_mock_token_is_not_shown_either(self, framework: Framework, model: Start, shown: Shown) -> None:
        """Nobody should get used to tokens in logs, even if these open nothing."""
        client = AsyncAuthSecClient(AuthSecConfig(mode="mock"))
        llm = model(call("fetch_secure_data", **METRICS), "done")
        _, remembered = asyncio.run(framework.ask(llm, framework.make(client)))
        held = asyncio.run(client.get_delegation_token("read:metrics"))
        assert_no_secret([llm.transcript, remembered, *shown()], held)

    def test_a_deep_copy_is_the_same_tool_of_the_same_client(
        self, framework: Framework, model: Start, live: Live, authority: LocalAuthority
    ) -> None:
        """Frameworks copy tools: the copies work, for the same identity, with the same tokens."""
        tool = framework.make(live(authority.register(["read:metrics"])))
        for one in (copy.deepcopy(tool), tool):
            llm = model(call(tool.name, **METRICS), "done")
            asyncio.run(framework.ask(llm, one))
            assert answers(llm)[0]["status"] == "success"
        assert len(authority.issued) == 1

    @pytest.mark.req("RS8")
    def test_it_does_not_pickle(self, framework: Framework, live: Live, authority: LocalAuthority) -> None:
        """What would carry credentials into a file is refused, and the refusal shows none."""
        tool = framework.make(live(authority.register(["read:metrics"], agent_key=KEY)))
        with pytest.raises((pickle.PicklingError, AttributeError, TypeError)) as refused:
            pickle.dumps(tool)
        assert_no_secret(refused.value, KEY)

    def test_what_cannot_work_is_refused_when_it_is_made(self, framework: Framework) -> None:
        """A mistake of the programmer or the operator is found at start, not in a conversation."""
        client = AsyncAuthSecClient(AuthSecConfig(mode="mock"))
        for name in ("", "two words", "fetch.data", "x" * 65, "größe", "fetch\n"):
            with pytest.raises(ValueError, match="letters, digits"):
                framework.make(client, name=name)
        for wrong in (AuthSecClient(AuthSecConfig(mode="mock")), AuthSecConfig(mode="mock"), "key"):
            with pytest.raises(TypeError, match=f"AsyncAuthSecClient, not {type(wrong).__name__}"):
                framework.make(wrong)  # type: ignore[arg-type]  # what this is about
        settings = AuthSecConfig(base_url="https://authority.invalid", client_id="7c9e6679-7425-40de-944b-e07fc1f90ae7")
        with pytest.raises(ConfigurationError, match="AUTHSEC_API_BASE_URL"):
            framework.make(AsyncAuthSecClient(settings), description="mine")

    @pytest.mark.req("RS1")
    def test_settings_that_are_wrong_make_no_tool(self, framework: Framework, monkeypatch: pytest.MonkeyPatch) -> None:
        """Half a LIVE configuration is an error at start and no reason for sample data; once mended, it works."""
        monkeypatch.setenv("AUTHSEC_BASE_URL", "https://authority.invalid")
        with pytest.raises(ConfigurationError, match="AUTHSEC_AGENT_CLIENT_ID"):
            framework.make()
        monkeypatch.delenv("AUTHSEC_BASE_URL")
        assert framework.make().name == "fetch_secure_data"


class Stop(BaseException):
    """What a signal handler or a debugger raises in the middle of anything."""


class Raising(httpx.AsyncBaseTransport):
    """A network in which something else than the network fails."""

    def __init__(self, error: BaseException) -> None:
        self._error = error

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        raise self._error


class Endings:
    """A run can be ended from outside at any time, and an error of ours never ends one."""

    def test_cancelling_ends_a_call_in_flight_at_once(
        self, framework: Framework, model: Start, live: Live, authority: LocalAuthority, api: ProtectedApi
    ) -> None:
        """Cancelled while the authority keeps it waiting, the run ends; the client works for the next one."""
        tool = framework.make(live(authority.register(["read:metrics"]), timeout=60.0))
        waiting = threading.Event()
        authority.fail(delay=waiting)

        async def cancel() -> None:
            llm = model(call(tool.name, **METRICS), "done")
            task = asyncio.ensure_future(framework.ask(llm, tool))
            await asyncio.to_thread(authority.wait_for_requests, 1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await asyncio.wait_for(task, PATIENCE)
            assert llm.remaining == 1  # nothing went on
            authority.recover()
            waiting.set()
            llm = model(call(tool.name, **METRICS), "done")
            await asyncio.wait_for(framework.ask(llm, tool), PATIENCE)
            assert answers(llm)[0]["status"] == "success"

        asyncio.run(cancel())

    def test_a_call_that_is_cancelled_takes_no_other_with_it(
        self, framework: Framework, model: Start, live: Live, authority: LocalAuthority, api: ProtectedApi
    ) -> None:
        """Two runs wait for one token; one of them is cancelled, the other gets its data."""
        tool = framework.make(live(authority.register(["read:metrics"]), timeout=60.0))
        waiting = threading.Event()
        authority.fail(delay=waiting)

        async def cancel() -> None:
            llms = [model(call(tool.name, **METRICS), "done") for _ in range(2)]
            first, second = (asyncio.ensure_future(framework.ask(llm, tool)) for llm in llms)
            await asyncio.to_thread(authority.wait_for_requests, 1)
            first.cancel()
            await asyncio.wait([first], timeout=PATIENCE)
            assert first.cancelled()
            authority.recover()
            waiting.set()
            await asyncio.wait_for(second, PATIENCE)
            assert answers(llms[1])[0]["status"] == "success"

        asyncio.run(cancel())

    @pytest.mark.parametrize("error", [Stop("now"), asyncio.CancelledError("from inside")], ids=["base", "cancelled"])
    def test_what_is_no_exception_ends_the_run_and_hangs_nothing(
        self,
        framework: Framework,
        model: Start,
        live: Live,
        authority: LocalAuthority,
        shown: Shown,
        error: BaseException,
    ) -> None:
        """Ctrl-C must stop a program: the tool does not swallow it, the framework does not wait, no key is shown."""
        agent = authority.register(["read:metrics"], agent_key=KEY)
        tool = framework.make(live(agent, transport=Raising(error)))
        llm = model(call(tool.name, **METRICS), "done")

        async def run() -> None:
            await asyncio.wait_for(framework.ask(llm, tool), PATIENCE)

        with pytest.raises(type(error)) as ended:
            asyncio.run(run())
        assert_no_secret([ended.value, *shown()], KEY)

    @pytest.mark.req("RD4")
    @pytest.mark.parametrize("error", [RuntimeError(KEY), MemoryError(KEY), RecursionError(KEY)])
    def test_an_error_of_ours_is_one_line_for_the_model(
        self, framework: Framework, model: Start, live: Live, authority: LocalAuthority, error: Exception
    ) -> None:
        """Whatever fails inside: the model gets JSON, no traceback and no text of the error, and the run goes on."""
        tool = framework.make(live(authority.register(["read:metrics"]), transport=Raising(error)))
        llm = model(call(tool.name, **METRICS), "done")
        text, remembered = asyncio.run(framework.ask(llm, tool))
        assert answers(llm)[0]["code"] == "internal_error"
        assert text == "done"
        assert_no_secret([llm.transcript, remembered], KEY)
        assert "Traceback" not in llm.transcript
