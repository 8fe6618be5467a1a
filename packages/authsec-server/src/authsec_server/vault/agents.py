"""Agents as the vault's clients know them: with a key, and with what they may do in the vault. The registry is one."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from authsec_server import checks
from authsec_server.agents.service import Agents
from authsec_server.agents.values import Client
from authsec_server.audit.entry import Caller
from authsec_server.audit.ledger import Change
from authsec_server.credentials import Credential
from authsec_server.db.engine import Database
from authsec_server.db.tables import audit, client_keys, clients
from authsec_server.pages import Page, Paging, fetch_page
from authsec_server.vault.access import checked_access, give_access

__all__ = ["VaultAgent", "VaultAgents"]

_TYPE: Final = "autonomous-workload"
_PLATFORM: Final = "other"
_LOOKED_BACK: Final = 100  # entries of the audit about one agent


@dataclass(frozen=True, slots=True, kw_only=True)
class VaultAgent:
    """An agent. Instants are epoch seconds.

    Attributes:
        key_id: Of its newest live key.
        last_active_at: When it last proved who it is, as far as the latest entries about it tell.
    """

    client_id: str
    name: str
    active: bool
    created_at: float
    key_id: str | None = None
    last_active_at: float | None = None


class VaultAgents:
    """Onboards agents together with what they may do in the vault, and lists them."""

    def __init__(self, agents: Agents, database: Database) -> None:
        self._agents = agents
        self._database = database

    async def onboard(
        self, caller: Caller, *, name: str, description: str, namespaces: Collection[str], scopes: Collection[str]
    ) -> tuple[VaultAgent, Credential]:
        """Register an agent, and return it with its key, which is shown this once.

        Args:
            description: For the audit, which alone keeps it.

        Raises:
            InvalidRequestError: The name, the description, a namespace or a scope cannot be one, or no scope lies in
                the namespaces.
            ConflictError: Another agent has, or had, the name.
        """
        checks.label(description, field="description")
        access = checked_access(namespaces, scopes, prefix="allowed_")

        async def give(change: Change, client: Client) -> None:
            said = {"description": description} if description else {}
            await give_access(change, caller, client.client_id, access, subject=client.spiffe_id, said=said)

        client, credential = await self._agents.onboard(
            caller, name=name, agent_type=_TYPE, platform=_PLATFORM, selectors={}, also=give
        )
        return replace(_agent(client), key_id=credential.id), credential

    async def list(self, paging: Paging) -> Page[VaultAgent]:
        """Return a page of the agents, the oldest first."""
        async with self._database.read() as connection:
            key = (clients.c.created_at, clients.c.client_id)
            page = await fetch_page(connection, sa.select(clients, _LAST_ACTIVE), key, paging, _agent)
            keys = await _newest_keys(connection, [agent.client_id for agent in page.items])
        items = (replace(agent, key_id=keys.get(agent.client_id)) for agent in page.items)
        return Page(items=tuple(items), next=page.next)


async def _newest_keys(connection: AsyncConnection, client_ids: Collection[str]) -> Mapping[str, str]:
    query = (
        sa.select(client_keys.c.client_id, client_keys.c.key_id)
        .where(client_keys.c.client_id.in_(client_ids), client_keys.c.mac.is_not(None))
        .where(client_keys.c.revoked_at.is_(None))
        .order_by(client_keys.c.created_at)
    )
    return {row.client_id: row.key_id for row in await connection.execute(query)}


def _agent(found: Any) -> VaultAgent:
    """Return the agent of a `Client`, or of a row with the same members and when it was last active."""
    return VaultAgent(
        client_id=found.client_id,
        name=found.name,
        active=found.state == "active",
        created_at=found.created_at,
        last_active_at=getattr(found, "last_active_at", None),
    )


# Strangers who name an agent are in the entries about it, too, and the agent must not be searched for without end.
_LATEST = (
    sa.select(audit.c.at, audit.c.actor)
    .where(audit.c.client_id == clients.c.client_id)
    .order_by(audit.c.seq.desc())
    .limit(_LOOKED_BACK)
    .correlate(clients)
    .subquery()
)
_LAST_ACTIVE: Final = (
    sa.select(sa.func.max(_LATEST.c.at))
    .where(_LATEST.c.actor == sa.literal("agent:") + clients.c.client_id)
    .correlate(clients)
    .scalar_subquery()
    .label("last_active_at")
)
