"""Does a backup bring an authority back, and do the steps after a restore make good what it forgot? On both databases.

The program that copies an SQLite database, and the arguments of PostgreSQL's own, are those of the page.
"""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import jwt
import pytest

from authsec_core.wire import DELEGATION_TOKEN_PATH
from authsec_server.cli import main
from authsec_server.testing import LocalPostgres, OnboardedAgent, RunningAuthority
from authsec_server.testing._binaries import installation

PAGE = Path(__file__).resolve().parents[1] / "docs" / "deploy" / "backup.md"


@dataclass(frozen=True)
class Place:
    """An authority, and how its database is copied into one that another server can work on."""

    authority: RunningAuthority
    folder: Path
    back_up: Callable[[], None]
    restore: Callable[[], str]

    def restored(self) -> RunningAuthority:
        """Return a server on the backup, with the same master key. Not started."""
        self.folder.mkdir(mode=0o700)
        data_dir = self.authority.settings.data_dir
        assert data_dir is not None
        shutil.copy2(data_dir / "master.key", self.folder)
        return self.authority.replica(data_dir=self.folder, database_url=self.restore())


def _command(start: str) -> list[str]:
    """Return the words of the one line of the page that starts like this."""
    (line,) = re.findall(rf"^{re.escape(start)}.*$", PAGE.read_text(encoding="utf-8"), re.MULTILINE)
    return shlex.split(line)


def _run(*words: str) -> None:
    done = subprocess.run(words, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Place]:
    """An authority on SQLite."""
    with RunningAuthority() as authority:
        copy, folder = tmp_path / "backup.db", tmp_path / "restored"
        words = _command("/opt/authsec/bin/python -c")

        def restore() -> str:
            shutil.copy2(copy, folder / "authsec.db")
            return f"sqlite:///{folder / 'authsec.db'}"

        yield Place(
            authority=authority,
            folder=folder,
            back_up=lambda: _run(sys.executable, *words[1:3], f"{authority.settings.data_dir}/authsec.db", str(copy)),
            restore=restore,
        )


@pytest.fixture
def postgres(tmp_path: Path) -> Iterator[Place]:
    """An authority on PostgreSQL."""
    with LocalPostgres(fsync=False) as server:
        url, programs, dump = server.create_database(), installation() / "bin", tmp_path / "authsec.dump"

        def filled(start: str, of: str) -> list[str]:
            words = _command(start)
            values = {"$DATABASE_URL": of, "--dbname=$RESTORED_URL": f"--dbname={of}", "authsec.dump": str(dump)}
            values["--file=authsec.dump"] = f"--file={dump}"
            return [str(programs / words[0]), *(values.get(word, word) for word in words[1:])]

        def restore() -> str:
            empty = server.create_database()
            _run(*filled("pg_restore ", empty))
            return empty

        with RunningAuthority(database_url=url) as authority:
            yield Place(
                authority=authority,
                folder=tmp_path / "restored",
                back_up=lambda: _run(*filled("pg_dump ", url)),
                restore=restore,
            )


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest) -> Place:
    """Both."""
    found: Place = request.getfixturevalue(request.param)
    return found


def _ask(of: RunningAuthority, agent: OnboardedAgent) -> httpx.Response:
    return httpx.get(
        f"{of.base_url}{DELEGATION_TOKEN_PATH}",
        params={"client_id": agent.client_id},
        headers={"Authorization": f"Bearer {agent.agent_key}"},
    )


def test_the_drill(place: Place, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What was there works again; what was revoked since is good again, until the page's steps have been done."""
    old = place.authority
    kept, revoked = old.onboard("read:metrics"), old.onboard("read:metrics")
    early = _ask(old, kept).json()["token"]
    place.back_up()
    late = _ask(old, kept).json()["token"]
    old.client.post(f"/clients/{revoked.client_id}/revoke").raise_for_status()
    old.client.post("/audit/checkpoints").raise_for_status()
    checkpoints = tmp_path / "kept.jsonl"
    listed = old.client.get("/audit/checkpoints").json()["items"]
    checkpoints.write_text("".join(f"{item['jws']}\n" for item in listed), encoding="ascii")
    audit = old.client.get("/audit", params={"order": "oldest", "limit": 200}).json()["items"]
    with place.restored() as new:
        old.stop()
        arguments = ["--data", str(place.folder), "--checkpoint", str(checkpoints), "--json"]
        with pytest.MonkeyPatch.context() as patched:
            patched.setenv("AUTHSEC_SERVER_DATABASE_URL", new.settings.database_url.get_secret_value())
            patched.setenv("AUTHSEC_SERVER_PUBLIC_URL", new.settings.public_url)
            assert main(["verify-audit", *arguments]) == 1
        missing = json.loads(capsys.readouterr().out)["seq"]
        assert _ask(new, kept).status_code == 200
        assert _ask(new, revoked).status_code == 200  # which is why the page has more than one step

        for key in new.client.get("/signing-keys").json()["items"]:
            new.client.post(f"/signing-keys/{key['kid']}/revoke").raise_for_status()
        again = [entry for entry in audit if entry["seq"] >= missing and "revoke" in entry["action"]]
        assert [entry["client_id"] for entry in again] == [revoked.client_id]
        for entry in again:
            new.client.post(f"/clients/{entry['client_id']}/revoke").raise_for_status()

        assert _ask(new, revoked).json()["details"] == "client_revoked"
        published = {key["kid"] for key in httpx.get(new.jwks_url).json()["keys"]}
        signed_by = [jwt.get_unverified_header(text)["kid"] for text in (_ask(new, kept).json()["token"], early, late)]
        assert [kid in published for kid in signed_by] == [True, False, False]
