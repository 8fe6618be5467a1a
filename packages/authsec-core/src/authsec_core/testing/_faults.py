"""How a loopback authority is told to fail, and what that makes of an answer that was good. Pure but for one lock."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from authsec_core.testing._http import Answer, Raw, Reply

__all__ = ["Cut", "Fault", "FaultPlan", "Where"]

Where = Literal["delegation", "jwks", "statuslist"]
Cut = Literal["start", "body"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """One way to fail; several can be combined.

    Attributes:
        status: Answer with this status.
        headers: Added to the answer's headers.
        garbage: Answer with this body.
        alter: Answer with the JSON that this makes of the good answer's JSON.
        raw: Write these bytes instead of HTTP.
        cut: Drop the connection before the answer (`start`) or in the middle of its body (`body`).
        delay: Seconds, or an Event, to wait for before answering.
    """

    status: int | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    garbage: bytes | None = None
    alter: Callable[[dict[str, object]], object] | None = None
    raw: bytes | None = None
    cut: Cut | None = None
    delay: float | threading.Event = 0.0

    @property
    def hides_answer(self) -> bool:
        """Whether nothing of the good answer is sent, so that it need not be made."""
        return self.status is not None or self.garbage is not None or self.raw is not None

    def spoil(self, good: Reply) -> Answer:
        """Return what is sent in the place of the good answer."""
        if self.raw is not None or self.cut == "start":
            return Raw(data=self.raw or b"", delay=self.delay)
        bad = replace(good, headers={**good.headers, **self.headers}, delay=self.delay)
        if self.status is not None:
            bad = replace(bad, status=self.status, body=b'{"error": "told to fail"}')
        if self.alter is not None:
            bad = replace(bad, body=json.dumps(self.alter(json.loads(good.body))).encode())
        if self.garbage is not None:
            bad = replace(bad, body=self.garbage)
        return replace(bad, cut_after=len(bad.body) // 2) if self.cut else bad


class FaultPlan:
    """Which fault meets which request: in the order of planning, each as often as planned. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._queues: dict[Where, list[tuple[Fault, int | None]]] = {}

    def add(self, where: Where, fault: Fault, times: int | None) -> None:
        """Plan `fault` for the next `times` requests after those planned already; None means all of them."""
        with self._lock:
            self._queues.setdefault(where, []).append((fault, times))

    def clear(self, where: Where | None) -> None:
        """Forget what was planned there, or everywhere."""
        with self._lock:
            for place in [where] if where else list(self._queues):
                self._queues.pop(place, None)

    def next(self, where: Where) -> Fault | None:
        """Return the fault for one request that has just come in, or None."""
        with self._lock:
            queue = self._queues.get(where)
            if not queue:
                return None
            fault, times = queue[0]
            if times == 1:
                queue.pop(0)
            elif times is not None:
                queue[0] = (fault, times - 1)
            return fault
