"""Metrics by themselves: bounds, several processes, and a disk that is full."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from server_support import entry

from authsec_server.telemetry.metrics import _MOST_SERIES, OTHER, Metrics, _Series
from authsec_server.telemetry.observer import Observer

PROGRAM = """
import asyncio, sys
from authsec_server.telemetry.metrics import Metrics
metrics = Metrics()
metrics.request("GET", "/metrics", 200, 0.01)
metrics.settled([], asked=2, issued=2, seconds=0.1)
metrics.watch("connections", lambda: 5)
asyncio.run(metrics.look())
if sys.argv[1:]:
    print(metrics.shown("")[0].decode())
"""


@pytest.mark.req("RA9")
def test_a_label_that_slips_makes_no_endless_series() -> None:
    """Should a label ever be what somebody sent, there is a most, and the rest is one series."""
    metrics = Metrics()
    for number in range(_MOST_SERIES + 500):
        metrics.settled([entry(f"odd.{number}")], asked=1, issued=0, seconds=0.0)
        metrics.request("GET", f"/{number}", 200, 0.0)
    text = metrics.shown("")[0].decode()
    assert text.count("authsec_decisions_total{") == _MOST_SERIES + 1
    assert f'authsec_decisions_total{{action="{OTHER}",decision="{OTHER}",reason="{OTHER}"}} 500.0' in text


def test_every_kind_of_work_is_counted() -> None:
    """The class has a method of its own for all that an observer may be told."""
    told = {name for name in vars(Observer) if not name.startswith("_")}
    assert told <= set(vars(Metrics))


def test_several_processes_are_shown_as_one(tmp_path: Path) -> None:
    """With the library's variable set, whichever process is asked adds up all of them, also those that have ended."""
    environ = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    _, _, done = [
        subprocess.run(
            [sys.executable, "-c", PROGRAM, *more], env=environ, check=True, capture_output=True, text=True, timeout=60
        )
        for more in ([], [], ["show"])
    ]
    assert 'authsec_http_requests_total{method="GET",route="/metrics",status="200"} 3.0' in done.stdout
    assert "authsec_tokens_issued_total 6.0" in done.stdout
    assert 'authsec_ledger_batch_size_bucket{le="2.0"} 3.0' in done.stdout
    assert "authsec_connections 15.0" in done.stdout  # until somebody marks the ended ones as dead
    assert "process_" not in done.stdout


def test_a_full_disk_stops_the_counting_and_nothing_else() -> None:
    """A series that cannot be made in its file is not counted, and is tried again."""

    class Full:
        calls = 0

        def labels(self, *_: str) -> Any:
            self.calls += 1
            raise OSError("no space left on device")

    series, full = _Series(None, ("x",)), Full()
    series._metric = full
    series.of("a").inc()
    series.of("a").observe(1.0)
    assert full.calls == 2
