"""How a secret's value is kept: sealed with a key of its own, which is sealed with the master key.

AES-256-GCM twice. A data key is made for each version of a secret, so that a new master key needs only the data keys
sealed anew (`keys.sealing`). Both are bound to tenant, path and version: what was changed, cut, moved to another row,
or put in the place of a later version does not open. That an older version is not *named* the latest is for the audit,
which has the number of each. NIST SP 800-38D.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from authsec_server.errors import UnsealError
from authsec_server.keys.sealing import DATA_KEY, seal, sealing_key, unseal

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from authsec_server.keys.masterkey import MasterKey
    from authsec_server.keys.masterkeys import MasterKeys

__all__ = ["Envelope", "SealedValue", "name_of"]

_VALUE: Final = "vault secret"
_LAYOUT: Final = b"\x01"  # then the nonce, ciphertext and tag
_KEY_BITS: Final = 256
_NONCE: Final = 12  # bytes
_TAG: Final = 16  # bytes
_MOST_KEYS: Final = 1024  # data keys that a process remembers, those that were used last
_encode: Final = json.JSONEncoder(separators=(",", ":")).encode


@dataclass(frozen=True, slots=True, kw_only=True)
class SealedValue:
    """One version of a secret, as the database has it.

    Attributes:
        wrapped_key: The data key, sealed with the master key.
        sealed: The value, sealed with the data key.
    """

    wrapped_key: bytes = field(repr=False)
    sealed: bytes = field(repr=False)


class Envelope:
    """Seals and opens values. Safe to share; costs microseconds.

    Args:
        masters: Open what they have sealed.
        tenant: Whose secrets they are.
    """

    def __init__(self, masters: MasterKeys, *, tenant: str) -> None:
        self._masters, self._tenant = masters, tenant
        self._cipher = lru_cache(maxsize=_MOST_KEYS)(self._unwrapped)

    async def master(self, connection: AsyncConnection) -> MasterKey:
        """Return the master key for what is written in this transaction. Costs a query.

        Raises:
            WrongMasterKeyError: This server has not got it.
        """
        return await sealing_key(connection, self._masters)

    def seal(self, master: MasterKey, path: str, version: int, value: str) -> SealedValue:
        """Return the value, readable only to who has the master key, and only as this version of this secret."""
        key, nonce = AESGCM.generate_key(_KEY_BITS), os.urandom(_NONCE)
        sealed = AESGCM(key).encrypt(nonce, value.encode(), self._bound(path, version))
        return SealedValue(
            wrapped_key=seal(
                master, purpose=DATA_KEY, identifier=name_of(path, version), tenant=self._tenant, plaintext=key
            ),
            sealed=_LAYOUT + nonce + sealed,
        )

    def open(self, path: str, version: int, kept: SealedValue) -> str:
        """Return what `seal` was given.

        Raises:
            WrongMasterKeyError: It was sealed with a master key that is not there.
            UnsealError: It is not what was sealed as this version of this secret.
        """
        sealed = kept.sealed
        if len(sealed) < len(_LAYOUT) + _NONCE + _TAG or not sealed.startswith(_LAYOUT):
            raise UnsealError(_broken(path, version))
        cipher = self._cipher(path, version, kept.wrapped_key)
        nonce = sealed[len(_LAYOUT) : len(_LAYOUT) + _NONCE]
        try:
            value = cipher.decrypt(nonce, sealed[len(_LAYOUT) + _NONCE :], self._bound(path, version))
        except InvalidTag as exc:
            raise UnsealError(_broken(path, version)) from exc
        return value.decode()

    def _unwrapped(self, path: str, version: int, wrapped_key: bytes) -> AESGCM:
        name = name_of(path, version)
        key = unseal(self._masters, purpose=DATA_KEY, identifier=name, tenant=self._tenant, sealed=wrapped_key)
        return AESGCM(key)

    def _bound(self, path: str, version: int) -> bytes:
        # JSON, because joined text could be cut in two ways.
        return _LAYOUT + _encode([_VALUE, self._tenant, path, version]).encode()


def name_of(path: str, version: int) -> str:
    """Return what a version of a secret is called where its data key is sealed.

    >>> name_of("production/openai/api-key", 3)
    'production/openai/api-key@3'
    """
    return f"{path}@{version}"


def _broken(path: str, version: int) -> str:
    return (
        f"version {version} of the secret {path!r} cannot be opened: it was changed after it was sealed, or moved here "
        "from another row or database. Find out who wrote to the database, and write the secret again"
    )
