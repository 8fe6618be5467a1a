"""What everyone notices who asks more than once: an answer on a kept connection does not wait for the network."""

from __future__ import annotations

import socket
from contextlib import closing

import pytest
from behaviour.support import Site

from authsec_server.cli import _serve


def _does_not_wait(connection: socket.socket) -> bool:
    return connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0


def test_serve_answers_at_once() -> None:
    """What `serve` accepts has Nagle's algorithm off: else head and body of an answer are 40 ms apart."""
    with (
        closing(_serve._bind("127.0.0.1", 0)) as listener,
        socket.create_connection(listener.getsockname()),
        closing(listener.accept()[0]) as accepted,
    ):
        assert _does_not_wait(accepted)


@pytest.mark.inside
def test_the_authority_of_tests_answers_at_once(site: Site) -> None:
    """So has what tests and the demo run, or they would show a slower authority than there is."""
    assert site.authority._serving is not None
    (server,) = site.authority._serving._http.servers
    for listener in server.sockets:
        assert _does_not_wait(listener)
