"""CrewAI in a home of its own; a model that plays a script, in both ways in which CrewAI lets models call tools."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from authsec_core.testing import ScriptedModel

WARNINGS = [
    # CrewAI reads its own deprecated fields, with which none of our arguments has to do.
    r"ignore:.*deprecated:DeprecationWarning:crewai\.",
    # litellm, which CrewAI before 1.0 imports, reads its own files in a way that importlib.resources has replaced.
    r"ignore:open_text is deprecated:DeprecationWarning:litellm\.",
    # The same versions and their litellm declare models as pydantic 1 did.
    r"ignore:(Support for class-based `config`|Pydantic V1 style):pydantic.PydanticDeprecatedSince20",
]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Filter CrewAI's own warnings, and those alone."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            for warning in WARNINGS:
                item.add_marker(pytest.mark.filterwarnings(warning), append=False)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, _loopback_only: None) -> Path:
    """Give CrewAI a folder of its own for everything that it writes, from its import on, and let nothing phone home."""
    for name in ("HOME", "USERPROFILE", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "CREWAI_STORAGE_DIR"):
        monkeypatch.setenv(name, str(tmp_path))
    for name in ("CREWAI_DISABLE_TELEMETRY", "CREWAI_DISABLE_VERSION_CHECK", "OTEL_SDK_DISABLED"):
        monkeypatch.setenv(name, "true")
    monkeypatch.setenv("CREWAI_TRACING_ENABLED", "false")
    # CrewAI before 1.0 imports litellm, which otherwise asks GitHub for a list of prices.
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    return tmp_path


@pytest.fixture
def model() -> Iterator[Callable[..., ScriptedModel]]:
    """A function that starts a scripted model."""
    with ExitStack() as running:
        yield lambda *turns: running.enter_context(ScriptedModel(*turns))


@pytest.fixture
def crew() -> Callable[..., Any]:
    """A function that makes a crew of one task for each agent, from their models and tools."""
    from crewai import LLM, Agent, Crew, Task

    def make(*members: tuple[ScriptedModel, list[Any]], **options: Any) -> Any:
        agents = [
            Agent(role=f"Agent {n}", goal="Report", backstory="Careful.", tools=tools, llm=LLM(**llm.crewai_llm))
            for n, (llm, tools) in enumerate(members)
        ]
        tasks = [Task(description="Look into it.", expected_output="A summary.", agent=agent) for agent in agents]
        return Crew(agents=agents, tasks=tasks, **options)

    return make
