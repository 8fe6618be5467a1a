"""What the vault's errors say to do next: the setting that is meant, the scope that is missing, what was asked."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from core_support import Driver
from vault_support import KEY, PATH, VALUE, VAULT, Network, error

from authsec_core import (
    ApprovalRequiredError,
    ConfigurationError,
    SecretNotFoundError,
    VaultConfig,
    VaultError,
    VaultInsecureTransportError,
    VaultReplyError,
    VaultRequestError,
    VaultScopeDeniedError,
    VaultUnauthorizedError,
)
from authsec_core.testing import FakeClock

SCOPE = "secrets:read:production/*"


@pytest.fixture
def network(clock: FakeClock) -> Network:
    """A vault in the network's place."""
    return Network(clock)


@pytest.fixture
def vault(driver: Driver, network: Network) -> Any:
    """A LIVE vault of it."""
    return network.vault(driver)


def said(driver: Driver, ask: Callable[[], Any], kind: type[VaultError]) -> str:
    """Return what the error says that asking ends in."""
    with pytest.raises(kind) as caught:
        driver.run(ask())
    assert "its own words" not in caught.value.message
    return caught.value.message


class TestDenied:
    """A 403 names the scope that would do, and who can give it."""

    def test_a_token_lacks_a_scope(self, driver: Driver, vault: Any, network: Network) -> None:
        """Another token may do; else the operator allows the agent more."""
        token = driver.run(vault.request_token("secrets:read:staging/*"))
        message = said(driver, lambda: vault.get_secret(PATH, token=token), VaultScopeDeniedError)
        assert f"a token with the scope secrets:read:{PATH};" in message
        assert "authsec-server admin clients vault-access" in message

    @pytest.mark.parametrize(
        ("name", "given", "scope"),
        [
            ("get_secret", (PATH,), f"secrets:read:{PATH}"),
            ("set_secret", (PATH, "x"), f"secrets:write:{PATH}"),
            ("rotate_secret", (PATH,), f"secrets:write:{PATH}"),
            ("delete_secret", (PATH,), f"secrets:delete:{PATH}"),
            ("list_secrets", ("production",), "secrets:read:production/*"),
            ("list_secrets", (), "secrets:read:*"),
            ("import_env", ("production", "A=b"), "secrets:write:production/*"),
            ("request_token", (SCOPE,), SCOPE),
        ],
    )
    def test_the_agent_itself_lacks_it(
        self, driver: Driver, vault: Any, network: Network, name: str, given: tuple[str, ...], scope: str
    ) -> None:
        """Then no token would do; programs have the scope beside the words."""
        network.will(403, error("SCOPE_DENIED", "its own words"))
        with pytest.raises(VaultScopeDeniedError) as caught:
            driver.run(getattr(vault, name)(*given))
        assert caught.value.scopes == {scope}
        assert f"the agent itself may not do that. It takes {scope}: its operator" in caught.value.message

    def test_a_secret_may_want_an_approved_token(self, driver: Driver, vault: Any, network: Network) -> None:
        """The error says with which scope to ask for it."""
        network.will(403, error("APPROVAL_REQUIRED", "its own words"))
        with pytest.raises(ApprovalRequiredError, match=f"secrets:read:{PATH}") as caught:
            driver.run(vault.get_secret(PATH))
        assert caught.value.scopes == {f"secrets:read:{PATH}"}


class TestApproval:
    """What became of an approval that is asked for with its id."""

    @pytest.mark.parametrize(
        ("status", "code", "kind", "words"),
        [
            (403, "SCOPE_DENIED", VaultScopeDeniedError, "an operator denied it"),
            (403, "APPROVAL_REQUIRED", ApprovalRequiredError, "fetched before, or its time is over"),
            (404, "NOT_FOUND", SecretNotFoundError, "asked for none of this id"),
            (400, "VALIDATION_ERROR", VaultRequestError, "the one that came with approval_required"),
        ],
    )
    def test_it_is_said(
        self, driver: Driver, vault: Any, network: Network, status: int, code: str, kind: type[VaultError], words: str
    ) -> None:
        """And nothing of paths, versions, times to live or addresses."""
        network.will(status, error(code, "its own words"))
        message = said(driver, lambda: vault.request_token(SCOPE, approval_id="nope"), kind)
        assert words in message
        assert not any(word in message for word in ("path", "version", "day", "addresses", "None"))


class TestWrong:
    """A 400 says what the vault takes, to programs too."""

    def test_a_token(self, driver: Driver, vault: Any, network: Network) -> None:
        """How long it may live, and how often it may be used."""
        network.will(400, error("VALIDATION_ERROR", "its own words"))
        message = said(driver, lambda: vault.request_token(SCOPE, ttl_seconds=604800), VaultRequestError)
        assert "lives a day at most" in message

    def test_the_name_of_a_token(self, driver: Driver, vault: Any, network: Network) -> None:
        """What it looks like, where it cannot be one; and that there is none, where it could."""
        network.will(400, error("VALIDATION_ERROR", "its own words"))
        assert "begins with vlt_" in said(driver, lambda: vault.revoke_token("vlt_nosuch"), VaultRequestError)
        network.will(404, error("NOT_FOUND", "its own words"))
        assert "no token of this id" in said(driver, lambda: vault.revoke_token("vlt_nosuch"), SecretNotFoundError)

    def test_the_lines_of_an_import(self, driver: Driver, vault: Any, network: Network) -> None:
        """Which, and what a line is; else what a text may hold."""
        network.will(400, error("VALIDATION_ERROR", "line 3: its own words"))
        message = said(driver, lambda: vault.import_env("production", "x"), VaultRequestError)
        assert "Lines that cannot be read: 3. Nothing was stored. A line is NAME=value" in message
        network.will(400, error("VALIDATION_ERROR", "its own words"))
        assert "1 to 128 names" in said(driver, lambda: vault.import_env("production", "x"), VaultRequestError)


class TestAddress:
    """What is wrong with the address names the setting that holds it."""

    @pytest.mark.parametrize(
        ("body", "code"), [(b"<html>", None), (b"", None), (None, "NOT_FOUND"), (b'{"detail":"Not Found"}', None)]
    )
    def test_a_server_that_is_no_vault(
        self, driver: Driver, vault: Any, network: Network, body: bytes | None, code: str | None
    ) -> None:
        """Has no missing secrets: only the vault's own error says that one is not there."""
        network.will(404, body if code is None else error(code))
        message = said(driver, lambda: vault.get_secret(PATH), VaultReplyError)
        assert "check url=, which is the vault's root, without /v1" in message

    @pytest.mark.parametrize("name", ["AUTHSEC_VAULT_URL", "AUTHSEC_BASE_URL", "ASS_API_URL"])
    def test_the_variable_is_the_one_that_is_set(
        self, driver: Driver, network: Network, monkeypatch: pytest.MonkeyPatch, name: str
    ) -> None:
        """And not the one that comes first."""
        monkeypatch.setenv(name, VAULT)
        vault = driver.vault(handler=network, clock=network.clock, env_file=None)
        for status in (302, 404, 418):
            network.will(status)
            assert name in said(driver, lambda: vault.get_secret(PATH, token="vlt_1.x"), VaultReplyError)

    def test_tls_with_a_server_that_speaks_http(self, driver: Driver, vault: Any, network: Network) -> None:
        """Is told from a certificate that is not good."""

        def refuse(cause: ssl.SSLError) -> Any:
            def refuse(request: httpx.Request) -> httpx.Response:
                raise httpx.ConnectError("made up", request=request) from cause

            return refuse

        network.answers += [refuse(ssl.SSLError(1, "made up")), refuse(ssl.SSLCertVerificationError(1, "made up"))]
        assert "speaks http" in said(driver, lambda: vault.get_secret(PATH), VaultInsecureTransportError)
        assert "speaks http" not in said(driver, lambda: vault.get_secret(PATH), VaultInsecureTransportError)

    def test_plain_http_names_what_permits_it(self) -> None:
        """Beside the better way."""
        with pytest.raises(ConfigurationError, match="use https, or set AUTHSEC_ALLOW_HTTP=true"):
            VaultConfig(vault_url="http://vault.test", agent_key=KEY)


class TestKey:
    """A key that is not accepted."""

    @pytest.mark.parametrize(("url", "may_be"), [("http://127.0.0.1:8000", True), (VAULT, False)])
    def test_a_restart_made_another_one(self, driver: Driver, network: Network, url: str, may_be: bool) -> None:
        """Of a server for trying out, which runs on this machine."""
        network.will(401)
        message = said(driver, lambda: network.vault(driver, url=url).get_secret(PATH), VaultUnauthorizedError)
        assert ("serve --dev makes a new one" in message) is may_be
        assert "check agent_key=" in message

    def test_the_key_of_the_environment(
        self, driver: Driver, network: Network, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Is named by its variable."""
        for name, value in {"ASS_API_URL": VAULT, "ASS_AGENT_KEY": KEY}.items():
            monkeypatch.setenv(name, value)
        network.will(401)
        vault = driver.vault(handler=network, clock=network.clock)
        assert "check ASS_AGENT_KEY" in said(driver, lambda: vault.get_secret(PATH), VaultUnauthorizedError)
        assert driver.run(vault.get_secret(PATH)).value == VALUE
