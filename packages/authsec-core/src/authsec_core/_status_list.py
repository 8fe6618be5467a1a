"""Has the issuer taken this token back? Token Status Lists (draft-ietf-oauth-status-list): read strictly, kept fresh.

A token names a list and a place in it; the list is a signed JWT of compressed bits. It does not decide what a status
means, beyond that 0 is "valid"; and a list that cannot be had, or is not good in every respect, never is.
"""

from __future__ import annotations

import itertools
import math
import re
import threading
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from authsec_core._clock import Clock
from authsec_core._fetching import Get, Steps
from authsec_core._fork import renew_after_fork
from authsec_core._jwks import KeySource
from authsec_core._jws import RS256, Algorithm, Jws, check_signature, decode_base64url, parse_jws
from authsec_core._refreshing import Fresh, Pace, Refreshing
from authsec_core.errors import MalformedTokenError, TokenRejectedError, VerificationUnavailableError

__all__ = ["StatusList", "StatusLists", "StatusReference", "parse_status_list"]

_LARGEST_REPLY = 1024 * 1024  # bytes, signed and compressed
_LARGEST_LIST = 8 * 1024 * 1024  # bytes, decompressed: 67 million tokens of one bit
_MOST_LISTS = 1024
_MOST_BYTES = 256 * 1024 * 1024  # of all lists that are kept, decompressed
_LATEST = 253_402_300_800  # the year 10000 in epoch seconds
_WHAT = "the issuer's status list"
_MAPPING = (MappingProxyType, Mapping)  # what it nearly always is first: to ask an abstract class takes 0.3 µs

# What may follow the issuer: whole segments of characters that have one spelling. No escapes, no dots alone, no query.
_BELOW = re.compile(r"(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9._~-]+)+")


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusReference:
    """Where a token's status stands."""

    uri: str
    index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StatusList:
    """A list whose signature was good.

    Attributes:
        issued_at: Epoch seconds, by the issuer's clock.
        expires_at: Epoch seconds, by the issuer's clock, if it said so.
        ttl: Seconds after which the issuer wants it fetched again, if it said so.
    """

    issued_at: int
    expires_at: int | None
    ttl: int | None
    _bits: int
    _packed: bytes = field(repr=False)

    @property
    def size(self) -> int:
        """How many bytes it takes, decompressed."""
        return len(self._packed)

    def status(self, index: int) -> int | None:
        """Return the status at this place, or None if the list is not so long."""
        at, shift = divmod(index * self._bits, 8)
        if at >= len(self._packed):
            return None
        return (self._packed[at] >> shift) & ((1 << self._bits) - 1)


def parse_status_list(claims: Mapping[str, Any], *, uri: str, issuer: str) -> StatusList:
    """Return the list that these verified claims hold.

    Raises:
        MalformedTokenError: They hold none, or one that was not made for `uri` by `issuer`.
    """
    if claims.get("sub") != uri or claims.get("iss", issuer) != issuer:
        raise MalformedTokenError("it is not the list that was asked for")
    packed = claims.get("status_list")
    bits = packed.get("bits") if isinstance(packed, Mapping) else None
    if not isinstance(packed, Mapping) or type(bits) is not int or bits not in (1, 2, 4, 8):
        raise MalformedTokenError("it holds no bits")
    expires_at = _whole(claims["exp"]) if "exp" in claims else None
    ttl = _whole(claims["ttl"]) if "ttl" in claims else None
    if ttl == 0:
        raise MalformedTokenError("its ttl is not positive")
    return StatusList(
        issued_at=_whole(claims.get("iat")),
        expires_at=expires_at,
        ttl=ttl,
        _bits=bits,
        _packed=_inflate(packed.get("lst")),
    )


class StatusLists:
    """The status lists of one issuer, each fetched when a token first names it. Thread-safe and loop-safe.

    A list serves until it is `max_age` old, counted from the moment that it was asked for, or until its own `exp`; it
    is due at half that age, or after the `ttl` that it names if that is sooner.

    A copy that somebody kept is as well signed as a new one, so that what is signed must say how long it counts:
        - Without `exp` it counts until `max_age` seconds after its `iat`.
        - With `exp`, until then; but if it also promises a new one every `ttl` seconds, not longer than that and
          `max_age` after its `iat`, however far away its `exp` is.

    At most 1024 lists and 256 MiB are kept; those that nobody has named for longest go first.

    Args:
        issuer: Lists lie below it.
        max_age: Seconds.
        leeway: Seconds by which the issuer's clock may differ from ours.
        algorithms: By which lists may be signed.

    Raises:
        ValueError: `max_age` is not a positive number of seconds.
    """

    def __init__(
        self,
        issuer: str,
        keys: KeySource,
        *,
        clock: Clock,
        max_age: float,
        leeway: float,
        pace: Pace,
        algorithms: frozenset[Algorithm] = RS256,
    ) -> None:
        if not 0 < max_age < math.inf:
            raise ValueError("revocation_max_age must be a positive number of seconds")
        self._issuer = issuer
        self._keys = keys
        self._algorithms = algorithms
        self._clock = clock
        self._max_age = max_age
        self._leeway = leeway
        self._pace = pace
        self._lock = threading.RLock()  # guards additions and removals; re-entrant for the reason in `_refreshing`
        self._lists: dict[str, _Kept] = {}
        self._turns = itertools.count()
        renew_after_fork(self)

    def after_fork(self) -> None:
        """Forget the threads of the parent, one of which may hold the lock."""
        self._lock = threading.RLock()

    def reference(self, status: object) -> StatusReference:
        """Return what a token's `status` claim refers to.

        Raises:
            MalformedTokenError: It is no reference to a list of this issuer. Another kind of status is one that we
                cannot check, so that it is refused too.
        """
        named = status.get("status_list") if isinstance(status, _MAPPING) else None
        uri, index = (named.get("uri"), named.get("idx")) if isinstance(named, _MAPPING) else (None, None)
        if not isinstance(uri, str) or type(index) is not int or index < 0:
            raise MalformedTokenError("the token's status does not name a place in a status list")
        if uri not in self._lists and not self._is_below_issuer(uri):
            raise MalformedTokenError("the token's status list does not lie under its issuer")
        return StatusReference(uri=uri, index=index)

    def peek(self, reference: StatusReference) -> int | None:
        """Return the status if a fresh list is at hand."""
        kept = self._lists.get(reference.uri)
        if kept is None:
            return None
        kept.used = next(self._turns)  # without the lock: at worst a list counts as used a moment earlier
        listed = kept.latest.peek()
        return listed.status(reference.index) if listed is not None else None

    def obtain(self, reference: StatusReference) -> Steps[int | None]:
        """Return the status, or None if the list is not so long.

        Raises:
            VerificationUnavailableError: No list that is good and young enough can be had.
        """
        return (yield from self._list(reference.uri).obtain(lambda listed: listed.status(reference.index)))

    def _list(self, uri: str) -> Refreshing[StatusList]:
        with self._lock:
            kept = self._lists.get(uri)
            if kept is not None:
                kept.used = next(self._turns)
                return kept.latest
            latest = Refreshing(
                _WHAT,
                lambda previous: self._renew(uri, previous),
                url=uri,
                clock=self._clock,
                pace=self._pace,
                name="status_list",
            )
            self._lists[uri] = _Kept(latest, used=next(self._turns))
            self._make_room()
            return latest

    def _make_room(self) -> None:
        while len(self._lists) > _MOST_LISTS or sum(kept.size for kept in self._lists.values()) > _MOST_BYTES:
            del self._lists[min(self._lists, key=lambda uri: self._lists[uri].used)]

    def _is_below_issuer(self, uri: str) -> bool:
        base = self._issuer.rstrip("/")
        return (
            base.startswith(("https://", "http://"))
            and uri.startswith(base)
            and _BELOW.fullmatch(uri, len(base)) is not None
        )

    def _renew(self, uri: str, previous: StatusList | None) -> Steps[Fresh[StatusList]]:
        body = yield Get(url=uri, what=_WHAT, accept="application/statuslist+jwt", limit=_LARGEST_REPLY)
        try:
            listed = yield from self._read(body, uri)
        except TokenRejectedError as exc:
            raise VerificationUnavailableError(f"{_WHAT} is refused: {exc.message}") from exc
        if previous is not None and listed.issued_at < previous.issued_at:
            raise VerificationUnavailableError(f"{_WHAT} is older than the one before: an old copy was played back")
        good_for = self._good_for(listed)
        with self._lock:
            if (kept := self._lists.get(uri)) is not None:
                kept.size = listed.size
                self._make_room()
        return Fresh(value=listed, due_in=min(good_for / 2, listed.ttl or good_for), good_for=good_for)

    def _good_for(self, listed: StatusList) -> float:
        """Return for how many seconds a list that has just come may serve."""
        now, good_for = self._clock.wall(), self._max_age
        if listed.issued_at > now + self._leeway:
            raise VerificationUnavailableError(f"{_WHAT} is from the future: set the clocks")
        if listed.expires_at is not None:
            good_for = min(good_for, listed.expires_at + self._leeway - now)
            if good_for <= 0:
                raise VerificationUnavailableError(f"{_WHAT} has expired")
            if listed.ttl is None:
                return good_for
        renewed_every = 0 if listed.expires_at is None or listed.ttl is None else listed.ttl
        signed_at = listed.issued_at + 1  # at the latest: `iat` has whole seconds
        good_for = min(good_for, signed_at + renewed_every + self._max_age + self._leeway - now)
        if good_for <= 0:
            raise VerificationUnavailableError(
                f"{_WHAT} was signed too long ago to be the latest: an old copy was played back, or its issuer must "
                "sign it anew more often, or state its exp"
            )
        return good_for

    def _read(self, body: bytes, uri: str) -> Steps[StatusList]:
        jws = parse_jws(body.decode("latin-1"), limit=_LARGEST_REPLY, algorithms=self._algorithms)
        if jws.header.typ != "statuslist+jwt":
            raise MalformedTokenError("its type is not statuslist+jwt")
        yield from self._check_signature(jws)
        return parse_status_list(jws.claims(), uri=uri, issuer=self._issuer)

    def _check_signature(self, jws: Jws) -> Steps[None]:
        key = self._keys.peek(jws.header.kid) or (yield from self._keys.obtain(jws.header.kid))
        if key is None:
            raise MalformedTokenError("its key is not the issuer's")
        check_signature(jws, key)


@dataclass(slots=True, eq=False)
class _Kept:
    latest: Refreshing[StatusList]
    used: int  # the higher, the later somebody named it
    size: int = 0


def _whole(value: object) -> int:
    if type(value) is not int or not 0 <= value < _LATEST:
        raise MalformedTokenError("it has a time that is none")
    return value


def _inflate(text: object) -> bytes:
    if not isinstance(text, str) or not text.isascii():
        raise MalformedTokenError("its bits are not text")
    inflater = zlib.decompressobj()
    try:
        packed = inflater.decompress(decode_base64url(text.encode("ascii")), _LARGEST_LIST)
    except (ValueError, zlib.error) as exc:
        raise MalformedTokenError("its bits are not zlib in base64url") from exc
    # `eof` also fails for a bomb, whose rest is left in the inflater, and for a cut stream.
    if not inflater.eof or inflater.unused_data:
        raise MalformedTokenError("its bits are cut, too many, or followed by something else")
    return packed
