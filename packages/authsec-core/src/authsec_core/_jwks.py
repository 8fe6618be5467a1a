"""Which keys may sign for the issuer? Strict reading of a JWK set, and keys that are given or kept fresh from a URL.

A set with an ambiguity or a blunder in it (two keys of one name, a secret, a weak key) is refused as a whole: whoever
published it does not know what it says. Keys for other purposes are no blunder and are passed over. It verifies
nothing: RFC 7517 (JWK), RFC 7518 sections 6.2.1 (EC) and 6.3.1 (RSA), RFC 8725 section 3.5 (key strength).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicNumbers
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers

from authsec_core._clock import Clock
from authsec_core._fetching import Get, Steps
from authsec_core._jws import RS256, Algorithm, Es256Key, Rs256Key, VerifyingKey, decode_base64url, parse_json
from authsec_core._refreshing import Fresh, Pace, Refreshing
from authsec_core.errors import VerificationUnavailableError

__all__ = ["ISSUERS_KEYS", "GivenKeys", "KeySource", "Keys", "RemoteKeys", "Wanted", "parse_keys"]

_WHAT = "the issuer's key set"
_LARGEST_REPLY = 64 * 1024  # bytes
_MOST_KEYS = 64
_FEWEST_BITS, _MOST_BITS = 2048, 8192  # above, one verification costs an attacker's target too much
_LEAST_EXPONENT, _GREATEST_EXPONENT = 65537, 2**64
_COORDINATE: Final = 32  # bytes of a coordinate on P-256, always all of them (RFC 7518 section 6.2.1.2)
_SECRET_MEMBERS: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})

Keys = Mapping[str, VerifyingKey]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which keys of a set are for us.

    Attributes:
        use: Their `use`. Where a key does not say it, it is "sig".
        algorithms: What they may verify.
    """

    use: str
    algorithms: frozenset[Algorithm]


ISSUERS_KEYS: Final = Wanted(use="sig", algorithms=RS256)
"""The keys of an issuer of our own kind."""


class KeySource(Protocol):
    """The keys of one issuer, by key id. Thread-safe and loop-safe."""

    def peek(self, kid: str) -> VerifyingKey | None:
        """Return the key if it is known without any doubt or I/O."""
        ...

    def obtain(self, kid: str) -> Steps[VerifyingKey | None]:
        """Return the key, or None if the issuer has none of this name.

        Raises:
            VerificationUnavailableError: That cannot be said right now.
        """
        ...


def parse_keys(jwks: object, wanted: Wanted = ISSUERS_KEYS) -> Keys:
    """Return the keys of a JWK set that are for us. The set may come out empty.

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
    algorithms = {jwk["kid"]: _algorithm(jwk, wanted) for jwk in members if "kid" in jwk}
    return {jwk["kid"]: _MAKE[alg](jwk) for jwk in members if (alg := algorithms.get(jwk.get("kid"))) is not None}


class GivenKeys:
    """Keys that never change.

    Raises:
        ValueError: As in `parse_keys`, and if no key is left.
    """

    def __init__(self, jwks: Mapping[str, Any], wanted: Wanted = ISSUERS_KEYS) -> None:
        self._keys = parse_keys(jwks, wanted)
        if not self._keys:
            named = " or ".join(sorted(wanted.algorithms, reverse=True))
            raise ValueError(f"it has no key with a key id and the use {wanted.use} for {named} signatures")

    def peek(self, kid: str) -> VerifyingKey | None:
        return self._keys.get(kid)

    def obtain(self, kid: str) -> Steps[VerifyingKey | None]:
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
        wanted: Which of the keys are for us.

    Raises:
        ValueError: `refresh` or `max_age` is out of range.
    """

    def __init__(
        self, url: str, *, clock: Clock, refresh: float, max_age: float, pace: Pace, wanted: Wanted = ISSUERS_KEYS
    ) -> None:
        if not 0 < refresh <= max_age < math.inf:
            raise ValueError("jwks_refresh must be a positive number of seconds, and jwks_max_age not less")
        self._url = url
        self._wanted = wanted
        self._refresh = refresh
        # A failure shows that the URL did not answer, which is worth another `refresh` seconds of the old keys: not
        # more, or an idle verifier would trust them on the word of an outage that is long over.
        pace = replace(pace, grace=refresh, limit=max_age)
        self._kept = Refreshing(_WHAT, self._renew, url=url, clock=clock, pace=pace, name="keys")

    def peek(self, kid: str) -> VerifyingKey | None:
        published = self._kept.peek()
        return published.keys.get(kid) if published is not None else None

    def obtain(self, kid: str) -> Steps[VerifyingKey | None]:
        published = self._kept.peek()
        if published is not None and kid in published.withdrawn:
            return None
        return (yield from self._kept.obtain(lambda published: published.keys.get(kid)))

    def _renew(self, previous: _Published | None) -> Steps[Fresh[_Published]]:
        body = yield Get(url=self._url, what=_WHAT, accept="application/json", limit=_LARGEST_REPLY)
        try:
            keys = parse_keys(parse_json(body), self._wanted)
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


def _algorithm(jwk: Mapping[str, Any], wanted: Wanted) -> Algorithm | None:
    """Return what a key is for, by its type (RFC 8725 section 3.1), or None if it is not for us."""
    operations = jwk.get("key_ops", ("verify",))
    if not isinstance(operations, (list, tuple)):
        raise ValueError("a key's key_ops is not a list")
    kind = (jwk["kty"], jwk.get("crv") if jwk["kty"] == "EC" else None)
    alg = next((alg for alg in wanted.algorithms if _TYPES[alg] == kind), None)
    is_for_us = jwk.get("use", "sig") == wanted.use and jwk.get("alg", alg) == alg and "verify" in operations
    return alg if is_for_us else None


def _rsa_key(jwk: Mapping[str, Any]) -> Rs256Key:
    modulus, exponent = (int.from_bytes(_bytes(jwk.get(name)), "big") for name in ("n", "e"))
    if not _FEWEST_BITS <= modulus.bit_length() <= _MOST_BITS or modulus % 2 == 0:
        raise ValueError(f"an RSA key is not of {_FEWEST_BITS} to {_MOST_BITS} bits")
    if not _LEAST_EXPONENT <= exponent < _GREATEST_EXPONENT or exponent % 2 == 0:
        raise ValueError("an RSA key's exponent is not an odd number from 65537 to 2**64")
    return Rs256Key(RSAPublicNumbers(exponent, modulus).public_key())


def _p256_key(jwk: Mapping[str, Any]) -> Es256Key:
    x, y = (_bytes(jwk.get(name)) for name in ("x", "y"))
    if len(x) != _COORDINATE or len(y) != _COORDINATE:
        raise ValueError(f"a coordinate of a key on P-256 is not of {_COORDINATE} bytes")
    numbers = EllipticCurvePublicNumbers(int.from_bytes(x, "big"), int.from_bytes(y, "big"), SECP256R1())
    try:
        return Es256Key(numbers.public_key())
    except ValueError as exc:  # what such a point does to a signature check is an attacker's to choose
        raise ValueError("a key on P-256 is no point of that curve") from exc


def _bytes(text: object) -> bytes:
    if not isinstance(text, str) or not text.isascii():
        raise ValueError("a key lacks one of its numbers")
    return decode_base64url(text.encode("ascii"))


_TYPES: Final[Mapping[Algorithm, tuple[str, str | None]]] = {"RS256": ("RSA", None), "ES256": ("EC", "P-256")}
_MAKE: Final[Mapping[Algorithm, Callable[[Mapping[str, Any]], VerifyingKey]]] = {
    "RS256": _rsa_key,
    "ES256": _p256_key,
}
