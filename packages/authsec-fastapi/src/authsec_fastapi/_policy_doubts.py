"""What in a good policy looks like a typo all the same? Pure; it decides nothing, and refuses nothing.

A role may be one that only an issuer names, and an action one that only the code asks for. So neither can be an error
that nothing else in the policy names, unless another name is so near that somebody should look.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from difflib import SequenceMatcher
from itertools import combinations
from typing import Final

from authsec_fastapi._policy_checks import near, shown
from authsec_fastapi.policy import Policy, RouteRule, ToolRule

__all__ = ["doubts"]

_ALIKE: Final = 0.88  # a letter left out of five or more, or another one in the place of one of nine
_MOST: Final = 20  # of one kind: more would be a way of naming, and no typos
_FEW: Final = 100  # names that are compared with all others: more of them take too long
_USED: Final = 1000
_DIGITS: Final = re.compile(r"\d+")


def doubts(policy: Policy, asked: Iterable[str] = ()) -> list[str]:
    """Return a question for each name that is nearly another.

    Args:
        asked: Actions that the application asks for, besides the tools and routes of the policy.
    """
    rules: list[ToolRule | RouteRule] = [*policy.tools.values(), *policy.routes]
    used = {*asked, *(rule.action for rule in rules if rule.action is not None)}
    return [*_actions(policy, used)[:_MOST], *_roles(sorted(policy.roles)[:_FEW])[:_MOST]]


def _actions(policy: Policy, used: set[str]) -> list[str]:
    known = sorted(used)[:_USED]
    meant = {action: near(action, known) for action in sorted(policy.actions - used)[:_FEW]}
    return [
        f"role {shown(role)}: no tool and no route needs {shown(action)}: {meant[action]}"
        for role, permitted in policy.roles.items()
        for action in sorted(permitted)
        if meant.get(action)
    ]


def _roles(names: list[str]) -> list[str]:
    return [
        f"the roles {shown(one)} and {shown(other)} are nearly the same: are both meant?"
        for one, other in combinations(names, 2)
        if _alike(one.casefold(), other.casefold())
    ]


def _alike(one: str, other: str) -> bool:
    if _DIGITS.sub("", one) == _DIGITS.sub("", other) and one != other:
        return False  # they are numbered
    compared = SequenceMatcher(None, one, other, autojunk=False)
    return compared.quick_ratio() >= _ALIKE and compared.ratio() >= _ALIKE
