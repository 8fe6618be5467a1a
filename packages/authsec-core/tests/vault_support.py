"""What the tests of the vault's client share: a vault in the network's place that remembers what it was sent.

It checks nothing itself.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import httpx
from core_support import Driver

from authsec_core import MockVault
from authsec_core.testing import FakeClock

__all__ = ["KEY", "PATH", "VALUE", "VAULT", "Network", "error"]

VAULT = "https://vault.test"
KEY = "agk_0123456789abcdef.q2w3e4r5t6y7u8i9o0p1a2s3d4f5g6h7"
PATH = "production/openai/api-key"
VALUE = "sk-sample-7f3a9c1e5b2d"


class Network:
    """Plays the vault at `VAULT`: what the test says where it says something, else what a `MockVault` would.

    Attributes:
        requests: What was sent, in order.
        answers: What to answer with first, one after the other.
    """

    def __init__(self, clock: FakeClock) -> None:
        self.clock, self.mock = clock, MockVault({PATH: VALUE}, clock=clock)
        self.mock.agent_key = type(self.mock.agent_key)(KEY)
        self.requests: list[httpx.Request] = []
        self.answers: list[Callable[[httpx.Request], httpx.Response]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        """Answer for the network."""
        self.requests.append(request)
        if self.answers:
            return self.answers.pop(0)(request)
        reply = self.mock.answer(
            request.method, request.url.path, dict(request.url.params), request.headers, request.content
        )
        return httpx.Response(reply.status, content=reply.body, headers=dict(reply.headers))

    def vault(self, driver: Driver, **given: Any) -> Any:
        """Return a LIVE vault of this network."""
        settings = {"url": VAULT, "agent_key": KEY, **given}
        return driver.vault(settings.pop("url"), handler=self, clock=self.clock, **settings)

    def will(self, status: int, body: object = None, **headers: str) -> None:
        """Answer the next request so."""
        content = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
        self.answers.append(lambda _: httpx.Response(status, content=content, headers=headers))

    def fail(self, exc: type[httpx.TransportError], times: int = 1) -> None:
        """Let the next requests end so."""

        def fail(request: httpx.Request) -> httpx.Response:
            raise exc("made up", request=request)

        self.answers += [fail] * times


def error(code: str, message: str = "what the vault says") -> dict[str, Any]:
    """Return the body of a refusal."""
    return {"error": {"code": code, "message": message}}
