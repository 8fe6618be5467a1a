"""Tests that need something of CrewAI are skipped where it is missing. Is it missing only where it may be?"""

from __future__ import annotations

import re

import pytest
from crew_support import find


@pytest.mark.parametrize(
    ("name", "absent_in", "present_in"),
    [
        ("crewai.tools.base_tool:EnvVar", (0, 102), (0, 140)),
        ("crewai.events.listeners.tracing", (0, 140), (1, 0)),
        ("crewai:Crew.akickoff", (1, 0), (1, 9)),
        ("crewai:Crew.akickoff_for_each", (1, 0), (1, 9)),
        ("crewai.utilities.agent_utils:convert_tools_to_openai_schema", (1, 0), (1, 9)),
        ("crewai.agents.agent_executor", (1, 9), (1, 15)),
        ("crewai.state.checkpoint_config:CheckpointConfig", (1, 9), (1, 15)),
    ],
)
def test_what_tests_need_is_missing_in_old_versions_alone(
    name: str, absent_in: tuple[int, int], present_in: tuple[int, int]
) -> None:
    """A name that CrewAI moves must not switch its tests off unnoticed; between the two versions either may be."""
    import crewai

    major, minor = map(int, re.findall(r"\d+", crewai.__version__)[:2])
    found = find(name) is not None
    if (major, minor) <= absent_in:
        assert not found
    elif (major, minor) >= present_in:
        assert found
