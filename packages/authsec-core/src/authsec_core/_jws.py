"""Is this text one compact JWS of the narrow kind that we accept, and did this key sign it?

Strict where the RFCs leave room, because each leniency has been somebody's way in: one spelling of base64url, no
duplicate members at any depth, no header that points at a key. It reads no claim and knows no key: RFC 7515 (JWS),
RFC 8725 (JWT best current practice), RFC 7493 (I-JSON).
"""

from __future__ import annotations

import binascii
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final, Literal, NoReturn, Protocol, TypeAlias

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from authsec_core.errors import BadSignatureError, MalformedTokenError

__all__ = [
    "RS256",
    "RS256_OR_ES256",
    "Algorithm",
    "Es256Key",
    "Header",
    "Jws",
    "Rs256Key",
    "VerifyingKey",
    "check_signature",
    "decode_base64url",
    "parse_json",
    "parse_jws",
]

Algorithm: TypeAlias = Literal["RS256", "ES256"]
RS256: Final[frozenset[Algorithm]] = frozenset({"RS256"})
RS256_OR_ES256: Final[frozenset[Algorithm]] = frozenset({"RS256", "ES256"})

_LONGEST_HEADER = 4096  # characters, encoded
_LONGEST_KEY_ID = 256  # characters
_MOST_NESTED = 32  # levels of objects and arrays
_JSON_SPACE = " \t\n\r"

# RFC 7515 sections 4.1.2-4.1.6 and 4.1.11, RFC 7797: they name a key of the sender's choice, or change what is signed.
_FORBIDDEN: Final = frozenset({"crit", "b64", "jku", "x5u", "jwk", "x5c"})

# The URL-safe alphabet in terms of the standard one, and NUL, which is in neither, for everything else.
_TO_STANDARD: Final = bytes(
    ord({"-": "+", "_": "/"}.get(chr(code), chr(code) if chr(code).isalnum() and code < 128 else "\0"))
    for code in range(256)
)

# What may come last in the canonical spelling of a number of bytes that three does not divide, by the characters that
# are left over after fours: of two the last four bits are zero, of three the last two. One alone spells nothing.
_LAST: Final = (b"", b"", b"AQgw", b"AEIMQUYcgkosw048")

_PKCS1 = PKCS1v15()
_SHA256 = SHA256()
_ECDSA = ECDSA(SHA256())
_ES256_HALF = 32  # bytes of each of the two numbers that are an ES256 signature


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What a header says.

    Attributes:
        typ: The kind of token, exactly as spelled; None where it is missing.
    """

    alg: Algorithm
    kid: str
    typ: str | None


@dataclass(slots=True, repr=False)  # not frozen, which would cost as much as a twentieth of a verification
class Jws:
    """A JWS whose form is good and whose signature nobody has checked."""

    header: Header
    signed: bytes
    signature: bytes
    _payload: bytes

    def claims(self) -> Mapping[str, Any]:
        """Return the payload as a read-only JSON object.

        Raises:
            MalformedTokenError: It is none.
        """
        claims = _members(self._payload)
        if claims is None:
            raise MalformedTokenError("the token's payload is not a JSON object of the strict kind")
        return claims


class VerifyingKey(Protocol):
    """A public key that is for one algorithm, whatever a header says (RFC 8725 section 3.1)."""

    alg: Algorithm

    @property
    def signature_size(self) -> int:
        """How many bytes its signatures have."""
        ...

    def verify(self, signature: bytes, signed: bytes) -> None:
        """Return if it made the signature.

        Raises:
            InvalidSignature: It did not.
        """
        ...


class Rs256Key:
    """An RSA key: RSASSA-PKCS1-v1_5 with SHA-256 (RFC 7518 section 3.3)."""

    __slots__ = ("public",)
    alg: Algorithm = "RS256"

    def __init__(self, public: RSAPublicKey) -> None:
        self.public = public

    @property
    def signature_size(self) -> int:
        """See `VerifyingKey`."""
        return (self.public.key_size + 7) // 8

    def verify(self, signature: bytes, signed: bytes) -> None:
        """See `VerifyingKey`."""
        self.public.verify(signature, signed, _PKCS1, _SHA256)


class Es256Key:
    """A key on the curve P-256: ECDSA with SHA-256, the two numbers side by side (RFC 7518 section 3.4)."""

    __slots__ = ("public",)
    alg: Algorithm = "ES256"

    def __init__(self, public: EllipticCurvePublicKey) -> None:
        self.public = public

    @property
    def signature_size(self) -> int:
        """See `VerifyingKey`."""
        return 2 * _ES256_HALF

    def verify(self, signature: bytes, signed: bytes) -> None:
        """See `VerifyingKey`."""
        if len(signature) != self.signature_size:
            raise InvalidSignature
        r, s = (int.from_bytes(half, "big") for half in (signature[:_ES256_HALF], signature[_ES256_HALF:]))
        self.public.verify(encode_dss_signature(r, s), signed, _ECDSA)


def parse_jws(text: str, *, limit: int, algorithms: frozenset[Algorithm] = RS256) -> Jws:
    """Take a compact JWS apart without trusting any of it.

    Args:
        text: The compact serialisation, without anything around it.
        limit: The most characters that are looked at.
        algorithms: Of which the header names one.

    Raises:
        MalformedTokenError: It is not a JWS of such an algorithm with a key id and without anything that we do not
            support.
    """
    if len(text) > limit:
        raise MalformedTokenError("the token is too long")
    if not text.isascii():
        raise MalformedTokenError("the token has characters that a JWT does not have")
    if " " in text:
        raise MalformedTokenError("the token has a space in it: pass it alone, without the scheme (Bearer) before it")
    raw = text.encode("ascii")
    segments = raw.split(b".", 3)
    if len(segments) != 3:
        raise MalformedTokenError("the token is not a JWT of three parts")
    encoded_header, payload, encoded_signature = segments
    header = _parse_header(encoded_header, algorithms)
    try:
        signature = decode_base64url(encoded_signature)
    except ValueError:
        signature = b""
    if not signature:
        raise MalformedTokenError("the token's signature is missing or not base64url")
    return Jws(header, raw[: -len(encoded_signature) - 1], signature, payload)


def check_signature(jws: Jws, key: VerifyingKey) -> None:
    """Return if this key made the signature, by the algorithm that both the key and the header are for.

    Raises:
        BadSignatureError: It did not.
    """
    if jws.header.alg != key.alg:
        raise BadSignatureError("the token's algorithm is not the one that its key is for")
    try:
        key.verify(jws.signature, jws.signed)
    except InvalidSignature as exc:
        raise BadSignatureError("the signature is not of the issuer's key") from exc


def parse_json(data: bytes) -> Any:
    """Return JSON as read-only values: mappings, tuples and scalars.

    Raises:
        ValueError: It is not UTF-8 or not JSON, repeats a member, has a number that is not finite, a lone surrogate,
            or more than 32 levels. Nothing of the text hangs on the error.
    """
    try:
        text = data.decode("utf-8").strip(_JSON_SPACE)
        escapes = "\\" in text
        value, end = (_DECODER if escapes else _PLAIN_DECODER).raw_decode(text)
        value, texts = _sealed(value, _MOST_NESTED)
        # Without escapes each quotation mark begins or ends a text. So as many texts as were written are left, names
        # among them, or a repeated member took another's place. That is exact, and a hook for each object would
        # take a fifth longer.
        whole = not any(map(_has_surrogate, _texts(value))) if escapes else text.count('"') == 2 * texts
        good = whole and end == len(text)
    except (ValueError, RecursionError):
        good, value = False, None
    if not good:  # outside the handler: a JSONDecodeError carries the whole text, and would ride along as context
        raise ValueError("not JSON of the strict kind")
    return value


def decode_base64url(segment: bytes) -> bytes:
    """Return what the one canonical spelling of some bytes stands for: RFC 7515 section 2, without padding.

    Raises:
        ValueError: There is another spelling of the same bytes, or none.
    """
    standard = segment.translate(_TO_STANDARD)
    try:
        decoded = binascii.a2b_base64(standard + b"==")
    except binascii.Error as exc:
        raise ValueError("not base64url") from exc
    # The decoder skips what it does not know, and then there is less than there should be; and it ignores left-over
    # bits, which have to be zero. Were two spellings of one signature good, a list of refused tokens could be stepped
    # around. To encode it again and compare would tell the same, and take a fifth longer.
    left_over = len(segment) % 4
    if len(decoded) != len(segment) * 3 // 4 or (left_over and segment[-1] not in _LAST[left_over]):
        raise ValueError("not canonical base64url")
    return decoded


@lru_cache(maxsize=64)  # a key's tokens share their header; strangers' headers push one another out
def _parse_header(segment: bytes, algorithms: frozenset[Algorithm]) -> Header:
    members = _members(segment) if len(segment) <= _LONGEST_HEADER else None
    if members is None:
        raise MalformedTokenError("the token's header is not a JSON object of the strict kind")
    alg = next((known for known in sorted(algorithms) if members.get("alg") == known), None)
    if alg is None:
        raise MalformedTokenError(f"the token's header does not say {' or '.join(sorted(algorithms, reverse=True))}")
    if not _FORBIDDEN.isdisjoint(members):
        raise MalformedTokenError("the token's header has one of crit, b64, jku, x5u, jwk and x5c")
    kid, typ = members.get("kid"), members.get("typ")
    # Printable, because it may become part of a log line; `parse_json` lets escaped control characters through.
    if not isinstance(kid, str) or not 0 < len(kid) <= _LONGEST_KEY_ID or not kid.isprintable():
        raise MalformedTokenError("the token's header has no usable key id")
    if "typ" in members and not isinstance(typ, str):
        raise MalformedTokenError("the token's type is not text")
    return Header(alg=alg, kid=kid, typ=typ)


def _members(segment: bytes) -> Mapping[str, Any] | None:
    try:
        value = parse_json(decode_base64url(segment))
    except ValueError:
        return None
    return value if type(value) is MappingProxyType else None


def _unique(members: list[tuple[str, Any]]) -> dict[str, Any]:
    unique = dict(members)
    if len(unique) != len(members):
        raise ValueError("a member is repeated")
    return unique


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number is too large")
    return number


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


_PLAIN_DECODER = json.JSONDecoder(parse_float=_finite, parse_constant=_refuse_constant)
_DECODER = json.JSONDecoder(object_pairs_hook=_unique, parse_float=_finite, parse_constant=_refuse_constant)


def _sealed(value: Any, levels: int) -> tuple[Any, int]:
    """Return a value that was just parsed as a read-only one, and how many texts are in it, names among them."""
    kind = type(value)
    if kind is not dict and kind is not list:
        return value, int(kind is str)
    if levels == 0:
        raise ValueError("objects and arrays lie too deep in one another")
    texts = len(value) if kind is dict else 0
    for at, member in value.items() if kind is dict else enumerate(value):
        inner = type(member)
        if inner is str:
            texts += 1
        elif inner is dict or inner is list:
            value[at], within = _sealed(member, levels - 1)
            texts += within
    return (MappingProxyType(value) if kind is dict else tuple(value)), texts


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, Mapping):
        return [text for name, member in value.items() for text in (name, *_texts(member))]
    if isinstance(value, (tuple, list)):
        return [text for member in value for text in _texts(member)]
    return []


def _has_surrogate(text: str) -> bool:
    # A lone one, which no encoder takes: the next log line or audit entry would fail.
    return any("\ud800" <= character <= "\udfff" for character in text)
