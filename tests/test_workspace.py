"""Whether the packages agree with each other: version, licence, metadata, and where they are allowed to come from."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from authsec_core._version import __version__

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = sorted(path.parent for path in ROOT.glob("packages/*/pyproject.toml"))
each_package = pytest.mark.parametrize("package", PACKAGES, ids=lambda path: path.name)


def _settings(package: Path) -> dict[str, Any]:
    return tomllib.loads((package / "pyproject.toml").read_text(encoding="utf-8"))


def test_the_packages_are_found() -> None:
    """The tests below cannot pass by looking at nothing."""
    assert {"authsec-core", "authsec-autogen", "authsec-crewai"} <= {package.name for package in PACKAGES}


@each_package
def test_every_package_takes_the_one_version(package: Path) -> None:
    """No package states a version of its own; all builds read the same file."""
    settings = _settings(package)
    assert settings["project"]["dynamic"] == ["version"]
    source = (package / settings["tool"]["hatch"]["version"]["path"]).resolve()
    assert source == ROOT / "packages/authsec-core/src/authsec_core/_version.py"


@each_package
def test_adapters_need_the_core_of_their_own_release(package: Path) -> None:
    """An adapter asks for the core of the same minor version, so that two releases are never mixed."""
    needed = [name for name in _settings(package)["project"]["dependencies"] if name.startswith("authsec-core")]
    major, minor, _ = __version__.split(".")
    assert needed == ([] if package.name == "authsec-core" else [f"authsec-core~={major}.{minor}.0"])


def test_the_version_has_an_entry_in_the_changelog() -> None:
    """A reader of the changelog finds the version that the packages carry."""
    assert f"\n## [{__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


@each_package
def test_every_package_ships_the_licence_and_its_types(package: Path) -> None:
    """Each wheel carries the full licence and `py.typed`, because each is installed without the others."""
    assert (package / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()
    assert (package / "src" / package.name.replace("-", "_") / "py.typed").is_file()


@pytest.mark.parametrize("readme", [ROOT, *PACKAGES], ids=lambda path: path.name)
def test_no_readme_installs_by_a_bare_name(readme: Path) -> None:
    """On a public index some of the names belong to others, so each `pip install` here names a wheel's file."""
    text = (readme / "README.md").read_text(encoding="utf-8")
    for command in re.findall(r"pip install[^\n`]*", text):
        assert not re.search(r"(?<![\w/.-])authsec-\w+", command), command


def test_every_command_of_the_readme_runs_in_ci() -> None:
    """A command that a reader is told to type is typed by CI, letter for letter."""
    commands = re.findall(r"^python3 noxfile\.py .*$", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE)
    assert {"python3 noxfile.py -s demo", "python3 noxfile.py -s tests"} <= set(commands)
    assert set(commands) <= set((ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines())


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["-s", "test"], "There is no session test: did you mean tests?"),
        (["-s", "lint", "typs-3.12"], "There is no session typs-3.12: did you mean types?"),
        (["-s", "quite-something-else"], "There is no session quite-something-else: -l lists them."),
    ],
)
def test_a_session_that_there_is_not_has_a_hint(arguments: list[str], hint: str) -> None:
    """Who mistypes one is told the nearest, beside what nox says."""
    pytest.importorskip("nox", reason="`nox -s tests` has it")
    ran = subprocess.run(
        [sys.executable, "noxfile.py", *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120, check=False
    )
    assert ran.returncode != 0
    assert ran.stderr.startswith(hint + "\n")


def test_every_setting_is_documented() -> None:
    """docs/configuration.md names the variable of each setting, and the README's pages exist."""
    from authsec_core._layers import variable
    from authsec_core.config import AuthSecConfig

    page = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")
    assert [field for field in AuthSecConfig.model_fields if f"`{variable(field)}`" not in page] == []
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", readme)
    assert [link for link in links if not (ROOT / link).exists()] == []
