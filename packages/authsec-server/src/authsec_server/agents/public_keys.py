"""Can this be the public half of an agent's own key? Strict reading of a JWK that an operator registers. Pure.

The agent keeps the private half, and signs assertions with it (`private_key_jwt`). RFC 7517, RFC 7518 section 6,
RFC 8725 section 3.5 (key strength).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, EllipticCurvePublicNumbers
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers

from authsec_core._jws import decode_base64url
from authsec_core.wire import is_plain
from authsec_server.errors import InvalidRequestError

__all__ = ["public_jwk"]

_PRIVATE: Final = frozenset({"d", "p", "q", "dp", "dq", "qi", "oth", "k"})
_FEWEST_BITS, _MOST_BITS = 2048, 4096  # above, one proof costs the authority too much
_LONGEST_KID: Final = 128  # characters
_COORDINATE: Final = 32  # bytes


def public_jwk(given: Mapping[str, Any]) -> dict[str, str]:
    """Return what is kept of a JWK: the members that make the key, and its `kid` if it has one.

    Raises:
        InvalidRequestError: It is no public RSA or P-256 key that is fit for signatures. Nothing of it is quoted.
    """
    if not _PRIVATE.isdisjoint(given):
        raise _bad("has private members: the agent keeps those. Register the public half, and make a new key")
    kind = given.get("kty")
    if kind == "RSA":
        kept = _rsa(given)
    elif kind == "EC" and given.get("crv") == "P-256":
        kept = _p256(given)
    else:
        raise _bad("must be an RSA key, or an EC key on P-256")
    if given.get("use", "sig") != "sig":
        raise _bad("is not for signatures: its use is another")
    kid = given.get("kid")
    if kid is not None:
        if not isinstance(kid, str) or not 0 < len(kid) <= _LONGEST_KID or not is_plain(kid):
            raise _bad("has a kid that is no plain text")
        kept["kid"] = kid
    return kept


def _rsa(given: Mapping[str, Any]) -> dict[str, str]:
    modulus, exponent = _number(given, "n"), _number(given, "e")
    if not _FEWEST_BITS <= modulus.bit_length() <= _MOST_BITS or exponent != 65537:
        raise _bad(f"must have {_FEWEST_BITS} to {_MOST_BITS} bits and the exponent 65537")
    try:
        RSAPublicNumbers(exponent, modulus).public_key()
    except ValueError:
        raise _bad("is no RSA key") from None
    return {"kty": "RSA", "n": given["n"], "e": given["e"]}


def _p256(given: Mapping[str, Any]) -> dict[str, str]:
    x, y = _number(given, "x", size=_COORDINATE), _number(given, "y", size=_COORDINATE)
    try:
        EllipticCurvePublicNumbers(x, y, SECP256R1()).public_key()
    except ValueError:
        raise _bad("is no point on P-256") from None
    return {"kty": "EC", "crv": "P-256", "x": given["x"], "y": given["y"]}


def _number(given: Mapping[str, Any], name: str, *, size: int | None = None) -> int:
    text = given.get(name)
    if not isinstance(text, str) or not text.isascii() or len(text) > _MOST_BITS:
        raise _bad(f"lacks its member {name}")
    try:
        raw = decode_base64url(text.encode())
    except ValueError:
        raise _bad(f"has a member {name} that is not base64url") from None
    if size is not None and len(raw) != size:
        raise _bad(f"has a member {name} of the wrong length")
    return int.from_bytes(raw, "big")


def _bad(why: str) -> InvalidRequestError:
    return InvalidRequestError(f"the key {why}", field="jwk")
