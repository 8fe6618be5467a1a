"""What each error looks like over HTTP: every class has a status, and no answer quotes the request."""

from __future__ import annotations

import logging
from typing import Annotated, Any, Literal, get_args

import httpx
import pytest
from fastapi import FastAPI, Query
from pydantic import BaseModel, ConfigDict, Field, field_validator
from starlette.exceptions import HTTPException

from authsec_core.errors import AuthSecError, ConfigurationError, VerificationUnavailableError
from authsec_core.testing import assert_no_secret
from authsec_server import errors, middleware, problems
from authsec_server.errors import RefusalCode, RefusedError
from authsec_server.refusals import REFUSALS
from authsec_server.settings import ServerSettings

SDK = "/authsec/uflow/sdk/delegation-token"
ADMIN = "/api/v1/clients"
SECRET = "agk_0123456789abcdef.canary-q2w3e4r5t6y7u8i9o0p1a2s3d4f5"


def raised() -> list[AuthSecError]:
    """One error of every class that the server may raise."""
    classes = {value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, AuthSecError)}
    special: dict[type, AuthSecError] = {
        RefusedError: RefusedError("not_covered", "nothing delegated covers it"),
        errors.RateLimitedError: errors.RateLimitedError("too many", retry_after=3),
        errors.DamagedAuditError: errors.DamagedAuditError("entry 7 was changed", seq=7),
    }
    return [special.get(kind) or kind("what to do next") for kind in sorted(classes, key=lambda kind: kind.__name__)]


class Circle(BaseModel):
    """One of two kinds."""

    kind: Literal["circle"]


class Square(BaseModel):
    """The other."""

    kind: Literal["square"]


class Body(BaseModel):
    """A request of many rules."""

    model_config = ConfigDict(extra="forbid")
    name: Annotated[str, Field(max_length=5)]
    selectors: dict[str, int] = {}
    kind: str = "a"
    shape: Annotated[Circle | Square | None, Field(discriminator="kind")] = None

    @field_validator("kind")
    @classmethod
    def _known(cls, value: str) -> str:
        if value != "a":
            raise ValueError("must be a")
        return value


def app_that_raises(error: Exception) -> FastAPI:
    """An app whose routes fail with `error`, in front of which everything stands that stands there in production."""
    app = FastAPI(redirect_slashes=False)

    async def fail() -> None:
        raise error

    async def check(body: Body) -> Body:
        return body

    async def ask(ttl: Annotated[int, Query()]) -> int:
        return ttl

    app.add_api_route(SDK, fail, methods=["GET"], response_model=None, responses=problems.sdk_responses(404))
    app.add_api_route(ADMIN, fail, methods=["GET"], response_model=None, responses=problems.responses(404))
    app.add_api_route(f"{ADMIN}/check", check, methods=["POST"], responses=problems.responses(422))
    app.add_api_route(f"{SDK}/ask", ask, methods=["GET"])
    problems.install(app)
    middleware.install(app, ServerSettings(dev=True))
    return app


async def request(method: str, path: str, error: Exception | None = None, **options: Any) -> httpx.Response:
    """One request to an app that fails with `error`."""
    transport = httpx.ASGITransport(app_that_raises(error or RuntimeError("unused")))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8321") as client:
        return await client.request(method, path, **options)


def test_every_error_has_a_row() -> None:
    """No class of the server's errors is without a status, and no row is of a class that is none."""
    kinds = {type(error) for error in raised()}
    assert kinds | {AuthSecError, VerificationUnavailableError} == problems.ERRORS.keys()
    assert ConfigurationError in kinds


def test_every_refusal_has_a_row() -> None:
    """Every code with which a token is refused has a status, which is one of the wire contract's."""
    assert set(get_args(RefusalCode)) == REFUSALS.keys()
    assert set(REFUSALS.values()) == {400, 401, 403, 404, 409, 410}


@pytest.mark.anyio
@pytest.mark.parametrize("error", raised(), ids=lambda error: type(error).__name__)
async def test_an_error_is_a_problem(error: AuthSecError) -> None:
    """The admin API answers RFC 9457 problems with the row's status, a stable code and the request's id."""
    row = problems.ERRORS[type(error)]
    reply = await request("GET", ADMIN, error)
    assert reply.status_code == row.status
    assert reply.headers["content-type"] == "application/problem+json"
    assert reply.headers["cache-control"] == "no-store"
    body = reply.json()
    problems.Problem.model_validate(body, strict=True)
    assert body["status"] == row.status
    assert body["request_id"] == reply.headers["x-request-id"]
    assert (body["detail"] == error.message) is row.says


@pytest.mark.anyio
@pytest.mark.parametrize("error", raised(), ids=lambda error: type(error).__name__)
async def test_an_error_keeps_the_wire_contract(error: AuthSecError) -> None:
    """The endpoint that agents call answers `error` and `details`, and nothing else."""
    row = problems.ERRORS[type(error)]
    reply = await request("GET", SDK, error)
    assert reply.status_code == (row.sdk_status or row.status)
    assert reply.headers["content-type"] == "application/json"
    assert reply.json().keys() == {"error", "details"}


@pytest.mark.anyio
@pytest.mark.parametrize(("code", "status"), REFUSALS.items())
async def test_a_refusal_says_which(code: RefusalCode, status: int) -> None:
    """A refused token has the status of its code, and the code beside the text."""
    reply = await request("GET", SDK, RefusedError(code, "because"))
    assert reply.status_code == status
    assert reply.json() == {"error": "because", "details": code}
    assert (reply.headers.get("www-authenticate") == "Bearer") is (status == 401)


@pytest.mark.anyio
@pytest.mark.parametrize("path", [SDK, ADMIN])
async def test_who_is_not_known_is_challenged(path: str) -> None:
    """A 401 says how to prove oneself."""
    reply = await request("GET", path, errors.UnauthenticatedError("bring a token"))
    assert (reply.status_code, reply.headers["www-authenticate"]) == (401, "Bearer")


@pytest.mark.anyio
@pytest.mark.parametrize("path", [SDK, ADMIN])
async def test_an_outage_says_when_to_try_again(path: str, caplog: pytest.LogCaptureFixture) -> None:
    """A database that did not take it is 503 with Retry-After, and a line in the log names the cause's kind only."""
    error = errors.StorageUnavailableError("the database is not there")
    error.__cause__ = OSError("password=hunter2")
    reply = await request("GET", path, error)
    assert (reply.status_code, reply.headers["retry-after"]) == (503, "1")
    assert "(OSError)" in caplog.text
    assert "hunter2" not in caplog.text


@pytest.mark.anyio
async def test_a_field_is_named() -> None:
    """An error about one member names it."""
    reply = await request("GET", ADMIN, errors.InvalidRequestError("name is empty", field="name"))
    assert reply.json()["field"] == "name"


@pytest.mark.anyio
@pytest.mark.parametrize("path", [SDK, ADMIN])
@pytest.mark.parametrize("error", [RuntimeError(SECRET), ConfigurationError(SECRET), AuthSecError(SECRET)], ids=repr)
async def test_the_unexpected_says_nothing(path: str, error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    """What nobody expected is 500 with the request's id, whose log line has the traceback; the body has none of it."""
    reply = await request("GET", path, error)
    assert reply.status_code == 500
    assert_no_secret([reply.content, reply.headers], SECRET)
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.exc_info is not None
    assert record.exc_info[1] is error


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("body", "field", "message"),
    [
        ({}, "body.name", "Field required"),
        ({"name": "longer"}, "body.name", "String should have at most 5 characters"),
        ({"name": "a", "naem": 1}, "body.naem", "Extra inputs are not permitted"),
        ({"name": "a", "kind": "b"}, "body.kind", "must be a"),
        ({"name": "a", "selectors": {"x": "y"}}, "body.selectors.?", None),
    ],
    ids=str,
)
async def test_what_is_wrong_is_said(body: Any, field: str, message: str | None) -> None:
    """A request that does not fit names the member and the rule, so that a person can mend it."""
    reply = await request("POST", f"{ADMIN}/check", json=body)
    assert reply.status_code == 422
    assert reply.json()["code"] == "invalid_request"
    assert reply.json()["field"] == field
    (only,) = reply.json()["errors"]
    assert only["field"] == field
    assert message is None or only["message"] == message


@pytest.mark.anyio
@pytest.mark.parametrize(
    "sent",
    [
        {"json": {SECRET: 1}},
        {"json": {"name": SECRET}},
        {"json": {"name": "a", "kind": SECRET}},
        {"json": {"name": "a", "selectors": {SECRET: SECRET}}},
        {"json": {"name": "a", "shape": {"kind": SECRET}}},
        {"json": SECRET},
        {"content": SECRET},
        {"content": f'{{"name": "{SECRET}'},
        {"content": b"\xff" + SECRET.encode(), "headers": {"Content-Type": "application/json"}},
    ],
    ids=str,
)
async def test_what_was_sent_is_not_quoted(sent: dict[str, Any]) -> None:
    """No answer holds what was sent, which may be a key that stands in the wrong place."""
    reply = await request("POST", f"{ADMIN}/check", **sent)
    assert reply.status_code == 422
    assert_no_secret([reply.content, reply.headers], SECRET)
    assert b"pydantic" not in reply.content


@pytest.mark.anyio
async def test_many_errors_are_cut() -> None:
    """An answer stays small however much is wrong."""
    reply = await request("POST", f"{ADMIN}/check", json={f"x{n}": 1 for n in range(500)})
    assert len(reply.json()["errors"]) == 20


@pytest.mark.anyio
async def test_agents_get_400_for_a_request_that_does_not_fit() -> None:
    """The wire contract knows no 422."""
    reply = await request("GET", f"{SDK}/ask", params={"ttl": SECRET})
    assert reply.status_code == 400
    assert reply.json()["details"].startswith("query.ttl: ")
    assert_no_secret(reply.content, SECRET)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "not_found"),
        ("GET", f"{ADMIN}/", 404, "not_found"),
        ("DELETE", ADMIN, 405, "method_not_allowed"),
    ],
)
async def test_what_the_framework_refuses_is_a_problem(method: str, path: str, status: int, code: str) -> None:
    """Unknown addresses and methods are answered in the same shape."""
    reply = await request(method, path)
    assert (reply.status_code, reply.json()["code"]) == (status, code)
    assert reply.headers["content-type"] == "application/problem+json"
    if status == 405:
        assert reply.headers["allow"] == "GET"


@pytest.mark.anyio
@pytest.mark.parametrize("status", [418, 400, 599])
async def test_other_http_errors_do_not_speak(status: int) -> None:
    """The detail of an error that a library raised is not shown."""
    reply = await request("GET", ADMIN, HTTPException(status, SECRET))
    assert reply.status_code == (422 if status == 400 else status)
    assert_no_secret(reply.content, SECRET)


@pytest.mark.anyio
async def test_agents_get_400_for_a_body_that_cannot_be_parsed() -> None:
    """What the framework calls 400 stays 400 where agents call."""
    assert (await request("GET", SDK, HTTPException(400, "x"))).status_code == 400


def test_openapi_declares_problems() -> None:
    """Declared errors have the problem's media type, and agents' errors theirs; both are described once."""
    paths = app_that_raises(RuntimeError()).openapi()["paths"]
    declared = paths[ADMIN]["get"]["responses"]
    assert declared.keys() >= {"404", "413", "421", "500", "503"}
    assert declared["404"]["content"] == {
        "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}
    }
    assert declared["404"]["description"] == "Not Found"
    agents = paths[SDK]["get"]["responses"]["404"]["content"]
    assert agents == {"application/json": {"schema": {"$ref": "#/components/schemas/SdkError"}}}


def test_openapi_is_made_once() -> None:
    """Asking again gives the same document."""
    app = app_that_raises(RuntimeError())
    assert app.openapi() == app.openapi()
