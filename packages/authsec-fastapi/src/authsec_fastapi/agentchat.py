"""How does an agent of AutoGen AgentChat get only the tools that its caller may use? For versions 0.4.9 to 0.7.

This module imports no framework: what it makes is in `_agentchat_tool`, which is loaded when it is needed. Whether a
caller may is decided by `judging`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from authsec_core.errors import ConfigurationError
from authsec_fastapi._gates import ToolRun, permitted
from authsec_fastapi.guard import AuthSecGuard
from authsec_fastapi.principal import Principal

if TYPE_CHECKING:
    from autogen_core.tools import BaseTool

__all__ = ["guard_tools"]


def guard_tools(
    guard: AuthSecGuard,
    principal: Principal,
    tools: Iterable[Callable[..., Any] | BaseTool[Any, Any]],
    *,
    run: ToolRun | None = None,
) -> list[BaseTool[Any, Any]]:
    """Return those of an agent's tools that the caller may use, for `AssistantAgent(tools=…)`.

    As `AuthSecGuard.tools`, and besides: it takes AgentChat's own tools too; a run in which a tool is cancelled ends,
    which AgentChat alone from 0.6.4 on does not bring about; and no tool is dumped with its agent, because it acts for
    one caller.

    Args:
        guard: Whose policy has the rules.
        principal: For whom the agent runs.
        tools: Functions, bound methods and AgentChat's `BaseTool`s, such as `FunctionTool`.
        run: The run of the agent, so that decisions go on record as its.

    Raises:
        ConfigurationError: There is no AgentChat, or the policy does not know a tool.
        TypeError: Something is none of these, or has a signature that no model can be told.
        ValueError: Two have one name, or no guard vouches for the principal.
    """
    try:
        framework = import_module("authsec_fastapi._agentchat_tool")
    except ImportError as exc:
        raise ConfigurationError(
            f"AutoGen AgentChat cannot be used ({exc}): install autogen-agentchat, 0.4.9 or later, below 0.8"
        ) from exc
    named = [framework.read(tool) for tool in tools]
    offered: list[BaseTool[Any, Any]] = [
        framework.tool_of(gate, tool) for gate, tool in permitted(guard.judge, principal, named, run)
    ]
    return offered
