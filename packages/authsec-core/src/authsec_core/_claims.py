"""Do these verified claims say what a token of this profile must say, to us, now?

Pure: no keys, no I/O. Every claim that is read has exactly the right type or the token is refused; nothing is coerced.
RFC 7519 (JWT), RFC 9068 (`at+jwt`), RFC 8693 (`act`), and for `jwt-svid`
https://github.com/spiffe/spiffe/blob/main/standards/JWT-SVID.md
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple, TypeAlias

from authsec_core._jws import RS256, RS256_OR_ES256, Algorithm
from authsec_core._quick import quickly
from authsec_core.errors import (
    ExpiredTokenError,
    MalformedTokenError,
    NotYetValidError,
    WrongAudienceError,
    WrongIssuerError,
)
from authsec_core.scopes import parse_scopes
from authsec_core.token import MOCK_ISSUER
from authsec_core.wire import is_plain

__all__ = [
    "PROFILES",
    "Profile",
    "Rules",
    "VerifiedToken",
    "check_times",
    "check_type",
    "claims_issuer",
    "is_trust_domain",
    "read_claims",
]

Profile: TypeAlias = Literal["delegation", "at+jwt", "oidc", "jwt-svid"]

_LATEST = 253_402_300_800  # the year 10000 in epoch seconds: later instants cannot be printed
_NO_SCOPES: frozenset[str] = frozenset()
_LONGEST_SPIFFE_ID = 2048  # bytes, all of them ASCII (SPIFFE-ID section 2.3)
_TRUST_DOMAIN = re.compile(r"spiffe://[a-z0-9._-]{1,255}")
# A workload's has a path: without one it is the trust domain's own.
_SPIFFE_ID = re.compile(r"(spiffe://[a-z0-9._-]{1,255})(?:/(?!\.{1,2}(?:/|$))[a-zA-Z0-9._-]+)+")


class _Kind(NamedTuple):
    """What sets one profile apart.

    Attributes:
        types: The header's `typ` may be one of these; None stands for "missing".
        foreign: The issuer is somebody else's, and follows its own customs.
        algorithms: By which its tokens may be signed.
        use: Of its keys.
        svid: The subject names the issuer: its trust domain.
    """

    types: frozenset[str | None]
    foreign: bool = False
    algorithms: frozenset[Algorithm] = RS256
    use: str = "sig"
    svid: bool = False


# The kinds never mix, or a token of one kind could be replayed as another: RFC 8725 section 3.11.
PROFILES: Final[Mapping[str, _Kind]] = MappingProxyType(
    {
        "delegation": _Kind(frozenset({"JWT"})),
        "at+jwt": _Kind(frozenset({"at+jwt", "application/at+jwt"})),
        "oidc": _Kind(frozenset({"JWT", None}), foreign=True, algorithms=RS256_OR_ES256),
        "jwt-svid": _Kind(
            frozenset({"JWT", "JOSE", None}), foreign=True, algorithms=RS256_OR_ES256, use="jwt-svid", svid=True
        ),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifiedToken:
    """What a token says, after everything about it was found good. Immutable; may be shared.

    It does not hold the token itself, so that it may be logged and passed on: `jti` is the token's public name.

    Attributes:
        issuer: `iss`; with the profile `jwt-svid` the trust domain, `spiffe://…`.
        subject: `sub`: the workload (`spiffe://…`), or the user where an agent acts for one.
        client_id: The agent that the token was issued to, if the token says so.
        scopes: `permissions` and `scope`. Empty means that nothing is granted.
        roles: As the issuer lists them.
        jti: Missing only with the profiles `oidc` and `jwt-svid`.
        issued_at: Epoch seconds, by the issuer's clock. Missing only with the profile `jwt-svid`.
        expires_at: Epoch seconds, by the issuer's clock.
        key_id: Which of the issuer's keys signed it.
        actor: `act.sub`: who acts for the subject, if anybody does (RFC 8693 section 4.1).
        claims: All claims; read-only at every depth, arrays as tuples.
    """

    issuer: str
    subject: str
    audience: tuple[str, ...]
    client_id: str | None
    scopes: frozenset[str]
    roles: tuple[str, ...]
    jti: str | None
    issued_at: int | None
    expires_at: int
    key_id: str
    actor: str | None
    claims: Mapping[str, Any] = field(repr=False, hash=False)

    def covers(self, *scopes: str) -> bool:
        """Return whether each of these scopes is granted, exactly as spelled.

        Raises:
            ValueError: No scope was named: "nothing is needed" is said by not asking.
        """
        if not scopes:
            raise ValueError("name the scopes that are needed")
        return self.scopes.issuperset(scopes)


_verified = quickly(VerifiedToken)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What a verifier was configured with.

    Attributes:
        leeway: Seconds by which the issuer's clock may differ from ours.
    """

    issuer: str
    audiences: frozenset[str]
    profile: Profile
    leeway: float


def is_trust_domain(issuer: str) -> bool:
    """Return whether this names a SPIFFE trust domain.

    >>> is_trust_domain("spiffe://example.org"), is_trust_domain("https://example.org")
    (True, False)
    """
    return _TRUST_DOMAIN.fullmatch(issuer) is not None


def check_type(typ: str | None, profile: Profile) -> None:
    """Return if a header of this type belongs to the profile.

    Raises:
        MalformedTokenError: It is another kind of token.
    """
    if typ not in PROFILES[profile].types:
        raise MalformedTokenError("the token is of another type than this verifier accepts")


def claims_issuer(claims: Mapping[str, Any], profile: Profile) -> str | None:
    """Return which issuer claims that nobody has vouched for name."""
    if not PROFILES[profile].svid:
        issuer = claims.get("iss")
        return issuer if type(issuer) is str else None
    subject = claims.get("sub")
    spiffe_id = _SPIFFE_ID.fullmatch(subject) if type(subject) is str else None
    return None if spiffe_id is None else spiffe_id[1]


def read_claims(claims: Mapping[str, Any], *, key_id: str, rules: Rules, now: float) -> VerifiedToken:
    """Return what the claims of a token with a good signature say, if they are meant for us and for this moment.

    Args:
        claims: As `parse_json` returns them.
        key_id: Of the key that made the signature.
        rules: What to hold them against.
        now: Epoch seconds.

    Raises:
        MalformedTokenError: A claim is missing or of the wrong type.
        WrongIssuerError: It comes from another issuer, or from MOCK mode.
        WrongAudienceError: It is meant for another API.
        ExpiredTokenError: It has ended.
        NotYetValidError: It has not begun.
    """
    kind = PROFILES[rules.profile]
    foreign = kind.foreign
    token = _verified(
        issuer=_trust_domain(claims) if kind.svid else _required(claims, "iss"),
        subject=_required(claims, "sub"),
        audience=_audience(claims),
        client_id=_optional(claims, "client_id"),
        scopes=_scopes(claims, foreign=foreign),
        roles=_texts(claims, "roles") or (),
        jti=_optional(claims, "jti") if foreign else _required(claims, "jti"),
        issued_at=None if kind.svid and "iat" not in claims else _instant(claims, "iat"),
        expires_at=_instant(claims, "exp"),
        key_id=key_id,
        actor=_actor(claims),
        claims=claims,
    )
    if token.issuer != rules.issuer or (claims.get("mock") and rules.issuer != MOCK_ISSUER):
        raise WrongIssuerError("the token was issued by another authority, or in MOCK mode")
    if rules.audiences.isdisjoint(token.audience):
        raise WrongAudienceError("the token is for another audience")
    check_times(token, leeway=rules.leeway, now=now)
    return token


def check_times(token: VerifiedToken, *, leeway: float, now: float) -> None:
    """Return if `now` lies within the token's life.

    Raises:
        ExpiredTokenError: It has ended.
        NotYetValidError: It has not begun.
    """
    if now >= token.expires_at + leeway:
        raise ExpiredTokenError("the token has expired")
    begins_at = token.issued_at or 0
    if "nbf" in token.claims:
        begins_at = max(begins_at, _instant(token.claims, "nbf"))
    if now < begins_at - leeway:
        raise NotYetValidError("the token is not valid yet: if it is new, the clocks differ")


def _required(claims: Mapping[str, Any], name: str) -> str:
    value = claims.get(name)
    if type(value) is not str or not value or not is_plain(value):
        raise MalformedTokenError(f"the token's claim {name} is missing or is not plain text")
    return value


def _optional(claims: Mapping[str, Any], name: str) -> str | None:
    return _required(claims, name) if name in claims else None


def _trust_domain(claims: Mapping[str, Any]) -> str:
    subject = _required(claims, "sub")
    spiffe_id = _SPIFFE_ID.fullmatch(subject)
    if spiffe_id is None or len(subject) > _LONGEST_SPIFFE_ID:
        raise MalformedTokenError("the token's claim sub is not a workload's SPIFFE ID")
    return spiffe_id[1]


def _instant(claims: Mapping[str, Any], name: str) -> int:
    value = claims.get(name)
    # `type`, not `isinstance`: True is an int. RFC 7519 lets instants have fractions; nothing that we know sends any.
    if type(value) is not int or not 0 <= value < _LATEST:
        raise MalformedTokenError(f"the token's claim {name} is missing or is not whole epoch seconds")
    return value


def _texts(claims: Mapping[str, Any], name: str) -> tuple[str, ...] | None:
    if name not in claims:
        return None
    values = claims[name]
    if type(values) is not tuple:
        raise MalformedTokenError(f"the token's claim {name} is not a list")
    for value in values:
        if type(value) is not str or not value or not is_plain(value):
            raise MalformedTokenError(f"the token's claim {name} is not a list of plain text")
    return values


def _audience(claims: Mapping[str, Any]) -> tuple[str, ...]:
    if type(claims.get("aud")) is str:
        return (_required(claims, "aud"),)
    audience = _texts(claims, "aud")
    if not audience:
        raise MalformedTokenError("the token's claim aud is missing or empty")
    return audience


def _actor(claims: Mapping[str, Any]) -> str | None:
    if "act" not in claims:
        return None
    act = claims["act"]
    if not isinstance(act, Mapping):
        raise MalformedTokenError("the token's claim act is not an object")
    return _required(act, "sub")


def _scopes(claims: Mapping[str, Any], *, foreign: bool) -> frozenset[str]:
    listed = _texts(claims, "permissions")
    spaced = claims.get("scope")
    if "scope" in claims and type(spaced) is not str:
        raise MalformedTokenError("the token's claim scope is not text")
    permissions = _scope_set(listed) if listed is not None else None
    scope = _scope_set(spaced) if spaced is not None else None
    if permissions is None or scope is None:
        return (permissions if scope is None else scope) or _NO_SCOPES
    if permissions != scope:
        if foreign:  # some providers list in `permissions` what the user may do, in `scope` what the client asked for
            return permissions & scope
        raise MalformedTokenError("the token's claims permissions and scope do not agree")
    return scope


@lru_cache(maxsize=256)  # an agent's tokens repeat their scopes; only the issuer can put anything in
def _scope_set(scopes: str | tuple[str, ...]) -> frozenset[str]:
    if not scopes:
        return _NO_SCOPES
    try:
        return parse_scopes(scopes) or _NO_SCOPES
    except ValueError as exc:
        raise MalformedTokenError("the token's scopes are not scopes (RFC 6749 section 3.3)") from exc
