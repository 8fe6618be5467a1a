"""CrewAI in a home of its own, a model that plays a script, and a deployment of authority and protected API.

The tests here need CrewAI; without it they are not collected, unless the run says that nothing may be skipped.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from authsec_core import AuthSecClient, TokenRejectedError, TokenVerifier
from authsec_core.testing import FakeClock, LocalAgent, LocalAuthority, LoopbackServer, Reply, Request, ScriptedModel

sys.path.insert(0, str(Path(__file__).parents[1]))  # modules that tests share; importlib mode adds no folders

from crew_support import need

if TYPE_CHECKING:
    from crewai import Crew

SEED_TASK = "Fetch the latest metrics from the secure vault and summarize them."
METRICS = {"active_agents": 17, "region": "eu-canary-7"}
RECORDS = [{"id": "rec-7", "owner": "Lin Muster"}]
PAYROLL = {"total": 481_516}
ROUTES = {
    "/secure-vault/metrics": ("read:metrics", METRICS),
    "/secure-vault/records": ("read:records", RECORDS),
    "/finance/payroll": ("read:payroll", PAYROLL),
}
POLICY = {"secure-vault/metrics": ("read:metrics",), "secure-vault/records": ("read:records",)}
WARNINGS = [
    # CrewAI reads its own deprecated fields, with which none of our arguments has to do.
    r"ignore:.*deprecated:DeprecationWarning:crewai\.",
    # litellm, which CrewAI before 1.0 imports, reads its own files in a way that importlib.resources has replaced.
    r"ignore:open_text is deprecated:DeprecationWarning:litellm\.",
    # The same versions and their litellm declare models as pydantic 1 did.
    r"ignore:(Support for class-based `config`|Pydantic V1 style):pydantic.PydanticDeprecatedSince20",
    # Told apart and tested in test_retention.py; every other LIVE test would stumble over it.
    "ignore::authsec_crewai.AuthSecCrewAIWarning",
]


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave these tests out where CrewAI is not installed, unless that is itself the failure."""
    required = config.getoption("no_skipped_modules", default=False)
    return True if importlib.util.find_spec("crewai") is None and not required else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Filter CrewAI's own warnings, and those alone."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            for warning in WARNINGS:
                item.add_marker(pytest.mark.filterwarnings(warning), append=False)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, _loopback_only: None) -> Path:
    """Give CrewAI a folder of its own for everything that it writes, from its import on, and let nothing phone home."""
    for name in ("HOME", "USERPROFILE", "XDG_DATA_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME", "CREWAI_STORAGE_DIR"):
        monkeypatch.setenv(name, str(tmp_path))
    for name in ("CREWAI_DISABLE_TELEMETRY", "CREWAI_DISABLE_VERSION_CHECK", "OTEL_SDK_DISABLED"):
        monkeypatch.setenv(name, "true")
    monkeypatch.setenv("CREWAI_TRACING_ENABLED", "false")
    # CrewAI before 1.0 imports litellm, which otherwise asks GitHub for a list of prices.
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    return tmp_path


@pytest.fixture(autouse=True)
def _closed_clients(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Close every client at the end, those that tools make for themselves too: a socket left open is a warning."""
    with ExitStack() as made:
        original = AuthSecClient.__init__

        def init(self: AuthSecClient, *args: Any, **options: Any) -> None:
            original(self, *args, **options)
            made.callback(self.close)

        monkeypatch.setattr(AuthSecClient, "__init__", init)
        yield


@pytest.fixture
def start_model() -> Iterator[Callable[..., ScriptedModel]]:
    """A function that starts a model with the turns that it is given."""
    with ExitStack() as running:
        yield lambda *turns: running.enter_context(ScriptedModel(*turns))


@pytest.fixture
def make_agent() -> Callable[..., Any]:
    """A function that makes a CrewAI agent that talks to a scripted model."""
    from crewai import LLM, Agent

    def make(model: ScriptedModel, *tools: Any, role: str = "Security Analyst", **options: Any) -> Any:
        llm = LLM(**dict[str, Any](model.crewai_llm))
        return Agent(role=role, goal="Report", backstory="Careful.", tools=list(tools), llm=llm, **options)

    return make


@pytest.fixture(params=["tool calls", "ReAct"])
def make_speaker(request: pytest.FixtureRequest, make_agent: Callable[..., Any]) -> Callable[..., Any]:
    """`make_agent` for both ways in which CrewAI lets a model call tools, one after the other."""
    if request.param == "tool calls":
        need("crewai.utilities.agent_utils:convert_tools_to_openai_schema", "this CrewAI asks for tools in text alone")

    def make(model: ScriptedModel, *tools: Any, **options: Any) -> Any:
        agent = make_agent(model, *tools, **options)
        if request.param == "ReAct":
            agent.llm.supports_function_calling = lambda: False
        return agent

    return make


@pytest.fixture
def make_crew(make_agent: Callable[..., Any]) -> Callable[..., Crew]:
    """A function that makes a crew of one task for each agent; given tools, of one agent that has them."""
    from crewai import Agent, Crew, Task

    def make(model: ScriptedModel, *members: Any, task: str = SEED_TASK, **options: Any) -> Crew:
        agents = members if isinstance(members[0], Agent) else [make_agent(model, *members)]
        tasks = [Task(description=task, expected_output="A brief summary.", agent=agent) for agent in agents]
        return Crew(agents=list(agents), tasks=tasks, **options)

    return make


@dataclass
class Deployment:
    """An authority and a protected API on loopback that go by one clock, and what both have seen."""

    authority: LocalAuthority
    api: LoopbackServer
    clock: FakeClock
    bearers: list[str] = field(default_factory=list)
    served: list[tuple[str, str | None]] = field(default_factory=list)  # path, client id of the token

    def client(self, agent: LocalAgent, **settings: Any) -> AuthSecClient:
        """Return a client of this agent whose operator permits metrics and records."""
        from authsec_core import AuthSecConfig

        config = AuthSecConfig(
            base_url=self.authority.base_url,
            client_id=agent.client_id,
            **{
                "agent_key": agent.agent_key,
                "api_base_url": self.api.base_url,
                "endpoint_scopes": POLICY,
                "failure_cooldown": 0.0,
                **settings,
            },
        )
        return AuthSecClient(config, clock=self.clock)


@pytest.fixture
def deployment() -> Iterator[Deployment]:
    """A running `Deployment`; the API verifies what it is sent with `TokenVerifier`."""
    clock = FakeClock()

    def answer(request: Request) -> Reply:
        bearer = request.headers.get("authorization", "").removeprefix("Bearer ")
        made.bearers.append(bearer)
        try:
            verified = verifier.verify(bearer)
        except TokenRejectedError:
            return Reply(status=401, headers={"WWW-Authenticate": 'Bearer error="invalid_token"'}, body=b"refused")
        needed, data = ROUTES[request.path]
        if not verified.covers(needed):
            return Reply(status=403, body=b"refused")
        made.served.append((request.path, verified.client_id))
        return Reply.of_json(data)

    with LocalAuthority(clock=clock) as authority, LoopbackServer(answer) as api:
        verifier = TokenVerifier(
            issuer=authority.issuer, audience="authsec-api", jwks_url=authority.jwks_url, clock=clock
        )
        made = Deployment(authority, api, clock)
        yield made
