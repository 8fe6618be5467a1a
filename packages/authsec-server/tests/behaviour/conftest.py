"""Fixtures of the behaviour tests: an authority on each kind of database, shared by the tests of a module."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import pytest
from behaviour.support import KINDS, Databases, Kind, OpenSite, Site, running_site

from authsec_core.testing import FakeClock
from authsec_server.testing import LocalPostgres


@pytest.fixture(scope="session")
def databases(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Databases:
    """Initialised databases to copy; PostgreSQL is started only for those who need it."""
    postgres: Callable[[], LocalPostgres] = partial(request.getfixturevalue, "postgres")
    return Databases(tmp_path_factory.mktemp("databases"), postgres)


@pytest.fixture(scope="module", params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    """Which kind of database."""
    if request.param == "postgresql":
        request.getfixturevalue("postgres")  # before the database is asked for, and so closed after it
    found: Kind = request.param
    return found


@pytest.fixture(scope="module")
def site(databases: Databases, kind: Kind) -> Iterator[Site]:
    """An authority as in production, for all tests of a module that leave the others alone."""
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
