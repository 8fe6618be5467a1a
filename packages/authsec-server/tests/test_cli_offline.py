"""The commands that work on the database: `init`, `migrate`, `grant-admin`, `rotate-keys`, `verify-audit`."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
import os
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from server_cli_support import Desk, Printed

from authsec_core._signing import base64url
from authsec_core.testing import FakeClock
from authsec_server.authority import Authority
from authsec_server.cli._files import alone
from authsec_server.credentials import parse
from authsec_server.db import migrate
from authsec_server.errors import UnsafeSettingsError
from authsec_server.keys.masterkey import MAKE_ONE, PUT_BACK
from authsec_server.settings import ServerSettings
from authsec_server.testing import LocalPostgres

PASSWORD = "pw-q2w3e4r5t6y7u8"


class Site:
    """A production authority's folder, and whoever sits at its machine."""

    def __init__(self, desk: Desk, folder: Path) -> None:
        self.desk, self.folder = desk, folder
        self.database = folder / "authsec.db"

    def run(self, *argv: str, json_too: bool = True) -> Printed:
        """Run a command on this folder, for programs."""
        more = ("--json",) if json_too else ()
        return self.desk.run(*argv, "--data", str(self.folder), *more, secrets=(PASSWORD,))

    def sql(self, statement: str) -> list[Any]:
        """Run a statement behind the authority's back."""
        with closing(sqlite3.connect(self.database)) as connection, connection:
            return connection.execute(statement).fetchall()

    def whoami(self, token: str) -> str:
        """Return who may administer with this token."""

        async def ask() -> str:
            settings = ServerSettings(data_dir=self.folder)
            async with Authority.open(settings, clock=self.desk.clock) as authority:
                caller = await authority.operators.admit(
                    f"Bearer {token}", "administer", request_id="r", address=None, path="/"
                )
                return caller.actor.name

        return asyncio.run(ask())


@pytest.fixture
def empty(
    clock: FakeClock, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Site:
    """Nothing but settings."""
    monkeypatch.setenv("AUTHSEC_SERVER_PUBLIC_URL", "https://authority.example.com")
    return Site(Desk(clock, capsys, None), tmp_path / "data")


@pytest.fixture
def site(empty: Site) -> Site:
    """An authority that `init` made."""
    assert empty.run("init").code == 0
    return empty


class TestInit:
    """The first step."""

    def test_it_makes_everything(self, empty: Site) -> None:
        """Folder, master key, database, signing key and an admin whose token is shown this once and works."""
        printed = empty.run("init", "--admin", "ada")
        assert printed.code == 0
        assert printed.json["admin"] == "ada"
        assert empty.whoami(printed.json["admin_token"]) == "ada"
        assert empty.sql("SELECT state FROM signing_keys") == [("active",)]
        assert empty.sql("SELECT made_by_dev FROM server") == [(0,)]

    def test_people_see_the_token_on_a_line_of_its_own(self, empty: Site) -> None:
        """On stderr it says that it will not come back, and which file to back up."""
        printed = empty.run("init", json_too=False)
        (line,) = printed.out.splitlines()
        assert parse(line) is not None
        assert "shown once" in printed.err
        assert "master.key" in printed.err.replace("\n", "")

    @pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
    def test_nobody_else_can_read_what_it_makes(self, site: Site) -> None:
        """Whatever the umask of whoever runs it."""
        files = [site.folder, *site.folder.iterdir()]
        assert len(files) >= 3
        assert [path.name for path in files if path.stat().st_mode & 0o077] == []

    def test_not_twice(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        """What is there is left as it is, and an older release's database is not even migrated."""

        async def upgrade(_database: object) -> None:
            raise AssertionError("it was migrated")

        monkeypatch.setattr(migrate, "upgrade", upgrade)
        key = (site.folder / "master.key").read_bytes()
        before = site.sql("SELECT * FROM server")
        printed = site.run("init")
        assert (printed.code, printed.json["code"]) == (1, "conflict")
        assert (site.folder / "master.key").read_bytes() == key
        assert site.sql("SELECT * FROM server") == before

    def test_a_master_key_of_the_environment(self, empty: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        """It is used, and no file is made."""
        key = base64.urlsafe_b64encode(os.urandom(32)).decode()
        monkeypatch.setenv("AUTHSEC_SERVER_MASTER_KEY", key)
        printed = empty.run("init")
        assert (printed.code, printed.json["master_key_file"]) == (0, None)
        assert not (empty.folder / "master.key").exists()
        assert empty.whoami(printed.json["admin_token"]) == "admin"

    def test_a_folder_that_cannot_be_made(self, empty: Site) -> None:
        """It is one line, and no traceback."""
        empty.folder.write_text("a file")
        printed = empty.run("init")
        assert (printed.code, printed.json["code"]) == (2, "configuration")

    @pytest.mark.req("RO1")
    @pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
    @pytest.mark.parametrize("mode", [0o777, 0o1777, 0o770, 0o702])
    @pytest.mark.parametrize("linked", [False, True], ids=["itself", "linked"])
    def test_a_folder_that_others_can_write_to(self, mode: int, linked: bool, empty: Site, tmp_path: Path) -> None:
        """It is refused before anything is put into it, and it says what to run."""
        folder = tmp_path / "open" if linked else empty.folder
        folder.mkdir()
        folder.chmod(mode)
        if linked:
            empty.folder.symlink_to(folder)
        printed = empty.run("init")
        assert (printed.code, printed.json["code"]) == (2, "unsafe_settings")
        assert "chmod go-w" in printed.json["message"]
        assert list(folder.iterdir()) == []
        folder.chmod(0o755)
        assert empty.run("init").code == 0
        folder.chmod(mode)
        with pytest.raises(UnsafeSettingsError), alone(ServerSettings(data_dir=empty.folder)):  # as `serve` does
            pass

    @pytest.mark.req("RO1")
    @pytest.mark.skipif(os.name != "posix", reason="owners are POSIX's")
    def test_a_folder_of_another_user(self, empty: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        """Its owner could replace the database and the key."""
        found = Path.stat

        def stat(path: Path, **options: Any) -> os.stat_result:
            result = found(path, **options)
            return os.stat_result((*result[:4], 4242, *result[5:])) if path == empty.folder else result

        empty.folder.mkdir()
        monkeypatch.setattr(Path, "stat", stat)
        printed = empty.run("init")
        assert (printed.code, printed.json["code"]) == (2, "unsafe_settings")
        assert "chown" in printed.json["message"]

    @pytest.mark.parametrize(
        "url", ["sqlite:////no/such/folder/authsec.db", f"postgresql://u:{PASSWORD}@127.0.0.1:1/x"]
    )
    def test_a_database_that_cannot_be_had(self, url: str, empty: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        """It is one line, without the password."""
        monkeypatch.setenv("AUTHSEC_SERVER_DATABASE_URL", url)
        monkeypatch.setenv("AUTHSEC_SERVER_DATABASE_TIMEOUT", "0.01")
        printed = empty.run("init")
        assert printed.code in {1, 2}
        assert printed.json["code"] in {"configuration", "storage_unavailable"}


class TestPostgres:
    """The other database, under the same commands."""

    def test_they_work(self, empty: Site, postgres: LocalPostgres, monkeypatch: pytest.MonkeyPatch) -> None:
        """From `init` to `verify-audit`; what is refused on one is refused on the other."""
        url = postgres.create_database()
        monkeypatch.setenv("AUTHSEC_SERVER_DATABASE_URL", url)
        assert empty.run("migrate").json["code"] == "conflict"
        token = empty.run("init").json["admin_token"]
        assert empty.whoami(token) == "admin"
        assert empty.run("init").json["code"] == "conflict"
        assert empty.run("rotate-keys", "--now").code == 0
        assert empty.run("verify-audit").json["entries"] > 3
        postgres.drop_database(url)

    def test_what_the_server_refuses(
        self, empty: Site, postgres: LocalPostgres, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A database that it does not have is a setting to mend, in one line."""
        url = postgres.create_database()
        postgres.drop_database(url)
        monkeypatch.setenv("AUTHSEC_SERVER_DATABASE_URL", url)
        printed = empty.run("init")
        assert (printed.code, printed.json["code"]) == (1, "storage_unavailable")
        assert "AUTHSEC_SERVER_DATABASE_URL" in printed.json["message"]


class TestMigrate:
    """The database's shape."""

    def test_nothing_to_do(self, site: Site) -> None:
        """It says so, and which revision is there."""
        printed = site.run("migrate")
        assert printed.json == {
            "status": "success",
            "from": migrate.expected(),
            "to": migrate.expected(),
            "changed": False,
        }

    def test_an_older_database(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        """`serve` leaves it alone and names the command; `migrate` brings it up and says from where to where."""
        monkeypatch.setattr(migrate, "expected", lambda: "9999")
        printed = site.run("serve", "--port", "0")
        assert (printed.code, printed.json["code"]) == (2, "configuration")
        assert "authsec-server migrate" in printed.json["message"]
        upgraded: list[object] = []

        async def upgrade(database: object) -> None:
            upgraded.append(database)

        monkeypatch.setattr(migrate, "upgrade", upgrade)
        assert site.run("migrate").json["changed"] is True
        assert len(upgraded) == 1

    def test_an_empty_database(self, empty: Site) -> None:
        """It is for `init` to fill."""
        empty.folder.mkdir()
        empty.database.touch()
        printed = empty.run("migrate")
        assert (printed.code, "authsec-server init" in printed.json["message"]) == (1, True)


class TestGrantAdmin:
    """The way back in."""

    def test_a_new_token_for_a_lost_one(self, site: Site) -> None:
        """It works, and the audit says that it was made at the machine."""
        printed = site.run("grant-admin", "admin")
        assert site.whoami(printed.json["admin_token"]) == "admin"
        (entry,) = site.sql("SELECT text FROM audit ORDER BY seq DESC LIMIT 1")
        assert json.loads(entry[0])["actor"]["kind"] == "system"
        assert json.loads(entry[0])["action"] == "operator_token.create"

    def test_an_admin_who_is_new(self, site: Site) -> None:
        """They are made."""
        assert site.whoami(site.run("grant-admin", "grace").json["admin_token"]) == "grace"

    def test_without_the_master_key(self, site: Site) -> None:
        """The database alone does not let anyone in."""
        (site.folder / "master.key").unlink()
        printed = site.run("grant-admin", "mallory")
        assert (printed.code, printed.json["code"]) == (2, "configuration")
        assert site.sql("SELECT count(*) FROM operators") == [(1,)]


class Impatient(FakeClock):
    """A clock that ends a loop after so many seconds."""

    left = 0.0

    async def asleep(self, seconds: float) -> None:
        await super().asleep(seconds)
        self.left -= seconds
        if self.left <= 0:
            raise TimeoutError


class TestLostMasterKey:
    """The database is there, and what opens it is not."""

    @pytest.mark.req("RA7")
    @pytest.mark.parametrize("command", ["serve --port 0", "rotate-keys", "rotate-master-key"])
    @pytest.mark.parametrize("how", ["gone", "cut", "too long", "a sample"])
    def test_nobody_is_told_to_make_another(self, site: Site, command: str, how: str) -> None:
        """That would be the end of what is in the database: the copy has to come back."""
        file = site.folder / "master.key"
        if how == "gone":
            file.unlink()
        else:
            text = file.read_text()
            file.write_text({"cut": text[:30], "too long": text * 30, "a sample": "Example" + text[7:]}[how])
        printed = site.run(*command.split())
        assert (printed.code, printed.json["code"]) == (2, "unsafe_settings" if how == "a sample" else "configuration")
        assert printed.json["message"].endswith(PUT_BACK)
        assert "Make one" not in printed.json["message"]

    @pytest.mark.req("RA7")
    def test_a_server_notices_it_while_it_serves(self, site: Site, caplog: pytest.LogCaptureFixture) -> None:
        """Once a minute it says that it would not start again, and goes on; once the file is back, it says nothing."""
        file = site.folder / "master.key"
        text = file.read_text()

        async def serve() -> list[str]:
            clock = Impatient()
            async with Authority.open(ServerSettings(data_dir=site.folder), clock=clock) as authority:
                told = []
                for keys in (text, base64url(os.urandom(32)), text):
                    file.write_text(keys)
                    clock.left = 120
                    with pytest.raises(TimeoutError):
                        await authority.run_chores()
                    told.append(len(caplog.messages))
                assert told == [0, 2, 2]
                assert await authority.keyring.has_active()
                return caplog.messages

        with caplog.at_level(logging.WARNING, logger="authsec.server"):
            found = asyncio.run(serve())
        for message in found:
            assert "the chore master key" in message
            assert "would not start again: this database is sealed with master key" in message
            assert text.strip() not in message

    @pytest.mark.req("RA7")
    def test_before_there_is_a_database_one_is_to_be_made(self, empty: Site) -> None:
        """Nothing was sealed yet."""
        empty.folder.mkdir(mode=0o700)
        (empty.folder / "master.key").touch(mode=0o600)
        printed = empty.run("init")
        assert (printed.code, printed.json["code"]) == (2, "configuration")
        assert printed.json["message"].endswith(MAKE_ONE)


class TestRotateKeys:
    """Signing keys by command."""

    def test_step_by_step(self, site: Site) -> None:
        """A key is prepared, waits until verifiers know it, and is then activated."""
        done = site.run("rotate-keys").json
        assert done["done"].startswith("prepared ")
        assert sorted(item["state"] for item in done["items"]) == ["active", "prepared"]
        done = site.run("rotate-keys").json
        assert done["done"].startswith("nothing to do: ")
        assert sorted(item["state"] for item in done["items"]) == ["active", "prepared"]
        site.desk.clock.advance(3600)
        done = site.run("rotate-keys").json
        assert done["done"].startswith("activated ")
        assert sorted(item["state"] for item in done["items"]) == ["active", "retired"]

    def test_at_once(self, site: Site) -> None:
        """`--now` does both in one go, and says what came of it to people, too."""
        printed = site.run("rotate-keys", "--now", json_too=False)
        assert "activated " in printed.err
        assert "retired" in printed.out
        assert site.sql("SELECT state FROM signing_keys ORDER BY created_at, state") == [("active",), ("retired",)]


class TestVerifyAudit:
    """Is it what was written?"""

    def test_it_is(self, site: Site) -> None:
        """It says how much was read."""
        printed = site.run("verify-audit")
        assert (printed.code, printed.json["status"]) == (0, "success")
        assert printed.json["entries"] == site.sql("SELECT count(*) FROM audit")[0][0] > 0
        assert "checkpoints" not in printed.err
        assert site.run("verify-audit", json_too=False).err == "authsec-server: no entry was changed\n"

    @pytest.mark.req("RU2")
    def test_the_first_bad_entry_is_named(self, site: Site) -> None:
        """With exit code 1."""
        site.sql("UPDATE audit SET text = replace(text, 'admin', 'nimda') WHERE seq >= 2")
        bad = site.sql("SELECT min(seq) FROM audit WHERE text LIKE '%nimda%'")[0][0]
        printed = site.run("verify-audit")
        assert (printed.code, printed.json["code"], printed.json["seq"]) == (1, "audit_damaged", bad)

    def test_files_that_are_missing(self, site: Site, tmp_path: Path) -> None:
        """Each is a setting to mend, and never passed over."""
        for option in ("--checkpoint", "--jwks"):
            assert site.run("verify-audit", option, str(tmp_path / "missing")).code == 2

    @pytest.mark.req("RU2")
    @pytest.mark.parametrize("left", [None, b""], ids=["deleted", "emptied"])
    def test_an_exported_file_that_is_gone(self, left: bytes | None, site: Site, tmp_path: Path) -> None:
        """It is no damage, and said to people and programs; not if there is one, or a copy is named instead."""
        file = site.folder / "checkpoints.jsonl"
        if left is not None:
            file.write_bytes(left)
        printed = site.run("verify-audit")
        assert printed.code == 0
        (note,) = [note for note in printed.json["notes"] if "exported checkpoints" in note]
        assert str(file) in note
        shown = site.run("verify-audit", json_too=False)
        assert "exported checkpoints" in " ".join((shown.out + shown.err).split())
        copy = tmp_path / "copy.jsonl"
        copy.write_bytes(b"torn\n")
        assert "exported" not in str(site.run("verify-audit", "--checkpoint", str(copy)).json["notes"])
        file.write_bytes(b"torn\n")
        assert "exported" not in str(site.run("verify-audit").json["notes"])

    def test_an_exported_file_that_cannot_be_read(self, site: Site) -> None:
        """It is not passed over."""
        (site.folder / "checkpoints.jsonl").mkdir()
        assert site.run("verify-audit").json["code"] == "configuration"

    def test_progress_is_for_terminals(self, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
        """It is told how many entries there are, and shows that on stderr only."""
        told: list[tuple[int, int]] = []
        from authsec_server.cli._output import Printer

        class Counting:
            def __enter__(self) -> Callable[[int, int], None]:
                return lambda done, total: told.append((done, total))

            def __exit__(self, *_: object) -> None:
                """Nothing to wipe."""

        monkeypatch.setattr(Printer, "counting", lambda _self, _what: Counting())
        assert site.run("verify-audit").code == 0
        entries = site.sql("SELECT count(*) FROM audit")[0][0]
        assert told[-1] == (entries, entries)


@pytest.fixture
def tried(empty: Site, monkeypatch: pytest.MonkeyPatch) -> Site:
    """An authority that `--dev` made."""
    monkeypatch.delenv("AUTHSEC_SERVER_PUBLIC_URL")
    assert empty.run("init", "--dev").code == 0
    monkeypatch.setenv("AUTHSEC_SERVER_PUBLIC_URL", "https://authority.example.com")
    return empty


@pytest.mark.req("RO1")
@pytest.mark.parametrize("command", ["serve --port 0", "grant-admin ada", "rotate-keys", "migrate"])
def test_a_try_out_is_not_served_for_real(command: str, tried: Site) -> None:
    """What `--dev` made is refused without it, and left as it is."""
    before = tried.sql("SELECT count(*) FROM audit")
    printed = tried.run(*command.split())
    assert (printed.code, printed.json["code"]) == (2, "unsafe_settings")
    assert tried.sql("SELECT count(*) FROM audit") == before


@pytest.mark.req("RO1")
@pytest.mark.parametrize("command", ["serve --port 0", "grant-admin ada", "rotate-keys", "migrate"])
def test_the_real_thing_is_not_tried_out(command: str, site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `--dev` anyone on the machine could have its agents' tokens."""
    monkeypatch.delenv("AUTHSEC_SERVER_PUBLIC_URL")
    before = site.sql("SELECT count(*) FROM audit")
    printed = site.run(*command.split(), "--dev")
    assert (printed.code, printed.json["code"]) == (2, "unsafe_settings")
    assert site.sql("SELECT count(*) FROM audit") == before
