"""Fixtures of the core's tests: above all `driver`, which runs a test once for threads and once for coroutines."""

from __future__ import annotations

import ssl
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import httpx
import pytest
import respx

sys.path.insert(0, str(Path(__file__).parent))  # modules that several tests share; importlib mode adds no folders

from core_support import Driver, Joined

from authsec_core.testing import FakeClock

_create_ssl_context = httpx.create_ssl_context


@cache
def _usual_tls() -> ssl.SSLContext:
    return _create_ssl_context(trust_env=False)


@pytest.fixture(autouse=True)
def _one_tls_context(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let all clients share the usual authorities: reading them takes longer than most tests."""

    def create(*, trust_env: bool) -> ssl.SSLContext:
        return _create_ssl_context(trust_env=True) if trust_env else _usual_tls()

    monkeypatch.setattr(httpx, "create_ssl_context", create)


@pytest.fixture
def clock() -> FakeClock:
    """A clock that stands still until the test moves it."""
    return FakeClock()


@pytest.fixture(params=["sync", "async"])
def driver(request: pytest.FixtureRequest) -> Iterator[Driver]:
    """Both halves of the SDK, one after the other."""
    driver = Driver(request.param)
    yield driver
    driver.close()


@pytest.fixture
def web() -> Iterator[respx.MockRouter]:
    """The network, played by respx: what is not routed fails the test."""
    with respx.mock(assert_all_called=False) as router:
        yield router


@pytest.fixture
def joined(monkeypatch: pytest.MonkeyPatch) -> Joined:
    """Tells how many callers wait for someone else's request for a token."""
    return Joined(monkeypatch)
