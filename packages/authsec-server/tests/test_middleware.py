"""What stands before the routes: ids, addresses, hosts, limits, headers and the access line."""

from __future__ import annotations

import ipaddress
import logging
from collections.abc import Callable, Iterable
from typing import Any

import anyio
import httpx
import pytest
from fastapi import APIRouter, FastAPI, Request, Response
from hypothesis import given
from hypothesis import strategies as st
from starlette.responses import JSONResponse
from starlette.types import Message

from authsec_core.testing import FakeClock, assert_no_secret
from authsec_server import middleware, problems
from authsec_server.errors import RateLimitedError
from authsec_server.logs import REQUEST_ID
from authsec_server.middleware import TimeLimit, client_address
from authsec_server.settings import ServerSettings

ROOT = "http://127.0.0.1:8321"
SDK = "/authsec/uflow/sdk/delegation-token"
SECRET = "agk_0123456789abcdef.canary-q2w3e4r5t6y7u8i9o0p1a2s3d4f5"
JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0.q2w3e4r5t6y7u8i9o0p1a2s3d4f5"
CLIENT_ID = "7b1c3f5e-2a4d-4c6b-8e9f-0a1b2c3d4e5f"
PROXIES = tuple(ipaddress.ip_network(item) for item in ("10.0.0.0/8", "fd00::/8"))


def stack(add: Callable[[FastAPI], None] = lambda app: None, *, clock: Any = None, **given: Any) -> FastAPI:
    """An app with a few routes and everything that stands before them."""
    app = FastAPI(redirect_slashes=False)
    router = APIRouter(prefix="/api/v1")

    @router.get("/clients/{client_id}")
    async def client(client_id: str, request: Request) -> dict[str, Any]:
        return {"id": request.state.request_id, "log": REQUEST_ID.get(), "peer": request.client and request.client.host}

    @router.post("/echo")
    async def echo(request: Request) -> int:
        return len(await request.body())

    @app.get("/keys")
    async def keys() -> Response:
        return JSONResponse({}, headers={"Cache-Control": "public, max-age=300", "X-Request-ID": "forged"})

    @app.get("/healthz")
    async def health() -> None:
        return None

    add(app)
    app.include_router(router)
    problems.install(app)
    settings = ServerSettings(**{"dev": True, **given})
    middleware.install(app, settings, **({} if clock is None else {"clock": clock}))
    return app


async def request(app: FastAPI, method: str, path: str, *, peer: str = "127.0.0.1", **options: Any) -> httpx.Response:
    """One request to it, from `peer`."""
    transport = httpx.ASGITransport(app, client=(peer, 40000))
    async with httpx.AsyncClient(transport=transport, base_url=ROOT) as client:
        return await client.request(method, path, **options)


def production(**given: Any) -> dict[str, Any]:
    """Settings of a server behind a proxy."""
    return {
        "dev": False,
        "public_url": "https://authority.example.com",
        "data_dir": "/srv/authsec",
        "behind_proxy": True,
        **given,
    }


@pytest.mark.anyio
async def test_a_request_has_one_id_everywhere() -> None:
    """The id that the header shows is the one that routes and log lines see, and each request has its own."""
    app = stack()
    first = await request(app, "GET", "/api/v1/clients/x")
    second = await request(app, "GET", "/api/v1/clients/x")
    assert first.headers["x-request-id"] == first.json()["id"] == first.json()["log"]
    assert first.headers["x-request-id"] != second.headers["x-request-id"]
    assert REQUEST_ID.get() == ""


@pytest.mark.anyio
@pytest.mark.parametrize("given", ["a", "trace-1.2_3", "x" * 64])
async def test_a_decent_id_is_kept(given: str) -> None:
    """A proxy's id is taken over, so that its log and ours can be joined."""
    reply = await request(stack(), "GET", "/api/v1/clients/x", headers={"X-Request-ID": given})
    assert reply.headers["x-request-id"] == reply.json()["id"] == given


@pytest.mark.anyio
@pytest.mark.parametrize("given", ["", "x" * 65, "a b", 'a"', "a\tb", "\u00e4"])
async def test_an_odd_id_is_replaced(given: str) -> None:
    """An id that could forge a log line is not taken over."""
    reply = await request(stack(), "GET", "/api/v1/clients/x", headers={"X-Request-ID": given.encode()})
    assert len(reply.headers["x-request-id"]) == 36


@pytest.mark.anyio
async def test_two_ids_are_none() -> None:
    """Of two ids neither is believed."""
    reply = await request(stack(), "GET", "/keys", headers=[("X-Request-ID", "one"), ("X-Request-ID", "two")])
    assert len(reply.headers["x-request-id"]) == 36
    assert reply.headers.get_list("x-request-id") == [reply.headers["x-request-id"]]


@pytest.mark.anyio
@pytest.mark.parametrize("path", ["/api/v1/clients/x", "/nowhere", "/keys"])
async def test_every_answer_has_safe_headers(path: str) -> None:
    """Nothing is sniffed, framed, referred to or kept, unless the route says that it may be kept."""
    headers = (await request(stack(), "GET", path)).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["content-security-policy"].startswith("default-src 'none'")
    assert headers["cache-control"] == ("public, max-age=300" if path == "/keys" else "no-store")


@pytest.mark.anyio
@pytest.mark.req("RO1")
@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8321", 200),
        ("localhost", 200),
        ("LOCALHOST:1", 200),
        ("[::1]:8321", 200),
        ("evil.example.com", 421),
        ("localhost.evil.example.com", 421),
        ("127.0.0.1.evil.example.com", 421),
        ("localhost.", 421),
        ("127.0.0.1:8321:1", 421),
        ("user@localhost", 421),
        ("::1", 421),
        ("[::1", 421),
        ("0.0.0.0:8321", 421),
        ("authority.example.com", 421),
        ("", 421),
    ],
)
async def test_a_try_out_answers_on_loopback_names_only(host: str, status: int) -> None:
    """A page whose name was rebound to this machine sends its own Host, and gets nothing."""
    reply = await request(stack(), "GET", "/keys", headers={"Host": host})
    assert reply.status_code == status
    health = await request(stack(), "GET", "/healthz", headers={"Host": host})
    assert health.status_code == status


@pytest.mark.anyio
async def test_two_hosts_are_none() -> None:
    """A request with two Host headers is refused, whatever they say."""
    reply = await request(stack(), "GET", "/keys", headers=[("Host", "localhost"), ("Host", "localhost")])
    assert reply.status_code == 421


@pytest.mark.anyio
async def test_production_answers_to_its_public_name() -> None:
    """Beyond a try-out the public URL's host is allowed too, and load balancers may ask for health by address."""
    app = stack(**production())
    for host, path, status in (
        ("authority.example.com", "/keys", 200),
        ("10.1.2.3", "/keys", 421),
        ("10.1.2.3:8321", "/healthz", 200),
    ):
        assert (await request(app, "GET", path, headers={"Host": host})).status_code == status


@pytest.mark.anyio
async def test_refusals_have_the_shape_of_their_path() -> None:
    """What is refused before the routes looks like what they refuse."""
    agents = await request(stack(), "GET", SDK, headers={"Host": "evil.example.com"})
    assert agents.json() == {"error": "this server does not answer to that Host", "details": "unknown_host"}
    admin = await request(stack(), "GET", "/api/v1/clients/x", headers={"Host": "evil.example.com"})
    assert admin.headers["content-type"] == "application/problem+json"
    assert admin.json()["request_id"] == admin.headers["x-request-id"]
    assert "x-content-type-options" in admin.headers


async def chunks(sizes: Iterable[int]) -> Any:
    """A body that does not say how long it is."""
    for size in sizes:
        yield b"x" * size


@pytest.mark.anyio
@pytest.mark.req("RA9")
@pytest.mark.parametrize(("size", "status"), [(1023, 200), (1024, 200), (1025, 413), (10**6, 413)])
@pytest.mark.parametrize("way", ["announced", "streamed", "in one piece", "lying"])
async def test_a_body_has_a_limit(size: int, status: int, way: str) -> None:
    """A body beyond the limit is 413, whether it says its size, does not, or lies about it."""
    content = b"x" * size if way == "announced" else chunks([size] if way == "in one piece" else [1000, size - 1000])
    headers = {"Content-Length": "12"} if way == "lying" else {}
    reply = await request(stack(body_limit=1024), "POST", "/api/v1/echo", content=content, headers=headers)
    assert reply.status_code == status
    if status == 413:
        assert reply.json()["code"] == "body_too_large"
        assert reply.headers["connection"] == "close"
    else:
        assert reply.json() == size


@pytest.mark.anyio
@pytest.mark.req("RA9")
async def test_an_announced_body_is_not_read() -> None:
    """A body that says that it is too large is refused before a byte of it is taken."""
    sent: list[int] = []

    async def body() -> Any:
        sent.append(1)
        yield b"x"

    headers = {"Content-Length": "1025"}
    reply = await request(stack(body_limit=1024), "POST", "/api/v1/echo", content=body(), headers=headers)
    assert (reply.status_code, sent) == (413, [])


@pytest.mark.anyio
async def test_an_odd_length_is_counted_instead() -> None:
    """A Content-Length that is no number does not count; the bytes do."""
    for length in ("x", "-5", "9" * 30, "\u0661"):
        headers = {"Content-Length": length.encode()}
        reply = await request(stack(body_limit=1024), "POST", "/api/v1/echo", content=chunks([2000]), headers=headers)
        assert reply.status_code == 413


@pytest.mark.anyio
async def test_a_response_that_began_is_not_taken_back() -> None:
    """Where a route answers before it has read everything, the limit cuts the connection: two answers are no answer."""
    sent: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await receive()

    async def receive() -> Message:
        return {"type": "http.request", "body": b"xx"}

    async def send(message: Message) -> None:
        sent.append(message["type"])

    with pytest.raises(Exception, match="too large"):
        await middleware.BodyLimit(app, limit=1)({"type": "http", "path": "/", "headers": []}, receive, send)
    assert sent == ["http.response.start"]


@pytest.mark.anyio
@pytest.mark.req("RA9")
@pytest.mark.parametrize("path", ["/slow", SDK])
async def test_work_has_a_time_limit(path: str) -> None:
    """A request that does not end is ended: its work is cancelled, and the answer is 503."""
    outcome: list[str] = []

    def add(app: FastAPI) -> None:
        @app.get(path)
        async def slow() -> None:
            try:
                await anyio.Event().wait()
            except BaseException:
                outcome.append("cancelled")
                raise

    reply = await request(stack(add, request_timeout=0.02, database_timeout=0.01), "GET", path)
    assert reply.status_code == 503
    assert reply.headers["retry-after"] == "1"
    assert outcome == ["cancelled"]
    assert ("error" in reply.json()) is (path == SDK)


@pytest.mark.anyio
@pytest.mark.req("RA9")
async def test_a_body_has_a_time_limit() -> None:
    """A body that trickles in, or stops, is 408 and costs the connection."""

    async def stopping() -> Any:
        yield b"x"
        await anyio.Event().wait()

    app = stack(request_timeout=0.02, database_timeout=0.01)
    reply = await request(app, "POST", "/api/v1/echo", content=stopping())
    assert (reply.status_code, reply.headers["connection"]) == (408, "close")


@pytest.mark.anyio
async def test_waiting_for_the_client_to_leave_is_no_slow_body() -> None:
    """A route that listens for a disconnect after the body is slow work, not a slow body."""

    def add(app: FastAPI) -> None:
        @app.post("/listening")
        async def listening(request: Request) -> None:
            await request.body()
            await request.receive()
            await anyio.Event().wait()

    reply = await request(stack(add, request_timeout=0.02, database_timeout=0.01), "POST", "/listening", content=b"x")
    assert reply.status_code == 503


@pytest.mark.anyio
async def test_a_response_that_began_may_finish() -> None:
    """The limit is lifted when the first byte goes out: a long export is no stuck request."""
    sent: list[Message] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        with anyio.move_on_after(0.05):  # longer than the limit
            await anyio.Event().wait()
        await send({"type": "http.response.body", "body": b"whole"})

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "path": "/", "headers": []}
    layer: Any = TimeLimit(app, seconds=0.01)
    await layer(scope, None, send)
    assert sent[-1]["body"] == b"whole"


@pytest.mark.anyio
@pytest.mark.req("RA9")
@pytest.mark.parametrize("taken", [0, 3])
async def test_a_response_that_nobody_reads_does_not_last(taken: int) -> None:
    """Each piece has the limit of a request: who takes none any more ends the work that goes on for them."""
    sent: list[Message] = []
    outcome: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        try:
            while True:
                await send({"type": "http.response.body", "body": b"x", "more_body": True})
        except BaseException:
            outcome.append("cancelled")
            raise

    async def send(message: Message) -> None:
        if len(sent) > taken:
            await anyio.Event().wait()
        sent.append(message)

    layer: Any = TimeLimit(app, seconds=0.02)
    with anyio.fail_after(30):
        await layer({"type": "http", "path": "/", "headers": []}, None, send)
    assert (len(sent), outcome) == (taken + 1, ["cancelled"])


@pytest.mark.anyio
async def test_what_fails_after_it_began_cuts_the_connection(caplog: pytest.LogCaptureFixture) -> None:
    """Half an answer is not completed with an error: it is raised, and logged."""
    sent: list[str] = []

    async def half(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        raise RuntimeError("broken")

    async def send(message: Message) -> None:
        sent.append(message["type"])

    layer: Any = middleware.LastResort(half)
    with pytest.raises(RuntimeError, match="broken"):
        await layer({"type": "http", "path": "/", "headers": []}, None, send)
    assert sent == ["http.response.start"]
    assert "unexpected RuntimeError" in caplog.text


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("192.0.2.1", [], "192.0.2.1"),
        ("192.0.2.1", ["203.0.113.9"], "192.0.2.1"),
        ("10.0.0.1", [], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["1.1.1.1, 203.0.113.9"], "203.0.113.9"),
        ("10.0.0.1", ["1.1.1.1", "203.0.113.9, 10.0.0.2"], "203.0.113.9"),
        ("10.0.0.1", ["1.1.1.1, unknown"], "10.0.0.1"),
        ("10.0.0.1", ["203.0.113.9, "], "10.0.0.1"),
        ("10.0.0.1", ["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
        ("::ffff:10.0.0.1", ["203.0.113.9"], "203.0.113.9"),
        ("fd00::1", ["2001:db8::5"], "2001:db8::5"),
        ("10.0.0.1", ["\x1b[31m"], "10.0.0.1"),
        ("testclient", ["203.0.113.9"], "testclient"),
    ],
)
def test_only_trusted_proxies_are_believed(peer: str, forwarded: list[str], address: str) -> None:
    """The address is that of the last hop that is no trusted proxy; what it claims of others counts for nothing."""
    assert client_address(peer, forwarded, PROXIES) == address


@given(peer=st.ip_addresses(), forwarded=st.lists(st.text(max_size=30), max_size=4))
def test_without_trusted_proxies_nothing_is_believed(peer: Any, forwarded: list[str]) -> None:
    """No header changes the address of a server that trusts no proxy."""
    expected = getattr(peer, "ipv4_mapped", None) or peer
    assert client_address(str(peer), forwarded, ()) == str(expected)


@pytest.mark.anyio
@pytest.mark.parametrize(("peer", "seen"), [("10.0.0.1", "203.0.113.9"), ("192.0.2.1", "192.0.2.1")])
async def test_routes_see_the_client(peer: str, seen: str) -> None:
    """Routes, and so the audit, see the client's address and not the proxy's."""
    app = stack(**production(trusted_proxies="10.0.0.0/8"))
    headers = {"Host": "authority.example.com", "X-Forwarded-For": "203.0.113.9"}
    reply = await request(app, "GET", "/api/v1/clients/x", peer=peer, headers=headers)
    assert reply.json()["peer"] == seen


def access_lines(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    """What the access log holds, record by record."""
    return [vars(record) for record in caplog.records if record.name == "authsec.server.access"]


@pytest.mark.anyio
async def test_a_request_is_one_line(caplog: pytest.LogCaptureFixture) -> None:
    """Method, route, status, seconds and address are logged, as text and as fields."""
    caplog.set_level(logging.INFO, "authsec")
    clock = FakeClock()

    def add(app: FastAPI) -> None:
        @app.get("/working")
        async def working() -> None:
            clock.advance(1.5)

    await request(stack(add, clock=clock), "GET", "/working")
    (line,) = access_lines(caplog)
    assert {name: line[name] for name in ("method", "path", "status", "seconds", "address")} == {
        "method": "GET",
        "path": "/working",
        "status": 200,
        "seconds": 1.5,
        "address": "127.0.0.1",
    }
    assert line["message"] == "GET /working 200 in 1.500 s from 127.0.0.1"


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("method", "path", "shown", "status"),
    [
        ("GET", f"/api/v1/clients/{CLIENT_ID}", "/api/v1/clients/{client_id}", 200),
        ("POST", f"/api/v1/clients/{CLIENT_ID}", "/api/v1/clients/{client_id}", 405),
        ("GET", "/nowhere", "/nowhere", 404),
        ("GET", "/.well-known/jwks.json", "/.well-known/jwks.json", 404),
        ("GET", "/a%0Ab%1B[31m", "/*", 404),
        ("GET", "/" + "x" * 5000, "/*", 404),
        ("GET", "/x" * 5000, "/x" * 100, 404),
        ("GET", "/outer/inner/7", "/outer/inner/{number}", 200),
        ("GET", "/files/deep/down", "/files/{name:path}", 200),
    ],
)
async def test_the_log_shows_the_route(
    method: str, path: str, shown: str, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    """A known route is logged as its template, without the ids in it; of an unknown path its words, on one line."""
    caplog.set_level(logging.INFO, "authsec")

    def add(app: FastAPI) -> None:
        @app.get("/files/{name:path}")
        async def file(name: str) -> None:
            return None

        inner = APIRouter()

        @inner.get("/inner/{number}")
        async def numbered(number: int) -> None:
            return None

        app.include_router(inner, prefix="/outer")

    assert (await request(stack(add), method, path)).status_code == status
    (line,) = access_lines(caplog)
    assert (line["path"], line["status"]) == (shown, status)


@pytest.mark.anyio
async def test_the_log_has_no_query_and_no_credential(caplog: pytest.LogCaptureFixture) -> None:
    """Client ids in the query and keys in headers stay out of every line, at every level."""
    caplog.set_level(logging.DEBUG)
    headers = {"Authorization": f"Bearer {SECRET}", "X-Client-ID": CLIENT_ID}
    await request(stack(), "GET", "/keys", params={"client_id": CLIENT_ID, "key": SECRET}, headers=headers)
    ours = [record for record in caplog.records if record.name.startswith("authsec")]
    assert ours
    assert_no_secret([ours, [record.getMessage() for record in ours]], SECRET, CLIENT_ID)


@pytest.mark.anyio
@pytest.mark.parametrize("host", ["127.0.0.1", "evil.example.com"])
@pytest.mark.parametrize("secret", [SECRET, SECRET.replace("agk", "opt"), SECRET.partition(".")[2], JWT, CLIENT_ID])
@pytest.mark.parametrize("times", [0, 1, 2])
async def test_a_secret_in_a_path_is_not_logged(
    secret: str, times: int, host: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Where nothing is served, and however often it is percent-encoded; the words beside it are."""
    caplog.set_level(logging.DEBUG)
    sent = secret
    for _ in range(times):
        sent = "".join(f"%{byte:02X}" for byte in sent.encode())
    await request(stack(), "GET", f"/api/v1/nothere/{sent}/x", headers={"Host": host})
    (line,) = access_lines(caplog)
    assert line["path"] == "/api/v1/nothere/*/x"
    ours = [record for record in caplog.records if record.name.startswith("authsec")]
    assert_no_secret([ours, [record.getMessage() for record in ours]], secret, sent)


@pytest.mark.anyio
async def test_a_flood_does_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """What has to wait is logged at DEBUG only: whoever floods would write the log, too."""
    caplog.set_level(logging.INFO, "authsec")

    def add(app: FastAPI) -> None:
        @app.get("/busy")
        async def busy() -> None:
            raise RateLimitedError("wait", retry_after=3)

    reply = await request(stack(add), "GET", "/busy")
    assert (reply.status_code, reply.headers["retry-after"]) == (429, "3")
    assert not access_lines(caplog)


@pytest.mark.anyio
async def test_health_checks_do_not_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """What is asked every second is logged at DEBUG only."""
    caplog.set_level(logging.INFO, "authsec")
    await request(stack(), "GET", "/healthz")
    assert not access_lines(caplog)


@pytest.mark.anyio
async def test_what_is_not_http_passes() -> None:
    """Lifespan messages go through every layer unchanged."""
    seen: list[str] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope["type"])

    wrapped = middleware.BodyLimit(app, limit=1)
    layers: Any = middleware.RequestContext(
        middleware.HostCheck(middleware.LastResort(middleware.TimeLimit(wrapped, seconds=1)), allowed=frozenset())
    )
    await layers({"type": "lifespan"}, None, None)
    assert seen == ["lifespan"]


@pytest.mark.anyio
async def test_a_unix_socket_has_no_address(caplog: pytest.LogCaptureFixture) -> None:
    """A peer without an address is logged as such."""
    caplog.set_level(logging.INFO, "authsec")

    async def app(scope: Any, receive: Any, send: Any) -> None:
        assert scope["client"] is None

    scope: dict[str, Any] = {"type": "http", "path": "/", "method": "GET", "headers": [], "client": None}
    layer: Any = middleware.RequestContext(app)
    await layer(scope, None, None)
    (line,) = access_lines(caplog)
    assert (line["address"], line["status"]) == (None, None)
