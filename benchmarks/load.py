"""What makes requests: many kept connections, one thread, raw HTTP/1.1. It has a process of its own.

It has to leave the processor to what is measured, so that it knows no more of HTTP than what those servers answer with:
a `Content-Length`, on a connection that stays. Each connection has one request under way and sends the next one when
it has the answer.
"""

from __future__ import annotations

import json
import selectors
import socket
import sys
import time
from collections import Counter
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any

__all__ = ["LoadError", "run"]

_PATIENCE = 30.0  # seconds for one answer
_SAMPLES = 50  # answers of a run that are shown to whoever wants to check them


class LoadError(RuntimeError):
    """A server hung up, or answered what is no HTTP."""


def run(ports: Sequence[int], requests: Sequence[bytes], *, connections: int, count: int) -> dict[str, Any]:
    """Make `count` requests, in turn those of `requests`, and return how that went.

    Args:
        ports: Of 127.0.0.1; the connections are shared out among them.
        requests: Whole requests, each with its line break at the end.
        connections: How many are kept.
    """
    todo = islice(cycle(requests), count)
    every = max(1, count // _SAMPLES)
    statuses: Counter[str] = Counter()
    taken: list[float] = []
    samples: list[str] = []
    with selectors.DefaultSelector() as selector:
        clients = [_Client(port, selector) for port in islice(cycle(ports), min(connections, count))]
        began = time.perf_counter()
        for client in clients:
            client.send(next(todo))
        while len(taken) < count:
            ready = selector.select(_PATIENCE)
            if not ready:
                raise LoadError("no answer in time")
            for key, _ in ready:
                answer = key.data.read()
                if answer is None:
                    continue
                taken.append(key.data.seconds)
                statuses[answer[9:12].decode()] += 1
                if len(taken) % every == 0:
                    samples.append(answer.partition(b"\r\n\r\n")[2].decode())
                if (following := next(todo, None)) is not None:
                    key.data.send(following)
        seconds = time.perf_counter() - began
        for client in clients:
            client.close()
    taken.sort()
    return {
        "seconds": seconds,
        "p50": taken[count // 2],
        "p99": taken[min(count - 1, int(count * 0.99))],
        "statuses": dict(statuses),
        "samples": samples,
    }


class _Client:
    def __init__(self, port: int, selector: selectors.BaseSelector) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), timeout=_PATIENCE)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        selector.register(self._socket, selectors.EVENT_READ, self)
        self._received = b""
        self._sent_at = 0.0
        self.seconds = 0.0

    def send(self, request: bytes) -> None:
        self._sent_at = time.perf_counter()
        self._socket.sendall(request)

    def read(self) -> bytes | None:
        """Return the answer, if it is complete."""
        received = self._socket.recv(65536)
        if not received:
            raise LoadError("the server hung up")
        self._received += received
        head, end, body = self._received.partition(b"\r\n\r\n")
        if not end or len(body) < _length(head):
            return None
        self.seconds = time.perf_counter() - self._sent_at
        answer, self._received = self._received, b""
        return answer

    def close(self) -> None:
        self._socket.close()


def _length(head: bytes) -> int:
    _, found, rest = head.lower().partition(b"\r\ncontent-length:")
    if not found:
        raise LoadError("an answer without Content-Length")
    return int(rest.partition(b"\r\n")[0])


def _main() -> None:
    """Answer each line of JSON, the arguments of `run`, with one that says how it went."""
    print("{}", flush=True)
    for line in sys.stdin:
        told = json.loads(line)
        requests = [text.encode() for text in json.loads(Path(told["requests"]).read_text(encoding="utf-8"))]
        try:
            found = run(told["ports"], requests, connections=told["connections"], count=told["count"])
        except (LoadError, OSError) as exc:
            found = {"error": str(exc)}
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    _main()
