"""The tool by itself, as a person tries it out: how it is made, what it answers, what it tells CrewAI of itself."""

from __future__ import annotations

import json
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from crew_support import METRICS, need, told

import authsec_crewai
from authsec_core import AuthSecClient, AuthSecConfig, ConfigurationError
from authsec_core.testing import ScriptedModel, assert_no_secret

if TYPE_CHECKING:
    from crew.conftest import Deployment

KEY = "agent-7f3a.canary-q2w3e4r5t6y7u8i9o0p1"


def make(**arguments: Any) -> Any:
    """Return a tool."""
    return authsec_crewai.AuthSecSecureFetchTool(**arguments)


def run(tool: Any, **arguments: Any) -> dict[str, Any]:
    """Return the parsed answer of a direct call."""
    answer: dict[str, Any] = json.loads(tool._run(**(arguments or METRICS)))
    return answer


def test_the_submodule_has_the_same_tool() -> None:
    """Programs may import the tool from `authsec_crewai.tools`."""
    from authsec_crewai import tools

    assert authsec_crewai.AuthSecSecureFetchTool is tools.AuthSecSecureFetchTool


def test_with_nothing_set_it_answers_with_sample_data_and_prints_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    """`AuthSecSecureFetchTool()` works offline; its answer says that the data is invented."""
    answer = run(make())
    assert (answer["status"], answer["mode"]) == ("success", "mock")
    assert "invented sample data" in answer["notice"]
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("how", ["environment", "client", "config", "settings"])
def test_each_way_of_making_it_reaches_the_deployment(
    how: str, deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Environment, client, config and single settings all make a tool of that agent."""
    agent = deployment.authority.register(["read:metrics"], agent_key="key-of-this-agent")
    given: dict[str, Any] = {
        "base_url": deployment.authority.base_url,
        "client_id": agent.client_id,
        "agent_key": agent.agent_key,
        "api_base_url": deployment.api.base_url,
    }
    arguments: dict[str, Any] = {}
    if how == "environment":
        environ = deployment.authority.environ(agent, api_base_url=deployment.api.base_url)
        for name, value in environ.items():
            monkeypatch.setenv(name, value)
    elif how == "client":
        arguments = {"client": AuthSecClient(AuthSecConfig(**given))}
    elif how == "config":
        arguments = {"config": AuthSecConfig(**given)}
    else:
        arguments = given
    answer = run(make(**arguments))
    assert (answer["status"], answer["mode"]) == ("success", "live")
    assert deployment.served == [("/secure-vault/metrics", agent.client_id)]


def test_a_client_of_its_own_names_the_adapter_to_the_authority(deployment: Deployment) -> None:
    """The authority's log tells which adapter asks."""
    agent = deployment.authority.register(["read:metrics"])
    run(make(base_url=deployment.authority.base_url, client_id=agent.client_id, api_base_url=deployment.api.base_url))
    (request,) = deployment.authority.requests
    assert "(authsec-crewai/" in request.headers["user-agent"]


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ({"base_url": "https://authority.example"}, "AUTHSEC_AGENT_CLIENT_ID"),
        ({"base_url": "http://authority.example", "client_id": "0" * 32}, "AUTHSEC_BASE_URL"),
        ({"base_url": "https://authority.example", "client_id": "0" * 32}, "AUTHSEC_API_BASE_URL"),
    ],
)
def test_wrong_settings_are_told_when_it_is_made(arguments: dict[str, str], complaint: str) -> None:
    """A setting that is missing or unsafe stops the program at its start, not in mid-conversation."""
    with pytest.raises(ConfigurationError, match=complaint):
        make(**arguments)


@pytest.mark.parametrize(
    "arguments",
    [
        {"client": AuthSecClient(), "base_url": "https://authority.example"},
        {"client": AuthSecClient(), "config": AuthSecConfig()},
        {"config": AuthSecConfig(), "client_id": "0" * 32},
        {"client": object()},
        {"cache_function": lambda *_: True},
        {"args_schema": None},
        {"endpoint": "secure-vault/metrics"},
    ],
    ids=lambda arguments: "+".join(arguments),
)
def test_misuse_is_a_type_error(arguments: dict[str, Any]) -> None:
    """Contradictory or unknown arguments, and a cache, are refused and not ignored."""
    with pytest.raises(TypeError):
        make(**arguments)


@pytest.mark.req("RS8")
@pytest.mark.parametrize("name", ["agent_key", "AUTHSEC_AGENT_KEY", "api_key"])
@pytest.mark.parametrize("kind", [str, str.encode])
@pytest.mark.parametrize(
    "wrong",
    [
        {"base_url": "http://authority.example", "client_id": "0" * 32},
        {"base_url": "https://authority.example", "client_id": "nobody"},
        {"base_url": "https://authority.example", "client_id": "0" * 32},  # nothing says where the API is
        {"base_url": "https://authority.example", "client_id": "0" * 32, "nonsense": 1},
        {"client": object()},
        {"config": object()},
    ],
    ids=lambda wrong: "+".join(wrong),
)
def test_no_frame_of_an_error_holds_the_key(name: str, kind: Any, wrong: dict[str, Any]) -> None:
    """A report with the locals of each frame shows no key, whether it was given by our name, as bytes or by another."""
    with pytest.raises((ConfigurationError, TypeError)) as caught:
        make(**{**wrong, name: kind(KEY)})
    stack = traceback.TracebackException.from_exception(caught.value, capture_locals=True).stack
    frames = [frame for frame in stack if frame.filename != __file__]
    assert frames
    assert_no_secret([caught.value, *((frame.name, frame.locals) for frame in frames)], KEY)


@pytest.mark.parametrize(("per_call", "tokens"), [(False, 1), (True, 2)])
def test_per_call_asks_for_a_token_for_each_call(per_call: bool, tokens: int, deployment: Deployment) -> None:
    """A token is held and used again, unless the tool was told otherwise."""
    agent = deployment.authority.register(["read:metrics"])
    tool = make(client=deployment.client(agent), per_call=per_call)
    assert [run(tool)["status"], run(tool)["status"]] == ["success", "success"]
    assert len(deployment.authority.issued) == tokens


@pytest.mark.req("RD1", "RD4")
@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"endpoint": "https://evil.example/x", "scope": "read:metrics"}, "endpoint_refused"),
        ({"endpoint": "secure-vault/%2e%2e/finance/payroll", "scope": "read:payroll"}, "endpoint_refused"),
        ({"endpoint": "secure-vault/metrics", "scope": "read:payroll"}, "scope_refused"),
        ({"endpoint": "secure-vault/metrics", "scope": " "}, "scope_refused"),
        ({"endpoint": "secure-vault/metrics"}, "scope_refused"),
        ({"endpoint": None, "scope": ["read:metrics"]}, "endpoint_refused"),
        ({"scope": "read:metrics", "method": "DELETE"}, "endpoint_refused"),
    ],
)
def test_what_is_not_permitted_is_refused_before_anything_is_asked(
    arguments: dict[str, Any], code: str, deployment: Deployment
) -> None:
    """Whatever a model makes up is answered with an error as JSON; no token is requested and nothing is raised."""
    tool = make(client=deployment.client(deployment.authority.register(["read:metrics", "read:payroll"])))
    answer = run(tool, **arguments)
    assert (answer["status"], answer["code"], answer["retryable"]) == ("error", code, False)
    assert deployment.authority.requests == ()
    assert deployment.bearers == []


@pytest.mark.req("RD5")
def test_arguments_that_a_model_adds_change_nothing(deployment: Deployment) -> None:
    """CrewAI up to 1.9 passes them all on; method, headers, ttl and identity stay what they are."""
    agent = deployment.authority.register(["read:metrics"], ttl=900)
    more = {"method": "DELETE", "headers": {"X-Evil": "1"}, "ttl": 1e9, "client_id": "someone", "per_call": True}
    assert run(make(client=deployment.client(agent)), **METRICS, **more)["status"] == "success"
    (request,) = deployment.api.requests
    assert (request.method, "x-evil" in request.headers) == ("GET", False)
    assert [(token.client_id, token.ttl) for token in deployment.authority.issued] == [(agent.client_id, 900)]


def test_a_closed_client_is_an_error_for_the_model_and_no_exception(deployment: Deployment) -> None:
    """Also what should never happen is answered as JSON without a trace of the inside."""
    client = deployment.client(deployment.authority.register(["read:metrics"]))
    tool = make(client=client)
    client.close()
    answer = run(tool)
    assert (answer["code"], "closed" in answer["message"]) == ("internal_error", False)


def test_the_description_lists_what_is_permitted(deployment: Deployment) -> None:
    """A task need name neither endpoint nor scope, because the tool does."""
    description = make(client=deployment.client(deployment.authority.register(["read:metrics"]))).description
    assert "'secure-vault/metrics' with scope 'read:metrics'" in description
    assert "'secure-vault/records' with scope 'read:records'" in description


def test_the_schema_asks_for_endpoint_and_scope_alone() -> None:
    """A model is offered two strings, both described, and none with a default."""
    schema = make().args_schema.model_json_schema()
    assert sorted(schema["required"]) == sorted(schema["properties"]) == ["endpoint", "scope"]
    for argument in schema["properties"].values():
        assert (argument["type"], "default" in argument) == ("string", False)
        assert argument["description"]


@pytest.mark.req("RD7")
def test_the_name_is_the_identitys_own(deployment: Deployment) -> None:
    """CrewAI tells tools apart by name: two identities never share one, and a name gives no client id away."""
    first, second = (deployment.authority.register(["read:metrics"]) for _ in range(2))
    names = [make(client=deployment.client(agent)).name for agent in (first, second, first)]
    other_api = make(client=deployment.client(first, api_base_url="http://127.0.0.1:1")).name
    assert names[0] == names[2]
    assert len({make().name, *names, other_api}) == 4
    assert all(agent.client_id[:8] not in name for agent in (first, second) for name in names)


def test_names_reach_the_model_as_they_are(start_model: Callable[..., ScriptedModel], make_crew: Any) -> None:
    """CrewAI may rewrite names for the model; ours needs no rewriting, so that scripts and prompts can use it."""
    tool = make(client=AuthSecClient(AuthSecConfig(mode="mock", client_id="0" * 32)))
    model = start_model("done")
    make_crew(model, tool).kickoff()
    assert told(model.requests[0])[0] == tool.name != make().name
    assert make(name="fetch_reports").name == "fetch_reports"


def test_it_declares_the_variables_that_it_reads() -> None:
    """CrewAI's tooling can tell an operator what to set; none is demanded, because MOCK mode needs none."""
    tool = make()
    need("crewai.tools.base_tool:EnvVar", "this CrewAI's tools declare no variables")
    declared = {variable.name: variable for variable in tool.env_vars}
    assert {"AUTHSEC_BASE_URL", "AUTHSEC_AGENT_CLIENT_ID", "AUTHSEC_AGENT_KEY", "AUTHSEC_API_BASE_URL"} == set(declared)
    assert not any(variable.required or variable.default for variable in declared.values())
