"""The tool functions alone, as anyone can call them, without a framework."""

from __future__ import annotations

import asyncio
import inspect
import json
import multiprocessing
import os
import pickle
import sys
import threading
import types
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, cast

import pytest

from authsec_autogen import AuthSecClient, AuthSecConfig, _environment, classic, make_secure_fetch
from authsec_core import AsyncAuthSecClient, ConfigurationError
from authsec_core.testing import LocalAuthority, LoopbackServer, Reply, assert_no_secret

METRICS = ("secure-vault/metrics", "read:metrics")
LIVE: dict[str, Any] = {"base_url": "https://authority.invalid", "client_id": "7c9e6679-7425-40de-944b-e07fc1f90ae7"}
KEY = "agent-key.0123456789abcdef0123456789abcdef"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A process that has no client yet."""
    fresh = type(_environment.ENVIRONMENT)()
    monkeypatch.setattr(classic, "ENVIRONMENT", fresh)
    yield fresh
    if fresh._client is not None:
        fresh._client.close()


def fetch(endpoint: Any, scope: Any) -> dict[str, Any]:
    """Call the module's function and read its answer."""
    answer: dict[str, Any] = json.loads(classic.fetch_secure_data(endpoint, scope))
    return answer


def test_with_nothing_set_it_answers_with_marked_sample_data() -> None:
    """MOCK mode needs no settings, and says what it is."""
    answer = fetch(*METRICS)
    assert (answer["status"], answer["mode"]) == ("success", "mock")
    assert "sample" in answer["notice"]


def test_the_environment_makes_it_live(monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings in the environment are all that it takes."""
    with LocalAuthority() as authority, LoopbackServer(lambda _request: Reply.of_json([1])) as api:
        agent = authority.register(["read:metrics"], agent_key=KEY)
        for name, value in authority.environ(agent, api_base_url=api.base_url).items():
            monkeypatch.setenv(name, value)
        answer = fetch(*METRICS)
    assert (answer["mode"], answer["data"]) == ("live", [1])


@pytest.mark.req("RS1")
def test_settings_that_are_wrong_are_text_for_the_model_and_a_log_line(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Half a LIVE configuration is an error and no reason for sample data; once mended, the next call works."""
    monkeypatch.setenv("AUTHSEC_BASE_URL", LIVE["base_url"])
    answer = fetch(*METRICS)
    assert (answer["status"], answer["code"], answer["mode"]) == ("error", "configuration", "live")
    assert "AUTHSEC_AGENT_CLIENT_ID" in caplog.text
    monkeypatch.delenv("AUTHSEC_BASE_URL")
    assert fetch(*METRICS)["status"] == "success"


@pytest.mark.req("RD1")
@pytest.mark.parametrize(
    ("endpoint", "scope"), [(None, "read:metrics"), (7, "x"), ("secure-vault/metrics", None), ("https://evil/", "x")]
)
def test_whatever_the_arguments_are_it_answers_in_json(endpoint: Any, scope: Any) -> None:
    """Nothing is raised for what a model wrote."""
    assert fetch(endpoint, scope)["status"] == "error"


class _CountingLock:
    """A lock that says how many have come to it, whether or not it has let them in."""

    def __init__(self) -> None:
        self._lock, self.arrived = threading.Lock(), threading.Semaphore(0)

    def __enter__(self) -> None:
        self.arrived.release()
        self._lock.acquire()

    def __exit__(self, *_exc: object) -> None:
        self._lock.release()


def test_threads_that_come_at_once_share_one_client(environment: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first calls of a program may come together: one client is made, with one cache."""
    made: list[object] = []
    many = 8
    lock = environment._lock = _CountingLock()

    class Slow(AuthSecClient):
        def __init__(self, **settings: Any) -> None:
            for _ in range(many):  # until all the others wait
                assert lock.arrived.acquire(timeout=10)
            super().__init__(**settings)
            made.append(self)

    monkeypatch.setattr("authsec_core.AuthSecClient", Slow)
    with ThreadPoolExecutor(many) as pool:
        answers = [future.result() for future in [pool.submit(fetch, *METRICS) for _ in range(many)]]
    assert all(answer["status"] == "success" for answer in answers)
    assert len(made) == 1


def _fetch_in_child(answers: Any) -> None:
    answers.put(classic.fetch_secure_data(*METRICS))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="only where processes can fork")
# Python 3.12 warns of any fork beside threads; a fork at a bad moment is what this is about.
@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_a_child_does_not_wait_for_a_lock_of_its_parent(environment: Any) -> None:
    """Forked while a thread of the parent makes the client, the child makes one of its own."""
    context = multiprocessing.get_context("fork")
    answers = context.Queue()
    child = context.Process(target=_fetch_in_child, args=(answers,))
    with environment._lock:
        child.start()
    try:
        assert json.loads(answers.get(timeout=60))["status"] == "success"
    finally:
        child.join(10)
        if child.is_alive():
            child.kill()


def test_a_made_function_looks_like_one_that_a_person_wrote() -> None:
    """Name, annotations and docstring are what AutoGen and a reader see."""
    tool: Any = make_secure_fetch(AuthSecClient(AuthSecConfig(mode="mock")), name="fetch_metrics")
    assert isinstance(tool, types.FunctionType)
    assert tool.__name__ == "fetch_metrics"
    assert inspect.get_annotations(tool) == {"endpoint": str, "scope": str, "return": str}
    assert "'secure-vault/metrics' with scope 'read:metrics'" in str(tool.__doc__)
    assert all(one.default is inspect.Parameter.empty for one in inspect.signature(tool).parameters.values())


@pytest.mark.parametrize("made", [False, True])
def test_it_is_called_by_name_or_position(made: bool) -> None:
    """Frameworks pass arguments by name, people often by position."""
    function = make_secure_fetch() if made else classic.fetch_secure_data
    assert function(*METRICS) == function(endpoint=METRICS[0], scope=METRICS[1])


def test_an_async_client_makes_a_coroutine_function() -> None:
    """AutoGen looks at the kind of the function to know whether to await it."""
    tool = make_secure_fetch(AsyncAuthSecClient(AuthSecConfig(mode="mock")))
    assert inspect.iscoroutinefunction(tool)
    assert json.loads(asyncio.run(tool(*METRICS)))["status"] == "success"


def test_cancellation_passes_through() -> None:
    """A tool that swallowed it would keep a program from ending."""
    started = asyncio.Event()

    async def cancel() -> None:
        with LocalAuthority() as authority:
            authority.fail(delay=threading.Event())  # until the authority closes
            agent = authority.register(["read:metrics"])
            settings = AuthSecConfig(
                base_url=authority.base_url, client_id=agent.client_id, api_base_url="http://127.0.0.1:9"
            )
            async with AsyncAuthSecClient(settings) as client:
                task = asyncio.ensure_future(cast(Any, make_secure_fetch(client)(*METRICS)))
                await asyncio.to_thread(authority.wait_for_requests, 1)
                started.set()
                task.cancel()
                await task

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(cancel())
    assert started.is_set()


def test_functions_of_two_clients_are_two_identities() -> None:
    """Each is a new function over its own client; nothing is shared through the module."""
    permitted, other = (
        AuthSecClient(AuthSecConfig(mode="mock", mock_permissions=one)) for one in ("read:metrics", "x")
    )
    assert json.loads(make_secure_fetch(permitted)(*METRICS))["status"] == "success"
    assert json.loads(make_secure_fetch(other)(*METRICS))["code"] == "delegation_refused"


def test_without_a_client_it_is_the_environments(environment: Any) -> None:
    """The same client as `fetch_secure_data` uses, so that both share its tokens."""
    tool = make_secure_fetch()
    assert json.loads(tool(*METRICS))["status"] == "success"
    assert environment._client is environment.client()


def test_what_cannot_work_is_refused_when_it_is_made() -> None:
    """A mistake of the programmer or the operator is found at start, not in a conversation."""
    client = AuthSecClient(AuthSecConfig(mode="mock"))
    for name in ("", "two words", "fetch.data", "x" * 65, "größe", "fetch\n"):
        with pytest.raises(ValueError, match="letters, digits"):
            make_secure_fetch(client, name=name)
    with pytest.raises(TypeError, match="not AuthSecConfig"):
        make_secure_fetch(cast(Any, AuthSecConfig(mode="mock")))
    with pytest.raises(ConfigurationError, match="AUTHSEC_API_BASE_URL"):
        make_secure_fetch(AuthSecClient(AuthSecConfig(**LIVE)))


@pytest.mark.req("RS8")
@pytest.mark.parametrize("kind", [AuthSecClient, AsyncAuthSecClient])
def test_a_function_shows_nothing_of_its_client(kind: Callable[..., Any]) -> None:
    """Neither its looks nor the error for a wrong argument hold the key; and it does not pickle."""
    tool: Any = make_secure_fetch(kind(AuthSecConfig(**LIVE, agent_key=KEY, api_base_url="https://api.invalid")))
    with pytest.raises(TypeError) as refused:
        tool(*METRICS, client="mine")
    assert str(refused.value) == "fetch_secure_data() got an unexpected keyword argument 'client'"
    shown = [repr(tool), vars(tool), tool.__defaults__, tool.__kwdefaults__, tool.__closure__, inspect.signature(tool)]
    assert_no_secret([*shown, tool.__doc__, refused.value, [cell.cell_contents for cell in tool.__closure__]], KEY)
    with pytest.raises((pickle.PicklingError, AttributeError)):
        pickle.dumps(tool)


class _Agent:
    """As much of an agent as is looked at before the framework is needed."""

    name = "agent"
    llm_config = True


@pytest.mark.parametrize("module", [None, types.ModuleType("autogen")])
@pytest.mark.parametrize("python", [(3, 12), (3, 13)])
def test_a_framework_that_is_missing_or_another_is_one_clear_error(
    monkeypatch: pytest.MonkeyPatch, module: types.ModuleType | None, python: tuple[int, int]
) -> None:
    """Of pyautogen, 0.10 has no `autogen`; anyone can have a file of that name; and one extra is empty from 3.13 on."""
    monkeypatch.setitem(sys.modules, "autogen", module)
    monkeypatch.setattr("authsec_autogen._framework.sys.version_info", python)
    agent = cast(Any, _Agent())
    with pytest.raises(ConfigurationError) as refused:
        classic.register_secure_fetch(caller=agent, executor=agent)
    for needed in ("authsec-autogen[classic]", "authsec-autogen[ag2-legacy]", "dist/"):
        assert needed in refused.value.message
    assert ("is empty from Python 3.13 on" in refused.value.message) == (python == (3, 13))
