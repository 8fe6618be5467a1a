"""The package as it is imported: names, what importing loads, and what it says where CrewAI is missing.

None of this needs CrewAI; what does is in `crew/`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import authsec_crewai


def run(program: str) -> str:
    """Return what a fresh interpreter prints for `program`."""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_exports_are_sorted_and_each_exists_without_crewai() -> None:
    """`__all__` is sorted, listed by `dir`, and each name but the tools' loads without a framework."""
    assert authsec_crewai.__all__ == sorted(authsec_crewai.__all__)
    assert set(authsec_crewai.__all__) <= set(dir(authsec_crewai))
    tools = {"AuthSecSecretFetchTool", "AuthSecSecureFetchTool", "AuthSecVaultTool"}
    for name in set(authsec_crewai.__all__) - tools:
        assert getattr(authsec_crewai, name).__name__ == name


def test_the_clients_are_those_of_the_core() -> None:
    """The adapter hands on the core's client and settings; it has none of its own."""
    from authsec_core import AuthSecClient, AuthSecConfig

    assert (authsec_crewai.AuthSecClient, authsec_crewai.AuthSecConfig) == (AuthSecClient, AuthSecConfig)


def test_an_unknown_name_is_an_attribute_error() -> None:
    """A mistyped import fails as it does in any module."""
    with pytest.raises(AttributeError, match="AuthSecSecureFetchTol"):
        _ = authsec_crewai.AuthSecSecureFetchTol


@pytest.mark.req("RO3")
def test_importing_the_package_loads_no_framework_and_prints_nothing() -> None:
    """`import authsec_crewai` is free: no CrewAI, no cryptography, no HTTP, no pydantic, no output."""
    heavy = {"crewai", "cryptography", "jwt", "httpx", "pydantic"}
    assert run(f"import sys, authsec_crewai; print(sorted({heavy} & set(sys.modules)))") == "[]"


IMPORT = """
import sys
try:
    import authsec_crewai.tools
except Exception as error:
    print(type(error).__name__, error)
"""
MISSING = """
import sys
class NoCrewAI:
    def find_spec(name, path=None, target=None):
        if name == "crewai":
            raise ModuleNotFoundError("No module named 'crewai'", name=name)
sys.meta_path.insert(0, NoCrewAI)
"""
TOO_OLD = """
import sys, types
sys.modules["crewai"] = types.ModuleType("crewai")
"""


@pytest.mark.parametrize(
    ("program", "complaint"),
    [(MISSING, "CrewAI is not installed"), (TOO_OLD, "This CrewAI cannot be used")],
    ids=["missing", "too old"],
)
def test_a_missing_or_old_crewai_is_one_clear_error(program: str, complaint: str) -> None:
    """The error names the command that mends it, and no command that would install a stranger's package."""
    said = run(program + IMPORT)
    assert said.startswith(f"ConfigurationError {complaint}")
    assert said.endswith('pip install "crewai>=0.102,<2"')
    assert "authsec-crewai" not in said


@pytest.mark.parametrize("theirs", [["authsec_helper.py"], ["authsec_helper.py", "__init__.py"]], ids="+".join)
def test_files_of_the_package_with_the_same_name_stop_the_tool(
    theirs: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a stranger's files among ours, or in their place, the tool refuses to load, before CrewAI does."""
    mixture = tmp_path / "authsec_crewai"
    shutil.copytree(Path(authsec_crewai.__path__[0]), mixture)
    for name in theirs:
        (mixture / name).write_text("", encoding="utf-8")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *sys.path]))
    said = run(IMPORT + "print('crewai' in sys.modules)")
    assert said.startswith(f"ConfigurationError {mixture} has files of another maker's package")
    assert said.endswith("False")
