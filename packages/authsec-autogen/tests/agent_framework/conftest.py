"""What the tests with Microsoft Agent Framework share. They need `agent_framework` with its OpenAI client.

Without it they are not collected, unless `--no-skipped-modules` says that it must be there: then their imports fail.
"""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
from coroutine_fixtures import _fresh_process, api, authority, live, model, shown  # noqa: F401 - fixtures

from authsec_core import AsyncAuthSecClient
from authsec_core.testing import ScriptedModel


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Collect these tests only where the framework is, or must be."""
    if importlib.util.find_spec("agent_framework") is None and not config.getoption("no_skipped_modules"):
        return True
    return None


class AgentFramework:
    """An agent with a fresh session, run once."""

    def make(self, client: AsyncAuthSecClient | None = None, **options: Any) -> Any:
        """Return our tool."""
        from authsec_autogen.agent_framework import make_secure_fetch

        return make_secure_fetch(client, **options)

    def agent(self, llm: ScriptedModel, *tools: Any, **options: Any) -> Any:
        """Return an agent."""
        from agent_framework import Agent
        from agent_framework.openai import OpenAIChatCompletionClient

        client = OpenAIChatCompletionClient(model=llm.model, api_key=llm.api_key, base_url=llm.base_url)
        return Agent(client, name="agent", tools=list(tools), **options)

    async def ask(self, llm: ScriptedModel, *tools: Any) -> tuple[str | None, list[object]]:
        """Run the agent, and return its answer, and response, session and tools in the forms that are written down."""
        agent = self.agent(llm, *tools)
        session = agent.create_session()
        response = await agent.run("go", session=session)
        return response.text, [response.to_dict(), session.to_dict(), [tool.to_dict() for tool in tools]]


@pytest.fixture
def framework() -> AgentFramework:
    """Microsoft Agent Framework, driven as its users drive it."""
    return AgentFramework()
