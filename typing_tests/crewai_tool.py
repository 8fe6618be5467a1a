"""What the types of `authsec_crewai` say to who builds a crew. Checked by `nox -s types` and never run."""

from __future__ import annotations

from crewai import Agent, Task
from crewai.tools import BaseTool
from typing_extensions import assert_type

import authsec_crewai
from authsec_core import AgentVaultSync, VaultToken
from authsec_crewai import (
    AuthSecClient,
    AuthSecConfig,
    AuthSecCrewAIWarning,
    AuthSecSecretFetchTool,
    AuthSecSecureFetchTool,
    AuthSecVaultTool,
)
from authsec_crewai.tools import AuthSecSecureFetchTool as TheSame


def tools(client: AuthSecClient) -> None:
    """It is one of CrewAI's own, made from the environment or told."""
    tool = AuthSecSecureFetchTool()
    assert_type(tool, AuthSecSecureFetchTool)
    assert_type(TheSame(), AuthSecSecureFetchTool)
    base: BaseTool = tool
    assert_type(tool.name, str)
    assert_type(tool.per_call, bool)
    AuthSecSecureFetchTool(client=client, per_call=True, name="fetch", description="Fetches.")
    AuthSecSecureFetchTool(config=AuthSecConfig(mode="mock"))
    AuthSecSecureFetchTool(base_url="https://a.example.com", client_id="c", agent_key="k")
    AuthSecSecureFetchTool(client)  # type: ignore[call-arg]
    AuthSecSecureFetchTool(client="client")  # type: ignore[arg-type]
    Agent(role="r", goal="g", backstory="b", tools=[base])


def vault_tools(vault: AgentVaultSync, token: VaultToken) -> None:
    """They are CrewAI's own, too; a token is text or what was returned for it."""
    read = AuthSecVaultTool(vault_token=token.value, agent_name="writer")
    fetch = AuthSecSecretFetchTool(path="a/b", base_url="https://a.example", token=token, vault=vault, name="search")
    tools: list[BaseTool] = [read, fetch]
    Agent(role="r", goal="g", backstory="b", tools=tools)
    AuthSecVaultTool()  # type: ignore[call-arg]
    AuthSecSecretFetchTool(path="a/b")  # type: ignore[call-arg]


def tasks() -> None:
    """The callback is what CrewAI takes."""
    Task(description="d", expected_output="e", callback=authsec_crewai.forget_tool_results)


warning: type[UserWarning] = AuthSecCrewAIWarning
