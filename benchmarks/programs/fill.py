"""Fill an authority's database as years of use would, through its own code. Arguments: its folder, entries, agents."""

import asyncio
import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from authsec_core._clock import SYSTEM_CLOCK
from authsec_core.testing import FakeClock
from authsec_server.audit.entry import Actor, Caller, Entry
from authsec_server.audit.ledger import Change
from authsec_server.authority import Authority
from authsec_server.credentials import Credential, Pepper, generate, mac
from authsec_server.db import tables
from authsec_server.ids import random_uuid
from authsec_server.settings import ServerSettings

_AT_ONCE = 5_000  # entries in one transaction
_BETWEEN = 2.0  # seconds from one entry to the next
_DENIED = 100  # one of so many was refused
_PERMISSIONS = ["read:metrics", "read:records"]

folder, entries, agents = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])


def client(number: int, client_id: str, at: float) -> dict[str, Any]:
    """Return an agent's row."""
    return {
        "client_id": client_id,
        "name": f"agent-{number}",
        "agent_type": "autonomous-workload",
        "platform": "docker",
        "selectors": {},
        "spiffe_id": f"spiffe://127.0.0.1/agent/{client_id}",
        "state": "active",
        "created_at": at,
        "created_by": "fill",
    }


def delegation(client_id: str, at: float) -> dict[str, Any]:
    """Return the row of what is delegated to an agent."""
    return {
        "delegation_id": random_uuid(),
        "role": "reader",
        "target_type": "autonomous-workload",
        "client_id": client_id,
        "audiences": ["authsec-api"],
        "max_duration": 3600,
        "unit": "seconds",
        "enabled": True,
        "created_at": at,
        "created_by": "fill",
    }


async def register(change: Change, known: list[tuple[str, Credential]], pepper: Pepper) -> None:
    """Insert the agents, each with a key and a delegation."""
    at = change.at
    role = {"name": "reader", "permissions": _PERMISSIONS, "created_at": at, "updated_at": at}
    await change.connection.execute(sa.insert(tables.roles), [role])
    for table, rows in (
        (tables.clients, [client(number, client_id, at) for number, (client_id, _) in enumerate(known)]),
        (
            tables.client_keys,
            [
                {
                    "key_id": key.id,
                    "client_id": client_id,
                    "label": "first",
                    "mac": mac(pepper, "agent-key", key),
                    "created_at": at,
                }
                for client_id, key in known
            ],
        ),
        (tables.trust_delegations, [delegation(client_id, at) for client_id, _ in known]),
    ):
        await change.connection.execute(sa.insert(table), rows)
    change.policy_changed()


def requested(client_id: str, place: int) -> Entry:
    """Return what the audit has of one request."""
    refused = place % _DENIED == 0
    return Entry(
        action="token.issue",
        decision="deny" if refused else "allow",
        caller=Caller(
            actor=Actor(kind="agent", id=client_id, name="agent"), request_id=random_uuid(), address="127.0.0.1"
        ),
        client_id=client_id,
        subject=f"spiffe://127.0.0.1/agent/{client_id}",
        jti=None if refused else random_uuid(),
        asked="read:metrics",
        scope=None if refused else "read:metrics",
        reason="not_covered" if refused else None,
        details={"audience": "authsec-api", "ttl": 3600},
    )


async def fill() -> list[list[str]]:
    """Fill it, and return ids and keys of the agents."""
    clock = FakeClock(wall=SYSTEM_CLOCK.wall() - entries * _BETWEEN)
    known = [(random_uuid(), generate("agent-key")) for _ in range(agents)]
    async with Authority.open(ServerSettings(data_dir=folder), clock=clock) as authority:
        await authority.ledger.change(lambda change: register(change, known, authority.pepper))
        for first in range(0, entries, _AT_ONCE):
            places = range(first, min(first + _AT_ONCE, entries))
            await authority.ledger.change(partial(record, known=known, places=places))
            clock.advance(len(places) * _BETWEEN)
    return [[client_id, key.text()] for client_id, key in known]


async def record(change: Change, known: list[tuple[str, Credential]], places: range) -> None:
    """Record the requests at these places."""
    for place in places:
        change.record(requested(known[place % len(known)][0], place))


print(json.dumps({"agents": asyncio.run(fill())}))
