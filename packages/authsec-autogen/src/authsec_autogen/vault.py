"""A tool for classic AutoGen that gives a model secrets of the vault: those that one token covers.

What a call may do is decided in `authsec_core`; here it gets the form that AutoGen wants. The framework is imported
when something is registered, and not before. The plain functions do for any framework that takes functions. Where a
model only has to use a secret, see `secret_fetch`.

This module has no `from __future__ import annotations`, for the reasons that `classic` has.
"""

from typing import TYPE_CHECKING, Any, Protocol

from authsec_autogen._environment import ASYNC_VAULT_ENVIRONMENT
from authsec_autogen._naming import check_name, dressed
from authsec_autogen._registration import Registration
from authsec_core._own_files import refuse_foreign_files

if TYPE_CHECKING:
    from autogen import ConversableAgent

    from authsec_core import AgentVault, VaultToken

__all__ = ["AuditedVaultTool", "VaultTool", "make_audited_vault_tool", "make_vault_tool", "register_vault_tool"]

refuse_foreign_files("authsec_autogen", "authsec-autogen")  # their __init__ may have taken the place of ours

_NAME = "get_secret"
_DESCRIPTION = (
    "Read a credential from the vault, such as 'production/openai/api-key', and return it as plain text. An answer "
    "that is JSON with status 'error' is no credential; do not repeat a call whose error is not retryable."
)


class VaultTool(Protocol):
    """A tool that gives a model a secret."""

    async def __call__(self, path: str) -> str:
        """Return the secret itself, or JSON text that says why there is none; let cancellation pass."""
        ...


class AuditedVaultTool(Protocol):
    """A tool that gives a model a secret, and asks it what for."""

    async def __call__(self, path: str, reason: str = "") -> str:
        """Return the secret itself, or JSON text that says why there is none; let cancellation pass."""
        ...


def make_vault_tool(vault_token: "str | VaultToken", *, vault: "AgentVault | None" = None) -> VaultTool:
    """Return a new function `get_secret` that reads secrets with this token, and with nothing else.

    The model is given what it reads. Where it only has to use a secret, `make_secret_fetch` keeps it unseen.

    Args:
        vault_token: What `request_token` returned, or its `value`. It covers all that the function can read.
        vault: Whose connections to use; the environment's by default. It stays yours to close.

    Raises:
        TypeError: The token is not text, or the vault not an `AgentVault`.
        ValueError: The token cannot be one.
    """
    from authsec_autogen._vault_calls import read  # here, and below: its HTTP would be most of this module's import
    from authsec_core.vault_tool import hold_token

    token, vault = hold_token(vault_token), _checked(vault)

    async def get_secret(path: str) -> str:
        return await read(vault, token, path)

    made: VaultTool = dressed(get_secret, name=_NAME, doc=_DESCRIPTION)
    return made


def make_audited_vault_tool(
    vault_token: "str | VaultToken", agent_name: str, *, vault: "AgentVault | None" = None
) -> AuditedVaultTool:
    """Return what `make_vault_tool` does, with a second argument, so that the vault's audit shows what a read was for.

    Args:
        vault_token: What `request_token` returned, or its `value`. It covers all that the function can read.
        agent_name: The agent's name for the audit. It is kept as a claim: the token proves who reads.
        vault: Whose connections to use; the environment's by default. It stays yours to close.

    Raises:
        TypeError: The token is not text, or the vault not an `AgentVault`.
        ValueError: The token or the name cannot be one.
    """
    from authsec_autogen._vault_calls import read
    from authsec_core.vault_tool import check_agent_name, describe_vault_secret, hold_token

    token, vault = hold_token(vault_token), _checked(vault)
    check_agent_name(agent_name)

    async def get_secret(path: str, reason: str = "") -> str:
        return await read(vault, token, path, agent_name=agent_name, reason=reason)

    made: AuditedVaultTool = dressed(get_secret, name=_NAME, doc=describe_vault_secret())
    return made


def register_vault_tool(
    *,
    caller: "ConversableAgent",
    executor: "ConversableAgent",
    vault_token: "str | VaultToken",
    agent_name: str | None = None,
    name: str | None = None,
    description: str | None = None,
    vault: "AgentVault | None" = None,
) -> str:
    """Let `caller` propose reads with this token, let `executor` run them, and let nobody else propose them there.

    What the tool returns is shown to every agent of a group chat: the secret, too. `register_secret_fetch` does
    without. For the rest, see `register_secure_fetch`.

    Args:
        caller: The agent whose model is offered the tool; it needs an `llm_config`.
        executor: The agent that runs it. Other agents may share it, each with a tool and a token of its own.
        vault_token: What `request_token` returned, or its `value`.
        agent_name: The agent's name for the vault's audit; by default the caller's.
        name: What the model calls the tool; by default `get_secret_` and the caller's name.
        description: What the model is told.
        vault: Whose connections to use; the environment's by default.

    Returns:
        The tool's name.

    Raises:
        ConfigurationError: There is no classic AutoGen, or the environment does not say where the vault is.
        TypeError: The token is not text, or the vault not an `AgentVault`.
        ValueError: The executor already runs a function of this name, the caller has no model, or the token, the name
            or the agent's name cannot be one.
    """
    place = Registration.of(caller, executor, name=name, prefix=_NAME)
    check_name(place.name)
    vault = _checked(vault) or ASYNC_VAULT_ENVIRONMENT.client()
    tool = make_audited_vault_tool(vault_token, agent_name or caller.name, vault=vault)
    place.add(dressed(tool, name=place.name, doc=tool.__doc__), mode=vault.mode, description=description)
    return place.name


def _checked(vault: Any) -> "AgentVault | None":
    from authsec_core import AgentVault

    if not isinstance(vault, AgentVault | None):
        raise TypeError(f"vault must be an AgentVault, not {type(vault).__name__}")
    return vault
