"""Does the first page about the guard work as it stands there: its services, its commands, and each answer shown?

So does the service in the README, and in the package's own. The programs of the other pages run with those of all docs,
in `examples/test_docs`. What a reader does is for `docs_reader`.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from starlette.testclient import TestClient

sys.path.insert(0, str(Path(__file__).parent))  # importlib mode adds no folders
from docs_reader import Place, Serving, blocks, exports, typed

from authsec_core import AuthSecClient, AuthSecConfig
from authsec_server.testing import RunningAuthority
from authsec_server.testing._port import Port

pytestmark = pytest.mark.skipif(shutil.which("bash") is None, reason="the lines are for a shell")

ROOT: Final = Path(__file__).resolve().parents[1]
PAGE: Final = ROOT / "docs" / "guard" / "quickstart.md"
READMES: Final = [ROOT / "README.md", ROOT / "packages" / "authsec-fastapi" / "README.md"]
TEXT: Final = PAGE.read_text(encoding="utf-8")
WITH_AUTHORITY, _, WITHOUT = TEXT.partition("\n## Without an authority\n")
_SERVER: Final = re.compile(r"^\.venv/bin/uvicorn .*$", re.MULTILINE)


@pytest.fixture
def ports() -> Iterator[tuple[int, int]]:
    """Return two free ports: for the authority, and for the service."""
    both = Port(), Port()
    try:
        yield both[0].number, both[1].number
    finally:
        for port in both:
            port.release()


@pytest.fixture
def place(tmp_path: Path, ports: tuple[int, int]) -> Place:
    """A reader's folder, with the programs of the page saved under their names."""
    place = Place(tmp_path, ports[0])
    for name, program in programs(TEXT).items():
        (place.folder / name).write_text(program.replace(":8321", f":{ports[0]}"), encoding="utf-8")
    return place


def programs(text: str) -> dict[str, str]:
    """Return the programs that say in their first line what to save them as."""
    found = [code for language, code in blocks(text) if language == "python"]
    return {code.partition("\n")[0].removeprefix("# "): code for code in found}


def commands(text: str, port: int) -> list[str]:
    """Return the lines for the shell for the service on this port, without the servers and what only they read."""
    lines = typed(re.sub(r"^```python.*?^```$|^export APP_.*?$", "", text, flags=re.MULTILINE | re.DOTALL))
    return [re.sub(r"127\.0\.0\.1:800[01]", f"127.0.0.1:{port}", line) for line in lines if not _SERVER.match(line)]


def served(place: Place, text: str, port: int) -> Serving:
    """Start the service as the page says."""
    (line,) = _SERVER.findall(text)
    return place.serve(f"{line} --port {port}", until="Uvicorn running")


def promised(text: str) -> list[str]:
    """Return the statuses that stand beside the lines."""
    return re.findall(r"^curl .*# (\d{3})$", text, re.MULTILINE)


def test_a_service_answers_401_403_and_200(place: Place, ports: tuple[int, int]) -> None:
    """With a development authority: each line of the page, and the answers that it shows."""
    dev = place.serve(".venv/bin/authsec-server serve --dev", until="$env:AUTHSEC_ADMIN_URL")
    try:
        place.environ |= dict(pair for line in dev.said for pair in exports(line))
        place.environ["AUTHSEC_API_BASE_URL"] = f"http://127.0.0.1:{ports[1]}"
        service = served(place, WITH_AUTHORITY, ports[1])
        try:
            said = place.run(commands(WITH_AUTHORITY, ports[1]))
        finally:
            service.stop()
    finally:
        dev.stop()
    statuses = ["401", "401", "200", "403", "401"]
    assert re.findall(r"^HTTP/1.1 (\d+)", said, re.MULTILINE) == promised(WITH_AUTHORITY) == statuses
    assert re.findall(r"(?im)^www-authenticate: (.*?)\r?$", said) == [
        'Bearer realm="authsec"',
        'Bearer realm="authsec", error="invalid_token"',
        'Bearer realm="authsec", error="insufficient_scope", scope="read:payroll"',
        'Bearer realm="authsec", error="invalid_token"',
    ]
    assert re.search(r"asked_by\W+spiffe://", said), said
    assert "made-up" not in "\n".join(service.said)
    assert "eyJ" not in said + "\n".join(service.said)
    assert '"reason": "insufficient_scope"' in "\n".join(service.said)  # what is denied is seen without any set-up


def test_a_static_token_answers_the_same(place: Place, ports: tuple[int, int]) -> None:
    """Without an authority: the same three answers, and a warning at the start."""
    place.environ |= dict(re.findall(r'^export (APP_\w+)="(.+)"$', WITHOUT, re.MULTILINE))
    service = served(place, WITHOUT, ports[1])
    try:
        said = place.run(commands(WITHOUT, ports[1]))
    finally:
        service.stop()
    assert re.findall(r"^HTTP/1.1 (\d+)", said, re.MULTILINE) == promised(WITHOUT) == ["401", "200", "403"]
    assert '{"asked_by":"ann"}' in said
    assert "a static token lets in everyone who has ever seen it" in "\n".join(service.said)
    assert "only-for-a-first-try" not in "\n".join(service.said)


def test_a_first_try_without_a_token_says_what_to_set(place: Place) -> None:
    """One line, no traceback, and the exit code of a mistake in the settings."""
    environ = {name: value for name, value in os.environ.items() if not name.startswith(("APP_", "AUTHSEC_"))}
    ran = subprocess.run(
        [sys.executable, "first_try.py"], cwd=place.folder, env=environ, capture_output=True, text=True, check=False
    )
    assert (ran.returncode, ran.stdout) == (2, "")
    assert re.fullmatch(r"set APP_BEARER_TOKEN: .+\n", ran.stderr)


@pytest.mark.parametrize("readme", READMES, ids=lambda path: path.parent.name)
def test_the_service_of_a_readme_lets_in_who_has_a_token(readme: Path) -> None:
    """Copied from there, with another address of the authority: 401, 403 and 200."""
    blocks_of_code = [code for language, code in blocks(readme.read_text(encoding="utf-8")) if language == "python"]
    (program,) = [code for code in blocks_of_code if "AuthSecGuard(" in code]
    with RunningAuthority() as authority:
        service: dict[str, Any] = {}
        here = re.sub(r'issuer="[^"]+"', f'issuer="{authority.issuer}"', program)
        exec(here, service)  # noqa: S102 -- our own page, as a reader would run it
        agent = authority.onboard("read:metrics read:records")
        config = AuthSecConfig(base_url=agent.base_url, client_id=agent.client_id, agent_key=agent.agent_key)
        with AuthSecClient(config) as authsec, TestClient(service["app"]) as client:
            assert client.get("/metrics").status_code == 401
            tokens = [authsec.get_delegation_token(scope=scope) for scope in ("read:records", "read:metrics")]
            answers = [client.get("/metrics", headers={"Authorization": f"Bearer {token}"}) for token in tokens]
    assert [answer.status_code for answer in answers] == [403, 200]
    assert answers[1].json() == {"asked_by": agent.spiffe_id}
