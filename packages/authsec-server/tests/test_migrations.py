"""Upgrades: what an older database holds is there afterwards, and which releases a newer one can be used by."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from alembic import command
from alembic.script import ScriptDirectory
from behaviour.balancing import Balanced
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from authsec_core._clock import SYSTEM_CLOCK
from authsec_core.errors import ConfigurationError, RevokedTokenError
from authsec_core.verify import TokenVerifier
from authsec_server.audit.verify import verify_database
from authsec_server.authority import Authority, database_of, initialise
from authsec_server.db import migrate
from authsec_server.db.engine import Database
from authsec_server.keys.masterkey import create_master_key
from authsec_server.settings import ServerSettings
from authsec_server.testing import RunningAuthority

NEWER = "9001"  # of a release that is still to come
# Patient: between two statements of a migration a busy machine may take longer than PostgreSQL waits by default.
SETTINGS: dict[str, Any] = {"public_url": "http://127.0.0.1:1", "database_timeout": 30.0, "request_timeout": 60.0}


def test_what_is_expected_is_what_alembic_would_do() -> None:
    """The revision of this release, which is read off the files' names, is the head of alembic's own chain."""
    assert ScriptDirectory.from_config(migrate._config()).get_current_head() == migrate.expected()


def test_who_only_serves_does_without_alembic() -> None:
    """`serve` loads what it takes to look at a database's revision, and not what it takes to change it."""
    program = "import sys, authsec_server.cli._serve\nprint('alembic' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@contextmanager
def running(database_url: str, folder: Path, admin: str = "") -> Iterator[RunningAuthority]:
    """Run the authority of this folder on a database, always under the same public URL."""
    authority = RunningAuthority(database_url=database_url, data_dir=folder, **SETTINGS)
    authority._admin_token = admin
    with authority:
        yield authority


def execute(url: str, *statements: str) -> None:
    """Run statements in one transaction."""

    async def work(connection: AsyncConnection) -> None:
        for statement in statements:
            await connection.execute(sa.text(statement))

    asyncio.run(_with(url, lambda database: database.write(work)))


async def _with(url: str, work: Any) -> Any:
    database = Database(url, clock=SYSTEM_CLOCK, timeout=60.0)
    try:
        return await work(database)
    finally:
        await database.close()


def downgraded(url: str, content: str) -> None:
    """Make the database at `url` one of revision 0001, with what the newer one has that 0001 has a place for."""

    async def run() -> None:
        source, target = (Database(each, clock=SYSTEM_CLOCK, timeout=60.0) for each in (content, url))

        async def fill(connection: AsyncConnection) -> None:
            await connection.run_sync(_to_first)
            reflected = sa.MetaData()
            await connection.run_sync(reflected.reflect)
            async with source.read() as reading:
                for table in reflected.sorted_tables:
                    if table.name == "alembic_version":
                        continue
                    rows = [dict(row) for row in (await reading.execute(sa.select(table))).mappings()]
                    if rows:
                        await connection.execute(sa.insert(table), rows)

        await target.write(fill)
        await source.close()
        await target.close()

    asyncio.run(run())


def _to_first(connection: sa.Connection) -> None:
    config = migrate._config()
    config.attributes["connection"] = connection
    command.upgrade(config, "0001")


@pytest.fixture
def second_url(database_url: str, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[str]:
    """Another empty database of the same kind."""
    if database_url.startswith("sqlite"):
        yield f"sqlite:///{tmp_path / 'second.db'}"
        return
    server = request.getfixturevalue("postgres")
    url = server.create_database()
    yield url
    server.drop_database(url)


@pytest.mark.req("RO2")
def test_an_upgrade_keeps_what_was_there(database_url: str, second_url: str, tmp_path: Path) -> None:
    """From 0001: agents and their keys, delegations, tokens, revocations, admins, signing keys and the whole audit."""
    with running(database_url, tmp_path) as authority:
        admin, agent, ended = authority.admin_token, authority.onboard(), authority.onboard()
        kept, taken_back = (_token(authority, agent) for _ in range(2))
        authority.client.post(f"/tokens/{taken_back['jti']}/revoke").raise_for_status()
        authority.client.post(f"/clients/{ended.client_id}/revoke").raise_for_status()
        entries = authority.run(lambda inner: verify_database(inner.database)).entries
    downgraded(second_url, database_url)
    assert asyncio.run(_with(second_url, migrate.current)) == "0001"
    with pytest.raises(ConfigurationError, match="authsec-server migrate"), running(second_url, tmp_path, admin):
        pass
    asyncio.run(_with(second_url, migrate.upgrade))
    with running(second_url, tmp_path, admin) as authority:
        again = _token(authority, agent)
        assert _ask(authority, ended).status_code == 410
        with Balanced(authority.base_url) as transport:
            keys = authority.jwks_url
            verifier = TokenVerifier(
                issuer=authority.issuer, audience="authsec-api", jwks_url=keys, transport=transport
            )
            assert verifier.verify(kept["token"]).jti == kept["jti"]
            with pytest.raises(RevokedTokenError):
                verifier.verify(taken_back["token"])
        assert authority.run(lambda inner: verify_database(inner.database)).entries == entries + 2
        assert again["jti"] not in {kept["jti"], taken_back["jti"]}
    stray = "INSERT INTO client_keys (key_id, client_id, label, mac, created_at) VALUES ('k', 'nobody', '', :mac, 0)"
    with pytest.raises(IntegrityError):  # the table was made anew on SQLite, and still refers to the clients
        asyncio.run(_with(second_url, lambda database: database.write(_insert(stray))))


def _insert(statement: str) -> Any:
    async def work(connection: AsyncConnection) -> None:
        await connection.execute(sa.text(statement), {"mac": b"m"})

    return work


def _ask(authority: RunningAuthority, agent: Any) -> httpx.Response:
    url = f"{authority.base_url}/authsec/uflow/sdk/delegation-token"
    headers = {"Authorization": f"Bearer {agent.agent_key}"}
    return httpx.get(url, params={"client_id": agent.client_id}, headers=headers, trust_env=False, timeout=60.0)


def _token(authority: RunningAuthority, agent: Any) -> dict[str, str]:
    reply = _ask(authority, agent)
    assert reply.status_code == 200, reply.text
    found: dict[str, str] = reply.json()
    return found


@contextmanager
def initialised(database_url: str, folder: Path) -> Iterator[ServerSettings]:
    """Lend the settings of a new authority that does not run."""
    create_master_key(folder / "master.key")
    settings = ServerSettings(data_dir=folder, database_url=database_url, **SETTINGS)
    asyncio.run(initialise(settings))
    yield settings


def test_a_newer_database_that_only_added_is_used(database_url: str, tmp_path: Path) -> None:
    """A release goes on, and starts, on what a later one has migrated, as long as the floor is not above it."""
    with initialised(database_url, tmp_path) as settings:
        execute(
            database_url,
            "ALTER TABLE tokens ADD COLUMN later TEXT",
            f"UPDATE alembic_version SET version_num = '{NEWER}'",  # noqa: S608 - a constant
        )
        asyncio.run(_open(settings, ready=True))
        asyncio.run(_with(database_url, migrate.upgrade))
        assert asyncio.run(_with(database_url, migrate.current)) == NEWER, "there is nothing to do for an older release"


def test_a_floor_above_this_release_ends_it(database_url: str, tmp_path: Path) -> None:
    """Who runs turns not ready; who starts is refused, in words that say which release it takes."""
    with initialised(database_url, tmp_path) as settings:
        raised = (f"UPDATE alembic_version SET version_num = '{NEWER}'", f"UPDATE server SET floor = '{NEWER}'")  # noqa: S608 - constants

        async def run() -> None:
            async with Authority.open(settings) as authority:
                assert all((await authority.ready()).values())
                await asyncio.to_thread(execute, database_url, *raised)
                found = await authority.ready()
                assert [name for name, well in found.items() if not well] == ["migrations"]

        asyncio.run(run())
        with pytest.raises(ConfigurationError, match=rf"before revision {NEWER} cannot run.*install the release"):
            asyncio.run(_open(settings, ready=False))


async def _open(settings: ServerSettings, *, ready: bool) -> None:
    async with Authority.open(settings) as authority:
        assert all((await authority.ready()).values()) is ready


def test_a_database_from_before_the_floor_is_told_to_migrate(database_url: str, tmp_path: Path) -> None:
    """What is older than the release is migrated first: it may lack what the release reads."""
    with initialised(database_url, tmp_path) as settings:
        execute(database_url, "UPDATE alembic_version SET version_num = '0001'")
        database = database_of(settings, SYSTEM_CLOCK)

        async def run() -> bool:
            try:
                return await migrate.suits(database)
            finally:
                await database.close()

        assert asyncio.run(run()) is False
