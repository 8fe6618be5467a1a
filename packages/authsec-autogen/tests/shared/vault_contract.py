"""What holds for the vault's tools in every framework of coroutines: each framework's tests inherit this.

They need a fixture `vault_tools`: the adapter's module, and a function that runs an agent with tools.
"""

from __future__ import annotations

import asyncio
import copy
import json
import pickle
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

import pytest
from vault_tools_support import CANARY, PUBLISHING, SEARCH, code, mock, reads, service, token

from authsec_core import AgentVault, MockVault
from authsec_core.testing import Call, LoopbackServer, Reply, ScriptedModel, assert_no_secret, call

__all__ = ["Adapter", "VaultTools", "mock", "service", "token", "vault"]

Start = Callable[..., ScriptedModel]


@dataclass(frozen=True)
class Adapter:
    """One framework: how its tools are made, and how an agent is run with them.

    Attributes:
        module: Has `make_secret_fetch` and `make_vault_tool`.
        ask: Runs an agent, and returns all that the framework remembers of the run.
    """

    module: Any
    ask: Callable[..., Coroutine[Any, Any, list[object]]]


@pytest.fixture
def vault(mock: MockVault) -> AgentVault:
    """A client of the vault that has the secrets."""
    return AgentVault()


class VaultTools:
    """Agents get secrets of the vault, or use them without seeing them."""

    def refused(self, text: str) -> bool:
        """Return whether this tells a model that its call did not work."""
        return bool(json.loads(text)["status"] == "error")

    @pytest.mark.req("RD4", "RS8")
    def test_a_secret_that_is_only_used_reaches_no_model(
        self, vault_tools: Adapter, model: Start, vault: AgentVault, mock: MockVault, service: Any, shown: Any
    ) -> None:
        """Prompts, what the framework remembers, prints and logs at DEBUG: none has it; the service did."""
        tool = vault_tools.module.make_secret_fetch(
            SEARCH, base_url=service.base_url, allowed_endpoints=["search"], vault=vault, agent_name="researcher"
        )
        llm = model(call(tool.name, endpoint="search?q=agents", reason="to search"), "Three findings.")
        remembered = asyncio.run(vault_tools.ask(llm, tool))
        (text,) = llm.tool_results
        assert json.loads(text)["data"]["found"] == 3
        assert [request.headers["authorization"] for request in service.requests] == [f"Bearer {CANARY}"]
        assert reads(mock) == [(SEARCH, "allow", {"agent_name": "researcher", "reason": "to search"})]
        forms = [repr(tool), vars(tool)]
        assert_no_secret([llm.transcript, *remembered, *shown(), *forms], *mock.secrets)

    def test_a_model_is_given_what_its_token_covers(
        self, vault_tools: Adapter, model: Start, vault: AgentVault, mock: MockVault, token: Any
    ) -> None:
        """The plain value, or an error as JSON; the vault knows for whom and what for, also where it refused."""
        tool = vault_tools.module.make_vault_tool(token("search"), agent_name="researcher", vault=vault)
        llm = model(
            call(tool.name, path=PUBLISHING, reason="curious"), call(tool.name, path=SEARCH, reason="a\r\nb"), "done"
        )
        asyncio.run(vault_tools.ask(llm, tool))
        denied, value = llm.tool_results
        assert (code(denied), value) == ("vault_scope_denied", CANARY)
        assert reads(mock) == [
            (PUBLISHING, "SCOPE_DENIED", {"agent_name": "researcher", "reason": "curious"}),
            (SEARCH, "allow", {"agent_name": "researcher", "reason": "a b"}),
        ]

    @pytest.mark.req("RD7")
    def test_tools_of_two_tokens_are_kept_apart(
        self, vault_tools: Adapter, model: Start, vault: AgentVault, token: Any
    ) -> None:
        """One agent may have both: each reads with its own token, and has a name of its own."""
        first, second = (
            vault_tools.module.make_vault_tool(token(area), vault=vault) for area in ("search", "publishing")
        )
        assert first.name != second.name
        wanted = {"path": SEARCH, "reason": "to see"}
        llm = model(call(first.name, **wanted), call(second.name, **wanted), "done")
        asyncio.run(vault_tools.ask(llm, first, second))
        value, denied = llm.tool_results
        assert (value, code(denied)) == (CANARY, "vault_scope_denied")

    @pytest.mark.req("RD1", "RD2", "RD5", "RD6")
    def test_a_hostile_model_reaches_nothing_else(
        self, vault_tools: Adapter, model: Start, vault: AgentVault, mock: MockVault, token: Any, service: Any
    ) -> None:
        """Other hosts, climbing paths, odd types, arguments that do not exist: no other secret, no other server."""
        make = vault_tools.module
        fetch = make.make_secret_fetch(SEARCH, base_url=service.base_url, allowed_endpoints=["search"], vault=vault)
        read = make.make_vault_tool(token("search"), vault=vault)
        with LoopbackServer(lambda _request: Reply.of_json({})) as evil:
            endpoints: list[object] = [evil.base_url, "search/../admin", "search\r\nX: 1", "", None, 7, ["search"]]
            paths: list[object] = [PUBLISHING, "production/search/../publishing/wordpress-key", None, 7, [SEARCH]]
            extra = {"endpoint": "other", "base_url": evil.base_url, "method": "DELETE", "reason": ""}
            more = {"path": PUBLISHING, "token": "vlt_x", "vault_token": None, "reason": ""}
            calls = [
                *(Call(fetch.name, {"endpoint": one, "reason": ""}) for one in endpoints),
                *(Call(read.name, {"path": one, "reason": ""}) for one in paths),
                *(Call(fetch.name, extra), Call(read.name, more), Call(fetch.name, {}), Call(read.name, {})),
            ]
            llm = model(calls, "done")
            asyncio.run(vault_tools.ask(llm, fetch, read))
            assert (evil.requests, service.requests) == ((), ())
        for one, text in zip(calls, llm.tool_results, strict=True):
            assert self.refused(text), one
        assert {path for path, decision, _ in reads(mock) if decision == "allow"} == set()
        assert_no_secret(llm.transcript, *mock.secrets)

    @pytest.mark.req("RD4")
    def test_failures_are_told_apart(
        self,
        vault_tools: Adapter,
        model: Start,
        vault: AgentVault,
        token: Any,
        service: Any,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """Used up, and a vault that is away: a code for each, and which of them may pass."""
        monkeypatch.delenv("AUTHSEC_MODE")
        make, nowhere = vault_tools.module, AgentVault("http://127.0.0.1:9", agent_key="key-of-the-agent", timeout=2.0)
        once = make.make_vault_tool(token("search", max_uses=1), vault=vault)
        away = make.make_secret_fetch(SEARCH, base_url=service.base_url, vault=nowhere)
        llm = model(
            call(once.name, path=SEARCH, reason="1"),
            call(once.name, path=SEARCH, reason="2"),
            call(away.name, endpoint="search", reason="3"),
            "done",
        )
        asyncio.run(vault_tools.ask(llm, once, away))
        value, exhausted, unavailable = llm.tool_results
        assert (value, code(exhausted), code(unavailable)) == (CANARY, "vault_token_exhausted", "vault_unavailable")
        assert [json.loads(text)["retryable"] for text in (exhausted, unavailable)] == [False, True]

    def test_what_cannot_work_is_refused_when_it_is_made(self, vault_tools: Adapter, vault: AgentVault) -> None:
        """A mistake of the programmer is found at start, not in a conversation."""
        make = vault_tools.module
        for none in (None, "", 7):
            with pytest.raises((TypeError, ValueError)):
                make.make_vault_tool(none, vault=vault)
        for wrong in ({"vault": "vault"}, {"name": "two words"}, {"agent_name": "a\nb"}):
            with pytest.raises((TypeError, ValueError)):
                make.make_vault_tool("vlt_x", **{"vault": vault, **wrong})
            with pytest.raises((TypeError, ValueError)):
                make.make_secret_fetch(SEARCH, base_url="https://a.example", **{"vault": vault, **wrong})

    @pytest.mark.req("RS8")
    def test_copies_are_the_same_and_pickles_are_none(
        self, vault_tools: Adapter, model: Start, vault: AgentVault, mock: MockVault, token: Any
    ) -> None:
        """Frameworks copy tools: a copy reads with the same token. A file would carry it away: there is none."""
        tool = copy.deepcopy(vault_tools.module.make_vault_tool(token("search"), vault=vault))
        llm = model(call(tool.name, path=SEARCH, reason="to search"), "done")
        asyncio.run(vault_tools.ask(llm, tool))
        assert llm.tool_results == [CANARY]
        with pytest.raises((TypeError, AttributeError, pickle.PicklingError)) as refused:
            pickle.dumps(tool)
        assert_no_secret(refused.value, *mock.secrets)
