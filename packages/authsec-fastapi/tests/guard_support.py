"""What the guard's tests share: an issuer of tokens, a sink that remembers, and an application behind a guard."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from authsec_core._clock import SYSTEM_CLOCK
from authsec_core.testing import SigningKey
from authsec_fastapi import AuditEvent, AuthSecGuard, Principal, TrustedIssuer

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.testclient import TestClient

__all__ = ["AUDIENCE", "ISSUER", "Issuer", "Memory", "bearer", "behind", "caller", "key", "let_in"]

ISSUER = "https://issuer.example/authsec"
AUDIENCE = "authsec-api"
_PATIENCE = 30.0  # seconds


@cache
def key() -> SigningKey:
    """Return the key of all issuers here: made once, because making it is slow."""
    return SigningKey.generate()


@dataclass(frozen=True, kw_only=True)
class Issuer:
    """An issuer whose keys a guard is given, so that nothing is fetched."""

    url: str = ISSUER
    audience: str = AUDIENCE
    typ: str = "JWT"

    def token(self, *scopes: str, **claims: Any) -> str:
        """Return a token that is good for ten minutes; a claim that is given as None is left out."""
        now = int(SYSTEM_CLOCK.wall())
        usual: dict[str, Any] = {
            "iss": self.url,
            "sub": "spiffe://example.org/ns/shop/sa/bot",
            "aud": [self.audience],
            "iat": now,
            "exp": now + 600,
            "jti": "jti-1",
            "client_id": "ce608d83-40df-4bcf-93ae-f0bf0552589c",
            "permissions": list(scopes),
        }
        said = {name: value for name, value in {**usual, **claims}.items() if value is not None}
        return key().sign({"alg": "RS256", "typ": self.typ, "kid": key().kid}, said)

    def trusted(self, **terms: Any) -> TrustedIssuer:
        """Return how a guard trusts it; its tokens are in no status list."""
        usual = {
            "issuer": self.url,
            "audience": self.audience,
            "jwks": {"keys": [key().jwk]},
            "revocation": "when-present",
        }
        return TrustedIssuer(**{**usual, **terms})

    def guard(self, **given: Any) -> AuthSecGuard:
        """Return a guard that trusts it."""
        return AuthSecGuard(issuers=[self.trusted()], **{"sink": Memory(), **given})


@dataclass
class Memory:
    """A sink that keeps what it is given, or fails when it is told to."""

    events: list[AuditEvent] = field(default_factory=list)
    failing: bool = False

    def record(self, event: AuditEvent) -> None:
        if self.failing:
            raise OSError("no space left")
        self.events.append(event)

    async def arecord(self, event: AuditEvent) -> None:
        self.record(event)


def let_in(ask: Callable[[str], int], token: str, pause: Callable[[], object] = lambda: None) -> None:
    """Ask until a token is let in: on a busy machine keys or a list may come late, which is 503 and nothing else."""
    until = SYSTEM_CLOCK.steady() + _PATIENCE
    while (status := ask(token)) != 200:
        assert status == 503
        assert SYSTEM_CLOCK.steady() < until, "it was never let in"
        pause()


def bearer(token: str) -> dict[str, str]:
    """Return the header that carries a token."""
    return {"Authorization": f"Bearer {token}"}


def behind(app: FastAPI) -> TestClient:
    """Return a client of an application."""
    from starlette.testclient import TestClient  # here: with an agent framework there may be no client for it

    return TestClient(app, raise_server_exceptions=True)


async def caller(guard: AuthSecGuard, token: str) -> Principal:
    """Return who presents the token, as a guard's dependency hands it on."""
    from authsec_fastapi.requirement import ANY_CALLER

    return await guard.judge.admit([(b"authorization", f"Bearer {token}".encode())], ANY_CALLER, {})
