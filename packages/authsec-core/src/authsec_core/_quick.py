"""How is a frozen value of many fields made, where that is done for each request?

A frozen dataclass sets each of its fields by a call of `object.__setattr__`, so that twelve fields take 2.4 µs instead
of 0.8. It decides nothing about the values.
"""

from __future__ import annotations

from dataclasses import MISSING, field, fields, make_dataclass
from typing import Any, TypeVar, cast

__all__ = ["quickly"]

T = TypeVar("T")


def quickly(frozen: type[T]) -> type[T]:
    """Return what makes the same values as this frozen dataclass in a third of the time.

    It is a class with the same slots that is not frozen, and whose instances become the frozen one's as the last thing
    that is done to them: no one ever sees them otherwise.

    Args:
        frozen: With slots, keywords only, and no `__post_init__`, which would not be run.
    """

    def settle(value: Any) -> None:
        value.__class__ = frozen

    if hasattr(frozen, "__post_init__"):
        raise TypeError("a value that checks itself cannot be made without it")
    open_twin = make_dataclass(
        frozen.__name__,
        [(one.name, Any, _like(one)) for one in fields(cast("Any", frozen))],
        namespace={"__post_init__": settle},
        kw_only=True,
        slots=True,
    )
    return cast("type[T]", open_twin)


def _like(one: Any) -> Any:
    if one.default_factory is not MISSING:
        return field(default_factory=one.default_factory)
    return field(default=one.default)
