"""Secure fetch and the vault as tools for AutoGen AgentChat: `autogen_agentchat` and `autogen_core` 0.4.9 to 0.7.

This module imports no framework. The tools' classes are some of the framework's, so they are made when their names are
first used, in `_agentchat_tool` and `_agentchat_vault`; what a call may do is decided in `authsec_core`.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from authsec_autogen._framework import check_agentchat
from authsec_core._own_files import refuse_foreign_files

if TYPE_CHECKING:
    from authsec_autogen._agentchat_tool import AuthSecSecureFetchTool
    from authsec_autogen._agentchat_vault import AuthSecSecretFetchTool, AuthSecVaultTool
    from authsec_core import AgentVault, AsyncAuthSecClient, VaultToken

__all__ = [
    "AuthSecSecretFetchTool",
    "AuthSecSecureFetchTool",
    "AuthSecVaultTool",
    "make_secret_fetch",
    "make_secure_fetch",
    "make_vault_tool",
]

_HOMES = {
    "AuthSecSecretFetchTool": "authsec_autogen._agentchat_vault",
    "AuthSecSecureFetchTool": "authsec_autogen._agentchat_tool",
    "AuthSecVaultTool": "authsec_autogen._agentchat_vault",
}

refuse_foreign_files("authsec_autogen", "authsec-autogen")  # their __init__ may have taken the place of ours


def make_secure_fetch(
    client: AsyncAuthSecClient | None = None,
    *,
    name: str | None = None,
    description: str | None = None,
    per_call: bool = False,
) -> AuthSecSecureFetchTool:
    """Return a new tool for `tools=[...]`: the same as `AuthSecSecureFetchTool`, named as in the other lineages.

    Args:
        client: Whose tokens the calls carry; by default the client that the environment describes, one for the process.
            A client that you give stays yours to close.
        name: What the model calls the tool; by default `fetch_secure_data`, LIVE with a mark of the identity.
        description: What the model is told; by default with the permitted endpoints and scopes.
        per_call: Ask for a token of its own for each call, instead of using one until it is stale.

    Raises:
        ConfigurationError: There is no AgentChat, or the settings are missing, wrong or unsafe.
        TypeError: `client` is not an `AsyncAuthSecClient`.
        ValueError: The name is not one that models can call.
    """
    kind: type[AuthSecSecureFetchTool] = __getattr__("AuthSecSecureFetchTool")
    return kind(client=client, name=name, description=description, per_call=per_call)


def make_secret_fetch(
    path: str,
    *,
    base_url: str,
    header: str = "Authorization",
    prefix: str | None = None,
    allowed_endpoints: Iterable[str] | None = None,
    vault: AgentVault | None = None,
    token: str | VaultToken | None = None,
    agent_name: str | None = None,
    name: str | None = None,
    description: str | None = None,
) -> AuthSecSecretFetchTool:
    """Return a new tool for `tools=[...]`: the same as `AuthSecSecretFetchTool`, named as in the other lineages.

    Args:
        path: Where the secret lies, such as `production/tavily/api-key`.
        base_url: The API's address. The secret goes nowhere else.
        header: Where the secret goes.
        prefix: What stands before it; by default `Bearer ` in `Authorization`, and nothing elsewhere.
        allowed_endpoints: The only endpoints that may be asked; by default all below `base_url`.
        vault: Where the secret is; by default where the environment says. It stays yours to close.
        token: What to read it with, instead of the agent's own key.
        agent_name: The agent's name for the vault's audit.
        name: What the model calls the tool; by default `fetch_with_secret` with a mark of all of the above.
        description: What the model is told; by default with the permitted endpoints.

    Raises:
        ConfigurationError: There is no AgentChat, the environment does not say where the vault is, or a secret may not
            go to `base_url`.
        TypeError: `vault` is not an `AgentVault`.
        ValueError: The path, the endpoints, the header, the prefix or a name cannot be one.
    """
    kind: type[AuthSecSecretFetchTool] = __getattr__("AuthSecSecretFetchTool")
    return kind(
        path,
        base_url=base_url,
        header=header,
        prefix=prefix,
        allowed_endpoints=allowed_endpoints,
        vault=vault,
        token=token,
        agent_name=agent_name,
        name=name,
        description=description,
    )


def make_vault_tool(
    vault_token: str | VaultToken,
    *,
    agent_name: str | None = None,
    vault: AgentVault | None = None,
    name: str | None = None,
    description: str | None = None,
) -> AuthSecVaultTool:
    """Return a new tool for `tools=[...]`: the same as `AuthSecVaultTool`, named as in the other lineages.

    Args:
        vault_token: What `request_token` returned, or its `value`. It covers all that the tool can read.
        agent_name: The agent's name for the vault's audit. It is kept as a claim: the token proves who reads.
        vault: Where the secrets are; by default where the environment says. It stays yours to close.
        name: What the model calls the tool; by default `get_secret` with a mark of the token.
        description: What the model is told.

    Raises:
        ConfigurationError: There is no AgentChat, or the environment does not say where the vault is.
        TypeError: The token is not text, or `vault` is not an `AgentVault`.
        ValueError: The token or a name cannot be one.
    """
    kind: type[AuthSecVaultTool] = __getattr__("AuthSecVaultTool")
    return kind(vault_token, agent_name=agent_name, vault=vault, name=name, description=description)


def __getattr__(name: str) -> Any:
    """Make a tool's class when it is first asked for (PEP 562); the framework takes half a second to import."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    check_agentchat()
    kind = globals()[name] = getattr(import_module(_HOMES[name]), name)
    return kind


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
