"""What an error of the vault says to do next, by what was asked. Pure.

The words suit programs and the command alike. None of them is the vault's own: those are a peer's, and are not shown.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

__all__ = ["APPROVAL", "REVOCATION", "Words", "of_import", "of_list", "of_secret", "of_token", "scope_denied"]

_TAKES: Final = (
    "A secret is 1 byte to 64 KiB of text, and its metadata at most 32 names of up to 64 characters, with texts of up "
    "to 256: 4 KiB in all."
)
_TAKES_LINES: Final = (
    "Nothing was stored. A line is NAME=value; where a value refers to another variable, as ${NAME} does, write it out "
    "or put it into single quotes."
)
_TAKES_TEXT: Final = "Nothing was stored. A text has 1 to 128 names with values, each of 64 KiB at most."
_TAKES_ISSUE: Final = (
    "A token lives a day at most, unless the vault's operator has set another time; it has at most 1000000 uses and 32 "
    "addresses."
)
_OPERATOR: Final = "its operator allows the agent more with authsec-server admin clients vault-access"


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """What an error says of one thing that was asked.

    Attributes:
        concerns: What it was about.
        scopes: Those that would allow it.
        absent: What a 404 means; None where the vault has none for this.
        absent_codes: The codes that the vault has for that.
        takes: What the vault takes, where it refuses a request as wrong.
        lines: What to say instead, where it named lines of a text.
        denied: What a 403 means, where it is not that a scope is missing.
        unapproved: What `APPROVAL_REQUIRED` means, where it is not that a secret wants an approved token.
    """

    concerns: str
    scopes: tuple[str, ...] = ()
    absent: str | None = None
    absent_codes: frozenset[str] = frozenset({"SECRET_NOT_FOUND"})
    takes: str = ""
    lines: str = ""
    denied: str | None = None
    unapproved: str | None = None


APPROVAL: Final = Words(
    concerns="this approval",
    absent="the agent has asked for none of this id: copy the id again, or ask for a new token without one.",
    absent_codes=frozenset({"NOT_FOUND", "SECRET_NOT_FOUND"}),
    takes="The id of an approval is the one that came with approval_required: copy it again.",
    denied="an operator denied it, or the agent itself may no longer do all this: ask an operator, or ask for less.",
    unapproved=(
        "its token was fetched before, or its time is over, or whoever approved it made the agent's key: ask for a new "
        "token without the id."
    ),
)
REVOCATION: Final = Words(
    concerns="the token",
    absent="this agent has no token of this id: copy the id again.",
    absent_codes=frozenset({"NOT_FOUND", "SECRET_NOT_FOUND"}),
    takes="A token is named by its token_id, which begins with vlt_ and was told when it was issued: copy it again.",
    denied="only the agent's own key, or the very token, may end it.",
)


def of_secret(action: str, path: str) -> Words:
    """Return the words about one secret."""
    return Words(
        concerns=path,
        scopes=(f"secrets:{action}:{path}",),
        absent="it is not there: check the path and the version.",
        takes=_TAKES,
    )


def of_list(namespace: str | None) -> Words:
    """Return the words about what lies in a namespace, or anywhere."""
    return Words(
        concerns=namespace or "the vault", scopes=(f"secrets:read:{namespace}/*" if namespace else "secrets:read:*",)
    )


def of_import(namespace: str) -> Words:
    """Return the words about what is put into a namespace."""
    return Words(concerns=namespace, scopes=(f"secrets:write:{namespace}/*",), takes=_TAKES_TEXT, lines=_TAKES_LINES)


def of_token(scopes: Iterable[str]) -> Words:
    """Return the words about a token that is asked for."""
    return Words(concerns="a token", scopes=tuple(scopes), takes=_TAKES_ISSUE)


def scope_denied(words: Words, *, by_key: bool) -> str:
    """Return what a 403 says.

    Args:
        by_key: The agent's own key was shown, so that no token could do more.
    """
    if words.denied is not None:
        return f"{words.concerns}: {words.denied}"
    wanted = " ".join(words.scopes)
    if by_key:
        return f"{words.concerns}: the agent itself may not do that. It takes {wanted}: {_OPERATOR}."
    return (
        f"{words.concerns}: this vault token may not do that, or not from this address. It takes a token with the "
        f"scope {wanted}; if the agent itself may not have that, {_OPERATOR}."
    )
