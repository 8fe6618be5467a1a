"""The `authsec` command itself: its usage, its streams and its exit codes."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import TextIO, cast

import pytest
from cli_support import KEY, SetUp, running

import authsec_core
from authsec_core.cli import _arguments, main
from authsec_core.testing import FakeClock, Reply

TYPED = "typed-by-mistake-0123456789"


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    def isatty(self) -> bool:
        """Return True."""
        return True


@pytest.fixture
def setup(clock: FakeClock, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[SetUp]:
    """Everything works."""
    with running(clock, monkeypatch, capsys) as setup:
        yield setup


def command(*argv: str, before: str = "", **options: object) -> subprocess.CompletedProcess[bytes]:
    """Run the command in a process of its own; `before` is run before it."""
    program = f"import sys; {before}; from authsec_core.cli import main; sys.exit(main())"
    call = ["-c", program] if before else ["-m", "authsec_core"]
    kept = {"capture_output": True, **options}
    return subprocess.run([sys.executable, *call, *argv], check=False, **kept)  # type: ignore[call-overload,no-any-return] # options of any kind


class TestUsage:
    """The command line."""

    @pytest.mark.parametrize(
        ("argv", "words"),
        [
            ([], "the following arguments are required: COMMAND"),
            ([TYPED], "argument COMMAND: invalid choice"),
            (["--agent-key", TYPED, "doctor"], "argument COMMAND: invalid choice"),
            (["doctor", "--agent-key", TYPED], "there is no option --agent-key"),
            (["doctor", f"--agent-key={TYPED}"], "there is no option --agent-key"),
            (["doctor", f"-{TYPED}"], "there is no option -t"),
            (["doctor", f"--{TYPED}"], "there is no such option"),
            (["doctor", TYPED], "there are arguments too many"),
            (["token", "--reveal"], "there is no option --reveal"),
            (["token", "--sco", "a"], "there is no option --sco"),
            (["token", "--ttl", TYPED], "argument --ttl: give a positive number of seconds"),
            (["token", "--ttl", "-1"], "argument --ttl: give a positive number of seconds"),
            (["token", "--ttl", "inf"], "argument --ttl: give a positive number of seconds"),
            (["token", "--scope", f'"{TYPED}"'], "argument --scope: name scopes such as read:metrics"),
            (["fetch", "a"], "the following arguments are required: --scope"),
            (["fetch", "--scope", "a"], "the following arguments are required: ENDPOINT"),
            ([f"--json={TYPED}", "doctor"], "argument --json: ignored explicit argument"),
        ],
    )
    def test_a_wrong_command_line(self, argv: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
        """It is explained on stderr with exit code 2, and what was typed is not repeated: it may be a key."""
        assert main(argv) == 2
        out, err = capsys.readouterr()
        assert (out, TYPED in err) == ("", False)
        assert words in err
        assert err.startswith("usage: authsec")

    def test_a_wrong_command_line_for_programs(self, capsys: pytest.CaptureFixture[str]) -> None:
        """With --json the explanation is the one document on stdout."""
        assert main(["fetch", "--json", "a"]) == 2
        out, err = capsys.readouterr()
        assert (json.loads(out)["code"], json.loads(out)["status"], err) == ("usage", "error", "")

    @pytest.mark.parametrize("argv", [["--json", "--env-file", "x", "token"], ["token", "--env-file", "x", "--json"]])
    def test_common_options_stand_on_either_side(self, argv: list[str]) -> None:
        """`--json` and `--env-file` may come before the command or after it."""
        arguments = _arguments.parse(argv)
        assert (arguments.as_json, str(arguments.env_file), arguments.command) == (True, "x", "token")

    def test_version_and_help(self, capsys: pytest.CaptureFixture[str]) -> None:
        """They are printed on stdout with exit code 0."""
        assert main(["--version"]) == 0
        assert capsys.readouterr().out == f"authsec {authsec_core.__version__}\n"
        for argv in (["--help"], ["doctor", "-h"], ["token", "-h"], ["fetch", "-h"]):
            assert main(argv) == 0
            out, err = capsys.readouterr()
            assert (out.startswith("usage: authsec"), err, out.isascii()) == (True, "", True)

    def test_the_arguments_are_those_of_the_process(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """An entry point calls it without any."""
        monkeypatch.setattr(sys, "argv", ["authsec", "--version"])
        assert main() == 0
        assert capsys.readouterr().out.startswith("authsec ")


class TestTables:
    """What people see."""

    def test_the_doctor_has_two_tables(self, setup: SetUp) -> None:
        """Settings with their origin, findings with their mend, and a summary on stderr."""
        setup.set(AUTHSEC_FLAVOUR="mint")
        printed = setup.run("doctor", "--scope", "write:all")
        for words in ("AUTHSEC_BASE_URL", "environment", "default", "not settings, and ignored: AUTHSEC_FLAVOUR"):
            assert words in printed.out
        assert "what to do" in printed.out
        assert printed.err == "authsec (LIVE): 1 failed, 1 to look at: see what to do\n"
        assert printed.code == 1

    def test_the_summary_says_how_it_is(self, setup: SetUp) -> None:
        """Well, or with something to look at, which is no failure."""
        assert setup.run("doctor").err == "authsec (LIVE): all is well\n"
        setup.set(AUTHSEC_FLAVOUR="mint")
        assert setup.run("doctor").err == "authsec (LIVE): nothing failed, 1 to look at\n"

    def test_wrong_settings_are_shown(self, setup: SetUp) -> None:
        """Also where no mode could be decided."""
        setup.set(AUTHSEC_TIMEOUT="soon")
        printed = setup.run("doctor")
        assert "AUTHSEC_TIMEOUT" in printed.out
        assert printed.err.startswith("authsec: 1 failed")

    def test_a_pipe_gets_no_colours(self, setup: SetUp) -> None:
        """Nor does it get anything else that only a terminal understands."""
        printed = setup.run("doctor")
        assert "\x1b" not in printed.out + printed.err

    def test_a_terminal_gets_colours_and_progress(self, setup: SetUp, monkeypatch: pytest.MonkeyPatch) -> None:
        """Colours on stdout; what is being done on stderr, from where it is wiped."""
        out, err = self.on_terminal(setup, monkeypatch)
        assert "\x1b[32mok" in out
        assert "Asking the vault" in err
        assert "Asking" not in out

    def test_no_color_is_heard(self, setup: SetUp, monkeypatch: pytest.MonkeyPatch) -> None:
        """NO_COLOR means no colours on a terminal, either (https://no-color.org)."""
        monkeypatch.setenv("NO_COLOR", "1")
        out, _ = self.on_terminal(setup, monkeypatch)
        assert "\x1b[3" not in out
        assert "settings" in out

    def on_terminal(self, setup: SetUp, monkeypatch: pytest.MonkeyPatch, *argv: str) -> tuple[str, str]:
        """Run the doctor on two terminals."""
        out, err = Terminal(), Terminal()
        with monkeypatch.context() as patched:
            patched.setenv("TERM", "xterm-256color")
            patched.setenv("COLUMNS", "140")
            patched.delenv("COLORTERM", raising=False)
            patched.setattr(sys, "stdout", out)
            patched.setattr(sys, "stderr", err)
            main(["doctor", *argv], clock=setup.clock)
        assert KEY not in out.getvalue() + err.getvalue()
        return out.getvalue(), err.getvalue()

    def test_json_stays_json_on_a_terminal(self, setup: SetUp, monkeypatch: pytest.MonkeyPatch) -> None:
        """Progress goes to stderr, so that stdout is one document."""
        out, _ = self.on_terminal(setup, monkeypatch, "--json")
        assert json.loads(out)["ok"] is True

    @pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-8"])
    def test_every_encoding_will_do(self, setup: SetUp, monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
        """Characters that the stream does not have are spelled out: nothing crashes, whatever the API says."""
        setup.answer = Reply.of_json({"text": "Grüße 漢字 \x1b[2J \u009b \u202e", "a": ["\u2028"]})
        raw = io.BytesIO()
        stream = io.TextIOWrapper(raw, encoding=encoding, write_through=True)
        with monkeypatch.context() as patched:
            patched.setattr(sys, "stdout", cast("TextIO", stream))
            for argv in (["doctor"], ["token"], ["fetch", "a", "--scope", "read:metrics"]):
                assert main(argv, clock=setup.clock) == 0
        text = raw.getvalue().decode(encoding)
        assert ("漢字" in text) == (encoding == "utf-8")
        assert not {"\x1b", "\u009b", "\u202e", "\u2028"} & set(text)

    def test_narrow_terminals_lose_nothing(self, setup: SetUp) -> None:
        """Long words are folded, never cut."""
        setup.set(COLUMNS="40")
        printed = setup.run("token")
        values = "".join(line[10:].strip() for line in printed.out.splitlines())
        assert setup.agent.client_id in values
        assert "…" not in printed.out


class TestProcess:
    """A process of its own."""

    def test_json_does_without_rich(self, setup: SetUp) -> None:
        """Programs need no extra; people are told which one, in one line, before anything is asked."""
        gone = "sys.modules['rich'] = sys.modules['rich.console'] = None"
        done = command("doctor", "--json", before=gone)
        assert (done.returncode, done.stderr) == (int(not json.loads(done.stdout)["ok"]), b"")
        asked = len(setup.authority.requests)
        done = command("doctor", before=gone)
        assert (done.returncode, done.stdout) == (2, b"")
        wheel = f"dist/authsec_core-{authsec_core.__version__}-py3-none-any.whl[cli]"
        lines = done.stderr.decode().splitlines()
        assert lines == [
            f"authsec: tables need rich, which the wheel's extra 'cli' brings: pip install \"{wheel}\", or add --json"
        ]
        assert len(setup.authority.requests) == asked
        assert command("--version", before=gone).returncode == 0

    def test_it_can_be_run_as_a_module(self) -> None:
        """`python -m authsec_core` is the same command; in MOCK mode it needs nothing."""
        done = command("fetch", "secure-vault/metrics", "--scope", "read:metrics", "--json")
        assert (done.returncode, done.stderr) == (0, b"")
        assert json.loads(done.stdout)["mode"] == "mock"

    @pytest.mark.parametrize("argv", [["token"], ["token", "--json"], ["nonsense", "--json"]])
    def test_a_reader_that_goes_away_is_no_error(self, argv: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
        """`authsec token | true` ends without a traceback, also from what Python flushes when it exits."""
        monkeypatch.delenv("PYTHONUNBUFFERED", raising=False)
        reader, writer = os.pipe()
        os.close(reader)
        try:
            done = command(*argv, capture_output=False, stdout=writer, stderr=subprocess.PIPE)
        finally:
            os.close(writer)
        assert b"Traceback" not in done.stderr
        assert b"BrokenPipe" not in done.stderr
        assert done.returncode in {1, 2}

    @pytest.mark.req("RO3")
    def test_the_package_does_not_load_the_command(self) -> None:
        """Neither the command nor rich is loaded by a program that uses authsec; help needs no HTTP."""
        program = (
            "import sys, authsec_core; loaded = {'argparse', 'rich'} & set(sys.modules);"
            "from authsec_core import AuthSecClient;"
            "print([*loaded, *(name for name in sys.modules if (name + '.').startswith('authsec_core.cli.'))])"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
        assert done.stdout.strip() == b"[]"
        program = (
            "import sys; from authsec_core.cli import main; main(['--version']);"
            "print({'httpx', 'pydantic', 'rich', 'cryptography'} & set(sys.modules))"
        )
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
        assert done.stdout.split(b"\n")[1].strip() == b"set()"

    def test_an_interrupt_has_its_code(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        """130, one line, no traceback."""

        def interrupted(*_: object) -> int:
            raise KeyboardInterrupt

        monkeypatch.setattr("authsec_core.cli._run", interrupted)
        assert main(["doctor"]) == 130
        assert capsys.readouterr().err == "authsec: interrupted\n"

    def test_the_log_is_left_as_it_was(self, setup: SetUp) -> None:
        """Warnings of the SDK are in the outcome, not on stderr; the logger keeps no handler of ours."""
        import logging

        before = list(logging.getLogger("authsec").handlers)
        setup.set(**dict.fromkeys(("AUTHSEC_BASE_URL", "AUTHSEC_AGENT_CLIENT_ID", "AUTHSEC_AGENT_KEY")))
        setup.set(AUTHSEC_API_BASE_URL=None)
        assert setup.run("token", "--json").err == ""
        assert logging.getLogger("authsec").handlers == before
