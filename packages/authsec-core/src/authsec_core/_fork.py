"""What a child process has to make anew: locks that a thread of the parent may have held, sockets it still uses."""

from __future__ import annotations

import os
import weakref
from typing import Protocol

__all__ = ["renew_after_fork"]


class _Renewable(Protocol):
    def after_fork(self) -> None: ...


_living: weakref.WeakSet[_Renewable] = weakref.WeakSet()


def renew_after_fork(thing: _Renewable) -> None:
    """Call `thing.after_fork()` in each child, for as long as `thing` lives."""
    _living.add(thing)


def _renew_all() -> None:
    for thing in list(_living):
        thing.after_fork()


if hasattr(os, "register_at_fork"):  # not on Windows, which cannot fork
    os.register_at_fork(after_in_child=_renew_all)
