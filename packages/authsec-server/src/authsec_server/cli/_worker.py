"""A process that serves: how any of them does, and the program that one of several workers is.

A worker is started by `_workers`, and typed by nobody. It inherits a listening socket, reads the settings for itself,
says when it answers, and ends with the process that started it.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import signal
import socket
import sys
from collections.abc import Callable
from typing import Any, Final

import uvicorn

from authsec_core._clock import SYSTEM_CLOCK, Clock
from authsec_core.errors import AuthSecError
from authsec_server import logs
from authsec_server.app import create_app
from authsec_server.authority import Authority
from authsec_server.cli import _database as database
from authsec_server.cli._outcome import FAILED, error_outcome
from authsec_server.cli._output import Printer
from authsec_server.serving import uvicorn_config
from authsec_server.settings import ServerSettings

__all__ = ["LAST_REQUESTS", "READY", "answer", "main", "try_open"]

LAST_REQUESTS: Final = 10  # seconds that running requests are given when it is stopped
READY: Final = b"ready\n"
_MOST_NEW: Final = 10_000  # objects that the garbage collector lets come into being before it looks
_PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h


def main(told: str) -> int:
    """Serve until stopped, and return the exit code.

    Args:
        told: JSON with the settings of the command line, the port, the socket's descriptor and who started this.
    """
    words: dict[str, Any] = json.loads(told)
    _end_with(words["parent"])
    listener = socket.socket(fileno=words["listener"])
    try:
        settings = ServerSettings(**words["settings"], port=words["port"])
        settings.check_files()
        logs.configure(settings)
        database.run(lambda: try_open(settings, SYSTEM_CLOCK))
    except AuthSecError as exc:
        Printer(sys.stdout, sys.stderr, as_json=False).print(error_outcome(exc))
        return FAILED
    return answer(settings, listener, SYSTEM_CLOCK, when_ready=lambda: os.write(sys.stdout.fileno(), READY))


async def try_open(settings: ServerSettings, clock: Clock) -> None:
    """Find out whether the authority can be had, since uvicorn would show a refusal as a traceback.

    Raises:
        AuthSecError: As `Authority.open`.
    """
    async with Authority.open(settings, clock=clock):
        pass


def answer(
    settings: ServerSettings, listener: socket.socket, clock: Clock, *, when_ready: Callable[[], object] = lambda: None
) -> int:
    """Answer at this socket until a signal ends it, and return the exit code."""
    app = create_app(settings, clock=clock)
    server = _Server(uvicorn_config(app, settings, last_requests=LAST_REQUESTS, clock=clock))
    server.when_ready = when_ready
    _collect_less()
    server.run(sockets=[listener])
    return 0 if server.started else FAILED


def _collect_less() -> None:
    """Let the garbage collector alone with what was loaded, and call it for every ten thousand objects, not for 700.

    What waits for a commit is looked through each time, and is no garbage: that was a tenth of a request's time. It is
    not called here: an interrupt that comes while it runs a callback is lost, and nobody handles signals as yet.
    """
    gc.freeze()
    gc.set_threshold(_MOST_NEW, 20, 20)


class _Server(uvicorn.Server):
    """A server that says when it answers."""

    when_ready: Callable[[], object]

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self.when_ready()


def _end_with(parent: int) -> None:
    """Let nothing of us outlive who started us, whatever ends them; on Linux only."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all, and they tell us in order
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit("the process that started this one has ended")
