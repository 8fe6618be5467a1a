"""What could get out of the process through AutoGen: prompts, print, logs, its disk cache, code that a model writes."""

from __future__ import annotations

import json
import sqlite3
import warnings
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import autogen
import pytest

from authsec_autogen import AuthSecClient, AuthSecConfig, fetch_secure_data, register_secure_fetch
from authsec_autogen.classic import AuthSecAutoGenWarning
from authsec_core import AsyncAuthSecClient
from authsec_core.testing import LocalAuthority, assert_no_secret, call

METRICS = {"endpoint": "secure-vault/metrics", "scope": "read:metrics"}
RECORDS = {"endpoint": "secure-vault/records", "scope": "read:records"}
KEY = "agent-key-canary.0123456789abcdef0123456789abcdef"
CACHES_BY_DEFAULT = not hasattr(autogen, "LLMConfig")  # Microsoft's 0.2


@pytest.mark.req("RS8", "RD4")
@pytest.mark.parametrize("kind", [AuthSecClient, AsyncAuthSecClient])
def test_no_token_and_no_key_is_shown_to_anybody(
    model: Any,
    agents: Any,
    live: Any,
    converse: Any,
    authority: LocalAuthority,
    api: Any,
    shown: Callable[[], list[object]],
    tmp_path: Path,
    kind: Any,
) -> None:
    """Of a conversation with successes and failures: prompts, chat history, stdout, stderr and logs at DEBUG."""
    agent = authority.register(["read:metrics", "read:records"], agent_key=KEY)

    def revoke(_body: object) -> Any:
        authority.revoke_agent(agent.client_id)
        api.clock.advance(3.0)
        return call("fetch", **METRICS)

    llm = model(
        call("fetch", **METRICS),
        call("fetch", **RECORDS),
        call("fetch", **METRICS, token="give me the token"),
        call("fetch", endpoint="/../", scope="x"),
        call("not_a_tool", **METRICS),
        revoke,
        "TERMINATE",
    )
    assistant, proxy = agents("assistant", llm), agents("proxy")
    register_secure_fetch(caller=assistant, executor=proxy, client=live(agent, kind), name="fetch")
    converse(proxy, assistant, "go", silent=False)  # so that all of it is printed
    assert len(api.callers) >= 2
    assert len(llm.tool_results) == 6
    history = [dict(agent.chat_messages) for agent in (assistant, proxy)]
    assert_no_secret([llm.transcript, history, *shown()], KEY, *set(api.tokens))
    assert list(tmp_path.rglob("*")) == []  # cache_seed is None


def test_a_mock_token_is_not_shown_either(
    model: Any, agents: Any, converse: Any, shown: Callable[[], list[object]]
) -> None:
    """Nobody should get used to tokens in logs, even if these open nothing."""
    llm = model(call("fetch", **METRICS), "TERMINATE")
    assistant, proxy = agents("assistant", llm), agents("proxy")
    client = AuthSecClient(AuthSecConfig(mode="mock"))
    register_secure_fetch(caller=assistant, executor=proxy, client=client, name="fetch")
    converse(proxy, assistant, "go")
    held = client.get_delegation_token("read:metrics")
    assert_no_secret([llm.transcript, *shown()], held)


def test_autogens_cache_keeps_what_a_tool_returned(model: Any, agents: Any, tmp_path: Path) -> None:
    """The trap: without `cache_seed` 0.2 writes each prompt to disk; AG2 does so only when it is told a seed."""
    llm = model(call("fetch_secure_data", **METRICS), "TERMINATE")
    settings = {key: value for key, value in llm.llm_config.items() if key != "cache_seed"}
    assistant = agents("assistant", settings)
    proxy = agents("proxy", function_map={"fetch_secure_data": fetch_secure_data})
    proxy.initiate_chat(assistant, message="go", silent=True)
    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())
    assert (b"vault_status" in written) is CACHES_BY_DEFAULT


@pytest.mark.req("RS8")
@pytest.mark.skipif(not CACHES_BY_DEFAULT, reason="AG2's recorder fails on any model with an address of its own")
def test_autogens_recorder_gets_answers_and_no_tokens(
    model: Any, agents: Any, live: Any, authority: LocalAuthority, api: Any, tmp_path: Path
) -> None:
    """`runtime_logging` writes arguments and results of every tool to a database: data, but nothing that opens more."""
    from autogen import runtime_logging

    llm = model(call("fetch", **METRICS), "TERMINATE")
    runtime_logging.start(config={"dbname": str(tmp_path / "recorded.db")})
    try:
        assistant, proxy = agents("assistant", llm), agents("proxy")
        client = live(authority.register(["read:metrics"], agent_key=KEY))
        register_secure_fetch(caller=assistant, executor=proxy, client=client, name="fetch")
        proxy.initiate_chat(assistant, message="go", silent=True)
    finally:
        runtime_logging.stop()
    with closing(sqlite3.connect(tmp_path / "recorded.db")) as database:
        recorded = list(database.iterdump())
    assert any("the API" in line for line in recorded)
    assert_no_secret(recorded, KEY, *api.tokens)


@pytest.fixture
def register(agents: Any) -> Callable[..., list[str]]:
    """A function that registers a tool for agents with these settings, and returns what it was warned of."""
    numbers = iter(range(100))

    def make(settings: Any, **executor: Any) -> list[str]:
        assistant = agents(f"assistant{next(numbers)}", settings)
        proxy = agents("proxy", **executor)
        client = AuthSecClient(AuthSecConfig(mode="mock"))
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", AuthSecAutoGenWarning)
            register_secure_fetch(caller=assistant, executor=proxy, client=client)
        ours = [one for one in caught if one.category is AuthSecAutoGenWarning]
        assert {one.filename for one in ours} <= {__file__}  # it points at who registered
        return [str(one.message) for one in ours]

    return make


def settings(*, inner: dict[str, Any] | None = None, **outer: Any) -> dict[str, Any]:
    """Return an `llm_config` with these settings on the whole, and on its only entry."""
    entry = {"model": "gpt-4o", "api_key": "sk-stub", "base_url": "http://127.0.0.1:9/v1", "price": [0, 0]}
    return {"config_list": [{**entry, **(inner or {})}], **outer}


def test_it_warns_of_the_cache_where_there_is_one(register: Callable[..., list[str]]) -> None:
    """A seed that is left out counts where AutoGen makes one up, and only there."""
    assert len(register(settings())) == (1 if CACHES_BY_DEFAULT else 0)


def test_it_warns_of_a_seed_that_was_chosen_and_says_how_to_switch_it_off(register: Callable[..., list[str]]) -> None:
    """A chosen seed means a cache on every version."""
    (told,) = register(settings(cache_seed=7))
    assert '"cache_seed": None' in told
    assert ".cache" in told


def test_no_cache_no_warning(register: Callable[..., list[str]]) -> None:
    """With `cache_seed` None there is nothing to say."""
    assert register(settings(cache_seed=None)) == []


@pytest.mark.skipif(not CACHES_BY_DEFAULT, reason="AG2's entries take no seed of their own")
def test_the_seed_of_an_entry_wins(register: Callable[..., list[str]]) -> None:
    """As AutoGen reads it: what one entry says overrules the whole."""
    assert register(settings(cache_seed=7, inner={"cache_seed": None})) == []
    assert len(register(settings(cache_seed=None, inner={"cache_seed": 7}))) == 1


@pytest.mark.skipif(not hasattr(autogen, "LLMConfig"), reason="a class of AG2")
def test_ag2s_own_class_of_settings_is_understood(register: Callable[..., list[str]]) -> None:
    """AG2 programs give an `LLMConfig` in the place of a dict."""
    entry = settings()["config_list"][0]
    assert register(autogen.LLMConfig(entry)) == []
    assert len(register(autogen.LLMConfig(entry, cache_seed=7))) == 1


def test_it_warns_once(register: Callable[..., list[str]]) -> None:
    """Three agents with the same settings are one piece of advice."""
    assert [len(register(settings(cache_seed=7))) for _ in range(3)] == [1, 0, 0]


def test_where_warnings_are_errors_nothing_is_registered(agents: Any) -> None:
    """Who turns the warning into an error is asked again each time, and no half-registered tool is left behind."""
    assistant, proxy = agents("assistant", settings(cache_seed=7)), agents("proxy")
    client = AuthSecClient(AuthSecConfig(mode="mock"))
    for _ in range(2):
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            with pytest.raises(AuthSecAutoGenWarning):
                register_secure_fetch(caller=assistant, executor=proxy, client=client)
    assert not proxy.function_map
    assert not assistant.llm_config.get("tools")


def local_executor() -> dict[str, Any]:
    """Return the newer form of the setting that runs code on this machine."""
    from autogen.coding import LocalCommandLineCodeExecutor

    return {"executor": LocalCommandLineCodeExecutor(work_dir="coding")}


@pytest.mark.parametrize("config", [lambda: {"use_docker": False, "work_dir": "coding"}, local_executor])
def test_it_warns_where_code_can_read_the_key(
    register: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch, config: Callable[[], Any]
) -> None:
    """Code that a model writes has this process's environment; the message names the variable and the mend."""
    Path("coding").mkdir()
    quiet = settings(cache_seed=None)
    assert register(quiet, code_execution_config=config()) == []  # nothing to read
    monkeypatch.setenv("AUTHSEC_AGENT_KEY", KEY)
    assert register(quiet, code_execution_config=False) == []  # nothing that reads
    (told,) = register(quiet, code_execution_config=config())
    assert "AUTHSEC_AGENT_KEY" in told
    assert "code_execution_config=False" in told
    assert KEY not in told


def test_the_refusal_of_a_broken_tool_call_shows_no_more_than_the_call(model: Any, agents: Any) -> None:
    """AutoGen's own error texts repeat what the model sent, and nothing of ours."""
    client = AuthSecClient(AuthSecConfig(mode="mock"))
    llm = model(call("fetch", **METRICS, client="x"), call("fetch"), "TERMINATE")
    assistant, proxy = agents("assistant", llm), agents("proxy")
    register_secure_fetch(caller=assistant, executor=proxy, client=client, name="fetch")
    proxy.initiate_chat(assistant, message="go", silent=True)
    for text in llm.tool_results:
        assert text.startswith("Error: ") or json.loads(text)["status"] == "success"
        for internal in ("make_secure_fetch", "<locals>", "classic", "AuthSecClient", "Traceback"):
            assert internal not in text, text
