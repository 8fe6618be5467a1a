"""Every program and every test in docs/testing.md runs as it stands there."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

Run = Callable[..., "subprocess.CompletedProcess[str]"]
PAGE = Path(__file__).resolve().parents[2] / "docs" / "testing.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
TESTS = [block for block in BLOCKS if "\ndef test_" in block]
PROGRAMS = [block for block in BLOCKS if block not in TESTS]


def test_the_page_has_what_is_looked_for() -> None:
    """The two tests below cannot pass by finding nothing."""
    assert (len(PROGRAMS), len(TESTS)) == (1, 2)


def test_the_programs_run(run: Run) -> None:
    """A program copied from the page does what it asserts, and the denial that the text promises comes."""
    denial = """
from authsec_core import AuthSecError
with AuthSecClient(AuthSecConfig(mode="mock"), mock=mock) as client:
    try:
        client.fetch("reports/board", scope="read:board")
    except AuthSecError as error:
        assert error.code == "delegation_refused"
    else:
        raise AssertionError("granted")
"""
    done = run("-c", PROGRAMS[0] + denial)
    assert done.returncode == 0, done.stderr


def test_the_tests_pass(run: Run, tmp_path: Path) -> None:
    """Tests copied from the page pass with the fixtures that the wheel brings, and nothing else."""
    for number, block in enumerate(TESTS):
        (tmp_path / f"test_copied_{number}.py").write_text(block, encoding="utf-8")
    done = run("-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path))
    assert "2 passed" in done.stdout, done.stdout + done.stderr
