"""What a `.env` text says: names and values, or which of its lines could not be read. Pure; it quotes nothing.

As python-dotenv reads it: `export`, quotes, escapes, values of several lines, comments. Unlike it, each line counts,
because what is overlooked here would be missing in production: a line without `=` is an error, and so is a value that
names another variable, which nothing puts in its place. It takes time in proportion to the text, whatever that is, and
stops where it is clear that nothing comes of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

__all__ = ["MOST_NAMES", "MOST_UNREAD", "EnvText", "EnvTextError", "TooManyNamesError", "Unread", "read_env_text"]

MOST_NAMES: Final = 128  # with a value: so many does an entry of the audit name
MOST_UNREAD: Final = 20  # lines, after which nothing more is looked at
_MOST_ASSIGNMENTS: Final = 1024  # with those of nothing, and of what a later line replaces

# What begins a line: nothing that counts, or a name and an equals sign.
_BLANK: Final = re.compile(r"[ \t]*(?:#[^\n]*)?(?:\n|\Z)")
_NAME: Final = re.compile(r"[ \t]*(?:export[ \t]+)?(?!export[ \t])([^\s=#'\"]+)[ \t]*=")
# Each of these looks at a character once.
_SINGLE: Final = re.compile(r"[ \t]*'((?:[^'\\]|\\.)*)'", re.DOTALL)
_DOUBLE: Final = re.compile(r'[ \t]*"((?:[^"\\]|\\.)*)"', re.DOTALL)
_COMMENT: Final = re.compile(r"[ \t]#")  # what stands before is looked at apart, or spaces would take their square
_ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)
_ESCAPES: Final = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_REFERENCE: Final = re.compile(r"\$\{")


@dataclass(frozen=True, slots=True)
class Unread:
    """A line that could not be read.

    Attributes:
        line: Its number, from 1.
        why: In words that hold nothing of it.
    """

    line: int
    why: str


class EnvTextError(ValueError):
    """Some lines could not be read, and so none was.

    Attributes:
        unread: Which, in their order: 20 at most, after which nothing more was looked at.
    """

    def __init__(self, unread: tuple[Unread, ...]) -> None:
        super().__init__(f"{len(unread)} lines could not be read")
        self.unread = unread


class TooManyNamesError(ValueError):
    """The text has more names than are taken at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EnvText:
    """What was read.

    Attributes:
        values: By their names, in the order of the text; of a name that stands there twice the last one, as in a shell.
        lines: Where each of them stands, from 1.
        skipped: How many names had no value, or one that a later line replaced.
    """

    values: dict[str, str] = field(repr=False)
    lines: dict[str, int]
    skipped: int


def read_env_text(text: str) -> EnvText:
    r"""Read all of it.

    Raises:
        EnvTextError: A line could not be read.
        TooManyNamesError: It has more than 128 with a value, or more than 1024 in all.

    >>> read_env_text("# keys\nexport OPENAI_API_KEY='sk-1'  # ours\nEMPTY=\n").values
    {'OPENAI_API_KEY': 'sk-1'}
    """
    values: dict[str, str] = {}
    lines: dict[str, int] = {}
    unread: list[Unread] = []
    assignments = 0
    for line, found in _entries(text.removeprefix("\ufeff").replace("\r\n", "\n").replace("\r", "\n")):
        if isinstance(found, str):
            unread.append(Unread(line, found))
            if len(unread) == MOST_UNREAD:
                break
            continue
        name, value = found
        assignments += 1
        values.pop(name, None)
        if value:
            values[name], lines[name] = value, line
        if not unread and (len(values) > MOST_NAMES or assignments > _MOST_ASSIGNMENTS):
            raise TooManyNamesError(f"{MOST_NAMES} names with values are taken, and {_MOST_ASSIGNMENTS} in all")
    if unread:
        raise EnvTextError(tuple(unread))
    return EnvText(values=values, lines={name: lines[name] for name in values}, skipped=assignments - len(values))


def _entries(text: str) -> Iterator[tuple[int, tuple[str, str] | str]]:
    """Yield each entry with its line: name and value, or why there is none."""
    place, line = 0, 1
    while place < len(text):
        begins = place
        if blank := _BLANK.match(text, place):
            place = blank.end()
        elif named := _NAME.match(text, place):
            place, found = _valued(text, named[1], named.end())
            yield line, found
        else:
            place = _next_line(text, place)
            yield line, "it is no NAME=value"
        line += text.count("\n", begins, place)


def _valued(text: str, name: str, place: int) -> tuple[int, tuple[str, str] | str]:
    """Return where the next entry begins, and this one."""
    rest = text[place : _line_end(text, place)]
    quote = rest.lstrip(" \t")[:1]
    if quote not in ("'", '"'):
        return _next_line(text, place), _unquoted(name, rest)
    quoted = (_SINGLE if quote == "'" else _DOUBLE).match(text, place)
    if quoted is None:
        return _next_line(text, place), "its quotation mark is not closed"
    after = _BLANK.match(text, quoted.end())
    if after is None:
        return _next_line(text, quoted.end()), "something stands after the closing quotation mark"
    if quote == '"' and _REFERENCE.search(quoted[1]):
        return after.end(), _REFERS
    return after.end(), (name, _ESCAPED.sub(_in_single if quote == "'" else _in_double, quoted[1]))


def _unquoted(name: str, rest: str) -> tuple[str, str] | str:
    comment = _COMMENT.search(rest)
    value = (rest if comment is None else rest[: comment.start()]).strip(" \t")
    return _REFERS if _REFERENCE.search(value) else (name, value)


_REFERS: Final = "it refers to another variable: write out the value, or put it into single quotes"


def _in_single(found: re.Match[str]) -> str:
    return found[1] if found[1] in "\\'" else found[0]


def _in_double(found: re.Match[str]) -> str:
    return found[1] if found[1] in "\\'\"" else _ESCAPES.get(found[1], found[0])


def _next_line(text: str, place: int) -> int:
    return min(_line_end(text, place) + 1, len(text))


def _line_end(text: str, place: int) -> int:
    end = text.find("\n", place)
    return len(text) if end < 0 else end
