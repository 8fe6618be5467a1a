"""`rotate-master-key`: from one master key in the file, over two, to the new one alone."""

from __future__ import annotations

import base64
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from server_cli_support import Desk, Printed

from authsec_core.testing import FakeClock, assert_no_secret
from authsec_server.cli._files import changing_alone
from authsec_server.keys.masterkey import MasterKey, read_master_keys, replace_master_keys

COMMAND = "rotate-master-key"


class Site:
    """An authority in a folder, and the command."""

    def __init__(self, desk: Desk, folder: Path) -> None:
        self.desk = desk
        self.folder = folder
        self.file = folder / "master.key"

    def run(self, *argv: str, as_json: bool = True) -> Printed:
        """Run the command, which never shows a key."""
        printed = self.desk.run(*argv, "--data", str(self.folder), *(["--json"] if as_json else []))
        if self.file.exists():
            assert_no_secret([printed.out, printed.err], *self.file.read_text().split())
        return printed

    def rotate(self, *argv: str) -> Any:
        """Do a step that has to succeed, and return its document."""
        printed = self.run(COMMAND, *argv)
        assert printed.code == 0, printed.out
        return printed.json

    @property
    def keys(self) -> list[MasterKey]:
        """What is in the file."""
        return list(read_master_keys(self.file))

    def sql(self, statement: str) -> list[Any]:
        """Run a statement behind the authority's back."""
        with closing(sqlite3.connect(self.folder / "authsec.db")) as connection, connection:
            return connection.execute(statement).fetchall()

    @property
    def sealed_with(self) -> set[str]:
        """The ids of the master keys that something is sealed with."""
        found = self.sql("SELECT pepper FROM server UNION ALL SELECT sealed FROM signing_keys")
        return {row[0][1:5].hex() for row in found}


@pytest.fixture
def site(clock: FakeClock, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """An authority that `init` made."""
    monkeypatch.setenv("AUTHSEC_SERVER_PUBLIC_URL", "https://authority.example.com")
    found = Site(Desk(clock, capsys, None), tmp_path / "data")
    assert found.run("init").code == 0
    return found


@pytest.mark.req("RW4")
def test_from_the_old_key_to_the_new_one(site: Site) -> None:
    """One call makes a key and seals everything with it; another gives the old one up; the rest is nothing to do."""
    (old,) = site.keys
    done = site.rotate()
    new = site.keys[0]
    assert site.keys == [new, old]
    assert (done["status"], done["master_key"], done["old"]) == ("success", new.id, [old.id])
    assert done["rows"] == {"server": 1, "signing_keys": 1, "secret_versions": 0}
    assert site.sealed_with == {new.id}
    assert site.rotate()["rows"] == {"server": 0, "signing_keys": 0, "secret_versions": 0}
    assert site.keys == [new, old], "a second call made another key"
    assert site.rotate("--retire")["old"] == [old.id]
    assert site.keys == [new]
    assert "nothing to do" in site.rotate("--retire")["done"]
    assert site.run("rotate-keys").code == 0
    actions = [action for (action,) in site.sql("SELECT action FROM audit WHERE action LIKE 'master_key.%'")]
    assert actions == ["master_key.activate", "master_key.reseal", "master_key.retire"]


@pytest.mark.req("RW4")
def test_a_call_goes_on_where_the_last_one_ended(site: Site) -> None:
    """The new key was in the file, and nothing more had come of it: no third one is made."""
    (old,) = site.keys
    new = MasterKey.generate()
    replace_master_keys(site.file, [new, old])
    assert site.rotate()["master_key"] == new.id
    assert site.keys == [new, old]
    assert site.sealed_with == {new.id}


@pytest.mark.req("RW4")
def test_no_key_is_retired_that_is_needed(site: Site) -> None:
    """The file keeps it, and the message says what to do."""
    (old,) = site.keys
    replace_master_keys(site.file, [MasterKey.generate(), old])
    before = site.file.read_bytes()
    printed = site.run(COMMAND, "--retire")
    assert (printed.code, printed.json["code"]) == (1, "conflict")
    assert "2 things are sealed with another master key" in printed.json["message"]
    assert site.file.read_bytes() == before


@pytest.mark.req("RW4")
def test_the_lost_old_key_is_named(site: Site) -> None:
    """Somebody has put a new key in the place of the old one: nothing is changed, and nothing is made up."""
    (old,) = site.keys
    replace_master_keys(site.file, [MasterKey.generate()])
    for step in ([], ["--rewrap-only"], ["--retire"]):
        printed = site.run(COMMAND, *step)
        assert (printed.code, printed.json["code"]) == (2, "wrong_master_key")
        wanted = f"this database is sealed with master key {old.id}, which the file {str(site.file)!r} does not hold"
        assert printed.json["message"].startswith(wanted)
    assert site.sealed_with == {old.id}


@pytest.mark.req("RW4")
def test_keys_of_a_setting(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever sets them puts the new one first and takes the old one out; the command only seals."""
    (old,), new = site.keys, MasterKey.generate()
    texts = [base64.urlsafe_b64encode(key.reveal()).decode() for key in (new, old)]
    site.file.unlink()
    monkeypatch.setenv("AUTHSEC_SERVER_MASTER_KEY", texts[1])
    for step in ([], ["--retire"]):
        printed = site.run(COMMAND, *step)
        assert (printed.code, printed.json["code"]) == (2, "configuration")
        assert "--rewrap-only" in printed.json["message"]
    monkeypatch.setenv("AUTHSEC_SERVER_MASTER_KEY", " ".join(texts))
    assert site.rotate("--rewrap-only")["old"] == [old.id]
    monkeypatch.setenv("AUTHSEC_SERVER_MASTER_KEY", texts[0])
    assert site.run("rotate-keys").code == 0
    assert not site.file.exists()


def test_only_one_command_changes_the_file(site: Site) -> None:
    """Two would each write what they have read, and a key would be lost."""
    before = site.keys
    with changing_alone(site.file):
        for step in ([], ["--retire"]):
            printed = site.run(COMMAND, *step)
            assert (printed.code, printed.json["code"]) == (1, "conflict")
    assert site.keys == before


@pytest.mark.req("RW4")
def test_what_was_damaged_is_an_exit_code(site: Site) -> None:
    """And a name; the old key stays."""
    site.run("rotate-keys", "--now")
    site.sql("UPDATE signing_keys SET sealed = CAST(sealed || x'00' AS BLOB) WHERE state = 'retired'")
    printed = site.run(COMMAND)
    (kid,) = site.sql("SELECT kid FROM signing_keys WHERE state = 'retired'")[0]
    assert (printed.code, printed.json["status"], printed.json["failed"]) == (1, "error", [f"signing key {kid}"])
    assert printed.json["rows"] == {"server": 1, "signing_keys": 1, "secret_versions": 0}
    assert site.run(COMMAND, "--retire").json["code"] == "conflict"


def test_people_are_told_what_comes_next(site: Site) -> None:
    """How much was done, and which key can be taken out by what."""
    (old,) = site.keys
    printed = site.run(COMMAND, as_json=False)
    assert "2 things were sealed anew" in printed.err.replace("\n", " ")
    assert old.id in printed.err
    assert "--retire" in printed.err
    assert site.run(COMMAND, "--retire", "--rewrap-only", as_json=False).code == 2


@pytest.mark.req("RW4")
def test_on_postgresql_every_server_has_the_key_before_it_is_used(
    site: Site, postgres: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Servers may be elsewhere: the first call only makes the key and says so, the second one uses it."""
    url = postgres.create_database()
    monkeypatch.setenv("AUTHSEC_SERVER_DATABASE_URL", url)
    assert site.run("init").code == 0
    (old,) = site.keys
    done = site.rotate()
    new = site.keys[0]
    assert "bring the file to every server" in done["done"]
    assert (done["master_key"], site.keys) == (new.id, [new, old])
    assert "rows" not in done
    assert site.rotate()["rows"] == {"server": 1, "signing_keys": 1, "secret_versions": 0}
    assert site.rotate("--retire")["old"] == [old.id]
    postgres.drop_database(url)
