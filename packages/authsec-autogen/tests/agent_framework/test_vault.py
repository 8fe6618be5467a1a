"""The vault's tools on the Microsoft Agent Framework that is installed."""

from __future__ import annotations

from typing import Any

import agent_framework  # noqa: F401 - without it there is nothing to test
import pytest
from vault_contract import Adapter, VaultTools, mock, service, token, vault

import authsec_autogen.agent_framework

__all__ = ["TestVaultTools", "mock", "service", "token", "vault"]


@pytest.fixture
def vault_tools(framework: Any) -> Adapter:
    """Our tools in its agents."""

    async def ask(llm: Any, *tools: Any) -> list[object]:
        _, remembered = await framework.ask(llm, *tools)
        return list(remembered)

    return Adapter(authsec_autogen.agent_framework, ask)


class TestVaultTools(VaultTools):
    """Its agents and the vault."""

    def refused(self, text: str) -> bool:
        """Return whether the framework refused the arguments, or our tool the call."""
        return text == "Error: Argument parsing failed." or super().refused(text)
