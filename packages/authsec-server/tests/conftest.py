"""Fixtures of the authority's tests: a new database for each test, on SQLite and on PostgreSQL."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))  # modules that several tests share; importlib mode adds no folders

from authsec_core.testing import FakeClock
from authsec_server.testing import LocalPostgres


@pytest.fixture(autouse=True)
def _no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let tables have the width that they have in a pipe: workers of pytest-xdist are told of a terminal."""
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    """Undo what `logs.configure` does to the whole process."""
    names = (None, "authsec", "authsec.server", "uvicorn", "uvicorn.access", "uvicorn.asgi", "uvicorn.error")
    loggers = [logging.getLogger(name) for name in names]
    before = [(logger.handlers, logger.level, logger.propagate) for logger in loggers]
    yield
    for logger, (handlers, level, propagate) in zip(loggers, before, strict=True):
        logger.handlers, logger.level, logger.propagate = handlers, level, propagate


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """The loop of tests that are marked `anyio`: the authority runs on asyncio alone, wherever trio is installed."""
    return "asyncio"


@pytest.fixture
def clock() -> FakeClock:
    """A clock that stands still until it is moved."""
    return FakeClock()


@pytest.fixture(scope="session")
def postgres() -> Iterator[LocalPostgres]:
    """One PostgreSQL for all tests of this worker."""
    with LocalPostgres(fsync=False) as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty database of each kind."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'authsec.db'}"
        return
    server: LocalPostgres = request.getfixturevalue("postgres")
    url = server.create_database()
    yield url
    server.drop_database(url)
