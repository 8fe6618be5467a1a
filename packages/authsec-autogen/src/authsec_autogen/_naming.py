"""What a tool may be called, and how a function comes to be called so. Every framework reads names off functions."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Final

__all__ = ["LONGEST_NAME", "check_name", "dressed"]

LONGEST_NAME: Final = 64  # characters
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")  # what OpenAI permits; AutoGen checks the same


def check_name(name: str) -> None:
    """Refuse a name that models cannot call.

    Raises:
        ValueError: It is one.
    """
    if not _NAME.fullmatch(name):
        raise ValueError(f"{name!r} cannot be a tool's name: use 1 to {LONGEST_NAME} letters, digits, '_' and '-'")


def dressed(function: Callable[..., Any], *, name: str, doc: str | None) -> Any:
    """Return the same function, under another name and docstring."""
    made: Any = function
    # The qualified name too: Python puts it into the TypeError that a model sees when it adds an argument.
    made.__name__ = made.__qualname__ = name
    made.__doc__ = doc
    return made
