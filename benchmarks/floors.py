"""What a held token costs at the least: the same loop as every client's, around next to nothing.

The dict is the floor that a client which keys by scope is measured against. All three are called as the client is,
with the scope by its name.
"""

from __future__ import annotations

import threading
from time import monotonic, perf_counter

__all__ = ["FLOORS"]

_ENDS_AT = monotonic() + 36_000.0
_HELD: dict[str | None, tuple[str, float]] = {"read:metrics": ("token", _ENDS_AT)}
_LOCK = threading.Lock()


class _Attribute:
    text, ends_at = "token", _ENDS_AT


_ONE = _Attribute()


def _from_attribute(scope: str | None = None) -> str | None:
    return _ONE.text if monotonic() < _ONE.ends_at else None


def _from_dict(scope: str | None = None) -> str | None:
    held = _HELD.get(scope)
    if held is not None and monotonic() < held[1]:
        return held[0]
    return None


def _from_locked_dict(scope: str | None = None) -> str | None:
    with _LOCK:
        held = _HELD.get(scope)
        if held is not None and monotonic() < held[1]:
            return held[0]
    return None


def _attribute(calls: int) -> float:
    started = perf_counter()
    for _ in range(calls):
        _from_attribute(scope="read:metrics")
    return perf_counter() - started


def _dict(calls: int) -> float:
    started = perf_counter()
    for _ in range(calls):
        _from_dict(scope="read:metrics")
    return perf_counter() - started


def _locked_dict(calls: int) -> float:
    started = perf_counter()
    for _ in range(calls):
        _from_locked_dict(scope="read:metrics")
    return perf_counter() - started


FLOORS = {"attribute": _attribute, "dict": _dict, "locked dict": _locked_dict}
