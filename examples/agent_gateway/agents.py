"""One turn of a conversation with the support agent, as events, for one caller and one conversation.

The agent is made anew for each turn: with the tools that the caller's token of this request gives, and with what was
said in this conversation of this caller's. Nothing of it outlives the turn but that.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import openai
from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.base import TaskResult
from autogen_agentchat.messages import ModelClientStreamingChunkEvent, ToolCallExecutionEvent
from autogen_core import CancellationToken
from autogen_core.models import ChatCompletionClient

from authsec_fastapi import AgentRun, AuthSecGuard, Conversations, Principal
from authsec_fastapi.agentchat import guard_tools
from authsec_fastapi.conversations import Opening

__all__ = ["AGENT", "Event", "Finished", "ModelUnavailableError", "Said", "Support", "Used"]

AGENT: Final = "support"
_REMEMBERED: Final = 40  # messages of a conversation
_INSTRUCTIONS: Final = (
    "You are a concise support assistant. Use the tools that you have; where you have none for what is asked, say so."
)


@dataclass(frozen=True, slots=True)
class Said:
    """A piece of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Used:
    """A tool that the model called, and whether it did what was asked."""

    tool: str
    worked: bool


@dataclass(frozen=True, slots=True)
class Finished:
    """The whole answer, and the tools that it took."""

    response: str
    tools: tuple[str, ...]


Event: TypeAlias = Said | Used | Finished


class ModelUnavailableError(Exception):
    """The model did not answer, or not in a way that can be used. What it said stays out of it."""


class Support:
    """Everybody's support agent, and nobody's in particular.

    Args:
        tools: All that there are; who gets which is for the guard's policy.
        interval: Seconds between two looks at the token of a caller whose turn takes long.
    """

    def __init__(
        self,
        guard: AuthSecGuard,
        *,
        model: ChatCompletionClient,
        tools: Sequence[Callable[..., object]],
        conversations: Conversations,
        interval: float = 1.0,
    ) -> None:
        self._guard = guard
        self._model = model
        self._tools = tools
        self._conversations = conversations
        self._interval = interval

    def turn(self, caller: Principal, message: str, conversation: str) -> AsyncGenerator[Event, None]:
        """Yield what happens until the agent has answered. Close it: what is left early is on record as cancelled.

        Raises:
            ConversationIdError: At once: no conversation can be called that.
            AuthSecError: The caller may not any more, or it cannot be put on record.
            ModelUnavailableError: The model failed.
        """
        # Both find out now whether there can be such a conversation: a stream has no status to say so later.
        opening = self._conversations.open(caller, conversation)
        running = self._guard.run(caller, agent=AGENT, conversation=conversation)
        return self._turn(caller, message, opening, running)

    async def _turn(
        self, caller: Principal, message: str, opening: Opening, running: AgentRun
    ) -> AsyncGenerator[Event, None]:
        async with opening as kept, running as run:
            agent = self._agent(caller, run)
            if kept.state is not None:
                await agent.load_state(kept.state)
            used: list[str] = []
            async with contextlib.aclosing(self._watched(agent, message, caller, run)) as happenings:
                async for happening in happenings:
                    for event in _events(happening, used):
                        yield event
            kept.state = _shortened(await agent.save_state())

    def _agent(self, caller: Principal, run: AgentRun) -> AssistantAgent:
        return AssistantAgent(
            AGENT,
            model_client=self._model,
            tools=[*guard_tools(self._guard, caller, self._tools, run=run)],
            system_message=_INSTRUCTIONS,
            model_client_stream=True,
            reflect_on_tool_use=True,
            max_tool_iterations=5,
        )

    async def _watched(
        self, agent: AssistantAgent, message: str, caller: Principal, run: AgentRun
    ) -> AsyncGenerator[object, None]:
        """Yield what AgentChat reports, as long as the caller's token is good: also where the model says nothing."""
        happened: asyncio.Queue[object] = asyncio.Queue()
        cancelled = CancellationToken()

        async def pump() -> None:
            # In one task from beginning to end: AgentChat opens a span that has to be closed where it was opened.
            with _model_errors():
                async for happening in agent.run_stream(task=message, cancellation_token=cancelled):
                    happened.put_nowait(happening)

        pumping = asyncio.create_task(pump())
        pumping.add_done_callback(lambda _: happened.put_nowait(None))
        try:
            async for happening in self._while_good(happened, caller, run):
                yield happening
            await pumping
        finally:
            cancelled.cancel()
            pumping.cancel()
            await asyncio.wait([pumping])

    async def _while_good(
        self, happened: asyncio.Queue[object], caller: Principal, run: AgentRun
    ) -> AsyncIterator[object]:
        clock = asyncio.get_running_loop().time
        due = clock() + self._interval
        while True:
            happening: object = ...
            with contextlib.suppress(asyncio.TimeoutError):
                happening = await asyncio.wait_for(happened.get(), max(0.0, due - clock()))
            # At the end too: what a revoked token set off does not leave.
            if happening is None or clock() >= due:
                await self._guard.check_again(caller, action="respond", run=run)
                due = clock() + self._interval
            if happening is None:
                return
            if happening is not ...:
                yield happening


def _events(happening: object, used: list[str]) -> list[Event]:
    """Return what the caller is told of it; the results of tools are the model's to tell."""
    if isinstance(happening, ModelClientStreamingChunkEvent):
        return [Said(happening.content)]
    if isinstance(happening, ToolCallExecutionEvent):
        results = [
            Used(result.name, not result.is_error and not _refused(result.content)) for result in happening.content
        ]
        used.extend(result.tool for result in results if result.worked)
        return [*results]
    if isinstance(happening, TaskResult):
        answer = happening.messages[-1]
        return [Finished(answer.to_text(), tuple(dict.fromkeys(used)))]
    return []


def _refused(content: str) -> bool:
    """Return whether this is what the guard tells a model in place of a tool's result."""
    try:
        result = json.loads(content)
    except ValueError:
        return False
    return isinstance(result, dict) and result.get("status") == "error"


@contextlib.contextmanager
def _model_errors() -> Iterator[None]:
    try:
        yield
    except openai.OpenAIError as exc:
        # Its message may have the request in it, and an address that is nobody's business.
        raise ModelUnavailableError("The model did not answer.") from exc


def _shortened(state: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the state with the latest messages alone, beginning with one of the user's."""
    messages = state["llm_context"]["messages"]
    start = max(0, len(messages) - _REMEMBERED)
    while start < len(messages) and messages[start]["type"] != "UserMessage":
        start += 1
    return {**state, "llm_context": {**state["llm_context"], "messages": messages[start:]}}
