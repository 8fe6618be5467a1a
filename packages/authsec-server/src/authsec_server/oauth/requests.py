"""What does a token request ask for? From a form to the values that are decided about.

RFC 6749 section 4.4 (client credentials), RFC 8707 (resource), RFC 8693 (token exchange).
"""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from fastapi import Request

from authsec_core.errors import TokenRejectedError, VerificationUnavailableError
from authsec_core.scopes import parse_scopes
from authsec_server import deps
from authsec_server.errors import RefusedError
from authsec_server.oauth.authentication import Introduced, introduced
from authsec_server.oauth.form import Form
from authsec_server.tokens.claims import TokenKind
from authsec_server.tokens.issue import ClientRequest, ExchangeRequest, TokenRequest
from authsec_server.tokens.policy import LONGEST_AUDIENCE, Ask
from authsec_server.tokens.subjects import BadSubject, Subject, UnverifiedSubject, UserSubject

__all__ = ["ACCESS_TOKEN", "CLIENT_CREDENTIALS", "JWT", "TOKEN_EXCHANGE", "client_request", "token_request"]

CLIENT_CREDENTIALS: Final = "client_credentials"
TOKEN_EXCHANGE: Final = "urn:ietf:params:oauth:grant-type:token-exchange"  # noqa: S105 -- a name, not a password
ACCESS_TOKEN: Final = "urn:ietf:params:oauth:token-type:access_token"  # noqa: S105
JWT: Final = "urn:ietf:params:oauth:token-type:jwt"
_ID_TOKEN: Final = "urn:ietf:params:oauth:token-type:id_token"  # noqa: S105
_KINDS: Final[dict[str, TokenKind]] = {ACCESS_TOKEN: "at+jwt", JWT: "JWT"}


async def client_request(request: Request, form: Form) -> ClientRequest:
    """Return who asks for something that is no token."""
    who = await introduced(request, form)
    return ClientRequest(
        client_id=who.client_id,
        proof=who.proof,
        request_id=deps.request_id(request),
        address=deps.peer(request),
        claimed=deps.claimed(request),
    )


async def token_request(request: Request, form: Form) -> TokenRequest:
    """Return what is asked for, and by whom.

    Raises:
        RefusedError: It cannot be read, or is not supported.
        VerificationUnavailableError, StorageUnavailableError: Keys that are needed cannot be had.
    """
    grant = form.need("grant_type")
    if grant not in (CLIENT_CREDENTIALS, TOKEN_EXCHANGE):
        raise RefusedError("grant_unsupported", "grant_type is not one that this server knows")
    ask = Ask(scopes=_scopes(form.get("scope")), audience=_audience(form))
    who = await introduced(request, form)
    if grant == CLIENT_CREDENTIALS:
        return _request(request, who, ask)
    return await _exchange(request, form, who, ask)


def _request(request: Request, who: Introduced, ask: Ask) -> TokenRequest:
    return TokenRequest(
        client_id=who.client_id,
        proof=who.proof,
        request_id=deps.request_id(request),
        address=deps.peer(request),
        claimed=deps.claimed(request),
        ask=ask,
        kind="at+jwt",
    )


async def _exchange(request: Request, form: Form, who: Introduced, ask: Ask) -> ExchangeRequest:
    if form.get("actor_token") is not None or form.get("actor_token_type") is not None:
        raise RefusedError("request_malformed", "actor_token is not supported: the client that asks is the actor")
    kind = _KINDS.get(form.get("requested_token_type") or ACCESS_TOKEN)
    if kind is None:
        raise RefusedError("request_malformed", "requested_token_type is not one that this server issues")
    plain = _request(request, who, ask)
    return ExchangeRequest(
        client_id=plain.client_id,
        proof=plain.proof,
        request_id=plain.request_id,
        address=plain.address,
        claimed=plain.claimed,
        ask=ask,
        kind=kind,
        subject=await _subject(request, form),
    )


async def _subject(request: Request, form: Form) -> Subject:
    text, kind = form.need("subject_token"), form.need("subject_token_type")
    if kind not in (ACCESS_TOKEN, JWT, _ID_TOKEN):
        raise RefusedError("request_malformed", "subject_token_type is not one that this server takes")
    inner = deps.authority(request)
    try:
        if kind != _ID_TOKEN and inner.own_tokens.is_ours(text):
            return await inner.own_tokens.subject(text)
        return UserSubject(user=await inner.foreign.user(text))
    except TokenRejectedError as exc:
        return BadSubject(exc.message)
    except VerificationUnavailableError as exc:
        return UnverifiedSubject(exc.message)


def _scopes(text: str | None) -> frozenset[str] | None:
    try:
        return parse_scopes(text)
    except ValueError:
        raise RefusedError("request_malformed", "scope is not a list of scopes") from None


def _audience(form: Form) -> str | None:
    """Return the one API that the token is to be for: by its name, or by its URI."""
    named = {*form.all("audience"), *form.all("resource")}
    for resource in form.all("resource"):
        if not _is_resource(resource):
            raise RefusedError("target_malformed", "resource must be an absolute URI without a fragment")
    if len(named) > 1:
        raise RefusedError("target_malformed", "ask for one audience or resource: a token is for one API")
    (audience,) = named or (None,)
    if audience is not None and len(audience) > LONGEST_AUDIENCE:
        raise RefusedError("target_malformed", "the audience or resource is too long")
    return audience


def _is_resource(text: str) -> bool:
    try:
        parts = urlsplit(text)
    except ValueError:
        return False
    return bool(parts.scheme) and "#" not in text
