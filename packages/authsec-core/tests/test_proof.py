"""How an agent proves who it is: a key, a file that the platform rewrites, or nothing."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from authsec_core._proof import AgentKey, NoProof, WorkloadTokenFile
from authsec_core.errors import ProofUnavailableError
from authsec_core.token import Secret

KEY = "agent-1.0123456789abcdef0123456789abcdef"


def test_the_bare_client_id_sends_nothing() -> None:
    """The hosted service wants no proof."""
    assert NoProof().headers() == {}


def test_a_key_is_a_bearer_credential() -> None:
    """RFC 6750 section 2.1, and never a parameter of the URL."""
    assert AgentKey(Secret(KEY)).headers() == {"Authorization": f"Bearer {KEY}"}


@pytest.mark.req("RS8")
def test_a_key_is_not_shown() -> None:
    """Neither whole nor in part, not even in the fingerprint that is part of cache keys."""
    proof = AgentKey(Secret(KEY))
    for shown in (repr(proof), str(proof), proof.fingerprint, repr(hash(proof))):
        assert not any(part in shown for part in (KEY, KEY[:8], KEY[-8:]))


def test_a_file_is_read_for_each_exchange(tmp_path: Path) -> None:
    """The platform rewrites it every hour; the workload behind it stays the same, and so does its fingerprint."""
    file = tmp_path / "token"
    proof = WorkloadTokenFile(file)
    fingerprint = proof.fingerprint
    for text in ("first", "second"):
        file.write_text(text)
        assert proof.headers() == {"Authorization": f"Bearer {text}"}
    assert proof.fingerprint == fingerprint


@pytest.mark.parametrize("content", [b"a.b.c", b"a.b.c\n", b"a.b.c\r\n", b"\n  a.b.c \n\n", b"a.b.c" + b"\n" * 16000])
def test_space_around_the_token_is_ignored(tmp_path: Path, content: bytes) -> None:
    """Editors and shells end files with a line end, and a line end in a header would end the header."""
    file = tmp_path / "token"
    file.write_bytes(content)
    assert WorkloadTokenFile(file).headers() == {"Authorization": "Bearer a.b.c"}


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b" \n", id="blank"),
        pytest.param(b"a.b.c\nd.e.f", id="two lines"),
        pytest.param(b"a.b.c\r\nX-Evil: 1", id="a header"),
        pytest.param(b"Bearer a.b.c", id="a scheme"),
        pytest.param(b"a.b\x00.c", id="a zero"),
        pytest.param(b"\xef\xbb\xbfa.b.c", id="a byte order mark"),
        pytest.param("a.b.ç".encode(), id="not ASCII"),
        pytest.param(b"a" * 16385, id="too long"),
        pytest.param(b"a.b.c" + b"\n" * 16380, id="too long with its line ends"),
    ],
)
def test_a_file_without_one_token_is_no_proof(tmp_path: Path, content: bytes) -> None:
    """Nothing is sent in its place, and the error names the file and not what is in it."""
    file = tmp_path / "token"
    file.write_bytes(content)
    with pytest.raises(ProofUnavailableError, match="Check its mount") as caught:
        WorkloadTokenFile(file).headers()
    assert str(file) in caught.value.message
    assert "a.b" not in caught.value.message


def test_the_longest_token_fits(tmp_path: Path) -> None:
    """16 KiB are more than any platform's."""
    file = tmp_path / "token"
    file.write_bytes(b"a" * 16384)
    assert len(WorkloadTokenFile(file).headers()["Authorization"]) == 16384 + len("Bearer ")


@pytest.mark.parametrize("kind", ["missing", "folder", "below a file"])
def test_a_file_that_cannot_be_read_is_no_proof(tmp_path: Path, kind: str) -> None:
    """The error says why, and waiting for the mount may help: the next exchange reads again."""
    (tmp_path / "file").write_text("x")
    path = {"missing": tmp_path / "missing", "folder": tmp_path, "below a file": tmp_path / "file" / "x"}[kind]
    with pytest.raises(ProofUnavailableError) as caught:
        WorkloadTokenFile(path).headers()
    assert isinstance(caught.value.__cause__, OSError)
    assert not caught.value.retryable


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such permissions")
@pytest.mark.skipif(hasattr(os, "geteuid") and os.geteuid() == 0, reason="root may read every file")
def test_a_file_that_is_not_ours_is_no_proof(tmp_path: Path) -> None:
    """A wrong owner of the mount is the usual mistake."""
    file = tmp_path / "token"
    file.write_text("a.b.c")
    file.chmod(0)
    with pytest.raises(ProofUnavailableError, match="ermission"):
        WorkloadTokenFile(file).headers()
