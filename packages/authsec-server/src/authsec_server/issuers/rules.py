"""May an issuer be registered as this? Pure, apart from making the verifier that its tokens will meet.

Whatever is let in here can be verified with later: keys that core's verifier would refuse are refused at once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from authsec_core._claims import PROFILES, is_trust_domain
from authsec_core._jwks import Wanted, parse_keys
from authsec_core._origin import check_base_url
from authsec_core.errors import ConfigurationError
from authsec_core.verify import Profile, TokenVerifier
from authsec_server import checks
from authsec_server.errors import InvalidRequestError
from authsec_server.issuers.values import KINDS, RegisteredIssuer

__all__ = ["Own", "check_issuer", "public_keys"]

_LONGEST_ISSUER: Final = 512  # characters, of the `iss` and of a URL
_LONGEST_CLAIM: Final = 100  # characters of a claim's name
_LONGEST_KEY_ID: Final = 256  # characters; a token cannot name a longer one
_MOST_CLAIMS: Final = 16
_NAME: Final = re.compile(r"[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?")  # it is the value of the selector k8s:cluster
_CLAIM: Final = re.compile(r"[a-zA-Z0-9._/-]+")  # what may follow `oidc:` in the name of a selector
_PUBLIC: Final = ("kty", "kid", "use", "alg", "n", "e", "crv", "x", "y")


@dataclass(frozen=True, slots=True, kw_only=True)
class Own:
    """The authority's own issuer, which must not vouch for itself."""

    issuer: str
    jwks_url: str


def check_issuer(issuer: RegisteredIssuer, own: Own) -> None:
    """Check what an operator entered, or changed.

    Raises:
        InvalidRequestError: A member cannot be what it is to be.
    """
    if not _NAME.fullmatch(issuer.name):
        raise InvalidRequestError(
            "name must be 1 to 63 of a-z, 0-9, '.', '_' and '-', with a letter or digit at both ends", field="name"
        )
    if issuer.kind not in KINDS:
        raise InvalidRequestError(f"kind must be one of {', '.join(KINDS)}", field="kind")
    _check_address(issuer, own)
    checks.audiences([issuer.audience], field="audience")
    _check_claims(issuer)
    if issuer.is_default and issuer.kind != "kubernetes":
        raise InvalidRequestError("only a cluster can be the default one", field="is_default")
    _check_keys(issuer, own)


def public_keys(jwks: Mapping[str, Any], profile: Profile) -> dict[str, Any]:
    """Return a key set with the public members alone of those keys that may verify tokens of this kind.

    Raises:
        InvalidRequestError: It is no key set, holds a secret or a weak key, or none that is for us.
    """
    kind = PROFILES[profile]
    try:
        keys = parse_keys(jwks, Wanted(use=kind.use, algorithms=kind.algorithms))
    except ValueError as exc:
        raise InvalidRequestError(f"jwks cannot be used: {exc}", field="jwks") from exc
    if not keys or not all(len(kid) <= _LONGEST_KEY_ID and kid.isprintable() for kid in keys):
        raise InvalidRequestError(
            f"jwks must have RSA or P-256 keys of the use {kind.use}, each with a printable key id", field="jwks"
        )
    found: Sequence[Mapping[str, Any]] = jwks["keys"]
    return {"keys": [{name: jwk[name] for name in _PUBLIC if name in jwk} for jwk in found if jwk.get("kid") in keys]}


def _check_address(issuer: RegisteredIssuer, own: Own) -> None:
    if len(issuer.issuer) > _LONGEST_ISSUER:
        raise InvalidRequestError(f"issuer must have at most {_LONGEST_ISSUER} characters", field="issuer")
    if issuer.kind == "spiffe":
        if not is_trust_domain(issuer.issuer):
            raise InvalidRequestError("issuer must be a trust domain, such as spiffe://example.org", field="issuer")
        return
    try:
        base = check_base_url(issuer.issuer)
    except ValueError as exc:
        raise InvalidRequestError(f"issuer must be a URL like the `iss` of its tokens: {exc}", field="issuer") from exc
    if base == own.issuer:
        raise InvalidRequestError("issuer is this authority, which does not vouch for itself", field="issuer")


def _check_claims(issuer: RegisteredIssuer) -> None:
    if issuer.claims and issuer.kind != "oidc":
        raise InvalidRequestError("claims become selectors of the kind oidc alone", field="claims")
    if len(issuer.claims) > _MOST_CLAIMS:
        raise InvalidRequestError(f"claims may name at most {_MOST_CLAIMS}", field="claims")
    if not all(len(name) <= _LONGEST_CLAIM and _CLAIM.fullmatch(name) for name in issuer.claims):
        raise InvalidRequestError(
            f"claims must be names of 1 to {_LONGEST_CLAIM} letters, digits and any of ./_-", field="claims"
        )


def _check_keys(issuer: RegisteredIssuer, own: Own) -> None:
    if (issuer.jwks_url is None) == (issuer.jwks is None):
        raise InvalidRequestError("give either jwks_url or jwks", field="jwks_url")
    if issuer.jwks_url is None:
        return  # `public_keys` has looked at them
    if len(issuer.jwks_url) > _LONGEST_ISSUER:
        raise InvalidRequestError(f"jwks_url must have at most {_LONGEST_ISSUER} characters", field="jwks_url")
    if issuer.jwks_url == own.jwks_url:
        raise InvalidRequestError("jwks_url is this authority's, which does not vouch for itself", field="jwks_url")
    try:
        TokenVerifier(issuer=issuer.issuer, audience=issuer.audience, jwks_url=issuer.jwks_url, profile=issuer.profile)
    except ConfigurationError as exc:
        raise InvalidRequestError(f"jwks_url cannot be used: {exc.message}", field="jwks_url") from exc
