"""Which role may do what, which tool needs what, and which route: the operator's rules as a value. Pure.

What is not named is denied, and a rule that nobody could have meant is refused when it is made, here or in a file. How
a policy is written down and read is for `policy_file`; whether a caller may do something for `requirement`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final

from authsec_fastapi._policy_checks import (
    Place,
    PolicyError,
    checked_actions,
    checked_flag,
    checked_methods,
    checked_name,
    checked_path,
    checked_scopes,
    refuse_unknown,
    shown,
)
from authsec_fastapi.routing import braces, overlap

__all__ = ["NOTHING_PERMITTED", "Policy", "RouteRule", "ToolRule"]

_NONE: Final[frozenset[str]] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolRule:
    """What it takes to use a tool. All of it is needed; each name is compared exactly.

    Attributes:
        scopes: The token has to have each.
        action: One of the caller's roles has to permit it, if it is given.
        role: The caller has to have it, if it is given.

    Raises:
        ConfigurationError: A name is blank or odd, or a scope is none.
    """

    scopes: frozenset[str] = _NONE
    action: str | None = None
    role: str | None = None

    def __post_init__(self) -> None:
        _check_needs(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteRule:
    """What it takes to call a route. The middleware asks for it before the application sees the request.

    Attributes:
        path: As `/reports/{name}`: a segment in braces stands for any one segment. Nothing else is a pattern.
        methods: In upper case; `WEBSOCKET` for a WebSocket. GET does not mean HEAD.
        public: Nobody has to say who they are. Then nothing else is given.
        scopes: As with a tool.
        action: As with a tool.
        role: As with a tool.

    Raises:
        ConfigurationError: Path, methods or names are none, or a public route asks for something.
    """

    path: str
    methods: frozenset[str]
    public: bool = False
    scopes: frozenset[str] = _NONE
    action: str | None = None
    role: str | None = None

    def __post_init__(self) -> None:
        _set(self, path=checked_path(self.path, "path"), methods=checked_methods(self.methods, "methods"))
        _check_needs(self)
        if checked_flag(self.public, "public") and (self.scopes or self.action is not None or self.role is not None):
            raise PolicyError(
                "a public route asks nobody for anything: take public, or what is needed, away", ("public",)
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The operator's rules. Immutable; may be shared.

    Attributes:
        roles: role -> the actions that it permits.
        tools: tool -> what it takes.
        routes: For the middleware; no two of them match the same method and path, unless one has fewer braces.

    Raises:
        ConfigurationError: A name is blank or odd, a rule names a role that is not defined or an action that no role
            permits, or two routes clash.
    """

    roles: Mapping[str, frozenset[str]] = field(default_factory=dict)
    tools: Mapping[str, ToolRule] = field(default_factory=dict)
    routes: tuple[RouteRule, ...] = ()

    def __post_init__(self) -> None:
        roles = {
            checked_name(role, "roles"): checked_actions(may, "roles", role)
            for role, may in _pairs(self.roles, "roles")
        }
        tools = {
            checked_name(tool, "tools"): _rule(rule, ToolRule, ("tools", tool))
            for tool, rule in _pairs(self.tools, "tools")
        }
        _set(self, roles=MappingProxyType(roles), tools=MappingProxyType(tools), routes=_routes(self.routes))
        for at, rule in self._rules():
            self._check_known(rule, at)
        _refuse_clashes(self.routes)

    @property
    def actions(self) -> frozenset[str]:
        """Every action that some role permits."""
        return _NONE.union(*self.roles.values())

    def actions_of(self, roles: Iterable[str]) -> frozenset[str]:
        """Return what these roles permit together. A role that the policy does not know permits nothing."""
        return _NONE.union(*(self.roles.get(role, _NONE) for role in roles))

    def _rules(self) -> Iterator[tuple[Place, ToolRule | RouteRule]]:
        yield from ((("tools", tool), rule) for tool, rule in self.tools.items())
        yield from ((("routes", number), rule) for number, rule in enumerate(self.routes))

    def _check_known(self, rule: ToolRule | RouteRule, at: Place) -> None:
        if rule.role is not None:
            problem = f"no role is called {shown(rule.role)}"
            refuse_unknown(rule.role, self.roles, problem, "define it under roles, or mend the name", (*at, "role"))
        if rule.action is not None:
            problem = f"no role permits {shown(rule.action)}"
            mend = "give it to a role under roles, or mend the name"
            refuse_unknown(rule.action, self.actions, problem, mend, (*at, "action"))


def _check_needs(rule: ToolRule | RouteRule) -> None:
    _set(rule, scopes=checked_scopes(rule.scopes, "scopes"))
    for name, value in (("action", rule.action), ("role", rule.role)):
        if value is not None:
            checked_name(value, name)


def _set(value: object, **fields: object) -> None:
    # While it is being made, as dataclasses themselves do it.
    for name, checked in fields.items():
        object.__setattr__(value, name, checked)


def _pairs(value: Any, name: str) -> Iterable[tuple[Any, Any]]:
    if not isinstance(value, Mapping):
        raise PolicyError(f"is {shown(value)}: it takes names, each with what belongs to it", (name,))
    return value.items()


def _rule(value: object, kind: type[Any], at: Place) -> Any:
    if not isinstance(value, kind):
        raise PolicyError(f"is {shown(value)}: it takes a {kind.__name__}", at)
    return value


def _routes(value: object) -> tuple[RouteRule, ...]:
    if not isinstance(value, (tuple, list)):
        raise PolicyError(f"is {shown(value)}: it takes a list of routes", ("routes",))
    return tuple(_rule(rule, RouteRule, ("routes", number)) for number, rule in enumerate(value))


def _refuse_clashes(routes: tuple[RouteRule, ...]) -> None:
    # Only those that are equally near to a request can clash.
    alike: dict[tuple[int, int] | str, list[tuple[int, RouteRule]]] = {}
    for number, rule in enumerate(routes):
        near = braces(rule.path)
        others = alike.setdefault((near, rule.path.count("/")) if near else rule.path, [])
        for at, other in others:
            if rule.methods & other.methods and overlap(rule.path, other.path):
                raise PolicyError(
                    f"{rule.path} and routes[{at}], {other.path}, match the same requests "
                    f"({', '.join(sorted(rule.methods & other.methods))}): leave one",
                    ("routes", number),
                )
        others.append((number, rule))


NOTHING_PERMITTED: Final = Policy()
"""A guard without a policy: no role permits anything."""
