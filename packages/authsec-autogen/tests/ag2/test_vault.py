"""The vault's tools on the ag2 that is installed."""

from __future__ import annotations

from typing import Any

import ag2  # noqa: F401 - without it there is nothing to test
import pytest
from vault_contract import Adapter, VaultTools, mock, service, token, vault

import authsec_autogen.ag2

__all__ = ["TestVaultTools", "mock", "service", "token", "vault"]


@pytest.fixture
def vault_tools(framework: Any) -> Adapter:
    """Our tools in ag2 agents."""

    async def ask(llm: Any, *tools: Any) -> list[object]:
        _, remembered = await framework.ask(llm, *tools)
        return list(remembered)

    return Adapter(authsec_autogen.ag2, ask)


class TestVaultTools(VaultTools):
    """ag2 agents and the vault."""
