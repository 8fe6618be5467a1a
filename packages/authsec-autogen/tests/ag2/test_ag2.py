"""What is peculiar to ag2: tracebacks, names, deep copies, hooks around tools, runs that are left."""

from __future__ import annotations

import asyncio
import functools
import json
import logging
import threading
from collections.abc import Callable
from importlib.util import find_spec
from typing import Annotated, Any

import pytest
from ag2 import tool
from ag2.middleware import LoggingMiddleware, approval_required

from authsec_core.testing import Call, LocalAuthority, ScriptedModel, assert_no_secret, call

METRICS = {"endpoint": "secure-vault/metrics", "scope": "read:metrics"}
KEY = "agent-key-canary.0123456789abcdef0123456789abcdef"
PATIENCE = 30.0  # seconds after which something hangs
Start = Callable[..., ScriptedModel]
LAST_WINS = find_spec("ag2.tools.precedence") is not None  # later than 1.0


def test_arguments_that_ag2_refuses_are_no_traceback(
    framework: Any, model: Start, live: Any, authority: LocalAuthority, caplog: pytest.LogCaptureFixture
) -> None:
    """The trap: for a tool of one's own ag2 shows the model a traceback, with paths and the turn's context."""
    ours = framework.make(live(authority.register(["read:metrics"], agent_key=KEY)))

    async def theirs(endpoint: str, scope: str) -> str:
        return endpoint + scope

    broken = ["{}", "null", '{"endpoint": 7, "scope": "x", "stack": 1}']
    llm = model([Call(name, text) for name in ("theirs", ours.name) for text in broken], "done")
    asyncio.run(framework.ask(llm, tool(theirs), ours))
    results = llm.tool_results
    assert all("Traceback" in text and "site-packages" in text for text in results[:3])
    assert "__ctx__" in results[0]
    for text in results[3:]:
        assert json.loads(text) == {
            "status": "error",
            "mode": "live",
            "code": "endpoint_refused",
            "message": "Call this tool with two texts, 'endpoint' and 'scope'.",
            "retryable": False,
        }
    told = [record.getMessage() for record in caplog.records if record.name == "authsec.autogen"]
    assert sorted(told) == [  # so that operators can tell
        f"ag2 refused the arguments of {ours.name}: {kind}" for kind in ("TypeError", "TypeError", "ValidationError")
    ]


def test_of_two_tools_with_one_name_ag2_runs_both_or_the_last(
    framework: Any, model: Start, live: Any, authority: LocalAuthority, api: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """The trap behind the names that our tools have by default: 1.0 acts for both identities, later ones for one."""
    agents = [authority.register(["read:metrics"]) for _ in range(2)]
    llm = model(call("fetch", **METRICS), "done")
    asyncio.run(framework.ask(llm, *(framework.make(live(agent), name="fetch") for agent in agents)))
    came = {caller.client_id for caller in api.callers}
    assert came == {agent.client_id for agent in (agents[1:] if LAST_WINS else agents)}
    assert ("is overridden by" in caplog.text) is LAST_WINS


def test_an_approval_for_always_belongs_to_one_identity(framework: Any, live: Any, authority: LocalAuthority) -> None:
    """Later versions remember an "always" for the tool's source: it must not cover another identity's tool."""
    tools = [framework.make(live(authority.register(["read:metrics"])), name="fetch") for _ in range(2)]
    qualified = {one.model.call.__qualname__ for one in tools}
    assert len(qualified) == 2
    if LAST_WINS:
        assert len({one.source for one in tools}) == 2


@pytest.mark.parametrize(("answer", "asked"), [("y", 1), ("n", 0)])
def test_until_a_person_approves_nothing_is_requested(
    framework: Any, model: Start, live: Any, authority: LocalAuthority, api: Any, answer: str, asked: int
) -> None:
    """ag2's own hook works on the tool: only a yes has a token minted and the API asked."""
    fetch = framework.make(live(authority.register(["read:metrics"]))).with_middleware(approval_required())
    llm = model(call(fetch.name, **METRICS), "done")

    async def run() -> None:
        await framework.agent(llm, fetch, hitl_hook=lambda _request: answer).ask("go")

    asyncio.run(run())
    assert len(authority.requests) == len(api.callers) == asked
    assert ("success" in llm.tool_results[0]) is bool(asked)


@pytest.mark.req("RS8")
def test_what_ag2_logs_of_a_run_holds_data_and_no_token(
    framework: Any, model: Start, live: Any, authority: LocalAuthority, api: Any, shown: Callable[[], list[object]]
) -> None:
    """Its `LoggingMiddleware` writes arguments and results of every tool."""
    fetch = framework.make(live(authority.register(["read:metrics"], agent_key=KEY)))
    llm = model(call(fetch.name, **METRICS), call(fetch.name), "done")
    asyncio.run(framework.agent(llm, fetch, middleware=[LoggingMiddleware(logging.getLogger("runs"))]).ask("go"))
    logged = shown()
    assert any("active" in str(record) or "active" in getattr(record, "message", "") for record in logged)
    assert_no_secret(logged, KEY, *api.tokens)


def test_leaving_a_run_ends_the_call_in_flight(
    framework: Any, model: Start, live: Any, authority: LocalAuthority
) -> None:
    """ag2's own way to cancel: the turn never outlives its block."""
    fetch = framework.make(live(authority.register(["read:metrics"]), timeout=60.0))
    waiting = threading.Event()
    authority.fail(delay=waiting)
    llm = model(call(fetch.name, **METRICS), "done")

    async def leave() -> None:
        async with framework.agent(llm, fetch).run("go") as run:
            run.start()
            await asyncio.to_thread(authority.wait_for_requests, 1)

    async def bounded() -> None:
        await asyncio.wait_for(leave(), PATIENCE)
        waiting.set()

    asyncio.run(bounded())
    assert llm.remaining == 1


class Bound:
    """A tool as an object with a lock, as a client has one."""

    def __init__(self) -> None:
        self.lock = threading.Lock()

    async def fetch(self, endpoint: str) -> str:
        """Fetch."""
        return endpoint


def test_what_hangs_on_an_object_with_a_lock_cannot_be_a_tool(framework: Any, model: Start) -> None:
    """The trap that our tool avoids by being a closure: ag2 copies a tool and all that it hangs on."""
    with pytest.raises(TypeError, match="cannot pickle"):
        framework.agent(model(), tool(Bound().fetch))


def test_a_partial_shows_what_is_bound_to_it(framework: Any, model: Start) -> None:
    """The trap that our tool avoids by being a closure: what is bound goes to the model, which can replace it."""
    used: list[str] = []

    async def fetch(endpoint: str, vault_token: str) -> str:
        used.append(vault_token)
        return endpoint

    bound = tool(functools.partial(fetch, vault_token="bound-canary"), name="bound")
    llm = model(call("bound", endpoint="x", vault_token="mine"), "done")
    asyncio.run(framework.ask(llm, bound))
    assert "bound-canary" in llm.transcript
    assert used == ["mine"]


def test_a_described_parameter_is_no_tool() -> None:
    """The trap that our tool avoids with plain `str`: a description of two words is read as an annotation."""

    async def fetch(endpoint: Annotated[str, "two words"]) -> str:
        return endpoint

    with pytest.raises(SyntaxError):
        tool(fetch)
