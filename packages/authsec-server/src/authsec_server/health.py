"""Whether the process lives, and whether it can work: for load balancers. Asks no proof, and says no more than that."""

from __future__ import annotations

import logging
from typing import Literal

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from authsec_server import deps
from authsec_server.problems import responses

__all__ = ["router"]

router = APIRouter(tags=["health"])
_log = logging.getLogger("authsec.server")


class Health(BaseModel):
    """The process answers."""

    status: Literal["ok"] = "ok"


class Readiness(BaseModel):
    """Whether requests can be answered, and which part is not up to it; the log says why."""

    status: Literal["ready", "not_ready"]
    checks: dict[str, bool]


@router.get("/healthz", operation_id="health", summary="Is the process alive?", responses=responses())
async def healthz() -> Health:
    """Say so, without asking the database: a restart would not mend that."""
    return Health()


@router.get(
    "/readyz",
    operation_id="readiness",
    summary="Can it answer requests?",
    responses={**responses(), 503: {"model": Readiness, "description": "Not ready"}},
)
async def readyz(request: Request, response: Response) -> Readiness:
    """Check what requests need. A text in place of a yes says what is wrong, and goes to the log only."""
    found = await deps.authority(request).ready()
    failed = {name: value for name, value in found.items() if value is not True}
    if failed:
        response.status_code = 503
        _log.warning("not ready: %s", ", ".join(f"{name}: {value}" for name, value in sorted(failed.items())))
    return Readiness(status="not_ready" if failed else "ready", checks={name: name not in failed for name in found})
