"""Neither what CrewAI prints, logs and writes, nor what it tells the listeners of its events, holds a secret."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest
from crew_support import METRICS, find, tool_of

from authsec_core.testing import ScriptedModel, assert_no_secret, call

if TYPE_CHECKING:
    from crew.conftest import Deployment
    from crewai import Crew

KEY = "agent-key-that-nobody-may-see"


@pytest.fixture
def everything_logged(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    """Every record of every logger, from DEBUG on."""
    caplog.set_level(logging.DEBUG)
    for name in ("authsec", "httpx", "httpcore", "crewai", "openai"):
        caplog.set_level(logging.DEBUG, logger=name)
    return caplog


@pytest.fixture
def events(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Every event as CrewAI emits it: listeners may run later, and on other threads."""
    emitted: list[Any] = []
    places = ("crewai.events:crewai_event_bus", "crewai.utilities.events:crewai_event_bus", "crewai.utilities.events")
    found = next(place for place in map(find, places) if place is not None)
    emitter: Any = found if isinstance(found, ModuleType) else type(found)
    original = emitter.emit

    def emit(*args: Any, **kwargs: Any) -> Any:
        emitted.append(kwargs.get("event", args[-1] if args else None))
        return original(*args, **kwargs)

    monkeypatch.setattr(emitter, "emit", emit)
    return emitted


@pytest.mark.req("RS8", "RD4")
def test_no_token_and_no_key_is_shown_anywhere(
    deployment: Deployment,
    start_model: Callable[..., ScriptedModel],
    make_crew: Callable[..., Crew],
    home: Path,
    events: list[Any],
    everything_logged: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """A verbose crew that fetches, is refused, and is revoked shows no secret to model, listener, log, screen, disk."""
    tool = tool_of(deployment, "read:metrics", agent_key=KEY)
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
    assert tool.name in printed.out
    assert any(record.name == "authsec.tool" for record in everything_logged.records)
    assert any(getattr(event, "tool_name", None) == tool.name for event in events)
    shown = [model.transcript, everything_logged.records, everything_logged.text, *printed, written, repr(crew)]
    assert_no_secret([*shown, *map(vars, events), output, repr(tool)], KEY, *deployment.bearers)
