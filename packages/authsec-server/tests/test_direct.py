"""The way past the framework answers as the framework does."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from fastapi import FastAPI, Request, Response

from authsec_core.errors import AuthSecError
from authsec_core.wire import DELEGATION_TOKEN_PATH
from authsec_server import problems
from authsec_server.direct import Direct
from authsec_server.errors import InvalidRequestError, RefusedError, StorageUnavailableError

ERRORS = {
    "none": None,
    "refused": RefusedError("not_covered", "none of these scopes"),
    "invalid": InvalidRequestError("wrong", field="scope"),
    "away": StorageUnavailableError("try again"),
    "unnamed": AuthSecError("nobody knows"),
}


BELOW = "/v1/things/{path:path}"


def both(handler: Any) -> tuple[FastAPI, Direct]:
    """Return the framework with two routes, and the same with the way past it."""
    app = FastAPI(redirect_slashes=False)
    app.get(DELEGATION_TOKEN_PATH)(handler)
    app.get(BELOW)(handler)
    problems.install(app)
    return app, Direct(app, handlers={DELEGATION_TOKEN_PATH: handler, BELOW: handler})


async def asked(app: Any, method: str, path: str) -> httpx.Response:
    """Send one request to an ASGI application."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://x") as client:
        return await client.request(method, path)


@pytest.mark.parametrize("path", [DELEGATION_TOKEN_PATH, "/v1/things/", "/v1/things/a", "/v1/things/a%2Fb/%20c"])
@pytest.mark.parametrize("outcome", sorted(ERRORS))
def test_it_answers_as_the_framework_does(outcome: str, path: str) -> None:
    """Whatever the handler returns or raises, status, headers and body are the same on both ways."""

    async def handler(request: Request) -> Response:
        if (error := ERRORS[outcome]) is not None:
            raise error
        return Response(request.url.query, headers={"Cache-Control": "no-store"})

    framework, direct = both(handler)
    one, other = (asyncio.run(asked(app, "GET", f"{path}?a=b%20c")) for app in (framework, direct))
    assert (one.status_code, one.headers, one.content) == (other.status_code, other.headers, other.content)


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", DELEGATION_TOKEN_PATH, 405),
        ("HEAD", DELEGATION_TOKEN_PATH, 405),
        ("GET", f"{DELEGATION_TOKEN_PATH}/", 404),
        ("GET", "/other", 404),
        ("PUT", "/v1/things/a", 405),
        ("GET", "/v1/things", 404),
        ("GET", "/v1/thingsx/a", 404),
    ],
)
def test_whatever_else_is_asked_goes_to_the_framework(method: str, path: str, status: int) -> None:
    """Another method or another path is not the handler's."""

    async def handler(request: Request) -> Response:
        raise AssertionError

    assert asyncio.run(asked(both(handler)[1], method, path)).status_code == status


def test_what_nobody_expected_is_raised() -> None:
    """An error that is none of ours goes on to whoever stands outside."""

    async def handler(request: Request) -> Response:
        raise LookupError

    with pytest.raises(LookupError):
        asyncio.run(asked(both(handler)[1], "GET", DELEGATION_TOKEN_PATH))
