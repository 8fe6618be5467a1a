"""Do AutoGen's agents fetch protected data with our function, in each way that AutoGen has to register and to chat?"""

from __future__ import annotations

import asyncio
import gc
import json
import os
from collections.abc import Callable
from typing import Any

import autogen
import httpx
import pytest

from authsec_autogen import (
    AuthSecClient,
    AuthSecConfig,
    fetch_secure_data,
    make_secure_fetch,
    register_secure_fetch,
)
from authsec_core import AsyncAuthSecClient
from authsec_core.testing import LocalAuthority, LoopbackServer, Reply, call

METRICS = {"endpoint": "secure-vault/metrics", "scope": "read:metrics"}
RECORDS = {"endpoint": "secure-vault/records", "scope": "read:records"}
RUNS_IN_THREAD = hasattr(autogen.ConversableAgent, "_run_async_in_thread")  # AG2 0.10 and later


def answers(model: Any) -> list[dict[str, Any]]:
    """Return what the tools told the model."""
    return [json.loads(text) for text in model.tool_results]


def seed_000(config_list: list[dict[str, Any]]) -> tuple[Any, Any]:
    """Wire up the agents as the published program does; it also has its `cache_seed` unset."""
    assistant = autogen.AssistantAgent(
        name="SecurityAssistant",
        llm_config={"config_list": config_list},
        system_message=(
            "You are a security analyst. Use fetch_secure_data to retrieve "
            "protected metrics and summarize what you find."
        ),
    )
    user_proxy = autogen.UserProxyAgent(
        name="UserProxy",
        human_input_mode="NEVER",
        max_consecutive_auto_reply=5,
        code_execution_config=False,
    )
    autogen.register_function(
        fetch_secure_data,
        caller=assistant,
        executor=user_proxy,
        name="fetch_secure_data",
        description="Fetch data from a protected endpoint using AuthSec delegation tokens.",
    )
    return assistant, user_proxy


ASK = "Fetch secure-vault/metrics with scope read:metrics and summarize the results."


def test_the_published_program_runs_offline(model: Any, converse: Callable[..., None]) -> None:
    """With nothing set, the two-agent program of the announcement gets sample data, marked as such."""
    llm = model(call("fetch_secure_data", **METRICS), "42 agents are active.", "TERMINATE")
    assistant, user_proxy = seed_000(llm.llm_config["config_list"])
    converse(user_proxy, assistant, ASK)
    (answer,) = answers(llm)
    assert (answer["status"], answer["mode"], answer["data"]["active_agents"]) == ("success", "mock", 42)
    assert "sample data" in answer["notice"]


def test_the_published_program_runs_live(
    model: Any, converse: Callable[..., None], authority: LocalAuthority, api: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the environment set, the same program gets the API's data with a token for the scope that it named."""
    agent = authority.register(["read:metrics", "read:records"], agent_key="key-of-the-security-assistant")
    for name, value in authority.environ(agent, api_base_url=api.base_url).items():
        monkeypatch.setenv(name, value)
    llm = model(call("fetch_secure_data", **METRICS), "7 agents are active.", "TERMINATE")
    assistant, user_proxy = seed_000(llm.llm_config["config_list"])
    converse(user_proxy, assistant, ASK)
    (answer,) = answers(llm)
    assert (answer["mode"], answer["data"]["topic"]) == ("live", {"active": 7, "from": "the API"})
    (caller,) = api.callers
    assert (caller.client_id, caller.scopes) == (agent.client_id, frozenset({"read:metrics"}))
    (asked,) = authority.requests
    assert "authsec-autogen/" in asked.headers["user-agent"]


def test_the_published_function_map_runs(
    model: Any, converse: Callable[..., None], authority: LocalAuthority, api: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A function of one's own takes a token from the client, as text, and is run from a `function_map`."""
    # As published, UserProxyAgent has no code_execution_config, which means Docker unless this is set.
    monkeypatch.setenv("AUTOGEN_USE_DOCKER", "False")
    seen: list[Any] = []

    def customers(request: Any) -> Reply:
        seen.append(api.verify(request.headers["authorization"].removeprefix("Bearer ")))
        return Reply.of_json({"customer": request.path.rpartition("/")[2]})

    with LoopbackServer(customers) as downstream:
        monkeypatch.setenv("DOWNSTREAM_URL", downstream.base_url)
        agent = authority.register(["read:customers", "list:customers"])
        for name, value in authority.environ(agent).items():
            monkeypatch.setenv(name, value)
        authsec = AuthSecClient(
            AuthSecConfig(
                base_url=os.environ["AUTHSEC_BASE_URL"],
                client_id=os.environ["AUTHSEC_AGENT_CLIENT_ID"],
            )
        )

        def fetch_secure_data(customer_id: str) -> dict[str, Any]:
            jwt_token = authsec.get_delegation_token()
            resp = httpx.get(
                f"{os.environ['DOWNSTREAM_URL']}/customers/{customer_id}",
                headers={"Authorization": f"Bearer {jwt_token}"},
                timeout=5,
            )
            resp.raise_for_status()
            data: dict[str, Any] = resp.json()
            return data

        llm = model(call("fetch_secure_data", customer_id="42"), "Done.", "TERMINATE")
        assistant = autogen.AssistantAgent("assistant", llm_config=llm.llm_config)
        user_proxy = autogen.UserProxyAgent(
            "user_proxy",
            human_input_mode="NEVER",
            function_map={"fetch_secure_data": fetch_secure_data},
        )
        with authsec:
            converse(user_proxy, assistant, "Get data for customer 42.")
    assert ["42" in text for text in llm.tool_results] == [True]
    assert [token.scopes for token in seen] == [{"read:customers", "list:customers"}]  # no scope: all of the delegation


def test_our_function_fits_a_function_map(model: Any, agents: Any, converse: Callable[..., None]) -> None:
    """`fetch_secure_data` is a plain function, so that a `function_map` can hold it."""
    llm = model(call("fetch_secure_data", **METRICS), "TERMINATE")
    assistant = agents("assistant", llm)
    proxy = agents("proxy", function_map={"fetch_secure_data": fetch_secure_data})
    converse(proxy, assistant, "go")
    assert answers(llm)[0]["data"]["vault_status"] == "sealed"


def test_the_older_form_of_calls_works_too(model: Any, agents: Any, converse: Callable[..., None]) -> None:
    """Programs that still use `functions` and `function_call` are served and guarded the same way."""
    llm = model(call("fetch_secure_data", **METRICS), "TERMINATE")
    assistant, proxy = agents("assistant", llm), agents("proxy")
    assistant.register_for_llm(name="fetch_secure_data", description="Fetch.", api_style="function")(fetch_secure_data)
    proxy.register_for_execution(name="fetch_secure_data")(fetch_secure_data)
    converse(proxy, assistant, "go")
    assert "functions" in llm.requests[0]
    assert answers(llm)[0]["data"]["active_agents"] == 42


@pytest.mark.req("RD3")
@pytest.mark.parametrize("kind", [AuthSecClient, AsyncAuthSecClient])
def test_one_registration_runs_live_in_every_kind_of_chat(
    model: Any, agents: Any, converse: Callable[..., None], live: Any, authority: LocalAuthority, api: Any, kind: Any
) -> None:
    """Sync and async clients work in sync and async chats, over several calls, and hold a token between them."""
    agent = authority.register(["read:metrics", "read:records"])
    llm = model(
        call("fetch", **METRICS),
        [call("fetch", **METRICS), call("fetch", **RECORDS)],
        call("fetch", **RECORDS),
        "TERMINATE",
    )
    assistant, proxy = agents("assistant", llm), agents("proxy")
    register_secure_fetch(caller=assistant, executor=proxy, client=live(agent, kind), name="fetch")
    converse(proxy, assistant, "go")
    assert [answer["data"]["topic"] for answer in answers(llm)] == [
        {"active": 7, "from": "the API"},
        {"active": 7, "from": "the API"},
        ["rec-1", "rec-2"],
        ["rec-1", "rec-2"],
    ]
    assert [issued.scopes for issued in authority.issued] == [("read:metrics",), ("read:records",)]
    assert all(len(caller.scopes) == 1 for caller in api.callers)


def test_per_call_asks_for_a_token_each_time(
    model: Any, agents: Any, live: Any, authority: LocalAuthority, api: Any
) -> None:
    """With `per_call`, no token serves two calls."""
    llm = model(call("fetch", **METRICS), call("fetch", **METRICS), "TERMINATE")
    assistant, proxy = agents("assistant", llm), agents("proxy")
    client = live(authority.register(["read:metrics"]))
    register_secure_fetch(caller=assistant, executor=proxy, client=client, name="fetch", per_call=True)
    proxy.initiate_chat(assistant, message="go", silent=True)
    assert len(set(api.tokens)) == len(authority.issued) == 2


# Microsoft's 0.2 gives up on the coroutine that it could not run.
@pytest.mark.filterwarnings("ignore:coroutine 'ConversableAgent.a_execute_function' was never awaited:RuntimeWarning")
@pytest.mark.parametrize("kind", [AuthSecClient, AsyncAuthSecClient])
def test_a_sync_chat_inside_a_running_loop(model: Any, agents: Any, kind: Any) -> None:
    """A notebook has a loop running: the sync tool works there on every version, the async one from AG2 0.10 on."""
    llm = model(call("fetch", **METRICS), "TERMINATE")
    assistant, proxy = agents("assistant", llm), agents("proxy")
    register_secure_fetch(caller=assistant, executor=proxy, client=kind(AuthSecConfig(mode="mock")), name="fetch")

    async def notebook() -> None:
        proxy.initiate_chat(assistant, message="go", silent=True)

    if kind is AsyncAuthSecClient and not RUNS_IN_THREAD:
        with pytest.raises(RuntimeError, match="already running"):
            asyncio.run(notebook())
        gc.collect()  # the coroutine that could not be run
    else:
        asyncio.run(notebook())
        assert answers(llm)[0]["status"] == "success"


def test_the_model_is_offered_two_arguments_and_what_is_permitted(model: Any, agents: Any) -> None:
    """The schema has `endpoint` and `scope` and nothing else; the description lists endpoints with their scopes."""
    llm = model("TERMINATE")
    assistant, proxy = agents("assistant", llm), agents("proxy")
    config = AuthSecConfig(mode="mock", endpoint_scopes={"reports/latest": ("read:reports",)})
    name = register_secure_fetch(caller=assistant, executor=proxy, client=AuthSecClient(config))
    proxy.initiate_chat(assistant, message="go", silent=True)
    ((offered, tool),) = llm.offered_tools.items()
    assert offered == name == "fetch_secure_data_assistant"
    parameters = tool.parameters
    assert {key: value["type"] for key, value in parameters["properties"].items()} == {
        "endpoint": "string",
        "scope": "string",
    }
    assert parameters["required"] == ["endpoint", "scope"]
    assert "'reports/latest' with scope 'read:reports'" in tool.description


@pytest.mark.parametrize("asynchronous", [False, True])
def test_nothing_that_is_bound_reaches_the_schema(model: Any, agents: Any, shown: Any, asynchronous: bool) -> None:
    """The client is in a closure, where neither the schema nor the model can reach it, as a default would be."""
    from authsec_core.testing import assert_no_secret

    key = "agent-key.0123456789abcdef0123456789abcdef"
    kind = AsyncAuthSecClient if asynchronous else AuthSecClient
    settings: dict[str, Any] = {
        "base_url": "https://authority.invalid",
        "client_id": "7c9e6679-7425-40de-944b-e07fc1f90ae7",
    }
    client = kind(AuthSecConfig(**settings, agent_key=key, api_base_url="https://api.invalid"))
    tool: Any = make_secure_fetch(client)
    llm = model("TERMINATE")
    assistant, proxy = agents("assistant", llm), agents("proxy")
    autogen.register_function(tool, caller=assistant, executor=proxy, description=str(tool.__doc__))
    proxy.initiate_chat(assistant, message="go", silent=True)
    assert_no_secret([llm.transcript, repr(tool), repr(tool.__closure__), vars(tool), assistant.llm_config], key)
    assert set(llm.offered_tools["fetch_secure_data"].parameters["properties"]) == {"endpoint", "scope"}


def test_a_mistake_of_the_operator_is_told_and_can_be_mended(
    model: Any, agents: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The conversation survives bad settings; once they are mended, the next call works."""
    monkeypatch.setenv("AUTHSEC_BASE_URL", "https://authority.invalid")

    def mend(_body: object) -> Any:
        monkeypatch.delenv("AUTHSEC_BASE_URL")
        return call("fetch_secure_data", **METRICS)

    llm = model(call("fetch_secure_data", **METRICS), mend, "TERMINATE")
    assistant = agents("assistant", llm)
    proxy = agents("proxy", function_map={"fetch_secure_data": fetch_secure_data})
    proxy.initiate_chat(assistant, message="go", silent=True)
    first, second = answers(llm)
    assert (first["status"], first["code"], first["mode"]) == ("error", "configuration", "live")
    assert "AUTHSEC_AGENT_CLIENT_ID" in first["message"]
    assert second["status"] == "success"
