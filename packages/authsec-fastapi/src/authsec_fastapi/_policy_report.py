"""Who may do what, by a policy? The answer as a document for programs, and as tables for people. Pure.

It decides nothing of its own: whether a role is enough for something is what `requirement` says of a caller who has it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from authsec_fastapi.policy import Policy, RouteRule, ToolRule
from authsec_fastapi.principal import Principal
from authsec_fastapi.requirement import Requirement, decide, requirement_of

__all__ = ["caller", "overview", "tables"]

_NEEDS: Final = ("scopes", "action", "role")


def caller(scopes: Iterable[str], roles: Iterable[str]) -> Principal:
    """Return somebody who has these, and is nobody in particular."""
    return Principal(subject="somebody", issuer="urn:authsec:check", scopes=frozenset(scopes), roles=frozenset(roles))


def overview(policy: Policy) -> dict[str, Any]:
    """Return which role may do what, and which roles are enough for each tool and route; `roles` is None for all.

    A tool or route that needs an action and another role may be had with two roles together; it then has no role that
    is enough by itself.
    """
    return {
        "roles": {role: sorted(actions) for role, actions in policy.roles.items()},
        "actions": sorted(policy.actions),
        "tools": [
            {"tool": name, **_needs(rule), **_enough(rule, Requirement(tool=name), policy)}
            for name, rule in policy.tools.items()
        ],
        "routes": [
            {"path": rule.path, "methods": sorted(rule.methods), "public": rule.public}
            | _needs(rule)
            | _enough(rule, requirement_of(rule), policy)
            for rule in policy.routes
        ],
    }


def tables(document: Mapping[str, Any]) -> str:
    """Return an overview as plain text."""
    actions = document["actions"]
    roles = [
        [role, *("yes" if action in may else "-" for action in actions)] for role, may in document["roles"].items()
    ]
    tools = [[tool["tool"], *_cells(tool)] for tool in document["tools"]]
    routes = [[" ".join(route["methods"]), route["path"], *_cells(route)] for route in document["routes"]]
    parts = [
        _table(["role", *actions], roles, "No role permits anything."),
        _table(["tool", *_NEEDS, "who"], tools, "No tool is known."),
        _table(
            ["methods", "path", *_NEEDS, "who"],
            routes,
            "No routes: the middleware lets each good token in, and routes say what they need.",
        ),
    ]
    return "\n\n".join(parts) + "\n"


def _needs(rule: ToolRule | RouteRule) -> dict[str, Any]:
    return {"scopes": sorted(rule.scopes), "action": rule.action, "role": rule.role}


def _enough(rule: ToolRule | RouteRule, requirement: Requirement, policy: Policy) -> dict[str, Any]:
    # With the scopes, who has which role? Nobody has to have one where a caller without any is let in.
    if decide(caller(rule.scopes, ()), requirement, policy).allowed:
        return {"roles": None}
    return {
        "roles": [role for role in policy.roles if decide(caller(rule.scopes, [role]), requirement, policy).allowed]
    }


def _cells(entry: Mapping[str, Any]) -> list[str]:
    if entry.get("public"):
        return ["", "", "", "(anybody)"]
    enough = "(any caller)" if entry["roles"] is None else ", ".join(entry["roles"]) or "(no role by itself)"
    return [", ".join(entry["scopes"]), entry["action"] or "", entry["role"] or "", enough]


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], nothing: str) -> str:
    if not rows:
        return nothing
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    lines = [head, ["-" * width for width in widths], *rows]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )
