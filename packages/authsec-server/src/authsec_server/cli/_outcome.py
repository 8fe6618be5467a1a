"""What a command came to, as values that can be shown to anybody. Pure: it prints nothing.

The tables are made of the document, from which credentials of ours have been taken out before.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from authsec_core.errors import AuthSecError, ConfigurationError
from authsec_core.token import Secret

__all__ = ["FAILED", "USAGE", "Outcome", "Sheet", "cell", "error_outcome", "sheets_of", "without"]

FAILED: Final = 1
USAGE: Final = 2
_REMOVED: Final = "[removed]"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sheet:
    """One table."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What one command came to.

    Attributes:
        document: For `--json`; None where there are only lines.
        sheets: For people.
        lines: For people, too, and printed unfolded, so that they can be copied; and with `--jsonl` all there is.
        said: For people, beside what was asked for: it goes to stderr.
    """

    document: Mapping[str, Any] | None
    sheets: tuple[Sheet, ...] = ()
    lines: Iterable[str] = ()
    said: str = ""
    exit_code: int = 0


def error_outcome(error: AuthSecError) -> Outcome:
    """Return the outcome of a command that could not do what it was asked."""
    document: dict[str, Any] = {
        "status": "error",
        "code": error.code,
        "message": error.message,
        "retryable": error.retryable,
    }
    if isinstance(seq := getattr(error, "seq", None), int):  # of a damaged audit: the first bad entry
        document["seq"] = seq
    code = USAGE if isinstance(error, ConfigurationError) else FAILED
    return Outcome(document=document, said=f"{error.code}: {error.message}", exit_code=code)


def sheets_of(document: Mapping[str, Any]) -> tuple[Sheet, ...]:
    """Return tables of one object: its members, and one more for each member that is a list of objects."""
    lists = {name: value for name, value in document.items() if _is_table(value)}
    members = tuple((name, cell(value)) for name, value in document.items() if name not in lists)
    first = (Sheet(columns=("member", "value"), rows=members),) if members else ()
    return (*first, *(_sheet(value) for value in lists.values()))


def cell(value: Any) -> str:
    """Return a JSON value as the text of one cell."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return " ".join(value)
    if isinstance(value, dict) and value and all(isinstance(item, str) for item in value.values()):
        return " ".join(f"{name}={item}" for name, item in value.items())
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def without(text: str, secret: Secret) -> str:
    """Return the JSON text of a peer without our credential, should the peer send it back."""
    return text.replace(json.dumps(secret())[1:-1], _REMOVED)


def _is_table(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(item, dict) for item in value)


def _sheet(items: Sequence[Mapping[str, Any]]) -> Sheet:
    columns = tuple(dict.fromkeys(name for item in items for name in item))
    return Sheet(columns=columns, rows=tuple(tuple(cell(item.get(name)) for name in columns) for item in items))
