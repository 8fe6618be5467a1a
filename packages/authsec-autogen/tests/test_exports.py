"""What the package gives to those who import it, and what importing it costs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import authsec_autogen
import authsec_core
from authsec_core import ConfigurationError
from authsec_core._own_files import refuse_foreign_files

HEAVY = ("autogen", "crewai", "cryptography", "httpx", "jwt", "openai", "pydantic")


def run(program: str, *path: Path) -> subprocess.CompletedProcess[str]:
    """Run a program in a process of its own, which finds modules in `path` first."""
    prelude = f"import sys; sys.path[:0] = {[*map(str, path), *sys.path]!r}\n"
    return subprocess.run([sys.executable, "-c", prelude + program], capture_output=True, text=True, check=False)


def test_every_public_name_is_there_and_listed() -> None:
    """`__all__` is sorted and true, and `dir()` shows it before anything is loaded."""
    assert authsec_autogen.__all__ == sorted(authsec_autogen.__all__)
    for name in authsec_autogen.__all__:
        assert getattr(authsec_autogen, name) is not None
    assert set(authsec_autogen.__all__) <= set(dir(authsec_autogen))


def test_the_clients_names_are_the_cores() -> None:
    """There is one `AuthSecClient`, wherever it is imported from."""
    assert authsec_autogen.AuthSecClient is authsec_core.AuthSecClient
    assert authsec_autogen.AuthSecConfig is authsec_core.AuthSecConfig


def test_a_name_that_does_not_exist_is_an_attribute_error() -> None:
    """A misspelt import fails as it does for any other module."""
    with pytest.raises(AttributeError, match="fetch_secure_date"):
        _ = authsec_autogen.fetch_secure_date


@pytest.mark.req("RO3")
def test_importing_loads_nothing_and_says_nothing() -> None:
    """Not the framework, not HTTP, no cryptography, before a name is used."""
    done = run(f"import authsec_autogen; print([name for name in {HEAVY!r} if name in sys.modules])")
    assert (done.stdout, done.stderr) == ("[]\n", "")


@pytest.mark.req("RO3")
def test_using_a_name_still_loads_no_framework() -> None:
    """The framework takes a second or two to import: only who registers a tool pays for it, when that is done."""
    done = run(
        "from authsec_autogen import fetch_secure_data, make_secure_fetch, register_secure_fetch\n"
        "from authsec_autogen import make_secret_fetch, make_vault_tool, register_secret_fetch, register_vault_tool\n"
        "fetch_secure_data('secure-vault/metrics', 'read:metrics')\n"
        "print('autogen' in sys.modules or 'openai' in sys.modules)"
    )
    assert done.stdout == "False\n"
    assert done.stderr.startswith("MOCK mode:")  # the one thing that Python's last resort prints of ours
    assert done.stderr.count("\n") == 1


@pytest.fixture
def mixture(tmp_path: Path) -> Path:
    """A folder in which our package and the files of the other maker's package of that name lie together."""
    package = tmp_path / "authsec_autogen"
    package.mkdir()
    for path in Path(authsec_autogen.__path__[0]).glob("*.py"):
        (package / path.name).write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
    (package / "authsec_helper.py").write_text("class AuthSecClient: ...\n", encoding="utf-8")
    return tmp_path


def test_it_refuses_to_run_beside_the_other_makers_files(mixture: Path) -> None:
    """Ours over theirs: their client could still be imported, so nothing can."""
    theirs = "authsec_autogen.authsec_helper"
    for name in ("authsec_autogen", "authsec_autogen.classic", "authsec_autogen.vault", theirs):
        done = run(f"import {name}", mixture)
        assert "ConfigurationError" in done.stderr
        assert "pip uninstall authsec-autogen" in done.stderr


def test_it_refuses_when_their_package_has_replaced_ours(mixture: Path) -> None:
    """Theirs over ours: their `__init__` comes first, and what is left of ours refuses."""
    (mixture / "authsec_autogen" / "__init__.py").write_text("from .authsec_helper import AuthSecClient\n")
    done = run("import authsec_autogen.classic", mixture)
    assert "ConfigurationError" in done.stderr
    assert "another maker" in done.stderr


def test_its_own_files_are_no_reason_to_refuse(mixture: Path) -> None:
    """Without the foreign file the same folder works."""
    (mixture / "authsec_autogen" / "authsec_helper.py").unlink()
    done = run("import authsec_autogen.classic as c; print(c.__file__)", mixture)
    assert done.stdout.strip().startswith(str(mixture))


def test_the_check_names_folder_and_mend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For any adapter: which folder, and what to type."""
    package = type(sys)("adapter")
    package.__path__ = [str(tmp_path)]
    monkeypatch.setitem(sys.modules, "adapter", package)
    refuse_foreign_files("adapter", "authsec-adapter")
    (tmp_path / "authsec_helper.py").touch()
    with pytest.raises(ConfigurationError, match="pip uninstall authsec-adapter") as refused:
        refuse_foreign_files("adapter", "authsec-adapter")
    assert str(tmp_path) in refused.value.message
