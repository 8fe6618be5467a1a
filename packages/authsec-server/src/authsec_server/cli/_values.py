"""What may be typed for one field, as the JSON value that the admin API takes. No message repeats what was typed.

Moments may be typed relative to now; they stay `Moment` until the request is built, because now is a clock's to say.
Pure, except for `document`, which reads a file.
"""

from __future__ import annotations

import argparse
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

from authsec_core.wire import WireError, format_time, is_plain, parse_time

__all__ = [
    "Moment",
    "Span",
    "ahead",
    "count",
    "document",
    "pair",
    "past",
    "permission",
    "seconds",
    "segment",
    "span",
    "text",
]

_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_NAMES: Final[dict[str, Literal["seconds", "minutes", "hours", "days"]]] = {
    "s": "seconds",
    "m": "minutes",
    "h": "hours",
    "d": "days",
}
_SPAN: Final = re.compile(r"([1-9][0-9]{0,8})([smhd])", re.ASCII)
_A_SPAN: Final = "write a time such as 90s, 30m, 1h or 2d"


@dataclass(frozen=True, slots=True, kw_only=True)
class Span:
    """A length of time in the unit that it was typed in."""

    amount: int
    unit: Literal["seconds", "minutes", "hours", "days"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Moment:
    """A moment: `at` epoch seconds, or that many seconds after now where it is relative.

    Attributes:
        relative: Whether `at` counts from now; negative is the past.
    """

    at: float
    relative: bool

    def text(self, now: float) -> str:
        """Return it as RFC 3339.

        Args:
            now: Epoch seconds.
        """
        return format_time(self.at + now if self.relative else self.at)


def text(typed: str) -> str:
    """Return one line of text that is not blank."""
    if not typed.strip() or not is_plain(typed):
        raise argparse.ArgumentTypeError("write one line of text, not blank")
    return typed


def segment(typed: str) -> str:
    """Return what may stand between two slashes of a path, once it is percent-encoded."""
    if text(typed) in {".", ".."}:  # HTTP clients and servers make another path of them
        raise argparse.ArgumentTypeError("write an id or a name")
    return typed


def permission(typed: str) -> str:
    """Return one permission: one word, since blanks separate them in a token."""
    if len(text(typed).split()) != 1 or typed.strip() != typed:
        raise argparse.ArgumentTypeError("write each permission as a word of its own, such as read:metrics")
    return typed


def count(typed: str) -> int:
    """Return a positive whole number."""
    if not re.fullmatch(r"[1-9][0-9]{0,8}", typed, re.ASCII):
        raise argparse.ArgumentTypeError("write a positive whole number")
    return int(typed)


def pair(typed: str) -> tuple[str, str]:
    """Return name and value of `name=value`."""
    name, sign, value = typed.partition("=")
    if not (name and sign and value and is_plain(typed)):
        raise argparse.ArgumentTypeError("write it as name=value, such as k8s:ns=production")
    return name, value


def document(typed: str) -> dict[str, Any]:
    """Return the JSON object that a file holds."""
    try:
        found = json.loads(Path(typed).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise argparse.ArgumentTypeError("name a file with a JSON object in it")
    return found


def span(typed: str) -> Span:
    """Return a length of time such as `30m`."""
    amount, unit = _span(typed)
    return Span(amount=amount, unit=_NAMES[unit])


def seconds(typed: str) -> int:
    """Return a length of time such as `30m` in seconds."""
    amount, unit = _span(typed)
    return amount * _UNITS[unit]


def ahead(typed: str) -> Moment:
    """Return an RFC 3339 moment, or that many seconds from now."""
    return _moment(typed, sign=1)


def past(typed: str) -> Moment:
    """Return an RFC 3339 moment, or that many seconds ago."""
    return _moment(typed, sign=-1)


def _span(typed: str) -> tuple[int, str]:
    match = _SPAN.fullmatch(typed)
    if match is None:
        raise argparse.ArgumentTypeError(_A_SPAN)
    return int(match[1]), match[2]


def _moment(typed: str, *, sign: int) -> Moment:
    if match := _SPAN.fullmatch(typed):
        return Moment(at=float(sign * int(match[1]) * _UNITS[match[2]]), relative=True)
    try:
        return Moment(at=parse_time(typed), relative=False)
    except WireError as exc:
        raise argparse.ArgumentTypeError(f"{_A_SPAN}, or a moment such as 2030-01-31T12:00:00Z") from exc
