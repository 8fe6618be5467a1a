"""Every error that authsec raises on purpose, sorted by what the caller does next.

```
AuthSecError                       stable `code`, `retryable`, and a message that says what to do next
├── ConfigurationError             mend the settings; raised at start, never in mid-flight
├── TokenUnavailableError          no token could be had
│   ├── AuthorityUnreachableError    try again later (`retry_after`)
│   ├── ProofUnavailableError        the workload-token file cannot be read; mend the mount
│   ├── DelegationRefusedError       asking again will not help; `reason` says why
│   ├── InsecureTransportError       TLS or scheme; never retried
│   ├── ScopeNotGrantedError         the grant does not cover what was asked (`missing`)
│   └── BadReplyError                the authority broke the protocol
├── VerificationUnavailableError   keys or status list cannot be had: answer 503, never "valid"
├── TokenRejectedError             a token was presented and is not good: answer 401
│   ├── MalformedTokenError          not a token of the expected kind
│   ├── BadSignatureError            not signed by a key of the issuer
│   ├── ExpiredTokenError
│   ├── NotYetValidError
│   ├── WrongAudienceError
│   ├── WrongIssuerError
│   └── RevokedTokenError
├── EndpointRefusedError           a model asked for an endpoint outside the policy
│   └── ScopeRefusedError            ... or for a scope that the policy does not give that endpoint
├── DownstreamError                the protected API answered with an error (`status`)
│   ├── DownstreamDeniedError        401 or 403; asking again will not help
│   └── DownstreamUnavailableError   not at all, 429 or 5xx: try again later
└── VaultError                     the vault did not do what it was asked
    ├── VaultUnauthorizedError       the key or the token is not good, or not any more
    ├── VaultScopeDeniedError        no scope of it allows this
    ├── SecretNotFoundError          nothing lies there
    ├── ApprovalRequiredError        somebody has to approve first (`approval_id`)
    ├── VaultTokenExhaustedError     the token was used as often as it could be
    ├── VaultConflictError           somebody else changed it meanwhile
    ├── VaultRequestError            the request itself is wrong (`lines` of an import)
    ├── VaultRateLimitedError        wait (`retry_after`)
    ├── VaultUnavailableError        try again later (`retry_after`)
    ├── VaultInsecureTransportError  TLS or scheme; never retried
    └── VaultReplyError              the vault broke the protocol
```

Misuse by the programmer is a plain `ValueError`, `TypeError` or `RuntimeError`. No message holds a token, a key or
the body of a server's reply.
"""

from __future__ import annotations

from authsec_core._error import AuthSecError
from authsec_core._vault_errors import (
    ApprovalRequiredError,
    SecretNotFoundError,
    VaultConflictError,
    VaultError,
    VaultInsecureTransportError,
    VaultRateLimitedError,
    VaultReplyError,
    VaultRequestError,
    VaultScopeDeniedError,
    VaultTokenExhaustedError,
    VaultUnauthorizedError,
    VaultUnavailableError,
)

__all__ = [
    "ApprovalRequiredError",
    "AuthSecError",
    "AuthorityUnreachableError",
    "BadReplyError",
    "BadSignatureError",
    "ConfigurationError",
    "DelegationRefusedError",
    "DownstreamDeniedError",
    "DownstreamError",
    "DownstreamUnavailableError",
    "EndpointRefusedError",
    "ExpiredTokenError",
    "InsecureTransportError",
    "MalformedTokenError",
    "NotYetValidError",
    "ProofUnavailableError",
    "RevokedTokenError",
    "ScopeNotGrantedError",
    "ScopeRefusedError",
    "SecretNotFoundError",
    "TokenRejectedError",
    "TokenUnavailableError",
    "VaultConflictError",
    "VaultError",
    "VaultInsecureTransportError",
    "VaultRateLimitedError",
    "VaultReplyError",
    "VaultRequestError",
    "VaultScopeDeniedError",
    "VaultTokenExhaustedError",
    "VaultUnauthorizedError",
    "VaultUnavailableError",
    "VerificationUnavailableError",
    "WrongAudienceError",
    "WrongIssuerError",
]

for _kind in (VaultError, *VaultError.__subclasses__()):
    _kind.__module__ = __name__  # where users import them from: tracebacks and pickles name it


class ConfigurationError(AuthSecError):
    """The settings are missing, contradictory or unsafe; the message names the variable and the mend."""

    code = "configuration"


class TokenUnavailableError(AuthSecError):
    """No delegation token could be had."""

    code = "token_unavailable"


class AuthorityUnreachableError(TokenUnavailableError):
    """The authority did not answer, or answered 408, 429 or 5xx. Try again later.

    Attributes:
        retry_after: Seconds that the authority asked us to wait, if it did.
    """

    code = "authority_unreachable"
    retryable = True

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class ProofUnavailableError(TokenUnavailableError):
    """The workload-token file cannot be read, so no request was made."""

    code = "proof_unavailable"


class DelegationRefusedError(TokenUnavailableError):
    """The authority answered 400, 401, 403, 404 or 410: asking again will not help.

    Attributes:
        reason: `bad_request`, `proof_rejected`, `not_delegated`, `unknown_client` or `delegation_ended`.
        status: The HTTP status.
    """

    code = "delegation_refused"

    def __init__(self, message: str, *, reason: str, status: int) -> None:
        super().__init__(message)
        self.reason = reason
        self.status = status


class InsecureTransportError(TokenUnavailableError):
    """TLS could not be established or verified. Never retried, never downgraded."""

    code = "insecure_transport"


class ScopeNotGrantedError(TokenUnavailableError):
    """The grant does not cover what was asked, so the token is thrown away.

    Attributes:
        missing: The scopes that were asked for and not granted.
    """

    code = "scope_not_granted"

    def __init__(self, message: str, *, missing: frozenset[str]) -> None:
        super().__init__(message)
        self.missing = missing


class BadReplyError(TokenUnavailableError):
    """The authority answered 200 with something that is not a delegation token for us."""

    code = "bad_reply"


class VerificationUnavailableError(AuthSecError):
    """The keys or the status list cannot be had, so nothing can be said of the token. Answer 503.

    Attributes:
        unavailable: `keys`, `status_list` or `introspection`; None where only the message says it.
    """

    code = "verification_unavailable"
    retryable = True

    def __init__(self, message: str, *, unavailable: str | None = None) -> None:
        super().__init__(message)
        self.unavailable = unavailable


class TokenRejectedError(AuthSecError):
    """A token was presented and is not good. Answer 401 `invalid_token` (RFC 6750 section 3.1)."""

    code = "token_rejected"


class MalformedTokenError(TokenRejectedError):
    """The text is not a token of the kind that the verifier's profile accepts."""

    code = "token_malformed"


class BadSignatureError(TokenRejectedError):
    """No key of the issuer made this signature."""

    code = "token_bad_signature"


class ExpiredTokenError(TokenRejectedError):
    """The token's `exp` has passed."""

    code = "token_expired"


class NotYetValidError(TokenRejectedError):
    """The token's `nbf` or `iat` lies in the future."""

    code = "token_not_yet_valid"


class WrongAudienceError(TokenRejectedError):
    """The token was issued for another API."""

    code = "token_wrong_audience"


class WrongIssuerError(TokenRejectedError):
    """The token was issued by another authority (a MOCK token, for example)."""

    code = "token_wrong_issuer"


class RevokedTokenError(TokenRejectedError):
    """The authority's status list says that the token was revoked."""

    code = "token_revoked"


class EndpointRefusedError(AuthSecError):
    """The endpoint lies outside the operator's policy; no token was requested."""

    code = "endpoint_refused"


class ScopeRefusedError(EndpointRefusedError):
    """The operator's policy does not give this scope to this endpoint; no token was requested."""

    code = "scope_refused"


class DownstreamError(AuthSecError):
    """The protected API answered with something that cannot be used.

    Attributes:
        status: The HTTP status, or None where there was no answer.
    """

    code = "downstream_error"

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class DownstreamDeniedError(DownstreamError):
    """The protected API answered 401 or 403: asking again will not help."""

    code = "downstream_denied"


class DownstreamUnavailableError(DownstreamError):
    """The protected API did not answer, or answered 429 or 5xx. Try again later."""

    code = "downstream_unavailable"
    retryable = True
