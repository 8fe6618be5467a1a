"""Dumped components, copies, pickles: what a file holds of a tool, and when a tool is made of it again.

A dump holds names and addresses. Loading it reads the environment, and refuses where that means somebody else.
"""

from __future__ import annotations

import copy
import json
import pickle
import re
from collections.abc import Callable
from typing import Any

import pytest
from autogen_agentchat.agents import AssistantAgent
from autogen_agentchat.conditions import MaxMessageTermination
from autogen_agentchat.teams import RoundRobinGroupChat
from autogen_core import CancellationToken, ComponentModel
from autogen_core.tools import BaseTool
from pydantic import ValidationError

from authsec_autogen.agentchat import AuthSecSecureFetchTool
from authsec_core import ConfigurationError
from authsec_core.testing import LocalAgent, LocalAuthority, LoopbackServer, Reply, assert_no_secret, call

METRICS = {"endpoint": "secure-vault/metrics", "scope": "read:metrics"}
KEY = "agent-key-canary.0123456789abcdef0123456789abcdef"
LIMITS = {"secure-vault/metrics": ["read:metrics"]}


@pytest.fixture
def agent(authority: LocalAuthority) -> LocalAgent:
    """An agent with a key."""
    return authority.register(["read:metrics", "read:records"], agent_key=KEY)


@pytest.fixture
def used(agent: LocalAgent, live: Any, finish: Any) -> AuthSecSecureFetchTool:
    """A tool of that agent that has fetched once, so that a token is held too."""
    tool = AuthSecSecureFetchTool(client=live(agent), name="fetch", per_call=False)
    assert fetched(tool, finish)["status"] == "success"
    return tool


def fetched(tool: Any, finish: Any) -> dict[str, Any]:
    """Return what the tool answers to a call of the framework."""
    answer: dict[str, Any] = json.loads(finish(tool.run_json(METRICS, CancellationToken())))
    return answer


def loaded(dump: ComponentModel) -> Any:
    """Return what the framework makes of the dump, after it was a file."""
    return BaseTool.load_component(json.loads(dump.model_dump_json()))


@pytest.mark.req("RS8")
def test_a_dump_holds_names_and_addresses_only(
    used: AuthSecSecureFetchTool, agent: LocalAgent, authority: LocalAuthority, api: Any
) -> None:
    """No key, no token; not even the client id, which may be all that an authority asks for."""
    dump = used.dump_component()
    assert dump.provider == "authsec_autogen.agentchat.AuthSecSecureFetchTool"
    assert dump.component_type == "tool"
    identity = dump.config["identity"]
    assert (identity["mode"], identity["base_url"], identity["api_base_url"]) == (
        "live",
        authority.base_url,
        api.base_url,
    )
    assert_no_secret([dump, dump.model_dump_json()], KEY, agent.client_id, *api.tokens)


def test_where_the_environment_is_the_same_a_dump_becomes_the_same_tool(
    used: AuthSecSecureFetchTool, agent: LocalAgent, environ: Any, finish: Any, api: Any
) -> None:
    """Name and options return, the identity comes from the environment, and the tool fetches."""
    environ(agent)
    tool = loaded(AuthSecSecureFetchTool(name="fetch", description="Fetches.", per_call=True).dump_component())
    assert (type(tool), tool.name, tool.description) == (AuthSecSecureFetchTool, "fetch", "Fetches.")
    assert fetched(tool, finish)["mode"] == "live"
    assert fetched(tool, finish)["mode"] == "live"
    assert len(set(api.tokens)) == 3  # per_call has returned too: one of `used`, two of this one
    assert {caller.client_id for caller in api.callers} == {agent.client_id}
    again = loaded(used.dump_component())
    assert again.description == used.description
    assert again.dump_component() == used.dump_component()


def test_in_mock_mode_it_returns_as_well(finish: Any) -> None:
    """Nothing is set, neither then nor now: sample data."""
    tool = loaded(AuthSecSecureFetchTool().dump_component())
    assert fetched(tool, finish)["mode"] == "mock"


@pytest.mark.req("RS1", "RS9", "RD7")
@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("AUTHSEC_AGENT_CLIENT_ID", "7c9e6679-7425-40de-944b-e07fc1f90ae7"),
        ("AUTHSEC_BASE_URL", "https://authority.invalid"),
        ("AUTHSEC_API_BASE_URL", "https://api.invalid"),
        ("AUTHSEC_AUDIENCE", "someone-else"),
        ("AUTHSEC_ISSUER", "https://issuer.invalid"),
        ("AUTHSEC_ALLOWED_ENDPOINTS", "secure-vault/records"),
        ("AUTHSEC_ENDPOINT_SCOPES", json.dumps({"secure-vault/metrics": ["read:metrics", "admin"]})),
        ("AUTHSEC_MODE", "mock"),
    ],
)
def test_where_the_environment_is_another_loading_is_refused(
    used: AuthSecSecureFetchTool,
    agent: LocalAgent,
    authority: LocalAuthority,
    environ: Any,
    variable: str,
    value: str,
) -> None:
    """The error names what differs, and nothing else; and nobody has been asked for a token."""
    environ(agent, **{variable: value})
    before = len(authority.requests)
    with pytest.raises(ConfigurationError) as refused:
        loaded(used.dump_component())
    assert re.findall("AUTHSEC_[A-Z_]+", refused.value.message) == [variable]
    assert_no_secret(refused.value.message, KEY, agent.client_id, agent.spiffe_id)
    assert len(authority.requests) == before


@pytest.mark.req("RS1")
def test_where_nothing_is_set_a_live_tool_does_not_return_as_a_mock(used: AuthSecSecureFetchTool) -> None:
    """Sample data must not take the place of what the tool was for; nor the other way round."""
    with pytest.raises(ConfigurationError, match="AUTHSEC_BASE_URL"):
        loaded(used.dump_component())


@pytest.mark.req("RS1")
def test_a_mock_tool_does_not_return_with_an_identity(agent: LocalAgent, environ: Any) -> None:
    """What was tried out offline gets access only from who puts a LIVE tool in its place."""
    dump = AuthSecSecureFetchTool().dump_component()
    environ(agent)
    with pytest.raises(ConfigurationError, match="AUTHSEC_MODE"):
        loaded(dump)


@pytest.mark.req("RD1")
def test_limits_that_were_given_in_code_are_not_lost(agent: LocalAgent, live: Any, environ: Any) -> None:
    """A tool with fewer endpoints than the environment permits does not come back with more."""
    dump = AuthSecSecureFetchTool(client=live(agent, endpoint_scopes=LIMITS)).dump_component()
    environ(agent)
    with pytest.raises(ConfigurationError, match="AUTHSEC_ENDPOINT_SCOPES"):
        loaded(dump)
    environ(agent, AUTHSEC_ENDPOINT_SCOPES=json.dumps(LIMITS))
    assert "'secure-vault/metrics' with scope 'read:metrics'" in loaded(dump).description


@pytest.mark.req("RS9")
def test_a_dump_that_was_edited_does_not_send_the_agent_elsewhere(
    used: AuthSecSecureFetchTool, agent: LocalAgent, environ: Any
) -> None:
    """An address in the file is compared and never used; what the file does not have to say is refused unread."""
    environ(agent)
    with LoopbackServer(lambda _request: Reply.of_json({})) as evil:
        for field in ("base_url", "api_base_url"):
            dump = used.dump_component()
            dump.config["identity"][field] = evil.base_url
            with pytest.raises(ConfigurationError):
                loaded(dump)
        assert evil.requests == ()
    for edit in ({"agent_key": KEY}, {"identity": None}, {"identity": {"mode": "live", "agent_key": KEY}}):
        dump = used.dump_component()
        dump.config.update(edit)
        with pytest.raises(ValidationError) as refused:
            loaded(dump)
        assert KEY not in str(refused.value)


def test_without_an_identity_nothing_is_loaded(agent: LocalAgent, environ: Any) -> None:
    """A file that was written by hand does not get the environment's identity for the asking."""
    environ(agent)
    provider = "authsec_autogen.agentchat.AuthSecSecureFetchTool"
    with pytest.raises(ValidationError, match="identity"):
        BaseTool.load_component({"provider": provider, "component_type": "tool", "config": {"name": "fetch"}})


@pytest.mark.req("RS8")
def test_an_agent_and_a_team_are_dumped_and_loaded_with_the_tool(
    used: AuthSecSecureFetchTool, agent: LocalAgent, environ: Any, model: Any, assistant: Any, finish: Any, api: Any
) -> None:
    """A tool that is no component would break the dump of everything around it."""
    llm = model(call("fetch", **METRICS))
    team = RoundRobinGroupChat([assistant(llm, used)], termination_condition=MaxMessageTermination(2))
    dump = json.loads(team.dump_component().model_dump_json())
    assert_no_secret(dump, KEY, agent.client_id, *api.tokens)
    (member,) = dump["config"]["participants"]
    member["config"]["model_client"]["config"]["api_key"] = llm.api_key  # which AgentChat masks
    with pytest.raises(ConfigurationError):
        RoundRobinGroupChat.load_component(copy.deepcopy(dump))
    environ(agent)
    result = finish(RoundRobinGroupChat.load_component(dump).run(task="go"))
    assert json.loads(result.messages[-1].content)["mode"] == "live"
    assert isinstance(AssistantAgent.load_component(member), AssistantAgent)


def test_a_subclass_is_dumped_as_itself() -> None:
    """A dump names the class that was dumped, or loading it would quietly drop what the subclass does."""

    class Audited(AuthSecSecureFetchTool):
        """A tool that does more."""

    with pytest.raises(TypeError, match="local class"):
        Audited().dump_component()


@pytest.mark.req("RS8")
def test_a_tool_is_not_pickled(used: AuthSecSecureFetchTool, agent: LocalAgent, api: Any) -> None:
    """What would carry credentials into a file is refused, and the refusal shows none."""
    with pytest.raises((TypeError, AttributeError, pickle.PicklingError)) as refused:
        pickle.dumps(used)
    assert_no_secret(refused.value, KEY, agent.client_id, *api.tokens)


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy])
def test_copies_share_the_identity_and_the_held_token(
    used: AuthSecSecureFetchTool, authority: LocalAuthority, finish: Any, duplicate: Callable[[Any], Any]
) -> None:
    """A copy in the same process is the same agent."""
    assert fetched(duplicate(used), finish)["status"] == "success"
    assert len(authority.issued) == 1


@pytest.mark.req("RS8")
def test_no_form_of_the_tool_shows_a_secret(used: AuthSecSecureFetchTool, agent: LocalAgent, api: Any) -> None:
    """Neither repr nor what hangs on the object; and it keeps no state for a team's file."""
    forms = [repr(used), str(used), vars(used), used.schema, used.save_state_json, used.args_type().model_json_schema()]
    assert_no_secret(forms, KEY, *api.tokens)
    assert used.state_type() is None
