"""What roles and trust delegations are to those who manage them, and how long a maximum duration is. Values only.

What a client may have by its delegations is decided by `tokens.policy`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Literal

from authsec_server.errors import InvalidRequestError

__all__ = [
    "KEEP",
    "DelegationChanges",
    "Keep",
    "MaxDuration",
    "Role",
    "TrustDelegation",
    "Unit",
    "delegation_of",
    "role_of",
]

Unit = Literal["seconds", "minutes", "hours", "days"]
_SECONDS: Final[Mapping[str, int]] = {"seconds": 1, "minutes": 60, "hours": 3600, "days": 86400}
_LONGEST: Final = 30 * 86400  # seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """A name for permissions.

    Attributes:
        permissions: Scopes, sorted. None of them: whoever has the role may do nothing.
        updated_at: Epoch seconds, like `created_at`.
    """

    name: str
    permissions: tuple[str, ...]
    created_at: float
    updated_at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class MaxDuration:
    """The longest life of a token, in the unit that it was given in: from a second to 30 days.

    Raises:
        InvalidRequestError: It is shorter or longer, or the unit is none.
    """

    amount: int
    unit: Unit

    def __post_init__(self) -> None:
        if self.unit not in _SECONDS:
            raise InvalidRequestError(f"unit must be one of {', '.join(_SECONDS)}", field="unit")
        if not 1 <= self.seconds <= _LONGEST:
            raise InvalidRequestError("max_duration must be from 1 second to 30 days", field="max_duration")

    @property
    def seconds(self) -> int:
        """It in seconds."""
        return self.amount * _SECONDS[self.unit]


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustDelegation:
    """What an agent may ask for. Instants are epoch seconds.

    Attributes:
        allowed_actions: Those of the role's permissions that are delegated; None is all that the role has.
        audiences: The APIs that tokens may be for.
        created_by: The name of the operator who made it.
    """

    delegation_id: str
    role: str
    target_type: str
    client_id: str
    allowed_actions: tuple[str, ...] | None
    audiences: tuple[str, ...]
    duration: MaxDuration
    enabled: bool
    not_after: float | None
    revoked_at: float | None
    created_at: float
    created_by: str


class Keep(Enum):
    """Says that something stays as it is, where None has a meaning of its own."""

    KEEP = "keep"


KEEP: Final = Keep.KEEP


@dataclass(frozen=True, slots=True, kw_only=True)
class DelegationChanges:
    """What is to be different about a trust delegation."""

    allowed_actions: tuple[str, ...] | Keep | None = KEEP
    audiences: tuple[str, ...] | Keep = KEEP
    duration: MaxDuration | Keep = KEEP
    enabled: bool | Keep = KEEP
    not_after: float | Keep | None = KEEP


def role_of(row: Any) -> Role:
    """Return the role of a row of `roles`."""
    return Role(name=row.name, permissions=tuple(row.permissions), created_at=row.created_at, updated_at=row.updated_at)


def delegation_of(row: Any) -> TrustDelegation:
    """Return the delegation of a row of `trust_delegations`."""
    return TrustDelegation(
        delegation_id=row.delegation_id,
        role=row.role,
        target_type=row.target_type,
        client_id=row.client_id,
        allowed_actions=None if row.allowed_actions is None else tuple(row.allowed_actions),
        audiences=tuple(row.audiences),
        duration=MaxDuration(amount=row.max_duration // _SECONDS[row.unit], unit=row.unit),
        enabled=row.enabled,
        not_after=row.not_after,
        revoked_at=row.revoked_at,
        created_at=row.created_at,
        created_by=row.created_by,
    )
