"""Secure fetch as a function for classic AutoGen: Microsoft's `autogen` 0.2 and AG2 below 1.

What a call may do is decided in `authsec_core`; here it gets the form that AutoGen wants. The framework is imported
when `register_secure_fetch` is called, and not before.

This module has no `from __future__ import annotations`, and its tools take plain `str`: AutoGen reads the annotations
of what it registers, and each of its versions fails on some other style. Nor has a tool a default, since defaults go
into the schema that the model sees.
"""

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Protocol, overload

from authsec_autogen._advice import AuthSecAutoGenWarning
from authsec_autogen._environment import ENVIRONMENT
from authsec_autogen._naming import check_name, dressed
from authsec_autogen._registration import Registration
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
    check_name(name)
    from authsec_core import AsyncAuthSecClient  # here, and below: the client's HTTP would double this module's import
    from authsec_core.tool import describe_secure_fetch

    client = _given_or_default(client)
    tool: Any = _async_tool(client, per_call) if isinstance(client, AsyncAuthSecClient) else _tool(client, per_call)
    made: SecureFetch | AsyncSecureFetch = dressed(tool, name=name, doc=describe_secure_fetch(client))
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
    place = Registration.of(caller, executor, name=name, prefix="fetch_secure_data")
    client = _given_or_default(client)
    place.add(make_secure_fetch(client, per_call=per_call, name=place.name), mode=client.mode, description=description)
    return place.name


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
