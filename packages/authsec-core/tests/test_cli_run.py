"""`authsec run`: a program gets its secrets in its environment, and nobody else gets them anywhere."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from vault_cli_support import CANARY, KEY, VaultSetUp, running_vault

from authsec_core.cli import main
from authsec_core.cli._outcome import Launch
from authsec_core.cli._program import _waited_for
from authsec_core.testing import FakeClock, Reply, Request, assert_no_secret

OPENAI = ("--env", "OPENAI_API_KEY=production/openai/api-key")
# Says what it was started with.
TELL = "import json, os, sys; print(json.dumps([sys.argv[1:], dict(os.environ)]))"
posix = pytest.mark.skipif(sys.platform == "win32", reason="a process cannot become another program there")
linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")


@pytest.fixture
def setup(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[VaultSetUp]:
    """A vault with one secret."""
    with running_vault(clock, monkeypatch, capsys) as setup:
        setup.vault.put("production/openai/api-key", CANARY)
        yield setup


def started(*argv: str, before: str = "", **options: Any) -> subprocess.CompletedProcess[str]:
    """Run `authsec run` in a process of its own."""
    call = ["-c", f"import sys; {before}; from authsec_core.cli import main; sys.exit(main())"] if before else []
    command = [sys.executable, *(call or ["-m", "authsec_core"]), "run", *argv]
    return subprocess.run(command, capture_output=True, check=False, text=True, timeout=60, **options)


class TestEnvironment:
    """What the program finds."""

    @pytest.mark.req("RW5")
    def test_the_secrets_and_none_of_the_credentials(self, setup: VaultSetUp) -> None:
        """All else of the environment stays; its arguments are its own, whatever they look like."""
        setup.set(ASS_AGENT_KEY="ask_1", AUTHSEC_VAULT_TOKEN=None, AUTHSEC_ADMIN_TOKEN="opt_1", KEPT="1")
        done = started(*OPENAI, "--", sys.executable, "-c", TELL, "--json", "--", "--env", "x")
        assert (done.returncode, done.stderr) == (0, "")
        argv, environ = json.loads(done.stdout)
        assert argv == ["--json", "--", "--env", "x"]
        assert (environ["OPENAI_API_KEY"], environ["KEPT"]) == (CANARY, "1")
        assert environ["AUTHSEC_VAULT_URL"] == setup.vault.server.base_url
        gone = {"AUTHSEC_AGENT_KEY", "ASS_AGENT_KEY", "AUTHSEC_VAULT_TOKEN", "AUTHSEC_ADMIN_TOKEN"}
        assert not gone & environ.keys()

    def test_the_agents_own_credentials_can_stay(self, setup: VaultSetUp) -> None:
        """Which a program needs that asks the vault itself; an operator's token never stays."""
        setup.set(AUTHSEC_ADMIN_TOKEN="opt_1")
        done = started(*OPENAI, "--keep-key", "--", sys.executable, "-c", TELL)
        environ = json.loads(done.stdout)[1]
        assert (environ["AUTHSEC_AGENT_KEY"], "AUTHSEC_ADMIN_TOKEN" in environ) == (KEY, False)

    @posix
    def test_a_credential_in_lower_case_goes_as_well(self, setup: VaultSetUp) -> None:
        """The settings know no case, so that the key may be spelled in any."""
        setup.set(AUTHSEC_AGENT_KEY=None, authsec_agent_key=KEY, Authsec_Admin_Token="opt_1")
        done = started(*OPENAI, "--", sys.executable, "-c", TELL)
        assert (done.returncode, done.stderr) == (0, "")
        environ = json.loads(done.stdout)[1]
        assert not {"authsec_agent_key", "Authsec_Admin_Token"} & environ.keys()
        assert KEY not in done.stdout

    def test_one_secret_in_two_variables_is_read_once(self, setup: VaultSetUp) -> None:
        """Each use is on record, so there are no more than are needed; what was set before is replaced."""
        setup.set(OPENAI_API_KEY="stale")
        done = started(*OPENAI, "--env", "OTHER=production/openai/api-key", "--", sys.executable, "-c", TELL)
        environ = json.loads(done.stdout)[1]
        assert (environ["OPENAI_API_KEY"], environ["OTHER"]) == (CANARY, CANARY)
        assert len(setup.vault.shown) == 1

    def test_the_audit_is_told_which_program(self, setup: VaultSetUp) -> None:
        """By its name without arguments, unless another reason was typed."""
        true = f"{os.path.dirname(sys.executable)}/{Path(sys.executable).name}"
        started(*OPENAI, "--", true, "-c", "pass")
        started(*OPENAI, "--agent-name", "nightly", "--reason", "the report", "--", true, "-c", "pass")
        headers = [request.headers for request in setup.vault.server.requests]
        reasons = [head["x-access-reason"] for head in headers]
        assert reasons == [f"authsec run {Path(true).name}", "the report"]
        assert [head.get("x-agent-name") for head in headers] == [None, "nightly"]

    def test_a_token_is_used_in_place_of_the_key(self, setup: VaultSetUp, tmp_path: Path) -> None:
        """It is not handed on either."""
        token = f"vlt_0000000000000001.{'s3cr3t' * 8}"
        setup.vault.tokens[token] = {}
        (tmp_path / "token").write_text(token)
        done = started(*OPENAI, "--token-file", str(tmp_path / "token"), "--", sys.executable, "-c", TELL)
        assert json.loads(done.stdout)[1]["OPENAI_API_KEY"] == CANARY
        assert setup.vault.shown[-1][2] == token
        assert token not in done.stdout


@posix
class TestProcess:
    """What the program is to the one who started it."""

    def test_it_is_the_same_process(self, setup: VaultSetUp) -> None:
        """Its id, its streams, its exit code and its end by a signal are what the caller sees."""
        script = "import os, sys; print(os.getpid()); print(sys.stdin.read(), file=sys.stderr); sys.exit(7)"
        command = [sys.executable, "-m", "authsec_core", "run", *OPENAI, "--", sys.executable, "-c", script]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            out, err = process.communicate("piped", timeout=60)
        assert (out, err, process.returncode) == (f"{process.pid}\n", "piped\n", 7)
        assert started(*OPENAI, "--", "sh", "-c", "kill -TERM $$").returncode == -15

    def test_no_signal_is_ignored(self, setup: VaultSetUp) -> None:
        """Python ignores SIGPIPE; a program that inherits that writes on into a closed pipe."""
        assert started(*OPENAI, "--", "sh", "-c", "kill -PIPE $$").returncode == -13

    @linux
    @pytest.mark.req("RW5")
    def test_no_value_is_among_the_arguments(self, setup: VaultSetUp, monkeypatch: pytest.MonkeyPatch) -> None:
        """Neither of the command, while it reads the secret, nor of the program that it becomes."""
        seen: list[bytes] = []
        answer = setup.vault._secrets

        def look(request: Request, path: str) -> Reply:
            seen.extend(line for folder in Path("/proc").glob("[0-9]*") if (line := _arguments_of_ours(folder)))
            return answer(request, path)

        monkeypatch.setattr(setup.vault, "_secrets", look)
        own = "print(open('/proc/self/cmdline').read())"
        done = started(*OPENAI, "--", sys.executable, "-c", own)
        assert any(b"authsec_core" in line for line in seen)
        assert "cmdline" in done.stdout
        assert_no_secret([seen, done.stdout, done.stderr], CANARY, KEY)

    def test_it_needs_no_rich(self, setup: VaultSetUp) -> None:
        """It has no table to show, and an image for one program need not have it."""
        gone = "sys.modules['rich'] = sys.modules['rich.console'] = None"
        done = started(*OPENAI, "--", sys.executable, "-c", "print('ran')", before=gone)
        assert (done.returncode, done.stdout, done.stderr) == (0, "ran\n", "")
        done = started("--env", "A=production/no/key", "--", sys.executable, "-c", "print('ran')", before=gone)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith("authsec (LIVE): secret_not_found: ")


class TestFailures:
    """Nothing is started unless everything is there."""

    def test_all_or_nothing(self, setup: VaultSetUp, tmp_path: Path) -> None:
        """One secret that cannot be read, and the program does not run."""
        both = (*OPENAI, "--env", "TAVILY=production/tavily/api-key")
        made = f"open({str(tmp_path / 'made')!r}, 'w')"
        printed = setup.run("run", *both, "--json", "--", sys.executable, "-c", made)
        assert (printed.code, printed.json["code"], printed.json["mode"]) == (1, "secret_not_found", "live")
        assert "production/tavily/api-key" in printed.json["message"]
        assert not (tmp_path / "made").exists()

    def test_a_program_that_is_not_there(self, setup: VaultSetUp) -> None:
        """Is noticed before anything is read, and its name is not repeated."""
        printed = setup.run("run", *OPENAI, "--json", "--", "no-such-program-anywhere")
        assert (printed.code, printed.json["code"]) == (1, "input")
        assert not setup.vault.shown

    @posix
    def test_a_program_that_the_system_cannot_run(self, setup: VaultSetUp, tmp_path: Path) -> None:
        """Is said in one line."""
        program = tmp_path / "program"
        program.write_bytes(b"\x00\x01\x02")
        program.chmod(0o700)
        done = started(*OPENAI, "--", str(program))
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1)
        assert done.stderr.startswith("authsec (LIVE): input: the program after -- cannot be started: ")

    @pytest.mark.req("RW5")
    @pytest.mark.parametrize("bad", ["\0", "\ud800"])
    def test_a_value_that_no_environment_can_hold(self, setup: VaultSetUp, bad: str) -> None:
        """Is refused by its path; neither the line nor a traceback has the value."""
        setup.vault.put("production/openai/api-key", f"{CANARY}{bad}")
        done = started(*OPENAI, "--", sys.executable, "-c", "print('ran')")
        assert (done.returncode, done.stdout) == (1, "")
        assert "production/openai/api-key has a character" in done.stderr
        assert_no_secret([done.stderr], CANARY)

    @pytest.mark.parametrize(
        ("argv", "words"),
        [
            ((*OPENAI,), "put the program after --"),
            ((*OPENAI, "--"), "put the program after --"),
            ((*OPENAI, "python", "agent.py"), "put the program after --"),
            ((*OPENAI, "python", "--", "agent.py"), "there are arguments too many"),
            (("--", "python"), "the following arguments are required: --env"),
            (("--env", "sk-typed-by-mistake", "--", "python"), "give NAME=PATH"),
            (("--env", "A B=production/a/key", "--", "python"), "give NAME=PATH"),
            (("--env", "A=sk-typed-by-mistake", "--", "python"), "give a path"),
            ((*OPENAI, *OPENAI, "--", "python"), "name each once"),
        ],
    )
    def test_a_wrong_line(self, setup: VaultSetUp, argv: tuple[str, ...], words: str) -> None:
        """Is explained, and what was typed is not repeated."""
        printed = setup.run("run", *argv)
        assert (printed.code, words in printed.err, "typed-by-mistake" in printed.err) == (2, True, False)
        assert not setup.vault.shown

    def test_options_of_the_program_are_none_of_ours(self, setup: VaultSetUp) -> None:
        """`--json` behind the dashes does not make our own errors JSON."""
        printed = setup.run("run", "--", "python", "--json")
        assert (printed.code, printed.out) == (2, "")

    def test_other_commands_keep_their_dashes(self, capsys: pytest.CaptureFixture[str]) -> None:
        """What stands behind `--` is an argument there, as everywhere."""
        assert main(["fetch", "--scope", "read:metrics", "--json", "--", "secure-vault/metrics"]) == 0
        assert json.loads(capsys.readouterr().out)["mode"] == "mock"

    def test_mock_mode_says_so(self, setup: VaultSetUp) -> None:
        """Before the program has a word, because its secrets are samples."""
        setup.set(AUTHSEC_VAULT_URL=None, AUTHSEC_AGENT_KEY=None)
        setup.set(AUTHSEC_MOCK_SECRETS=json.dumps({"production/openai/api-key": "sk-sample-for-tests"}))
        done = started(*OPENAI, "--", sys.executable, "-c", "import os; print(os.environ['OPENAI_API_KEY'])")
        assert (done.returncode, done.stdout) == (0, "sk-sample-for-tests\n")
        name = Path(sys.executable).name
        assert done.stderr == f"authsec (MOCK): starting {name} with OPENAI_API_KEY\n"


def test_where_a_process_cannot_become_another(monkeypatch: pytest.MonkeyPatch) -> None:
    """On Windows it waits for the program, passes on its exit code and leaves an interrupt to it."""
    environ = {**os.environ, "SECRET": CANARY}
    script = "import os, sys; sys.exit(5 if os.environ['SECRET'].startswith('sk-canary') else 1)"
    launch = Launch(file=sys.executable, argv=("python", "-c", script), environ=environ)
    assert CANARY not in repr(launch)
    waits, wait = [KeyboardInterrupt()], subprocess.Popen.wait

    def interrupted(process: Any, timeout: float | None = None) -> int:
        if waits:
            raise waits.pop()
        return wait(process, timeout)

    monkeypatch.setattr(subprocess.Popen, "wait", interrupted)
    assert (_waited_for(launch), waits) == (5, [])


def _arguments_of_ours(process: Path) -> bytes | None:
    try:
        ours = str(os.getpid()) in (process / "status").read_text().split()
        return (process / "cmdline").read_bytes() if ours else None
    except OSError:  # it has ended
        return None
