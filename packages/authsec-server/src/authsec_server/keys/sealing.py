"""How a secret is kept in the database: AES-256-GCM under a master key, bound to what it is.

What was sealed as one thing does not open as another: its purpose, its tenant and its name are authenticated with it.
Layout: version (1 byte), id of the master key (4), nonce (12), ciphertext and tag. It keeps nothing and logs nothing.
NIST SP 800-38D; with random nonces one key may seal 2**32 times: a data key for each version of a secret is far below.
"""

from __future__ import annotations

import json
import os
from typing import Final

import sqlalchemy as sa
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from sqlalchemy.ext.asyncio import AsyncConnection

from authsec_core.errors import ConfigurationError
from authsec_server.db.tables import server
from authsec_server.errors import UnsealError
from authsec_server.keys.masterkey import MasterKey
from authsec_server.keys.masterkeys import MasterKeys

__all__ = [
    "DATA_KEY",
    "PEPPER",
    "SIGNING_KEY",
    "require_kept",
    "seal",
    "sealed_pepper",
    "sealed_with",
    "sealing_key",
    "unseal",
]

# What is sealed, each for a purpose of its own. `resealing` has to know of every one.
PEPPER: Final = "pepper"
SIGNING_KEY: Final = "signing key"
DATA_KEY: Final = "vault data key"
_THIS_DATABASE: Final = "this database"  # what sealed the pepper seals everything
_VERSION: Final = b"\x01"
_NONCE: Final = 12  # bytes
_TAG: Final = 16  # bytes
_HEADER: Final = len(_VERSION) + 4  # bytes


def seal(master: MasterKey, purpose: str, identifier: str, tenant: str, plaintext: bytes) -> bytes:
    """Return `plaintext`, readable only to who has the master key, and only as this thing."""
    header, nonce = _VERSION + bytes.fromhex(master.id), os.urandom(_NONCE)
    return (
        header + nonce + AESGCM(master.reveal()).encrypt(nonce, plaintext, _bound(header, purpose, identifier, tenant))
    )


def unseal(masters: MasterKeys, purpose: str, identifier: str, tenant: str, sealed: bytes) -> bytes:
    """Return what `seal` was given.

    Raises:
        WrongMasterKeyError: It was sealed with a master key that is not there.
        UnsealError: It is not what was sealed for this purpose, name and tenant.
    """
    what = f"the {purpose} {identifier!r}"
    if len(sealed) < _HEADER + _NONCE + _TAG or not sealed.startswith(_VERSION):
        raise UnsealError(f"{what} was cut, or was not sealed by this release: restore it from a backup")
    master = masters.get(sealed_with(sealed), _THIS_DATABASE if purpose == PEPPER else what)
    header, nonce, ciphertext = sealed[:_HEADER], sealed[_HEADER : _HEADER + _NONCE], sealed[_HEADER + _NONCE :]
    try:
        return AESGCM(master.reveal()).decrypt(nonce, ciphertext, _bound(header, purpose, identifier, tenant))
    except InvalidTag as exc:
        raise UnsealError(
            f"{what} cannot be unsealed: it was changed after it was sealed, or moved here from another row or "
            "database. Find out who wrote to the database, and restore it from a backup"
        ) from exc


def sealed_with(sealed: bytes) -> str:
    """Return the id of the master key that this says it was sealed with. Anyone could have written that."""
    return sealed[len(_VERSION) : _HEADER].hex()


async def sealing_key(connection: AsyncConnection, masters: MasterKeys) -> MasterKey:
    """Return the master key to seal with in this transaction, which has to hold the head. Costs a query.

    It is the one that sealed the pepper: what stands first in a server's file the others may not know yet.

    Raises:
        WrongMasterKeyError: This server has not got it.
    """
    return masters.get(sealed_with(await sealed_pepper(connection)), _THIS_DATABASE)


async def require_kept(connection: AsyncConnection, masters: MasterKeys) -> None:
    """See that the master key that seals is where it was read, for whoever starts next. Costs a query and reads a file.

    Raises:
        ConfigurationError: It is not. What was read before goes on being good.
    """
    key_id = sealed_with(await sealed_pepper(connection))
    try:
        masters.require_in_file(key_id, _THIS_DATABASE)
    except ConfigurationError as exc:
        raise type(exc)(f"this server works, and would not start again: {exc.message}") from None


async def sealed_pepper(connection: AsyncConnection) -> bytes:
    """Return the pepper as the database has it."""
    pepper = (await connection.execute(sa.select(server.c.pepper))).scalar_one_or_none()
    if pepper is None:
        raise ConfigurationError("the database was not initialised: run authsec-server init")
    return bytes(pepper)


def _bound(header: bytes, purpose: str, identifier: str, tenant: str) -> bytes:
    # JSON, because joined text could be cut in two ways.
    return header + json.dumps([purpose, tenant, identifier], separators=(",", ":")).encode()
