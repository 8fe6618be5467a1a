"""Agents and operators who use an authority all at once until it is gone, and remember what they were answered."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from random import Random  # noqa: TID251 -- only the type: the test has one with a seed, which it shows when it fails
from uuid import uuid4

from crash.facts import Agent, Facts, Token
from crash.wire import CutError, Reply, Wire

from authsec_core.wire import DELEGATION_TOKEN_PATH

__all__ = ["Traffic", "UnavailableError"]

_KIND = "autonomous-workload"
_ROLE = "reader"
_REFUSED = {"delegation": 410, "client": 410, "key": 401}  # whose end -> what the agent is told afterwards
_ENDS = ("token", *_REFUSED)
_PATIENCE = 60.0  # seconds until all have been answered, on a busy machine


class UnavailableError(Exception):
    """The answer was 503: what was asked may have happened, or not."""


class Traffic:
    """Everyone who uses the authority. For one event loop.

    Args:
        port: Where it listens.
        admin: An admin's token.
        chance: Decides who does what.

    Attributes:
        facts: What was acknowledged.
        away: Whether its database is known to be away. Then nothing but 503 may be answered.
    """

    def __init__(self, port: int, admin: str, chance: Random) -> None:
        self._port = port
        self._admin = admin
        self._chance = chance
        self._agent: Agent | None = None
        self._given: list[Token] = []  # to the agent that stays; nobody has tried to take them back
        self._everyone: frozenset[asyncio.Task[None]] = frozenset()
        self._missing: dict[str, set[asyncio.Task[None] | None]] = {"served": set(), "unavailable": set()}
        self._complete = asyncio.Event()
        self._served, self._anew = 0, asyncio.Event()
        self.facts = Facts()
        self.away = False
        self.unavailable = 0

    async def begin(self) -> None:
        """Make the role, and the agent that stays."""
        async with self._wire() as wire:
            await self._manage(wire, "PUT", f"/roles/{_ROLE}", {"permissions": ["read:metrics"]}, expect={201})
            self._agent = await self._onboard(wire)
            await self._delegate(wire, self._agent)

    @asynccontextmanager
    async def flowing(self) -> AsyncIterator[Sequence[asyncio.Task[None]]]:
        """Lend the tasks of everyone; each ends when it is cut off. The server must be gone when this is left."""
        actors = [self._issue_on, self._issue_on, self._take_back, self._take_back, self._live, self._live, self._live]
        tasks = [asyncio.create_task(self._until_cut(act)) for act in actors]
        self._everyone = frozenset(tasks)
        try:
            yield tasks
            await asyncio.wait_for(asyncio.gather(*tasks), _PATIENCE)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def everyone_is(self, how: str) -> None:
        """Wait until everyone was answered anew: `served` or `unavailable`."""
        self._missing[how] = set(self._everyone)
        self._complete.clear()
        complete = asyncio.create_task(self._complete.wait())
        await asyncio.wait([complete, *self._everyone], timeout=_PATIENCE, return_when=asyncio.FIRST_COMPLETED)
        complete.cancel()
        for task in self._everyone:
            if task.done():
                task.result()
        assert not self._missing[how], f"not everyone was {how}: someone failed, or is not answered"

    async def serves(self, count: int) -> None:
        """Wait until so many more answers have come."""
        wanted = self._served + count
        while self._served < wanted:
            self._anew.clear()
            anew = asyncio.create_task(self._anew.wait())
            await asyncio.wait([anew, *self._everyone], timeout=_PATIENCE, return_when=asyncio.FIRST_COMPLETED)
            anew.cancel()
            for task in self._everyone:
                if task.done():
                    task.result()
            assert self._anew.is_set(), "nobody is answered"

    def _answered(self, how: str) -> None:
        if how == "served":
            self._served += 1
            self._anew.set()
        missing = self._missing[how]
        if missing:  # else nobody waits for answers of this kind
            missing.discard(asyncio.current_task())
            if not missing:
                self._complete.set()

    async def check_ended(self, agents: Collection[Agent]) -> None:
        """Agents whose revocation was acknowledged get 410, which is recorded."""
        async with self._wire() as wire:
            for agent in agents:
                reply = await wire.ask("GET", _token_path(agent), bearer=agent.key)
                assert reply.status == 410, f"an agent that was revoked got {reply.status}"
                self.facts.note("token.issue", agent.client_id, decision="deny")

    async def get(self, path: str) -> bytes:
        """Return a public document of the authority."""
        async with self._wire() as wire:
            return (await wire.ask("GET", path)).text or b""

    async def _until_cut(self, act: Callable[[Wire], Awaitable[None]]) -> None:
        async with self._wire() as wire:
            while True:
                try:
                    await act(wire)
                except UnavailableError:
                    continue
                except CutError:
                    return

    async def _issue_on(self, wire: Wire) -> None:
        assert self._agent is not None
        self._given.append(await self._issue(wire, self._agent))

    async def _take_back(self, wire: Wire) -> None:
        """Take back a token, one that an earlier server issued if there is one."""
        if not self._given:
            await self._issue_on(wire)
        if self._given:
            await self._end_token(wire, self._given.pop(self._chance.randrange(len(self._given))))

    async def _live(self, wire: Wire) -> None:
        """Onboard an agent, let it work, and end it one way or another: it gets nothing afterwards."""
        agent = await self._onboard(wire)
        delegation_id = await self._delegate(wire, agent)
        tokens = [await self._issue(wire, agent) for _ in range(self._chance.randint(1, 2))]
        how = self._chance.choice(_ENDS)
        if how == "token":
            await self._end_token(wire, tokens[0])
            return
        path = {
            "delegation": f"/trust-delegations/{delegation_id}/revoke",
            "client": f"/clients/{agent.client_id}/revoke",
            "key": f"/clients/{agent.client_id}/keys/{agent.key_id}/revoke",
        }[how]
        self.facts.attempted |= {token.jti for token in tokens}
        await self._manage(wire, "POST", path, expect={200})
        self.facts.note(f"{how}.revoke", agent.client_id)
        self.facts.revoked |= {token.jti for token in tokens}
        if how == "client":
            self.facts.ended[agent.client_id] = agent
        await self._ask(wire, "GET", _token_path(agent), agent.key, expect={_REFUSED[how]})
        self.facts.note("token.issue", agent.client_id, decision="deny")

    async def _onboard(self, wire: Wire) -> Agent:
        body = {"name": f"agent-{uuid4()}", "agent_type": _KIND, "platform": "docker"}
        said = (await self._manage(wire, "POST", "/clients", body, expect={201})).json()
        self.facts.note("client.onboard", said["client_id"])
        return Agent(client_id=said["client_id"], key_id=said["key_id"], key=said["agent_key"])

    async def _delegate(self, wire: Wire, agent: Agent) -> str:
        terms = {"max_duration": 1, "unit": "hours"}
        body = {"role": _ROLE, "target_type": _KIND, "client_id": agent.client_id, **terms}
        said = (await self._manage(wire, "POST", "/trust-delegations", body, expect={201})).json()
        self.facts.note("delegation.create", agent.client_id)
        return str(said["delegation_id"])

    async def _issue(self, wire: Wire, agent: Agent) -> Token:
        said = (await self._ask(wire, "GET", _token_path(agent), agent.key, expect={200})).json()
        token = Token.read(said["token"])
        self.facts.issued[token.jti] = token
        self.facts.note("token.issue", agent.client_id, jti=token.jti)
        return token

    async def _end_token(self, wire: Wire, token: Token) -> None:
        self.facts.attempted.add(token.jti)
        await self._manage(wire, "POST", f"/tokens/{token.jti}/revoke", expect={204})
        self.facts.note("token.revoke", token.client_id, jti=token.jti)
        self.facts.revoked.add(token.jti)

    async def _manage(
        self, wire: Wire, method: str, path: str, body: object = None, *, expect: Collection[int]
    ) -> Reply:
        return await self._ask(wire, method, f"/api/v1{path}", self._admin, body, expect=expect)

    async def _ask(
        self, wire: Wire, method: str, path: str, bearer: str, body: object = None, *, expect: Collection[int]
    ) -> Reply:
        """Return the reply; its status is acknowledged even where its body is cut off."""
        was_away = self.away
        reply = await wire.ask(method, path, bearer=bearer, body=body)
        if reply.status == 503:
            self.unavailable += 1
            self._answered("unavailable")
            raise UnavailableError
        assert not (was_away and self.away), f"{method} {path} got {reply.status} while the database was away"
        assert reply.status in expect, f"{method} {path} got {reply.status}: {reply.text!r}"
        self._answered("served")
        return reply

    @asynccontextmanager
    async def _wire(self) -> AsyncIterator[Wire]:
        wire = Wire(self._port)
        try:
            yield wire
        finally:
            await wire.close()


def _token_path(agent: Agent) -> str:
    return f"{DELEGATION_TOKEN_PATH}?client_id={agent.client_id}"
