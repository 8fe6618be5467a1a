"""Many names in one parameter: what SQLAlchemy's own `IN` would find."""

from __future__ import annotations

import asyncio

import pytest
import sqlalchemy as sa
from server_support import made

from authsec_server.db import tables
from authsec_server.db.among import among

KEPT = ("a", "it's", 'in "quotes"', "back\\slash", "ä\n", "{a,b}", "NULL", "a,b", "")
_ASKED = sa.select(tables.used_marks.c.mark).where(among(tables.used_marks.c.mark, "names"))


@pytest.mark.parametrize("names", [KEPT, KEPT[1:3], {"a", "another"}, ("NULL", "a,b"), ["another"], []])
def test_it_finds_what_is_there(database_url: str, names: list[str]) -> None:
    """Each name means itself, whatever is in it; of none nothing is found."""

    async def run() -> set[str]:
        async with made(database_url) as database:

            def work(connection: sa.Connection) -> set[str]:
                connection.execute(sa.insert(tables.used_marks), [{"mark": mark, "expires_at": 1.0} for mark in KEPT])
                return set(connection.execute(_ASKED, {"names": names}).scalars())

            return await database.settle(work)

    assert asyncio.run(run()) == set(KEPT) & set(names)


def test_the_statement_does_not_depend_on_how_many() -> None:
    """There is one parameter, so that a statement is written once."""
    for name in ("sqlite", "postgresql"):
        dialect = sa.engine.make_url(f"{name}://").get_dialect()()
        assert list(_ASKED.compile(dialect=dialect).params) == ["names"]


def test_sqlite_looks_into_the_index(database_url: str) -> None:
    """The condition is a search for each name, and not a look at every row."""
    if not database_url.startswith("sqlite"):
        pytest.skip("of SQLite")

    async def run() -> str:
        async with made(database_url) as database:
            statement = str(_ASKED.compile(dialect=sa.engine.make_url("sqlite://").get_dialect()()))
            return await database.settle(
                lambda connection: str(connection.exec_driver_sql(f"EXPLAIN QUERY PLAN {statement}", ("[]",)).all())
            )

    assert "SEARCH used_marks" in asyncio.run(run())
