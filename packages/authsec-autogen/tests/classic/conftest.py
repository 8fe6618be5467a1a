"""What the tests with a real framework share: when they are collected, a protected API, conversations, what was shown.

They need a module `autogen`. Without one they are not collected, unless `--no-skipped-modules` says that it must be
there: then their own imports fail.
"""

from __future__ import annotations

import asyncio
import importlib.util
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from authsec_core import (
    AsyncAuthSecClient,
    AuthSecClient,
    AuthSecConfig,
    TokenRejectedError,
    TokenVerifier,
    VerifiedToken,
)
from authsec_core._clock import SYSTEM_CLOCK
from authsec_core.testing import FakeClock, LocalAgent, LocalAuthority, LoopbackServer, Reply, Request, ScriptedModel

DATA = {"metrics": {"active": 7, "from": "the API"}, "records": ["rec-1", "rec-2"]}
NEEDED = {"metrics": "read:metrics", "records": "read:records"}

# What the frameworks themselves do, which is not ours to mend.
FRAMEWORK_WARNINGS = (
    # Microsoft's 0.2 asks whether Docker runs, and forgets the Unix socket on which nobody answered.
    r"ignore:unclosed <socket\.socket fd=\d+, family=(1|AddressFamily\.AF_UNIX),:ResourceWarning",
    # Microsoft's 0.2 times its replies with it; Python 3.12 warns.
    r"ignore:datetime\.datetime\.utcnow:DeprecationWarning:autogen\.",
    # AG2 0.9 would have it otherwise, and does itself what it warns of; 0.14 takes it without a word.
    "ignore:`LLMConfig\\(config_list=.*is deprecated:DeprecationWarning",
    "ignore:`LLMConfig.current / .default` properties are deprecated:DeprecationWarning:autogen",
    "ignore:The `copy` method is deprecated:pydantic.warnings.PydanticDeprecatedSince20",
)


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Collect these tests only where AutoGen is, or must be."""
    if importlib.util.find_spec("autogen") is None and not config.getoption("no_skipped_modules"):
        return True
    return None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Filter the frameworks' own warnings, for the tests in this folder only."""
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            for ignored in FRAMEWORK_WARNINGS:
                item.add_marker(pytest.mark.filterwarnings(ignored))


@pytest.fixture(autouse=True)
def _fresh_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Give each test a process that has no client yet, has warned of nothing, and works in a folder of its own."""
    from authsec_autogen import _advice, _environment, classic, secret_fetch, vault

    environment = type(_environment.ENVIRONMENT)()
    vaults = type(_environment.VAULT_ENVIRONMENT)()
    monkeypatch.setattr(classic, "ENVIRONMENT", environment)
    monkeypatch.setattr(secret_fetch, "VAULT_ENVIRONMENT", vaults)
    monkeypatch.setattr(vault, "ASYNC_VAULT_ENVIRONMENT", type(_environment.ASYNC_VAULT_ENVIRONMENT)())
    monkeypatch.setattr(_advice, "_told", set())
    monkeypatch.chdir(tmp_path)
    yield
    for made in (environment._client, vaults._client):
        if made is not None:
            made.close()


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

    def verify(self, token: str) -> VerifiedToken:
        """Return what a token says, as of now."""
        # A framework may have taken seconds to load: to a clock that stood still, the token would be of the future.
        self.clock.advance(max(0.0, SYSTEM_CLOCK.wall() - self.clock.wall()))
        return self.verifier.verify(token)

    def _answer(self, request: Request) -> Reply:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme != "Bearer":
            return Reply(status=401)
        self.tokens.append(token)
        try:
            verified = self.verify(token)
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
    protected = ProtectedApi(
        TokenVerifier(
            issuer=authority.issuer,
            audience="authsec-api",
            jwks_url=authority.jwks_url,
            revocation_max_age=2.0,
            clock=clock,
        ),
        clock,
    )
    with protected.server:
        yield protected


@pytest.fixture
def live(authority: LocalAuthority, api: ProtectedApi) -> Iterator[Callable[..., Any]]:
    """A function that makes a LIVE client for an agent, sync or async, and closes it when the test ends."""
    with ExitStack() as closing:

        def make(agent: LocalAgent, kind: type[Any] = AuthSecClient, **settings: Any) -> Any:
            given = {
                "base_url": authority.base_url,
                "client_id": agent.client_id,
                "agent_key": agent.agent_key,
                "api_base_url": api.base_url,
                **settings,
            }
            client = kind(AuthSecConfig(**given))
            if kind is not AsyncAuthSecClient:
                closing.callback(client.close)
            return client

        yield make


@pytest.fixture
def model() -> Iterator[Callable[..., ScriptedModel]]:
    """A function that starts a scripted model."""
    with ExitStack() as running:
        yield lambda *turns: running.enter_context(ScriptedModel(*turns))


@pytest.fixture(params=["sync", "async"])
def converse(request: pytest.FixtureRequest) -> Callable[..., None]:
    """A function that lets one agent open a chat with another; both ways that AutoGen has."""

    def sync(opener: Any, other: Any, message: Any, *, silent: bool = True, **more: Any) -> None:
        opener.initiate_chat(other, message=message, silent=silent, **more)

    def by_loop(opener: Any, other: Any, message: Any, *, silent: bool = True, **more: Any) -> None:
        asyncio.run(opener.a_initiate_chat(other, message=message, silent=silent, **more))

    return sync if request.param == "sync" else by_loop


@pytest.fixture
def agents() -> Callable[..., Any]:
    """A function that makes an assistant with a model, or without one the proxy that runs functions."""
    import autogen

    def make(name: str, model: ScriptedModel | Mapping[str, Any] | None = None, **settings: Any) -> Any:
        if model is None:
            given = {"human_input_mode": "NEVER", "code_execution_config": False, "max_consecutive_auto_reply": 60}
            given["is_termination_msg"] = lambda message: "TERMINATE" in (message.get("content") or "")
            return autogen.UserProxyAgent(name, **{**given, **settings})
        config = model.llm_config if isinstance(model, ScriptedModel) else model
        return autogen.AssistantAgent(name, llm_config=config, **settings)

    return make


@pytest.fixture
def shown(capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture) -> Callable[[], list[object]]:
    """A function that returns all that was printed and logged, at DEBUG."""
    caplog.set_level(logging.DEBUG)
    return lambda: [*capfd.readouterr(), *caplog.records]
