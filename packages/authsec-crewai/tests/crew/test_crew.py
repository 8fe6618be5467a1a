"""Real crews with a scripted model: the seed's programs, MOCK and LIVE, two identities, hostile models, revocation."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

import authsec_crewai
from authsec_core.testing import Reply, ScriptedModel, call

if TYPE_CHECKING:
    from crew.conftest import Deployment
    from crewai import Crew

StartModel = Callable[..., ScriptedModel]
METRICS = {"endpoint": "secure-vault/metrics", "scope": "read:metrics"}
RECORDS = {"endpoint": "secure-vault/records", "scope": "read:records"}
LIVE_METRICS = {
    "status": "success",
    "mode": "live",
    "code": 200,
    "data": {"active_agents": 17, "region": "eu-canary-7"},
}

# As the seed prints it, line ends aside.
SEED_CREW = """
from authsec_crewai.tools import AuthSecSecureFetchTool
from crewai import Agent, Task, Crew

secure_tool = AuthSecSecureFetchTool()

analyst = Agent(
    role="Security Analyst",
    goal="Retrieve and summarize restricted internal data",
    backstory="You are a security analyst with delegated access to internal metrics.",
    tools=[secure_tool],
    verbose=True,
)

task = Task(
    description="Fetch the latest metrics from the secure vault and summarize them.",
    expected_output="A brief summary of the retrieved metrics data.",
    agent=analyst,
)

crew = Crew(agents=[analyst], tasks=[task], verbose=True)
crew.kickoff()
"""
SEED_DIRECT = """
from authsec_crewai.tools import AuthSecSecureFetchTool

tool = AuthSecSecureFetchTool()

# Call the tool directly — no agent or crew needed
result = tool._run(endpoint="secure-vault/records", scope="read:records")
print(result)
"""


def tool_of(deployment: Deployment, *permissions: str, **options: Any) -> Any:
    """Return the tool of an agent to whom the permissions were just delegated."""
    agent = deployment.authority.register(permissions, agent_key=options.pop("agent_key", None))
    return authsec_crewai.AuthSecSecureFetchTool(client=deployment.client(agent), **options)


def results(model: ScriptedModel) -> list[dict[str, Any]]:
    """Return what the tools gave back to the model, parsed."""
    return [json.loads(result) for result in model.tool_results]


def from_description(body: dict[str, Any]) -> Any:
    """Call the tool with what its description permits for metrics, as a model has to whose task names neither."""
    (tool,) = body["tools"]
    _, _, rest = tool["function"]["description"].partition("'secure-vault/metrics' with scope '")
    return call(tool["function"]["name"], endpoint="secure-vault/metrics", scope=rest.partition("'")[0])


@pytest.mark.parametrize("mode", ["mock", "live"])
def test_the_seeds_crew_runs_as_printed(
    mode: str, deployment: Deployment, start_model: StartModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The program that people copy works unchanged; what the model needs to know is in the tool's description."""
    model = start_model(from_description, "17 agents are active.")
    monkeypatch.setenv("OPENAI_API_KEY", model.api_key)
    monkeypatch.setenv("OPENAI_BASE_URL", model.base_url)
    if mode == "live":
        agent = deployment.authority.register(["read:metrics"], agent_key="key-of-the-analyst")
        environ = deployment.authority.environ(agent, api_base_url=deployment.api.base_url)
        environ["AUTHSEC_ENDPOINT_SCOPES"] = '{"secure-vault/metrics": "read:metrics"}'
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
    exec(compile(SEED_CREW, "seed 003", "exec"), {"__name__": "__main__"})  # noqa: S102 - the program under test
    (answer,) = results(model)
    assert (answer["status"], answer["mode"], model.remaining) == ("success", mode, 0)
    assert [path for path, _ in deployment.served] == (["/secure-vault/metrics"] if mode == "live" else [])


def test_the_seeds_direct_call_runs_as_printed(capsys: pytest.CaptureFixture[str]) -> None:
    """Without agent, crew or settings the tool returns sample records, and prints nothing of its own."""
    exec(compile(SEED_DIRECT, "seed 003", "exec"), {"__name__": "__main__"})  # noqa: S102 - the program under test
    printed = json.loads(capsys.readouterr().out)
    assert (printed["status"], printed["mode"], len(printed["data"])) == ("success", "mock", 2)


def test_a_live_crew_gets_the_data_and_its_token_has_the_asked_scope_alone(
    deployment: Deployment, start_model: StartModel, make_crew: Callable[..., Crew]
) -> None:
    """The model sees the API's data; the token carries what was asked and not all that was delegated."""
    tool = tool_of(deployment, "read:metrics", "read:records")
    model = start_model(call(tool.name, **METRICS), "17 agents")
    assert str(make_crew(model, tool).kickoff()) == "17 agents"
    assert results(model) == [LIVE_METRICS]
    assert [token.scopes for token in deployment.authority.issued] == [("read:metrics",)]
    assert model.offered_tools[tool.name].description == tool.description


def test_an_agent_without_tool_calls_gets_the_same(
    deployment: Deployment, start_model: StartModel, make_agent: Callable[..., Any], make_crew: Callable[..., Crew]
) -> None:
    """In CrewAI's ReAct text, too, a call is one call: nothing is raised that CrewAI would answer with five more."""
    tool = tool_of(deployment, "read:metrics")
    denied = {"endpoint": "finance/payroll", "scope": "read:payroll"}
    model = start_model(call(tool.name, **METRICS), call(tool.name, **denied), "done")
    agent = make_agent(model, tool)
    agent.llm.supports_function_calling = lambda: False
    make_crew(model, agent).kickoff()
    first, second = results(model)
    assert first == LIVE_METRICS
    assert (second["status"], second["code"]) == ("error", "endpoint_refused")
    assert len(deployment.api.requests) == 1


@pytest.mark.parametrize("how", ["kickoff_async", "akickoff"])
def test_a_crew_on_an_event_loop_gets_the_same(
    how: str, deployment: Deployment, start_model: StartModel, make_crew: Callable[..., Crew]
) -> None:
    """The blocking `_run` serves the asynchronous kickoffs: CrewAI runs it on a thread."""
    tool = tool_of(deployment, "read:metrics")
    model = start_model(call(tool.name, **METRICS), "17 agents")
    assert str(asyncio.run(getattr(make_crew(model, tool), how)())) == "17 agents"
    assert results(model) == [LIVE_METRICS]


def test_calls_made_at_once_run_at_once_and_share_one_token(
    deployment: Deployment, start_model: StartModel, make_crew: Callable[..., Crew], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parallel calls of one turn are each answered, in order, and cost one token for each scope."""
    tool = tool_of(deployment, "read:metrics", "read:records")
    both = threading.Barrier(2)
    original = type(tool)._run

    def run(self: Any, **arguments: Any) -> str:
        both.wait(10)
        return str(original(self, **arguments))

    monkeypatch.setattr(type(tool), "_run", run)
    model = start_model([call(tool.name, **METRICS), call(tool.name, **METRICS)], "done")
    make_crew(model, tool).kickoff()
    assert results(model) == [LIVE_METRICS, LIVE_METRICS]
    assert len(deployment.authority.issued) == 1


@pytest.mark.req("RD7")
def test_two_agents_of_a_caching_crew_share_neither_tokens_nor_results(
    deployment: Deployment, start_model: StartModel, make_agent: Callable[..., Any], make_crew: Callable[..., Crew]
) -> None:
    """With the same arguments each agent gets what its own token gets: the second is refused."""
    first, second = tool_of(deployment, "read:metrics"), tool_of(deployment, "read:records")
    model = start_model(call(first.name, **METRICS), "17 agents", call(second.name, **METRICS), "refused")
    agents = [make_agent(model, first, role="First"), make_agent(model, second, role="Second")]
    make_crew(model, *agents, cache=True).kickoff()
    allowed, refused = results(model)
    assert allowed == LIVE_METRICS
    assert (refused["status"], refused["code"]) == ("error", "delegation_refused")
    assert [request.query["client_id"] for request in deployment.authority.requests] == [
        tool._client.config.client_id for tool in (first, second)
    ]
    assert len(deployment.served) == 1


@pytest.mark.req("RD7")
def test_an_agent_cannot_call_the_tool_of_another(
    deployment: Deployment, start_model: StartModel, make_agent: Callable[..., Any], make_crew: Callable[..., Crew]
) -> None:
    """A model that names the other agent's tool gets nothing, and nothing is requested for it."""
    first, second = tool_of(deployment, "read:metrics"), tool_of(deployment, "read:records")
    model = start_model(call(first.name, **METRICS), "17 agents", call(first.name, **METRICS), "nothing")
    agents = [make_agent(model, first, role="First"), make_agent(model, second, role="Second")]
    make_crew(model, *agents, cache=True).kickoff()
    assert len(deployment.served) == len(deployment.authority.requests) == 1


@pytest.mark.req("RD7")
@pytest.mark.parametrize("react", [False, True], ids=["tool calls", "ReAct"])
def test_a_caching_crew_fetches_each_time(
    react: bool,
    deployment: Deployment,
    start_model: StartModel,
    make_agent: Callable[..., Any],
    make_crew: Callable[..., Crew],
) -> None:
    """CrewAI's cache, where it is on, holds no result of ours: the same call goes to the API again."""
    tool = tool_of(deployment, "read:metrics")
    model = start_model(call(tool.name, **METRICS), "17 agents", call(tool.name, **METRICS), "17 again")
    agent = make_agent(model, tool)
    if react:
        agent.llm.supports_function_calling = lambda: False
    crew = make_crew(model, agent, cache=True)
    crew.kickoff()
    crew.kickoff()
    assert len(deployment.api.requests) == 2


@pytest.mark.req("RD7")
def test_a_caching_tool_of_another_maker_cannot_answer_for_ours(
    deployment: Deployment, start_model: StartModel, make_agent: Callable[..., Any], make_crew: Callable[..., Crew]
) -> None:
    """CrewAI's cache goes by name and arguments: a stranger's result under the plain name is never served as ours."""
    from crewai.tools import tool as make_tool

    @make_tool("authsec_secure_fetch")
    def foreign(endpoint: str, scope: str) -> str:
        """Fetch something else."""
        return "stale"

    ours = tool_of(deployment, "read:metrics")
    model = start_model(call(foreign.name, **METRICS), "stale", call(ours.name, **METRICS), "17 agents")
    agents = [make_agent(model, foreign, role="First"), make_agent(model, ours, role="Second")]
    make_crew(model, *agents, cache=True).kickoff()
    assert [json.loads(result) for result in model.tool_results[1:]] == [LIVE_METRICS]


def test_the_structured_tool_says_not_to_cache() -> None:
    """CrewAI 0.114 to 1.8 asks the converted tool, and drops our answer while converting."""
    tool = authsec_crewai.AuthSecSecureFetchTool()
    tool.cache_function = lambda *_: True  # what those versions put there
    assert tool.to_structured_tool().cache_function({}, "result") is False


@pytest.mark.parametrize("what", ["token", "agent"])
def test_after_a_revocation_the_next_kickoff_is_refused(
    what: str, deployment: Deployment, start_model: StartModel, make_crew: Callable[..., Crew]
) -> None:
    """A crew that fetched data before is told plainly that it may not any more, and sees no old data."""
    tool = tool_of(deployment, "read:metrics")
    model = start_model(call(tool.name, **METRICS), "17 agents", call(tool.name, **METRICS), "no longer permitted")
    crew = make_crew(model, tool, cache=True)
    crew.kickoff()
    (token,) = deployment.authority.issued
    deployment.authority.revoke_agent(token.client_id)
    if what == "token":  # the agent still holds its token, so that it is the API that refuses first
        deployment.clock.advance(61)
    else:
        deployment.clock.advance(token.ttl + 1)
    crew.kickoff()
    before, after = results(model)
    assert before == LIVE_METRICS
    assert (after["status"], after["code"], after["retryable"]) == ("error", "delegation_refused", False)
    assert "eu-canary-7" not in json.dumps(after)
    assert len(deployment.served) == 1


@pytest.mark.parametrize(
    ("fault", "code", "retryable"),
    [
        ({"status": 503}, "authority_unreachable", True),
        ({"garbage": b"<html>token</html>"}, "bad_reply", False),
        ({"status": 403}, "delegation_refused", False),
    ],
)
@pytest.mark.req("RS1", "RD4")
def test_a_failing_authority_is_told_and_never_turned_into_sample_data(
    fault: dict[str, Any],
    code: str,
    retryable: bool,
    deployment: Deployment,
    start_model: StartModel,
    make_crew: Callable[..., Crew],
) -> None:
    """The crew goes on, the model reads what happened, and the API was not called."""
    tool = tool_of(deployment, "read:metrics")
    deployment.authority.fail(**fault)
    model = start_model(call(tool.name, **METRICS), "could not fetch")
    make_crew(model, tool).kickoff()
    (answer,) = results(model)
    assert (answer["status"], answer["mode"], answer["code"], answer["retryable"]) == ("error", "live", code, retryable)
    assert "data" not in answer
    assert deployment.bearers == []


HOSTILE: list[dict[str, Any]] = [
    {"endpoint": "https://evil.example/steal", "scope": "read:metrics"},
    {"endpoint": "//evil.example/steal", "scope": "read:metrics"},
    {"endpoint": "secure-vault/../finance/payroll", "scope": "read:payroll"},
    {"endpoint": "secure-vault/%2e%2e/finance/payroll", "scope": "read:payroll"},
    {"endpoint": "secure-vault\\..\\finance", "scope": "read:payroll"},
    {"endpoint": "user:pass@evil.example", "scope": "read:metrics"},
    {"endpoint": "finance/payroll", "scope": "read:payroll"},
    {"endpoint": "secure-vault/metrics", "scope": "read:payroll"},
    {"endpoint": "secure-vault/metrics", "scope": "*"},
    {"endpoint": "secure-vault/metrics\r\nX-Evil: 1", "scope": "read:metrics"},
    {"endpoint": ["secure-vault/metrics"], "scope": "read:metrics"},
    {"endpoint": "secure-vault/metrics"},
    {},
]


@pytest.mark.req("RD6")
def test_a_hostile_model_reaches_nothing(
    deployment: Deployment, start_model: StartModel, make_crew: Callable[..., Crew]
) -> None:
    """Through the real framework, no made-up endpoint, scope, argument or tool causes a request of any kind."""
    tool = tool_of(deployment, "read:metrics", "read:payroll")
    broken = [call(tool.name, **one) for one in HOSTILE]
    model = start_model(*broken, call("read_environment"), call("AuthSecClient", scope="*"), "gave up")
    make_crew(model, tool, max_rpm=None).kickoff()
    assert model.remaining == 0
    assert deployment.authority.requests == ()
    assert deployment.api.requests == ()
    assert "Traceback" not in model.transcript


@pytest.mark.req("RD5", "RD6")
def test_what_a_hostile_model_adds_to_a_permitted_call_is_dropped(
    deployment: Deployment, start_model: StartModel, make_crew: Callable[..., Crew]
) -> None:
    """The call is made as if nothing had been added: the operator's method, headers, life and identity."""
    tool = tool_of(deployment, "read:metrics")
    added = {"method": "POST", "headers": {"X-Evil": "1"}, "ttl": 9e9, "client_id": "x", "security_context": {"a": 1}}
    model = start_model(call(tool.name, **METRICS, **added), "done")
    make_crew(model, tool).kickoff()
    assert results(model) == [LIVE_METRICS]
    (request,) = deployment.api.requests
    assert (request.method, "x-evil" in request.headers) == ("GET", False)
    assert deployment.authority.issued[0].ttl == 1800


@pytest.mark.req("RD2")
def test_a_redirect_of_the_api_is_not_followed(
    deployment: Deployment, start_model: StartModel, make_crew: Callable[..., Crew], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The token stays with the operator's origin, and the model learns no address."""
    tool = tool_of(deployment, "read:metrics")
    elsewhere = {"Location": f"{deployment.authority.base_url}/stolen"}
    monkeypatch.setattr(deployment.api, "_handler", lambda request: Reply(status=302, headers=elsewhere))
    model = start_model(call(tool.name, **METRICS), "done")
    make_crew(model, tool).kickoff()
    (answer,) = results(model)
    assert (answer["code"], deployment.authority.base_url in json.dumps(answer)) == ("downstream_error", False)
    assert len(deployment.authority.requests) == 1


def test_an_exception_inside_never_reaches_the_model(
    deployment: Deployment, start_model: StartModel, make_crew: Callable[..., Crew], monkeypatch: pytest.MonkeyPatch
) -> None:
    """CrewAI would show a model the text of an exception: there is none, whatever breaks."""
    tool = tool_of(deployment, "read:metrics")

    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("/home/operator/secrets.txt")

    monkeypatch.setattr(type(tool._client), "fetch", broken)
    model = start_model(call(tool.name, **METRICS), "done")
    make_crew(model, tool).kickoff()
    (answer,) = results(model)
    assert answer["code"] == "internal_error"
    assert "secrets.txt" not in model.transcript


def test_kickoff_for_each_serves_every_copy(
    deployment: Deployment, start_model: StartModel, make_crew: Callable[..., Crew]
) -> None:
    """Copies of the crew use the same client: one token, and data for each input."""
    tool = tool_of(deployment, "read:metrics")
    turns = [call(tool.name, **METRICS), "done"] * 3
    model = start_model(*turns)
    crew = make_crew(model, tool, task="Summarize the metrics for {team}.")
    outputs = crew.kickoff_for_each([{"team": name} for name in ("a", "b", "c")])
    assert len(outputs) == 3
    assert results(model) == [LIVE_METRICS] * 3
    assert len(deployment.authority.issued) == 1


def test_a_copied_crew_acts_as_the_same_agent(
    deployment: Deployment, start_model: StartModel, make_crew: Callable[..., Crew]
) -> None:
    """`Crew.copy` hands the identity on, because it is the same program that copies."""
    tool = tool_of(deployment, "read:metrics")
    model = start_model(call(tool.name, **METRICS), "done")
    make_crew(model, tool).copy().kickoff()
    assert results(model) == [LIVE_METRICS]
