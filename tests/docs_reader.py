"""A reader of the docs: a folder with our commands in it, the lines of a page, and what was printed.

What a reader copies from one command's output into the next line is copied from there too.
"""

from __future__ import annotations

import os
import re
import shlex
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import Final

__all__ = ["Place", "Serving", "blocks", "exports", "typed"]

COMMANDS: Final = {"authsec-server": "authsec_server", "authsec": "authsec_core", "uvicorn": "uvicorn"}
# What a page says to copy out of what was printed before: the variable, and how it is recognised there.
SHOWN: Final = {
    "APPROVAL_ID": r"^ ([0-9a-f-]{36}) ",
    "CLIENT_ID": r"\bclient_id +([0-9a-f-]{36})",
    "AUTHSEC_AGENT_KEY": r"^(agk_[0-9a-f]{16}\.[\w-]{43})$",
    "OLD_KEY_ID": r"\b(agk_[0-9a-f]{16})\b(?!\.)",
    "JTI": r"\bjti +([0-9a-f-]{36})",
    "KID": r"^ ([\w-]{43}) +active\b",
    "TOKEN": r'"access_token":"([\w.-]+)"',
    "ISSUER_ID": r"\b(wli_[0-9a-f]{16})\b",
    "OPERATOR_ID": r"\boperator_id +([0-9a-f-]{36})",
}
_COPIER: Final = "import re, sys; print(re.findall(sys.argv[1], open('said.txt').read(), re.MULTILINE)[-1])"


class Place:
    """A reader's folder, with the commands installed where the pages say."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder, self.port = folder, port
        self.environ = {
            "PATH": f"{os.path.dirname(sys.executable)}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": os.pathsep.join(
                os.path.abspath(p) for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if p
            ),
            "HOME": str(folder),
            "PYTHONIOENCODING": "utf-8",
            "AUTHSEC_SERVER_PORT": str(port),
        }
        (folder / ".venv" / "bin").mkdir(parents=True)
        for name, module in COMMANDS.items():
            self._install(name, f'exec "{sys.executable}" -m {module} "$@"')
        self._install("python", f'exec "{sys.executable}" "$@"')

    def _install(self, name: str, line: str) -> None:
        path = self.folder / ".venv" / "bin" / name
        path.write_text(f"#!/bin/sh\n{line}\n", encoding="utf-8")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    def run(self, lines: list[str]) -> str:
        """Run lines in one shell, all of which have to work, and return everything that was printed."""
        script = "\n".join(["set -euo pipefail", *lines, ""])
        with (self.folder / "said.txt").open("wb") as said:
            done = subprocess.run(
                ["bash", "-c", script],
                cwd=self.folder,
                env=self.environ,
                stdout=said,
                stderr=said,
                check=False,
                timeout=600,
            )
        text = (self.folder / "said.txt").read_text(encoding="utf-8", errors="replace")
        assert done.returncode == 0, f"{text[-4000:]}\n---\n{script}"
        return text

    def serve(self, line: str, *, until: str) -> Serving:
        """Start what does not end by itself, and wait until it has said this."""
        return Serving(self, line, until)


class Serving:
    """A server, in the background."""

    def __init__(self, place: Place, line: str, until: str) -> None:
        self._process = subprocess.Popen(
            shlex.split(line),
            cwd=place.folder,
            env=place.environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
        )
        self.said: list[str] = []
        self._until, self._waited = until, threading.Event()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if not (self._waited.wait(120) and any(until in line for line in self.said)):
            self.stop()
            raise AssertionError(f"{line} did not say {until}: {self.said}")

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self.said.append(line.rstrip("\n"))
            if self._until in line:
                self._waited.set()
        self._waited.set()  # it has ended

    def stop(self) -> None:
        """End it in order."""
        self._process.terminate()
        self._process.wait(60)
        self._reader.join(30)
        if self._process.stdout is not None:
            self._process.stdout.close()


def exports(line: str) -> list[tuple[str, str]]:
    """Return the variables that a printed line sets, and their values."""
    return re.findall(r"(\w+)=(\S+)", line) if line.strip().startswith("export ") else []


def blocks(text: str) -> list[tuple[str, str]]:
    """Return language and text of each block that a reader may type."""
    return re.findall(r"^```(sh|python)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def typed(text: str) -> list[str]:
    """Return what a reader types for a page: its lines for the shell, and its programs."""
    lines: list[str] = []
    for language, code in blocks(text):
        if language == "sh":
            lines += [_line(line) for line in code.replace("\\\n", " ").splitlines() if not _is_elsewhere(line)]
        elif "RunningAuthority" not in code:  # such a program brings its own, and runs with all others
            lines += [f".venv/bin/python - <<'PROGRAM'\n{code}PROGRAM"]
    return lines


def _is_elsewhere(line: str) -> bool:
    """Return whether a line sets up what is set up here in another way: the environment, or the server."""
    set_here = ("BASE_URL=", "API_BASE_URL=", "ADMIN_URL=", "AGENT_KEY=agk_", "SERVER_")
    starts = ("python3 ", ".venv/bin/pip ", ".venv/bin/authsec-server serve")
    return line.startswith((*starts, *(f"export AUTHSEC_{name}" for name in set_here)))


def _line(line: str) -> str:
    if match := re.fullmatch(r'export (\w+)="[^$]*"', line):
        assert match[1] in SHOWN, f"where does a reader find {match[1]}?"
        copied = f'"{sys.executable}" -c "{_COPIER}" \'{SHOWN[match[1]]}\''
        return f'{match[1]}="$({copied})"; export {match[1]}'
    if match := re.fullmatch(r"(.*?)  # fails: (\w+)", line):
        command, code = match.groups()
        return f'if WHY=$({command} 2>&1); then echo "it worked"; exit 99; fi; echo "$WHY"; grep -q {code} <<<"$WHY"'
    return line
