"""RS8, for the vault: whatever is logged, printed, raised, reported or pickled, no secret, token or key is in it."""

from __future__ import annotations

import asyncio
import copy
import json
import logging
import pickle
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from canary_support import Log, pickled, reported
from core_support import Driver
from vault_support import PATH

from authsec_core import (
    AgentVault,
    AgentVaultSync,
    AuthSecError,
    ConfigurationError,
    MockVault,
    SecretUse,
    VaultConfig,
    VaultError,
)
from authsec_core.testing import LoopbackServer, Raw, Reply, Request, assert_no_secret

KEY = "agk_0123456789abcdef.q2w3e4r5t6y7u8i9o0p1a2s3d4f5g6h7"
TOKEN = "vlt_fedcba9876543210.p0o9i8u7y6t5r4e3w2q1l2k3j4h5g6f7"
VALUE = "sk-live-7f3a9c1e5b2d8a4f6c0e"
WRITTEN = "sk-new-0c1d2e3f4a5b6c7d8e9f0a1b"
SECRETS = (KEY, TOKEN, VALUE, WRITTEN)
pytestmark = pytest.mark.req("RS8")


@pytest.fixture
def log() -> Iterator[Log]:
    """Everything at DEBUG: ours, httpx's, httpcore's and asyncio's."""
    handler, root = Log(), logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel(1)
    yield handler
    root.removeHandler(handler)
    root.setLevel(level)


class Place:
    """A vault on this machine that answers what the test says."""

    def __init__(self) -> None:
        self.answer: Callable[[Request], Reply | Raw] = lambda _: Reply()
        self.server = LoopbackServer(lambda request: self.answer(request))

    def vault(self, driver: Driver, **given: Any) -> Any:
        """Return a client of it."""
        return driver.vault(self.server.base_url, agent_key=KEY, **given)


@pytest.fixture
def place() -> Iterator[Place]:
    """The vault."""
    there = Place()
    with there.server:
        yield there


def scan(error: BaseException) -> None:
    """Fail where a report of the error would show a canary."""
    for where, material in reported(error):
        try:
            assert_no_secret(material, *SECRETS)
        except AssertionError as found:
            pytest.fail(f"{where}: {found}")


def calls(vault: Any) -> dict[str, Callable[[], Any]]:
    """Return all that can be asked, each with a canary in it."""
    return {
        "read": lambda: vault.get_secret(PATH),
        "read with a token": lambda: vault.get_secret(PATH, token=TOKEN),
        "write": lambda: vault.set_secret(PATH, WRITTEN, token=TOKEN),
        "rotate": lambda: vault.rotate_secret(PATH, WRITTEN),
        "import": lambda: vault.import_env("a", f"KEY={WRITTEN}"),
        "list": lambda: vault.list_secrets(token=TOKEN),
        "delete": lambda: vault.delete_secret(PATH, token=TOKEN),
        "ask for a token": lambda: vault.request_token("secrets:read:production/*"),
        "revoke": lambda: vault.revoke_token("fedcba9876543210"),
        "fetch": lambda: vault.fetch("x", SecretUse.of(PATH, "https://127.0.0.1:9", token=TOKEN)),
    }


def wrong_answers() -> dict[str, Reply | Raw]:
    """Return ways for the vault to answer wrongly, each with the canaries in it."""
    told = f"{KEY} {TOKEN} {VALUE} {WRITTEN}"
    good: dict[str, Any] = {"namespace": "production/openai", "key": "api-key", "version": 1, "value": VALUE}
    bodies: dict[str, object] = {
        "another secret": good | {"key": VALUE},
        "no version": good | {"version": told},
        "strange metadata": good | {"metadata": told},
        "a strange type": good | {"secret_type": told + "\n"},
        "a strange time": good | {"created_at": told},
        "a token that ended": {"token": TOKEN, "token_id": "1", "scopes": [told], "expires_at": 1},
        "a token with no name": {
            "token": TOKEN,
            "token_id": None,
            "scopes": ["secrets:read:production/*"],
            "expires_at": 9e9,
        },
        "strange items": {"items": [told], "imported": [told + "\n"]},
        "a list": [told],
    }
    refusals = (400, 401, 403, 404, 409, 410, 429, 500, 302, 418)
    return {
        **{name: Reply.of_json(body) for name, body in bodies.items()},
        **{
            f"status {status}": Reply.of_json({"error": {"code": told, "message": told}}, status=status)
            for status in refusals
        },
        "no JSON": Reply(body=told.encode()),
        "half a JSON": Reply(body=json.dumps(good).encode()[:-9]),
        "cut": Reply(body=json.dumps(good).encode(), cut_after=30),
        "too much": Reply(body=json.dumps(good | {"more": told * 2000}).encode()),
        "packed": Reply(body=told.encode(), headers={"Content-Encoding": "gzip"}),
        "nothing": Raw(),
        "no HTTP": Raw(data=f"{told}\r\n\r\n".encode()),
    }


@pytest.mark.parametrize("what", wrong_answers())
def test_no_wrong_answer_shows_a_secret(driver: Driver, place: Place, log: Log, what: str) -> None:
    """In no traceback, in no local of a frame below the caller's, in no log of ours; whatever was asked."""
    place.answer = lambda _: wrong_answers()[what]
    vault = place.vault(driver)
    raised = 0
    for name, call in calls(vault).items():
        try:
            answer = driver.run(call())
        except AuthSecError as error:
            scan(error)
            raised += 1
        else:
            assert name in {"list", "delete", "revoke", "write", "import", "rotate", "read", "read with a token"}
            assert_no_secret([answer, repr(answer), str(answer)], *SECRETS)
    assert raised >= 2
    assert_no_secret(log.text(without="httpcore"), *SECRETS)


def test_no_connection_shows_a_secret(driver: Driver, place: Place, log: Log) -> None:
    """Refused, not TLS, too slow."""
    slow = threading.Event()
    place.answer = lambda _: Reply(delay=slow)
    url = place.server.base_url
    targets: list[tuple[str, dict[str, Any]]] = [
        (url.replace("http:", "https:"), {}),
        (url, {"timeout": 0.05}),
        ("http://127.0.0.1:1", {"timeout": 0.5}),
    ]
    for target, more in targets:
        vault = driver.vault(target, agent_key=KEY, **more)
        for call in calls(vault).values():
            with pytest.raises(VaultError) as caught:
                driver.run(call())
            scan(caught.value)
    slow.set()
    assert_no_secret(log.text(), *SECRETS)


@pytest.mark.parametrize(
    "call",
    [
        lambda vault: vault.get_secret("no-path", token=TOKEN),
        lambda vault: vault.get_secret(PATH, token=f"{TOKEN} {TOKEN}"),
        lambda vault: vault.get_secret(PATH, token=TOKEN, metadata={"reason": "\n"}),
        lambda vault: vault.set_secret("no-path", WRITTEN),
        lambda vault: vault.set_secret(PATH, WRITTEN, token=TOKEN + "\n"),
        lambda vault: vault.set_secret(PATH, WRITTEN * 9000),
        lambda vault: vault.set_secret(PATH, WRITTEN + "\ud800"),
        lambda vault: vault.set_secret(PATH, WRITTEN, metadata={"a": object()}),
        lambda vault: vault.set_secret(PATH, WRITTEN, secret_type=object()),
        lambda vault: vault.set_secret(PATH, WRITTEN.encode()),
        lambda vault: vault.rotate_secret("no-path", WRITTEN),
        lambda vault: vault.import_env("..", WRITTEN),
        lambda vault: vault.list_secrets("..", token=TOKEN),
        lambda vault: vault.delete_secret("..", token=TOKEN),
        lambda vault: vault.revoke_token(TOKEN),
        lambda vault: vault.auth("..", token=TOKEN),
        lambda vault: vault.auth(PATH, token=TOKEN, header="a b"),
        lambda vault: SecretUse.of(PATH, "nowhere", token=TOKEN),
    ],
)
def test_a_programmers_mistake_shows_no_secret(driver: Driver, place: Place, call: Callable[[Any], Any]) -> None:
    """A report of it prints the locals of our frames."""
    vault = place.vault(driver)
    with pytest.raises((ValueError, TypeError, ConfigurationError)) as caught:
        driver.run(call(vault))
    scan(caught.value)


@pytest.mark.parametrize(
    "given",
    [
        {"url": "nowhere"},
        {"url": "http://vault.test"},
        {"url": "https://vault.test", "timeout": -1},
        {"url": "https://vault.test", "ca_file": "/nowhere"},
        {"url": "https://vault.test", "secrets": {PATH: "a sample"}},
    ],
)
def test_a_bad_setting_shows_no_secret(driver: Driver, given: dict[str, Any]) -> None:
    """Nor when the vault is made."""
    with pytest.raises(ConfigurationError) as caught:
        driver.vault(agent_key=KEY, **given)
    scan(caught.value)


def test_a_cancelled_read_shows_no_secret(place: Place) -> None:
    """A report says what a task was doing when it was cancelled."""
    slow = threading.Event()
    place.answer = lambda _: Reply(delay=slow)

    async def cancel() -> BaseException:
        async with AgentVault(place.server.base_url, agent_key=KEY) as vault:
            task = asyncio.ensure_future(vault.set_secret(PATH, WRITTEN, token=TOKEN))
            await asyncio.to_thread(place.server.wait_for_requests, 1)
            assert_no_secret([repr(task), str(task.get_stack())], *SECRETS)
            task.cancel()
            try:
                await task
            except asyncio.CancelledError as error:
                return error
            raise AssertionError("it was not cancelled")

    error = asyncio.run(cancel())
    slow.set()
    scan(error)


def test_what_is_handed_out_shows_nothing(driver: Driver) -> None:
    """Vaults, settings, secrets, tokens, lists, auths and uses: printed, copied or pickled."""
    mock = MockVault({PATH: VALUE})
    mock.agent_key = type(mock.agent_key)(KEY)
    vault = driver.vault(secrets=mock)
    live = driver.vault("https://vault.test", agent_key=KEY)
    token = driver.run(vault.request_token("secrets:read:production/*"))
    things = [
        vault,
        live,
        mock,
        VaultConfig(vault_url="https://vault.test", agent_key=KEY),
        driver.run(vault.get_secret(PATH)),
        driver.run(vault.list_secrets()),
        token,
        vault.auth(PATH, token=token),
        SecretUse.of(PATH, "https://api.test", token=token.value),
        mock.accesses,
    ]
    for thing in things:
        assert_no_secret([repr(thing), str(thing), pickled(thing), thing], KEY, VALUE, token.value)
    for thing in (vault, live, mock, token, VaultConfig(vault_url="https://vault.test")):
        with pytest.raises(TypeError, match=r"pickled|process"):
            pickle.dumps(thing)
    assert copy.deepcopy(vault) is vault
    assert copy.deepcopy(token) == token


def test_what_is_printed_while_it_is_made_shows_nothing() -> None:
    """A report of an error prints objects that are not finished."""
    assert repr(AgentVault.__new__(AgentVault)) == "AgentVault()"
    assert repr(AgentVaultSync.__new__(AgentVaultSync)) == "AgentVaultSync()"
