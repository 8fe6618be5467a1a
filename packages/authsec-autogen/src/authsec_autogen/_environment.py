"""The one client of this process that the environment describes, for tools that were given none."""

from __future__ import annotations

import threading

from authsec_core import AuthSecClient, __version__
from authsec_core._fork import renew_after_fork

__all__ = ["ENVIRONMENT"]


class _Environment:
    """Makes the client when it is first asked for, and keeps it. Thread-safe; a forked child may go on using it."""

    def __init__(self) -> None:
        self._client: AuthSecClient | None = None
        self._lock = threading.Lock()  # two threads must not make two clients, with two caches
        renew_after_fork(self)

    def client(self) -> AuthSecClient:
        """Return the client. The environment is read once; after a failure it is read again by the next call.

        Raises:
            ConfigurationError: The environment's settings are missing, wrong or unsafe.
        """
        with self._lock:
            if self._client is None:
                self._client = AuthSecClient(product=f"authsec-autogen/{__version__}")
            return self._client

    def after_fork(self) -> None:
        """Forget a lock that a thread of the parent may have held."""
        self._lock = threading.Lock()


ENVIRONMENT = _Environment()
