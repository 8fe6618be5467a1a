"""Tools behind the guard in real AgentChat agents: whatever a model says, each call is its own caller's, or none.

`finish` gives up on what hangs, which AgentChat from 0.6.4 on does: https://github.com/microsoft/autogen/issues/7956.
"""

from __future__ import annotations

import asyncio
import copy
import json
import pickle
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, suppress
from typing import Any

import pytest
from guard_support import Memory
from tool_support import Shop, answers, guard_of, someone

from authsec_core import ConfigurationError, RevokedTokenError, VerificationUnavailableError
from authsec_core.testing import ScriptedModel, call
from authsec_fastapi.agentchat import guard_tools

pytest.importorskip("autogen_agentchat")
pytest.importorskip("autogen_ext")

from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.messages import ToolCallRequestEvent
from autogen_core import CancellationToken
from autogen_core.tools import BaseTool, FunctionTool
from autogen_ext.models.openai import OpenAIChatCompletionClient
from pydantic import BaseModel
from pydantic.errors import PydanticSchemaGenerationError

LONGEST = 20.0  # seconds; what takes longer hangs


@pytest.fixture
def model() -> Iterator[Callable[..., ScriptedModel]]:
    """A function that starts a scripted model."""
    with ExitStack() as running:
        # The dated name is the one to which AgentChat resolves `gpt-4o`; it warns where the reply names another.
        yield lambda *turns: running.enter_context(ScriptedModel(*turns, model="gpt-4o-2024-08-06"))


def assistant(llm: ScriptedModel, tools: list[Any], **settings: Any) -> AssistantAgent:
    """Return an agent with a model and tools."""
    client = OpenAIChatCompletionClient(model=llm.model, api_key=llm.api_key, base_url=llm.base_url)
    return AssistantAgent("assistant", client, tools=tools, **settings)


def finish(work: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine on a loop of its own, and fail where it hangs."""

    async def limited() -> Any:
        return await asyncio.wait_for(work, LONGEST)

    return asyncio.run(limited())


@pytest.fixture(params=["guard.tools", "guard_tools"])
def offer(request: pytest.FixtureRequest) -> Callable[..., list[Any]]:
    """A function that returns the tools of a caller, in both of the ways that there are."""
    return lambda guard, *given: (
        guard.tools(*given) if request.param == "guard.tools" else guard_tools(guard, *given)  # one after the other
    )


def converse(llm: ScriptedModel, tools: list[Any], turns: int) -> None:
    """Let one agent answer several times."""

    async def talk() -> None:
        agent = assistant(llm, tools)
        for _ in range(turns):
            await agent.run(task="go")

    finish(talk())


@pytest.mark.req("RD6")
@pytest.mark.parametrize("tool", ["lookup", "alookup"])
def test_an_agent_calls_a_tool_as_its_caller(model: Any, offer: Any, tool: str) -> None:
    """The model is offered what the caller may use, without the caller; what it makes up beside changes nothing."""
    shop, memory = Shop(), Memory()
    llm = model(call(tool, order="7", caller="mallory", principal={"subject": "mallory"}))
    converse(llm, offer(guard_of(memory), someone("ann", "read:orders")[0], shop.tools), 1)
    assert shop.calls == [(tool, "ann", "7")]
    offered = llm.requests[0]["tools"]
    assert [one["function"]["name"] for one in offered] == ["lookup", "alookup", "help"]
    assert [sorted(one["function"]["parameters"]["properties"]) for one in offered] == [["order"], ["order"], []]
    assert "caller" not in json.dumps(offered)
    assert [(event.tool, event.outcome, event.subject) for event in memory.events] == [(tool, "allow", "ann")]


@pytest.mark.req("RD6")
def test_a_tool_that_was_not_offered_is_not_run(model: Any, offer: Any) -> None:
    """Whatever the model knows of it, and in whichever way it says its arguments."""
    shop = Shop()
    llm = model(call("refund", order="7"), call("refund", order="7", caller="mallory"))
    converse(llm, offer(guard_of(), someone("ann", "read:orders", "write:refunds")[0], shop.tools), 2)
    assert shop.calls == []


@pytest.mark.req("RD4", "RD6")
@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RevokedTokenError("canary"), "token_revoked"),
        (VerificationUnavailableError("canary"), "verification_unavailable"),
    ],
)
@pytest.mark.parametrize("tool", ["lookup", "alookup"])
def test_a_token_that_is_revoked_between_two_calls_stops_the_second(
    model: Any, offer: Any, tool: str, error: Any, code: str
) -> None:
    """The run goes on, and the model reads why."""
    shop = Shop()
    principal, standing = someone("ann", "read:orders")
    shop.then = lambda: setattr(standing, "error", error)
    llm = model(call(tool, order="7"), call(tool, order="8"), "Sorry.")
    converse(llm, offer(guard_of(), principal, shop.tools), 3)
    assert shop.calls == [(tool, "ann", "7")]
    first, second = answers(llm)[-2:]
    assert first == f"{tool} of 7 for ann"
    assert second["code"] == code
    assert "canary" not in json.dumps(llm.requests)


@pytest.mark.req("RD7", "RV6")
@pytest.mark.parametrize("tool", ["lookup", "alookup"])
def test_two_callers_at_once_are_never_taken_for_each_other(model: Any, offer: Any, tool: str) -> None:
    """Two agents on one loop, and two on threads of their own, meet inside the tool at each call."""
    shop, guard = Shop(), guard_of()
    meeting = threading.Barrier(2)
    if tool == "lookup":  # on one loop two async tools cannot wait for each other in this way
        shop.then = lambda: meeting.wait(LONGEST)
    models = {name: model(*[call(tool, order=f"{name}-{n}") for n in range(3)]) for name in ("ann", "bob")}

    async def talk(name: str) -> None:
        agent = assistant(models[name], offer(guard, someone(name, "read:orders")[0], shop.tools))
        for _ in range(3):
            await agent.run(task="go")

    async def both() -> None:
        await asyncio.gather(talk("ann"), talk("bob"))

    finish(both())
    assert sorted(shop.calls) == [(tool, name, f"{name}-{n}") for name in ("ann", "bob") for n in range(3)]


def test_agentchats_own_tools_are_guarded_too(model: Any) -> None:
    """What the model is shown, and what a result looks like, is the tool's own doing."""

    class Orders(BaseModel):
        order: str

    class Help(BaseTool[Orders, Orders]):
        async def run(self, args: Orders, cancellation_token: CancellationToken) -> Orders:
            return args

    help_tool = Help(Orders, Orders, "help", "Say what there is.")

    async def found(order: str) -> dict[str, str]:
        return {"order": order}

    lookup = FunctionTool(found, name="lookup", description="Look up.")
    principal, standing = someone("ann", "read:orders")
    offered = guard_tools(guard_of(), principal, [help_tool, lookup, Shop().refund])
    assert [tool.schema for tool in offered] == [help_tool.schema, lookup.schema]
    llm = model(call("help", order="7"), call("lookup", order="7"), call("help", order="7"))
    converse(llm, offered, 2)
    standing.error = RevokedTokenError("revoked")
    converse(llm, offered, 1)
    token = CancellationToken()
    assert json.loads(finish(offered[0].run(Orders(order="7"), token)))["code"] == "token_revoked"
    texts = [tool.return_value_as_string(value) for tool, value in zip(offered, (Orders(order="7"), {}), strict=True)]
    assert texts == ['{"order": "7"}', "{}"]
    assert llm.remaining == 0


def test_what_is_no_tool_is_refused() -> None:
    """And so is a tool that the policy does not know; one that a model would tell the caller AgentChat cannot make."""

    def anything() -> str:
        return ""

    principal, _ = someone()
    with pytest.raises(PydanticSchemaGenerationError, match="Standing"):
        FunctionTool(Shop().help, description="x")
    with pytest.raises(TypeError, match="not a str"):
        guard_tools(guard_of(), principal, ["lookup"])  # type: ignore[list-item] # which is the mistake
    with pytest.raises(ConfigurationError, match="'other'"):
        guard_tools(guard_of(), principal, [FunctionTool(anything, name="other", description="x")])
    with pytest.raises(ValueError, match="2 tools have the name"):
        guard_tools(guard_of(), principal, [FunctionTool(anything, name="refund", description="x"), Shop().refund])


class SomeExit(BaseException):
    """As libraries define them for their own cancellation."""


@pytest.mark.parametrize(
    ("tool", "error"),  # asyncio's pool of threads knows no CancelledError
    [("alookup", asyncio.CancelledError()), ("alookup", SomeExit("canary")), ("lookup", SomeExit("canary"))],
    ids=repr,
)
def test_a_tool_that_ends_in_the_oddest_way_does_not_hang_the_run(
    model: Any, tool: str, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    """The model reads an error, the operator the log."""
    shop = Shop()

    def fail() -> None:
        raise error

    shop.then = fail
    llm = model(call(tool, order="7"), "It failed.")
    converse(llm, guard_tools(guard_of(), someone("ann", "read:orders")[0], shop.tools), 2)
    assert [one["code"] for one in answers(llm)] == ["internal_error"]
    assert "canary" not in json.dumps(llm.requests)
    assert "ended unexpectedly" in caplog.text


def test_an_error_of_the_tool_is_its_own(model: Any) -> None:
    """AgentChat tells the model of it, as it does without a guard."""
    shop = Shop()

    def fail() -> None:
        raise LookupError("no such order")

    shop.then = fail
    llm = model(call("lookup", order="7"), "It failed.")
    converse(llm, guard_tools(guard_of(), someone("ann", "read:orders")[0], shop.tools), 2)
    assert "no such order" in llm.tool_results[0]


@pytest.mark.parametrize("when", ["before", "during"])
def test_a_cancelled_run_ends(model: Any, when: str) -> None:
    """A person who presses stop on seeing what the agent is about to do, or while it does it."""
    began = asyncio.Event()

    async def help(order: str) -> str:
        """Wait."""
        began.set()
        await asyncio.Event().wait()
        return order

    async def stopped() -> None:
        token = CancellationToken()

        async def stop() -> None:
            await began.wait()
            token.cancel()

        stopping = asyncio.ensure_future(stop())
        agent = assistant(llm, guard_tools(guard_of(), principal, [help]), reflect_on_tool_use=True)
        with suppress(asyncio.CancelledError):  # of the model's client, where the agent goes on to ask it
            async for event in agent.run_stream(task="go", cancellation_token=token):
                if when == "before" and isinstance(event, ToolCallRequestEvent):
                    token.cancel()
        stopping.cancel()
        assert "cancelled" in json.dumps(await agent.save_state())
        assert began.is_set() == (when == "during")

    principal, _ = someone()
    llm = model(call("help", order="7"), "stopped")
    finish(stopped())


def test_a_cancelled_task_ends_with_its_tool() -> None:
    """Where no token is cancelled it is asyncio that ends the task: nothing goes on behind its back."""
    shop = Shop()
    (tool,) = guard_tools(guard_of(), someone("ann", "read:orders")[0], [shop.alookup])

    async def cancelled() -> None:
        task = asyncio.ensure_future(tool.run_json({"order": "7"}, CancellationToken()))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        tool.run_json({"order": "7"}, CancellationToken()).close()  # nor does one that nobody awaits warn

    finish(cancelled())
    assert shop.calls == []


@pytest.mark.req("RS8")
def test_a_tool_is_neither_dumped_nor_copied(model: Any) -> None:
    """Whoever loaded it would act for nobody, or for another caller; an agent with such a tool is not dumped either."""
    tools = guard_tools(guard_of(), someone("ann", "read:orders")[0], Shop().tools)
    agent = assistant(model(), tools)
    for attempt in (tools[0].dump_component, agent.dump_component, lambda: pickle.dumps(tools[0])):
        with pytest.raises(TypeError, match="acts for one caller"):
            attempt()
    with pytest.raises(TypeError, match="acts for one caller"):
        copy.deepcopy(tools[0])


@pytest.mark.req("RS8")
def test_a_dump_of_a_plain_function_holds_nothing_of_the_caller(model: Any) -> None:
    """AgentChat writes the source of functions into dumps; what it would load from there cannot run."""
    guard, (principal, _) = guard_of(), someone("ann-canary", "read:orders")
    agent = assistant(model(), guard.tools(principal, Shop().tools))
    dumped = agent.dump_component().model_dump_json()
    assert "canary" not in dumped
    loaded = FunctionTool(guard.tools(principal, [Shop().lookup])[0], description="x").dump_component()
    with pytest.warns(UserWarning, match="SECURITY"), pytest.raises((NameError, ValueError)):
        finish(FunctionTool.load_component(loaded).run_json({"order": "7"}, CancellationToken()))
