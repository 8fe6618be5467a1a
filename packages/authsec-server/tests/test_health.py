"""Health: who asks learns whether the server lives and can work, and nothing else."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from authsec_core.testing import FakeClock
from authsec_server import health, problems
from authsec_server.errors import StorageUnavailableError

READY: dict[str, Any] = {"database": True, "ledger": True, "signing_key": True}


class Stub:
    """An authority of which only the readiness is asked."""

    def __init__(self, found: dict[str, Any] | Exception) -> None:
        self.found = found
        self.clock = FakeClock()
        self.asked = 0
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def ready(self) -> dict[str, Any]:
        """Return what was found, or fail."""
        self.asked += 1
        await self.may_answer.wait()
        if isinstance(self.found, Exception):
            raise self.found
        return self.found


async def get(path: str, found: dict[str, Any] | Exception = READY) -> httpx.Response:
    """One request without any proof."""
    return await ask(path, Stub(found))


async def ask(path: str, authority: Stub) -> httpx.Response:
    """One request to a server of this authority."""
    app = FastAPI()
    app.include_router(health.router)
    app.state.authority = authority
    problems.install(app)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1") as client:
        return await client.get(path)


@pytest.mark.anyio
@pytest.mark.req("RA1")
@pytest.mark.parametrize("found", [READY, StorageUnavailableError("gone")], ids=["up", "down"])
async def test_a_living_process_says_so(found: Any) -> None:
    """Liveness needs no proof and no database: a restart would not mend the database."""
    reply = await get("/healthz", found)
    assert (reply.status_code, reply.json()) == (200, {"status": "ok"})


@pytest.mark.anyio
@pytest.mark.req("RA1")
async def test_a_server_that_can_work_is_ready() -> None:
    """When every check holds, it is ready, and says which checks there are."""
    reply = await get("/readyz")
    assert (reply.status_code, reply.json()) == (200, {"status": "ready", "checks": READY})


@pytest.mark.anyio
@pytest.mark.parametrize("value", [False, "connection refused by db.internal as user authsec"], ids=["no", "why"])
async def test_a_server_that_cannot_work_is_not_ready(value: Any, caplog: pytest.LogCaptureFixture) -> None:
    """One check that fails is 503; which one is told, and why only the log says."""
    reply = await get("/readyz", {**READY, "database": value})
    assert reply.status_code == 503
    assert reply.json() == {"status": "not_ready", "checks": {**READY, "database": False}}
    assert f"database: {value}" in caplog.text


@pytest.mark.anyio
async def test_an_outage_while_asking_is_503() -> None:
    """A database that fails in the middle of the check is not a defect of the server."""
    reply = await get("/readyz", StorageUnavailableError("the database is not there"))
    assert (reply.status_code, reply.json()["code"]) == (503, "storage_unavailable")


@pytest.mark.anyio
@pytest.mark.req("RA9")
@pytest.mark.parametrize(("database", "kept"), [(True, 1.0), (False, 0.0)], ids=["ready", "not ready"])
async def test_an_answer_is_kept(database: bool, kept: float, caplog: pytest.LogCaptureFixture) -> None:
    """Whoever asks all the time costs one look a second; that it can work again is seen at once."""
    authority = Stub({**READY, "database": database})
    status = 200 if database else 503
    assert (await ask("/readyz", authority)).status_code == status
    authority.found = {**READY, "database": not database}
    if kept:
        authority.clock.advance(kept - 0.001)
        assert (await ask("/readyz", authority)).status_code == status
    assert authority.asked == 1
    authority.clock.advance(0.001)
    assert (await ask("/readyz", authority)).status_code == (503 if database else 200)
    assert authority.asked == 2
    assert len([record for record in caplog.records if "not ready" in record.getMessage()]) == 1
    assert (await ask("/readyz", Stub(READY))).status_code == 200


@pytest.mark.anyio
@pytest.mark.req("RA9")
@pytest.mark.parametrize("database", [True, False], ids=["ready", "not ready"])
async def test_those_who_ask_together_share_a_look(database: bool) -> None:
    """While one look is under way, the others wait for what it finds."""
    authority = Stub({**READY, "database": database})
    authority.may_answer.clear()
    asking = [asyncio.create_task(ask("/readyz", authority)) for _ in range(5)]
    for _ in range(200):  # enough for all to get as far as they can
        await asyncio.sleep(0)
    assert authority.asked == 1
    authority.clock.advance(0.5)  # the time that it takes
    authority.may_answer.set()
    assert [reply.status_code for reply in await asyncio.gather(*asking)] == [200 if database else 503] * 5
    assert authority.asked == 1
