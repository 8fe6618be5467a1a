"""Several processes that serve on one address: starts them, replaces those that end, and ends them. It serves nothing.

Each has a listening socket of its own on the same port (SO_REUSEPORT), so that the kernel spreads connections evenly.
The sockets stay open here: what has arrived at one whose process ended is answered by the next. What a worker does is
for `_worker`.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from socket import socket
from typing import Any, Final

import anyio
from prometheus_client.multiprocess import mark_process_dead

from authsec_core._clock import Clock
from authsec_server.cli._outcome import FAILED
from authsec_server.cli._worker import LAST_REQUESTS, READY

__all__ = ["supervise"]

_METRICS: Final = "PROMETHEUS_MULTIPROC_DIR"  # where the workers count together
_START: Final = 60.0  # seconds that a worker may take until it answers, on a busy machine
_GRACE: Final = LAST_REQUESTS + 5.0  # seconds until a worker that was told to end is killed
_LIVED: Final = 10.0  # seconds after which a worker's end says nothing of the next one's
_FIRST_PAUSE: Final = 0.5  # seconds, after the second one that ended at once
_LONGEST_PAUSE: Final = 5.0  # seconds: whoever connected to its socket waits
# It imports from where we do, and never from the folder that it happens to run in.
_PROGRAM: Final = (
    "import sys; sys.path[:] = sys.argv.pop(1).split(':'); from authsec_server.cli._worker import main; "
    "sys.exit(main(sys.argv[1]))"
)

_log = logging.getLogger("authsec.server")


def supervise(listeners: Sequence[socket], settings: Mapping[str, Any], port: int, clock: Clock) -> int:
    """Keep one worker at each socket until told to end, and return the exit code.

    SIGTERM and SIGINT end the workers in order; SIGHUP replaces them one by one, each by one that answers already.

    Args:
        settings: What the command line says of them; workers read the environment and files for themselves.
    """
    with tempfile.TemporaryDirectory(prefix="authsec-metrics-") as folder:
        environ = {**os.environ, _METRICS: folder}
        told = {"settings": {name: _plain(value) for name, value in settings.items()}, "port": port}
        return asyncio.run(_Workers([_Slot(listener) for listener in listeners], told, environ, clock).run())


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, (bool, int)) else str(value)


@dataclass(slots=True)
class _Slot:
    """A listening socket, and the worker that answers there.

    Attributes:
        turn: Who holds it puts another worker there.
    """

    listener: socket
    worker: asyncio.subprocess.Process | None = None
    turn: asyncio.Lock = field(default_factory=asyncio.Lock)


class _Workers:
    def __init__(
        self, slots: Sequence[_Slot], told: Mapping[str, Any], environ: Mapping[str, str], clock: Clock
    ) -> None:
        self._slots = slots
        self._told = told
        self._environ = environ
        self._clock = clock
        self._living: set[asyncio.subprocess.Process] = set()
        self._asked = asyncio.Event()  # for a round of replacements
        self._ended_by: signal.Signals | None = None
        self._ending = asyncio.Event()

    async def run(self) -> int:
        loop = asyncio.get_running_loop()
        for how in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(how, self._end, how)
        loop.add_signal_handler(signal.SIGHUP, self._asked.set)
        work, ending = asyncio.ensure_future(self._work()), asyncio.ensure_future(self._ending.wait())
        try:
            await asyncio.wait({work, ending}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            work.cancel()
            ending.cancel()
            found = (await asyncio.gather(work, ending, return_exceptions=True))[0]
            await asyncio.gather(*(self._finish(worker) for worker in tuple(self._living)))
        if self._ended_by == signal.SIGINT:
            raise KeyboardInterrupt
        if isinstance(found, Exception):
            raise found
        return FAILED if self._ended_by is None else 0

    def _end(self, how: signal.Signals) -> None:
        self._ended_by = how
        self._ending.set()

    async def _work(self) -> None:
        """Go on for ever; return where the first workers do not start: whatever it is, it is not their luck."""
        for slot, worker in zip(self._slots, await asyncio.gather(*map(self._started, self._slots)), strict=True):
            slot.worker = worker
        if all(slot.worker is not None for slot in self._slots):
            await asyncio.gather(*map(self._keep, self._slots), self._renew_when_asked())

    async def _started(self, slot: _Slot) -> asyncio.subprocess.Process | None:
        """Start a worker and return it once it answers; None where it does not, for the reason that it has logged."""
        descriptor = slot.listener.fileno()
        told = json.dumps({**self._told, "listener": descriptor, "parent": os.getpid()})
        worker = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", _PROGRAM, ":".join(sys.path), told),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            pass_fds=(descriptor,),
            env=self._environ,
        )
        self._living.add(worker)
        if worker.stdout is None:
            raise RuntimeError("the worker has no pipe to say that it is ready")
        try:
            # Not by `asyncio.wait_for`: before Python 3.12 it forgets a cancellation that comes together with the
            # result, and who was told to end would go on for ever.
            with anyio.fail_after(_START):
                if await worker.stdout.readline() == READY:
                    return worker
        except TimeoutError:
            _log.error("the worker %d does not answer after %.0f s and is ended", worker.pid, _START)
        await self._finish(worker)
        return None

    async def _finish(self, worker: asyncio.subprocess.Process) -> None:
        """End a worker in order: it answers what it has begun, and then is gone."""
        try:
            if worker.returncode is None:
                worker.terminate()
            with anyio.fail_after(_GRACE):
                await worker.wait()
        except TimeoutError:
            _log.error("the worker %d did not end within %.0f s and is killed", worker.pid, _GRACE)
            worker.kill()
            await worker.wait()
        self._forget(worker)

    def _forget(self, worker: asyncio.subprocess.Process) -> None:
        self._living.discard(worker)
        # Its connections count no more, its requests do.
        mark_process_dead(worker.pid, self._environ[_METRICS])  # type: ignore[no-untyped-call]  # nobody has typed it

    async def _keep(self, slot: _Slot) -> None:
        """Put another worker wherever one ends that nobody told to."""
        early = 0  # that ended soon, one after the other
        began = self._clock.steady()
        while (worker := slot.worker) is not None:
            status = await worker.wait()
            async with slot.turn:
                if slot.worker is not worker:  # it was replaced
                    early, began = 0, self._clock.steady()
                    continue
                self._forget(worker)
                early = 0 if self._clock.steady() - began > _LIVED else early + 1
                fresh = None
                while fresh is None:
                    pause = _pause(early)
                    _log.error(
                        "a worker (process %d) ended by itself (%d): another starts in %.1f s",
                        worker.pid,
                        status,
                        pause,
                    )
                    await self._clock.asleep(pause)
                    began, fresh, early = self._clock.steady(), await self._started(slot), early + 1
                slot.worker = fresh

    async def _renew_when_asked(self) -> None:
        while await self._asked.wait():
            self._asked.clear()
            for slot in self._slots:
                if not await self._renew(slot):
                    _log.error("a new worker does not start: the old ones go on")
                    break
            else:
                _log.info("all workers were replaced")

    async def _renew(self, slot: _Slot) -> bool:
        async with slot.turn:
            fresh = await self._started(slot)
            if fresh is None:
                return False
            old, slot.worker = slot.worker, fresh
            if old is not None:
                await self._finish(old)
            return True


def _pause(early: int) -> float:
    """Return the seconds to wait: none after one that was lost, more after each that cannot start."""
    return 0.0 if early <= 1 else min(_FIRST_PAUSE * 2.0 ** (early - 2), _LONGEST_PAUSE)
