"""What an application's OpenAPI says of its guard: the scheme, its scopes, and the answers that refuse.

It decides nothing. No `from __future__ import annotations`: the oldest FastAPI reads those of `__call__` as they stand.
"""

from collections.abc import Iterable
from typing import Any

from fastapi.openapi.models import HTTPBearer
from fastapi.security.oauth2 import OAuth2
from starlette.requests import HTTPConnection

from authsec_fastapi.issuers import TrustedIssuer

__all__ = ["BearerScheme", "bearer_scheme", "refusing_responses"]

_BODY: dict[str, Any] = {
    "application/json": {
        "schema": {
            "title": "Refusal",
            "type": "object",
            "properties": {"detail": {"title": "Detail", "type": "string"}},
            "required": ["detail"],
        }
    }
}
_CHALLENGE = {
    "WWW-Authenticate": {
        "description": "`Bearer`, with `realm`, `error` and `scope` (RFC 6750 section 3).",
        "schema": {"type": "string"},
    }
}
_LATER = {"Retry-After": {"description": "Seconds to wait.", "schema": {"type": "string"}}}


class BearerScheme(OAuth2):
    """The security scheme, as a dependency that does nothing: FastAPI finds it by its type.

    It is described as what it is, HTTP's `bearer`. Older versions of FastAPI show the scopes of `OAuth2` alone.
    """

    def __init__(self, *, name: str, description: str) -> None:
        self.model = HTTPBearer(bearerFormat="JWT", description=description)
        self.scheme_name = name

    async def __call__(self, connection: HTTPConnection) -> None:
        """Leave it to the guard's own dependency to look at the request."""


def bearer_scheme(realm: str, issuers: Iterable[TrustedIssuer]) -> BearerScheme:
    """Return the scheme of a guard that trusts these issuers, or a static token where there are none."""
    trusted = [f"`{one.issuer}` for {_audience(one)}" for one in issuers]
    description = f"A token of {', or of '.join(trusted)}." if trusted else "The static token of this API."
    return BearerScheme(name=realm, description=description)


def refusing_responses() -> dict[int | str, dict[str, Any]]:
    """Return how the answers of a guard that refuses are described; the caller may change it."""
    return {
        400: {"description": "The request has several credentials.", "headers": {**_CHALLENGE}, "content": {**_BODY}},
        401: {"description": "No token, or one that is not good.", "headers": {**_CHALLENGE}, "content": {**_BODY}},
        403: {"description": "The token does not allow this.", "headers": {**_CHALLENGE}, "content": {**_BODY}},
        503: {"description": "Nothing can be decided now.", "headers": {**_LATER}, "content": {**_BODY}},
    }


def _audience(issuer: TrustedIssuer) -> str:
    audiences = (issuer.audience,) if isinstance(issuer.audience, str) else issuer.audience
    return " or ".join(f"`{audience}`" for audience in audiences)
