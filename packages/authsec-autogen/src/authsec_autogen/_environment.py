"""The clients of this process that the environment describes, for tools that were given none."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Generic, TypeVar

from authsec_core import __version__
from authsec_core._fork import renew_after_fork

if TYPE_CHECKING:
    from authsec_core import AgentVault, AgentVaultSync, AsyncAuthSecClient, AuthSecClient

__all__ = ["ASYNC_VAULT_ENVIRONMENT", "ENVIRONMENT", "PRODUCT", "VAULT_ENVIRONMENT", "AsyncEnvironment", "Environment"]

PRODUCT = f"authsec-autogen/{__version__}"
C = TypeVar("C", "AuthSecClient", "AsyncAuthSecClient", "AgentVault", "AgentVaultSync")


class _OneClient(Generic[C]):
    """Makes the client when it is first asked for, and keeps it. Thread-safe; a forked child may go on using it."""

    def __init__(self) -> None:
        self._client: C | None = None
        self._lock = threading.Lock()  # two threads must not make two clients, with two caches
        renew_after_fork(self)

    def client(self) -> C:
        """Return the client. The environment is read once; after a failure it is read again by the next call.

        Raises:
            ConfigurationError: The environment's settings are missing, wrong or unsafe.
        """
        with self._lock:
            if self._client is None:
                self._client = self._make()
            return self._client

    def _make(self) -> C:
        raise NotImplementedError

    def after_fork(self) -> None:
        """Forget a lock that a thread of the parent may have held."""
        self._lock = threading.Lock()


class Environment(_OneClient["AuthSecClient"]):
    """The client for threads."""

    def _make(self) -> AuthSecClient:
        from authsec_core import AuthSecClient  # here: its HTTP would be most of the adapter's import

        return AuthSecClient(product=PRODUCT)


class AsyncEnvironment(_OneClient["AsyncAuthSecClient"]):
    """The client for coroutines, on any number of loops."""

    def _make(self) -> AsyncAuthSecClient:
        from authsec_core import AsyncAuthSecClient

        return AsyncAuthSecClient(product=PRODUCT)


class VaultEnvironment(_OneClient["AgentVaultSync"]):
    """The vault for threads."""

    def _make(self) -> AgentVaultSync:
        from authsec_core import AgentVaultSync

        return AgentVaultSync(product=PRODUCT)


class AsyncVaultEnvironment(_OneClient["AgentVault"]):
    """The vault for coroutines, on any number of loops."""

    def _make(self) -> AgentVault:
        from authsec_core import AgentVault

        return AgentVault(product=PRODUCT)


ENVIRONMENT = Environment()
VAULT_ENVIRONMENT = VaultEnvironment()
ASYNC_VAULT_ENVIRONMENT = AsyncVaultEnvironment()
