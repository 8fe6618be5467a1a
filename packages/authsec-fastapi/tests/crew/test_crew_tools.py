"""Tools behind the guard in real crews: whatever a model says, each call is its own caller's, or none.

CrewAI is loaded by the tests and not before, so that it finds the folders that a test has given it.
"""

from __future__ import annotations

import copy
import importlib.util
import json
import pickle
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from guard_support import Memory
from pydantic import BaseModel
from tool_support import Shop, answers, guard_of, someone

from authsec_core import ConfigurationError, RevokedTokenError, VerificationUnavailableError
from authsec_core.testing import call
from authsec_fastapi.crewai import guard_tools

if importlib.util.find_spec("crewai") is None:
    pytest.skip("CrewAI is not installed", allow_module_level=True)

LONGEST = 60.0  # seconds


def offered(shop: Shop, subject: str = "ann", memory: Memory | None = None) -> tuple[list[Any], Any]:
    """Return what a caller's agent gets of a shop, and the caller's standing."""
    principal, standing = someone(subject, "read:orders")
    return guard_tools(guard_of(memory), principal, shop.sync_tools), standing


@pytest.mark.req("RD6")
def test_an_agent_calls_a_tool_as_its_caller(model: Any, crew: Any) -> None:
    """The model is told of what the caller may use, without the caller, and the call goes on record as theirs."""
    shop, memory = Shop(), Memory()
    llm = model(call("lookup", order="7"), "done")
    tools, _ = offered(shop, memory=memory)
    assert [tool.name for tool in tools] == ["lookup", "help"]
    assert [sorted(tool.args_schema.model_fields) for tool in tools] == [["order"], []]
    crew((llm, tools)).kickoff()
    assert shop.calls == [("lookup", "ann", "7")]
    assert "caller" not in json.dumps(llm.requests[0].get("tools", []))
    assert [(event.tool, event.outcome, event.subject) for event in memory.events] == [("lookup", "allow", "ann")]


@pytest.mark.req("RD6")
def test_what_a_model_makes_up_reaches_no_function(model: Any, crew: Any) -> None:
    """A tool that was not offered, and arguments that nobody asked for: nothing is run as somebody else."""
    shop = Shop()
    llm = model(call("refund", order="7"), call("lookup", order="7", caller="mallory"), "done", "done", "done")
    crew((llm, offered(shop)[0])).kickoff()
    assert {(tool, caller) for tool, caller, _ in shop.calls} <= {("lookup", "ann")}
    (lookup, _), _ = offered(shop)
    assert json.loads(lookup._run(order="7", caller="mallory"))["code"] == "bad_arguments"


@pytest.mark.req("RD4", "RD6")
@pytest.mark.parametrize(
    ("error", "code"),
    [
        (RevokedTokenError("canary"), "token_revoked"),
        (VerificationUnavailableError("canary"), "verification_unavailable"),
    ],
)
def test_a_token_that_is_revoked_between_two_calls_stops_the_second(
    model: Any, crew: Any, error: Any, code: str
) -> None:
    """The run goes on, and the model reads why; a cache of the crew's does not answer for the tool."""
    shop = Shop()
    tools, standing = offered(shop)
    shop.then = lambda: setattr(standing, "error", error)
    llm = model(call("lookup", order="7"), "done", call("lookup", order="7"), "done")
    made = crew((llm, tools), cache=True)
    made.kickoff()
    made.kickoff()
    assert shop.calls == [("lookup", "ann", "7")]
    assert [one["code"] for one in answers(llm) if isinstance(one, dict)] == [code]
    assert "canary" not in json.dumps(llm.requests)


@pytest.mark.req("RD7", "RV6")
def test_two_callers_agents_of_one_crew_share_no_result(model: Any, crew: Any) -> None:
    """With tools of one name and the same arguments each gets what its own caller gets."""
    shop = Shop()
    members = [
        (model(call("lookup", order="7"), "done", "done"), offered(shop, name)[0]) for name in ("ann", "bob", "ann")
    ]
    crew(*members, cache=True).kickoff()
    assert shop.calls == [("lookup", "ann", "7"), ("lookup", "bob", "7"), ("lookup", "ann", "7")]
    assert ["lookup of 7 for bob" in json.dumps(llm.requests[1]) for llm, _ in members[:2]] == [False, True]


@pytest.mark.req("RD7", "RV6")
def test_two_callers_at_once_are_never_taken_for_each_other(model: Any, crew: Any) -> None:
    """Two crews on threads of their own, which meet inside the tool at each call."""
    shop = Shop()
    meeting = threading.Barrier(2)
    shop.then = lambda: meeting.wait(LONGEST)
    crews = [
        crew((model(*[call("lookup", order=f"{name}-{n}") for n in range(3)], "done"), offered(shop, name)[0]))
        for name in ("ann", "bob")
    ]
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lambda made: made.kickoff(), crews))
    assert sorted(shop.calls) == [("lookup", name, f"{name}-{n}") for name in ("ann", "bob") for n in range(3)]


def test_crewais_own_tools_are_guarded_too(model: Any, crew: Any) -> None:
    """Name, description, arguments and what it is for stay the tool's; made-up arguments do not get to it."""
    from crewai.tools import BaseTool, tool

    found: list[dict[str, str]] = []

    class Orders(BaseModel):
        order: str

    class Lookup(BaseTool):
        name: str = "lookup"
        description: str = "Looks an order up."
        args_schema: type[BaseModel] = Orders
        result_as_answer: bool = True

        def _run(self, order: str, **more: str) -> str:
            found.append({"order": order, **more})
            return f"found {order}"

    @tool("help")
    def help_tool(topic: str) -> str:
        """Say what there is."""
        return topic

    principal, standing = someone("ann", "read:orders")
    inner = Lookup()
    lookup, helping = guard_tools(guard_of(), principal, [inner, help_tool, Shop().refund])
    assert (lookup.name, lookup.description, lookup.args_schema) == ("lookup", inner.description, inner.args_schema)
    assert lookup.result_as_answer
    assert helping._run(topic="orders") == "orders"
    llm = model(call("lookup", order="7"), "done", "done")
    crew((llm, [lookup])).kickoff()
    assert lookup._run(order="8", caller="mallory") == "found 8"
    assert found == [{"order": "7"}, {"order": "8"}]
    standing.error = RevokedTokenError("revoked")
    assert [json.loads(one._run(order="7"))["code"] for one in (lookup, helping)] == ["token_revoked"] * 2


def test_what_is_no_tool_for_a_crew_is_refused() -> None:
    """A coroutine function is none; two names are one where CrewAI sees no difference."""
    from crewai.tools import tool

    principal, _ = someone()

    @tool("Re fund")
    def spaced() -> str:
        """Pay back."""
        return ""

    with pytest.raises(TypeError, match="coroutine"):
        guard_tools(guard_of(), principal, [Shop().alookup])
    with pytest.raises(TypeError, match="not a str"):
        guard_tools(guard_of(), principal, ["lookup"])  # type: ignore[list-item] # which is the mistake
    with pytest.raises(ConfigurationError, match="'Re fund'"):
        guard_tools(guard_of(), principal, [spaced])

    def re_fund() -> str:
        """Pay back."""
        return ""

    with pytest.raises(ValueError, match="for the same"):
        guard_tools(guard_of(), principal, [spaced, re_fund])


@pytest.mark.req("RD7")
@pytest.mark.parametrize(
    "duplicate",
    [copy.copy, copy.deepcopy, lambda tool: tool.model_copy(), lambda tool: copy.deepcopy([tool])[0]],
    ids=["copy", "deepcopy", "model_copy", "within"],
)
def test_copies_act_for_the_same_caller(duplicate: Callable[[Any], Any]) -> None:
    """CrewAI copies crews with their tools; a revocation reaches the copies too."""
    (lookup, _), standing = offered(Shop())
    twin = duplicate(lookup)
    assert twin is not lookup
    assert twin._run(order="7") == "lookup of 7 for ann"
    standing.error = RevokedTokenError("revoked")
    assert json.loads(twin._run(order="7"))["code"] == "token_revoked"


@pytest.mark.req("RS8")
def test_what_is_restored_acts_for_nobody() -> None:
    """No dump holds the caller, and a tool that was made from one answers every call with an error."""
    shop = Shop()
    (lookup, _), _ = offered(shop, "ann-canary")
    dumped = lookup.model_dump()
    assert "canary" not in repr(lookup) + repr(dumped) + repr(lookup.to_structured_tool())
    for restored in (type(lookup).model_validate(dumped), type(lookup).model_construct(**dumped)):
        assert json.loads(restored._run(order="7"))["code"] == "configuration"
    assert shop.calls == []
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(lookup)


@pytest.mark.req("RD7")
def test_both_forms_of_the_tool_say_not_to_cache() -> None:
    """CrewAI 0.114 to 1.8 asks the converted tool, and drops our answer while converting; others ask the tool."""
    (lookup, _), _ = offered(Shop())
    assert lookup.cache_function({}, "result") is False
    lookup.cache_function = lambda *_: True  # what those versions put there
    assert lookup.to_structured_tool().cache_function({}, "result") is False
