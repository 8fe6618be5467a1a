"""What an audit entry says: who did or asked what, when it was decided and how. Values only.

What was proven and what was merely said stand apart: `actor`, `client_id` and `subject` are proven, `claimed` holds the
agent's own words.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from authsec_server.operators.access import Access

__all__ = ["ANONYMOUS", "Actor", "ActorKind", "Caller", "Decision", "Entry"]

Decision = Literal["allow", "deny"]
ActorKind = Literal["agent", "operator", "system", "anonymous"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """Who acts, as far as it was proven."""

    kind: ActorKind
    id: str = ""
    name: str = ""


ANONYMOUS = Actor(kind="anonymous")


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who makes a request, and how to find it again in the logs.

    Attributes:
        address: The peer's address, as far as the server knows it.
        token_id: The operator's token that let them in; None where it was no token.
        needs: What their role had to include.
    """

    actor: Actor
    request_id: str
    address: str | None = None
    token_id: str | None = None
    needs: Access | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One decision or change, before it has its place in the chain.

    Attributes:
        action: What was asked for, such as `token.issue` or `client.revoke`.
        client_id: The agent that it is about.
        subject: Its SPIFFE ID.
        jti: The token that it is about.
        asked: The scopes that were asked for; as text, in the words of who asked.
        scope: The scopes that were granted.
        reason: A stable code for why it was denied.
        details: Whatever else matters, as JSON values; never a secret.
        claimed: The agent's own words: proven by nothing.
    """

    action: str
    decision: Decision
    caller: Caller
    client_id: str | None = None
    subject: str | None = None
    jti: str | None = None
    asked: str | None = None
    scope: str | None = None
    reason: str | None = None
    details: Mapping[str, Any] = field(default_factory=dict)
    claimed: Mapping[str, str] = field(default_factory=dict)
