"""What a request to the vault says of who makes it, and which path it means: HTTP only.

Every route for agents is a `VaultRoute`, and takes `Asks` or calls `vault_request`.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Annotated, Any, Final
from urllib.parse import unquote

from fastapi import Depends, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from authsec_core.vault_scopes import check_namespace
from authsec_server import deps
from authsec_server.credentials import parse
from authsec_server.errors import InvalidRequestError, RefusedError
from authsec_server.vault.questions import VaultRequest

if TYPE_CHECKING:
    from authsec_server.vault.asking import Owner

__all__ = ["SECRETS", "Asks", "VaultRoute", "secret_path", "vault_request"]

SECRETS: Final = "/v1/secrets/"
_BEARER: Final = HTTPBearer(auto_error=False, scheme_name="vault", description="An agent key, or a vault token.")


async def vault_request(request: Request) -> tuple[VaultRequest, Owner | None]:
    """Return who asks, unproven as yet, and what is known of the credential.

    Raises:
        RefusedError: There is no credential that could be one of the vault's.
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
    presented, owner = await inner.vault.presented(credential, address)
    return (
        VaultRequest(presented=presented, request_id=deps.request_id(request), claimed=deps.claimed(request)),
        owner,
    )


async def _asks(
    request: Request, _shown: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)] = None
) -> VaultRequest:
    return (await vault_request(request))[0]


Asks = Annotated[VaultRequest, Depends(_asks)]


class VaultRoute(APIRoute):
    """A route of the vault: what is wrong with a request is told to those alone who have proven who they are."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return what handles a request. Called by FastAPI, once."""
        handle = super().get_route_handler()

        async def tell_who_may_know(request: Request) -> Response:
            try:
                return await handle(request)
            except (RequestValidationError, InvalidRequestError):
                asked, _ = await vault_request(request)
                await deps.authority(request).vault.prove(asked)
                raise

        return tell_who_may_know


def secret_path(request: Request) -> tuple[str, bool]:
    """Return what lies behind `/v1/secrets/` in the address, and whether it was one segment there.

    It is taken from the address as it was sent: clients write a namespace with slashes, or percent-encoded as one
    segment, and both mean the same. Whatever is still encoded then is not a path.

    Raises:
        InvalidRequestError: It is no path.
    """
    raw = request.scope["raw_path"].partition(b"?")[0].decode("latin-1").removeprefix(SECRETS)
    try:
        return check_namespace(unquote(raw, errors="strict")), "/" not in raw
    except ValueError as exc:
        reason = "the path is not UTF-8" if isinstance(exc, UnicodeError) else str(exc)
    raise InvalidRequestError(reason, field="path")
