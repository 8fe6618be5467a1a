"""How a signing key is made for the database, and how it is taken out again. It keeps nothing."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_der_private_key

from authsec_core._signing import SigningKey
from authsec_server.errors import UnsealError
from authsec_server.keys.masterkey import MasterKey
from authsec_server.keys.masterkeys import MasterKeys
from authsec_server.keys.rotation import KeyRow
from authsec_server.keys.sealing import SIGNING_KEY, seal, unseal
from authsec_server.keys.store import StoredKey

__all__ = ["make_key", "open_key"]


def make_key(master: MasterKey, tenant: str, bits: int, at: float) -> StoredKey:
    """Make a key and seal it. Takes a thread tenths of a second, or seconds."""
    key = SigningKey.generate(bits)
    der = key.private.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    row = KeyRow(kid=key.kid, state="prepared", created_at=at)
    return StoredKey(row=row, sealed=seal(master, SIGNING_KEY, key.kid, tenant, der), jwk=key.jwk)


def open_key(masters: MasterKeys, tenant: str, stored: StoredKey) -> SigningKey:
    """Return the key with its private half.

    Raises:
        UnsealError: It is not what was sealed, or was sealed with a master key that is not there.
    """
    kid = stored.row.kid
    der = unseal(masters, SIGNING_KEY, kid, tenant, stored.sealed)
    # Its arithmetic was checked when it was made, and the seal says that it is the same: doing it again takes 35 ms.
    private = load_der_private_key(der, password=None, unsafe_skip_rsa_key_validation=True)
    key = SigningKey.of(private) if isinstance(private, RSAPrivateKey) else None
    if key is None or key.kid != kid or key.jwk != stored.jwk:
        raise UnsealError(
            f"the row of the signing key {kid!r} speaks of another key than the sealed one: find out who wrote to the "
            "database, and restore the row from a backup, or revoke the key"
        )
    return key
