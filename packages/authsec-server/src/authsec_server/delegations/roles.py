"""Roles: names for permissions. Each change is one entry of the audit, and takes back what it no longer allows.

It does not say who may change them: see `operators.access`.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from authsec_core.scopes import format_scopes
from authsec_server import checks
from authsec_server.audit.entry import Caller, Entry
from authsec_server.audit.ledger import Change, Ledger
from authsec_server.db.engine import Database
from authsec_server.db.tables import roles, trust_delegations
from authsec_server.delegations.values import Role, role_of
from authsec_server.errors import ConflictError, NotFoundError
from authsec_server.pages import Page, Paging, fetch_page
from authsec_server.tokens.withdraw import withdraw_exceeding

__all__ = ["Roles", "find_role"]


class Roles:
    """Keeps the roles.

    Args:
        ledger: Makes changes.
        database: For reading.
    """

    def __init__(self, ledger: Ledger, database: Database) -> None:
        self._ledger = ledger
        self._database = database

    async def put(self, caller: Caller, name: str, permissions: Collection[str]) -> tuple[Role, bool]:
        """Say what a role may do, and return it with whether it is new.

        A permission that it loses is gone at once: live tokens that hold it by this role are revoked. Without any
        permission the role means nothing, and gives nothing.

        Raises:
            InvalidRequestError: The name or a permission cannot be one.
        """
        checks.role_name(name, field="name")
        wanted = checks.scope_tokens(permissions, field="permissions")

        async def work(change: Change) -> tuple[Role, bool]:
            before = await find_role(change.connection, name)
            if before is None:
                return await _create(change, caller, name, wanted), True
            if before.permissions == wanted:
                return before, False
            return await _replace(change, caller, before, wanted), False

        return await self._ledger.change(work, by=caller)

    async def delete(self, caller: Caller, name: str) -> None:
        """Forget a role that no trust delegation names, not even a revoked one.

        Raises:
            NotFoundError: There is none.
            ConflictError: A trust delegation names it.
        """

        async def work(change: Change) -> None:
            if await find_role(change.connection, name) is None:
                raise _no_role(name)
            await _refuse_in_use(change, name)
            await change.connection.execute(sa.delete(roles).where(roles.c.name == name))
            change.policy_changed()
            change.record(Entry(action="role.delete", decision="allow", caller=caller, details={"role": name}))

        await self._ledger.change(work, by=caller)

    async def get(self, name: str) -> Role:
        """Return a role.

        Raises:
            NotFoundError: There is none.
        """
        async with self._database.read() as connection:
            role = await find_role(connection, name)
        if role is None:
            raise _no_role(name)
        return role

    async def list(self, paging: Paging) -> Page[Role]:
        """Return a page of the roles, the oldest first."""
        async with self._database.read() as connection:
            return await fetch_page(connection, sa.select(roles), (roles.c.created_at, roles.c.name), paging, role_of)


async def find_role(connection: AsyncConnection, name: str) -> Role | None:
    """Return the role of this name, if there is one."""
    row = (await connection.execute(sa.select(roles).where(roles.c.name == name))).one_or_none()
    return None if row is None else role_of(row)


async def _create(change: Change, caller: Caller, name: str, permissions: tuple[str, ...]) -> Role:
    role = Role(name=name, permissions=permissions, created_at=change.at, updated_at=change.at)
    await change.connection.execute(
        sa.insert(roles).values(name=name, permissions=list(permissions), created_at=change.at, updated_at=change.at)
    )
    change.policy_changed()
    change.record(_put_entry(caller, role, {"role": name, "created": True}))
    return role


async def _replace(change: Change, caller: Caller, before: Role, permissions: tuple[str, ...]) -> Role:
    role = Role(name=before.name, permissions=permissions, created_at=before.created_at, updated_at=change.at)
    await change.connection.execute(
        sa.update(roles)
        .where(roles.c.name == role.name)
        .values(permissions=list(permissions), updated_at=role.updated_at)
    )
    change.policy_changed()
    added, removed = set(permissions) - set(before.permissions), set(before.permissions) - set(permissions)
    withdrawn = await withdraw_exceeding(change, await _holders(change.connection, role.name)) if removed else 0
    details = {"role": role.name, "added": sorted(added), "removed": sorted(removed), "withdrawn": withdrawn}
    change.record(_put_entry(caller, role, details))
    return role


async def _holders(connection: AsyncConnection, name: str) -> list[str]:
    """Return the clients that have something by this role."""
    query = (
        sa.select(trust_delegations.c.client_id)
        .where(trust_delegations.c.role == name, trust_delegations.c.revoked_at.is_(None))
        .distinct()
    )
    return list((await connection.execute(query)).scalars())


async def _refuse_in_use(change: Change, name: str) -> None:
    naming = sa.select(sa.func.count(), sa.func.count(trust_delegations.c.revoked_at)).where(
        trust_delegations.c.role == name
    )
    total, revoked = (await change.connection.execute(naming)).one()
    if total > revoked:
        raise ConflictError(f"{total - revoked} trust delegations name the role {name}: revoke them first")
    if total:
        raise ConflictError(f"revoked trust delegations still name the role {name}: take its permissions away instead")


def _put_entry(caller: Caller, role: Role, details: dict[str, Any]) -> Entry:
    # All of the permissions, in the one member that is long enough for them.
    scope = format_scopes(role.permissions)
    return Entry(action="role.put", decision="allow", caller=caller, scope=scope, details=details)


def _no_role(name: str) -> NotFoundError:
    return NotFoundError(f"there is no role {name}" if checks.is_role_name(name) else "there is no such role")
