"""What scopes reach, as the database finds it: held against what scopes cover, for every path of a small world."""

from __future__ import annotations

import asyncio
from itertools import product
from typing import Any

import pytest
import sqlalchemy as sa
from server_support import made
from sqlalchemy.ext.asyncio import AsyncConnection

from authsec_core.vault_scopes import VaultScope
from authsec_server.agents.standing import VaultAccess
from authsec_server.db.tables import secrets
from authsec_server.vault.policy import TIERS
from authsec_server.vault.reach import matching, read_tiers, tier_of

SEGMENTS = ("a", "A", "a-x", "a0", "a.b", "a_b", "-", "zz")
PATHS = sorted("/".join(parts) for depth in (2, 3) for parts in product(SEGMENTS, repeat=depth))
PATTERNS = [
    "*",
    *(f"{name}/*" for name in SEGMENTS),
    *(f"{one}/{other}/*" for one, other in product(SEGMENTS, repeat=2)),
]
PATTERNS += PATHS[::7]


def scope(pattern: str, action: str = "read") -> VaultScope:
    """Return the scope of a pattern."""
    return VaultScope.parse(f"secrets:{action}:{pattern}")


async def fill(connection: AsyncConnection) -> None:
    """Write a secret at each path, and one that was deleted."""
    rows: list[dict[str, Any]] = [
        {
            "path": path,
            "secret_id": path,
            "version": 1,
            "secret_type": "custom",
            "access_tier": "critical" if path[0] == "z" else "standard" if number % 61 else "sensitive",
            "metadata": {},
            "created_at": 0.0,
            "updated_at": 0.0,
            "deleted_at": 1.0 if path.startswith("zz/zz") else None,
        }
        for number, path in enumerate(PATHS)
    ]
    await connection.execute(sa.insert(secrets), rows)


@pytest.mark.req("RW2")
def test_the_database_finds_what_scopes_cover(database_url: str) -> None:
    """For each pattern, and for each two of them: the paths that are found are those that `covers` names."""

    async def run() -> None:
        async with made(database_url) as database:
            await database.write(fill)
            async with database.read() as connection:
                for patterns in [*([each] for each in PATTERNS), *zip(PATTERNS, PATTERNS[::-1], strict=True)]:
                    query = sa.select(secrets.c.path).where(matching(patterns))
                    found = set((await connection.execute(query)).scalars())
                    covered = {path for path in PATHS if any(scope(each).covers("read", path) for each in patterns)}
                    assert found == covered, patterns
                assert not (await connection.execute(sa.select(secrets.c.path).where(matching([])))).first()

    asyncio.run(run())


@pytest.mark.req("RW2")
def test_the_highest_tier_that_scopes_reach(database_url: str) -> None:
    """It is that of the strictest secret that they cover, whatever may be done with it; deleted ones do not count."""

    async def run() -> None:
        async with made(database_url) as database:
            await database.write(fill)
            async with database.read() as connection:
                rows = (await connection.execute(sa.select(secrets).where(secrets.c.deleted_at.is_(None)))).all()
                names = {tier_of([scope(each, "delete")]): each for each in PATTERNS}
                found = await connection.run_sync(read_tiers, names)
                for name, pattern in names.items():
                    covered = [row.access_tier for row in rows if scope(pattern).covers("read", row.path)]
                    assert found[name] == max(covered, key=TIERS.index, default="standard"), pattern
                assert set(found.values()) == set(TIERS)

    asyncio.run(run())


def test_what_an_agent_gives_it_has() -> None:
    """Where its access includes a scope, it covers each path that the scope covers; and it includes itself."""
    for namespace, own, asked in product(["*", "a", "a/a", "A"], PATTERNS[:30], PATTERNS[:30]):
        access = VaultAccess(namespaces=(namespace,), scopes=(scope(own),))
        if access.includes(scope(asked)):
            wanted = [path for path in PATHS if scope(asked).covers("read", path)]
            assert all(access.covers("read", path) for path in wanted), (namespace, own, asked)
        assert not access.includes(scope(asked, "write"))
        assert not access.includes(scope(asked, "*"))
    for pattern in PATTERNS:
        assert VaultAccess(namespaces=("*",), scopes=(scope(pattern),)).includes(scope(pattern))
    assert VaultAccess(namespaces=("a",), scopes=(scope("*"),)).includes(scope("a/*"))
    assert not VaultAccess(namespaces=("a",), scopes=(scope("*"),)).includes(scope("*"))
