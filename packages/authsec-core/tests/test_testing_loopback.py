"""The loopback server that everything else in `authsec_core.testing` is made of."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import httpx
import pytest

from authsec_core.testing import LoopbackServer, Raw, Reply, Request, loopback_certificate
from authsec_core.testing._http import Answer
from authsec_core.testing._loopback import _Listener

# Loading the usual certificates takes longer than any request here, and plain http needs none.
BARE = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def echo(request: Request) -> Reply:
    """Answer with what came in."""
    return Reply.of_json(
        {
            "method": request.method,
            "path": request.path,
            "query": request.query,
            "body": request.body.decode(),
            "x": request.headers.get("x-test"),
        }
    )


@contextmanager
def no_thread_left() -> Iterator[None]:
    """Fail where a thread has been added; one of another test may end meanwhile."""
    before = set(threading.enumerate())
    yield
    assert set(threading.enumerate()) <= before


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    """An HTTP client that keeps its connections open."""
    with httpx.Client(timeout=10) as client:
        yield client


@pytest.mark.parametrize("method", ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"])
def test_a_handler_sees_the_whole_request(client: httpx.Client, method: str) -> None:
    """Method, raw path, decoded query with blank and repeated parameters, headers and body arrive."""
    with LoopbackServer(echo) as server:
        reply = client.request(
            method, f"{server.base_url}/a%2e%2e/b?q=1&q=&r=x%20y", content=b"hello", headers={"X-Test": "yes"}
        )
    assert reply.json() == {
        "method": method,
        "path": "/a%2e%2e/b",
        "query": [["q", "1"], ["q", ""], ["r", "x y"]],
        "body": "hello",
        "x": "yes",
    }


def test_a_head_request_gets_headers_only(client: httpx.Client) -> None:
    """HEAD is answered with the length of the body and without the body."""
    with LoopbackServer(lambda _: Reply(body=b"12345")) as server:
        reply = client.head(server.base_url)
    assert (reply.headers["content-length"], reply.content) == ("5", b"")


def test_repeated_headers_are_joined_and_the_raw_path_is_kept() -> None:
    """Two lines of one header read as one value (RFC 9110 section 5.3), and a leading `//` is not mended."""
    with LoopbackServer(echo) as server:
        with socket.create_connection(("127.0.0.1", int(server.base_url.rpartition(":")[2])), timeout=10) as sock:
            sock.sendall(b"GET //host/x HTTP/1.1\r\nHost: a\r\nX-Test: 1\r\nX-Test: 2\r\nConnection: close\r\n\r\n")
            while sock.recv(4096):
                pass
        seen = server.requests[0]
    assert (seen.path, seen.headers["x-test"]) == ("//host/x", "1, 2")


def test_credentials_are_not_in_the_repr_of_a_request(client: httpx.Client) -> None:
    """A failing assertion that prints a request prints neither its headers nor its body."""
    with LoopbackServer(echo) as server:
        client.post(server.base_url, content=b"secret-body", headers={"Authorization": "Bearer secret-token"})
        shown = repr(server.requests)
    assert "secret" not in shown


def test_one_connection_carries_many_requests(client: httpx.Client) -> None:
    """Connections are kept alive, unless the reply says `Connection: close`."""
    ports: list[object] = []

    def note(response: httpx.Response) -> None:
        ports.append(response.extensions["network_stream"].get_extra_info("client_addr"))

    client.event_hooks["response"].append(note)
    with LoopbackServer(lambda r: Reply(headers={"Connection": "close"} if r.path == "/last" else {})) as server:
        for path in ("/", "/", "/last", "/"):
            client.get(server.base_url + path)
    assert ports[0] == ports[1] == ports[2] != ports[3]


def test_requests_are_served_at_once(client: httpx.Client) -> None:
    """Handlers run side by side: thirty that wait for each other all end."""
    gate = threading.Barrier(30)

    def meet(_: Request) -> Reply:
        gate.wait(timeout=10)
        return Reply(body=b"met")

    with LoopbackServer(meet) as server, ThreadPoolExecutor(30) as pool:
        bodies = list(pool.map(lambda _: httpx.get(server.base_url, verify=BARE, trust_env=False).content, range(30)))
    assert bodies == [b"met"] * 30


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (Raw(), httpx.RemoteProtocolError),
        (Raw(data=b"HTTP/1.1 200 OK\r\nContent-Le"), httpx.RemoteProtocolError),
        (Raw(data=b"\x16\x03\x01 not HTTP at all\r\n\r\n"), httpx.RemoteProtocolError),
        (Reply(body=b"0123456789", cut_after=0), httpx.RemoteProtocolError),
        (Reply(body=b"0123456789", cut_after=5), httpx.RemoteProtocolError),
    ],
    ids=["cut at once", "cut in the headers", "garbage", "cut after the headers", "cut in the body"],
)
def test_it_misbehaves_when_told_to(client: httpx.Client, answer: Answer, error: type[Exception]) -> None:
    """Each way to break off ends in a protocol error of the client, and the next request is served."""
    answers = [answer, Reply(body=b"well")]
    with LoopbackServer(lambda _: answers.pop(0)) as server:
        with pytest.raises(error):
            client.get(server.base_url)
        assert client.get(server.base_url).content == b"well"


def test_a_delay_lasts_until_the_event_is_set() -> None:
    """A reply that waits for an Event is sent when, and not before, the event is set."""
    release = threading.Event()
    with LoopbackServer(lambda _: Reply(delay=release)) as server, ThreadPoolExecutor(1) as pool:
        reply = pool.submit(httpx.get, server.base_url, verify=BARE, trust_env=False)
        server.wait_for_requests(1)
        assert not reply.done()
        release.set()
        assert reply.result(timeout=10).status_code == 200


def test_a_delay_in_seconds_goes_through_the_given_wait(client: httpx.Client) -> None:
    """Tests wait out no real seconds: the wait can be replaced."""
    waited: list[float] = []
    with LoopbackServer(lambda _: Reply(delay=3600), wait=waited.append) as server:
        assert client.get(server.base_url).status_code == 200
    assert waited == [3600]


@pytest.mark.parametrize("delay", [3600.0, threading.Event()], ids=["seconds", "event"])
def test_closing_ends_every_delay_and_leaves_no_thread(delay: float | threading.Event) -> None:
    """After `close`, no thread of the server is left, whatever it was waiting for."""
    with no_thread_left(), ThreadPoolExecutor(1) as pool:
        with LoopbackServer(lambda _: Reply(delay=delay)) as server:
            reply = pool.submit(httpx.get, server.base_url, verify=BARE, trust_env=False)
            server.wait_for_requests(1)
        with pytest.raises(httpx.TransportError):
            reply.result(timeout=10)


def test_closing_drops_idle_connections(client: httpx.Client) -> None:
    """A client that keeps a connection open does not keep a closed server alive."""
    with no_thread_left(), LoopbackServer(echo) as server:
        client.get(server.base_url)


def test_a_closed_server_refuses_and_starts_again_on_its_port(client: httpx.Client) -> None:
    """Between `close` and `start` the connection is refused; afterwards the same URL works."""
    server = LoopbackServer(echo).start()
    try:
        url = server.base_url
        server.close()
        server.close()
        with pytest.raises(httpx.ConnectError):
            client.get(url)
        server.start()
        assert (server.base_url, client.get(url).status_code) == (url, 200)
    finally:
        server.close()


def test_the_port_of_a_closed_server_is_nobody_elses() -> None:
    """A server that happened to get it would answer in its place, and keep it from starting again."""
    with LoopbackServer(echo) as server:
        server.close()
        with socket.socket() as other, pytest.raises(OSError, match=r"in use|usage"):
            other.bind(("127.0.0.1", int(server.base_url.rpartition(":")[2])))


def test_using_it_wrongly_says_so() -> None:
    """No URL before the start, and no second start."""
    server = LoopbackServer(echo)
    with pytest.raises(RuntimeError, match="start"):
        _ = server.base_url
    with server, pytest.raises(RuntimeError, match="running"):
        server.start()


def test_what_a_handler_raises_fails_the_test(client: httpx.Client) -> None:
    """A handler's exception answers 500 and comes out of the with block."""

    def broken(_: Request) -> Reply:
        raise AssertionError("the handler's own assertion")

    with pytest.raises(AssertionError, match="the handler's own"), LoopbackServer(broken) as server:
        assert client.get(server.base_url).status_code == 500


def test_an_unsendable_reply_fails_the_test(client: httpx.Client) -> None:
    """A reply that cannot be written is the handler's fault and comes out of the with block too."""
    with (
        pytest.raises(UnicodeEncodeError),
        LoopbackServer(lambda _: Reply(headers={"X-Test": "\N{SNOWMAN}"})) as server,
        pytest.raises(httpx.RemoteProtocolError),
    ):
        client.get(server.base_url)
    assert server.failures


def test_the_tests_own_exception_comes_first(client: httpx.Client) -> None:
    """A handler's exception does not hide the one that is leaving the with block."""

    def broken(_: Request) -> Reply:
        raise AssertionError("handler")

    def program() -> None:
        with LoopbackServer(broken) as server:
            client.get(server.base_url)
            raise KeyError("test")

    with pytest.raises(KeyError):
        program()


def test_a_handler_that_does_not_end_fails_the_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server cannot stop a handler, so it says that one is left."""
    monkeypatch.setattr("authsec_core.testing._loopback._JOIN", 0.01)
    release = threading.Event()

    def stuck(_: Request) -> Reply:
        release.wait(timeout=10)
        return Reply()

    server = LoopbackServer(stuck).start()
    with ThreadPoolExecutor(1) as pool:
        pool.submit(httpx.get, server.base_url, verify=BARE, trust_env=False)
        server.wait_for_requests(1)
        with pytest.raises(RuntimeError, match="still busy"):
            server.__exit__(None, None, None)
        release.set()


def test_a_thread_that_is_about_to_end_has_not_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Closing waits for a handler's thread also where its connection is closed already."""
    monkeypatch.setattr("authsec_core.testing._loopback._JOIN", 0.01)
    about_to_end, release = threading.Event(), threading.Event()
    handle = _Listener.process_request_thread

    def slow(listener: _Listener, request: Any, client_address: Any) -> None:
        handle(listener, request, client_address)
        about_to_end.set()
        release.wait(timeout=10)

    monkeypatch.setattr(_Listener, "process_request_thread", slow)
    server = LoopbackServer(echo).start()
    httpx.get(server.base_url, verify=BARE, trust_env=False)
    assert about_to_end.wait(timeout=10)
    with pytest.raises(RuntimeError, match="still busy"):
        server.__exit__(None, None, None)
    release.set()


def test_waiting_for_requests_that_do_not_come_fails() -> None:
    """A wait ends with an assertion that tells how many came."""
    with LoopbackServer(echo) as server, pytest.raises(AssertionError, match="0 of 1"):
        server.wait_for_requests(1, timeout=0)


def test_it_prints_nothing(client: httpx.Client, capfd: pytest.CaptureFixture[str]) -> None:
    """Neither requests nor broken connections are logged to the terminal."""
    with LoopbackServer(lambda r: Raw() if r.path == "/cut" else Reply(status=404)) as server:
        client.get(server.base_url)
        with pytest.raises(httpx.RemoteProtocolError):
            client.get(server.base_url + "/cut")
    assert capfd.readouterr() == ("", "")


def test_a_body_without_a_length_is_refused(client: httpx.Client) -> None:
    """Chunked bodies are answered 411, so that a body is never silently read as empty."""
    with LoopbackServer(echo) as server:
        reply = client.post(server.base_url, content=iter([b"chunk"]))
    assert reply.status_code == 411


def test_it_speaks_https_with_a_certificate_that_a_client_can_trust(tmp_path: Path) -> None:
    """A client that trusts the CA file is served; one that does not breaks off the handshake."""
    certificate = loopback_certificate(tmp_path)
    trusting = ssl.create_default_context(cafile=certificate.ca_file)
    with LoopbackServer(echo, tls=certificate.context) as server:
        assert server.base_url.startswith("https://")
        assert httpx.get(server.base_url, verify=trusting, trust_env=False).status_code == 200
        with pytest.raises(httpx.ConnectError, match="CERTIFICATE_VERIFY_FAILED"):
            httpx.get(server.base_url, trust_env=False)
    assert [file.name for file in tmp_path.iterdir()] == ["ca.pem"]


def test_a_certificate_for_another_host_is_not_trusted(tmp_path: Path) -> None:
    """A certificate of a trusted authority for another address is refused all the same."""
    certificate = loopback_certificate(tmp_path, host="192.0.2.1")
    trusting = ssl.create_default_context(cafile=certificate.ca_file)
    with (
        LoopbackServer(echo, tls=certificate.context) as server,
        pytest.raises(httpx.ConnectError, match="IP address mismatch"),
    ):
        httpx.get(server.base_url, verify=trusting, trust_env=False)


def test_closing_drops_connections_that_speak_https_or_have_not_begun_to(tmp_path: Path) -> None:
    """Idle TLS connections and unfinished handshakes do not keep a closed server alive."""
    certificate = loopback_certificate(tmp_path)
    trusting = ssl.create_default_context(cafile=certificate.ca_file)
    with (
        no_thread_left(),
        LoopbackServer(echo, tls=certificate.context) as server,
        httpx.Client(verify=trusting) as client,
    ):
        client.get(server.base_url)
        silent = socket.create_connection(("127.0.0.1", int(server.base_url.rpartition(":")[2])), timeout=10)
        httpx.get(server.base_url, verify=trusting, trust_env=False)  # accepted after it, so it was accepted too
    with silent:
        assert silent.recv(1) == b""


def test_a_connection_that_is_just_becoming_https_is_dropped_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closing between the moment when TLS takes over a socket and its handshake strands neither side."""
    wrapped, release = threading.Event(), threading.Event()
    real = loopback_certificate(tmp_path).context

    class Slow:
        def wrap_socket(self, *args: Any, **more: Any) -> ssl.SSLSocket:
            secure = real.wrap_socket(*args, **more)
            wrapped.set()
            release.wait(timeout=10)
            return secure

    drop = _Listener.drop_connections

    def release_and_drop(listener: _Listener) -> None:
        release.set()
        drop(listener)

    monkeypatch.setattr(_Listener, "drop_connections", release_and_drop)
    with LoopbackServer(echo, tls=cast("ssl.SSLContext", Slow())) as server:
        silent = socket.create_connection(("127.0.0.1", int(server.base_url.rpartition(":")[2])), timeout=10)
        wrapped.wait(timeout=10)
    with silent:
        assert silent.recv(1) == b""
