"""`authsec tokens issue|revoke`: a token for some secrets, shown once, to hand to a program that needs no more.

It is asked for with the agent's key, because a vault token cannot ask for others.
"""

from __future__ import annotations

from typing import Any, Final

from authsec_core.cli._outcome import InputError, Outcome, Shown
from authsec_core.cli._session import Session
from authsec_core.cli._streams import require_absent, write_new
from authsec_core.cli._vault_arguments import TokensArguments
from authsec_core.errors import ApprovalRequiredError, VaultError
from authsec_core.token import Secret
from authsec_core.vault_values import VaultToken
from authsec_core.wire import format_time

__all__ = ["issue_token", "revoke_token"]

_PAUSE: Final = 5.0  # seconds between two questions whether it is approved


def issue_token(session: Session, arguments: TokensArguments) -> Outcome:
    """Get a token; where somebody has to approve first, wait for that as long as was said.

    Raises:
        ApprovalRequiredError: Nobody has, so far.
    """
    require_absent(arguments.out)
    token = _awaited(session, arguments)
    text = Secret(token.value)
    document: dict[str, Any] = {
        "token_id": token.token_id,
        "scopes": sorted(token.scopes),
        "expires_at": format_time(token.expires_at),
    }
    message = f"token {token.token_id} for {' '.join(document['scopes'])}, until {document['expires_at']}"
    if arguments.out is None:
        return session.done(
            "done", f"{message}; it is shown this once", document, shown=Shown(member="token", value=text)
        )
    try:
        write_new(arguments.out, text)
    except InputError as exc:
        raise InputError(
            f"{exc.message}; end the token that nobody has: authsec tokens revoke {token.token_id}"
        ) from exc
    return session.done("done", f"{message}, in {arguments.out}", {**document, "out": str(arguments.out)})


def revoke_token(session: Session, arguments: TokensArguments) -> Outcome:
    """End a token."""
    session.notify("Revoking the token")
    session.vault.revoke_token(arguments.token_id)
    return session.done("done", f"{arguments.token_id} is revoked", {"revoked": arguments.token_id})


def _awaited(session: Session, arguments: TokensArguments) -> VaultToken:
    approval, deadline = arguments.approval_id, session.clock.steady() + (arguments.wait or 0.0)
    session.notify("Asking for a token")
    while True:
        try:
            return session.vault.request_token(list(arguments.scopes), **_asked(arguments), approval_id=approval)
        except ApprovalRequiredError as exc:
            if exc.approval_id is None:  # nothing is waited for: the request was used up, or is over
                raise
            approval = exc.approval_id
            left = deadline - session.clock.steady()
            if left <= 0:
                raise _still_waiting(exc) from exc
        except VaultError as exc:
            left = deadline - session.clock.steady()
            if not exc.retryable or left <= 0:  # a vault that is restarted does not end an hour of waiting
                raise
        session.notify(f"Waiting for the approval of {approval}, for {left:.0f} more seconds")
        session.clock.sleep(min(_PAUSE, left))


def _still_waiting(error: ApprovalRequiredError) -> ApprovalRequiredError:
    if error.good_from is None:
        what = (
            "An operator who has not made this agent or its key has to approve this token first, with authsec-server "
            f"admin approvals approve {error.approval_id}"
        )
    else:
        what = f"This token is approved, and can be had from {format_time(error.good_from)} on"
    mend = f"{what}: then add --approval-id {error.approval_id}, or wait for it with --wait 1h."
    return ApprovalRequiredError(mend, approval_id=error.approval_id, good_from=error.good_from)


def _asked(arguments: TokensArguments) -> dict[str, Any]:
    asked = {
        "ttl_seconds": arguments.ttl,
        "max_uses": arguments.max_uses,
        "description": arguments.description,
        "access_tier": arguments.access_tier,
        "allowed_ips": list(arguments.allowed_ips) or None,
    }
    return {name: value for name, value in asked.items() if value is not None}
