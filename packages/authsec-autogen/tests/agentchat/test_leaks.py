"""What could get out of the process through AgentChat: prompts, states, logs, traces, what the run returns."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from autogen_agentchat.conditions import MaxMessageTermination
from autogen_agentchat.teams import RoundRobinGroupChat, SelectorGroupChat
from autogen_core import CancellationToken
from opentelemetry import trace

from authsec_autogen.agentchat import make_secure_fetch
from authsec_core import AsyncAuthSecClient, AuthSecConfig
from authsec_core.testing import LocalAgent, LocalAuthority, assert_no_secret, call

METRICS = {"endpoint": "secure-vault/metrics", "scope": "read:metrics"}
RECORDS = {"endpoint": "secure-vault/records", "scope": "read:records"}
TOOL = "fetch"
CANARY = "hunter2-canary-of-the-model"
KEY = "agent-key-canary.0123456789abcdef0123456789abcdef"


class Recorder(trace.TracerProvider, trace.Tracer):
    """An OpenTelemetry without its SDK, which keeps all that spans are told."""

    def __init__(self) -> None:
        self.told: list[object] = []

    def get_tracer(self, *_args: Any, **_more: Any) -> trace.Tracer:
        return self

    def start_span(self, *args: Any, **more: Any) -> trace.Span:
        self.told.append((args, more))
        return RecordedSpan(self.told)

    def start_as_current_span(self, *args: Any, **more: Any) -> Any:
        return trace.use_span(self.start_span(*args, **more))


class RecordedSpan(trace.NonRecordingSpan):
    """A span that writes into the recorder's list."""

    def __init__(self, told: list[object]) -> None:
        super().__init__(trace.INVALID_SPAN_CONTEXT)
        self.told = told

    def is_recording(self) -> bool:
        return True

    def _tell(self, *args: Any, **more: Any) -> None:
        self.told.append((args, more))

    set_attribute = set_attributes = add_event = set_status = record_exception = _tell


@pytest.fixture
def traced(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """All that spans are told from now on."""
    recorder = Recorder()
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: recorder)
    return recorder.told


@pytest.fixture
def agent(authority: LocalAuthority) -> LocalAgent:
    """An agent with a key."""
    return authority.register(["read:metrics", "read:records"], agent_key=KEY)


@pytest.mark.req("RS8", "RD4")
def test_no_token_and_no_key_is_shown_to_anybody(
    model: Any,
    assistant: Any,
    finish: Any,
    live: Any,
    authority: LocalAuthority,
    agent: LocalAgent,
    api: Any,
    shown: Callable[[], list[object]],
    traced: list[object],
) -> None:
    """Of successes and failures: prompts, results, states, events and logs at DEBUG, traces, stdout and stderr."""

    def revoke(_body: object) -> Any:
        authority.revoke_agent(agent.client_id)
        api.clock.advance(3.0)
        return call(TOOL, **METRICS)

    turns: list[Any] = [
        [call(TOOL, **METRICS), call(TOOL, **RECORDS)],
        call(TOOL, **METRICS, token="give me the token"),
        call(TOOL, endpoint="/../", scope="x"),
        call(TOOL, endpoint=["what"], scope=None),
        call("not_a_tool", **METRICS),
        revoke,
    ]
    llm = model(*(turn for one in turns for turn in (one, "so it is")))
    analyst = assistant(llm, make_secure_fetch(live(agent), name=TOOL), reflect_on_tool_use=True)

    async def converse() -> list[object]:
        results: list[object] = [await analyst.run(task="go") for _ in turns]
        return [*results, await analyst.save_state()]

    kept = finish(converse())
    printed = shown()
    assert len(api.callers) == 3
    assert len(llm.tool_results) == 7
    assert "the API" in json.dumps(kept[-1], default=str)  # the state holds what was fetched
    for logger in ("autogen_core.events", "autogen_agentchat.events", "authsec.tool"):
        assert any(getattr(one, "name", "") == logger for one in printed)
    assert any(TOOL in str(one) for one in traced)
    assert_no_secret([llm.transcript, kept, printed, traced], KEY, *set(api.tokens))


@pytest.mark.req("RS8")
@pytest.mark.parametrize("kind", ["round robin", "selector"])
def test_a_teams_state_holds_answers_and_nothing_that_opens_more(
    model: Any, assistant: Any, finish: Any, live: Any, agent: LocalAgent, api: Any, kind: str
) -> None:
    """States are files that people keep."""
    members = [
        assistant(model(call(TOOL, **wanted)), make_secure_fetch(live(agent), name=TOOL), name=name)
        for name, wanted in (("reader", METRICS), ("archivist", RECORDS))
    ]
    termination = MaxMessageTermination(3)
    team: Any = RoundRobinGroupChat(members, termination_condition=termination)
    if kind == "selector":
        chooser = assistant(model("reader", "archivist"))._model_client
        team = SelectorGroupChat(members, chooser, termination_condition=termination)

    async def converse() -> Any:
        await team.run(task="go")
        return await team.save_state()

    state = finish(converse())
    assert "rec-1" in json.dumps(state, default=str)
    assert len(api.tokens) == 2
    assert_no_secret(state, KEY, agent.client_id, *api.tokens)


@pytest.mark.req("RS8")
def test_a_span_of_a_refused_call_does_not_hold_what_the_model_sent(
    finish: Any, live: Any, agent: LocalAgent, traced: list[object]
) -> None:
    """AgentChat writes an exception's text into the span; ours says what is wrong, and not with what."""
    tool = make_secure_fetch(live(agent), name=TOOL)
    with pytest.raises(ValueError, match="endpoint"):
        finish(tool.run_json({"endpoint": [CANARY], "scope": "x"}, CancellationToken()))
    told = [one for one in traced if "valid string" in str(one)]
    assert told
    assert_no_secret(told, CANARY)


def test_a_mock_token_is_not_shown_either(
    model: Any, assistant: Any, finish: Any, shown: Callable[[], list[object]]
) -> None:
    """Nobody should get used to tokens in logs, even if these open nothing."""
    client = AsyncAuthSecClient(AuthSecConfig(mode="mock"))
    llm = model(call(TOOL, **METRICS), "done")
    kept = finish(assistant(llm, make_secure_fetch(client, name=TOOL), reflect_on_tool_use=True).run(task="go"))
    held = finish(client.get_delegation_token("read:metrics"))
    assert_no_secret([llm.transcript, kept, *shown()], held)
