"""Keys that sign: that their public form and their name follow from the private key alone."""

from __future__ import annotations

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_private_key,
)

from authsec_core._jwks import parse_keys
from authsec_core._jws import Rs256Key
from authsec_core._signing import SigningKey
from authsec_core.testing._signing import first_key


def test_a_private_key_that_was_kept_is_the_same_signing_key_again() -> None:
    """The name and the JWK follow from the private key, and what it signs verifies with what was published before."""
    before = first_key()
    der = before.private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    private = load_der_private_key(der, password=None)
    assert isinstance(private, RSAPrivateKey)
    after = SigningKey.of(private)
    assert (after.kid, after.jwk) == (before.kid, before.jwk)
    token = after.sign({"alg": "RS256"}, {"sub": "someone"})
    assert jwt.decode(token, jwt.PyJWK(dict(before.jwk)), algorithms=["RS256"]) == {"sub": "someone"}


@pytest.mark.parametrize("bits", [2048, 3072])
def test_the_size_is_the_one_that_was_asked_for(bits: int) -> None:
    """A larger key can be had, and is published in a form that verifiers take."""
    key = SigningKey.generate(bits)
    assert key.private.key_size == bits
    public = parse_keys({"keys": [key.jwk]})[key.kid]
    assert isinstance(public, Rs256Key)
    assert public.public.key_size == bits
