"""RV7: every route but what was declared public, by every spelling and method, is refused without a good token.

The application here has everything that an application has and that somebody forgets to guard: FastAPI's own pages,
routers, mounts, static files, WebSockets, plain Starlette routes and a catch-all. None of it has a dependency.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from fastapi import APIRouter, FastAPI
from guard_http import ask, authorization, scope_of, serving
from guard_support import Issuer
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import BaseRoute, Host, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send
from starlette.websockets import WebSocket

from authsec_fastapi import AuthSecMiddleware

pytestmark = pytest.mark.req("RV7")

issuer = Issuer()
PUBLIC = [("GET", "/health"), ("POST", "/v1/login"), ("GET", "/static/logo.txt")]
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT", "QUERY"]
ODD_METHODS = ["get", "Get", "PROPFIND", "GET ", "G", "WEBSOCKET"]


class Watched:
    """Stands between the guard and the application, and notes which requests get through: method and path."""

    def __init__(self, app: Any, *, reached: list[tuple[str, str]]) -> None:
        self.app = app
        self._reached = reached

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "lifespan":
            self._reached.append((scope.get("method", ""), scope["path"]))
        await self.app(scope, receive, send)


async def _answer() -> dict[str, bool]:
    return {"reached": True}


async def _socket(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.close()


def application(folder: Path) -> FastAPI:
    """Return the application, unguarded."""
    static = folder / "static"
    static.mkdir(exist_ok=True)
    for name in ("logo.txt", "secret.txt"):
        (static / name).write_text(name)
    app = FastAPI()
    app.get("/health")(_answer)
    inner, outer = APIRouter(prefix="/reports"), APIRouter(prefix="/v1")
    inner.get("/{name}")(_answer)
    inner.delete("/{name}")(_answer)
    inner.websocket("/{name}/feed")(_socket)
    outer.include_router(inner)
    outer.api_route("/login", methods=["GET", "POST", "HEAD"])(_answer)
    app.include_router(outer)
    app.mount("/static", StaticFiles(directory=static))
    below = FastAPI()
    below.get("/health")(_answer)
    below.get("/admin")(_answer)
    app.mount("/below", below)
    plain = Starlette(routes=[Route("/plain", PlainTextResponse("")), WebSocketRoute("/feed", _socket)])
    app.mount("/starlette/{tenant}", plain)
    app.router.routes.append(Host("admin.example", plain))
    app.websocket("/feed")(_socket)
    app.api_route("/{rest:path}", methods=["GET", "POST", "PUT"])(_answer)
    return app


def guarded(folder: Path) -> tuple[FastAPI, list[tuple[str, str]]]:
    """Return the application behind a guard, and what gets through to it."""
    reached: list[tuple[str, str]] = []
    app = application(folder)
    app.add_middleware(Watched, reached=reached)
    app.add_middleware(AuthSecMiddleware, guard=issuer.guard(audit_first=False), public=PUBLIC)
    return app, reached


def paths_of(routes: Sequence[BaseRoute], before: str = "") -> Iterator[str]:
    """Yield a path for each route, through mounts and routers, whichever version of FastAPI keeps them."""
    for route in _flat(routes):
        path = getattr(route, "path", "")
        if isinstance(route, Host):
            path = ""
        below = getattr(getattr(route, "app", None), "routes", None)
        example = before + re.sub(r"\{[^}]*\}", "x", path)
        yield example or "/"
        if below:
            yield from paths_of(below, example)


def _flat(routes: Sequence[BaseRoute]) -> Iterator[Any]:
    try:
        from fastapi.routing import iter_route_contexts
    except ImportError:
        yield from routes
    else:
        for context in iter_route_contexts(routes):
            yield context if context.path is not None else context.route


def spellings(path: str) -> list[str]:
    """Return a path, decoded, as a server hands it on for each way in which it might be spelled."""
    changed = path.replace("/", "//")
    quoted = "".join(f"%{ord(letter):02x}" if letter.isalpha() else letter for letter in path)
    return [
        path,
        path + "/",
        "/" + path,
        changed,
        path.upper(),
        path.title(),
        quoted,
        path.replace("/", "/./"),
        f"/x/..{path}",
        f"/health/..{path}",
        f"/health{path}",
        path + "/health",
        path + "/../health",
        path + ";/health",
        path + ";x=1",
        path + "\0",
        path + "\n",
        path + "\r\nx: y",
        path + " ",
        path + ".",
        path + "?x",
        path + "#",
        path.replace("/", "\\"),
        path[1:],
        path + "\ud800",
    ]


def is_public(method: str, path: str) -> bool:
    """Say what was declared, without any of the guard's code."""
    return (method, path) in {("GET", "/health"), ("POST", "/v1/login"), ("GET", "/static/logo.txt")}


EXTRA = ["/docs", "/redoc", "/openapi.json", "/docs/oauth2-redirect", "/static/secret.txt", "/nowhere", "/", ""]


def test_the_walk_finds_what_is_there(tmp_path: Path) -> None:
    """Routes of routers, of mounted applications and of FastAPI itself are among what is tried."""
    found = set(paths_of(application(tmp_path).routes))
    assert {"/docs", "/redoc", "/openapi.json", "/health", "/v1/reports/x", "/v1/login", "/static"} <= found
    assert {"/below/admin", "/below/docs", "/starlette/x/plain", "/starlette/x/feed", "/v1/reports/x/feed"} <= found


WRONG = {
    "nothing": [],
    "an empty header": [(b"authorization", b"")],
    "a scheme alone": [(b"authorization", b"Bearer")],
    "an empty token": [(b"authorization", b"Bearer ")],
    "another scheme": [(b"authorization", b"Basic YWRtaW46YWRtaW4=")],
    "a wrong token": authorization("a.b.c"),
    "another API's token": authorization(issuer.token(aud=["another"])),
    "an old token": authorization(issuer.token(exp=1)),
    "a token in a cookie": [(b"cookie", b"access_token=" + issuer.token().encode())],
    "a token in a header of another name": [(b"x-authorization", b"Bearer " + issuer.token().encode())],
    "a method in a header": [(b"x-http-method-override", b"GET"), (b"x-original-url", b"/health")],
    "a path in a header": [(b"x-forwarded-prefix", b"/health"), (b"x-rewrite-url", b"/health")],
}


@pytest.mark.parametrize("wrong", WRONG)
def test_every_route_by_every_method_and_spelling_needs_a_token(wrong: str, tmp_path: Path) -> None:
    """401 for all of it, and nothing reaches the application but what was declared public."""
    app, reached = guarded(tmp_path)
    methods = [*METHODS, *ODD_METHODS] if wrong == "nothing" else ["GET", "POST", "WEBSOCKET"]

    async def walk() -> int:
        tried = 0
        for path in {
            spelled for one in (*paths_of(application(tmp_path).routes), *EXTRA) for spelled in spellings(one)
        }:
            for method in methods:
                if is_public(method, path):
                    continue
                answer = await ask(app, scope_of(method, path, WRONG[wrong], query_string=b"access_token=x"))
                assert (method, path, answer.status) == (method, path, 401)
                assert answer.headers["www-authenticate"].startswith("Bearer ")
                tried += 1
        return tried

    assert asyncio.run(walk()) > 1000
    assert reached == []


def test_a_token_in_query_or_form_is_none(tmp_path: Path) -> None:
    """RFC 6750 knows both ways, and this guard neither: queries stand in logs, forms need the body."""
    app, reached = guarded(tmp_path)
    token = issuer.token()
    body = f"access_token={token}".encode()
    form = [(b"content-type", b"application/x-www-form-urlencoded")]
    for method in METHODS:
        scope = scope_of(method, "/v1/reports/x", form, query_string=body)
        assert asyncio.run(ask(app, scope, body)).status == 401
    assert reached == []


def test_what_is_public_is_open_and_the_rest_is_not_closed_for_good(tmp_path: Path) -> None:
    """The declared paths answer without a token, and with one the application answers everything as before."""
    app, reached = guarded(tmp_path)
    for method, path in PUBLIC:
        assert asyncio.run(ask(app, scope_of(method, path))).status == 200
    for path in ("/docs", "/v1/reports/x", "/below/admin", "/static/secret.txt", "/any/thing"):
        assert asyncio.run(ask(app, scope_of("GET", path, authorization(issuer.token())))).status == 200
    assert asyncio.run(ask(app, scope_of("WEBSOCKET", "/feed", authorization(issuer.token())))).status == 101
    assert len(reached) == len(PUBLIC) + 6


_PIECES = st.sampled_from(
    [
        *("/", "//", "health", "Health", "v1", "login", "static", "logo.txt", ".", "..", ";", "%2e", "%2f", "\0", "\n"),
        *("?", "\\", " ", "h", "\N{FULLWIDTH SOLIDUS}", "\N{CYRILLIC SMALL LETTER IE}", "below", "feed"),
    ]
)


@given(
    pieces=st.lists(_PIECES, max_size=9), other=st.text(max_size=6), method=st.sampled_from([*METHODS, *ODD_METHODS])
)
def test_no_other_spelling_of_a_public_path_is_public(pieces: list[str], other: str, method: str) -> None:
    """Whatever is built from the pieces of public paths is refused, unless it is one, letter by letter."""
    reached: list[str] = []

    async def inner(scope: Scope, receive: Receive, send: Send) -> None:
        reached.append(scope["path"])
        await PlainTextResponse("")(scope, receive, send)

    app = AuthSecMiddleware(inner, guard=GUARD, public=PUBLIC)
    for path in ("".join(pieces), "/" + "".join(pieces), "".join(pieces) + other, f"/health{other}"):
        status = asyncio.run(ask(app, scope_of(method, path))).status
        assert status == (200 if is_public(method, path) else 401)
    assert all(path in {"/health", "/v1/login", "/static/logo.txt"} for path in reached)


GUARD = issuer.guard(audit_first=False)

RAW = [
    "{0}/",
    "/{0}",
    "//localhost{0}",
    "/.{0}",
    "/%2e{0}",
    "/x/..{0}",
    "/x/%2e%2e{0}",
    "/health/..{0}",
    "/health%2f..{0}",
    "/health/%2e%2e{0}",
    "/health;{0}",
    "/health%00{0}",
    "/health%3f{0}",
    "/health%23{0}",
    "/health%0d%0a{0}",
    "{0}%00",
    "{0}%0a",
    "{0}%20",
    "{0};x",
    "{0}/../health",
    "{0}/%2e%2e/health",
    "{0}%2f..%2fhealth",
    "http://localhost{0}",
    "http://localhost/health/..{0}",
    "{0}?/health",
    "{0}#/health",
    "*",
    "health",
    "/%68%65%61%6c%74%68/",
    "/%2568ealth",
    "/%c0%af/health",
    "/%ff",
    "\\health",
]


@pytest.mark.parametrize("http", ["h11", "httptools"])
def test_a_real_server_hands_on_no_spelling_that_opens_anything(http: str, tmp_path: Path) -> None:
    """Targets that clients would mend, sent as they are: the guard or the server refuses, and nothing gets through."""
    app, reached = guarded(tmp_path)
    with serving(app, http=http) as port:
        for path in ("/docs", "/below/admin", "/static/secret.txt"):
            for target in (path, *(one.format(path) for one in RAW)):
                for method in ("GET", "HEAD", "get", "OPTIONS"):
                    status, answer = port.send(f"{method} {target} HTTP/1.1")
                    assert status in {0, 400, 401}, (method, target)
                    assert status != 401 or b"bearer" in answer.lower()
        assert reached == []
        assert port.send("GET /health HTTP/1.1")[0] == 200
        assert port.send("GET /%68ealth?x=1 HTTP/1.1")[0] == 200  # the same path, as every server decodes it
        assert reached == [("GET", "/health")] * 2


@pytest.mark.parametrize("http", ["h11", "httptools"])
def test_a_real_server_hands_on_no_header_that_opens_anything(http: str, tmp_path: Path) -> None:
    """Folded, doubled and odd Authorization headers are refused, whoever puts them together."""
    app, reached = guarded(tmp_path)
    good = f"Authorization: Bearer {issuer.token()}"
    with serving(app, http=http) as port:
        for lines in (
            [good, good],
            [good, "Authorization: Basic x"],
            ["Authorization: Bearer\t" + issuer.token()],
            ["Authorization : Bearer " + issuer.token()],
            ["Authorization: Bearer " + issuer.token() + ", Bearer x"],
            ["Authorization: Bearer " + issuer.token()[:-2]],
            ["Authorization: Token " + issuer.token()],
            ["Proxy-Authorization: Bearer " + issuer.token()],
            ["Authorization:"],
        ):
            status, _ = port.send("GET /docs HTTP/1.1", *lines)
            assert status in {400, 401}, lines
        assert reached == []
        assert port.send("GET /docs HTTP/1.1", good)[0] == 200
        assert port.send("GET /docs HTTP/1.1", good.replace("Bearer", "bEARER"))[0] == 200
