"""The ways in which FastAPI lets one guard routes: each lets in and refuses the same callers.

No `from __future__ import annotations`: FastAPI reads those of functions that are made inside others.
"""

from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Depends, FastAPI, Request
from guard_http import asked, authorization
from guard_support import Issuer, Memory
from starlette.applications import Starlette
from starlette.responses import StreamingResponse
from starlette.routing import Mount

from authsec_fastapi import AuthSecGuard, Principal

issuer = Issuer()
GOOD = issuer.token("read:orders")
SUBJECT = b'{"subject":"spiffe://example.org/ns/shop/sa/bot"}'


def annotated(guard: AuthSecGuard) -> FastAPI:
    """Take the caller as an annotated parameter."""
    app = FastAPI()

    @app.get("/v1/orders/{number}")
    async def order(number: int, caller: Annotated[Principal, Depends(guard.require("read:orders"))]) -> dict[str, str]:
        return {"subject": caller.subject}

    return app


def by_default(guard: AuthSecGuard) -> FastAPI:
    """Take the caller as a parameter's default."""
    app = FastAPI()

    @app.get("/v1/orders/{number}")
    async def order(number: int, caller: Principal = Depends(guard.require("read:orders"))) -> dict[str, str]:  # noqa: B008 -- the older way to write it
        return {"subject": caller.subject}

    return app


def blocking(guard: AuthSecGuard) -> FastAPI:
    """Guard a route that runs in a thread."""
    app = FastAPI()

    @app.get("/v1/orders/{number}")
    def order(number: int, caller: Annotated[Principal, Depends(guard.require("read:orders"))]) -> dict[str, str]:
        return {"subject": caller.subject}

    return app


def below_another(guard: AuthSecGuard) -> FastAPI:
    """Take what a dependency made of the caller."""
    caller = guard.require("read:orders")

    async def subject(found: Annotated[Principal, Depends(caller)]) -> AsyncIterator[str]:
        yield found.subject

    app = FastAPI()

    @app.get("/v1/orders/{number}")
    async def order(number: int, name: Annotated[str, Depends(subject)]) -> dict[str, str]:
        return {"subject": name}

    return app


def _answering(app: Any, path: str, **terms: Any) -> None:
    async def order(number: int) -> dict[str, str]:
        return {"subject": "spiffe://example.org/ns/shop/sa/bot"}

    app.get(path, **terms)(order)


def on_the_route(guard: AuthSecGuard) -> FastAPI:
    """Name it among the dependencies of a route."""
    app = FastAPI()
    _answering(app, "/v1/orders/{number}", dependencies=[Depends(guard.require("read:orders"))])
    return app


def on_the_router(guard: AuthSecGuard) -> FastAPI:
    """Name it among those of a router."""
    router = APIRouter(prefix="/v1", dependencies=[Depends(guard.require("read:orders"))])
    _answering(router, "/orders/{number}")
    app = FastAPI()
    app.include_router(router)
    return app


def where_included(guard: AuthSecGuard) -> FastAPI:
    """Name it where a router is included, twice over."""
    inner, outer = APIRouter(prefix="/orders"), APIRouter()
    _answering(inner, "/{number}")
    outer.include_router(inner)
    app = FastAPI()
    app.include_router(outer, prefix="/v1", dependencies=[Depends(guard.require("read:orders"))])
    return app


def on_the_application(guard: AuthSecGuard) -> FastAPI:
    """Name it among those of the application."""
    app = FastAPI(dependencies=[Depends(guard.require("read:orders"))])
    _answering(app, "/v1/orders/{number}")
    return app


def on_a_mounted_one(guard: AuthSecGuard) -> FastAPI:
    """Mount an application that is guarded."""
    app = FastAPI()
    inner = FastAPI(dependencies=[Depends(guard.require("read:orders"))])
    _answering(inner, "/orders/{number}")
    app.mount("/v1", inner)
    return app


def within_starlette(guard: AuthSecGuard) -> Starlette:
    """Mount it in an application that is no FastAPI."""
    return Starlette(routes=[Mount("/", annotated(guard))])


WAYS = [
    annotated,
    by_default,
    blocking,
    below_another,
    on_the_route,
    on_the_router,
    where_included,
    on_the_application,
    on_a_mounted_one,
    within_starlette,
]


@pytest.mark.req("RV7")
@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_guard_a_route_is_the_same(way: Callable[[AuthSecGuard], Any]) -> None:
    """200 with the scope, 403 without it, 401 without a good token, also where the rest of the request is wrong."""
    memory = Memory()
    app = way(issuer.guard(sink=memory))
    found = asked(app, "GET", "/v1/orders/7", authorization(GOOD))
    assert (found.status, found.body) == (200, SUBJECT)
    assert asked(app, "GET", "/v1/orders/7", authorization(issuer.token("read:order"))).status == 403
    for headers in ([], authorization("wrong")):
        for number in ("7", "canary"):
            refused = asked(app, "GET", f"/v1/orders/{number}", headers)
            assert (refused.status, b"canary" in refused.body) == (401, False)
    # Below a mount the template is the mounted application's own: what stands before it may name people.
    template = "/orders/{number}" if way is on_a_mounted_one else "/v1/orders/{number}"
    assert {event.route for event in memory.events} == {template}


@pytest.mark.req("RV7")
def test_what_is_needed_adds_up() -> None:
    """Application, router and route are each asked, and one that refuses is enough."""
    guard = issuer.guard()
    router = APIRouter(dependencies=[Depends(guard.require("b"))])
    _answering(router, "/orders/{number}", dependencies=[Depends(guard.require("c"))])
    app = FastAPI(dependencies=[Depends(guard.require("a"))])
    app.include_router(router)

    def status(*scopes: str) -> int:
        return asked(app, "GET", "/orders/7", authorization(issuer.token(*scopes))).status

    assert status("a", "b", "c") == 200
    assert {status("a", "b"), status("a", "c"), status("b", "c"), status()} == {403}


def test_a_stream_looks_again_while_it_runs() -> None:
    """A stream outlives the decision that opened it; `check_again` is that decision anew."""
    memory = Memory()
    guard = issuer.guard(sink=memory)
    app = FastAPI()

    @app.get("/stream")
    async def stream(request: Request, caller: Annotated[Principal, Depends(guard.require("read:orders"))]) -> Any:
        async def events() -> AsyncIterator[str]:
            for count in range(3):
                await guard.check_again(caller, "read:orders")
                yield str(count)

        return StreamingResponse(events())

    assert asked(app, "GET", "/stream", authorization(GOOD)).body == b"012"
    assert [event.outcome for event in memory.events] == ["allow"] * 4
