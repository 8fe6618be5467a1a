"""The loopback authority's memory: its keys, its agents, which tokens exist and which of them are revoked.

Thread-safe. The lock is held for bookkeeping only, never while signing; HTTP is not known here.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from authsec_core._clock import Clock
from authsec_core.testing._authority_state import Ask, Grant, IssuedToken, LocalAgent, decide
from authsec_core.testing._signing import SigningKey, first_key, pack_statuses
from authsec_core.token import Secret

__all__ = ["FreshToken", "Issuer"]

_STATUS_LIFETIME = 60  # seconds after which a status list is worthless (its exp), however often it may be fetched


@dataclass(frozen=True, slots=True, kw_only=True)
class FreshToken:
    """A token that has just been made, with what it says."""

    grant: Grant
    claims: Mapping[str, object]
    token: str = field(repr=False)


class Issuer:
    """Remember agents and tokens, and sign.

    Args:
        clock: Where `iat` comes from.
        status_ttl: Seconds that a verifier may keep a status list before it asks again.
    """

    def __init__(self, *, clock: Clock, status_ttl: int) -> None:
        self._clock = clock
        self._status_ttl = status_ttl
        self._lock = threading.Lock()  # guards everything below
        self._published = [first_key()]
        self._agents: dict[str, LocalAgent] = {}
        self._ended: set[str] = set()
        self._issued: list[IssuedToken] = []
        self._secrets: list[Secret] = []
        self._entries: dict[str, tuple[int, str]] = {}  # jti -> (index in the status list, client id)
        self._revoked: set[int] = set()

    @property
    def key(self) -> SigningKey:
        """The key that signs now."""
        with self._lock:
            return self._published[-1]

    @property
    def issued(self) -> tuple[IssuedToken, ...]:
        """What `issue` has issued, in order."""
        with self._lock:
            return tuple(self._issued)

    @property
    def secrets(self) -> tuple[str, ...]:
        """The tokens that `issue` has issued, and the keys of agents."""
        with self._lock:
            return tuple(secret() for secret in self._secrets)

    def register(self, agent: LocalAgent) -> None:
        """Know this agent, in the place of what was known under its client id."""
        with self._lock:
            if agent.agent_key is not None:
                self._secrets.append(Secret(agent.agent_key))
            self._agents[agent.client_id] = agent
            self._ended.discard(agent.client_id)

    def rotate(self, *, withdraw_old: bool) -> None:
        """Sign with a new key from now on; keep publishing the old ones, or withdraw them."""
        key = SigningKey.generate()
        with self._lock:
            self._published = [*([] if withdraw_old else self._published), key]

    def jwks(self) -> dict[str, object]:
        """Return the published keys (RFC 7517 section 5)."""
        with self._lock:
            return {"keys": [dict(key.jwk) for key in self._published]}

    def issue(self, ask: Ask, url: str) -> FreshToken:
        """Decide and sign.

        Args:
            ask: The request.
            url: The issuer's.

        Raises:
            RefusedError: Nothing is granted.
        """
        with self._lock:
            grant = decide(ask, self._agents, self._ended)
            claims = self._claims(grant, url)
            self._issued.append(
                IssuedToken(
                    jti=str(claims["jti"]),
                    client_id=grant.agent.client_id,
                    scopes=grant.scopes,
                    ttl=grant.ttl,
                    audience=grant.audience,
                    at=self._clock.wall(),
                )
            )
        token = self.sign(claims)
        with self._lock:
            self._secrets.append(Secret(token))
        return FreshToken(grant=grant, claims=claims, token=token)

    def claims(self, agent: LocalAgent, url: str) -> dict[str, object]:
        """Return the claims of a token for everything that `agent` has; it can be revoked, and is not in `issued`."""
        with self._lock:
            return self._claims(
                Grant(agent=agent, scopes=agent.permissions, audience=agent.audience, ttl=agent.ttl), url
            )

    def sign(
        self,
        claims: Mapping[str, object],
        *,
        header: Mapping[str, object] | None = None,
        omit: Collection[str] = (),
        key: SigningKey | None = None,
    ) -> str:
        """Return the signed token; what `header` names replaces the usual header, and `omit` leaves members out."""
        key = key or self.key
        whole = {"alg": "RS256", "typ": "JWT", "kid": key.kid, **(header or {})}
        return key.sign(
            {name: value for name, value in whole.items() if name not in omit},
            {name: value for name, value in claims.items() if name not in omit},
        )

    def status_list(self, url: str) -> str:
        """Return the signed list of revoked indices."""
        now = int(self._clock.wall())
        with self._lock:
            statuses = pack_statuses(self._revoked, len(self._entries))
        claims = {
            "iss": url,
            "sub": _status_uri(url),
            "iat": now,
            "exp": now + max(_STATUS_LIFETIME, self._status_ttl),
            "ttl": self._status_ttl,
            "status_list": statuses,
        }
        return self.sign(claims, header={"typ": "statuslist+jwt"})

    def revoke(self, jti: str) -> None:
        """Flip the status of one token.

        Raises:
            KeyError: No token has this `jti`.
        """
        with self._lock:
            self._revoked.add(self._entries[jti][0])

    def revoke_client(self, client_id: str) -> None:
        """Flip the status of every token of one client, and end its delegation.

        Raises:
            KeyError: No agent has this client id.
        """
        with self._lock:
            self._ended.add(self._agents[client_id].client_id)
            self._revoked.update(index for index, owner in self._entries.values() if owner == client_id)

    def _claims(self, grant: Grant, url: str) -> dict[str, object]:
        now, jti, agent = int(self._clock.wall()), str(uuid.uuid4()), grant.agent
        index = len(self._entries)
        self._entries[jti] = (index, agent.client_id)
        return {
            "iss": url,
            "sub": agent.spiffe_id,
            "aud": list(grant.audience),
            "exp": now + grant.ttl,
            "iat": now,
            "nbf": now,
            "jti": jti,
            "client_id": agent.client_id,
            "agent_type": "autonomous-workload",
            "tenant_id": agent.tenant_id,
            "permissions": list(grant.scopes),
            "scope": " ".join(grant.scopes),
            "delegated_by": "operator",
            "status": {"status_list": {"idx": index, "uri": _status_uri(url)}},
        }


def _status_uri(url: str) -> str:
    return f"{url}/statuslists/1"
