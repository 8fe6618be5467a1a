"""The loopback authority's three endpoints: from a request to a reply, and nothing about sockets or failures.

The delegation endpoint answers as the real one does: the same members, statuses and headers.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timezone
from typing import cast

from authsec_core.testing._authority_state import Ask, DelegationRequest, RefusedError
from authsec_core.testing._faults import Where
from authsec_core.testing._http import Reply, Request
from authsec_core.testing._issuer import FreshToken, Issuer

__all__ = ["PATHS", "PREFIX", "log_entry", "place", "respond"]

PREFIX = "/authsec"
PATHS: Mapping[Where, str] = {
    "delegation": f"{PREFIX}/uflow/sdk/delegation-token",
    "jwks": f"{PREFIX}/.well-known/jwks.json",
    "statuslist": f"{PREFIX}/statuslists/1",
}
_PLACES: Mapping[str, Where] = {path: where for where, path in PATHS.items()}
_PARAMETERS = ("client_id", "scope", "audience", "ttl")
_NO_STORE = {"Cache-Control": "no-store"}


def place(request: Request) -> Where | Reply:
    """Return which endpoint a request is for, or the refusal of one that is for none."""
    where = _PLACES.get(request.path)
    if where is None:
        return Reply.of_json({"error": "no such endpoint"}, status=404)
    if request.method != "GET":
        return Reply.of_json({"error": "only GET is allowed"}, status=405, headers={"Allow": "GET"})
    return where


def respond(where: Where, request: Request, issuer: Issuer, url: str) -> Reply:
    """Return the good answer, or the refusal that the request deserves.

    Args:
        where: From `place`.
        request: The whole request.
        issuer: Decides and signs.
        url: The issuer's.
    """
    if where == "jwks":
        return Reply.of_json(issuer.jwks(), headers={"Cache-Control": "max-age=60"})
    if where == "statuslist":
        headers = {"Content-Type": "application/statuslist+jwt", **_NO_STORE}
        return Reply(headers=headers, body=issuer.status_list(url).encode())
    try:
        return Reply.of_json(_body(issuer.issue(_ask(request), url)), headers=_NO_STORE)
    except RefusedError as refusal:
        challenge = {"WWW-Authenticate": "Bearer"} if refusal.status == 401 else {}
        return Reply.of_json({"error": refusal.error}, status=refusal.status, headers={**_NO_STORE, **challenge})


def log_entry(request: Request) -> DelegationRequest:
    """Return what may be kept of a request: everything but the credentials of `authorization`."""
    headers = dict(request.headers)
    if "authorization" in headers:
        headers["authorization"] = headers["authorization"].partition(" ")[0]
    return DelegationRequest(query=dict(request.query), headers=headers)


def _ask(request: Request) -> Ask:
    found: dict[str, str | None] = {}
    for name in _PARAMETERS:
        values = request.parameters(name)
        if len(values) > 1:
            raise RefusedError(400, f"{name} is given more than once")
        found[name] = values[0] if values else None
    return Ask(
        client_id=found["client_id"] or request.headers.get("x-client-id"),
        scope=found["scope"],
        audience=found["audience"],
        ttl=found["ttl"],
        authorization=request.headers.get("authorization", ""),
    )


def _body(fresh: FreshToken) -> dict[str, object]:
    grant, claims = fresh.grant, fresh.claims
    issued_at = _instant(claims["iat"])
    return {
        "token": fresh.token,
        "token_type": "Bearer",
        "jti": claims["jti"],
        "client_id": grant.agent.client_id,
        "spiffe_id": grant.agent.spiffe_id,
        "tenant_id": grant.agent.tenant_id,
        "permissions": list(grant.scopes),
        "scope": " ".join(grant.scopes),
        "audience": list(grant.audience),
        "expires_at": _instant(claims["exp"]),
        "ttl_seconds": grant.ttl,
        "status": "active",
        "issued_at": issued_at,
        "updated_at": issued_at,
    }


def _instant(seconds: object) -> str:
    return datetime.fromtimestamp(cast("int", seconds), timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
