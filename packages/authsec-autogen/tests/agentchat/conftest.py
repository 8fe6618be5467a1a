"""What the tests with real AgentChat share: when they are collected, a protected API, agents, and a limit on waiting.

They need `autogen_agentchat` and `autogen_ext`. Without them they are not collected, unless `--no-skipped-modules` says
that they must be there: then their own imports fail.
"""

from __future__ import annotations

import asyncio
import importlib.util
import logging
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from authsec_core import AsyncAuthSecClient, AuthSecConfig, TokenRejectedError, TokenVerifier, VerifiedToken
from authsec_core._clock import SYSTEM_CLOCK
from authsec_core.testing import FakeClock, LocalAgent, LocalAuthority, LoopbackServer, Reply, Request, ScriptedModel

if TYPE_CHECKING:
    from autogen_agentchat.agents import AssistantAgent

DATA = {"metrics": {"active": 7, "from": "the API"}, "records": ["rec-1", "rec-2"]}
NEEDED = {"metrics": "read:metrics", "records": "read:records"}
LONGEST = 20.0  # seconds; what takes longer hangs


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Collect these tests only where AgentChat is, or must be."""
    here = all(importlib.util.find_spec(name) for name in ("autogen_agentchat", "autogen_ext"))
    return None if here or config.getoption("no_skipped_modules") else True


@pytest.fixture(autouse=True)
def _fresh_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each test a process that has no client yet."""
    from authsec_autogen import _coroutine_tool

    monkeypatch.setattr(_coroutine_tool, "ENVIRONMENT", type(_coroutine_tool.ENVIRONMENT)())


@pytest.fixture
def finish() -> Callable[[Coroutine[Any, Any, Any]], Any]:
    """A function that runs a coroutine on a loop of its own and fails where it hangs, which is what AgentChat does."""

    def run(work: Coroutine[Any, Any, Any]) -> Any:
        async def limited() -> Any:
            return await asyncio.wait_for(work, LONGEST)

        return asyncio.run(limited())

    return run


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

    def __post_init__(self) -> None:
        self.server = LoopbackServer(self._answer)

    @property
    def base_url(self) -> str:
        """The API's address."""
        return self.server.base_url

    def _answer(self, request: Request) -> Reply:
        token = request.headers.get("authorization", "").removeprefix("Bearer ")
        self.tokens.append(token)
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
    """A function that makes a LIVE client for an agent. Its sockets end with the loop that used them."""

    def make(agent: LocalAgent, *, transport: Any = None, **settings: Any) -> AsyncAuthSecClient:
        given = {
            "base_url": authority.base_url,
            "client_id": agent.client_id,
            "agent_key": agent.agent_key,
            "api_base_url": api.base_url,
            **settings,
        }
        return AsyncAuthSecClient(AuthSecConfig(**given), transport=transport)

    return make


@pytest.fixture
def environ(authority: LocalAuthority, api: ProtectedApi, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """A function that makes the environment describe an agent."""

    def describe(agent: LocalAgent, **more: str) -> None:
        from authsec_autogen import _coroutine_tool

        monkeypatch.setattr(_coroutine_tool, "ENVIRONMENT", type(_coroutine_tool.ENVIRONMENT)())  # it is read once
        for name, value in (authority.environ(agent, api_base_url=api.base_url) | more).items():
            monkeypatch.setenv(name, value)

    return describe


@pytest.fixture
def model() -> Iterator[Callable[..., ScriptedModel]]:
    """A function that starts a scripted model."""
    with ExitStack() as running:
        # The dated name is the one to which AgentChat resolves `gpt-4o`; it warns where the reply names another.
        yield lambda *turns: running.enter_context(ScriptedModel(*turns, model="gpt-4o-2024-08-06"))


@pytest.fixture
def assistant() -> Callable[..., AssistantAgent]:
    """A function that makes an agent with a model and tools."""
    from autogen_agentchat.agents import AssistantAgent
    from autogen_ext.models.openai import OpenAIChatCompletionClient

    def make(llm: ScriptedModel, *tools: Any, name: str = "assistant", **settings: Any) -> AssistantAgent:
        client = OpenAIChatCompletionClient(model=llm.model, api_key=llm.api_key, base_url=llm.base_url)
        return AssistantAgent(name, client, tools=list(tools), **settings)

    return make


@pytest.fixture
def shown(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> Callable[[], list[object]]:
    """A function that returns all that was printed and logged, at DEBUG; AgentChat's event loggers included."""
    for name in (None, "autogen_core", "autogen_core.events", "autogen_agentchat", "autogen_agentchat.events"):
        caplog.set_level(logging.DEBUG, logger=name)
    return lambda: [*capfd.readouterr(), *caplog.records]
