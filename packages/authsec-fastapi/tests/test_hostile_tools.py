"""Ways in which a model could have made the caller itself, had nobody looked behind a name.

No `from __future__ import annotations`: the functions here are made inside others, where a name could not be resolved.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, NewType, TypedDict, TypeVar

import pytest
from guard_support import Issuer
from typing_extensions import TypeAliasType

from authsec_fastapi import AuthSecGuard, Policy, Principal, ToolRule

issuer = Issuer()
Named = NewType("Named", Principal)
Alias = TypeAliasType("Alias", Principal)
Tree = TypeAliasType("Tree", "list[Tree]")
Bound = TypeVar("Bound", bound=Principal)
Constrained = TypeVar("Constrained", str, Principal)


@dataclass
class InADataclass:
    caller: Principal


class InATypedDict(TypedDict):
    caller: Principal


class InATuple(NamedTuple):
    caller: Principal


HIDDEN = [
    Named,
    Alias,
    list[Alias] | None,
    Bound,
    Constrained,
    InADataclass,
    InATypedDict,
    InATuple,
    list[Named],
]


def tool(annotation: Any) -> Callable[..., Any]:
    """Return a tool with a parameter of this kind."""

    def lookup(caller: annotation) -> str:
        """Look up an order."""
        return "1"

    return lookup


@pytest.mark.req("RD5")
@pytest.mark.parametrize("annotation", HIDDEN, ids=str)
def test_a_caller_behind_another_name_is_not_the_models_to_make(annotation: Any) -> None:
    """What is not plainly a `Principal` is not filled in, so it may not hold one either: it is refused."""
    guard = issuer.guard(policy=Policy(tools={"lookup": ToolRule()}))
    with pytest.raises(TypeError, match="Principal alone"):
        guard.tools(_caller(guard), [tool(annotation)])


def test_an_alias_of_itself_is_looked_through_once() -> None:
    """It has no end, and no caller in it."""
    guard = issuer.guard(policy=Policy(tools={"lookup": ToolRule()}))
    assert len(guard.tools(_caller(guard), [tool(Tree)])) == 1


def _caller(guard: AuthSecGuard) -> Principal:
    return guard.judge._authenticator.authenticate(issuer.token())
