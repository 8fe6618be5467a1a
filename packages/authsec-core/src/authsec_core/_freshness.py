"""Is a held token FRESH, STALE or EXPIRED at a moment? Pure.

STALE begins `min(margin, a quarter of the lifetime)` before the end, so that a one-second token and a 30-day token are
both renewed in time and neither is renewed all the time.
"""

from __future__ import annotations

from enum import Enum

from authsec_core.token import DelegationToken

__all__ = ["Freshness", "Lease"]


class Freshness(Enum):
    """What a holder may do with a token."""

    FRESH = "use it"
    STALE = "use it, and let one caller renew it"
    EXPIRED = "wait for a new one"


class Lease:
    """A token and, by the steady clock, until when it is FRESH and until when it may be used at all.

    Withdrawing sets both ends to the past: every holder of the lease sees it without a lock.
    """

    __slots__ = ("ends_at", "fresh_until", "text", "token")

    def __init__(self, token: DelegationToken, *, margin: float, longest: float | None = None) -> None:
        lifetime = token.lifetime if longest is None else min(token.lifetime, longest)
        self.token: DelegationToken = token
        self.text: str = token.value  # read in the hot path; this class has no repr of its content
        self.ends_at: float = token.sent_at + lifetime
        self.fresh_until: float = self.ends_at - min(margin, lifetime / 4)

    def at(self, now: float) -> Freshness:
        """Return the state at the steady clock's reading `now`."""
        if now < self.fresh_until:
            return Freshness.FRESH
        return Freshness.STALE if now < self.ends_at else Freshness.EXPIRED

    def withdraw(self) -> None:
        """Let it be EXPIRED from now on."""
        self.fresh_until = self.ends_at = float("-inf")
