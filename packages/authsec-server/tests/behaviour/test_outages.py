"""Whatever happens to servers, disk, database and clocks: nothing that was acknowledged is lost, nothing is done twice.

`kill -9` at chosen moments of one server is for `crash`; here several servers share what is hit.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from behaviour.load import Bookkeeper, Load
from behaviour.replicas import Nursery
from behaviour.shared_clock import SharedClock
from behaviour.support import Databases, OpenReplicas, OpenSite, ReplicatedSite, Site, replicated_site
from crash.facts import Books, Facts

from authsec_core.errors import RevokedTokenError
from authsec_server.authority import Authority
from authsec_server.testing import LocalPostgres

HOURS = 3 * 3600.0  # seconds
USERS = 3


class Scene:
    """Users of a site, and the books that are held against what they were told."""

    def __init__(self, site: Site) -> None:
        self.facts = Facts()
        lock = threading.Lock()
        self.users = [Bookkeeper(site, self.facts, lock) for _ in range(USERS)]
        self.books = Books(site.authority.settings.database_url.get_secret_value())

    def check(self) -> None:
        """Fail where the database lacks something that was acknowledged, or contradicts itself."""
        asyncio.run(self.books.check(deepcopy(self.facts)))
        assert self.facts.revoked

    @property
    def unavailable(self) -> int:
        """How often 503 was answered."""
        return sum(user.unavailable for user in self.users)


@pytest.mark.req("RO2")
def test_servers_that_are_killed_take_nothing_with_them(open_replicas: OpenReplicas) -> None:
    """One after the other is killed in the middle of its work, and started again, while the others go on."""
    with open_replicas() as site:
        scene = Scene(site)
        with Load(*scene.users) as load:
            for number in (0, 1, 2):
                load.go_on()
                site.servers.end(signal.SIGKILL, number)
                load.go_on()
                site.servers.start(number)
            load.go_on()
        scene.check()


@pytest.fixture
def own_postgres() -> Iterator[LocalPostgres]:
    """A PostgreSQL that a test may stop."""
    with LocalPostgres(fsync=False) as server:
        yield server


@pytest.mark.req("RO2")
@pytest.mark.parametrize("how", ["restart", "crash"])
def test_a_database_that_restarts_loses_nothing(
    own_postgres: LocalPostgres, nursery: Nursery, tmp_path: Path, how: str
) -> None:
    """PostgreSQL is restarted, or killed and started, under load: 503 for a while, and then all three servers go on."""
    databases = Databases(tmp_path, lambda: own_postgres)
    with replicated_site(databases, nursery, tmp_path, database_timeout=0.5) as site:
        scene = Scene(site)
        with Load(*scene.users) as load:
            load.go_on()
            (own_postgres.stop if how == "restart" else own_postgres.kill)()
            load.go_on()
            assert scene.unavailable > 0
            own_postgres.start()
            served = len(scene.facts.revoked)
            while len(scene.facts.revoked) < served + 2 * USERS:
                load.go_on()
        scene.check()
        assert [site.http.get(f"{url}/readyz").status_code for url in site.base_urls] == [200] * 3


PG_FULL = (
    """CREATE FUNCTION disk_is_full() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100'; END $$""",
    "CREATE TRIGGER full_disk BEFORE INSERT ON audit EXECUTE FUNCTION disk_is_full()",
)
PG_FREE = ("DROP TRIGGER full_disk ON audit", "DROP FUNCTION disk_is_full()")


@contextmanager
def full_disk(site: Site) -> Iterator[None]:
    """Let there be no place for a further row while this lasts."""
    is_sqlite = site.kind == "sqlite"
    site.authority.run(partial(_limit_pages, "(SELECT 1)") if is_sqlite else partial(_execute, PG_FULL))
    yield
    site.authority.run(partial(_limit_pages, "1000000") if is_sqlite else partial(_execute, PG_FREE))


async def _limit_pages(_: str, inner: Authority) -> None: ...


async def _execute(statements: tuple[str, ...], inner: Authority) -> None:
    async def work(connection: Any) -> None:
        for statement in statements:
            await connection.execute(sa.text(statement))

    await inner.database.write(work)
