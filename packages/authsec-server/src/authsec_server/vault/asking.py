"""How a request becomes an answer: whose credential it is, limits, and the ledger. Knows no HTTP.

Whatever is disclosed or refused is durable in the audit before anyone hears of it.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final, TypeVar

import sqlalchemy as sa

from authsec_server.audit.ledger import Change, Ledger
from authsec_server.credentials import Credential, Pepper
from authsec_server.db.engine import Database
from authsec_server.db.tables import client_keys, vault_tokens
from authsec_server.errors import RefusedError
from authsec_server.limits.service import Limits
from authsec_server.vault.policy import Holder, Presented
from authsec_server.vault.questions import VaultQuestion, VaultRequest, WhoAsks

__all__ = ["Asker", "Asking", "Owner"]

_MOST_REMEMBERED: Final = 10_000  # credentials
_log = logging.getLogger("authsec.server")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Owner:
    """What never changes of a credential, so that it can be remembered.

    Attributes:
        is_counted: Whether each use has to be counted.
    """

    client_id: str
    is_counted: bool


Asker = tuple[VaultRequest, Owner | None]
"""Who asks, unproven as yet, and what is known of the credential."""


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

    async def presented(self, credential: Credential, address: str | None) -> tuple[Presented, Owner | None]:
        """Return the credential with whose it is said to be. Costs a query where it was not seen before.

        Raises:
            RateLimitedError: This address, or whoever owns the credential, has to wait.
            StorageUnavailableError: The database cannot be reached.
        """
        self._limits.enter(address)
        owner = self._owners.get(credential.id) or await self._found(credential)
        client_id = None if owner is None else owner.client_id
        if client_id is not None:
            self._limits.enter(address, client_id)
        return Presented(credential=credential, client_id=client_id, address=address), owner

    async def prove(self, request: VaultRequest) -> Holder:
        """Return who asks, if the credential is good.

        Raises:
            RefusedError: It is not; that is in the audit.
            StorageUnavailableError: It could not be found out.
        """
        return await self.settle(WhoAsks(request, self.pepper), request.presented.address)

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

    async def _found(self, credential: Credential) -> Owner | None:
        async with self._database.read() as connection:
            if credential.kind == "vault-token":
                query = sa.select(vault_tokens.c.client_id, vault_tokens.c.max_uses)
                row = (await connection.execute(query.where(vault_tokens.c.token_id == credential.id))).one_or_none()
                owner = None if row is None else Owner(row.client_id, row.max_uses is not None)
            else:
                key = sa.select(client_keys.c.client_id).where(client_keys.c.key_id == credential.id)
                found = (await connection.execute(key)).scalar_one_or_none()
                owner = None if found is None else Owner(found, is_counted=False)
        if owner is None:
            _log.warning("an unknown credential was shown to the vault")
            return None
        if len(self._owners) >= _MOST_REMEMBERED:
            self._owners.clear()
        self._owners[credential.id] = owner
        return owner
