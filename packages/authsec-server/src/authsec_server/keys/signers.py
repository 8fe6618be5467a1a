"""Signing on threads: RSA lets the interpreter go, so that the event loop and the other signers go on meanwhile.

A pool of `concurrent.futures` takes locks for each signature and wakes the loop for each. Here a thread wakes the loop
only if it is not already on its way to fetch: while it is busy, several signatures share one wake-up.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from queue import SimpleQueue
from typing import Final, NamedTuple

from authsec_core._signing import SigningKey

__all__ = ["Signers"]

_NAME: Final = "authsec-signer"


class _Job(NamedTuple):
    signature: asyncio.Future[str]
    key: SigningKey
    header: Mapping[str, object]
    claims: Mapping[str, object]


class _Done(NamedTuple):
    signature: asyncio.Future[str]
    text: str
    error: Exception | None


class Signers:
    """Some threads that sign for one event loop; they start with the first signature.

    Args:
        threads: How many signatures are made at the same time.
    """

    def __init__(self, threads: int) -> None:
        self._threads = threads
        self._jobs: SimpleQueue[_Job | None] = SimpleQueue()
        self._done: deque[_Done] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._coming = False  # the loop has been woken and has not looked yet

    async def sign(self, key: SigningKey, header: Mapping[str, object], claims: Mapping[str, object]) -> str:
        """Return a compact JWS. A caller that is cancelled costs a signature that nobody fetches."""
        if self._loop is None:
            self._start()
        signature: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._jobs.put(_Job(signature, key, header, claims))
        return await signature

    def close(self) -> None:
        """Let the threads end with what they have begun. Harmless when they never started."""
        if self._loop is not None:
            for _ in range(self._threads):
                self._jobs.put(None)

    def _start(self) -> None:
        self._loop = asyncio.get_running_loop()
        for number in range(self._threads):
            threading.Thread(target=self._work, name=f"{_NAME}-{number}", daemon=True).start()

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                done = _Done(job.signature, job.key.sign(job.header, job.claims), None)
            except Exception as exc:  # noqa: BLE001 -- whoever waits for the signature raises it
                done = _Done(job.signature, "", exc)
            self._done.append(done)
            if not self._coming:
                self._coming = True
                assert self._loop is not None
                with suppress(RuntimeError):  # the loop is closed, and with it whoever waited
                    self._loop.call_soon_threadsafe(self._fetch)

    def _fetch(self) -> None:
        self._coming = False  # before it looks: what is finished from now on wakes the loop again
        while self._done:
            signature, text, error = self._done.popleft()
            if signature.done():
                continue
            if error is None:
                signature.set_result(text)
            else:
                signature.set_exception(error)
