"""When is a fetched value fetched again, by whom, and who may go on with the old one?

There is no background thread: those who use the value keep it fresh. A value is *fresh* until `due_at` and *good* until
`good_until`. While it is fresh nobody does anything. While it is only good, one caller fetches and the others go on
with what there is. When it is no longer good, one fetches and the others wait. A fetch that failed, or that was made
for something which then was not there, is followed by a pause (`cooldown`), so that neither a dead server nor a flood
of made-up names causes more than one fetch in that time. So is one that was broken off (an interrupt, a loop that is
shut down), but only for as long as there is a good value: that it was broken off says nothing about the server, and
those who have nothing else must not wait for nothing.

It does not know what it fetches. Everything is measured from the moment that the request was sent, by a clock that
does not jump.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from authsec_core._clock import Clock
from authsec_core._fetching import Steps, Wait
from authsec_core._flight import ABANDONED, Flight
from authsec_core._fork import renew_after_fork
from authsec_core.errors import VerificationUnavailableError

__all__ = ["Fresh", "Pace", "Refreshing"]

T = TypeVar("T")
X = TypeVar("X")

_log = logging.getLogger("authsec.verify")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pace:
    """How patient a `Refreshing` is, in seconds.

    Attributes:
        cooldown: The pause after a fetch that failed or did not bring what it was made for.
        patience: How long a fetch by another may take before it counts as lost.
        grace: For how long after a failed fetch the last good value may be used, though it is no longer good.
        limit: ... but never when it was fetched longer ago than this.

    Raises:
        ValueError: `cooldown` is not a positive number of seconds.
    """

    cooldown: float
    patience: float
    grace: float = 0.0
    limit: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.cooldown < math.inf:
            raise ValueError("cooldown must be a positive number of seconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class Fresh(Generic[T]):
    """A value that just arrived.

    Attributes:
        due_in: Seconds after which someone should fetch again.
        good_for: Seconds after which nobody may use it.
    """

    value: T
    due_in: float
    good_for: float


class Refreshing(Generic[T]):
    """One value from afar. Thread-safe and loop-safe; its lock is held for no I/O, and not taken while it is fresh.

    Args:
        what: What it is, for messages.
        renew: Fetches it. Gets the value held so far, good or not, and raises VerificationUnavailableError for
            whatever is not a good new one.
        url: Where it comes from, for the log, which leaves out the query: a key may stand there.
        name: What it is, for programs: `VerificationUnavailableError.unavailable`.
    """

    def __init__(
        self,
        what: str,
        renew: Callable[[T | None], Steps[Fresh[T]]],
        *,
        url: str,
        clock: Clock,
        pace: Pace,
        name: str | None = None,
    ) -> None:
        self._what = what
        self._name = name
        self._address = url.partition("?")[0]
        self._renew = renew
        self._clock = clock
        self._pace = pace
        # Re-entrant: the collector may finalise an abandoned leader's coroutine, which lands its flight, on the very
        # thread that holds the lock.
        self._lock = threading.RLock()
        # Guarded by the lock, except that `peek` reads `_held` once.
        self._held: _Held[T] | None = None
        self._flight: Flight | None = None
        self._flown_at = 0.0
        self._quiet_until = float("-inf")
        renew_after_fork(self)

    def after_fork(self) -> None:
        """Forget the threads of the parent: one may hold the lock, another may be fetching."""
        self._lock = threading.RLock()
        self._flight = None

    def peek(self) -> T | None:
        """Return the value if it is fresh, at the cost of one look at the clock."""
        held = self._held
        return held.value if held is not None and self._clock.steady() < held.due_at else None

    def obtain(self, find: Callable[[T], X | None]) -> Steps[X | None]:
        """Return what `find` finds in a good value, or None when it is not there.

        "Not there" is only said of a value that was asked for after this call began: what was published a moment ago is
        never called unknown. It costs nothing, a wait or a fetch, as the module says.

        Args:
            find: Quick and pure; it runs with the lock held.

        Raises:
            VerificationUnavailableError: No good value can be had, or (in a pause) none that is recent enough to say
                "not there".
        """
        arrived = self._clock.steady()
        failure: VerificationUnavailableError | None = None
        alone = led = False
        while True:
            move = self._next_move(find, arrived, alone, led)
            if isinstance(move, _Answer):
                return move.found
            if isinstance(move, _Follow):
                alone = not (yield Wait(flight=move.flight, patience=self._pace.patience))
            elif isinstance(move, _Lead):
                led = True
                try:
                    yield from self._lead(move.flight, find)
                except VerificationUnavailableError as exc:
                    failure = exc
            else:
                problem = f"{self._what} cannot be refreshed right now: try again"
                raise failure or VerificationUnavailableError(problem, unavailable=self._name)

    def _next_move(
        self, find: Callable[[T], X | None], arrived: float, alone: bool, led: bool
    ) -> _Answer[X] | _Follow | _Lead | None:
        with self._lock:
            now = self._clock.steady()
            held = self._held if self._held is not None and now < self._held.good_until else None
            found = find(held.value) if held is not None else None
            in_flight = self._flight is not None and now - self._flown_at <= self._pace.patience
            quiet = led or now < self._quiet_until  # once is enough, also where fetching takes longer than `good_for`
            if held is not None and held.sent_at >= arrived:
                return _Answer(found)
            if held is not None and found is not None and (now < held.due_at or in_flight or quiet):
                return _Answer(found)
            if self._flight is not None and in_flight and not alone:
                return _Follow(self._flight)
            if quiet or (in_flight and held is not None):
                return None
            flight = Flight()
            self._flight, self._flown_at = flight, now
            return _Lead(flight)

    def _lead(self, flight: Flight, find: Callable[[T], X | None]) -> Steps[None]:
        sent_at = self._clock.steady()
        try:
            fresh = yield from self._renew(self._held.value if self._held is not None else None)
            self._adopt(fresh, sent_at, find)
        except VerificationUnavailableError as exc:
            self._put_off()
            exc.unavailable = exc.unavailable or self._name  # it may be that of the keys, which a list needs
            # An outage that nobody notices, because old values bridge it, ends as one that everybody notices.
            _log.warning("%s: %s (what is held serves for as long as it is good)", self._address, exc.message)
            raise
        except BaseException:
            self._rest()
            raise
        finally:
            with self._lock:
                if self._flight is flight:
                    self._flight = None
            flight.land(ABANDONED)  # whatever came of it, those who wait look again at what is held

    def _adopt(self, fresh: Fresh[T], sent_at: float, find: Callable[[T], X | None]) -> None:
        with self._lock:
            if find(fresh.value) is None:
                self._quiet_until = self._clock.steady() + self._pace.cooldown
            if self._held is None or sent_at >= self._held.sent_at:
                self._held = _Held(fresh.value, sent_at, sent_at + fresh.due_in, sent_at + fresh.good_for)

    def _rest(self) -> None:
        with self._lock:
            if (held := self._held) is not None:
                until = min(self._clock.steady() + self._pace.cooldown, held.good_until)
                self._quiet_until = max(self._quiet_until, until)

    def _put_off(self) -> None:
        with self._lock:
            now = self._clock.steady()
            self._quiet_until = now + self._pace.cooldown
            if (held := self._held) is not None:
                grace = min(held.sent_at + self._pace.limit, now + self._pace.grace)
                self._held = _Held(held.value, held.sent_at, held.due_at, max(held.good_until, grace))


@dataclass(frozen=True, slots=True)
class _Held(Generic[T]):
    value: T
    sent_at: float
    due_at: float
    good_until: float


@dataclass(frozen=True, slots=True)
class _Answer(Generic[X]):
    found: X | None


@dataclass(frozen=True, slots=True)
class _Follow:
    flight: Flight


@dataclass(frozen=True, slots=True)
class _Lead:
    flight: Flight
