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
