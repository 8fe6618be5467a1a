"""After a fork: a child goes on with what the client holds, and with nothing that belongs to threads of its parent."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from core_support import PATIENT

import authsec_core

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")

PROGRAM = Path(__file__).with_name("fork_program.py")


@pytest.mark.req("RS5")
@pytest.mark.parametrize(
    "case",
    [
        "sync_shares_tokens",
        "sync_own_connections",
        "sync_in_flight",
        "sync_all_locks",
        "mock_all_locks",
        "vault_all_locks",
        "async_in_flight",
        "async_fork_on_the_loop",
    ],
)
def test_a_child_goes_on_by_itself(case: str) -> None:
    """Tokens may be shared; connections, locks, loops and requests in the air may not. Nothing hangs or complains."""
    # Python's advice since 3.12 not to fork; and that the child lets go of its copies of its parent's sockets.
    quiet = ("ignore:This process:DeprecationWarning", "ignore:unclosed:ResourceWarning")
    flags = ["-W", "error", *(flag for one in quiet for flag in ("-W", one))]
    command = [sys.executable, *flags, str(PROGRAM), case]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=3 * PATIENT)
    assert (done.returncode, done.stderr) == (0, "")
    assert {name for name, good in json.loads(done.stdout).items() if not good} == set()


def test_nothing_is_worked_out_under_a_lock_that_no_child_can_renew() -> None:
    """Until Python 3.11 each `cached_property` has one lock for all instances, which a fork may leave locked."""
    package = Path(authsec_core.__file__).parent
    assert not [path for path in package.rglob("*.py") if "@cached_property" in path.read_text(encoding="utf-8")]
