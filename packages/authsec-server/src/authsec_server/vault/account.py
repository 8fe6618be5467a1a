"""What a caller of the vault may know of itself: its name, and how much it may read."""

from __future__ import annotations

from dataclasses import dataclass

import sqlalchemy as sa

from authsec_server.db.engine import Database
from authsec_server.db.tables import secrets
from authsec_server.vault.asking import Asking
from authsec_server.vault.questions import VaultRequest
from authsec_server.vault.reach import seen_by

__all__ = ["Account", "Accounts"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """Whose credential it is, and how many secrets it can read."""

    name: str
    secrets: int


class Accounts:
    """Tells callers of the vault about themselves."""

    def __init__(self, asking: Asking, database: Database) -> None:
        self._asking = asking
        self._database = database

    async def of(self, request: VaultRequest) -> Account:
        """Return what the caller may know. It uses up nothing of a token, and only a refusal is on record.

        Raises:
            RefusedError: The credential is not good.
            StorageUnavailableError: The database cannot be reached.
        """
        holder = await self._asking.prove(request)
        query = sa.select(sa.func.count()).select_from(secrets).where(seen_by(holder))
        async with self._database.read() as connection:
            count: int = (await connection.execute(query)).scalar_one()
        return Account(name=holder.client.name, secrets=count)
