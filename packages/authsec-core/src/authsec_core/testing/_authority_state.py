"""What the loopback authority decides about one request for a delegation token. Pure: no HTTP, no keys, no clock.

The rules are those of the real authority's one endpoint: who is known, what proof counts, and that the grant is what
was asked, cut down to what was delegated.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from urllib.parse import unquote_plus

from authsec_core.scopes import parse_scopes

__all__ = ["Ask", "DelegationRequest", "Grant", "IssuedToken", "LocalAgent", "RefusedError", "decide"]

_UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalAgent:
    """An agent that the loopback authority knows.

    Attributes:
        permissions: What was delegated to it.
        agent_key: The proof it must bring, or None where the client id alone is enough. Not in the repr.
        ttl: The longest life of its tokens, in seconds.
        audience: Whom its tokens are for when it asks for no audience.
    """

    client_id: str
    permissions: tuple[str, ...]
    agent_key: str | None = field(default=None, repr=False)
    ttl: int = 1800
    spiffe_id: str = ""
    audience: tuple[str, ...] = ("authsec-api",)
    tenant_id: str = "tenant-1"


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedToken:
    """One token that was issued; the token itself is not part of it.

    Attributes:
        ttl: Seconds.
        at: Epoch seconds, by the authority's clock.
    """

    jti: str
    client_id: str
    scopes: tuple[str, ...]
    ttl: int
    audience: tuple[str, ...]
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DelegationRequest:
    """One request that reached the delegation endpoint, whatever became of it.

    Attributes:
        query: The parameters; the last of a repeated one.
        headers: By lower-case name. Of `authorization` only the scheme is kept.
    """

    query: Mapping[str, str]
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """The parts of a request that a decision depends on, each still as text."""

    client_id: str | None = None
    scope: str | None = None
    audience: str | None = None
    ttl: str | None = None
    authorization: str = field(default="", repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Grant:
    """What the token to be issued says."""

    agent: LocalAgent
    scopes: tuple[str, ...]
    audience: tuple[str, ...]
    ttl: int


class RefusedError(Exception):
    """The request gets this status and this explanation instead of a token."""

    def __init__(self, status: int, error: str) -> None:
        super().__init__(error)
        self.status = status
        self.error = error


def decide(ask: Ask, agents: Mapping[str, LocalAgent], ended: Collection[str]) -> Grant:
    """Return what is granted.

    Args:
        ask: The request.
        agents: By client id.
        ended: The client ids whose delegation was revoked.

    Raises:
        RefusedError: Nothing is.
    """
    agent = _known(ask.client_id, agents)
    if not _proven(agent, ask.authorization):
        raise RefusedError(401, "proof missing or wrong")
    if agent.client_id in ended:
        raise RefusedError(410, "the delegation has expired or was revoked")
    scopes = _granted(agent, ask.scope)
    return Grant(agent=agent, scopes=scopes, audience=_audience(agent, ask.audience), ttl=_ttl(agent, ask.ttl))


def _known(client_id: str | None, agents: Mapping[str, LocalAgent]) -> LocalAgent:
    if not client_id:
        raise RefusedError(400, "client_id is required")
    if not _UUID.fullmatch(client_id):
        raise RefusedError(400, "client_id must be a UUID")
    agent = agents.get(client_id.lower())
    if agent is None:
        raise RefusedError(404, "unknown client, or no active delegation")
    return agent


def _proven(agent: LocalAgent, authorization: str) -> bool:
    if agent.agent_key is None:
        return True
    scheme, _, credentials = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return _equal(credentials, agent.agent_key)
    if scheme.lower() == "basic":
        user, key = _basic(credentials)
        return _equal(user.lower(), agent.client_id) and _equal(key, agent.agent_key)
    return False


def _basic(credentials: str) -> tuple[str, str]:
    # RFC 6749 section 2.3.1: both halves are form-urlencoded before they are joined and base64-encoded.
    try:
        user, _, key = base64.b64decode(credentials, validate=True).decode("utf-8").partition(":")
    except (binascii.Error, UnicodeDecodeError):
        return "", ""
    return unquote_plus(user), unquote_plus(key)


def _equal(given: str, expected: str) -> bool:
    return hmac.compare_digest(given.encode(), expected.encode())


def _granted(agent: LocalAgent, scope: str | None) -> tuple[str, ...]:
    try:
        asked = parse_scopes(scope)
    except ValueError as exc:
        raise RefusedError(400, "scope is present but is not a list of scopes") from exc
    granted = tuple(name for name in agent.permissions if asked is None or name in asked)
    if not granted:
        raise RefusedError(403, "nothing delegated covers the request")
    return granted


def _audience(agent: LocalAgent, audience: str | None) -> tuple[str, ...]:
    if audience is None:
        return agent.audience
    if not audience.strip():
        raise RefusedError(400, "audience is present but blank")
    return (audience,)


def _ttl(agent: LocalAgent, ttl: str | None) -> int:
    if ttl is None:
        return agent.ttl
    if not re.fullmatch(r"[0-9]{1,9}", ttl) or int(ttl) == 0:
        raise RefusedError(400, "ttl must be a positive number of whole seconds")
    return min(int(ttl), agent.ttl)
