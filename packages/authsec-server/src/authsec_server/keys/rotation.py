"""Which signing keys are published now, and what is to be done next: the life of a key. Pure.

```
prepared -> active -> retired -> (gone from the JWKS)      any of them -> revoked, and gone at once
```
A key is published before it signs, for as long as a verifier may keep an older JWKS; and after it signed, for as long
as its last token lives. RFC 7517; NIST SP 800-57 part 1, section 5.3, for why keys have a lifetime.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final, Literal

from authsec_core.wire import format_time
from authsec_server.errors import ConflictError

__all__ = [
    "Activate",
    "KeyRow",
    "KeyState",
    "Prepare",
    "Step",
    "Timing",
    "active",
    "due",
    "may_activate",
    "move",
    "published",
    "ready_at",
    "waiting",
    "withdrawn_at",
]

KeyState = Literal["prepared", "active", "retired", "revoked"]


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyRow:
    """One signing key, as far as its life goes. Instants are epoch seconds.

    Attributes:
        created_at: Since when it is published.
    """

    kid: str
    state: KeyState
    created_at: float
    activated_at: float | None = None
    retired_at: float | None = None
    revoked_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """How long things last, in seconds.

    Attributes:
        jwks_max_age: For which a verifier may keep the JWKS.
        longest_ttl: Of any token.
        lifetime: For which a key signs.
        leeway: For clocks that differ, between replicas and at verifiers.

    Raises:
        ValueError: With these, keys would pile up: each has to sign for about as long as it is published afterwards.
    """

    jwks_max_age: float
    longest_ttl: float
    lifetime: float
    leeway: float

    def __post_init__(self) -> None:
        for name in ("jwks_max_age", "longest_ttl", "lifetime", "leeway"):
            value: float = getattr(self, name)
            if not 0 < value < math.inf:
                raise ValueError(f"{name} must be a positive number of seconds")
        if self.lifetime < max(self.longest_ttl + self.jwks_max_age, self.leeway):
            raise ValueError("a signing key's lifetime must be at least longest_ttl + jwks_max_age, and leeway")

    @property
    def overlap(self) -> float:
        """For how long a key that signs no more is still published."""
        return self.longest_ttl + self.jwks_max_age + self.leeway


@dataclass(frozen=True, slots=True)
class Prepare:
    """A key has to be made and published."""


@dataclass(frozen=True, slots=True)
class Activate:
    """This key shall sign from now on."""

    kid: str


Step = Prepare | Activate

_MOVES: Final = frozenset(
    {
        ("prepared", "active"),
        ("prepared", "retired"),
        ("active", "retired"),
        ("prepared", "revoked"),
        ("active", "revoked"),
        ("retired", "revoked"),
    }
)


def move(row: KeyRow, state: KeyState, at: float) -> KeyRow:
    """Return the key in its new state.

    Raises:
        ConflictError: It cannot get there from where it is.
    """
    if (row.state, state) not in _MOVES:
        raise ConflictError(f"the signing key {row.kid} is {row.state}: it cannot become {state}")
    if state == "active":
        return replace(row, state=state, activated_at=at)
    return replace(row, state=state, retired_at=at) if state == "retired" else replace(row, state=state, revoked_at=at)


def active(rows: Iterable[KeyRow]) -> KeyRow | None:
    """Return the key that signs."""
    return next((row for row in rows if row.state == "active"), None)


def waiting(rows: Iterable[KeyRow]) -> tuple[KeyRow, ...]:
    """Return the prepared keys, the one that was published first in front."""
    prepared = [row for row in rows if row.state == "prepared"]
    return tuple(sorted(prepared, key=lambda row: (row.created_at, row.kid)))


def published(rows: Iterable[KeyRow], now: float, timing: Timing) -> tuple[KeyRow, ...]:
    """Return the keys of the JWKS: the one that signs first, then the others from old to new."""
    shown = [row for row in rows if now < withdrawn_at(row, timing)]
    return tuple(sorted(shown, key=lambda row: (row.state != "active", row.created_at, row.kid)))


def withdrawn_at(row: KeyRow, timing: Timing) -> float:
    """Return when the key leaves the JWKS: infinity while that is not decided, the past for one that is out of it."""
    if row.state == "revoked":
        return -math.inf
    if row.retired_at is None:
        return math.inf
    if row.activated_at is None:
        return -math.inf  # it never signed, so nobody needs it
    return row.retired_at + timing.overlap


def ready_at(row: KeyRow, timing: Timing) -> float:
    """Return when every verifier has seen this key: until then its tokens may be refused somewhere."""
    return row.created_at + timing.jwks_max_age + timing.leeway


def may_activate(row: KeyRow, now: float, timing: Timing, *, at_once: bool = False) -> None:
    """Return if this key may sign from now on.

    Raises:
        ConflictError: It is not prepared; or it was not published for long enough, and it is not to be at once.
    """
    move(row, "active", now)
    if now < ready_at(row, timing) and not at_once:
        raise ConflictError(
            f"verifiers may not know the signing key {row.kid} yet: wait until {format_time(ready_at(row, timing))}, "
            "or activate it at once and have tokens refused until they do"
        )


def due(rows: Sequence[KeyRow], now: float, timing: Timing) -> Step | None:
    """Return what the schedule asks for first, if anything.

    Where no key signs, the first one does so at once: no token is out that another one could verify.
    """
    signs = active(rows)
    following = next(iter(waiting(rows)), None)
    if signs is None or signs.activated_at is None:
        return Prepare() if following is None else Activate(following.kid)
    age = now - signs.activated_at
    if following is None:
        return Prepare() if age >= timing.lifetime - 2 * timing.jwks_max_age - timing.leeway else None
    return Activate(following.kid) if age >= timing.lifetime and now >= ready_at(following, timing) else None
