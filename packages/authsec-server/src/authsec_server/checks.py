"""What a name, a label, an instant, a scope or an audience must be before it is stored. Pure.

Every text that is let in here fits in a log line, an audit entry and a PostgreSQL column.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection
from typing import Final, Literal

from authsec_core.scopes import parse_scopes
from authsec_core.wire import is_plain
from authsec_server.errors import InvalidRequestError

__all__ = [
    "AGENT_TYPES",
    "AgentType",
    "agent_type",
    "audiences",
    "future",
    "is_role_name",
    "label",
    "name",
    "role_name",
    "scope_tokens",
]

AgentType = Literal["autogen-agent", "crewai-agent", "langchain-agent", "mcp-agent", "autonomous-workload"]
AGENT_TYPES: Final[tuple[AgentType, ...]] = (
    "autogen-agent",
    "crewai-agent",
    "langchain-agent",
    "mcp-agent",
    "autonomous-workload",
)

LONGEST_NAME: Final = 100  # characters
LONGEST_SCOPE: Final = 256  # characters of one scope token
MOST_SCOPES: Final = 256
LONGEST_AUDIENCE: Final = 256  # characters
MOST_AUDIENCES: Final = 16
_FURTHEST: Final = 100 * 366 * 86400.0  # seconds: beyond it `not_after` is a slip, and a calendar has its end
_ROLE: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")  # it stands in a path, and in a token's `delegated_by`
_AUDIENCE: Final = re.compile(r"[\x21\x23-\x5b\x5d-\x7e]+")  # visible ASCII that JSON and a query take as it is


def name(text: str, *, field: str = "name") -> str:
    """Return a name that people give: one line, no space around it.

    Raises:
        InvalidRequestError: It is blank, too long, or has characters that cannot be seen.
    """
    if not text:
        raise InvalidRequestError(f"{field} is empty", field=field)
    return label(text, field=field)


def label(text: str, *, field: str = "label") -> str:
    """Return a remark of one line, which may be empty.

    Raises:
        InvalidRequestError: It is too long, or has characters that cannot be seen.
    """
    if len(text) > LONGEST_NAME or not is_plain(text) or text != text.strip():
        raise InvalidRequestError(
            f"{field} must be one line of at most {LONGEST_NAME} visible characters without spaces around them",
            field=field,
        )
    return text


def is_role_name(text: str) -> bool:
    """Return whether a role may be called this."""
    return _ROLE.fullmatch(text) is not None


def role_name(text: str, *, field: str = "role") -> str:
    """Return the name of a role.

    Raises:
        InvalidRequestError: It has other characters than letters, digits, `.`, `_` and `-`, or more than 64 of them.
    """
    if not is_role_name(text):
        raise InvalidRequestError(f"{field} must be 1 to 64 letters, digits, dots, hyphens or underscores", field=field)
    return text


def agent_type(text: str, *, field: str = "agent_type") -> AgentType:
    """Return the kind of agent.

    Raises:
        InvalidRequestError: There is no such kind.
    """
    for known in AGENT_TYPES:
        if text == known:
            return known
    raise InvalidRequestError(f"{field} must be one of {', '.join(AGENT_TYPES)}", field=field)


def future(at: float | None, *, now: float, field: str = "not_after") -> float | None:
    """Return an instant that is still to come, or None.

    Raises:
        InvalidRequestError: It has passed, or lies more than a hundred years ahead.
    """
    if at is not None and not (math.isfinite(at) and now < at <= now + _FURTHEST):
        raise InvalidRequestError(f"{field} must lie in the future, within a hundred years", field=field)
    return at


def scope_tokens(texts: Collection[str], *, field: str) -> tuple[str, ...]:
    """Return scopes sorted and without repetition; an empty list stays empty, and means nothing.

    Raises:
        InvalidRequestError: One is no scope token (RFC 6749 section 3.3), or they are too many or too long.
    """
    if len(texts) > MOST_SCOPES:
        raise InvalidRequestError(f"{field} may name at most {MOST_SCOPES} scopes", field=field)
    for text in texts:
        if not _is_scope_token(text):
            raise InvalidRequestError(
                f"{field} must be scopes of visible ASCII, without spaces, quotes and backslashes, of at most "
                f"{LONGEST_SCOPE} characters (RFC 6749 section 3.3)",
                field=field,
            )
    found = tuple(sorted(set(texts)))
    _within_one_token(found, field)
    return found


def audiences(texts: Collection[str], *, field: str = "audiences") -> tuple[str, ...]:
    """Return the names of APIs sorted and without repetition.

    Raises:
        InvalidRequestError: There is none, or one is not visible ASCII, or they are too many or too long.
    """
    if not 1 <= len(texts) <= MOST_AUDIENCES:
        raise InvalidRequestError(f"{field} must name 1 to {MOST_AUDIENCES} APIs", field=field)
    if not all(len(text) <= LONGEST_AUDIENCE and _AUDIENCE.fullmatch(text) for text in texts):
        raise InvalidRequestError(
            f"{field} must be visible ASCII without spaces, quotes and backslashes, "
            f"at most {LONGEST_AUDIENCE} characters each",
            field=field,
        )
    return tuple(sorted(set(texts)))


def _is_scope_token(text: str) -> bool:
    try:
        return len(text) <= LONGEST_SCOPE and parse_scopes([text]) is not None
    except ValueError:
        return False


def _within_one_token(scopes: tuple[str, ...], field: str) -> None:
    # What the SDK would refuse to read in one token must not be grantable in one.
    try:
        parse_scopes(scopes or None)
    except ValueError:
        raise InvalidRequestError(f"{field} are too long in all: at most 4096 characters", field=field) from None
