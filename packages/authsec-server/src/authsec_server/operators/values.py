"""What an operator and their tokens are to those who manage them. Values only; no secret is in them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from authsec_server.operators.access import OperatorRole

__all__ = ["Operator", "OperatorToken", "operator_of", "token_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """A person, or a program of theirs, who runs the authority.

    Attributes:
        name: Stays what it is: audit entries name operators by it.
        created_at: Epoch seconds.
    """

    operator_id: str
    name: str
    role: OperatorRole
    enabled: bool
    created_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorToken:
    """An operator's token, without what proves it. Instants are epoch seconds."""

    token_id: str
    operator_id: str
    label: str
    created_at: float
    not_after: float | None
    revoked_at: float | None


def operator_of(row: Any) -> Operator:
    """Return the operator of a row of `operators`."""
    return Operator(
        operator_id=row.operator_id, name=row.name, role=row.role, enabled=row.enabled, created_at=row.created_at
    )


def token_of(row: Any) -> OperatorToken:
    """Return the token of a row of `operator_tokens`."""
    return OperatorToken(
        token_id=row.token_id,
        operator_id=row.operator_id,
        label=row.label,
        created_at=row.created_at,
        not_after=row.not_after,
        revoked_at=row.revoked_at,
    )
