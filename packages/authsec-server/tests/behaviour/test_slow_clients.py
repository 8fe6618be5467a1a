"""Clients that take all the time in the world, at the authority itself: they are cut off, and hold nothing."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import ExitStack, closing, suppress
from typing import Any
from urllib.parse import urlsplit

import pytest
from behaviour.support import PATIENCE, OpenSite, Site, inside

from authsec_server.authority import Authority

SMALL = 4096  # bytes that a socket may keep, so that little is much
SOON = 2.0  # seconds: a deadline that a test waits for, and that what is sent at once keeps on any machine


def connect(site: Site) -> socket.socket:
    """Open a connection that keeps little of what it does not read."""
    parts = urlsplit(site.authority.base_url)
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)
    connection.settimeout(PATIENCE)
    connection.connect((parts.hostname, parts.port))
    return connection


def closed(site: Site, why: str) -> float:
    """Return how many connections were ended for this."""
    metrics: Any = site.authority._serving._app.state.metrics  # type: ignore[union-attr]  # the one that runs
    text = metrics.shown("")[0].decode()
    found = [line for line in text.splitlines() if line.startswith(f'authsec_connections_closed_total{{why="{why}"}}')]
    return float(found[0].rpartition(" ")[2]) if found else 0.0


def until(holds: Callable[[], bool]) -> None:
    """Wait for what the authority does by itself."""
    pause = threading.Event()
    for _ in range(int(PATIENCE / 0.02)):
        if holds():
            return
        pause.wait(0.02)
    raise AssertionError("it did not happen")


def rest(connection: socket.socket) -> bytes:
    """Return all that still comes before the connection ends."""
    got = b""
    with suppress(ConnectionError):
        while piece := connection.recv(65536):
            got += piece
    return got


@pytest.mark.req("RA9")
def test_half_a_request_is_not_waited_for(open_site: OpenSite) -> None:
    """Neither the first on a connection nor the next: the connection ends, is counted, and others are served."""
    with open_site(header_timeout=SOON) as site, ExitStack() as stack:
        agent = site.onboard()
        first = stack.enter_context(closing(connect(site)))
        first.sendall(b"GET /healthz HTTP/1.1\r\nHo")
        second = stack.enter_context(closing(connect(site)))
        second.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
        assert second.recv(100).startswith(b"HTTP/1.1 200")
        second.sendall(b"GET /healthz HTTP/1.1\r\nHo")
        assert site.token(agent)
        rest(first)
        rest(second)
        until(lambda: closed(site, "slow_head") == 2)


@pytest.mark.req("RA9")
def test_an_export_that_nobody_reads_ends(open_site: OpenSite) -> None:
    """Whoever asks for the whole audit and reads nothing loses the connection, and the database gets its own back."""
    with open_site() as calm, calm.replica(request_timeout=2 * SOON, database_timeout=SOON) as site:
        (server,) = site.authority._serving._http.servers  # type: ignore[union-attr]
        for listener in server.sockets:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL)
        agent = calm.onboard()
        for _ in range(200):
            calm.ask(agent, scope="write:nothing " * 20)

        async def lent(inner: Authority) -> int:
            pool: Any = inner.database._reader.sync_engine.pool
            return int(pool.checkedout())

        with closing(connect(site)) as reader:
            proof = f"Authorization: Bearer {site.authority.admin_token}"
            reader.sendall(f"GET /api/v1/audit?format=jsonl HTTP/1.1\r\nHost: 127.0.0.1\r\n{proof}\r\n\r\n".encode())
            until(lambda: inside(site, lent) > 0 or closed(site, "slow_reader") == 1)
            until(lambda: closed(site, "slow_reader") == 1)
            until(lambda: inside(site, lent) == 0)
            assert not rest(reader).endswith(b"0\r\n\r\n"), "the export was whole"
        assert site.token(agent)
