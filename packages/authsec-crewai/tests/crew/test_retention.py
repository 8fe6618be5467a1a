"""What CrewAI writes down of a tool's results, that the tool says so once, and that what it recommends works.

What is sent away in traces is in `test_tracing.py`.
"""

from __future__ import annotations

import asyncio
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from crew_support import METRICS, need

import authsec_crewai
from authsec_core.testing import ScriptedModel, call
from authsec_crewai import AuthSecCrewAIWarning, _retention, forget_tool_results

if TYPE_CHECKING:
    from crew.conftest import Deployment
    from crewai import Crew

KEY = "agent-key-that-nobody-may-see"
FETCHED = b"eu-canary-7"  # is in the API's answer and never in the agent's


@pytest.fixture
def nothing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a process in which no tool was made yet."""
    monkeypatch.setattr(_retention, "_said", set())


@pytest.fixture
def tool(deployment: Deployment) -> Any:
    """A tool of a LIVE agent with a key."""
    agent = deployment.authority.register(["read:metrics"], agent_key=KEY)
    return authsec_crewai.AuthSecSecureFetchTool(client=deployment.client(agent))


def warned(make: Callable[[], object]) -> list[warnings.WarningMessage]:
    """Return the warnings of ours that making a tool causes."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        make()
    return [one for one in caught if one.category is AuthSecCrewAIWarning]


def kept(folder: Path) -> bool:
    """Return whether any file below the folder holds what was fetched."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert any(path.name == "latest_kickoff_task_outputs.db" for path in files)
    return any(FETCHED in path.read_bytes() for path in files)


@pytest.mark.usefixtures("nothing_said")
def test_a_live_tool_warns_once_and_at_the_callers_line(
    deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first LIVE tool of a process names the place and the mend; the second says nothing."""
    monkeypatch.setattr(_retention, "_database_keeps_messages", lambda: True)
    client = deployment.client(deployment.authority.register(["read:metrics"]))
    (warning,) = warned(lambda: authsec_crewai.AuthSecSecureFetchTool(client=client))
    assert warning.filename == __file__
    mends = ("unless the Crew has task_callback=authsec_crewai.forget_tool_results", "where that is done, silence")
    for part in ("latest_kickoff_task_outputs.db", *mends):
        assert part in str(warning.message)
    assert warned(lambda: authsec_crewai.AuthSecSecureFetchTool(client=client)) == []


@pytest.mark.usefixtures("nothing_said")
def test_sample_data_is_nothing_to_warn_of() -> None:
    """In MOCK mode there is no secret to keep."""
    assert warned(lambda: authsec_crewai.AuthSecSecureFetchTool()) == []


@pytest.mark.usefixtures("nothing_said")
def test_it_is_warned_of_where_crewai_keeps_results(
    deployment: Deployment, start_model: Callable[..., ScriptedModel], make_crew: Callable[..., Crew], home: Path
) -> None:
    """What the warning says is so, and where nothing is said, fetched data is not on the disk afterwards."""
    made: list[Any] = []
    client = deployment.client(deployment.authority.register(["read:metrics"]))
    said = warned(lambda: made.append(authsec_crewai.AuthSecSecureFetchTool(client=client)))
    usual = os.umask(0o022)
    try:
        make_crew(start_model(call(made[0].name, **METRICS), "17 agents"), made[0]).kickoff()
    finally:
        os.umask(usual)
    assert len(deployment.bearers) == 1
    assert kept(home) is bool(said)
    if os.name == "posix":
        assert (home / "latest_kickoff_task_outputs.db").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("how", ["kickoff", "kickoff_async", "akickoff", "kickoff_for_each"])
def test_the_callback_keeps_results_off_the_disk(
    how: str, tool: Any, start_model: Callable[..., ScriptedModel], make_crew: Callable[..., Crew], home: Path
) -> None:
    """With `forget_tool_results` no file holds what was fetched, however the crew is run; its answer is kept."""
    need(f"crewai:Crew.{how}", "this CrewAI cannot be started so")
    model = start_model(call(tool.name, **METRICS), "17 agents")
    crew = make_crew(model, tool, task_callback=forget_tool_results)
    if how == "kickoff_for_each":
        (output,) = crew.kickoff_for_each([{}])
    else:
        output = getattr(crew, how)()
        if how != "kickoff":
            output = asyncio.run(output)
    assert str(output) == "17 agents"
    assert any(FETCHED.decode() in result for result in model.tool_results)
    assert not kept(home)
