"""`authsec doctor` and the vault: where it is, whether it answers, and what it says of the credential."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from cli_support import SetUp, running
from vault_cli_support import KEY, VaultSetUp, running_vault

from authsec_core.testing import FakeClock, Reply

CHECKS = ("vault", "vault_tls", "vault_credential")
TOKEN = f"vlt_0000000000000001.{'s3cr3t' * 8}"


@pytest.fixture
def setup(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[VaultSetUp]:
    """A vault, and no authority."""
    with running_vault(clock, monkeypatch, capsys) as setup:
        yield setup


@pytest.fixture
def authority(clock: FakeClock, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[SetUp]:
    """An authority that has no vault."""
    with running(clock, monkeypatch, capsys) as setup:
        yield setup


def test_a_vault_may_be_all_that_there_is(setup: VaultSetUp) -> None:
    """Then nothing is asked of an authority, and nothing is wrong."""
    printed = setup.run("doctor", "--json")
    assert (printed.code, printed.json["mode"]) == (0, "live")
    assert {check: printed.statuses[check] for check in CHECKS} == {
        "vault": "ok",
        "vault_tls": "skip",
        "vault_credential": "ok",
    }
    assert "the vault is all that is configured" in printed.finding("proof")["message"]
    assert printed.finding("mode")["message"] == "LIVE: a vault is configured, and no authority"
    message = printed.finding("vault_credential")["message"]
    assert (
        message
        == f"the vault takes the agent's key, which was given for {setup.vault.server.base_url}: it is sample-agent's"
    )


@pytest.mark.req("RS9")
def test_the_credential_is_shown_once_and_to_the_vault(setup: VaultSetUp) -> None:
    """Its health is asked without."""
    setup.run("doctor")
    assert setup.vault.shown == [("GET", "/v1/health", None), ("GET", "/v1/me", KEY)]


def test_a_vault_token_goes_before_the_key(setup: VaultSetUp) -> None:
    """As for the other commands; its variable is no unknown one."""
    setup.vault.tokens[TOKEN] = {}
    setup.set(AUTHSEC_VAULT_TOKEN=TOKEN)
    printed = setup.run("doctor", "--json")
    assert printed.finding("vault_credential")["message"] == (
        "the vault takes the vault token of AUTHSEC_VAULT_TOKEN: it is sample-agent's"
    )
    assert printed.statuses["unknown_variables"] == "ok"
    assert setup.vault.shown[-1][2] == TOKEN


@pytest.mark.parametrize(
    ("path", "reply", "check", "words"),
    [
        ("/v1/health", Reply(status=503), "vault", "its health is status 503"),
        ("/v1/health", Reply(status=404), "vault", "its health is status 404"),
        ("/v1/me", Reply(status=401), "vault_credential", "the vault refuses the agent's key"),
        ("/v1/me", Reply(status=500), "vault_credential", "did not say whose it is (status 500)"),
    ],
)
def test_what_is_wrong_is_named(setup: VaultSetUp, path: str, reply: Reply, check: str, words: str) -> None:
    """With what to do about it, and exit code 1."""
    setup.vault.failing[path] = reply
    printed = setup.run("doctor", "--json")
    found = printed.finding(check)
    assert (printed.code, found["status"], words in found["message"], bool(found["mend"])) == (1, "fail", True, True)


def test_a_hostile_name_is_not_shown(setup: VaultSetUp) -> None:
    """Nor is an answer that is none."""
    for reply in (Reply.of_json({"name": "a\x1b[2J"}), Reply.of_json({"name": ["x"]}), Reply(body=b"<html>")):
        setup.vault.failing["/v1/me"] = reply
        message = setup.run("doctor", "--json").finding("vault_credential")["message"]
        assert message.endswith(setup.vault.server.base_url)


def test_a_vault_that_is_not_there(setup: VaultSetUp) -> None:
    """The credential is not tried."""
    setup.vault.server.close()
    printed = setup.run("doctor", "--json")
    assert (printed.statuses["vault"], printed.statuses["vault_credential"]) == ("fail", "skip")
    assert "AUTHSEC_VAULT_URL" in printed.finding("vault")["mend"]


def test_an_agent_without_a_key(setup: VaultSetUp) -> None:
    """Is told what to set, which is no failure: tokens can be handed to it."""
    setup.set(AUTHSEC_AGENT_KEY=None)
    printed = setup.run("doctor", "--json")
    assert (printed.code, printed.statuses["vault_credential"]) == (0, "skip")
    assert "AUTHSEC_AGENT_KEY" in printed.finding("vault_credential")["message"]


def test_a_token_that_is_none(setup: VaultSetUp) -> None:
    """Is found before the vault is asked."""
    setup.set(AUTHSEC_VAULT_TOKEN="two words")
    printed = setup.run("doctor", "--json")
    assert (printed.code, printed.finding("settings")["status"]) == (1, "fail")
    assert "AUTHSEC_VAULT_TOKEN" in printed.finding("settings")["message"]
    assert not setup.vault.shown


def test_an_authority_without_a_vault(authority: SetUp) -> None:
    """Is fine; when it cannot be reached, it is not asked twice."""
    printed = authority.doctor()
    assert {printed.finding(check)["message"] for check in CHECKS} == {"this authority has no vault"}
    authority.authority.close()
    printed = authority.doctor()
    assert {printed.finding(check)["message"] for check in CHECKS} == {"the authority was not reached"}


def test_a_key_that_could_be_meant_for_two_places(authority: SetUp) -> None:
    """Is a failure that names the variables."""
    authority.set(AUTHSEC_VAULT_URL=authority.api.base_url)
    found = authority.doctor().finding("vault")
    assert (found["status"], "AUTHSEC_BASE_URL" in found["message"]) == ("fail", True)
    assert not [request for request in authority.api.requests if "authorization" in request.headers]


def test_mock_mode_asks_no_vault(authority: SetUp) -> None:
    """As it asks no authority."""
    authority.set(AUTHSEC_MODE="mock")
    assert set(map(authority.doctor().statuses.get, CHECKS)) == {"skip"}
