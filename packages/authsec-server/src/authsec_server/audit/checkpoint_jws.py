"""What a checkpoint says, and how it is signed and read: a JWS of its own type, `audit-checkpoint+jwt`. Pure.

It names one entry and its hash, and so all entries before it. Whether the audit agrees is for `verify`. RFC 7515.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from authsec_core._jwks import Keys
from authsec_core._jws import Jws, check_signature, parse_jws
from authsec_core._signing import SigningKey
from authsec_core.errors import TokenRejectedError

__all__ = [
    "TYPE",
    "BadCheckpointError",
    "Checkpoint",
    "StoredCheckpoint",
    "peek_checkpoint",
    "read_checkpoint",
    "sign_checkpoint",
]

TYPE: Final = "audit-checkpoint+jwt"
_LONGEST: Final = 8192  # characters
_HASH: Final = re.compile(r"[0-9a-f]{64}")


class BadCheckpointError(ValueError):
    """It is no checkpoint, or not one that a given key signed."""


class TornCheckpointError(BadCheckpointError):
    """Its signature is too short: the machine stopped while it was being written, or somebody cut it off."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What was signed.

    Attributes:
        seq: The entry.
        hash: Its hash.
        at: When the entry was made, in epoch seconds.
        previous: The `seq` of the checkpoint before this one; 0 where there was none.
        issued_at: When it was signed, in whole epoch seconds.
        kid: The key that signed it.
    """

    issuer: str
    seq: int
    hash: str
    at: float
    previous: int
    issued_at: int
    kid: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredCheckpoint:
    """A checkpoint as it is kept.

    Attributes:
        at: When it was made, in epoch seconds.
        jws: What proves it.
    """

    seq: int
    at: float
    jws: str


def sign_checkpoint(
    key: SigningKey, issuer: str, seq: int, hash: str, at: float, *, previous: int = 0, issued_at: float
) -> str:
    """Return the checkpoint of an entry as compact JWS. Costs a signature."""
    claims = {
        "iss": issuer,
        "iat": math.floor(issued_at),
        "seq": seq,
        "hash": hash,
        "at": at,
        "previous": previous,
    }
    return key.sign({"alg": "RS256", "typ": TYPE, "kid": key.kid}, claims)


def read_checkpoint(jws: str, keys: Keys) -> Checkpoint:
    """Return what a checkpoint says, if one of these keys signed it.

    Raises:
        BadCheckpointError: It is none, or none of theirs.
    """
    parsed, checkpoint = _take_apart(jws)
    key = keys.get(checkpoint.kid)
    if key is None:
        raise BadCheckpointError(f"it is signed with the key {checkpoint.kid}, which is not among the given ones")
    if len(parsed.signature) < key.signature_size:
        raise TornCheckpointError("its signature is cut short")
    try:
        check_signature(parsed, key)
    except TokenRejectedError as exc:
        raise BadCheckpointError(f"its signature is not of the key {checkpoint.kid}") from exc
    return checkpoint


def peek_checkpoint(jws: str) -> Checkpoint:
    """Return what a checkpoint says, whoever signed it.

    Raises:
        BadCheckpointError: It is none.
    """
    return _take_apart(jws)[1]


def _take_apart(jws: str) -> tuple[Jws, Checkpoint]:
    try:
        parsed = parse_jws(jws, limit=_LONGEST)
        claims = parsed.claims()
    except TokenRejectedError as exc:
        raise BadCheckpointError(str(exc)) from exc
    if parsed.header.typ != TYPE:
        raise BadCheckpointError(f"its type is not {TYPE}")
    return parsed, _checkpoint(claims, parsed.header.kid)


def _checkpoint(claims: Mapping[str, Any], kid: str) -> Checkpoint:
    issuer, digest, at = claims.get("iss"), claims.get("hash"), claims.get("at")
    seq, previous, issued_at = (_whole(claims.get(name)) for name in ("seq", "previous", "iat"))
    if not isinstance(issuer, str) or not issuer or issued_at is None:
        raise BadCheckpointError("it does not say who issued it and when")
    if seq is None or previous is None or not previous < seq:
        raise BadCheckpointError("it does not name an entry, and the checkpoint before")
    if not isinstance(digest, str) or not _HASH.fullmatch(digest):
        raise BadCheckpointError("it has no hash")
    if isinstance(at, bool) or not isinstance(at, (int, float)):
        raise BadCheckpointError("it does not say when the entry was made")
    return Checkpoint(
        issuer=issuer, seq=seq, hash=digest, at=float(at), previous=previous, issued_at=issued_at, kid=kid
    )


def _whole(value: object) -> int | None:
    return value if type(value) is int and 0 <= value < 2**63 else None
