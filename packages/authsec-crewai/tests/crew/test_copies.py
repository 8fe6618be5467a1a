"""Copies of the tool share its identity; what is written down or sent elsewhere holds none, and does nothing alone."""

from __future__ import annotations

import asyncio
import copy
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from crew_support import LIVE_METRICS, METRICS, dump_json, need, results, tool_of
from pydantic import BaseModel, TypeAdapter

import authsec_crewai
from authsec_core.testing import LoopbackServer, Reply, ScriptedModel, assert_no_secret, call

if TYPE_CHECKING:
    from crew.conftest import Deployment
    from crewai import Crew

KEY = "agent-key-that-nobody-may-see"


@pytest.fixture
def tool(deployment: Deployment) -> Any:
    """A tool of a LIVE agent with a key, which has fetched once, so that a token is held too."""
    agent = deployment.authority.register(["read:metrics"], agent_key=KEY)
    made = authsec_crewai.AuthSecSecureFetchTool(client=deployment.client(agent))
    assert json.loads(made._run(**METRICS))["status"] == "success"
    return made


def dumped(tool: Any) -> dict[str, Callable[[], Any]]:
    """Return the ways in which pydantic makes a tool of a dump."""
    kind = authsec_crewai.AuthSecSecureFetchTool
    return {
        "dict": lambda: kind.model_validate(tool.model_dump()),
        "json": lambda: kind.model_validate_json(dump_json(tool)),
        "parsed json": lambda: kind.model_validate(json.loads(dump_json(tool))),
        "construct": lambda: kind.model_construct(**tool.model_dump()),
        "forged": lambda: kind.model_validate({**tool.model_dump(), "authsec: made by": "__init__"}),
        "with settings": lambda: kind.model_validate({**tool.model_dump(), "base_url": "https://evil.example"}),
    }


@pytest.fixture
def environment(deployment: Deployment, monkeypatch: pytest.MonkeyPatch) -> None:
    """An environment that describes another agent, as the one that the dump is of has it."""
    stranger = deployment.authority.register(["read:metrics"])
    environ = deployment.authority.environ(stranger, api_base_url=deployment.api.base_url)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize(
    "duplicate",
    [copy.copy, copy.deepcopy, lambda tool: tool.model_copy(), lambda tool: tool.model_copy(deep=True)],
    ids=["copy", "deepcopy", "model_copy", "model_copy deep"],
)
def test_copies_share_the_client(duplicate: Callable[[Any], Any], tool: Any, deployment: Deployment) -> None:
    """A copy in the same process is the same agent and uses the same held token; its settings are its own."""
    twin = duplicate(tool)
    twin.per_call = True
    assert (twin is not tool, twin._client is tool._client, tool.per_call) == (True, True, False)
    assert json.loads(duplicate(tool)._run(**METRICS))["status"] == "success"
    assert len(deployment.authority.issued) == 1


def test_a_tool_inside_another_object_is_copied_along(tool: Any) -> None:
    """CrewAI and people copy whole structures deeply; the locks and sockets of the client must not stop that."""
    assert copy.deepcopy({"tools": [tool]})["tools"][0]._client is tool._client


@pytest.mark.req("RS8")
def test_no_form_of_the_tool_shows_a_secret(tool: Any, deployment: Deployment) -> None:
    """Neither repr nor any dump holds the agent's key or a token."""
    forms = [repr(tool), str(tool), tool.model_dump(), dump_json(tool), vars(tool), tool.to_structured_tool()]
    assert_no_secret(forms, KEY, *deployment.bearers)


@pytest.mark.req("RS8")
def test_pickling_is_refused(tool: Any) -> None:
    """A pickle would carry the identity to another process, or arrive without it; neither is what was meant."""
    with pytest.raises(TypeError, match="is not pickled") as refusal:
        pickle.dumps(tool)
    assert_no_secret(refusal.value, KEY)


@pytest.mark.parametrize("how", ["dict", "json", "parsed json", "construct", "forged", "with settings"])
@pytest.mark.usefixtures("environment")
def test_a_restored_tool_fetches_nothing(how: str, tool: Any, deployment: Deployment) -> None:
    """Made of a dump, the tool has no identity, and does not take on that of the environment."""
    restored = dumped(tool)[how]()
    for attempt in (restored, copy.deepcopy(restored)):
        answer = json.loads(attempt._run(**METRICS))
        assert (answer["status"], answer["code"], answer["retryable"]) == ("error", "configuration", False)
        assert "restored" in answer["message"]
    assert len(deployment.served) == 1  # by the tool itself, before


@pytest.mark.req("RS9", "RD7")
@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("how", ["dict", "json", "adapter", "field"])
@pytest.mark.parametrize("mark", [None, "", 0, "__init__", "validation"])
def test_a_forged_mark_gives_a_restored_tool_no_client(how: str, mark: Any, tool: Any, deployment: Deployment) -> None:
    """A dump cannot pass for a call of the program's own, which would send the environment's token to its address."""

    class Holder(BaseModel):
        tool: authsec_crewai.AuthSecSecureFetchTool

    kind = type(tool)
    with LoopbackServer(lambda _request: Reply.of_json({})) as evil:
        forged = json.loads(dump_json(tool)) | {"authsec: made by": mark, "api_base_url": evil.base_url}
        ways: dict[str, Callable[[], Any]] = {
            "dict": lambda: kind.model_validate(forged),
            "json": lambda: kind.model_validate_json(json.dumps(forged)),
            "adapter": lambda: TypeAdapter(kind).validate_python(forged),
            "field": lambda: Holder.model_validate({"tool": forged}).tool,
        }
        restored = ways[how]()
        answer = json.loads(restored._run(**METRICS))
        assert restored._client is None
        assert (answer["status"], answer["code"]) == ("error", "configuration")
        assert evil.requests == ()
    assert len(deployment.authority.issued) == len(deployment.served) == 1  # for the tool itself, before


def test_a_restored_tool_keeps_what_is_not_secret(tool: Any) -> None:
    """Name, description and options survive; schema and cache function are the class's, whatever the dump says."""
    tool.per_call = True
    dump = {**tool.model_dump(), "cache_function": print, "args_schema": None}
    restored = type(tool).model_validate(dump)
    assert (restored.name, restored.per_call) == (tool.name, True)
    assert restored.description.endswith(tool.description)  # CrewAI up to 1.9 puts name and arguments before it, again
    assert (restored.args_schema, restored.cache_function) == (tool.args_schema, tool.cache_function)


@pytest.mark.req("RS8")
def test_a_crew_restored_from_a_checkpoint_fetches_nothing_until_it_is_given_a_tool(
    tool: Any,
    deployment: Deployment,
    start_model: Callable[..., ScriptedModel],
    make_crew: Callable[..., Crew],
    tmp_path: Path,
) -> None:
    """The checkpoint file holds no secret, the tool in it no identity, and replacing the tool mends it."""
    checkpoint_config = need("crewai.state.checkpoint_config:CheckpointConfig", "this CrewAI writes no checkpoints")
    from crewai import Crew

    fetch = call(tool.name, **METRICS)
    model = start_model(fetch, "17 agents", fetch, "not possible", fetch, "17 agents")
    checkpoints = tmp_path / "checkpoints"
    crew = make_crew(model, tool, checkpoint=checkpoint_config(location=str(checkpoints)))
    crew.kickoff()
    (file,) = checkpoints.rglob("*.json")
    written = file.read_text(encoding="utf-8")
    assert tool.name in written
    assert_no_secret(written, KEY, *deployment.bearers)

    restored = Crew.from_checkpoint(checkpoint_config(restore_from=str(file)))
    (task,) = restored.tasks
    for tools in (task.tools, [tool]):
        assert task.agent is not None
        task.tools = task.agent.tools = tools
        task.output = None  # else there is nothing left to do
        restored.kickoff()
    outcomes = [json.loads(result)["status"] for result in model.tool_results]
    assert outcomes == ["success", "error", "success"]


@pytest.mark.parametrize("how", ["kickoff_for_each", "kickoff_for_each_async", "akickoff_for_each"])
def test_each_of_many_kickoffs_is_served(
    how: str, deployment: Deployment, start_model: Callable[..., ScriptedModel], make_crew: Callable[..., Crew]
) -> None:
    """CrewAI runs copies of the crew, at once where it is asynchronous: one client, one token, data for each input."""
    need(f"crewai:Crew.{how}", "this CrewAI cannot be started so")
    tool = tool_of(deployment, "read:metrics")

    def turn(body: dict[str, Any]) -> Any:
        return "done" if "eu-canary-7" in json.dumps(body) else call(tool.name, **METRICS)

    model = start_model(*[turn] * 6)
    crew = make_crew(model, tool, task="Summarize the metrics for {team}.")
    inputs = [{"team": name} for name in ("a", "b", "c")]
    outputs = crew.kickoff_for_each(inputs) if how == "kickoff_for_each" else asyncio.run(getattr(crew, how)(inputs))
    assert [str(output) for output in outputs] == ["done"] * 3
    assert (len(deployment.served), model.remaining, len(deployment.authority.issued)) == (3, 0, 1)


def test_a_copied_crew_acts_as_the_same_agent(
    deployment: Deployment, start_model: Callable[..., ScriptedModel], make_crew: Callable[..., Crew]
) -> None:
    """`Crew.copy` hands the identity on, because it is the same program that copies."""
    tool = tool_of(deployment, "read:metrics")
    model = start_model(call(tool.name, **METRICS), "done")
    make_crew(model, tool).copy().kickoff()
    assert results(model) == [LIVE_METRICS]
