"""CrewAI's cache goes by a tool's name and arguments, for all agents of a crew and from one kickoff to the next.

It must never answer for our tool: not with another agent's data, and not with what was fetched before a revocation.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from crew_support import LIVE_METRICS, METRICS, results, tool_of

import authsec_crewai
from authsec_core.testing import ScriptedModel, call

if TYPE_CHECKING:
    from crew.conftest import Deployment
    from crewai import Crew

StartModel = Callable[..., ScriptedModel]


@pytest.mark.req("RD7")
def test_a_caching_crew_fetches_each_time(
    deployment: Deployment,
    start_model: StartModel,
    make_speaker: Callable[..., Any],
    make_crew: Callable[..., Crew],
) -> None:
    """The same call goes to the API again, in a crew whose cache answers the second call of another tool."""
    from crewai.tools import tool as make_tool

    counted: list[str] = []

    @make_tool("count")
    def count(text: str) -> str:
        """Count a call."""
        counted.append(text)
        return "counted"

    ours = tool_of(deployment, "read:metrics")
    once = [call(ours.name, **METRICS), call("count", text="x"), "17 agents"]
    model = start_model(*once, *once)
    crew = make_crew(model, make_speaker(model, ours, count), cache=True)
    crew.kickoff()
    crew.kickoff()
    assert (len(deployment.served), counted, model.remaining) == (2, ["x"], 0)


@pytest.mark.req("RD7")
@pytest.mark.parametrize("name", [{}, {"name": "fetch"}], ids=["own names", "one name"])
def test_two_agents_of_a_caching_crew_share_neither_tokens_nor_results(
    name: dict[str, str],
    deployment: Deployment,
    start_model: StartModel,
    make_agent: Callable[..., Any],
    make_crew: Callable[..., Crew],
) -> None:
    """With the same arguments each agent gets what its own token gets, whatever the tools are called."""
    first, second = tool_of(deployment, "read:metrics", **name), tool_of(deployment, "read:records", **name)
    model = start_model(call(first.name, **METRICS), "17 agents", call(second.name, **METRICS), "refused")
    agents = [make_agent(model, first, role="First"), make_agent(model, second, role="Second")]
    make_crew(model, *agents, cache=True).kickoff()
    allowed, refused = results(model)
    assert allowed == LIVE_METRICS
    assert (refused["status"], refused["code"]) == ("error", "delegation_refused")
    assert [request.query["client_id"] for request in deployment.authority.requests] == [
        tool._client.config.client_id for tool in (first, second)
    ]
    assert len(deployment.served) == 1


@pytest.mark.req("RD7")
def test_a_caching_tool_of_another_maker_cannot_answer_for_ours(
    deployment: Deployment, start_model: StartModel, make_agent: Callable[..., Any], make_crew: Callable[..., Crew]
) -> None:
    """A stranger's result under the plain name is never served as ours, because ours has a name of its own."""
    from crewai.tools import tool as make_tool

    @make_tool("authsec_secure_fetch")
    def foreign(endpoint: str, scope: str) -> str:
        """Fetch something else."""
        return "stale"

    ours = tool_of(deployment, "read:metrics")
    model = start_model(call(foreign.name, **METRICS), "stale", call(ours.name, **METRICS), "17 agents")
    agents = [make_agent(model, foreign, role="First"), make_agent(model, ours, role="Second")]
    make_crew(model, *agents, cache=True).kickoff()
    assert [json.loads(result) for result in model.tool_results[1:]] == [LIVE_METRICS]


def test_both_forms_of_the_tool_say_not_to_cache() -> None:
    """CrewAI 0.114 to 1.8 asks the converted tool, and drops our answer while converting; others ask the tool."""
    tool = authsec_crewai.AuthSecSecureFetchTool()
    assert tool.cache_function({}, "result") is False
    tool.cache_function = lambda *_: True  # what those versions put there
    assert tool.to_structured_tool().cache_function({}, "result") is False


@pytest.mark.parametrize("what", ["token", "agent"])
def test_after_a_revocation_the_next_kickoff_is_refused(
    what: str, deployment: Deployment, start_model: StartModel, make_crew: Callable[..., Crew]
) -> None:
    """A crew that fetched data before is told plainly that it may not any more, and sees no old data."""
    tool = tool_of(deployment, "read:metrics")
    model = start_model(call(tool.name, **METRICS), "17 agents", call(tool.name, **METRICS), "no longer permitted")
    crew = make_crew(model, tool, cache=True)
    crew.kickoff()
    (token,) = deployment.authority.issued
    deployment.authority.revoke_agent(token.client_id)
    if what == "token":  # the agent still holds its token, so that it is the API that refuses first
        deployment.clock.advance(61)
    else:
        deployment.clock.advance(token.ttl + 1)
    crew.kickoff()
    before, after = results(model)
    assert before == LIVE_METRICS
    assert (after["status"], after["code"], after["retryable"]) == ("error", "delegation_refused", False)
    assert "eu-canary-7" not in json.dumps(after)
    assert len(deployment.served) == 1
