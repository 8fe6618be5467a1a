"""What the tests with ag2 share. They need a module `ag2` with its OpenAI client.

Without one they are not collected, unless `--no-skipped-modules` says that it must be there: then their imports fail.
"""

from __future__ import annotations

import importlib.util
import pickle
from pathlib import Path
from typing import Any

import pytest
from coroutine_fixtures import _fresh_process, api, authority, live, model, shown  # noqa: F401 - fixtures

from authsec_core import AsyncAuthSecClient
from authsec_core.testing import ScriptedModel


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Collect these tests only where ag2 is, or must be."""
    if importlib.util.find_spec("ag2") is None and not config.getoption("no_skipped_modules"):
        return True
    return None


class Ag2:
    """An agent with a fresh history, asked once."""

    def make(self, client: AsyncAuthSecClient | None = None, **options: Any) -> Any:
        """Return our tool."""
        from authsec_autogen.ag2 import make_secure_fetch

        return make_secure_fetch(client, **options)

    def agent(self, llm: ScriptedModel, *tools: Any, **options: Any) -> Any:
        """Return an agent."""
        from ag2 import Agent
        from ag2.config import OpenAIConfig

        config = OpenAIConfig(model=llm.model, api_key=llm.api_key, base_url=llm.base_url)
        return Agent("agent", config=config, tools=list(tools), **options)

    async def ask(self, llm: ScriptedModel, *tools: Any) -> tuple[str | None, list[object]]:
        """Ask the agent, and return its answer, and its events and itself in the forms that ag2 writes down."""
        from ag2 import AgentSpec

        agent = self.agent(llm, *tools)
        reply = await agent.ask("go")
        events = list(await reply.history.get_events())
        dumped = [event.to_dict() for event in events]
        return reply.body, [events, dumped, pickle.dumps(dumped), AgentSpec.from_agent(agent).model_dump_json()]


@pytest.fixture
def framework() -> Ag2:
    """ag2, driven as its users drive it."""
    return Ag2()
