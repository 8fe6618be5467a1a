"""How bytes travel: httpx clients that keep nothing and trust nothing by default, and one bounded exchange of messages.

It decides no policy: what may be asked, of whom and how often is said by its callers. No redirects, no `.netrc`, no
cookies, no proxies unless asked for, TLS always verified.
"""

from __future__ import annotations

import asyncio
import ssl
import sys
from collections.abc import Mapping
from contextlib import aclosing, closing
from dataclasses import dataclass, field
from functools import cache, lru_cache
from http.cookiejar import CookieJar
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, TypedDict
from urllib.request import getproxies

import httpx

from authsec_core._clock import Clock
from authsec_core._deadline import bounded

if TYPE_CHECKING:
    import anyio

__all__ = ["Call", "ClientOptions", "Failure", "Reply", "blocking_client", "client_options", "send", "send_async"]

# The last two are what httpx lets through: of a redirect to nowhere, and of a host that cannot be one, such as `a..b`.
_FAILURES: Final = (httpx.TransportError, httpx.DecodingError, httpx.InvalidURL, UnicodeError)
_UNCONNECTED: Final = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.ProxyError, UnicodeError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One request, a GET unless told otherwise.

    Attributes:
        headers: Sent as they are; they may hold a proof and are never printed.
        content: The body, which may hold a secret and is never printed.
        deadline: The steady clock's reading after which no more is waited for.
        limit: The most bytes of body that are read.
        reads_refusals: Read the body of what is no 2xx, too.
    """

    url: str
    method: str = "GET"
    params: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    content: bytes | None = field(default=None, repr=False)
    deadline: float
    limit: int
    reads_refusals: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What came back. The body may hold a token and is never printed; that of a refusal is read only if asked for."""

    status: int
    headers: Mapping[str, str] = field(repr=False)  # a `Location`, or a hostile one, may hold a token as well
    body: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """What went wrong on the way. `cause` has been stripped of frames and headers, which could hold a credential."""

    kind: Literal["connect", "tls", "timeout", "cut", "too_large"]
    cause: BaseException | None = None


class ClientOptions(TypedDict):
    """What `httpx.Client` and `httpx.AsyncClient` are both built with."""

    verify: ssl.SSLContext
    trust_env: bool
    follow_redirects: bool
    timeout: httpx.Timeout
    cookies: CookieJar
    headers: dict[str, str]


def client_options(
    *, user_agent: str, timeout: float, connect_timeout: float, ca_file: Path | None, trust_env: bool
) -> ClientOptions:
    """Return the options of a client that may carry credentials.

    Raises:
        OSError: `ca_file` cannot be read (ssl.SSLError where it is not PEM).
    """
    if ca_file or trust_env:
        context = ssl.create_default_context(cafile=ca_file) if ca_file else httpx.create_ssl_context(trust_env=True)
    else:
        context = _usual_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # some builds of Python and OpenSSL set no floor
    if not trust_env:
        # SSLKEYLOGFILE would have the session keys written down. (typeshed leaves out the None that the docs name.)
        context.keylog_filename = None  # type: ignore[assignment]
    return ClientOptions(
        verify=context,
        trust_env=trust_env,
        follow_redirects=False,
        timeout=httpx.Timeout(timeout, connect=min(connect_timeout, timeout)),
        cookies=_NoCookies(),
        # `identity`, so that the limit on a body's size holds before it is unpacked, too.
        headers={"User-Agent": user_agent, "Accept": "application/json", "Accept-Encoding": "identity"},
    )


@cache
def _usual_context() -> ssl.SSLContext:
    """Return the context for the authorities that httpx trusts; made once: reading them takes 20 ms."""
    return httpx.create_ssl_context(trust_env=False)


def blocking_client(options: ClientOptions, transport: httpx.BaseTransport | None) -> httpx.Client:
    """Return a client whose sockets keep to a call's deadline.

    A transport that was handed in takes its own time. So does httpx's own, which stands in where the environment is
    trusted and names a proxy: it alone can speak with one.
    """
    if transport is None and not (options["trust_env"] and getproxies()):
        from authsec_core._transport import BoundedTransport  # it loads httpcore, as httpx does: with the first client

        transport = BoundedTransport(options["verify"])
    return httpx.Client(transport=transport, **options)


def send(client: httpx.Client, call: Call, clock: Clock, *, auth: httpx.Auth | None = None) -> Reply | Failure:
    """Do one request within its deadline and its size. Never raises for what the network does."""
    handled = sys.exc_info()[1]
    try:
        with (
            bounded(lambda: call.deadline - clock.steady()),
            closing(client.send(_request(client, call, clock), auth=auth, stream=True)) as response,
        ):
            return _unread(response, call) or _whole(response, call, clock)
    except _FAILURES as exc:
        return _failure(exc, call, handled)
    except BaseException as exc:  # noqa: BLE001 -- raised again
        raise _without_frames(exc, handled)  # noqa: B904 -- the same one


async def send_async(
    client: httpx.AsyncClient, call: Call, clock: Clock, *, auth: httpx.Auth | None = None
) -> Reply | Failure:
    """Do what `send` does, without blocking the loop.

    A task of its own does it, which is not cancelled with its caller but told to end: httpcore gives a connection back
    to its pool when anyio cancels it, and keeps it for ever when asyncio does (as httpx alone does, too).
    """
    import anyio  # httpx's own; loaded with its first asynchronous request

    within = anyio.move_on_after(max(0.0, call.deadline - clock.steady()))
    task = asyncio.get_running_loop().create_task(_sent(within, client, call, clock, auth))
    try:
        await asyncio.wait({task})
    except asyncio.CancelledError:
        within.cancel()
        _ending.add(task)  # a loop itself holds its tasks only weakly
        task.add_done_callback(_end)
        raise
    return task.result()


_ending: set[asyncio.Task[Reply | Failure]] = set()


def _end(task: asyncio.Task[Reply | Failure]) -> None:
    _ending.discard(task)
    if not task.cancelled():
        task.exception()  # else asyncio complains of an error that a cancelled caller does not fetch


async def _sent(
    within: anyio.CancelScope, client: httpx.AsyncClient, call: Call, clock: Clock, auth: httpx.Auth | None
) -> Reply | Failure:
    handled = sys.exc_info()[1]
    with within:
        try:
            response = await client.send(_request(client, call, clock), auth=auth, stream=True)
            async with aclosing(response):
                return _unread(response, call) or await _whole_async(response, call, clock)
        except _FAILURES as exc:
            return _failure(exc, call, handled)
        except BaseException as exc:  # noqa: BLE001 -- raised again
            raise _without_frames(exc, handled)  # noqa: B904 -- the same one
    return Failure(kind="timeout")


def _request(client: httpx.Client | httpx.AsyncClient, call: Call, clock: Clock) -> httpx.Request:
    """Return the request as `client.build_request` would, in half the time; that one also merges what we never use."""
    left = max(0.001, call.deadline - clock.steady())
    usual = client.timeout
    other = min(left, usual.read or left)
    timeout = {"connect": min(left, usual.connect or left), "read": other, "write": other, "pool": other}
    # httpx's own kind of headers, whose repr hides the proof from reports that show the locals of httpx's frames.
    headers = client.headers.copy()
    if call.headers:
        headers.update(httpx.Headers(call.headers, encoding="utf-8"))
    # httpx drops the URL's own query where params are given, empty ones included.
    return httpx.Request(
        call.method,
        _url(call.url),
        params=call.params or None,
        headers=headers,
        content=call.content,
        extensions={"timeout": timeout},
    )


@lru_cache(maxsize=256)
def _url(text: str) -> httpx.URL:
    return httpx.URL(text)


def _unread(response: httpx.Response, call: Call) -> Reply | Failure | None:
    """Return what is known without the body, where that is enough: a refusal counts, however it goes on."""
    if not response.is_success and not call.reads_refusals:
        return _reply(response, b"")
    if response.headers.get("Content-Encoding", "").strip().lower() not in {"", "identity"}:
        # httpx would unpack a whole chunk before we could count it: 64 KiB can become gigabytes.
        return Failure(kind="cut", cause=httpx.DecodingError("the body is encoded, which was not asked for"))
    return None


def _whole(response: httpx.Response, call: Call, clock: Clock) -> Reply | Failure:
    body = bytearray()
    for chunk in response.iter_bytes():
        body += chunk
        if stopped := _stop(call, len(body), clock):
            return stopped
    return _reply(response, bytes(body))


async def _whole_async(response: httpx.Response, call: Call, clock: Clock) -> Reply | Failure:
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if stopped := _stop(call, len(body), clock):
            return stopped
    return _reply(response, bytes(body))


def _stop(call: Call, size: int, clock: Clock) -> Failure | None:
    if size > call.limit:
        return Failure(kind="too_large")
    if clock.steady() > call.deadline:
        return Failure(kind="timeout")
    return None


def _reply(response: httpx.Response, body: bytes) -> Reply:
    return Reply(status=response.status_code, headers=response.headers, body=body)


def _failure(exc: Exception, call: Call, handled: BaseException | None) -> Failure:
    """Say what `exc` means. `handled` is what the caller was dealing with at the time: no part of this failure."""
    chain = [exc, *_causes(exc, handled)]
    kind: Literal["connect", "tls", "timeout", "cut"] = "cut"
    if any(isinstance(error, ssl.SSLError) for error in chain):
        kind = "tls"
    elif isinstance(exc, _UNCONNECTED):
        kind = "connect"
    elif isinstance(exc, httpx.TimeoutException):
        kind = "timeout"
    for error in chain:
        error.__traceback__ = None
        if any(mark in str(error) for mark in "'\"") and not isinstance(exc, httpx.NetworkError):
            error.args = ("the peer's words are left out",)  # HTTP parsers quote what they cannot read
    if isinstance(exc, httpx.RequestError):
        exc.request = httpx.Request(call.method, call.url)  # the one that was sent has the proof in its headers
    return Failure(kind=kind, cause=exc)


def _without_frames(exc: BaseException, handled: BaseException | None) -> BaseException:
    """Take away the frames below `send`, whose locals hold the proof and the body in the clear.

    Of whatever ended the call: an interrupt, a cancellation, a time limit, a mistake in a transport that was lent.
    """
    for error in [exc, *_causes(exc, handled)]:
        error.__traceback__ = None
    return exc


def _causes(exc: BaseException, handled: BaseException | None) -> list[BaseException]:
    found: list[BaseException] = []
    following = exc.__cause__ or exc.__context__
    while following is not None and following is not handled and following not in found:
        found.append(following)
        following = following.__cause__ or following.__context__
    return found


class _NoCookies(CookieJar):
    """Keeps no cookie. Unlike a jar with a strict policy it takes no lock, which a fork could leave locked for ever."""

    def extract_cookies(self, response: Any, request: Any) -> None:
        """Keep none."""

    def add_cookie_header(self, request: Any) -> None:
        """Add none."""
