"""One virtual environment for our wheels, and one for each reference, so that none changes another's versions.

References come from the package index that uv is configured with. One that cannot be had is a reason in the report,
not the end of the run.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

__all__ = ["REFERENCES", "Environments"]

REFERENCES = {
    "authsec-langchain-sdk": ("authsec-langchain-sdk",),
    "authsec-sdk": ("authsec-sdk",),
    "authlib": ("authlib", "httpx"),
    "httpx-auth": ("httpx-auth",),
    "google-auth": ("google-auth", "requests"),
    "botocore": ("botocore",),
    "msal": ("msal",),
    "azure-identity": ("azure-identity",),
}
_OURS = {
    "authsec": ("authsec-core", "authsec-autogen"),
    "autogen": ("authsec-core", "authsec-autogen[classic]"),
    "crewai": ("authsec-core", "authsec-crewai"),
    "authority": ("authsec-core", "authsec-server[testing]"),
    "guard": ("authsec-core", "authsec-fastapi"),
}
# What takes turns with ours in one process, and so has to be in one environment with it.
_BESIDE_OURS = {"guard": ("authlib",)}
_FRAMEWORKS = {"autogen": "pyautogen", "crewai": "crewai"}  # environment -> distribution


class Environments:
    """Makes environments below `folder` with the Python that runs this, when they are first asked for.

    Args:
        wheels: The folder with the wheels of this tree.
        folder: Emptied at the start, so that each run has the versions of its day.
    """

    def __init__(self, wheels: Path, folder: Path) -> None:
        self._wheels, self._folder = wheels, folder
        self._pythons: dict[str, str] = {}
        self.failures: dict[str, str] = {}
        shutil.rmtree(folder, ignore_errors=True)

    def python(self, name: str) -> str | None:
        """Return the interpreter of an environment, or None where `failures` says why it could not be made."""
        if name not in self._pythons and name not in self.failures:
            self._make(name)
        return self._pythons.get(name)

    def versions(self) -> dict[str, str]:
        """Return which version of each reference and framework was measured, by name."""
        told: dict[str, str] = {}
        for name in (*REFERENCES, *_FRAMEWORKS):
            python = self.python(name)
            what = _FRAMEWORKS.get(name, name)
            told[what] = self.failures[name] if python is None else _version(python, what)
        return told

    def version(self, name: str, distribution: str) -> str:
        """Return which version of a distribution an environment has, or why it could not be made."""
        python = self.python(name)
        return self.failures[name] if python is None else _version(python, distribution)

    def _make(self, name: str) -> None:
        place = self._folder / name
        python = str(place / "bin" / "python")
        try:
            _uv("venv", "--quiet", "--python", sys.executable, str(place))
            _uv("pip", "install", "--quiet", "--compile-bytecode", "--python", python, *self._requirements(name))
        except subprocess.CalledProcessError as exc:
            said = [line.strip(" ×╰─▶│") for line in exc.stderr.splitlines() if line.strip()]
            self.failures[name] = "it could not be installed" + (f": {said[0]}" if said else "")
        else:
            self._pythons[name] = python

    def _requirements(self, name: str) -> list[str]:
        if name in REFERENCES:
            return list(REFERENCES[name])
        wanted = list(_BESIDE_OURS.get(name, ()))
        for package in _OURS[name]:  # by file: on a public index some of these names belong to others
            stem = package.partition("[")[0].replace("-", "_")
            wanted.append(f"{package} @ {next(self._wheels.glob(f'{stem}-*.whl')).resolve().as_uri()}")
        return wanted


def _uv(*arguments: str) -> None:
    command = [sys.executable, "-m", "uv", *arguments]
    environment = {"UV_SYSTEM_CERTS": "1", "UV_PYTHON_DOWNLOADS": "never", **os.environ}
    subprocess.run(command, env=environment, check=True, capture_output=True, text=True)


def _version(python: str, distribution: str) -> str:
    program = "import sys; from importlib.metadata import version; print(version(sys.argv[1]))"
    command = [python, "-I", "-c", program, distribution]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
