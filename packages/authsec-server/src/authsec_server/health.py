"""Whether the process lives, and whether it can work: for load balancers. Asks no proof, and says no more than that."""

from __future__ import annotations

import asyncio
import logging
from typing import Final, Literal
from weakref import WeakKeyDictionary

from fastapi import APIRouter, Request, Response
from pydantic import BaseModel

from authsec_server import deps
from authsec_server.authority import Authority
from authsec_server.problems import responses

__all__ = ["router"]

_KEPT: Final = 1.0  # seconds, for anyone may ask as often as they like

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
    authority = deps.authority(request)
    found = await _watches.setdefault(authority, _Watch()).look(authority)
    if found.status != "ready":
        response.status_code = 503
    return found


class _Watch:
    """Looks at most once in a while, and once for all who ask at the same time."""

    def __init__(self) -> None:
        self._alone = asyncio.Lock()
        self._found: Readiness | None = None
        self._found_at = 0.0

    async def look(self, authority: Authority) -> Readiness:
        asked_at = authority.clock.steady()
        async with self._alone:
            # A no is for those who waited for it only: that it can work again is to be seen at once.
            kept = _KEPT if self._found is not None and self._found.status == "ready" else 0.0
            if self._found is None or asked_at - self._found_at >= kept:
                self._found = await _look(authority)
                self._found_at = authority.clock.steady()
            return self._found


_watches: WeakKeyDictionary[Authority, _Watch] = WeakKeyDictionary()


async def _look(authority: Authority) -> Readiness:
    found = await authority.ready()
    failed = {name: value for name, value in found.items() if value is not True}
    if failed:
        _log.warning("not ready: %s", ", ".join(f"{name}: {value}" for name, value in sorted(failed.items())))
    return Readiness(status="not_ready" if failed else "ready", checks={name: name not in failed for name in found})
