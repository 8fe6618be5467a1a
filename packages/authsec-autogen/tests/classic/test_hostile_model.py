"""What can a model that was talked into mischief do with the tool, through the real framework?

Nothing that was not permitted: whatever it sends, no token is minted for it and nobody is called.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from authsec_autogen import AuthSecClient, register_secure_fetch
from authsec_core import AsyncAuthSecClient
from authsec_core.testing import Call, LocalAuthority, LoopbackServer, Reply, call

METRICS = {"endpoint": "secure-vault/metrics", "scope": "read:metrics"}
PERMITTED = {"secure-vault/metrics": ("read:metrics",)}  # the delegation would give more
EVERYTHING = ["read:metrics", "read:records", "admin"]

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
    {"endpoint": ["secure-vault/metrics"], "scope": "read:metrics"},
    {"endpoint": {"path": "secure-vault/metrics"}, "scope": "read:metrics"},
    {"endpoint": 7, "scope": "read:metrics"},
    {"endpoint": "secure-vault/metrics", "scope": None},
    {"endpoint": "secure-vault/metrics", "scope": ["read:metrics", "admin"]},
    {"endpoint": "secure-vault/metrics"},
    {},
]
TEXTS = [
    '{"endpoint": ',
    "",
    # On these AutoGen alone breaks off the chat, or some of its versions do.
    "null",
    "7",
    "[]",
    '["secure-vault/metrics", "admin"]',
    '"line\nend"',
    '{"endpoint": 1' + "0" * 5000 + "}",
    '{"endpoint": ' + "[" * 100_000 + "}",
]


@pytest.fixture
def evil() -> Any:
    """A server that the operator never named; nobody must ever come."""
    with LoopbackServer(lambda _request: Reply.of_json({"pwned": True})) as server:
        yield server
        assert server.requests == ()


@pytest.mark.req("RD1", "RD6")
@pytest.mark.parametrize("kind", [AuthSecClient, AsyncAuthSecClient])
def test_nothing_outside_the_policy_causes_a_request(
    model: Any, agents: Any, live: Any, converse: Any, authority: LocalAuthority, api: Any, evil: Any, kind: Any
) -> None:
    """Wrong endpoints, scopes, types and texts, alone or all at once: an error for each, and no request to anybody."""
    host = evil.base_url.removeprefix("http://")
    wrong = [
        *(call("fetch", endpoint=one.format(evil=evil.base_url, host=host), scope="read:metrics") for one in ENDPOINTS),
        *(call("fetch", endpoint="secure-vault/metrics", scope=one) for one in SCOPES),
        *(Call("fetch", one) for one in TYPES),
    ]
    garbled = [Call("fetch", one) for one in TEXTS]
    llm = model(*wrong[:4], wrong[4:], *garbled, "TERMINATE")
    assistant, proxy = agents("assistant", llm), agents("proxy")
    client = live(authority.register(EVERYTHING), kind, endpoint_scopes=PERMITTED)
    register_secure_fetch(caller=assistant, executor=proxy, client=client, name="fetch")
    converse(proxy, assistant, "go")
    results = llm.tool_results
    for arguments, text in zip([*wrong, *garbled], results, strict=True):
        refused = text.startswith("Error: ") or json.loads(text)["status"] == "error"  # AutoGen's own, or ours
        assert refused, arguments
    assert (authority.requests, api.server.requests) == ((), ())


@pytest.mark.req("RD5", "RD6")
def test_arguments_that_do_not_exist_change_nothing(
    model: Any, agents: Any, live: Any, converse: Any, authority: LocalAuthority, api: Any, evil: Any
) -> None:
    """Method, headers, ttl, identity and address are not the model's: it gets an error, or what it would get anyway."""
    extras: list[dict[str, Any]] = [
        {"method": "DELETE"},
        {"headers": {"X-Admin": "1"}},
        {"ttl": 1_000_000},
        {"client_id": "00000000-0000-4000-8000-000000000001"},
        {"client": {"base_url": evil.base_url}},
        {"base_url": evil.base_url, "api_base_url": evil.base_url},
        {"per_call": True, "cache": False, "force_refresh": True},
        {"self": None, "recipient": None},
    ]
    llm = model([call("fetch", **METRICS, **extra) for extra in extras], call("fetch", **METRICS), "TERMINATE")
    assistant, proxy = agents("assistant", llm), agents("proxy")
    agent = authority.register(EVERYTHING, ttl=300)
    register_secure_fetch(caller=assistant, executor=proxy, client=live(agent), name="fetch")
    converse(proxy, assistant, "go")
    assert [(issued.client_id, issued.scopes, issued.ttl) for issued in authority.issued] == [
        (agent.client_id, ("read:metrics",), 300)
    ]
    assert {(request.method, request.path) for request in api.server.requests} == {("GET", "/secure-vault/metrics")}
    assert not any("x-admin" in request.headers for request in api.server.requests)


@pytest.mark.req("RD2", "RD6")
def test_a_redirect_leads_nowhere(
    model: Any, agents: Any, live: Any, converse: Any, authority: LocalAuthority, evil: Any
) -> None:
    """An API that was taken over cannot send the token on."""
    with LoopbackServer(lambda _request: Reply(status=307, headers={"Location": evil.base_url})) as moved:
        llm = model(call("fetch", **METRICS), "TERMINATE")
        assistant, proxy = agents("assistant", llm), agents("proxy")
        client = live(authority.register(EVERYTHING), api_base_url=moved.base_url)
        register_secure_fetch(caller=assistant, executor=proxy, client=client, name="fetch")
        converse(proxy, assistant, "go")
        assert len(moved.requests) == 1
    assert json.loads(llm.tool_results[0])["code"] == "downstream_error"


@pytest.mark.req("RD4")
@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (Reply.of_json(["x" * 100] * 1000), "downstream_error"),
        (Reply(status=500, body=b"Traceback (most recent call last): hunter2-canary"), "downstream_unavailable"),
        (Reply(status=403, body=b"hunter2-canary"), "downstream_denied"),
        (Reply(status=200, headers={"X-Canary": "hunter2-canary"}, body=b"fine"), 200),
    ],
)
def test_the_model_reads_bounded_data_and_no_error_bodies(
    model: Any, agents: Any, live: Callable[..., Any], authority: LocalAuthority, answer: Reply, code: object
) -> None:
    """Too much data is an error, a server's error text and headers stay outside the conversation."""
    with LoopbackServer(lambda _request: answer) as server:
        llm = model(call("fetch", **METRICS), "TERMINATE")
        assistant, proxy = agents("assistant", llm), agents("proxy")
        client = live(authority.register(EVERYTHING), api_base_url=server.base_url)
        register_secure_fetch(caller=assistant, executor=proxy, client=client, name="fetch")
        proxy.initiate_chat(assistant, message="go", silent=True)
    (result,) = llm.tool_results
    assert json.loads(result)["code"] == code
    assert len(result) <= 65536
    assert "hunter2-canary" not in llm.transcript
