"""What a decision rests on: read in its transaction, or known from an earlier one while no policy has changed."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from authsec_server.agents.standing import Standing, read_standings
from authsec_server.db import tables
from authsec_server.db.among import among
from authsec_server.errors import StorageUnavailableError

__all__ = ["Known", "Memory", "Reader", "Want", "looked_up", "parents", "used"]

Reader = Callable[[sa.Connection, Collection[str]], Mapping[str, Any]]
Want = tuple[Reader, str]  # what reads facts of a kind, for all who ask at once; and the name of the one that is wanted

_MOST_REMEMBERED: Final = 10_000  # clients

_TRUSTED_ISSUERS: Final = sa.select(tables.issuers.c.issuer_id, tables.issuers.c.revision).where(
    tables.issuers.c.enabled, tables.issuers.c.revoked_at.is_(None)
)
_PARENTS: Final = sa.select(tables.tokens).where(among(tables.tokens.c.jti, "jtis"))
_USED: Final = sa.select(tables.used_marks.c.mark).where(among(tables.used_marks.c.mark, "marks"))
_ACTIVE_KEY: Final = sa.select(tables.signing_keys.c.kid).where(tables.signing_keys.c.state == "active")


@dataclass(frozen=True, slots=True)
class Known:
    """The facts that decisions rest on, as they are in this transaction."""

    standings: Mapping[str, Standing | None]
    kid: str
    issuers: frozenset[tuple[str, int]]


class Memory:
    """What was read of clients, issuers and the active key, for as long as no policy changes."""

    def __init__(self) -> None:
        self._version: int | None = None
        self._standings: dict[str, Standing | None] = {}
        self._kid: str | None = None
        self._issuers: frozenset[tuple[str, int]] = frozenset()

    def recall(self, connection: sa.Connection, version: int, client_ids: set[str]) -> Known:
        """Return what is known of these clients, after reading what is missing or no longer true.

        Args:
            version: Of the policy, as the head of the chain has it.

        Raises:
            StorageUnavailableError: No signing key is active.
        """
        if self._version != version or len(self._standings) > _MOST_REMEMBERED:
            self._version, self._standings = None, {}
            self._kid = connection.execute(_ACTIVE_KEY).scalar_one_or_none()
            trusted = connection.execute(_TRUSTED_ISSUERS).all()
            self._issuers = frozenset((row.issuer_id, row.revision) for row in trusted)
        missing = client_ids - self._standings.keys()
        if missing:
            found = read_standings(connection, missing)
            self._standings.update({client_id: found.get(client_id) for client_id in missing})
        self._version = version
        if self._kid is None:
            raise StorageUnavailableError("no signing key is active: run authsec-server rotate-keys")
        return Known(self._standings, self._kid, self._issuers)


def looked_up(connection: sa.Connection, wants: Collection[Want]) -> dict[Want, Any]:
    """Return what there is of what is wanted. One call of each reader, however many want it."""
    names: dict[Reader, set[str]] = {}
    for reader, name in wants:
        names.setdefault(reader, set()).add(name)
    return {(reader, name): fact for reader in names for name, fact in reader(connection, names[reader]).items()}


def parents(connection: sa.Connection, jtis: Collection[str]) -> dict[str, Any]:
    """Return the rows of these tokens, by their `jti`. A `Reader`."""
    found = connection.execute(_PARENTS, {"jtis": jtis})
    return {row.jti: row for row in found}


def used(connection: sa.Connection, marks: Collection[str | None]) -> set[str]:
    """Return which of these marks were used before."""
    if not marks:
        return set()
    return set(connection.execute(_USED, {"marks": marks}).scalars())
