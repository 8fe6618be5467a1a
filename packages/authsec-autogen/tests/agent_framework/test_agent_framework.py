"""What is peculiar to Microsoft Agent Framework: approval, spans, restored tools, streams, names."""

from __future__ import annotations

import asyncio
import functools
import json
import threading
from collections.abc import Callable
from typing import Any

import pytest
from agent_framework import FunctionTool, tool

from authsec_core.testing import LocalAuthority, ScriptedModel, assert_no_secret, call

METRICS = {"endpoint": "secure-vault/metrics", "scope": "read:metrics"}
KEY = "agent-key-canary.0123456789abcdef0123456789abcdef"
PATIENCE = 30.0  # seconds after which something hangs
Start = Callable[..., ScriptedModel]


@pytest.mark.parametrize("approved", [True, False])
def test_until_a_person_approves_nothing_is_requested(
    framework: Any, model: Start, live: Any, authority: LocalAuthority, api: Any, approved: bool
) -> None:
    """With `always_require` the run stops at the call; only a yes has a token minted and the API asked."""
    fetch = framework.make(live(authority.register(["read:metrics"])), approval_mode="always_require")
    llm = model(call(fetch.name, **METRICS), "done")

    async def run() -> None:
        from agent_framework import Message

        agent = framework.agent(llm, fetch)
        session = agent.create_session()
        stopped = await agent.run("go", session=session)
        (request,) = stopped.user_input_requests
        assert (authority.requests, api.server.requests) == ((), ())
        answer = request.to_function_approval_response(approved)
        response = await agent.run(Message("user", [answer]), session=session)
        assert response.text == "done"

    asyncio.run(run())
    assert len(api.callers) == len(authority.issued) == int(approved)
    assert ("success" in llm.tool_results[0]) is approved


def test_an_approval_mode_that_does_not_exist_is_refused(framework: Any) -> None:
    """The trap: the framework takes any other text for "never". A slip must not switch the question off."""
    assert tool(lambda: "x", name="x", approval_mode="always").approval_mode == "always"  # type: ignore[call-overload]
    for wrong in ("always", "ALWAYS_REQUIRE", "", None):
        with pytest.raises(ValueError, match="always_require, never_require"):
            framework.make(approval_mode=wrong)


def test_two_tools_with_one_name_are_refused_by_the_framework(framework: Any, model: Start) -> None:
    """Where names are given, it is the framework that says so; nothing is run."""
    llm = model("done")
    with pytest.raises(ValueError, match="Duplicate tool name 'fetch'"):
        asyncio.run(framework.ask(llm, framework.make(name="fetch"), framework.make(name="fetch")))
    assert llm.requests == []


@pytest.mark.req("RS8")
def test_a_restored_tool_runs_nothing(
    framework: Any, model: Start, live: Any, authority: LocalAuthority, api: Any
) -> None:
    """What the framework writes down of a tool holds no identity, so that what it makes of that fails closed."""
    agent = authority.register(["read:metrics"], agent_key=KEY)
    written = framework.make(live(agent)).to_json()
    assert_no_secret(written, KEY, agent.client_id)
    restored = FunctionTool.from_json(written)
    llm = model(call(restored.name, **METRICS), "done")
    asyncio.run(framework.agent(llm, restored).run("go"))
    assert restored.declaration_only
    assert (authority.requests, api.server.requests) == ((), ())


@pytest.mark.req("RS8")
@pytest.mark.parametrize("sensitive", [True, False])
def test_spans_hold_data_at_most_and_no_token(
    framework: Any,
    model: Start,
    live: Any,
    authority: LocalAuthority,
    api: Any,
    shown: Callable[[], list[object]],
    monkeypatch: pytest.MonkeyPatch,
    sensitive: bool,
) -> None:
    """With `enable_sensitive_data` arguments and answers are recorded, without it neither; credentials never."""
    from agent_framework import observability
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SimpleSpanProcessor
    from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

    monkeypatch.delenv("OTEL_SDK_DISABLED", raising=False)  # with it, a provider makes no spans
    recorded, provider = InMemorySpanExporter(), TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(recorded))
    monkeypatch.setattr(observability, "get_tracer", lambda *_names, **_more: provider.get_tracer("test"))
    monkeypatch.setattr(observability.OBSERVABILITY_SETTINGS, "enable_instrumentation", True)
    monkeypatch.setattr(observability.OBSERVABILITY_SETTINGS, "enable_sensitive_data", sensitive)
    # From 1.23 on the attributes of tool calls are for those who ask for the newest conventions.
    monkeypatch.setenv("OTEL_SEMCONV_STABILITY_OPT_IN", "gen_ai_latest_experimental")
    fetch = framework.make(live(authority.register(["read:metrics"], agent_key=KEY)))
    llm = model(call(fetch.name, **METRICS), call(fetch.name, endpoint="/../", scope="x"), "done")
    asyncio.run(framework.ask(llm, fetch))
    provider.shutdown()
    spans = [span.to_json() for span in recorded.get_finished_spans()]
    assert sum("execute_tool" in span for span in spans) >= 2
    assert any("active" in span for span in spans) is sensitive  # a word of the data
    assert_no_secret([spans, *shown()], KEY, *api.tokens)


def test_detailed_errors_show_a_model_its_own_arguments_only(
    framework: Any, model: Start, live: Any, authority: LocalAuthority
) -> None:
    """`include_detailed_errors` adds what pydantic says of the arguments, and nothing of ours."""
    fetch = framework.make(live(authority.register(["read:metrics"], agent_key=KEY)))
    llm = model(call(fetch.name, endpoint=7, scope=["x"]), "done")
    agent = framework.agent(llm, fetch)
    agent.client.function_invocation_configuration["include_detailed_errors"] = True
    asyncio.run(agent.run("go"))
    (text,) = llm.tool_results
    assert "input_value=7" in text
    for internal in ("Traceback", "site-packages", "AuthSec", KEY):
        assert internal not in text


def test_leaving_a_stream_ends_the_call_in_flight(
    framework: Any, model: Start, live: Any, authority: LocalAuthority
) -> None:
    """A run that streams is cancelled as any other, in the middle of a call."""
    fetch = framework.make(live(authority.register(["read:metrics"]), timeout=60.0))
    waiting = threading.Event()
    authority.fail(delay=waiting)
    llm = model(call(fetch.name, **METRICS), "done")

    async def stream() -> None:
        async for _update in framework.agent(llm, fetch).run("go", stream=True):
            pass

    async def run() -> None:
        task = asyncio.ensure_future(stream())
        await asyncio.to_thread(authority.wait_for_requests, 1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.wait_for(task, PATIENCE)
        waiting.set()

    asyncio.run(run())
    assert llm.remaining == 1


def test_a_stream_gets_the_same_answer(framework: Any, model: Start) -> None:
    """Called while the answer streams in, the tool answers with the same JSON."""
    llm = model(call("fetch_secure_data", **METRICS), "done")

    async def stream() -> str:
        return "".join([update.text async for update in framework.agent(llm, framework.make()).run("go", stream=True)])

    assert asyncio.run(stream()) == "done"
    assert json.loads(llm.tool_results[0])["mode"] == "mock"


def test_a_partial_shows_what_is_bound_to_it(framework: Any, model: Start) -> None:
    """The trap that our tool avoids by being a closure: what is bound goes to the model, which can replace it."""
    used: list[str] = []

    def fetch(endpoint: str, vault_token: str) -> str:
        used.append(vault_token)
        return endpoint

    bound = tool(functools.partial(fetch, vault_token="bound-canary"), name="bound")
    llm = model(call("bound", endpoint="x", vault_token="mine"), "done")
    asyncio.run(framework.ask(llm, bound))
    assert "bound-canary" in llm.transcript
    assert used == ["mine"]
