"""Every command and program on the pages about the authority, and of the way into its vault, run as it stands there.

The authority is the one that the first page starts, or that its second half sets up. What a reader does is for
`docs_reader`.
"""

from __future__ import annotations

import json
import re
import shutil
import stat
import sys
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Final

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # importlib mode adds no folders
from docs_reader import Place, Serving, blocks, exports, typed
from dotenv import dotenv_values

from authsec_server.testing import LocalPostgres
from authsec_server.testing._port import Port

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="the lines are for a shell")

GUIDES = Path(__file__).resolve().parents[1] / "docs" / "guides"
PAGES = GUIDES.parent / "authority"
WALKTHROUGH: Final = "vault-walkthrough.md"  # sets up an authority of its own


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


@pytest.mark.parametrize("page", sorted(path.name for path in PAGES.glob("*.md") if path.name != WALKTHROUGH))
def test_the_commands_of_a_page_work(page: str, place: Place, dev: Serving) -> None:
    """Each line does what the page says: it works, or fails with the code that stands beside it."""
    place.environ |= dict(pair for line in dev.said for pair in exports(line))
    text = (PAGES / page).read_text(encoding="utf-8").partition("\n## For real\n")[0]
    said = place.run(typed(text))
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
    place.environ |= dict(pair for line in dev.said for pair in exports(line))
    keys = {"OPENAI_API_KEY": "sk-canary-5b1d8e0f2a", "TAVILY_API_KEY": "tvly-canary-'7c' 3e9"}
    quoted = f'# ours\nexport OPENAI_API_KEY={keys["OPENAI_API_KEY"]}\nTAVILY_API_KEY="{keys["TAVILY_API_KEY"]}"\n'
    (place.folder / ".env").write_text(quoted, encoding="utf-8")
    tell = f"import os; env = os.environ; print([env.get(name) == value for name, value in {keys!r}.items()])"
    (place.folder / "agent.py").write_text(f"{tell}; print('AUTHSEC_AGENT_KEY' in env)", encoding="utf-8")
    lines = typed((GUIDES / "from-env-files.md").read_text(encoding="utf-8"))
    said = place.run([f"echo sk-canary-renewed-1 | {line}" if " rotate " in line else line for line in lines])
    assert re.findall(r"^\[(?:True|False).*|^(?:True|False)$", said, re.MULTILINE) == [
        "[True, True]",
        "False",
        "[True, False]",
        "False",
    ]
    reads = [json.loads(line) for line in said.splitlines() if '"vault.secret.read"' in line]
    assert {read["details"]["path"] for read in reads} == {f"production/{name}" for name in keys}
    assert {read["actor"]["name"] for read in reads} == {"sample-agent"}
    assert {read["claimed"]["reason"] for read in reads} == {"authsec run python"}
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
    lines = typed(text)
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
    return [line for _, code in blocks(found[1]) for line in code.splitlines()]


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
