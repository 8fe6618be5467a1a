"""Which tokens had a good signature and good claims a moment ago? Bounded, and without the tokens themselves.

It only saves the work that cannot come out differently: whether the key still counts, the token is alive and nobody
has taken it back is asked again each time, by its caller.
"""

from __future__ import annotations

import hashlib
import threading
from typing import NamedTuple

from authsec_core._claims import VerifiedToken
from authsec_core._fork import renew_after_fork
from authsec_core._jws import VerifyingKey
from authsec_core._status_list import StatusReference

__all__ = ["Examined", "RecentTokens"]


class Examined(NamedTuple):
    """A token whose signature and claims were good.

    Attributes:
        key: The very key that verified the signature.
        status: Where its status stands, if it has one.
    """

    token: VerifiedToken
    key: VerifyingKey
    status: StatusReference | None


class RecentTokens:
    """At most `limit` examined tokens, found by the SHA-256 of their text. Thread-safe; reading takes no lock.

    Raises:
        ValueError: `limit` is negative.
    """

    def __init__(self, limit: int) -> None:
        if limit < 0:
            raise ValueError("remember must not be negative")
        self._limit = limit
        self._lock = threading.Lock()
        self._examined: dict[bytes, Examined] = {}
        renew_after_fork(self)

    def after_fork(self) -> None:
        """Forget the threads of the parent, one of which may hold the lock."""
        self._lock = threading.Lock()

    def get(self, token: str) -> Examined | None:
        """Return what was found when this very text was examined, if that is still known."""
        return self._examined.get(_digest(token)) if self._examined and token.isascii() else None

    def put(self, token: str, examined: Examined) -> None:
        """Remember a token, at the expense of the one that was examined longest ago."""
        if not self._limit:
            return
        with self._lock:
            while len(self._examined) >= self._limit:
                del self._examined[next(iter(self._examined))]
            self._examined[_digest(token)] = examined


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("ascii")).digest()
