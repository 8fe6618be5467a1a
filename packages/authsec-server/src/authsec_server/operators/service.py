"""Operators: who runs the authority, and by which tokens they prove it. Each change is one entry of the audit.

At least one admin can always sign in: what would end that is refused. Whether a request's token is good is for
`operators.admission`, what a role allows for `operators.access`.
"""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from authsec_core._clock import Clock
from authsec_server import checks, credentials
from authsec_server.audit.entry import Caller, Entry
from authsec_server.audit.ledger import Change, Ledger
from authsec_server.credentials import Credential, Pepper
from authsec_server.db.engine import Database
from authsec_server.db.tables import operator_tokens, operators
from authsec_server.errors import ConflictError, InvalidRequestError, NotFoundError
from authsec_server.limits.service import Limits
from authsec_server.operators.access import OPERATOR_ROLES, Access, OperatorRole, allows
from authsec_server.operators.admission import Admission
from authsec_server.operators.values import Operator, OperatorToken, operator_of, token_of
from authsec_server.pages import Page, Paging, fetch_page
from authsec_server.vault.approvals import end_consents

__all__ = ["Operators"]

MOST_TOKENS: Final = 10  # of one operator that are good at the same time
_GRANTED: Final = "granted on the authority's host"


class Operators:
    """Keeps the operators, and lets them in.

    Args:
        ledger: Makes changes.
        database: For reading.
        pepper: Under which operator tokens are kept.
        clock: Says which tokens have ended.
        limits: How often an address may be refused; by default, always.
    """

    def __init__(
        self, ledger: Ledger, database: Database, *, pepper: Pepper, clock: Clock, limits: Limits | None = None
    ) -> None:
        self._ledger = ledger
        self._database = database
        self._pepper = pepper
        self._admission = Admission(ledger, database, pepper=pepper, clock=clock, limits=limits)

    async def admit(
        self, authorization: str | None, needs: Access, *, request_id: str, address: str | None, path: str
    ) -> Caller:
        """Return who asks, if their token is good and their role allows it.

        Args:
            authorization: The one header of this name.
            path: What is asked for, for the audit.

        Raises:
            UnauthenticatedError: The token is missing, wrong, ended or revoked, or its operator is disabled.
            ForbiddenError: The operator's role does not include it.
            RateLimitedError: Too much was refused at this address: it has to wait.
            StorageUnavailableError: The database cannot be reached.
        """
        return await self._admission.admit(authorization, needs, request_id=request_id, address=address, path=path)

    async def create(self, caller: Caller, *, name: str, role: OperatorRole) -> Operator:
        """Name an operator, who has no token yet.

        Raises:
            InvalidRequestError: The name or the role cannot be one.
            ConflictError: Another operator has, or had, the name.
        """

        async def work(change: Change) -> Operator:
            return await _create(change, caller, name, role)

        return await self._ledger.change(work, by=caller)

    async def update(
        self, caller: Caller, operator_id: str, *, role: OperatorRole | None = None, enabled: bool | None = None
    ) -> Operator:
        """Give an operator another role, disable them, or let them in again. What they are already is no change.

        Who may not approve any more has not approved either, as far as nothing has come of it yet.

        Raises:
            NotFoundError: There is none.
            InvalidRequestError: There is no such role.
            ConflictError: No admin could sign in any more.
        """

        async def work(change: Change) -> Operator:
            return await _update(change, caller, operator_id, role=role, enabled=enabled)

        return await self._ledger.change(work, by=caller)

    async def get(self, operator_id: str) -> Operator:
        """Return an operator.

        Raises:
            NotFoundError: There is none.
        """
        async with self._database.read() as connection:
            return await _find(connection, operator_id)

    async def list(self, paging: Paging) -> Page[Operator]:
        """Return a page of the operators, the oldest first."""
        async with self._database.read() as connection:
            key = (operators.c.created_at, operators.c.operator_id)
            return await fetch_page(connection, sa.select(operators), key, paging, operator_of)

    async def create_token(
        self, caller: Caller, operator_id: str, *, label: str = "", not_after: float | None = None
    ) -> tuple[OperatorToken, Credential]:
        """Give an operator a token, which is shown this once.

        Args:
            not_after: When it ends by itself; epoch seconds.

        Raises:
            NotFoundError: There is no such operator.
            InvalidRequestError: The label cannot be one, or the end has passed.
            ConflictError: The operator has too many tokens.
        """
        checks.label(label)

        async def work(change: Change) -> tuple[OperatorToken, Credential]:
            operator = await _find(change.connection, operator_id)
            ends_at = checks.future(not_after, now=change.at)
            return await self._new_token(change, caller, operator, label, ends_at)

        return await self._ledger.change(work, by=caller)

    async def revoke_token(self, caller: Caller, operator_id: str, token_id: str) -> OperatorToken:
        """End a token for good. Of several who do it at once, one does, and the others are told.

        Raises:
            NotFoundError: The operator has no such token.
            ConflictError: It was revoked before, or no admin could sign in any more.
        """

        async def work(change: Change) -> OperatorToken:
            operator = await _find(change.connection, operator_id)
            token = await _find_token(change, operator_id, token_id)
            if token.revoked_at is not None:
                raise ConflictError("the token was revoked before")
            await change.connection.execute(
                sa.update(operator_tokens).where(operator_tokens.c.token_id == token_id).values(revoked_at=change.at)
            )
            await _refuse_lockout(change, operator)
            change.record(_entry("operator_token.revoke", caller, operator, {"token_id": token_id}))
            return replace(token, revoked_at=change.at)

        return await self._ledger.change(work, by=caller)

    async def list_tokens(self, operator_id: str, paging: Paging) -> Page[OperatorToken]:
        """Return a page of an operator's tokens, the oldest first.

        Raises:
            NotFoundError: There is no such operator.
        """
        query = sa.select(operator_tokens).where(operator_tokens.c.operator_id == operator_id)
        key = (operator_tokens.c.created_at, operator_tokens.c.token_id)
        async with self._database.read() as connection:
            await _find(connection, operator_id)
            return await fetch_page(connection, query, key, paging, token_of)

    async def grant_admin(self, caller: Caller, name: str) -> Credential:
        """Make sure that an operator of this name is an admin who can sign in, and return a new token for them.

        For whoever has the authority's host: the first admin, and the way back in.

        Raises:
            InvalidRequestError: The name cannot be one.
            ConflictError: The operator has too many tokens.
        """

        async def work(change: Change) -> Credential:
            query = sa.select(operators).where(operators.c.name == name)
            row = (await change.connection.execute(query)).one_or_none()
            if row is None:
                operator = await _create(change, caller, name, "admin")
            else:
                operator = await _update(change, caller, row.operator_id, role="admin", enabled=True)
            _, credential = await self._new_token(change, caller, operator, _GRANTED, None)
            return credential

        checks.name(name)  # before it is looked for: not every text can be
        return await self._ledger.change(work, by=caller)

    async def _new_token(
        self, change: Change, caller: Caller, operator: Operator, label: str, not_after: float | None
    ) -> tuple[OperatorToken, Credential]:
        await _refuse_too_many(change, operator.operator_id)
        credential = credentials.generate("operator-token")
        token = OperatorToken(
            token_id=credential.id,
            operator_id=operator.operator_id,
            label=label,
            created_at=change.at,
            not_after=not_after,
            revoked_at=None,
        )
        await change.connection.execute(
            sa.insert(operator_tokens).values(
                token_id=token.token_id,
                operator_id=token.operator_id,
                label=label,
                mac=credentials.mac(self._pepper, "operator-token", credential),
                created_at=token.created_at,
                created_by=caller.actor.name if caller.actor.kind == "operator" else "",
                not_after=not_after,
            )
        )
        details = {"token_id": token.token_id, "label": label, "not_after": not_after}
        change.record(_entry("operator_token.create", caller, operator, details))
        return token, credential


async def _find(connection: AsyncConnection, operator_id: str) -> Operator:
    query = sa.select(operators).where(operators.c.operator_id == operator_id)
    row = (await connection.execute(query)).one_or_none()
    if row is None:
        raise NotFoundError("there is no such operator")
    return operator_of(row)


async def _find_token(change: Change, operator_id: str, token_id: str) -> OperatorToken:
    query = sa.select(operator_tokens).where(
        operator_tokens.c.token_id == token_id, operator_tokens.c.operator_id == operator_id
    )
    row = (await change.connection.execute(query)).one_or_none()
    if row is None:
        raise NotFoundError("the operator has no such token")
    return token_of(row)


async def _create(change: Change, caller: Caller, name: str, role: OperatorRole) -> Operator:
    checks.name(name)
    _check_role(role)
    taken = await change.connection.execute(sa.select(operators.c.operator_id).where(operators.c.name == name))
    if taken.first() is not None:
        raise ConflictError("another operator has this name: choose one of their own")
    operator = Operator(operator_id=str(uuid.uuid4()), name=name, role=role, enabled=True, created_at=change.at)
    await change.connection.execute(
        sa.insert(operators).values(
            operator_id=operator.operator_id, name=name, role=role, enabled=True, created_at=change.at
        )
    )
    change.record(_entry("operator.create", caller, operator, {"role": role}))
    return operator


async def _update(
    change: Change, caller: Caller, operator_id: str, *, role: OperatorRole | None, enabled: bool | None
) -> Operator:
    before = await _find(change.connection, operator_id)
    after = replace(
        before,
        role=before.role if role is None else _check_role(role),
        enabled=before.enabled if enabled is None else enabled,
    )
    if after == before:
        return before
    await change.connection.execute(
        sa.update(operators)
        .where(operators.c.operator_id == operator_id)
        .values(role=after.role, enabled=after.enabled)
    )
    await _refuse_lockout(change, before)
    details: dict[str, Any] = {
        name: {"from": getattr(before, name), "to": getattr(after, name)}
        for name in ("role", "enabled")
        if getattr(before, name) != getattr(after, name)
    }
    may_approve = after.enabled and allows(after.role, "manage")
    if not may_approve and (ended := await end_consents(change.connection, operator_id)):
        details["consents_ended"] = ended
    change.record(_entry("operator.update", caller, after, details))
    return after


async def _refuse_lockout(change: Change, operator: Operator) -> None:
    """Refuse a change to this admin, which was made just now, if no admin has a token that works any more."""
    if operator.role != "admin" or not operator.enabled:
        return
    able = (
        sa.select(operators.c.operator_id)
        .join(operator_tokens, operator_tokens.c.operator_id == operators.c.operator_id)
        .where(operators.c.role == "admin", operators.c.enabled, _good(change.at))
        .limit(1)
    )
    if (await change.connection.execute(able)).first() is None:
        raise ConflictError("no admin could sign in any more: make another one first, with a token")


async def _refuse_too_many(change: Change, operator_id: str) -> None:
    good = sa.select(sa.func.count()).where(operator_tokens.c.operator_id == operator_id, _good(change.at))
    if (await change.connection.execute(good)).scalar_one() >= MOST_TOKENS:
        raise ConflictError(f"the operator has {MOST_TOKENS} tokens: revoke one first")


def _good(at: float) -> sa.ColumnElement[bool]:
    return sa.and_(
        operator_tokens.c.revoked_at.is_(None),
        sa.or_(operator_tokens.c.not_after.is_(None), operator_tokens.c.not_after > at),
    )


def _check_role(role: OperatorRole) -> OperatorRole:
    if role not in OPERATOR_ROLES:
        raise InvalidRequestError(f"role must be one of {', '.join(OPERATOR_ROLES)}", field="role")
    return role


def _entry(action: str, caller: Caller, operator: Operator, details: dict[str, Any]) -> Entry:
    return Entry(
        action=action,
        decision="allow",
        caller=caller,
        details={"operator_id": operator.operator_id, "operator": operator.name, **details},
    )
