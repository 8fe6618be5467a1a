"""Whatever happens to servers, disk, database and clocks: nothing that was acknowledged is lost, nothing is done twice.

`kill -9` at chosen moments of one server is for `crash`; here several servers share what is hit.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Iterator
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from behaviour.load import Bookkeeper, Load
from behaviour.replicas import Nursery
from behaviour.shared_clock import SharedClock
from behaviour.support import Databases, OpenReplicas, Site, peek, replicated_site, running_site, wait_until
from crash.facts import Books, Facts

from authsec_core.errors import RevokedTokenError, VerificationUnavailableError
from authsec_server.authority import Authority
from authsec_server.testing import LocalPostgres

HOURS = 3 * 3600.0  # seconds
USERS = 3
SOON = 2.0  # seconds: a timeout that a test waits for, and that a server which starts meanwhile has to keep


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

    def recovers(self, load: Load) -> None:
        """Let everyone go on until each has taken tokens back again."""
        enough = len(self.facts.revoked) + 2 * USERS

        def recovered() -> bool:
            load.go_on()
            return len(self.facts.revoked) >= enough

        wait_until(recovered)

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
    """A PostgreSQL that a test may stop, and that is durable."""
    with LocalPostgres() as server:
        yield server


@pytest.mark.req("RO2")
@pytest.mark.parametrize("how", ["restart", "crash"])
def test_a_database_that_restarts_loses_nothing(
    own_postgres: LocalPostgres, nursery: Nursery, tmp_path: Path, how: str
) -> None:
    """PostgreSQL is restarted, or killed and started, under load: 503 for a while, and then all three servers go on."""
    databases = Databases(tmp_path, lambda: own_postgres)
    with replicated_site(databases, nursery, tmp_path, database_timeout=SOON) as site:
        scene = Scene(site)
        with Load(*scene.users) as load:
            load.go_on()
            (own_postgres.stop if how == "restart" else own_postgres.kill)()
            load.go_on()
            assert scene.unavailable > 0
            own_postgres.start()
            scene.recovers(load)
        scene.check()
        wait_until(lambda: [site.http.get(f"{url}/readyz").status_code for url in site.base_urls] == [200] * 3)


PG_FULL = (
    """CREATE FUNCTION disk_is_full() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100'; END $$""",
    "CREATE TRIGGER full_disk BEFORE INSERT ON audit EXECUTE FUNCTION disk_is_full()",
)
PG_FREE = ("DROP TRIGGER full_disk ON audit", "DROP FUNCTION disk_is_full()")


@pytest.mark.req("RO2")
@pytest.mark.req("RU1")
def test_a_disk_that_is_full_is_a_503(open_replicas: OpenReplicas) -> None:
    """While PostgreSQL has no place left nothing is issued or taken back at any server; lists are read all the same."""
    with open_replicas() as site:
        site.is_troubled = True
        scene, token = Scene(site), site.token(site.onboard())
        with Load(*scene.users) as load:
            load.go_on()
            site.authority.run(partial(_execute, PG_FULL))
            with load.standstill():
                acknowledged = scene.facts.entries.total()
            load.go_on(3)
            assert scene.unavailable > 0
            assert scene.facts.entries.total() == acknowledged
            assert [site.is_listed(token) for _ in site.base_urls] == [False] * 3
            site.authority.run(partial(_execute, PG_FREE))
            scene.recovers(load)
        scene.check()


@pytest.mark.req("RO2")
@pytest.mark.req("RU1")
def test_an_sqlite_that_is_full_is_a_503(databases: Databases) -> None:
    """SQLite refuses one page more: nothing that it does not hold is acknowledged, and then it goes on by itself."""
    with running_site(databases, "sqlite", database_timeout=SOON) as site:
        scene = Scene(site)
        with Load(*scene.users) as load:
            load.go_on()
            site.authority.run(partial(_allow_pages, 1))  # never fewer than it has
            while not scene.unavailable:  # the pages that it has take some rows more
                load.go_on()
            site.authority.run(partial(_allow_pages, 1_000_000))
            scene.recovers(load)
        scene.check()


async def _allow_pages(count: int, inner: Authority) -> None:
    await inner.database.write(lambda connection: connection.execute(sa.text(f"PRAGMA max_page_count = {count}")))


async def _execute(statements: tuple[str, ...], inner: Authority) -> None:
    async def work(connection: Any) -> None:
        for statement in statements:
            await connection.execute(sa.text(statement))

    await inner.database.write(work)


@pytest.mark.req("RO2")
@pytest.mark.req("RV9")
@pytest.mark.parametrize("jump", [HOURS, -HOURS], ids=["forward", "back"])
def test_a_clock_that_jumps_brings_nothing_back(open_replicas: OpenReplicas, tmp_path: Path, jump: float) -> None:
    """One server's calendar is hours off, and set right again: what was ended stays ended at each, what lives lives."""
    clocks = [SharedClock(tmp_path / f"clock-{number}") for number in range(3)]
    with open_replicas(clocks=clocks) as site:
        agent, ended = site.onboard(), site.onboard()
        kept, lost = site.token(agent), site.token(agent)
        site.admin("POST", f"/tokens/{peek(lost)['jti']}/revoke", status=204)
        for by in (jump, -jump):
            clocks[1].jump(by)
            site.admin("POST", f"/clients/{ended.client_id}/revoke")
            wait_until(partial(_all_listed, site, lost))
            assert [site.ask(ended).status_code for _ in range(3)] == [410] * 3
            assert [site.is_listed(kept) for _ in range(3)] == [False] * 3
            assert [site.ask(agent).status_code for _ in range(3)] == [200] * 3
            with site.verifier() as verifier:  # which goes by the right time, whatever server answers
                for _ in range(3):
                    with pytest.raises((RevokedTokenError, VerificationUnavailableError)):
                        verifier.verify(lost)
            ended = site.onboard()
        with site.verifier() as verifier:
            assert verifier.verify(kept).jti == peek(kept)["jti"]


def _all_listed(site: Site, token: str) -> bool:
    return all(site.is_listed(token) for _ in site.base_urls)
