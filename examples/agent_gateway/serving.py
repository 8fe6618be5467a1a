"""Serve an application on loopback in a thread of its own, until the block ends."""

from __future__ import annotations

import errno
import socket
import threading
from types import TracebackType
from typing import Final

import uvicorn
from starlette.types import ASGIApp

from authsec_core.errors import ConfigurationError

__all__ = ["Served", "bound"]

_HOST: Final = "127.0.0.1"
_LAST_REQUESTS: Final = 2  # seconds that running requests are given in the end
_PATIENCE: Final = 30.0  # seconds, for starting on a busy machine


def bound(port: int) -> socket.socket:
    """Return a socket that listens on this port; 0 takes a free one. Before anything else is made, so that it can fail.

    Raises:
        ConfigurationError: It cannot be had.
    """
    try:
        return socket.create_server((_HOST, port))
    except OverflowError as exc:
        raise ConfigurationError(f"{port} is no port: it is 0 to 65535") from exc
    except OSError as exc:
        if exc.errno == errno.EADDRINUSE:
            raise ConfigurationError(
                f"port {port} is in use: stop what listens there, or take a free one with `--port 0`"
            ) from exc
        raise ConfigurationError(f"port {port} cannot be had ({exc.strerror}): name another one with `--port`") from exc


class Served:
    """An application on 127.0.0.1, served while it is used in a `with` block.

    Args:
        on: A socket of `bound`; without it, a free port.
    """

    def __init__(self, app: ASGIApp, *, on: socket.socket | None = None) -> None:
        self._socket = on if on is not None else bound(0)
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
