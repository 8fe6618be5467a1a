"""The vault's tools on the AgentChat that is installed, and what a dump holds of them."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from autogen_core import CancellationToken
from autogen_core.tools import BaseTool
from vault_contract import Adapter, VaultTools, mock, service, token, vault
from vault_tools_support import SEARCH

import authsec_autogen.agentchat
from authsec_autogen.agentchat import make_secret_fetch, make_vault_tool
from authsec_core import AgentVault, ConfigurationError, MockVault
from authsec_core.testing import assert_no_secret

__all__ = ["TestVaultTools", "mock", "service", "token", "vault"]


@pytest.fixture
def vault_tools(assistant: Any) -> Adapter:
    """Our tools in AgentChat's assistants."""

    async def ask(llm: Any, *tools: Any) -> list[object]:
        agent, messages = assistant(llm, *tools), []
        while llm.remaining:  # a run ends with the answers of the tools
            messages.append((await asyncio.wait_for(agent.run(task="go"), 60.0)).messages)
        return [messages, await agent.save_state()]

    return Adapter(authsec_autogen.agentchat, ask)


class TestVaultTools(VaultTools):
    """AgentChat's assistants and the vault."""

    def refused(self, text: str) -> bool:
        """Return whether the framework refused the arguments, or our tool the call."""
        return "validation error" in text or super().refused(text)


@pytest.mark.req("RS8", "RD7")
def test_a_dump_holds_a_name_and_is_not_loaded(
    vault: AgentVault, mock: MockVault, token: Any, assistant: Any, model: Any
) -> None:
    """An agent with the tools can be dumped; loaded they would have nobody's token, or somebody else's."""
    tools: list[Any] = [
        make_vault_tool(token("search"), agent_name="researcher", vault=vault),
        make_secret_fetch(SEARCH, base_url="https://api.example", token=token("search"), vault=vault),
    ]
    dump = json.loads(assistant(model(), *tools).dump_component().model_dump_json())
    assert_no_secret(dump, *mock.secrets)
    for tool in tools:
        dumped = tool.dump_component()
        assert dumped.config == {"name": tool.name}
        with pytest.raises(ConfigurationError, match=f"put a new {type(tool).__name__}"):
            BaseTool.load_component(dumped)


def test_a_cancelled_call_is_answered_at_once(vault: AgentVault, token: Any, finish: Any) -> None:
    """AgentChat would wait for ever for a call that ends with its cancellation."""
    cancelled = CancellationToken()
    cancelled.cancel()
    tool = make_vault_tool(token("search"), vault=vault)
    answer = json.loads(finish(tool.run_json({"path": SEARCH, "reason": ""}, cancelled)))
    assert (answer["code"], answer["mode"]) == ("cancelled", "mock")


def test_the_model_is_offered_two_texts(vault: AgentVault, mock: MockVault, token: Any) -> None:
    """Both required, as strict schemas need it; nothing that holds a token or could choose one."""
    tool = make_vault_tool(token("search"), vault=vault)
    parameters = tool.schema["parameters"]
    assert set(parameters["properties"]) == {"path", "reason"} == set(parameters["required"])
    assert not any("default" in one for one in parameters["properties"].values())
    assert_no_secret(tool.schema, *mock.secrets)
