"""Does the tool work in AgentChat: one agent, several, calls at once, in MOCK mode and LIVE; and who acts as whom?"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from typing import Any

import pytest
from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.conditions import MaxMessageTermination
from autogen_agentchat.teams import RoundRobinGroupChat, SelectorGroupChat
from autogen_core.models import ChatCompletionClient
from autogen_core.tools import BaseTool
from pydantic import BaseModel

from authsec_autogen.agentchat import AuthSecSecureFetchTool, make_secure_fetch
from authsec_core import AsyncAuthSecClient, AuthSecClient, AuthSecConfig, ConfigurationError
from authsec_core.testing import LocalAuthority, ScriptedModel, call

TOOL = "fetch"
METRICS = {"endpoint": "secure-vault/metrics", "scope": "read:metrics"}
RECORDS = {"endpoint": "secure-vault/records", "scope": "read:records"}
LIVE: dict[str, Any] = {"base_url": "https://authority.invalid", "client_id": "7c9e6679-7425-40de-944b-e07fc1f90ae7"}


def answers(llm: ScriptedModel) -> list[dict[str, Any]]:
    """Return what the tools told the model."""
    return [json.loads(text) for text in llm.tool_results]


def last_words(result: Any) -> str:
    """Return the last message of a run, as text."""
    return str(result.messages[-1].content)


def test_with_nothing_set_two_lines_fetch_sample_data(model: Any, assistant: Any, finish: Any) -> None:
    """MOCK mode from end to end: the import and `tools=[...]` are all that it takes."""
    llm = model(call("fetch_secure_data", **METRICS), "All is well.")
    agent = assistant(llm, AuthSecSecureFetchTool(), reflect_on_tool_use=True)
    result = finish(agent.run(task="Fetch the metrics."))
    assert last_words(result) == "All is well."
    (answer,) = answers(llm)
    assert (answer["status"], answer["mode"]) == ("success", "mock")
    assert "sample" in answer["notice"]


@pytest.mark.req("RD3")
def test_the_environment_makes_it_live(
    model: Any, assistant: Any, finish: Any, environ: Any, authority: LocalAuthority, api: Any
) -> None:
    """An API that checks tokens lets the agent in, with the scope that was asked and with no other."""
    agent = authority.register(["read:metrics", "read:records"], agent_key="agent-key.0123456789abcdef")
    environ(agent)
    llm = model(call(TOOL, **METRICS), "done")
    finish(assistant(llm, make_secure_fetch(name=TOOL), reflect_on_tool_use=True).run(task="go"))
    (answer,) = answers(llm)
    assert (answer["mode"], answer["data"]["topic"]) == ("live", {"active": 7, "from": "the API"})
    assert [(caller.client_id, set(caller.scopes)) for caller in api.callers] == [(agent.client_id, {"read:metrics"})]


def test_a_streaming_agent_uses_it_too(model: Any, assistant: Any, finish: Any) -> None:
    """Nothing depends on how the model's words arrive."""
    llm = model(call("fetch_secure_data", **METRICS), "done")
    agent = assistant(llm, AuthSecSecureFetchTool(), reflect_on_tool_use=True, model_client_stream=True)
    finish(agent.run(task="go"))
    assert [answer["status"] for answer in answers(llm)] == ["success"]


@pytest.mark.skipif(
    "output_content_type" not in inspect.signature(AssistantAgent).parameters, reason="agents learned it in 0.5"
)
# The openai package dumps what it has parsed itself, and pydantic wonders.
@pytest.mark.filterwarnings("ignore:Pydantic serializer warnings:UserWarning")
def test_an_agent_with_structured_output_takes_it(model: Any, assistant: Any, finish: Any) -> None:
    """OpenAI's parsing of structured output accepts strict tools alone."""

    class Verdict(BaseModel):
        sealed: bool

    llm = model(call("fetch_secure_data", **METRICS), json.dumps({"sealed": True}))
    agent = assistant(llm, AuthSecSecureFetchTool(), output_content_type=Verdict, reflect_on_tool_use=True)
    result = finish(agent.run(task="go"))
    assert result.messages[-1].content == Verdict(sealed=True)
    (offered,) = llm.requests[0]["tools"]
    assert offered["function"]["strict"] is True


@pytest.mark.req("RS1", "RD4")
@pytest.mark.parametrize("per_call", [True, False])
def test_a_revocation_ends_access_with_the_next_call(
    model: Any, assistant: Any, finish: Any, live: Any, authority: LocalAuthority, api: Any, per_call: bool
) -> None:
    """A held token is refused by the API and a new one by the authority; the model is told so, and gets no data."""
    agent = authority.register(["read:metrics"])

    def revoke(_body: object) -> Any:
        authority.revoke_agent(agent.client_id)
        api.clock.advance(3.0)  # by then the API has to have read the status list again
        return call(TOOL, **METRICS)

    llm = model(call(TOOL, **METRICS), "got it", revoke, "I was refused.")
    analyst = assistant(llm, make_secure_fetch(live(agent), per_call=per_call, name=TOOL), reflect_on_tool_use=True)

    async def twice() -> None:
        await analyst.run(task="go")
        await analyst.run(task="again")

    finish(twice())
    before, after = answers(llm)
    assert (before["status"], before["mode"]) == ("success", "live")
    assert (after["status"], after["code"], after["retryable"]) == ("error", "delegation_refused", False)
    assert "data" not in after
    assert len(api.callers) == 1


@pytest.mark.req("RD3", "RD4")
def test_a_scope_that_was_never_granted_is_refused_before_the_api_is_called(
    model: Any, assistant: Any, finish: Any, live: Any, authority: LocalAuthority, api: Any
) -> None:
    """The authority says no, and the API never hears of it."""
    llm = model(call(TOOL, **RECORDS), "refused")
    tool = make_secure_fetch(live(authority.register(["read:metrics"])), name=TOOL)
    finish(assistant(llm, tool, reflect_on_tool_use=True).run(task="go"))
    assert answers(llm)[0]["code"] == "delegation_refused"
    assert api.server.requests == ()


@pytest.mark.req("RS1", "RD4")
def test_an_outage_is_told_from_a_refusal_and_passes(
    model: Any, assistant: Any, finish: Any, live: Any, authority: LocalAuthority
) -> None:
    """While the authority is down the model reads that it may try again, never sample data; later it works."""
    authority.fail(status=503)

    def recover(_body: object) -> Any:
        authority.recover()
        return call(TOOL, **METRICS)

    llm = model(call(TOOL, **METRICS), "down", recover, "up")
    client = live(authority.register(["read:metrics"]), retries=0, failure_cooldown=0)
    analyst = assistant(llm, make_secure_fetch(client, name=TOOL), reflect_on_tool_use=True)

    async def twice() -> None:
        await analyst.run(task="go")
        await analyst.run(task="again")

    finish(twice())
    down, up = answers(llm)
    assert (down["code"], down["mode"], down["retryable"]) == ("authority_unreachable", "live", True)
    assert (up["status"], up["mode"]) == ("success", "live")


@pytest.mark.req("RS5")
@pytest.mark.parametrize(("per_call", "exchanges"), [(False, 2), (True, 4)])
def test_calls_at_once_are_each_answered_and_share_what_they_can(
    model: Any, assistant: Any, finish: Any, live: Any, authority: LocalAuthority, per_call: bool, exchanges: int
) -> None:
    """AgentChat runs the calls of one message concurrently: one exchange for each scope, or for each call if asked."""
    wanted = [METRICS, RECORDS, METRICS, {**METRICS, "scope": "admin"}, METRICS]
    llm = model([call(TOOL, **one) for one in wanted], "done")
    client = live(
        authority.register(["read:metrics", "read:records"]),
        endpoint_scopes={"secure-vault/metrics": ["read:metrics"], "secure-vault/records": ["read:records"]},
    )
    finish(
        assistant(llm, make_secure_fetch(client, per_call=per_call, name=TOOL), reflect_on_tool_use=True).run(task="go")
    )
    found = [answer.get("data", {}).get("topic") or answer["code"] for answer in answers(llm)]
    metrics = {"active": 7, "from": "the API"}
    assert found == [metrics, ["rec-1", "rec-2"], metrics, "scope_refused", metrics]
    assert len(authority.issued) == exchanges


def test_one_tool_serves_one_loop_after_the_other(
    model: Any, assistant: Any, finish: Any, live: Any, authority: LocalAuthority
) -> None:
    """Programs call `asyncio.run` more than once; the token stays, the sockets do not."""
    tool = make_secure_fetch(live(authority.register(["read:metrics"])), name=TOOL)
    for _ in range(2):
        llm = model(call(TOOL, **METRICS), "done")
        finish(assistant(llm, tool, reflect_on_tool_use=True).run(task="go"))
        assert answers(llm)[0]["status"] == "success"
    assert len(authority.issued) == 1


@pytest.mark.req("RD7")
@pytest.mark.parametrize("kind", ["round robin", "selector"])
def test_agents_of_a_team_act_each_with_their_own_identity(
    model: Any, assistant: Any, finish: Any, live: Any, authority: LocalAuthority, api: Any, kind: str
) -> None:
    """Two agents, two clients, tools of the same name: no token is shared, and the refusals are each agent's own."""
    reader, archivist = (authority.register([one]) for one in ("read:metrics", "read:records"))
    both = [call(TOOL, **METRICS), call(TOOL, **RECORDS)]
    first, second = model(both, "metrics"), model(both, "records")
    members = [
        assistant(llm, make_secure_fetch(live(agent), name=TOOL), name=name, reflect_on_tool_use=True)
        for llm, agent, name in ((first, reader, "reader"), (second, archivist, "archivist"))
    ]
    termination = MaxMessageTermination(3)
    selector = model("reader", "archivist")
    team: Any = RoundRobinGroupChat(members, termination_condition=termination)
    if kind == "selector":
        chooser: ChatCompletionClient = assistant(selector)._model_client
        team = SelectorGroupChat(members, chooser, termination_condition=termination)
    finish(team.run(task="go"))
    assert [answer["status"] for answer in answers(first)] == ["success", "error"]
    assert [answer["status"] for answer in answers(second)] == ["error", "success"]
    assert {(caller.client_id, tuple(caller.scopes)) for caller in api.callers} == {
        (reader.client_id, ("read:metrics",)),
        (archivist.client_id, ("read:records",)),
    }


@pytest.mark.req("RD6", "RD7")
def test_a_tool_that_was_not_offered_is_not_run(
    model: Any, assistant: Any, finish: Any, live: Any, authority: LocalAuthority
) -> None:
    """A model that names another agent's tool gets nothing: AgentChat looks among the agent's own."""
    other = assistant(model(), make_secure_fetch(live(authority.register(["read:metrics"])), name="fetch_as_other"))
    llm = model(call("fetch_as_other", **METRICS), "not mine")
    mine = make_secure_fetch(live(authority.register(["read:metrics"])), name="fetch_as_me")
    result = finish(assistant(llm, mine, reflect_on_tool_use=True).run(task="go"))
    assert last_words(result) == "not mine"
    assert "fetch_as_other" in llm.tool_results[0]
    assert authority.requests == ()
    assert isinstance(other, AssistantAgent)


@pytest.mark.req("RD7")
def test_two_tools_of_one_agent_have_two_names(
    model: Any, assistant: Any, live: Any, authority: LocalAuthority
) -> None:
    """Two identities differ in the default name; the framework refuses a name twice, so that none hides another."""
    clients = [live(authority.register(["read:metrics"])) for _ in range(2)]
    first, second = (make_secure_fetch(client) for client in clients)
    assert first.name != second.name
    assistant(model(), first, second)
    with pytest.raises(ValueError, match="unique"):
        assistant(model(), *(make_secure_fetch(client, name=TOOL) for client in clients))
    with pytest.raises(ValueError, match="unique"):
        assistant(model(), first, make_secure_fetch(clients[0], per_call=True))


def test_it_is_a_tool_of_the_framework_and_both_ways_make_it() -> None:
    """The class and the function that is named as in the other lineages."""
    made = make_secure_fetch(name=TOOL, description="Fetches.", per_call=True)
    assert isinstance(made, BaseTool)
    assert type(made) is AuthSecSecureFetchTool
    assert (made.name, made.description) == ("fetch", "Fetches.")
    plain = AuthSecSecureFetchTool()
    assert (plain.name, plain.description) == ("fetch_secure_data", make_secure_fetch().description)
    assert "'secure-vault/metrics' with scope 'read:metrics'" in plain.description


@pytest.mark.parametrize("make", [AuthSecSecureFetchTool, make_secure_fetch])
def test_what_cannot_work_is_refused_when_it_is_made(make: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistake of the programmer or the operator is found at start, not in a conversation."""
    client = AsyncAuthSecClient(AuthSecConfig(mode="mock"))
    for name in ("", "two words", "fetch.data", "x" * 65, "größe", "fetch\n"):
        with pytest.raises(ValueError, match="letters, digits"):
            make(client=client, name=name)
    with pytest.raises(TypeError, match="not AuthSecClient"):
        make(client=AuthSecClient(AuthSecConfig(mode="mock")))
    monkeypatch.setenv("AUTHSEC_BASE_URL", LIVE["base_url"])
    with pytest.raises(ConfigurationError, match="AUTHSEC_AGENT_CLIENT_ID"):
        make()
    monkeypatch.setenv("AUTHSEC_AGENT_CLIENT_ID", LIVE["client_id"])
    with pytest.raises(ConfigurationError, match="AUTHSEC_API_BASE_URL"):
        make()
