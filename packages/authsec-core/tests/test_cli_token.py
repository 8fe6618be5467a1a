"""`authsec token`: everything that a token says, and never the token."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cli_support import KEY, SetUp, running

from authsec_core.testing import FakeClock


@pytest.fixture
def setup(clock: FakeClock, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[SetUp]:
    """Everything works."""
    with running(clock, monkeypatch, capsys) as setup:
        yield setup


@pytest.mark.req("RS8")
def test_it_shows_the_claims_and_hides_the_token(setup: SetUp) -> None:
    """`jti`, scopes, seconds left and claims, in a table and as JSON; every run is searched for the token."""
    printed = setup.run("token", "--scope", "read:metrics", "--json")
    said = printed.json
    assert (printed.code, said["status"], said["mode"], said["jti"]) == (0, "success", "live", said["claims"]["jti"])
    assert (said["asked"], said["granted"], said["excess"]) == (["read:metrics"], ["read:metrics"], [])
    assert (said["seconds_left"], said["header"]["alg"]) == (1800.0, "RS256")
    assert said["claims"]["client_id"] == setup.agent.client_id
    printed = setup.run("token", "--scope", "read:metrics")
    assert printed.code == 0
    assert "(hidden)" in printed.out
    assert setup.authority.issued[-1].jti in printed.out
    assert "1800 (until 2027-01-15T08:30:00Z)" in printed.out
    assert len(setup.secrets) == 3  # the key and both tokens were looked for


def test_it_asks_for_what_it_was_told(setup: SetUp) -> None:
    """Scope, ttl and audience go to the authority; without a scope the whole delegation is asked for."""
    said = setup.run("token", "--ttl", "30", "--audience", "billing", "--json").json
    assert (said["asked"], said["granted"], said["seconds_left"]) == (None, ["read:metrics", "read:records"], 30.0)
    assert said["claims"]["aud"] == ["billing"]
    assert dict(setup.authority.requests[0].query)["ttl"] == "30"
    assert "(the whole delegation)" in setup.run("token").out


def test_more_than_was_asked_is_shown(setup: SetUp) -> None:
    """Granted and asked are held against each other."""
    setup.replace_token(setup.authority.mint(setup.agent))
    assert setup.run("token", "--scope", "read:metrics", "--json").json["excess"] == ["read:records"]
    assert "beyond what was asked" in setup.run("token", "--scope", "read:metrics").out


@pytest.mark.req("RS8")
def test_claims_that_repeat_a_credential_are_cleaned(setup: SetUp, tmp_path: Path) -> None:
    """A hostile authority cannot have the key printed, nor take hold of the terminal."""
    claims: dict[str, Any] = {
        "note": f"key: {KEY}",
        KEY: 1,
        "half": KEY.split(".")[1],
        "red": "\x1b[31m\u009b",
        "exp": 10**11,
    }
    setup.replace_token(setup.authority.mint(setup.agent, **claims))
    printed = setup.run("token")
    assert "key: [removed]" in printed.out
    assert r"\x1b[31m\x9b" in printed.out
    (tmp_path / "token").write_text(KEY)
    setup.set(AUTHSEC_AGENT_KEY=None, AUTHSEC_WORKLOAD_TOKEN_FILE=tmp_path / "token")
    assert setup.run("token", "--json").json["claims"]["note"] == "key: [removed]"


def test_an_end_that_no_calendar_knows_is_left_out(setup: SetUp) -> None:
    """A hostile authority cannot crash the command with the year 30492."""
    setup.replace_token(setup.authority.mint(setup.agent, exp=900_000_000_000))
    printed = setup.run("token", "--json")
    assert (printed.code, printed.json["claims"]["exp"]) == (0, 900_000_000_000)
    assert setup.run("token").code == 0


@pytest.mark.parametrize(
    ("how", "code", "more"),
    [
        ({"status": 401}, "delegation_refused", {"reason": "proof_rejected"}),
        ({"status": 503}, "authority_unreachable", {"retryable": True}),
        ({"garbage": b"<html>"}, "bad_reply", {}),
        ({"cut": "body"}, "authority_unreachable", {}),
    ],
)
def test_a_failure_has_its_stable_code(setup: SetUp, how: dict[str, Any], code: str, more: dict[str, Any]) -> None:
    """Exit code 1; JSON on stdout for programs, one line on stderr for people."""
    setup.spoil(**how)
    printed = setup.run("token", "--json")
    assert (printed.code, printed.err) == (1, "")
    assert {"status": "error", "mode": "live", "code": code, **more}.items() <= printed.json.items()
    printed = setup.run("token")
    assert (printed.code, printed.out, printed.err.count("\n")) == (1, "", 1)
    assert printed.err.startswith(f"authsec (LIVE): {code}: ")


def test_what_is_missing_is_named(setup: SetUp) -> None:
    """Programs find the scopes that were not granted."""
    printed = setup.run("token", "--scope", "read:metrics write:all", "--json")
    assert (printed.code, printed.json["code"], printed.json["missing"]) == (1, "scope_not_granted", ["write:all"])


def test_wrong_settings_have_no_mode(setup: SetUp, tmp_path: Path) -> None:
    """They end it before anything is asked."""
    printed = setup.run("token", "--env-file", str(tmp_path / "none"), "--json")
    assert (printed.code, printed.json["mode"], printed.json["code"]) == (1, None, "configuration")
    assert setup.run("token", "--audience", " ").err.startswith("authsec: configuration: AUTHSEC_AUDIENCE")
    assert not setup.authority.requests


def test_settings_come_from_a_named_file(setup: SetUp, tmp_path: Path) -> None:
    """`--env-file` is what the environment does not say."""
    lines = [f"{name}={value}" for name, value in setup.authority.environ(setup.agent).items()]
    (tmp_path / "agent.env").write_text("\n".join(lines))
    setup.set(**dict.fromkeys(("AUTHSEC_BASE_URL", "AUTHSEC_AGENT_CLIENT_ID", "AUTHSEC_AGENT_KEY")))
    assert setup.run("token", "--env-file", str(tmp_path / "agent.env"), "--json").json["mode"] == "live"


def test_a_mock_token_says_so(setup: SetUp) -> None:
    """MOCK mode is named, and its claims say it, too."""
    setup.set(AUTHSEC_MODE="mock", AUTHSEC_MOCK_PERMISSIONS="read:metrics")
    said = setup.run("token", "--json").json
    assert (said["mode"], said["claims"]["mock"], said["granted"]) == ("mock", True, ["read:metrics"])
    assert not setup.authority.requests
    assert setup.run("token", "--scope", "write:all").code == 1
