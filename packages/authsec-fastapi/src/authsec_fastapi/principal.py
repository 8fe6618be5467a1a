"""Who is calling, and what did their token say? A value, made from a token that was found good. Pure.

What a caller may do is for `requirement` to say, and whether the token is still good for `authentication`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, Protocol, TypeAlias

from authsec_core._quick import quickly
from authsec_core.errors import MalformedTokenError
from authsec_core.scopes import parse_scopes
from authsec_core.verify import VerifiedToken
from authsec_core.wire import is_plain

__all__ = ["ClaimPath", "Identity", "Principal", "Standing"]

ClaimPath: TypeAlias = str | tuple[str, ...]
_SPIFFE: Final = "spiffe://"
# What a token's claims nearly always are first: to ask an abstract class takes 0.3 µs.
_MAPPING = (MappingProxyType, Mapping)
_SEQUENCE = (tuple, Sequence)


class Standing(Protocol):
    """A caller's token, which can be looked at again, and can be neither read nor printed."""

    def check(self) -> None:
        """Return if the token is still good; may block on a fetch of keys or of a status list.

        Raises:
            TokenRejectedError: It is not.
            VerificationUnavailableError: Nobody can tell.
        """
        ...

    async def acheck(self) -> None:
        """Do what `check` does, without blocking the loop."""
        ...

    def is_of(self, authenticator: object) -> bool:
        """Return whether this authenticator found out whose token it is, and nobody else did."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Whose something is: two callers are the same one if all of these are equal.

    A user who acts alone, the same user through an agent, and through another agent, are three.

    Attributes:
        issuer: Who vouches for the subject: a name means nothing without it.
        actor: Who acts for the subject, if anybody does.
    """

    issuer: str
    subject: str
    client_id: str | None
    actor: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Principal:
    """The caller of a request. Immutable; it does not hold the token, and may be logged and passed on.

    Attributes:
        subject: `sub`: the workload (`spiffe://…`), or the user for whom an agent acts.
        issuer: `iss`.
        client_id: The agent that the token was issued to, if the token says so: `client_id`, else OpenID's `azp`.
        spiffe_id: The workload that calls: the actor's, else the subject's; None where that is no SPIFFE ID for which
            the issuer may speak.
        user: For whom the workload acts (RFC 8693), else None.
        actor: `act.sub`: who acts for the user, else None.
        delegated_by: The role or user who delegated, if the issuer says so.
        scopes: Empty means that nothing is granted.
        roles: From the claim that was configured for the issuer.
        jti: The token's public name, if it has one.
        expires_at: Epoch seconds, by the issuer's clock; None only for a static token.
        claims: All claims, read-only at every depth.
    """

    subject: str
    issuer: str
    client_id: str | None = None
    spiffe_id: str | None = None
    user: str | None = None
    actor: str | None = None
    delegated_by: str | None = None
    scopes: frozenset[str] = frozenset()
    roles: frozenset[str] = frozenset()
    jti: str | None = None
    expires_at: int | None = None
    claims: Mapping[str, Any] = field(default_factory=dict, repr=False, hash=False)
    _standing: Standing | None = field(default=None, repr=False, compare=False)

    @property
    def identity(self) -> Identity:
        """Whose conversations and memory these are."""
        return Identity(issuer=self.issuer, subject=self.subject, client_id=self.client_id, actor=self.actor)

    def covers(self, *scopes: str) -> bool:
        """Return whether each of these scopes is granted, exactly as spelled.

        Raises:
            ValueError: No scope was named.
        """
        if not scopes:
            raise ValueError("name the scopes that are needed")
        return self.scopes.issuperset(scopes)

    @staticmethod
    def of(
        token: VerifiedToken,
        *,
        roles_claim: ClaimPath,
        scopes_claim: ClaimPath | None = None,
        workloads: str | None = _SPIFFE,
        standing: Standing | None = None,
    ) -> Principal:
        """Return the caller that a verified token names.

        Args:
            roles_claim: Where the issuer says the roles: a claim's name, dots for what lies within, or a tuple of
                names where one of them has a dot.
            scopes_claim: Where it says the scopes, if not in `scope` or `permissions`; of both together only what
                each of them grants counts.
            workloads: What the SPIFFE IDs begin with for which the issuer may speak; None for none at all.
            standing: Looks at the token again.

        Raises:
            MalformedTokenError: What stands where the roles or scopes should is no list of texts.
        """
        workload = token.actor or token.subject
        delegated_by = token.claims.get("delegated_by")
        return _principal(
            subject=token.subject,
            issuer=token.issuer,
            client_id=token.client_id or _authorized_party(token.claims),
            spiffe_id=workload if workloads is not None and workload.startswith(workloads) else None,
            user=token.subject if token.actor is not None else None,
            actor=token.actor,
            delegated_by=delegated_by if isinstance(delegated_by, str) else None,
            scopes=token.scopes if scopes_claim is None else _scopes(token, scopes_claim),
            roles=_roles(token.claims, roles_claim),
            jti=token.jti,
            expires_at=token.expires_at,
            claims=token.claims,
            _standing=standing,
        )


_principal = quickly(Principal)


def _authorized_party(claims: Mapping[str, Any]) -> str | None:
    # Identity providers name the client here. Without it, one user's conversations would be every application's.
    party = claims.get("azp")
    if party is not None and not (isinstance(party, str) and party and is_plain(party)):
        raise MalformedTokenError("the token's claim azp is not plain text")
    return party


def _roles(claims: Mapping[str, Any], path: ClaimPath) -> frozenset[str]:
    found = _at(claims, path)
    return frozenset(_texts((found,) if isinstance(found, str) else found, "roles"))


def _scopes(token: VerifiedToken, path: ClaimPath) -> frozenset[str]:
    found = _at(token.claims, path)
    try:
        scopes = _named_scopes(found if isinstance(found, str) else _texts(found, "scopes"))
    except ValueError as exc:
        raise MalformedTokenError("the claim that should name the scopes has something else in it") from exc
    usual = "scope" in token.claims or "permissions" in token.claims
    return scopes & token.scopes if usual else scopes


def _named_scopes(found: str | Sequence[str]) -> frozenset[str]:
    return (parse_scopes(found) if found else None) or frozenset()


def _at(claims: Mapping[str, Any], path: ClaimPath) -> Any:
    """Return what stands there, or an empty tuple: a token need not have it."""
    found: Any = claims
    for name in path.split(".") if isinstance(path, str) else path:
        if not isinstance(found, _MAPPING) or name not in found:
            return ()
        found = found[name]
    return found


def _texts(found: Any, what: str) -> Sequence[str]:
    if not isinstance(found, _SEQUENCE) or not all(isinstance(one, str) and one for one in found):
        # An empty set would be as safe, and would hide for ever that the path is wrong.
        raise MalformedTokenError(f"the claim that should name the {what} is no text and no list of texts")
    return found
