"""Serve an application on loopback in a thread of its own, until the block ends."""

from __future__ import annotations

import socket
import threading
from types import TracebackType
from typing import Final

import uvicorn
from starlette.types import ASGIApp

__all__ = ["Served"]

_HOST: Final = "127.0.0.1"
_LAST_REQUESTS: Final = 2  # seconds that running requests are given in the end
_PATIENCE: Final = 30.0  # seconds, for starting on a busy machine


class Served:
    """An application on 127.0.0.1, served while it is used in a `with` block.

    Args:
        port: 0 takes a free one.

    Raises:
        OSError: The port is taken.
    """

    def __init__(self, app: ASGIApp, *, port: int = 0) -> None:
        self._socket = socket.create_server((_HOST, port))
        self.base_url = f"http://{_HOST}:{self._socket.getsockname()[1]}"
        config = uvicorn.Config(
            app,
            log_level="warning",
            log_config=None,
            access_log=False,  # the guard's audit has it, and who it was
            server_header=False,
            timeout_graceful_shutdown=_LAST_REQUESTS,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, name="gateway", daemon=True
        )

    def __enter__(self) -> Served:
        self._thread.start()
        waited = threading.Event()
        for _ in range(int(_PATIENCE / 0.02)):
            if self._server.started or not self._thread.is_alive():
                break
            waited.wait(0.02)
        if not self._server.started:
            raise RuntimeError("the gateway did not start: see the log")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.should_exit = True
        self._thread.join()
        self._socket.close()

    def wait(self) -> None:
        """Return when it has ended; Ctrl-C interrupts."""
        self._thread.join()
