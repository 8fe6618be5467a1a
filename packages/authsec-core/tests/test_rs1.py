"""LIVE never becomes MOCK: each way in which an authority can fail, at each moment at which it is asked.

The network is real: a loopback authority, a loopback API, TLS and a resolver that can be broken. Only the clock is not.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from core_support import AnyClient, Driver

from authsec_core import AuthSecConfig, MockAuthority
from authsec_core.errors import (
    AuthorityUnreachableError,
    BadReplyError,
    DelegationRefusedError,
    InsecureTransportError,
    TokenUnavailableError,
)
from authsec_core.testing import FakeClock, LocalAuthority, LoopbackServer, Reply, Request, loopback_certificate

NAME = "authority.invalid"  # the root conftest.py lets no name under .invalid resolve
LIFETIME = 1000  # seconds; STALE from 940 on


class World:
    """An authority that can be broken and mended, a protected API that wants its tokens, and one client."""

    def __init__(self, driver: Driver, clock: FakeClock, folder: Path, *, tls: bool, named: bool) -> None:
        self.driver, self.clock = driver, clock
        self.certificate = loopback_certificate(folder) if tls else None
        self.authority = LocalAuthority(clock=clock, certificate=self.certificate)
        self.api = LoopbackServer(self._answer)
        self._named = named
        self.client: AnyClient

    def start(self, running: ExitStack) -> None:
        running.enter_context(self.authority)
        running.enter_context(self.api)
        agent = self.authority.register(["read:metrics"], ttl=LIFETIME)
        url = self.authority.base_url
        config = AuthSecConfig(
            base_url=url.replace("127.0.0.1", NAME) if self._named else url,
            client_id=agent.client_id,
            api_base_url=self.api.base_url,
            ca_file=self.certificate.ca_file if self.certificate else None,
            allow_http=self._named,
            timeout=9.25,
        )
        self.client = self.driver.client(config, clock=self.clock)
        self.mock_token = MockAuthority().mint(frozenset({"read:metrics"}), client_id=agent.client_id).value

    def token(self, *, force: bool = False) -> str:
        """Get a token as text; it must be one that this authority issued."""
        text = self.driver.run(self.client.get_delegation_token("read:metrics", force_refresh=force))
        self.check(text)
        return text

    def fetch(self) -> Any:
        """Fetch protected data."""
        return self.driver.run(self.client.fetch("metrics", "read:metrics"))

    def check(self, text: str) -> None:
        """Fail for a token that is not the authority's own."""
        from authsec_core.wire import _peek

        header, claims = _peek(text)
        assert header["kid"] == self.authority.signing_key.kid
        assert claims["iss"] == self.authority.issuer
        assert "mock" not in claims

    def _answer(self, request: Request) -> Reply:
        self.check(request.headers["authorization"].removeprefix("Bearer "))
        return Reply.of_json({"real": True})


def _garbage(body: bytes) -> Callable[[World], None]:
    return lambda world: world.authority.fail(garbage=body)


def _status(status: int) -> Callable[[World], None]:
    return lambda world: world.authority.fail(status=status)


def _no_dns(world: World) -> None:
    world.authority.close()  # or the open connection would do without a name
    world.authority.start()


def _untrusted_certificate(world: World) -> None:
    assert world.certificate is not None
    another = loopback_certificate(world.certificate.ca_file.parent / "another")
    world.certificate.context.sni_callback = lambda tls, name, context: setattr(tls, "context", another.context)
    world.authority.close()
    world.authority.start()


def _no_answer(world: World) -> None:
    # The first reply uses up the time by the clock, so that little of it is left for the one that does not come.
    world.authority.fail(times=1, status=503, retry_after=9)
    world.authority.fail(delay=threading.Event())


def _without_token(world: World) -> None:
    world.authority.fail(alter=lambda reply: {name: value for name, value in reply.items() if name != "token"})


def _mock_token(world: World) -> None:
    world.authority.fail(alter=lambda reply: {**reply, "token": world.mock_token})


def _trusted_again(world: World) -> None:
    assert world.certificate is not None
    world.certificate.context.sni_callback = None
    world.authority.close()
    world.authority.start()


@dataclass(frozen=True, kw_only=True)
class Trouble:
    """One way to fail, and what the caller is told of it."""

    error: type[TokenUnavailableError]
    code: str
    strike: Callable[[World], None]
    mend: Callable[[World], None] = lambda world: world.authority.recover()
    reason: str | None = None
    retryable: bool = False


def _outage(strike: Callable[[World], None], **more: Any) -> Trouble:
    error = AuthorityUnreachableError
    return Trouble(error=error, code="authority_unreachable", strike=strike, retryable=True, **more)


def _refusal(status: int, reason: str) -> Trouble:
    return Trouble(error=DelegationRefusedError, code="delegation_refused", strike=_status(status), reason=reason)


def _bad_reply(strike: Callable[[World], None]) -> Trouble:
    return Trouble(error=BadReplyError, code="bad_reply", strike=strike)


TROUBLES = {
    "dns": _outage(_no_dns, mend=lambda world: None),
    "connect": _outage(lambda world: world.authority.close(), mend=lambda world: _started(world)),
    "tls": Trouble(
        error=InsecureTransportError, code="insecure_transport", strike=_untrusted_certificate, mend=_trusted_again
    ),
    "timeout": _outage(_no_answer),
    "400": _refusal(400, "bad_request"),
    "401": _refusal(401, "proof_rejected"),
    "403": _refusal(403, "not_delegated"),
    "404": _refusal(404, "unknown_client"),
    "410": _refusal(410, "delegation_ended"),
    "429": _outage(_status(429)),
    "500": _outage(_status(500)),
    "503": _outage(_status(503)),
    "cut": _outage(lambda world: world.authority.fail(cut="start")),
    "truncated": _outage(lambda world: world.authority.fail(cut="body")),
    "empty": _bad_reply(_garbage(b"")),
    "not JSON": _bad_reply(_garbage(b"<html>Sign in to the hotel's network</html>")),
    "wrong type": _bad_reply(_garbage(b'["token"]')),
    "no token": _bad_reply(_without_token),
    "null token": _bad_reply(lambda world: world.authority.fail(alter=lambda reply: {**reply, "token": None})),
    "mock token": _bad_reply(_mock_token),
    "too large": _bad_reply(_garbage(b" " * 65537)),
}


def _started(world: World) -> None:
    world.authority.start()


@pytest.fixture(params=TROUBLES)
def trouble(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Trouble:
    """Each way to fail."""
    return TROUBLES[request.param]


@pytest.fixture
def broken(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether the resolver is broken; while it is not, it knows the authority's name."""
    broken = [False]
    resolve = socket.getaddrinfo

    def getaddrinfo(host: Any, *args: Any, **kwargs: Any) -> Any:
        host = host.decode() if isinstance(host, bytes) else host
        known = host == NAME and not broken[0]
        return resolve("127.0.0.1" if known else host, *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    return broken


@pytest.fixture
def world(
    driver: Driver,
    clock: FakeClock,
    tmp_path: Path,
    trouble: Trouble,
    broken: list[bool],
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[World]:
    """A world in which all is well, and in which nothing of MOCK may be used."""
    (tmp_path / "another").mkdir()
    world = World(driver, clock, tmp_path, tls=trouble is TROUBLES["tls"], named=trouble is TROUBLES["dns"])
    with ExitStack() as running:
        world.start(running)

        def forbidden(*args: Any, **kwargs: Any) -> Any:
            raise AssertionError("LIVE has asked the MOCK authority")

        for name in ("mint", "answer", "policy"):
            monkeypatch.setattr(MockAuthority, name, forbidden)
        yield world
        assert world.client.mode == "live"


class Breaker:
    """Strikes and mends, and checks what a caller is told."""

    def __init__(self, world: World, trouble: Trouble, broken: list[bool]) -> None:
        self._world, self._trouble, self._broken = world, trouble, broken

    def strike(self) -> None:
        self._world.authority.recover()
        self._trouble.strike(self._world)
        self._broken[0] = True

    def mend(self) -> None:
        self._broken[0] = False
        self._trouble.mend(self._world)
        self._world.clock.advance(1)  # the cool-down

    def refuses(self, call: Callable[[], object]) -> None:
        """Check that `call` raises the trouble's own error, with nothing of MOCK in it."""
        with pytest.raises(TokenUnavailableError) as caught:
            call()
        error, trouble = caught.value, self._trouble
        assert type(error) is trouble.error
        assert (error.code, error.retryable) == (trouble.code, trouble.retryable)
        assert getattr(error, "reason", None) == trouble.reason
        assert self._world.mock_token not in f"{error!r} {vars(error)}"

    @property
    def is_refusal(self) -> bool:
        return self._trouble.error is DelegationRefusedError


@pytest.fixture
def breaker(world: World, trouble: Trouble, broken: list[bool]) -> Breaker:
    """What breaks this world."""
    return Breaker(world, trouble, broken)


@pytest.mark.req("RS1")
def test_the_first_token(world: World, breaker: Breaker) -> None:
    """Without any token there is a typed error, again and again, and a token once the authority works."""
    breaker.strike()
    breaker.refuses(world.token)
    breaker.refuses(world.token)  # within the cool-down
    world.clock.advance(1)
    breaker.strike()
    breaker.refuses(world.token)
    breaker.mend()
    assert world.token() == world.token()


@pytest.mark.req("RS1")
def test_a_fetch(world: World, breaker: Breaker) -> None:
    """No data is made up, and the API is not called without a token."""
    breaker.strike()
    breaker.refuses(world.fetch)
    assert world.api.requests == ()
    breaker.mend()
    result = world.fetch()
    assert (result.mode, result.data) == ("live", {"real": True})


@pytest.mark.req("RS1", "RS6")
def test_a_renewal(world: World, breaker: Breaker) -> None:
    """An outage leaves the old token until its end; a refusal ends it; after that the error is typed."""
    first = world.token()
    world.clock.advance(LIFETIME - 60)
    breaker.strike()
    if breaker.is_refusal:
        breaker.refuses(world.token)
    else:
        assert world.token() == first
        assert world.token() == first  # within the cool-down
    world.clock.advance(60)
    breaker.strike()
    breaker.refuses(world.token)
    breaker.refuses(world.fetch)
    breaker.mend()
    assert world.token() != first


@pytest.mark.req("RS1")
def test_a_forced_renewal(world: World, breaker: Breaker) -> None:
    """Who insists on a new token gets the error; the old one is as good as the authority's word."""
    first = world.token()
    breaker.strike()
    breaker.refuses(lambda: world.token(force=True))
    if breaker.is_refusal:
        breaker.refuses(world.token)
    else:
        assert world.token() == first
    breaker.mend()
    assert world.token(force=True) != first
