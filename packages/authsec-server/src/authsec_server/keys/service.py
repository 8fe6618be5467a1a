"""The signing keys of all replicas: prepared, activated, retired and revoked by command and on a schedule.

Each change is one transaction of the ledger, which decides who is first; a key is made before it, on a thread, for that
takes a while. Which change is due, and what is published, is for `rotation`; what a change does, for `changes`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final, TypeVar

import sqlalchemy as sa

from authsec_core._clock import Clock
from authsec_server.audit.entry import Caller
from authsec_server.audit.ledger import Change, Ledger
from authsec_server.db.engine import Database
from authsec_server.db.tables import signing_keys
from authsec_server.keys import store
from authsec_server.keys.changes import KeyChange
from authsec_server.keys.keypair import make_key
from authsec_server.keys.keyring import Keyring
from authsec_server.keys.masterkeys import MasterKeys
from authsec_server.keys.rotation import KeyRow, Prepare, Step, Timing, due, published
from authsec_server.keys.store import StoredKey
from authsec_server.pages import Page, Paging, fetch_page

__all__ = ["KEY_SIZES", "SigningKeys"]

KEY_SIZES: Final = (2048, 3072, 4096)  # bits
_MOST_STEPS: Final = 4  # in one run of the schedule

T = TypeVar("T")


class SigningKeys:
    """The signing keys. For one event loop.

    Args:
        masters: What they are sealed with.
        keyring: What this process holds of them.
        tenant_id: Whose keys they are.
        bits: The size of keys that are made, one of `KEY_SIZES`.
    """

    def __init__(
        self,
        ledger: Ledger,
        database: Database,
        *,
        masters: MasterKeys,
        keyring: Keyring,
        timing: Timing,
        tenant_id: str,
        clock: Clock,
        bits: int = 2048,
    ) -> None:
        if bits not in KEY_SIZES:
            raise ValueError(f"a signing key has {', '.join(map(str, KEY_SIZES))} bits")
        self.timing: Final = timing
        self._ledger = ledger
        self._database = database
        self._masters = masters
        self._keyring = keyring
        self._tenant = tenant_id
        self._clock = clock
        self._bits = bits

    async def jwks(self) -> dict[str, Any]:
        """Return the public keys as they were within the last second, as a JWK set (RFC 7517 section 5).

        Raises:
            StorageUnavailableError: The database does not answer: an older set is never passed off as new.
            UnsealError: A key is not what was sealed, or was sealed with a master key that is not there.
        """
        keys = await self._keyring.read()
        shown = (keys.get(row.kid) for row in published(keys.rows, self._clock.wall(), self.timing))
        return {"keys": [dict(key.jwk) for key in shown if key is not None]}

    async def list(self) -> tuple[KeyRow, ...]:
        """Return all keys, from old to new, as the database has them."""
        async with self._database.read() as connection:
            return tuple(key.row for key in (await store.read(connection)).values())

    async def page(self, wanted: Paging) -> Page[KeyRow]:
        """Return a page of all keys, from old to new."""
        key = (signing_keys.c.created_at, signing_keys.c.kid)
        async with self._database.read() as connection:
            return await fetch_page(connection, sa.select(signing_keys), key, wanted, store.key_of)

    async def prepare(self, caller: Caller) -> KeyRow:
        """Make and publish a key that can sign later.

        Raises:
            ConflictError: So many keys are published that verifiers might come to refuse them all.
            WrongMasterKeyError: The master key that seals is not there.
        """
        made = await self._make()
        return await self._change(caller, lambda keys: keys.prepare(made))

    async def activate(self, caller: Caller, kid: str, *, at_once: bool = False) -> KeyRow:
        """Sign with this key from now on, and retire the one that did.

        Args:
            at_once: Even if verifiers may not have seen it yet, and refuse its tokens for `jwks_max_age` seconds.

        Raises:
            NotFoundError: There is no such key.
            ConflictError: It is not prepared, or not published for long enough.
            UnsealError: Its private half cannot be opened.
        """
        return await self._change(caller, lambda keys: keys.activate(kid, at_once=at_once))

    async def retire(self, caller: Caller, kid: str) -> KeyRow:
        """Give up a prepared key. The active one is retired by activating another.

        Raises:
            NotFoundError: There is no such key.
            ConflictError: It signs, or is retired or revoked.
        """
        return await self._change(caller, lambda keys: keys.retire(kid))

    async def revoke(self, caller: Caller, kid: str) -> KeyRow:
        """Trust a key no more: it leaves the JWKS, its private half is destroyed, and its tokens are revoked.

        If it is the active one, then in the same transaction the prepared key that was published first takes its place,
        or a new one where there is none: verifiers may refuse that one's tokens until they read the JWKS again.

        Raises:
            NotFoundError: There is no such key.
            ConflictError: It is revoked.
        """
        revoked = await self._change(caller, lambda keys: keys.revoke(kid, None))
        while revoked is None:
            made = await self._make()
            revoked = await self._change(caller, partial(_revoke, kid=kid, spare=made))
        return revoked

    async def run_schedule(self, caller: Caller) -> tuple[Step, ...]:
        """Do what is due, and return what this replica did of it. Harmless on all replicas at once: one is first.

        Raises:
            StorageUnavailableError: The database does not answer: nothing is made up for it.
            UnsealError: A key is not what was sealed, or was sealed with a master key that is not there.
        """
        done: list[Step] = []
        for _ in range(_MOST_STEPS):
            step = due(await self.list(), self._clock.wall(), self.timing)
            if step is None:
                break
            made = await self._make() if isinstance(step, Prepare) else None
            if await self._change(caller, partial(_follow, step=step, made=made)):
                done.append(step)
        return tuple(done)

    async def _make(self) -> StoredKey:
        return await asyncio.to_thread(make_key, self._masters.first, self._tenant, self._bits, self._clock.wall())

    async def _change(self, caller: Caller, work: Callable[[KeyChange], Awaitable[T]]) -> T:
        async def transaction(change: Change) -> T:
            keys = await store.read(change.connection)
            return await work(
                KeyChange(change, caller, keys, masters=self._masters, tenant=self._tenant, timing=self.timing)
            )

        try:
            return await self._ledger.change(transaction, by=caller)
        finally:
            self._keyring.forget()  # whatever came of it: a commit may have arrived although its answer did not


async def _revoke(keys: KeyChange, *, kid: str, spare: StoredKey) -> KeyRow | None:
    return await keys.revoke(kid, spare)


async def _follow(keys: KeyChange, *, step: Step, made: StoredKey | None) -> bool:
    return await keys.follow(step, made)
