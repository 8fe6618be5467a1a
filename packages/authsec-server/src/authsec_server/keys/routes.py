"""The public keys and where to find things, for everyone; and the signing keys, for operators. HTTP only.

RFC 7517 (JWK set), RFC 8414 (authorization server metadata), OpenID Connect Discovery 1.0.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Annotated, Any, Final

from fastapi import APIRouter, Body, Path, Request, Response
from pydantic import BaseModel, Field

from authsec_server import deps, shapes
from authsec_server.keys.rotation import KeyRow, KeyState, Timing, published, ready_at, withdrawn_at
from authsec_server.oauth.assertions import ALGORITHMS
from authsec_server.oauth.requests import CLIENT_CREDENTIALS, TOKEN_EXCHANGE
from authsec_server.problems import responses
from authsec_server.shapes import Paged, Reply, When

__all__ = ["admin", "public"]

# Not application/jwk-set+json: the one that every verifier's HTTP client asks for, and all known issuers answer with.
_MEDIA_TYPE: Final = "application/json"
_METHODS: Final = ("client_secret_basic", "client_secret_post", "private_key_jwt")
_UNCHANGED: Final[dict[int | str, dict[str, Any]]] = {304: {"description": "It is what the `If-None-Match` names."}}

public = APIRouter(tags=["keys and status"])
admin = APIRouter(prefix="/api/v1/signing-keys", tags=["signing keys"], route_class=deps.OperatorRoute)

Kid = Annotated[str, Path(pattern=r"^[A-Za-z0-9_-]{43}$", max_length=43, description="An RFC 7638 thumbprint.")]


class JwkReply(BaseModel):
    """A public RSA key."""

    kty: str
    n: str
    e: str
    use: str
    alg: str
    kid: str


class JwksReply(BaseModel):
    """The keys that may have signed a token that still lives, or will sign the next ones."""

    keys: list[JwkReply]


class MetadataReply(BaseModel):
    """What this issuer can do. A member that is missing here stands for something that it cannot do."""

    issuer: str
    jwks_uri: str
    token_endpoint: str
    introspection_endpoint: str
    revocation_endpoint: str
    token_endpoint_auth_methods_supported: list[str]
    token_endpoint_auth_signing_alg_values_supported: list[str]
    introspection_endpoint_auth_methods_supported: list[str]
    introspection_endpoint_auth_signing_alg_values_supported: list[str]
    revocation_endpoint_auth_methods_supported: list[str]
    revocation_endpoint_auth_signing_alg_values_supported: list[str]
    response_types_supported: list[str]
    grant_types_supported: list[str]
    subject_types_supported: list[str]
    id_token_signing_alg_values_supported: list[str]


class Activation(shapes.Request):
    """How a key is activated."""

    at_once: Annotated[
        bool, Field(description="Even if verifiers may not know it yet, and refuse its tokens until they do.")
    ] = False


class KeyReply(Reply):
    """A signing key, without what signs."""

    kid: str
    state: KeyState
    published: Annotated[bool, Field(description="Whether it is in the JWKS now.")]
    created_at: When
    ready_at: Annotated[When | None, Field(description="When a prepared key may sign, because verifiers know it.")]
    activated_at: When | None
    retired_at: When | None
    withdrawn_at: Annotated[When | None, Field(description="When a retired key leaves the JWKS, or has left it.")]
    revoked_at: When | None


class KeyPage(Reply):
    """A page of signing keys."""

    items: list[KeyReply]
    next: str | None


@public.get(
    "/authsec/.well-known/jwks.json",
    operation_id="jwks",
    summary="Get the public signing keys",
    response_model=JwksReply,
    responses={**responses(), **_UNCHANGED},
)
async def jwks(request: Request) -> Response:
    """Return the keys that tokens are verified with, at most a second old."""
    return _cacheable(request, await deps.authority(request).keys.jwks())


@public.get(
    "/authsec/.well-known/openid-configuration",
    operation_id="openid_configuration",
    summary="Find the issuer's keys (OpenID Connect Discovery)",
    response_model=MetadataReply,
    responses={**responses(), **_UNCHANGED},
)
async def openid_configuration(request: Request) -> Response:
    """Return what this issuer can do."""
    return _cacheable(request, _metadata(request))


@public.get(
    "/authsec/.well-known/oauth-authorization-server",
    operation_id="oauth_metadata",
    summary="Find the issuer's keys (RFC 8414)",
    response_model=MetadataReply,
    responses={**responses(), **_UNCHANGED},
)
async def oauth_metadata(request: Request) -> Response:
    """Return what this issuer can do."""
    return _cacheable(request, _metadata(request))


@public.get(
    "/.well-known/oauth-authorization-server/authsec",
    operation_id="oauth_metadata_at_root",
    summary="Find the issuer's keys (RFC 8414 section 3.1)",
    response_model=MetadataReply,
    responses={**responses(), **_UNCHANGED},
)
async def oauth_metadata_at_root(request: Request) -> Response:
    """Return what this issuer can do, where RFC 8414 looks for an issuer that has a path."""
    return _cacheable(request, _metadata(request))


@admin.get("", operation_id="signing_key_list", summary="List the signing keys", responses=responses(401, 403, 422))
async def list_keys(request: Request, _caller: deps.Reads, page: Paged) -> KeyPage:
    """Return a page of the signing keys, the oldest first."""
    found = await deps.authority(request).keys.page(page)
    return KeyPage(items=[_shown(request, row) for row in found.items], next=found.next)


@admin.post(
    "/prepare",
    operation_id="signing_key_prepare",
    summary="Make a signing key and publish it",
    status_code=201,
    responses=responses(401, 403, 409),
)
async def prepare(request: Request, caller: deps.Administers) -> KeyReply:
    """Make a key that can sign once verifiers know it."""
    return _shown(request, await deps.authority(request).keys.prepare(caller))


@admin.post(
    "/{kid}/activate",
    operation_id="signing_key_activate",
    summary="Sign with a prepared key from now on",
    responses=responses(401, 403, 404, 409, 422),
)
async def activate(
    request: Request, caller: deps.Administers, kid: Kid, body: Annotated[Activation | None, Body()] = None
) -> KeyReply:
    """Let a prepared key sign, and retire the one that did."""
    at_once = body is not None and body.at_once
    return _shown(request, await deps.authority(request).keys.activate(caller, kid, at_once=at_once))


@admin.post(
    "/{kid}/retire",
    operation_id="signing_key_retire",
    summary="Give up a prepared key",
    responses=responses(401, 403, 404, 409, 422),
)
async def retire(request: Request, caller: deps.Administers, kid: Kid) -> KeyReply:
    """Give up a key that does not sign. The active one is retired by activating another."""
    return _shown(request, await deps.authority(request).keys.retire(caller, kid))


@admin.post(
    "/{kid}/revoke",
    operation_id="signing_key_revoke",
    summary="Trust a signing key no more",
    responses=responses(401, 403, 404, 409, 422),
)
async def revoke(request: Request, caller: deps.Administers, kid: Kid) -> KeyReply:
    """Withdraw a key that leaked, and revoke its tokens. If it signs, another one takes its place."""
    return _shown(request, await deps.authority(request).keys.revoke(caller, kid))


def _metadata(request: Request) -> dict[str, Any]:
    settings = deps.authority(request).settings
    methods = [*_METHODS, *(["none"] if settings.dev else [])]
    algorithms = sorted(ALGORITHMS.values())
    described: dict[str, Any] = {"issuer": settings.issuer, "jwks_uri": settings.jwks_url}
    for name, path in (("token", "token"), ("introspection", "introspect"), ("revocation", "revoke")):
        described[f"{name}_endpoint"] = f"{settings.issuer}/oauth2/{path}"
        described[f"{name}_endpoint_auth_methods_supported"] = methods
        described[f"{name}_endpoint_auth_signing_alg_values_supported"] = algorithms
    return {
        **described,
        # Required by the standards, and empty: there is no authorization endpoint.
        "response_types_supported": [],
        "grant_types_supported": [CLIENT_CREDENTIALS, TOKEN_EXCHANGE],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["RS256"],
    }


def _cacheable(request: Request, document: Mapping[str, Any]) -> Response:
    text = json.dumps(document, separators=(",", ":")).encode()
    tag = f'"{hashlib.sha256(text).hexdigest()[:32]}"'
    max_age = deps.authority(request).settings.jwks_max_age
    headers = {"Cache-Control": f"public, max-age={max_age}", "ETag": tag}
    known = [name.strip().removeprefix("W/") for name in request.headers.get("if-none-match", "").split(",")]
    if tag in known or "*" in known:
        return Response(status_code=304, headers=headers)
    return Response(text, headers=headers, media_type=_MEDIA_TYPE)


def _shown(request: Request, row: KeyRow) -> KeyReply:
    authority = deps.authority(request)
    timing: Timing = authority.keys.timing
    return KeyReply(
        kid=row.kid,
        state=row.state,
        published=bool(published([row], authority.clock.wall(), timing)),
        created_at=row.created_at,
        ready_at=ready_at(row, timing) if row.state == "prepared" else None,
        activated_at=row.activated_at,
        retired_at=row.retired_at,
        withdrawn_at=withdrawn_at(row, timing) if row.state == "retired" and row.activated_at is not None else None,
        revoked_at=row.revoked_at,
    )
