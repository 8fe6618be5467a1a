"""How something is awaited to its end although the task that awaits it is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

__all__ = ["to_the_end"]

T = TypeVar("T")


async def to_the_end(work: Coroutine[Any, Any, T]) -> T:
    """Return what the work comes to; it runs as a task of its own, which no cancellation of this one touches.

    Raises:
        CancelledError: This task was cancelled meanwhile: the work has ended all the same.
    """
    import anyio  # Starlette's own; where its scopes cancel, they do so again and again, and only its own shield helps

    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    with anyio.CancelScope(shield=True):
        while not task.done():
            try:
                await asyncio.wait({task})
            except asyncio.CancelledError as exc:  # by asyncio, which says it once
                cancelled = exc
    if cancelled is not None:
        raise cancelled from (None if task.cancelled() else task.exception())
    return task.result()
