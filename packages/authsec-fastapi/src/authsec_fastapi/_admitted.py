"""Who was found to be calling, kept with the request: the middleware and each dependency of a guard verify once.

It is kept in the ASGI scope, where nothing that a client sends can put it, with the guard that found it out and the
credentials that it was found by: another guard, and a request whose header somebody has changed meanwhile, verify anew.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from authsec_fastapi.judging import Judge
from authsec_fastapi.policy import Policy
from authsec_fastapi.principal import Principal
from authsec_fastapi.recording import About
from authsec_fastapi.requirement import Requirement

__all__ = ["admit", "remembered"]

Scope: TypeAlias = MutableMapping[str, Any]

_KEY: Final = "authsec_fastapi.admitted"


async def admit(
    judge: Judge, scope: Scope, requirement: Requirement, about: About, *, policy: Policy | None = None
) -> Principal:
    """Return the caller of a request, if they may do what the requirement is of; decided and recorded each time.

    Args:
        policy: By which to decide, where it is not the one of now.

    Raises:
        AuthSecError: They may not, or nobody can tell.
    """
    known = remembered(judge, scope)
    if known is not None:
        await judge.readmit(known, requirement, about, policy=policy)
        return known
    principal = await judge.admit(scope["headers"], requirement, about, policy=policy)
    scope[_KEY] = (*_all(scope), _Admitted(judge=judge, principal=principal, credentials=_credentials(scope)))
    return principal


def remembered(judge: Judge, scope: Scope) -> Principal | None:
    """Return the caller whom this judge has let in with this request, if it has."""
    credentials = _credentials(scope)
    for one in _all(scope):
        if one.judge is judge and one.credentials == credentials:
            return one.principal
    return None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Admitted:
    judge: Judge = field(repr=False)
    principal: Principal
    credentials: tuple[bytes, ...] = field(repr=False)


def _all(scope: Scope) -> tuple[_Admitted, ...]:
    found: tuple[_Admitted, ...] = scope.get(_KEY, ())
    return found


def _credentials(scope: Scope) -> tuple[bytes, ...]:
    return tuple(value for name, value in scope["headers"] if name.lower() == b"authorization")
