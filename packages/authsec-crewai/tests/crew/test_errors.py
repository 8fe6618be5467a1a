"""Whatever goes wrong, the model reads it as the tool's answer: CrewAI shows exceptions to it, and calls again."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from crew_support import LIVE_METRICS, METRICS, results, tool_of

from authsec_core.testing import ScriptedModel, call

if TYPE_CHECKING:
    from crew.conftest import Deployment
    from crewai import Crew

StartModel = Callable[..., ScriptedModel]


def break_inside(tool: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the client raise what no client should."""

    def broken(*_: Any, **__: Any) -> Any:
        raise RuntimeError("/home/operator/secrets.txt")

    monkeypatch.setattr(type(tool._client), "fetch", broken)


@pytest.mark.parametrize("code", ["success", "endpoint_refused", "authority_unreachable", "internal_error"])
def test_a_call_runs_once_whatever_becomes_of_it(
    code: str,
    deployment: Deployment,
    start_model: StartModel,
    make_speaker: Callable[..., Any],
    make_crew: Callable[..., Crew],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One call of a model is one run, in tool calls and in ReAct text, for data and for every kind of error."""
    tool = tool_of(deployment, "read:metrics")
    runs: list[dict[str, Any]] = []
    original = type(tool)._run

    def run(self: Any, **arguments: Any) -> str:
        runs.append(arguments)
        return str(original(self, **arguments))

    monkeypatch.setattr(type(tool), "_run", run)
    if code == "authority_unreachable":
        deployment.authority.fail(status=503)
    elif code == "internal_error":
        break_inside(tool, monkeypatch)
    asked = {**METRICS, "endpoint": "finance/payroll"} if code == "endpoint_refused" else METRICS
    model = start_model(call(tool.name, **asked), "done")
    assert str(make_crew(model, make_speaker(model, tool)).kickoff()) == "done"
    (answer,) = results(model)
    assert answer == LIVE_METRICS if code == "success" else (answer["status"], answer["code"]) == ("error", code)
    assert runs == [asked]


def test_a_tool_that_raises_is_run_again_and_again(
    start_model: StartModel, make_agent: Callable[..., Any], make_crew: Callable[..., Crew]
) -> None:
    """This is CrewAI's way with tools that are not ours, in ReAct text: once it is gone, so is a reason for ours."""
    from crewai.tools import tool as make_tool

    runs: list[str] = []

    @make_tool("broken")
    def broken(text: str) -> str:
        """Raise."""
        runs.append(text)
        raise RuntimeError("/home/operator/secrets.txt")

    model = start_model(call("broken", text="x"), "done")
    agent = make_agent(model, broken)
    agent.llm.supports_function_calling = lambda: False
    make_crew(model, agent).kickoff()
    assert len(runs) > 1
    assert "secrets.txt" in model.transcript


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


def test_an_exception_inside_never_reaches_the_model(
    deployment: Deployment, start_model: StartModel, make_crew: Callable[..., Crew], monkeypatch: pytest.MonkeyPatch
) -> None:
    """CrewAI would show a model the text of an exception: there is none, whatever breaks."""
    tool = tool_of(deployment, "read:metrics")
    break_inside(tool, monkeypatch)
    model = start_model(call(tool.name, **METRICS), "done")
    make_crew(model, tool).kickoff()
    (answer,) = results(model)
    assert answer["code"] == "internal_error"
    assert "secrets.txt" not in model.transcript
