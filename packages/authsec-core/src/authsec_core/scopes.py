"""Delegation scopes: opaque strings, exact members of a set. Pure.

`read:metrics` is not `read`, and nothing here knows a wildcard. Syntax is RFC 6749 section 3.3 (`scope-token`), sets
are `frozenset[str]`, and `None` always means "the whole delegation", never "nothing".
"""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["format_scopes", "parse_scopes"]

# RFC 6749 section 3.3: %x21 / %x23-5B / %x5D-7E
_SCOPE_TOKEN = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")
_LONGEST = 4096  # characters in all: more than this is an attack or an accident


def parse_scopes(scope: str | Iterable[str] | None) -> frozenset[str] | None:
    """Return the set of scopes that `scope` names, or None where it names none at all.

    Args:
        scope: Space-separated scopes (`"read:metrics read:records"`), an iterable of scopes, or None for the whole
            delegation.

    Raises:
        ValueError: The text is present but blank, too long, or has a character that RFC 6749 does not allow. Pass
            None to ask for the whole delegation.

    >>> sorted(parse_scopes("read:metrics read:records"))
    ['read:metrics', 'read:records']
    >>> parse_scopes(None) is None
    True
    """
    if scope is None:
        return None
    members = scope.split(" ") if isinstance(scope, str) else list(scope) if isinstance(scope, Iterable) else [scope]
    if not all(isinstance(member, str) for member in members):
        raise ValueError("a scope must be text")
    named = frozenset(member for member in members if member)
    if not named:
        raise ValueError("the scope is blank: name a scope, or pass None for the whole delegation")
    if sum(map(len, named)) > _LONGEST or not all(map(_SCOPE_TOKEN.fullmatch, named)):
        raise ValueError("the scope is not valid: use visible ASCII without quotes or backslashes (RFC 6749 §3.3)")
    return named


def format_scopes(scopes: Iterable[str]) -> str:
    """Return the one spelling of a set of scopes: sorted, with single spaces.

    >>> format_scopes({"b", "a"})
    'a b'
    """
    return " ".join(sorted(scopes))
