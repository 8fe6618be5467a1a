"""`forget_tool_results` by itself. That CrewAI's database then holds no results is shown in `crew/`."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from authsec_crewai import forget_tool_results


def test_the_messages_are_replaced_and_not_emptied() -> None:
    """The list belongs to the agent, which may still need it: the output gets a new one."""
    messages = [{"role": "tool", "content": "data"}]
    output: Any = SimpleNamespace(messages=messages, raw="answer")
    forget_tool_results(output)
    assert (output.messages, output.raw, len(messages)) == ([], "answer", 1)


def test_an_output_without_messages_is_left_alone() -> None:
    """CrewAI's older versions keep no messages, and their outputs take no new attributes."""
    output: Any = SimpleNamespace(raw="answer")
    forget_tool_results(output)
    assert vars(output) == {"raw": "answer"}
