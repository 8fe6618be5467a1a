"""How bytes travel: one bounded GET over real sockets, and what each way of failing is called."""

from __future__ import annotations

import asyncio
import logging
import ssl
import threading
import traceback
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from core_support import Driver, options

from authsec_core._http import Call, Failure, Reply, _ending, blocking_client, client_options, send, send_async
from authsec_core.testing import FakeClock, LoopbackServer, Raw, loopback_certificate
from authsec_core.testing import Reply as Answer

SECRET = "Bearer agent-1.0123456789abcdef"
Get = Callable[..., "Reply | Failure"]


@pytest.fixture
def serve() -> Any:
    """Start a server that gives this answer to everyone, until the end of the test."""
    with ExitStack() as running:

        def serve(answer: Answer | Raw, **how: Any) -> LoopbackServer:
            return running.enter_context(LoopbackServer(lambda request: answer, **how))

        yield serve


@pytest.fixture
def get(driver: Driver, clock: FakeClock) -> Get:
    """Do one GET with a second's time by the clock."""

    def get(url: str, *, timeout: float = 20.0, limit: int = 1000, **more: Any) -> Reply | Failure:
        call = Call(url=url, deadline=clock.steady() + timeout, limit=limit, **more)
        return driver.send(call, clock)

    return get


def _kind(outcome: Reply | Failure) -> str:
    return outcome.kind if isinstance(outcome, Failure) else f"status {outcome.status}"


def test_a_reply_comes_back_whole(get: Get, serve: Any) -> None:
    """Status, headers and body; what was sent is what the call says."""
    server = serve(Answer(status=203, headers={"X-One": "1"}, body=b"body"))
    reply = get(f"{server.base_url}/path", params={"a": "b c"}, headers={"Authorization": SECRET})
    assert isinstance(reply, Reply)
    assert (reply.status, reply.headers["x-one"], reply.body) == (203, "1", b"body")
    [request] = server.requests
    assert (request.method, request.path, request.query) == ("GET", "/path", (("a", "b c"),))
    assert request.headers["authorization"] == SECRET


def test_the_query_of_a_url_is_kept(get: Get, serve: Any) -> None:
    """Without params the URL goes out as it is."""
    server = serve(Answer())
    get(f"{server.base_url}/path?one=1")
    assert server.requests[0].query == (("one", "1"),)


@pytest.mark.parametrize(("size", "kind"), [(1000, "status 200"), (1001, "too_large"), (3_000_000, "too_large")])
def test_a_body_is_read_up_to_its_limit(get: Get, serve: Any, size: int, kind: str) -> None:
    """One byte more than the limit, and nothing of it is kept."""
    assert _kind(get(serve(Answer(body=b"x" * size)).base_url)) == kind


@pytest.mark.req("RS1")
@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        pytest.param(Raw(), "cut", id="closed without a word"),
        pytest.param(Raw(data=b"SSH-2.0-OpenSSH_9.6\r\n"), "cut", id="another protocol"),
        pytest.param(Raw(data=b"HTTP/1.1 200 OK\r\nContent-Le"), "cut", id="cut in the headers"),
        pytest.param(Raw(data=b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n1234"), "cut", id="cut in the body"),
        pytest.param(Raw(data=b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"), "cut", id="bad chunk"),
        pytest.param(Raw(data=b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"), "cut", id="impossible length"),
        pytest.param(Raw(data=b"HTTP/1.1 200 OK\r\nX: " + b"x" * 200_000), "cut", id="endless header"),
        pytest.param(Raw(data=b"HTTP/1.1 403 No\r\nContent-Length: 9\r\n\r\n1234"), "status 403", id="refusal cut"),
        pytest.param(Answer(status=302, headers={"Location": "http://[::"}), "cut", id="redirect to nowhere"),
        pytest.param(Answer(status=302, headers={"Location": "javascript:x"}), "cut", id="redirect to no address"),
        pytest.param(Answer(headers={"Content-Encoding": "gzip"}, body=b"no gzip"), "cut", id="encoded"),
    ],
)
def test_a_broken_answer_is_cut(get: Get, serve: Any, answer: Answer | Raw, kind: str) -> None:
    """Whatever a peer sends is a reply or a failure with a name, and never an exception."""
    assert _kind(get(serve(answer).base_url)) == kind


@pytest.mark.req("RS1")
@pytest.mark.parametrize("host", ["authority.invalid", "a..b", f"{'x' * 64}.test", "xn--a.test", "-"])
def test_a_host_that_does_not_exist_is_not_reached(get: Get, monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    """Neither a name that the resolver does not know, nor one that it cannot even ask for."""
    import socket

    resolve = socket.getaddrinfo

    def getaddrinfo(name: Any, *args: Any, **kwargs: Any) -> Any:
        text = name if isinstance(name, str) else name.decode()
        text.encode("idna")  # what the interpreter does with it first
        return resolve("authority.invalid", *args, **kwargs)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    assert _kind(get(f"https://{host}/")) == "connect"


@pytest.mark.req("RS1")
def test_a_port_that_nobody_listens_on_is_not_reached(get: Get, serve: Any) -> None:
    """A refused connection was never a request."""
    server = serve(Answer())
    server.close()
    assert _kind(get(server.base_url)) == "connect"


@pytest.mark.req("RS1")
def test_an_answer_that_does_not_come_is_a_timeout(get: Get, serve: Any) -> None:
    """The deadline bounds the wait for the first byte."""
    assert _kind(get(serve(Answer(delay=threading.Event())).base_url, timeout=0.05)) == "timeout"


@pytest.mark.req("RS7")
def test_a_deadline_that_has_passed_is_a_timeout(get: Get, serve: Any) -> None:
    """Nothing is waited for any more."""
    assert _kind(get(serve(Answer(delay=threading.Event())).base_url, timeout=-1.0)) in {"timeout", "connect"}


def test_the_deadline_holds_where_httpx_never_comes_back(clock: FakeClock) -> None:
    """For coroutines it bounds the whole, also a server that feeds headers byte by byte."""

    async def for_ever(request: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError

    async def get() -> Reply | Failure:
        async with httpx.AsyncClient(transport=httpx.MockTransport(for_ever), **options()) as http:
            call = Call(url="https://api.test", deadline=clock.steady() + 0.05, limit=1)
            return await send_async(http, call, clock)

    assert _kind(asyncio.run(get())) == "timeout"


def test_a_cancellation_is_no_timeout(clock: FakeClock) -> None:
    """Who cancels a request gets the cancellation, and not a reply that says that time is up."""
    sent = asyncio.Event()

    async def for_ever(request: httpx.Request) -> httpx.Response:
        sent.set()
        await asyncio.Event().wait()
        raise AssertionError

    async def get() -> None:
        async with httpx.AsyncClient(transport=httpx.MockTransport(for_ever), **options()) as http:
            call = Call(url="https://api.test", deadline=clock.steady() + 20, limit=1)
            task = asyncio.create_task(send_async(http, call, clock))
            await sent.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

    asyncio.run(get())


def test_cancelled_calls_give_their_connections_back(serve: Any, clock: FakeClock) -> None:
    """At whatever step: a pool that lost one with each cancelled tool call would be empty after a hundred."""
    server = serve(Answer(body=b"here"))

    async def cancel_at_each_step() -> None:
        async with httpx.AsyncClient(**options()) as http:
            call = Call(url=server.base_url, deadline=clock.steady() + 20, limit=1000)
            for steps in range(60):
                task = asyncio.create_task(send_async(http, call, clock))
                for _ in range(steps):
                    await asyncio.sleep(0)
                task.cancel()
                await asyncio.wait([task])
            while _ending:
                await asyncio.wait(_ending)
            pool = http._transport._pool  # type: ignore[attr-defined] # there is no public way to see it
            assert pool._requests == []
            assert isinstance(await send_async(http, call, clock), Reply)

    asyncio.run(cancel_at_each_step())


@pytest.mark.req("RS8")
@pytest.mark.parametrize("driven", ["sync", "async"])
def test_an_interrupt_leaves_no_frame_that_holds_the_proof(clock: FakeClock, driven: str) -> None:
    """What reports of a Ctrl-C or a cancellation show of httpx and below, where headers are plain bytes, is nothing."""

    def interrupted(request: httpx.Request) -> httpx.Response:
        raw = dict(request.headers.raw)
        try:
            raise TimeoutError(str(len(raw)))
        finally:
            raise KeyboardInterrupt

    async def get_async() -> Reply | Failure:
        async with httpx.AsyncClient(transport=httpx.MockTransport(interrupted), **options()) as http:
            return await send_async(http, call, clock)

    def get() -> Reply | Failure:
        if driven == "async":
            return asyncio.run(get_async())
        with httpx.Client(transport=httpx.MockTransport(interrupted), **options()) as http:
            return send(http, call, clock)

    call = Call(url="https://api.test", headers={"Authorization": SECRET}, deadline=clock.steady() + 20, limit=1)
    with pytest.raises(KeyboardInterrupt) as caught:
        get()
    report = "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=True).format())
    assert ("in send" if driven == "sync" else "in _sent") in report
    assert "in interrupted" not in report
    assert SECRET not in report


@pytest.mark.req("RS8")
@pytest.mark.parametrize("driven", ["sync", "async"])
def test_an_interrupt_within_the_body_leaves_no_frame_that_holds_it(driven: str, clock: FakeClock) -> None:
    """Half a token reply has been read when Ctrl-C, a cancellation or a task queue's time limit comes."""

    class Interrupted(httpx.SyncByteStream, httpx.AsyncByteStream):
        def __iter__(self) -> Iterator[bytes]:
            yield SECRET.encode()
            raise RuntimeError("time is up")

        async def __aiter__(self) -> AsyncIterator[bytes]:
            for chunk in self:
                yield chunk

    transport = httpx.MockTransport(lambda request: httpx.Response(200, stream=Interrupted()))
    call = Call(url="https://api.test", deadline=clock.steady() + 20, limit=1000)

    async def get_async() -> Reply | Failure:
        async with httpx.AsyncClient(transport=transport, **options()) as http:
            return await send_async(http, call, clock)

    def get() -> Reply | Failure:
        if driven == "async":
            return asyncio.run(get_async())
        with httpx.Client(transport=transport, **options()) as http:
            return send(http, call, clock)

    with pytest.raises(RuntimeError, match="time is up") as caught:
        get()
    report = "".join(traceback.TracebackException.from_exception(caught.value, capture_locals=True).format())
    assert SECRET not in report


class TestTls:
    """TLS is always verified (RS3)."""

    @staticmethod
    def _get(driver: Driver, url: str, clock: FakeClock, ca_file: Path | None) -> Reply | Failure:
        how = client_options(user_agent="tests", timeout=20, connect_timeout=20, ca_file=ca_file, trust_env=False)
        call = Call(url=url, deadline=clock.steady() + 20, limit=1000)
        if driver.kind == "sync":
            with blocking_client(how, None) as http:
                return send(http, call, clock)

        async def get() -> Reply | Failure:
            async with httpx.AsyncClient(**how) as http:
                return await send_async(http, call, clock)

        return driver.run(get())

    @pytest.mark.req("RS3")
    def test_a_named_authority_is_trusted(self, driver: Driver, clock: FakeClock, serve: Any, tmp_path: Path) -> None:
        """A CA file replaces the usual authorities."""
        certificate = loopback_certificate(tmp_path)
        server = serve(Answer(body=b"hello"), tls=certificate.context)
        assert _kind(self._get(driver, server.base_url, clock, certificate.ca_file)) == "status 200"

    @pytest.mark.req("RS1", "RS3")
    def test_an_unknown_authority_is_refused(
        self, driver: Driver, clock: FakeClock, serve: Any, tmp_path: Path
    ) -> None:
        """Without a CA file only the public authorities count."""
        server = serve(Answer(), tls=loopback_certificate(tmp_path).context)
        assert _kind(self._get(driver, server.base_url, clock, None)) == "tls"
        assert server.requests == ()

    @pytest.mark.req("RS1", "RS3")
    def test_a_certificate_for_another_host_is_refused(
        self, driver: Driver, clock: FakeClock, serve: Any, tmp_path: Path
    ) -> None:
        """Being signed by the right authority is not enough."""
        certificate = loopback_certificate(tmp_path, host="127.0.0.9")
        server = serve(Answer(), tls=certificate.context)
        assert _kind(self._get(driver, server.base_url, clock, certificate.ca_file)) == "tls"
        assert server.requests == ()

    @pytest.mark.req("RS1", "RS3")
    def test_a_server_without_tls_is_refused(self, driver: Driver, clock: FakeClock, serve: Any) -> None:
        """There is no falling back to plain http."""
        server = serve(Raw(data=b"HTTP/1.1 200 OK\r\n\r\n"))
        url = server.base_url.replace("http:", "https:")
        assert _kind(self._get(driver, url, clock, None)) in {"tls", "connect"}

    @pytest.mark.req("RS3")
    def test_old_protocols_are_refused(self, driver: Driver, clock: FakeClock, serve: Any, tmp_path: Path) -> None:
        """TLS below 1.2 is not spoken, whatever the server offers."""
        certificate = loopback_certificate(tmp_path)
        verified = client_options(
            user_agent="tests", timeout=1, connect_timeout=1, ca_file=certificate.ca_file, trust_env=False
        )["verify"]
        assert verified.minimum_version >= ssl.TLSVersion.TLSv1_2
        assert (verified.verify_mode, verified.check_hostname) == (ssl.CERT_REQUIRED, True)

    @pytest.mark.parametrize("content", [None, b"", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
    def test_a_ca_file_that_cannot_be_used_is_an_os_error(self, tmp_path: Path, content: bytes | None) -> None:
        """Its callers turn that into a ConfigurationError that names the setting."""
        file = tmp_path / "ca.pem"
        if content is not None:
            file.write_bytes(content)
        with pytest.raises(OSError, match=r".*"):
            client_options(user_agent="tests", timeout=1, connect_timeout=1, ca_file=file, trust_env=False)


@pytest.mark.req("RS9")
def test_redirects_are_not_followed(get: Get, serve: Any) -> None:
    """The answer is the redirect itself, and its target is never asked."""
    target = serve(Answer())
    server = serve(Answer(status=307, headers={"Location": target.base_url}))
    assert _kind(get(server.base_url, headers={"Authorization": SECRET})) == "status 307"
    assert target.requests == ()


@pytest.mark.req("RS9")
def test_cookies_are_not_kept(driver: Driver, clock: FakeClock, serve: Any) -> None:
    """A cookie would tie requests of one agent together that have nothing to do with each other."""
    server = serve(Answer(headers={"Set-Cookie": "session=1; Path=/; Max-Age=3600"}))
    call = Call(url=server.base_url, deadline=clock.steady() + 20, limit=1000)
    if driver.kind == "sync":
        with httpx.Client(**options()) as http:
            send(http, call, clock)
            send(http, call, clock)
    else:

        async def twice() -> None:
            async with httpx.AsyncClient(**options()) as http:
                await send_async(http, call, clock)
                await send_async(http, call, clock)

        driver.run(twice())
    assert ["cookie" in request.headers for request in server.requests] == [False, False]


@pytest.mark.req("RS8")
def test_calls_replies_and_failures_show_no_secret(clock: FakeClock) -> None:
    """Frames hold them, and programs print frames."""
    call = Call(url="https://api.test", headers={"Authorization": SECRET}, deadline=1, limit=1)
    reply = Reply(status=200, headers={}, body=SECRET.encode())
    assert SECRET not in repr([call, reply])


@pytest.mark.req("RS8")
def test_httpx_logs_no_proof(get: Get, serve: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Not even at DEBUG do the libraries below write the Authorization header or a body into the log."""
    server = serve(Answer(body=b"a secret body"))
    with caplog.at_level(logging.DEBUG):
        get(server.base_url, headers={"Authorization": SECRET})
    assert caplog.records
    assert SECRET not in caplog.text
    assert "a secret body" not in caplog.text


@pytest.mark.req("RS9")
@pytest.mark.parametrize("trust_env", [False, True])
def test_session_keys_are_written_down_for_nobody_who_was_not_told(
    trust_env: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SSLKEYLOGFILE counts only where the environment is to be trusted: with it, all traffic can be read."""
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys.log"))
    options = client_options(user_agent="x", timeout=1, connect_timeout=1, ca_file=None, trust_env=trust_env)
    assert (options["verify"].keylog_filename is None) is not trust_env
