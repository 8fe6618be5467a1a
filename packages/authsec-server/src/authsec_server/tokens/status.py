"""Which tokens have been taken back? The signed status lists (draft-ietf-oauth-status-list), as fresh as promised.

A list is read and signed anew when somebody asks for it and the one at hand is older than half a second, so that what
was revoked is published within one second on every replica. Verifying them is for the core.
"""

from __future__ import annotations

import asyncio
import base64
import zlib
from collections import OrderedDict
from collections.abc import Iterable
from typing import Any, Final, Protocol

import sqlalchemy as sa

from authsec_core._clock import Clock
from authsec_server.db.engine import Database
from authsec_server.db.tables import head, tokens
from authsec_server.errors import NotFoundError
from authsec_server.tokens.claims import PLACES_IN_A_LIST, status_uri

__all__ = ["SignsNow", "StatusLists", "packed"]

_FRESH_FOR: Final = 0.5  # seconds
_GOOD_FOR: Final = 60  # seconds until `exp`: a copy that somebody kept is worthless then
_MOST_KEPT: Final = 256  # lists: 33 million tokens


class SignsNow(Protocol):
    """Whatever signs with the key that is active."""

    async def sign(self, typ: str, claims: dict[str, Any]) -> str:
        """Return the compact JWS."""
        ...


class StatusLists:
    """Publishes the lists. For one event loop.

    Args:
        database: Where the tokens are.
        signer: Signs the lists.
        issuer: The lists lie below it.
        clock: Dates them.
        ttl: Seconds after which a verifier is to fetch a list again.
    """

    def __init__(self, database: Database, signer: SignsNow, *, issuer: str, clock: Clock, ttl: int) -> None:
        self._database = database
        self._signer = signer
        self._issuer = issuer
        self._clock = clock
        self._ttl = ttl
        self._kept: OrderedDict[int, _Kept] = OrderedDict()

    async def signed(self, number: int) -> str:
        """Return the list as a compact JWS that is at most half a second old.

        Raises:
            NotFoundError: No token has a place in a list of this number yet.
            StorageUnavailableError: It cannot be read: an older one is never passed off as new.
        """
        kept = self._kept.get(number)
        if kept is None:
            kept = self._kept[number] = _Kept()
            while len(self._kept) > _MOST_KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(number)
        async with kept.lock:
            now = self._clock.steady()
            if kept.text is None or not 0 <= now - kept.read_at < _FRESH_FOR:
                kept.text, kept.read_at = await self._read(number), now
            return kept.text

    async def _read(self, number: int) -> str:
        first = number * PLACES_IN_A_LIST
        async with self._database.read() as connection:
            used = (await connection.execute(sa.select(head.c.next_index))).scalar_one()
            if first > used:
                self._kept.pop(number, None)
                raise NotFoundError("there is no such status list")
            revoked = await connection.execute(
                sa.select(tokens.c.status_index).where(
                    tokens.c.revoked_at.is_not(None),
                    tokens.c.status_index >= first,
                    tokens.c.status_index < first + PLACES_IN_A_LIST,
                )
            )
            places = [index - first for index in revoked.scalars()]
        now = int(self._clock.wall())
        claims = {
            "iss": self._issuer,
            "sub": status_uri(self._issuer, number),
            "iat": now,
            "exp": now + _GOOD_FOR,
            "ttl": self._ttl,
            "status_list": {"bits": 1, "lst": packed(places)},
        }
        return await self._signer.sign("statuslist+jwt", claims)


class _Kept:
    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.text: str | None = None
        self.read_at = 0.0


def packed(places: Iterable[int]) -> str:
    """Return the bits of a list with these places set, compressed, in base64url (section 4.1 of the draft)."""
    bits = bytearray(PLACES_IN_A_LIST // 8)
    for place in places:
        bits[place >> 3] |= 1 << (place & 7)
    return base64.urlsafe_b64encode(zlib.compress(bits, 9)).rstrip(b"=").decode("ascii")
