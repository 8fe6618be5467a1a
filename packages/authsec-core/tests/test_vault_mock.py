"""MOCK mode's vault: the same rules as the real one, offline, and shared where it is meant to be."""

from __future__ import annotations

import copy
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from core_support import PATIENT, Driver
from vault_support import PATH, VALUE

from authsec_core import (
    AgentVaultSync,
    ApprovalRequiredError,
    MockVault,
    SecretNotFoundError,
    VaultError,
    VaultScopeDeniedError,
    VaultTokenExhaustedError,
    VaultUnauthorizedError,
)
from authsec_core.testing import FakeClock, LeakScan, LocalVault

SCOPE = "secrets:read:production/*"


@pytest.fixture
def mock(clock: FakeClock) -> MockVault:
    """A vault with a secret in production and one in staging."""
    return MockVault({PATH: VALUE, "staging/db/password": "staging-password"}, clock=clock)


@pytest.fixture
def vault(driver: Driver, mock: MockVault, clock: FakeClock) -> Any:
    """A client of it."""
    return driver.vault(secrets=mock, clock=clock)


class TestRules:
    """What the vault is for."""

    @pytest.mark.parametrize(
        ("scope", "path", "allowed"),
        [
            ("secrets:read:production/*", PATH, True),
            ("secrets:*:*", PATH, True),
            (f"secrets:read:{PATH}", PATH, True),
            ("secrets:read:production/search/*", PATH, False),
            ("secrets:read:prod/*", PATH, False),
            ("secrets:write:production/*", PATH, False),
            ("secrets:read:production/*", "staging/db/password", False),
            ("secrets:read:production/*", "Production/openai/api-key", False),
        ],
    )
    def test_a_token_reaches_what_its_scopes_say(
        self, driver: Driver, vault: Any, scope: str, path: str, allowed: bool
    ) -> None:
        """By segment, with case, and for the action alone."""
        token = driver.run(vault.request_token(scope))
        if allowed:
            assert driver.run(vault.get_secret(path, token=token)).value == VALUE
        else:
            with pytest.raises(VaultScopeDeniedError):
                driver.run(vault.get_secret(path, token=token))

    def test_the_agent_itself_may_be_limited(self, driver: Driver, clock: FakeClock) -> None:
        """Neither its key nor a token of its own goes beyond that."""
        vault = driver.vault(
            secrets=MockVault({PATH: VALUE}, scopes="secrets:read:staging/*", clock=clock), clock=clock
        )
        for name, asked in (("get_secret", PATH), ("request_token", SCOPE)):
            with pytest.raises(VaultScopeDeniedError):
                driver.run(getattr(vault, name)(asked))

    @pytest.mark.parametrize(("seconds", "good"), [(59, True), (60, False), (61, False)])
    def test_a_token_ends(self, driver: Driver, vault: Any, clock: FakeClock, seconds: int, good: bool) -> None:
        """By the clock."""
        token = driver.run(vault.request_token(SCOPE, ttl_seconds=60))
        clock.advance(seconds)
        if good:
            driver.run(vault.get_secret(PATH, token=token))
        else:
            with pytest.raises(VaultUnauthorizedError):
                driver.run(vault.get_secret(PATH, token=token))

    def test_only_what_was_disclosed_counts_as_a_use(self, driver: Driver, vault: Any) -> None:
        """Refusals and secrets that are not there take nothing from a token."""
        token = driver.run(vault.request_token(SCOPE, max_uses=2))
        for path, error in (
            ("production/nothing", SecretNotFoundError),
            ("staging/db/password", VaultScopeDeniedError),
        ):
            with pytest.raises(error):
                driver.run(vault.get_secret(path, token=token))
        for _ in range(2):
            driver.run(vault.get_secret(PATH, token=token))
        with pytest.raises(VaultTokenExhaustedError):
            driver.run(vault.get_secret(PATH, token=token))

    def test_a_single_use_is_one_use(self, mock: MockVault, clock: FakeClock) -> None:
        """However many ask at once."""
        gate = threading.Barrier(16)
        with AgentVaultSync(secrets=mock, clock=clock) as vault:
            token = vault.request_token(SCOPE, max_uses=1)

            def read(_: int) -> str:
                gate.wait(PATIENT)
                try:
                    return vault.get_secret(PATH, token=token).value
                except VaultError as error:
                    return error.code

            with ThreadPoolExecutor(16) as threads:
                told = sorted(threads.map(read, range(16)))
        assert told == sorted([VALUE, *["vault_token_exhausted"] * 15])

    def test_a_token_asks_for_no_token(self, driver: Driver, mock: MockVault, vault: Any) -> None:
        """Only the agent itself does; nor does it take back another one, but itself it may."""
        token = driver.run(vault.request_token("secrets:*:*"))
        shown = {"Authorization": f"Bearer {token.value}"}
        asked = mock.answer("POST", "/v1/tokens", {}, shown, b'{"scopes": ["secrets:read:a/*"]}')
        other = driver.run(vault.request_token(SCOPE))
        revoked = [
            mock.answer("DELETE", f"/v1/tokens/{one.token_id}", {}, shown, b"").status for one in (other, token, token)
        ]
        assert (asked.status, revoked) == (403, [403, 204, 401])

    def test_a_sensitive_secret_takes_an_approval(self, driver: Driver, mock: MockVault, vault: Any) -> None:
        """The agent's own key and an ordinary token are not enough; one that was denied never is."""
        ordinary = driver.run(vault.request_token(SCOPE))
        mock.register(PATH, VALUE, access_tier="critical")
        for token in (None, ordinary):
            with pytest.raises(ApprovalRequiredError) as caught:
                driver.run(vault.get_secret(PATH, token=token))
            assert caught.value.approval_id is None
        with pytest.raises(ApprovalRequiredError) as asked:
            driver.run(vault.request_token(SCOPE))
        mock.deny(str(asked.value.approval_id))
        with pytest.raises(VaultScopeDeniedError):
            driver.run(vault.request_token(SCOPE, approval_id=asked.value.approval_id))

    def test_an_approval_is_for_what_was_asked(self, driver: Driver, mock: MockVault, vault: Any) -> None:
        """And for one token."""
        mock.register(PATH, VALUE, access_tier="sensitive")
        with pytest.raises(ApprovalRequiredError) as asked:
            driver.run(vault.request_token(SCOPE))
        approval_id = str(asked.value.approval_id)
        mock.approve(approval_id)
        assert driver.run(vault.request_token(SCOPE, approval_id=approval_id)).value
        with pytest.raises(SecretNotFoundError):
            driver.run(vault.request_token(SCOPE, approval_id=approval_id))

    def test_a_token_may_ask_for_more_than_there_is(self, driver: Driver, mock: MockVault, vault: Any) -> None:
        """Up to a tier that nothing has now: then it is good for what gets that later."""
        with pytest.raises(ApprovalRequiredError) as asked:
            driver.run(vault.request_token(SCOPE, access_tier="sensitive"))
        mock.approve(str(asked.value.approval_id))
        token = driver.run(vault.request_token(SCOPE, approval_id=asked.value.approval_id))
        mock.register(PATH, "later", access_tier="sensitive")
        assert driver.run(vault.get_secret(PATH, token=token)).value == "later"

    def test_versions_stay(self, driver: Driver, mock: MockVault, vault: Any) -> None:
        """Until the secret is deleted."""
        mock.register(PATH, "second")
        assert driver.run(vault.get_secret(PATH, version=1)).value == VALUE
        assert driver.run(vault.get_secret(PATH)).version == 2
        with pytest.raises(SecretNotFoundError):
            driver.run(vault.get_secret(PATH, version=3))
        driver.run(vault.delete_secret(PATH))
        with pytest.raises(SecretNotFoundError):
            driver.run(vault.get_secret(PATH, version=1))

    def test_a_list_has_what_is_covered(self, driver: Driver, vault: Any) -> None:
        """And a namespace of which nothing can be covered is refused."""
        token = driver.run(vault.request_token(SCOPE))
        assert [info.path for info in driver.run(vault.list_secrets(token=token))] == [PATH]
        with pytest.raises(VaultScopeDeniedError):
            driver.run(vault.list_secrets("staging", token=token))


def test_every_access_is_remembered(driver: Driver, mock: MockVault, vault: Any) -> None:
    """Who asked for what, with which token, what was decided, and the agent's own words."""
    token = driver.run(vault.request_token(SCOPE))
    driver.run(vault.get_secret(PATH, token=token, metadata={"agent_name": "a", "reason": "b", "conversation_id": "c"}))
    with pytest.raises(VaultScopeDeniedError):
        driver.run(vault.get_secret("staging/db/password", token=token))
    with pytest.raises(VaultUnauthorizedError):
        driver.run(vault.get_secret(PATH, token="vlt_1.unknown"))
    said = [(access.action, access.path, access.decision, access.token_id) for access in mock.accesses]
    assert said == [
        ("issue", "", "allow", None),
        ("read", PATH, "allow", token.token_id),
        ("read", "staging/db/password", "SCOPE_DENIED", token.token_id),
        ("read", PATH, "UNAUTHORIZED", None),
    ]
    assert mock.accesses[1].claimed == {"agent_name": "a", "reason": "b", "conversation_id": "c"}


class TestSharing:
    """Which vaults are one."""

    def test_vaults_of_the_environment_are_one(self, driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
        """A tool's vault knows the token that the program's vault issued."""
        monkeypatch.setenv("AUTHSEC_MOCK_SECRETS", '{"a/b": "shared"}')
        token = driver.run(driver.vault().request_token("secrets:read:a/*"))
        assert driver.run(driver.vault().get_secret("a/b", token=token)).value == "shared"

    @pytest.mark.parametrize("mode", ["auto", "mock"])
    def test_who_did_not_ask_for_it_is_told(
        self, driver: Driver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, mode: str
    ) -> None:
        """Once, however many vaults there are; `AUTHSEC_MODE=mock` has asked for it."""
        monkeypatch.setenv("AUTHSEC_MODE", mode)
        monkeypatch.setenv("AUTHSEC_MOCK_SECRETS", f'{{"a/{mode}-{driver.kind}": "sample"}}')
        for _ in range(2):
            driver.vault()
        assert caplog.text.count("MOCK mode: AUTHSEC_VAULT_URL is unset") == (mode == "auto")

    def test_vaults_of_a_dict_are_apart(self, driver: Driver) -> None:
        """Two tests with the same secrets do not see each other's writes; a `MockVault` is for sharing."""
        one, two = (driver.vault(secrets={"a/b": "x"}) for _ in range(2))
        driver.run(one.set_secret("a/b", "changed"))
        assert driver.run(two.get_secret("a/b")).value == "x"

    def test_an_empty_vault_is_one_too(self, driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
        """`AUTHSEC_MODE=mock` alone: what is written can be read."""
        monkeypatch.setenv("AUTHSEC_MODE", "mock")
        vault = driver.vault()
        assert vault.mode == "mock"
        driver.run(vault.set_secret("mine/key", "written"))
        assert driver.run(driver.vault().get_secret("mine/key")).value == "written"

    def test_the_fixtures_vault_is_everyones(self, driver: Driver, mock_vault: MockVault) -> None:
        """Also of code that names an address; one that is given secrets keeps those."""
        mock_vault.register(PATH, VALUE)
        assert driver.run(driver.vault().get_secret(PATH)).value == VALUE
        assert driver.run(driver.vault("https://vault.test", agent_key="k").get_secret(PATH)).value == VALUE
        assert driver.run(driver.vault(secrets={PATH: "own"}).get_secret(PATH)).value == "own"
        assert len(mock_vault.accesses) == 2

    def test_the_fixture_goes_by_the_tests_clock(
        self, driver: Driver, authsec_clock: FakeClock, mock_vault: MockVault
    ) -> None:
        """Where the test asks for both."""
        mock_vault.register(PATH, VALUE)
        vault = driver.vault()
        token = driver.run(vault.request_token(SCOPE, ttl_seconds=60))
        authsec_clock.advance(60)
        with pytest.raises(VaultUnauthorizedError):
            driver.run(vault.get_secret(PATH, token=token))

    def test_a_copy_is_the_same(self, mock: MockVault) -> None:
        """A lock and a shared state have no copy."""
        assert copy.deepcopy(mock) is mock


def test_the_leak_scan_knows_its_secrets(mock_vault: MockVault, authsec_no_leaks: LeakScan) -> None:
    """A test that prints one fails; short samples are not looked for, because they are found by accident."""
    mock_vault.register("a/b", VALUE)
    mock_vault.register("a/c", "x")
    assert {VALUE, mock_vault.agent_key()} <= set(mock_vault.secrets)
    assert "x" not in mock_vault.secrets
    authsec_no_leaks.include(f"the secret is {VALUE}")
    with pytest.raises(AssertionError, match="is shown"):
        authsec_no_leaks.check()
    authsec_no_leaks._material.clear()


def test_a_vault_on_this_machine(driver: Driver, monkeypatch: pytest.MonkeyPatch) -> None:
    """LIVE over HTTP, with what `environ` says; with a token the key does not travel."""
    with LocalVault({PATH: VALUE}, scopes="secrets:read:*") as local:
        for name, value in local.environ().items():
            monkeypatch.setenv(name, value)
        vault = driver.vault()
        assert vault.mode == "live"
        token = driver.run(vault.request_token(SCOPE))
        assert driver.run(vault.get_secret(PATH, token=token)).value == VALUE
        assert local.agent_key not in str(local.requests[1].headers)
        assert [access.action for access in local.accesses] == ["issue", "read"]
        assert {local.agent_key, token.value, VALUE} <= set(local.secrets)
