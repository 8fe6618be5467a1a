"""One call to the vault, from tools that may be run on a new event loop each time. It knows no framework."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from authsec_autogen._environment import PRODUCT
from authsec_core import AgentVault, ConfigurationError, FetchResult
from authsec_core.token import Secret
from authsec_core.vault_tool import secret_fetch_async, vault_secret_text_async
from authsec_core.vault_use import SecretUse

__all__ = ["fetch", "read"]

_log = logging.getLogger("authsec.autogen")


async def read(
    vault: AgentVault | None, token: Secret, path: str, *, agent_name: str | None = None, reason: str = ""
) -> str:
    """Return a secret, or JSON text that says why there is none."""
    try:
        async with _used(vault) as one:
            return await vault_secret_text_async(one, path, token=token, agent_name=agent_name, reason=reason)
    except ConfigurationError as exc:
        _log.error("get_secret has no vault: %s", exc)  # the operator has to read it, not only the model
        # "live", because where the settings are not known nothing may pass for sample data.
        return FetchResult.of_error(exc, "live").to_json()


async def fetch(vault: AgentVault, use: SecretUse, endpoint: str, reason: str) -> str:
    """Return what an API answered to a request with a secret, as JSON text."""
    async with _used(vault) as one:
        return await secret_fetch_async(one, use, endpoint, reason)


@asynccontextmanager
async def _used(vault: AgentVault | None) -> AsyncIterator[AgentVault]:
    """Yield this vault, or the environment's, and leave no connection to a loop that ends.

    In a sync chat AutoGen makes a loop for each call and closes it without letting anyone clean up.
    """
    if vault is None:
        async with AgentVault(product=PRODUCT) as own:
            yield own
        return
    try:
        yield vault
    finally:
        await vault.release()
