"""Agents: who they are and by which keys they prove it. Each change is one entry of the audit.

What is taken back is gone at once: live tokens that exceed what is left are revoked in the same transaction. What an
agent may ask for is for `delegations`, whether it proved who it is for `tokens`.
"""

from __future__ import annotations

import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict, replace
from typing import Any, Final, Literal

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from authsec_server import checks, credentials
from authsec_server.agents.public_keys import public_jwk
from authsec_server.agents.spiffe import PLATFORMS, check_selectors, spiffe_id
from authsec_server.agents.standing import StoredKey, load_standings
from authsec_server.agents.values import Client, Key, client_of, key_of
from authsec_server.audit.entry import Caller, Entry
from authsec_server.audit.ledger import Change, Ledger
from authsec_server.credentials import Credential, Pepper
from authsec_server.db.engine import Database
from authsec_server.db.tables import client_keys, clients
from authsec_server.errors import ConflictError, InvalidRequestError, NotFoundError
from authsec_server.pages import Page, Paging, fetch_page
from authsec_server.tokens.withdraw import withdraw_exceeding

__all__ = ["Agents"]

MOST_KEYS: Final = 10  # of one client that are good at the same time: a rotation needs two
_FIRST_LABEL: Final = "first"


class Agents:
    """Keeps the registered agents.

    Args:
        ledger: Makes changes.
        database: For reading.
        pepper: Under which agent keys are kept.
        trust_domain: Of the SPIFFE IDs.
        tenant_id: Of this server.
    """

    def __init__(
        self, ledger: Ledger, database: Database, *, pepper: Pepper, trust_domain: str, tenant_id: str
    ) -> None:
        self._ledger = ledger
        self._database = database
        self._pepper = pepper
        self._trust_domain = trust_domain
        self._tenant_id = tenant_id

    async def onboard(
        self,
        caller: Caller,
        *,
        name: str,
        agent_type: str,
        platform: str,
        selectors: Mapping[str, str],
        also: Callable[[Change, Client], Awaitable[None]] | None = None,
    ) -> tuple[Client, Credential]:
        """Register an agent, and return it with its first key, which is shown this once.

        Args:
            also: Done in the same transaction, once the agent is there.

        Raises:
            InvalidRequestError: The name, the kind of agent, the platform or a selector cannot be one.
            ConflictError: Another client has, or had, the name.
        """
        checks.name(name)
        kind, client_id = checks.agent_type(agent_type), str(uuid.uuid4())
        _check_selectors(platform, selectors)
        subject = self._subject(kind, client_id, selectors)

        async def work(change: Change) -> tuple[Client, Credential]:
            taken = await change.connection.execute(sa.select(clients.c.client_id).where(clients.c.name == name))
            if taken.first() is not None:
                raise ConflictError("another client has this name: choose one of its own")
            client = Client(
                client_id=client_id,
                name=name,
                agent_type=kind,
                platform=platform,
                selectors=dict(selectors),
                spiffe_id=subject,
                state="active",
                created_at=change.at,
                created_by=caller.actor.name,
                ended_at=None,
            )
            await change.connection.execute(sa.insert(clients).values(_row(client)))
            _, credential = await self._new_key(change, caller, client_id, _FIRST_LABEL, None)
            change.policy_changed()
            said = {"name": name, "agent_type": kind, "platform": platform, "selectors": dict(selectors)}
            change.record(_entry("client.onboard", caller, client, {**said, "key_id": credential.id}))
            if also is not None:
                await also(change, client)
            return client, credential

        return await self._ledger.change(work, by=caller)

    async def set_state(self, caller: Caller, client_id: str, state: Literal["active", "disabled"]) -> Client:
        """Disable a client, or let it work again, and return it. What it is already is no change, and no entry.

        Tokens that were revoked because it was disabled stay revoked.

        Raises:
            NotFoundError: There is none.
            ConflictError: It was revoked.
        """

        async def work(change: Change) -> Client:
            client = await _living(change, client_id)
            if client.state == state:
                return client
            after = replace(client, state=state)
            withdrawn = await _update(change, after)
            action = "client.disable" if state == "disabled" else "client.enable"
            change.record(_entry(action, caller, after, {"withdrawn": withdrawn}))
            return after

        return await self._ledger.change(work, by=caller)

    async def revoke(self, caller: Caller, client_id: str) -> Client:
        """End a client for good. Of several who do it at once, one does, and the others are told.

        Raises:
            NotFoundError: There is none.
            ConflictError: It was revoked before.
        """

        async def work(change: Change) -> Client:
            after = replace(await _living(change, client_id), state="revoked", ended_at=change.at)
            withdrawn = await _update(change, after)
            change.record(_entry("client.revoke", caller, after, {"withdrawn": withdrawn}))
            return after

        return await self._ledger.change(work, by=caller)

    async def get(self, client_id: str) -> Client:
        """Return a client.

        Raises:
            NotFoundError: There is none.
        """
        async with self._database.read() as connection:
            return await _find(connection, client_id)

    async def list(self, paging: Paging) -> Page[Client]:
        """Return a page of the clients, the oldest first."""
        async with self._database.read() as connection:
            key = (clients.c.created_at, clients.c.client_id)
            return await fetch_page(connection, sa.select(clients), key, paging, client_of)

    async def create_key(
        self, caller: Caller, client_id: str, *, label: str = "", not_after: float | None = None
    ) -> tuple[Key, Credential]:
        """Give a client another key, which is shown this once.

        Args:
            not_after: When it ends by itself; epoch seconds.

        Raises:
            NotFoundError: There is no such client.
            InvalidRequestError: The label cannot be one, or the end has passed.
            ConflictError: The client was revoked, or has too many keys.
        """
        checks.label(label)

        async def work(change: Change) -> tuple[Key, Credential]:
            client = await _living(change, client_id)
            ends_at = checks.future(not_after, now=change.at)
            await _refuse_too_many(change, client_id)
            key, credential = await self._new_key(change, caller, client_id, label, ends_at)
            change.policy_changed()
            details = {"key_id": key.key_id, "label": label, "not_after": ends_at}
            change.record(_entry("key.create", caller, client, details))
            return key, credential

        return await self._ledger.change(work, by=caller)

    async def register_key(
        self,
        caller: Caller,
        client_id: str,
        jwk: Mapping[str, Any],
        *,
        label: str = "",
        not_after: float | None = None,
    ) -> Key:
        """Let a client prove who it is with a key of its own, whose private half nobody else has.

        Args:
            not_after: When it ends by itself; epoch seconds.

        Raises:
            NotFoundError: There is no such client.
            InvalidRequestError: It is no public key that will do, the label cannot be one, or the end has passed.
            ConflictError: The client was revoked, has too many keys, or has this one.
        """
        checks.label(label)
        public = public_jwk(jwk)

        async def work(change: Change) -> Key:
            client = await _living(change, client_id)
            ends_at = checks.future(not_after, now=change.at)
            await _refuse_too_many(change, client_id)
            await _refuse_twice(change, client_id, public)
            key = Key(
                key_id=credentials.generate("agent-key").id,
                client_id=client_id,
                label=label,
                jwk=public,
                created_at=change.at,
                not_after=ends_at,
                revoked_at=None,
            )
            await change.connection.execute(sa.insert(client_keys).values(**asdict(key), created_by=caller.actor.name))
            change.policy_changed()
            details = {"key_id": key.key_id, "label": label, "not_after": ends_at, "kty": public["kty"]}
            change.record(_entry("key.register", caller, client, details))
            return key

        return await self._ledger.change(work, by=caller)

    async def keys_of(self, client_id: str) -> tuple[StoredKey, ...]:
        """Return a client's keys as they are now; of one that does not exist, none."""
        async with self._database.read() as connection:
            standings = await load_standings(connection, [client_id])
        return standings[client_id].keys if client_id in standings else ()

    async def revoke_key(self, caller: Caller, client_id: str, key_id: str) -> Key:
        """End a key for good, and the live tokens that were issued for it.

        Raises:
            NotFoundError: The client has no such key.
            ConflictError: It was revoked before.
        """

        async def work(change: Change) -> Key:
            client = await _find(change.connection, client_id)
            key = await _find_key(change, client_id, key_id)
            if key.revoked_at is not None:
                raise ConflictError("the key was revoked before")
            await change.connection.execute(
                sa.update(client_keys).where(client_keys.c.key_id == key_id).values(revoked_at=change.at)
            )
            change.policy_changed()
            withdrawn = await withdraw_exceeding(change, [client_id])
            change.record(_entry("key.revoke", caller, client, {"key_id": key_id, "withdrawn": withdrawn}))
            return replace(key, revoked_at=change.at)

        return await self._ledger.change(work, by=caller)

    async def list_keys(self, client_id: str, paging: Paging) -> Page[Key]:
        """Return a page of a client's keys, the oldest first.

        Raises:
            NotFoundError: There is no such client.
        """
        query = sa.select(client_keys).where(client_keys.c.client_id == client_id)
        async with self._database.read() as connection:
            await _find(connection, client_id)
            return await fetch_page(connection, query, (client_keys.c.created_at, client_keys.c.key_id), paging, key_of)

    def _subject(self, agent_type: str, client_id: str, selectors: Mapping[str, str]) -> str:
        try:
            return spiffe_id(self._trust_domain, self._tenant_id, agent_type, client_id, selectors)
        except ValueError as exc:
            raise InvalidRequestError(str(exc), field="selectors") from exc

    async def _new_key(
        self, change: Change, caller: Caller, client_id: str, label: str, not_after: float | None
    ) -> tuple[Key, Credential]:
        credential = credentials.generate("agent-key")
        key = Key(
            key_id=credential.id,
            client_id=client_id,
            label=label,
            jwk=None,
            created_at=change.at,
            not_after=not_after,
            revoked_at=None,
        )
        await change.connection.execute(
            sa.insert(client_keys).values(
                key_id=key.key_id,
                client_id=client_id,
                label=label,
                mac=credentials.mac(self._pepper, "agent-key", credential),
                created_at=key.created_at,
                created_by=caller.actor.name,
                not_after=not_after,
            )
        )
        return key, credential


def _check_selectors(platform: str, selectors: Mapping[str, str]) -> None:
    try:
        check_selectors(platform, selectors)
    except ValueError as exc:
        field = "selectors" if platform in PLATFORMS else "platform"
        raise InvalidRequestError(str(exc), field=field) from exc


async def _find(connection: AsyncConnection, client_id: str) -> Client:
    row = (await connection.execute(sa.select(clients).where(clients.c.client_id == client_id))).one_or_none()
    if row is None:
        raise NotFoundError("there is no such client")
    return client_of(row)


async def _living(change: Change, client_id: str) -> Client:
    client = await _find(change.connection, client_id)
    if client.state == "revoked":
        raise ConflictError("the client was revoked, which is final: onboard another one")
    return client


async def _find_key(change: Change, client_id: str, key_id: str) -> Key:
    query = sa.select(client_keys).where(client_keys.c.key_id == key_id, client_keys.c.client_id == client_id)
    row = (await change.connection.execute(query)).one_or_none()
    if row is None:
        raise NotFoundError("the client has no such key")
    return key_of(row)


async def _refuse_twice(change: Change, client_id: str, jwk: Mapping[str, str]) -> None:
    own = sa.select(client_keys.c.jwk).where(client_keys.c.client_id == client_id, client_keys.c.jwk.is_not(None))
    kept = [{**found, "kid": None} for found in (await change.connection.execute(own)).scalars()]
    if {**jwk, "kid": None} in kept:
        raise ConflictError("the client has this key, or had it before: make a new one")


async def _refuse_too_many(change: Change, client_id: str) -> None:
    good = sa.select(sa.func.count()).where(
        client_keys.c.client_id == client_id,
        client_keys.c.revoked_at.is_(None),
        sa.or_(client_keys.c.not_after.is_(None), client_keys.c.not_after > change.at),
    )
    if (await change.connection.execute(good)).scalar_one() >= MOST_KEYS:
        raise ConflictError(f"the client has {MOST_KEYS} keys: revoke one first")


async def _update(change: Change, client: Client) -> int:
    """Store the client's state, and return how many of its tokens that revoked."""
    await change.connection.execute(
        sa.update(clients)
        .where(clients.c.client_id == client.client_id)
        .values(state=client.state, ended_at=client.ended_at)
    )
    change.policy_changed()
    return await withdraw_exceeding(change, [client.client_id])


def _row(client: Client) -> dict[str, Any]:
    return {
        "client_id": client.client_id,
        "name": client.name,
        "agent_type": client.agent_type,
        "platform": client.platform,
        "selectors": dict(client.selectors),
        "spiffe_id": client.spiffe_id,
        "state": client.state,
        "created_at": client.created_at,
        "created_by": client.created_by,
        "ended_at": client.ended_at,
    }


def _entry(action: str, caller: Caller, client: Client, details: dict[str, Any]) -> Entry:
    return Entry(
        action=action,
        decision="allow",
        caller=caller,
        client_id=client.client_id,
        subject=client.spiffe_id,
        details=details,
    )
