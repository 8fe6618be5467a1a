"""The metrics over HTTP: for operators, since they tell how busy the authority is and what is refused."""

from __future__ import annotations

import asyncio
from typing import cast

from fastapi import APIRouter, Request, Response

from authsec_server import deps
from authsec_server.problems import responses
from authsec_server.telemetry.metrics import Metrics

__all__ = ["router"]

router = APIRouter(tags=["health"], route_class=deps.OperatorRoute)


@router.get(
    "/metrics",
    operation_id="metrics",
    summary="Metrics for Prometheus",
    response_class=Response,
    responses={
        200: {"content": {"text/plain": {"schema": {"type": "string"}}}, "description": "The metrics."},
        **responses(401, 403),
    },
)
async def metrics(request: Request, _caller: deps.Reads) -> Response:
    """Return what was counted since the start: of this server, with all of its processes."""
    counted = cast("Metrics", request.app.state.metrics)
    await counted.look()
    text, media_type = await asyncio.to_thread(counted.shown, request.headers.get("accept", ""))
    return Response(text, headers={"Content-Type": media_type})
