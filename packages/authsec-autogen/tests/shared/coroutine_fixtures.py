"""What the tests of the tools for coroutines share: a protected API, clients, models, and what was shown."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any, Protocol

import pytest

from authsec_core import AsyncAuthSecClient, AuthSecConfig, TokenRejectedError, TokenVerifier, VerifiedToken
from authsec_core._clock import SYSTEM_CLOCK
from authsec_core.testing import FakeClock, LocalAgent, LocalAuthority, LoopbackServer, Reply, Request, ScriptedModel

__all__ = ["Framework", "ProtectedApi", "_fresh_process", "api", "authority", "live", "model", "shown"]

DATA = {"metrics": {"active": 7, "from": "the API"}, "records": ["rec-1", "rec-2"]}
NEEDED = {"metrics": "read:metrics", "records": "read:records"}


class Framework(Protocol):
    """One framework, driven the way its users drive it."""

    def make(self, client: AsyncAuthSecClient | None = None, **options: Any) -> Any:
        """Return our tool for it."""
        ...

    async def ask(self, llm: ScriptedModel, *tools: Any) -> tuple[str | None, list[object]]:
        """Run an agent with these tools; return what it answered, and all that the framework remembers of the run."""
        ...


@pytest.fixture(autouse=True)
def _fresh_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each test a process that has no client yet."""
    from authsec_autogen import _coroutine_tool

    monkeypatch.setattr(_coroutine_tool, "ENVIRONMENT", type(_coroutine_tool.ENVIRONMENT)())


@pytest.fixture
def authority() -> Iterator[LocalAuthority]:
    """A running authority that knows no agent yet."""
    with LocalAuthority() as running:
        yield running


@dataclass
class ProtectedApi:
    """A small API that lets in whoever has the scope, and remembers who came with what."""

    verifier: TokenVerifier
    clock: FakeClock
    server: LoopbackServer = field(init=False)
    callers: list[VerifiedToken] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)
    meanwhile: Callable[[], object] = lambda: None

    def __post_init__(self) -> None:
        self.server = LoopbackServer(self._answer)

    @property
    def base_url(self) -> str:
        """The API's address."""
        return self.server.base_url

    def _answer(self, request: Request) -> Reply:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme != "Bearer":
            return Reply(status=401)
        self.tokens.append(token)
        self.meanwhile()
        # A framework may have taken seconds to load: to a clock that stood still, the token would be of the future.
        self.clock.advance(max(0.0, SYSTEM_CLOCK.wall() - self.clock.wall()))
        try:
            verified = self.verifier.verify(token)
        except TokenRejectedError:
            return Reply(status=401, headers={"WWW-Authenticate": 'Bearer error="invalid_token"'})
        topic = request.path.removeprefix("/secure-vault/")
        if NEEDED.get(topic) not in verified.scopes:
            return Reply(status=403)
        self.callers.append(verified)
        # A careless API: what it was sent comes back.
        return Reply.of_json({"topic": DATA[topic], "debug": request.headers["authorization"]})


@pytest.fixture
def api(authority: LocalAuthority) -> Iterator[ProtectedApi]:
    """A running API that trusts the authority."""
    clock = FakeClock(wall=SYSTEM_CLOCK.wall())
    verifier = TokenVerifier(
        issuer=authority.issuer,
        audience="authsec-api",
        jwks_url=authority.jwks_url,
        revocation_max_age=2.0,
        clock=clock,
    )
    protected = ProtectedApi(verifier, clock)
    with protected.server:
        yield protected


@pytest.fixture
def live(authority: LocalAuthority, api: ProtectedApi) -> Callable[..., AsyncAuthSecClient]:
    """A function that makes a LIVE client for an agent. Its connections end with the loop."""
    made: list[
        AsyncAuthSecClient
    ] = []  # a client that is dropped in a loop that ends cannot close its connections any more

    def make(agent: LocalAgent, *, transport: Any = None, **settings: Any) -> AsyncAuthSecClient:
        given = {
            "base_url": authority.base_url,
            "client_id": agent.client_id,
            "agent_key": agent.agent_key,
            "api_base_url": api.base_url,
            **settings,
        }
        made.append(AsyncAuthSecClient(AuthSecConfig(**given), transport=transport))
        return made[-1]

    return make


@pytest.fixture
def model() -> Iterator[Callable[..., ScriptedModel]]:
    """A function that starts a scripted model."""
    with ExitStack() as running:
        yield lambda *turns: running.enter_context(ScriptedModel(*turns))


@pytest.fixture
def shown(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> Callable[[], list[object]]:
    """A function that returns all that was printed and logged, at DEBUG."""
    caplog.set_level(logging.DEBUG)
    return lambda: [*capfd.readouterr(), *caplog.records]
