"""Which route rule is a request's? Pure. It knows paths and methods, and nothing of callers.

Paths are compared as the application sees them: decoded, with their root path, exactly. A segment in braces stands for
one segment. What is spelled in another way (`//`, a slash more or less, another case, `..`) is another path, for which
there is no rule; the middleware then denies.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from authsec_fastapi.policy import RouteRule

__all__ = ["braces", "match_route", "overlap"]

_SPECIAL = frozenset({"", ".", ".."})


def match_route(routes: Iterable[RouteRule], method: str, path: str) -> RouteRule | None:
    """Return the rule for a request: of those that match, the one with the fewest braces; None where none matches.

    Args:
        routes: Those of one `Policy`, which has seen to it that no two are equally near.
        method: As it was sent; `WEBSOCKET` for a WebSocket. Methods are case-sensitive (RFC 9110 section 9.1).
        path: Decoded, as in an ASGI scope.
    """
    segments = path.split("/")
    matching = [rule for rule in routes if method in rule.methods and _matches(_pattern(rule.path), segments)]
    return min(matching, key=lambda rule: braces(rule.path), default=None)


def braces(path: str) -> int:
    """Return how many segments of a rule's path are in braces."""
    return sum(segment is None for segment in _pattern(path))


def overlap(one: str, other: str) -> bool:
    """Return whether some path is matched by both of these paths of rules."""
    first, second = _pattern(one), _pattern(other)
    return len(first) == len(second) and all(
        a == b or (_fills(b) if a is None else b is None and _fills(a)) for a, b in zip(first, second, strict=True)
    )


@lru_cache(maxsize=4096)  # rules; each is looked at for every request
def _pattern(path: str) -> tuple[str | None, ...]:
    # None is a segment in braces.
    return tuple(None if segment.startswith("{") else segment for segment in path.split("/"))


def _matches(pattern: tuple[str | None, ...], segments: list[str]) -> bool:
    return len(pattern) == len(segments) and all(
        _fills(segment) if expected is None else segment == expected
        for expected, segment in zip(pattern, segments, strict=True)
    )


def _fills(segment: str | None) -> bool:
    # Applications take `/a/b` with a line feed at its end for `/a/b` (`$` in the regular expressions of Starlette), so
    # that `/a/{x}` would be asked about a request for `/a/b`. Dots may be resolved by what is behind the application.
    return segment is not None and segment not in _SPECIAL and segment.isprintable()
