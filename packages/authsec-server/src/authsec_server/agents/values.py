"""What a client and its keys are to those who manage them. Values only; no secret is in them.

What a client may have is its `Standing`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from authsec_server.agents.standing import ClientState

__all__ = ["Client", "Key", "client_of", "key_of"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """A registered agent.

    Attributes:
        selectors: What identifies the workload on its platform, such as `k8s:ns`.
        created_at: Epoch seconds.
        created_by: The name of the operator who onboarded it.
        ended_at: When it was revoked; epoch seconds.
    """

    client_id: str
    name: str
    agent_type: str
    platform: str
    selectors: Mapping[str, str]
    spiffe_id: str
    state: ClientState
    created_at: float
    created_by: str
    ended_at: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """An agent key, without what proves it. Instants are epoch seconds.

    Attributes:
        jwk: The public half of a key that the agent keeps; None of one that the authority made.
    """

    key_id: str
    client_id: str
    label: str
    jwk: Mapping[str, str] | None
    created_at: float
    not_after: float | None
    revoked_at: float | None


def client_of(row: Any) -> Client:
    """Return the client of a row of `clients`."""
    return Client(
        client_id=row.client_id,
        name=row.name,
        agent_type=row.agent_type,
        platform=row.platform,
        selectors=dict(row.selectors),
        spiffe_id=row.spiffe_id,
        state=row.state,
        created_at=row.created_at,
        created_by=row.created_by,
        ended_at=row.ended_at,
    )


def key_of(row: Any) -> Key:
    """Return the key of a row of `client_keys`."""
    return Key(
        key_id=row.key_id,
        client_id=row.client_id,
        label=row.label,
        jwk=row.jwk,
        created_at=row.created_at,
        not_after=row.not_after,
        revoked_at=row.revoked_at,
    )
