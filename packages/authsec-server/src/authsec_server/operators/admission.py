"""Is this request an operator's, and may they do this? Whatever is not proven and allowed is refused.

What is refused to somebody who is known goes into the audit: a role that does not suffice, a token that was good once,
and a wrong secret for a token that exists. What a stranger tries, with no token or an invented one, is a line of the
log and no more: else anyone could fill the audit. One who knows a token's id, which is no secret, is no stranger.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from authsec_core._clock import Clock
from authsec_server import credentials
from authsec_server.audit.entry import ANONYMOUS, Actor, Caller, Entry
from authsec_server.audit.ledger import Ledger
from authsec_server.audit.questions import Settled
from authsec_server.credentials import Credential, Pepper
from authsec_server.db.engine import Database
from authsec_server.db.tables import operator_tokens, operators
from authsec_server.errors import ForbiddenError, UnauthenticatedError
from authsec_server.limits.service import Limits
from authsec_server.operators.access import Access, allows

__all__ = ["Admission", "recheck"]

_log = logging.getLogger("authsec.server.operators")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """What is asked for, and from where."""

    request_id: str
    address: str | None
    needs: Access
    path: str

    def by(self, actor: Actor, token_id: str | None = None) -> Caller:
        return Caller(
            actor=actor, request_id=self.request_id, address=self.address, token_id=token_id, needs=self.needs
        )


class Admission:
    """Lets operators in. See `Operators.admit`."""

    def __init__(
        self, ledger: Ledger, database: Database, *, pepper: Pepper, clock: Clock, limits: Limits | None = None
    ) -> None:
        self._ledger = ledger
        self._database = database
        self._pepper = pepper
        self._clock = clock
        self._limits = limits or Limits(clock=clock)
        # What a header without a token is taken for, so that it costs what a wrong one does.
        self._nobodys = credentials.generate("operator-token")

    async def admit(
        self, authorization: str | None, needs: Access, *, request_id: str, address: str | None, path: str
    ) -> Caller:
        """Return who asks, if their token is good and their role allows it.

        An unknown token costs the same as a known one: a query and an HMAC.

        Raises:
            UnauthenticatedError: The token is missing, wrong, ended or revoked, or its operator is disabled.
            ForbiddenError: The operator's role does not include it.
            RateLimitedError: Too much was refused at this address: it has to wait.
            StorageUnavailableError: The database cannot be reached, or the refusal could not be put into the audit.
        """
        self._limits.enter(address)
        try:
            return await self._admitted(
                authorization, _Asked(request_id=request_id, address=address, needs=needs, path=path)
            )
        except UnauthenticatedError:
            self._limits.refused(address)
            raise

    async def _admitted(self, authorization: str | None, asked: _Asked) -> Caller:
        credential = _bearer(authorization)
        presented = credential or self._nobodys
        row = await self._row(presented.id)
        given = credentials.mac(self._pepper, "operator-token", presented)
        proven = credentials.matches(None if row is None else bytes(row.mac), given)
        if row is None or credential is None:
            _log.warning(
                "an operator's token is missing or unknown", extra={"path": asked.path, "address": asked.address}
            )
            raise _unauthenticated()
        if not proven:
            await self._deny(asked.by(ANONYMOUS), asked, row, "token_wrong")
            raise _unauthenticated()
        caller = asked.by(Actor(kind="operator", id=row.operator_id, name=row.name), row.token_id)
        ended = _why_ended(row, self._clock.wall())
        if ended is not None:
            await self._deny(caller, asked, row, ended)
            raise _unauthenticated()
        if not allows(row.role, asked.needs):
            await self._deny(caller, asked, row, "role")
            raise ForbiddenError(f"the role {row.role} does not include this: ask an operator who may {asked.needs}")
        return caller

    async def _row(self, token_id: str) -> Any:
        async with self._database.read() as connection:
            return await _find(connection, token_id)

    async def _deny(self, caller: Caller, asked: _Asked, row: Any, reason: str) -> None:
        await self._ledger.judge(
            Settled(
                Entry(
                    action="operator.denied",
                    decision="deny",
                    caller=caller,
                    reason=reason,
                    details={"token_id": row.token_id, "needs": asked.needs, "path": asked.path},
                )
            )
        )


async def recheck(connection: AsyncConnection, caller: Caller, now: float) -> None:
    """See that an operator who was let in may still do it, now that it is about to be done.

    Raises:
        UnauthenticatedError: Their token or they themselves have ended in the meantime.
        ForbiddenError: Their role has become another.
    """
    if caller.token_id is None:
        return  # no operator: the authority itself, or its command line
    row = await _find(connection, caller.token_id)
    if row is None or _why_ended(row, now) is not None:
        raise _unauthenticated()
    if caller.needs is None or not allows(row.role, caller.needs):
        raise ForbiddenError(f"the role {row.role} does not include this any more")


async def _find(connection: AsyncConnection, token_id: str) -> Any:
    query = (
        sa.select(operator_tokens, operators.c.name, operators.c.role, operators.c.enabled)
        .join(operators, operators.c.operator_id == operator_tokens.c.operator_id)
        .where(operator_tokens.c.token_id == token_id)
    )
    return (await connection.execute(query)).one_or_none()


def _bearer(authorization: str | None) -> Credential | None:
    """Return the credential of a header (RFC 6750 section 2.1), if there is one.

    One of another kind finds no row, and its HMAC would be another.
    """
    scheme, _, text = (authorization or "").partition(" ")
    return credentials.parse(text.lstrip(" ")) if scheme.lower() == "bearer" else None


def _why_ended(row: Any, now: float) -> str | None:
    if row.revoked_at is not None:
        return "token_revoked"
    if row.not_after is not None and now >= row.not_after:
        return "token_ended"
    return None if row.enabled else "operator_disabled"


def _unauthenticated() -> UnauthenticatedError:
    # One text for all cases: which of them it is, is for those who read the audit.
    return UnauthenticatedError(
        "an operator's token is needed, and none that is good was sent: Authorization: Bearer …"
    )
