"""The pytest plugin, in a pytest of its own: the repository's own one may have loaded it or not."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., "subprocess.CompletedProcess[str]"]

SERVERS = """
import os
import urllib.error
import urllib.request

import pytest


def test_clock(authsec_clock):
    assert authsec_clock.wall() == authsec_clock.wall()


def test_authority_by_the_fake_clock(authsec_authority, authsec_clock):
    authsec_clock.advance(10_000)
    agent = authsec_authority.register(permissions=["a"])
    url = authsec_authority.base_url + "/authsec/uflow/sdk/delegation-token?client_id=" + agent.client_id
    urllib.request.urlopen(url).close()
    assert authsec_authority.issued[0].at == authsec_clock.wall()


def test_authority_by_the_system_clock(authsec_authority):
    assert authsec_authority.base_url.startswith("http://127.0.0.1:")


def test_models(scripted_model):
    first, second = scripted_model("one"), scripted_model("two", model="other")
    os.environ["MODEL_URL"] = first.base_url
    assert first.base_url != second.base_url
    assert (first.remaining, second.model) == (1, "other")


def test_models_are_closed():
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(os.environ["MODEL_URL"] + "/models")
"""

MOCK = """
import asyncio
import os
import sys
import types

import pytest

from authsec_core import AsyncAuthSecClient, AuthSecClient, AuthSecConfig, AuthSecError, MockAuthority


def report():
    with AuthSecClient() as client:
        return client.fetch("reports/q3", scope="read:reports").data


def test_registered_data_is_what_the_environments_client_finds(authsec_mock):
    authsec_mock.register("reports/q3", {"revenue": 12}, scope="read:reports")
    assert report() == {"revenue": 12}
    assert authsec_mock.answered == ("reports/q3",)
    assert [sorted(token.scopes) for token in authsec_mock.issued] == [["read:reports"]]


def test_nothing_of_another_test_is_left(authsec_mock):
    assert authsec_mock.issued == authsec_mock.answered == ()
    with pytest.raises(AuthSecError) as refused:
        report()
    assert refused.value.code == "endpoint_refused"


def test_a_denial_can_be_played(authsec_mock):
    authsec_mock.register("reports/q3", {"revenue": 12}, scope="read:reports")
    authsec_mock.permit("read:metrics")
    with pytest.raises(AuthSecError) as refused:
        report()
    assert refused.value.code == "delegation_refused"
    assert authsec_mock.issued == ()


def test_of_the_settings_only_the_mode_is_left(authsec_mock):
    assert {name: value for name, value in os.environ.items() if name.startswith(("AUTHSEC_", "authsec_"))} == {
        "AUTHSEC_MODE": "mock"
    }
    assert "DOWNSTREAM_URL" not in os.environ


def test_the_settings_come_back():
    assert os.environ["AUTHSEC_BASE_URL"] == "https://authority.invalid"
    assert os.environ["DOWNSTREAM_URL"] == "https://api.invalid"
    assert "AUTHSEC_MODE" not in os.environ


def test_code_that_names_an_authority_is_in_mock_mode_too(authsec_mock):
    client = AuthSecClient(base_url="https://a.invalid", client_id="7b1c3f5e-2a4d-4c6b-8e9f-0a1b2c3d4e5f")
    assert client.fetch("secure-vault/metrics").mode == "mock"
    assert authsec_mock.issued[0].client_id == "7b1c3f5e-2a4d-4c6b-8e9f-0a1b2c3d4e5f"


def test_a_client_with_a_mock_of_its_own_keeps_it(authsec_mock):
    own = MockAuthority()
    own.register("own", 1, scope="s")
    assert AuthSecClient(mock=own).fetch("own", scope="s").data == 1
    assert authsec_mock.issued == ()


def test_permissions_elsewhere_are_refused(authsec_mock):
    with pytest.raises(AuthSecError, match="tell MockAuthority instead"):
        AuthSecClient(AuthSecConfig(mock_permissions="a"))


def test_coroutines(authsec_mock):
    async def fetch():
        async with AsyncAuthSecClient() as client:
            return await client.fetch("secure-vault/metrics", scope="read:metrics")

    assert asyncio.run(fetch()).data["active_agents"] == 42
    assert authsec_mock.answered == ("secure-vault/metrics",)


@pytest.mark.parametrize("kind", [AuthSecClient, AsyncAuthSecClient])
def test_everything_goes_by_the_fake_clock(authsec_mock, authsec_clock, kind):
    def token():
        token = client.delegation_token("s")
        return asyncio.run(token) if asyncio.iscoroutine(token) else token

    client = kind()
    first = token()
    assert first.issued_at == authsec_clock.wall()
    authsec_clock.advance(1700)
    assert token() is first
    authsec_clock.advance(100)
    assert token() is not first


def test_and_by_the_systems_afterwards(authsec_mock, monkeypatch):
    client = AuthSecClient()
    assert client.delegation_token("s") is client.delegation_token("s")
    assert abs(client.delegation_token("s").issued_at - __import__("time").time()) < 60


# The adapter, played: it keeps a client for the process, and may be imported while a test runs.


class Keeper:
    def __init__(self):
        self.kept = None

    def client(self):
        self.kept = self.kept or AuthSecClient()
        return self.kept


def adapter():
    module = types.ModuleType("authsec_autogen._environment")
    module.ENVIRONMENT = Keeper()
    module.VAULT_ENVIRONMENT = Keeper()
    return module


def test_an_adapter_that_is_loaded_meanwhile_has_no_client_afterwards(request, monkeypatch):
    module = adapter()
    request.getfixturevalue("authsec_mock")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    client = module.ENVIRONMENT.client()
    assert client.fetch("secure-vault/metrics").data
    module.VAULT_ENVIRONMENT.client()
    KEPT.append((module, client))


KEPT = []


def test_that_client_was_closed_and_let_go():
    [(module, client)] = KEPT
    assert module.ENVIRONMENT.kept is module.VAULT_ENVIRONMENT.kept is None
    with pytest.raises(RuntimeError, match="closed"):
        client.fetch("secure-vault/metrics")


@pytest.fixture
def loaded(monkeypatch):
    module = adapter()
    monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setenv("AUTHSEC_AGENT_CLIENT_ID", "7b1c3f5e-2a4d-4c6b-8e9f-0a1b2c3d4e5f")
    before = module.ENVIRONMENT.client()
    yield module.ENVIRONMENT
    assert module.ENVIRONMENT.client() is before


@pytest.mark.parametrize("fixture", ["authsec_mock", "authsec_authority"])
def test_the_process_client_of_before_comes_back(loaded, fixture, request):
    before = loaded.client()
    request.getfixturevalue(fixture)
    assert loaded.client() is not before
    assert loaded.client() is loaded.client()
"""

LEAKS = """
import logging
import os

import pytest

from authsec_core import AuthSecClient

log = logging.getLogger("my.agent")


def token():
    with AuthSecClient() as client:
        return client.get_delegation_token("read:metrics")


def test_clean(authsec_mock, authsec_no_leaks, scripted_model):
    scripted_model("hello")
    token()
    print("nothing to see")


def test_clean_beside_capsys(authsec_mock, authsec_no_leaks, capsys):
    token()
    print("read by the test")
    assert capsys.readouterr().out == "read by the test\\n"


def test_clean_and_live(authsec_authority, authsec_no_leaks):
    agent = authsec_authority.register("a", agent_key="a-key-0123456789")
    with AuthSecClient(base_url=authsec_authority.base_url, client_id=agent.client_id, agent_key=agent.agent_key) as c:
        c.get_delegation_token()


def test_leak_printed(authsec_mock, authsec_no_leaks):
    print("token:", token())


def test_leak_printed_and_read(authsec_mock, authsec_no_leaks, capsys):
    print("token:", token())
    capsys.readouterr()


def test_leak_printed_by_another_program(authsec_mock, authsec_no_leaks):
    os.write(2, token().encode())


def test_leak_printed_beside_bytes(capsysbinary, authsec_mock, authsec_no_leaks):
    print(token())


def test_leak_logged(authsec_mock, authsec_no_leaks):
    log.debug("got %s", token())


def test_leak_logged_in_part(authsec_no_leaks, authsec_mock):
    log.info("Authorization: Bearer %s...", token()[:30])


def test_leak_raised(authsec_mock, authsec_no_leaks):
    try:
        raise RuntimeError(token())
    except RuntimeError:
        log.exception("failed")


def test_leak_sent(authsec_mock, authsec_no_leaks, scripted_model):
    import urllib.request

    data = b'{"messages": [{"role": "user", "content": "%s"}]}' % token().encode()
    request = urllib.request.Request(scripted_model("thanks").base_url + "/chat/completions", data)
    urllib.request.urlopen(request).close()


def test_leak_included(authsec_mock, authsec_no_leaks):
    transcript = []
    authsec_no_leaks.include(transcript)
    transcript.append({"answer": token()})


def test_leak_watched(authsec_no_leaks):
    authsec_no_leaks.watch("my-own-api-key")
    print("my-own-api-key")


def test_leak_of_the_key(authsec_no_leaks, monkeypatch):
    monkeypatch.setenv("AUTHSEC_AGENT_KEY", "a-key-0123456789")
    print("a-key-0123456789")


def test_leak_live(authsec_authority, authsec_no_leaks):
    agent = authsec_authority.register("a")
    with AuthSecClient(base_url=authsec_authority.base_url, client_id=agent.client_id) as client:
        print(client.get_delegation_token())


def test_leak_of_an_agents_key(authsec_authority, authsec_no_leaks):
    print(authsec_authority.register("a", agent_key="a-key-0123456789").agent_key)


def test_nothing_to_look_for(authsec_mock, authsec_no_leaks):
    pass


def test_failing(authsec_mock, authsec_no_leaks):
    print("what a person", "wants to read")
    assert False, "its own reason"


def test_the_logging_is_as_before():
    assert not log.isEnabledFor(logging.DEBUG)
    assert [handler for handler in logging.getLogger().handlers if "authsec" in type(handler).__module__] == []
"""

ASYNC = """
import pytest

from authsec_core import AsyncAuthSecClient

pytestmark = MARK


async def test_mock(authsec_mock, authsec_no_leaks):
    authsec_mock.register("reports/q3", [1], scope="read:reports")
    async with AsyncAuthSecClient() as client:
        assert (await client.fetch("reports/q3", scope="read:reports")).data == [1]


async def test_live(authsec_authority, scripted_model):
    agent = authsec_authority.register("a")
    async with AsyncAuthSecClient(base_url=authsec_authority.base_url, client_id=agent.client_id) as client:
        assert (await client.delegation_token()).scopes == {"a"}


async def test_leak(authsec_mock, authsec_no_leaks):
    async with AsyncAuthSecClient() as client:
        print(await client.get_delegation_token("a"))
"""

INCOMPLETE = """
from authsec_core.testing import AsyncTokenSourceContract, TokenCacheContract, TokenSourceContract


class TestSource(TokenSourceContract): ...
class TestAsyncSource(AsyncTokenSourceContract): ...
class TestCache(TokenCacheContract): ...
"""


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Return a function that runs a module of tests with no plugin but ours and those that are named."""

    def pytest_on(program: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / "test_program.py").write_text(program)
        # Without autoload, because a module named twice (here and by the installed entry point) is an error of pytest.
        variables = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "NO_PROXY": "*", **environment}
        plugins = ["-p", "authsec_core.testing.plugin", "-p", "no:cacheprovider"]
        command = [sys.executable, "-m", "pytest", "-q", "-W", "error", *plugins, *arguments, str(tmp_path)]
        return subprocess.run(command, cwd=tmp_path, env=variables, capture_output=True, text=True, check=False)

    return pytest_on


def test_clock_authority_and_models(run: Run) -> None:
    """They come up and go down; the authority goes by the clock where both are asked for."""
    done = run(SERVERS)
    assert "5 passed" in done.stdout, done.stdout + done.stderr


def test_mock_mode_is_the_tests_own(run: Run) -> None:
    """Clients made with nothing set belong to the test's authority; settings and process come back as they were."""
    settings = {
        "AUTHSEC_BASE_URL": "https://authority.invalid",
        "DOWNSTREAM_URL": "https://api.invalid",
        "authsec_timeout": "5",
    }
    done = run(MOCK, **settings)
    assert "16 passed" in done.stdout, done.stdout + done.stderr
    assert done.returncode == 0, done.stdout


@pytest.mark.req("RS8")
@pytest.mark.parametrize("capture", ["fd", "no"])
def test_the_scan_finds_what_got_out(run: Run, capture: str) -> None:
    """It fails the tests that leak, by where, and no others; and a test in which nothing could be found."""
    done = run(LEAKS, f"--capture={capture}", "-rE", COLUMNS="500")
    errors = dict(re.findall(r"^ERROR \S+::(\w+) - (.*)$", done.stdout, re.MULTILINE))
    leaks = {line[4:].partition("(")[0] for line in LEAKS.splitlines() if line.startswith("def test_leak_")}
    assert set(errors) == {*leaks, "test_nothing_to_look_for"}, done.stdout
    assert "so there was nothing to look for" in errors.pop("test_nothing_to_look_for")
    places = {name: re.findall(r"\) is shown in material\['(.*?)'\]", message) for name, message in errors.items()}
    assert places == {name: [_place(name)] for name in leaks}
    assert "1 failed" in done.stdout
    assert "its own reason" in done.stdout
    assert "what a person wants to read" in done.stdout


def _place(test: str) -> str:
    elsewhere = {"logged": "logged", "raised": "logged", "sent": "sent to models", "included": "included"}
    return elsewhere.get(test.split("_")[2], "printed")


def test_a_contract_that_was_not_told_what_to_test_says_so(run: Run) -> None:
    """Who forgets the fixture is told of it."""
    done = run(INCOMPLETE, "-x", "--maxfail=100")
    assert "passed" not in done.stdout
    assert "define a fixture `source` in the class that inherits the contract" in done.stdout
    assert "define a fixture `cache` in the class that inherits the contract" in done.stdout


def test_coroutines_can_use_the_fixtures(run: Run) -> None:
    """With a plugin that runs them: here anyio's, which httpx brings."""
    mark = "[pytest.mark.anyio, pytest.mark.parametrize('anyio_backend', ['asyncio'])]"
    done = run(ASYNC.replace("MARK", mark), "-p", "anyio.pytest_plugin")
    assert "3 passed, 1 error" in done.stdout, done.stdout + done.stderr


def test_workers_do_not_meet(run: Run) -> None:
    """With pytest-xdist the tests of one module run beside each other in several processes."""
    done = run(SERVERS.partition("def test_models")[0], "-p", "xdist", "-n", "2")
    assert "3 passed" in done.stdout, done.stdout + done.stderr
