"""How a tool of ours gets to two of AutoGen's agents: offered to one, run by the other, and guarded in between.

What the tool does is not asked here. This module has no `from __future__ import annotations`, because AutoGen reads the
annotations of what it registers.
"""

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from authsec_autogen._advice import advise
from authsec_autogen._framework import load_autogen
from authsec_autogen._guard import Guard, refusal
from authsec_autogen._naming import LONGEST_NAME, dressed
from authsec_core.token import Mode

__all__ = ["Registration"]

_GUARD = "_authsec_guard"  # an attribute of the executor, so that both live and end together
_ELSEWHERE = (
    "This tool runs only in chats with {executor}, for which it was registered: its operator has to let the agent chat "
    "with that executor."
)

Tool = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Registration:
    """A free name for a tool that one agent is to propose and another is to run."""

    framework: Any
    caller: Any
    executor: Any
    name: str

    @classmethod
    def of(cls, caller: Any, executor: Any, *, name: str | None, prefix: str) -> "Registration":
        """Look whether the two can have a tool of this name; by default the prefix and the caller's name.

        Raises:
            ConfigurationError: There is no classic AutoGen.
            ValueError: The executor already runs a function of this name, or the caller has no model.
        """
        framework = load_autogen()
        if not caller.llm_config:
            raise ValueError(
                f"{caller.name!r} has no llm_config, so it cannot propose calls: swap caller and executor?"
            )
        usual = re.sub(r"[^A-Za-z0-9_-]", "_", f"{prefix}_{caller.name}")[:LONGEST_NAME]
        name = name or usual
        if executor.can_execute_function(name):
            raise ValueError(
                f"{executor.name!r} already runs a function {name!r}, and AutoGen would run the newer one for "
                f"everybody: pass another name=, such as {_another(usual, name)!r}, or another executor"
            )
        return cls(framework, caller, executor, name)

    def add(self, tool: Tool, *, mode: Mode, description: str | None) -> None:
        """Offer the tool to the caller, and let the executor run it for the caller alone."""
        advise(self.framework, self.caller, self.executor)
        guard = self._guard()
        guard.admit(self.name, self.caller, mode, takes=tuple(inspect.signature(tool).parameters))
        elsewhere = refusal(_ELSEWHERE.format(executor=self.executor.name), mode)
        self.executor.register_for_execution(name=self.name)(_guarded(tool, guard, self.name, elsewhere))
        offered = _proposal(tool, elsewhere)
        self.caller.register_for_llm(name=self.name, description=description or tool.__doc__)(offered)

    def _guard(self) -> Guard:
        guard: Guard | None = getattr(self.executor, _GUARD, None)
        if guard is None:
            guard = Guard(self.framework.GroupChatManager)
            setattr(self.executor, _GUARD, guard)
            guard.stand_before(self.executor, [self.framework.Agent, None])
        return guard


def _another(usual: str, taken: str) -> str:
    return usual if usual != taken else f"{usual[: LONGEST_NAME - 2]}_2"


def _guarded(tool: Tool, guard: Guard, name: str, elsewhere: str) -> Tool:
    """Return `tool`, which runs only where the guard has just let a call of it through.

    AG2's group patterns take functions out of the executors among their members and call them themselves.
    """

    def run(*arguments: Any, **named: Any) -> Any:
        return tool(*arguments, **named) if guard.consume(name) else elsewhere

    async def run_async(*arguments: Any, **named: Any) -> Any:
        return await tool(*arguments, **named) if guard.consume(name) else elsewhere

    return _like(tool, run_async if inspect.iscoroutinefunction(tool) else run)


def _proposal(tool: Tool, answer: str) -> Tool:
    """Return a function that a model can be offered in the place of `tool`, and that does nothing.

    AG2 hands the functions that agents propose to executors of its own making (`initiate_group_chat`, `run`), which no
    guard stands before.
    """

    def propose(*_arguments: Any, **_named: Any) -> Any:
        return answer

    return _like(tool, propose)


def _like(tool: Tool, function: Any) -> Tool:
    """Give `function` the looks of `tool`. It has no `__wrapped__`, through which the guard could be gone round."""
    made = dressed(function, name=tool.__name__, doc=tool.__doc__)
    made.__signature__ = inspect.signature(tool)
    made.__annotations__ = dict(tool.__annotations__)
    return function  # type: ignore[no-any-return]
