"""The loopback authority's keys and status lists, and a key as foreign issuers have it.

draft-ietf-oauth-status-list, RFC 7518 sections 3.4 and 6.2 (ES256).
"""

from __future__ import annotations

import threading
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache

from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, SECP256R1, EllipticCurvePrivateKey, generate_private_key
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from authsec_core._signing import SigningKey, base64url, compact_json

__all__ = ["Es256SigningKey", "SigningKey", "first_key", "pack_statuses"]

_FEWEST_STATUSES = 1024  # so that the length of the list does not tell how many tokens there are
_making_first_key = threading.Lock()


@dataclass(frozen=True, slots=True, kw_only=True)
class Es256SigningKey:
    """A key on P-256 in memory and its public form, as foreign issuers have them.

    Attributes:
        jwk: The member of the JWKS, with the use that it was made for.
    """

    private: EllipticCurvePrivateKey
    kid: str
    jwk: Mapping[str, str]

    @classmethod
    def generate(cls, kid: str, *, use: str = "sig") -> Es256SigningKey:
        """Make a key."""
        private = generate_private_key(SECP256R1())
        numbers = private.public_key().public_numbers()
        x, y = (base64url(number.to_bytes(32, "big")) for number in (numbers.x, numbers.y))
        return cls(private=private, kid=kid, jwk={"kty": "EC", "crv": "P-256", "x": x, "y": y, "use": use, "kid": kid})

    def sign(self, header: Mapping[str, object], claims: Mapping[str, object]) -> str:
        """Return a compact JWS with the ES256 signature of exactly this header and these claims."""
        signed = f"{base64url(compact_json(header))}.{base64url(compact_json(claims))}"
        numbers = decode_dss_signature(self.private.sign(signed.encode("ascii"), ECDSA(SHA256())))
        return f"{signed}.{base64url(b''.join(number.to_bytes(32, 'big') for number in numbers))}"


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
