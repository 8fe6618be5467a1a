"""A requirement in the form that FastAPI takes: a dependency that lets a request or a WebSocket in, or refuses it.

No `from __future__ import annotations`: FastAPI reads the annotations of what is made inside a function here.
"""

from collections.abc import Awaitable, Callable

from fastapi import HTTPException, Security, WebSocketException
from starlette.requests import HTTPConnection
from starlette.websockets import WebSocket, WebSocketState

from authsec_core.errors import AuthSecError
from authsec_fastapi._about import about_request
from authsec_fastapi._admitted import admit
from authsec_fastapi._refusing import POLICY_VIOLATION, can_answer
from authsec_fastapi._scheme import BearerScheme
from authsec_fastapi.judging import Judge
from authsec_fastapi.principal import Principal
from authsec_fastapi.refusals import refusal_of
from authsec_fastapi.requirement import Requirement

__all__ = ["dependency"]


def dependency(
    judge: Judge, requirement: Requirement, *, scheme: BearerScheme
) -> Callable[[HTTPConnection], Awaitable[Principal]]:
    """Return a dependency that hands on the caller of a request that fulfils the requirement."""

    async def admitted(
        connection: HTTPConnection, _shown: None = Security(scheme, scopes=sorted(requirement.scopes))
    ) -> Principal:
        try:
            return await admit(judge, connection.scope, requirement, about_request(connection.scope))
        except AuthSecError as error:
            raise _refused(connection, error, scheme.scheme_name) from error

    return admitted


def _refused(connection: HTTPConnection, error: AuthSecError, realm: str) -> Exception:
    if isinstance(connection, WebSocket):
        waiting = connection.application_state is WebSocketState.CONNECTING
        if not (waiting and can_answer(connection.scope)):
            return WebSocketException(POLICY_VIOLATION)
    refusal = refusal_of(error, realm=realm)
    return HTTPException(refusal.status, refusal.detail, dict(refusal.headers))
