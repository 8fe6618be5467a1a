"""Who gets a held token, who asks for a new one, and who waits: the state that callers of one process share.

Every method is a short step under one lock with no I/O inside. It does not ask anyone for tokens: `source` does, and
tells it what came of it.
"""

from __future__ import annotations

import threading
from typing import NamedTuple, NoReturn

from authsec_core._clock import SYSTEM_CLOCK, Clock
from authsec_core._flight import ABANDONED, Flight
from authsec_core._fork import renew_after_fork
from authsec_core._freshness import Freshness, Lease
from authsec_core.errors import (
    AuthorityUnreachableError,
    AuthSecError,
    DelegationRefusedError,
    ScopeNotGrantedError,
)
from authsec_core.token import DelegationToken

__all__ = ["CacheKey", "TokenCache"]

_LONGEST_PAUSE = 30.0  # seconds that a Retry-After can keep callers from asking again
_CAPACITY = 1024  # requests remembered: a model that invents scopes must not fill the memory


class CacheKey(NamedTuple):
    """Everything in which two requests can differ. Two that differ in one of these never share a token.

    Attributes:
        issuer: The authority's base URL, or the MOCK issuer; with the `iss` that is insisted on, if any.
        client: The agent's client id.
        subject: For whom and with which proof: its fingerprint.
        audience: The API asked for.
        scopes: The scopes asked for, sorted; None for the whole delegation.
        ttl: The life asked for, in seconds.
    """

    issuer: str
    client: str
    subject: str
    audience: str | None
    scopes: tuple[str, ...] | None
    ttl: float | None


class Lead(NamedTuple):
    """The caller is to ask for a token and then call `store`, `fail` or `abandon`.

    Attributes:
        key: What to ask for.
        flight: Where the others wait.
        number: Rises with each request that this cache orders.
        force: The caller insists on a new token.
    """

    key: CacheKey
    flight: Flight
    number: int
    force: bool


class Join(NamedTuple):
    """Someone else is asking: wait for this flight.

    Attributes:
        flight: What to wait for.
        older: It may bring what this caller no longer wants: wait it out, and enter again.
    """

    flight: Flight
    older: bool = False


class _Slot:
    __slots__ = ("error", "failed", "granted", "lead", "lease", "quiet_until")

    def __init__(self) -> None:
        self.lease: Lease | None = None
        self.lead: Lead | None = None
        self.error: AuthSecError | None = None
        self.quiet_until = float("-inf")
        self.granted = 0  # the number of the request that the lease came of
        self.failed = 0  # the same for the error


class TokenCache:
    """Tokens by request, with one request in the air for each. Thread-safe, loop-safe, and safe after a fork.

    Give one cache to several clients (a sync and an async one, say) to let them share tokens; each client has its own
    otherwise. It holds at most 1024 requests.

    Args:
        refresh_margin: Seconds before its end that a token is renewed, at most a quarter of its lifetime.
        failure_cooldown: Seconds after a failure in which it is reported again without asking; longer, up to 30, where
            the authority asked for it with `Retry-After`.
    """

    def __init__(
        self, *, refresh_margin: float = 60.0, failure_cooldown: float = 1.0, clock: Clock = SYSTEM_CLOCK
    ) -> None:
        self._margin = refresh_margin
        self._cooldown = failure_cooldown
        self._clock = clock
        self._slots: dict[CacheKey, _Slot] = {}
        self._ordered = 0
        # Guards _ordered, _slots and what is in them. Re-entrant: the collector may close a forsaken leader, which then
        # abandons its flight, in the middle of a step of ours on the same thread.
        self._lock = threading.RLock()
        renew_after_fork(self)

    def now(self) -> float:
        """Return the steady clock's reading, which leases are measured by."""
        return self._clock.steady()

    def mark(self) -> int:
        """Return the number of requests ordered so far: those that are ordered from now on have a higher one."""
        with self._lock:
            return self._ordered

    def enter(self, key: CacheKey, *, after: int | None = None) -> Lease | Lead | Join:
        """Return a token to use, the order to ask for one, or the flight to wait for.

        Args:
            key: What is wanted.
            after: Insist on a token, and heed only a failure, of a request that was ordered after this `mark`.

        Raises:
            AuthSecError: A request for this key has failed within the cool-down; a fresh copy of its error.
        """
        with self._lock:
            slot = self._slot(key)
            now = self._clock.steady()
            state = slot.lease.at(now) if slot.lease is not None else Freshness.EXPIRED
            if slot.lease is not None and (after is None or slot.granted > after):
                waits = slot.lead is not None or now < slot.quiet_until
                if state is Freshness.FRESH or (state is Freshness.STALE and waits):
                    return slot.lease
            if slot.lead is not None:
                return Join(slot.lead.flight, older=after is not None and slot.lead.number <= after)
            if slot.error is not None and now < slot.quiet_until and (after is None or slot.failed > after):
                raise slot.error.again() from slot.error
            self._ordered += 1
            slot.lead = Lead(key, Flight(), self._ordered, force=after is not None)
            return slot.lead

    def store(self, lead: Lead, token: DelegationToken) -> Lease:
        """Take the token that the leader got, and wake the others."""
        with self._lock:
            lease = self._keep(lead, token)
            self._release(lead)
        lead.flight.land(lease)
        return lease

    def lose(self, key: CacheKey, flight: Flight) -> None:
        """Let someone else lead. Who waits for `flight` still gets what its leader brings, should it come back."""
        with self._lock:
            slot = self._slots.get(key)
            if slot is not None and slot.lead is not None and slot.lead.flight is flight:
                slot.lead = None

    def fail(self, lead: Lead, error: AuthSecError) -> Lease | None:
        """Note the leader's error and wake the others. Return the old token where it may still be used.

        It may while it lives, unless the caller insisted on a new one or the authority has spoken: a refusal is an
        answer, an outage is none.
        """
        with self._lock:
            slot = self._slot(lead.key)
            now = self._clock.steady()
            news = self._is_news(lead)
            if news:
                # A copy: the leader's own error will hold its frames for as long as we keep it.
                slot.error, slot.quiet_until, slot.failed = error.again(), now + self._pause(error), lead.number
                if slot.lease is not None and isinstance(error, (DelegationRefusedError, ScopeNotGrantedError)):
                    slot.lease.withdraw()
            held = None if lead.force else slot.lease
            self._release(lead)
        usable = held if held is not None and held.at(now) is not Freshness.EXPIRED else None
        # Who waits has no token that may be used, or insists on a new one. After a later request they look again.
        lead.flight.land(error.again() if news else ABANDONED)
        return usable

    def abandon(self, lead: Lead) -> None:
        """Let a waiter lead: this leader was cancelled, or broke in a way that says nothing about the authority."""
        with self._lock:
            self._release(lead)
        lead.flight.land(ABANDONED)

    def forget(self, token: DelegationToken) -> None:
        """Drop this very token, and no newer one, wherever it is held."""
        with self._lock:
            for slot in self._slots.values():
                if slot.lease is not None and slot.lease.token is token:
                    slot.lease.withdraw()
                    slot.lease = None

    def clear(self) -> None:
        """Drop every token and every error; requests in the air go on."""
        with self._lock:
            for slot in self._slots.values():
                if slot.lease is not None:
                    slot.lease.withdraw()
                slot.lease = slot.error = None

    def _slot(self, key: CacheKey) -> _Slot:
        slot = self._slots.get(key)
        if slot is None:
            if len(self._slots) >= _CAPACITY:
                self._make_room()
            slot = self._slots[key] = _Slot()
        return slot

    def _make_room(self) -> None:
        now = self._clock.steady()
        idle = [key for key, slot in self._slots.items() if slot.lead is None]
        dead = [key for key in idle if (lease := self._slots[key].lease) is None or lease.at(now) is Freshness.EXPIRED]
        for key in dead or idle[: _CAPACITY // 4]:  # the oldest quarter, where all of them live
            slot = self._slots.pop(key)
            if slot.lease is not None:
                slot.lease.withdraw()  # `forget` could not reach it any more where a client has it at hand

    def _keep(self, lead: Lead, token: DelegationToken) -> Lease:
        slot = self._slot(lead.key)
        lease = Lease(token, margin=self._margin, longest=lead.key.ttl)
        if not self._is_news(lead):
            lease.withdraw()  # for those alone who wait for it: nobody may keep at hand what `forget` could not reach
            return lease
        if slot.lease is not None:
            slot.lease.withdraw()
        slot.lease, slot.error, slot.quiet_until, slot.granted = lease, None, float("-inf"), lead.number
        return lease

    def _is_news(self, lead: Lead) -> bool:
        """Tell whether no later request has come in already: the leader was given up, and yet came back."""
        slot = self._slot(lead.key)
        return lead.number > max(slot.granted, slot.failed)

    def _pause(self, error: AuthSecError) -> float:
        """Return for how long to leave the authority alone: as long as it asked, within reason."""
        asked = (error.retry_after or 0.0) if isinstance(error, AuthorityUnreachableError) else 0.0
        return max(self._cooldown, min(asked, _LONGEST_PAUSE))

    def _release(self, lead: Lead) -> None:
        slot = self._slots.get(lead.key)  # never makes one: someone may be iterating
        if slot is not None and slot.lead is lead:
            slot.lead = None

    def after_fork(self) -> None:
        """Run in the child: the parent's leaders do not exist here, and one may have held the lock."""
        self._lock = threading.RLock()
        for slot in self._slots.values():
            slot.lead = None

    def __reduce__(self) -> NoReturn:
        raise TypeError("a TokenCache holds tokens and is not pickled")
