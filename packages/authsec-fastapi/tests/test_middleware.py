"""The middleware: what it lets through to any application, what it asks the policy, and when it refuses to be made.

No `from __future__ import annotations`: FastAPI reads those of functions that are made inside others.
"""

import asyncio
from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI
from guard_http import Answer, asked, authorization, scope_of
from guard_support import Issuer, Memory, bearer, behind
from starlette.applications import Starlette
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route
from starlette.types import Message, Receive, Scope, Send

from authsec_core import ConfigurationError
from authsec_fastapi import AuthSecGuard, AuthSecMiddleware, Policy, Principal, RouteRule
from authsec_fastapi.middleware import _route_path
from authsec_fastapi.principal import Standing

issuer = Issuer()
TOKEN = issuer.token("read")
ROUTES = Policy(
    roles={"viewer": frozenset({"read"}), "agent": frozenset({"read", "respond"})},
    routes=(
        RouteRule(path="/health", methods=frozenset({"GET"}), public=True),
        RouteRule(path="/chat", methods=frozenset({"POST"}), action="respond"),
        RouteRule(path="/reports/{name}", methods=frozenset({"GET"}), scopes=frozenset({"read"})),
        RouteRule(path="/reports/secret", methods=frozenset({"GET"}), role="agent"),
        RouteRule(path="/feed", methods=frozenset({"WEBSOCKET"}), scopes=frozenset({"read"})),
    ),
)


class Reached:
    """An application that answers 200 to everything, and remembers what reached it."""

    def __init__(self) -> None:
        self.scopes: list[Scope] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scopes.append(scope)
        if scope["type"] == "websocket":
            await send({"type": "websocket.accept"})
        elif scope["type"] == "http":
            await JSONResponse({})(scope, receive, send)


def status(method: str, path: str, token: str | None = None, *, policy: Policy | None = None, **more: Any) -> int:
    """Return what a middleware whose one public entry is `GET /health` answers for an application that answers 200."""
    reached = Reached()
    guarded = AuthSecMiddleware(reached, guard=issuer.guard(policy=policy), public=[("GET", "/health")])
    answer = asked(guarded, method, path, authorization(token) if token is not None else [], **more)
    assert bool(reached.scopes) == (answer.status in {101, 200})
    return answer.status


@pytest.mark.req("RV5", "RV7")
@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [
        ("GET", "/health", 200),
        ("GET", "/health/", 401),
        ("GET", "//health", 401),
        ("GET", "/Health", 401),
        ("GET", "/health;x", 401),
        ("GET", "/health\0", 401),
        ("GET", "/health\n", 401),
        ("GET", "/%68ealth", 401),
        ("GET", "/./health", 401),
        ("GET", "/x/../health", 401),
        ("GET", "/health/x", 401),
        ("GET", "/health\N{ZERO WIDTH SPACE}", 401),
        ("GET", "health", 401),
        ("GET", "", 401),
        ("GET", "/", 401),
        ("HEAD", "/health", 401),
        ("OPTIONS", "/health", 401),
        ("TRACE", "/health", 401),
        ("POST", "/health", 401),
        ("get", "/health", 401),
        ("GETT", "/health", 401),
        ("", "/health", 401),
        ("WEBSOCKET", "/health", 401),
    ],
)
def test_public_is_what_was_declared_and_nothing_near_it(method: str, path: str, expected: int) -> None:
    """Method and path are compared exactly; everything else needs a token, whether it leads anywhere or not."""
    assert status(method, path) == expected
    assert status(method, path, "wrong") == expected
    assert status(method, path, TOKEN) == (101 if method == "WEBSOCKET" else 200)


@pytest.mark.req("RV5")
@pytest.mark.parametrize(
    ("method", "path", "roles", "expected"),
    [
        ("GET", "/health", None, 200),
        ("POST", "/chat", None, 401),
        ("POST", "/chat", ["agent"], 200),
        ("POST", "/chat", ["viewer"], 403),
        ("GET", "/chat", ["agent"], 403),
        ("POST", "/chat/", ["agent"], 403),
        ("GET", "/reports/a", ["viewer"], 200),
        ("GET", "/reports/secret", ["viewer"], 403),
        ("GET", "/reports/secret", ["agent"], 200),
        ("GET", "/reports/", ["agent"], 403),
        ("GET", "/reports/a/b", ["agent"], 403),
        ("GET", "/reports/..", ["agent"], 403),
        ("GET", "/reports/secret\n", ["viewer"], 403),
        ("GET", "/nowhere", ["agent"], 403),
        ("GET", "/nowhere", None, 401),
        ("HEAD", "/health", None, 401),
        ("HEAD", "/health", ["agent"], 403),
        ("WEBSOCKET", "/feed", ["viewer"], 101),
        ("WEBSOCKET", "/feed", None, 401),
        ("WEBSOCKET", "/chat", ["agent"], 403),
        ("GET", "/feed", ["agent"], 403),
    ],
)
def test_where_the_policy_has_routes_one_of_them_has_to_match(
    method: str, path: str, roles: list[str] | None, expected: int
) -> None:
    """What no rule knows is 403 for a good token and 401 without one; the rule with fewer braces counts."""
    token = issuer.token("read", roles=roles) if roles is not None else None
    guarded = AuthSecMiddleware(Reached(), guard=issuer.guard(policy=ROUTES))
    assert asked(guarded, method, path, authorization(token) if token else []).status == expected


def test_what_the_middleware_decides_is_on_record() -> None:
    """With the rule's template and no path; what no rule knows as `route_unknown`; what is public not at all."""
    memory = Memory()
    guarded = AuthSecMiddleware(Reached(), guard=issuer.guard(policy=ROUTES, sink=memory))
    for method, path, headers in [
        ("GET", "/health", []),
        ("GET", "/reports/canary", authorization(TOKEN)),
        ("GET", "/canary", authorization(TOKEN)),
        ("CANARY", "/canary", []),
    ]:
        asked(guarded, method, path, headers)
    assert [(event.outcome, event.reason, event.method, event.route) for event in memory.events] == [
        ("allow", "allowed", "GET", "/reports/{name}"),
        ("deny", "route_unknown", "GET", None),
        ("deny", "token_missing", "OTHER", None),
    ]
    assert "canary" not in "".join(event.to_json() for event in memory.events).lower()


@pytest.mark.parametrize(
    ("sent", "recorded"),
    [
        ([b"abc-1"], "abc-1"),
        ([b"x" * 128], "x" * 128),
        ([b"x" * 129], None),
        ([b""], None),
        ([b"a b"], None),
        ([b"a\x1b[2J"], None),
        ([b"\xc3\xa9"], None),
        ([b"a", b"b"], None),
        ([], None),
    ],
)
def test_a_request_id_is_on_record_if_it_is_plain(sent: list[bytes], recorded: str | None) -> None:
    """1 to 128 visible ASCII characters of one header; anything else is as if it were not there."""
    memory = Memory()
    guarded = AuthSecMiddleware(Reached(), guard=issuer.guard(sink=memory))
    asked(guarded, "GET", "/", [(b"X-Request-ID", value) for value in sent])
    assert [event.request_id for event in memory.events] == [recorded]


@pytest.mark.req("RV5")
@pytest.mark.parametrize(
    "public",
    [
        ["/health"],
        "/health",
        {"GET": "/health"},
        [("GET",)],
        [("GET", "/a", "/b")],
        [("GET", None)],
        [("get", "/health")],
        [("ANY", "/health")],
        [("*", "/health")],
        [("GET", "health")],
        [("GET", "")],
        [("GET", "*")],
        [("GET", "/static/*")],
        [("GET", "/reports/{name}")],
        [("GET", "/health?x=1")],
        [("GET", "/health#x")],
        [("GET", "/%68ealth")],
        [("GET", "https://a.example/health")],
        [("GET", "//health")],
        [("GET", "/a//b")],
        [("GET", "/a/../b")],
        [("GET", "/a/.")],
        [("GET", "/a\n")],
    ],
)
def test_a_public_list_that_cannot_mean_what_it_seems_to_is_refused(public: Any) -> None:
    """A pattern, a URL, a method in lower case: an error when the middleware is made, and no surprise later."""
    with pytest.raises(ConfigurationError, match="public"):
        AuthSecMiddleware(Reached(), guard=issuer.guard(), public=public)


@pytest.mark.req("RV5")
def test_what_is_public_here_and_guarded_by_the_policy_is_refused() -> None:
    """One of the two is a mistake; where the policy says so only later, its rule counts."""
    with pytest.raises(ConfigurationError, match="/chat"):
        AuthSecMiddleware(Reached(), guard=issuer.guard(policy=ROUTES), public=[("POST", "/chat")])
    guard = issuer.guard(policy=ROUTES)
    guarded = AuthSecMiddleware(Reached(), guard=guard, public=[("GET", "/later")])
    assert asked(guarded, "GET", "/later").status == 200
    guard.judge.policy = Policy(routes=(RouteRule(path="/later", methods=frozenset({"GET"})),))
    assert asked(guarded, "GET", "/later").status == 401
    assert asked(guarded, "POST", "/chat", authorization(issuer.token(roles=["agent"]))).status == 403


def counting(monkeypatch: pytest.MonkeyPatch, guard: AuthSecGuard) -> list[str]:
    """Return a list that each look of the guard at a token is added to."""
    looks: list[str] = []
    authenticator = guard.judge._authenticator
    plain = authenticator.aauthenticate

    async def counted(token: str) -> Principal:
        looks.append(token)
        return await plain(token)

    monkeypatch.setattr(authenticator, "aauthenticate", counted)
    return looks


def api(guard: AuthSecGuard, *more: AuthSecGuard) -> FastAPI:
    """Return an application in which two dependencies of the first guard, and one of each other, guard one route."""
    app = FastAPI(dependencies=[Depends(guard.require_caller()), *(Depends(one.require_caller()) for one in more)])

    @app.get("/metrics")
    async def metrics(caller: Annotated[Principal, Depends(guard.require("read"))]) -> dict[str, str]:
        return {"subject": caller.subject}

    return app


def test_the_caller_is_verified_once_and_each_decision_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    """Middleware, application and route decide for the same caller, one after the other, with one look at the token."""
    memory = Memory()
    guard = issuer.guard(sink=memory)
    looks = counting(monkeypatch, guard)
    app = api(guard)
    app.add_middleware(AuthSecMiddleware, guard=guard)
    client = behind(app)
    assert client.get("/metrics", headers=bearer(TOKEN)).json() == {"subject": "spiffe://example.org/ns/shop/sa/bot"}
    assert (looks, [event.outcome for event in memory.events]) == ([TOKEN], ["allow"] * 3)
    assert client.get("/metrics", headers=bearer(issuer.token())).status_code == 403
    assert [(event.outcome, event.needed) for event in memory.events[3:]] == [
        ("allow", ()),
        ("allow", ()),
        ("deny", ("read",)),
    ]


@pytest.mark.req("RV7")
def test_another_guard_looks_for_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """What one guard found out of a caller says nothing to a guard that trusts others."""
    inner = AuthSecGuard(issuers=[issuer.trusted(audience="another-api")], sink=Memory())
    guard = issuer.guard()
    looks = counting(monkeypatch, inner)
    app = api(guard, inner)
    app.add_middleware(AuthSecMiddleware, guard=guard)
    assert behind(app).get("/metrics", headers=bearer(TOKEN)).status_code == 401
    assert looks == [TOKEN]


@pytest.mark.req("RV7")
def test_other_credentials_are_looked_at_again() -> None:
    """Where something between middleware and route changes the header, the route does not go by the old one."""
    guard = issuer.guard()
    app = api(guard)

    class Changing:
        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
            scope["headers"][:] = authorization("another.token.here")
            await self.app(scope, receive, send)

    app.add_middleware(Changing)
    app.add_middleware(AuthSecMiddleware, guard=guard)
    assert asked(app, "GET", "/metrics", authorization(TOKEN)).status == 401


@pytest.mark.req("RV7")
def test_a_client_cannot_say_that_it_was_let_in() -> None:
    """Headers and a query that are named like what the middleware leaves behind are only headers and a query."""
    guard = issuer.guard()
    names = ["authsec_fastapi.admitted", "authsec-fastapi-admitted", "x-authsec-principal", "state"]
    headers = [(name.encode(), b"admin") for name in names]
    answer = asked(
        api(guard), "GET", "/metrics", headers, query_string=b"authsec_fastapi.admitted=admin", state={"principal": "x"}
    )
    assert answer.status == 401


def test_what_is_no_fastapi_route_can_ask_who_was_let_in() -> None:
    """`caller_of` names the caller behind the middleware, and nobody where the request is public."""
    guard = issuer.guard()

    async def who(request: Request) -> JSONResponse:
        caller = guard.caller_of(request)
        return JSONResponse(caller.subject if caller is not None else None)

    app = Starlette(routes=[Route("/who", who), Route("/open", who)])
    app.add_middleware(AuthSecMiddleware, guard=guard, public=[("GET", "/open")])
    client = behind(app)  # type: ignore[arg-type]  # a client takes any ASGI application
    assert client.get("/who", headers=bearer(TOKEN)).json() == "spiffe://example.org/ns/shop/sa/bot"
    assert client.get("/open", headers=bearer(TOKEN)).json() is None
    assert client.get("/who").status_code == 401


def test_what_is_kept_with_the_request_shows_no_token() -> None:
    """An error page or a log that prints the scope prints no credentials of its own accord."""
    reached = Reached()
    asked(AuthSecMiddleware(reached, guard=issuer.guard()), "GET", "/", authorization(TOKEN))
    (scope,) = reached.scopes
    assert TOKEN not in repr({name: value for name, value in scope.items() if name != "headers"})
    assert "authsec_fastapi.admitted" in scope


@pytest.mark.parametrize(
    ("path", "root"),
    [
        ("/health", ""),
        ("/api/health", "/api"),
        ("/health", "/api"),
        ("/api/api/health", "/api"),
        ("/apihealth", "/api"),
        ("/api", "/api"),
        ("/api/", "/api"),
        ("/api//health", "/api/"),
        ("/api/health", "/api/"),
        ("/health", "/"),
        ("/", "/"),
        ("/API/health", "/api"),
    ],
)
def test_the_path_is_the_one_that_the_application_routes_on(path: str, root: str) -> None:
    """Below the root path, if it is there as whole segments: as Starlette has it."""
    from starlette._utils import get_route_path

    assert _route_path({"path": path, "root_path": root}) == get_route_path({"path": path, "root_path": root})


@pytest.mark.req("RV7")
def test_root_paths_and_mounts_open_nothing() -> None:
    """Inside an application with a root path, and in a mounted one, public paths are those of its routes."""
    guard = issuer.guard()
    app = FastAPI()
    app.root_path = "/api"  # the newest FastAPI warns of it as an argument
    app.add_route("/health", JSONResponse({}))  # type: ignore[arg-type]  # an application is an endpoint too
    app.add_middleware(AuthSecMiddleware, guard=guard, public=[("GET", "/health")])
    assert asked(app, "GET", "/api/health").status == 200
    assert asked(app, "GET", "/health").status == 200
    assert asked(app, "GET", "/api/api/health").status == 401
    assert asked(app, "GET", "/apix/health").status == 401
    inside = Starlette(routes=[Mount("/sub", AuthSecMiddleware(Reached(), guard=guard, public=[("GET", "/health")]))])
    assert asked(inside, "GET", "/sub/health").status == 200
    assert asked(inside, "GET", "/sub/other").status == 401


@pytest.mark.req("RV5")
def test_an_application_whose_root_path_is_hidden_is_refused() -> None:
    """From outside, its routes have other paths than inside, so that the wrong rule would be asked."""
    hidden = FastAPI()
    hidden.root_path = "/api"
    with pytest.raises(ConfigurationError, match="add_middleware"):
        AuthSecMiddleware(hidden, guard=issuer.guard())
    with pytest.raises(ConfigurationError, match="add_middleware"):
        AuthSecMiddleware(CORSMiddleware(hidden), guard=issuer.guard())


@pytest.mark.req("RV7")
def test_only_http_websockets_and_the_lifespan_pass() -> None:
    """What is none of them carries no token, so that it is not let through; the lifespan is the server's own."""
    reached = Reached()
    guarded = AuthSecMiddleware(reached, guard=issuer.guard())

    async def receive() -> Message:
        return {"type": "lifespan.startup"}

    async def send(message: Message) -> None:
        raise AssertionError(message)

    asyncio.run(guarded({"type": "lifespan"}, receive, send))
    assert [scope["type"] for scope in reached.scopes] == ["lifespan"]
    with pytest.raises(RuntimeError, match="lets nothing else through"):
        asyncio.run(guarded({**scope_of("GET", "/health"), "type": "webtransport"}, receive, send))
    assert len(reached.scopes) == 1


def test_it_is_made_when_the_application_starts() -> None:
    """A public list that is refused ends the start of a server, not its first request."""
    app = FastAPI()
    app.add_middleware(AuthSecMiddleware, guard=issuer.guard(), public=[("get", "/health")])

    async def never(*_: Any) -> Any:
        raise AssertionError("the application has started")

    with pytest.raises(ConfigurationError, match="upper case"):
        asyncio.run(app({"type": "lifespan"}, never, never))


def preflight(app: FastAPI) -> Answer:
    """Ask as a browser does before it sends a token to another origin."""
    headers = [
        (b"origin", b"https://shop.example"),
        (b"access-control-request-method", b"GET"),
        (b"access-control-request-headers", b"authorization"),
    ]
    return asked(app, "OPTIONS", "/metrics", headers)


def test_cors_stands_around_the_guard() -> None:
    """Added after the guard it answers preflights, and a page can read the 401; added before it, neither."""
    guard = issuer.guard()
    cors: dict[str, Any] = {"allow_origins": ["https://shop.example"], "allow_headers": ["authorization"]}
    app = api(guard)
    app.add_middleware(AuthSecMiddleware, guard=guard)
    app.add_middleware(CORSMiddleware, **cors)
    assert preflight(app).status == 200
    refused = asked(app, "GET", "/metrics", [(b"origin", b"https://shop.example")])
    assert (refused.status, refused.headers["access-control-allow-origin"]) == (401, "https://shop.example")
    wrong = api(guard)
    wrong.add_middleware(CORSMiddleware, **cors)
    wrong.add_middleware(AuthSecMiddleware, guard=guard)
    assert preflight(wrong).status == 401


@pytest.mark.req("RV8")
def test_a_refusal_of_the_middleware_is_that_of_a_dependency() -> None:
    """Status, headers and body are the same, so that clients need not know which of them refused."""
    guard = issuer.guard(realm="shop")
    plain, guarded = api(guard), api(guard)
    guarded.add_middleware(AuthSecMiddleware, guard=guard)
    for headers in ([], authorization("wrong"), [*authorization("a"), *authorization("b")]):
        assert asked(plain, "GET", "/metrics", headers) == asked(guarded, "GET", "/metrics", headers)


@pytest.mark.req("RV9")
def test_a_long_connection_can_be_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """`check_again` looks at the token, decides, and records; a principal that no guard made is refused."""
    from guard_support import caller

    from authsec_core.errors import RevokedTokenError
    from authsec_fastapi import AccessDeniedError

    memory = Memory()
    guard = issuer.guard(sink=memory)
    principal = asyncio.run(caller(guard, TOKEN))
    asyncio.run(guard.check_again(principal))
    asyncio.run(guard.check_again(principal, "read"))
    with pytest.raises(AccessDeniedError):
        asyncio.run(guard.check_again(principal, "write"))
    with pytest.raises(AccessDeniedError):
        asyncio.run(guard.check_again(principal, role="admin"))

    class Revoked(Standing):
        def check(self) -> None:
            raise RevokedTokenError("revoked")

        async def acheck(self) -> None:
            self.check()

        def is_of(self, authenticator: object) -> bool:
            return True

    ended = Principal(subject="ann", issuer="https://a.example", _standing=Revoked())
    with pytest.raises(RevokedTokenError):
        asyncio.run(guard.check_again(ended))
    assert [event.reason for event in memory.events[1:]] == [
        "allowed",
        "allowed",
        "insufficient_scope",
        "role_missing",
        "token_revoked",
    ]
    with pytest.raises(ValueError, match="did not come from a guard"):
        asyncio.run(guard.check_again(Principal(subject="ann", issuer="https://a.example")))
