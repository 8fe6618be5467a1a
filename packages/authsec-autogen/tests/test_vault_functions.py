"""The vault's functions as functions: what they look like, what they answer, and what they do not show.

No framework is needed here; with one, see `classic/test_vault`.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import threading
from typing import Any

import pytest
from vault_tools_support import CANARY, PUBLISHING, QUALITY, SEARCH, SECRETS, code, mock, service, token

from authsec_autogen import make_audited_vault_tool, make_secret_fetch, make_vault_tool
from authsec_core import AgentVault, ConfigurationError, MockVault
from authsec_core.testing import LoopbackServer, Reply, assert_no_secret

__all__ = ["mock", "service", "token"]


@pytest.fixture(autouse=True)
def _secrets(mock: MockVault) -> None:
    """Let `AgentVault()` find them."""


@pytest.mark.parametrize(
    ("tool", "parameters"),
    [
        (make_vault_tool("vlt_x"), {"path": inspect.Parameter.empty}),
        (make_audited_vault_tool("vlt_x", "researcher"), {"path": inspect.Parameter.empty, "reason": ""}),
    ],
    ids=["plain", "audited"],
)
def test_it_is_a_coroutine_function_of_plain_texts(tool: Any, parameters: dict[str, Any]) -> None:
    """Name, parameters and annotations are what any AutoGen can read, and no default holds anything."""
    assert (tool.__name__, inspect.iscoroutinefunction(tool)) == ("get_secret", True)
    found = inspect.signature(tool).parameters
    assert {name: one.default for name, one in found.items()} == parameters
    assert inspect.get_annotations(tool) == {**dict.fromkeys(parameters, str), "return": str}
    assert tool.__doc__


@pytest.mark.req("RS8")
def test_the_function_shows_nothing_of_its_token() -> None:
    """Neither its looks, nor what it closes over, nor the error for a wrong argument."""
    tool: Any = make_audited_vault_tool("vlt_canary0123456789abcdef", "researcher")
    with pytest.raises(TypeError) as refused:
        tool(path="a/b", token="mine")
    cells = [cell.cell_contents for cell in tool.__closure__]
    shown = [repr(tool), vars(tool), tool.__defaults__, tool.__kwdefaults__, tool.__doc__, cells, refused.value]
    assert_no_secret(shown, "vlt_canary0123456789abcdef")


@pytest.mark.req("RD4")
def test_failures_of_reading_are_told_apart_and_hold_nothing(token: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Denied, not there, used up, revoked, unavailable, misconfigured: a code of its own for each."""
    once = token("search", max_uses=1)

    def read(held: Any, path: str) -> str:
        tool: Any = make_vault_tool(held)
        return str(asyncio.run(tool(path)))

    assert read(once, SEARCH) == CANARY
    told = {
        "vault_token_exhausted": read(once, SEARCH),
        "vault_scope_denied": read(token("search"), PUBLISHING),
        "secret_not_found": read(token("search"), "production/search/nothing"),
        "vault_unauthorized": read("vlt_nobody", SEARCH),
    }
    monkeypatch.delenv("AUTHSEC_MODE")
    told["configuration"] = read("vlt_nobody", SEARCH)
    monkeypatch.setenv("AUTHSEC_VAULT_URL", "http://127.0.0.1:9")
    told["vault_unavailable"] = read("vlt_nobody", SEARCH)
    assert {name: code(text) for name, text in told.items()} == {name: name for name in told}
    assert [name for name, text in told.items() if json.loads(text)["retryable"]] == ["vault_unavailable"]
    assert_no_secret(list(told.values()), *SECRETS.values(), once.value, "vlt_nobody")


@pytest.mark.req("RD5", "RU3")
@pytest.mark.parametrize(
    "reason",
    ["a\r\nX-Agent-Name: root", "\x1b[2Jgone", '{"reason": 1}', "x" * 1_000_000, "größe", "", " ", "\ud800"],
)
def test_no_reason_is_in_the_way_of_a_read(token: Any, reason: str) -> None:
    """Whatever a model writes as its reason becomes one bounded line, and the secret is read."""
    tool = make_audited_vault_tool(token("search"), "researcher")
    assert asyncio.run(tool(SEARCH, reason)) == CANARY


def test_cancellation_passes_through(monkeypatch: pytest.MonkeyPatch) -> None:
    """A tool that swallowed it would keep a program from ending."""
    monkeypatch.delenv("AUTHSEC_MODE")
    asked, over = threading.Event(), threading.Event()

    def answer(_request: object) -> Reply:
        asked.set()
        over.wait(10)
        return Reply.of_json({})

    async def cancel(url: str) -> None:
        async with AgentVault(url, agent_key="key-of-the-agent") as vault:
            tool: Any = make_vault_tool("vlt_x", vault=vault)
            task = asyncio.ensure_future(tool(SEARCH))
            await asyncio.to_thread(asked.wait, 10)
            task.cancel()
            await task

    with LoopbackServer(answer) as server:
        with pytest.raises(asyncio.CancelledError):
            asyncio.run(cancel(server.base_url))
        over.set()


@pytest.mark.req("RD2")
def test_a_redirect_leads_nowhere(token: Any) -> None:
    """A service that was taken over cannot send the secret on."""
    with (
        LoopbackServer(lambda _request: Reply.of_json({})) as evil,
        LoopbackServer(lambda _request: Reply(status=307, headers={"Location": evil.base_url})) as moved,
    ):
        tool: Any = make_secret_fetch(SEARCH, base_url=moved.base_url, token=token("search"))
        assert code(tool("search")) == "downstream_error"
        assert (len(moved.requests), evil.requests) == (1, ())


@pytest.mark.req("RD4")
@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        (Reply.of_json(["x" * 100] * 1000), "downstream_error"),
        (Reply(status=500, body=b"Traceback: hunter2-canary"), "downstream_unavailable"),
        (Reply(status=403, body=b"hunter2-canary"), "downstream_denied"),
        (Reply(status=200, headers={"X-Canary": "hunter2-canary"}, body=b"fine"), 200),
    ],
)
def test_the_model_reads_bounded_data_and_no_error_bodies(token: Any, answer: Reply, outcome: object) -> None:
    """Too much data is an error; a server's error text and headers stay outside the conversation."""
    with LoopbackServer(lambda _request: answer) as server:
        tool: Any = make_secret_fetch(SEARCH, base_url=server.base_url, token=token("search"))
        text = tool("search")
    assert json.loads(text)["code"] == outcome
    assert len(text) <= 65536
    assert "hunter2-canary" not in text


def test_another_header_and_prefix(token: Any, service: LoopbackServer) -> None:
    """Services that want their key elsewhere get it there."""
    tool: Any = make_secret_fetch(
        SEARCH, base_url=service.base_url, header="X-Api-Key", prefix="", token=token("search"), name="search"
    )
    assert code(tool("search")) == "downstream_denied"  # this one wants it in Authorization
    assert service.requests[0].headers["x-api-key"] == CANARY
    assert "authorization" not in service.requests[0].headers


@pytest.mark.req("RD4")
def test_failures_of_fetching_are_told_apart(token: Any, service: LoopbackServer) -> None:
    """The vault's refusals and the service's own are different codes; none holds the secret."""
    told = {
        "vault_scope_denied": make_secret_fetch(PUBLISHING, base_url=service.base_url, token=token("search")),
        "secret_not_found": make_secret_fetch("production/search/no", base_url=service.base_url, token=token("search")),
        "vault_unauthorized": make_secret_fetch(SEARCH, base_url=service.base_url, token="vlt_nobody"),
        "downstream_denied": make_secret_fetch(QUALITY, base_url=service.base_url, token=token("quality")),
        "downstream_unavailable": make_secret_fetch(SEARCH, base_url="http://127.0.0.1:9", token=token("search")),
    }
    texts = {name: tool("search") for name, tool in told.items()}
    assert {name: code(str(text)) for name, text in texts.items()} == {name: name for name in told}
    assert_no_secret(list(texts.values()), *SECRETS.values())


def test_what_cannot_work_is_refused_when_it_is_made() -> None:
    """A mistake of the programmer is found at start, not in a conversation."""
    for wrong in (
        {"path": "production"},
        {"path": "production/../x"},
        {"base_url": "http://service.example"},
        {"base_url": "service"},
        {"header": "X Y"},
        {"prefix": "Bearer\r\n"},
        {"name": "two words"},
        {"allowed_endpoints": ["https://evil.example"]},
        {"vault": "vault"},
    ):
        given: dict[str, Any] = {"path": SEARCH, "base_url": "https://service.example", **wrong}
        with pytest.raises((TypeError, ValueError, ConfigurationError)):
            make_secret_fetch(given.pop("path"), **given)


def test_the_vault_decides_what_is_made(service: LoopbackServer, token: Any) -> None:
    """A function for the vault for threads, which is the default; a coroutine function for that of loops."""
    plain: Any = make_secret_fetch(SEARCH, base_url=service.base_url, token=token("search"))
    waiting: Any = make_secret_fetch(SEARCH, base_url=service.base_url, token=token("search"), vault=AgentVault())
    assert not inspect.iscoroutinefunction(plain)
    assert json.loads(plain("search"))["data"]["found"] == 3
    assert inspect.iscoroutinefunction(waiting)
    assert json.loads(asyncio.run(waiting("search")))["data"]["found"] == 3
    texts = {"endpoint": str, "reason": str, "return": str}
    assert inspect.get_annotations(plain) == inspect.get_annotations(waiting) == texts
