"""The OpenAI chat-completions dialect as pure functions: from a scripted turn to a reply, and from requests to facts.

Three ways to call a tool are spoken, whichever the request invites: `tools` (everyone today), `functions` (their
predecessor, which old AutoGen programs still use) and ReAct text (CrewAI up to 1.8, and models without tool calls).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

__all__ = ["Body", "Call", "OfferedTool", "Turn", "call", "completion", "offered_tools", "sse", "tool_results"]

Body = dict[str, Any]

_CREATED = 1_700_000_000  # epoch seconds; nobody reads it, and a constant keeps transcripts comparable
_USAGE = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
_OBSERVATION = "\nObservation:"


@dataclass(frozen=True, slots=True)
class Call:
    """One tool call that the model makes.

    Attributes:
        arguments: A mapping, or text that is sent as it is, to play a model that writes broken JSON.
    """

    tool: str
    arguments: Mapping[str, object] | str

    @property
    def text(self) -> str:
        """The arguments as they are sent."""
        return self.arguments if isinstance(self.arguments, str) else json.dumps(self.arguments)


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferedTool:
    """What a model was told of a tool."""

    description: str
    parameters: Mapping[str, Any]


Turn: TypeAlias = "str | Call | Sequence[Call] | Callable[[Body], Turn]"


def call(tool: str, /, **arguments: object) -> Call:
    """Return a call of `tool`.

    >>> call("fetch", endpoint="/metrics").text
    '{"endpoint": "/metrics"}'
    """
    return Call(tool, arguments)


def completion(body: Body, turn: str | Sequence[Call], ids: Iterator[str]) -> Body:
    """Return the `chat.completion` object that plays `turn` in the form that `body` invites.

    Args:
        body: The request.
        turn: What the model says, or the calls that it makes.
        ids: The ids of tool calls.

    Raises:
        ValueError: Parallel calls, and the request has no form for them.
    """
    message, reason = _message(body, turn, ids)
    return {
        "id": "chatcmpl-scripted",
        "object": "chat.completion",
        "created": _CREATED,
        "model": body.get("model", "scripted"),
        "choices": [{"index": 0, "message": {"role": "assistant", **message}, "finish_reason": reason}],
        "usage": _USAGE,
    }


def sse(body: Body, whole: Body) -> bytes:
    """Return the same completion as server-sent events, as `"stream": true` asks for."""
    choice = whole["choices"][0]
    deltas = [({"role": "assistant"}, None), *((delta, None) for delta in _deltas(choice["message"]))]
    head = {key: whole[key] for key in ("id", "created", "model")} | {"object": "chat.completion.chunk"}
    chunks: list[Body] = [
        {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}
        for delta, reason in [*deltas, ({}, choice["finish_reason"])]
    ]
    if (body.get("stream_options") or {}).get("include_usage"):
        chunks.append({**head, "choices": [], "usage": whole["usage"]})
    return "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks).encode() + b"data: [DONE]\n\n"


def tool_results(bodies: Iterable[Body]) -> list[str]:
    """Return what the tools gave back to the model, in order, each once however often it was sent again."""
    found: dict[tuple[str, ...], str] = {}
    for body in bodies:
        for message in body.get("messages", []):
            for key, content in _results(message):
                found.setdefault(key, content)
    return list(found.values())


def offered_tools(bodies: Sequence[Body]) -> dict[str, OfferedTool]:
    """Return the tools of the latest request that offers any."""
    for body in reversed(bodies):
        functions = [tool.get("function", {}) for tool in body.get("tools") or []] or body.get("functions") or []
        if functions:
            return {
                function["name"]: OfferedTool(
                    description=function.get("description", ""), parameters=function.get("parameters", {})
                )
                for function in functions
            }
    return {}


def _message(body: Body, turn: str | Sequence[Call], ids: Iterator[str]) -> tuple[Body, str]:
    react = not body.get("tools") and not body.get("functions") and _asks_for_react(body)
    if isinstance(turn, str):
        return {"content": f"Thought: I now know the final answer\nFinal Answer: {turn}" if react else turn}, "stop"
    if react:
        one = _single(turn)
        return {"content": f"Thought: I need a tool\nAction: {one.tool}\nAction Input: {one.text}"}, "stop"
    if body.get("functions") and not body.get("tools"):
        one = _single(turn)
        return {"content": None, "function_call": {"name": one.tool, "arguments": one.text}}, "function_call"
    # Also when nothing was offered: a model can name any tool it likes, and executors have run such calls.
    calls = [
        {"id": next(ids), "type": "function", "function": {"name": one.tool, "arguments": one.text}} for one in turn
    ]
    return {"content": None, "tool_calls": calls}, "tool_calls"


def _single(turn: Sequence[Call]) -> Call:
    if len(turn) != 1:
        raise ValueError("this request has no form for parallel calls: script one call for each turn")
    return turn[0]


def _asks_for_react(body: Body) -> bool:
    prompts = (text_of(one) for one in body.get("messages", []) if one.get("role") in ("system", "developer", "user"))
    return any("Final Answer:" in prompt for prompt in prompts)


def _deltas(message: Body) -> Iterator[Body]:
    if message.get("content") is not None:
        yield {"content": message["content"]}
    if "function_call" in message:
        yield {"function_call": message["function_call"]}
    for index, one in enumerate(message.get("tool_calls", [])):
        # In two pieces, as real servers do: a client must put the arguments together.
        yield {"tool_calls": [{**one, "index": index, "function": {**one["function"], "arguments": ""}}]}
        yield {"tool_calls": [{"index": index, "function": {"arguments": one["function"]["arguments"]}}]}


def _results(message: Body) -> Iterator[tuple[tuple[str, ...], str]]:
    content, role = text_of(message), message.get("role")
    if role == "tool":
        yield ("tool", str(message.get("tool_call_id"))), content
    elif role == "function":
        yield ("function", str(message.get("name")), content), content
    elif role == "assistant" and "Action Input:" in content and _OBSERVATION in content:
        seen = content.partition(_OBSERVATION)[2].strip()
        yield ("react", content), seen


def text_of(message: Body) -> str:
    """Return a message's text, also where it comes in parts."""
    content = message.get("content")
    if isinstance(content, list):
        return "".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""
