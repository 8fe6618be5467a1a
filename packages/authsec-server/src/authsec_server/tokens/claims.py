"""What a delegation token says, and how the endpoint's reply tells of it (wire contract of the SDK). Pure.

Nothing that the agent wrote gets into a token but the scopes and the audience, each of which policy has matched with
one that an operator wrote.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from authsec_core.scopes import format_scopes
from authsec_core.wire import format_time
from authsec_server.agents.standing import Standing
from authsec_server.tokens.policy import Grant

__all__ = ["PLACES_IN_A_LIST", "IssuedToken", "status_uri"]

PLACES_IN_A_LIST: Final = 131_072  # 16 KiB of one bit each


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedToken:
    """A token that has been decided on and recorded, and is still to be signed.

    Attributes:
        issued_at: Epoch seconds, whole ones.
        index: Its place in all status lists together.
        kid: The key that signs it.
    """

    issuer: str
    tenant_id: str
    standing: Standing
    grant: Grant
    jti: str
    issued_at: int
    index: int
    kid: str

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
        """The JOSE header. SPIFFE's validators refuse any other `typ`."""
        return {"alg": "RS256", "typ": "JWT", "kid": self.kid}

    @property
    def claims(self) -> dict[str, Any]:
        """The claims."""
        number, place = divmod(self.index, PLACES_IN_A_LIST)
        return {
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


def status_uri(issuer: str, number: int) -> str:
    """Return where a status list is published."""
    return f"{issuer}/statuslists/{number}"
