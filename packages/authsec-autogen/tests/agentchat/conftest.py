"""What the tests with real AgentChat share: when they are collected, a protected API, agents, and a limit on waiting.

They need `autogen_agentchat` and `autogen_ext`. Without them they are not collected, unless `--no-skipped-modules` says
that they must be there: then their own imports fail.
"""

from __future__ import annotations

import asyncio
import importlib.util
import logging
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from coroutine_fixtures import ProtectedApi, _fresh_process, api, authority, live  # noqa: F401 - fixtures

from authsec_core.testing import LocalAgent, LocalAuthority, ScriptedModel

if TYPE_CHECKING:
    from autogen_agentchat.agents import AssistantAgent

LONGEST = 60.0  # seconds; what takes longer hangs


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Collect these tests only where AgentChat is, or must be."""
    here = all(importlib.util.find_spec(name) for name in ("autogen_agentchat", "autogen_ext"))
    return None if here or config.getoption("no_skipped_modules") else True


@pytest.fixture
def finish() -> Callable[[Coroutine[Any, Any, Any]], Any]:
    """A function that runs a coroutine on a loop of its own and fails where it hangs, which is what AgentChat does."""

    def run(work: Coroutine[Any, Any, Any]) -> Any:
        async def limited() -> Any:
            return await asyncio.wait_for(work, LONGEST)

        return asyncio.run(limited())

    return run


@pytest.fixture
def environ(
    authority: LocalAuthority,  # noqa: F811 - the fixture from above
    api: ProtectedApi,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> Callable[..., None]:
    """A function that makes the environment describe an agent."""

    def describe(agent: LocalAgent, **more: str) -> None:
        from authsec_autogen import _coroutine_tool

        monkeypatch.setattr(_coroutine_tool, "ENVIRONMENT", type(_coroutine_tool.ENVIRONMENT)())  # it is read once
        for name, value in (authority.environ(agent, api_base_url=api.base_url) | more).items():
            monkeypatch.setenv(name, value)

    return describe


@pytest.fixture
def model() -> Iterator[Callable[..., ScriptedModel]]:
    """A function that starts a scripted model."""
    with ExitStack() as running:
        # The dated name is the one to which AgentChat resolves `gpt-4o`; it warns where the reply names another.
        yield lambda *turns: running.enter_context(ScriptedModel(*turns, model="gpt-4o-2024-08-06"))


@pytest.fixture
def assistant() -> Callable[..., AssistantAgent]:
    """A function that makes an agent with a model and tools."""
    from autogen_agentchat.agents import AssistantAgent
    from autogen_ext.models.openai import OpenAIChatCompletionClient

    def make(llm: ScriptedModel, *tools: Any, name: str = "assistant", **settings: Any) -> AssistantAgent:
        client = OpenAIChatCompletionClient(model=llm.model, api_key=llm.api_key, base_url=llm.base_url)
        return AssistantAgent(name, client, tools=list(tools), **settings)

    return make


@pytest.fixture
def shown(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> Callable[[], list[object]]:
    """A function that returns all that was printed and logged, at DEBUG; AgentChat's event loggers included."""
    for name in (None, "autogen_core", "autogen_core.events", "autogen_agentchat", "autogen_agentchat.events"):
        caplog.set_level(logging.DEBUG, logger=name)
    return lambda: [*capfd.readouterr(), *caplog.records]
