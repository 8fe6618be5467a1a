"""Do agents get secrets of the vault, each its own and nothing else; and does one that is only used stay unseen?

Offline, with a vault in MOCK mode, which keeps to scopes and uses as a real one does. What the authority and its audit
make of the same conversations is shown in tests/examples.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import autogen
import httpx
import pytest
from vault_tools_support import CANARY, PUBLISHING, QUALITY, SEARCH, SECRETS, code, mock, service, token

from authsec_autogen import (
    make_vault_tool,
    register_secret_fetch,
    register_vault_tool,
)
from authsec_core import AgentVault, AgentVaultSync, MockVault
from authsec_core.testing import Call, LocalVault, LoopbackServer, Reply, assert_no_secret, call

__all__ = ["mock", "service", "token"]

CACHES_IN_FILES = not hasattr(autogen, "LLMConfig")  # Microsoft's 0.2
AREAS = {"researcher": "search", "writer": "publishing", "critic": "quality"}


@pytest.fixture(autouse=True)
def _secrets(mock: MockVault) -> None:
    """Let `AgentVault()` find them."""


@pytest.fixture(params=[AgentVaultSync, AgentVault])
def vault(request: pytest.FixtureRequest) -> Iterator[Any]:
    """A vault of the environment, for threads and for coroutines."""
    made = request.param()
    yield made
    if isinstance(made, AgentVaultSync):
        made.close()


class TestTheTrap:
    """What AutoGen makes of three functions called `get_secret` on one executor."""

    @pytest.mark.filterwarnings("ignore:.*is being overridden:UserWarning")
    def test_the_last_of_three_tools_of_one_name_serves_all_agents(
        self, model: Any, agents: Any, token: Any, converse: Any
    ) -> None:
        """The researcher is refused its own secret and is given the critic's: it reads with the critic's token."""
        llm = model(call("get_secret", path=SEARCH), call("get_secret", path=QUALITY), "TERMINATE")
        executor = agents("user_proxy")
        researcher, writer, critic = (agents(name, llm if name == "researcher" else model()) for name in AREAS)
        for agent in (researcher, writer, critic):
            autogen.register_function(
                make_vault_tool(vault_token=token(AREAS[agent.name]).value),
                caller=agent,
                executor=executor,
                name="get_secret",
                description="Retrieve a credential.",
            )
        converse(executor, researcher, "go")
        own, critics = llm.tool_results
        assert code(own) == "vault_scope_denied"
        assert critics == SECRETS[QUALITY]


class TestVaultTool:
    """`make_vault_tool` and `make_audited_vault_tool`."""

    def test_an_agent_reads_the_secret_that_its_token_covers(
        self, model: Any, agents: Any, token: Any, converse: Any
    ) -> None:
        """Registered as AutoGen has it, in sync and in async chats, the answer is the value itself."""
        llm = model(call("get_secret", path=SEARCH), call("get_secret", path=SEARCH), "TERMINATE")
        assistant, proxy = agents("assistant", llm), agents("proxy")
        autogen.register_function(
            make_vault_tool(vault_token=token("search").value),
            caller=assistant,
            executor=proxy,
            name="get_secret",
            description="Retrieve a credential.",
        )
        converse(proxy, assistant, "go")
        assert llm.tool_results == [CANARY, CANARY]


class TestRegistration:
    """`register_vault_tool`: three agents, three tokens, one executor."""

    @pytest.mark.req("RD6", "RD7")
    def test_each_agent_has_its_own_secrets_and_no_others(
        self, model: Any, agents: Any, token: Any, converse: Any
    ) -> None:
        """With its own tool it is denied what its token does not cover; another's tool does not run for it."""
        llm = model(
            call("get_secret_researcher", path=PUBLISHING, reason="curious"),
            call("get_secret_researcher", path=SEARCH, reason="to search"),
            call("get_secret_writer", path=PUBLISHING),
            "TERMINATE",
        )
        executor = agents("user_proxy")
        researcher, writer, critic = (agents(name, llm if name == "researcher" else model()) for name in AREAS)
        names = [
            register_vault_tool(caller=one, executor=executor, vault_token=token(AREAS[one.name]))
            for one in (researcher, writer, critic)
        ]
        assert names == ["get_secret_researcher", "get_secret_writer", "get_secret_critic"]
        converse(executor, researcher, "go")
        denied, value, refused = llm.tool_results
        assert (code(denied), value, code(refused)) == ("vault_scope_denied", CANARY, "tool_refused")
        assert SECRETS[PUBLISHING] not in llm.transcript

    @pytest.mark.req("RD7")
    def test_a_name_that_is_taken_is_refused(self, model: Any, agents: Any, token: Any) -> None:
        """Two tools of one name cannot come about, whichever of ours was there first."""
        first, second, executor = agents("first", model()), agents("second", model()), agents("executor")
        register_vault_tool(caller=first, executor=executor, vault_token=token("search"), name="get_secret")
        with pytest.raises(ValueError, match=r"already runs .*'get_secret_second'"):
            register_vault_tool(caller=second, executor=executor, vault_token=token("quality"), name="get_secret")
        with pytest.raises(ValueError, match="already runs"):
            register_secret_fetch(
                caller=second, executor=executor, path=SEARCH, base_url="http://127.0.0.1:9", name="get_secret"
            )

    def test_what_a_model_is_offered(self, model: Any, agents: Any, token: Any) -> None:
        """Path and reason, one of them required, both text; nothing that holds a token or could choose one."""
        llm = model("TERMINATE")
        researcher, executor = agents("researcher", llm), agents("executor")
        held = token("search")
        register_vault_tool(caller=researcher, executor=executor, vault_token=held)
        executor.initiate_chat(researcher, message="go", silent=True)
        ((name, offered),) = llm.offered_tools.items()
        assert name == "get_secret_researcher"
        assert offered.parameters["required"] == ["path"]
        assert {name: one["type"] for name, one in offered.parameters["properties"].items()} == {
            "path": "string",
            "reason": "string",
        }
        assert_no_secret(llm.transcript, held.value, *SECRETS.values())

    @pytest.mark.req("RD5", "RD6")
    def test_a_hostile_model_reads_nothing_else(self, model: Any, agents: Any, token: Any, converse: Any) -> None:
        """Paths that climb, other types, arguments that do not exist, broken JSON: an error for each, no secret."""
        name = "get_secret_researcher"
        paths = [
            "production/search/../publishing/wordpress-key",
            "production/search/%2e%2e/publishing/wordpress-key",
            "production%2fpublishing%2fwordpress-key",
            "Production/search/tavily-key",
            "production/search/tavily-key?version=1",
            "production/search/tavily-key\r\nX-Agent-Name: root",
            "https://127.0.0.1:9/production/search/tavily-key",
            "",
        ]
        odd: list[dict[str, Any]] = [{"path": 7}, {"path": None}, {"path": [SEARCH]}, {"path": {"a": 1}}, {}]
        extras: list[dict[str, Any]] = [
            {"path": PUBLISHING, "token": "vlt_x"},
            {"path": PUBLISHING, "vault_token": None, "agent_name": "writer"},
            {"path": PUBLISHING, "metadata": {"agent_name": "writer"}},
        ]
        texts = ['{"path": ', "", "null", "7", "[]", '{"path": ' + "[" * 100_000 + "}"]
        wrong: list[dict[str, Any] | str] = [*({"path": path} for path in paths), *odd, *extras, *texts]
        calls = [Call(name, one) for one in wrong]
        llm = model(*calls[:3], calls[3:16], *calls[16:], "TERMINATE")
        researcher, executor = agents("researcher", llm), agents("executor")
        register_vault_tool(caller=researcher, executor=executor, vault_token=token("search"))
        converse(executor, researcher, "go")
        for one, text in zip(calls, llm.tool_results, strict=True):
            assert text.startswith("Error: ") or json.loads(text)["status"] == "error", one
        assert_no_secret(llm.transcript, *SECRETS.values())

    @pytest.mark.req("RD6")
    def test_the_guard_names_the_arguments_of_the_tool(self, model: Any, agents: Any, token: Any) -> None:
        """Told what is wrong with its call, a model can mend it."""
        llm = model(Call("get_secret_researcher", "null"), Call("search", "null"), "TERMINATE")
        researcher, executor = agents("researcher", llm), agents("executor")
        register_vault_tool(caller=researcher, executor=executor, vault_token=token("search"))
        register_secret_fetch(
            caller=researcher, executor=executor, path=SEARCH, base_url="http://127.0.0.1:9", name="search"
        )
        executor.initiate_chat(researcher, message="go", silent=True)
        messages = [json.loads(text)["message"] for text in llm.tool_results]
        assert "with 'path' and 'reason'," in messages[0]
        assert "with 'endpoint' and 'reason'," in messages[1]

    def test_settings_that_cannot_work_are_told_at_once(
        self, model: Any, agents: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A missing vault, an unknown kind of vault or a token that is none: before anything is registered."""
        researcher, executor = agents("researcher", model()), agents("executor")
        for wrong in ({"vault_token": ""}, {"vault_token": 7}, {"vault_token": "vlt_x", "vault": "vault"}):
            with pytest.raises((TypeError, ValueError)):
                register_vault_tool(caller=researcher, executor=executor, **wrong)
        assert not executor.function_map


class TestLive:
    """The same over HTTP, on whatever loops AutoGen makes."""

    @pytest.mark.req("RS9", "RD7")
    def test_tools_let_go_of_their_loops_and_send_no_key(
        self, model: Any, agents: Any, converse: Any, monkeypatch: pytest.MonkeyPatch, service: LoopbackServer
    ) -> None:
        """AutoGen makes a loop for each call of a sync chat: no connection is left on one; the key goes nowhere."""
        with LocalVault(SECRETS) as live:
            monkeypatch.delenv("AUTHSEC_MODE")
            for name, value in live.environ().items():
                monkeypatch.setenv(name, value)
            with AgentVaultSync() as agent:
                token = agent.request_token(scope="secrets:read:production/search/*")
            llm = model(
                call("get_secret", path=SEARCH),
                [call("get_secret_researcher", path=SEARCH), call("search", endpoint="search")],
                call("get_secret", path=PUBLISHING),
                "TERMINATE",
            )
            researcher, executor = agents("researcher", llm), agents("executor")
            autogen.register_function(
                make_vault_tool(vault_token=token.value),
                caller=researcher,
                executor=executor,
                name="get_secret",
                description="Retrieve a credential.",
            )
            register_vault_tool(caller=researcher, executor=executor, vault_token=token)
            register_secret_fetch(
                caller=researcher,
                executor=executor,
                path=SEARCH,
                base_url=service.base_url,
                vault=AgentVault(),
                token=token,
                name="search",
            )
            converse(executor, researcher, "go")
            first, second, found, denied = llm.tool_results
            assert (first, second, code(denied)) == (CANARY, CANARY, "vault_scope_denied")
            assert json.loads(found)["data"]["found"] == 3
            shown = {one.headers["authorization"] for one in live.requests if one.path.startswith("/v1/secrets/")}
            assert shown == {f"Bearer {token.value}"}
            gc.collect()  # a connection that a dead loop left open warns here


class TestSecretFetch:
    """`make_secret_fetch` and `register_secret_fetch`: the secret is used, and no model sees it."""

    @pytest.mark.req("RD4", "RS8")
    def test_a_canary_reaches_no_model(
        self,
        model: Any,
        agents: Any,
        token: Any,
        converse: Any,
        service: LoopbackServer,
        shown: Callable[[], list[object]],
        tmp_path: Path,
        vault: Any,
    ) -> None:
        """Prompts, history, stdout, stderr, logs at DEBUG and files hold neither secret nor token; the service did."""
        held = token("search")
        llm = model(call("search", endpoint="search?query=agents"), call("search", endpoint="other"), "TERMINATE")
        researcher, executor = agents("researcher", llm), agents("executor")
        register_secret_fetch(
            caller=researcher,
            executor=executor,
            path=SEARCH,
            base_url=service.base_url,
            allowed_endpoints=["search"],
            token=held,
            vault=vault,
            name="search",
        )
        converse(executor, researcher, "go", silent=False)
        found, refused = llm.tool_results
        assert json.loads(found)["data"]["found"] == 3
        assert code(refused) == "endpoint_refused"
        (request,) = service.requests
        assert (request.path, request.headers["authorization"]) == ("/search", f"Bearer {CANARY}")
        history = [dict(agent.chat_messages) for agent in (researcher, executor)]
        assert_no_secret([llm.transcript, history, *shown()], *SECRETS.values(), held.value)
        assert list(tmp_path.rglob("*")) == []

    @pytest.mark.req("RD4", "RS8")
    @pytest.mark.parametrize("seed", [None, 7], ids=["no cache", "cache"])
    def test_a_function_of_ones_own_uses_a_secret_unseen(
        self,
        model: Any,
        agents: Any,
        service: LoopbackServer,
        shown: Callable[[], list[object]],
        tmp_path: Path,
        mock: MockVault,
        seed: int | None,
    ) -> None:
        """`vault.auth` puts it on the request: prompts, prints, logs and AutoGen's own cache have the answer alone."""
        llm = model(call("search", query="agents"), "TERMINATE")
        researcher = agents("researcher", {**llm.llm_config, "cache_seed": seed})
        executor = agents("executor")
        with AgentVaultSync() as vault, httpx.Client(auth=vault.auth(SEARCH)) as client:

            def search(query: str) -> str:
                found = client.get(f"{service.base_url}/search", params={"query": query}).json()["found"]
                return f"{found} findings"

            autogen.register_function(search, caller=researcher, executor=executor, description="Search.")
            executor.initiate_chat(researcher, message="go")
        assert llm.tool_results == ["3 findings"]
        written = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
        if seed is None or CACHES_IN_FILES:  # the others may write one, too, where a seed is named
            assert bool(written) is (seed is not None)
        history = [dict(agent.chat_messages) for agent in (researcher, executor)]
        assert_no_secret([llm.transcript, history, *written, *shown()], *mock.secrets)

    @pytest.mark.req("RD1", "RD2", "RD6")
    def test_the_secret_goes_nowhere_else(
        self, model: Any, agents: Any, token: Any, converse: Any, service: LoopbackServer
    ) -> None:
        """Other hosts, climbing paths, odd types and redirects: no other server hears of it."""
        with LoopbackServer(lambda _request: Reply.of_json({})) as evil:
            host = evil.base_url.removeprefix("http://")
            wrong = [
                evil.base_url,
                f"//{host}/search",
                f"https://user@{host}/",
                "search/../admin",
                "search\r\nX: 1",
                "",
            ]
            calls = [
                *(call("search", endpoint=one) for one in wrong),
                Call("search", {"endpoint": 7}),
                Call("search", {}),
            ]
            extra = call("search", endpoint="search", headers={"X-Evil": "1"}, base_url=evil.base_url, method="DELETE")
            llm = model(*calls[:2], [*calls[2:], extra], "TERMINATE")
            researcher, executor = agents("researcher", llm), agents("executor")
            register_secret_fetch(
                caller=researcher,
                executor=executor,
                path=SEARCH,
                base_url=service.base_url,
                allowed_endpoints=["search"],
                token=token("search"),
                name="search",
            )
            converse(executor, researcher, "go")
            assert evil.requests == ()
        assert len(llm.tool_results) == len(calls) + 1
        assert {(one.method, one.path) for one in service.requests} <= {("GET", "/search")}
        assert not any("x-evil" in one.headers for one in service.requests)
        assert_no_secret(llm.transcript, *SECRETS.values())
