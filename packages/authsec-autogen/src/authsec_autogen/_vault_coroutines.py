"""What the vault's tools for a framework of coroutines are made of. It knows no framework.

It has no `from __future__ import annotations`, and its functions take plain `str`: frameworks read both.
"""

from collections.abc import Iterable
from typing import Any

from authsec_autogen._coroutine_tool import CoroutineTool, parts_of
from authsec_autogen._environment import ASYNC_VAULT_ENVIRONMENT
from authsec_autogen._naming import check_name
from authsec_autogen._vault_calls import fetch, read
from authsec_core import AgentVault, VaultToken
from authsec_core.vault_tool import (
    check_agent_name,
    describe_secret_fetch,
    describe_vault_secret,
    hold_token,
    mark_of_fetch,
    mark_of_token,
)
from authsec_core.vault_use import SecretUse

__all__ = ["secret_fetch_tool", "vault_tool"]


def secret_fetch_tool(
    path: str,
    base_url: str,
    *,
    header: str,
    prefix: str | None,
    allowed_endpoints: Iterable[str] | None,
    vault: AgentVault | None,
    token: str | VaultToken | None,
    agent_name: str | None,
    name: str | None,
    description: str | None,
) -> CoroutineTool:
    """Return the parts of a tool that asks an API with a secret which no model sees.

    Raises:
        ConfigurationError: The environment does not say where the vault is, or a secret may not go to `base_url`.
        TypeError: `vault` is not an `AgentVault`.
        ValueError: The path, the endpoints, the header, the prefix or a name cannot be one.
    """
    vault = _used(vault, name)
    use = SecretUse.of(
        path,
        base_url,
        header=header,
        prefix=prefix,
        allowed_endpoints=allowed_endpoints,
        token=token,
        agent_name=agent_name,
    )

    async def fetch_with_secret(endpoint: str, reason: str = "") -> str:
        return await fetch(vault, use, endpoint, reason)

    identity = f"fetch_with_secret_{mark_of_fetch(vault, use)}"
    return parts_of(fetch_with_secret, name, identity, description or describe_secret_fetch(use), mode=vault.mode)


def vault_tool(
    vault_token: str | VaultToken,
    *,
    agent_name: str | None,
    vault: AgentVault | None,
    name: str | None,
    description: str | None,
) -> CoroutineTool:
    """Return the parts of a tool that gives a model the secrets which a token covers.

    Raises:
        ConfigurationError: The environment does not say where the vault is.
        TypeError: The token is not text, or `vault` is not an `AgentVault`.
        ValueError: The token or a name cannot be one.
    """
    vault, token = _used(vault, name), hold_token(vault_token)
    if agent_name is not None:
        check_agent_name(agent_name)

    async def get_secret(path: str, reason: str = "") -> str:
        return await read(vault, token, path, agent_name=agent_name, reason=reason)

    identity = f"get_secret_{mark_of_token(vault, token)}"
    return parts_of(get_secret, name, identity, description or describe_vault_secret(), mode=vault.mode)


def _used(vault: Any, name: str | None) -> AgentVault:
    if name is not None:
        check_name(name)
    if not isinstance(vault, AgentVault | None):
        raise TypeError(
            f"vault must be an AgentVault, not {type(vault).__name__}: these frameworks run coroutines, which a vault "
            "for threads would block"
        )
    return vault or ASYNC_VAULT_ENVIRONMENT.client()
