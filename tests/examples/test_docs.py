"""Every file in docs/testing.md runs as it stands there: whoever copies it has a test that passes."""

from __future__ import annotations

import importlib.util
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., "subprocess.CompletedProcess[str]"]
PAGE = Path(__file__).resolve().parents[2] / "docs" / "testing.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
FILES = {block.partition("\n")[0].removeprefix("# "): block for block in BLOCKS}
TESTS = sorted(name for name in FILES if name.startswith("test_"))
FRAMEWORKS = ("autogen", "autogen_agentchat", "autogen_ext", "crewai")
IMPORTS = {
    name: [framework for framework in FRAMEWORKS if re.search(rf"^(?:from|import) {framework}\b", block, re.MULTILINE)]
    for name, block in FILES.items()
}
PLAIN = [name for name in TESTS if not IMPORTS[name]]


def test_the_page_has_what_is_looked_for() -> None:
    """Each block names its file; and the tests below cannot pass by finding none."""
    assert len(FILES) == len(BLOCKS)
    assert {*FILES} - {*TESTS} == {"conftest.py"}
    assert {*TESTS} - {*PLAIN} == {"test_autogen_analyst.py", "test_agentchat_analyst.py", "test_crew.py"}
    assert len(PLAIN) >= 7


def test_the_plain_files_pass(run: Run, tmp_path: Path) -> None:
    """They pass, all in one folder, with the fixtures that the wheel brings and nothing else."""
    _copy(tmp_path, *PLAIN)
    _check(run("-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)), *PLAIN)


@pytest.mark.parametrize("name", [name for name in TESTS if IMPORTS[name]])
def test_the_file_for_a_framework_passes(name: str, run: Run, tmp_path: Path) -> None:
    """It passes with that framework and the page's own conftest.py."""
    for framework in IMPORTS[name]:
        if importlib.util.find_spec(framework) is None:
            pytest.skip(f"{framework} is not installed")
    _copy(tmp_path, name, "conftest.py")
    _check(run("-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)), name)


def _copy(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).write_text(FILES[name], encoding="utf-8")


def _check(done: subprocess.CompletedProcess[str], *names: str) -> None:
    assert done.returncode == 0, done.stdout + done.stderr
    passed = re.search(r"^(\d+) passed", done.stdout, re.MULTILINE)
    assert passed, done.stdout
    assert int(passed[1]) >= sum(FILES[name].count("def test_") for name in names)
