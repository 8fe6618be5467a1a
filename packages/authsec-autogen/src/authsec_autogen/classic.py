"""Secure fetch as a function for classic AutoGen: Microsoft's `autogen` 0.2 and AG2 below 1.

What a call may do is decided in `authsec_core`; here it gets the form that AutoGen wants. The framework is imported
when `register_secure_fetch` is called, and not before.

This module has no `from __future__ import annotations`, and its tools take plain `str`: AutoGen reads the annotations
of what it registers, and each of its versions fails on some other style. Nor has a tool a default, since defaults go
into the schema that the model sees.
"""

import asyncio
import inspect
import logging
import re
from typing import TYPE_CHECKING, Any, Protocol, overload

from authsec_autogen._advice import AuthSecAutoGenWarning, advise
from authsec_autogen._environment import ENVIRONMENT
from authsec_autogen._framework import load_autogen
from authsec_autogen._guard import Guard, refusal
from authsec_core import ConfigurationError
from authsec_core._own_files import refuse_foreign_files

if TYPE_CHECKING:
    from autogen import ConversableAgent

    from authsec_core import AsyncAuthSecClient, AuthSecClient

__all__ = [
    "AsyncSecureFetch",
    "AuthSecAutoGenWarning",
    "SecureFetch",
    "fetch_secure_data",
    "make_secure_fetch",
    "register_secure_fetch",
]

refuse_foreign_files("authsec_autogen", "authsec-autogen")  # their __init__ may have taken the place of ours

_log = logging.getLogger("authsec.autogen")

_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")  # what OpenAI permits; AutoGen checks the same
_LONGEST_NAME = 64
_GUARD = "_authsec_guard"  # an attribute of the executor, so that both live and end together
_ELSEWHERE = (
    "This tool runs only in chats with {executor}, for which it was registered: its operator has to let the agent chat "
    "with that executor."
)


class SecureFetch(Protocol):
    """A tool for sync chats; it works in async ones too, where it blocks the loop while it waits."""

    def __call__(self, endpoint: str, scope: str) -> str:
        """Return bounded JSON text; never raise for what a model, an authority or an API does."""
        ...


class AsyncSecureFetch(Protocol):
    """A tool for async chats, which AutoGen can also run in sync ones."""

    async def __call__(self, endpoint: str, scope: str) -> str:
        """Return bounded JSON text; let cancellation pass."""
        ...


def fetch_secure_data(endpoint: str, scope: str) -> str:
    """Fetch data from a protected API. The call is authorised with a short-lived token behind the scenes.

    Never ask for credentials. The answer is JSON: status is 'success' with data, or 'error' with a code and a message;
    do not repeat a call whose error is not retryable.

    Args:
        endpoint: A path relative to the API, such as 'secure-vault/metrics'.
        scope: The permission that the endpoint needs, such as 'read:metrics'.

    Returns:
        JSON text.
    """
    # One client for the process, made from the environment by the first call.
    try:
        client = ENVIRONMENT.client()
    except ConfigurationError as exc:
        _log.error("fetch_secure_data has no client: %s", exc)  # the operator has to read it, not only the model
        # "live", because where the settings are not known nothing may pass for sample data.
        from authsec_core import FetchResult

        return FetchResult.of_error(exc, "live").to_json()
    from authsec_core.tool import secure_fetch

    return secure_fetch(client, endpoint, scope)


@overload
def make_secure_fetch(
    client: "AuthSecClient | None" = None, *, per_call: bool = False, name: str = "fetch_secure_data"
) -> SecureFetch: ...


@overload
def make_secure_fetch(
    client: "AsyncAuthSecClient", *, per_call: bool = False, name: str = "fetch_secure_data"
) -> AsyncSecureFetch: ...


def make_secure_fetch(
    client: "AuthSecClient | AsyncAuthSecClient | None" = None,
    *,
    per_call: bool = False,
    name: str = "fetch_secure_data",
) -> SecureFetch | AsyncSecureFetch:
    """Return a new function that fetches with this client's identity, to be registered with AutoGen.

    Several agents that share an executor must not share it: use `register_secure_fetch`, which also guards the
    executor. The function's docstring tells a model which endpoints and scopes are permitted.

    Args:
        client: Whose tokens the calls carry; the environment's by default. An `AsyncAuthSecClient` makes the function a
            coroutine function.
        per_call: Ask for a token of its own for each call, instead of using one until it is stale.
        name: The function's name.

    Raises:
        ConfigurationError: The client's settings do not say where the API is, or those of the environment are wrong.
        TypeError: `client` is neither of the two clients.
        ValueError: The name is not one that models can call.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} cannot be a tool's name: use 1 to {_LONGEST_NAME} letters, digits, '_' and '-'")
    from authsec_core import AsyncAuthSecClient  # here, and below: the client's HTTP would double this module's import
    from authsec_core.tool import describe_secure_fetch

    client = _given_or_default(client)
    tool: Any = _async_tool(client, per_call) if isinstance(client, AsyncAuthSecClient) else _tool(client, per_call)
    # The qualified name too: Python puts it into the TypeError that a model sees when it adds an argument.
    tool.__name__ = tool.__qualname__ = name
    tool.__doc__ = describe_secure_fetch(client)
    made: SecureFetch | AsyncSecureFetch = tool
    return made


def register_secure_fetch(
    *,
    caller: "ConversableAgent",
    executor: "ConversableAgent",
    client: "AuthSecClient | AsyncAuthSecClient | None" = None,
    name: str | None = None,
    description: str | None = None,
    per_call: bool = False,
) -> str:
    """Let `caller` propose secure fetches, let `executor` run them, and let nobody else propose them there.

    AutoGen's own `register_function` lets every agent that talks to an executor call everything that the executor runs.
    Here a call by another agent, or in a message that was made up, is answered with an error and not run. What a tool
    returns is still shown to every agent of a group chat. Where the two agents' settings keep or leak it, this warns
    once with `AuthSecAutoGenWarning`.

    Args:
        caller: The agent whose model is offered the tool; it needs an `llm_config`.
        executor: The agent that runs it. Other agents may share it, each with a tool and a client of its own.
        client: Whose tokens the calls carry; the environment's by default.
        name: What the model calls the tool; by default `fetch_secure_data_` and the caller's name, because two agents'
            tools on one executor must not share a name.
        description: What the model is told; by default with the permitted endpoints and scopes.
        per_call: Ask for a token of its own for each call.

    Returns:
        The tool's name.

    Raises:
        ConfigurationError: There is no classic AutoGen, or the client's settings are incomplete.
        ValueError: The executor already runs a function of this name, the caller has no model, or the name is not one
            that models can call.
    """
    framework = load_autogen()
    if not caller.llm_config:
        raise ValueError(f"{caller.name!r} has no llm_config, so it cannot propose calls: swap caller and executor?")
    name = name or _name_for(caller.name)
    if executor.can_execute_function(name):
        raise ValueError(
            f"{executor.name!r} already runs a function {name!r}, and AutoGen would run the newer one for everybody: "
            f"pass another name=, such as {_another_name(caller.name, name)!r}, or another executor"
        )
    client = _given_or_default(client)
    tool = make_secure_fetch(client, per_call=per_call, name=name)
    advise(framework, caller, executor)
    guard = _guard_of(executor, framework)
    guard.admit(name, caller, client.mode)
    elsewhere = refusal(_ELSEWHERE.format(executor=executor.name), client.mode)
    executor.register_for_execution(name=name)(_guarded(tool, guard, name, elsewhere))
    offered = _proposal(name, elsewhere)
    caller.register_for_llm(name=name, description=description or tool.__doc__)(offered)
    return name


def _given_or_default(client: Any) -> "AuthSecClient | AsyncAuthSecClient":
    from authsec_core import AsyncAuthSecClient, AuthSecClient

    if client is None:
        return ENVIRONMENT.client()
    if not isinstance(client, AuthSecClient | AsyncAuthSecClient):
        raise TypeError(f"client must be an AuthSecClient or an AsyncAuthSecClient, not {type(client).__name__}")
    return client


def _tool(client: "AuthSecClient", per_call: bool) -> SecureFetch:
    from authsec_core.tool import secure_fetch

    def fetch_secure_data(endpoint: str, scope: str) -> str:
        return secure_fetch(client, endpoint, scope, per_call=per_call)

    return fetch_secure_data


def _async_tool(client: "AsyncAuthSecClient", per_call: bool) -> AsyncSecureFetch:
    from authsec_core.tool import secure_fetch_async

    async def fetch_secure_data(endpoint: str, scope: str) -> str:
        try:
            return await secure_fetch_async(client, endpoint, scope, per_call=per_call)
        finally:
            # In a sync chat AutoGen makes a loop for each call and closes it without letting anyone clean up.
            if len(asyncio.all_tasks()) == 1:
                await client.release()

    return fetch_secure_data


def _guarded(tool: Any, guard: Guard, name: str, elsewhere: str) -> Any:
    """Return `tool`, which runs only where the guard has just let a call of it through.

    AG2's group patterns take functions out of the executors among their members and call them themselves.
    """

    def fetch_secure_data(endpoint: str, scope: str) -> str:
        text: str = tool(endpoint, scope) if guard.consume(name) else elsewhere
        return text

    async def fetch_secure_data_async(endpoint: str, scope: str) -> str:
        text: str = await tool(endpoint, scope) if guard.consume(name) else elsewhere
        return text

    made: Any = fetch_secure_data_async if inspect.iscoroutinefunction(tool) else fetch_secure_data
    made.__name__ = made.__qualname__ = name
    made.__doc__ = tool.__doc__
    return made


def _proposal(name: str, answer: str) -> SecureFetch:
    """Return a function that a model can be offered and that does nothing.

    AG2 hands the functions that agents propose to executors of its own making (`initiate_group_chat`, `run`), which no
    guard stands before.
    """

    def fetch_secure_data(endpoint: str, scope: str) -> str:  # noqa: ARG001 - the schema that the model sees
        return answer

    fetch_secure_data.__name__ = fetch_secure_data.__qualname__ = name
    return fetch_secure_data


def _name_for(agent: str) -> str:
    return re.sub(r"[^A-Za-z0-9_-]", "_", f"fetch_secure_data_{agent}")[:_LONGEST_NAME]


def _another_name(agent: str, taken: str) -> str:
    usual = _name_for(agent)
    return usual if usual != taken else f"{usual[: _LONGEST_NAME - 2]}_2"


def _guard_of(executor: Any, framework: Any) -> Guard:
    guard: Guard | None = getattr(executor, _GUARD, None)
    if guard is None:
        guard = Guard(framework.GroupChatManager)
        setattr(executor, _GUARD, guard)
        guard.stand_before(executor, [framework.Agent, None])
    return guard
