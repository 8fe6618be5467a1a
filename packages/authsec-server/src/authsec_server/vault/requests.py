"""What a request to the vault says of who makes it, and which path it means: HTTP only.

Every route for agents is a `VaultRoute` and takes `Asks`, or does all of its work in `asking`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Annotated, Any, Final, cast
from urllib.parse import unquote

from fastapi import Depends, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from authsec_core.vault_scopes import check_namespace
from authsec_server import deps
from authsec_server.credentials import parse
from authsec_server.errors import InvalidRequestError, RefusedError
from authsec_server.vault.asking import Asker
from authsec_server.vault.questions import VaultRequest

__all__ = ["SECRETS", "Asks", "VaultRoute", "asking", "secret_path", "vault_request"]

Work = Callable[[Request, Asker], Awaitable[Response]]

SECRETS: Final = "/v1/secrets/"
_BEARER: Final = HTTPBearer(auto_error=False, scheme_name="vault", description="An agent key, or a vault token.")


async def vault_request(request: Request) -> Asker:
    """Return who asks, and what is known of the credential. Nothing of a body was read by then.

    Raises:
        RefusedError: There is no credential of the vault's, or it was never issued.
        RateLimitedError: This address, or whoever owns the credential, has to wait.
        StorageUnavailableError: The database cannot be reached.
    """
    inner, address = deps.authority(request), deps.peer(request)
    with deps.within_limits(request):
        given = request.headers.getlist("authorization")
        scheme, _, text = given[0].partition(" ") if len(given) == 1 else ("", "", "")
        credential = parse(text.strip()) if scheme.lower() == "bearer" else None
        if credential is None or credential.kind == "operator-token":
            raise RefusedError("proof_missing", "bring an agent key or a vault token: Authorization: Bearer <it>")
    presented, owner = await inner.vault.presented(credential, address, deps.request_id(request))
    return (
        VaultRequest(presented=presented, request_id=deps.request_id(request), claimed=deps.claimed(request)),
        owner,
    )


async def asking(request: Request, work: Work) -> Response:
    """Find out who asks, and let `work` take the request apart and answer it.

    Where it turns out not to be as it has to be, it is first seen that the credential still counts: whoever has one
    that has ended is told that, and not what is wrong with the request.

    Raises:
        RefusedError, RateLimitedError, StorageUnavailableError: As from `vault_request`, or as the question has it.
    """
    asker = await vault_request(request)
    try:
        return await work(request, asker)
    except (InvalidRequestError, RequestValidationError, HTTPException):
        await deps.authority(request).vault.prove(asker[0])
        raise


class VaultRoute(APIRoute):
    """A route of the vault: it looks at who asks before it looks at what was sent. FastAPI parses a body first."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return what handles a request. Called by FastAPI, once."""
        handle = super().get_route_handler()

        async def ask_first(request: Request) -> Response:
            return await asking(request, handle_for)

        async def handle_for(request: Request, asker: Asker) -> Response:
            request.state.asker = asker
            return await handle(request)

        return ask_first


def _asker(request: Request, _shown: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)] = None) -> Asker:
    return cast("Asker", request.state.asker)


Asks = Annotated[Asker, Depends(_asker)]
"""Who asks, of a handler on a `VaultRoute`."""


def secret_path(request: Request, *, before: str = "") -> tuple[str, bool]:
    """Return what lies behind `/v1/secrets/` in the address, and whether it was one segment there.

    It is taken from the address as it was sent: clients write a namespace with slashes, or percent-encoded as one
    segment, and both mean the same. Whatever is still encoded then is not a path.

    Args:
        before: What follows the path in the address.

    Raises:
        InvalidRequestError: It is no path.
    """
    raw = request.scope["raw_path"].partition(b"?")[0].decode("latin-1").removeprefix(SECRETS).removesuffix(before)
    try:
        return check_namespace(unquote(raw, errors="strict")), "/" not in raw
    except ValueError as exc:
        reason = "the path is not UTF-8" if isinstance(exc, UnicodeError) else str(exc)
    raise InvalidRequestError(reason, field="path")
