"""What the types of `authsec_crewai` say to who builds a crew. Checked by `nox -s types` and never run."""

from __future__ import annotations

from crewai import Agent, Task
from crewai.tools import BaseTool
from typing_extensions import assert_type

import authsec_crewai
from authsec_crewai import AuthSecClient, AuthSecConfig, AuthSecCrewAIWarning, AuthSecSecureFetchTool
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


def tasks() -> None:
    """The callback is what CrewAI takes."""
    Task(description="d", expected_output="e", callback=authsec_crewai.forget_tool_results)


warning: type[UserWarning] = AuthSecCrewAIWarning
