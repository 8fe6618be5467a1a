"""What the types of `authsec_fastapi` say to who guards a service and its agents. `nox -s types` checks it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any

from autogen_core.tools import BaseTool as AgentChatTool
from crewai.tools import BaseTool as CrewAITool
from fastapi import Depends, FastAPI
from typing_extensions import assert_type

from authsec_fastapi import AgentRun, AuthSecGuard, Identity, Policy, Principal, RouteRule, ToolRule, TrustedIssuer
from authsec_fastapi.agentchat import guard_tools as guard_agentchat
from authsec_fastapi.classic import guard_tools as guard_classic
from authsec_fastapi.classic import register_tools
from authsec_fastapi.crewai import guard_tools as guard_crewai
from authsec_fastapi.guard import CallerDependency

guard = AuthSecGuard(
    issuers=[TrustedIssuer(issuer="https://a.example", audience="api", revocation="when-present")],
    policy=Policy(
        roles={"agent": frozenset({"respond"})},
        tools={"lookup": ToolRule(scopes=frozenset({"read:orders"}), action="respond", role="agent")},
        routes=(RouteRule(path="/health", methods=frozenset({"GET"}), public=True),),
    ),
)


def lookup(order: str, caller: Principal) -> str:
    """Look an order up."""
    return order + caller.subject


async def alookup(order: str) -> str:
    """Look an order up, on a loop."""
    return order


def requirements() -> None:
    """Scopes by position, the rest by name; what comes back is for `Depends`."""
    assert_type(guard.require("read:orders"), CallerDependency)
    assert_type(guard.require("a", "b", role="agent", action="respond"), CallerDependency)
    assert_type(guard.require_role("agent"), CallerDependency)
    assert_type(guard.require_action("respond"), CallerDependency)
    assert_type(guard.require_caller(), CallerDependency)
    assert_type(guard.policy, Policy)
    guard.require(["a", "b"])  # type: ignore[arg-type]
    guard.require("a", "b", "agent", action=1)  # type: ignore[arg-type]
    AuthSecGuard("https://a.example")  # type: ignore[call-arg]
    AuthSecGuard(issuer="https://a.example", audience="a", revocation="of")  # type: ignore[arg-type]


def application(app: FastAPI) -> None:
    """A route's parameter is a principal."""

    @app.get("/orders")
    async def orders(caller: Annotated[Principal, Depends(guard.require("read:orders"))]) -> str:
        return caller.subject

    assert_type(guard.responses, dict[int | str, dict[str, Any]])


def a_principal(caller: Principal) -> None:
    """Who it is, and what the token says; nothing of it can be set."""
    assert_type(caller.subject, str)
    assert_type(caller.client_id, str | None)
    assert_type(caller.spiffe_id, str | None)
    assert_type(caller.user, str | None)
    assert_type(caller.scopes, frozenset[str])
    assert_type(caller.roles, frozenset[str])
    assert_type(caller.expires_at, int | None)
    assert_type(caller.claims, Mapping[str, Any])
    assert_type(caller.identity, Identity)
    assert_type(caller.covers("read:orders"), bool)
    caller.subject = "mallory"  # type: ignore[misc]


async def tools(caller: Principal) -> None:
    """Functions come back as functions, a framework's tools as that framework's."""
    async with guard.run(caller, agent="support", conversation="c1") as run:
        assert_type(run, AgentRun)
        assert_type(guard.tools(caller, [lookup, alookup], run=run), list[Callable[..., Any]])
        assert_type(guard_agentchat(guard, caller, [lookup, alookup], run=run), list[AgentChatTool[Any, Any]])
        assert_type(guard_crewai(guard, caller, [lookup], run=run), list[CrewAITool])
        assert_type(guard_classic(guard, caller, [lookup, alookup], run=run), list[Callable[..., Any]])
    guard.tools(caller, lookup)  # type: ignore[arg-type]
    guard.tools("ann", [lookup])  # type: ignore[arg-type]
    guard.tools(caller, ["lookup"])  # type: ignore[list-item]
    guard.tools(caller, [lookup], run="r1")  # type: ignore[arg-type]


def mixed(caller: Principal, chat: AgentChatTool[Any, Any], crew: CrewAITool) -> None:
    """Tools of one framework and functions in one list; those of another are an error."""
    guard_agentchat(guard, caller, [chat, lookup])
    guard_crewai(guard, caller, [crew, lookup])
    guard_agentchat(guard, caller, [crew])  # type: ignore[list-item]


def registration(caller: Principal, agent: Any) -> None:
    """Agents are named, and what comes back is the names of the tools."""
    assert_type(register_tools(guard, caller, [lookup], caller=agent, executor=agent), list[str])
    register_tools(guard, caller, [lookup], agent, agent)  # type: ignore[call-arg]
