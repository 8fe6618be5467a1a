"""The pytest plugin, in a pytest of its own: the repository's own one may have loaded it or not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import os
import urllib.error
import urllib.request

import pytest


def test_clock(authsec_clock):
    assert authsec_clock.wall() == authsec_clock.wall()


def test_authority_by_the_fake_clock(authsec_authority, authsec_clock):
    authsec_clock.advance(10_000)
    agent = authsec_authority.register(permissions=["a"])
    url = authsec_authority.base_url + "/authsec/uflow/sdk/delegation-token?client_id=" + agent.client_id
    urllib.request.urlopen(url).close()
    assert authsec_authority.issued[0].at == authsec_clock.wall()


def test_authority_by_the_system_clock(authsec_authority):
    assert authsec_authority.base_url.startswith("http://127.0.0.1:")


def test_models(authsec_model):
    first, second = authsec_model("one"), authsec_model("two", model="other")
    os.environ["MODEL_URL"] = first.base_url
    assert first.base_url != second.base_url
    assert (first.remaining, second.model) == (1, "other")


def test_models_are_closed():
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(os.environ["MODEL_URL"] + "/models")
"""


def test_its_fixtures_work(tmp_path: Path) -> None:
    """Clock, authority and models come up and go down; the authority goes by the clock where both are asked for."""
    (tmp_path / "test_program.py").write_text(PROGRAM)
    # Without autoload, because a module named twice (here and by the installed entry point) is an error of pytest.
    environment = {**os.environ, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "NO_PROXY": "*"}
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "authsec_core.testing.plugin", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert "5 passed" in done.stdout, done.stdout + done.stderr
