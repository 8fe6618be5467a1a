"""What an error looks like over HTTP: the one place where errors meet status codes and bodies.

The endpoint that agents call answers `{"error", "details"?}`, as its clients expect, the OAuth endpoints what RFC 6749
section 5.2 says, and the vault `{"error": {"code", "message"}}`; everything else answers RFC 9457 problems. No answer
quotes what was sent: it may hold a key that stands in the wrong place.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from typing import Any, Final, cast

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.responses import JSONResponse, Response
from starlette.types import Scope

from authsec_core.errors import AuthSecError, ConfigurationError, VerificationUnavailableError
from authsec_server.error_bodies import FieldProblem, OAuthError, Problem, SdkError, VaultError, VaultErrorBody
from authsec_server.errors import (
    ConflictError,
    DamagedAuditError,
    ForbiddenError,
    InvalidRequestError,
    NotFoundError,
    RateLimitedError,
    RefusedError,
    StorageUnavailableError,
    UnauthenticatedError,
    UnsafeSettingsError,
    UnsealError,
    WrongMasterKeyError,
)
from authsec_server.refusals import OAUTH_ERRORS, REFUSALS, VAULT_ERRORS

__all__ = [
    "ERRORS",
    "FieldProblem",
    "OAuthError",
    "Problem",
    "Row",
    "SdkError",
    "Trouble",
    "VaultError",
    "answer",
    "install",
    "oauth_responses",
    "refusal",
    "responses",
    "sdk_responses",
    "unexpected",
    "vault_responses",
]

SDK_PREFIX: Final = "/authsec/uflow/sdk/"
OAUTH_PREFIX: Final = "/authsec/oauth2/"
VAULT_PREFIX: Final = "/v1/"
_MEDIA_TYPE: Final = "application/problem+json"
# RFC 9110's, which Python took over in 3.13.
_PHRASES: Final = {413: "Content Too Large", 422: "Unprocessable Content"}
_MOST_ERRORS: Final = 20
_SILENT: Final = "something went wrong here: the operator finds it in the log by the request id"
_MEND: Final = "the request is not as it has to be"

_log = logging.getLogger("authsec.server")


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """How errors of one class are answered.

    Attributes:
        status: Of a problem.
        sdk_status: At the endpoint that agents call; None is the same one.
        says: Whether the error's own message is shown.
        retry_after: Seconds after which to try again.
    """

    status: int
    sdk_status: int | None = None
    says: bool = True
    retry_after: int | None = None


ERRORS: Final[Mapping[type[AuthSecError], Row]] = {
    AuthSecError: Row(status=500, says=False),
    UnauthenticatedError: Row(status=401),
    ForbiddenError: Row(status=403),
    InvalidRequestError: Row(status=422, sdk_status=400),
    NotFoundError: Row(status=404),
    ConflictError: Row(status=409),
    RefusedError: Row(status=403),
    RateLimitedError: Row(status=429),
    VerificationUnavailableError: Row(status=503, retry_after=1),
    StorageUnavailableError: Row(status=503, retry_after=1),
    DamagedAuditError: Row(status=500),
    ConfigurationError: Row(status=500, says=False),
    UnsafeSettingsError: Row(status=500, says=False),
    UnsealError: Row(status=500, says=False),
    WrongMasterKeyError: Row(status=503, says=False, retry_after=1),  # another server may have it, or this one soon
}
_VAULT_BY_STATUS: Final = {
    401: "UNAUTHORIZED",
    403: "SCOPE_DENIED",
    404: "NOT_FOUND",
    409: "CONFLICT",
    410: "TOKEN_EXHAUSTED",
    429: "RATE_LIMITED",
}
# Of what is no refusal; the standard knows no more than these.
_OAUTH_BY_STATUS: Final = {429: "temporarily_unavailable", 500: "server_error", 503: "temporarily_unavailable"}
_NOT_DESCRIPTIVE: Final = re.compile(r"[^\x20-\x21\x23-\x5b\x5d-\x7e]")  # in an error_description
# Of what the framework refuses by itself. Its 400 is a body that cannot be parsed.
_HTTP: Final[Mapping[int, tuple[int, str, str]]] = {
    400: (422, "invalid_request", _MEND),
    404: (404, "not_found", "there is nothing at this address"),
    405: (405, "method_not_allowed", "this address does not take that method"),
}
# pydantic's messages that hold the rule and nothing of the input.
_TELLING: Final = re.compile(
    r"missing|extra_forbidden|literal_error|enum|json_invalid|value_error|too_(short|long)|\w+_type|(int|float|bool)_parsing"
    r"|string_(too_short|too_long|pattern_mismatch)|(greater|less)_than(_equal)?|multiple_of|finite_number|int_from_float"
)
_PLAIN_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,39}")
_NOTHING: Final = re.compile(r"(?!)")
_NAMED: Final = 2  # steps that have names of ours: where a member was sent, and the member; below are the sender's own
_PLAIN_WORD: Final = re.compile(r"[a-z_]{1,40}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """What went wrong, before it takes one of the shapes.

    Attributes:
        member: The member of the request that has to be mended, if it is one.
        errors: What is wrong with each member, where there may be several.
    """

    status: int
    code: str
    detail: str
    member: str | None = None
    errors: tuple[FieldProblem, ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict)


def answer(scope: Scope, trouble: Trouble) -> Response:
    """Return the response to a request, in the shape that its path calls for."""
    headers = {"Cache-Control": "no-store", **trouble.headers}
    if _is_oauth(scope):
        return _oauth_answer(trouble, headers)
    if _is_vault(scope):
        return _vault_answer(trouble, headers)
    if trouble.status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = "Bearer"
    if _is_sdk(scope):
        shown = SdkError(error=trouble.detail, details=_details(trouble))
        return JSONResponse(shown.model_dump(exclude_none=True), trouble.status, headers)
    problem = Problem(
        title=_phrase(trouble.status),
        status=trouble.status,
        detail=trouble.detail,
        code=trouble.code,
        request_id=str(scope.get("state", {}).get("request_id", "")),
        field=trouble.member,
        errors=list(trouble.errors) or None,
    )
    return JSONResponse(problem.model_dump(exclude_none=True), trouble.status, headers, _MEDIA_TYPE)


def _oauth_answer(trouble: Trouble, headers: dict[str, str]) -> Response:
    usual = _OAUTH_BY_STATUS.get(trouble.status, "invalid_request")
    error = cast("Mapping[str, str]", OAUTH_ERRORS).get(trouble.code, usual)
    status = trouble.status
    if trouble.code in OAUTH_ERRORS:
        status = HTTPStatus.UNAUTHORIZED if error == "invalid_client" else HTTPStatus.BAD_REQUEST
    if status == HTTPStatus.UNAUTHORIZED:
        headers["WWW-Authenticate"] = 'Basic realm="authsec"'
    shown = OAuthError(error=error, error_description=_NOT_DESCRIPTIVE.sub("'", trouble.detail))
    return JSONResponse(shown.model_dump(exclude_none=True), status, headers)


def _vault_answer(trouble: Trouble, headers: dict[str, str]) -> Response:
    status = HTTPStatus.BAD_REQUEST if trouble.status == HTTPStatus.UNPROCESSABLE_ENTITY else trouble.status
    usual = "INTERNAL" if status >= HTTPStatus.INTERNAL_SERVER_ERROR else "VALIDATION_ERROR"
    code = cast("Mapping[str, str]", VAULT_ERRORS).get(trouble.code) or _VAULT_BY_STATUS.get(status, usual)
    if code == "UNAUTHORIZED":
        status = HTTPStatus.UNAUTHORIZED
        headers["WWW-Authenticate"] = "Bearer"
    message = trouble.detail
    if trouble.errors:
        message = f"{message}: {'; '.join(f'{error.field}: {error.message}' for error in trouble.errors)}"
    shown = VaultError(error=VaultErrorBody(code=code, message=message))
    return JSONResponse(shown.model_dump(), status, headers)


def install(app: FastAPI) -> None:
    """Let the app answer every error that a route raises on purpose; the rest is for the middleware's `unexpected`."""
    app.add_exception_handler(AuthSecError, _domain_error)
    app.add_exception_handler(RequestValidationError, _invalid_request)
    app.add_exception_handler(HTTPException, _http_error)
    describe = app.openapi

    def openapi() -> dict[str, Any]:
        schema = describe()
        _correct_media_types(schema)
        _correct_statuses(schema)
        return schema

    app.openapi = openapi  # type: ignore[method-assign]  # https://fastapi.tiangolo.com/how-to/extending-openapi/


def refusal(scope: Scope, exc: AuthSecError) -> Response:
    """Return the response to a request that ended with this error of ours, and log what is our own fault."""
    row = next(ERRORS[kind] for kind in type(exc).__mro__ if kind in ERRORS)
    if not row.says:
        return unexpected(scope, exc, row)
    status = row.sdk_status if row.sdk_status is not None and _is_sdk(scope) else row.status
    trouble = Trouble(status=status, code=exc.code, detail=exc.message, headers=_retry(row.retry_after))
    if isinstance(exc, RefusedError):
        trouble = replace(trouble, status=REFUSALS[exc.reason], code=exc.reason)
    elif isinstance(exc, InvalidRequestError):
        trouble = replace(trouble, member=exc.field)
    elif isinstance(exc, RateLimitedError):
        trouble = replace(trouble, headers=_retry(exc.retry_after))
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        _log.error("%s: %s (%s)", exc.code, exc.message, type(exc.__cause__).__name__)
    return answer(scope, trouble)


def unexpected(scope: Scope, exc: Exception, row: Row = ERRORS[AuthSecError]) -> Response:
    """Log an error that nobody expected, and return a response that says nothing about it."""
    _log.error("unexpected %s", type(exc).__name__, exc_info=exc)
    headers = _retry(row.retry_after)
    return answer(scope, Trouble(status=row.status, code="internal_error", detail=_SILENT, headers=headers))


def responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return what a route of the admin API declares about its errors, with those that any request may meet.

    Where a proof can be refused, one can also be told to wait.
    """
    waits = {429} if HTTPStatus.UNAUTHORIZED in statuses else set[int]()
    return _declared(Problem, {*statuses, *waits, 408, 413, 421, 500, 503})


def sdk_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return what the endpoint that agents call declares about its errors."""
    return _declared(SdkError, {*statuses, 413, 421, 500, 503})


def oauth_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return what an OAuth endpoint declares about its errors."""
    return _declared(OAuthError, {*statuses, 400, 401, 408, 413, 421, 429, 500, 503})


def vault_responses(*statuses: int, public: bool = False) -> dict[int | str, dict[str, Any]]:
    """Return what a route of the vault declares about its errors.

    Args:
        public: It asks for no proof.
    """
    proven = set[int]() if public else {400, 401, 429}
    return _declared(VaultError, {*statuses, *proven, 408, 413, 421, 500, 503})


def _declared(model: type[BaseModel], statuses: Iterable[int]) -> dict[int | str, dict[str, Any]]:
    return {status: {"model": model, "description": _phrase(status)} for status in sorted(statuses)}


async def _domain_error(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, AuthSecError)
    return refusal(request.scope, exc)


async def _invalid_request(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, RequestValidationError)
    errors = tuple(_field_problem(error) for error in exc.errors()[:_MOST_ERRORS])
    status = 400 if _is_sdk(request.scope) else 422
    only = errors[0].field if len(errors) == 1 else None
    return answer(
        request.scope, Trouble(status=status, code="invalid_request", detail=_MEND, member=only, errors=errors)
    )


async def _http_error(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, HTTPException)
    unnamed = (exc.status_code, "http_error", _phrase(exc.status_code).lower())
    status, code, detail = _HTTP.get(exc.status_code, unnamed)
    if status == HTTPStatus.UNPROCESSABLE_ENTITY and _is_sdk(request.scope):
        status = 400
    return answer(request.scope, Trouble(status=status, code=code, detail=detail, headers=exc.headers or {}))


def _field_problem(error: Mapping[str, Any]) -> FieldProblem:
    told = _TELLING.fullmatch(str(error["type"])) is not None
    message = str(error["msg"]).removeprefix("Value error, ") if told else "is not valid"
    plain = _PLAIN_WORD if str(error["type"]) == "extra_forbidden" else _PLAIN_NAME
    steps = (_step(step, plain if depth < _NAMED else _NOTHING) for depth, step in enumerate(error["loc"]))
    return FieldProblem(field=".".join(steps), message=message)


def _step(step: object, plain: re.Pattern[str]) -> str:
    """Name a step on the way to a member. An unknown member is called what it was sent as, which may be a secret."""
    return str(step) if isinstance(step, int) or plain.fullmatch(str(step)) else "?"


def _details(trouble: Trouble) -> str | None:
    if trouble.errors:
        return "; ".join(f"{error.field}: {error.message}" for error in trouble.errors)
    return trouble.code


def _retry(seconds: int | None) -> dict[str, str]:
    return {} if seconds is None else {"Retry-After": str(seconds)}


def _is_sdk(scope: Scope) -> bool:
    return f"{scope.get('path', '')}/".startswith(SDK_PREFIX)


def _is_oauth(scope: Scope) -> bool:
    return str(scope.get("path", "")).startswith(OAUTH_PREFIX)


def _is_vault(scope: Scope) -> bool:
    return f"{scope.get('path', '')}/".startswith(VAULT_PREFIX)


def _phrase(status: int) -> str:
    try:
        return _PHRASES.get(status) or HTTPStatus(status).phrase
    except ValueError:
        return "Error"


def _correct_media_types(schema: Mapping[str, Any]) -> None:
    """Declare problems under their media type: FastAPI knows only that of the route."""
    for path in schema.get("paths", {}).values():
        for operation in path.values():
            for declared in operation.get("responses", {}).values():
                content = declared.get("content", {})
                reference = content.get("application/json", {}).get("schema", {}).get("$ref", "")
                if reference.endswith(f"/{Problem.__name__}"):
                    content[_MEDIA_TYPE] = content.pop("application/json")


def _correct_statuses(schema: Mapping[str, Any]) -> None:
    """Take back what FastAPI promises for every body: the vault answers 400 where it would answer 422."""
    for name, path in schema.get("paths", {}).items():
        for operation in path.values():
            if name.startswith(VAULT_PREFIX):
                operation.get("responses", {}).pop("422", None)
