"""Measures one client, in the environment that holds it. Started with the client's name and the endpoint's URL.

Each line of JSON on stdin is a batch to run, answered with one line: small batches, so that whoever asks can let the
clients take turns and no client alone meets a busy moment of the machine.
"""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import resource
import sys
import threading
from collections.abc import Callable
from time import perf_counter
from typing import Any, TextIO

from benchmarks.floors import FLOORS
from benchmarks.subjects import SUBJECTS, Cold, Subject

_THREADS = 64
_TASKS = 1000


def _warm(subject: Subject, message: dict[str, Any]) -> dict[str, Any]:
    """Run a batch of the client between halves of a batch of each floor, and return nanoseconds for one call."""
    calls, floor_calls = int(message["calls"]), int(message["floor_calls"])
    gc.disable()
    try:
        before = {name: floor(floor_calls // 2) for name, floor in FLOORS.items()}
        own = subject.warm(calls)
        after = {name: floor(floor_calls // 2) for name, floor in FLOORS.items()}
    finally:
        gc.enable()
    floors = {name: (before[name] + after[name]) / (2 * (floor_calls // 2)) * 1e9 for name in FLOORS}
    return {"ns": own / calls * 1e9, "floors": floors}


def _cold(subject: Subject, message: dict[str, Any]) -> dict[str, Any]:
    """Let cold callers start at once, and return the seconds until the last of them has a token."""
    how = message["how"]
    mixed = subject.cold_mixed() if how == "mixed" else None
    blocking = mixed[0] if mixed else subject.cold() if how == "threads" else None
    for_tasks = mixed[1] if mixed else subject.cold_async() if how == "tasks" else None
    if blocking is None and for_tasks is None:
        return {"unknown": True}
    errors: list[BaseException] = []
    ended: list[float] = []
    start = threading.Barrier((_THREADS if blocking else 0) + 1)
    threads = [threading.Thread(target=_call, args=(blocking, start, ended, errors)) for _ in range(start.parties - 1)]
    for thread in threads:
        thread.start()

    async def tasks() -> None:
        assert for_tasks is not None
        answers = await asyncio.gather(*(for_tasks() for _ in range(_TASKS)), return_exceptions=True)
        errors.extend(answer for answer in answers if isinstance(answer, BaseException))
        ended.append(perf_counter())  # here: no caller waits for the loop to be closed

    start.wait()
    started = perf_counter()
    if for_tasks is not None:
        asyncio.run(tasks())
    for thread in threads:
        thread.join()
    if errors:
        return {"error": f"{len(errors)} callers failed, one with {errors[0]!r}"}
    return {"seconds": max(ended) - started}


def _call(call: Cold, start: threading.Barrier, ended: list[float], errors: list[BaseException]) -> None:
    start.wait()
    try:
        call()
    except Exception as exc:  # noqa: BLE001 -- reported as the result of the batch
        errors.append(exc)
    ended.append(perf_counter())


def _fetch(subject: Subject, message: dict[str, Any]) -> dict[str, Any]:
    from benchmarks.own import fetches

    return fetches(subject, message["url"], message["path"], int(message["calls"]))


def _verify(subject: Subject, message: dict[str, Any]) -> dict[str, Any]:
    from benchmarks.verification import verifications

    return verifications(int(message["calls"]))


def _mint(subject: Subject, message: dict[str, Any]) -> dict[str, Any]:
    from benchmarks.own import mints

    return mints(int(message["calls"]))


_BATCHES: dict[str, Callable[[Subject, dict[str, Any]], dict[str, Any]]] = {
    "warm": _warm,
    "cold": _cold,
    "fetch": _fetch,
    "verify": _verify,
    "mint": _mint,
}


def _main(name: str, url: str, answers: TextIO) -> None:
    def say(**answer: Any) -> None:
        answers.write(json.dumps(answer) + "\n")
        answers.flush()

    try:
        subject = SUBJECTS[name](url)
        subject.warm(1)
    except Exception as exc:  # noqa: BLE001 -- whatever keeps a client from being measured is its row in the report
        say(error=f"{type(exc).__name__}: {exc}")
        return
    say(ready=True)
    for line in sys.stdin:
        message = json.loads(line)
        say(**_BATCHES[message["do"]](subject, message))


if __name__ == "__main__":
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))  # 1000 callers without a pool are 1000 connections
    logging.disable(logging.WARNING)
    lines = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a client prints is no answer
    _main(sys.argv[1], sys.argv[2], lines)
