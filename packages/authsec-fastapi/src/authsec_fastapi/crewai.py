"""How does an agent of CrewAI get only the tools that its caller may use? For versions 0.102 and later, below 2.

This module imports no framework: what it makes is in `_crewai_tool`, which is loaded when it is needed. Whether a
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
    from crewai.tools import BaseTool

__all__ = ["guard_tools"]


def guard_tools(
    guard: AuthSecGuard,
    principal: Principal,
    tools: Iterable[Callable[..., Any] | BaseTool],
    *,
    run: ToolRun | None = None,
) -> list[BaseTool]:
    """Return those of an agent's tools that the caller may use, for `Agent(tools=…)` and `Task(tools=…)`.

    As `AuthSecGuard.tools`, and besides: it takes CrewAI's own tools too; results are not cached, because CrewAI would
    serve them to other agents and after a revocation; copies act for the same caller; and what CrewAI restores from a
    checkpoint acts for nobody. CrewAI keeps results of tools in files of its own all the same.

    Args:
        guard: Whose policy has the rules.
        principal: For whom the agent runs.
        tools: Functions, bound methods and CrewAI's `BaseTool`s. No coroutine functions, which CrewAI cannot run.
        run: The run of the agent, so that decisions go on record as its.

    Raises:
        ConfigurationError: There is no CrewAI, or the policy does not know a tool.
        TypeError: Something is none of these, or has a signature that no model can be told.
        ValueError: Two have one name, as CrewAI tells names apart, or no guard vouches for the principal.
    """
    try:
        framework = import_module("authsec_fastapi._crewai_tool")
    except ImportError as exc:
        raise ConfigurationError(f"CrewAI cannot be used ({exc}): install crewai, 0.102 or later, below 2") from exc
    named = framework.read(tools)
    offered: list[BaseTool] = [
        framework.tool_of(gate, tool) for gate, tool in permitted(guard.judge, principal, named, run)
    ]
    return offered
