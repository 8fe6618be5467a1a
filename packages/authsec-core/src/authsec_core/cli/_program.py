"""How `authsec run` starts a program: it becomes that program, and where systems cannot do so, it waits for it."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Mapping

from authsec_core.cli._outcome import InputError, Launch

__all__ = ["become", "find_program"]

# What Python ignores from its start on: a program that inherited that would write on when nobody reads any more.
_IGNORED = ("SIGPIPE", "SIGXFSZ")


def find_program(name: str, environ: Mapping[str, str]) -> str:
    """Return where a program lies, as a shell would find it.

    Raises:
        InputError: There is none of this name.
    """
    found = shutil.which(name, path=environ.get("PATH"))
    if found is None:
        raise InputError("the program after -- was not found, or cannot be run: nothing was read and nothing started")
    return found


def become(launch: Launch) -> int:
    """Replace this process by the program; on Windows run it and return its exit code.

    Signals, terminal, open streams and exit code are then the program's own, and of ours no memory is left.

    Raises:
        InputError: The system cannot run it.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    try:
        if sys.platform == "win32":
            return _waited_for(launch)
        for name in _IGNORED:
            signal.signal(getattr(signal, name), signal.SIG_DFL)
        os.execve(launch.file, launch.argv, launch.environ)  # noqa: S606 -- what it is for, and no shell is wanted
    except OSError as exc:
        raise InputError(f"the program after -- cannot be started: {exc.strerror}") from exc


def _waited_for(launch: Launch) -> int:
    with subprocess.Popen([launch.file, *launch.argv[1:]], env=launch.environ) as process:  # noqa: S603 -- as above
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:  # which the program got as well, and answers in its own way
                continue
