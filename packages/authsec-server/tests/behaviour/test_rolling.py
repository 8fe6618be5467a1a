"""Servers and signing keys are replaced while agents and APIs go on: nobody is refused for it."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import sqlalchemy as sa
from behaviour.load import Load, Verifying
from behaviour.shared_clock import SharedClock
from behaviour.support import PATIENCE, OpenReplicas, ReplicatedSite, busy_database, wait_until

from authsec_core._clock import SYSTEM_CLOCK
from authsec_server.db import migrate
from authsec_server.db.engine import Database

SERVERS = range(3)
KNOWN_AFTER = 361.0  # seconds: `jwks_max_age`, and what clocks may differ by
FORGOTTEN_AFTER = 3600.0 + KNOWN_AFTER  # seconds, from its retirement on: its last token has ended


@pytest.fixture
def clock(tmp_path: Path) -> SharedClock:
    """What all servers and verifiers go by."""
    return SharedClock(tmp_path / "clock")


def rolling(site: ReplicatedSite, load: Load) -> None:
    """Replace all servers, one after the other; everyone goes on in between."""
    for number in SERVERS:
        site.servers.restart(number)
        load.go_on()


def published(site: ReplicatedSite) -> set[str]:
    """Return the key ids that any of the servers publishes."""
    return {
        key["kid"]
        for url in site.base_urls
        for key in site.http.get(f"{url}/authsec/.well-known/jwks.json").json()["keys"]
    }


@pytest.mark.req("RA7")
@pytest.mark.req("RO2")
def test_nobody_is_refused_while_servers_and_keys_are_replaced(open_replicas: OpenReplicas, clock: SharedClock) -> None:
    """Under load each server is restarted, between the steps of a key's life: every token is good."""
    with open_replicas(clocks=[clock] * 3) as site:
        acts = [Verifying(site, site.onboard(), clock) for _ in range(2)]
        (old,) = published(site)
        with Load(*acts) as load:
            load.go_on()
            new = site.admin("POST", "/signing-keys/prepare", status=201)["kid"]
            rolling(site, load)
            with load.standstill():
                clock.advance(KNOWN_AFTER)
            site.admin("POST", f"/signing-keys/{new}/activate", status=200)
            load.go_on()
            rolling(site, load)
            assert published(site) == {old, new}, "tokens of the old one still live"
            with load.standstill():
                clock.advance(FORGOTTEN_AFTER)
            site.servers.restart(0)
            load.go_on()
            assert published(site) == {new}
        for act in acts:
            assert act.kids == {old, new}


def test_a_server_that_stops_answers_what_it_has_begun(open_replicas: OpenReplicas) -> None:
    """SIGTERM comes while a request waits for the database: it gets its token, and then the server is gone."""
    with open_replicas() as site, ThreadPoolExecutor(2) as threads:
        agent = site.onboard()
        url = site.servers.settings.database_url.get_secret_value()
        with busy_database(url) as let_go:
            asked = threads.submit(site.ask, agent)
            asyncio.run(_somebody_waits(url))
            stopping = threads.submit(site.servers.stop, 0, 1, 2)  # whichever was asked
            let_go()
            assert asked.result(PATIENCE).status_code == 200
            stopping.result(PATIENCE)


async def _somebody_waits(url: str) -> None:
    """Return once a transaction stands in line for a lock."""
    query = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    database = Database(url, clock=SYSTEM_CLOCK, timeout=PATIENCE)
    ends_at, found = SYSTEM_CLOCK.steady() + PATIENCE, 0
    while not found:
        assert SYSTEM_CLOCK.steady() < ends_at
        async with database.read() as connection:
            found = (await connection.execute(sa.text(query))).scalar_one()
    await database.close()


MIGRATION = """
import sqlalchemy as sa
from alembic import op

revision = "{revision}"
down_revision = "{before}"
branch_labels = None
depends_on = None


def upgrade() -> None:
    {work}
"""
ADDS = """op.add_column("tokens", sa.Column("later", sa.Text(), nullable=True))
    op.add_column("clients", sa.Column("more", sa.Text(), nullable=False, server_default="x"))
    op.create_index("ix_tokens_later", "tokens", ["later"])
    op.create_table("afterwards", sa.Column("id", sa.Integer(), primary_key=True))"""
BREAKS = "op.execute(\"UPDATE server SET floor = '9002'\")"


@pytest.fixture
def later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], None]:
    """A function that gives the release of this process, and of no server, one more migration."""
    folder = tmp_path / "migrations"
    shutil.copytree(migrate._MIGRATIONS, folder)
    monkeypatch.setattr(migrate, "_MIGRATIONS", folder)

    def add(revision: str, work: str) -> None:
        script = MIGRATION.format(revision=revision, before=migrate.expected(), work=work)
        (folder / "versions" / f"{revision}_later.py").write_text(script)

    return add


def _migrate(site: ReplicatedSite) -> None:
    async def run() -> None:
        database = Database(site.servers.settings.database_url.get_secret_value(), clock=SYSTEM_CLOCK, timeout=PATIENCE)
        try:
            await migrate.upgrade(database)
        finally:
            await database.close()

    asyncio.run(run())


def readiness(site: ReplicatedSite, *numbers: int) -> list[tuple[int, bool]]:
    """Return the status of these servers' readiness, and whether the database's shape suits them."""
    replies = [site.http.get(f"{site.base_urls[number]}/readyz") for number in numbers]
    return [(reply.status_code, reply.json()["checks"]["migrations"]) for reply in replies]


@pytest.mark.req("RO2")
def test_a_migration_that_adds_disturbs_nobody(open_replicas: OpenReplicas, later: Callable[[str, str], None]) -> None:
    """Three servers of this release serve before, while and after the next one migrates; and they can be restarted.

    A migration that raises the floor ends them: they are not ready, and none of them starts again.
    """
    with open_replicas() as site:
        with Load(*(Verifying(site, site.onboard(), SYSTEM_CLOCK) for _ in range(3))) as load:
            load.go_on()
            later("9001", ADDS)
            _migrate(site)
            load.go_on()
            rolling(site, load)
            assert readiness(site, *SERVERS) == [(200, True)] * 3
        later("9002", BREAKS)
        _migrate(site)
        site.servers.stop(2)
        with pytest.raises(AssertionError, match="releases before revision 9002 cannot run"):
            site.servers.start(2)
        assert [site.http.get(f"{url}/healthz").status_code for url in site.base_urls[:2]] == [200, 200]
        wait_until(lambda: readiness(site, 0, 1) == [(503, False)] * 2)  # it is looked at once a second at most
