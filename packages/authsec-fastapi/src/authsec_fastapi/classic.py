"""How does an agent of classic AutoGen (0.2), or of AG2 below 1, get only the tools that its caller may use?

AutoGen runs whatever function a message names on the executor that receives it. So tools are registered here, each for
one agent, and the executor has a guard: see `_executor_guard`. Whether a caller may is decided by `judging`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final

from authsec_core.errors import ConfigurationError
from authsec_fastapi._executor_guard import ExecutorGuard
from authsec_fastapi._gates import Gate, ToolRun, permitted, refusal
from authsec_fastapi._tool_forms import Form
from authsec_fastapi.guard import AuthSecGuard
from authsec_fastapi.principal import Identity, Principal
from authsec_fastapi.tools import dressed, guarded

if TYPE_CHECKING:
    from autogen import ConversableAgent

__all__ = ["guard_tools", "register_tools"]

_GUARD: Final = "_authsec_fastapi_guard"  # an attribute of the executor, so that both live and end together
_ELSEWHERE: Final = "This tool runs only where it was registered, and only for the agent that it was offered to."


def guard_tools(
    guard: AuthSecGuard, principal: Principal, tools: Iterable[Callable[..., Any]], *, run: ToolRun | None = None
) -> list[Callable[..., Any]]:
    """Return those of an agent's functions that the caller may use; AG2's `Tool`s count as their functions.

    As `AuthSecGuard.tools`. Register them with `register_tools` instead, unless executor and agents are made for this
    one caller and end with the request: an executor runs a function for everybody who names it.

    Raises:
        ConfigurationError: There is no classic AutoGen, or the policy does not know a tool.
        TypeError: Something is no function, or has a signature that no model can be told.
        ValueError: Two have one name, or no guard vouches for the principal.
    """
    offered = _permitted(_framework(), guard, principal, tools, run)
    return [guarded(form, gate) for gate, form in offered]


def register_tools(
    guard: AuthSecGuard,
    principal: Principal,
    tools: Iterable[Callable[..., Any]],
    *,
    caller: ConversableAgent,
    executor: ConversableAgent,
    run: ToolRun | None = None,
) -> list[str]:
    """Let an agent propose those tools that its caller may use, let `executor` run them, and for nobody else.

    A call by another agent, or in a message that was made up, is answered with an error and not run. What a tool
    returns is still shown to every agent of a group chat, and AutoGen may cache it: set `cache_seed` to None.

    Args:
        guard: Whose policy has the rules.
        principal: For whom the agent runs.
        tools: Functions and bound methods, and AG2's `Tool`s.
        caller: The agent whose model is offered the tools; it needs an `llm_config`.
        executor: The agent that runs them. It is for one principal: make another for the next.
        run: The run of the agent, so that decisions go on record as its.

    Returns:
        The names of what the agent got.

    Raises:
        ConfigurationError: There is no classic AutoGen, or the policy does not know a tool.
        TypeError: Something is no function, or has a signature that no model can be told.
        ValueError: The executor runs such a name already, or another principal's tools; the agent has no model; two
            tools have one name; or no guard vouches for the principal.
    """
    framework = _framework()
    offered = _permitted(framework, guard, principal, tools, run)
    if not caller.llm_config:
        raise ValueError(f"{caller.name!r} has no llm_config, so it cannot propose calls: swap caller and executor?")
    for gate, _ in offered:
        if executor.can_execute_function(gate.name):
            raise ValueError(
                f"{executor.name!r} already runs a function {gate.name!r}, and AutoGen would run the newer one for "
                "everybody: make an executor for each agent and request"
            )
    before = _guard_before(framework, executor, principal.identity)
    for gate, form in offered:
        _register(form, gate, before, caller, executor)
    return [gate.name for gate, _ in offered]


def _framework() -> Any:
    """Import and return the module `autogen`; there are others of this name, and none in AutoGen from 0.4 on."""
    try:
        import autogen
    except ImportError as exc:
        raise ConfigurationError(
            f"classic AutoGen cannot be used ({exc}): install pyautogen 0.2, or ag2 below 1"
        ) from exc
    if not (hasattr(autogen, "register_function") and hasattr(autogen, "GroupChatManager")):
        raise ConfigurationError("the module 'autogen' is not AutoGen's: rename it if it is yours")
    return autogen


def _permitted(
    framework: Any, guard: AuthSecGuard, principal: Principal, tools: Iterable[Any], run: ToolRun | None
) -> list[tuple[Gate, Form]]:
    kind = getattr(getattr(framework, "tools", None), "Tool", ())
    forms = [
        Form.of(tool.func, name=tool.name, description=tool.description) if isinstance(tool, kind) else Form.of(tool)
        for tool in tools
    ]
    return permitted(guard.judge, principal, [(form.name, form) for form in forms], run)


def _guard_before(framework: Any, executor: Any, identity: Identity) -> ExecutorGuard:
    before: ExecutorGuard | None = getattr(executor, _GUARD, None)
    if before is None:
        before = ExecutorGuard(framework.GroupChatManager, identity)
        setattr(executor, _GUARD, before)
        before.stand_before(executor, [framework.Agent, None])
    if before.identity != identity:
        raise ValueError(f"{executor.name!r} runs the tools of another principal: make an executor for each request")
    return before


def _register(form: Form, gate: Gate, before: ExecutorGuard, caller: Any, executor: Any) -> None:
    elsewhere = refusal("tool_refused", _ELSEWHERE)
    tool = guarded(form, gate)

    def run(*arguments: Any, **named: Any) -> Any:
        return tool(*arguments, **named) if before.consume(gate.name) else elsewhere

    async def arun(*arguments: Any, **named: Any) -> Any:
        return await tool(*arguments, **named) if before.consume(gate.name) else elsewhere

    def propose(*_arguments: Any, **_named: Any) -> Any:
        """Do nothing: AG2 hands what agents propose to executors of its own making, which no guard stands before."""
        return elsewhere

    before.own(gate.name, caller)
    executor.register_for_execution(name=gate.name)(dressed(arun if form.is_async else run, form))
    caller.register_for_llm(name=gate.name, description=form.description)(dressed(propose, form))
