"""How a request becomes an answer: whose credential it is, limits, and the ledger. Knows no HTTP.

Whatever is disclosed or refused is durable in the audit before anyone hears of it. A stranger is refused before a thing
of the request is read: an id was looked up for them, and the refusal is recorded with others.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final, NoReturn, TypeVar

import sqlalchemy as sa

from authsec_server.audit.ledger import Change, Ledger
from authsec_server.credentials import Credential, Pepper, matches
from authsec_server.db.engine import Database
from authsec_server.db.tables import client_keys, vault_tokens
from authsec_server.errors import RefusedError
from authsec_server.limits.service import Limits
from authsec_server.vault.policy import Holder, Presented, unproven
from authsec_server.vault.questions import VaultQuestion, VaultRequest, WhoAsks

__all__ = ["Asker", "Asking", "Owner"]

_MOST_REMEMBERED: Final = 10_000  # credentials
_log = logging.getLogger("authsec.server")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Owner:
    """What never changes of a credential, so that it can be remembered. Whether it still counts is asked each time.

    Attributes:
        mac: HMAC-SHA-256 of the credential under the server's pepper.
        is_counted: Whether each use has to be counted.
    """

    client_id: str
    mac: bytes = field(repr=False)
    is_counted: bool


Asker = tuple[VaultRequest, Owner]
"""Who asks, with a credential that was issued and may have ended since, and what is known of that."""


class Asking:
    """Settles what is asked of the vault. For one event loop.

    Attributes:
        pepper: Under which credentials are kept.
    """

    def __init__(self, ledger: Ledger, database: Database, *, pepper: Pepper, limits: Limits) -> None:
        self.pepper: Final = pepper
        self._ledger = ledger
        self._database = database
        self._limits = limits
        self._owners: dict[str, Owner] = {}

    async def presented(self, credential: Credential, address: str | None, request_id: str) -> tuple[Presented, Owner]:
        """Return whose credential it is. Costs a query where it was not seen before.

        Whether it still counts is for the question that is settled with it.

        Raises:
            RefusedError: It was never issued; that is in the audit.
            RateLimitedError: This address, or whoever owns the credential, has to wait.
            StorageUnavailableError: The database cannot be reached.
        """
        self._limits.enter(address)
        owner = self._owners.get(credential.id) or await self._found(credential)
        client_id, kept = (None, None) if owner is None else (owner.client_id, owner.mac)
        presented = Presented.of(credential, self.pepper, client_id=client_id, address=address)
        if not matches(kept, presented.mac) or owner is None:
            await self._refuse(VaultRequest(presented=presented, request_id=request_id), address)
        self._limits.enter(address, owner.client_id)
        return presented, owner

    def charge(self, owner: Owner, times: int) -> None:
        """Let who asks pay so many times more, for a request that is as much work as others are together."""
        for _ in range(times):
            self._limits.proven(owner.client_id)

    async def prove(self, request: VaultRequest) -> Holder:
        """Return who asks, if the credential is good.

        Raises:
            RefusedError: It is not; that is in the audit.
            StorageUnavailableError: It could not be found out.
        """
        return await self.settle(WhoAsks(request), request.presented.address)

    async def settle(self, question: VaultQuestion[T], address: str | None) -> T:
        """Return the answer, which was decided together with those of others.

        Raises:
            RefusedError: It is no; the refusal is in the audit.
            StorageUnavailableError: It could not be recorded, so that nothing is disclosed.
        """
        return self._told(await self._ledger.judge(question), question, address)

    async def change(
        self, question: VaultQuestion[T], address: str | None, work: Callable[[Change, T], Awaitable[T]]
    ) -> T:
        """Decide, and then do `work` in the same transaction: to write something, or to count a use.

        What `work` raises undoes everything, the entry of the decision included.

        Raises:
            RefusedError: It is no; the refusal is in the audit, and nothing was done.
            StorageUnavailableError: It could not be recorded. Nothing was done.
        """

        async def transaction(change: Change) -> T | RefusedError:
            outcome = await change.judge(question)
            return outcome if isinstance(outcome, RefusedError) else await work(change, outcome)

        return self._told(await self._ledger.change(transaction), question, address)

    def _told(self, outcome: T | RefusedError, question: VaultQuestion[T], address: str | None) -> T:
        self._limits.judged(outcome, address=address, client_id=question.client_id or "")
        if isinstance(outcome, RefusedError):
            raise outcome
        return outcome

    async def _refuse(self, stranger: VaultRequest, address: str | None) -> NoReturn:
        # Charged before anything is waited for: else a crowd of strangers comes in before the first of them has paid.
        self._limits.enter(address)
        self._limits.refused(address)
        outcome = await self._ledger.judge(WhoAsks(stranger))
        raise outcome if isinstance(outcome, RefusedError) else unproven()

    async def _found(self, credential: Credential) -> Owner | None:
        async with self._database.read() as connection:
            if credential.kind == "vault-token":
                query = sa.select(vault_tokens.c.client_id, vault_tokens.c.mac, vault_tokens.c.max_uses)
                query = query.where(vault_tokens.c.token_id == credential.id)
            else:
                query = sa.select(client_keys.c.client_id, client_keys.c.mac, sa.null().label("max_uses"))
                query = query.where(client_keys.c.key_id == credential.id, client_keys.c.mac.is_not(None))
            row = (await connection.execute(query)).one_or_none()
        if row is None:
            _log.warning("an unknown credential was shown to the vault")
            return None
        owner = Owner(row.client_id, bytes(row.mac), row.max_uses is not None)
        if len(self._owners) >= _MOST_REMEMBERED:
            self._owners.clear()
        self._owners[credential.id] = owner
        return owner
