"""A requirement in the form that FastAPI takes: a dependency that lets a request or a WebSocket in, or refuses it.

No `from __future__ import annotations`: FastAPI reads the annotations of what is made inside a function here.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from fastapi import HTTPException, Security
from starlette.requests import HTTPConnection

from authsec_core.errors import AuthSecError
from authsec_fastapi._scheme import BearerScheme
from authsec_fastapi.judging import Judge
from authsec_fastapi.principal import Principal
from authsec_fastapi.recording import About
from authsec_fastapi.refusals import refusal_of
from authsec_fastapi.requirement import Requirement

__all__ = ["about_request", "dependency"]


def dependency(
    judge: Judge, requirement: Requirement, *, realm: str
) -> Callable[[HTTPConnection], Awaitable[Principal]]:
    """Return a dependency that hands on the caller of a request that fulfils the requirement."""
    scheme = BearerScheme(name=realm, description="A token of an issuer that this API trusts.")

    async def admitted(
        connection: HTTPConnection, _shown: None = Security(scheme, scopes=sorted(requirement.scopes))
    ) -> Principal:
        try:
            return await judge.admit(connection.scope["headers"], requirement, about_request(connection.scope))
        except AuthSecError as error:
            refusal = refusal_of(error, realm=realm)
            raise HTTPException(refusal.status, refusal.detail, dict(refusal.headers)) from error

    return admitted


def about_request(scope: Mapping[str, Any]) -> About:
    """Return what goes on record of a request: the template of its route, and no path, which may name people."""
    method = "WEBSOCKET" if scope["type"] == "websocket" else scope["method"]
    return About(method=method, route=getattr(scope.get("route"), "path", None))
