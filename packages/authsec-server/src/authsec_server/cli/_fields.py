"""What one operation of the admin API is to the command line: its words, its request and what is shown of the reply.

Values only; which operations there are is listed in the `_…_commands` modules.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from authsec_server.cli import _values as values

__all__ = ["CLIENT_ID", "ENDS", "LABEL", "PAGE", "Command", "Field", "at_place", "in_path", "option", "switch"]

Method = Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
Place = Literal["path", "query", "body"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One thing that is typed, and where it goes.

    Attributes:
        name: The member, the parameter or the placeholder that it fills.
        what: For `--help`.
        option: How it is typed; empty where it is known by its place.
        parse: Makes the JSON value of the text.
        constant: What typing a switch stands for; unset for what takes a value.
        many: May be given several times, and becomes a list; of pairs, an object.
        shown: What stands for its value in the usage.
    """

    name: str
    place: Place
    what: str
    option: str = ""
    parse: Callable[[str], Any] = values.text
    constant: Any = ...
    many: bool = False
    required: bool = False
    shown: str = ""
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """One operation.

    Attributes:
        words: What is typed after `admin`, separated by a blank.
        path: Below `/api/v1`, with placeholders.
        fixed: Members of the body that the command itself says.
        columns: The members that a list shows, separated by blanks; two that are joined by `+` share a column, and a
            dot leads into an object. Without columns the reply is one object.
        once: The member that is shown this once.
        takes_body: Whether a body is sent even where nothing was typed for it.
    """

    words: str
    what: str
    method: Method
    path: str
    fields: tuple[Field, ...] = ()
    fixed: Mapping[str, Any] = field(default_factory=dict)
    columns: str = ""
    once: str = ""
    takes_body: bool = False


def in_path(name: str, what: str) -> Field:
    """Return what stands in the path."""
    return Field(name=name, place="path", what=what, parse=values.segment, shown=name.upper())


def at_place(name: str, what: str, parse: Callable[[str], Any] = values.text, *, many: bool = False) -> Field:
    """Return a member of the body that is typed without an option."""
    return Field(name=name, place="body", what=what, parse=parse, many=many, shown=name.upper())


def option(typed: str, name: str, what: str, **more: Any) -> Field:
    """Return a member of the body, or what else `more` says, that is typed as an option."""
    return Field(**{"name": name, "place": "body", "what": what, "option": typed, **more})


def switch(typed: str, name: str, constant: Any, what: str) -> Field:
    """Return a member of the body that an option without value stands for."""
    return Field(name=name, place="body", what=what, option=typed, constant=constant)


CLIENT_ID: Final = in_path("client_id", "the agent's client id")
LABEL: Final = option("--label", "label", "what it is for, to tell it from others", shown="TEXT")
ENDS: Final = option(
    "--not-after",
    "not_after",
    "when it ends: a moment, or a time from now such as 2d",
    parse=values.ahead,
    shown="WHEN",
)
PAGE: Final = (
    option("--limit", "limit", "how many to show", place="query", parse=values.count, shown="COUNT"),
    option("--after", "after", "show what follows this cursor, which the page before named", place="query"),
)
