"""Where the vault is, which key goes there, and when it is one to play with."""

from __future__ import annotations

from typing import Any

import pytest
from core_support import Driver
from vault_support import KEY, PATH, VALUE, VAULT, Network

from authsec_core import AuthSecConfig, ConfigurationError, MockVault, VaultConfig, VaultUnauthorizedError
from authsec_core.testing import FakeClock

OTHER = "https://other.test"
OTHER_KEY = "agk_fedcba9876543210.f4d3s2a1p0o9i8u7y6t5r4e3w2q1"


@pytest.fixture
def environ(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Set variables by name."""

    def environ(**values: str) -> None:
        for name, value in values.items():
            monkeypatch.setenv(name, value)

    return environ


@pytest.fixture
def network(clock: FakeClock) -> Network:
    """A vault in the network's place."""
    return Network(clock)


def settled(**given: Any) -> tuple[str, str | None]:
    """Return address and key."""
    config = VaultConfig(**given)
    return config.address, None if config.key is None else config.key.get_secret_value()


class TestAddress:
    """Which vault."""

    @pytest.mark.parametrize(
        ("variables", "address"),
        [
            ({"AUTHSEC_VAULT_URL": f"{VAULT}/"}, VAULT),
            ({"AUTHSEC_BASE_URL": f"{VAULT}/base"}, f"{VAULT}/base"),
            ({"AUTHSEC_BASE_URL": f"{VAULT}/authsec/"}, VAULT),
            ({"AUTHSEC_BASE_URL": OTHER, "AUTHSEC_VAULT_URL": VAULT}, VAULT),
            ({"ASS_API_URL": VAULT}, VAULT),
            ({"ASS_API_URL": OTHER, "AUTHSEC_VAULT_URL": VAULT}, VAULT),
            ({"ASS_API_URL": OTHER, "AUTHSEC_BASE_URL": VAULT}, VAULT),
        ],
    )
    def test_where_the_vault_is(self, environ: Any, variables: dict[str, str], address: str) -> None:
        """The vault's own variable, then the authority's root, then that of other clients; an argument before all."""
        environ(**variables)
        assert settled()[0] == address
        assert settled(vault_url="https://argument.test")[0] == "https://argument.test"

    @pytest.mark.req("RS3")
    @pytest.mark.parametrize("name", ["AUTHSEC_VAULT_URL", "ASS_API_URL"])
    @pytest.mark.parametrize(
        "url", ["http://vault.test", "vault.test", "https://u:p@vault.test", "https://v.test/?a", " "]
    )
    def test_an_unsafe_address_is_refused(self, environ: Any, name: str, url: str) -> None:
        """No http beyond loopback, no password, no query: the message names the variable."""
        environ(**{name: url})
        with pytest.raises(ConfigurationError, match=name):
            VaultConfig()

    def test_http_is_for_this_machine(self, environ: Any) -> None:
        """Or for who permits it."""
        environ(AUTHSEC_VAULT_URL="http://127.0.0.1:8000")
        assert settled()[0] == "http://127.0.0.1:8000"
        environ(AUTHSEC_VAULT_URL="http://vault.test", AUTHSEC_ALLOW_HTTP="1")
        assert settled()[0] == "http://vault.test"


@pytest.mark.req("RS9")
class TestKey:
    """A key goes to no other origin than the one that it was given for."""

    @pytest.mark.parametrize(
        ("variables", "key"),
        [
            ({"AUTHSEC_VAULT_URL": VAULT, "AUTHSEC_AGENT_KEY": KEY}, KEY),
            ({"AUTHSEC_BASE_URL": VAULT, "AUTHSEC_AGENT_KEY": KEY}, KEY),
            ({"AUTHSEC_BASE_URL": f"{VAULT}/x", "AUTHSEC_VAULT_URL": VAULT, "AUTHSEC_AGENT_KEY": KEY}, KEY),
            ({"ASS_API_URL": VAULT, "ASS_AGENT_KEY": KEY}, KEY),
            ({"ASS_API_URL": VAULT, "AUTHSEC_AGENT_KEY": KEY}, None),
            ({"AUTHSEC_VAULT_URL": VAULT, "ASS_AGENT_KEY": KEY}, None),
            ({"AUTHSEC_VAULT_URL": VAULT, "ASS_API_URL": OTHER, "ASS_AGENT_KEY": KEY}, None),
            ({"AUTHSEC_VAULT_URL": VAULT, "ASS_API_URL": f"{VAULT}/x", "ASS_AGENT_KEY": KEY}, KEY),
            (
                {
                    "AUTHSEC_VAULT_URL": VAULT,
                    "AUTHSEC_AGENT_KEY": KEY,
                    "ASS_API_URL": OTHER,
                    "ASS_AGENT_KEY": OTHER_KEY,
                },
                KEY,
            ),
        ],
    )
    def test_the_pairs_of_the_environment(self, environ: Any, variables: dict[str, str], key: str | None) -> None:
        """Each key with its own address, and with that origin alone."""
        environ(**variables)
        assert settled() == (VAULT, key)

    def test_a_key_beside_two_places_is_refused(self, environ: Any) -> None:
        """Which of them it is for cannot be told: it has to be passed."""
        environ(AUTHSEC_VAULT_URL=VAULT, AUTHSEC_BASE_URL=OTHER, AUTHSEC_AGENT_KEY=KEY)
        with pytest.raises(ConfigurationError, match="keep the one that it is for"):
            VaultConfig()
        assert settled(vault_url=VAULT, agent_key=OTHER_KEY) == (VAULT, OTHER_KEY)

    def test_an_address_that_is_passed_gets_no_foreign_key(self, environ: Any) -> None:
        """Whoever chooses the address does not get the key that was set for another one; its own it gets."""
        environ(AUTHSEC_VAULT_URL=VAULT, AUTHSEC_AGENT_KEY=KEY)
        assert settled(vault_url=OTHER) == (OTHER, None)
        assert "name key and address in one place" in VaultConfig(vault_url=OTHER).keyless
        assert settled(vault_url=f"{VAULT}:443/base") == (f"{VAULT}:443/base", KEY)
        assert settled(vault_url=OTHER, agent_key=OTHER_KEY) == (OTHER, OTHER_KEY)

    def test_the_file_of_settings_has_its_own_pair(self, environ: Any, tmp_path: Any) -> None:
        """A key in a file stays with the address in that file, when the environment names another address."""
        (tmp_path / "agent.env").write_text(f"AUTHSEC_VAULT_URL={VAULT}\nAUTHSEC_AGENT_KEY={KEY}\n")
        environ(AUTHSEC_ENV_FILE=str(tmp_path / "agent.env"))
        assert settled() == (VAULT, KEY)
        environ(AUTHSEC_VAULT_URL=OTHER)
        assert settled() == (OTHER, None)

    def test_an_address_that_is_none_binds_a_key_to_nothing_else(self, environ: Any) -> None:
        """What was overridden need not have been a URL; the key that stands beside it still goes nowhere else."""
        environ(AUTHSEC_VAULT_URL="nonsense", AUTHSEC_AGENT_KEY=KEY)
        assert settled(vault_url=VAULT) == (VAULT, None)

    @pytest.mark.parametrize("name", ["AUTHSEC_AGENT_KEY", "ASS_AGENT_KEY"])
    def test_a_key_that_cannot_be_one_is_refused(self, environ: Any, name: str) -> None:
        """The message names the variable and not the key."""
        environ(AUTHSEC_VAULT_URL=VAULT, **{name: "two words"})
        with pytest.raises(ConfigurationError, match=name) as caught:
            VaultConfig()
        assert "two words" not in str(caught.value)


TOKEN = "vlt_0123456789abcdef.t0k3nt0k3nt0k3n"


@pytest.mark.req("RS9")
class TestToken:
    """A token of the environment goes before the key, and to no other origin than the one that it was given for."""

    @pytest.mark.parametrize("name", ["AUTHSEC_VAULT_URL", "AUTHSEC_BASE_URL", "ASS_API_URL"])
    def test_it_is_for_the_vault_beside_it(self, environ: Any, name: str) -> None:
        """Whichever of the variables says where that is."""
        environ(**{name: VAULT}, AUTHSEC_VAULT_TOKEN=TOKEN)
        token = VaultConfig().token
        assert token is not None
        assert token.get_secret_value() == TOKEN

    def test_an_address_that_is_passed_gets_no_foreign_token(self, environ: Any) -> None:
        """Nor the key in its place, which may do more; the message names the variable."""
        environ(AUTHSEC_VAULT_URL=VAULT, AUTHSEC_VAULT_TOKEN=TOKEN, AUTHSEC_AGENT_KEY=KEY)
        config = VaultConfig(vault_url=OTHER)
        assert (config.token, config.key) == (None, None)
        assert "AUTHSEC_VAULT_TOKEN was given for another address" in config.keyless

    def test_a_file_of_settings_binds_its_token(self, environ: Any, tmp_path: Any) -> None:
        """As its key: to the address in that file. The key of the environment takes no token's place."""
        (tmp_path / "agent.env").write_text(f"AUTHSEC_VAULT_URL={OTHER}\nAUTHSEC_VAULT_TOKEN={TOKEN}\n")
        environ(AUTHSEC_ENV_FILE=str(tmp_path / "agent.env"), AUTHSEC_VAULT_URL=VAULT, AUTHSEC_AGENT_KEY=KEY)
        config = VaultConfig()
        assert (config.token, config.key) == (None, None)

    def test_a_key_that_is_passed_wins(self, environ: Any) -> None:
        """As arguments do over the environment."""
        environ(AUTHSEC_VAULT_URL=VAULT, AUTHSEC_VAULT_TOKEN=TOKEN)
        config = VaultConfig(agent_key=OTHER_KEY)
        assert config.token is None
        assert config.key is not None
        assert config.key.get_secret_value() == OTHER_KEY

    def test_a_token_alone_is_no_try_out(self, environ: Any) -> None:
        """An address that was lost must not put an agent on samples."""
        environ(AUTHSEC_VAULT_TOKEN=TOKEN, AUTHSEC_MOCK_SECRETS="{}")
        with pytest.raises(ConfigurationError, match="AUTHSEC_VAULT_TOKEN says"):
            VaultConfig()

    @pytest.mark.parametrize("text", ["", " ", "two words", "x" * 5000])
    def test_what_is_no_token_is_refused(self, environ: Any, text: str) -> None:
        """The message names the variable and does not quote it."""
        environ(AUTHSEC_VAULT_URL=VAULT, AUTHSEC_VAULT_TOKEN=text)
        with pytest.raises(ConfigurationError, match="AUTHSEC_VAULT_TOKEN") as caught:
            VaultConfig()
        assert not text.strip() or text not in str(caught.value)

    def test_it_is_shown_where_a_call_names_none(self, driver: Driver, environ: Any, network: Network) -> None:
        """And the key is not sent then, but for what takes the key."""
        token = driver.run(network.vault(driver).request_token(f"secrets:read:{PATH}"))
        environ(AUTHSEC_VAULT_URL=VAULT, AUTHSEC_AGENT_KEY=KEY, AUTHSEC_VAULT_TOKEN=token.value)
        network.requests.clear()
        vault = driver.vault(handler=network, clock=network.clock)
        assert driver.run(vault.get_secret(PATH)).value == VALUE
        assert [info.path for info in driver.run(vault.list_secrets("production"))] == [PATH]
        other = driver.run(vault.request_token(f"secrets:read:{PATH}"))
        driver.run(vault.revoke_token(other))
        shown = [request.headers["Authorization"].removeprefix("Bearer ") for request in network.requests]
        assert shown == [token.value, token.value, KEY, KEY]

    def test_without_a_key_it_takes_itself_back_and_asks_for_no_other(
        self, driver: Driver, environ: Any, network: Network
    ) -> None:
        """That takes a key, which the message says."""
        token = driver.run(network.vault(driver).request_token(f"secrets:read:{PATH}"))
        environ(AUTHSEC_VAULT_URL=VAULT, AUTHSEC_VAULT_TOKEN=token.value)
        vault = driver.vault(handler=network, clock=network.clock)
        with pytest.raises(ConfigurationError, match="set AUTHSEC_AGENT_KEY"):
            driver.run(vault.request_token(f"secrets:read:{PATH}"))
        driver.run(vault.revoke_token(token.token_id))
        with pytest.raises(VaultUnauthorizedError):
            driver.run(vault.get_secret(PATH))

    def test_samples_know_no_token(self, driver: Driver, environ: Any) -> None:
        """As they know no key of the environment."""
        environ(AUTHSEC_MODE="mock", AUTHSEC_VAULT_TOKEN=TOKEN)
        assert driver.run(driver.vault(secrets={PATH: VALUE}).get_secret(PATH)).value == VALUE


@pytest.mark.req("RS1")
class TestMode:
    """LIVE never becomes MOCK."""

    @pytest.mark.parametrize("name", ["AUTHSEC_AGENT_KEY", "ASS_AGENT_KEY"])
    def test_a_key_alone_is_no_try_out(self, environ: Any, name: str) -> None:
        """An address that was lost must not put an agent on samples."""
        environ(**{name: KEY}, AUTHSEC_MOCK_SECRETS="{}")
        with pytest.raises(ConfigurationError, match=f"AUTHSEC_VAULT_URL is missing, but {name}"):
            VaultConfig()

    def test_in_a_cluster_it_takes_a_word(self, environ: Any) -> None:
        """There, too, something was lost; code that passes the secrets itself means it."""
        environ(KUBERNETES_SERVICE_HOST="10.0.0.1", AUTHSEC_MOCK_SECRETS="{}")
        with pytest.raises(ConfigurationError, match="KUBERNETES_SERVICE_HOST"):
            VaultConfig()
        assert VaultConfig(mock_secrets="{}").resolved_mode == "mock"
        environ(AUTHSEC_MODE="mock")
        assert VaultConfig().resolved_mode == "mock"

    def test_nothing_at_all_is_an_error(self) -> None:
        """An empty vault would answer everything with "not found"."""
        with pytest.raises(ConfigurationError, match="AUTHSEC_VAULT_URL and AUTHSEC_AGENT_KEY are missing"):
            VaultConfig()

    def test_live_needs_an_address(self, environ: Any) -> None:
        """`AUTHSEC_MODE=live` says so whatever else is there."""
        environ(AUTHSEC_MODE="live", AUTHSEC_MOCK_SECRETS="{}")
        with pytest.raises(ConfigurationError, match="AUTHSEC_MODE"):
            VaultConfig()

    @pytest.mark.parametrize("secrets", [{PATH: VALUE}, MockVault()])
    def test_secrets_do_not_go_with_an_address(self, driver: Driver, environ: Any, secrets: Any) -> None:
        """Unless `AUTHSEC_MODE=mock` says which of the two is meant."""
        environ(AUTHSEC_VAULT_URL=VAULT)
        with pytest.raises(ConfigurationError, match="secrets= was given, but the settings mean LIVE"):
            driver.vault(secrets=secrets)
        environ(AUTHSEC_MODE="mock")
        assert driver.vault(secrets=secrets).mode == "mock"

    @pytest.mark.parametrize("text", ["[]", "{", '{"a/b": 1}', '{"a/b": ""}', '{"b": "x"}', '{"a/../b": "x"}'])
    def test_secrets_that_are_none_are_refused(self, driver: Driver, environ: Any, text: str) -> None:
        """The message names the variable."""
        environ(AUTHSEC_MOCK_SECRETS=text)
        with pytest.raises(ConfigurationError, match="AUTHSEC_MOCK_SECRETS"):
            driver.vault()

    def test_the_other_client_is_no_try_out_either(self, environ: Any) -> None:
        """Where a vault is set, an agent without an authority is a mistake."""
        environ(AUTHSEC_VAULT_URL=VAULT)
        with pytest.raises(ConfigurationError, match="AUTHSEC_VAULT_URL says"):
            AuthSecConfig()


def test_the_names_of_the_vault_are_known(environ: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Neither client takes the settings of the other one for misspelt ones."""
    environ(AUTHSEC_BASE_URL=VAULT, AUTHSEC_VAULT_URL=VAULT, AUTHSEC_MOCK_SECRETS="{}", ASS_API_URL=VAULT)
    environ(AUTHSEC_AGENT_CLIENT_ID="7b1c3f5e-2a4d-4c6b-8e9f-0a1b2c3d4e5f", AUTHSEC_API_BASE_URL=OTHER)
    AuthSecConfig()
    VaultConfig()
    assert "is not a setting" not in caplog.text
    environ(AUTHSEC_VAULT_UR=VAULT)
    with pytest.raises(ConfigurationError, match="did you mean AUTHSEC_VAULT_URL"):
        VaultConfig()


def test_what_is_printed_has_no_key(environ: Any) -> None:
    """Neither the settings' own text nor their fields."""
    environ(
        AUTHSEC_VAULT_URL=VAULT, AUTHSEC_AGENT_KEY=KEY, ASS_AGENT_KEY=OTHER_KEY, AUTHSEC_MOCK_SECRETS='{"a/b": "sk"}'
    )
    environ(AUTHSEC_VAULT_TOKEN=TOKEN)
    shown = f"{VaultConfig()!r} {VaultConfig()} {VaultConfig().model_dump()}"
    assert KEY not in shown
    assert OTHER_KEY not in shown
    assert TOKEN not in shown
    assert '"sk"' not in shown
