"""The sockets of blocking calls: no peer holds a thread beyond the call's deadline."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import pytest
from core_support import options

from authsec_core._deadline import bounded
from authsec_core._http import Call, Failure, Reply, blocking_client, client_options, send
from authsec_core._transport import BoundedTransport
from authsec_core.testing import FakeClock, LoopbackServer, loopback_certificate
from authsec_core.testing import Reply as Answer

_HEAD = b"HTTP/1.1 200 OK\r\n"
_CHUNKED = _HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
_EMPTY = b"Content-Length: 0\r\n\r\n"


@contextmanager
def _dripping(clock: FakeClock, first: bytes, drop: bytes, last: bytes) -> Iterator[str]:
    """Serve one reply: `first`, then a `drop` every 15 seconds, and `last` only to a client that did not hang up."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve() -> None:
        connection, _ = listener.accept()
        with connection, suppress(OSError):
            connection.recv(65536)
            connection.sendall(first)
            for _ in range(2):
                clock.advance(15)
                connection.sendall(drop)
            connection.settimeout(10)
            with suppress(TimeoutError):
                if not connection.recv(1):
                    return
            connection.sendall(last)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    with closing(listener):
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/"
        thread.join(20)
    assert not thread.is_alive()


@pytest.mark.req("RS7")
@pytest.mark.parametrize(
    ("first", "drop", "last"),
    [
        pytest.param(_HEAD + b"X-Slow: ", b"a", b"\r\n" + _EMPTY, id="a header byte by byte"),
        pytest.param(b"", b"HTTP/1.1 103 Early Hints\r\n\r\n", _HEAD + _EMPTY, id="early hints without end"),
        pytest.param(_CHUNKED + b"1;x=", b"a", b"\r\na\r\n0\r\n\r\n", id="the size of a chunk byte by byte"),
    ],
)
def test_a_peer_that_never_comes_to_the_point_is_given_up_at_the_deadline(
    clock: FakeClock, first: bytes, drop: bytes, last: bytes
) -> None:
    """Every read is bounded by X one of these reads brings something."""
    with _dripping(clock, first, drop, last) as url, blocking_client(options(), None) as client:
        outcome = send(client, Call(url=url, deadline=clock.steady() + 20, limit=1000), clock)
    assert isinstance(outcome, Failure)
    assert outcome.kind == "timeout"


@pytest.mark.req("RS7")
def test_all_the_addresses_of_a_name_share_one_deadline(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second address is tried with what the first one left, and the third not at all."""
    tried: list[tuple[str, float | None]] = []
    _resolve_to(monkeypatch, "192.0.2.1", "192.0.2.2", "192.0.2.3")

    def connect(address: Any, timeout: float | None, source_address: Any) -> socket.socket:
        tried.append((address[0], timeout))
        clock.advance(12)
        raise TimeoutError

    monkeypatch.setattr(socket, "create_connection", connect)
    with blocking_client(options(), None) as client:
        call = Call(url="http://authority.test/", deadline=clock.steady() + 20, limit=1000)
        outcome = send(client, call, clock)
    assert tried == [("192.0.2.1", 20.0), ("192.0.2.2", 8.0)]
    assert isinstance(outcome, Failure)
    assert isinstance(outcome.cause, httpx.ConnectTimeout)


def test_the_next_address_of_a_name_is_tried(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name with an address that nobody answers at is reached at its other one."""
    with LoopbackServer(lambda request: Answer(body=b"here")) as server, blocking_client(options(), None) as client:
        _resolve_to(monkeypatch, "127.0.0.2", "127.0.0.1")
        url = server.base_url.replace("127.0.0.1", "authority.test")
        outcome = send(client, Call(url=url, deadline=clock.steady() + 20, limit=1000), clock)
    assert isinstance(outcome, Reply)
    assert outcome.body == b"here"
    assert server.requests[0].headers["host"].startswith("authority.test:")


def test_the_zone_of_an_address_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A link-local address leads nowhere without it; the resolver gives it as a number beside the address."""
    tried: list[str] = []
    found = [("fe80::1", 80, 0, 3), ("fe80::2%eth0", 80, 0, 3), ("2001:db8::1", 80, 0, 0)]

    def connect(address: Any, timeout: float | None, source_address: Any) -> socket.socket:
        tried.append(address[0])
        raise ConnectionRefusedError

    monkeypatch.setattr(
        "authsec_core._transport.socket.getaddrinfo",
        lambda *_, **__: [(socket.AF_INET6, socket.SOCK_STREAM, 6, "", address) for address in found],
    )
    monkeypatch.setattr(socket, "create_connection", connect)
    with blocking_client(options(), None) as client, pytest.raises(httpx.ConnectError):
        client.get("http://authority.test/")
    assert tried == ["fe80::1%3", "fe80::2%eth0", "2001:db8::1"]


@pytest.mark.req("RS3")
def test_a_name_is_what_a_certificate_is_checked_for(
    clock: FakeClock, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """It is the URL's host that counts, not the address that was connected to."""
    certificate = loopback_certificate(tmp_path, host="127.0.0.9")
    how = client_options(
        user_agent="tests", timeout=20, connect_timeout=20, ca_file=certificate.ca_file, trust_env=False
    )
    _resolve_to(monkeypatch, "127.0.0.1")
    with (
        LoopbackServer(lambda request: Answer(), tls=certificate.context) as server,
        blocking_client(how, None) as http,
    ):
        for host, expected in (("127.0.0.9", Reply), ("127.0.0.1", Failure)):
            url = server.base_url.replace("127.0.0.1", host)
            outcome = send(http, Call(url=url, deadline=clock.steady() + 20, limit=1000), clock)
            assert type(outcome) is expected


def test_outside_of_a_call_a_transport_is_bounded_by_httpx_alone() -> None:
    """The deadline of one call is not that of the next."""
    with (
        LoopbackServer(lambda request: Answer(body=b"here")) as server,
        httpx.Client(transport=BoundedTransport(options()["verify"])) as client,
    ):
        with bounded(lambda: 0.0), pytest.raises(httpx.TimeoutException):
            client.get(server.base_url)
        assert client.get(server.base_url).content == b"here"


@pytest.mark.req("RS7")
def test_only_a_transport_of_ones_own_or_a_proxy_of_the_environment_goes_without_the_bound(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Only httpx speaks with proxies; everything else is bounded, also where the environment is trusted for its CAs."""
    own = httpx.MockTransport(lambda request: httpx.Response(200))
    used: list[Callable[[], httpx.Client]] = [
        lambda: blocking_client(options(), None),
        lambda: blocking_client(options(), own),
        lambda: blocking_client({**options(), "trust_env": True}, None),
    ]
    monkeypatch.setattr("authsec_core._http.getproxies", dict)
    with used[2]() as client:
        assert type(client._transport) is BoundedTransport
    monkeypatch.setattr("authsec_core._http.getproxies", lambda: {"https": "http://proxy.test"})
    kinds = []
    for build in used:
        with build() as client:
            kinds.append(type(client._transport))  # there is no public way to see it
    assert kinds == [BoundedTransport, httpx.MockTransport, httpx.HTTPTransport]


def _resolve_to(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> None:
    def resolve(host: object, port: int, *args: Any, **kwargs: Any) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    monkeypatch.setattr("authsec_core._transport.socket.getaddrinfo", resolve)
