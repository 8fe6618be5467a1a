"""What the tests of tools share: callers whose tokens a test ends, rules, and a shop that notes who called."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from typing import Any

from guard_support import ISSUER, Issuer, Memory

from authsec_core.errors import AuthSecError
from authsec_fastapi import AuthSecGuard, Policy, Principal, ToolRule

__all__ = ["POLICY", "Shop", "Standing", "answers", "guard_of", "someone"]

ORDERS = frozenset({"read:orders"})
POLICY = Policy(
    roles={"agent": frozenset({"respond"})},
    tools={
        "lookup": ToolRule(scopes=ORDERS),
        "alookup": ToolRule(scopes=ORDERS),
        "refund": ToolRule(scopes=frozenset({"write:refunds"}), action="respond"),
        "help": ToolRule(),
    },
)


class Standing:
    """A token that is good until a test says otherwise."""

    def __init__(self) -> None:
        self.error: AuthSecError | None = None

    def check(self) -> None:
        if self.error is not None:
            raise self.error

    async def acheck(self) -> None:
        self.check()

    def is_of(self, authenticator: object) -> bool:
        return True


def someone(subject: str = "ann", *scopes: str, roles: tuple[str, ...] = ()) -> tuple[Principal, Standing]:
    """Return a caller, and what their token is worth."""
    standing = Standing()
    made = Principal(
        subject=subject, issuer=ISSUER, scopes=frozenset(scopes), roles=frozenset(roles), _standing=standing
    )
    return made, standing


def guard_of(memory: Memory | None = None, **given: Any) -> AuthSecGuard:
    """Return a guard with the rules from above."""
    return Issuer().guard(**{"policy": POLICY, "sink": memory or Memory(), **given})


def answers(model: Any) -> list[Any]:
    """Return what the tools gave back to a scripted model, parsed where it is a refusal."""
    return [json.loads(text) if text.startswith("{") else text for text in model.tool_results]


class Shop:
    """An agent's functions, and who has called them with what. `then` runs after each call."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, str, str]] = []
        self.then: Callable[[], object] = lambda: None
        self._lock = threading.Lock()

    def _called(self, tool: str, caller: Principal, order: str) -> str:
        with self._lock:
            self.calls.append((tool, caller.subject, order))
        self.then()
        return f"{tool} of {order} for {caller.subject}"

    def lookup(self, order: str, caller: Principal) -> str:
        """Look an order up."""
        return self._called("lookup", caller, order)

    async def alookup(self, caller: Principal, order: str) -> str:
        """Look an order up, on a loop."""
        return self._called("alookup", caller, order)

    def refund(self, order: str, caller: Principal) -> str:
        """Pay back."""
        return self._called("refund", caller, order)

    def help(self, caller: Principal) -> str:
        """Say what there is."""
        return self._called("help", caller, "")

    @property
    def sync_tools(self) -> list[Callable[..., Any]]:
        """Those that need no loop."""
        return [self.lookup, self.refund, self.help]

    @property
    def tools(self) -> list[Callable[..., Any]]:
        """All of them."""
        return [self.lookup, self.alookup, self.refund, self.help]
