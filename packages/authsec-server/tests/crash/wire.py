"""One HTTP connection to a server that may be gone at any byte. It tells what was answered from what was not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import anyio

__all__ = ["CutError", "Reply", "Wire"]

_PATIENCE = 30.0  # seconds for one reply
_CUT = (ConnectionError, asyncio.IncompleteReadError)


class CutError(Exception):
    """The server went away, and nothing of a reply, or not the part that is needed, had arrived."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What was answered: the status always, the body only if all of it arrived."""

    status: int
    text: bytes | None

    def json(self) -> Any:
        """Return the body.

        Raises:
            CutError: It did not arrive.
        """
        if self.text is None:
            raise CutError("the status arrived, and the body did not")
        return json.loads(self.text)


class Wire:
    """A connection, opened when it is first needed; for one task."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, method: str, path: str, *, bearer: str = "", body: object = None) -> Reply:
        """Send a request and return the reply.

        Raises:
            CutError: No status arrived.
        """
        headers = {"Host": f"127.0.0.1:{self._port}"}
        text = b""
        if bearer:
            headers["Authorization"] = f"Bearer {bearer}"
        if body is not None:
            text = json.dumps(body).encode()
            headers["Content-Type"] = "application/json"
        headers["Content-Length"] = str(len(text))
        # Before Python 3.12 `asyncio.wait_for` forgets a cancellation that comes together with the reply.
        with anyio.fail_after(_PATIENCE):
            return await self._exchange(f"{method} {path} HTTP/1.1", headers, text)

    async def close(self) -> None:
        """Hang up."""
        if self._streams is not None:
            self._streams[1].close()
            with suppress(ConnectionError):
                await self._streams[1].wait_closed()
            self._streams = None

    async def _exchange(self, line: str, headers: Mapping[str, str], text: bytes) -> Reply:
        try:
            if self._streams is None:
                self._streams = await asyncio.open_connection("127.0.0.1", self._port)
            reader, writer = self._streams
            head = [line, *(f"{name}: {value}" for name, value in headers.items()), "", ""]
            writer.write("\r\n".join(head).encode() + text)
            answer = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower().split("\r\n")
        except _CUT as exc:
            raise CutError("no reply") from exc
        length = next((int(row[15:]) for row in answer if row.startswith("content-length:")), 0)
        try:
            return Reply(int(answer[0].split()[1]), await reader.readexactly(length))
        except _CUT:
            return Reply(int(answer[0].split()[1]), None)
