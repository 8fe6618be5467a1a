"""Did this client sign this assertion, for us, a moment ago? `private_key_jwt` (OpenID Connect Core, RFC 7523).

Whether it was used before, and whether its key is still good, is looked at in the transaction that decides. The
audience is the issuer and nothing else (draft-ietf-oauth-rfc7523bis): an assertion that was made for the token endpoint
of another server must not be good here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

import jwt

from authsec_core._jws import decode_base64url, parse_json
from authsec_server.agents.proofs import NoGoodProof, Proof, SignedAssertion
from authsec_server.agents.standing import StoredKey

__all__ = ["ALGORITHMS", "LONGEST_LIFE", "claimed_client", "signed_by"]

LONGEST_LIFE: Final = 300  # seconds after `iat`
_LEEWAY: Final = 60  # seconds by which the client's clock may be ahead
_LONGEST: Final = 8 * 1024  # characters
_LONGEST_JTI: Final = 256  # characters
_TYPES: Final = ("JWT", "client-authentication+jwt")
_NOT_UNDERSTOOD: Final = frozenset({"crit", "b64"})  # they change what is signed (RFC 7515, RFC 7797)
# One for each kind of key, so that nothing in a header can choose how a key is used.
ALGORITHMS: Final[Mapping[tuple[str, str | None], str]] = {("RSA", None): "RS256", ("EC", "P-256"): "ES256"}


def claimed_client(text: str) -> str | None:
    """Return the client that an assertion says to be from; unverified. None if it is no assertion of a client."""
    parts = _parts(text)
    issuer = None if parts is None else parts.claims.get("iss")
    return issuer if parts is not None and isinstance(issuer, str) and issuer == parts.claims.get("sub") else None


def signed_by(text: str, client_id: str, keys: Iterable[StoredKey], *, issuer: str, now: float) -> Proof:
    """Return the proof that an assertion is.

    Args:
        keys: The client's; those that the authority made are passed over.
        issuer: Ours.
        now: Epoch seconds.
    """
    parts = _parts(text)
    if parts is None or parts.header.get("typ", "JWT") not in _TYPES or not _NOT_UNDERSTOOD.isdisjoint(parts.header):
        return NoGoodProof("assertion_type")
    for key in keys:
        if key.jwk is not None and _may_be(key.jwk, parts.header) and _is_signed_by(text, key.jwk):
            return _proof(parts.claims, key.key_id, key.jwk, client_id, issuer=issuer, now=now)
    return NoGoodProof("assertion_signature")


def _proof(
    claims: Mapping[str, Any], key_id: str, jwk: Mapping[str, str], client_id: str, *, issuer: str, now: float
) -> Proof:
    audience, jti = claims.get("aud"), claims.get("jti")
    if not (isinstance(jti, str) and 0 < len(jti) <= _LONGEST_JTI and jti.isprintable()):
        return NoGoodProof("assertion_jti")
    if audience not in (issuer, (issuer,)):
        return NoGoodProof("assertion_audience")
    if not claims.get("iss") == claims.get("sub") == client_id:
        return NoGoodProof("assertion_client")
    issued_at, ends_at = _instant(claims, "iat"), _instant(claims, "exp")
    if issued_at is None or ends_at is None or issued_at > now + _LEEWAY:
        return NoGoodProof("assertion_times")
    begins_at = _instant(claims, "nbf") if "nbf" in claims else issued_at
    ends_at = min(ends_at, issued_at + LONGEST_LIFE)
    if begins_at is None or begins_at > now + _LEEWAY or now >= ends_at:
        return NoGoodProof("assertion_times")
    mark = hashlib.sha256(f"assertion\0{client_id}\0{jti}".encode()).hexdigest()
    return SignedAssertion(key_id=key_id, jwk=jwk, mark=mark, expires_at=ends_at)


def _instant(claims: Mapping[str, Any], name: str) -> float | None:
    value = claims.get(name)  # which may have fractions (RFC 7519 section 2)
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value < 2**53:
        return None
    return float(value)


def _may_be(jwk: Mapping[str, str], header: Mapping[str, Any]) -> bool:
    if header.get("alg") != ALGORITHMS.get((jwk["kty"], jwk.get("crv"))):
        return False
    return "kid" not in header or "kid" not in jwk or header["kid"] == jwk["kid"]


def _is_signed_by(text: str, jwk: Mapping[str, str]) -> bool:
    algorithm = ALGORITHMS[jwk["kty"], jwk.get("crv")]
    try:
        jwt.PyJWS().decode(text, jwt.PyJWK(dict(jwk), algorithm=algorithm).key, algorithms=[algorithm])
    except (jwt.InvalidTokenError, jwt.PyJWKError):
        return False
    return True


class _Parts(NamedTuple):
    header: Mapping[str, Any]
    claims: Mapping[str, Any]


def _parts(text: str) -> _Parts | None:
    """Return what an assertion says, unverified; the core reads it, as strictly as tokens, before PyJWT sees it."""
    encoded = text.split(".", 3) if len(text) <= _LONGEST else []
    if len(encoded) != 3:
        return None
    try:
        header, claims = (parse_json(decode_base64url(part.encode("ascii"))) for part in encoded[:2])
    except ValueError:
        return None
    return _Parts(header, claims) if isinstance(header, Mapping) and isinstance(claims, Mapping) else None
