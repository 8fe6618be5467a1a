"""What does a form say? Strict reading of `application/x-www-form-urlencoded`, as RFC 6749 section 3.2 has it.

A parameter without a value counts as absent; one that is given twice is an error, but for those that may be repeated.
Parameters in the URL are refused: they would end up in logs, and credentials are among them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import parse_qsl

from fastapi import Request

from authsec_server.errors import RefusedError

__all__ = ["Form", "read_form"]

_MEDIA_TYPE: Final = "application/x-www-form-urlencoded"
_REPEATABLE: Final = frozenset({"resource", "audience"})  # RFC 8707 section 2, RFC 8693 section 2.1
_MOST_FIELDS: Final = 32


@dataclass(frozen=True, slots=True)
class Form:
    """A form's parameters that have a value."""

    _values: Mapping[str, tuple[str, ...]]

    def get(self, name: str) -> str | None:
        """Return the value, or None. It is one line and has nothing hidden in it.

        Raises:
            RefusedError: It has, or there are several.
        """
        values = self.all(name)
        if len(values) > 1:
            raise RefusedError("request_malformed", f"{name} can be given once only")
        return values[0] if values else None

    def all(self, name: str) -> tuple[str, ...]:
        """Return all values.

        Raises:
            RefusedError: One has control characters in it.
        """
        values = self._values.get(name, ())
        if not all(map(str.isprintable, values)):
            raise RefusedError("request_malformed", f"{name} has characters in it that it cannot have")
        return values

    def need(self, name: str) -> str:
        """Return the value.

        Raises:
            RefusedError: There is none, or not just one.
        """
        value = self.get(name)
        if value is None:
            raise RefusedError("request_malformed", f"{name} is required")
        return value


async def read_form(request: Request) -> Form:
    """Read the body.

    Raises:
        RefusedError: It is no such form.
    """
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != _MEDIA_TYPE:
        raise RefusedError("request_malformed", f"send the parameters as {_MEDIA_TYPE}")
    if request.url.query:
        raise RefusedError("request_malformed", "send the parameters in the body, not in the URL")
    try:
        pairs = parse_qsl(
            (await request.body()).decode("ascii"),
            keep_blank_values=True,
            strict_parsing=True,
            errors="strict",
            max_num_fields=_MOST_FIELDS,
        )
    except ValueError:  # out here: the error quotes the text, which may hold a key
        pairs = None
    if pairs is None:
        raise RefusedError("request_malformed", "the form cannot be read")
    values: dict[str, tuple[str, ...]] = {}
    for name, value in pairs:
        if name in values and name not in _REPEATABLE:
            raise RefusedError("request_malformed", "a parameter is given more than once")
        values[name] = (*values.get(name, ()), value)
    return Form({name: tuple(filter(None, given)) for name, given in values.items()})
