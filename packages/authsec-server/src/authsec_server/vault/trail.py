"""The audit as the vault's clients know it: what was asked of the vault, page by page, the newest first.

Pages are counted from the newest entry, so that they move while entries come in; and they end, because to skip entries
takes as long as to read them. Whoever wants all of it, in an order that stays, searches the audit itself: `audit.log`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from authsec_server.audit.log import LoggedEntry, logged
from authsec_server.db.engine import Database
from authsec_server.db.tables import audit
from authsec_server.errors import InvalidRequestError

__all__ = ["DEEPEST", "VAULT_ACTIONS", "Trail", "TrailEvent", "TrailPage"]

DEEPEST: Final = 10_000  # entries from the newest one on
# Each is looked for by itself, in an index that has its entries in order. Among those of a busy authority, the vault's
# few could only be found by looking at all.
VAULT_ACTIONS: Final = (
    "vault.access.change",
    "vault.approval.approve",
    "vault.approval.deny",
    "vault.approval.request",
    "vault.denied",
    "vault.secret.delete",
    "vault.secret.import",
    "vault.secret.list",
    "vault.secret.read",
    "vault.secret.rotate",
    "vault.secret.write",
    "vault.token.issue",
    "vault.token.revoke",
)
_ABOUT: Final[Mapping[str, tuple[str, str]]] = {
    "secret": ("details", "path"),
    "token": ("", "jti"),
    "approval": ("details", "approval_id"),
    "access": ("", "client_id"),
}  # the kind of thing -> where the entry says which one


@dataclass(frozen=True, slots=True, kw_only=True)
class TrailEvent:
    """One entry of the audit.

    Attributes:
        id: Its place in the audit.
        actor_id: Who it was, as far as it was proven.
        resource_type: What it is about: `secret`, `token`, `approval` or `access`.
        metadata: All that the entry says.
        created_at: RFC 3339, to the microsecond.
    """

    id: str
    event_type: str
    actor_id: str | None
    resource_type: str
    resource_id: str | None
    metadata: Mapping[str, Any]
    created_at: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class TrailPage:
    """A page of the vault's entries.

    Attributes:
        total: How many there are on all pages: at most `DEEPEST`.
    """

    events: tuple[TrailEvent, ...]
    page: int
    limit: int
    total: int


class Trail:
    """Reads the vault's part of the audit. Blocks no writer."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def page(self, page: int, limit: int) -> TrailPage:
        """Return a page; the first one is 1. Costs what is before its end, however long the audit is.

        Raises:
            InvalidRequestError: It would end beyond the newest `DEEPEST` entries.
            StorageUnavailableError: The database cannot be read.
        """
        end = page * limit
        if end > DEEPEST:
            raise InvalidRequestError(
                f"pages end at the newest {DEEPEST} entries: search the audit itself for older ones", field="page"
            )
        shown = sa.select(audit.c.seq, audit.c.action, audit.c.text, audit.c.hash).where(
            audit.c.seq.in_(_newest(end).order_by(sa.desc("seq")).limit(limit).offset(end - limit))
        )
        async with self._database.read() as connection:
            rows = (await connection.execute(shown.order_by(audit.c.seq.desc()))).all()
            counted = sa.select(sa.func.count()).select_from(_newest(DEEPEST).subquery())
            total: int = (await connection.execute(counted)).scalar_one()
        events = tuple(_event(row.action, logged(row)) for row in rows)
        return TrailPage(events=events, page=page, limit=limit, total=min(total, DEEPEST))


def _newest(count: int) -> sa.Select[Any]:
    """Return the query for the newest entries: so many of each action, which has all of the newest among them."""
    each = [
        sa.select(
            sa.select(audit.c.seq)
            .where(audit.c.action == action)
            .order_by(audit.c.seq.desc())
            .limit(count)
            .subquery()
            .c.seq
        )
        for action in VAULT_ACTIONS
    ]
    return sa.select(sa.union_all(*each).subquery().c.seq)


def _event(action: str, entry: LoggedEntry) -> TrailEvent:
    # An entry that somebody edited has none of the usual members; it has to be seen all the same.
    line = entry.members()
    kind = action.split(".")[1]
    where, name = _ABOUT.get(kind, ("", ""))
    about = line.get(where) if where else line
    return TrailEvent(
        id=str(entry.seq),
        event_type=action,
        actor_id=_text(line.get("actor"), "id"),
        resource_type=kind,
        resource_id=_text(about, name),
        metadata=line,
        created_at=_text(line, "at"),
    )


def _text(members: object, name: str) -> str | None:
    found = members.get(name) if isinstance(members, dict) else None
    return found if isinstance(found, str) else None
