"""Which rows lie where scopes reach? The same answer as `VaultScope.covers`, as a condition for the database.

By the order of paths, which is that of their characters on every database: LIKE knows no case in SQLite.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import Final

import sqlalchemy as sa

from authsec_core.vault_scopes import VaultScope, format_vault_scopes, parse_vault_scopes
from authsec_server.db.tables import secrets
from authsec_server.vault.policy import AccessTier, Holder, higher

__all__ = ["matching", "read_tiers", "seen_by", "tier_of"]

_TAIL: Final = "*"


def matching(patterns: Iterable[str]) -> sa.ColumnElement[bool]:
    """Return the condition that a secret's path fits one of these patterns, each a path, `*`, or something and `/*`."""
    return sa.or_(sa.false(), *(_fits(pattern) for pattern in sorted(set(patterns))))


def seen_by(holder: Holder) -> sa.ColumnElement[bool]:
    """Return the condition that there is a secret, and the holder may read it: `Holder.covers`."""
    access = holder.client.vault
    limits = [
        matching(name if name == _TAIL else f"{name}/{_TAIL}" for name in access.namespaces),
        matching(_readable(access.scopes)),
    ]
    if holder.token is not None:
        limits.append(matching(_readable(holder.token.scopes)))
    return sa.and_(secrets.c.deleted_at.is_(None), *limits)


def tier_of(scopes: Iterable[VaultScope]) -> str:
    """Return the name under which `read_tiers` finds what these scopes reach."""
    return format_vault_scopes(scopes)


def read_tiers(connection: sa.Connection, names: Collection[str]) -> dict[str, AccessTier]:
    """Return the highest tier that these scopes reach now, by `tier_of`. A `Reader` of the ledger."""
    return {name: _highest(connection, name) for name in names}


def _highest(connection: sa.Connection, name: str) -> AccessTier:
    found: AccessTier = "standard"
    patterns = [scope.pattern for scope in parse_vault_scopes(name)]
    for tier in connection.execute(_ABOVE_STANDARD.where(matching(patterns)).distinct()).scalars():
        found = higher(found, tier)
    return found


def _readable(scopes: Iterable[VaultScope]) -> Iterator[str]:
    return (scope.pattern for scope in scopes if scope.action in ("read", "*"))


def _fits(pattern: str) -> sa.ColumnElement[bool]:
    if pattern == _TAIL:
        return sa.true()
    if not pattern.endswith(_TAIL):
        return secrets.c.path == pattern
    below = pattern.removesuffix(_TAIL)
    beyond = below.removesuffix("/") + "0"  # which is what comes after a slash
    return sa.and_(secrets.c.path >= below, secrets.c.path < beyond)


# Literally, for a parameter would not tell the database that these are the ones of the index.
_ABOVE_STANDARD: Final = sa.select(secrets.c.access_tier).where(
    secrets.c.access_tier != sa.literal_column("'standard'"), secrets.c.deleted_at.is_(None)
)
