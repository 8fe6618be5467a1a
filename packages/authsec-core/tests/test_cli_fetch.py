"""`authsec fetch`: what a tool would get, for people and for programs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from cli_support import SetUp, running

from authsec_core.testing import FakeClock, Reply

METRICS = ("fetch", "secure-vault/metrics", "--scope", "read:metrics")


@pytest.fixture
def setup(clock: FakeClock, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[SetUp]:
    """Everything works."""
    with running(clock, monkeypatch, capsys) as setup:
        yield setup


def test_the_data_alone_is_on_stdout(setup: SetUp) -> None:
    """Pretty JSON on stdout; mode, status and the token's name on stderr."""
    printed = setup.run(*METRICS)
    assert (printed.code, printed.out) == (0, '{\n  "active_agents": 42\n}\n')
    assert printed.err == f"authsec (LIVE): 200, with token {setup.authority.issued[0].jti}\n"


def test_programs_get_what_a_model_gets(setup: SetUp) -> None:
    """One document: status, mode, code and data, and beside them the token's name and scopes."""
    printed = setup.run(*METRICS, "--json")
    jti = setup.authority.issued[0].jti
    assert (printed.code, printed.err) == (0, "")
    assert printed.json == {
        "status": "success",
        "mode": "live",
        "code": 200,
        "data": {"active_agents": 42},
        "token": {"jti": jti, "scopes": ["read:metrics"]},
    }


@pytest.mark.parametrize(
    ("argv", "answer", "code"),
    [
        (("fetch", "../admin", "--scope", "a"), Reply(), "endpoint_refused"),
        (("fetch", "https://elsewhere.invalid", "--scope", "a"), Reply(), "endpoint_refused"),
        (("fetch", "x", "--scope", "write:all"), Reply(), "delegation_refused"),
        (METRICS, Reply(status=403, body=b"secret reasons"), "downstream_denied"),
        (METRICS, Reply(status=503), "downstream_unavailable"),
        (METRICS, Reply(status=404), "downstream_error"),
        (METRICS, Reply(body=b"{", headers={"Content-Type": "application/json"}), "downstream_error"),
        (METRICS, Reply(body=b"x" * 70000), "downstream_error"),
        (METRICS, Reply(body=b'"' * 40000, headers={"Content-Type": "text/plain"}), "downstream_error"),
    ],
)
def test_a_failure_has_its_stable_code(setup: SetUp, argv: tuple[str, ...], answer: Reply, code: str) -> None:
    """Exit code 1 and the code that a model would be told; nothing of the server's words."""
    setup.answer = answer
    printed = setup.run(*argv, "--json")
    assert (printed.code, printed.json["status"], printed.json["code"]) == (1, "error", code)
    assert "secret reasons" not in printed.out
    printed = setup.run(*argv)
    assert (printed.code, printed.out) == (1, "")
    assert printed.err.startswith(f"authsec (LIVE): {code}: ")


def test_an_unreachable_api(setup: SetUp) -> None:
    """It is told apart, and may be tried again."""
    setup.api.close()
    assert setup.run(*METRICS, "--json").json["retryable"] is True


def test_the_policy_of_the_operator_counts(setup: SetUp) -> None:
    """What a tool may not reach, the command may not either; no token is asked for."""
    setup.set(AUTHSEC_ALLOWED_ENDPOINTS="reports")
    assert setup.run(*METRICS).code == 1
    assert not setup.authority.requests


def test_text_is_shown_as_it_is(setup: SetUp) -> None:
    """Lines stay lines; what could take hold of the terminal is spelled out."""
    setup.answer = Reply(body=b"a\nb\x1b[2J", headers={"Content-Type": "text/plain"})
    assert setup.run(*METRICS).out == "a\nb\\x1b[2J\n"


@pytest.mark.req("RS8")
def test_an_api_that_repeats_credentials(setup: SetUp) -> None:
    """Token and key are taken out of the data; every run is searched for them."""
    setup.authority.recover()
    token = setup.authority.mint(setup.agent)
    setup.replace_token(token)
    setup.answer = Reply.of_json({"token": token, "key": setup.secrets[0], "claims": token.split(".")[1]})
    data = setup.run(*METRICS, "--json").json["data"]
    assert set(data) == {"token", "key", "claims"}
    assert data["key"] == "[removed]"
    assert setup.run(*METRICS).code == 0


def test_deep_data_does_not_crash(setup: SetUp) -> None:
    """Data that no printer can follow is data or an error, never a traceback."""
    for depth in (100, 500, 900, 970, 3000):
        setup.answer = Reply(body=b"[" * depth + b"]" * depth, headers={"Content-Type": "application/json"})
        for argv in (METRICS, (*METRICS, "--json")):
            assert setup.run(*argv).code in {0, 1}


def test_sample_data_says_so(setup: SetUp) -> None:
    """In MOCK mode the notice is beside the data."""
    setup.set(**dict.fromkeys(("AUTHSEC_BASE_URL", "AUTHSEC_AGENT_CLIENT_ID", "AUTHSEC_AGENT_KEY")))
    setup.set(AUTHSEC_API_BASE_URL=None)
    printed = setup.run(*METRICS)
    assert printed.code == 0
    assert printed.err.startswith("authsec (MOCK): 200, with token ")
    assert "invented sample data" in printed.err
    assert "invented sample data" in setup.run(*METRICS, "--json").json["notice"]


def test_without_an_api_it_is_a_matter_of_settings(setup: SetUp) -> None:
    """The message names the variable."""
    setup.set(AUTHSEC_API_BASE_URL=None)
    printed = setup.run(*METRICS, "--json")
    assert (printed.code, printed.json["code"]) == (1, "configuration")
    assert "AUTHSEC_API_BASE_URL" in printed.json["message"]
