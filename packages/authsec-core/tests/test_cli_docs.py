"""docs/cli.md: its commands run, and it names every option, check and exit code."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from cli_support import SetUp, running

from authsec_core.cli import _arguments, main
from authsec_core.testing import FakeClock

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "cli.md").read_text(encoding="utf-8")
COMMANDS = [
    line for block in re.findall(r"^```sh\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL) for line in block.splitlines()
]


def test_the_page_has_what_is_looked_for() -> None:
    """The tests below cannot pass by looking at nothing."""
    assert {shlex.split(line)[1] for line in COMMANDS} == {"doctor", "token", "fetch"}


@pytest.mark.parametrize("line", COMMANDS)
def test_the_commands_run(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    """As they stand, without any setting."""
    program, *argv = shlex.split(line)
    assert (program, main(argv)) == (".venv/bin/authsec", 0)
    assert capsys.readouterr().out


def test_every_option_is_documented() -> None:
    """What `--help` lists is on the page."""
    parser = _arguments._parser()
    commands = next(action for action in parser._actions if action.dest == "command")
    assert isinstance(commands.choices, dict)
    for one in (parser, *commands.choices.values()):
        for action in one._actions:
            for option in action.option_strings:
                assert option == "-h" or f"`{option}" in PAGE, option


def test_every_check_is_documented(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the order in which the findings come."""
    with running(clock, monkeypatch, capsys) as setup:
        checks = list(SetUp.doctor(setup).statuses)
    doctor = PAGE.partition("## doctor")[2].partition("## token")[0]
    assert re.findall(r"^\| `(\w+)` \|", doctor, re.MULTILINE) == checks
