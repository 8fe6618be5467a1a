"""The endpoint that agents call, the status lists that verifiers read, and what operators do with tokens: HTTP only."""

from __future__ import annotations

import json
import re
from typing import Annotated, Final

from fastapi import APIRouter, Request, Response
from pydantic import Field

from authsec_core.scopes import parse_scopes
from authsec_core.wire import DELEGATION_TOKEN_PATH, format_time
from authsec_server import deps, shapes
from authsec_server.agents.presented import named_client, presented
from authsec_server.agents.proofs import Proof
from authsec_server.errors import InvalidRequestError, NotFoundError, RefusedError
from authsec_server.problems import responses, sdk_responses
from authsec_server.tokens.issue import TokenRequest
from authsec_server.tokens.policy import LONGEST_AUDIENCE, Ask, Check, Explanation, Grant, Refusal
from authsec_server.tokens.service import TokenRecord

__all__ = ["admin", "public", "sdk"]

_NO_STORE: Final = {"Cache-Control": "no-store"}

sdk = APIRouter(tags=["tokens"])
public = APIRouter(tags=["keys and status"])
admin = APIRouter(prefix="/api/v1/tokens", tags=["tokens"], route_class=deps.OperatorRoute)


class DelegationTokenReply(shapes.Reply):
    """A delegation token and what it says. Times are RFC 3339, durations seconds."""

    token: str
    token_type: str
    jti: str
    client_id: str
    spiffe_id: str
    tenant_id: str
    permissions: list[str]
    scope: str
    audience: list[str]
    expires_at: str
    ttl_seconds: int
    status: str
    issued_at: str
    updated_at: str


@sdk.get(
    DELEGATION_TOKEN_PATH,
    operation_id="delegation_token",
    summary="Get a delegation token",
    response_model=DelegationTokenReply,
    responses=sdk_responses(400, 401, 403, 404, 410, 429, 503),
    openapi_extra={
        "parameters": [
            {
                "name": name,
                "in": "query",
                "required": False,
                "description": description,
                "schema": {"type": "string"},
            }
            for name, description in (
                ("client_id", "The agent's client id, a UUID; the header X-Client-ID serves instead."),
                ("scope", "Permissions, separated by spaces; without it, all that is delegated."),
                ("audience", "The API that the token is for."),
                ("ttl", "The longest life wanted, in whole seconds."),
            )
        ],
        "security": [{"agent key": []}],
    },
)
async def delegation_token(request: Request) -> Response:
    """Return a token for the agent that proves who it is, with what was asked and is delegated."""
    with deps.within_limits(request):
        asked = await _token_request(request)
    signed = await deps.authority(request).tokens.issue(asked)
    return Response(_as_json(signed.reply()), media_type="application/json", headers=_NO_STORE)


@public.get(
    "/authsec/statuslists/{number}",
    operation_id="status_list",
    summary="Get a signed status list",
    response_class=Response,
    responses={
        200: {"content": {"application/statuslist+jwt": {"schema": {"type": "string"}}}, "description": "The list."},
        **responses(404, 503),
    },
    openapi_extra={
        "parameters": [{"name": "number", "in": "path", "required": True, "schema": {"type": "string"}}],
    },
)
async def status_list(request: Request) -> Response:
    """Return the list of what was taken back, signed half a second ago at most."""
    number = request.path_params["number"]  # no parameter of the function, or OpenAPI would promise a 422
    if not re.fullmatch(r"0|[1-9][0-9]{0,11}", number):
        raise NotFoundError("there is no such status list")
    text = await deps.authority(request).status_lists.signed(int(number))
    return Response(text, media_type="application/statuslist+jwt", headers={"Cache-Control": "no-cache"})


class Token(shapes.Reply):
    """What is kept of a token: never the token."""

    jti: str
    client_id: str
    key_id: str | None = Field(
        description="The agent key that it was asked for with, or the issuer that vouched for the agent; else null."
    )
    delegations: list[str]
    scope: str
    audience: str
    kid: str
    issued_at: str
    expires_at: str
    revoked_at: str | None

    @classmethod
    def of(cls, record: TokenRecord) -> Token:
        """Return the record with its times as text."""
        return cls(
            jti=record.jti,
            client_id=record.client_id,
            key_id=record.key_id,
            delegations=list(record.delegations),
            scope=record.scope,
            audience=record.audience,
            kid=record.kid,
            issued_at=format_time(record.issued_at),
            expires_at=format_time(record.expires_at),
            revoked_at=None if record.revoked_at is None else format_time(record.revoked_at),
        )


class DryRun(shapes.Request):
    """What an agent would ask for."""

    client_id: shapes.Uuid
    scope: Annotated[str | None, Field(max_length=4096, description="Without it, all that is delegated.")] = None
    audience: Annotated[str | None, Field(max_length=LONGEST_AUDIENCE)] = None
    ttl: Annotated[int | None, Field(ge=1, le=10**9, description="Seconds.")] = None


class DryRunDelegation(shapes.Reply):
    """What one delegation contributes, or the first check that it fails."""

    delegation_id: str
    role: str
    failed: Check | None
    scopes: list[str]
    missing: list[str]
    ttl: int = Field(description="The longest life that it allows now, in seconds.")
    message: str


class DryRunReply(shapes.Reply):
    """What the agent would get, and why."""

    granted: bool
    code: str | None = Field(description="Why there would be no token; null if there would be one.")
    message: str | None
    scopes: list[str]
    missing: list[str]
    audience: str
    ttl: int | None = Field(description="Seconds that the token would live.")
    delegations: list[DryRunDelegation]

    @classmethod
    def of(cls, found: Explanation) -> DryRunReply:
        """Return the explanation in the words of the API."""
        grant = found.verdict if isinstance(found.verdict, Grant) else None
        refusal = found.verdict if isinstance(found.verdict, Refusal) else None
        return cls(
            granted=grant is not None,
            code=refusal.code if refusal else None,
            message=refusal.message if refusal else None,
            scopes=sorted(grant.scopes) if grant else [],
            missing=sorted(found.missing),
            audience=found.audience,
            ttl=grant.ttl if grant else None,
            delegations=[
                DryRunDelegation(
                    delegation_id=line.delegation_id,
                    role=line.role,
                    failed=line.failed,
                    scopes=sorted(line.scopes),
                    missing=sorted(line.missing),
                    ttl=line.ttl,
                    message=line.message,
                )
                for line in found.lines
            ],
        )


@admin.post(
    "/dry-run",
    operation_id="token_dry_run",
    summary="Ask what an agent would get, and why not more",
    response_model=DryRunReply,
    responses=responses(401, 403, 404, 422, 503),
)
async def dry_run(request: Request, _caller: deps.Reads, body: DryRun) -> DryRunReply:
    """Decide as for a real request, and explain. Nothing is issued."""
    try:
        scopes = parse_scopes(body.scope)
    except ValueError as exc:
        raise InvalidRequestError(str(exc), field="scope") from exc
    ask = Ask(scopes=scopes, audience=body.audience, ttl=body.ttl)
    return DryRunReply.of(await deps.authority(request).token_records.explain(body.client_id, ask))


@admin.get(
    "/{jti}",
    operation_id="token_get",
    summary="Look up a token",
    response_model=Token,
    responses=responses(401, 403, 404, 422, 503),
)
async def get(request: Request, _caller: deps.Reads, jti: shapes.Uuid) -> Token:
    """Return what is kept of a token, until a day after its end."""
    return Token.of(await deps.authority(request).token_records.get(jti))


@admin.post(
    "/{jti}/revoke",
    operation_id="token_revoke",
    summary="Take a token back",
    status_code=204,
    response_class=Response,
    responses=responses(401, 403, 404, 409, 422, 503),
)
async def revoke(request: Request, caller: deps.Manages, jti: shapes.Uuid) -> Response:
    """Revoke one token: its status list says so within a second."""
    await deps.authority(request).token_records.revoke(caller, jti)
    return Response(status_code=204)


_as_json: Final = json.JSONEncoder(separators=(",", ":")).encode  # made once, not for each token


async def _token_request(request: Request) -> TokenRequest:
    found: dict[str, str] = {}
    for name, value in deps.query(request):
        if name not in ("client_id", "scope", "audience", "ttl"):
            continue  # other servers' parameters: this contract ignores what it does not know
        if name in found:
            raise RefusedError("request_malformed", f"{name} is given more than once")
        found[name] = value
    client_id = named_client(found.get("client_id"), *request.headers.getlist("x-client-id"))
    given = request.headers.getlist("authorization")
    return TokenRequest(
        client_id=client_id,
        ask=Ask(
            scopes=_scopes(found.get("scope")), audience=_audience(found.get("audience")), ttl=_ttl(found.get("ttl"))
        ),
        proof=await _proof(request, given, client_id),
        request_id=deps.request_id(request),
        address=deps.peer(request),
        claimed=deps.claimed(request),
    )


def _scopes(text: str | None) -> frozenset[str] | None:
    try:
        return parse_scopes(text)
    except ValueError:
        raise RefusedError("request_malformed", "scope is present but is not a list of scopes") from None


def _audience(text: str | None) -> str | None:
    if text is not None and (not text.strip() or len(text) > LONGEST_AUDIENCE):
        raise RefusedError("request_malformed", "audience is present but blank or too long")
    return text


def _ttl(text: str | None) -> int | None:
    if text is None:
        return None
    if not re.fullmatch(r"[0-9]{1,9}", text, re.ASCII) or int(text) == 0:
        raise RefusedError("request_malformed", "ttl must be a positive number of whole seconds")
    return int(text)


async def _proof(request: Request, authorizations: list[str], client_id: str) -> Proof:
    """Return what came along to prove that it is this client."""
    inner = deps.authority(request)
    return await presented(
        authorizations, client_id, bare_ids=inner.settings.dev, pepper=inner.pepper, foreign=inner.foreign
    )
