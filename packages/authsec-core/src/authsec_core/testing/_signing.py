"""The loopback authority's keys and status lists. draft-ietf-oauth-status-list."""

from __future__ import annotations

import threading
import zlib
from collections.abc import Iterable
from functools import cache

from authsec_core._signing import SigningKey, base64url

__all__ = ["SigningKey", "first_key", "pack_statuses"]

_FEWEST_STATUSES = 1024  # so that the length of the list does not tell how many tokens there are
_making_first_key = threading.Lock()


@cache
def _shared_key() -> SigningKey:
    return SigningKey.generate()


def first_key() -> SigningKey:
    """Return the key that every authority of this process starts with: made once, because making it is slow."""
    with _making_first_key:
        return _shared_key()


def pack_statuses(revoked: Iterable[int], count: int) -> dict[str, object]:
    """Return the `status_list` claim: one bit for each index, the least significant bit of a byte first."""
    packed = bytearray((max(count, _FEWEST_STATUSES) + 7) // 8)
    for index in revoked:
        packed[index // 8] |= 1 << (index % 8)
    return {"bits": 1, "lst": base64url(zlib.compress(bytes(packed), level=9))}
