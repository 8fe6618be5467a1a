"""The processes of a run: the loopback endpoint, and one worker for each client, asked in lines of JSON.

Nothing outlives the run: whoever starts a process closes it, and a process whose stdin ends goes by itself.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import tempfile
import threading
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["BrokenProcessError", "Endpoint", "Process", "private_environment", "run_once"]

ROOT = Path(__file__).resolve().parents[1]
_PATIENCE = 120.0  # seconds for one answer


class BrokenProcessError(RuntimeError):
    """A process ended, or did not answer. The message is the last line that it wrote to stderr."""


class Process:
    """A child that answers each line of JSON with one. Its stderr is kept for the message of a failure."""

    def __init__(self, command: list[str], environment: Mapping[str, str]) -> None:
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 -- closed with the process
        self._process = subprocess.Popen(
            command,
            cwd=ROOT,
            env=dict(environment),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
        )

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._process.pid

    def ask(self, **message: object) -> dict[str, Any]:
        """Send a message and return its answer.

        Raises:
            BrokenProcessError: There is none, or it says `error`.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise self._broken() from None
        return self.hear()

    def hear(self) -> dict[str, Any]:
        """Return the next line that the child says of itself."""
        assert self._process.stdout is not None
        alarm = threading.Timer(_PATIENCE, self._process.kill)
        alarm.start()
        try:
            line = self._process.stdout.readline()
        finally:
            alarm.cancel()
        if not line:
            raise self._broken()
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise BrokenProcessError(str(answer["error"]))
        return answer

    def _broken(self) -> BrokenProcessError:
        self._process.wait(_PATIENCE)
        self._errors.seek(0)
        lines = self._errors.read().decode(errors="replace").strip().splitlines()
        return BrokenProcessError(lines[-1] if lines else f"it ended with status {self._process.returncode}")

    def close(self) -> None:
        """End the child. May be called twice."""
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                stream.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._errors.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class Endpoint(Process):
    """The loopback endpoint. Who starts it can be sure that its port is not another process's."""

    def __init__(self, python: str, environment: Mapping[str, str], *, delay: float = 0.0) -> None:
        nonce = secrets.token_hex(16)
        command = [python, "-m", "benchmarks.endpoint", "--nonce", nonce, "--delay", str(delay)]
        super().__init__(command, environment)
        self.url = f"http://127.0.0.1:{self.hear()['port']}"
        told = self._whoami()
        if (told["nonce"], told["pid"]) != (nonce, self.pid):
            raise BrokenProcessError(f"{self.url} belongs to process {told['pid']}, not to the one just started")

    def tokens(self) -> int:
        """Return how many requests for tokens have come in."""
        return int(self._whoami()["tokens"])

    def _whoami(self) -> dict[str, Any]:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"{self.url}/whoami", timeout=_PATIENCE) as reply:
            told: dict[str, Any] = json.load(reply)
            return told


def run_once(command: list[str], environment: Mapping[str, str]) -> dict[str, Any]:
    """Run a program that prints one line of JSON, in a folder with nothing to import, and return the line.

    Raises:
        BrokenProcessError: It failed.
    """
    home = environment["HOME"]
    done = subprocess.run(command, cwd=home, env=dict(environment), capture_output=True, text=True, timeout=_PATIENCE)
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines()
        raise BrokenProcessError(lines[-1] if lines else f"it ended with status {done.returncode}")
    told: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return told


def private_environment(home: Path) -> dict[str, str]:
    """Return an environment in which nothing is set but what a program needs to start, and nothing phones home."""
    home.mkdir(parents=True, exist_ok=True)
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": str(home),
        "LANG": "C.UTF-8",
        "NO_PROXY": "127.0.0.1,localhost",
        "XDG_DATA_HOME": str(home / "data"),
        "CREWAI_STORAGE_DIR": str(home / "crewai"),
        "CREWAI_DISABLE_TELEMETRY": "true",
        "CREWAI_TRACING_ENABLED": "false",
        "CREWAI_DISABLE_VERSION_CHECK": "true",
        "OTEL_SDK_DISABLED": "true",
    }
