"""What a registered issuer is to those who manage it, and what is sent to register or change one. Values only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from authsec_core.verify import Profile
from authsec_server.issuers.identity import IssuerKind

__all__ = ["KINDS", "IssuerChanges", "NewIssuer", "RegisteredIssuer", "issuer_of"]

KINDS: Final[tuple[IssuerKind, ...]] = ("kubernetes", "spiffe", "oidc", "users")


@dataclass(frozen=True, slots=True, kw_only=True)
class RegisteredIssuer:
    """Somebody else who may vouch for workloads, or for users.

    Attributes:
        issuer: The `iss` of its tokens; of a SPIFFE trust domain `spiffe://…`.
        audience: What its tokens have to be for.
        jwks_url: Where it publishes its keys; None where they are given.
        jwks: Its keys as they were given: their public members alone.
        claims: The names of the claims that become selectors.
        is_default: Whether agents that do not say which cluster they run in belong to it.
        revision: Counts its changes.
        created_at: Epoch seconds.
        created_by: The name of the operator who registered it.
        revoked_at: Epoch seconds.
    """

    issuer_id: str
    name: str
    kind: IssuerKind
    issuer: str
    audience: str
    jwks_url: str | None
    jwks: Mapping[str, Any] | None
    claims: tuple[str, ...]
    is_default: bool
    enabled: bool
    revision: int
    created_at: float
    created_by: str
    revoked_at: float | None

    @property
    def is_for_users(self) -> bool:
        """Whether it vouches for users: for them, and for workloads, one issuer may be registered once each."""
        return self.kind == "users"

    @property
    def profile(self) -> Profile:
        """The kind of token that it issues."""
        return "jwt-svid" if self.kind == "spiffe" else "oidc"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewIssuer:
    """An issuer that is to be registered. The members are those of `RegisteredIssuer`.

    Attributes:
        audience: None is the authority's own issuer URL.
    """

    name: str
    kind: IssuerKind
    issuer: str
    audience: str | None = None
    jwks_url: str | None = None
    jwks: Mapping[str, Any] | None = None
    claims: tuple[str, ...] = ()
    is_default: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuerChanges:
    """What is to be different about a registered issuer. None: it stays as it is.

    Attributes:
        jwks_url: In the place of what told its keys until now, like `jwks`.
    """

    audience: str | None = None
    jwks_url: str | None = None
    jwks: Mapping[str, Any] | None = None
    claims: tuple[str, ...] | None = None
    is_default: bool | None = None
    enabled: bool | None = None


def issuer_of(row: Any) -> RegisteredIssuer:
    """Return the issuer of a row of `issuers`."""
    return RegisteredIssuer(
        issuer_id=row.issuer_id,
        name=row.name,
        kind=row.kind,
        issuer=row.issuer,
        audience=row.audience,
        jwks_url=row.jwks_url,
        jwks=row.jwks,
        claims=tuple(row.claims),
        is_default=row.is_default,
        enabled=row.enabled,
        revision=row.revision,
        created_at=row.created_at,
        created_by=row.created_by,
        revoked_at=row.revoked_at,
    )
