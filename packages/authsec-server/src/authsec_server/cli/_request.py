"""From what was typed for a command to the request that the admin API gets. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from authsec_server.cli._fields import Command, Field
from authsec_server.cli._values import Moment, Span

__all__ = ["ApiRequest", "request_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiRequest:
    """One request below `/api/v1`."""

    method: str
    path: str
    query: Mapping[str, str]
    body: Mapping[str, Any] | None


def request_of(command: Command, given: Mapping[str, Any], now: float) -> ApiRequest:
    """Return the request of `command`.

    Args:
        command: What is to be done.
        given: What was typed, by the fields' names; what was not typed is missing.
        now: Epoch seconds, for moments that were typed relative to now.
    """
    parts: dict[str, dict[str, Any]] = {"path": {}, "query": {}, "body": dict(command.fixed)}
    for field in command.fields:
        if field.name in given:
            parts[field.place].update(_members(field, given[field.name], now))
    return ApiRequest(
        method=command.method,
        path=command.path.format_map({name: quote(value, safe="") for name, value in parts["path"].items()}),
        query={name: str(value) for name, value in parts["query"].items()},
        body=parts["body"] if parts["body"] or command.takes_body else None,
    )


def _members(field: Field, value: Any, now: float) -> Iterator[tuple[str, Any]]:
    if isinstance(value, Moment):
        yield field.name, value.text(now)
    elif isinstance(value, Span):
        yield field.name, value.amount
        yield "unit", value.unit
    elif isinstance(value, list) and value and isinstance(value[0], tuple):
        yield field.name, dict(value)
    else:
        yield field.name, value
