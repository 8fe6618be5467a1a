"""A tool for classic AutoGen that uses a secret of the vault which no model sees.

What a call may do is decided in `authsec_core`; here it gets the form that AutoGen wants. The framework is imported
when something is registered, and not before. The plain functions do for any framework that takes functions.

This module has no `from __future__ import annotations`, for the reasons that `classic` has.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Protocol, overload

from authsec_autogen._environment import VAULT_ENVIRONMENT
from authsec_autogen._naming import check_name, dressed
from authsec_autogen._registration import Registration
from authsec_core._own_files import refuse_foreign_files

if TYPE_CHECKING:
    from autogen import ConversableAgent

    from authsec_core import AgentVault, AgentVaultSync, VaultToken
    from authsec_core.vault_use import SecretUse

__all__ = ["AsyncSecretFetch", "SecretFetch", "make_secret_fetch", "register_secret_fetch"]

refuse_foreign_files("authsec_autogen", "authsec-autogen")  # their __init__ may have taken the place of ours

_NAME = "fetch_with_secret"


class SecretFetch(Protocol):
    """A tool for sync chats; it works in async ones too, where it blocks the loop while it waits."""

    def __call__(self, endpoint: str, reason: str = "") -> str:
        """Return bounded JSON text; never raise for what a model, the vault or an API does."""
        ...


class AsyncSecretFetch(Protocol):
    """A tool for async chats, which AutoGen can also run in sync ones."""

    async def __call__(self, endpoint: str, reason: str = "") -> str:
        """Return bounded JSON text; let cancellation pass."""
        ...


@overload
def make_secret_fetch(
    path: str,
    *,
    base_url: str,
    header: str = ...,
    prefix: str | None = ...,
    allowed_endpoints: Iterable[str] | None = ...,
    vault: "AgentVaultSync | None" = ...,
    token: "str | VaultToken | None" = ...,
    agent_name: str | None = ...,
    name: str = ...,
    description: str | None = ...,
) -> SecretFetch: ...


@overload
def make_secret_fetch(
    path: str,
    *,
    base_url: str,
    header: str = ...,
    prefix: str | None = ...,
    allowed_endpoints: Iterable[str] | None = ...,
    vault: "AgentVault",
    token: "str | VaultToken | None" = ...,
    agent_name: str | None = ...,
    name: str = ...,
    description: str | None = ...,
) -> AsyncSecretFetch: ...


def make_secret_fetch(
    path: str,
    *,
    base_url: str,
    header: str = "Authorization",
    prefix: str | None = None,
    allowed_endpoints: Iterable[str] | None = None,
    vault: "AgentVault | AgentVaultSync | None" = None,
    token: "str | VaultToken | None" = None,
    agent_name: str | None = None,
    name: str = _NAME,
    description: str | None = None,
) -> SecretFetch | AsyncSecretFetch:
    """Return a new function that asks an API with a secret which no model sees.

    The model gives an endpoint and, for the audit, a reason. The secret is read for each call, goes to `base_url` and
    nowhere else, and is taken out of an answer that repeats it.

    Args:
        path: Where the secret lies, such as `production/tavily/api-key`.
        base_url: The API's address.
        header: Where the secret goes.
        prefix: What stands before it; by default `Bearer ` in `Authorization`, and nothing elsewhere.
        allowed_endpoints: The only endpoints that may be asked; by default all below `base_url`.
        vault: Where the secret is; the environment's by default. An `AgentVault` makes the function a coroutine
            function.
        token: What to read it with, instead of the agent's own key.
        agent_name: The agent's name for the vault's audit.
        name: The function's name.
        description: Its docstring, which tells a model what it does; by default with the permitted endpoints.

    Raises:
        ConfigurationError: The environment does not say where the vault is, or a secret may not go to `base_url`.
        TypeError: `vault` is neither of the two vaults.
        ValueError: The path, the endpoints, the header, the prefix or the name cannot be one.
    """
    check_name(name)
    from authsec_core import AgentVault
    from authsec_core.vault_tool import describe_secret_fetch
    from authsec_core.vault_use import SecretUse

    use = SecretUse.of(
        path,
        base_url,
        allowed_endpoints=allowed_endpoints,
        header=header,
        prefix=prefix,
        token=token,
        agent_name=agent_name,
    )
    vault = _given_or_default(vault)
    tool: Any = _async_fetch(vault, use) if isinstance(vault, AgentVault) else _fetch(vault, use)
    made: SecretFetch | AsyncSecretFetch = dressed(tool, name=name, doc=description or describe_secret_fetch(use))
    return made


def register_secret_fetch(
    *,
    caller: "ConversableAgent",
    executor: "ConversableAgent",
    path: str,
    base_url: str,
    header: str = "Authorization",
    prefix: str | None = None,
    allowed_endpoints: Iterable[str] | None = None,
    vault: "AgentVault | AgentVaultSync | None" = None,
    token: "str | VaultToken | None" = None,
    agent_name: str | None = None,
    name: str | None = None,
    description: str | None = None,
) -> str:
    """Let `caller` use a secret that it never sees, let `executor` do it, and let nobody else ask for it there.

    See `make_secret_fetch` for what the tool does, and `register_secure_fetch` for what registering it does.

    Args:
        caller: The agent whose model is offered the tool; it needs an `llm_config`.
        executor: The agent that runs it. Other agents may share it.
        path: Where the secret lies, such as `production/tavily/api-key`.
        base_url: The API's address. The secret goes nowhere else.
        header: Where the secret goes.
        prefix: What stands before it; by default `Bearer ` in `Authorization`, and nothing elsewhere.
        allowed_endpoints: The only endpoints that may be asked; by default all below `base_url`.
        vault: Where the secret is; the environment's by default.
        token: What to read it with, instead of the agent's own key.
        agent_name: The agent's name for the vault's audit; by default the caller's.
        name: What the model calls the tool; by default `fetch_with_secret_` and the caller's name.
        description: What the model is told; by default with the permitted endpoints.

    Returns:
        The tool's name.

    Raises:
        ConfigurationError: There is no classic AutoGen, the environment does not say where the vault is, or a secret
            may not go to `base_url`.
        TypeError: `vault` is neither of the two vaults.
        ValueError: The executor already runs a function of this name, the caller has no model, or the path, the
            endpoints, the header, the prefix or a name cannot be one.
    """
    place = Registration.of(caller, executor, name=name, prefix=_NAME)
    given: Any = _given_or_default(vault)
    tool = make_secret_fetch(
        path,
        base_url=base_url,
        header=header,
        prefix=prefix,
        allowed_endpoints=allowed_endpoints,
        vault=given,
        token=token,
        agent_name=agent_name or caller.name,
        name=place.name,
    )
    place.add(tool, mode=given.mode, description=description)
    return place.name


def _given_or_default(vault: Any) -> "AgentVault | AgentVaultSync":
    from authsec_core import AgentVault, AgentVaultSync

    if vault is None:
        return VAULT_ENVIRONMENT.client()
    if not isinstance(vault, AgentVault | AgentVaultSync):
        raise TypeError(f"vault must be an AgentVault or an AgentVaultSync, not {type(vault).__name__}")
    return vault


def _fetch(vault: "AgentVaultSync", use: "SecretUse") -> SecretFetch:
    from authsec_core.vault_tool import secret_fetch

    def fetch_with_secret(endpoint: str, reason: str = "") -> str:
        return secret_fetch(vault, use, endpoint, reason)

    return fetch_with_secret


def _async_fetch(vault: "AgentVault", use: "SecretUse") -> AsyncSecretFetch:
    from authsec_autogen._vault_calls import fetch

    async def fetch_with_secret(endpoint: str, reason: str = "") -> str:
        return await fetch(vault, use, endpoint, reason)

    return fetch_with_secret
