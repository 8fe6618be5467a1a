"""What running an example takes: a process of its own, a home of its own, and no way out of this machine."""

from __future__ import annotations

import contextlib
import importlib.util
import itertools
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
# The environment for ag2 alone has no authority, and no AgentChat.
collect_ignore = (
    [] if importlib.util.find_spec("authsec_server") else ["test_agent_gateway.py", "test_vault_examples.py"]
)
# The gateway is a package among the examples, and what its tests share is beside them.
sys.path[:0] = [str(EXAMPLES), str(Path(__file__).resolve().parents[1] / "shared")]
_NOWHERE = "http://127.0.0.1:9"  # the discard port: what respects proxies and goes beyond loopback fails at once

Run = Callable[..., subprocess.CompletedProcess[str]]
Start = Callable[..., contextlib.AbstractContextManager[str]]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """An environment in which the examples can be imported, and nothing beyond this machine is reached."""
    return {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join([str(EXAMPLES), os.environ.get("PYTHONPATH", "")]),
        "PYTHONIOENCODING": "utf-8",
        "HOME": str(tmp_path),
        "XDG_DATA_HOME": str(tmp_path / "data"),
        "CREWAI_STORAGE_DIR": str(tmp_path / "crewai"),
        "CREWAI_DISABLE_TELEMETRY": "true",
        "CREWAI_TRACING_ENABLED": "false",
        "CREWAI_DISABLE_VERSION_CHECK": "true",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "OTEL_SDK_DISABLED": "true",
        "HTTPS_PROXY": _NOWHERE,
        "HTTP_PROXY": _NOWHERE,
        "NO_PROXY": "127.0.0.1,localhost",
    }


@pytest.fixture
def run(tmp_path: Path, environment: dict[str, str]) -> Run:
    """Return a function that runs Python with these arguments."""

    def run_python(*arguments: str, **extra: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=tmp_path,
            env=environment | extra,
            capture_output=True,
            encoding="utf-8",
            timeout=300,
            check=False,
        )

    return run_python


@pytest.fixture
def run_in_background(tmp_path: Path, environment: dict[str, str]) -> Start:
    """Return a function for a `with` block: it starts Python, hands on what that says until it serves, and ends it."""

    @contextlib.contextmanager
    def start(*arguments: str, **extra: str) -> Iterator[str]:
        with (tmp_path / "stderr.txt").open("w+", encoding="utf-8") as errors:
            # Whoever runs these tests in the background may ignore interrupts, and what is started would do so, too.
            before = signal.signal(signal.SIGINT, signal.default_int_handler)
            process = subprocess.Popen(
                [sys.executable, *arguments],
                cwd=tmp_path,
                env=environment | extra,
                stdout=subprocess.PIPE,
                stderr=errors,
                encoding="utf-8",
            )
            signal.signal(signal.SIGINT, before)
            assert process.stdout is not None
            try:
                lines = iter(process.stdout.readline, "Ctrl-C ends it.\n")
                yield "".join(itertools.takewhile(bool, lines))  # an empty one is the end of a program that failed
            finally:
                process.send_signal(signal.SIGINT)
                rest, _ = process.communicate(timeout=60)
            errors.seek(0)
            assert (process.returncode, rest) == (0, ""), errors.read()

    return start
