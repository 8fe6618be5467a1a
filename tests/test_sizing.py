"""Does the arithmetic of the page about sizing add up, and does its program measure what it says?"""

from __future__ import annotations

import sys
from pathlib import Path

import httpx
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # benchmarks is no installed package

from benchmarks.sizing import Load, Plan, list_bytes, measured, tables

from authsec_server.testing import RunningAuthority


def test_the_rate_follows_from_the_life() -> None:
    """An agent fetches a token at three quarters of its life; rows are kept until a day after their end."""
    plan = Plan(agents=100_000, life=1800)
    assert plan.rate == pytest.approx(74.07, abs=0.01)
    assert plan.a_day == pytest.approx(6_400_000)
    assert plan.rows == pytest.approx(74.074 * (1800 + 86_400), rel=1e-4)
    assert (plan.lists, Plan(agents=1_000, life=1800).lists) == (2, 1)


def test_a_list_is_as_large_as_is_said() -> None:
    """What is said of an empty list is what the authority serves, within a tenth; it grows with what is revoked."""
    with RunningAuthority() as authority:
        authority.onboard("read:metrics")
        served = len(httpx.get(f"{authority.issuer}/statuslists/0").content)
    assert list_bytes(0) == pytest.approx(served, rel=0.1)
    assert list_bytes(0) < list_bytes(131) < list_bytes(13_107) < 131_072 / 8 * 4 / 3 * 4 / 3


def test_what_a_token_leaves_behind_is_measured(tmp_path: Path) -> None:
    """On both databases there is an entry and a row, each of which has a plausible size."""
    found = measured(tmp_path, tokens=60)
    assert found.keys() == {"SQLite", "PostgreSQL"}
    for load in found.values():
        assert 500 < load.audit < 5_000
        assert 200 < load.token < 2_500


def test_the_tables_have_a_row_for_what_was_asked() -> None:
    """Processes are planned with half of what one can do; without a rate nothing is said of them."""
    loads = {"SQLite": Load(audit=1000, token=400)}
    told = tables(loads, tokens=10, rate=1000.0)
    assert "| audit a day | 64 MB | 6.4 GB | 640 GB |" in told
    assert "at 1 000 tokens a second each and 50% of that | 1 | 1 | 15 |" in told
    assert "processes" not in tables(loads, tokens=10, rate=None)
