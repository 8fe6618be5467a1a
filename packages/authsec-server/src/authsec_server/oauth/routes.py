"""The standard endpoints over HTTP: what is sent, what is answered. They decide nothing."""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel, ConfigDict
from starlette.responses import JSONResponse

from authsec_server import deps
from authsec_server.oauth.form import read_form
from authsec_server.oauth.requests import ACCESS_TOKEN, JWT, client_request, token_request
from authsec_server.problems import oauth_responses
from authsec_server.tokens.issue import ExchangeRequest

__all__ = ["router"]

_NO_STORE: Final = {"Cache-Control": "no-store", "Pragma": "no-cache"}  # RFC 6749 section 5.1
_CLIENT: Final = {
    "client_id": "The client, where neither Basic nor an assertion of its own names it.",
    "client_secret": "An agent key; Basic serves instead.",
    "client_assertion_type": "`urn:ietf:params:oauth:client-assertion-type:jwt-bearer`, or `…:jwt-spiffe`.",
    "client_assertion": "A JWT that the client signed, or that its platform issued to it.",
}
_SECURITY: Final[list[dict[str, list[str]]]] = [{"agent key": []}, {"client credentials": []}, {}]

router = APIRouter(prefix="/authsec/oauth2", tags=["OAuth"])


class TokenReply(BaseModel):
    """A token: RFC 6749 section 5.1, RFC 8693 section 2.2.1."""

    access_token: str
    token_type: str
    expires_in: int
    scope: str
    issued_token_type: str | None = None


class Introspection(BaseModel):
    """What a token says, if it is good: RFC 7662 section 2.2."""

    model_config = ConfigDict(extra="allow")

    active: bool
    scope: str | None = None
    client_id: str | None = None
    token_type: str | None = None
    exp: int | None = None
    iat: int | None = None
    nbf: int | None = None
    sub: str | None = None
    aud: list[str] | None = None
    iss: str | None = None
    jti: str | None = None


def _takes(required: tuple[str, ...], **parameters: str) -> dict[str, Any]:
    """Describe a form: FastAPI would read it by itself, and be less strict."""
    properties = {
        name: {"type": "string", "description": description} for name, description in (parameters | _CLIENT).items()
    }
    schema = {"type": "object", "properties": properties, "required": list(required)}
    content = {"application/x-www-form-urlencoded": {"schema": schema}}
    return {"requestBody": {"required": True, "content": content}, "security": _SECURITY}


@router.post(
    "/token",
    operation_id="oauth_token",
    summary="Get a token, or exchange one",
    response_model=TokenReply,
    responses=oauth_responses(),
    openapi_extra=_takes(
        ("grant_type",),
        grant_type="`client_credentials` or `urn:ietf:params:oauth:grant-type:token-exchange`.",
        scope="Permissions, separated by spaces; without it, all that is delegated.",
        resource="The API that the token is for, as a URI (RFC 8707).",
        audience="The API that the token is for, by its name.",
        subject_token="Exchange: the token of whom the client acts for.",  # noqa: S106 -- a description
        subject_token_type="Exchange: `urn:ietf:params:oauth:token-type:access_token`, `…:jwt` or `…:id_token`.",  # noqa: S106
        requested_token_type="Exchange: `…:access_token` (RFC 9068) or `…:jwt` (a delegation token).",  # noqa: S106
    ),
)
async def token(request: Request) -> Response:
    """Return a token for the client, or one with which it acts for somebody else."""
    with deps.within_limits(request):
        asked = await token_request(request, await read_form(request))
    signed = await deps.authority(request).tokens.issue(asked)
    reply = signed.oauth_reply()
    if isinstance(asked, ExchangeRequest):
        reply["issued_token_type"] = ACCESS_TOKEN if asked.kind == "at+jwt" else JWT
    return JSONResponse(reply, headers=_NO_STORE)


@router.post(
    "/introspect",
    operation_id="oauth_introspect",
    summary="Ask what a token says and whether it is good",
    response_model=Introspection,
    responses=oauth_responses(),
    openapi_extra=_takes(("token",), token="The token.", token_type_hint="Not needed."),  # noqa: S106
)
async def introspect(request: Request) -> Response:
    """Return what the token says if it is good now, and no word about it if it is not."""
    inner = deps.authority(request)
    with deps.within_limits(request):
        form = await read_form(request)
        asked, text = await client_request(request, form), form.need("token")
    await inner.tokens.authenticate(asked, "token.introspect")
    return JSONResponse(await inner.own_tokens.introspect(text), headers=_NO_STORE)


@router.post(
    "/revoke",
    operation_id="oauth_revoke",
    summary="Take a token of one's own back",
    response_class=Response,
    responses={200: {"description": "It is not good, now or ever."}, **oauth_responses()},
    openapi_extra=_takes(("token",), token="The token.", token_type_hint="Not needed."),  # noqa: S106
)
async def revoke(request: Request) -> Response:
    """Revoke a token that this client got, and what it was exchanged for; the status list says so within a second."""
    inner = deps.authority(request)
    with deps.within_limits(request):
        form = await read_form(request)
        asked, text = await client_request(request, form), form.need("token")
    client = await inner.tokens.authenticate(asked, "token.revoke")
    await inner.own_tokens.revoke(client, text, request_id=asked.request_id, address=asked.address)
    return Response(status_code=200, headers=_NO_STORE)
