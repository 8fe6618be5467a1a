"""Is there room for one more? One number for each bucket: when it will be full again. Pure.

The generic cell rate algorithm: https://en.wikipedia.org/wiki/Generic_cell_rate_algorithm
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

__all__ = ["BURST", "Buckets", "Rate"]

BURST: Final = 10.0  # seconds' worth that may come at once
_MOST_BUCKETS: Final = 100_000
_SLACK: Final = 1e-6  # seconds: sums of floats are not exact


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """So many a second, and ten seconds' worth at once, but at least one.

    Attributes:
        per_second: 0 is no limit.
    """

    per_second: float

    @property
    def price(self) -> float:
        """The seconds in which a bucket makes good for one."""
        return 1 / self.per_second

    @property
    def window(self) -> float:
        """The seconds in which an empty bucket becomes full."""
        return max(BURST, self.price)

    def wait(self, full_at: float, now: float) -> float:
        """Return the seconds until there is room for one in a bucket that is full at `full_at`; 0 is now.

        >>> Rate(per_second=2).wait(109.5, now=100), Rate(per_second=2).wait(112, now=100)
        (0.0, 2.5)
        """
        short = max(full_at - now, 0) + self.price - self.window
        return short if short > _SLACK else 0.0

    def charged(self, full_at: float, now: float) -> float:
        """Return when the bucket is full, with one more taken out. It can owe more than it holds.

        >>> Rate(per_second=2).charged(90, now=100), Rate(per_second=2).charged(112, now=100)
        (100.5, 112.5)
        """
        return max(full_at, now) + self.price


class Buckets:
    """Many buckets of one rate. Those that were not used for longest are forgotten when they become too many.

    Args:
        rate: Of all of them.
        notes: What is charged is noted, for `take_charges`.
        most: How many there may be.
    """

    def __init__(self, rate: Rate, *, notes: bool = False, most: int = _MOST_BUCKETS) -> None:
        self.rate: Final = rate
        self._notes, self._most = notes, most
        self._full_at: OrderedDict[str, float] = OrderedDict()
        self._charges: OrderedDict[str, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._full_at)

    def wait(self, name: str, now: float) -> int:
        """Return the whole seconds until there is room for one; 0 is now."""
        full_at = self._full_at.get(name)
        if full_at is None:
            return 0
        return math.ceil(self.rate.wait(full_at, now))

    def charge(self, name: str, now: float) -> None:
        """Take one out, whether there is room or not."""
        if not self.rate.per_second:
            return
        self._put(name, self.rate.charged(self._full_at.get(name, now), now))
        if self._notes:
            self.give_back({name: self.rate.price})

    def take_charges(self, most: int) -> dict[str, float]:
        """Return what was charged and not yet told, in seconds, and count it as told."""
        names = [name for name, _ in zip(self._charges, range(most), strict=False)]
        return {name: self._charges.pop(name) for name in names}

    def give_back(self, charges: Mapping[str, float]) -> None:
        """Note what was taken by `take_charges`, and could not be told."""
        for name, seconds in charges.items():
            self._charges[name] = self._charges.get(name, 0.0) + seconds
            if len(self._charges) > self._most:
                self._charges.popitem(last=False)

    def take_over(self, owed: Mapping[str, float], now: float) -> None:
        """Go by what others know, where that is more: the seconds until each is full."""
        for name, seconds in owed.items():
            self._put(name, max(self._full_at.get(name, now), now + seconds))

    def _put(self, name: str, full_at: float) -> None:
        self._full_at[name] = full_at
        self._full_at.move_to_end(name)
        if len(self._full_at) > self._most:
            self._full_at.popitem(last=False)
