"""Connections: heads that never end, answers that nobody reads, and too many at once, on sockets of loopback."""

from __future__ import annotations

import asyncio
import importlib
import logging
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from ipaddress import ip_network
from types import SimpleNamespace
from typing import Any

import pytest
import uvicorn
from fastapi import FastAPI
from uvicorn.server import ServerState

from authsec_core.testing import FakeClock
from authsec_server.protocol import Closing, ConnectionLimits, Door, http_protocol
from authsec_server.serving import uvicorn_config
from authsec_server.settings import ServerSettings

PATIENCE = 30.0  # seconds: a guard, nothing here waits for it
SOON = 0.15  # seconds: a deadline that a test waits for
NEVER = 600.0
ROOMY = ConnectionLimits(head=NEVER, reading=NEVER, before=100_000, most=1000, most_of_address=1000)
GET = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"
BASES = ["h11_impl.H11Protocol", "httptools_impl.HttpToolsProtocol"]


@pytest.fixture(params=BASES, ids=["h11", "httptools"])
def base(request: pytest.FixtureRequest) -> Any:
    """Each of uvicorn's protocols; the second where its parser is installed."""
    module, _, name = request.param.partition(".")
    if name.startswith("HttpTools"):
        pytest.importorskip("httptools")
    return getattr(importlib.import_module(f"uvicorn.protocols.http.{module}"), name)


async def hello(scope: Any, receive: Any, send: Any) -> None:
    """Answer at once, whatever is asked: `/large` with more than anyone's buffers hold, `/medium` in one piece."""
    size = {"/large": 32 * 1024 * 1024, "/medium": 60_000}.get(scope["path"], 2)
    headers = [(b"content-length", str(size).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    piece = min(size, 100_000)
    for begin in range(0, size, piece):
        more = begin + piece < size
        body = b"x" * min(piece, size - begin)
        await send({"type": "http.response.body", "body": body, "more_body": more})


class Served:
    """A server, and what it closed."""

    def __init__(self, port: int, closed: list[Closing], door: Door) -> None:
        self.port, self.closed, self.door = port, closed, door

    def hurry(self, **limits: float) -> None:
        """Let other deadlines hold for what begins from now on."""
        vars(self.door)["limits"] = replace(self.door.limits, **limits)  # type: ignore[arg-type]  # none of them counts

    def connect(self, source: str = "127.0.0.1") -> socket.socket:
        """Open a connection, from this address."""
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE, source_address=(source, 0))


@contextmanager
def serving(limits: ConnectionLimits, base: Any, app: Any = hello) -> Iterator[Served]:
    """Serve with uvicorn on a thread."""
    closed: list[Closing] = []
    door = Door(limits, clock=FakeClock(), closed=closed.append)
    config = uvicorn.Config(app, http=http_protocol(door, base), lifespan="off", ws="none", log_config=None)
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        thread = threading.Thread(target=lambda: asyncio.run(server.serve([listener])), daemon=True)
        thread.start()
        try:
            yield Served(listener.getsockname()[1], closed, door)
        finally:
            server.should_exit = True
            thread.join(PATIENCE)
    assert not thread.is_alive()
    assert door.open == 0, "a connection was counted and never left"


def ends(connection: socket.socket) -> bool:
    """Wait until the server closes it, and return whether nothing came before."""
    try:
        return connection.recv(1) == b""
    except ConnectionError:
        return True


def answer(connection: socket.socket) -> bytes:
    """Return one short answer."""
    got = b""
    while not got.endswith(b"xx"):
        piece = connection.recv(4096)
        assert piece, got
        got += piece
    return got


def trickle(connection: socket.socket, pieces: Iterator[bytes]) -> bool:
    """Send one piece after the other until the server hangs up, and return whether it did before they ended."""
    connection.settimeout(0.01)
    for piece in pieces:
        try:
            connection.sendall(piece)
            if connection.recv(1000) == b"":
                return True
        except TimeoutError:
            continue
        except ConnectionError:
            return True
    return False


def slowly(head: bytes) -> Iterator[bytes]:
    """Yield a head that never ends, byte by byte, for longer than a test may take."""
    for byte in head:
        yield bytes([byte])
    for number in range(3000):
        yield f"X-{number}: y\r\n".encode()


@pytest.mark.req("RA9")
@pytest.mark.parametrize("sent", [b"", b"G", b"GET / HTTP/1.1\r\n", b"GET / HTTP/1.1\r\nHost: x\r\n"])
def test_half_a_head_is_not_waited_for(base: Any, sent: bytes) -> None:
    """Whoever connects and does not ask is hung up on, however far they came."""
    with serving(replace(ROOMY, head=SOON), base) as served, served.connect() as connection:
        connection.sendall(sent)
        assert ends(connection)
        assert served.closed == ["slow_head"]


@pytest.mark.req("RA9")
def test_a_head_byte_by_byte_gains_no_time(base: Any) -> None:
    """The deadline is the head's and not the next byte's."""
    with serving(replace(ROOMY, head=SOON), base) as served, served.connect() as connection:
        assert trickle(connection, slowly(b"GET / HTTP/1.1\r\nHost: x\r\n"))
        assert served.closed == ["slow_head"]


@pytest.mark.req("RA9")
def test_the_second_head_on_a_connection_has_the_same_time(base: Any) -> None:
    """It counts from its first byte; a request before it, and its answer, are no matter."""
    with serving(ROOMY, base) as served, served.connect() as connection:
        for _ in range(3):
            connection.sendall(GET)
            assert answer(connection).startswith(b"HTTP/1.1 200")
            served.hurry(head=SOON)  # which a connection has to keep that was made, and on which nothing is on its way
        assert trickle(connection, slowly(b"GET / HTTP/1.1\r\nHost: x\r\n"))
        assert served.closed == ["slow_head"]


def test_what_is_sent_in_time_is_answered(base: Any) -> None:
    """A head in two pieces, two requests at once, and a kept connection that rests: none is hurried."""
    with serving(replace(ROOMY, head=PATIENCE), base) as served, served.connect() as connection:
        connection.sendall(GET[:10])
        connection.sendall(GET[10:])
        answer(connection)
        connection.sendall(GET + GET)
        answers = b""
        while answers.count(b"200 OK") < 2 or not answers.endswith(b"xx"):
            answers += connection.recv(4096)
        assert served.closed == []


def test_a_resting_connection_is_uvicorns(base: Any) -> None:
    """After an answer no deadline runs until something comes: that is what uvicorn's keep-alive is for."""
    with serving(ROOMY, base) as served, served.connect() as connection:
        for _ in range(2):
            connection.sendall(GET)
            answer(connection)
            served.hurry(head=SOON)  # for the second, which comes whole
        connection.settimeout(3 * SOON)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        assert served.closed == []


@pytest.mark.req("RA9")
def test_a_head_has_a_size(base: Any) -> None:
    """However fast it comes: h11 says 400 at its own limit, and httptools would take what it gets."""
    with serving(replace(ROOMY, before=50_000), base) as served, served.connect() as connection:
        connection.sendall(GET[:-2])
        lines = (f"X-{number}: {'y' * 4000}\r\n".encode() for number in range(1000))
        assert trickle(connection, lines)
        assert served.closed == ([] if base.__name__ == "H11Protocol" else ["large_head"])


@pytest.mark.req("RA9")
@pytest.mark.parametrize("then_leaves", [False, True])
def test_who_does_not_read_is_cut_off(base: Any, then_leaves: bool) -> None:
    """An answer that is not taken does not wait for ever, also where the connection is to be closed after it."""
    request = GET.replace(b"/ ", b"/large ")
    if then_leaves:
        request = request.replace(b"Host", b"Connection: close\r\nHost")
    with serving(replace(ROOMY, reading=SOON), base) as served, served.connect() as connection:
        connection.sendall(request)
        _until(lambda: served.closed == ["slow_reader"])
        _until(lambda: served.door.open == 0)


@pytest.mark.req("RA9")
def test_many_answers_that_nobody_reads_are_cut_off(base: Any) -> None:
    """However small each is: what is left of them holds no connection open."""
    with serving(replace(ROOMY, reading=SOON), base) as served, served.connect() as connection:
        connection.sendall(GET.replace(b"/ ", b"/medium ") * 1000)
        _until(lambda: served.closed == ["slow_reader"])
        _until(lambda: served.door.open == 0)


class Full(asyncio.Transport):
    """A transport that holds something which nobody takes."""

    def __init__(self) -> None:
        super().__init__()
        self.aborted = asyncio.Event()

    def get_write_buffer_size(self) -> int:
        """As much as is left of an answer."""
        return 1000

    def is_closing(self) -> bool:
        """Whether it was cut."""
        return self.aborted.is_set()

    def abort(self) -> None:
        """Cut it."""
        self.aborted.set()

    def resume_reading(self) -> None:
        """Pay no heed."""


def unread(base: Any, door: Door) -> tuple[Any, Full]:
    """Return a connection, on the running loop, whose peer takes nothing."""
    config = uvicorn.Config(hello, lifespan="off", ws="none", log_config=None)
    config.load()
    made: Any = http_protocol(door, base)
    protocol, transport = made(config=config, server_state=ServerState(), app_state={}), Full()
    protocol.connection_made(transport)
    return protocol, transport


@pytest.mark.req("RA9")
def test_the_rest_of_an_answer_has_its_time_too(base: Any) -> None:
    """What is less than uvicorn waits for may stay in the buffer: closing would wait for its reader without end."""

    async def test() -> None:
        closed: list[Closing] = []
        protocol, transport = unread(base, Door(replace(ROOMY, reading=SOON), clock=FakeClock(), closed=closed.append))
        protocol.cycle = SimpleNamespace(response_complete=True)
        for step in (protocol.on_response_complete, protocol.pause_writing, protocol.resume_writing):
            step()
            assert protocol._reading is not None
        await transport.aborted.wait()
        assert closed == ["slow_reader"]
        protocol._unset_keepalive_if_required()
        protocol._head.cancel()

    asyncio.run(asyncio.wait_for(test(), PATIENCE))


def test_a_slow_reader_who_reads_gets_it_all(base: Any) -> None:
    """However large the answer is, and however often the server had to wait with it."""
    with serving(replace(ROOMY, reading=PATIENCE), base) as served, served.connect() as connection:
        connection.sendall(GET.replace(b"/ ", b"/large "))
        got = 0
        while got < 32 * 1024 * 1024:
            piece = connection.recv(1_000_000)
            assert piece
            got += len(piece)
        assert served.closed == []


def test_who_takes_something_has_all_the_time_again(base: Any) -> None:
    """As long as something is taken now and then, the answer goes on: for much longer than the deadline."""

    async def test() -> None:
        protocol, transport = unread(base, Door(ROOMY, clock=FakeClock()))
        protocol.cycle = SimpleNamespace(response_complete=False)
        deadlines = []
        for _ in range(3):
            protocol.pause_writing()
            deadlines.append(protocol._reading)
            protocol.resume_writing()
        began = asyncio.get_running_loop().time()
        protocol.pause_writing()
        assert [deadline.cancelled() for deadline in deadlines] == [True] * 3
        assert protocol._reading.when() >= began + NEVER
        assert not protocol._reading.cancelled()
        protocol._end_reading()
        protocol._end_head()
        assert not transport.aborted.is_set()

    asyncio.run(test())


@pytest.mark.req("RA9")
def test_one_address_cannot_take_all_connections(base: Any) -> None:
    """Of three hundred that connect and rest, those beyond its share are closed at once; another address is served."""
    with ExitStack() as stack:
        served = stack.enter_context(serving(replace(ROOMY, most_of_address=256), base))
        idle = [stack.enter_context(served.connect()) for _ in range(300)]
        assert sum(ends(each) for each in idle[256:]) == 44
        assert served.closed == ["too_many_of_address"] * 44
        with served.connect("127.0.0.2") as honest:
            honest.sendall(GET)
            assert answer(honest)
        idle[0].close()
        _until(lambda: served.door.open == 255)
        with served.connect() as again:
            again.sendall(GET)
            assert answer(again)


@pytest.mark.req("RA9")
def test_there_is_a_most_in_all(base: Any) -> None:
    """Whoever comes when the house is full is sent away; who is inside is served, and leaving makes room."""
    with serving(replace(ROOMY, most=2), base) as served, served.connect() as first, served.connect("127.0.0.2"):
        first.sendall(GET)
        assert answer(first)
        with served.connect("127.0.0.3") as third:
            assert ends(third)
        assert served.closed == ["too_many"]


def test_a_trusted_proxy_has_no_share() -> None:
    """Everyone comes through it: it is counted among all, and not by its address."""
    trusted = (ip_network("10.0.0.0/8"), ip_network("fd00::/8"))
    door = Door(replace(ROOMY, trusted_proxies=trusted), clock=FakeClock())
    counted = {peer: door.counted_as(peer) for peer in ("10.1.2.3", "::ffff:10.1.2.3", "fd00::1%eth0", None)}
    assert set(counted.values()) == {None}
    assert door.counted_as("192.0.2.1") == "192.0.2.1"
    assert door.counted_as("2001:db8::1") == door.counted_as("2001:db8::2") == "2001:db8::/64"
    assert door.counted_as("testclient") == "testclient"


def test_the_log_stays_quiet(caplog: pytest.LogCaptureFixture) -> None:
    """A flood of connections is one line a second."""
    clock = FakeClock()
    closed: list[str] = []
    door = Door(ROOMY, clock=clock, closed=closed.append)
    with caplog.at_level(logging.WARNING, "authsec.server.connections"):
        for _ in range(100):
            door.tell("too_many", "192.0.2.1")
        clock.advance(1)
        door.tell("slow_head", None)
    assert [record.why for record in caplog.records] == ["too_many", "slow_head"]  # type: ignore[attr-defined]
    assert len(closed) == 101


def test_the_authority_is_served_with_these_limits() -> None:
    """The configuration that the command and the tests use has them, from the settings."""
    settings = ServerSettings(
        dev=True, header_timeout=3.0, request_timeout=7.0, max_connections=8, address_connections=2, body_limit=2048
    )
    config = uvicorn_config(FastAPI(), settings, last_requests=1)
    config.load()
    door: Door = vars(config.http_protocol_class)["door"]
    assert door.limits == ConnectionLimits(head=3.0, reading=7.0, before=67_584, most=8, most_of_address=2)


@pytest.mark.parametrize(("proxies", "warns"), [(None, True), ("10.0.0.0/8", False)])
def test_a_proxy_that_nobody_named_is_told_of(
    proxies: str | None, warns: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Behind it everyone has one address: one who guesses would make all of them wait."""
    given = {"public_url": "https://authority.example.com", "data_dir": "/srv/authsec", "behind_proxy": True}
    settings = ServerSettings(**given, trusted_proxies=proxies)  # type: ignore[arg-type]  # each is of its field's kind
    uvicorn_config(FastAPI(), settings, last_requests=1)
    assert ("AUTHSEC_SERVER_TRUSTED_PROXIES" in caplog.text) is warns


def _until(holds: Callable[[], bool]) -> None:
    """Wait for what the server's thread does."""
    waited = threading.Event()
    for _ in range(int(PATIENCE / 0.01)):
        if holds():
            return
        waited.wait(0.01)
    raise AssertionError("it did not happen")
