"""How long may the call of this thread go on? What the sockets of `_transport` ask. Pure, and quick to import."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

__all__ = ["bounded", "seconds_left"]

_LEFT: ContextVar[Callable[[], float]] = ContextVar("authsec_seconds_left", default=lambda: math.inf)


@contextmanager
def bounded(left: Callable[[], float]) -> Iterator[None]:
    """Let no socket of a `BoundedTransport` wait longer than `left()` seconds, on this thread, within the block."""
    token = _LEFT.set(left)
    try:
        yield
    finally:
        _LEFT.reset(token)


def seconds_left() -> float:
    """Return how long the call that this thread is in may still take; infinity outside of `bounded`."""
    return _LEFT.get()()
