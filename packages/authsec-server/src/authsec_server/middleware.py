"""What stands before every route: request id, client address, Host check, limits, headers, and one line in the log.

Pure ASGI, from the outermost inwards. None of it knows who asks or what for. The log gets the route, of another path
what looks like plain words, and never the query, which has client ids in it, nor a header.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import re
import sys
from collections.abc import Iterable
from functools import lru_cache
from typing import Final, cast

from fastapi import FastAPI
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from authsec_core._clock import SYSTEM_CLOCK, Clock
from authsec_server.ids import random_uuid
from authsec_server.logs import REQUEST_ID, escaped
from authsec_server.problems import Trouble, answer, unexpected
from authsec_server.settings import ServerSettings
from authsec_server.telemetry.observer import UNOBSERVED, Observer
from authsec_server.telemetry.tracing import CARRIERS, request_span

__all__ = [
    "BodyLimit",
    "HostCheck",
    "LastResort",
    "RequestContext",
    "TimeLimit",
    "client_address",
    "install",
]

_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,64}")
_HOST: Final = re.compile(r"(\[(?P<v6>[0-9a-f:.]+)\]|(?P<name>[^:\[\]]+))(:[0-9]{1,5})?")
_HEALTH: Final = frozenset({"/healthz", "/readyz"})
_BY_ADDRESS: Final = _HEALTH | {"/metrics"}  # what is asked of each server by itself
_WAIT: Final = 429  # told to whoever floods: `limits` logs it once a second
_LONGEST_PATH: Final = 200  # characters, in the log
# What of a path is shown: no id, key or token is spelt like that, nor percent-encoded like that.
_WORD: Final = re.compile(r"[a-z._-]{0,32}|v[0-9]{1,2}")
# As ASGI has them, because these go with every answer.
_HEADERS: Final = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    (b"cache-control", b"no-store"),  # what may be kept says so itself
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
)
# The rest of the body is not read, so that the connection cannot be used again.
_CLOSE: Final = {"Connection": "close"}
_Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_log = logging.getLogger("authsec.server.access")


def install(
    app: FastAPI, settings: ServerSettings, *, clock: Clock = SYSTEM_CLOCK, observer: Observer = UNOBSERVED
) -> None:
    """Put everything here before the app's routes. Call it once; what is added later stands outside of it."""
    app.add_middleware(BodyLimit, limit=settings.body_limit)
    app.add_middleware(TimeLimit, seconds=settings.request_timeout)
    app.add_middleware(LastResort)
    app.add_middleware(HostCheck, allowed=settings.allowed_hosts, own_by_any_name=not settings.dev)
    app.add_middleware(RequestContext, trusted_proxies=settings.trusted_proxies, clock=clock, observer=observer)


class RequestContext:
    """Name the request, find out where it comes from, complete the headers of its answer, log, count and trace it."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        trusted_proxies: Iterable[_Network] = (),
        clock: Clock = SYSTEM_CLOCK,
        observer: Observer = UNOBSERVED,
    ) -> None:
        self._app, self._trusted, self._clock, self._observer = app, tuple(trusted_proxies), clock, observer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request. `scope["client"]` and `scope["state"]["request_id"]` are right for everything inside."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(scope)
        scope.setdefault("state", {})["request_id"] = request_id
        peer = scope.get("client")
        scope["client"] = _client(scope, self._trusted)
        started_at, status = self._clock.steady(), 0

        async def completed(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = _completed(message.get("headers", ()), request_id)
            await send(message)

        token = REQUEST_ID.set(request_id)
        with request_span(request_id, lambda: _carried(scope, peer, self._trusted)) as span:
            try:
                await self._app(scope, receive, completed)
            finally:
                seconds, shown = self._clock.steady() - started_at, _shown_path(scope)
                route = shown if "route" in scope else None
                self._observer.request(scope["method"], route, status, seconds)
                span.answered(scope["method"], route, status)
                _log_access(scope, shown, status, seconds)
                REQUEST_ID.reset(token)


class HostCheck:
    """Answer only to the server's own names: a page whose DNS name was rebound to this machine sends its own."""

    def __init__(self, app: ASGIApp, *, allowed: frozenset[str], own_by_any_name: bool = False) -> None:
        self._app, self._allowed = app, allowed
        # A load balancer asks by address, and hears what everyone does; so does Prometheus, and brings a token.
        self._exempt = _BY_ADDRESS if own_by_any_name else frozenset[str]()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse a request for another name, for none, or for two."""
        if scope["type"] == "http" and scope["path"] not in self._exempt:
            hosts = _values(scope, b"host")
            if len(hosts) != 1 or _host_name(hosts[0]) not in self._allowed:
                trouble = Trouble(status=421, code="unknown_host", detail="this server does not answer to that Host")
                await answer(scope, trouble)(scope, receive, send)
                return
        await self._app(scope, receive, send)


class LastResort:
    """Answer 500, in the right shape and without a word about it, where nothing else knew what to do."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request. What fails after the response has begun is raised, so that the connection is cut."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = False

        async def noting(message: Message) -> None:
            nonlocal started
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, receive, noting)
        except Exception as exc:
            response = unexpected(scope, exc)
            if started:
                raise
            await response(scope, receive, send)


class TimeLimit:
    """End a request that takes too long: 408 while its body is still coming, else 503.

    A begun response may finish, as long as its client takes each piece in time.
    """

    def __init__(self, app: ASGIApp, *, seconds: float) -> None:
        self._app, self._seconds = app, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request; at the limit its task is cancelled, and so rolls back what it has not committed."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        waiting = complete = started = expired = False
        loop, task = asyncio.get_running_loop(), cast("asyncio.Task[None]", asyncio.current_task())

        def expire() -> None:
            nonlocal expired
            expired = True
            task.cancel()

        # A timer, and not a cancel scope: that takes a tenth of the time of a whole request.
        timer = loop.call_later(self._seconds, expire)

        async def noted_receive() -> Message:
            nonlocal waiting, complete
            waiting = not complete  # after the body, it waits for the client to leave
            message = await receive()
            waiting, complete = False, complete or not message.get("more_body", False)
            return message

        async def noted_send(message: Message) -> None:
            nonlocal started, timer
            timer.cancel()
            if message["type"] == "http.response.start":
                started = True
                await send(message)
                return
            timer = loop.call_later(self._seconds, expire)  # it waits while the client reads nothing
            await send(message)
            if message.get("more_body", False):
                timer.cancel()

        try:
            await self._app(scope, noted_receive, noted_send)
        except asyncio.CancelledError:
            if not expired:
                raise
            _uncancel(task)
        finally:
            timer.cancel()
        if expired and not started:
            await answer(scope, _SLOW_BODY if waiting else _SLOW_WORK)(scope, receive, send)


def _uncancel(task: asyncio.Task[None]) -> None:
    if sys.version_info >= (3, 11):  # before, a task did not count who cancels it
        task.uncancel()


class BodyLimit:
    """Refuse a body that is too large, before it is read if it says so, else when it has become so."""

    def __init__(self, app: ASGIApp, *, limit: int) -> None:
        self._app, self._limit = app, limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if _announced(scope) > self._limit:
            await answer(scope, _TOO_LARGE)(scope, receive, send)
            return
        size, started = 0, False

        async def counted() -> Message:
            nonlocal size
            message = await receive()
            size += len(message.get("body", b""))
            if size > self._limit:
                raise _BodyTooLargeError("the request's body is too large")
            return message

        async def unless_refused(message: Message) -> None:
            nonlocal started
            if size <= self._limit or started:  # else it is what the framework makes of the error above
                started = True
                await send(message)

        try:
            await self._app(scope, counted, unless_refused)
        except _BodyTooLargeError:
            if started:
                raise
        if size > self._limit and not started:
            await answer(scope, _TOO_LARGE)(scope, receive, send)


class _BodyTooLargeError(Exception):
    pass


_TOO_LARGE: Final = Trouble(status=413, code="body_too_large", detail="the request's body is too large", headers=_CLOSE)
_SLOW_BODY: Final = Trouble(
    status=408, code="request_timeout", detail="the request's body did not arrive in time", headers=_CLOSE
)
_SLOW_WORK: Final = Trouble(
    status=503,
    code="timeout",
    detail="this took too long and was given up: look whether it was done before you repeat it",
    headers={"Retry-After": "1"},
)


def client_address(peer: str, forwarded: Iterable[str], trusted: Iterable[_Network]) -> str:
    """Return where a request comes from: the last address on its way that is no trusted proxy.

    Args:
        peer: Who connected.
        forwarded: The values of its `X-Forwarded-For` headers, each a list that every proxy appends to. What stands
            before the first address that is not trusted was written by who is not trusted, and counts for nothing.
    """
    networks = tuple(trusted)
    hops = [hop.strip() for value in forwarded for hop in value.split(",")]
    address = _address(peer)
    while address is not None and hops and any(address in network for network in networks):
        further = _address(hops.pop())
        if further is None:
            break
        address = further
    return peer if address is None else str(address)


def _client(scope: Scope, trusted: tuple[_Network, ...]) -> tuple[str, int] | None:
    if scope.get("client") is None:  # a Unix socket has none
        return None
    peer, port = scope["client"]
    forwarded = _values(scope, b"x-forwarded-for") if trusted else ()  # whom nobody trusts is not heard
    address = client_address(peer, forwarded, trusted) if forwarded else _spelt(peer)
    return address, port if address == peer else 0


def _carried(scope: Scope, peer: tuple[str, int] | None, trusted: tuple[_Network, ...]) -> dict[str, str]:
    """Return the headers that say which trace a request belongs to, if a proxy that is trusted sent them."""
    address = None if peer is None else _address(peer[0])
    if address is None or not any(address in network for network in trusted):
        return {}
    found = {name: _values(scope, name.encode("ascii")) for name in CARRIERS}
    return {name: values[0] for name, values in found.items() if values}


@lru_cache(maxsize=1024)  # most requests come from a few addresses
def _spelt(peer: str) -> str:
    return client_address(peer, (), ())


def _values(scope: Scope, name: bytes) -> list[str]:
    """Return the values of a header, whose name is in lower case, as ASGI has all of them."""
    return [value.decode("latin-1") for given, value in scope["headers"] if given == name]


def _completed(headers: Iterable[tuple[bytes, bytes]], request_id: str) -> list[tuple[bytes, bytes]]:
    named = [header for header in headers if header[0] != b"x-request-id"]
    given = {name for name, _ in named}
    named.append((b"x-request-id", request_id.encode("ascii")))
    named += [header for header in _HEADERS if header[0] not in given]
    return named


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _request_id(scope: Scope) -> str:
    given = _values(scope, b"x-request-id")
    if len(given) == 1 and _REQUEST_ID.fullmatch(given[0]):
        return given[0]
    return random_uuid()


def _host_name(host: str) -> str | None:
    match = _HOST.fullmatch(host.lower())
    return match and (match["v6"] or match["name"])


def _announced(scope: Scope) -> int:
    length = next(iter(_values(scope, b"content-length")), "0")
    return int(length) if length.isdecimal() and len(length) < 20 else 0  # what is odd is counted as it arrives


def _log_access(scope: Scope, path: str, status: int, seconds: float) -> None:
    quiet = scope["path"] in _HEALTH or status == _WAIT
    level = logging.DEBUG if quiet else logging.INFO
    if not _log.isEnabledFor(level):
        return
    client = scope["client"]
    fields = {
        "method": escaped(scope["method"])[:20],
        "path": path,
        "status": status or None,  # None: the connection ended before there was one
        "seconds": round(seconds, 6),
        "address": client[0] if client else None,
    }
    _log.log(level, "%(method)s %(path)s %(status)s in %(seconds).3f s from %(address)s", fields, extra=fields)


def _shown_path(scope: Scope) -> str:
    """Return the route's template. It may lack what its router was included under, which the path then tells."""
    template = getattr(scope.get("route"), "path", None)
    if template is None:
        return _masked(scope["path"])[:_LONGEST_PATH]
    if ":path}" in template:
        return str(template)
    segments = scope["path"].split("/")
    return _masked("/".join(segments[: len(segments) - template.count("/")])) + str(template)


def _masked(path: str) -> str:
    """Return the words of a path, for people put keys and tokens into URLs, too."""
    return "/".join(part if _WORD.fullmatch(part) else "*" for part in path.split("/"))
