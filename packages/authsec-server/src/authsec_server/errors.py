"""What can go wrong at the authority, sorted by what the one who asked does next. Knows no HTTP: see `problems`.

```
AuthSecError
├── UnauthenticatedError       no proof, or not a good one: bring another
├── ForbiddenError             proven, but this operator's role does not include it
├── InvalidRequestError        mend the request (`field`)
├── NotFoundError              there is no such thing
├── ConflictError              it cannot be done in this state: look, then decide
├── RefusedError               no token or secret: `code` says why; asking again will not help
├── RateLimitedError           too many requests: wait for `retry_after` seconds
├── StorageUnavailableError    the database did not take it: nothing was done or disclosed; try again
├── DamagedAuditError          the audit is not what was written (`seq`): find out who changed it
└── ConfigurationError         mend the settings (the core's)
    ├── UnsafeSettingsError      they would work, and let someone in
    └── UnsealError              what was sealed is not what comes out: find out who wrote to the database
        └── WrongMasterKeyError    it was sealed with another master key: set that one
```
"""

from __future__ import annotations

from typing import Literal

from authsec_core.errors import AuthSecError, ConfigurationError

__all__ = [
    "ConflictError",
    "DamagedAuditError",
    "ForbiddenError",
    "InvalidRequestError",
    "NotFoundError",
    "RateLimitedError",
    "RefusalCode",
    "RefusedError",
    "StorageUnavailableError",
    "UnauthenticatedError",
    "UnsafeSettingsError",
    "UnsealError",
    "WrongMasterKeyError",
]

RefusalCode = Literal[
    "client_id_missing",
    "client_id_malformed",
    "request_malformed",
    "client_unknown",
    "proof_missing",
    "proof_wrong",
    "client_disabled",
    "client_revoked",
    "no_delegation",
    "delegation_ended",
    "not_covered",
    "audience_not_covered",
    "grant_unsupported",
    "subject_rejected",
    "target_malformed",
    "token_of_another",
    "address_denied",
    "approval_denied",
    "approval_ended",
    "approval_required",
    "limit_reached",
    "not_found",
    "scope_denied",
    "secret_not_found",
    "token_exhausted",
]


class UnauthenticatedError(AuthSecError):
    """Who asks is not known: the credential is missing, wrong, ended or revoked."""

    code = "unauthenticated"


class ForbiddenError(AuthSecError):
    """The operator is known, and their role does not include this."""

    code = "forbidden"


class InvalidRequestError(AuthSecError):
    """The request cannot be carried out as it stands.

    Attributes:
        field: The member that has to be mended, if it is one.
    """

    code = "invalid_request"

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class NotFoundError(AuthSecError):
    """There is no such thing, or not for this caller."""

    code = "not_found"


class ConflictError(AuthSecError):
    """The thing exists, and its state does not allow this."""

    code = "conflict"


class RefusedError(AuthSecError):
    """No token or secret is given.

    Attributes:
        reason: Which rule refused it; stable.
    """

    code = "refused"

    def __init__(self, reason: RefusalCode, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class RateLimitedError(AuthSecError):
    """Too many requests came from there, or for this client. Nothing was done, and nothing is in the audit.

    Attributes:
        retry_after: Whole seconds, at least 1.
    """

    code = "rate_limited"
    retryable = True

    def __init__(self, message: str, *, retry_after: int) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class StorageUnavailableError(AuthSecError):
    """The database did not take it, in spite of retries. Nothing was disclosed.

    Whether an operator's change was made is unknown if the connection broke while it was being committed; the audit
    tells.
    """

    code = "storage_unavailable"
    retryable = True


class DamagedAuditError(AuthSecError):
    """An entry of the audit is not the one that was written.

    Attributes:
        seq: The first bad entry.
    """

    code = "audit_damaged"

    def __init__(self, message: str, *, seq: int) -> None:
        super().__init__(message)
        self.seq = seq


class UnsafeSettingsError(ConfigurationError):
    """The settings would work, and let someone in who should not be. The message says which, and what to set."""

    code = "unsafe_settings"


class UnsealError(ConfigurationError):
    """Something sealed is not what was sealed: it was changed, cut, or belongs to something else."""

    code = "unseal_failed"


class WrongMasterKeyError(UnsealError):
    """It was sealed with another master key than the one that is set."""

    code = "wrong_master_key"
