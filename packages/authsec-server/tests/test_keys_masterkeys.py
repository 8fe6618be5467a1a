"""The master keys of a process: several at once, and one more while it runs."""

from __future__ import annotations

import base64
import logging
import os
import stat
import sys
from pathlib import Path

import pytest

from authsec_core.errors import ConfigurationError
from authsec_server.errors import UnsafeSettingsError, WrongMasterKeyError
from authsec_server.keys.masterkey import (
    MasterKey,
    create_master_key,
    parse_master_keys,
    read_master_keys,
    replace_master_keys,
)
from authsec_server.keys.masterkeys import MasterKeys
from authsec_server.keys.sealing import seal, unseal

WHAT = "this database"
OLD, NEW, OTHER = MasterKey.generate(), MasterKey.generate(), MasterKey.generate()


def text(*keys: MasterKey) -> str:
    """Return how a file has them."""
    return "".join(base64.urlsafe_b64encode(key.reveal()).decode() + "\n" for key in keys)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file with the old key."""
    path = tmp_path / "master.key"
    path.touch(0o600)
    path.write_text(text(OLD))
    return path


class TestSeveral:
    """RW4: while the master key is being changed there are several."""

    @pytest.mark.req("RW4")
    def test_lines_and_spaces_divide_them(self, file: Path) -> None:
        """The new one stands first; a file has lines, and a setting has spaces. Twice the same is once."""
        file.write_text("\n" + text(NEW, OLD, NEW))
        assert read_master_keys(file) == parse_master_keys(text(NEW, OLD).replace("\n", " ")) == (NEW, OLD)

    @pytest.mark.req("RA7")
    def test_one_bad_key_spoils_them_all(self, file: Path) -> None:
        """None is passed over: what it sealed would be lost."""
        for bad in ("short", "A" * 44, text(OTHER)[:30]):
            file.write_text(text(NEW) + bad)
            with pytest.raises(ConfigurationError, match=r"master\.key"):
                read_master_keys(file)

    @pytest.mark.req("RA7")
    def test_a_file_that_is_too_long_is_refused(self, file: Path) -> None:
        """Else its last key would be cut."""
        file.write_text(text(*(MasterKey.generate() for _ in range(23))))
        with pytest.raises(ConfigurationError, match="too long"):
            read_master_keys(file)

    @pytest.mark.req("RW4")
    def test_what_any_of_them_sealed_is_opened(self) -> None:
        """And what none of them sealed is not: the message names what is missing, and what is there."""
        ring = MasterKeys([NEW, OLD])
        for key in (NEW, OLD):
            assert unseal(ring, "p", "i", "t", seal(key, "p", "i", "t", b"x")) == b"x"
        with pytest.raises(WrongMasterKeyError, match=rf"key {OTHER.id}, which .* not hold.*{NEW.id}, {OLD.id}\)"):
            unseal(ring, "p", "i", "t", seal(OTHER, "p", "i", "t", b"x"))
        assert (ring.first, ring.ids) == (NEW, (NEW.id, OLD.id))

    def test_two_of_the_same_id_are_refused(self) -> None:
        """One of them would never be found."""
        twin = MasterKey(OTHER.reveal())
        twin.id = OLD.id  # type: ignore[misc]  # by chance, once in 2**32
        with pytest.raises(ConfigurationError, match="same id"):
            MasterKeys([OLD, twin])

    @pytest.mark.req("RS8")
    def test_they_do_not_show_themselves(self) -> None:
        """Only their ids are seen."""
        assert repr(MasterKeys([NEW, OLD])) == f"<master keys {NEW.id}, {OLD.id}>"


class TestOneMore:
    """RW4: a file that was replaced is read again, when it is needed."""

    @pytest.mark.req("RW4")
    def test_a_key_that_is_not_known_is_looked_for_in_the_file(self, file: Path) -> None:
        """A server needs no restart; the old key stays known, also when it is not in the file any more."""
        ring = MasterKeys.read(file)
        with pytest.raises(WrongMasterKeyError, match=NEW.id):
            ring.get(NEW.id, WHAT)
        replace_master_keys(file, [NEW, OLD])
        assert (ring.get(NEW.id, WHAT), ring.first) == (NEW, NEW)
        replace_master_keys(file, [OTHER])
        assert [ring.get(key.id, WHAT) for key in (OTHER, NEW, OLD)] == [OTHER, NEW, OLD]

    def test_the_same_file_is_not_read_twice(self, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Whoever can write to the database could have it read for each request."""
        read: list[Path] = []

        def spy(path: Path) -> tuple[MasterKey, ...]:
            read.append(path)
            return read_master_keys(path)

        ring = MasterKeys.read(file)
        monkeypatch.setattr("authsec_server.keys.masterkeys.read_master_keys", spy)
        for _ in range(100):
            with pytest.raises(WrongMasterKeyError):
                ring.get(NEW.id, WHAT)
        assert len(read) == 1

    @pytest.mark.req("RW4")
    @pytest.mark.parametrize("how", ["gone", "garbage", "readable by all"])
    def test_a_file_that_cannot_be_read_costs_nothing(
        self, file: Path, how: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """What is known stays known, the log says why nothing was found, and no key is made up."""
        if how == "readable by all" and sys.platform == "win32":
            pytest.skip("files have no mode there")
        ring = MasterKeys.read(file)
        with pytest.raises(WrongMasterKeyError):
            ring.get(NEW.id, WHAT)
        if how == "gone":
            file.unlink()
        else:
            file.write_text(text(NEW, OLD) if how == "readable by all" else "garbage")
            file.chmod(0o644 if how == "readable by all" else 0o600)
        with (
            caplog.at_level(logging.ERROR),
            pytest.raises(WrongMasterKeyError, match=f"key {NEW.id}, which .* does not hold"),
        ):
            ring.get(NEW.id, WHAT)
        assert ring.get(OLD.id, WHAT) == ring.first == OLD
        assert how == "gone" or "no further master key" in caplog.text
        assert text(NEW).strip() not in caplog.text
        file.touch()
        file.chmod(0o600)
        file.write_text(text(NEW, OLD))
        assert ring.get(NEW.id, WHAT) == NEW

    def test_keys_of_a_setting_stay_as_they_are(self) -> None:
        """There is no file to look into: the setting is named."""
        with pytest.raises(WrongMasterKeyError, match="AUTHSEC_SERVER_MASTER_KEY does not hold"):
            MasterKeys([OLD]).get(NEW.id, WHAT)


class TestKept:
    """RA7: a file that was replaced by mistake is noticed before a server has to start with it."""

    @pytest.mark.req("RA7")
    def test_only_the_file_counts(self, file: Path) -> None:
        """What is in memory alone is lost with the process; more keys in the file do no harm."""
        ring = MasterKeys.read(file)
        for keys in ([OLD], [NEW, OLD]):
            replace_master_keys(file, keys)
            ring.require_in_file(OLD.id, WHAT)
        replace_master_keys(file, [NEW])
        with pytest.raises(WrongMasterKeyError, match=rf"key {OLD.id}, which .*master\.key' does not hold"):
            ring.require_in_file(OLD.id, WHAT)
        file.unlink()
        with pytest.raises(ConfigurationError, match="there is no master key file"):
            ring.require_in_file(OLD.id, WHAT)
        assert ring.get(OLD.id, WHAT) == ring.first == OLD

    def test_a_setting_cannot_be_looked_at(self) -> None:
        """It is as it was when the process started."""
        MasterKeys([OLD]).require_in_file(NEW.id, WHAT)


class TestReplacing:
    """RW4: a key leaves the file whole, or not at all."""

    @pytest.mark.skipif(sys.platform == "win32", reason="files have no mode there")
    @pytest.mark.parametrize("mode", [0o600, 0o400])
    def test_whose_it_is_stays(self, file: Path, mode: int) -> None:
        """The server's user can read it afterwards, and nobody else; no other file is left."""
        file.chmod(mode)
        replace_master_keys(file, [NEW, OLD])
        assert read_master_keys(file) == (NEW, OLD)
        assert stat.S_IMODE(file.stat().st_mode) == mode
        assert [each.name for each in file.parent.iterdir()] == ["master.key"]

    @pytest.mark.req("RW4")
    def test_a_failure_leaves_the_old_file(self, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """A full disk, or a file that is mounted by itself: the old keys are all there."""

        def refuse(*_: object) -> None:
            raise OSError(16, "Device or resource busy")

        for name in ("replace", "fsync"):
            with monkeypatch.context() as patch:
                patch.setattr(os, name, refuse)
                patch.setattr(Path, "replace", refuse)
                with pytest.raises(ConfigurationError, match="cannot be replaced: Device or resource busy"):
                    replace_master_keys(file, [NEW])
            assert read_master_keys(file) == (OLD,)
            assert [each.name for each in file.parent.iterdir()] == ["master.key"]

    def test_a_link_is_left_alone(self, file: Path) -> None:
        """Whoever made it puts the file there anew, as Kubernetes does; it would only be cut."""
        link = file.with_name("link.key")
        link.symlink_to(file)
        with pytest.raises(ConfigurationError, match="is a link"):
            replace_master_keys(link, [NEW])
        assert link.is_symlink()

    def test_a_new_file_is_still_never_overwritten(self, file: Path) -> None:
        """`init` makes keys only where there are none."""
        with pytest.raises(ConfigurationError, match="never overwritten"):
            create_master_key(file)

    @pytest.mark.req("RO1")
    def test_a_guessable_key_is_refused_among_others(self, file: Path) -> None:
        """As if it stood alone."""
        file.write_text(text(NEW) + base64.urlsafe_b64encode(bytes(32)).decode())
        with pytest.raises(UnsafeSettingsError, match="can be guessed"):
            read_master_keys(file)
