"""A program that becomes another one: as an ordinary user where it is told to, and ended by the end of its parent.

`python -I -S _launch.py <parent's pid> <signal> <uid:gid or -> <program> [argument...]`. It is a program of its own,
because what runs between fork and exec in a process with threads may find a lock held that nobody will release. The
standard library only: it runs without our packages.
"""

from __future__ import annotations

import ctypes
import os
import sys

__all__ = ["become"]

_PR_SET_PDEATHSIG = 1  # linux/prctl.h


def become(parent: int, death: int, user: str, program: list[str]) -> None:
    """Become `program`, and never return.

    Args:
        parent: Whose end is ours. Where it has ended already, so do we.
        death: The signal that its end sends us; on Linux only.
        user: Whose rights to go on with, as `uid:gid`; `-` for those that we have.
        program: A path and the arguments.
    """
    libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None
    if user != "-":
        uid, gid = (int(part) for part in user.split(":"))
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    if libc is not None:  # after setuid, which takes it back
        libc.prctl(_PR_SET_PDEATHSIG, death)
    if os.getppid() != parent:
        sys.exit("the process that started this one has ended")
    os.execv(program[0], program)  # noqa: S606 - no shell is what is wanted


if __name__ == "__main__":
    become(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4:])
