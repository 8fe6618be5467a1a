"""A small API that lets nobody in without a token for it: what `TokenVerifier` is for, in one function."""

from __future__ import annotations

from authsec_core import TokenRejectedError, TokenVerifier, VerificationUnavailableError
from authsec_core.testing import LoopbackServer, Reply, Request

__all__ = ["protected_api"]

# path -> the scope that it needs, and what it answers
ROUTES: dict[str, tuple[str, object]] = {
    "/secure-vault/metrics": ("read:metrics", {"vault_status": "sealed", "active_agents": 17, "region": "eu-north"}),
    "/secure-vault/records": ("read:records", [{"id": "rec-7", "owner": "Lin Muster", "reviewed": True}]),
    "/finance/payroll": ("read:payroll", {"month": "2026-10", "total": 481_516}),
}


def protected_api(verifier: TokenVerifier) -> LoopbackServer:
    """Return the API; it listens on a free loopback port once it is entered with `with`."""

    def answer(request: Request) -> Reply:
        if request.path not in ROUTES:
            return Reply.of_json({"error": "not found"}, status=404)
        needed, data = ROUTES[request.path]
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            return _refusal(401, "Bearer")
        try:
            verified = verifier.verify(token)
        except TokenRejectedError:
            return _refusal(401, 'Bearer error="invalid_token"')  # RFC 6750 section 3.1
        except VerificationUnavailableError:
            return Reply.of_json({"error": "try again later"}, status=503)
        if not verified.covers(needed):
            return _refusal(403, f'Bearer error="insufficient_scope", scope="{needed}"')
        return Reply.of_json(data)

    return LoopbackServer(answer)


def _refusal(status: int, challenge: str) -> Reply:
    return Reply.of_json({"error": "refused"}, status=status, headers={"WWW-Authenticate": challenge})
