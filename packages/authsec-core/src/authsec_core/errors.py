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

from collections.abc import Callable
from typing import ClassVar

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


class AuthSecError(Exception):
    """The root of the tree: catch it to catch everything that authsec raises on purpose.

    Attributes:
        code: A stable snake_case name for programs; it never changes between releases.
        retryable: Whether the same call can succeed later with nothing mended.
    """

    code: ClassVar[str] = "authsec_error"
    retryable: ClassVar[bool] = False

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message

    def again(self) -> AuthSecError:
        """Return an equal error with the same cause and no traceback, so that each waiter can raise its own."""
        twin = _remake(type(self), self.args, self.__dict__)
        twin.__cause__ = self.__cause__
        return twin

    def __reduce__(self) -> tuple[Callable[..., AuthSecError], tuple[object, ...]]:
        # BaseException's own calls the class with `args` alone, which those with keyword-only arguments refuse.
        return _remake, (type(self), self.args, self.__dict__)


def _remake(kind: type[AuthSecError], args: tuple[object, ...], attributes: dict[str, object]) -> AuthSecError:
    twin = kind.__new__(kind)
    twin.args = args
    twin.__dict__.update(attributes)
    return twin


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


class VaultError(AuthSecError):
    """The vault did not do what it was asked."""

    code = "vault_error"


class VaultUnauthorizedError(VaultError):
    """The agent key or the vault token is not good, or not any more: get another one."""

    code = "vault_unauthorized"


class VaultScopeDeniedError(VaultError):
    """No scope of the credential allows this, or it may not be used from here. Asking again will not help.

    Attributes:
        scopes: Those that would allow it, as far as scopes decide.
    """

    code = "vault_scope_denied"

    def __init__(self, message: str, *, scopes: frozenset[str] = frozenset()) -> None:
        super().__init__(message)
        self.scopes = scopes


class SecretNotFoundError(VaultError):
    """There is no such secret, or no such version of it."""

    code = "secret_not_found"


class ApprovalRequiredError(VaultError):
    """Somebody has to approve first.

    Attributes:
        approval_id: What they approve, and what to ask with again once they have. None where a secret was asked for
            with a credential that nobody approved for it: ask for a token for that secret.
        good_from: Epoch seconds: from when on the token can be had, where all have approved it and it has to wait.
        scopes: What to ask for a token with, where a secret was asked for.
    """

    code = "approval_required"

    def __init__(
        self,
        message: str,
        *,
        approval_id: str | None = None,
        good_from: float | None = None,
        scopes: frozenset[str] = frozenset(),
    ) -> None:
        super().__init__(message)
        self.scopes = scopes
        self.approval_id = approval_id
        self.good_from = good_from


class VaultTokenExhaustedError(VaultError):
    """The token was used as often as it could be: ask for another one."""

    code = "vault_token_exhausted"


class VaultConflictError(VaultError):
    """What is there now does not go with what was asked: somebody else changed it meanwhile."""

    code = "vault_conflict"


class VaultRequestError(VaultError):
    """The vault cannot make sense of the request.

    Attributes:
        lines: Of an import, the numbers of the lines that could not be read.
    """

    code = "vault_bad_request"

    def __init__(self, message: str, *, lines: tuple[int, ...] = ()) -> None:
        super().__init__(message)
        self.lines = lines


class VaultRateLimitedError(VaultError):
    """The vault was asked too often.

    Attributes:
        retry_after: Seconds that it asked us to wait, if it did.
    """

    code = "vault_rate_limited"
    retryable = True

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class VaultUnavailableError(VaultError):
    """The vault did not answer, or answered 408 or 5xx. Try again later.

    A use of a token that can be used only so often may have been counted all the same.

    Attributes:
        retry_after: Seconds that it asked us to wait, if it did.
    """

    code = "vault_unavailable"
    retryable = True

    def __init__(self, message: str, *, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class VaultInsecureTransportError(VaultError):
    """TLS to the vault could not be established or verified. Never retried, never downgraded."""

    code = "vault_insecure_transport"


class VaultReplyError(VaultError):
    """The vault's answer is not one to what was asked."""

    code = "vault_bad_reply"
