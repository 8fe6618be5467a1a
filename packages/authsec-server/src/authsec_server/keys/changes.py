"""What one transaction does to the signing keys, and the audit entries that say so. When it is done is for `service`.

It holds the head of the audit's chain all the while, so what it has read stays true until it commits.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final

from authsec_server.audit.entry import Caller, Entry
from authsec_server.audit.ledger import Change
from authsec_server.errors import ConflictError, NotFoundError, UnsealError
from authsec_server.keys import store
from authsec_server.keys.keypair import open_key
from authsec_server.keys.masterkeys import MasterKeys
from authsec_server.keys.resealing import resealed
from authsec_server.keys.rotation import (
    Activate,
    KeyRow,
    KeyState,
    Step,
    Timing,
    active,
    due,
    may_activate,
    move,
    published,
    waiting,
)
from authsec_server.keys.sealing import SIGNING_KEY, sealing_key
from authsec_server.keys.store import StoredKey
from authsec_server.tokens.withdraw import withdraw_signed_by

__all__ = ["MOST_PUBLISHED", "KeyChange"]

MOST_PUBLISHED: Final = 16  # by command: verifiers take 64 keys and 64 KiB
_ACTIONS: Final[dict[KeyState, str]] = {
    "active": "signing_key.activate",
    "retired": "signing_key.retire",
    "revoked": "signing_key.revoke",
}


class KeyChange:
    """The keys in one transaction. What a method raises undoes all of it.

    Args:
        keys: As `store.read` found them in this transaction.
        masters: What they are sealed with.
        tenant: Whose they are.
    """

    def __init__(
        self,
        change: Change,
        caller: Caller,
        keys: dict[str, StoredKey],
        *,
        masters: MasterKeys,
        tenant: str,
        timing: Timing,
    ) -> None:
        self._change = change
        self._caller = caller
        self._keys = keys
        self._masters = masters
        self._tenant = tenant
        self._timing = timing

    async def prepare(self, made: StoredKey) -> KeyRow:
        """Publish a key that was made by command.

        Raises:
            ConflictError: So many are published that verifiers might come to refuse them all.
        """
        if len(self._published()) >= MOST_PUBLISHED:
            raise ConflictError(f"{MOST_PUBLISHED} signing keys are published: wait until some are gone")
        return await self._add(made)

    async def activate(self, kid: str, *, at_once: bool) -> KeyRow:
        """Let this key sign, and retire the one that did."""
        may_activate(self._found(kid), self._change.at, self._timing, at_once=at_once)
        return await self._activate(kid, at_once=at_once)

    async def retire(self, kid: str) -> KeyRow:
        """Give up a key that does not sign."""
        if self._found(kid).state == "active":
            raise ConflictError(
                f"the signing key {kid} signs: activate another one, which retires it, or revoke it if it leaked"
            )
        return await self._move(kid, "retired")

    async def revoke(self, kid: str, spare: StoredKey | None) -> KeyRow | None:
        """Trust a key no more, and let another sign if it did. Does nothing and returns None if `spare` is missing."""
        signed = self._found(kid).state == "active"
        successor = self._successor() if signed else None
        if signed and successor is None and spare is None:
            return None
        revoked = await self._move(kid, "revoked", tokens=await withdraw_signed_by(self._change, kid))
        if signed and successor is None and spare is not None:
            successor = (await self._add(spare)).kid
        if successor is not None:
            await self._activate(successor, at_once=True)
        return revoked

    async def follow(self, step: Step, made: StoredKey | None) -> bool:
        """Do a step of the schedule, unless another replica has done it in the meantime.

        Args:
            made: The key, where the step is to prepare one.
        """
        if step != due(self._rows(), self._change.at, self._timing):
            return False
        if isinstance(step, Activate):
            await self._activate(step.kid, at_once=active(self._rows()) is None)
        elif made is not None:
            await self._add(made)
        return True

    async def _add(self, made: StoredKey) -> KeyRow:
        # It was sealed before this transaction, which alone knows what the other replicas can open.
        master = await sealing_key(self._change.connection, self._masters)
        sealed = resealed(self._masters, master, SIGNING_KEY, made.row.kid, self._tenant, made.sealed)
        key = replace(made, row=replace(made.row, created_at=self._change.at), sealed=sealed)
        await store.insert(self._change.connection, key)
        self._keys[key.row.kid] = key
        self._record("signing_key.prepare", key.row.kid)
        return key.row

    async def _activate(self, kid: str, *, at_once: bool) -> KeyRow:
        open_key(self._masters, self._tenant, self._keys[kid])  # what does not open must not become the one that signs
        before = active(self._rows())
        if before is not None:
            await self._move(before.kid, "retired", successor=kid)
        return await self._move(kid, "active", at_once=at_once)

    async def _move(self, kid: str, state: KeyState, **details: Any) -> KeyRow:
        before = self._found(kid)
        after = move(before, state, self._change.at)
        await store.save(self._change.connection, before, after)
        self._keys[kid] = replace(self._keys[kid], row=after)
        self._record(_ACTIONS[state], kid, was=before.state, **details)
        return after

    def _successor(self) -> str | None:
        """Return the prepared key that verifiers have known for longest, of those that open."""
        for row in waiting(self._rows()):
            try:
                open_key(self._masters, self._tenant, self._keys[row.kid])
            except UnsealError:
                continue
            return row.kid
        return None

    def _found(self, kid: str) -> KeyRow:
        if kid not in self._keys:
            raise NotFoundError("there is no such signing key")
        return self._keys[kid].row

    def _rows(self) -> list[KeyRow]:
        return [key.row for key in self._keys.values()]

    def _published(self) -> tuple[KeyRow, ...]:
        return published(self._rows(), self._change.at, self._timing)

    def _record(self, action: str, kid: str, **details: Any) -> None:
        self._change.record(
            Entry(action=action, decision="allow", caller=self._caller, details={"kid": kid, **details})
        )
        self._change.policy_changed()
