"""The `authsec-server` command itself: its usage, what it loads and its exit codes."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys

import pytest
from server_cli_support import CLIENT, Desk

import authsec_core
from authsec_core.testing import FakeClock
from authsec_server.cli import _values, main
from authsec_server.cli._admin_arguments import COMMANDS
from authsec_server.cli._arguments import parse

TYPED = "typed-by-mistake-0123456789"
HEAVY = ("sqlalchemy", "fastapi", "starlette", "uvicorn", "alembic", "pydantic", "httpx", "cryptography", "rich")


@pytest.fixture
def desk(clock: FakeClock, capsys: pytest.CaptureFixture[str]) -> Desk:
    """An operator without an authority."""
    return Desk(clock, capsys, None)


@pytest.mark.parametrize("words", [["revoke", "{kid}", "--json"], ["--json", "activate", "--now", "{kid}"]])
def test_the_id_of_a_key_may_begin_like_an_option(words: list[str]) -> None:
    """One thumbprint in 64 begins with a hyphen; it is typed as all others are, and the options stay what they are."""
    kid = f"-{'a' * 42}"
    json_first = [word for word in words if word == "--json" and words[0] == word]
    typed = [*json_first, "admin", "signing-keys", *(word.format(kid=kid) for word in words[len(json_first) :])]
    found = parse(typed)
    assert found.admin is not None
    assert (found.admin.given["kid"], found.as_json) == (kid, True)
    assert found.admin.given.get("at_once", False) is ("--now" in words)


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("", "the following arguments are required: COMMAND"),
        (TYPED, "argument COMMAND: invalid choice"),
        (f"serve {TYPED}", "there are arguments too many"),
        ("serve --port 65536", "argument --port: give a number from 0 to 65535"),
        ("serve --de", "there is no option --de"),
        ("grant-admin", "the following arguments are required: NAME"),
        ("admin", "the following arguments are required: COMMAND"),
        ("admin clients", "the following arguments are required: COMMAND"),
        (f"admin --token {TYPED} whoami", "argument COMMAND: invalid choice"),
        (f"admin whoami --token {TYPED}", "there is no option --token"),
        (f"admin whoami --token={TYPED}", "there is no option --token"),
        ("admin clients show ..", "argument CLIENT_ID: write an id or a name"),
        ("admin clients show\t", "the following arguments are required: CLIENT_ID"),
        (f"admin clients onboard x --type {TYPED} --platform docker", "argument --type: invalid choice"),
        (
            "admin clients onboard x --type mcp-agent --platform docker --selector a=",
            "argument --selector: write it as",
        ),
        ("admin roles put x", "the following arguments are required: PERMISSIONS"),
        ("admin delegations update x --enable --disable", "argument --disable: not allowed with argument --enable"),
        ("admin delegations update x --action a --all-actions", "not allowed with argument --action"),
        (f"admin delegations update x --max-duration {TYPED}", "argument --max-duration: write a time such as 90s"),
        ("admin delegations update x --max-duration 0h", "argument --max-duration: write a time such as 90s"),
        ("admin tokens dry-run x --ttl 60", "argument --ttl: write a time such as 90s"),
        (f"admin audit --since {TYPED}", "argument --since: write a time such as 90s, 30m, 1h or 2d, or a moment"),
        ("admin audit --limit 0", "argument --limit: write a positive whole number"),
        ("admin audit --all --jsonl", "argument --jsonl: not allowed with argument --all"),
    ],
)
def test_a_wrong_command_line(typed: str, words: str, desk: Desk) -> None:
    """It is explained on stderr with exit code 2, and what was typed is not repeated: it may be a token."""
    printed = desk.run(*typed.split())
    assert (printed.code, printed.out) == (2, "")
    assert words in printed.err
    assert TYPED not in printed.err
    assert printed.err.startswith("usage: authsec-server")


def test_a_wrong_command_line_for_programs(desk: Desk) -> None:
    """With --json the explanation is the one document on stdout."""
    printed = desk.run("admin", "clients", "show", "--json")
    assert (printed.code, printed.json["code"], printed.err) == (2, "usage", "")


def test_common_options_stand_on_either_side() -> None:
    """`--json` may come before the command or after it."""
    for typed in ("--json admin clients list", "admin --json clients list", "admin clients list --json"):
        assert parse(typed.split()).as_json


def test_version_and_help(desk: Desk) -> None:
    """They are printed on stdout with exit code 0, for every command there is, and in ASCII."""
    assert desk.run("--version").out == f"authsec-server {authsec_core.__version__}\n"
    local = (
        "serve",
        "init",
        "migrate",
        "grant-admin",
        "rotate-keys",
        "rotate-master-key",
        "verify-audit",
        "admin",
        "admin clients",
    )
    for words in ("", *local, *(f"admin {command.words}" for command in COMMANDS)):
        printed = desk.run(*words.split(), "--help")
        assert (printed.code, printed.err) == (0, "")
        assert printed.out.startswith(f"usage: authsec-server {words}".rstrip())
        assert printed.out.isascii() or words == ""


def test_help_is_quick() -> None:
    """`--help` loads neither the database's libraries nor the web's, nor those for tables."""
    program = (
        "import sys\nfrom authsec_server.cli import main\n"
        f"for typed in (['--help'], ['admin', 'clients', '--help']):\n    assert main(typed) == 0\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_the_module_is_the_command() -> None:
    """`python -m authsec_server` works where scripts are not on the path."""
    done = subprocess.run(
        [sys.executable, "-m", "authsec_server", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"authsec-server {authsec_core.__version__}\n"


def test_an_interrupt(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends the command with the exit code that shells expect, and without a traceback."""

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("authsec_server.cli._run", interrupted)
    printed = desk.run("admin", "whoami")
    assert (printed.code, printed.err) == (130, "authsec-server: interrupted\n")


def test_the_reader_of_the_output_has_gone() -> None:
    """`| head` is no reason for a traceback."""
    program = "import sys; from authsec_server.cli import _arguments, main; sys.stdout.close = None; sys.exit(main())"
    with subprocess.Popen(
        [sys.executable, "-c", program, "admin", "whoami", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == ""
        assert process.wait() == 1


def test_no_operation_is_there_twice() -> None:
    """Neither its words nor its route, but for the two that say different things to one route."""
    assert len({command.words for command in COMMANDS}) == len(COMMANDS)
    routes = [(command.method, command.path, str(command.fixed)) for command in COMMANDS]
    assert len(set(routes)) == len(routes)


def test_spans_and_moments() -> None:
    """Both are bounded, exact and in ASCII digits."""
    assert _values.seconds("2d") == 172_800
    for typed in ("", "1", "h", "1.5h", "-1h", "1H", "1 h", "01h", "\u0661h", "1h1m", "1w", "9999999999s"):
        for parse_it in (_values.seconds, _values.span):
            with pytest.raises(argparse.ArgumentTypeError):
                parse_it(typed)
    assert _values.ahead("1m").text(0.0) == "1970-01-01T00:01:00Z"
    assert _values.past("1m").text(60.0) == "1970-01-01T00:00:00Z"
    assert _values.past("2030-01-31T12:00:00Z").text(60.0) == "2030-01-31T12:00:00Z"


def test_main_is_what_it_says(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """An entry point calls it without arguments."""
    monkeypatch.setattr(sys, "argv", ["authsec-server", "admin", "clients", "show", CLIENT, "--json"])
    assert main() == 2
    assert json.loads(capsys.readouterr().out)["message"].startswith("AUTHSEC_ADMIN_URL")
