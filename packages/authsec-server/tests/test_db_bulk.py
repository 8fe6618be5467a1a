"""Many rows at once: what SQLAlchemy would have written, whole or not at all."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import sqlalchemy as sa
from server_support import made, rows
from sqlalchemy.exc import IntegrityError

from authsec_server.db import tables
from authsec_server.db.bulk import append, first_row

HEAD: dict[str, Any] = {"seq": 2, "hash": "f" * 64, "policy_version": 3, "next_index": 4}


def token(name: str, index: int, **more: Any) -> dict[str, Any]:
    """Return a token's row."""
    return {
        "jti": name,
        "status_index": index,
        "client_id": "c'\"; DROP TABLE head; --",
        "delegations": ["ä\n", "b"],
        "scope": "\\ {a,b} NULL $1 ? %s",
        "audience": "",
        "kid": "k",
        "issued_at": 2**40,
        "expires_at": 2**40 + 1,
        **more,
    }


def test_it_writes_what_sqlalchemy_would(database_url: str) -> None:
    """Each value comes back as it was given, JSON as JSON and what was not named as NULL; and the head has moved."""

    async def run() -> None:
        async with made(database_url) as database:
            given = [token("a", 0, key_id="k1"), token("b", 1), token("c", 2, parent="a", revoked_at=0.1)]
            marks = [{"mark": "m", "expires_at": 1.5}]
            inserts = {tables.used_marks: marks, tables.tokens: given, tables.audit: []}
            await database.settle(lambda connection: append(connection, inserts, tables.head, HEAD))
            for row, expected in zip(await rows(database, tables.tokens), given, strict=True):
                assert {name: value for name, value in row._mapping.items() if value is not None} == expected
            assert [tuple(row) for row in await rows(database, tables.used_marks)] == [("m", 1.5)]
            assert await database.settle(lambda connection: first_row(connection, tables.head)._mapping) == {
                "id": 1,
                **HEAD,
            }

    asyncio.run(run())


def test_without_rows_it_moves_the_head(database_url: str) -> None:
    """A change without entries and tokens is an update and nothing else."""

    async def run() -> None:
        async with made(database_url) as database:
            await database.settle(lambda connection: append(connection, {tables.tokens: []}, tables.head, HEAD))
            assert [tuple(row) for row in await rows(database, tables.head)] == [(1, *HEAD.values())]

    asyncio.run(run())


def test_one_row_that_is_refused_leaves_nothing(database_url: str) -> None:
    """Of rows that are written together, all are there or none, and the head has not moved."""

    async def run() -> None:
        async with made(database_url) as database:
            inserts = {tables.tokens: [token("a", 0), token("b", 1), token("a", 2)]}
            with pytest.raises(IntegrityError):
                await database.settle(lambda connection: append(connection, inserts, tables.head, HEAD))
            assert await rows(database, tables.tokens) == []
            assert (await rows(database, tables.head))[0].seq == 0

    asyncio.run(run())


def test_the_first_row_of_nothing_is_none(database_url: str) -> None:
    """A table without rows has no first one."""

    async def run() -> None:
        async with made(database_url) as database:
            await database.write(lambda connection: connection.execute(sa.delete(tables.head)))
            assert await database.settle(lambda connection: first_row(connection, tables.head)) is None

    asyncio.run(run())
