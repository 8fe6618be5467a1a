"""What a hostile reviewer tried, and what has to come of it."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Sequence

import pytest
from fastapi import FastAPI
from guard_http import ask, authorization, scope_of
from guard_support import AUDIENCE, Issuer, Memory, caller
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from authsec_core.errors import ConfigurationError, MalformedTokenError
from authsec_core.testing._signing import Es256SigningKey
from authsec_fastapi import (
    AuditEvent,
    AuthSecGuard,
    AuthSecMiddleware,
    LoggingSink,
    Policy,
    Principal,
    StaticToken,
    ToolRule,
    TrustedIssuer,
)
from authsec_fastapi._grouping import Grouped, Outcome

IDP = Issuer(url="https://idp.example")
DOMAIN = "spiffe://example.org"
ADMIN = "spiffe://other.example/ns/shop/sa/admin"


def who(guard: AuthSecGuard, token: str) -> Principal:
    """Return who presents the token."""
    return asyncio.run(caller(guard, token))


def of_the_provider() -> AuthSecGuard:
    """Return a guard that trusts our authority and an identity provider."""
    return AuthSecGuard(issuers=[Issuer().trusted(), IDP.trusted(profile="oidc")], sink=Memory())


def test_an_identity_provider_speaks_for_no_workload() -> None:
    """Whoever chooses a name there is not taken for a workload; our authority says who is one."""
    guard = of_the_provider()
    assert who(guard, IDP.token(sub=ADMIN)).spiffe_id is None
    assert who(guard, IDP.token(sub="ann", act={"sub": ADMIN})).spiffe_id is None
    assert who(guard, Issuer().token(sub=ADMIN)).spiffe_id == ADMIN
    assert who(guard, Issuer().token(sub="ann", act={"sub": ADMIN})).spiffe_id == ADMIN


def test_a_trust_domain_speaks_for_its_own_workloads() -> None:
    """Also where an actor is named."""
    key = Es256SigningKey.generate("k", use="jwt-svid")
    trusted = TrustedIssuer(issuer=DOMAIN, audience=AUDIENCE, profile="jwt-svid", jwks={"keys": [dict(key.jwk)]})
    guard = AuthSecGuard(issuers=[trusted], sink=Memory())
    own = f"{DOMAIN}/ns/shop/sa/bot"

    def token(**more: object) -> str:
        claims = {"sub": own, "aud": [AUDIENCE], "exp": 4_000_000_000, **more}
        return key.sign({"alg": "ES256", "kid": "k"}, claims)

    assert who(guard, token()).spiffe_id == own
    assert who(guard, token(act={"sub": f"{DOMAIN}/x"})).spiffe_id == f"{DOMAIN}/x"
    for stranger in (ADMIN, f"{DOMAIN}.evil/x", DOMAIN):
        assert who(guard, token(act={"sub": stranger})).spiffe_id is None


def test_one_user_in_two_applications_has_two_identities() -> None:
    """Identity providers name the application in `azp`: what one of them talked about is not for the other."""
    guard = of_the_provider()
    one, other, none = (who(guard, IDP.token(sub="ann", client_id=None, azp=azp)) for azp in ("shop", "games", None))
    assert (one.client_id, other.client_id, none.client_id) == ("shop", "games", None)
    assert len({one.identity, other.identity, none.identity}) == 3
    assert who(guard, IDP.token(client_id="shop", azp="games")).client_id == "shop"


@pytest.mark.req("RV2")
@pytest.mark.parametrize("azp", [1, ["shop"], "", "a\nb", {"a": "b"}])
def test_an_application_without_a_name_is_refused(azp: object) -> None:
    """A wrong type is never read as no application."""
    with pytest.raises(MalformedTokenError, match="azp"):
        who(of_the_provider(), IDP.token(client_id=None, azp=azp))


async def anything(scope: Scope, receive: Receive, send: Send) -> None:
    """Answer every request, as applications that are mounted do."""
    await PlainTextResponse("in")(scope, receive, send)


@pytest.mark.req("RV7")
def test_a_request_is_no_websocket_because_it_says_so() -> None:
    """`WEBSOCKET` is also a word that may stand where the method does: what is public for the one is not for it."""
    guarded = AuthSecMiddleware(anything, guard=Issuer().guard(), public=[("WEBSOCKET", "/ws")])
    posing = {**scope_of("GET", "/ws"), "method": "WEBSOCKET"}
    assert asyncio.run(ask(guarded, posing)).status == 401


@pytest.mark.req("RV5")
@pytest.mark.parametrize("at", ["another issuer", "a static token"])
def test_who_was_let_in_by_another_guard_is_nobody_here(at: str) -> None:
    """One guard's issuers may call anybody an admin: that counts for nothing with another guard's tools."""
    policy = Policy(roles={"admin": frozenset({"refund"})}, tools={"refund": ToolRule(action="refund")})
    guard = Issuer().guard(policy=policy)
    if at == "another issuer":
        theirs = AuthSecGuard(issuers=[IDP.trusted(profile="oidc")], policy=policy, sink=Memory())
        stranger = who(theirs, IDP.token(roles=["admin"]))
    else:
        theirs = AuthSecGuard(static_token=StaticToken("x" * 32, roles=["admin"]), policy=policy, sink=Memory())
        stranger = who(theirs, "x" * 32)

    def refund() -> str:
        return "refunded"

    assert [tool() for tool in theirs.tools(stranger, [refund])] == ["refunded"]
    with pytest.raises(ValueError, match="another guard"):
        guard.tools(stranger, [refund])
    with pytest.raises(ValueError, match="another guard"):
        guard.run(stranger, agent="support")
    with pytest.raises(ValueError, match="another guard"):
        asyncio.run(guard.check_again(stranger))


@pytest.mark.req("RU1")
@pytest.mark.parametrize(("level", "warnings"), [("WARNING", 1), ("INFO", 0)])
def test_a_log_that_drops_what_is_allowed_is_warned_of(
    caplog: pytest.LogCaptureFixture, level: str, warnings: int
) -> None:
    """Logging drops INFO unless it is told otherwise: nobody is to find that out when they need the record."""
    guard = Issuer().guard(sink=LoggingSink())
    with caplog.at_level("WARNING"), caplog.at_level(level, "authsec.audit"):
        who(guard, Issuer().token())
        who(guard, Issuer().token())
    said = [one for one in caplog.records if one.name == "authsec.guard" and one.levelno == logging.WARNING]
    assert len(said) == warnings


@pytest.mark.req("RV7")
@pytest.mark.filterwarnings("ignore:The `root_path` parameter is deprecated")
@pytest.mark.parametrize(
    ("mount", "root", "is_refused"), [("/", "/api", True), ("/x", "/x/y", True), ("/x", "/x", False)]
)
def test_nothing_mounted_shortens_paths(mount: str, root: str, is_refused: bool) -> None:
    """A rule for `/api/{name}` must not be asked about what is routed as `/{name}`."""
    app = FastAPI(openapi_url=None)
    app.mount(mount, FastAPI(root_path=root, openapi_url=None))
    app.add_middleware(AuthSecMiddleware, guard=Issuer().guard())
    request = ask(app, scope_of("GET", f"{root}/admin"))
    if is_refused:
        with pytest.raises(ConfigurationError, match="root path of its own"):
            asyncio.run(request)
    else:
        assert asyncio.run(request).status == 401


class Full:
    """A sink that writes nothing until it may, and has room for eight."""

    def __init__(self) -> None:
        self.may, self.first = threading.Event(), threading.Event()
        self._grouped = Grouped(self._write, most=1, largest=1 << 20, waiting=8)

    def _write(self, items: Sequence[bytes]) -> list[Outcome]:
        self.first.set()
        self.may.wait(30)
        return [None] * len(items)

    def record(self, event: AuditEvent) -> None:
        self._grouped.write(event.to_json().encode(), yields=event.yields)

    async def arecord(self, event: AuditEvent) -> None:
        await self._grouped.awrite(event.to_json().encode(), yields=event.yields)


@pytest.mark.req("RU1")
def test_a_crowd_without_tokens_shuts_nobody_out() -> None:
    """Denials have to leave room in the sink for those whose request is not answered without it."""
    sink = Full()
    guarded = AuthSecMiddleware(anything, guard=Issuer().guard(sink=sink))

    async def run() -> None:
        crowd = [asyncio.ensure_future(ask(guarded, scope_of("GET", "/x")))]
        await asyncio.to_thread(sink.first.wait, 30)
        crowd += [asyncio.ensure_future(ask(guarded, scope_of("GET", "/x"))) for _ in range(50)]
        done, _ = await asyncio.wait(crowd, return_when=asyncio.FIRST_COMPLETED)
        assert {one.result().status for one in done} == {401}, "a denial stands, on record or not"
        served = asyncio.ensure_future(ask(guarded, scope_of("GET", "/x", authorization(Issuer().token()))))
        while not served.done() and len(sink._grouped._queue) < 5:  # noqa: ASYNC110 -- it knows no loop
            await asyncio.sleep(0)
        sink.may.set()
        assert (await served).status == 200
        assert {answer.status for answer in await asyncio.gather(*crowd)} == {401}

    asyncio.run(run())
