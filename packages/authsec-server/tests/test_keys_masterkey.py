"""The master key: where it may come from, which ones are refused, and that it never shows itself."""

from __future__ import annotations

import base64
import copy
import os
import pickle
import stat
import sys
import threading
from pathlib import Path

import pytest

from authsec_core.errors import ConfigurationError
from authsec_server.errors import UnsafeSettingsError
from authsec_server.keys.masterkey import MAKE_ONE, PUT_BACK, MasterKey, create_master_key, read_master_keys

posix = pytest.mark.skipif(sys.platform == "win32", reason="files have no mode there")


def text_of(key: bytes) -> str:
    """Return how a key is written."""
    return base64.urlsafe_b64encode(key).decode()


GOOD = text_of(bytes((value * 83 + value**2) % 256 for value in range(32)))


def key_file(folder: Path, text: str = GOOD, mode: int = 0o600) -> Path:
    """Write a file that holds the key."""
    path = folder / "master.key"
    path.write_text(text)
    path.chmod(mode)
    return path


class TestText:
    """RA7: only 32 bytes that were made by chance are taken."""

    @pytest.mark.parametrize("text", [GOOD, GOOD.rstrip("="), f"  {GOOD}\n"])
    def test_the_padding_and_the_end_of_the_line_do_not_matter(self, text: str) -> None:
        """The same key comes out of each way to write it."""
        assert MasterKey.parse(text) == MasterKey.parse(GOOD)

    @pytest.mark.req("RA7")
    @pytest.mark.parametrize(
        "text",
        ["", "short", GOOD[:-3], GOOD + "AAAA", GOOD.replace("_", "/") + "!", "é" * 43, GOOD[:42] + "B", "A" * 44],
    )
    def test_what_is_not_a_key_is_refused(self, text: str) -> None:
        """Too short, too long, other characters, and stray last bits; the message quotes nothing of it."""
        with pytest.raises(ConfigurationError, match="is not 32 bytes as base64url") as refused:
            MasterKey.parse(text)
        assert len(text) < 5 or text not in str(refused.value)
        assert refused.value.__cause__ is refused.value.__context__ is None

    @pytest.mark.req("RA7", "RO1")
    @pytest.mark.parametrize(
        "key",
        [
            bytes(32),
            b"\xff" * 32,
            b"ab" * 16,
            bytes(range(32)),
            bytes(range(64, 0, -2)),
            b"correct horse battery staple, ok",
            b"\x80\x81" * 16,
        ],
    )
    def test_a_key_that_was_not_made_by_chance_is_refused(self, key: bytes) -> None:
        """One byte again and again, a pattern, a count, a phrase: all can be guessed."""
        assert len(key) == 32
        with pytest.raises(UnsafeSettingsError, match="can be guessed"):
            MasterKey.parse(text_of(key))

    @pytest.mark.req("RO1")
    def test_a_sample_text_is_refused(self) -> None:
        """What reads like the line of a manual was copied from it."""
        sample = "ChangeMe" + GOOD.rstrip("=")[8:]
        with pytest.raises(UnsafeSettingsError, match="sample text"):
            MasterKey.parse(sample)

    def test_generated_keys_are_never_refused_and_never_alike(self) -> None:
        """Chance passes the checks that are made for what is not chance."""
        keys = {MasterKey.generate().reveal() for _ in range(2000)}
        assert len(keys) == 2000


class TestSecrecy:
    """RS8: only its id is shown."""

    @pytest.mark.req("RS8")
    def test_it_does_not_show_itself(self) -> None:
        """Neither repr, nor str, nor an f-string has the key; they have the public id."""
        master = MasterKey.parse(GOOD)
        for shown in (repr(master), str(master), f"{master}", repr({"master": master})):
            assert master.id in shown
            assert GOOD.rstrip("=") not in shown
            assert repr(master.reveal()) not in shown
        assert not hasattr(master, "__dict__")

    @pytest.mark.req("RS8")
    @pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
    def test_it_is_not_pickled(self, protocol: int) -> None:
        """No protocol takes it."""
        with pytest.raises(TypeError, match="not pickled"):
            pickle.dumps(MasterKey.parse(GOOD), protocol)

    def test_copies_are_itself(self) -> None:
        """A deep copy of what holds it makes no second one in memory."""
        master = MasterKey.parse(GOOD)
        assert copy.copy(master) is master
        assert copy.deepcopy([master])[0] is master

    def test_the_id_tells_keys_apart(self) -> None:
        """Equal keys have equal ids of eight hexadecimal digits; others differ."""
        one, other = MasterKey.parse(GOOD), MasterKey.generate()
        assert one.id == MasterKey.parse(GOOD).id != other.id
        assert len(bytes.fromhex(one.id)) == 4
        assert one != other != GOOD
        assert len({one, MasterKey.parse(GOOD), other}) == 2


class TestFile:
    """RO1: a file that others can read or replace is not used."""

    @posix
    @pytest.mark.parametrize("mode", [0o600, 0o400])
    def test_a_file_of_ones_own_is_read(self, tmp_path: Path, mode: int) -> None:
        """Readable by its owner alone is good, writable or not."""
        assert read_master_keys(key_file(tmp_path, f"{GOOD}\n", mode)) == (MasterKey.parse(GOOD),)

    @posix
    @pytest.mark.req("RO1")
    @pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o602, 0o620, 0o601, 0o610, 0o700, 0o777])
    def test_any_other_mode_is_refused(self, tmp_path: Path, mode: int) -> None:
        """A bit for the group, for the world or to execute: the message has the command that mends it."""
        path = key_file(tmp_path, mode=mode)
        with pytest.raises(UnsafeSettingsError, match="chmod 600") as refused:
            read_master_keys(path)
        assert str(path) in str(refused.value)

    @posix
    @pytest.mark.req("RO1")
    def test_a_file_of_another_user_is_refused(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Whoever owns it can replace it; root can do so anyway."""
        path = key_file(tmp_path)
        owner = path.stat().st_uid
        monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
        if owner == 0:
            assert read_master_keys(path) == (MasterKey.parse(GOOD),)
            os.chown(path, 12345, -1)
        with pytest.raises(UnsafeSettingsError, match="another user"):
            read_master_keys(path)

    @posix
    @pytest.mark.req("RO1")
    def test_a_credential_of_systemd_is_read(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Its access list shows as a right of the group; that is all, and only in a folder that is closed to others."""
        path = key_file(tmp_path, mode=0o440)
        tmp_path.chmod(0o550)
        monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path))
        assert read_master_keys(path) == (MasterKey.parse(GOOD),)
        for of_file, of_folder, credentials in (
            (0o460, 0o550, tmp_path),
            (0o444, 0o550, tmp_path),
            (0o440, 0o555, tmp_path),
            (0o440, 0o550, tmp_path.parent),
        ):
            path.chmod(of_file)
            tmp_path.chmod(of_folder)
            monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))
            with pytest.raises(UnsafeSettingsError, match="chmod 600"):
                read_master_keys(path)

    @posix
    @pytest.mark.req("RO1")
    def test_what_is_no_regular_file_is_refused(self, tmp_path: Path) -> None:
        """A folder, a device, and a FIFO, which must not be waited for."""
        os.mkfifo(tmp_path / "fifo", 0o600)
        for path in (tmp_path / "fifo", Path("/dev/null")):
            with pytest.raises(UnsafeSettingsError, match="not a regular file"):
                read_master_keys(path)
        with pytest.raises(ConfigurationError, match=r"regular file|directory"):
            read_master_keys(tmp_path)

    @posix
    def test_a_link_is_followed_and_what_it_leads_to_is_judged(self, tmp_path: Path) -> None:
        """Kubernetes mounts secrets as links."""
        link = tmp_path / "link"
        link.symlink_to(key_file(tmp_path))
        assert read_master_keys(link) == (MasterKey.parse(GOOD),)
        (tmp_path / "master.key").chmod(0o644)
        with pytest.raises(UnsafeSettingsError, match="chmod 600"):
            read_master_keys(link)

    def test_a_missing_file_is_named(self, tmp_path: Path) -> None:
        """The message says which file, and what to do."""
        with pytest.raises(
            ConfigurationError, match=r"there is no master key file .* Put your copy of it back"
        ) as refused:
            read_master_keys(tmp_path / "absent")
        assert "absent" in str(refused.value)

    @pytest.mark.req("RA7")
    @pytest.mark.parametrize("text", ["", "hello", GOOD[:20], GOOD * 2, "x" * 5000])
    def test_a_file_that_holds_no_key_is_named_and_never_replaced(self, tmp_path: Path, text: str) -> None:
        """Damage is an error: what it sealed must not be made unreadable by a new key."""
        path = key_file(tmp_path, text)
        with pytest.raises(ConfigurationError) as refused:
            read_master_keys(path)
        assert str(path) in str(refused.value)
        assert str(refused.value).endswith(PUT_BACK)
        with pytest.raises(ConfigurationError, match="Make one with: python -c"):
            read_master_keys(path, otherwise=MAKE_ONE)
        assert path.read_text() == text

    @pytest.mark.req("RO1")
    def test_a_guessable_key_stays_unsafe_in_a_file(self, tmp_path: Path) -> None:
        """The kind of error does not get lost on the way, and the file is named."""
        with pytest.raises(UnsafeSettingsError, match=r"master\.key.*can be guessed"):
            read_master_keys(key_file(tmp_path, text_of(bytes(32))))


class TestNewFile:
    """RA7: a new file is private, whole, and never in the place of another."""

    @pytest.mark.req("RA7")
    def test_what_is_made_can_be_read(self, tmp_path: Path) -> None:
        """The file holds the key that was returned, and nothing else is left behind."""
        path = tmp_path / "master.key"
        assert (create_master_key(path),) == read_master_keys(path)
        assert list(tmp_path.iterdir()) == [path]

    @posix
    @pytest.mark.req("RA7")
    def test_only_its_owner_can_read_it_whatever_the_umask(self, tmp_path: Path) -> None:
        """The file is private from its first moment."""
        before = os.umask(0)
        try:
            create_master_key(tmp_path / "master.key")
        finally:
            os.umask(before)
        assert stat.S_IMODE((tmp_path / "master.key").stat().st_mode) == 0o600

    @pytest.mark.req("RA7")
    def test_a_file_that_exists_is_never_overwritten(self, tmp_path: Path) -> None:
        """Be it a key or not: what it sealed would be lost. Nothing is left behind."""
        path = key_file(tmp_path, "whatever it is")
        with pytest.raises(ConfigurationError, match="never overwritten"):
            create_master_key(path)
        assert path.read_text() == "whatever it is"
        assert list(tmp_path.iterdir()) == [path]

    @posix
    @pytest.mark.req("RA7")
    def test_a_link_to_nowhere_is_not_followed(self, tmp_path: Path) -> None:
        """A key must not be written where somebody's link leads."""
        (tmp_path / "master.key").symlink_to(tmp_path / "elsewhere")
        with pytest.raises(ConfigurationError, match="never overwritten"):
            create_master_key(tmp_path / "master.key")
        assert not (tmp_path / "elsewhere").exists()

    @pytest.mark.req("RA7")
    def test_of_many_that_make_it_at_once_one_wins(self, tmp_path: Path) -> None:
        """The others are told, and the file holds the winner's key."""
        path, start = tmp_path / "master.key", threading.Barrier(8)
        made: list[MasterKey] = []
        refused: list[ConfigurationError] = []

        def make() -> None:
            start.wait()
            try:
                made.append(create_master_key(path))
            except ConfigurationError as exc:
                refused.append(exc)

        threads = [threading.Thread(target=make) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(made) == 1
        assert len(refused) == 7
        assert read_master_keys(path) == (made[0],)

    @pytest.mark.req("RA7")
    def test_it_is_on_the_disk_before_it_is_used(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """The file is synced before it has its name, and the folder after."""
        events: list[str] = []
        real_sync, real_link = os.fsync, os.link

        def sync(descriptor: int) -> None:
            events.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
            real_sync(descriptor)

        def link(source: Path, target: Path) -> None:
            events.append("name")
            real_link(source, target)

        monkeypatch.setattr(os, "fsync", sync)
        monkeypatch.setattr(os, "link", link)
        create_master_key(tmp_path / "master.key")
        assert events == ["file", "name", *([] if sys.platform == "win32" else ["folder"])]

    def test_a_folder_that_is_not_there_is_named(self, tmp_path: Path) -> None:
        """The message says which file could not be made, and why."""
        with pytest.raises(ConfigurationError, match="cannot be made: No such file"):
            create_master_key(tmp_path / "absent" / "master.key")

    def test_a_full_disk_leaves_nothing_behind(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """No half of a key is there afterwards."""

        def full(descriptor: int) -> None:
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(ConfigurationError, match="No space left"):
            create_master_key(tmp_path / "master.key")
        assert list(tmp_path.iterdir()) == []
