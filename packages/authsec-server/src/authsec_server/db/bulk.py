"""What a decision writes, in as few steps as a database allows, past what SQLAlchemy does for each value of each row.

PostgreSQL takes all of it in one statement, because every other writer waits meanwhile; SQLite, to which nothing has to
travel, takes one for each table. It knows the words of SQL, and what a table is; it knows no table.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

import sqlalchemy as sa

__all__ = ["append", "first_row"]

_json: Final = json.JSONEncoder().encode
_TYPES: Final[Mapping[type[Any], str]] = {
    sa.Text: "text",
    sa.BigInteger: "bigint",
    sa.Integer: "integer",
    sa.Double: "float8",
    sa.JSON: "text",
}

Rows = Sequence[Mapping[str, Any]]


def append(
    connection: sa.Connection, inserts: Mapping[sa.Table, Rows], table: sa.Table, row: Mapping[str, Any]
) -> None:
    """Insert rows into some tables, and update the one row of another.

    Args:
        inserts: A column that a row does not name is NULL.
        table: It has one row.
        row: Its new values.

    Raises:
        DBAPIError: As from any statement.
    """
    filled = {target: rows for target, rows in inserts.items() if rows}
    if connection.dialect.name == "postgresql":
        columns = [
            list(column) for target, rows in filled.items() for column in zip(*_values(target, rows), strict=True)
        ]
        connection.exec_driver_sql(_all_at_once(tuple(filled), table, tuple(row)), (*columns, *row.values()))
        return
    for target, rows in filled.items():
        connection.exec_driver_sql(_insert(target), _values(target, rows))
    connection.exec_driver_sql(_update(table, tuple(row)), tuple(row.values()))


def first_row(connection: sa.Connection, table: sa.Table) -> Any:
    """Return the first row of a table and hold it until the transaction ends; None where there is none."""
    return connection.exec_driver_sql(_select(table, connection.dialect.name)).first()


def _values(table: sa.Table, rows: Rows) -> list[tuple[Any, ...]]:
    names, encoded = _columns(table)
    found = [[row.get(name) for name in names] for row in rows]
    for place in encoded:
        for row in found:
            row[place] = None if row[place] is None else _json(row[place])
    return [tuple(row) for row in found]


@lru_cache(maxsize=16)
def _columns(table: sa.Table) -> tuple[list[str], list[int]]:
    """Return the names of its columns, and the places of those that hold JSON."""
    columns = list(table.columns)
    encoded = [place for place, column in enumerate(columns) if isinstance(column.type, sa.JSON)]
    return [column.name for column in columns], encoded


@lru_cache(maxsize=16)
def _select(table: sa.Table, dialect: str) -> str:
    lock = " FOR UPDATE" if dialect == "postgresql" else ""  # SQLite has one writer anyhow
    return f"SELECT {', '.join(_columns(table)[0])} FROM {table.name}{lock}"  # noqa: S608 -- names of ours, as below


@lru_cache(maxsize=16)
def _insert(table: sa.Table) -> str:
    names = _columns(table)[0]
    return f"INSERT INTO {table.name} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))})"  # noqa: S608


@lru_cache(maxsize=16)
def _update(table: sa.Table, names: tuple[str, ...]) -> str:
    return f"UPDATE {table.name} SET {', '.join(f'{name} = ?' for name in names)}"  # noqa: S608


@lru_cache(maxsize=16)
def _all_at_once(tables: tuple[sa.Table, ...], updated: sa.Table, names: tuple[str, ...]) -> str:
    """Return one statement for all of it. Its parameters are columns, and then the values of the update."""
    number, parts = 0, []
    for table in tables:
        given, taken = [], []
        for column in table.columns:
            number += 1
            given.append(f"${number}::{_TYPES[type(column.type)]}[]")
            taken.append(f"{column.name}::json" if isinstance(column.type, sa.JSON) else column.name)
        listed = ", ".join(_columns(table)[0])
        rows = f"SELECT {', '.join(taken)} FROM unnest({', '.join(given)}) AS given ({listed})"  # noqa: S608
        parts.append(f"into_{table.name} AS (INSERT INTO {table.name} ({listed}) {rows})")
    changes = ", ".join(f"{name} = ${number + place}" for place, name in enumerate(names, 1))
    before = f"WITH {', '.join(parts)} " if parts else ""
    return f"{before}UPDATE {updated.name} SET {changes}"  # noqa: S608
