"""What a `MockVault` keeps, as values, and what a message to it means. Pure, but for the uses of a token."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from authsec_core.vault_scopes import VaultAction, VaultScope, split_path

__all__ = ["TIERS", "Answer", "Approval", "Kept", "Refusal", "Token", "meaning", "pairs_of", "tier_of", "used"]

TIERS: Final = ("standard", "sensitive", "critical")
_ACTIONS: Final[tuple[VaultAction, ...]] = ("read", "write", "delete")


class Refusal(Exception):  # noqa: N818 -- an answer, which never leaves the vault
    """What is answered instead."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code


Answer = tuple[int, "dict[str, Any] | None"]


@dataclass(slots=True, kw_only=True)
class Token:
    """A vault token, but for its text."""

    token_id: str
    scopes: tuple[VaultScope, ...]
    tier: str
    max_uses: int | None
    expires_at: float
    uses: int = 0
    is_revoked: bool = False


@dataclass(frozen=True, slots=True)
class Approval:
    """A token that waits for people."""

    approval_id: str
    scopes: tuple[VaultScope, ...]
    tier: str
    members: Mapping[str, Any]
    state: Literal["pending", "approved", "denied"] = "pending"


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """One version of a secret."""

    path: str
    value: str = field(repr=False)
    version: int
    kind: str
    tier: str
    metadata: Mapping[str, str]
    created_at: float
    updated_at: float
    is_destroyed: bool = False

    def said(self) -> dict[str, Any]:
        """Return what is told of it besides its value."""
        namespace, key = split_path(self.path)
        return {
            "namespace": namespace,
            "key": key,
            "path": self.path,
            "version": self.version,
            "secret_type": self.kind,
            "access_tier": self.tier,
            "metadata": dict(self.metadata),
            "created_at": self.created_at,
            "updated_at": self.updated_at,
        }


def meaning(method: str, place: str) -> tuple[str, str]:
    """Return what is asked, and for what, as far as the address says it."""
    kind, _, rest = place.partition("/")
    if kind == "tokens":
        return ("issue", "") if method == "POST" else ("revoke", rest)
    if method == "POST":
        return ("import", "") if rest == "import" else ("rotate", rest.removesuffix("/rotate"))
    if not rest:
        return "list", ""
    return {"GET": "read", "PUT": "write", "DELETE": "delete"}[method], rest


def used(token: Token | None, status: int, fields: dict[str, Any] | None) -> Answer:
    """Count a use, which something was disclosed or done with."""
    if token is not None:
        token.uses += 1
    return status, fields


def tier_of(scopes: tuple[VaultScope, ...], path: str, versions: list[Kept]) -> int:
    """Return the tier, as a place in `TIERS`, that a secret asks of a token with these scopes."""
    covered = any(scope.covers(action, path) for scope in scopes for action in _ACTIONS)
    return TIERS.index(versions[-1].tier) if covered and not versions[-1].is_destroyed else 0


def pairs_of(content: str) -> tuple[dict[str, str], list[int]]:
    """Return what a `.env` text holds, and the numbers of the lines that are none."""
    pairs, bad = {}, []
    for number, line in enumerate(content.splitlines(), 1):
        name, is_there, value = line.strip().removeprefix("export ").partition("=")
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        if not is_there or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name.strip()):
            bad.append(number)
        else:
            pairs[name.strip()] = value.strip().strip("'\"")
    return pairs, bad
