"""What may each agent do in the vault? Operators say so; where they said nothing, it may do nothing.

A change counts from the next request on, on all replicas: what an agent may do is looked at whenever it, or a token of
its, asks for something.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final, get_args

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from authsec_core.vault_scopes import VaultAction, VaultScope, check_namespace, format_vault_scopes, parse_vault_scopes
from authsec_server.agents.standing import VaultAccess, load_standings
from authsec_server.audit.entry import Caller, Entry
from authsec_server.audit.ledger import Change, Ledger
from authsec_server.db.engine import Database
from authsec_server.db.tables import clients, vault_access
from authsec_server.errors import ConflictError, InvalidRequestError, NotFoundError

__all__ = ["AccessRecord", "AgentAccess", "checked_access", "give_access"]

MOST_NAMESPACES: Final = 64
_EVERYWHERE: Final = "*"
_ACTIONS: Final[tuple[VaultAction, ...]] = get_args(VaultAction)


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessRecord:
    """What an agent may do in the vault, and who said so last.

    Attributes:
        updated_at: Epoch seconds; None where nobody ever said anything.
    """

    client_id: str
    namespaces: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()
    updated_at: float | None = None
    updated_by: str | None = None


class AgentAccess:
    """Keeps what agents may do in the vault."""

    def __init__(self, ledger: Ledger, database: Database) -> None:
        self._ledger = ledger
        self._database = database

    async def get(self, client_id: str) -> AccessRecord:
        """Return what an agent may do.

        Raises:
            NotFoundError: There is no such client.
        """
        async with self._database.read() as connection:
            return await _record(connection, client_id)

    async def put(
        self, caller: Caller, client_id: str, *, namespaces: Collection[str], scopes: Collection[str]
    ) -> AccessRecord:
        """Say what an agent may do, in place of what was said before. What it may already is no change, and no entry.

        Raises:
            InvalidRequestError: A namespace or a scope cannot be one, or no scope lies in the namespaces.
            NotFoundError: There is no such client.
            ConflictError: It was revoked.
        """
        access = checked_access(namespaces, scopes)

        async def work(change: Change) -> AccessRecord:
            standing = (await load_standings(change.connection, [client_id])).get(client_id)
            if standing is None:
                raise _unknown()
            if standing.state == "revoked":
                raise ConflictError("the client was revoked, which is final: onboard another one")
            if standing.vault != access:
                await give_access(change, caller, client_id, access, subject=standing.spiffe_id)
            return await _record(change.connection, client_id)

        return await self._ledger.change(work, by=caller)


def checked_access(namespaces: Collection[str], scopes: Collection[str], *, prefix: str = "") -> VaultAccess:
    """Return what an agent is to be allowed, sorted and without repetition. Empty lists allow nothing.

    Args:
        prefix: Of the two members' names in the request.

    Raises:
        InvalidRequestError: A namespace or a scope cannot be one, they are too many, or no scope lies in a namespace.
    """
    if len(namespaces) > MOST_NAMESPACES:
        raise InvalidRequestError(f"name at most {MOST_NAMESPACES} namespaces", field=f"{prefix}namespaces")
    try:
        for namespace in namespaces:
            if namespace != _EVERYWHERE:
                check_namespace(namespace)
    except ValueError as exc:
        raise InvalidRequestError(str(exc), field=f"{prefix}namespaces") from None
    try:
        parsed = parse_vault_scopes(scopes) if scopes else ()
    except ValueError as exc:
        raise InvalidRequestError(str(exc), field=f"{prefix}scopes") from None
    if namespaces and parsed and not any(_lies_in(scope, namespace) for scope in parsed for namespace in namespaces):
        raise InvalidRequestError(
            "no scope lies in these namespaces, so that the agent could do nothing: leave both empty if that is meant",
            field=f"{prefix}scopes",
        )
    return VaultAccess(namespaces=tuple(sorted(set(namespaces))), scopes=parsed)


async def give_access(
    change: Change,
    caller: Caller,
    client_id: str,
    access: VaultAccess,
    *,
    subject: str,
    said: Mapping[str, str] | None = None,
) -> None:
    """Store what a client may do, and record it.

    Args:
        subject: The client's SPIFFE ID.
        said: What else the entry is to say.
    """
    row = {
        "namespaces": list(access.namespaces),
        "scopes": [str(scope) for scope in access.scopes],
        "updated_at": change.at,
        "updated_by": caller.actor.name,
    }
    this = vault_access.c.client_id == client_id
    found = await change.connection.execute(sa.update(vault_access).where(this).values(row))
    if not found.rowcount:
        await change.connection.execute(sa.insert(vault_access).values(client_id=client_id, **row))
    change.policy_changed()
    change.record(
        Entry(
            action="vault.access.change",
            decision="allow",
            caller=caller,
            client_id=client_id,
            subject=subject,
            scope=format_vault_scopes(access.scopes),
            details={"namespaces": list(access.namespaces), **(said or {})},
        )
    )


def _lies_in(scope: VaultScope, namespace: str) -> bool:
    below = "" if namespace == _EVERYWHERE else namespace
    return any(scope.reaches(action, below) for action in _ACTIONS)


async def _record(connection: AsyncConnection, client_id: str) -> AccessRecord:
    query = (
        sa.select(clients.c.client_id, *(column for column in vault_access.c if column.name != "client_id"))
        .outerjoin(vault_access, vault_access.c.client_id == clients.c.client_id)
        .where(clients.c.client_id == client_id)
    )
    row = (await connection.execute(query)).one_or_none()
    if row is None:
        raise _unknown()
    return AccessRecord(
        client_id=row.client_id,
        namespaces=tuple(row.namespaces or ()),
        scopes=tuple(row.scopes or ()),
        updated_at=row.updated_at,
        updated_by=row.updated_by,
    )


def _unknown() -> NotFoundError:
    return NotFoundError("there is no such client")
