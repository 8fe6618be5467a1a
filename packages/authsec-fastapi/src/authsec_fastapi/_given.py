"""Are these the kinds of argument that a guard takes? Pure; what is wrong with a value itself is for others to say.

Type checkers find such a mistake too. Who has none would see it with the first request, as an answer of 500.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from authsec_core.errors import ConfigurationError
from authsec_core.scopes import parse_scopes
from authsec_fastapi.audit import AuditSink
from authsec_fastapi.issuers import TrustedIssuer
from authsec_fastapi.requirement import Requirement
from authsec_fastapi.static_token import StaticToken

__all__ = ["checked_issuers", "checked_sink", "checked_token", "requirement_for"]


def checked_issuers(issuers: object) -> tuple[TrustedIssuer, ...]:
    """Return the issuers of a guard.

    Raises:
        ConfigurationError: It is no list of them.
    """
    mend = "issuers= takes a list of TrustedIssuer(…)"
    if isinstance(issuers, (str, TrustedIssuer)) or not isinstance(issuers, Iterable):
        raise ConfigurationError(f"{mend}, not {_kind(issuers)}; one issuer's URL goes to issuer=")
    found = tuple(issuers)
    for one in found:
        if not isinstance(one, TrustedIssuer):
            raise ConfigurationError(f"{mend}, and {_kind(one)} is among them")
    return found


def checked_token(token: object) -> StaticToken | None:
    """Return the static token of a guard, if there is one.

    Raises:
        ConfigurationError: It is something else, which is not shown.
    """
    if token is None or isinstance(token, StaticToken):
        return token
    raise ConfigurationError(f"static_token= takes a StaticToken(…), not {_kind(token)}")


def checked_sink(sink: AuditSink) -> AuditSink:
    """Return the sink of a guard.

    Raises:
        ConfigurationError: It cannot be one.
    """
    methods: list[Callable[..., Any] | None] = [getattr(sink, name, None) for name in ("record", "arecord")]
    if isinstance(sink, type) or not all(callable(method) for method in methods):
        raise ConfigurationError(f"sink= takes an AuditSink, with record and arecord, not {_kind(sink)}")
    return sink


def requirement_for(scopes: tuple[str, ...], role: str | None, action: str | None) -> Requirement:
    """Return what is asked of a caller.

    Raises:
        TypeError: A name is no text.
        ValueError: A scope is none, or several.
    """
    for scope in scopes:
        if not isinstance(scope, str):
            raise TypeError(
                f"a scope is text, not {_kind(scope)}: name each as an argument of its own, as in ('a', 'b')"
            )
        if parse_scopes(scope) != frozenset({scope}):
            raise ValueError(f"{scope!r} is not one scope: name each as an argument of its own")
    for name, value in (("role", role), ("action", action)):
        if value is not None and not isinstance(value, str):
            raise TypeError(f"{name}= takes one name, not {_kind(value)}")
    return Requirement(scopes=frozenset(scopes), role=role, action=action)


def _kind(value: object) -> str:
    # Never the value: it may be the token itself.
    return f"the class {value.__name__}" if isinstance(value, type) else f"a value of the type {type(value).__name__}"
