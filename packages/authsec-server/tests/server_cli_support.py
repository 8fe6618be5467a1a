"""What the tests of `authsec-server` share: running the command in this process, and a stand-in for the admin API.

It checks one thing, each time: that nothing printed shows the operator's token.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from authsec_core.testing import FakeClock, LoopbackServer, Raw, Reply, Request, assert_no_secret
from authsec_server.cli import main

__all__ = ["CLIENT", "TOKEN", "Desk", "Printed", "stub"]

TOKEN = "opt_0123456789abcdef.q2w3e4r5t6y7u8i9o0p1a2s3d4f5g6h7j8k9l0z1x2A"
CLIENT = "6f1c0a3e-6f53-4b4c-8f0e-0a4f4f4b1c11"


class Printed:
    """What one run came to."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def json(self) -> Any:
        """The one document on stdout."""
        return json.loads(self.out)


class Desk:
    """Where an operator sits: the command, a clock that stands still, and what was sent."""

    def __init__(self, clock: FakeClock, capsys: pytest.CaptureFixture[str], server: LoopbackServer | None) -> None:
        self.clock, self.server, self._capsys = clock, server, capsys
        self.answer: Callable[[Request], Reply | Raw] = lambda _: Reply.of_json({"items": [], "next": None})

    def run(self, *argv: str, secrets: tuple[str, ...] = (TOKEN,)) -> Printed:
        """Run the command in this process."""
        self._capsys.readouterr()
        code = main(argv, clock=self.clock)
        out, err = self._capsys.readouterr()
        assert_no_secret([out, err], *secrets)
        return Printed(code, out, err)

    @property
    def sent(self) -> Request:
        """The last request."""
        return self.requests[-1]

    @property
    def requests(self) -> tuple[Request, ...]:
        """Every request."""
        assert self.server is not None
        return self.server.requests


def stub(desk_of: Callable[[LoopbackServer], Desk]) -> tuple[LoopbackServer, Desk]:
    """Return a server that answers as its desk says, and the desk."""
    desks: list[Desk] = []
    server = LoopbackServer(lambda request: desks[0].answer(request))
    desks.append(desk_of(server))
    return server, desks[0]
