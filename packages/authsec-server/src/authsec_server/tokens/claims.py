"""What a delegation token says, and how the endpoint's reply tells of it (wire contract of the SDK). Pure.

Nothing that the agent wrote gets into a token but the scopes and the audience, each of which policy has matched with
one that an operator wrote.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from authsec_core.scopes import format_scopes
from authsec_core.wire import format_time
from authsec_server.agents.standing import Standing
from authsec_server.tokens.policy import Grant

__all__ = ["PLACES_IN_A_LIST", "IssuedToken", "OnBehalf", "TokenKind", "status_uri"]

TokenKind = Literal["JWT", "at+jwt"]
"""The `typ` of a token: a delegation token, or an access token (RFC 9068). Neither is accepted for the other."""

PLACES_IN_A_LIST: Final = 131_072  # 16 KiB of one bit each


@dataclass(frozen=True, slots=True, kw_only=True)
class OnBehalf:
    """Whom an exchanged token speaks for (RFC 8693).

    Attributes:
        subject: The `sub`.
        subject_id: The `sub_id` (RFC 9493), where `sub` is another issuer's name for somebody.
        actors: The `sub` of each actor, the current one first; empty where the subject itself narrowed its token.
        depth: How many exchanges it took.
        parent: What it rests on: the `jti` of the token that it was exchanged for, or the id of the user's issuer.
    """

    subject: str
    subject_id: Mapping[str, str] | None
    actors: tuple[str, ...]
    depth: int
    parent: str

    @property
    def claims(self) -> dict[str, Any]:
        """What the token says of it."""
        act: dict[str, Any] = {}
        for actor in reversed(self.actors):
            act = {"sub": actor, **({"act": act} if act else {})}
        named = {} if self.subject_id is None else {"sub_id": dict(self.subject_id)}
        return {"sub": self.subject, **named, **({"act": act} if act else {})}


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedToken:
    """A token that has been decided on and recorded, and is still to be signed.

    Attributes:
        issued_at: Epoch seconds, whole ones.
        index: Its place in all status lists together.
        kid: The key that signs it.
        on_behalf: Whom it speaks for, if not for the client itself.
    """

    issuer: str
    tenant_id: str
    standing: Standing
    grant: Grant
    jti: str
    issued_at: int
    index: int
    kid: str
    kind: TokenKind = "JWT"
    on_behalf: OnBehalf | None = None

    @property
    def expires_at(self) -> int:
        """Epoch seconds."""
        return self.issued_at + self.grant.ttl

    @property
    def permissions(self) -> list[str]:
        """What was granted, sorted."""
        return sorted(self.grant.scopes)

    @property
    def header(self) -> dict[str, str]:
        """The JOSE header. SPIFFE's validators refuse any other `typ` than JWT."""
        return {"alg": "RS256", "typ": self.kind, "kid": self.kid}

    @property
    def claims(self) -> dict[str, Any]:
        """The claims."""
        number, place = divmod(self.index, PLACES_IN_A_LIST)
        claims = {
            "iss": self.issuer,
            "sub": self.standing.spiffe_id,
            "aud": [self.grant.audience],
            "exp": self.expires_at,
            "iat": self.issued_at,
            "nbf": self.issued_at,
            "jti": self.jti,
            "client_id": self.standing.client_id,
            "agent_type": self.standing.agent_type,
            "tenant_id": self.tenant_id,
            "permissions": self.permissions,
            "scope": format_scopes(self.grant.scopes),
            "delegated_by": self.grant.delegated_by,
            "status": {"status_list": {"idx": place, "uri": status_uri(self.issuer, number)}},
        }
        return claims if self.on_behalf is None else claims | self.on_behalf.claims

    @property
    def row(self) -> Mapping[str, Any]:
        """What the database keeps of it, which is enough to take it back."""
        return {
            "jti": self.jti,
            "status_index": self.index,
            "client_id": self.standing.client_id,
            "delegations": list(self.grant.delegations),
            "scope": format_scopes(self.grant.scopes),
            "audience": self.grant.audience,
            "kid": self.kid,
            "issued_at": self.issued_at,
            "expires_at": self.expires_at,
            "subject": None if self.on_behalf is None else self.on_behalf.subject,
            "parent": None if self.on_behalf is None else self.on_behalf.parent,
            "depth": None if self.on_behalf is None else self.on_behalf.depth,
        }

    def reply(self, signed: str) -> dict[str, Any]:
        """Return the body of the 200 with the signed token in it."""
        issued_at = format_time(self.issued_at)
        return {
            "token": signed,
            "token_type": "Bearer",
            "jti": self.jti,
            "client_id": self.standing.client_id,
            "spiffe_id": self.standing.spiffe_id,
            "tenant_id": self.tenant_id,
            "permissions": self.permissions,
            "scope": format_scopes(self.grant.scopes),
            "audience": [self.grant.audience],
            "expires_at": format_time(self.expires_at),
            "ttl_seconds": self.grant.ttl,
            "status": "active",
            "issued_at": issued_at,
            "updated_at": issued_at,
        }

    def oauth_reply(self, signed: str) -> dict[str, Any]:
        """Return the body of the token endpoint's 200 (RFC 6749 section 5.1)."""
        return {
            "access_token": signed,
            "token_type": "Bearer",
            "expires_in": self.grant.ttl,
            "scope": format_scopes(self.grant.scopes),
        }


def status_uri(issuer: str, number: int) -> str:
    """Return where a status list is published."""
    return f"{issuer}/statuslists/{number}"
