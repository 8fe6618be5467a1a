"""Fixtures of the behaviour tests: an authority on each kind of database, shared by the tests of a module.

Whatever goes over HTTP alone, with `site`, also runs on three server processes that share a PostgreSQL. Tests of one's
own clock or settings (`timed`, `open_site`) run in this process, as do those marked `inside`, which change or watch the
server's own objects.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from behaviour.replicas import Nursery
from behaviour.support import (
    KINDS,
    Databases,
    Kind,
    OpenReplicas,
    OpenSite,
    Site,
    replicated_site,
    running_site,
)

from authsec_core.testing import FakeClock
from authsec_server.testing import LocalPostgres


@pytest.fixture(scope="session")
def databases(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Databases:
    """Initialised databases to copy; PostgreSQL is started only for those who need it."""
    postgres: Callable[[], LocalPostgres] = partial(request.getfixturevalue, "postgres")
    return Databases(tmp_path_factory.mktemp("databases"), postgres)


_IN_THIS_PROCESS = frozenset({"timed", "open_site", "open_replicas", "servers"})


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Choose the kinds that a test runs on."""
    if "kind" in metafunc.fixturenames:
        alone = not _IN_THIS_PROCESS.isdisjoint(metafunc.fixturenames)
        alone = alone or metafunc.definition.get_closest_marker("inside") is not None or sys.platform != "linux"
        metafunc.parametrize("kind", KINDS if alone else (*KINDS, "replicas"), indirect=True, scope="module")


@pytest.fixture(scope="session")
def nursery() -> Iterator[Nursery]:
    """What starts server processes, for all tests of this worker."""
    found = Nursery()
    yield found
    found.close()


@pytest.fixture(scope="module")
def kind(request: pytest.FixtureRequest) -> Kind:
    """Which kind of database."""
    if request.param != "sqlite":
        request.getfixturevalue("postgres")  # before the database is asked for, and so closed after it
    found: Kind = request.param
    return found


@pytest.fixture(scope="module")
def site(
    databases: Databases, kind: Kind, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Site]:
    """An authority as in production, for all tests of a module that leave the others alone."""
    if kind == "replicas":
        nursery: Nursery = request.getfixturevalue("nursery")
        with replicated_site(databases, nursery, tmp_path_factory.mktemp("replicas")) as three:
            yield three
        return
    with running_site(databases, kind) as found:
        yield found


@pytest.fixture(scope="module")
def timed(databases: Databases, kind: Kind) -> Iterator[Site]:
    """The same with a clock that only the tests move: forward."""
    with running_site(databases, kind, clock=FakeClock()) as found:
        yield found


@pytest.fixture
def open_site(databases: Databases, kind: Kind) -> OpenSite:
    """A function that opens an authority for one test alone."""

    def opened(**settings: Any) -> AbstractContextManager[Site]:
        lent: AbstractContextManager[Site] = running_site(databases, kind, **settings)
        return lent

    return opened


@pytest.fixture
def open_replicas(databases: Databases, postgres: LocalPostgres, nursery: Nursery, tmp_path: Path) -> OpenReplicas:
    """A function that opens an authority of three server processes for one test alone."""
    if sys.platform != "linux":
        pytest.skip("forks a process that has imported everything, which only Linux bears")
    return partial(replicated_site, databases, nursery, tmp_path)
