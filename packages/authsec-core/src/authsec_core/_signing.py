"""An RSA key that signs: its JWK form, its thumbprint, and compact JWS with it.

It signs whatever it is given, good or hostile: `header` and `claims` are not checked, which a JWT library would do.
RFC 7515 (JWS), RFC 7517 (JWK), RFC 7638 (thumbprint). Importing it loads cryptography.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256

__all__ = ["SigningKey", "base64url", "compact_json"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SigningKey:
    """An RSA key in memory and its public form.

    Attributes:
        kid: The RFC 7638 thumbprint.
        jwk: The member of the JWKS.
    """

    private: RSAPrivateKey
    kid: str
    jwk: Mapping[str, str]

    @classmethod
    def generate(cls, bits: int = 2048) -> SigningKey:
        """Make a key of this size. Takes tenths of a second, and seconds for 4096 bits."""
        return cls.of(generate_private_key(public_exponent=65537, key_size=bits))

    @classmethod
    def of(cls, private: RSAPrivateKey) -> SigningKey:
        """Return the signing key that this private key is."""
        numbers = private.public_key().public_numbers()
        required = {"e": _number(numbers.e), "kty": "RSA", "n": _number(numbers.n)}  # sorted, as RFC 7638 wants them
        kid = base64url(hashlib.sha256(compact_json(required)).digest())
        return cls(private=private, kid=kid, jwk={**required, "use": "sig", "alg": "RS256", "kid": kid})

    def sign(self, header: Mapping[str, object], claims: Mapping[str, object]) -> str:
        """Return a compact JWS with the RS256 signature of exactly this header and these claims."""
        signed = f"{base64url(compact_json(header))}.{base64url(compact_json(claims))}"
        return f"{signed}.{base64url(self.private.sign(signed.encode('ascii'), PKCS1v15(), SHA256()))}"


def base64url(data: bytes) -> str:
    """Return base64url without padding, RFC 7515 section 2."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")


def compact_json(value: object) -> bytes:
    """Return JSON without a blank that could be spared."""
    return _encode(value).encode()


def _number(value: int) -> str:
    return base64url(value.to_bytes((value.bit_length() + 7) // 8, "big"))


_encode = json.JSONEncoder(separators=(",", ":")).encode  # made once: `json.dumps` would make one for each token
