"""Where values come from and go to: what no command line can bring about on purpose."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from vault_cli_support import CANARY, Stdin

from authsec_core.cli import _streams
from authsec_core.cli._outcome import InputError
from authsec_core.testing import assert_no_secret
from authsec_core.token import Secret


def test_a_file_that_appears_in_between_is_left_alone(tmp_path: Path) -> None:
    """Between the look and the writing somebody may have put a file of theirs there."""
    (tmp_path / "theirs").write_text("theirs")
    with pytest.raises(InputError, match="is there already"):
        _streams.write_new(tmp_path / "theirs", Secret(CANARY))
    assert (tmp_path / "theirs").read_text() == "theirs"


@pytest.mark.skipif(sys.platform == "win32", reason="links need a privilege there")
def test_a_link_that_appears_in_between_is_not_followed(tmp_path: Path) -> None:
    """Nor does it have to lead to a file that is there."""
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="is there already"):
        _streams.write_new(tmp_path / "link", Secret(CANARY))
    assert not (tmp_path / "elsewhere").exists()


def test_half_a_file_is_taken_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the disk is full, nothing is left that looks like a secret."""

    class Full(io.FileIO):
        def write(self, data: Any) -> int:
            super().write(bytes(data)[:3])
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fdopen", lambda number, mode: Full(number, "wb"))
    with pytest.raises(InputError, match="No space left on device") as failed:
        _streams.write_new(tmp_path / "half", Secret(CANARY))
    assert not (tmp_path / "half").exists()
    assert_no_secret(failed.value, CANARY)


def test_what_no_encoding_has_is_written_and_not_quoted(tmp_path: Path) -> None:
    """JSON can carry half a character; an error about it would hold all of the value."""
    _streams.write_new(tmp_path / "half", Secret("\ud800"))
    assert (tmp_path / "half").read_bytes() == b"\xed\xa0\x80"


@pytest.mark.req("RW5")
def test_bytes_that_are_no_text_are_in_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither in its words nor among its causes."""
    monkeypatch.setattr(sys, "stdin", Stdin(CANARY.encode() + b"\xff"))
    with pytest.raises(InputError) as failed:
        _streams.read_value("a/b")
    assert failed.value.__context__ is None
    assert_no_secret(failed.value, CANARY)


def test_an_end_of_typing_is_no_value(monkeypatch: pytest.MonkeyPatch) -> None:
    """Control-D at the prompt."""

    def ended(prompt: str) -> str:
        raise EOFError

    monkeypatch.setattr(sys, "stdin", Stdin("", terminal=True))
    monkeypatch.setattr("getpass.getpass", ended)
    with pytest.raises(InputError, match="no value"):
        _streams.read_value("a/b")
