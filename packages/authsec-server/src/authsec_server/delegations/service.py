"""Trust delegations: which agent may ask for what, for how long. Each change is one entry of the audit.

What is taken back is gone at once: live tokens that exceed what is left are revoked in the same transaction. What a
delegation gives in the end is decided by `tokens.policy`, who may change one by `operators.access`.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from authsec_core.scopes import format_scopes
from authsec_server import checks
from authsec_server.audit.entry import Caller, Entry
from authsec_server.audit.ledger import Change, Ledger
from authsec_server.db.engine import Database
from authsec_server.db.tables import clients, trust_delegations
from authsec_server.delegations.roles import find_role
from authsec_server.delegations.values import (
    KEEP,
    DelegationChanges,
    MaxDuration,
    Role,
    TrustDelegation,
    delegation_of,
)
from authsec_server.errors import ConflictError, InvalidRequestError, NotFoundError
from authsec_server.pages import Page, Paging, fetch_page
from authsec_server.tokens.withdraw import withdraw_exceeding

__all__ = ["Delegations", "Wanted"]

MOST_DELEGATIONS: Final = 64  # of one client, revoked ones aside: all of them are weighed for each token
_NAMED: Final = 5  # actions that a message lists


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A trust delegation that is to be made.

    Attributes:
        target_type: The kind of agent that is meant: must be the client's, so that a slip is noticed.
        allowed_actions: Some of the role's permissions; None is all of them, now and later.
        audiences: The APIs that tokens may be for; None is the authority's default audience.
        not_after: When it ends by itself; epoch seconds.
    """

    role: str
    target_type: str
    client_id: str
    duration: MaxDuration
    allowed_actions: Sequence[str] | None = None
    audiences: Sequence[str] | None = None
    enabled: bool = True
    not_after: float | None = None


class Delegations:
    """Keeps the trust delegations.

    Args:
        ledger: Makes changes.
        database: For reading.
        default_audience: The API that tokens are for when a delegation names none.
    """

    def __init__(self, ledger: Ledger, database: Database, *, default_audience: str) -> None:
        self._ledger = ledger
        self._database = database
        self._default_audience = default_audience

    async def create(self, caller: Caller, wanted: Wanted) -> TrustDelegation:
        """Delegate to a client what a role may do, or some of it.

        Raises:
            InvalidRequestError: The client or the role is not known, the kind of agent is another, the role does not
                have an action, or another member cannot be what it is.
            ConflictError: The client was revoked, or has too many delegations.
        """
        audiences = checks.audiences([self._default_audience] if wanted.audiences is None else wanted.audiences)

        async def work(change: Change) -> TrustDelegation:
            role = await find_role(change.connection, wanted.role) if checks.is_role_name(wanted.role) else None
            if role is None:
                raise InvalidRequestError("there is no such role", field="role")
            await _check_client(change, wanted)
            delegation = TrustDelegation(
                delegation_id=str(uuid.uuid4()),
                role=role.name,
                target_type=wanted.target_type,
                client_id=wanted.client_id,
                allowed_actions=_actions(wanted.allowed_actions, role),
                audiences=audiences,
                duration=wanted.duration,
                enabled=wanted.enabled,
                not_after=checks.future(wanted.not_after, now=change.at),
                revoked_at=None,
                created_at=change.at,
                created_by=caller.actor.name,
            )
            await change.connection.execute(sa.insert(trust_delegations).values(_row(delegation)))
            change.policy_changed()
            change.record(_entry("delegation.create", caller, delegation, _said(delegation)))
            return delegation

        return await self._ledger.change(work, by=caller)

    async def update(self, caller: Caller, delegation_id: str, changes: DelegationChanges) -> TrustDelegation:
        """Change a delegation, and return what it is then. What it is already is no change, and no entry.

        Raises:
            NotFoundError: There is none.
            ConflictError: It was revoked.
            InvalidRequestError: A member cannot be what it is to be.
        """

        async def work(change: Change) -> TrustDelegation:
            before = await _living(change, delegation_id)
            after = await _changed(change, before, changes)
            if after == before:
                return before
            await _update(change, delegation_id, _row(after))
            withdrawn = await withdraw_exceeding(change, [after.client_id])
            old, new = _said(before), _said(after)
            different = {name: {"from": old[name], "to": new[name]} for name in new if old[name] != new[name]}
            change.record(_entry("delegation.update", caller, after, {**different, "withdrawn": withdrawn}))
            return after

        return await self._ledger.change(work, by=caller)

    async def revoke(self, caller: Caller, delegation_id: str) -> TrustDelegation:
        """End a delegation for good. Of several who do it at once, one does, and the others are told.

        Raises:
            NotFoundError: There is none.
            ConflictError: It was revoked before.
        """

        async def work(change: Change) -> TrustDelegation:
            before = await _living(change, delegation_id)
            await _update(change, delegation_id, {"revoked_at": change.at})
            withdrawn = await withdraw_exceeding(change, [before.client_id])
            details = {"role": before.role, "withdrawn": withdrawn}
            change.record(_entry("delegation.revoke", caller, before, details))
            return replace(before, revoked_at=change.at)

        return await self._ledger.change(work, by=caller)

    async def get(self, delegation_id: str) -> TrustDelegation:
        """Return a delegation.

        Raises:
            NotFoundError: There is none.
        """
        async with self._database.read() as connection:
            return await _find(connection, delegation_id)

    async def list(
        self, paging: Paging, *, client_id: str | None = None, role: str | None = None
    ) -> Page[TrustDelegation]:
        """Return a page of the delegations, the oldest first; only those to this client, or by this role."""
        query = sa.select(trust_delegations)
        if client_id is not None:
            query = query.where(trust_delegations.c.client_id == client_id)
        if role is not None:
            query = query.where(trust_delegations.c.role == role)
        key = (trust_delegations.c.created_at, trust_delegations.c.delegation_id)
        async with self._database.read() as connection:
            return await fetch_page(connection, query, key, paging, delegation_of)


async def _find(connection: AsyncConnection, delegation_id: str) -> TrustDelegation:
    query = sa.select(trust_delegations).where(trust_delegations.c.delegation_id == delegation_id)
    row = (await connection.execute(query)).one_or_none()
    if row is None:
        raise NotFoundError("there is no such trust delegation")
    return delegation_of(row)


async def _living(change: Change, delegation_id: str) -> TrustDelegation:
    delegation = await _find(change.connection, delegation_id)
    if delegation.revoked_at is not None:
        raise ConflictError("the trust delegation was revoked, which is final: make another one")
    return delegation


async def _check_client(change: Change, wanted: Wanted) -> None:
    found = await change.connection.execute(
        sa.select(clients.c.agent_type, clients.c.state).where(clients.c.client_id == wanted.client_id)
    )
    client = found.one_or_none()
    if client is None:
        raise InvalidRequestError("there is no such client", field="client_id")
    if client.agent_type != checks.agent_type(wanted.target_type, field="target_type"):
        raise InvalidRequestError(
            f"target_type is {wanted.target_type}, but the client is of type {client.agent_type}", field="target_type"
        )
    if client.state == "revoked":
        raise ConflictError("the client was revoked, which is final: delegate to another one")
    held = sa.select(sa.func.count()).where(
        trust_delegations.c.client_id == wanted.client_id, trust_delegations.c.revoked_at.is_(None)
    )
    if (await change.connection.execute(held)).scalar_one() >= MOST_DELEGATIONS:
        raise ConflictError(f"the client has {MOST_DELEGATIONS} trust delegations: revoke one first")


def _actions(wanted: Collection[str] | None, role: Role) -> tuple[str, ...] | None:
    if wanted is None:
        return None
    actions = checks.scope_tokens(wanted, field="allowed_actions")
    if not actions:
        raise InvalidRequestError(
            "allowed_actions is empty: name an action, or leave it out for all that the role has",
            field="allowed_actions",
        )
    foreign = sorted(set(actions) - set(role.permissions))
    if foreign:
        more = f" and {len(foreign) - _NAMED} more" if len(foreign) > _NAMED else ""
        raise InvalidRequestError(
            f"the role {role.name} does not have {', '.join(foreign[:_NAMED])}{more}", field="allowed_actions"
        )
    return actions


async def _changed(change: Change, before: TrustDelegation, changes: DelegationChanges) -> TrustDelegation:
    new = {field.name: getattr(changes, field.name) for field in fields(changes)}
    new = {name: value for name, value in new.items() if value is not KEEP}
    if new.get("allowed_actions") is not None:
        role = await find_role(change.connection, before.role)
        if role is None:
            raise NotFoundError("the role of the trust delegation is gone")
        new["allowed_actions"] = _actions(new["allowed_actions"], role)
    if "audiences" in new:
        new["audiences"] = checks.audiences(new["audiences"])
    if "not_after" in new and new["not_after"] != before.not_after:
        new["not_after"] = checks.future(new["not_after"], now=change.at)
    return replace(before, **new)


async def _update(change: Change, delegation_id: str, values: dict[str, Any]) -> None:
    await change.connection.execute(
        sa.update(trust_delegations).where(trust_delegations.c.delegation_id == delegation_id).values(values)
    )
    change.policy_changed()


def _row(delegation: TrustDelegation) -> dict[str, Any]:
    actions = delegation.allowed_actions
    return {
        "delegation_id": delegation.delegation_id,
        "role": delegation.role,
        "target_type": delegation.target_type,
        "client_id": delegation.client_id,
        "allowed_actions": None if actions is None else list(actions),
        "audiences": list(delegation.audiences),
        "max_duration": delegation.duration.seconds,
        "unit": delegation.duration.unit,
        "enabled": delegation.enabled,
        "not_after": delegation.not_after,
        "revoked_at": delegation.revoked_at,
        "created_at": delegation.created_at,
        "created_by": delegation.created_by,
    }


def _said(delegation: TrustDelegation) -> dict[str, Any]:
    """Return what an entry says of a delegation: what can be changed about it, and its role."""
    names = ("role", "target_type", "allowed_actions", "audiences", "max_duration", "unit", "enabled", "not_after")
    row = _row(delegation)
    return {name: row[name] for name in names}


def _entry(action: str, caller: Caller, delegation: TrustDelegation, details: dict[str, Any]) -> Entry:
    return Entry(
        action=action,
        decision="allow",
        caller=caller,
        client_id=delegation.client_id,
        # All of the actions, in the one member that is long enough for them; the details are cut after 128.
        scope=None if delegation.allowed_actions is None else format_scopes(delegation.allowed_actions),
        details={"delegation_id": delegation.delegation_id, **details},
    )
