"""Why a guard lets somebody not in, sorted by what the caller does next.

```
AuthSecError
├── TokenMissingError          no token was presented: answer 401, and say which kind is wanted
├── CredentialsError           the request carries its token in a way that nobody can read one way alone: answer 400
├── TokenRejectedError         (of the core) a token was presented and is not good: answer 401
├── AccessDeniedError          the token is good, and does not allow this: answer 403; asking again will not help
├── VerificationUnavailableError (of the core) keys or status list cannot be had: answer 503
├── AuditUnavailableError      the decision could not be put on record: answer 503
├── ConversationIdError        nothing can be called that: answer 400
├── ConversationBusyError      the conversation is being used by another request: answer 409
└── ConversationLimitError     no more conversations can be kept right now: answer 503
```

Which status and header each becomes is for `refusals`. No message holds anything that the caller sent.
"""

from __future__ import annotations

from collections.abc import Iterable

from authsec_core.errors import AuthSecError

__all__ = [
    "AccessDeniedError",
    "AuditUnavailableError",
    "ConversationBusyError",
    "ConversationIdError",
    "ConversationLimitError",
    "CredentialsError",
    "TokenMissingError",
]


class TokenMissingError(AuthSecError):
    """The request carries no bearer token."""

    code = "token_missing"


class CredentialsError(AuthSecError):
    """The request carries several credentials, or one that is no bearer token: RFC 6750 calls it an invalid request."""

    code = "invalid_request"


class AccessDeniedError(AuthSecError):
    """The caller is known, and may not do this.

    Attributes:
        reason: Which of the conditions failed, as `authsec_fastapi.requirement` names them.
        missing: The scopes that the token lacks, if it is for want of scopes.
        needed: All scopes that are needed.
    """

    code = "access_denied"

    def __init__(self, message: str, *, reason: str, missing: Iterable[str] = (), needed: Iterable[str] = ()) -> None:
        super().__init__(message)
        self.reason = reason
        self.missing: frozenset[str] = frozenset(missing)
        self.needed: frozenset[str] = frozenset(needed)


class AuditUnavailableError(AuthSecError):
    """A decision could not be put on record, and audit-first is set: nothing is done that is not on record."""

    code = "audit_unavailable"
    retryable = True


class ConversationIdError(AuthSecError):
    """What should name a conversation is not 1 to 128 of `A-Z a-z 0-9 . _ -`."""

    code = "conversation_id_invalid"


class ConversationBusyError(AuthSecError):
    """Another request has the conversation, and did not end in time."""

    code = "conversation_busy"
    retryable = True


class ConversationLimitError(AuthSecError):
    """As many conversations are kept as may be, and none of this caller's own can make room."""

    code = "conversation_limit"
    retryable = True
