"""The test's end of `zygote_program`: starts servers that are to be killed, and kills them."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

__all__ = ["Zygote"]

_PROGRAM = Path(__file__).with_name("zygote_program.py")
_PATIENCE = 60.0  # seconds, for one step on a busy machine


class Zygote:
    """A process that forks servers of one authority, one at a time. Its methods block.

    Args:
        settings: Of the authority.
        log: Where the servers' stderr goes.
    """

    def __init__(self, settings: Mapping[str, Any], log: Path) -> None:
        self._log = log
        with log.open("wb") as file:
            self._process = subprocess.Popen(
                [sys.executable, str(_PROGRAM)],
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
                env={
                    name: value for name, value in os.environ.items() if not name.startswith(("AUTHSEC_", "COVERAGE_"))
                },
            )
        self._send(settings)

    def __enter__(self) -> Zygote:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()  # on which it kills the server, and ends
        try:
            self._process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()
        if error is not None:
            sys.stdout.write(f"the servers said:\n{self.log[-20_000:]}\n")  # shown, since the test fails

    @property
    def log(self) -> str:
        """What the servers have said."""
        return self._log.read_text(errors="replace")

    def start(self, **plan: Any) -> None:
        """Start a server and wait until it answers."""
        self.launch(**plan)
        assert self._line(_PATIENCE) == "ready", self.log

    def launch(self, **plan: Any) -> None:
        """Start a server."""
        self._send(plan)

    def becomes_ready(self, within: float) -> bool:
        """Wait so many seconds for a launched server to answer, and return whether it does."""
        return self._line(within) == "ready"

    def run(self, *argv: str, environment: Mapping[str, str], **plan: Any) -> int:
        """Run a command in the place of a server, and return its exit code; below zero the signal that ended it."""
        self._send({"argv": argv, "environment": environment, **plan})
        line = self._line(_PATIENCE)
        assert line.startswith("ended "), f"{line}\n{self.log}"
        return int(line.split()[1])

    def kill(self) -> None:
        """Kill the server, if it still lives, and wait until it is gone."""
        self._send(None)
        line = self._line(_PATIENCE)
        if line == "ready":  # it was just about to say so
            line = self._line(_PATIENCE)
        assert line == f"ended {-signal.SIGKILL}", f"{line}\n{self.log}"

    def _send(self, what: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(what).encode() + b"\n")

    def _line(self, timeout: float) -> str:
        """Return the next line; none when it does not begin in time."""
        output = self._process.stdout
        assert output is not None
        if not select.select([output], [], [], timeout)[0]:
            return ""
        return output.readline().decode().strip()
