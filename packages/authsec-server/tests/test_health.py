"""Health: who asks learns whether the server lives and can work, and nothing else."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from authsec_server import health, problems
from authsec_server.errors import StorageUnavailableError

READY: dict[str, Any] = {"database": True, "ledger": True, "signing_key": True}


class Stub:
    """An authority of which only the readiness is asked."""

    def __init__(self, found: dict[str, Any] | Exception) -> None:
        self.found = found

    async def ready(self) -> dict[str, Any]:
        """Return what was found, or fail."""
        if isinstance(self.found, Exception):
            raise self.found
        return self.found


async def get(path: str, found: dict[str, Any] | Exception = READY) -> httpx.Response:
    """One request without any proof."""
    app = FastAPI()
    app.include_router(health.router)
    app.state.authority = Stub(found)
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
