"""How secrets are read from the database and written to it. It decides nothing, and never sees a value."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from authsec_server.audit.memory import Reader
from authsec_server.db.among import among
from authsec_server.db.tables import secret_versions, secrets, vault_tokens
from authsec_server.vault.envelope import SealedValue
from authsec_server.vault.policy import AccessTier, higher
from authsec_server.vault.values import MOST_VERSIONS, SecretInfo

__all__ = [
    "LARGEST_PAGE",
    "MOST_LISTED",
    "Head",
    "StoredSecret",
    "append_versions",
    "count_use",
    "destroy",
    "is_any_below",
    "page_below",
    "read_heads",
    "read_latest",
    "version_reader",
]

MOST_LISTED: Final = 250  # secrets at a time
LARGEST_PAGE: Final = 102400  # bytes of JSON
_encode: Final = json.JSONEncoder(ensure_ascii=False).encode
_ITEM: Final = 256  # bytes of a secret in a list, beside its path and its metadata


@dataclass(frozen=True, slots=True)
class StoredSecret:
    """One version of a secret, sealed."""

    info: SecretInfo
    kept: SealedValue


@dataclass(frozen=True, slots=True)
class Head:
    """What there is at a path, or was.

    Attributes:
        info: Of the latest version.
        is_deleted: Whether it is there no more; its number must not be used again all the same.
    """

    info: SecretInfo
    is_deleted: bool


def read_latest(connection: sa.Connection, paths: Collection[str]) -> dict[str, StoredSecret]:
    """Return the latest version of these secrets, by their paths. A `Reader` of the ledger."""
    return {row.path: _stored(row) for row in connection.execute(_LATEST, {"paths": paths})}


def version_reader(version: int) -> Reader:
    """Return a `Reader` of one older version of secrets, by their paths."""
    return partial(_read_version, version=version)


def _read_version(connection: sa.Connection, paths: Collection[str], *, version: int) -> dict[str, StoredSecret]:
    found = connection.execute(_VERSION, {"paths": paths, "wanted": version})
    return {row.path: _stored(row) for row in found}


def read_heads(connection: sa.Connection, paths: Collection[str]) -> dict[str, Head]:
    """Return what there is or was at these paths. A `Reader` of the ledger."""
    found = connection.execute(_HEADS, {"paths": paths})
    return {row.path: Head(_info(row), row.deleted_at is not None) for row in found}


async def page_below(
    connection: AsyncConnection, namespace: str, seen: sa.ColumnElement[bool], *, after: str = ""
) -> tuple[tuple[SecretInfo, ...], bool]:
    """Return what may be seen below a namespace, from after a path on, and whether there is more than this page.

    Args:
        seen: What may be: see `reach.seen_by`.
    """
    rows = await connection.execute(_BELOW.where(seen), _bounds(namespace, after))
    page: list[SecretInfo] = []
    size = 0
    for info in map(_info, rows):
        size += _ITEM + len(info.path) + len(_encode(info.metadata).encode())
        if page and (len(page) == MOST_LISTED or size > LARGEST_PAGE):
            return tuple(page), True
        page.append(info)
    return tuple(page), False


async def is_any_below(connection: AsyncConnection, namespace: str, seen: sa.ColumnElement[bool]) -> bool:
    """Return whether anything may be seen below a namespace."""
    found = await connection.execute(_BELOW.where(seen).limit(1), _bounds(namespace, ""))
    return found.first() is not None


def _bounds(namespace: str, after: str) -> dict[str, str]:
    first, beyond = (f"{namespace}/", f"{namespace}0") if namespace else ("", "~")  # 0 is what comes after a slash
    return {"first": max(first, after), "after": after, "beyond": beyond}


async def append_versions(connection: AsyncConnection, written: Sequence[StoredSecret], *, created_by: str) -> None:
    """Write versions of secrets, which are the latest from now on, and drop the oldest where they are too many.

    It takes four statements at most, however many they are: everyone else waits meanwhile.
    """
    infos = [each.info for each in written]
    new = [{"path": info.path, **_head(info)} for info in infos if info.version == 1]
    known = [{"at": info.path, **_head(info)} for info in infos if info.version > 1]
    versions = [
        {
            "path": each.info.path,
            "version": each.info.version,
            "access_tier": each.info.access_tier,
            "wrapped_key": each.kept.wrapped_key,
            "sealed": each.kept.sealed,
            "created_at": each.info.updated_at,
            "created_by": created_by,
        }
        for each in written
    ]
    too_old = [
        {"at": info.path, "oldest": info.version - MOST_VERSIONS} for info in infos if info.version > MOST_VERSIONS
    ]
    for statement, rows in (
        (sa.insert(secrets), new),
        (_KNOWN, known),
        (sa.insert(secret_versions), versions),
        (_TOO_OLD, too_old),
    ):
        if rows:
            await connection.execute(statement, rows)


def _head(info: SecretInfo) -> dict[str, Any]:
    return {
        "secret_id": info.secret_id,
        "version": info.version,
        "secret_type": info.secret_type,
        "access_tier": info.access_tier,
        "metadata": dict(info.metadata),
        "created_at": info.created_at,
        "updated_at": info.updated_at,
        "deleted_at": None,
    }


async def destroy(connection: AsyncConnection, path: str, at: float) -> None:
    """Delete a secret: nothing is left of its values, and its number stays."""
    await connection.execute(sa.delete(secret_versions).where(secret_versions.c.path == path))
    await connection.execute(sa.update(secrets).where(secrets.c.path == path).values(deleted_at=at))


async def count_use(connection: AsyncConnection, token_id: str) -> None:
    """Count one use of a vault token."""
    counted = sa.update(vault_tokens).where(vault_tokens.c.token_id == token_id)
    await connection.execute(counted.values(uses=vault_tokens.c.uses + 1))


def _stored(row: Any) -> StoredSecret:
    tier: AccessTier = higher(row.access_tier, row.written_under)
    info = _info(row, version=row.sealed_version, tier=tier, updated_at=row.sealed_at)
    return StoredSecret(info, SealedValue(wrapped_key=bytes(row.wrapped_key), sealed=bytes(row.sealed)))


def _info(
    row: Any, *, version: int | None = None, tier: AccessTier | None = None, updated_at: float | None = None
) -> SecretInfo:
    return SecretInfo(
        path=row.path,
        secret_id=row.secret_id,
        version=row.version if version is None else version,
        secret_type=row.secret_type,
        access_tier=row.access_tier if tier is None else tier,
        metadata=row.metadata_,
        created_at=row.created_at,
        updated_at=row.updated_at if updated_at is None else updated_at,
    )


# Made once: putting them together takes longer than SQLite takes to answer them.
_HEAD_COLUMNS = [column.label("metadata_") if column.name == "metadata" else column for column in secrets.c]
_SEALED = sa.select(
    *_HEAD_COLUMNS,
    secret_versions.c.version.label("sealed_version"),
    secret_versions.c.access_tier.label("written_under"),
    secret_versions.c.wrapped_key,
    secret_versions.c.sealed,
    secret_versions.c.created_at.label("sealed_at"),
).where(among(secrets.c.path, "paths"), secrets.c.deleted_at.is_(None), secret_versions.c.path == secrets.c.path)
_LATEST = _SEALED.where(secret_versions.c.version == secrets.c.version)
_VERSION = _SEALED.where(secret_versions.c.version == sa.bindparam("wanted"))
_HEADS = sa.select(*_HEAD_COLUMNS).where(among(secrets.c.path, "paths"))
_BELOW = (
    sa.select(*_HEAD_COLUMNS)
    .where(
        secrets.c.path >= sa.bindparam("first"),
        secrets.c.path > sa.bindparam("after"),
        secrets.c.path < sa.bindparam("beyond"),
    )
    .order_by(secrets.c.path)
    .limit(MOST_LISTED + 1)
)
_KNOWN = sa.update(secrets).where(secrets.c.path == sa.bindparam("at"))
_TOO_OLD = sa.delete(secret_versions).where(
    secret_versions.c.path == sa.bindparam("at"), secret_versions.c.version <= sa.bindparam("oldest")
)
