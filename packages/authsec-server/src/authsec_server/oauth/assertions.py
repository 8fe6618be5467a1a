"""Did this client sign this assertion, for us, a moment ago? `private_key_jwt` (OpenID Connect Core, RFC 7523).

Whether it was used before, and whether its key is still good, is looked at in the transaction that decides. The
audience is the issuer and nothing else (draft-ietf-oauth-rfc7523bis): an assertion that was made for the token endpoint
of another server must not be good here.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, Final

import jwt

from authsec_server.agents.proofs import NoGoodProof, Proof, SignedAssertion
from authsec_server.agents.standing import StoredKey

__all__ = ["ALGORITHMS", "LONGEST_LIFE", "claimed_client", "signed_by"]

LONGEST_LIFE: Final = 300  # seconds after `iat`
_LEEWAY: Final = 60  # seconds by which the client's clock may be ahead
_LONGEST: Final = 8 * 1024  # characters
_LONGEST_JTI: Final = 256  # characters
_TYPES: Final = frozenset({None, "JWT", "client-authentication+jwt"})
# One for each kind of key, so that nothing in a header can choose how a key is used.
ALGORITHMS: Final[Mapping[tuple[str, str | None], str]] = {("RSA", None): "RS256", ("EC", "P-256"): "ES256"}


def claimed_client(text: str) -> str | None:
    """Return the client that an assertion says to be from; unverified. None if it is no assertion of a client."""
    claims = _unverified(text)
    issuer = claims.get("iss")
    return issuer if isinstance(issuer, str) and issuer == claims.get("sub") else None


def signed_by(text: str, client_id: str, keys: Iterable[StoredKey], *, issuer: str, now: float) -> Proof:
    """Return the proof that an assertion is.

    Args:
        keys: The client's; those that the authority made are passed over.
        issuer: Ours.
        now: Epoch seconds.
    """
    if len(text) > _LONGEST or _header(text).get("typ") not in _TYPES:
        return NoGoodProof("assertion_type")
    for key in keys:
        if key.jwk is not None and _may_be(key.jwk, _header(text)):
            claims = _verified(text, key.jwk)
            if claims is not None:
                return _proof(claims, key.key_id, key.jwk, client_id, issuer=issuer, now=now)
    return NoGoodProof("assertion_signature")


def _proof(
    claims: Mapping[str, Any], key_id: str, jwk: Mapping[str, str], client_id: str, *, issuer: str, now: float
) -> Proof:
    audience, jti = claims.get("aud"), claims.get("jti")
    if not (isinstance(jti, str) and 0 < len(jti) <= _LONGEST_JTI):
        return NoGoodProof("assertion_jti")
    if audience not in (issuer, [issuer]):
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


def _verified(text: str, jwk: Mapping[str, str]) -> Mapping[str, Any] | None:
    algorithm = ALGORITHMS[jwk["kty"], jwk.get("crv")]
    unchecked = {"verify_aud": False, "verify_exp": False, "verify_nbf": False, "verify_iat": False}
    unchecked |= {"verify_iss": False, "verify_sub": False, "verify_jti": False}
    try:
        claims: Mapping[str, Any] = jwt.decode(
            text,
            jwt.PyJWK(dict(jwk), algorithm=algorithm),
            algorithms=[algorithm],
            options=unchecked,  # type: ignore[arg-type]  # a dict of flags, whose names depend on the release
        )
    except (jwt.InvalidTokenError, jwt.PyJWKError):
        return None
    return claims


def _header(text: str) -> Mapping[str, Any]:
    try:
        return jwt.get_unverified_header(text)
    except jwt.InvalidTokenError:
        return {}


def _unverified(text: str) -> Mapping[str, Any]:
    try:
        claims: Mapping[str, Any] = jwt.decode(text, options={"verify_signature": False})
    except jwt.InvalidTokenError:
        return {}
    return claims
