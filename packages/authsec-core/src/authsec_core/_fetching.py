"""How a verifier waits: the steps that its generators ask for, and the two drivers that do them.

A generator says what it needs (`Get` some bytes, `Wait` for whoever is getting them) and a driver, blocking or async,
brings it. All decisions are in the generators, so that both worlds make the same ones; all HTTP is in `_http`, which is
loaded with the first request.
"""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from authsec_core._clock import Clock
from authsec_core._flight import Flight
from authsec_core._version import __version__
from authsec_core.errors import ConfigurationError, VerificationUnavailableError

if TYPE_CHECKING:
    import httpx

    from authsec_core._http import Call, ClientOptions, Failure, Reply

__all__ = ["Fetcher", "Get", "Steps", "Wait"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Get:
    """Bring the body of `url`; the answer is `bytes`, or the step raises VerificationUnavailableError.

    Attributes:
        what: What it is, for messages.
        accept: The media type to ask for.
        limit: The most bytes that are read.
    """

    url: str
    what: str
    accept: str
    limit: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """Wait until the flight has landed; the answer is whether that was possible at all.

    It is not where an event loop's own thread would block on a task of that loop.

    Attributes:
        patience: Seconds after which the leader counts as lost.
    """

    flight: Flight
    patience: float


Steps: TypeAlias = Generator[Get | Wait, Any, T]
_Brought: TypeAlias = bytes | VerificationUnavailableError


class Fetcher:
    """Runs steps. Thread-safe, loop-safe, safe after fork, and with nothing to close: no connection outlives its GET.

    Args:
        timeout: Seconds for one GET in all.
        ca_file: A PEM file of the authorities to trust instead of the usual ones.
        transport: Used instead of the network, and never closed.

    Raises:
        ValueError: `timeout` is not a positive number of seconds.
        ConfigurationError: `ca_file` cannot be used.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        timeout: float,
        ca_file: Path | None,
        transport: httpx.BaseTransport | None,
        async_transport: httpx.AsyncBaseTransport | None,
    ) -> None:
        if not 0 < timeout < math.inf:
            raise ValueError("timeout must be a positive number of seconds")
        self._clock = clock
        self._timeout = timeout
        self._ca_file = ca_file
        self._transport = transport
        self._async_transport = async_transport
        self._options: ClientOptions | None = None
        # What is fetched in tasks, because a loop itself holds its tasks only weakly.
        self._tasks: dict[asyncio.Task[Any], Steps[Any]] = {}
        if ca_file is not None:
            try:
                self._client_options()
            except OSError as exc:
                raise ConfigurationError("the verifier's ca_file is not a readable PEM file: mend the path") from exc

    def bury(self) -> None:
        """End what was left behind by loops that were closed with a fetch under way: someone may be waiting for it."""
        if not self._tasks:
            return
        for task in [task for task in tuple(self._tasks) if task.get_loop().is_closed()]:
            if (steps := self._tasks.pop(task, None)) is not None:  # another thread may have been faster
                steps.close()

    def run(self, steps: Steps[T]) -> T:
        """Do the steps on this thread and return what they come to."""
        self.bury()
        try:
            step = next(steps)
            while True:
                step = _resume(steps, self._get(step) if isinstance(step, Get) else _wait(step))
        except StopIteration as done:
            result: T = done.value
            return result
        finally:
            steps.close()  # an interrupt must not leave the others waiting for us

    async def arun(self, steps: Steps[T]) -> T:
        """Do the steps without blocking the loop and return what they come to.

        What is fetched is for everyone, so that a fetch once begun is seen through in a task of its own, though this
        caller be cancelled: callers that hang up must not cause a fetch each, nor take from others what they wait for.
        """
        self.bury()
        try:
            step = next(steps)
            while isinstance(step, Wait):
                step = _resume(steps, await _await(step))
        except StopIteration as done:
            result: T = done.value
            return result
        return await self._in_a_task(steps, step)

    async def _in_a_task(self, steps: Steps[T], step: Get) -> T:
        def ended(task: asyncio.Task[T]) -> None:
            self._tasks.pop(task, None)
            steps.close()  # the loop may have cancelled the task before it began
            if not task.cancelled():
                task.exception()  # else asyncio complains of an error that a cancelled caller does not fetch

        task = asyncio.get_running_loop().create_task(self._see_through(steps, step))
        self._tasks[task] = steps
        task.add_done_callback(ended)
        await asyncio.wait([task])  # unlike `await task` it does not pass a cancellation on
        return task.result()

    async def _see_through(self, steps: Steps[T], step: Get | Wait) -> T:
        try:
            while True:
                step = _resume(steps, await (self._aget(step) if isinstance(step, Get) else _await(step)))
        except StopIteration as done:
            result: T = done.value
            return result

    def _get(self, get: Get) -> _Brought:
        from authsec_core._http import blocking_client, send

        if self._transport is None and self._async_transport is not None:
            raise RuntimeError("this verifier has only an async transport: give it `transport` too, or use averify")
        client = blocking_client(self._client_options(), self._transport)
        try:
            return _body(get, send(client, self._call(get), self._clock))
        finally:
            if self._transport is None:
                client.close()

    async def _aget(self, get: Get) -> _Brought:
        import httpx

        from authsec_core._http import send_async

        transport = self._async_transport
        if transport is None and isinstance(self._transport, httpx.AsyncBaseTransport):
            transport = self._transport
        if transport is None and self._transport is not None:
            raise RuntimeError("this verifier has only a blocking transport: give it `async_transport`, or use verify")
        client = httpx.AsyncClient(transport=transport, **self._client_options())
        try:
            return _body(get, await send_async(client, self._call(get), self._clock))
        finally:
            if transport is None:
                await client.aclose()

    def _client_options(self) -> ClientOptions:
        from authsec_core._http import client_options

        if self._options is None:  # kept, because reading the authorities to trust takes tens of milliseconds
            self._options = client_options(
                user_agent=f"authsec-core/{__version__}",
                timeout=self._timeout,
                connect_timeout=self._timeout,
                ca_file=self._ca_file,
                trust_env=False,
            )
        return self._options

    def _call(self, get: Get) -> Call:
        from authsec_core._http import Call

        # `no-cache`: a cache between us would make keys and lists older than we think.
        headers = {"Accept": get.accept, "Cache-Control": "no-cache"}
        return Call(url=get.url, headers=headers, deadline=self._clock.steady() + self._timeout, limit=get.limit)


def _resume(steps: Steps[Any], answer: object) -> Get | Wait:
    return steps.throw(answer) if isinstance(answer, VerificationUnavailableError) else steps.send(answer)


def _body(get: Get, reply: Reply | Failure) -> _Brought:
    from authsec_core._http import Reply

    if isinstance(reply, Reply) and reply.status == 200:
        return reply.body
    why = f"status {reply.status}" if isinstance(reply, Reply) else reply.kind
    error = VerificationUnavailableError(f"{get.what} cannot be fetched ({why})")
    error.__cause__ = None if isinstance(reply, Reply) else reply.cause
    return error


def _wait(wait: Wait) -> bool:
    if wait.flight.leader == threading.get_ident():  # a task of this thread's loop, which we would keep from going on
        return False
    wait.flight.wait(wait.patience)
    return True


async def _await(wait: Wait) -> bool:
    await wait.flight.wait_async(wait.patience)
    return True
