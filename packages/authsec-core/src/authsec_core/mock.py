"""MOCK mode: an authority and sample data inside this process, so that a whole conversation runs offline.

Its tokens are real RS256, signed with a key that only this process has, and their issuer cannot exist: a verifier that
was not told to accept MOCK tokens refuses them. It is never consulted in LIVE mode.
"""

from __future__ import annotations

import json
import math
import threading
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from authsec_core._clock import SYSTEM_CLOCK, Clock
from authsec_core._fork import renew_after_fork
from authsec_core.endpoints import EndpointPolicy
from authsec_core.errors import DelegationRefusedError, DownstreamDeniedError, DownstreamError, ScopeNotGrantedError
from authsec_core.scopes import format_scopes, parse_scopes
from authsec_core.source import TokenRequest
from authsec_core.token import MOCK_ISSUER, DelegationToken, Secret

if TYPE_CHECKING:
    from authsec_core._signing import SigningKey

__all__ = ["MOCK_CLIENT_ID", "MOCK_LIFETIME", "MockAuthority", "MockSource"]

MOCK_CLIENT_ID = "00000000-0000-4000-8000-000000000000"
MOCK_LIFETIME = 1800.0  # seconds
_SUBJECT = "spiffe://mock.authsec.invalid/ns/default/sa/ai-agent"
_AUDIENCE = "authsec-api"


@dataclass(frozen=True, slots=True)
class _Sample:
    scopes: frozenset[str]
    text: str  # JSON, so that what a caller does to an answer does not change the next one


class MockAuthority:
    """Mints MOCK tokens and answers for the endpoints registered with it. Thread-safe; the key is the process's own.

    Args:
        permissions: The scopes that it grants, as an iterable or separated by spaces; without it, whatever is asked.
            With it, denials can be tested offline.
    """

    def __init__(self, permissions: str | Iterable[str] | None = None, *, clock: Clock = SYSTEM_CLOCK) -> None:
        self._permissions = parse_scopes(permissions)
        self._clock = clock
        self._samples = dict(_SAMPLES)

    def register(self, endpoint: str, data: object, *, scope: str) -> None:
        """Let `endpoint` answer with `data`, anything that JSON can hold, to tokens that carry `scope`.

        Raises:
            ValueError: The endpoint is not a plain relative path, the scope is blank, or the data has a NaN in it.
            TypeError: The data is something that JSON cannot hold.
        """
        sample = _Sample(parse_scopes(scope) or frozenset(), json.dumps(data, allow_nan=False))
        # One rebinding, so that no lock is needed to read.
        self._samples = self._samples | {_checked(endpoint): sample}

    def policy(self) -> EndpointPolicy:
        """Return a policy that permits exactly what is registered."""
        return EndpointPolicy(MOCK_ISSUER, scopes={path: sample.scopes for path, sample in self._samples.items()})

    def mint(
        self,
        scopes: frozenset[str] | None = None,
        *,
        ttl: float | None = None,
        client_id: str | None = None,
        audience: str | None = None,
    ) -> DelegationToken:
        """Return a new MOCK token. About 0.2 ms: one RSA signature; the first call of a process makes the key.

        Args:
            scopes: What is asked for; None is everything that this authority grants.
            ttl: Whole seconds, rounded down and at least 1; at most 1800.

        Raises:
            ValueError: The ttl is not positive.
            DelegationRefusedError: None of the scopes is among the `permissions` that it was made with.
            ScopeNotGrantedError: Some of them are not.
        """
        if ttl is not None and not ttl > 0:
            raise ValueError("ttl is not a positive number of seconds")
        granted = self._grant(scopes)
        sent_at, now = self._clock.steady(), self._clock.wall()
        lifetime = max(1, math.floor(min(ttl or MOCK_LIFETIME, MOCK_LIFETIME)))
        claims = _claims(granted, now=math.floor(now), lifetime=lifetime, audience=audience or _AUDIENCE)
        claims["client_id"] = client_id or MOCK_CLIENT_ID
        return DelegationToken(
            secret=Secret(_sign(claims)),
            mode="mock",
            scopes=granted,
            issued_at=now,
            expires_at=now + lifetime,
            client_id=claims["client_id"],
            jti=claims["jti"],
            spiffe_id=_SUBJECT,
            audience=tuple(claims["aud"]),
            sent_at=sent_at,
        )

    def answer(self, path: str, token: DelegationToken) -> object:
        """Return the data registered for `path`, as the protected API would with this token.

        Raises:
            DownstreamDeniedError: The token does not carry the endpoint's scope.
            DownstreamError: Nothing is registered for `path`.
        """
        sample = self._samples.get(path)
        if sample is None:
            raise DownstreamError(
                "MOCK mode has no data for this endpoint: add some with MockAuthority.register.",
                status=404,
            )
        if not sample.scopes <= token.scopes:
            raise DownstreamDeniedError(f"This endpoint needs scope {format_scopes(sample.scopes)!r}.", status=403)
        return json.loads(sample.text)

    def jwks(self) -> dict[str, Any]:
        """Return the public key as a JWK Set (RFC 7517), for a `TokenVerifier` in a test."""
        return {"keys": [dict(_key().jwk)]}

    def _grant(self, scopes: frozenset[str] | None) -> frozenset[str]:
        permitted = self._permissions
        if scopes is None:
            return permitted or frozenset().union(*(sample.scopes for sample in self._samples.values()))
        if permitted is None or scopes <= permitted:
            return scopes
        missing = scopes - permitted
        if missing == scopes:
            problem = f"MOCK: nothing of scope {format_scopes(scopes)!r} is granted."
            raise DelegationRefusedError(problem, reason="not_delegated", status=403)
        raise ScopeNotGrantedError(f"MOCK: {format_scopes(missing)} is not granted.", missing=missing)


class MockSource:
    """Mints a new MOCK token each time, for both kinds of caller; nothing it does takes long enough to await."""

    def __init__(self, authority: MockAuthority, *, client_id: str | None, audience: str | None) -> None:
        self._authority, self._client_id, self._audience = authority, client_id, audience

    def token(self, request: TokenRequest, *, force: bool = False) -> DelegationToken:
        """Mint."""
        return self._authority.mint(request.scopes, ttl=request.ttl, client_id=self._client_id, audience=self._audience)

    async def atoken(self, request: TokenRequest, *, force: bool = False) -> DelegationToken:
        """Mint."""
        return self.token(request)

    def forget(self, token: DelegationToken) -> None:
        """Hold nothing, so there is nothing to forget."""


def _checked(endpoint: str) -> str:
    policy = EndpointPolicy(MOCK_ISSUER, allowed=[endpoint])
    return policy.grant(endpoint.rstrip("/")).path


def _claims(scopes: frozenset[str], *, now: int, lifetime: int, audience: str) -> dict[str, Any]:
    return {
        "iss": MOCK_ISSUER,
        "sub": _SUBJECT,
        "aud": [audience],
        "iat": now,
        "nbf": now,
        "exp": now + lifetime,
        "jti": str(uuid.uuid4()),
        "agent_type": "mock-agent",
        "permissions": sorted(scopes),
        "scope": format_scopes(scopes),
        "mock": True,
    }


def _sign(claims: Mapping[str, Any]) -> str:
    import jwt  # here, because it loads cryptography, which LIVE mode does without

    key = _key()
    return jwt.encode(dict(claims), key.private, algorithm="RS256", headers={"kid": key.kid})


class _KeyRing:
    """The process's one MOCK key, made when it is first needed: that takes some 30 ms."""

    def __init__(self) -> None:
        self._key: SigningKey | None = None
        self._lock = threading.Lock()  # two threads must not make two keys
        renew_after_fork(self)

    def key(self) -> SigningKey:
        with self._lock:
            if self._key is None:
                from authsec_core._signing import SigningKey

                self._key = SigningKey.generate()
            return self._key

    def after_fork(self) -> None:
        self._lock = threading.Lock()


_key = _KeyRing().key


_SAMPLES: dict[str, _Sample] = {
    path: _Sample(frozenset({scope}), json.dumps(data))
    for path, scope, data in (
        (
            "secure-vault/metrics",
            "read:metrics",
            {
                "active_agents": 42,
                "tokens_issued_today": 1318,
                "requests_denied_today": 7,
                "median_token_lifetime_seconds": 900,
                "vault_status": "sealed",
            },
        ),
        (
            "secure-vault/records",
            "read:records",
            [
                {"id": "rec-1001", "owner": "Ada Example", "classification": "internal", "reviewed": True},
                {"id": "rec-1002", "owner": "Grace Sample", "classification": "restricted", "reviewed": False},
            ],
        ),
    )
}
