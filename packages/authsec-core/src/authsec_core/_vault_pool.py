"""Which connections a vault for coroutines uses: those of all vaults of the same settings on the running loop.

Tools make a vault for each call (`async with AgentVault() as vault`). So leaving a block closes nothing that another
block uses; what nobody uses any more is closed with the last block, or kept for the next one where the loop goes on.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Hashable
from weakref import WeakKeyDictionary, WeakSet

import httpx

from authsec_core._fork import renew_after_fork
from authsec_core._http import ClientOptions
from authsec_core._pool import AsyncPool
from authsec_core._vault_parts import VaultParts

__all__ = ["SharedPool", "shared_pool"]


class SharedPool:
    """The connections of some vaults, by loop. Thread-safe."""

    def __init__(self, options: Callable[[], ClientOptions], transport: httpx.AsyncBaseTransport | None = None) -> None:
        self._pool = AsyncPool(options, transport)
        self._users: WeakKeyDictionary[asyncio.AbstractEventLoop, WeakSet[object]] = WeakKeyDictionary()
        self._lock = threading.Lock()  # guards the one above
        renew_after_fork(self)

    async def client(self, user: object) -> httpx.AsyncClient:
        """Return the client of the running loop, and remember that this vault uses it.

        Raises:
            RuntimeError: No loop is running.
        """
        self.enter(user)
        return await self._pool.client()

    def enter(self, user: object) -> None:
        """Remember that a vault uses the running loop's connections."""
        with self._lock:
            self._users.setdefault(asyncio.get_running_loop(), WeakSet()).add(user)

    async def leave(self, user: object, *, keep: bool = False) -> None:
        """Close the running loop's connections if no other vault uses them.

        Args:
            keep: Leave them open for the next vault, where the loop has other tasks and so goes on; else it may be
                one that is closed without a word, as AutoGen's are.
        """
        here = asyncio.get_running_loop()
        with self._lock:
            for users in self._users.values():
                users.discard(user)
            is_used = bool(self._users.get(here))
        if not is_used and not (keep and len(asyncio.all_tasks()) > 1):
            await self._pool.release()

    def after_fork(self) -> None:
        """Leave the parent its loops."""
        self._lock = threading.Lock()
        self._users = WeakKeyDictionary()


class _Pools:
    """The pools that are shared: a handful, one for each way in which vaults are set up."""

    def __init__(self) -> None:
        self._pools: dict[Hashable, SharedPool] = {}
        self._lock = threading.Lock()  # two vaults must not make two pools
        renew_after_fork(self)

    def get(self, parts: VaultParts, transport: httpx.AsyncBaseTransport | None) -> SharedPool:
        """Return the pool of a vault. A transport that was handed in is used by that vault alone."""
        if transport is not None:
            return SharedPool(parts.options, transport)
        key = parts.shares_connections_by
        with self._lock:
            return self._pools.get(key) or self._pools.setdefault(key, SharedPool(parts.options))

    def after_fork(self) -> None:
        self._lock = threading.Lock()


shared_pool = _Pools().get
