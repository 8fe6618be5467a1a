"""What CrewAI keeps of a tool's results, that the tool says so once, and that what it recommends works."""

from __future__ import annotations

import asyncio
import logging
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import authsec_crewai
from authsec_core.testing import ScriptedModel, assert_no_secret, call
from authsec_crewai import AuthSecCrewAIWarning, _retention, forget_tool_results

if TYPE_CHECKING:
    from crew.conftest import Deployment
    from crewai import Crew

KEY = "agent-key-that-nobody-may-see"
FETCHED = b"eu-canary-7"  # is in the API's answer and never in the agent's
METRICS = {"endpoint": "secure-vault/metrics", "scope": "read:metrics"}


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
def test_a_live_tool_warns_once_and_at_the_callers_line(deployment: Deployment) -> None:
    """The first LIVE tool of a process names the database and the mend; the second says nothing."""
    client = deployment.client(deployment.authority.register(["read:metrics"]))
    (warning,) = warned(lambda: authsec_crewai.AuthSecSecureFetchTool(client=client))
    assert warning.filename == __file__
    for part in ("latest_kickoff_task_outputs.db", "task_callback=authsec_crewai.forget_tool_results"):
        assert part in str(warning.message)
    assert warned(lambda: authsec_crewai.AuthSecSecureFetchTool(client=client)) == []


@pytest.mark.usefixtures("nothing_said")
def test_sample_data_is_nothing_to_warn_of() -> None:
    """In MOCK mode there is no secret to keep."""
    assert warned(lambda: authsec_crewai.AuthSecSecureFetchTool()) == []


@pytest.mark.usefixtures("nothing_said")
@pytest.mark.parametrize(("setting", "expected"), [("true", True), ("1", True), ("false", False), (None, False)])
def test_tracing_that_is_on_is_warned_of(
    setting: str | None, expected: bool, deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Traces carry results to CrewAI's servers whatever the telemetry settings say; the warning names the switch."""
    monkeypatch.delenv("CREWAI_TRACING_ENABLED")
    if setting is not None:
        monkeypatch.setenv("CREWAI_TRACING_ENABLED", setting)
    client = deployment.client(deployment.authority.register(["read:metrics"]))
    said = [str(one.message) for one in warned(lambda: authsec_crewai.AuthSecSecureFetchTool(client=client))]
    assert any("CREWAI_TRACING_ENABLED=false" in text for text in said) is expected


@pytest.mark.usefixtures("nothing_said")
def test_consent_to_tracing_that_crewai_remembers_is_warned_of_until_it_is_switched_off(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody may have said yes to CrewAI's question once; the variable overrules it."""
    (home / ".crewai_user.json").write_text('{"trace_consent": true}', encoding="utf-8")
    assert not _retention._tracing_is_on()
    monkeypatch.delenv("CREWAI_TRACING_ENABLED")
    assert _retention._tracing_is_on()


def test_without_a_readable_data_folder_the_variable_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where CrewAI cannot say whether it traces, what the operator set is believed, and nothing is raised."""
    from crewai.events.listeners.tracing import utils

    def unreadable() -> bool:
        raise PermissionError

    monkeypatch.setattr(utils, "should_enable_tracing", unreadable)
    assert not _retention._tracing_is_on()
    monkeypatch.setenv("CREWAI_TRACING_ENABLED", "TRUE")
    assert _retention._tracing_is_on()


def test_crewai_keeps_results_for_every_user_to_read(
    tool: Any, start_model: Callable[..., ScriptedModel], make_crew: Callable[..., Crew], home: Path
) -> None:
    """What the warning says is so: fetched data that the answer does not mention is on the disk afterwards."""
    usual = os.umask(0o022)
    try:
        make_crew(start_model(call(tool.name, **METRICS), "17 agents"), tool).kickoff()
    finally:
        os.umask(usual)
    assert kept(home)
    if os.name == "posix":
        assert (home / "latest_kickoff_task_outputs.db").stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("how", ["kickoff", "kickoff_async", "akickoff", "kickoff_for_each"])
def test_the_callback_keeps_results_off_the_disk(
    how: str, tool: Any, start_model: Callable[..., ScriptedModel], make_crew: Callable[..., Crew], home: Path
) -> None:
    """With `forget_tool_results` no file holds what was fetched, however the crew is run; its answer is kept."""
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


@pytest.fixture
def everything_logged(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """Every record of every logger, from DEBUG on."""
    caplog.set_level(logging.DEBUG)
    for name in ("authsec", "httpx", "httpcore", "crewai", "openai"):
        caplog.set_level(logging.DEBUG, logger=name)
    return caplog


@pytest.mark.req("RS8", "RD4")
def test_no_token_and_no_key_is_shown_anywhere(
    tool: Any,
    deployment: Deployment,
    start_model: Callable[..., ScriptedModel],
    make_crew: Callable[..., Crew],
    home: Path,
    everything_logged: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """A verbose crew that fetches, is refused, and is revoked shows no secret to model, log, screen or disk."""
    refused = call(tool.name, endpoint="finance/payroll", scope="read:payroll")
    model = start_model(call(tool.name, **METRICS), refused, "17 agents", call(tool.name, **METRICS), "revoked")
    crew = make_crew(model, tool, verbose=True, cache=True)
    crew.kickoff()
    deployment.authority.revoke_agent(tool._client.config.client_id)
    deployment.clock.advance(61)
    output = crew.kickoff()
    assert len(deployment.bearers) == 2
    written = {path.name: path.read_bytes() for path in home.rglob("*") if path.is_file()}
    printed = capfd.readouterr()
    assert "latest_kickoff_task_outputs.db" in written
    assert "Tool Completed" in printed.out
    assert any(record.name == "authsec.tool" for record in everything_logged.records)
    shown = [model.transcript, everything_logged.records, everything_logged.text, *printed, written, repr(crew)]
    assert_no_secret([*shown, output, repr(tool)], KEY, *deployment.bearers)
