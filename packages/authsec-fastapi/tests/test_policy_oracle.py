"""What the policy decides, held against a slow model of it that was written from the words of the documentation.

The words: a token has to have each scope that is needed. A caller has to have the role that is needed. One of the
caller's roles has to permit the action that is needed. A tool needs what its rule says beside what else is needed; a
tool or a route without a rule is denied. Names are compared exactly. Of the rules for a path, that with the fewest
braces counts, and a segment in braces stands for any one segment.

The model shares no code with the guard: what a caller has and what is needed are two sets of pairs, and a path is a
regular expression.
"""

from __future__ import annotations

import random  # noqa: TID251 -- seeded: every run tries the same cases
import re
import unicodedata
from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from authsec_core import ConfigurationError
from authsec_fastapi import Policy, Principal, RouteRule, ToolRule
from authsec_fastapi.requirement import Decision, Requirement, decide, decide_route

Has = set[tuple[str, str]]

# Names that somebody, or some comparison, could take for one another. A policy refuses the odd ones; tokens have them.
SCOPES = ("read", "Read", "read:", ":read", "calendar:read", "read:calendar", "reads", "rea", "*", "read:*", "write")
NAMES = (*SCOPES, "READ", "r\u0435ad", "calendar read")
ODD = ("", " ", "read ", " read", "read\n", "re\u200bad", "\uff52ead", "read\0", "read,write", "read write", "None")
PATHS = (
    *(
        "/",
        "/read",
        "/Read",
        "/read/",
        "/read/calendar",
        "/calendar/read",
        "/{x}",
        "/read/{x}",
        "/{x}/read",
        "/{x}/{y}",
    ),
    *("/{x}/", "/read/{x}/calendar", "/{x}/read/calendar", "/read:", "/reads", "/read/calendar/{x}"),
)
SEGMENTS = (
    "read",
    "Read",
    "read:",
    "reads",
    "calendar",
    "",
    ".",
    "..",
    "read\n",
    "read ",
    "read\0",
    "{x}",
    "r\u0435ad",
    "x",
)
METHODS = ("GET", "HEAD", "POST", "WEBSOCKET")
SENT = (*METHODS, "get", "GET ", "OPTIONS", "", "GETS")


@dataclass
class Rule:
    """What a tool or a route needs, in the model."""

    scopes: list[str] = field(default_factory=list)
    action: str | None = None
    role: str | None = None
    path: str = ""
    methods: list[str] = field(default_factory=list)
    public: bool = False

    def needs(self) -> Has:
        """Return each thing that is needed, with its kind."""
        found = {("scope", scope) for scope in self.scopes}
        found |= {("action", self.action)} if self.action is not None else set()
        return found | ({("role", self.role)} if self.role is not None else set())

    def matches(self, method: str, path: str) -> bool:
        """Return whether the rule is for such a request."""
        found = expression(self.path).fullmatch(path)
        if found is None or all(method != one for one in self.methods):
            return False
        # The documentation says: no dots, and nothing that is not printable.
        return not any(segment in (".", "..") or hidden(segment) for segment in found.groups())


@dataclass
class Model:
    """A policy, in the model: which pairs of role and action there are, and what each rule needs."""

    permits: set[tuple[str, str]]
    tools: dict[str, Rule]
    routes: list[Rule]

    def has(self, scopes: list[str], roles: list[str]) -> Has:
        """Return all that a caller has."""
        may = {("action", action) for role, action in self.permits for own in roles if own == role}
        return {("scope", scope) for scope in scopes} | {("role", role) for role in roles} | may

    def allows(self, has: Has, asked: Rule, tool: str | None) -> bool:
        """Return whether a caller may do what needs `asked`, and a tool if there is one."""
        if tool is not None and all(tool != known for known in self.tools):
            return False
        needed = asked.needs() | (self.tools[tool].needs() if tool is not None else set())
        return all(any(one == other for other in has) for one in needed)

    def allows_route(self, has: Has, method: str, path: str) -> bool:
        """Return whether a caller may make such a request."""
        rules = sorted(
            (rule.path.count("{"), number) for number, rule in enumerate(self.routes) if rule.matches(method, path)
        )
        if not rules:
            return False
        nearest = self.routes[rules[0][1]]
        return nearest.public or all(one in has for one in nearest.needs())

    def policy(self) -> Policy:
        """Return it as the guard has it."""
        roles = {role for role, _ in self.permits}
        return Policy(
            roles={role: frozenset(action for own, action in self.permits if own == role) for role in roles},
            tools={
                tool: ToolRule(scopes=frozenset(rule.scopes), action=rule.action, role=rule.role)
                for tool, rule in self.tools.items()
            },
            routes=tuple(
                RouteRule(
                    path=rule.path,
                    methods=frozenset(rule.methods),
                    public=rule.public,
                    scopes=frozenset(rule.scopes),
                    action=rule.action,
                    role=rule.role,
                )
                for rule in self.routes
            ),
        )


@cache
def expression(path: str) -> re.Pattern[str]:
    """Return what the path of a rule matches."""
    parts = re.split(r"(\{[a-z]\})", path)
    return re.compile("".join("([^/]+)" if part.startswith("{") else re.escape(part) for part in parts))


def hidden(text: str) -> bool:
    """Return whether a character of it cannot be seen, by its category."""
    return any(unicodedata.category(one)[0] in "CZ" and one != " " for one in text)


class Cases:
    """Random policies, callers and requests."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 -- nothing here is a secret

    def model(self) -> Model:
        """Return a policy that the guard takes."""
        pick = self._random
        roles = pick.sample(NAMES, pick.randint(1, 4))
        permits = {(role, action) for role in roles for action in pick.sample(NAMES, pick.randint(1, 4))}
        model = Model(permits, {}, [])
        for tool in pick.sample(NAMES, pick.randint(1, 5)):
            model.tools[tool] = self._rule(model)
        for path in pick.sample(PATHS, pick.randint(1, 8)):
            rule = self._rule(model)
            if pick.random() < 0.2:
                rule = Rule(public=True)
            rule.path, rule.methods = path, pick.sample(METHODS, pick.randint(1, 3))
            model.routes.append(rule)
            try:
                model.policy()
            except ConfigurationError:  # it clashes with another one
                model.routes.pop()
        return model

    def _rule(self, model: Model) -> Rule:
        pick = self._random
        actions = sorted(action for _, action in model.permits)
        roles = sorted(role for role, _ in model.permits)
        return Rule(
            scopes=pick.sample(SCOPES, pick.choice([0, 0, 1, 2])),
            action=pick.choice([None, None, pick.choice(actions)]),
            role=pick.choice([None, None, None, pick.choice(roles)]),
        )

    def caller(self) -> tuple[list[str], list[str]]:
        """Return the scopes and roles of a token, which may have odd ones."""
        pick = self._random
        names = (*NAMES, *ODD)
        return pick.sample(names, pick.randint(0, len(names))), pick.sample(
            names, pick.choice([0, 1, 3, len(names) - 1])
        )

    def asked(self) -> tuple[Rule, str | None]:
        """Return what a route says that it needs, and the tool."""
        pick = self._random
        scopes = pick.sample((*SCOPES, *ODD), pick.choice([0, 0, 1, 2]))
        action = pick.choice([None, None, pick.choice((*NAMES, *ODD))])
        role = pick.choice([None, None, None, pick.choice((*NAMES, *ODD))])
        return Rule(scopes, action, role), pick.choice([None, pick.choice((*NAMES, *NAMES, *ODD))])

    def request(self) -> tuple[str, str]:
        """Return a method and a path, as somebody sent them."""
        pick = self._random
        path = "/" + "/".join(pick.choices(SEGMENTS, weights=(6, *[1] * (len(SEGMENTS) - 1)), k=pick.randint(1, 3)))
        return pick.choice((*METHODS, *METHODS, *METHODS, *SENT)), path


def principal(scopes: list[str], roles: list[str]) -> Principal:
    """Return the caller as the guard has it."""
    return Principal(subject="s", issuer="i", scopes=frozenset(scopes), roles=frozenset(roles))


def requirement(asked: Rule, tool: str | None) -> Requirement:
    """Return what is asked as the guard has it."""
    return Requirement(scopes=frozenset(asked.scopes), role=asked.role, action=asked.action, tool=tool)


def is_true(decision: Decision, model: Model, has: Has, asked: Rule, tool: str | None) -> bool:
    """Return whether the reason that was given is one, by the model."""
    known = tool is None or tool in model.tools
    needed = asked.needs() | (model.tools[tool].needs() if tool is not None and known else set())
    lacking = {kind for kind, name in needed - has}
    said: dict[str, bool] = {
        "allowed": known and not lacking,
        "insufficient_scope": known and "scope" in lacking,
        "role_missing": known and "role" in lacking,
        "action_not_permitted": known and "action" in lacking,
        "tool_unknown": not known,
    }
    missing = {name for kind, name in needed - has if kind == "scope"}
    return said.get(decision.reason, False) and (not known or decision.missing == missing)


@pytest.mark.req("RV6")
def test_the_model_agrees_about_a_hundred_thousand_requirements() -> None:
    """Scope, role, action and tool are all needed, each exactly; a denial gives a reason that is true."""
    cases, seen = Cases(7), Counter[str]()
    for _ in range(500):
        model = cases.model()
        policy = model.policy()
        for _ in range(200):
            (scopes, roles), (asked, tool) = cases.caller(), cases.asked()
            decision = decide(principal(scopes, roles), requirement(asked, tool), policy)
            has = model.has(scopes, roles)
            case = (model, scopes, roles, asked, tool, decision)
            assert decision.allowed is model.allows(has, asked, tool), case
            assert is_true(decision, model, has, asked, tool), case
            seen[decision.reason] += 1
    assert sum(seen.values()) == 100_000
    assert len(seen) == 5
    assert min(seen.values()) > 2_000, seen


@pytest.mark.req("RV6")
def test_the_model_agrees_about_a_hundred_thousand_requests() -> None:
    """Method and path are needed too: the nearest rule counts, and without one nobody gets in."""
    cases, seen = Cases(8), Counter[str]()
    for _ in range(500):
        model = cases.model()
        policy = model.policy()
        for _ in range(200):
            (scopes, roles), (method, path) = cases.caller(), cases.request()
            decision = decide_route(principal(scopes, roles), method, path, policy)
            expected = model.allows_route(model.has(scopes, roles), method, path)
            assert decision.allowed is expected, (model, scopes, roles, method, path, decision)
            seen[decision.reason] += 1
    assert sum(seen.values()) == 100_000
    assert min(seen.values()) > 500, seen


NAME = st.one_of(st.sampled_from((*NAMES, *ODD)), st.text(max_size=4))


@pytest.mark.req("RV6")
@settings(max_examples=300, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    scopes=st.lists(NAME, max_size=6),
    roles=st.lists(NAME, max_size=6),
    asked=st.builds(Rule, st.lists(NAME, max_size=2), st.none() | NAME, st.none() | NAME),
    tool=st.none() | NAME,
    segments=st.lists(st.one_of(st.sampled_from(SEGMENTS), st.text(max_size=3)), max_size=4),
    method=st.one_of(st.sampled_from(SENT), st.text(max_size=3)),
)
def test_the_model_agrees_about_whatever_else_there_is(
    seed: int, scopes: list[str], roles: list[str], asked: Rule, tool: str | None, segments: list[str], method: str
) -> None:
    """The same for names, paths and methods that nobody thought of."""
    model = Cases(seed).model()
    who, has, path = principal(scopes, roles), model.has(scopes, roles), "/" + "/".join(segments)
    assert decide(who, requirement(asked, tool), model.policy()).allowed is model.allows(has, asked, tool)
    assert decide_route(who, method, path, model.policy()).allowed is model.allows_route(has, method, path)


@pytest.mark.req("RV6")
@pytest.mark.parametrize("given", [{}, {"roles": {"read": frozenset({"read"})}}])
def test_nothing_is_allowed_by_what_is_missing(given: dict[str, Any]) -> None:
    """An empty policy, or one without tools and routes, knows none of them, whatever the caller has."""
    everything = principal([*NAMES, *ODD], [*NAMES, *ODD])
    policy = Policy(**given)
    assert {decide(everything, Requirement(tool=name), policy).reason for name in (*NAMES, *ODD)} == {"tool_unknown"}
    assert {decide_route(everything, "GET", path, policy).reason for path in PATHS} == {"route_unknown"}
