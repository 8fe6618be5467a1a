"""The rows of `signing_keys`: how they are read and written. What they may become is for `rotation`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from authsec_server.db.tables import signing_keys
from authsec_server.errors import ConflictError
from authsec_server.keys.rotation import KeyRow

__all__ = ["StoredKey", "insert", "key_of", "read", "save"]

_LIFE = tuple(field.name for field in fields(KeyRow))


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredKey:
    """One row.

    Attributes:
        sealed: The private key (PKCS #8, DER) under the master key; empty once the key is revoked.
        jwk: The public key.
    """

    row: KeyRow
    sealed: bytes = field(repr=False)
    jwk: Mapping[str, str]


async def read(connection: AsyncConnection) -> dict[str, StoredKey]:
    """Return all keys by their kid, from old to new."""
    query = sa.select(signing_keys).order_by(signing_keys.c.created_at, signing_keys.c.kid)
    return {
        found.kid: StoredKey(row=key_of(found), sealed=bytes(found.sealed), jwk=found.jwk)
        for found in await connection.execute(query)
    }


def key_of(found: Any) -> KeyRow:
    """Return what a row of the table says of a key's life."""
    return KeyRow(**{name: found._mapping[name] for name in _LIFE})


async def insert(connection: AsyncConnection, key: StoredKey) -> None:
    """Add a key."""
    life = {name: getattr(key.row, name) for name in _LIFE}
    await connection.execute(sa.insert(signing_keys).values(**life, sealed=key.sealed, jwk=dict(key.jwk)))


async def save(connection: AsyncConnection, before: KeyRow, after: KeyRow) -> None:
    """Write what a key has become, if it is still what it was. A revoked key loses its private half for good.

    Raises:
        ConflictError: It is not: somebody else was first.
    """
    values = {name: getattr(after, name) for name in _LIFE}
    if after.state == "revoked":
        values["sealed"] = b""
    changed = await connection.execute(
        sa.update(signing_keys)
        .where(signing_keys.c.kid == before.kid, signing_keys.c.state == before.state)
        .values(**values)
    )
    if changed.rowcount != 1:
        raise ConflictError(f"the signing key {before.kid} is no longer {before.state}: look again")
