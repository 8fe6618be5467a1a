"""Which command to type next where the vault refused: added to what its errors say to everybody. Pure."""

from __future__ import annotations

import shlex
from collections.abc import Iterable

from authsec_core.errors import ApprovalRequiredError, AuthSecError, VaultScopeDeniedError

__all__ = ["with_command"]

_HANDED_OVER = "then give --token-file FILE to this command."


def with_command(error: AuthSecError, *, by_key: bool) -> AuthSecError:
    """Return the error with the command that mends it, where one does.

    Args:
        by_key: The agent's own key was shown, so that no token could do more.
    """
    if isinstance(error, ApprovalRequiredError) and error.scopes:
        return ApprovalRequiredError(
            f"{error.message} Type authsec tokens issue {_scopes(error.scopes)} --wait 1h --out FILE, which somebody "
            f"approves with authsec-server admin approvals approve ID; {_HANDED_OVER}",
            scopes=error.scopes,
        )
    if isinstance(error, VaultScopeDeniedError) and error.scopes and not by_key:
        mend = f"Type authsec tokens issue {_scopes(error.scopes)} --out FILE; {_HANDED_OVER}"
        return VaultScopeDeniedError(f"{error.message} {mend}", scopes=error.scopes)
    return error


def _scopes(scopes: Iterable[str]) -> str:
    return shlex.join(word for scope in sorted(scopes) for word in ("--scope", scope))
