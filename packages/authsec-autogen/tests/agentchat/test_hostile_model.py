"""What can a model that was talked into mischief do with the tool, through the real framework?

Nothing that was not permitted: whatever it sends, no token is minted for it and nobody is called.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from authsec_autogen.agentchat import make_secure_fetch
from authsec_core.testing import Call, LocalAuthority, LoopbackServer, Reply, assert_no_secret, call

METRICS = {"endpoint": "secure-vault/metrics", "scope": "read:metrics"}
PERMITTED = {"secure-vault/metrics": ("read:metrics",)}  # the delegation would give more
EVERYTHING = ["read:metrics", "read:records", "admin"]
TOOL = "fetch"
CANARY = "hunter2-canary-of-the-model"

ENDPOINTS = [
    "{evil}/secure-vault/metrics",
    "//{host}/secure-vault/metrics",
    "https://user@{host}/secure-vault/metrics",
    "secure-vault/records",
    "secure-vault/metrics/../records",
    "secure-vault/%2e%2e/secure-vault/records",
    "secure-vault%2frecords",
    "secure-vault\\records",
    "secure-vault/metrics\r\nHost: {host}",
    "secure-vault／records",
    "file:///etc/passwd",
    "",
]
SCOPES = ["admin", "read:records", "*", "", " ", "read:metrics\r\nadmin", "READ:METRICS"]
TYPES: list[dict[str, Any]] = [
    {"endpoint": None, "scope": "read:metrics"},
    {"endpoint": ["secure-vault/metrics", CANARY], "scope": "read:metrics"},
    {"endpoint": {"path": "secure-vault/metrics", CANARY: 1}, "scope": "read:metrics"},
    {"endpoint": 7, "scope": "read:metrics"},
    {"endpoint": "secure-vault/metrics", "scope": None},
    {"endpoint": "secure-vault/metrics", "scope": ["read:metrics", "admin", CANARY]},
    {"endpoint": "secure-vault/metrics"},
    {},
]
# Not a number of 5000 digits, nor brackets within brackets: from 0.6.4 on AgentChat hangs on those, before any tool.
TEXTS = ['{"endpoint": ', "", "null", "7", "[]", '["secure-vault/metrics", "admin"]', f'"{CANARY}"', '"line\nend"']


@pytest.fixture
def evil() -> Iterator[LoopbackServer]:
    """A server that the operator never named; nobody must ever come."""
    with LoopbackServer(lambda _request: Reply.of_json({"pwned": True})) as server:
        yield server
        assert server.requests == ()


@pytest.fixture
def play(model: Any, assistant: Any, finish: Any) -> Callable[..., Any]:
    """A function that lets a model make these calls, all at once, with a tool, and returns the model."""

    def make(tool: Any, *calls: Call) -> Any:
        llm = model(list(calls), "done")
        finish(assistant(llm, tool, reflect_on_tool_use=True).run(task="go"))
        return llm

    return make


@pytest.mark.req("RD1", "RD6")
def test_nothing_outside_the_policy_causes_a_request(
    play: Any, live: Any, authority: LocalAuthority, api: Any, evil: Any
) -> None:
    """Wrong endpoints, scopes, types and texts: an error for each, and no request to anybody."""
    host = evil.base_url.removeprefix("http://")
    wrong = [
        *(call(TOOL, endpoint=one.format(evil=evil.base_url, host=host), scope="read:metrics") for one in ENDPOINTS),
        *(call(TOOL, endpoint="secure-vault/metrics", scope=one) for one in SCOPES),
        *(Call(TOOL, one) for one in TYPES),
        *(Call(TOOL, one) for one in TEXTS),
    ]
    llm = play(make_secure_fetch(live(authority.register(EVERYTHING), endpoint_scopes=PERMITTED), name=TOOL), *wrong)
    assert len(llm.tool_results) == len(wrong)
    for text in llm.tool_results:
        refused = '"status": "error"' in text if text.startswith("{") else "error" in text.lower()
        assert refused, text
    assert (authority.requests, api.server.requests) == ((), ())


def test_the_text_for_arguments_of_a_wrong_type_does_not_repeat_them(
    play: Any, live: Any, authority: LocalAuthority, shown: Callable[[], list[object]]
) -> None:
    """The text says what is wrong, and neither the model's next prompt nor the tool's result quotes the input."""
    calls = [*(Call(TOOL, one) for one in TYPES), Call(TOOL, f'"{CANARY}"')]
    llm = play(make_secure_fetch(live(authority.register(EVERYTHING)), name=TOOL), *calls)
    assert "Input should be a valid string" in llm.tool_results[0]
    assert_no_secret(llm.tool_results, CANARY)


@pytest.mark.req("RD5")
def test_the_model_is_offered_two_texts_and_nothing_else(play: Any, live: Any, authority: LocalAuthority) -> None:
    """No default and no further parameter, through which a secret could leave or an identity be chosen."""
    key = "agent-key-canary.0123456789abcdef0123456789abcdef"
    llm = play(make_secure_fetch(live(authority.register(EVERYTHING, agent_key=key)), name=TOOL), call(TOOL, **METRICS))
    offered = llm.offered_tools[TOOL].parameters
    assert set(offered["properties"]) == {"endpoint", "scope"} == set(offered["required"])
    assert offered["additionalProperties"] is False
    for parameter in offered["properties"].values():
        assert (parameter["type"], "default" in parameter) == ("string", False)
        assert parameter["description"]
    assert_no_secret(llm.transcript, key)


@pytest.mark.req("RD5", "RD6")
def test_arguments_that_do_not_exist_change_nothing(
    play: Any, live: Any, authority: LocalAuthority, api: Any, evil: Any
) -> None:
    """Method, headers, ttl, identity and address are not the model's: AgentChat drops what the schema does not name."""
    extras: list[dict[str, Any]] = [
        {"method": "DELETE"},
        {"headers": {"X-Admin": "1"}},
        {"ttl": 1_000_000},
        {"client_id": "00000000-0000-4000-8000-000000000001"},
        {"client": {"base_url": evil.base_url}},
        {"base_url": evil.base_url, "api_base_url": evil.base_url},
        {"per_call": True, "cache": False, "force_refresh": True},
        {"self": None, "cancellation_token": None},
    ]
    agent = authority.register(EVERYTHING, ttl=300)
    llm = play(make_secure_fetch(live(agent), name=TOOL), *(call(TOOL, **METRICS, **extra) for extra in extras))
    assert [json.loads(text)["status"] for text in llm.tool_results] == ["success"] * len(extras)
    assert [(issued.client_id, issued.scopes, issued.ttl) for issued in authority.issued] == [
        (agent.client_id, ("read:metrics",), 300)
    ]
    assert {(request.method, request.path) for request in api.server.requests} == {("GET", "/secure-vault/metrics")}
    assert not any("x-admin" in request.headers for request in api.server.requests)


@pytest.mark.req("RD2", "RD6")
def test_a_redirect_leads_nowhere(play: Any, live: Any, authority: LocalAuthority, evil: Any) -> None:
    """An API that was taken over cannot send the token on."""
    with LoopbackServer(lambda _request: Reply(status=307, headers={"Location": evil.base_url})) as moved:
        client = live(authority.register(EVERYTHING), api_base_url=moved.base_url)
        llm = play(make_secure_fetch(client, name=TOOL), call(TOOL, **METRICS))
        assert len(moved.requests) == 1
    assert json.loads(llm.tool_results[0])["code"] == "downstream_error"


@pytest.mark.req("RD4")
@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (Reply.of_json(["x" * 100] * 1000), "downstream_error"),
        (Reply(status=500, body=CANARY.encode()), "downstream_unavailable"),
        (Reply(status=403, body=CANARY.encode()), "downstream_denied"),
        (Reply(status=200, headers={"X-Canary": CANARY}, body=b"fine"), 200),
    ],
)
def test_the_model_reads_bounded_data_and_no_error_bodies(
    play: Any, live: Any, authority: LocalAuthority, answer: Reply, code: object
) -> None:
    """Too much data is an error, a server's error text and headers stay outside the conversation."""
    with LoopbackServer(lambda _request: answer) as server:
        client = live(authority.register(EVERYTHING), api_base_url=server.base_url)
        llm = play(make_secure_fetch(client, name=TOOL), call(TOOL, **METRICS))
    (result,) = llm.tool_results
    assert json.loads(result)["code"] == code
    assert len(result) <= 65536
    assert CANARY not in llm.transcript
