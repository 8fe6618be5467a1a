"""May this caller do this? The one place that decides it. Pure: no clock, no I/O, and of HTTP only method and path.

Scope, role, action and tool are AND-ed, and names are compared exactly: `calendar:read` is not `read`, `Admin` is not
`admin`. What the policy does not know is denied.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from authsec_core.errors import ConfigurationError
from authsec_fastapi._policy_checks import refuse_unknown, shown
from authsec_fastapi.errors import AccessDeniedError
from authsec_fastapi.policy import Policy, RouteRule, ToolRule
from authsec_fastapi.principal import Principal
from authsec_fastapi.routing import match_route

__all__ = ["ANY_CALLER", "Decision", "Reason", "Requirement", "check_known", "decide", "decide_route", "requirement_of"]

Reason: TypeAlias = Literal[
    "allowed", "insufficient_scope", "role_missing", "action_not_permitted", "tool_unknown", "route_unknown"
]

_NO_TOOL: Final = ToolRule()
_MESSAGES: Final[dict[Reason, str]] = {
    "insufficient_scope": "The token lacks a scope that is needed here.",
    "role_missing": "The caller lacks the role that is needed here.",
    "action_not_permitted": "None of the caller's roles permits this.",
    "tool_unknown": "No rule permits this tool.",
    "route_unknown": "No rule permits this route.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """What somebody has to be allowed, all of it.

    Attributes:
        scopes: The token has to have each.
        role: The caller has to have it, if it is given.
        action: One of the caller's roles has to permit it, if it is given.
        tool: The policy has to know it, and the caller has to fulfil its rule, if it is given.
        route_known: False where the policy has routes, and none of them is the request's: nobody is let in.
    """

    scopes: frozenset[str] = frozenset()
    role: str | None = None
    action: str | None = None
    tool: str | None = None
    route_known: bool = True


ANY_CALLER: Final = Requirement()
"""A good token is enough."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What was decided, and why.

    Attributes:
        reason: `allowed`, or the first condition that failed.
        needed: All scopes that are needed.
        missing: The scopes that the token lacks.
    """

    reason: Reason
    needed: frozenset[str] = frozenset()
    missing: frozenset[str] = frozenset()

    @property
    def allowed(self) -> bool:
        """Whether it may be done."""
        return self.reason == "allowed"

    def enforce(self) -> None:
        """Return if it may be done.

        Raises:
            AccessDeniedError: It may not.
        """
        if not self.allowed:
            raise AccessDeniedError(
                _MESSAGES[self.reason], reason=self.reason, missing=self.missing, needed=self.needed
            )


def decide(principal: Principal, requirement: Requirement, policy: Policy) -> Decision:
    """Return whether the caller may do what the requirement is of."""
    if not requirement.route_known:
        return Decision(reason="route_unknown", needed=requirement.scopes)
    tool = _NO_TOOL if requirement.tool is None else policy.tools.get(requirement.tool)
    if tool is None:
        return Decision(reason="tool_unknown", needed=requirement.scopes)
    needed = requirement.scopes | tool.scopes
    return Decision(
        reason=_reason(principal, requirement, tool, needed, policy), needed=needed, missing=needed - principal.scopes
    )


def requirement_of(rule: RouteRule) -> Requirement:
    """Return what a route that is not public asks of its caller."""
    return Requirement(scopes=rule.scopes, role=rule.role, action=rule.action)


def decide_route(principal: Principal, method: str, path: str, policy: Policy) -> Decision:
    """Return whether the policy's routes let this request of the caller in; see `match_route` for method and path."""
    rule = match_route(policy.routes, method, path)
    if rule is None:
        return Decision(reason="route_unknown")
    return decide(principal, ANY_CALLER if rule.public else requirement_of(rule), policy)


def check_known(requirement: Requirement, policy: Policy, *, any_role: bool = False) -> None:
    """Return if the policy knows each name of the requirement, so that somebody could fulfil it.

    Args:
        any_role: There is no policy, so that roles are whatever the issuer calls them, and permit nothing.

    Raises:
        ConfigurationError: It does not, and says what may have been meant.
    """
    role, action, tool = requirement.role, requirement.action, requirement.tool
    if role is not None and not any_role:
        refuse_unknown(role, policy.roles, f"the policy has no role {shown(role)}", "add it, or mend the name")
    if action is not None:
        if any_role:
            raise ConfigurationError(
                f"no role permits {shown(action)}, because there is no policy: give the guard one, policy=, which says "
                "which role may do what"
            )
        problem = f"no role of the policy permits {shown(action)}"
        refuse_unknown(action, policy.actions, problem, "add it, or mend the name")
    if tool is not None:
        refuse_unknown(tool, policy.tools, f"the policy has no tool {shown(tool)}", "add it, or mend the name")


def _reason(
    principal: Principal, requirement: Requirement, tool: ToolRule, needed: frozenset[str], policy: Policy
) -> Reason:
    if not needed <= principal.scopes:
        return "insufficient_scope"
    if not {role for role in (requirement.role, tool.role) if role is not None} <= principal.roles:
        return "role_missing"
    actions = {action for action in (requirement.action, tool.action) if action is not None}
    if actions and not actions <= policy.actions_of(principal.roles):
        return "action_not_permitted"
    return "allowed"
