"""A gateway to test: served over real HTTP, with tokens of a real authority and a scripted model.

Time is the test's: the authority and the guard go by a clock that stands still until it is moved.
"""

from __future__ import annotations

import contextlib
import shutil
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
from autogen_ext.models.openai import OpenAIChatCompletionClient

from agent_gateway.app import create_app
from agent_gateway.identities import AUDIENCE, CALLERS
from agent_gateway.modes import POLICY
from agent_gateway.offline import reply
from agent_gateway.serving import Served
from authsec_core import AuthSecClient, AuthSecConfig
from authsec_core.testing import FakeClock, ScriptedModel
from authsec_fastapi import AuditEvent, AuthSecGuard, CombinedSink, JsonLinesSink, TrustedIssuer
from authsec_server.testing import OnboardedAgent, RunningAuthority

__all__ = ["PATIENCE", "Open", "Place", "Remembered", "World", "bearer", "gateways", "worlds"]

PATIENCE: Final = 60.0  # seconds on a busy machine; a test that waits so long fails
_MAX_AGE: Final = 2.0  # seconds that the gateway goes by a status list


@dataclass
class Remembered:
    """A sink that can be waited for."""

    events: list[AuditEvent] = field(default_factory=list)
    _news: threading.Condition = field(default_factory=threading.Condition)

    def record(self, event: AuditEvent) -> None:
        with self._news:
            self.events.append(event)
            self._news.notify_all()

    async def arecord(self, event: AuditEvent) -> None:
        self.record(event)

    def wait_for(self, kind: str) -> AuditEvent:
        """Return the first event of this kind, when it is there."""

        def found() -> AuditEvent | None:
            return next((event for event in self.events if event.event == kind), None)

        with self._news:
            event = self._news.wait_for(found, PATIENCE)
        assert event is not None, f"no {kind} among {self.events}"
        return event


@dataclass(kw_only=True)
class World:
    """An authority, and callers of each role."""

    authority: RunningAuthority
    clock: FakeClock
    tokens: dict[str, str] = field(default_factory=dict)

    def token(self, role: str) -> str:
        """Return the token of the one caller with this role."""
        if role not in self.tokens:
            self.tokens[role] = self.fetch(self.onboard(role))
        return self.tokens[role]

    def onboard(self, role: str, **given: Any) -> OnboardedAgent:
        """Return a new caller with this role."""
        return self.authority.onboard(CALLERS[role], role=role, audiences=[AUDIENCE], **given)

    def fetch(self, agent: OnboardedAgent) -> str:
        """Return a token of theirs."""
        config = AuthSecConfig(
            mode="live",
            base_url=agent.base_url,
            client_id=agent.client_id,
            agent_key=agent.agent_key,
            audience=AUDIENCE,
        )
        with AuthSecClient(config) as client:
            return client.delegation_token().value

    def revoke(self, agent: OnboardedAgent) -> None:
        """Revoke a caller, and let the time go by after which that counts."""
        self.authority.client.post(f"/clients/{agent.client_id}/revoke").raise_for_status()
        self.clock.advance(_MAX_AGE + 1.5)  # the authority publishes it within a second


@dataclass(kw_only=True)
class Place:
    """A gateway that is being served, its model, and what it put on record."""

    http: httpx.Client
    model: ScriptedModel
    sink: Remembered
    audit: Path
    policy: Path

    def post(self, path: str, token: str | None, body: Mapping[str, Any] | None = None) -> httpx.Response:
        """Call it as the holder of a token, or as nobody."""
        return self.http.post(path, json=body, headers=bearer(token))

    def ask(self, token: str, message: str, conversation: str | None = None) -> Any:
        """Return the answer to a question that has to be answered."""
        body = {"message": message} | ({} if conversation is None else {"conversation": conversation})
        answer = self.post("/chat", token, body)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def orders(self, token: str) -> list[dict[str, str]]:
        """Return a caller's orders."""
        orders: list[dict[str, str]] = self.http.get("/orders", headers=bearer(token)).json()["orders"]
        return orders


Open = Callable[..., Place]


def bearer(token: str | None) -> dict[str, str]:
    """Return the header for a token."""
    return {} if token is None else {"Authorization": f"Bearer {token}"}


@contextlib.contextmanager
def worlds() -> Iterator[World]:
    """Provide an authority by a clock of its own."""
    clock = FakeClock()
    with RunningAuthority(clock=clock) as authority:
        yield World(authority=authority, clock=clock)


@contextlib.contextmanager
def gateways(world: World, folder: Path) -> Iterator[Open]:
    """Provide a function that serves a gateway whose model plays these turns; without any, the offline model's."""
    with contextlib.ExitStack() as held:

        def serve(*turns: Any) -> Place:
            policy, audit, sink = folder / "policy.yaml", folder / "audit.jsonl", Remembered()
            shutil.copy(POLICY, policy)
            trusted = TrustedIssuer(
                issuer=world.authority.issuer,
                audience=AUDIENCE,
                roles_claim="delegated_by",
                revocation_max_age=_MAX_AGE,
            )
            guard = AuthSecGuard(
                issuers=[trusted], policy=policy, sink=CombinedSink(sink, JsonLinesSink(audit)), clock=world.clock
            )
            model = ScriptedModel(*(turns or [reply] * 200), model="gpt-4o-2024-08-06")
            held.enter_context(model)
            client = OpenAIChatCompletionClient(model=model.model, base_url=model.base_url, api_key=model.api_key)
            served = held.enter_context(Served(create_app(guard, model=client, interval=0.05)))
            http = held.enter_context(httpx.Client(base_url=served.base_url, trust_env=False, timeout=PATIENCE))
            return Place(http=http, model=model, sink=sink, audit=audit, policy=policy)

        yield serve
