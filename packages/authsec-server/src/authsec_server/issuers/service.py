"""Registered issuers: who else may vouch for workloads and users. Each change is one entry of the audit.

An issuer that is trusted less than before takes its tokens with it: those that rest on its word are revoked in the same
transaction. What a token of it says is read by `issuers.tokens`; whether that is the agent, `agents.proofs` decides.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable
from dataclasses import fields, replace
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from authsec_server.audit.entry import Caller, Entry
from authsec_server.audit.ledger import Change, Ledger
from authsec_server.db.engine import Database
from authsec_server.db.tables import issuers
from authsec_server.errors import ConflictError, InvalidRequestError, NotFoundError
from authsec_server.issuers.registry import Registry
from authsec_server.issuers.rules import Own, check_issuer, public_keys
from authsec_server.issuers.values import IssuerChanges, NewIssuer, RegisteredIssuer, issuer_of
from authsec_server.pages import Page, Paging, fetch_page
from authsec_server.tokens.withdraw import withdraw_resting_on

__all__ = ["Issuers"]

MOST_ISSUERS: Final = 256  # that were not revoked: each has keys that are kept fresh
_TOLD: Final = ("issuer", "audience", "jwks_url", "claims", "is_default", "enabled")


class Issuers:
    """Keeps the registered issuers.

    Args:
        ledger: Makes changes.
        database: For reading.
        registry: What this process remembers of them.
        own: The authority itself.
    """

    def __init__(self, ledger: Ledger, database: Database, registry: Registry, *, own: Own) -> None:
        self._ledger = ledger
        self._database = database
        self._registry = registry
        self._own = own

    async def register(self, caller: Caller, wanted: NewIssuer) -> RegisteredIssuer:
        """Trust an issuer from now on.

        Raises:
            InvalidRequestError: A member cannot be what it is to be.
            ConflictError: Another one has, or had, the name; or the same issuer is registered for the same purpose, or
                another default cluster, or too many are.
        """

        async def work(change: Change) -> RegisteredIssuer:
            made = self._made(change, caller, wanted)
            await _refuse_twins(change, made)
            await change.connection.execute(sa.insert(issuers).values(_row(made)))
            change.policy_changed()
            change.record(_entry("issuer.register", caller, made, {"kind": made.kind, **_said(made)}))
            return made

        return await self._changed(work, caller)

    async def change(self, caller: Caller, issuer_id: str, changes: IssuerChanges) -> RegisteredIssuer:
        """Change an issuer, and return what it is then. What it is already is no change, and no entry.

        Whatever is changed but that it is enabled withdraws the tokens that rest on it.

        Raises:
            NotFoundError: There is none.
            ConflictError: It was revoked; or another cluster is the default one.
            InvalidRequestError: A member cannot be what it is to be.
        """

        async def work(change: Change) -> RegisteredIssuer:
            before = await _living(change, issuer_id)
            after = _with(before, changes)
            if after == before:
                return before
            check_issuer(after, self._own)
            await _refuse_twins(change, after)
            after = replace(after, revision=before.revision + 1)
            withdrawn = await _update(change, before, after)
            old, new = _said(before), _said(after)
            different = {name: {"from": old[name], "to": new[name]} for name in new if old[name] != new[name]}
            change.record(_entry("issuer.change", caller, after, {**different, "withdrawn": withdrawn}))
            return after

        return await self._changed(work, caller)

    async def revoke(self, caller: Caller, issuer_id: str) -> RegisteredIssuer:
        """Trust an issuer never again. Of several who do it at once, one does, and the others are told.

        Raises:
            NotFoundError: There is none.
            ConflictError: It was revoked before.
        """

        async def work(change: Change) -> RegisteredIssuer:
            before = await _living(change, issuer_id)
            after = replace(before, revoked_at=change.at, revision=before.revision + 1)
            withdrawn = await _update(change, before, after)
            change.record(_entry("issuer.revoke", caller, after, {"withdrawn": withdrawn}))
            return after

        return await self._changed(work, caller)

    async def get(self, issuer_id: str) -> RegisteredIssuer:
        """Return an issuer.

        Raises:
            NotFoundError: There is none.
        """
        async with self._database.read() as connection:
            return await _find(connection, issuer_id)

    async def list(self, paging: Paging) -> Page[RegisteredIssuer]:
        """Return a page of the issuers, the oldest first; also of those that were revoked."""
        async with self._database.read() as connection:
            key = (issuers.c.created_at, issuers.c.issuer_id)
            return await fetch_page(connection, sa.select(issuers), key, paging, issuer_of)

    async def _changed(self, work: Callable[[Change], Awaitable[RegisteredIssuer]], caller: Caller) -> RegisteredIssuer:
        try:
            return await self._ledger.change(work, by=caller)
        finally:
            self._registry.forget()

    def _made(self, change: Change, caller: Caller, wanted: NewIssuer) -> RegisteredIssuer:
        made = RegisteredIssuer(
            issuer_id=f"wli_{secrets.token_hex(8)}",
            name=wanted.name,
            kind=wanted.kind,
            issuer=wanted.issuer,
            audience=self._own.issuer if wanted.audience is None else wanted.audience,
            jwks_url=wanted.jwks_url,
            jwks=wanted.jwks,
            claims=tuple(sorted(set(wanted.claims))),
            is_default=wanted.is_default,
            enabled=True,
            revision=1,
            created_at=change.at,
            created_by=caller.actor.name,
            revoked_at=None,
        )
        check_issuer(made, self._own)
        return made if made.jwks is None else replace(made, jwks=public_keys(made.jwks, made.profile))


def _with(before: RegisteredIssuer, changes: IssuerChanges) -> RegisteredIssuer:
    new = {field.name: getattr(changes, field.name) for field in fields(changes)}
    new = {name: value for name, value in new.items() if value is not None}
    if {"jwks", "jwks_url"} <= new.keys():
        raise InvalidRequestError("give either jwks_url or jwks", field="jwks_url")
    if "jwks" in new:
        new |= {"jwks": public_keys(new["jwks"], before.profile), "jwks_url": None}
    elif "jwks_url" in new:
        new["jwks"] = None
    if "claims" in new:
        new["claims"] = tuple(sorted(set(new["claims"])))
    return replace(before, **new)


async def _find(connection: AsyncConnection, issuer_id: str) -> RegisteredIssuer:
    row = (await connection.execute(sa.select(issuers).where(issuers.c.issuer_id == issuer_id))).one_or_none()
    if row is None:
        raise NotFoundError("there is no such issuer")
    return issuer_of(row)


async def _living(change: Change, issuer_id: str) -> RegisteredIssuer:
    issuer = await _find(change.connection, issuer_id)
    if issuer.revoked_at is not None:
        raise ConflictError("the issuer was revoked, which is final: register another one")
    return issuer


async def _refuse_twins(change: Change, issuer: RegisteredIssuer) -> None:
    """Refuse a second one where there can be one only: each token has to lead to one issuer, and each name to one."""
    rows = (await change.connection.execute(sa.select(issuers).where(issuers.c.issuer_id != issuer.issuer_id))).all()
    others = [issuer_of(row) for row in rows]
    if any(other.name == issuer.name for other in others):
        # Also of one that was revoked: agents may still name it as their cluster.
        raise ConflictError("another issuer has, or had, this name: choose one of its own")
    living = [other for other in others if other.revoked_at is None]
    if any((other.issuer, other.is_for_users) == (issuer.issuer, issuer.is_for_users) for other in living):
        raise ConflictError("this issuer is registered already for the same purpose: change that, or revoke it first")
    if any((other.issuer, other.audience) == (issuer.issuer, issuer.audience) for other in living):
        raise ConflictError("the same token would prove a workload and a user: choose another audience for one of them")
    if issuer.is_default and any(other.is_default for other in living):
        raise ConflictError("another cluster is the default one: take that from it first")
    if len(living) >= MOST_ISSUERS:
        raise ConflictError(f"{MOST_ISSUERS} issuers are registered: revoke one first")


async def _update(change: Change, before: RegisteredIssuer, after: RegisteredIssuer) -> int:
    """Store an issuer, and return how many of the tokens that rest on it that revoked."""
    row = _row(after)
    await change.connection.execute(sa.update(issuers).where(issuers.c.issuer_id == after.issuer_id).values(row))
    change.policy_changed()
    is_only_enabled = replace(before, enabled=True, revision=after.revision) == after
    return 0 if is_only_enabled else await withdraw_resting_on(change, after.issuer_id)


def _row(issuer: RegisteredIssuer) -> dict[str, Any]:
    row = {field.name: getattr(issuer, field.name) for field in fields(issuer)}
    return {**row, "claims": list(issuer.claims)}


def _said(issuer: RegisteredIssuer) -> dict[str, Any]:
    """Return what an entry says of an issuer: of its keys the names, and which they are the revision tells."""
    row = _row(issuer)
    keys = None if issuer.jwks is None else [jwk["kid"] for jwk in issuer.jwks["keys"]]
    return {**{name: row[name] for name in _TOLD}, "keys": keys}


def _entry(action: str, caller: Caller, issuer: RegisteredIssuer, details: dict[str, Any]) -> Entry:
    named = {"issuer_id": issuer.issuer_id, "name": issuer.name, "revision": issuer.revision}
    return Entry(action=action, decision="allow", caller=caller, details={**named, **details})
