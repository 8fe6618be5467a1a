"""What a refusal looks like over HTTP: the one place where an error becomes a status, headers and words. Pure.

RFC 6750 section 3: 401 `invalid_token`, 403 `insufficient_scope` with the scopes that are needed, 400
`invalid_request`; 503 where nobody can tell. Nothing that the caller sent is echoed. No cache keeps a refusal: a proxy
that keeps errors for a while would give it to the next caller too.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from authsec_core.errors import AuthSecError, TokenRejectedError, VerificationUnavailableError
from authsec_core.scopes import format_scopes
from authsec_fastapi.errors import (
    AccessDeniedError,
    AuditUnavailableError,
    ConversationBusyError,
    ConversationIdError,
    ConversationLimitError,
    CredentialsError,
    TokenMissingError,
)

__all__ = ["Refusal", "refusal_of"]

_NOT_KEPT: Final = {"Cache-Control": "no-store"}
_RETRY_AFTER: Final = "5"  # seconds: the cooldown of the verifier's fetches


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """An answer that refuses.

    Attributes:
        detail: The words, which are our own.
    """

    status: int
    detail: str
    headers: Mapping[str, str] = field(default_factory=dict)


def refusal_of(error: AuthSecError, *, realm: str) -> Refusal:
    """Return the answer to whoever caused `error`; what is not foreseen here is a 503, and tells nothing."""
    if isinstance(error, TokenMissingError):
        return _challenge(401, error.message, realm)
    if isinstance(error, CredentialsError):
        return _challenge(400, error.message, realm, error="invalid_request")
    if isinstance(error, TokenRejectedError):
        # Always the same words: which check failed is for the audit, not for whoever made the token up.
        return _challenge(401, "The token is not good, or not any more.", realm, error="invalid_token")
    if isinstance(error, AccessDeniedError):
        scope = {"scope": format_scopes(error.needed)} if error.missing else {}
        return _challenge(403, error.message, realm, error="insufficient_scope", **scope)
    if isinstance(error, VerificationUnavailableError):
        return _later("The token cannot be checked right now: try again later.")
    if isinstance(error, AuditUnavailableError):
        return _later("The request cannot be put on record right now: try again later.")
    if isinstance(error, ConversationIdError):
        return Refusal(status=400, detail=error.message, headers=_NOT_KEPT)
    if isinstance(error, ConversationBusyError):
        return Refusal(status=409, detail=error.message, headers={"Retry-After": _RETRY_AFTER, **_NOT_KEPT})
    if isinstance(error, ConversationLimitError):
        return _later(error.message)
    return _later("The request cannot be answered right now.")


def _challenge(status: int, detail: str, realm: str, **parameters: str) -> Refusal:
    # Realm and scopes have no quote and no backslash: the guard and RFC 6749 section 3.3 see to it.
    words = ", ".join(f'{name}="{value}"' for name, value in {"realm": realm, **parameters}.items())
    return Refusal(status=status, detail=detail, headers={"WWW-Authenticate": f"Bearer {words}", **_NOT_KEPT})


def _later(detail: str) -> Refusal:
    return Refusal(status=503, detail=detail, headers={"Retry-After": _RETRY_AFTER, **_NOT_KEPT})
