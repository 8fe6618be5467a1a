"""Can this name, list, method or path be what somebody meant in a policy? Pure.

The same checks hold for rules that are made in Python and for those of a file, so that a typo is refused in both. What
refers to something else is checked by `policy`.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable
from typing import Final, TypeAlias

from authsec_core.errors import ConfigurationError
from authsec_core.scopes import parse_scopes

__all__ = [
    "METHODS",
    "Place",
    "PolicyError",
    "checked_actions",
    "checked_flag",
    "checked_methods",
    "checked_name",
    "checked_path",
    "checked_scopes",
    "near",
    "refuse_unknown",
    "shown",
]

Place: TypeAlias = tuple[str | int, ...]

METHODS: Final = frozenset(
    {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "WEBSOCKET"}  # CONNECT has no path
)
_LONGEST_NAME: Final = 200  # characters
_LONGEST_PATH: Final = 1000  # characters
_LITERAL = re.compile(r"[A-Za-z0-9._~!$&'()+,;=:@-]+")
_BRACES = re.compile(r"\{[A-Za-z_][A-Za-z0-9_]*\}")


class PolicyError(ConfigurationError):
    """A rule that cannot be what was meant.

    Attributes:
        problem: What is wrong, and the mend.
        at: Where, from the outside in.
    """

    def __init__(self, problem: str, at: Place = ()) -> None:
        super().__init__(f"{_dotted(at)}: {problem}" if at else problem)
        self.problem = problem
        self.at = at


def checked_name(value: object, *at: str | int, longest: int = _LONGEST_NAME) -> str:
    """Return the name of a role, an action or a tool: printable, and spelled in the one way that there is."""
    if not isinstance(value, str):
        raise PolicyError(
            f"is {shown(value)}, which is no text: name it, in quotes if it looks like something else", at
        )
    if not value.strip():
        raise PolicyError("is blank: name it, or leave it out", at)
    if len(value) > longest:
        raise PolicyError(f"has more than {longest} characters: is it what was meant?", at)
    if value != value.strip():
        raise PolicyError(f"is {shown(value)}: take the space at its beginning or end away", at)
    if not value.isprintable() or unicodedata.normalize("NFKC", value) != value:
        raise PolicyError(f"is {shown(value)}: it has characters that look like others, or like none; type it anew", at)
    return value


def checked_actions(value: object, *at: str | int) -> frozenset[str]:
    """Return the actions of a role; there may be none."""
    return _each(value, at, checked_name)


def checked_scopes(value: object, *at: str | int) -> frozenset[str]:
    """Return scopes, each of them one (RFC 6749 section 3.3)."""
    return _each(value, at, _scope)


def checked_methods(value: object, *at: str | int) -> frozenset[str]:
    """Return HTTP methods in upper case, or `WEBSOCKET`; at least one."""
    methods = _each(value, at, _method)
    if not methods:
        raise PolicyError("is empty: name the methods, as [GET]", at)
    return methods


def checked_flag(value: object, *at: str | int) -> bool:
    """Return true or false."""
    if not isinstance(value, bool):
        raise PolicyError(f"is {shown(value)}: write true or false", at)
    return value


def checked_path(value: object, *at: str | int) -> str:
    """Return a route's path: `/`, or segments that are plain or a name in braces."""
    path = checked_name(value, *at, longest=_LONGEST_PATH)
    if not path.startswith("/"):
        raise PolicyError(f"is {shown(path)}: a path begins with /", at)
    *inner, last = path[1:].split("/")
    for segment in inner if last == "" else [*inner, last]:  # a slash at the end is a part of the path
        if segment in {"", ".", ".."}:
            raise PolicyError(f"is {shown(path)}: a segment is empty or made of dots, which no request matches", at)
        if not (_LITERAL.fullmatch(segment) or _BRACES.fullmatch(segment)):
            raise PolicyError(
                f"is {shown(path)}: a segment is plain (no %, no *, no query) or a name in braces, which "
                "stands for one segment, as in /reports/{name}",
                at,
            )
    named = _BRACES.findall(path)
    if len(named) != len(set(named)):
        raise PolicyError(f"is {shown(path)}: two segments have the same name in braces", at)
    return path


def refuse_unknown(name: str, known: Iterable[str], problem: str, mend: str, at: Place = ()) -> None:
    """Raise if a name is not known: with the one that is nearly the same, else with the mend."""
    if name not in known:
        raise PolicyError(f"{problem}: {near(name, known) or mend}", at)


def near(name: str, known: Iterable[str]) -> str:
    """Return which known name was meant, as a question; empty where none is near."""
    import difflib  # here, because names are rarely misspelt

    folded = {one.casefold(): one for one in sorted(known)}
    found = difflib.get_close_matches(name.casefold(), folded, n=1, cutoff=0.7)
    return f"did you mean {shown(folded[found[0]])}?" if found else ""


def shown(value: object) -> str:
    """Return a value as a message has it: bounded, and in characters that no terminal obeys."""
    text = ascii(value) if isinstance(value, str) else repr(value)
    return text if len(text) <= _LONGEST_NAME else f"{text[:_LONGEST_NAME]}…"


def _each(value: object, at: Place, check: Callable[..., str]) -> frozenset[str]:
    if isinstance(value, str):
        raise PolicyError(f"is the text {shown(value)}: write a list, with one name or several", at)
    if not isinstance(value, (list, tuple, set, frozenset)):
        raise PolicyError(f"is {shown(value)}: write a list", at)
    numbered = isinstance(value, (list, tuple))  # in a set no place is the third
    seen: set[str] = set()
    for number, member in enumerate(value):
        name = check(member, *at, number) if numbered else check(member, *at)
        if name in seen:
            raise PolicyError(f"has {shown(name)} twice: leave one", at)
        seen.add(name)
    return frozenset(seen)


def _scope(value: object, *at: str | int) -> str:
    scope = checked_name(value, *at)
    try:
        single = parse_scopes(scope) == frozenset({scope})
    except ValueError:
        single = False
    if not single:
        mend = "name each scope by itself, in visible ASCII without quotes and backslashes (RFC 6749 section 3.3)"
        raise PolicyError(f"is {shown(scope)}, which is not one scope: {mend}", at)
    return scope


def _method(value: object, *at: str | int) -> str:
    method = checked_name(value, *at)
    if method.upper() in METHODS and method not in METHODS:
        raise PolicyError(f"is {shown(method)}: write {method.upper()}", at)
    refuse_unknown(method, METHODS, f"there is no method {shown(method)}", f"take of {', '.join(sorted(METHODS))}", at)
    return method


def _dotted(at: Place) -> str:
    # As somebody would write it who looks for it: routes[2].action
    text = ""
    for step in at:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            plain = step.isprintable() and step.isascii() and "." not in step and " " not in step and step
            text += f"{'.' if text else ''}{step if plain and len(step) <= _LONGEST_NAME else shown(step)}"
    return text
