"""What the vault did not do, and why. `errors` draws where these stand in the tree, and has their names too.

No message holds a token, a key, a secret or the body of a server's reply.
"""

from __future__ import annotations

from authsec_core._error import AuthSecError

__all__ = [
    "ApprovalRequiredError",
    "SecretNotFoundError",
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
]


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
