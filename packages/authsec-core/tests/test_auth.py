"""A delegation token on requests of the program's own: to which origins, and what happens when it is refused."""

from __future__ import annotations

import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx
import pytest
from api_support import API, World, fetch
from core_support import Driver, ScriptedSource, made_token

from authsec_core import (
    AsyncAuthSecClient,
    AuthorityUnreachableError,
    AuthSecClient,
    AuthSecConfig,
    ConfigurationError,
    DelegationAuth,
    DelegationToken,
    DownstreamDeniedError,
    EndpointRefusedError,
    TokenCache,
    TokenRequest,
)
from authsec_core.testing import FakeClock, LocalAuthority, LoopbackServer, Reply, Request

ORIGIN = "https://api.test"
INVALID = 'Bearer realm="api", error="invalid_token", error_description="it has ended"'
Handler = Callable[[httpx.Request], httpx.Response]


class Wallet(ScriptedSource):
    """Hands out one token until it is told to forget it, then another."""

    def __init__(self) -> None:
        self.forgotten: list[DelegationToken] = []
        super().__init__(lambda: made_token(FakeClock(), jti=str(len(self.forgotten))))

    def forget(self, token: DelegationToken) -> None:
        """Note which."""
        self.forgotten.append(token)


class Api:
    """Answers with what the test says, and remembers what it was sent."""

    def __init__(self, *answers: httpx.Response) -> None:
        self.answers = list(answers)
        self.requests: list[tuple[str, str | None, bytes]] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        """Answer the next one."""
        self.requests.append((str(request.url), request.headers.get("Authorization"), request.read()))
        return self.answers.pop(0) if self.answers else httpx.Response(200)


def refusal(challenge: str | None = INVALID, status: int = 401) -> httpx.Response:
    """Return an API's refusal."""
    return httpx.Response(status, headers=[("WWW-Authenticate", challenge)] if challenge else [])


def send(
    driver: Driver, auth: httpx.Auth, url: str = f"{ORIGIN}/x", *, handler: Handler | None = None, **options: Any
) -> httpx.Response:
    """Send a request with a client of the program's own, over the network where there is no handler."""
    method = options.pop("method", "GET")
    own = {"follow_redirects": options.pop("follow_redirects", False), "headers": options.pop("default_headers", {})}
    transport = None if handler is None else httpx.MockTransport(handler)
    if driver.kind == "sync":
        with httpx.Client(transport=transport, trust_env=False, **own) as http:
            return http.request(method, url, auth=auth, **options)

    async def awaited() -> httpx.Response:
        async with httpx.AsyncClient(transport=transport, trust_env=False, **own) as client:
            return await client.request(method, url, auth=auth, **options)

    return driver.run(awaited())


def carrying(source: ScriptedSource, *origins: str, **options: Any) -> DelegationAuth:
    """Return an auth for these origins."""
    return DelegationAuth(source, TokenRequest(), origins=origins or [ORIGIN], **options)


class TestWhereItGoes:
    """RD3, RS9: to the listed origins, and nowhere else."""

    @pytest.mark.req("RD3")
    @pytest.mark.parametrize(
        "url",
        [ORIGIN, f"{ORIGIN}/", f"{ORIGIN}:443/a/b?c=d", "https://API.test/x", f"{ORIGIN}/../x", "https://b.test:8443/"],
    )
    def test_listed_origins_get_it(self, driver: Driver, url: str) -> None:
        """Whatever the path; a default port and the case of the host make no difference."""
        api, wallet = Api(), Wallet()
        assert (
            send(driver, carrying(wallet, "HTTPS://Api.test:443/", "https://b.test:8443"), url, handler=api).status_code
            == 200
        )
        assert [authorization for _, authorization, _ in api.requests] == ["Bearer secret.of.0"]

    @pytest.mark.req("RD3")
    @pytest.mark.parametrize(
        "url",
        [
            "https://evil.test/x",
            "https://api.test.evil.test/",
            "https://sub.api.test/",
            "https://apiXtest/",
            "https://api.test:8443/",
            "https://api.test:80/",
            "https://api.test:0/",
            "https://api.test./",
            "https://api.test@evil.test/",
            "https://api.test:443@evil.test/",
            "http://api.test/",
            "http://api.test:443/",
            "https://\u0430pi.test/",
            "https://127.0.0.1/",
            "ftp://api.test/",
            "/x",
        ],
    )
    def test_no_other_origin_gets_it(self, driver: Driver, url: str) -> None:
        """The request is refused before a token is asked for, and does not leave."""
        api, wallet = Api(), Wallet()
        with pytest.raises((EndpointRefusedError, httpx.UnsupportedProtocol)):
            send(driver, carrying(wallet), url, handler=api)
        assert (api.requests, wallet.asked) == ([], [])

    @pytest.mark.req("RD3")
    def test_no_origin_listed_means_none(self, driver: Driver) -> None:
        """An empty list is not a wildcard."""
        wallet = Wallet()
        auth = DelegationAuth(wallet, TokenRequest(), origins=[])
        with pytest.raises(EndpointRefusedError, match="add it to origins="):
            send(driver, auth, handler=Api())
        assert not wallet.asked

    @pytest.mark.req("RS9", "RD3")
    @pytest.mark.parametrize(
        ("origin", "says"),
        [
            *((text, "not an absolute URL") for text in ("api.test", "//api.test", "https://", "ftp://api.test")),
            *((text, "not an absolute URL") for text in ("https:api.test", "https:///api.test", "https://api.test:x")),
            *(
                (text, "user name")
                for text in ("https://api@evil.test", "https://api.test@evil.test", "https://@a.test")
            ),
            ("https://api.test:443@evil.test/", "user name"),
            *((f"{ORIGIN}/{more}", f"write {ORIGIN} ") for more in ("v2", "/", "@evil.test", "%2e")),
            *((f"{ORIGIN}{more}", f"write {ORIGIN} ") for more in (":", ":0443", ":443//")),
            ("https://api.test:08443", "write https://api.test:8443 "),
            *((f"{ORIGIN}{more}", "query") for more in ("?", "?x=1", "#", "#@evil.test", "/..")),
            *((text, "characters") for text in ("", " https://api.test", "https://api.test\\@evil.test")),
            *((text, "characters") for text in ("https://api\t.test", "https://\u0430pi.test", "https://api.test\n")),
            *(
                (text, "neither a name nor an address")
                for text in ("https://*", "https://*.test", "https://2130706433")
            ),
        ],
    )
    def test_what_is_no_origin_is_refused(self, origin: str, says: str) -> None:
        """A reader could make another origin of it than the one that the token would go to; the error says which."""
        with pytest.raises(ConfigurationError) as caught:
            DelegationAuth(Wallet(), TokenRequest(), origins=[ORIGIN, origin])
        assert str(caught.value).startswith("origins=: number 2: ")
        assert says in str(caught.value)
        assert str(caught.value).endswith("(scheme, host and port alone, such as https://api.example.com)")

    @pytest.mark.req("RS8")
    @pytest.mark.parametrize(
        "origin", ["https://me:canary-7@api.test", "https://me:canary-7", "https://api.test/canary-7"]
    )
    def test_the_refusal_does_not_repeat_a_password(self, origin: str) -> None:
        """What hangs on the error does not either."""
        with pytest.raises(ConfigurationError) as caught:
            carrying(Wallet(), origin)
        assert "canary-7" not in "".join(traceback.format_exception(caught.value))

    def test_a_text_in_the_place_of_the_list_is_refused(self) -> None:
        """Its letters are no origins; the error shows the brackets."""
        with pytest.raises(ConfigurationError, match=r"write origins=\['https://api\.example\.com'\]"):
            DelegationAuth(Wallet(), TokenRequest(), origins=ORIGIN)

    @pytest.mark.req("RS3")
    @pytest.mark.parametrize("url", ["http://api.test/x", "http://10.0.0.1/x", "http://localhost.evil.test/x"])
    def test_plain_http_beyond_loopback_is_refused(self, driver: Driver, url: str) -> None:
        """Listed or not, a token does not travel in the clear, unless that was allowed."""
        api, wallet = Api(), Wallet()
        origin = url.removesuffix("/x")
        with pytest.raises(EndpointRefusedError, match="use https"):
            send(driver, carrying(wallet, origin), url, handler=api)
        assert (api.requests, wallet.asked) == ([], [])
        assert send(driver, carrying(wallet, origin, allow_http=True), url, handler=api).is_success

    @pytest.mark.req("RS3")
    @pytest.mark.parametrize("url", ["http://localhost:8000/", "http://127.0.0.1/", "http://[::1]:8000/"])
    def test_plain_http_on_loopback_is_fine(self, driver: Driver, url: str) -> None:
        """Also for MOCK tokens."""
        assert send(driver, carrying(Wallet(), url, loopback_only=True), url, handler=Api()).is_success

    @pytest.mark.req("RS2")
    @pytest.mark.parametrize("allow_http", [False, True])
    @pytest.mark.parametrize("url", ["https://api.test/", "http://api.test/", "https://localhost.evil.test/"])
    def test_mock_tokens_stay_on_this_machine(self, driver: Driver, url: str, allow_http: bool) -> None:
        """Whatever is listed or allowed."""
        api, wallet = Api(), Wallet()
        with pytest.raises(EndpointRefusedError, match="this machine only"):
            send(driver, carrying(wallet, url, loopback_only=True, allow_http=allow_http), url, handler=api)
        assert (api.requests, wallet.asked) == ([], [])

    def test_a_client_knows_its_api(self, driver: Driver) -> None:
        """`client.auth()` is for the API of the settings; other origins are named, and none at all is an error."""
        world = World()
        client = world.client(driver)
        assert send(driver, client.auth("read"), f"{API}/x", handler=world).is_success
        assert world.asked_scopes == ["read"]
        with pytest.raises(EndpointRefusedError):
            send(driver, client.auth("read"), "https://other.test/x", handler=world)
        assert send(
            driver, client.auth("read", origins=["https://other.test"]), "https://other.test/", handler=world
        ).is_success
        assert world.authorizations == [f"Bearer {world.tokens[0]}"] * 2
        homeless = world.client(driver, api_base_url=None)
        with pytest.raises(ConfigurationError, match="AUTHSEC_API_BASE_URL"):
            homeless.auth("read")

    @pytest.mark.parametrize(("scope", "ttl"), [("", None), (" ", None), ('a"', None), ("a", 0), ("a", -1.0)])
    def test_what_is_asked_for_is_checked_at_once(self, driver: Driver, scope: str, ttl: float | None) -> None:
        """A blank scope or an impossible life fails where it was written, not at the first request."""
        with pytest.raises(ValueError, match=r"scope|ttl"):
            World().client(driver).auth(scope, ttl=ttl)


class TestTheHeader:
    """One Authorization header, ours."""

    @pytest.mark.parametrize("name", ["Authorization", "authorization", "AUTHORIZATION"])
    def test_it_takes_the_place_of_any_other(self, driver: Driver, name: str) -> None:
        """In whatever case the program, or its client, has set one."""
        api = Api()
        send(driver, carrying(Wallet()), handler=api, headers={name: "Basic x"}, default_headers={name.swapcase(): "y"})
        assert [authorization for _, authorization, _ in api.requests] == ["Bearer secret.of.0"]

    def test_userinfo_of_the_url_does_not_take_its_place(self, driver: Driver) -> None:
        """Without an explicit auth httpx would make Basic credentials of it."""
        api = Api()
        send(driver, carrying(Wallet()), "https://user:pass@api.test/", handler=api)
        assert [authorization for _, authorization, _ in api.requests] == ["Bearer secret.of.0"]


class TestMisuse:
    """The two halves are not mixed."""

    def test_each_half_has_its_own_client(self) -> None:
        """A blocking exchange would stop an event loop, and a coroutine cannot run without one: a TypeError tells."""
        world, sync, asynchronous = World(), Driver("sync"), Driver("async")
        try:
            settings = {"base_url": "https://authority.test", "api_base_url": API}
            client_id = "7b1c3f5e-2a4d-4c6b-8e9f-0a1b2c3d4e5f"
            blocking = AuthSecClient(AuthSecConfig(client_id=client_id, **settings)).auth("read")  # type: ignore[arg-type]  # only text
            awaiting = AsyncAuthSecClient(AuthSecConfig(client_id=client_id, **settings)).auth("read")  # type: ignore[arg-type]  # only text
            with pytest.raises(TypeError, match="would block the loop: use AsyncAuthSecClient"):
                send(asynchronous, blocking, f"{API}/x", handler=world)
            with pytest.raises(TypeError, match=r"use it with httpx\.AsyncClient"):
                send(sync, awaiting, f"{API}/x", handler=world)
            assert world.silent
        finally:
            sync.close()
            asynchronous.close()


class TestRefused:
    """RS7: after a 401 `invalid_token`, once more with a new token, where that does no harm."""

    @pytest.mark.req("RS7")
    @pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS", "PUT", "DELETE", "TRACE"])
    def test_an_idempotent_request_is_repeated_once(self, driver: Driver, method: str) -> None:
        """With a new token and the same body; a second refusal is the answer."""
        for content in (b"", b"the body"):
            api, wallet = Api(refusal(), refusal()), Wallet()
            response = send(driver, carrying(wallet), handler=api, method=method, content=content)
            assert response.status_code == 401
            assert [token.jti for token in wallet.forgotten] == ["0"]
            assert api.requests == [(f"{ORIGIN}/x", f"Bearer secret.of.{number}", content) for number in (0, 1)]
            api, wallet = Api(refusal()), Wallet()
            assert send(driver, carrying(wallet), handler=api, method=method, content=content).is_success
            assert len(api.requests) == 2

    @pytest.mark.req("RS7")
    @pytest.mark.parametrize("method", ["POST", "PATCH", "CONNECT", "PROPFIND"])
    def test_no_other_method_is_repeated(self, driver: Driver, method: str) -> None:
        """It may have done something already; the token stays, since the next request will tell."""
        api, wallet = Api(refusal()), Wallet()
        response = send(driver, carrying(wallet), handler=api, method=method)
        repeated = response.request.method in {"GET"}  # httpx writes methods in capitals
        assert (response.status_code, len(api.requests), len(wallet.forgotten)) == (
            (200, 2, 1) if repeated else (401, 1, 0)
        )

    @pytest.mark.req("RS7")
    @pytest.mark.parametrize(
        "challenge",
        [
            INVALID,
            "Bearer error=invalid_token",
            'Bearer error = "invalid_token"',
            'bearer realm="x",error="invalid_token"',
            'Basic realm="x", Bearer error="invalid_token"',
            'Bearer ERROR="INVALID_TOKEN"',
            'Bearer scope="a b", error="invalid_token"',
        ],
    )
    def test_every_way_to_say_invalid_token_counts(self, driver: Driver, challenge: str) -> None:
        """RFC 6750 section 3 and RFC 9110 section 11.6.1: quoted or not, among other challenges and parameters."""
        api, wallet = Api(refusal(challenge)), Wallet()
        assert send(driver, carrying(wallet), handler=api).is_success
        assert len(wallet.forgotten) == 1

    @pytest.mark.req("RS7")
    @pytest.mark.parametrize(
        ("status", "challenge"),
        [
            (401, None),
            (401, ""),
            (401, "Bearer"),
            (401, 'Bearer realm="api"'),
            (401, 'Bearer error="insufficient_scope"'),
            (401, 'Bearer error="invalid_request"'),
            (401, 'Bearer error="invalid_token_type"'),
            (401, 'Bearer error_code="invalid_token"'),
            (401, 'Bearer noterror="invalid_token"'),
            (401, 'Bearer realm="invalid_token"'),
            (401, 'Basic realm="api"'),
            (403, INVALID),
            (400, INVALID),
            (407, INVALID),
            (500, INVALID),
            (200, INVALID),
        ],
    )
    def test_nothing_else_is_repeated(self, driver: Driver, status: int, challenge: str | None) -> None:
        """A missing scope, another status or another error would be the same with a new token."""
        api, wallet = Api(refusal(challenge, status)), Wallet()
        assert send(driver, carrying(wallet), handler=api).status_code == status
        assert (len(api.requests), wallet.forgotten) == (1, [])

    @pytest.mark.req("RS7")
    def test_several_challenges_in_headers_of_their_own_are_read(self, driver: Driver) -> None:
        """RFC 9110 lets a server send the header more than once."""
        both = httpx.Response(401, headers=[("WWW-Authenticate", "Basic"), ("www-authenticate", INVALID)])
        api = Api(both)
        assert send(driver, carrying(Wallet()), handler=api).is_success

    @pytest.mark.req("RS7")
    def test_a_body_that_can_be_read_once_is_not_sent_again(self, driver: Driver) -> None:
        """The second request would be sent without it."""

        def chunks() -> Iterator[bytes]:
            yield b"once"

        async def achunks() -> AsyncIterator[bytes]:
            yield b"once"

        bodies: list[dict[str, Any]] = [
            {"content": chunks() if driver.kind == "sync" else achunks(), "headers": {"Content-Length": "4"}},
            {"files": {"file": b"x"}},
        ]
        for body in bodies:
            wallet = Wallet()
            with LoopbackServer(lambda _: Reply(status=401, headers={"WWW-Authenticate": INVALID})) as api:
                response = send(driver, carrying(wallet, api.base_url), api.base_url, method="PUT", **body)
                assert (response.status_code, len(api.requests), wallet.forgotten) == (401, 1, [])
                assert api.requests[0].body

    @pytest.mark.req("RS7", "RD4")
    def test_the_refusal_itself_is_not_read(self, driver: Driver) -> None:
        """An API that refuses with an endless body gets no more of our time than one that refuses with none."""
        world, streams = World(), list[Endless]()

        def answer(request: httpx.Request) -> httpx.Response:
            if len(world.calls) % 2:
                streams.append(Endless())
                return httpx.Response(401, headers={"WWW-Authenticate": INVALID}, stream=streams[-1])
            return httpx.Response(200, json="data")

        world.answer = answer
        client = world.client(driver)
        assert fetch(driver, client, "x", "read").data == "data"
        assert send(driver, client.auth("read"), f"{API}/x", handler=world).json() == "data"
        assert [(stream.read, stream.closed) for stream in streams] == [(0, True)] * 2

    @pytest.mark.req("RS7")
    def test_where_no_new_token_can_be_had_that_is_told(self, driver: Driver) -> None:
        """The refusal of the authority is the news; the API's connection is let go."""
        world = World()
        stream = Endless()

        def answer(request: httpx.Request) -> httpx.Response:
            world.refusal = 503
            return httpx.Response(401, headers={"WWW-Authenticate": INVALID}, stream=stream)

        world.answer = answer
        client = world.client(driver)
        with pytest.raises(AuthorityUnreachableError):
            send(driver, client.auth("read"), f"{API}/x", handler=world)
        assert (len(world.calls), len(world.exchanges), stream.closed) == (1, 2, True)


class Endless(httpx.SyncByteStream, httpx.AsyncByteStream):
    """A body without an end, which counts what was read of it."""

    def __init__(self) -> None:
        self.read = 0
        self.closed = False

    def __iter__(self) -> Iterator[bytes]:
        """Go on."""
        while True:
            self.read += 1
            assert self.read < 1000, "the whole of it is being read"
            yield b"x" * 1024

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Go on."""
        for chunk in self:
            yield chunk

    def close(self) -> None:
        """Note it."""
        self.closed = True

    async def aclose(self) -> None:
        """Note it."""
        self.closed = True


class TestOnlyTheRefusedToken:
    """RS7: what was not refused stays."""

    @pytest.mark.req("RS7")
    def test_a_newer_token_stays(self, driver: Driver) -> None:
        """Someone renewed it while the API was refusing the old one: the new one is used, and nobody asks again."""
        world, cache, elsewhere = World(), TokenCache(), Driver("sync")
        other = elsewhere.client(world.config(), handler=world, token_cache=cache)

        def answer(request: httpx.Request) -> httpx.Response:
            if len(world.calls) > 1:
                return httpx.Response(200, json="data")
            elsewhere.run(other.delegation_token("read", force_refresh=True))
            return refusal()

        world.answer = answer
        client = driver.client(world.config(), handler=world, token_cache=cache)
        assert fetch(driver, client, "x", "read").data == "data"
        assert world.authorizations == [f"Bearer {token}" for token in world.tokens]
        assert driver.run(client.get_delegation_token("read")) == world.tokens[1]
        assert len(world.exchanges) == 2
        elsewhere.close()

    @pytest.mark.req("RS7")
    def test_tokens_for_other_scopes_stay(self, driver: Driver) -> None:
        """Only the one that was sent is dropped; the others are asked for no second time."""
        world = World()
        world.answer = lambda _: refusal() if len(world.calls) == 1 else httpx.Response(200)
        client = world.client(driver)
        driver.run(client.get_delegation_token("write"))
        assert fetch(driver, client, "x", "read").ok
        driver.run(client.get_delegation_token("write"))
        driver.run(client.get_delegation_token("read"))
        assert world.asked_scopes == ["write", "read", "read"]

    @pytest.mark.req("RS7")
    def test_a_token_of_its_own_is_renewed_as_well(self, driver: Driver) -> None:
        """Also what is not kept is asked for again, once; the result names the token that did it."""
        world = World()
        world.answer = lambda _: refusal() if len(world.calls) == 1 else httpx.Response(200)
        result = fetch(driver, world.client(driver), "x", "read", cache=False)
        assert result.token is not None
        assert (result.token.jti, len(world.exchanges)) == ("jti-2", 2)

    @pytest.mark.req("RS7")
    def test_an_api_that_refuses_every_token_is_asked_twice(self, driver: Driver) -> None:
        """Not more often, and the error says that asking again will not help."""
        world = World()
        world.answer = lambda _: refusal()
        with pytest.raises(DownstreamDeniedError) as caught:
            fetch(driver, world.client(driver), "x", "read")
        assert (caught.value.status, caught.value.retryable) == (401, False)
        assert (len(world.calls), len(world.exchanges)) == (2, 2)

    @pytest.mark.req("RS7")
    def test_a_real_api_gets_the_second_token(self, driver: Driver) -> None:
        """Over real HTTP: revoked at the API, asked for anew at the authority, and only once."""
        seen: list[str] = []

        def guard(request: Request) -> Reply:
            seen.append(request.headers["authorization"])
            if len(set(seen)) == 1:
                return Reply(status=401, headers={"WWW-Authenticate": INVALID}, body=b"x" * 100_000)
            return Reply.of_json({"method": request.method})

        with LocalAuthority() as authority, LoopbackServer(guard) as api:
            agent = authority.register(["read"])
            config = AuthSecConfig(base_url=authority.base_url, client_id=agent.client_id, api_base_url=api.base_url)
            client = driver.client(config)
            assert send(driver, client.auth("read"), f"{api.base_url}/x", method="DELETE").json() == {
                "method": "DELETE"
            }
            assert len(seen) == len(set(seen)) == authority.count("delegation") == 2
            seen.clear()
            assert send(driver, client.auth("read"), f"{api.base_url}/x", method="POST").status_code == 401
            assert authority.count("delegation") == 2


class TestRedirects:
    """RD2, RD3: a client of the program's own may follow redirects; the token does not follow to other origins."""

    @pytest.mark.req("RD2", "RD3")
    def test_the_token_does_not_follow_to_another_origin(self, driver: Driver) -> None:
        """Another port is another origin, also on one machine."""
        with LoopbackServer(lambda _: Reply.of_json("elsewhere")) as other:
            here = LoopbackServer(lambda _: Reply(status=302, headers={"Location": f"{other.base_url}/steal"}))
            with here:
                auth = carrying(Wallet(), here.base_url)
                response = send(driver, auth, f"{here.base_url}/x", follow_redirects=True)
                assert response.json() == "elsewhere"
                assert here.requests[0].headers["authorization"] == "Bearer secret.of.0"
            assert [("authorization" in request.headers) for request in other.requests] == [False]

    @pytest.mark.req("RD3")
    def test_it_follows_within_the_origin(self, driver: Driver) -> None:
        """Where it may go anyway."""
        with LoopbackServer(lambda request: moved(request, "/b")) as api:
            assert (
                send(driver, carrying(Wallet(), api.base_url), f"{api.base_url}/a", follow_redirects=True).json()
                == "/b"
            )
            assert [request.headers["authorization"] for request in api.requests] == ["Bearer secret.of.0"] * 2

    @pytest.mark.req("RS7")
    def test_a_stranger_cannot_have_the_token_dropped(self, driver: Driver) -> None:
        """A 401 from where a redirect led says nothing about a token that was not sent there."""
        wallet = Wallet()
        with LoopbackServer(lambda _: Reply(status=401, headers={"WWW-Authenticate": INVALID})) as stranger:
            here = LoopbackServer(lambda _: Reply(status=307, headers={"Location": stranger.base_url}))
            with here:
                response = send(driver, carrying(wallet, here.base_url), here.base_url, follow_redirects=True)
                assert (response.status_code, len(here.requests)) == (401, 1)
        assert not wallet.forgotten


def moved(request: Request, to: str) -> Reply:
    """Redirect everything to one path of the same server."""
    return Reply.of_json(request.path) if request.path == to else Reply(status=301, headers={"Location": to})
