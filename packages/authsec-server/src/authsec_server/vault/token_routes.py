"""Vault tokens over HTTP: what agents send, and what they are answered. It decides nothing."""

from __future__ import annotations

from typing import Annotated, Final, Literal

from fastapi import APIRouter, Path, Request, Response
from pydantic import Field, WithJsonSchema

from authsec_core.vault_scopes import MOST_SCOPES
from authsec_server import deps, shapes
from authsec_server.errors import InvalidRequestError
from authsec_server.problems import vault_responses
from authsec_server.shapes import Reply, Uuid, When
from authsec_server.vault.access_routes import VaultScopeText
from authsec_server.vault.issuing import Waiting
from authsec_server.vault.policy import AccessTier
from authsec_server.vault.requests import Asks, VaultRoute
from authsec_server.vault.tokens import IssuedToken
from authsec_server.vault.wanted import LONGEST_DESCRIPTION, MOST_ADDRESSES, MOST_USES, wanted_token

__all__ = ["router"]

router = APIRouter(prefix="/v1/tokens", tags=["vault"], route_class=VaultRoute)

TokenId = Annotated[str, Path(pattern=r"^vlt_[0-9a-f]{16}$", max_length=20)]
Span = Annotated[str, WithJsonSchema({"type": "string", "pattern": "^[1-9][0-9]{0,8}[smhd]$", "examples": ["1h"]})]
Address = Annotated[str, Field(max_length=64, examples=["10.0.0.0/8"])]
_ALONE: Final = {"approval_id"}


class NewVaultToken(shapes.Request):
    """A token that is asked for; or the one that was asked for, once it has been approved: then `approval_id` alone."""

    scopes: Annotated[
        list[VaultScopeText] | None,
        Field(
            min_length=1, max_length=MOST_SCOPES, description="What it is to be good for; the agent may do all of it."
        ),
    ] = None
    ttl: Annotated[
        int | Span | None,
        Field(description="How long it is to live: seconds, or a text. By default an hour."),
    ] = None
    max_uses: Annotated[
        int | None, Field(ge=1, le=MOST_USES, description="How often it can be used; without it, as often as it likes.")
    ] = None
    ip_allowlist: Annotated[
        list[Address] | None,
        Field(min_length=1, max_length=MOST_ADDRESSES, description="Addresses and networks that it is good from."),
    ] = None
    description: Annotated[
        str, Field(max_length=LONGEST_DESCRIPTION, description="One line for the audit and for those who approve.")
    ] = ""
    access_tier: Annotated[
        AccessTier,
        Field(description="Ask for consent up to this tier, even if nothing that the scopes reach has it now."),
    ] = "standard"
    approval_id: Annotated[Uuid | None, Field(description="Of a token that was asked for before.")] = None


class VaultTokenReply(Reply):
    """A new token."""

    token: Annotated[str, Field(description="The token itself. It is shown this once, and kept nowhere.")]
    token_id: str
    expires_at: When
    scopes: list[str]
    access_tier: AccessTier
    max_uses: int | None
    requires_approval: Literal[False] = False


class WaitingReply(Reply):
    """No token yet: ask again with the `approval_id`."""

    requires_approval: Literal[True] = True
    approval_id: str
    status: Annotated[
        Literal["pending", "approved"],
        Field(description="`approved`: nothing is missing but the time until `good_from`."),
    ]
    access_tier: AccessTier
    scopes: list[str]
    expires_at: Annotated[When, Field(description="Until when it can be approved, and the token be had.")]
    good_from: Annotated[When | None, Field(description="From when on the token can be had; null before all approved.")]


@router.post(
    "",
    operation_id="vault_token_issue",
    summary="Ask for a token",
    responses=vault_responses(403, 404, 409),
)
async def issue(
    request: Request, response: Response, asker: Asks, body: NewVaultToken
) -> VaultTokenReply | WaitingReply:
    """Give an agent a token for less than it may do itself; or say whose consent it has to wait for."""
    vault_tokens = deps.authority(request).vault_tokens
    response.headers["Cache-Control"] = "no-store"
    if body.approval_id is not None:
        if body.model_fields_set != _ALONE:
            raise InvalidRequestError("approval_id stands alone: the token is the one that was asked for")
        return _shown(await vault_tokens.redeem(asker[0], body.approval_id))
    wanted = wanted_token(
        body.scopes or (),
        max_ttl=vault_tokens.limits.max_ttl,
        ttl=body.ttl,
        max_uses=body.max_uses,
        ip_allowlist=body.ip_allowlist,
        description=body.description,
        tier=body.access_tier,
    )
    return _shown(await vault_tokens.issue(asker[0], wanted))


@router.delete(
    "/{token_id}",
    operation_id="vault_token_revoke",
    summary="Take a token back",
    status_code=204,
    responses=vault_responses(403, 404),
)
async def revoke(request: Request, asker: Asks, token_id: TokenId) -> Response:
    """Take back a token of the agent's, or the very token that is shown. It is not good for anything from now on."""
    await deps.authority(request).vault_tokens.revoke(asker[0], token_id)
    return Response(status_code=204)


def _shown(answer: IssuedToken | Waiting) -> VaultTokenReply | WaitingReply:
    if isinstance(answer, IssuedToken):
        return VaultTokenReply(
            token=answer.credential.text(),
            token_id=answer.credential.id,
            expires_at=answer.expires_at,
            scopes=[str(scope) for scope in answer.wanted.scopes],
            access_tier=answer.tier,
            max_uses=answer.wanted.max_uses,
        )
    approval = answer.approval
    return WaitingReply(
        approval_id=approval.approval_id,
        status="pending" if answer.good_from is None else "approved",
        access_tier=approval.tier,
        scopes=[str(scope) for scope in approval.wanted.scopes],
        expires_at=approval.expires_at,
        good_from=answer.good_from,
    )
