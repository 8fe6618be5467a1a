"""`authsec tokens`: a token is shown once, or put into a file; and what happens where somebody has to approve it."""

from __future__ import annotations

import stat
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from vault_cli_support import KEY, VaultSetUp, running_vault

from authsec_core.testing import FakeClock, Reply

SCOPE = ("--scope", "secrets:read:production/*")


@pytest.fixture
def setup(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[VaultSetUp]:
    """A vault."""
    with running_vault(clock, monkeypatch, capsys) as setup:
        yield setup


def first(setup: VaultSetUp) -> str:
    """Return the token that will be issued first."""
    return f"vlt_0000000000000001.{'s3cr3t' * 7}1"


class TestIssue:
    """`tokens issue`."""

    def test_the_token_alone_is_on_stdout(self, setup: VaultSetUp) -> None:
        """So that a script can take it; its id, scopes and end are said on stderr."""
        printed = setup.run("tokens", "issue", *SCOPE, shows=first(setup))
        assert (printed.code, printed.out) == (0, first(setup))
        assert printed.err.startswith(
            "authsec (LIVE): token vlt_0000000000000001 for secrets:read:production/*, until "
        )
        assert "shown this once" in printed.err

    def test_what_is_typed_is_what_is_asked(self, setup: VaultSetUp) -> None:
        """Every option has its member; what was not typed is left to the vault."""
        argv = ["--scope", "secrets:write:staging/a/b", "--ttl", "30m", "--max-uses", "3", "--description", "nightly"]
        argv += ["--tier", "sensitive", "--allow-ip", "192.0.2.7", "--allow-ip", "2001:db8::/32"]
        said = setup.run("tokens", "issue", *SCOPE, *argv, "--json", shows=first(setup)).json
        assert setup.vault.tokens[said["token"]] == {
            "scopes": ["secrets:read:production/*", "secrets:write:staging/a/b"],
            "ttl": 1800,
            "max_uses": 3,
            "description": "nightly",
            "access_tier": "sensitive",
            "ip_allowlist": ["192.0.2.7/32", "2001:db8::/32"],
        }
        assert said["token_id"] == "vlt_0000000000000001"
        assert said["scopes"] == ["secrets:read:production/*", "secrets:write:staging/a/b"]

    @pytest.mark.parametrize(
        ("typed", "seconds"), [("45s", 45), ("30m", 1800), ("1h", 3600), ("7d", 604800), ("90", 90)]
    )
    def test_times_have_units(self, setup: VaultSetUp, typed: str, seconds: int) -> None:
        """A number without one is seconds."""
        setup.run("tokens", "issue", *SCOPE, "--ttl", typed, shows=first(setup))
        assert setup.vault.tokens[first(setup)]["ttl"] == seconds

    @pytest.mark.parametrize(
        "argv",
        [
            (),
            ("--scope", "read:metrics"),
            (*SCOPE, "--ttl", "soon"),
            (*SCOPE, "--ttl", "0"),
            (*SCOPE, "--max-uses", "0"),
            (*SCOPE, "--allow-ip", "10.0.0.1/8"),
            (*SCOPE, "--allow-ip", "example.com"),
            (*SCOPE, "--description", "two\nlines"),
            (*SCOPE, "--token", "vlt_0000000000000001.secret"),
        ],
    )
    def test_a_wrong_line(self, setup: VaultSetUp, argv: tuple[str, ...]) -> None:
        """Is refused before anything is asked."""
        assert setup.run("tokens", "issue", *argv).code == 2
        assert not setup.vault.shown

    def test_it_can_go_to_a_file_of_its_own(self, setup: VaultSetUp, tmp_path: Path) -> None:
        """From where the other commands read it."""
        out = tmp_path / "token"
        printed = setup.run("tokens", "issue", *SCOPE, "--out", str(out), "--json")
        assert (printed.code, "token" in printed.json, out.read_text()) == (0, False, first(setup))
        if sys.platform != "win32":
            assert stat.S_IMODE(out.stat().st_mode) == 0o600
        setup.run("secrets", "list", "--token-file", str(out))
        assert setup.vault.shown[-1][2] == first(setup)
        assert setup.run("tokens", "issue", *SCOPE, "--out", str(out), "--json").json["code"] == "input"
        assert len(setup.vault.tokens) == 1

    def test_a_file_that_cannot_be_written_leaves_an_id(self, setup: VaultSetUp, tmp_path: Path) -> None:
        """So that the token that nobody has can be ended."""
        printed = setup.run("tokens", "issue", *SCOPE, "--out", str(tmp_path / "none" / "token"), "--json")
        assert printed.json["message"].endswith("authsec tokens revoke vlt_0000000000000001")

    def test_the_key_is_what_asks(self, setup: VaultSetUp) -> None:
        """A vault token in the environment cannot ask for others, and is not tried."""
        setup.set(AUTHSEC_VAULT_TOKEN="vlt_0000000000000009.s3cr3ts3cr3t")
        setup.run("tokens", "issue", *SCOPE, shows=first(setup))
        assert setup.vault.shown == [("POST", "/v1/tokens", KEY)]


class TestApproval:
    """Where somebody has to approve first."""

    def test_the_id_of_the_request_is_told(self, setup: VaultSetUp) -> None:
        """Exit code 1 and the code; the token is collected with the id."""
        setup.vault.needs_approval = True
        printed = setup.run("tokens", "issue", *SCOPE, "--json")
        assert (printed.code, printed.json["code"], printed.json["approval_id"]) == (
            1,
            "approval_required",
            "approval-1",
        )
        collect = ("tokens", "issue", *SCOPE, "--approval-id", "approval-1")
        printed = setup.run(*collect)
        assert (printed.code, printed.out) == (1, "")
        assert "--approval-id approval-1" in printed.err
        setup.vault.pending["approval-1"] = True
        assert setup.run(*collect, shows=first(setup)).out == first(setup)

    def test_what_is_approved_may_have_to_wait(self, setup: VaultSetUp) -> None:
        """The time from which on the token can be had is told."""
        setup.vault.needs_approval, setup.vault.good_from = True, "2027-01-15T09:00:00Z"
        said = setup.run("tokens", "issue", *SCOPE, "--json").json
        assert (said["approval_id"], said["good_from"]) == ("approval-1", "2027-01-15T09:00:00Z")
        assert "can be had from 2027-01-15T09:00:00Z on" in said["message"]

    def test_it_waits_as_long_as_it_is_told(self, setup: VaultSetUp) -> None:
        """Asking every few seconds with the same id, and giving up at the end."""
        setup.vault.needs_approval = True
        start = setup.clock.steady()
        printed = setup.run("tokens", "issue", *SCOPE, "--wait", "12s", "--json")
        assert (printed.code, printed.json["approval_id"]) == (1, "approval-1")
        assert setup.clock.steady() - start == 12
        assert len(setup.vault.shown) == 4
        assert list(setup.vault.pending) == ["approval-1"]

    def test_a_vault_that_is_away_for_a_while_is_waited_for(
        self, setup: VaultSetUp, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """As long as there is time; without `--wait` it is an error at once."""
        setup.vault.failing["/v1/tokens"] = Reply(status=503)
        assert setup.run("tokens", "issue", *SCOPE, "--json").json["code"] == "vault_unavailable"
        sleep = setup.clock.sleep

        def mend(seconds: float) -> None:
            setup.vault.failing.clear()
            sleep(seconds)

        monkeypatch.setattr(setup.clock, "sleep", mend)
        assert setup.run("tokens", "issue", *SCOPE, "--wait", "1m", shows=first(setup)).code == 0

    def test_it_takes_the_token_once_it_is_approved(self, setup: VaultSetUp, monkeypatch: pytest.MonkeyPatch) -> None:
        """While it waits."""
        setup.vault.needs_approval = True
        sleep = setup.clock.sleep

        def approve(seconds: float) -> None:
            setup.vault.pending["approval-1"] = True
            sleep(seconds)

        monkeypatch.setattr(setup.clock, "sleep", approve)
        printed = setup.run("tokens", "issue", *SCOPE, "--wait", "1h", shows=first(setup))
        assert (printed.code, len(setup.vault.shown)) == (0, 2)

    def test_who_approves_is_told(self, setup: VaultSetUp) -> None:
        """With the command for it."""
        setup.vault.needs_approval = True
        message = setup.run("tokens", "issue", *SCOPE, "--json").json["message"]
        assert "authsec-server admin approvals approve approval-1: then add --approval-id approval-1" in message

    def test_an_approval_that_is_used_up_is_not_waited_for(self, setup: VaultSetUp) -> None:
        """The vault says so without an id, and none is made up."""
        used_up = {"error": {"code": "APPROVAL_REQUIRED", "message": "no"}}
        setup.vault.failing["/v1/tokens"] = Reply.of_json(used_up, status=403)
        said = setup.run("tokens", "issue", *SCOPE, "--approval-id", "approval-1", "--wait", "1h", "--json").json
        assert (said["code"], said["approval_id"]) == ("approval_required", None)
        assert "fetched before" in said["message"]
        assert "None" not in said["message"]


class TestRevoke:
    """`tokens revoke`."""

    def test_a_token_is_ended_by_its_id(self, setup: VaultSetUp) -> None:
        """With the agent's key."""
        setup.run("tokens", "issue", *SCOPE, shows=first(setup))
        said = setup.run("tokens", "revoke", "vlt_0000000000000001", "--json").json
        assert (said["status"], said["revoked"]) == ("success", "vlt_0000000000000001")
        assert not setup.vault.tokens
        assert setup.run("tokens", "revoke", "vlt_0000000000000001").code == 1

    @pytest.mark.req("RW5")
    def test_a_token_itself_is_refused_and_not_repeated(self, setup: VaultSetUp) -> None:
        """It has no place on a command line."""
        printed = setup.run("tokens", "revoke", "vlt_0000000000000001.typed-by-mistake")
        assert (printed.code, "typed-by-mistake" in printed.err) == (2, False)
        assert "never the token itself" in printed.err
