"""What an application's OpenAPI says of its guard.

No `from __future__ import annotations`: FastAPI reads those of functions that are made inside others.
"""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, FastAPI, WebSocket
from guard_support import Issuer, Memory, behind

from authsec_fastapi import AuthSecGuard, Principal, StaticToken

issuer = Issuer()


def described(app: FastAPI) -> dict[str, Any]:
    """Return the description, as a client fetches it."""
    found: dict[str, Any] = behind(app).get("/openapi.json").json()
    return found


def test_scopes_are_shown_however_a_route_is_guarded() -> None:
    """By parameter, route, router and application; a WebSocket is in no description, and disturbs none."""
    guard = issuer.guard()
    app = FastAPI()
    router = APIRouter(prefix="/v1", dependencies=[Depends(guard.require("b", "a"))])

    @router.get("/router")
    async def one() -> None: ...

    @app.get("/parameter")
    async def two(caller: Annotated[Principal, Depends(guard.require("c"))]) -> None: ...

    @app.get("/route", dependencies=[Depends(guard.require("d")), Depends(guard.require_caller())])
    def three() -> None: ...

    @app.get("/open")
    async def four() -> None: ...

    @router.websocket("/socket")
    async def five(socket: WebSocket) -> None: ...

    app.include_router(router)
    paths = described(app)["paths"]
    shown = {path: methods["get"].get("security") for path, methods in paths.items()}
    assert shown["/v1/router"] == [{"authsec": ["a", "b"]}]
    assert shown["/parameter"] == [{"authsec": ["c"]}]
    assert {"authsec": ["d"]} in (shown["/route"] or [])  # older versions of FastAPI list both dependencies
    assert shown["/open"] is None
    assert "/v1/socket" not in shown
    assert "connection" not in str(paths)


def test_an_application_that_is_guarded_shows_it_on_each_route() -> None:
    """The dependency of the whole application is in the description of each of its routes."""
    app = FastAPI(dependencies=[Depends(issuer.guard().require("a"))])

    @app.get("/one")
    async def one() -> None: ...

    assert described(app)["paths"]["/one"]["get"]["security"] == [{"authsec": ["a"]}]


def test_the_scheme_names_who_is_trusted() -> None:
    """Whoever reads it knows where to get a token, and for which audience; of a static token it says nothing."""
    other = Issuer(url="https://login.example", audience="shop")
    guard = AuthSecGuard(issuers=[issuer.trusted(), other.trusted(audience=("shop", "till"))], sink=Memory())

    def scheme(one: AuthSecGuard) -> dict[str, Any]:
        app = FastAPI()
        app.get("/", dependencies=[Depends(one.require_caller())])(lambda: None)
        found: dict[str, Any] = described(app)["components"]["securitySchemes"]["authsec"]
        return found

    assert scheme(guard) == {
        "type": "http",
        "scheme": "bearer",
        "bearerFormat": "JWT",
        "description": "A token of `https://issuer.example/authsec` for `authsec-api`, "
        "or of `https://login.example` for `shop` or `till`.",
    }
    static = AuthSecGuard(static_token=StaticToken("canary-0123456789"), sink=Memory())
    assert scheme(static)["description"] == "The static token of this API."


def test_guards_with_realms_of_their_own_have_schemes_of_their_own() -> None:
    """Two guards of one application do not overwrite each other in its description."""
    orders, till = issuer.guard(realm="orders"), issuer.guard(realm="till")
    app = FastAPI()
    app.get("/orders", dependencies=[Depends(orders.require("a"))])(lambda: None)
    app.get("/till", dependencies=[Depends(till.require("b"))])(lambda: None)
    found = described(app)
    assert set(found["components"]["securitySchemes"]) == {"orders", "till"}
    assert found["paths"]["/orders"]["get"]["security"] == [{"orders": ["a"]}]
    assert found["paths"]["/till"]["get"]["security"] == [{"till": ["b"]}]


def test_the_refusals_can_be_shown() -> None:
    """`guard.responses` describes each answer of the guard, with its headers and its body, and may be changed."""
    guard = issuer.guard()
    app = FastAPI(responses=guard.responses)
    app.get("/", dependencies=[Depends(guard.require("a"))])(lambda: None)
    shown = described(app)["paths"]["/"]["get"]["responses"]
    assert {"200", "400", "401", "403", "503"} == set(shown)
    assert "WWW-Authenticate" in shown["401"]["headers"]
    assert "Retry-After" in shown["503"]["headers"]
    refused = behind(app).get("/")
    schema = shown["401"]["content"]["application/json"]["schema"]
    assert set(refused.json()) == set(schema["properties"]) == set(schema["required"])
    changed = guard.responses
    changed[401]["headers"].clear()
    changed.clear()
    assert "WWW-Authenticate" in guard.responses[401]["headers"]
