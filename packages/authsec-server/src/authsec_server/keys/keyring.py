"""What a process holds of the signing keys: the private halves, unsealed, as they were at most a second ago.

A key signs or is published only if its sealed private half opens with the master key and is the one that its row speaks
of: whoever can write to the database, and has no master key, cannot smuggle a key in. What cannot be read or unsealed
is an error and never a reason to make a new key; making keys is for `service`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncConnection

from authsec_core._clock import Clock
from authsec_core._signing import SigningKey
from authsec_server.db.engine import Database
from authsec_server.errors import StorageUnavailableError
from authsec_server.keys import store
from authsec_server.keys.keypair import open_key
from authsec_server.keys.masterkeys import MasterKeys
from authsec_server.keys.rotation import KeyRow, active
from authsec_server.keys.signers import Signers
from authsec_server.telemetry.observer import UNOBSERVED, Observer
from authsec_server.telemetry.tracing import step

__all__ = ["ActiveKey", "Keyring", "OpenKeys"]

_FRESH: Final = 1.0  # seconds for which what was read serves
_THREADS: Final = 2  # signing releases the GIL; more did not help


class OpenKeys:
    """The signing keys at one moment. Immutable.

    Attributes:
        rows: All of them, also those that were revoked.
    """

    def __init__(self, rows: Iterable[KeyRow], opened: Mapping[str, SigningKey]) -> None:
        self.rows: Final = tuple(rows)
        self._opened: Final = opened

    @classmethod
    async def read(
        cls, connection: AsyncConnection, masters: MasterKeys, tenant: str, known: OpenKeys | None = None
    ) -> OpenKeys:
        """Read them. One query; keys that are revoked stay closed, and those that `known` has opened are taken over.

        Raises:
            UnsealError: One of them is not what was sealed, or was sealed with a master key that is not there.
        """
        stored = await store.read(connection)
        before = known._opened if known is not None else {}
        opened = {
            kid: before.get(kid) or open_key(masters, tenant, key)
            for kid, key in stored.items()
            if key.row.state != "revoked"
        }
        return cls((key.row for key in stored.values()), opened)

    def get(self, kid: str) -> SigningKey | None:
        """Return a key that was not revoked."""
        return self._opened.get(kid)

    @property
    def active(self) -> SigningKey | None:
        """The key that signs."""
        row = active(self.rows)
        return None if row is None else self._opened[row.kid]


class Keyring:
    """The signing keys of this process. For one event loop.

    Args:
        masters: What they were sealed with.
        tenant_id: Whose keys they are.
        clock: Tells how old they are.
        observer: Is told how long signatures take.
    """

    def __init__(
        self,
        database: Database,
        masters: MasterKeys,
        *,
        tenant_id: str,
        clock: Clock,
        observer: Observer = UNOBSERVED,
    ) -> None:
        self._database = database
        self._masters = masters
        self._tenant = tenant_id
        self._clock = clock
        self._observer = observer
        self._held: tuple[float, OpenKeys] | None = None  # when it was asked for, by the steady clock
        self._known: OpenKeys | None = None  # of any age: what it has opened need not be opened again
        self._reading: asyncio.Task[OpenKeys] | None = None
        self._signers = Signers(_THREADS)

    def close(self) -> None:
        """Let the signing threads end."""
        self._signers.close()

    async def read(self) -> OpenKeys:
        """Return the keys as they were within the last second, on whichever replica they changed.

        Raises:
            StorageUnavailableError: The database does not answer.
            UnsealError: A key is not what was sealed, or was sealed with a master key that is not there.
        """
        if self._held is not None and 0 <= self._clock.steady() - self._held[0] < _FRESH:
            return self._held[1]
        if self._reading is None:
            self._reading = asyncio.create_task(self._read(), name="authsec-keyring")
        return await asyncio.shield(self._reading)  # one caller that is cancelled must not fail the others

    def forget(self) -> None:
        """Read again when somebody asks: something was changed, or may have been."""
        self._held = self._reading = None

    async def sign(self, kid: str, header: Mapping[str, object], claims: Mapping[str, object]) -> str:
        """Sign, on a thread, with the key that a transaction has just named as the active one.

        Raises:
            StorageUnavailableError: It was withdrawn in the meantime, or the database does not answer.
            UnsealError: As in `read`.
        """
        key = self._known.get(kid) if self._known is not None else None
        if key is None:
            self.forget()
            key = (await self.read()).get(kid)
        if key is None:
            raise StorageUnavailableError("the signing key was withdrawn at this very moment: try again")
        return await self._sign(key, header, claims)

    async def has_active(self) -> bool:
        """Return whether tokens can be signed.

        Raises:
            StorageUnavailableError, UnsealError: As in `read`.
        """
        return (await self.read()).active is not None

    def active(self) -> ActiveKey:
        """Return a handle on whichever key is active when it is used."""
        return ActiveKey(self)

    async def _sign(self, key: SigningKey, header: Mapping[str, object], claims: Mapping[str, object]) -> str:
        started_at = self._clock.steady()
        with step("authsec.sign"):
            signed = await self._signers.sign(key, header, claims)
        self._observer.signed(self._clock.steady() - started_at)
        return signed

    async def _read(self) -> OpenKeys:
        mine, asked_at = asyncio.current_task(), self._clock.steady()
        try:
            async with self._database.read() as connection:
                keys = await OpenKeys.read(connection, self._masters, self._tenant, self._known)
            if self._reading is mine:  # else something was changed while it was read
                self._held, self._known = (asked_at, keys), keys
            return keys
        finally:
            if self._reading is mine:
                self._reading = None


class ActiveKey:
    """Whichever key is active at the moment of use. Call it for the key itself."""

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring

    async def __call__(self) -> SigningKey:
        """Return the key that is active now.

        Raises:
            StorageUnavailableError: There is none yet, or the database does not answer.
            UnsealError: As in `Keyring.read`.
        """
        key = (await self._keyring.read()).active
        if key is None:
            raise StorageUnavailableError("no signing key is active: run authsec-server rotate-keys")
        return key

    async def sign(self, typ: str, claims: Mapping[str, Any]) -> str:
        """Return a compact JWS of this type, signed on a thread.

        Raises:
            StorageUnavailableError, UnsealError: As when it is called.
        """
        key = await self()
        return await self._keyring._sign(key, {"alg": "RS256", "typ": typ, "kid": key.kid}, claims)
