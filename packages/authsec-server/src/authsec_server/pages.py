"""How a long list is read page by page: which rows come after a cursor, and how a cursor is spelled.

Rows are ordered by when they were made and then by their id, so that a page never repeats or skips what was there when
the first one was read. A cursor says where a page ended and proves nothing: whoever reads a list may read all of it.
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from authsec_core.wire import is_plain
from authsec_server.errors import InvalidRequestError

__all__ = ["LARGEST_PAGE", "USUAL_PAGE", "Cursor", "Page", "Paging", "fetch_page"]

LARGEST_PAGE: Final = 200
USUAL_PAGE: Final = 50

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Cursor:
    """The last row of a page.

    Attributes:
        at: Epoch seconds.
    """

    at: float
    id: str

    def encode(self) -> str:
        """Return it as opaque text."""
        return base64.urlsafe_b64encode(f"{self.at!r} {self.id}".encode()).rstrip(b"=").decode()

    @classmethod
    def decode(cls, text: str) -> Cursor:
        """Return what `encode` made this text of.

        Raises:
            InvalidRequestError: It made it of nothing: there is one spelling for each cursor.
        """
        cursor = cls._read(text)
        if cursor is None or cursor.encode() != text:
            raise InvalidRequestError("after is not the `next` of an earlier page", field="after")
        return cursor

    @classmethod
    def _read(cls, text: str) -> Cursor | None:
        try:
            raw = base64.b64decode(text.encode("ascii") + b"=" * (-len(text) % 4), altchars=b"-_", validate=True)
            at, _, name = raw.decode().partition(" ")
            cursor = cls(float(at), name)
        except (ValueError, binascii.Error):
            return None
        return cursor if math.isfinite(cursor.at) and name and is_plain(name) else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Paging:
    """Which page is asked for."""

    limit: int = USUAL_PAGE
    after: Cursor | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Page(Generic[T]):
    """A part of a list.

    Attributes:
        next: The cursor of the page after this one; None on the last.
    """

    items: tuple[T, ...]
    next: str | None


async def fetch_page(
    connection: AsyncConnection,
    query: sa.Select[Any],
    key: tuple[sa.Column[float], sa.Column[str]],
    wanted: Paging,
    make: Callable[[Any], T],
) -> Page[T]:
    """Return a page of what `query` finds.

    Args:
        query: Without order and limit.
        key: When a row was made, and its id.
        make: Turns a row into an item.
    """
    at, name = key
    if wanted.after is not None:
        query = query.where(sa.tuple_(at, name) > sa.tuple_(sa.literal(wanted.after.at), sa.literal(wanted.after.id)))
    # One row more than is shown tells whether there is another page.
    rows = (await connection.execute(query.order_by(at, name).limit(wanted.limit + 1))).all()
    shown = rows[: wanted.limit]
    last = shown[-1]._mapping if len(rows) > wanted.limit else None
    return Page(
        items=tuple(make(row) for row in shown),
        next=None if last is None else Cursor(float(last[at]), last[name]).encode(),
    )
