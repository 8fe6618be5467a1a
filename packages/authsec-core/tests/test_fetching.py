"""How a verifier waits: what becomes of fetches whose caller, task or loop ends before they do."""

from __future__ import annotations

import asyncio
import inspect

import httpx
import pytest

from authsec_core._fetching import Fetcher, Get, Steps
from authsec_core.testing import FakeClock


@pytest.mark.req("RV4")
@pytest.mark.parametrize("begun", [True, False])
def test_steps_end_with_their_loop(begun: bool) -> None:
    """Steps that a loop cancels, also before their task has begun, are closed then and not when they are collected."""
    sent = asyncio.Event()

    async def never(request: httpx.Request) -> httpx.Response:
        sent.set()
        await asyncio.Event().wait()
        raise AssertionError

    def get() -> Steps[bytes]:
        body: bytes = yield Get(url="https://a.example/", what="it", accept="text/plain", limit=10)
        return body

    fetcher = Fetcher(
        clock=FakeClock(), timeout=5.0, ca_file=None, transport=None, async_transport=httpx.MockTransport(never)
    )
    steps = get()

    async def scene() -> None:
        call = asyncio.create_task(fetcher.arun(steps))
        await (sent.wait() if begun else asyncio.sleep(0))
        call.cancel()
        await asyncio.wait([call])
        assert inspect.getgeneratorstate(steps) == inspect.GEN_SUSPENDED, "the fetch outlives its caller"

    async def shut_down() -> None:
        call = asyncio.create_task(fetcher.arun(steps))
        await asyncio.sleep(0)
        for task in fetcher._tasks:
            task.cancel()
        await asyncio.wait([call])
        assert not sent.is_set()

    asyncio.run(scene() if begun else shut_down())
    assert inspect.getgeneratorstate(steps) == inspect.GEN_CLOSED
    assert not fetcher._tasks


@pytest.mark.req("RV4")
@pytest.mark.parametrize("blocking", [True, False])
def test_a_loop_that_was_closed_with_a_fetch_under_way_holds_nobody_up(blocking: bool) -> None:
    """Its task will never go on: the next caller ends the steps, which others may be waiting for."""

    async def never(request: httpx.Request) -> httpx.Response:
        sent.set()
        await asyncio.Event().wait()
        raise AssertionError

    def get() -> Steps[bytes]:
        body: bytes = yield Get(url="https://a.example/", what="it", accept="text/plain", limit=10)
        return body

    def nothing() -> Steps[bytes]:
        return b"done"
        yield

    fetcher = Fetcher(
        clock=FakeClock(), timeout=5.0, ca_file=None, transport=None, async_transport=httpx.MockTransport(never)
    )
    steps, loop, sent = get(), asyncio.new_event_loop(), asyncio.Event()
    call = loop.create_task(fetcher.arun(steps))
    loop.run_until_complete(sent.wait())
    loop.close()
    assert inspect.getgeneratorstate(steps) == inspect.GEN_SUSPENDED
    assert (fetcher.run(nothing()) if blocking else asyncio.run(fetcher.arun(nothing()))) == b"done"
    assert inspect.getgeneratorstate(steps) == inspect.GEN_CLOSED
    assert not fetcher._tasks
    call.cancelled()  # kept until here, as whoever wrote such a program would
