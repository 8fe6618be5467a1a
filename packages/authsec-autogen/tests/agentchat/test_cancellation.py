"""Does a run end when it is cancelled, or when the call ends in the oddest way? AgentChat from 0.6.4 on would hang.

It waits for ever for a tool call that ends with a `BaseException`: https://github.com/microsoft/autogen/issues/7956.
`finish` gives up on what hangs.
"""

from __future__ import annotations

import asyncio
import json
import threading
from contextlib import suppress
from typing import Any

import httpx
import pytest
from autogen_agentchat.conditions import MaxMessageTermination
from autogen_agentchat.messages import ToolCallRequestEvent
from autogen_agentchat.teams import RoundRobinGroupChat
from autogen_core import CancellationToken

from authsec_autogen.agentchat import AuthSecSecureFetchTool, make_secure_fetch
from authsec_core.testing import LocalAuthority, ScriptedModel, assert_no_secret, call

METRICS = {"endpoint": "secure-vault/metrics", "scope": "read:metrics"}
TOOL = "fetch"
KEY = "agent-key-canary.0123456789abcdef0123456789abcdef"


class SomeExit(BaseException):
    """As libraries define them for their own cancellation, or for leaving a test."""


class Breaking(httpx.AsyncBaseTransport):
    """A transport that fails in a way in which none should."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        raise self.error


@pytest.fixture
def stuck(authority: LocalAuthority, live: Any) -> AuthSecSecureFetchTool:
    """A tool whose first exchange is not answered before the test ends."""
    authority.fail(delay=threading.Event(), times=1)
    return make_secure_fetch(live(authority.register(["read:metrics"], agent_key=KEY)), name=TOOL)


async def started(authority: LocalAuthority, running: Any) -> asyncio.Task[Any]:
    """Return a task that runs this, once the authority has been asked."""
    task: asyncio.Task[Any] = asyncio.ensure_future(running)
    await asyncio.to_thread(authority.wait_for_requests, 1)
    return task


def codes(llm: ScriptedModel) -> list[object]:
    """Return the codes that the tools gave back to the model."""
    return [json.loads(text)["code"] for text in llm.tool_results]


@pytest.mark.req("RS5")
def test_a_cancelled_token_ends_the_call_at_once_and_the_tool_goes_on_working(
    model: Any, assistant: Any, finish: Any, authority: LocalAuthority, stuck: AuthSecSecureFetchTool
) -> None:
    """The agent reads an error that says so; nobody waits for the authority; the next run gets its data."""
    llm = model([call(TOOL, **METRICS)] * 3, call(TOOL, **METRICS))
    agent = assistant(llm, stuck)

    async def cancelled() -> tuple[Any, Any]:
        token = CancellationToken()
        task = await started(authority, agent.run(task="go", cancellation_token=token))
        token.cancel()
        return await task, await agent.run(task="again")

    first, second = (run.messages[-1].content for run in finish(cancelled()))
    told = [json.loads(line) for line in first.splitlines()]
    assert [(one["status"], one["code"], one["retryable"]) for one in told] == [("error", "cancelled", False)] * 3
    assert json.loads(second)["status"] == "success"


@pytest.mark.parametrize("reflect", [True, False])
def test_a_token_that_is_cancelled_before_the_call_begins_does_not_hang_the_run(
    model: Any, assistant: Any, finish: Any, live: Any, authority: LocalAuthority, reflect: bool
) -> None:
    """A person who presses stop on seeing what the agent is about to do: nothing is requested, and the run ends."""
    llm = model(call(TOOL, **METRICS), "stopped")
    tool = make_secure_fetch(live(authority.register(["read:metrics"])), name=TOOL)
    agent = assistant(llm, tool, reflect_on_tool_use=reflect)

    async def stopped() -> None:
        token = CancellationToken()
        with suppress(asyncio.CancelledError):  # of the model's client, where the agent goes on to ask it
            async for event in agent.run_stream(task="go", cancellation_token=token):
                if isinstance(event, ToolCallRequestEvent):
                    token.cancel()

    finish(stopped())
    context = json.dumps(finish(agent.save_state()), default=str)
    assert "cancelled" in context
    assert authority.requests == ()


def test_a_token_stops_a_team(
    model: Any, assistant: Any, finish: Any, authority: LocalAuthority, stuck: AuthSecSecureFetchTool
) -> None:
    """A team reports a cancelled token by raising; it does not wait for the tool."""
    members = [assistant(model(call(TOOL, **METRICS), "done"), stuck, name="reader")]
    team = RoundRobinGroupChat(members, termination_condition=MaxMessageTermination(3))

    async def cancelled() -> None:
        token = CancellationToken()
        task = await started(authority, team.run(task="go", cancellation_token=token))
        token.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    finish(cancelled())


def test_the_tool_heeds_a_token_that_nobody_linked_to_the_call(
    finish: Any, authority: LocalAuthority, stuck: AuthSecSecureFetchTool
) -> None:
    """AgentChat 0.4 and programs that call tools themselves leave that to the tool."""

    async def cancelled() -> str:
        token = CancellationToken()
        task = await started(authority, stuck.run_json(METRICS, token))
        token.cancel()
        return str(await task)

    assert json.loads(finish(cancelled()))["code"] == "cancelled"


@pytest.mark.parametrize("linked", [True, False])
def test_a_task_is_cancelled_as_any_other(
    finish: Any, authority: LocalAuthority, stuck: AuthSecSecureFetchTool, linked: bool
) -> None:
    """Without a cancelled token it is asyncio that ends the task, and a tool that swallowed it would keep it alive."""

    async def cancelled() -> None:
        token, before = CancellationToken(), asyncio.all_tasks()
        task = await started(authority, stuck.run_json(METRICS, token))
        started_by_it = asyncio.all_tasks() - before - {task}
        if linked:
            _ = token.link_future(task)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        ends = await asyncio.gather(*started_by_it, return_exceptions=True)  # nothing goes on behind its back:
        # the call itself is cancelled, and its HTTP, which is told to end, ends as one that had no time left.
        assert asyncio.CancelledError in {type(end) for end in ends}

    finish(cancelled())


def test_cancelling_the_task_of_a_run_ends_the_run(
    model: Any, assistant: Any, finish: Any, authority: LocalAuthority, stuck: AuthSecSecureFetchTool
) -> None:
    """As `asyncio.wait_for` and the end of the program do it."""
    agent = assistant(model(call(TOOL, **METRICS)), stuck)

    async def cancelled() -> None:
        task = await started(authority, agent.run(task="go", cancellation_token=CancellationToken()))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    finish(cancelled())


def test_a_call_that_is_cancelled_before_it_begins_ends(finish: Any, live: Any, authority: LocalAuthority) -> None:
    """Where no token is cancelled, a task that never ran is over without a request."""
    tool = make_secure_fetch(live(authority.register(["read:metrics"])), name=TOOL)

    async def cancelled() -> None:
        task = asyncio.ensure_future(tool.run_json(METRICS, CancellationToken()))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        tool.run_json(METRICS, CancellationToken()).close()  # nor does one that nobody awaits warn

    finish(cancelled())
    assert authority.requests == ()


@pytest.mark.req("RS8")
@pytest.mark.parametrize("error", [asyncio.CancelledError(), SomeExit(KEY), GeneratorExit()], ids=repr)
def test_whatever_is_raised_inside_the_model_reads_an_error_and_the_run_goes_on(
    model: Any, assistant: Any, finish: Any, live: Any, authority: LocalAuthority, shown: Any, error: BaseException
) -> None:
    """Also what is no `Exception`; the model learns nothing of it, and the operator reads the log."""
    llm = model(call(TOOL, **METRICS), "It failed.")
    client = live(authority.register(["read:metrics"]), transport=Breaking(error))
    result = finish(assistant(llm, make_secure_fetch(client, name=TOOL), reflect_on_tool_use=True).run(task="go"))
    assert result.messages[-1].content == "It failed."
    assert codes(llm) == ["internal_error"]
    assert_no_secret(llm.transcript, KEY)
    (record,) = [one for one in shown() if getattr(one, "name", "") == "authsec.autogen"]
    assert record.exc_info[0] is type(error)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_the_end_of_the_program_is_the_end_of_the_run(
    model: Any, assistant: Any, live: Any, authority: LocalAuthority, error: type[BaseException]
) -> None:
    """These two stop the loop by asyncio's own doing, whoever waits; and the loop can still be closed."""
    agent = assistant(
        model(call(TOOL, **METRICS)),
        make_secure_fetch(live(authority.register(["read:metrics"]), transport=Breaking(error())), name=TOOL),
    )
    with pytest.raises(error):
        asyncio.run(agent.run(task="go"))
