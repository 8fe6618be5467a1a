"""A process that holds the real application, imported and built, and forks a server of it for each line that it reads.

`python zygote_program.py`, then lines of JSON on stdin: the settings first, then one plan for each server. A server
says "ready" on stdout when it answers. The next line, or the end of stdin, kills it with SIGKILL, if the plan has not
done so before; "ended" and its exit status follow. Nothing is repaired between two servers. A plan can be for a command
instead (`argv`), which nobody kills but the plan.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Mapping
from typing import Any

import httpx
import sqlalchemy as sa
import uvicorn
from fastapi import FastAPI
from sqlalchemy.engine.default import DefaultDialect
from sqlalchemy.exc import MissingGreenlet
from sqlalchemy.util import await_only
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from authsec_server.app import create_app
from authsec_server.cli import _offline  # noqa: F401 -- loaded here, so that no command needs to
from authsec_server.cli import main as command
from authsec_server.settings import ServerSettings

_ON_PARENTS_DEATH = 1  # PR_SET_PDEATHSIG
_PATIENCE = 60.0  # seconds


class Fuse:
    """Ends this process with SIGKILL when a moment comes for the n-th time after `light`, or a request for `/begin`.

    Args:
        moment: `statement` (one was executed), `commit` (one is about to be sent), `committed` (it is durable),
            `signed` (a reply is complete, and nothing of it was sent), `head` (its status was sent, its body was not),
            `replied` (all of it was); None never comes. At `held` it does not end, but this commit is not sent before a
            request for `/release`: what is answered meanwhile was answered too soon. `/held` waits for that moment.
    """

    def __init__(self, moment: str | None, times: int) -> None:
        self._moment = moment
        self._times = times
        self._left = 0  # times; 0 is not lit, or burnt
        self._held, self._released = threading.Event(), threading.Event()

    def light(self) -> None:
        """Begin to count."""
        self._left = self._times
        self._held, self._released = threading.Event(), threading.Event()

    def at(self, moment: str) -> None:
        """Say that a moment has come."""
        if self._comes(moment):
            os.kill(os.getpid(), signal.SIGKILL)

    def watch_database(self) -> None:
        """Look at every transaction of this process."""
        dialects: Any = DefaultDialect
        commit = dialects.do_commit

        def do_commit(dialect: DefaultDialect, connection: Any) -> None:
            self.at("commit")
            if self._comes("held"):
                self._held.set()
                _wait_in_transaction(self._released)
            commit(dialect, connection)
            self.at("committed")

        dialects.do_commit = do_commit

        @sa.event.listens_for(sa.Engine, "after_cursor_execute")
        def after(*_args: Any) -> None:
            self.at("statement")

    def around(self, app: ASGIApp) -> ASGIApp:
        """Look at every reply of the app, and take the requests that are for us."""

        async def watched(scope: Scope, receive: Receive, send: Send) -> None:
            async def sent(message: Message) -> None:
                starts = message["type"] == "http.response.start"
                if starts:
                    self.at("signed")
                await send(message)
                if starts:
                    self.at("head")
                elif message["type"] == "http.response.body":
                    self.at("replied")

            path = scope.get("path")
            if path == "/held":
                await asyncio.to_thread(self._held.wait, _PATIENCE)
            elif path == "/release":
                self._released.set()
            await app(scope, receive, sent)
            if path == "/begin":
                self.light()

        return watched

    def _comes(self, moment: str) -> bool:
        if not self._left or moment != self._moment:
            return False
        self._left -= 1
        return self._left == 0


def _wait_in_transaction(event: threading.Event) -> None:
    """Wait on whichever thread it is: one that carries out decisions, or one with a loop."""
    try:
        await_only(asyncio.to_thread(event.wait, _PATIENCE))
    except MissingGreenlet:
        event.wait(_PATIENCE)


class Server(uvicorn.Server):
    """A server that says when it answers."""

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, and say so."""
        await super().startup(sockets)
        if self.started:
            _say("ready")


def _checkpoint_often(pages: int) -> None:
    """Have SQLite copy its log into the database after this many pages, rather than after 1000."""

    @sa.event.listens_for(sa.Engine, "connect")
    def on_connect(connection: Any, _record: object) -> None:
        connection.execute(f"PRAGMA wal_autocheckpoint = {pages}").close()


def _serve(app: FastAPI, settings: ServerSettings, plan: Mapping[str, Any]) -> None:
    ctypes.CDLL(None).prctl(_ON_PARENTS_DEATH, signal.SIGKILL)
    fuse = Fuse(plan.get("moment"), plan.get("times", 1))
    fuse.watch_database()
    if plan.get("pages"):
        _checkpoint_often(plan["pages"])
    config = uvicorn.Config(
        fuse.around(app), lifespan="on", ws="none", log_config=None, access_log=False, server_header=False
    )
    with socket.create_server((settings.host, settings.port), backlog=256) as listener:
        Server(config).run(sockets=[listener])


def _obey(plan: Mapping[str, Any]) -> None:
    ctypes.CDLL(None).prctl(_ON_PARENTS_DEATH, signal.SIGKILL)
    os.dup2(2, 1)  # what it prints is for the log
    os.environ.update(plan["environment"])
    fuse = Fuse(plan.get("moment"), plan.get("times", 1))
    fuse.watch_database()
    fuse.light()
    os._exit(command(plan["argv"]))


async def _warm_up(app: FastAPI, settings: ServerSettings) -> None:
    """Have the app build what it builds for its first request, so that no server needs to."""
    transport = httpx.ASGITransport(app=app)
    async with httpx.AsyncClient(transport=transport, base_url=settings.public_url, trust_env=False) as client:
        assert (await client.get("/nothing")).status_code == 404


def _say(line: str) -> None:
    os.write(1, f"{line}\n".encode())


def main() -> None:
    """Serve and die, line by line."""
    settings = ServerSettings(**json.loads(sys.stdin.readline()))
    app = create_app(settings)
    asyncio.run(_warm_up(app, settings))
    assert threading.active_count() == 1, "a fork would lose the other threads"
    for line in sys.stdin:
        plan = json.loads(line)
        child = os.fork()
        if child == 0:
            try:
                _obey(plan) if "argv" in plan else _serve(app, settings, plan)
            finally:
                os._exit(1)
        if "argv" not in plan:
            sys.stdin.readline()
            os.kill(child, signal.SIGKILL)  # at worst it is dead already: it is ours until we have waited for it
        _say(f"ended {os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])}")


if __name__ == "__main__":
    main()
