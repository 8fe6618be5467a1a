"""Which keys may sign for the issuer? Strict reading of a JWK set, and keys that are given or kept fresh from a URL.

A set with an ambiguity or a blunder in it (two keys of one name, a secret, a weak key) is refused as a whole: whoever
published it does not know what it says. Keys for other purposes are no blunder and are passed over. It verifies
nothing: RFC 7517 (JWK), RFC 7518 section 6.3.1 (RSA), RFC 8725 section 3.5 (key strength).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey, RSAPublicNumbers

from authsec_core._clock import Clock
from authsec_core._fetching import Get, Steps
from authsec_core._jws import decode_base64url, parse_json
from authsec_core._refreshing import Fresh, Pace, Refreshing
from authsec_core.errors import VerificationUnavailableError

__all__ = ["GivenKeys", "KeySource", "Keys", "RemoteKeys", "parse_keys"]

_WHAT = "the issuer's key set"
_LARGEST_REPLY = 64 * 1024  # bytes
_MOST_KEYS = 64
_FEWEST_BITS, _MOST_BITS = 2048, 8192  # above, one verification costs an attacker's target too much
_LEAST_EXPONENT, _GREATEST_EXPONENT = 65537, 2**64
_SECRET_MEMBERS: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})

Keys = Mapping[str, RSAPublicKey]


class KeySource(Protocol):
    """The keys of one issuer, by key id. Thread-safe and loop-safe."""

    def peek(self, kid: str) -> RSAPublicKey | None:
        """Return the key if it is known without any doubt or I/O."""
        ...

    def obtain(self, kid: str) -> Steps[RSAPublicKey | None]:
        """Return the key, or None if the issuer has none of this name.

        Raises:
            VerificationUnavailableError: That cannot be said right now.
        """
        ...


def parse_keys(jwks: object) -> Keys:
    """Return the keys of a JWK set that may verify RS256 signatures. The set may come out empty.

    Raises:
        ValueError: The set breaks a rule; the message says which and quotes nothing from it.
    """
    members = jwks.get("keys") if isinstance(jwks, Mapping) else None
    if not isinstance(members, (list, tuple)) or not all(isinstance(jwk, Mapping) for jwk in members):
        raise ValueError("it is not a JWK set")
    if len(members) > _MOST_KEYS:
        raise ValueError(f"it has more than {_MOST_KEYS} keys")
    names = [jwk["kid"] for jwk in members if "kid" in jwk]
    if not all(isinstance(name, str) and name for name in names):
        raise ValueError("a key id is not text")
    if len(set(names)) != len(names):
        raise ValueError("two keys have the same key id")
    for jwk in members:
        _refuse_secrets(jwk)
    return {jwk["kid"]: _rsa_key(jwk) for jwk in members if "kid" in jwk and _is_for_us(jwk)}


class GivenKeys:
    """Keys that never change.

    Raises:
        ValueError: As in `parse_keys`, and if no key is left.
    """

    def __init__(self, jwks: Mapping[str, Any]) -> None:
        self._keys = parse_keys(jwks)
        if not self._keys:
            raise ValueError("it has no RSA key with a key id for RS256 signatures")

    def peek(self, kid: str) -> RSAPublicKey | None:
        return self._keys.get(kid)

    def obtain(self, kid: str) -> Steps[RSAPublicKey | None]:
        yield from ()  # there is nothing to fetch
        return self._keys.get(kid)


class RemoteKeys:
    """Keys that are published at one pinned URL and change.

    - A withdrawn key is refused within `refresh` seconds, while the URL answers: keys are due at half that age, and
      from then on one caller fetches while the others go on with what there is.
    - While the URL does not answer, the last good keys serve until they are `max_age` old. That is the price of
      surviving an outage: whoever can cut us off from the URL keeps a withdrawn key alive for so long.
    - An unknown key id causes a fetch, but at most one in each `cooldown` unless it brings the key. In between it is
      neither good nor bad ("try again"): a token signed with a key that was published a moment ago is not called
      forged, whatever else arrives. Known keys never wait for any of this.
    - A key id that has disappeared from the set is refused at once and causes nothing.

    Args:
        refresh: Seconds.
        max_age: Seconds, not less than `refresh`.
        pace: `cooldown` and `patience`; the rest follows from the other arguments.

    Raises:
        ValueError: `refresh` or `max_age` is out of range.
    """

    def __init__(self, url: str, *, clock: Clock, refresh: float, max_age: float, pace: Pace) -> None:
        if not 0 < refresh <= max_age < math.inf:
            raise ValueError("jwks_refresh must be a positive number of seconds, and jwks_max_age not less")
        self._url = url
        self._refresh = refresh
        # A failure shows that the URL did not answer, which is worth another `refresh` seconds of the old keys: not
        # more, or an idle verifier would trust them on the word of an outage that is long over.
        pace = replace(pace, grace=refresh, limit=max_age)
        self._kept = Refreshing(_WHAT, self._renew, clock=clock, pace=pace)

    def peek(self, kid: str) -> RSAPublicKey | None:
        published = self._kept.peek()
        return published.keys.get(kid) if published is not None else None

    def obtain(self, kid: str) -> Steps[RSAPublicKey | None]:
        published = self._kept.peek()
        if published is not None and kid in published.withdrawn:
            return None
        return (yield from self._kept.obtain(lambda published: published.keys.get(kid)))

    def _renew(self, previous: _Published | None) -> Steps[Fresh[_Published]]:
        body = yield Get(url=self._url, what=_WHAT, accept="application/json", limit=_LARGEST_REPLY)
        try:
            keys = parse_keys(parse_json(body))
        except ValueError as exc:
            raise VerificationUnavailableError(f"{_WHAT} is refused: {exc}") from exc
        published = _Published(keys, _withdrawn(previous, keys))
        return Fresh(value=published, due_in=self._refresh / 2, good_for=self._refresh)


@dataclass(frozen=True, slots=True)
class _Published:
    keys: Keys
    withdrawn: frozenset[str]  # names that were in an earlier set: from the issuer alone, so strangers cannot fill it


def _withdrawn(previous: _Published | None, keys: Keys) -> frozenset[str]:
    if previous is None:
        return frozenset()
    latest = previous.keys.keys() - keys.keys()
    room = max(0, _MOST_KEYS - len(latest))
    return frozenset({*latest, *sorted(previous.withdrawn - keys.keys())[:room]})


def _refuse_secrets(jwk: Mapping[str, Any]) -> None:
    if not isinstance(jwk.get("kty"), str):
        raise ValueError("a key has no type")
    if jwk["kty"] == "oct" or not _SECRET_MEMBERS.isdisjoint(jwk):
        raise ValueError("it holds a symmetric or private key, which must not be published")


def _is_for_us(jwk: Mapping[str, Any]) -> bool:
    operations = jwk.get("key_ops", ("verify",))
    if not isinstance(operations, (list, tuple)):
        raise ValueError("a key's key_ops is not a list")
    meant_for = (jwk["kty"], jwk.get("use", "sig"), jwk.get("alg", "RS256"))
    return meant_for == ("RSA", "sig", "RS256") and "verify" in operations


def _rsa_key(jwk: Mapping[str, Any]) -> RSAPublicKey:
    modulus, exponent = _number(jwk.get("n")), _number(jwk.get("e"))
    if not _FEWEST_BITS <= modulus.bit_length() <= _MOST_BITS or modulus % 2 == 0:
        raise ValueError(f"an RSA key is not of {_FEWEST_BITS} to {_MOST_BITS} bits")
    if not _LEAST_EXPONENT <= exponent < _GREATEST_EXPONENT or exponent % 2 == 0:
        raise ValueError("an RSA key's exponent is not an odd number from 65537 to 2**64")
    return RSAPublicNumbers(exponent, modulus).public_key()


def _number(text: object) -> int:
    if not isinstance(text, str) or not text.isascii():
        raise ValueError("an RSA key lacks its modulus or exponent")
    return int.from_bytes(decode_base64url(text.encode("ascii")), "big")
