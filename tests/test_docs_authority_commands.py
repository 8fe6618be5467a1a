"""Every command and program on the pages about the authority, and of the way into its vault, run as it stands there.

What a reader copies from one command's output into the next line is copied from there too. The authority is the one
that the first page starts, or that its second half sets up.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Final

import pytest
from dotenv import dotenv_values

from authsec_server.testing import LocalPostgres
from authsec_server.testing._port import Port

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="the lines are for a shell")

GUIDES = Path(__file__).resolve().parents[1] / "docs" / "guides"
PAGES = GUIDES.parent / "authority"
WALKTHROUGH: Final = "vault-walkthrough.md"  # sets up an authority of its own
COMMANDS: Final = {"authsec-server": "authsec_server", "authsec": "authsec_core"}
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
                timeout=240,
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
        if not (self._waited.wait(60) and any(until in line for line in self.said)):
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
        self._process.wait(30)
        self._reader.join(30)
        if self._process.stdout is not None:
            self._process.stdout.close()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    """A folder and a port of its own."""
    port = Port()
    try:
        yield Place(tmp_path, port.number)
    finally:
        port.release()


@pytest.fixture
def dev(place: Place) -> Iterator[Serving]:
    """An authority that runs as the first page says."""
    serving = place.serve(".venv/bin/authsec-server serve --dev", until="$env:AUTHSEC_ADMIN_URL")
    try:
        yield serving
    finally:
        serving.stop()


def _exports(line: str) -> list[tuple[str, str]]:
    return re.findall(r"(\w+)=(\S+)", line) if line.strip().startswith("export ") else []


def _blocks(text: str) -> list[tuple[str, str]]:
    return re.findall(r"^```(sh|python)\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def _lines(text: str) -> list[str]:
    """Return what a reader types for a page: its lines for the shell, and its programs."""
    lines: list[str] = []
    for language, code in _blocks(text):
        if language == "sh":
            lines += [_line(line) for line in code.replace("\\\n", " ").splitlines() if not _is_elsewhere(line)]
        elif "RunningAuthority" not in code:  # such a program brings its own, and runs with all others
            lines += [f".venv/bin/python - <<'PROGRAM'\n{code}PROGRAM"]
    return lines


def _is_elsewhere(line: str) -> bool:
    """Return whether a line sets up what is set up here in another way: the environment, or the server."""
    exports = ("BASE_URL=", "ADMIN_URL=", "AGENT_KEY=agk_", "SERVER_")
    starts = ("python3 ", ".venv/bin/pip ", ".venv/bin/authsec-server serve")
    return line.startswith((*starts, *(f"export AUTHSEC_{name}" for name in exports)))


def _line(line: str) -> str:
    if match := re.fullmatch(r'export (\w+)="[^$]*"', line):
        assert match[1] in SHOWN, f"where does a reader find {match[1]}?"
        copied = f'"{sys.executable}" -c "{_COPIER}" \'{SHOWN[match[1]]}\''
        return f'{match[1]}="$({copied})"; export {match[1]}'
    if match := re.fullmatch(r"(.*?)  # fails: (\w+)", line):
        command, code = match.groups()
        return f'if WHY=$({command} 2>&1); then echo "it worked"; exit 99; fi; echo "$WHY"; grep -q {code} <<<"$WHY"'
    return line


@pytest.mark.parametrize("page", sorted(path.name for path in PAGES.glob("*.md") if path.name != WALKTHROUGH))
def test_the_commands_of_a_page_work(page: str, place: Place, dev: Serving) -> None:
    """Each line does what the page says: it works, or fails with the code that stands beside it."""
    place.environ |= dict(pair for line in dev.said for pair in _exports(line))
    text = (PAGES / page).read_text(encoding="utf-8").partition("\n## For real\n")[0]
    said = place.run(_lines(text))
    assert "Traceback" not in said
    if page == "quickstart.md":
        assert re.search(r"token\.issue +allow +agent sample-agent", said), said
        assert "client_revoked" in said
    if page == "audit.md":
        assert said.count("no entry was changed") == 2


def test_what_serve_prints_is_what_the_page_shows(dev: Serving) -> None:
    """The lines to paste on the first page set the variables that `serve --dev` prints, in both shells."""
    page = (PAGES / "quickstart.md").read_text(encoding="utf-8")
    for pattern in (r"^ *export (\w+)=\S+ (\w+)=\S+$", r'^ *\$env:(\w+) = "\S+"; \$env:(\w+) = "\S+"$'):
        shown = re.findall(pattern, page.partition("## For real")[0], re.MULTILINE)
        assert len(shown) == 2
        assert shown == re.findall(pattern, "\n".join(dev.said), re.MULTILINE)


def test_the_way_from_an_env_file_works(place: Place, dev: Serving) -> None:
    """The guide's lines, beside a reader's own files: the program gets its keys, and nobody else is shown them."""
    place.environ |= dict(pair for line in dev.said for pair in _exports(line))
    keys = {"OPENAI_API_KEY": "sk-canary-5b1d8e0f2a", "TAVILY_API_KEY": "tvly-canary-'7c' 3e9"}
    quoted = f'# ours\nexport OPENAI_API_KEY={keys["OPENAI_API_KEY"]}\nTAVILY_API_KEY="{keys["TAVILY_API_KEY"]}"\n'
    (place.folder / ".env").write_text(quoted, encoding="utf-8")
    (place.folder / "new-key.txt").write_text("sk-canary-renewed-1\n", encoding="utf-8")
    tell = f"import os; env = os.environ; print([env.get(name) == value for name, value in {keys!r}.items()])"
    (place.folder / "agent.py").write_text(f"{tell}; print('AUTHSEC_AGENT_KEY' in env)", encoding="utf-8")
    said = place.run(_lines((GUIDES / "from-env-files.md").read_text(encoding="utf-8")))
    assert re.findall(r"^\[(?:True|False).*|^(?:True|False)$", said, re.MULTILINE) == [
        "[True, True]",
        "False",
        "[True, False]",
        "False",
    ]
    assert re.search(r"vault\.secret\.read +allow +agent sample-agent", said), said
    assert "canary" not in said
    assert not (place.folder / ".env").exists()
    exported = (place.folder / "exported.env").read_text(encoding="utf-8")
    assert dict(dotenv_values(stream=StringIO(exported))) == {**keys, "OPENAI_API_KEY": "sk-canary-renewed-1"}


def test_the_vault_can_be_set_up_step_by_step(place: Place) -> None:
    """From `init` over approvals by two operators to a backup and a new master key; who onboarded approves nothing."""
    text = (PAGES / WALKTHROUGH).read_text(encoding="utf-8").replace(":8321", f":{place.port}")
    urls = r'^export (AUTHSEC_(?:SERVER|ADMIN|BASE)_\w+)="(.+)"$'
    place.environ |= dict(re.findall(urls, text, re.MULTILINE)) | {"AUTHSEC_SERVER_CRITICAL_DELAY": "0"}
    keys = {".env": "OPENAI_API_KEY=sk-canary-5b1d8e0f2a\n", "payments.key": "pay-canary-7c3e9a\n"}
    agent = "import os; print('has', os.environ['OPENAI_API_KEY'] == 'sk-canary-5b1d8e0f2a')\n"
    for name, content in {**keys, "agent.py": agent}.items():
        (place.folder / name).write_text(content, encoding="utf-8")
    lines = _lines(text)
    place.run(lines[:2])
    serving = place.serve(".venv/bin/authsec-server serve", until=f"serving http://127.0.0.1:{place.port}")
    try:
        said = place.run(lines[2:])
    finally:
        serving.stop()
    assert "has True" in said
    assert said.count("pay-canary-7c3e9a") == 1  # the one that `--reveal` shows
    assert "sk-canary" not in said
    assert said.count('"action":"vault.secret.read"') + said.count('"action": "vault.secret.read"') == 3
    assert "no entry was changed" in said
    (public_name,) = re.findall(r"^([0-9a-f]{8})$", said, re.MULTILINE)
    assert f"backups from before need {public_name}" in said
    assert not any((place.folder / name).exists() for name in keys)


def _below(heading: str) -> list[str]:
    """Return the lines for the shell below a heading of the first page."""
    text = (PAGES / "quickstart.md").read_text(encoding="utf-8").partition("\n## For real\n")[2]
    found = re.search(rf"^### {heading}\n(.*?)(?=^### |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found
    return [line for _, code in _blocks(found[1]) for line in code.splitlines()]


def test_the_commands_for_real_work(place: Place) -> None:
    """Set up, serve, PostgreSQL, upgrade, a new token: in the page's order, and with its variables."""
    folder = place.folder / "lib"
    place.environ |= dict(pair for line in _below("Set up") for pair in re.findall(r'^export (\w+)="(.*)"$', line))
    assert place.environ["AUTHSEC_SERVER_DATA_DIR"] == "/var/lib/authsec"
    place.environ["AUTHSEC_SERVER_DATA_DIR"] = str(folder)
    assert re.search(r"^opt_", place.run(_below("Set up")[-1:]), re.MULTILINE)
    assert stat.S_IMODE((folder / "master.key").stat().st_mode) == 0o600
    serve, ready = _below("Serve")
    _serves(place, serve, ready)
    with LocalPostgres(fsync=False) as postgres:
        data, url, init, serve = _below("PostgreSQL")
        assert data.startswith('export AUTHSEC_SERVER_DATA_DIR="/var/lib/authsec-')
        place.environ["AUTHSEC_SERVER_DATA_DIR"] = str(place.folder / "lib-postgres")
        assert url.startswith('export AUTHSEC_SERVER_DATABASE_URL="postgresql://')
        database = postgres.create_database()
        place.environ["AUTHSEC_SERVER_DATABASE_URL"] = f"{database}?sslmode=verify-full"
        assert "storage_unavailable" in place.run([f"if {init}; then exit 99; fi"])
        place.environ["AUTHSEC_SERVER_DATABASE_URL"] = database
        place.run([init])
        place.run([f"if {init}; then exit 99; fi"])  # never twice
        _serves(place, serve, ready)
        assert "nothing to do" in place.run(_below("Upgrade"))
        assert re.search(r"^opt_", place.run(_below("When all admin tokens are lost")), re.MULTILINE)


def _serves(place: Place, serve: str, ready: str) -> None:
    serving = place.serve(serve, until="serving https://authority.example.com")
    try:
        assert '"status":"ready"' in place.run([ready.replace("8321", str(place.port))])
    finally:
        serving.stop()
