"""A port of 127.0.0.1 that a server can be stopped and started on, with nobody else given it in between.

On Linux a socket stays bound to it, beside the server's own and without listening. Elsewhere two sockets cannot share a
port: it was free, and is hoped to stay so. The server has to set SO_REUSEADDR, as all do that can be restarted.
"""

from __future__ import annotations

import socket
import sys

__all__ = ["Port"]


class Port:
    """A free port that stays ours until it is released.

    Attributes:
        number: Which it is.
    """

    def __init__(self) -> None:
        self._held = socket.socket()
        self.number = 0
        self.change()

    def change(self) -> None:
        """Take another one."""
        self._held.close()
        self._held = socket.socket()
        self._held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._held.bind(("127.0.0.1", 0))
        self.number = self._held.getsockname()[1]
        if sys.platform != "linux":
            self.release()

    def release(self) -> None:
        """Let others have it."""
        self._held.close()
