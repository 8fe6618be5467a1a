"""Registered issuers over HTTP: what is sent, what is answered, and which role it takes. It decides nothing."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Path, Request
from pydantic import Field

from authsec_server import deps, shapes
from authsec_server.issuers.identity import IssuerKind
from authsec_server.issuers.values import IssuerChanges, NewIssuer
from authsec_server.problems import responses
from authsec_server.shapes import Paged, Reply, When

__all__ = ["router"]

router = APIRouter(prefix="/api/v1/issuers", tags=["issuers"], route_class=deps.OperatorRoute)

IssuerId = Annotated[str, Path(pattern=r"^wli_[0-9a-f]{16}$", max_length=20)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9]([a-z0-9._-]{0,61}[a-z0-9])?$", examples=["production"])]
Address = Annotated[str, Field(min_length=1, max_length=512)]
Audience = Annotated[str, Field(min_length=1, max_length=256)]
Jwks = Annotated[dict[str, Any], Field(examples=[{"keys": []}])]
Claims = Annotated[list[Annotated[str, Field(min_length=1, max_length=100)]], Field(max_length=16)]
_URL: Final = "Where it publishes its keys; or give them as jwks."
_KEYS: Final = "Its keys, as a JWK set or a SPIFFE bundle, in the place of a URL."
_CLAIMS: Final = "Of the kind oidc: the claims that become selectors, besides iss and sub."
_DEFAULT: Final = "Of the kind kubernetes: agents that do not say which cluster they run in belong to it."


class IssuerToRegister(shapes.Request):
    """An issuer that is to be trusted."""

    name: Name
    kind: IssuerKind
    issuer: Annotated[Address, Field(description="The `iss` of its tokens, or spiffe://<trust domain>.")]
    audience: Annotated[Audience | None, Field(description="Null: this authority's own issuer URL.")] = None
    jwks_url: Annotated[Address | None, Field(description=_URL)] = None
    jwks: Annotated[Jwks | None, Field(description=_KEYS)] = None
    claims: Annotated[Claims, Field(default_factory=list, description=_CLAIMS)]
    is_default: Annotated[bool, Field(description=_DEFAULT)] = False


class IssuerToChange(shapes.Request):
    """What is to be different about an issuer. What is left out, or null, stays as it is."""

    audience: Audience | None = None
    jwks_url: Annotated[Address | None, Field(description=_URL)] = None
    jwks: Annotated[Jwks | None, Field(description=_KEYS)] = None
    claims: Annotated[Claims | None, Field(description=_CLAIMS)] = None
    is_default: Annotated[bool | None, Field(description=_DEFAULT)] = None
    enabled: Annotated[bool | None, Field(description="Whether its tokens count.")] = None


class IssuerReply(Reply):
    """A registered issuer."""

    issuer_id: str
    name: str
    kind: IssuerKind
    issuer: str
    audience: str
    jwks_url: str | None
    jwks: dict[str, Any] | None
    claims: list[str]
    is_default: bool
    enabled: bool
    revision: Annotated[int, Field(description="Counts its changes.")]
    created_at: When
    created_by: str
    revoked_at: When | None


class IssuerPage(Reply):
    """A page of registered issuers."""

    items: list[IssuerReply]
    next: str | None


@router.post(
    "",
    operation_id="issuer_register",
    summary="Trust an issuer",
    status_code=201,
    responses=responses(401, 403, 409, 422),
)
async def register(request: Request, caller: deps.Administers, body: IssuerToRegister) -> IssuerReply:
    """Let tokens of an issuer prove who a workload is; or, of the kind users, for whom an agent acts."""
    wanted = NewIssuer(**{**dict(body), "claims": tuple(body.claims)})
    return IssuerReply.model_validate(await deps.authority(request).issuers.register(caller, wanted))


@router.get("", operation_id="issuer_list", summary="List the issuers", responses=responses(401, 403, 422))
async def list_issuers(request: Request, _caller: deps.Reads, page: Paged) -> IssuerPage:
    """Return a page of the issuers, the oldest first; also of those that were revoked."""
    return IssuerPage.model_validate(await deps.authority(request).issuers.list(page))


@router.get(
    "/{issuer_id}", operation_id="issuer_get", summary="Look up an issuer", responses=responses(401, 403, 404, 422)
)
async def get(request: Request, _caller: deps.Reads, issuer_id: IssuerId) -> IssuerReply:
    """Return an issuer."""
    return IssuerReply.model_validate(await deps.authority(request).issuers.get(issuer_id))


@router.patch(
    "/{issuer_id}",
    operation_id="issuer_change",
    summary="Change an issuer, or stop trusting it for a while",
    responses=responses(401, 403, 404, 409, 422),
)
async def change(request: Request, caller: deps.Administers, issuer_id: IssuerId, body: IssuerToChange) -> IssuerReply:
    """Change an issuer. Live tokens that rest on it are revoked, unless all that changes is that it is enabled."""
    changes = IssuerChanges(**{**dict(body), "claims": None if body.claims is None else tuple(body.claims)})
    return IssuerReply.model_validate(await deps.authority(request).issuers.change(caller, issuer_id, changes))


@router.post(
    "/{issuer_id}/revoke",
    operation_id="issuer_revoke",
    summary="Trust an issuer never again",
    responses=responses(401, 403, 404, 409, 422),
)
async def revoke(request: Request, caller: deps.Administers, issuer_id: IssuerId) -> IssuerReply:
    """Revoke an issuer and the live tokens that rest on it. Whoever is not the first to do it gets 409."""
    return IssuerReply.model_validate(await deps.authority(request).issuers.revoke(caller, issuer_id))
