"""What the tests of agents, roles, delegations and operators share: the services on a database, and what they left."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import sqlalchemy as sa
from server_support import CALLER, ledger, made, rows
from sqlalchemy.ext.asyncio import AsyncConnection

from authsec_core._clock import SYSTEM_CLOCK, Clock
from authsec_core.testing import FakeClock
from authsec_server.agents.service import Agents
from authsec_server.agents.values import Client
from authsec_server.audit.ledger import Ledger
from authsec_server.credentials import Credential, Pepper
from authsec_server.db import tables
from authsec_server.db.engine import Database
from authsec_server.delegations.roles import Roles
from authsec_server.delegations.service import Delegations, Wanted
from authsec_server.delegations.values import MaxDuration, TrustDelegation
from authsec_server.issuers.registry import Registry as IssuerRegistry
from authsec_server.issuers.rules import Own
from authsec_server.issuers.service import Issuers
from authsec_server.operators.service import Operators
from authsec_server.operators.values import Operator

PEPPER = Pepper(bytes(range(32)))
OWN = Own(
    issuer="https://authority.example.com/authsec",
    jwks_url="https://authority.example.com/authsec/.well-known/jwks.json",
)
HOUR = MaxDuration(amount=1, unit="hours")
RACERS = 64
REPLICAS = 3

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Registry:
    """One replica's services."""

    database: Database
    ledger: Ledger
    agents: Agents
    roles: Roles
    delegations: Delegations
    operators: Operators
    issuers: Issuers

    async def client(self, name: str = "Customer Support", **more: Any) -> Client:
        """Onboard a client."""
        client, _ = await self.onboard(name, **more)
        return client

    async def onboard(self, name: str = "Customer Support", **more: Any) -> tuple[Client, Credential]:
        """Onboard a client, and return its key as well."""
        said = {"agent_type": "autogen-agent", "platform": "kubernetes", "selectors": {}, **more}
        return await self.agents.onboard(CALLER, name=name, **said)

    async def delegation(self, client: Client, role: str = "reader", **more: Any) -> TrustDelegation:
        """Delegate a role to a client."""
        said = {"target_type": client.agent_type, "duration": HOUR, **more}
        return await self.delegations.create(CALLER, Wanted(role=role, client_id=client.client_id, **said))

    async def admin(self, name: str = "root") -> tuple[Operator, Credential]:
        """Make an admin who can sign in."""
        return await self.operator(name, "admin")

    async def operator(self, name: str, role: Any) -> tuple[Operator, Credential]:
        """Make an operator who can sign in."""
        operator = await self.operators.create(CALLER, name=name, role=role)
        _, credential = await self.operators.create_token(CALLER, operator.operator_id)
        return operator, credential

    async def entries(self, action: str | None = None) -> list[dict[str, Any]]:
        """Return what the audit says, in order; only of this action."""
        said = [json.loads(row.text) for row in await rows(self.database, tables.audit)]
        return [entry for entry in said if action in (None, entry["action"])]

    async def version(self) -> int:
        """Return the version of the policy."""
        (head,) = await rows(self.database, tables.head)
        return int(head.policy_version)

    async def hand_out(self, jti: str, client: Client, **more: Any) -> None:
        """Pretend that a token was issued a second ago, for ten minutes."""
        at = int(client.created_at)
        row = {
            "jti": jti,
            "status_index": abs(hash(jti)) % 10**9,
            "client_id": client.client_id,
            "key_id": None,
            "delegations": [],
            "scope": "read:metrics",
            "audience": "authsec-api",
            "kid": "kid-1",
            "issued_at": at - 1,
            "expires_at": at + 599,
            **more,
        }

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(sa.insert(tables.tokens).values(row))

        await self.database.write(work)

    async def alive(self) -> set[str]:
        """Return the tokens that were not revoked."""
        return {row.jti for row in await rows(self.database, tables.tokens) if row.revoked_at is None}


def replica(database: Database, running: Ledger, clock: Clock) -> Registry:
    """Return the services of one replica."""
    return Registry(
        database=database,
        ledger=running,
        agents=Agents(running, database, pepper=PEPPER, trust_domain="example.org", tenant_id="t1"),
        roles=Roles(running, database),
        delegations=Delegations(running, database, default_audience="authsec-api"),
        operators=Operators(running, database, pepper=PEPPER, clock=clock),
        issuers=Issuers(running, database, IssuerRegistry(database, clock=clock), own=OWN),
    )


def sqlite(folder: Path) -> str:
    """Return the URL of a new SQLite database, for rules that do not depend on which database it is."""
    return f"sqlite:///{folder / 'authsec.db'}"


@asynccontextmanager
async def registry(url: str, *, clock: Clock) -> AsyncIterator[Registry]:
    """Lend the services on a new database."""
    async with made(url, clock=clock) as database, ledger(database, clock=clock) as running:
        yield replica(database, running, clock)


def with_registry(url: str, test: Callable[[Registry], Coroutine[Any, Any, T]], *, clock: Clock | None = None) -> T:
    """Run a test with the services on a new database, by a clock that stands still unless it is another."""

    async def run() -> T:
        async with registry(url, clock=clock or FakeClock()) as one:
            return await test(one)

    return asyncio.run(run())


async def race(url: str, first: Registry, attempt: Callable[[Registry, int], Awaitable[T]]) -> list[T | BaseException]:
    """Let 64 try the same at once, spread over three replicas, and return what each of them got.

    Args:
        first: The replica that is there already.
        attempt: Gets a replica, and the number of the try.
    """
    async with AsyncExitStack() as stack:
        replicas = [first]
        while len(replicas) < REPLICAS:
            database = Database(url, clock=SYSTEM_CLOCK, timeout=30.0)
            stack.push_async_callback(database.close)
            running = await stack.enter_async_context(ledger(database))
            replicas.append(replica(database, running, SYSTEM_CLOCK))
        start = asyncio.Event()

        async def racer(number: int) -> T:
            await start.wait()
            return await attempt(replicas[number % REPLICAS], number)

        racers = [asyncio.ensure_future(racer(number)) for number in range(RACERS)]
        await asyncio.sleep(0)
        start.set()
        return await asyncio.gather(*racers, return_exceptions=True)
