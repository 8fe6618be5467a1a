"""What can the installed CrewAI do, and what do it and its models say of tools? Asked by looking, not by version.

CrewAI is loaded by the first question that needs it, so that it finds the folders that a test has given it.
"""

from __future__ import annotations

import json
import pkgutil
import re
from typing import TYPE_CHECKING, Any

import pytest
from pydantic_core import PydanticSerializationError

from authsec_core.testing import call

if TYPE_CHECKING:
    from authsec_core.testing import Call, ScriptedModel

__all__ = [
    "LIVE_METRICS",
    "METRICS",
    "RECORDS",
    "dump_json",
    "find",
    "from_description",
    "need",
    "results",
    "told",
    "tool_of",
]

METRICS = {"endpoint": "secure-vault/metrics", "scope": "read:metrics"}
RECORDS = {"endpoint": "secure-vault/records", "scope": "read:records"}
LIVE_METRICS = {
    "status": "success",
    "mode": "live",
    "code": 200,
    "data": {"active_agents": 17, "region": "eu-canary-7"},
}


def tool_of(deployment: Any, *permissions: str, **options: Any) -> Any:
    """Return the tool of an agent to whom the permissions were just delegated."""
    from authsec_crewai import AuthSecSecureFetchTool

    agent = deployment.authority.register(permissions, agent_key=options.pop("agent_key", None))
    return AuthSecSecureFetchTool(client=deployment.client(agent), **options)


def results(model: ScriptedModel) -> list[dict[str, Any]]:
    """Return what the tools gave back to the model, parsed; in ReAct text equal results count as one."""
    return [json.loads(result) for result in model.tool_results]


def find(name: str) -> Any:
    """Return what `package.module` or `package.module:attribute` names; None where this CrewAI has no such thing."""
    try:
        return pkgutil.resolve_name(name)
    except (ImportError, AttributeError):
        return None


def need(name: str, otherwise: str) -> Any:
    """Return what `name` names; where this CrewAI has no such thing, skip the test for the reason given."""
    found = find(name)
    if found is None:
        pytest.skip(f"{otherwise}: it has no {name}")
    return found


def told(body: dict[str, Any]) -> tuple[str, str]:
    """Return name and description of the one tool that this request offers, in text where CrewAI is before 1.9."""
    if body.get("tools"):
        (tool,) = body["tools"]
        return tool["function"]["name"], tool["function"]["description"]
    prompt = "\n".join(message["content"] for message in body["messages"] if message["role"] in ("system", "user"))
    name = re.search(r"^Tool Name: (.+)$", prompt, re.MULTILINE)
    description = re.search(r"^Tool Description: (.+)$", prompt, re.MULTILINE)
    assert name is not None
    assert description is not None
    return name[1], description[1]


def from_description(body: dict[str, Any]) -> Call:
    """Call the tool with what its description permits for metrics, as a model has to whose task names neither."""
    name, description = told(body)
    _, _, rest = description.partition("'secure-vault/metrics' with scope '")
    return call(name, endpoint="secure-vault/metrics", scope=rest.partition("'")[0])


def dump_json(tool: Any) -> str:
    """Return the tool as JSON, without what CrewAI itself, up to 1.9, has no JSON for: classes and functions."""
    from crewai.tools import BaseTool

    class Plain(BaseTool):
        name: str = "plain"
        description: str = "Any tool."

        def _run(self, text: str = "") -> str:
            return text

    try:
        Plain().model_dump_json()
    except PydanticSerializationError:
        return str(tool.model_dump_json(exclude={"args_schema", "cache_function"}))
    return str(tool.model_dump_json())
