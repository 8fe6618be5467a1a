"""Does the unit of the kit do what its page says, and does the ceremony make a key? systemd itself is not started."""

from __future__ import annotations

import re
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # importlib mode adds no folders

from deploy_kit import DEPLOY, KIT, text_of

from authsec_server.keys.masterkey import read_master_keys

# systemd


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not installed")
def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    """Systemd finds no fault with the unit, and rates it as little exposed as the page says."""
    unit = tmp_path / "authsec.service"
    text = text_of(KIT / "authsec.service").replace(
        "/opt/authsec/bin/authsec-server", shutil.which("true") or "/bin/true"
    )
    unit.write_text(text, encoding="utf-8")
    verified = _systemd("verify", "--man=no", str(unit))
    assert (verified.returncode, verified.stderr) == (0, "")
    rated = _systemd("security", "--offline=true", "--threshold=15", str(unit))
    assert rated.returncode == 0, rated.stdout
    assert "LoadCredential=master.key:/etc/authsec/master.key\n" in text
    assert "AUTHSEC_SERVER_MASTER_KEY_FILE=%d/master.key\n" in text


def _systemd(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["systemd-analyze", *words], capture_output=True, encoding="utf-8", check=False)


@pytest.mark.skipif(not shutil.which("sh"), reason="a script for a shell")
def test_the_script_gives_the_key_to_the_command(tmp_path: Path) -> None:
    """`authsec-run` asks for the settings and the credential of the unit, and passes the arguments on."""
    script = KIT / "authsec-run"
    assert script.stat().st_mode & stat.S_IXUSR
    told = tmp_path / "systemd-run"
    told.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n', encoding="utf-8")
    told.chmod(0o700)
    done = subprocess.run(
        ["sh", script, "init", "--admin", "Ada Lovelace"],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    words = done.stdout.splitlines()
    assert words[-4:] == ["/opt/authsec/bin/authsec-server", "init", "--admin", "Ada Lovelace"]
    unit = text_of(KIT / "authsec.service")
    for line in ("EnvironmentFile=/etc/authsec/authsec.env", "LoadCredential=master.key:/etc/authsec/master.key"):
        assert f"--property={line}" in words
        assert f"{line}\n" in unit
    (name,) = (word.removeprefix("--unit=") for word in words if word.startswith("--unit="))
    assert f"--setenv=AUTHSEC_SERVER_MASTER_KEY_FILE=/run/credentials/{name}.service/master.key" in words


# The key ceremony


@pytest.mark.skipif(not shutil.which("bash"), reason="the lines are for a shell")
def test_the_ceremony_makes_a_key_and_two_halves(tmp_path: Path) -> None:
    """Its lines, run in order, make a key that is taken; neither half has any of it, and together they are the key."""
    text = text_of(DEPLOY / "keys.md").partition("## Change the master key")[0]
    lines = re.findall(r"^ *```sh\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL)
    python = f'python3() {{ "{sys.executable}" "$@"; }}\n'
    script = "set -eu\n" + python + "".join(re.sub(r"^ +", "", block, flags=re.MULTILINE) for block in lines)
    done = subprocess.run(["bash", "-c", script], cwd=tmp_path, capture_output=True, encoding="utf-8", check=False)
    assert done.returncode == 0, done.stderr
    (key,) = read_master_keys(tmp_path / "master.key")
    assert key.id in done.stdout.split()
    one, two = (tmp_path / "half-1").read_bytes(), (tmp_path / "half-2").read_bytes()
    assert key.reveal() not in one + two
    assert len(one) == len(two) == len((tmp_path / "master.key").read_bytes()) == 45
