"""Whom does a verified token of a registered issuer name? Values, and whether they still count. Pure.

Each carries the issuer's revision, so that the transaction that decides can see whether the issuer is still trusted as
it was when the token was verified.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Literal

from authsec_core.errors import VerificationUnavailableError

__all__ = ["IssuerKind", "UserIdentity", "WorkloadIdentity", "still_counts"]

IssuerKind = Literal["kubernetes", "spiffe", "oidc", "users"]


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadIdentity:
    """A workload, as its platform vouches for it.

    Attributes:
        issuer_id: The registered issuer.
        revision: How often that had been changed when the token was verified.
        issuer_name: What operators call it.
        subject: The token's `sub`.
        selectors: All that the token proves.
        is_default: Whether agents that do not say which cluster they run in belong to this issuer.
        expires_at: Epoch seconds.
    """

    issuer_id: str
    revision: int
    issuer_name: str
    subject: str
    selectors: Mapping[str, str]
    is_default: bool
    expires_at: int


@dataclass(frozen=True, slots=True, kw_only=True)
class UserIdentity:
    """A user, as their identity provider vouches for them.

    Attributes:
        issuer: The `iss`.
        subject: The `sub`, which is unique at that issuer only.
        may_act: The `may_act.sub`: who alone may act for the user (RFC 8693 section 4.4); None is anyone.
        expires_at: Epoch seconds.
    """

    issuer_id: str
    revision: int
    issuer_name: str
    issuer: str
    subject: str
    may_act: str | None
    expires_at: int


def still_counts(identity: WorkloadIdentity | UserIdentity, trusted: Collection[tuple[str, int]], now: float) -> bool:
    """Return whether the issuer is trusted, and a second is left for a token.

    Args:
        trusted: The ids of the issuers that are trusted now, each with its revision.
        now: Epoch seconds.

    Raises:
        VerificationUnavailableError: The issuer was changed after the token was verified, so that it has to be verified
            anew: what was good may be bad, and the other way round.
    """
    if (identity.issuer_id, identity.revision) in trusted:
        return identity.expires_at - now >= 1
    if any(issuer_id == identity.issuer_id for issuer_id, _ in trusted):
        raise VerificationUnavailableError("the token's issuer was changed at this very moment: try again")
    return False
