"""docs/cli.md: its commands run, and it names every check. That it has every option is for `test_docs_parity`."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from cli_support import SetUp, running

from authsec_core.testing import FakeClock

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "cli.md").read_text(encoding="utf-8")
LINES = [
    line for block in re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL) for line in block.splitlines()
]
COMMANDS = [line for line in LINES if not line.startswith("export ")]
(MOCK_SECRETS,) = (shlex.split(line)[1].partition("=") for line in LINES if line.startswith("export "))


def test_the_page_has_what_is_looked_for() -> None:
    """The tests below cannot pass by looking at nothing."""
    assert {shlex.split(line)[1] for line in COMMANDS} == {"doctor", "token", "fetch", "secrets", "tokens", "run"}
    assert MOCK_SECRETS[0] == "AUTHSEC_MOCK_SECRETS"


@pytest.mark.parametrize("line", COMMANDS)
def test_the_commands_run(line: str, tmp_path: Path) -> None:
    """As they stand, with nothing set but the secrets that the page sets."""
    (tmp_path / "agent.py").write_text("import os; print(len(os.environ['OPENAI_API_KEY']))")
    program, *argv = (sys.executable if word == ".venv/bin/python" else word for word in shlex.split(line))
    assert program == ".venv/bin/authsec"
    environ = {**os.environ, MOCK_SECRETS[0]: MOCK_SECRETS[2]} if argv[0] in {"secrets", "tokens", "run"} else None
    command = [sys.executable, "-m", "authsec_core", *argv]
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
    assert b"mock" in (done.stdout + done.stderr).lower()
    assert done.stdout


def test_every_check_is_documented(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the order in which the findings come."""
    with running(clock, monkeypatch, capsys) as setup:
        checks = list(SetUp.doctor(setup).statuses)
    doctor = PAGE.partition("## doctor")[2].partition("## token")[0]
    assert re.findall(r"^\| `(\w+)` \|", doctor, re.MULTILINE) == checks
