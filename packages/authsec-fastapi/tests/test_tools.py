"""The functions of an agent, for one caller: which it is given, what a model sees of them, and what each call may do.

No `from __future__ import annotations`: some functions here have annotations that are made inside others.
"""

import asyncio
import functools
import inspect
import json
import logging
import pickle
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated, Any

import pytest
from guard_support import Issuer, Memory, caller
from tool_support import someone

from authsec_core import ConfigurationError, ExpiredTokenError, RevokedTokenError, VerificationUnavailableError
from authsec_core.errors import AuthSecError
from authsec_fastapi import AuthSecGuard, Policy, Principal, ToolRule

issuer = Issuer()
POLICY = Policy(
    roles={"viewer": frozenset({"read"}), "agent": frozenset({"read", "respond"})},
    tools={
        "lookup": ToolRule(scopes=frozenset({"read:orders"})),
        "alookup": ToolRule(scopes=frozenset({"read:orders"})),
        "refund": ToolRule(scopes=frozenset({"write:refunds"}), action="respond"),
        "help": ToolRule(),
        "staff": ToolRule(role="agent"),
        "method": ToolRule(),
    },
)


def lookup(order: Annotated[str, "Its number."], caller: Principal, *, full: bool = False) -> str:
    """Look an order up."""
    return f"{caller.subject} {order} {full}"


async def alookup(caller: Principal, order: str) -> str:
    """Look an order up, on a loop."""
    return f"{caller.subject} {order}"


def refund(order: str) -> str:
    """Pay back."""
    return "refunded"


def help() -> str:
    """Say what there is."""
    return "help"


def staff() -> str:
    """Only for staff."""
    return "staff"


ALL: list[Callable[..., Any]] = [lookup, alookup, refund, help, staff]


def names(tools: list[Callable[..., Any]]) -> list[str]:
    """Return what tools are called."""
    return [tool.__name__ for tool in tools]


def result(tool: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
    """Call a tool, sync or async."""
    answer = tool(*arguments, **named)
    return asyncio.run(answer) if inspect.iscoroutine(answer) else answer


@pytest.fixture
def guard() -> AuthSecGuard:
    """A guard with rules for tools."""
    return issuer.guard(policy=POLICY)


@pytest.mark.req("RV6")
@pytest.mark.parametrize(
    ("scopes", "roles", "given"),
    [
        ((), (), ["help"]),
        (("read:orders",), (), ["lookup", "alookup", "help"]),
        (("read:orders:all", "read", "READ:ORDERS"), (), ["help"]),
        (("write:refunds",), (), ["help"]),
        (("write:refunds",), ("viewer",), ["help"]),
        (("write:refunds",), ("agent",), ["refund", "help", "staff"]),
        (("read:orders", "write:refunds"), ("agent",), ["lookup", "alookup", "refund", "help", "staff"]),
    ],
)
def test_an_agent_gets_what_its_caller_may_use(
    guard: AuthSecGuard, scopes: tuple[str, ...], roles: tuple[str, ...], given: list[str]
) -> None:
    """Scope, role and action of a tool are all needed, each exactly; the order stays."""
    principal, _ = someone("ann", *scopes, roles=roles)
    assert names(guard.tools(principal, ALL)) == given


def test_a_caller_with_no_tools_gets_an_empty_list(guard: AuthSecGuard) -> None:
    """Which is no error: the agent can still talk."""
    assert guard.tools(someone()[0], [refund]) == []
    assert guard.tools(someone()[0], []) == []


def test_a_caller_from_a_token_uses_a_tool() -> None:
    """From the token in a request to the tool's answer, with each decision on record."""
    memory = Memory()
    guard = issuer.guard(policy=POLICY, sink=memory)
    principal = asyncio.run(caller(guard, issuer.token("read:orders", sub="ann")))
    offered, _, _ = guard.tools(principal, ALL)
    assert offered("7", full=True) == "ann 7 True"
    event = memory.events[-1]
    assert (event.event, event.outcome, event.tool, event.subject, event.needed) == (
        "tool",
        "allow",
        "lookup",
        "ann",
        ("read:orders",),
    )


def test_a_model_sees_a_function_without_its_caller(guard: AuthSecGuard) -> None:
    """Name, text and resolved signature are the function's; nothing leads around the guard or to the caller."""
    principal, _ = someone("ann", "read:orders")
    offered, aoffered, _ = guard.tools(principal, ALL)
    assert (offered.__name__, offered.__qualname__, offered.__doc__) == ("lookup", "lookup", "Look an order up.")
    shown = str(inspect.signature(offered, eval_str=True)).replace("typing.", "")  # which 3.10 puts before it
    assert shown == "(order: Annotated[str, 'Its number.'], *, full: bool = False) -> str"
    assert offered.__annotations__ == {"order": Annotated[str, "Its number."], "full": bool, "return": str}
    assert list(inspect.signature(aoffered).parameters) == ["order"]
    assert inspect.iscoroutinefunction(aoffered)
    assert not inspect.iscoroutinefunction(offered)
    assert not hasattr(offered, "__wrapped__")
    assert (offered.__defaults__, offered.__kwdefaults__) == (None, None)
    assert "ann" not in repr(offered) + repr(vars(offered)) + inspect.getsource(offered)


def test_annotations_that_are_text_are_resolved(guard: AuthSecGuard) -> None:
    """A module with `from __future__ import annotations` has nothing else; what cannot be resolved is refused."""

    def method(a: "int", who: "Principal | None", b: "Annotated[Principal, 'who']") -> "list[str]":
        return [str(a), who.subject if who else "", b.subject]

    (offered,) = guard.tools(someone()[0], [method])
    assert offered.__annotations__ == {"a": int, "return": list[str]}
    assert offered(3) == ["3", "ann", "ann"]
    method.__annotations__["a"] = "Missing"
    with pytest.raises(TypeError, match="TYPE_CHECKING"):
        guard.tools(someone()[0], [method])


@pytest.mark.req("RD6")
@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("7", "mallory"), {}),
        (("7",), {"caller": "mallory"}),
        (("7",), {"caller": someone("mallory")[0]}),
        (("7",), {"principal": "mallory"}),
        (("7",), {"order": "8"}),
        ((), {"full": True}),
    ],
)
@pytest.mark.parametrize("which", [0, 1])
def test_what_a_model_makes_up_reaches_no_function(
    which: int, arguments: tuple[Any, ...], named: dict[str, Any]
) -> None:
    """The function is not run, the model reads what it takes and nothing of what was sent, and nothing is decided."""
    memory = Memory()
    guard = issuer.guard(policy=POLICY, sink=memory)
    offered = guard.tools(someone("ann", "read:orders")[0], ALL)[which]
    answer = json.loads(result(offered, *arguments, **named))
    assert (answer["status"], answer["code"]) == ("error", "bad_arguments")
    assert "mallory" not in answer["message"]
    assert "caller" not in answer["message"]
    assert memory.events == []


@pytest.mark.req("RD4")
@pytest.mark.parametrize(
    ("error", "code", "retryable"),
    [
        (ExpiredTokenError("canary"), "token_expired", False),
        (RevokedTokenError("canary"), "token_revoked", False),
        (VerificationUnavailableError("canary"), "verification_unavailable", True),
        (ConfigurationError("canary"), "configuration", False),
    ],
)
def test_a_token_that_ends_in_the_middle_stops_the_next_call(
    error: AuthSecError, code: str, retryable: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Denied, unavailable and misconfigured differ; the model is told nothing else, and the denial is on record."""
    memory = Memory()
    guard = issuer.guard(policy=POLICY, sink=memory)
    principal, standing = someone("ann", "read:orders")
    for tool in guard.tools(principal, ALL)[:2]:
        standing.error = None
        assert result(tool, order="7").startswith("ann 7")
        standing.error = error
        answer = json.loads(result(tool, order="7"))
        assert (answer["status"], answer["code"], answer["retryable"]) == ("error", code, retryable)
        assert "canary" not in json.dumps(answer)
    assert [(event.outcome, event.reason) for event in memory.events] == [("allow", "allowed"), ("deny", code)] * 2
    assert ("canary" in caplog.text) == (code == "configuration")


@pytest.mark.req("RV5")
def test_a_policy_that_takes_a_tool_away_stops_the_next_call(guard: AuthSecGuard) -> None:
    """Whether the tool is gone or needs more; the next agent is just not given it, while a new name is an error."""
    principal, _ = someone("ann", "read:orders")
    offered = guard.tools(principal, [lookup])[0]
    for tools in ({}, {"lookup": ToolRule(scopes=frozenset({"canary:scope"}))}):
        guard.judge.policy = Policy(tools=tools)
        answer = json.loads(offered("7"))
        assert (answer["code"], answer["retryable"]) == ("access_denied", False)
        assert "canary" not in json.dumps(answer)
        assert guard.tools(principal, [lookup]) == []
    with pytest.raises(ConfigurationError, match="'refund'"):
        guard.tools(principal, [refund])
    guard.judge.policy = POLICY
    assert offered("7") == "ann 7 False"


def test_with_audit_first_nothing_runs_without_a_record() -> None:
    """A sink that fails is no reason to run a tool, nor for the run to break off."""
    ran: list[str] = []

    def method() -> str:
        ran.append("ran")
        return "ran"

    failing, relaxed = (
        issuer.guard(policy=POLICY, sink=Memory(failing=True), audit_first=first) for first in (True, False)
    )
    answer = json.loads(failing.tools(someone()[0], [method])[0]())
    assert (answer["code"], answer["retryable"], ran) == ("audit_unavailable", True, [])
    assert relaxed.tools(someone()[0], [method])[0]() == "ran"


@pytest.mark.req("RV5")
def test_a_tool_that_the_policy_does_not_know_is_an_error(guard: AuthSecGuard) -> None:
    """A typo on either side gives nobody a tool, and is said at once."""

    def lokup() -> None: ...

    with pytest.raises(ConfigurationError, match="'lokup'"):
        guard.tools(someone()[0], [lokup])
    with pytest.raises(ConfigurationError, match="'lookup'"):
        issuer.guard().tools(someone()[0], [lookup])


@pytest.mark.req("RV5")
def test_a_caller_that_no_guard_vouches_for_has_no_tools(guard: AuthSecGuard) -> None:
    """A principal that was made by hand is an error of the program."""
    with pytest.raises(ValueError, match="did not come from a guard"):
        guard.tools(Principal(subject="ann", issuer="x", scopes=frozenset({"read:orders"})), [lookup])


class Shop:
    """Something that has methods."""

    def method(self, a: int, caller: Principal) -> str:
        return f"{a} {caller.subject}"

    def __call__(self) -> None: ...


def generator() -> Iterator[str]:
    """Yields."""
    yield "a"


async def agenerator() -> AsyncIterator[str]:
    """Yields on a loop."""
    yield "a"


def any_arguments(*_args: str) -> None:
    """Take anything."""


def any_names(**_named: str) -> None:
    """Take anything by name."""


def with_default(caller: Principal | None = None) -> None:
    """Go on without a caller."""


def bare(order: str, principal) -> None:  # type: ignore[no-untyped-def]  # that is what it is about
    """Take whatever a model says the caller is."""


def several(callers: list[Principal]) -> None:
    """Take callers."""


def either(caller: Principal | str) -> None:
    """Take a caller or a name."""


@pytest.mark.parametrize(
    ("tool", "why"),
    [
        (functools.partial(lookup, order="7"), "not a partial"),
        (Shop(), "not a Shop"),
        (Shop, "not a type"),
        (print, "not a builtin"),
        ("lookup", "not a str"),
        (generator, "yields"),
        (agenerator, "yields"),
        (any_arguments, r"\*args"),
        (any_names, r"\*\*kwargs"),
        (with_default, "default"),
        (bare, "needs an annotation: Principal"),
        (several, "Principal alone"),
        (either, "Principal alone"),
    ],
)
def test_what_cannot_be_a_tool_is_refused(guard: AuthSecGuard, tool: Any, why: str) -> None:
    """The error says what it is and what to do instead."""
    with pytest.raises(TypeError, match=why):
        guard.tools(someone()[0], [tool])


def test_names_are_such_as_models_can_call(guard: AuthSecGuard) -> None:
    """And no two tools share one, for a framework would run whichever it likes."""
    with pytest.raises(ValueError, match="<lambda>"):
        guard.tools(someone()[0], [lambda: ""])
    with pytest.raises(ValueError, match="2 tools have the name 'lookup'"):
        guard.tools(someone()[0], [lookup, help, lookup])


def test_a_bound_method_is_a_tool(guard: AuthSecGuard) -> None:
    """What it is bound to stays out of sight."""
    (offered,) = guard.tools(someone()[0], [Shop().method])
    assert str(inspect.signature(offered)) == "(a: int) -> str"
    assert offered(3) == "3 ann"


def test_what_a_function_raises_is_its_own(guard: AuthSecGuard) -> None:
    """The guard answers for refusals, and hides no error of the tool."""

    def method() -> None:
        raise LookupError("no such order")

    with pytest.raises(LookupError):
        guard.tools(someone()[0], [method])[0]()


@pytest.mark.req("RS8")
def test_a_tool_is_not_pickled(guard: AuthSecGuard) -> None:
    """It acts for a caller who came to this process."""
    with pytest.raises((pickle.PicklingError, AttributeError, TypeError)):
        pickle.dumps(guard.tools(someone("ann", "read:orders")[0], [lookup])[0])


def test_a_run_knows_its_tools_and_its_decisions_are_told_apart() -> None:
    """The run is told what the agent was given, and each decision is on record as the run's; it is one caller's."""
    memory = Memory()
    guard = issuer.guard(policy=POLICY, sink=memory)
    principal, _ = someone("ann", "read:orders")
    with guard.run(principal, agent="support", conversation="c1") as run:
        offered = guard.tools(principal, ALL, run=run)
        assert run.tools == ("lookup", "alookup", "help")
        offered[0]("7")
        result(offered[1], "7")
        with pytest.raises(ValueError, match="another caller's"):
            guard.tools(someone("bob")[0], ALL, run=run)
    decided = [event for event in memory.events if event.event == "tool"]
    assert [(one.run_id, one.agent, one.conversation) for one in decided] == [(run.run_id, "support", "c1")] * 2


@pytest.mark.req("RD7", "RV6")
def test_two_callers_at_once_are_never_taken_for_each_other(guard: AuthSecGuard) -> None:
    """On threads and in tasks, interleaved call by call, each tool acts for the caller that it was made for."""
    callers = {name: guard.tools(someone(name, "read:orders")[0], ALL) for name in ("ann", "bob")}
    together = threading.Barrier(2)

    def on_a_thread(name: str) -> set[str]:
        seen = set()
        for order in range(50):
            together.wait()
            seen.add(callers[name][0](str(order)).split()[0])
        return seen

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(on_a_thread, callers)) == [{"ann"}, {"bob"}]

    async def in_tasks() -> list[Any]:
        return await asyncio.gather(*(callers[name][1](order=str(n)) for n in range(50) for name in callers))

    assert asyncio.run(in_tasks()) == [f"{name} {n}" for n in range(50) for name in callers]


def test_a_refusal_does_not_stop_the_other_caller(guard: AuthSecGuard, caplog: pytest.LogCaptureFixture) -> None:
    """One caller's token is revoked, the other's tools go on."""
    caplog.set_level(logging.DEBUG)
    (ann, standing), (bob, _) = someone("ann", "read:orders"), someone("bob", "read:orders")
    anns, bobs = guard.tools(ann, [lookup])[0], guard.tools(bob, [lookup])[0]
    standing.error = RevokedTokenError("revoked")
    assert json.loads(anns("7"))["code"] == "token_revoked"
    assert bobs("7") == "bob 7 False"
