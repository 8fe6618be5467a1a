"""Where a secret lies in the vault, and which scopes reach it: `secrets:<action>:<path pattern>`. Pure.

A path is a namespace of one or more segments and a key: `production/openai/api-key`. Patterns are compared segment by
segment, case matters, and `*` stands for a whole tail: `production/*` is everything below `production`, and nothing of
`production-x`. These are the only scopes of authsec with wildcards; those of delegations (`scopes`) are opaque.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

__all__ = [
    "LONGEST_PATH",
    "VaultAction",
    "VaultScope",
    "check_namespace",
    "check_path",
    "format_vault_scopes",
    "parse_vault_scopes",
    "split_path",
]

VaultAction = Literal["read", "write", "delete"]

LONGEST_PATH: Final = 512  # characters
MOST_SCOPES: Final = 64
_MOST_SEGMENTS: Final = 16
_SEGMENT: Final = re.compile(r"[A-Za-z0-9._-]{1,128}")  # ASCII alone, so that no two paths look alike
_DOTS: Final = frozenset({".", ".."})
_RESERVED: Final = frozenset({"import", "rotate"})  # what the vault does at an address, and so no part of one
_ACTIONS: Final = ("read", "write", "delete", "*")
_TAIL: Final = "*"


@dataclass(frozen=True, slots=True, order=True)
class VaultScope:
    """What may be done with which secrets. Have it from `parse`.

    Attributes:
        action: `*` is all of them.
        pattern: A path, or a namespace and `/*`, or `*`.

    >>> scope = VaultScope.parse("secrets:read:production/*")
    >>> scope.covers("read", "production/openai/api-key"), scope.covers("read", "production-x/openai/api-key")
    (True, False)
    """

    action: Literal["read", "write", "delete", "*"]
    pattern: str

    @classmethod
    def parse(cls, text: str) -> VaultScope:
        """Read one scope.

        Raises:
            ValueError: It is none; the message says how one looks and quotes nothing.
        """
        family, _, rest = text.partition(":")
        action, _, pattern = rest.partition(":")
        for known in _ACTIONS:
            if family == "secrets" and action == known:
                return cls(known, _checked_pattern(pattern))
        raise ValueError("a vault scope is secrets:<read|write|delete|*>:<path>, such as secrets:read:production/*")

    def covers(self, action: VaultAction, path: str) -> bool:
        """Return whether this allows the action on the secret at this path, which was checked."""
        if self.action not in (action, "*"):
            return False
        return path == self.pattern or (self._is_open and path.startswith(self._stem))

    def reaches(self, action: VaultAction, namespace: str) -> bool:
        """Return whether something that this allows may lie in the namespace or below it; `""` is the whole vault."""
        if self.action not in (action, "*"):
            return False
        below = f"{namespace}/" if namespace else ""
        return self.pattern.startswith(below) or (self._is_open and below.startswith(self._stem))

    def includes(self, other: VaultScope) -> bool:
        """Return whether this allows all that the other one does.

        >>> VaultScope.parse("secrets:*:production/*").includes(VaultScope.parse("secrets:read:production/search/*"))
        True
        """
        if self.action not in (other.action, "*"):
            return False
        return self.pattern == other.pattern or (self._is_open and other.pattern.startswith(self._stem))

    @property
    def _is_open(self) -> bool:
        return self.pattern.endswith(_TAIL)

    @property
    def _stem(self) -> str:
        """What all paths of an open pattern begin with; it ends in `/`, or is empty."""
        return self.pattern.removesuffix(_TAIL)

    def __str__(self) -> str:
        return f"secrets:{self.action}:{self.pattern}"


def parse_vault_scopes(given: str | Iterable[str]) -> tuple[VaultScope, ...]:
    """Return scopes sorted and without repetition.

    Args:
        given: Some scopes, or one text with spaces between them.

    Raises:
        ValueError: One is none, there is none at all, or they are more than 64.
    """
    texts = given.split(" ") if isinstance(given, str) else list(given)
    found = tuple(sorted({VaultScope.parse(text) for text in texts}))
    if not 1 <= len(found) <= MOST_SCOPES:
        raise ValueError(f"name 1 to {MOST_SCOPES} scopes, such as secrets:read:production/*")
    return found


def format_vault_scopes(scopes: Iterable[VaultScope]) -> str:
    """Return scopes as one text."""
    return " ".join(map(str, sorted(scopes)))


def check_path(path: str) -> str:
    """Return the path of a secret: a namespace and a key, two segments or more.

    Raises:
        ValueError: It is none; the message says why and quotes nothing.
    """
    if "/" not in check_namespace(path):
        raise ValueError("a secret's path has a namespace and a key, such as production/openai/api-key")
    return path


def check_namespace(namespace: str) -> str:
    """Return a namespace: one segment or more.

    Raises:
        ValueError: It is none; the message says why and quotes nothing.
    """
    segments = namespace.split("/")
    if len(namespace) > LONGEST_PATH or len(segments) > _MOST_SEGMENTS:
        raise ValueError(f"a path has at most {LONGEST_PATH} characters and {_MOST_SEGMENTS} segments")
    for segment in segments:
        if not _SEGMENT.fullmatch(segment) or segment in _DOTS:
            raise ValueError(
                "a path is made of segments of letters, digits, '.', '_' and '-' with '/' between them: none is empty, "
                "'.', '..' or percent-encoded"
            )
        if segment in _RESERVED:
            raise ValueError("'import' and 'rotate' are reserved: call the segment something else")
    return namespace


def split_path(path: str) -> tuple[str, str]:
    """Return namespace and key of a path that was checked.

    >>> split_path("production/openai/api-key")
    ('production/openai', 'api-key')
    """
    namespace, _, key = path.rpartition("/")
    return namespace, key


def _checked_pattern(pattern: str) -> str:
    if pattern == _TAIL:
        return pattern
    if pattern.endswith(f"/{_TAIL}"):
        check_namespace(pattern.removesuffix(f"/{_TAIL}"))
    else:
        check_path(pattern)
    return pattern
