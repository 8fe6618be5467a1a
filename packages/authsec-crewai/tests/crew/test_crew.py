"""Real crews with a scripted model: the seed's programs, MOCK and LIVE, two identities, hostile models, revocation."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from crew_support import LIVE_METRICS, METRICS, from_description, need, results, told, tool_of

from authsec_core.testing import Reply, ScriptedModel, call
from authsec_core.tool import describe_secure_fetch

if TYPE_CHECKING:
    from crew.conftest import Deployment
    from crewai import Crew

StartModel = Callable[..., ScriptedModel]

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
    """Without agent, crew or settings the tool returns sample records."""
    exec(compile(SEED_DIRECT, "seed 003", "exec"), {"__name__": "__main__"})  # noqa: S102 - the program under test
    # CrewAI 1.0 may only now print, from a thread, what became of an earlier test's crew.
    [line] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    printed = json.loads(line)
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
    assert told(model.requests[0]) == (tool.name, describe_secure_fetch(tool._client))


@pytest.mark.parametrize("how", ["kickoff", "kickoff_async", "akickoff"])
def test_a_crew_on_an_event_loop_gets_the_same(
    how: str, deployment: Deployment, start_model: StartModel, make_crew: Callable[..., Crew]
) -> None:
    """The blocking `_run` serves each kickoff; where CrewAI refuses to block a loop, nothing was fetched."""
    need(f"crewai:Crew.{how}", "this CrewAI cannot be started so")
    tool = tool_of(deployment, "read:metrics")
    model = start_model(call(tool.name, **METRICS), "17 agents")
    crew = make_crew(model, tool)

    async def start() -> str:
        output = getattr(crew, how)()
        return str(output if how == "kickoff" else await output)

    try:
        answer = asyncio.run(start())
    except RuntimeError as refusal:
        answer = str(refusal)
    if how == "kickoff" and "running event loop" in answer:
        assert (deployment.bearers, model.requests) == ([], [])
    else:
        assert (answer, results(model)) == ("17 agents", [LIVE_METRICS])


def test_calls_made_at_once_run_at_once_and_share_one_token(
    deployment: Deployment, start_model: StartModel, make_crew: Callable[..., Crew], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Parallel calls of one turn are each answered, in order, and cost one token for each scope."""
    need("crewai.agents.agent_executor", "this CrewAI runs one call of a turn and drops the others")
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
def test_an_agent_cannot_act_through_the_tool_of_another(
    deployment: Deployment, start_model: StartModel, make_agent: Callable[..., Any], make_crew: Callable[..., Crew]
) -> None:
    """A model that names the other's tool gets nothing, or what its own would give, where CrewAI guesses names."""
    first, second = tool_of(deployment, "read:metrics"), tool_of(deployment, "read:records")
    model = start_model(call(first.name, **METRICS), "17 agents", call(first.name, **METRICS), "nothing")
    agents = [make_agent(model, first, role="First"), make_agent(model, second, role="Second")]
    make_crew(model, *agents, cache=True).kickoff()
    assert len(deployment.served) == 1
    asked = [request.query["client_id"] for request in deployment.authority.requests]
    assert asked[1:] in ([], [second._client.config.client_id])


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
