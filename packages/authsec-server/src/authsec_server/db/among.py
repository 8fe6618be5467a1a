"""How rows are asked for by many names at once: the names are one parameter, however many there are.

SQLAlchemy's own `IN` writes a parameter for each name, and so the statement anew each time it is executed. That takes
as long as five reads, in a transaction that everyone waits for.
"""

from __future__ import annotations

import json
from collections.abc import Collection
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.functions import FunctionElement

if TYPE_CHECKING:
    from sqlalchemy.engine import Dialect
    from sqlalchemy.sql.compiler import SQLCompiler

__all__ = ["among"]

_json: Final = json.JSONEncoder().encode


def among(column: sa.ColumnElement[str], parameter: str) -> sa.ColumnElement[bool]:
    """Return the condition that a column has one of the names that are given as this parameter."""
    return _Among(column, sa.bindparam(parameter, type_=_Names()))


class _Names(sa.types.TypeDecorator[Collection[str]]):
    """An array where there are arrays, and JSON on SQLite."""

    impl = sa.Text
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> sa.types.TypeEngine[Any]:
        return dialect.type_descriptor(postgresql.ARRAY(sa.Text) if dialect.name == "postgresql" else sa.Text())

    def process_bind_param(self, value: Collection[str] | None, dialect: Dialect) -> Any:
        names = list(value or ())
        return names if dialect.name == "postgresql" else _json(names)


class _Among(FunctionElement[bool]):
    # Of no type: of a Boolean SQLAlchemy asks SQLite whether it `= 1`, which SQLite has no index for.
    type = sa.types.NullType()  # type: ignore[assignment]
    inherit_cache = True


@compiles(_Among, "sqlite")
def _on_sqlite(element: _Among, compiler: SQLCompiler, **more: Any) -> str:
    column, names = (compiler.process(clause, **more) for clause in element.clauses)
    return f"{column} IN (SELECT value FROM json_each({names}))"  # noqa: S608 -- of a column and a placeholder


@compiles(_Among, "postgresql")
def _on_postgresql(element: _Among, compiler: SQLCompiler, **more: Any) -> str:
    column, names = (compiler.process(clause, **more) for clause in element.clauses)
    return f"{column} = ANY ({names})"
