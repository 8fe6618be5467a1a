"""How often may one client ask, and how often may one address be refused? Counted in this process; see `shared`.

Two questions, because they are about two people. A client pays once it has proven who it is: whoever only knows its id
cannot use up what it may have. An address pays for what was refused: whoever guesses has to wait, and so have the
others at that address. Nothing here does I/O or knows HTTP.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Final, Literal

from authsec_core._clock import Clock
from authsec_server.errors import RateLimitedError, RefusalCode, RefusedError
from authsec_server.limits.addresses import neighbourhood
from authsec_server.limits.buckets import Buckets, Rate

__all__ = ["Limited", "Limits"]

Limited = Literal["client", "address"]
# What is refused before anyone has proven anything. Every other refusal is told to who it is meant for.
_UNPROVEN: Final[frozenset[RefusalCode]] = frozenset(
    {
        "client_id_missing",
        "client_id_malformed",
        "request_malformed",
        "grant_unsupported",
        "target_malformed",
        "client_unknown",
        "proof_missing",
        "proof_wrong",
    }
)
_QUIET: Final = 1.0  # seconds between two lines of the log

_log = logging.getLogger("authsec.server.limits")


class Limits:
    """What is left for clients and addresses. For one event loop.

    Args:
        client_rate: Tokens a second for one client; 0 is no limit.
        refusal_rate: Refusals a second for one address; 0 is no limit.
        clock: The steady one, which no calendar moves.
        notes: What is charged is noted, for replicas that count together.
        limited: Is told of each request that had to wait, and what it was about.
    """

    def __init__(
        self,
        *,
        client_rate: float = 0.0,
        refusal_rate: float = 0.0,
        clock: Clock,
        notes: bool = False,
        limited: Callable[[Limited], None] | None = None,
    ) -> None:
        self._clock = clock
        self._limited = limited
        self._told_at = -_QUIET
        self.clients: Final = Buckets(Rate(per_second=client_rate), notes=notes)
        self.addresses: Final = Buckets(Rate(per_second=refusal_rate), notes=notes)

    def enter(self, address: str | None, client_id: str | None = None) -> None:
        """Look whether this address, and whoever this client is said to be, may ask now. Before any work is done.

        Raises:
            RateLimitedError: Not yet. Nothing is charged for that.
        """
        now = self._clock.steady()
        if address is not None and len(self.addresses):
            self._require("address", self.addresses.wait(neighbourhood(address), now))
        if client_id is not None and len(self.clients):
            self._require("client", self.clients.wait(client_id, now))

    def refused(self, address: str | None) -> None:
        """Charge an address for a proof that was none, an unknown client, or a request that could not be read."""
        if address is not None:
            self.addresses.charge(neighbourhood(address), self._clock.steady())

    def proven(self, client_id: str) -> None:
        """Charge a client that has proven who it is, whether it got what it asked for or not."""
        self.clients.charge(client_id, self._clock.steady())

    def judged(self, outcome: object, *, address: str | None, client_id: str) -> None:
        """Charge whoever has to pay for this outcome: a `RefusedError` that says so the address, else the client."""
        if isinstance(outcome, RefusedError) and outcome.reason in _UNPROVEN:
            self.refused(address)
        else:
            self.proven(client_id)

    def _require(self, what: Limited, wait: int) -> None:
        if not wait:
            return
        if self._limited is not None:
            self._limited(what)
        now = self._clock.steady()
        if now - self._told_at >= _QUIET:
            self._told_at = now
            _log.warning("requests of one %(limited)s have to wait", {"limited": what}, extra={"limited": what})
        raise RateLimitedError(f"too many requests of this {what}: try again in {wait} seconds", retry_after=wait)
