"""Shapes that several routes share: how strict a request is, how an instant is written and a page is asked for.

What the members may hold is checked by the services, so that the command line gets the same answers; here is only what
OpenAPI tells a client beforehand.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import Depends, Query
from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer, StringConstraints, WithJsonSchema

from authsec_core.wire import format_time, parse_time
from authsec_server.pages import LARGEST_PAGE, USUAL_PAGE, Cursor, Paging

__all__ = ["Instant", "Line", "Paged", "Reply", "Request", "RoleName", "Scope", "Uuid", "When", "paging"]

_LONGEST_CURSOR: Final = 256  # characters
_RFC3339: Final = {"type": "string", "format": "date-time", "examples": ["2027-01-31T12:00:00Z"]}


def _seconds(value: Any) -> float:
    return parse_time(value)


Instant = Annotated[float, BeforeValidator(_seconds), WithJsonSchema(_RFC3339)]
"""An instant in a request: RFC 3339 on the wire, epoch seconds here."""

When = Annotated[float, PlainSerializer(format_time, return_type=str), WithJsonSchema(_RFC3339)]
"""An instant in a reply: epoch seconds here, RFC 3339 UTC on the wire."""

Line = Annotated[str, StringConstraints(max_length=100)]
Scope = Annotated[str, StringConstraints(min_length=1, max_length=256)]
RoleName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,64}$")]
Uuid = Annotated[
    str, StringConstraints(pattern=r"^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$", max_length=36)
]


class Request(BaseModel):
    """What is sent to us: an unknown member is a slip that must not pass for a setting, and nothing is converted."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)


class Reply(BaseModel):
    """What we answer, made of a value's attributes."""

    model_config = ConfigDict(from_attributes=True, frozen=True, hide_input_in_errors=True)  # a reply may hold a key


def paging(
    limit: Annotated[int, Query(ge=1, le=LARGEST_PAGE, description="How many at most.")] = USUAL_PAGE,
    after: Annotated[
        str | None, Query(max_length=_LONGEST_CURSOR, description="The `next` of the page before.")
    ] = None,
) -> Paging:
    """Read `?limit=&after=`. Ask for it as `Paged`, after the operator, so that strangers learn nothing of cursors.

    Raises:
        InvalidRequestError: The cursor is none of ours.
    """
    return Paging(limit=limit, after=None if after is None else Cursor.decode(after))


Paged = Annotated[Paging, Depends(paging)]
