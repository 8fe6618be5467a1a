"""What a client is, how it proves that, and what it may have, at one moment: the facts that a decision rests on.

Read inside the ledger's transaction, so that whatever was revoked before is seen. It decides nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Literal

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from authsec_core.vault_scopes import VaultAction, VaultScope
from authsec_server.db.among import among
from authsec_server.db.tables import client_keys, clients, roles, trust_delegations, vault_access

__all__ = ["ClientState", "Delegation", "Standing", "StoredKey", "VaultAccess", "load_standings", "read_standings"]

ClientState = Literal["active", "disabled", "revoked"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredKey:
    """An agent key, as far as it is kept.

    Attributes:
        mac: HMAC-SHA-256 of the key under the server's pepper; None of a key that the agent keeps.
        jwk: The public half of such a key.
        not_after: Epoch seconds.
    """

    key_id: str
    mac: bytes | None = field(repr=False)
    jwk: Mapping[str, str] | None = None
    not_after: float | None
    revoked: bool

    def is_live(self, now: float) -> bool:
        """Return whether it proves anything, with a second left for a token."""
        return not self.revoked and (self.not_after is None or self.not_after - now >= 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Delegation:
    """A trust delegation, with what its role allows now.

    Attributes:
        permissions: The role's.
        allowed_actions: Those of the permissions that were delegated; None is all of them.
        audiences: The APIs that its tokens may be for.
        max_duration: Seconds.
        not_after: Epoch seconds.
    """

    delegation_id: str
    role: str
    target_type: str
    permissions: frozenset[str]
    allowed_actions: frozenset[str] | None
    audiences: frozenset[str]
    max_duration: int
    enabled: bool
    not_after: float | None
    revoked: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class VaultAccess:
    """What a client may do in the vault: what one of the scopes allows, as far as it lies in one of the namespaces.

    Attributes:
        namespaces: `*` is the whole vault; each other one has what is below it, too.
    """

    namespaces: tuple[str, ...] = ()
    scopes: tuple[VaultScope, ...] = ()

    def covers(self, action: VaultAction, path: str) -> bool:
        """Return whether the client may do this with the secret at this path."""
        return any(scope.covers(action, path) for scope in self.scopes) and any(
            name == "*" or path.startswith(f"{name}/") for name in self.namespaces
        )

    def reaches(self, action: VaultAction, namespace: str) -> bool:
        """Return whether something that the client may do this with may lie in the namespace or below it."""
        return any(scope.reaches(action, namespace) for scope in self.scopes) and any(
            name == "*"
            or not namespace
            or f"{name}/".startswith(f"{namespace}/")
            or f"{namespace}/".startswith(f"{name}/")
            for name in self.namespaces
        )

    def includes(self, scope: VaultScope) -> bool:
        """Return whether the client may do all that this scope allows."""
        return any(own.includes(scope) for own in self.scopes) and any(
            name == "*" or scope.pattern.startswith(f"{name}/") for name in self.namespaces
        )


NO_ACCESS = VaultAccess()


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """One client with its keys, its delegations and what it may do in the vault."""

    client_id: str
    name: str
    agent_type: str
    platform: str
    selectors: Mapping[str, str]
    spiffe_id: str
    state: ClientState
    keys: tuple[StoredKey, ...]
    delegations: tuple[Delegation, ...]
    vault: VaultAccess = NO_ACCESS


async def load_standings(connection: AsyncConnection, client_ids: Collection[str]) -> dict[str, Standing]:
    """Return the standing of each of these clients that exists. Four queries, however many there are."""
    return await connection.run_sync(read_standings, client_ids)


def read_standings(connection: sa.Connection, client_ids: Collection[str]) -> dict[str, Standing]:
    """Return the same, where nothing is awaited."""
    if not client_ids:
        return {}
    keys = _keys(connection, client_ids)
    delegations = _delegations(connection, client_ids)
    access = _access(connection, client_ids)
    found = connection.execute(_CLIENTS, {"ids": client_ids})
    return {
        row.client_id: Standing(
            client_id=row.client_id,
            name=row.name,
            agent_type=row.agent_type,
            platform=row.platform,
            selectors=row.selectors,
            spiffe_id=row.spiffe_id,
            state=row.state,
            keys=tuple(keys.get(row.client_id, ())),
            delegations=tuple(delegations.get(row.client_id, ())),
            vault=access.get(row.client_id, NO_ACCESS),
        )
        for row in found
    }


def _keys(connection: sa.Connection, client_ids: Collection[str]) -> dict[str, list[StoredKey]]:
    found: dict[str, list[StoredKey]] = {}
    for row in connection.execute(_KEYS, {"ids": client_ids}):
        key = StoredKey(
            key_id=row.key_id,
            mac=None if row.mac is None else bytes(row.mac),
            jwk=row.jwk,
            not_after=row.not_after,
            revoked=row.revoked_at is not None,
        )
        found.setdefault(row.client_id, []).append(key)
    return found


def _delegations(connection: sa.Connection, client_ids: Collection[str]) -> dict[str, list[Delegation]]:
    found: dict[str, list[Delegation]] = {}
    for row in connection.execute(_DELEGATIONS, {"ids": client_ids}):
        delegation = Delegation(
            delegation_id=row.delegation_id,
            role=row.role,
            target_type=row.target_type,
            permissions=frozenset(row.permissions),
            allowed_actions=None if row.allowed_actions is None else frozenset(row.allowed_actions),
            audiences=frozenset(row.audiences),
            max_duration=row.max_duration,
            enabled=row.enabled,
            not_after=row.not_after,
            revoked=row.revoked_at is not None,
        )
        found.setdefault(row.client_id, []).append(delegation)
    return found


def _access(connection: sa.Connection, client_ids: Collection[str]) -> dict[str, VaultAccess]:
    return {
        row.client_id: VaultAccess(
            namespaces=tuple(row.namespaces), scopes=tuple(VaultScope.parse(scope) for scope in row.scopes)
        )
        for row in connection.execute(_ACCESS, {"ids": client_ids})
    }


# Made once: putting them together takes longer than SQLite takes to answer them.
_CLIENTS = sa.select(
    clients.c.client_id,
    clients.c.name,
    clients.c.agent_type,
    clients.c.platform,
    clients.c.selectors,
    clients.c.spiffe_id,
    clients.c.state,
).where(among(clients.c.client_id, "ids"))
_KEYS = sa.select(
    client_keys.c.client_id,
    client_keys.c.key_id,
    client_keys.c.mac,
    client_keys.c.jwk,
    client_keys.c.not_after,
    client_keys.c.revoked_at,
).where(among(client_keys.c.client_id, "ids"))
_ACCESS = sa.select(vault_access).where(among(vault_access.c.client_id, "ids"))
_DELEGATIONS = (
    sa.select(trust_delegations, roles.c.permissions)
    .join(roles, roles.c.name == trust_delegations.c.role)
    .where(among(trust_delegations.c.client_id, "ids"))
    .order_by(trust_delegations.c.created_at, trust_delegations.c.delegation_id)
)
