"""Which role may do what, which tool needs what, and which route: the operator's rules as a value. Pure.

What is not named is denied. Where a policy is written down, and how it is read, is for `policy_file`; whether a caller
may do something for `requirement`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

__all__ = ["NOTHING_PERMITTED", "Policy", "RouteRule", "ToolRule"]

_NONE: Final[frozenset[str]] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolRule:
    """What it takes to use a tool. All of it is needed; each name is compared exactly.

    Attributes:
        scopes: The token has to have each.
        action: One of the caller's roles has to permit it, if it is given.
        role: The caller has to have it, if it is given.
    """

    scopes: frozenset[str] = _NONE
    action: str | None = None
    role: str | None = None


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
    """

    path: str
    methods: frozenset[str]
    public: bool = False
    scopes: frozenset[str] = _NONE
    action: str | None = None
    role: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """The operator's rules. Immutable; may be shared.

    Attributes:
        roles: role -> the actions that it permits.
        tools: tool -> what it takes.
        routes: For the middleware; no two of them match the same method and path, unless one has fewer braces.
    """

    roles: Mapping[str, frozenset[str]] = field(default_factory=lambda: MappingProxyType({}))
    tools: Mapping[str, ToolRule] = field(default_factory=lambda: MappingProxyType({}))
    routes: tuple[RouteRule, ...] = ()

    @property
    def actions(self) -> frozenset[str]:
        """Every action that some role permits."""
        return _NONE.union(*self.roles.values())

    def actions_of(self, roles: Iterable[str]) -> frozenset[str]:
        """Return what these roles permit together. A role that the policy does not know permits nothing."""
        return _NONE.union(*(self.roles.get(role, _NONE) for role in roles))


NOTHING_PERMITTED: Final = Policy()
