"""A process that has imported the command, and forks an `authsec-server serve` of it for each that is wanted.

`python replicas_program.py`, then lines of JSON on stdin. `{"start": [{"environ", "argv", "log", "clock"}, …]}` starts
servers at once; the answer comes when all of them listen, with their process ids, or what one said that does not.
`{"wait": pid}` answers with how that server has ended. The servers die with this process.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Any

import asyncpg  # noqa: F401 -- so that no server has to load it
import httpx
from behaviour.shared_clock import SharedClock

from authsec_core._clock import SYSTEM_CLOCK
from authsec_server.app import create_app
from authsec_server.cli import (
    _serve,  # noqa: F401 -- the command imports it late
    main,
)
from authsec_server.settings import ServerSettings

_ON_PARENTS_DEATH = 1  # PR_SET_PDEATHSIG


def _start(wanted: dict[str, Any]) -> tuple[int, int]:
    """Fork a server; return its id, and where it says that it listens."""
    ours, theirs = os.pipe()
    child = os.fork()
    if child:
        os.close(theirs)
        return child, ours
    try:
        ctypes.CDLL(None).prctl(_ON_PARENTS_DEATH, signal.SIGKILL)
        log = os.open(wanted["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        for target, source in enumerate((os.open(os.devnull, os.O_RDONLY), theirs, log)):
            os.dup2(source, target)
        os.environ.update(wanted["environ"])
        clock = SharedClock(Path(wanted["clock"])) if wanted["clock"] else SYSTEM_CLOCK
        os._exit(main(wanted["argv"], clock=clock))
    finally:
        os._exit(1)


def _answer(line: dict[str, Any]) -> Any:
    if "wait" in line:
        return os.waitstatus_to_exitcode(os.waitpid(line["wait"], 0)[1])
    found: list[int | str] = []
    for child, pipe in [_start(wanted) for wanted in line["start"]]:
        with os.fdopen(pipe) as said:
            first = said.readline()
            found.append(child if first.startswith('{"base_url"') else first + said.read())
    return found


async def _warm_up() -> None:
    """Have the framework load what it loads for its first request, so that no server needs to."""
    settings = ServerSettings(dev=True, data_dir=Path("unused"))
    transport = httpx.ASGITransport(app=create_app(settings))
    async with httpx.AsyncClient(transport=transport, base_url=settings.public_url, trust_env=False) as client:
        assert (await client.get("/nothing")).status_code == 404


if __name__ == "__main__":
    asyncio.run(_warm_up())
    assert threading.active_count() == 1, "a fork would lose the other threads"
    for text in sys.stdin:
        os.write(1, json.dumps(_answer(json.loads(text))).encode() + b"\n")
