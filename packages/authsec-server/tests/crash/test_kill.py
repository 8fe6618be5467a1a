"""What survives when the authority, or its database, is killed at any moment: whatever was acknowledged.

`kill -9` does not cut the power: what was written and not flushed to the disk survives it too. So this shows that
nothing is answered before it is committed, that nothing is committed by halves, and that a crash needs no repair; that
a commit is flushed is shown by the settings only (synchronous=FULL here, fsync=on there).
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from copy import deepcopy
from pathlib import Path
from random import Random  # noqa: TID251 -- with a seed that the test shows when it fails
from typing import Any

import pytest
from crash.facts import Books, Facts
from crash.traffic import Traffic
from crash.zygote import Zygote

from authsec_core._clock import SYSTEM_CLOCK
from authsec_core._jws import parse_jws
from authsec_core._status_list import parse_status_list
from authsec_core.errors import RevokedTokenError
from authsec_core.verify import TokenVerifier
from authsec_server.audit.verify import Report, verify_database
from authsec_server.authority import initialise
from authsec_server.db.engine import Database
from authsec_server.keys.masterkey import create_master_key
from authsec_server.settings import ServerSettings
from authsec_server.testing import LocalPostgres
from authsec_server.testing._port import Port

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="forks a process that has imported everything, which only Linux bears"
)

_ROUNDS = 60
_FULL_CHECK_EVERY = 10  # rounds
_OUTAGES = 6
_MOST_SERVED = 40  # answers from the first request to the kill, where no moment is named
_AFTERWARDS = 0.02  # seconds at most from the last of them to the kill, so that it comes anywhere between two answers
_LONGEST = 0.25  # seconds for which a commit is held before the kill
_TOO_LONG = 60.0  # seconds until a moment that did not come is waited for no longer
_PATIENT = {"database_timeout": 30.0, "request_timeout": 60.0}  # of a server whose database is there, or comes back
_MOMENTS = ("statement", "commit", "held", "committed", "signed", "head", "replied")


@pytest.fixture(scope="module")
def durable_postgres() -> Iterator[LocalPostgres]:
    """A PostgreSQL that flushes each commit to the disk, as in production."""
    with LocalPostgres() as server:
        yield server


@pytest.fixture
def chance() -> Random:
    """Decides all that is left to chance here; `CRASH_SEED` repeats what was decided, as far as timing lets it."""
    seed = int(os.environ.get("CRASH_SEED") or secrets.randbits(32))
    sys.stdout.write(f"CRASH_SEED={seed}\n")  # shown when the test fails
    return Random(seed)  # noqa: S311 -- no secret hangs on it


class Scene:
    """An authority that gets killed, everyone who uses it, and whoever checks its books."""

    def __init__(self, settings: ServerSettings, zygote: Zygote, admin: str, chance: Random) -> None:
        self.zygote = zygote
        self.traffic = Traffic(settings.port, admin, chance)
        self.books = Books(settings.database_url.get_secret_value())
        self._settings = settings
        self._chance = chance
        self._ended: set[str] = set()  # agents that were checked since the last full check

    @property
    def facts(self) -> Facts:
        """What was acknowledged."""
        return self.traffic.facts

    async def kill(self, number: int) -> None:
        """Start a server, check what the one before it left, use the new one, and kill it at some moment."""
        plan = self._plan(number)
        if number % 20 == 19:
            self.zygote.launch()
            self.zygote.becomes_ready(self._chance.random() / 4)
            self.zygote.kill()
            return
        self.zygote.start(**plan)
        await self.check(in_full=number % _FULL_CHECK_EVERY == 0)
        await self.traffic.get("/begin")  # from now on the moments count
        async with self.traffic.flowing() as tasks:
            await self._until(plan.get("moment"), tasks)
            self.zygote.kill()

    async def check(self, *, in_full: bool = False) -> None:
        """Fail where the running server, or its database, does not know what was acknowledged."""
        if in_full:
            self.books = Books(self._settings.database_url.get_secret_value())
            self._ended.clear()
            await self.verify()
            await self._check_tokens()
        await self.books.check(self.facts)
        await self._check_published()
        await self.traffic.check_ended([agent for name, agent in self.facts.ended.items() if name not in self._ended])
        self._ended |= self.facts.ended.keys()

    async def verify(self) -> Report:
        """Verify the audit as `verify-audit` does, with all checkpoints."""
        url = self._settings.database_url.get_secret_value()
        database = Database(url, clock=SYSTEM_CLOCK, timeout=_PATIENT["database_timeout"])
        file = self._settings.checkpoint_file
        try:
            return await verify_database(database, checkpoint_files=[file] if file and file.exists() else [])
        finally:
            await database.close()

    async def _check_published(self) -> None:
        """The status list has whatever was taken back, and nothing that nobody tried to take back."""
        uri, issuer = f"{self._settings.issuer}/statuslists/0", self._settings.issuer
        text = await self.traffic.get("/authsec/statuslists/0")
        published = parse_status_list(parse_jws(text.decode(), limit=1_000_000).claims(), uri=uri, issuer=issuer)
        issued = self.facts.issued
        unpublished = {jti for jti in self.facts.revoked if published.status(issued[jti].index) != 1}
        assert not unpublished, f"revocations that are not published: {unpublished}"
        wrong = {jti for jti in issued.keys() - self.facts.attempted if published.status(issued[jti].index) != 0}
        assert not wrong, f"published as revoked, and never taken back: {wrong}"

    async def _check_tokens(self) -> None:
        """A verifier refuses what was taken back, and nothing that nobody tried to take back."""
        verifier = TokenVerifier(
            issuer=self._settings.issuer,
            audience=self._settings.default_audience,
            jwks=json.loads(await self.traffic.get("/authsec/.well-known/jwks.json")),
            require_status=True,
        )
        for jti in self.facts.revoked:
            with pytest.raises(RevokedTokenError):
                await verifier.averify(self.facts.issued[jti].text)
        for jti in self.facts.issued.keys() - self.facts.attempted:
            assert (await verifier.averify(self.facts.issued[jti].text)).jti == jti

    def _plan(self, number: int) -> dict[str, Any]:
        """Return at which moment the server is to end itself, or how often SQLite copies its log meanwhile."""
        if number % 5 < 3:
            is_sqlite = self._settings.database_url.get_secret_value().startswith("sqlite")
            return {"pages": self._chance.choice([0, 1, 5])} if is_sqlite else {}
        moment = _MOMENTS[(number // 5 * 2 + number % 2) % len(_MOMENTS)]  # each in its turn
        return {"moment": moment, "times": self._chance.randint(1, 200 if moment == "statement" else 25)}

    async def _until(self, moment: str | None, tasks: Sequence[asyncio.Task[None]]) -> None:
        """Wait until the server is to be killed, unless it ends itself: on any machine it has done as much by then."""
        longest = _TOO_LONG
        if moment is None:
            await self.traffic.serves(int(self._chance.random() ** 2 * _MOST_SERVED))
            longest = self._chance.random() * _AFTERWARDS
        elif moment == "held":
            await self.traffic.get("/held")
            longest = _LONGEST
        await asyncio.wait(tasks, timeout=longest, return_when=asyncio.FIRST_COMPLETED)


@asynccontextmanager
async def scene(folder: Path, url: str, chance: Random, **given: Any) -> AsyncIterator[Scene]:
    """Lend a new authority on this database, with an agent; no server runs yet."""
    port = Port()
    create_master_key(folder / "master.key")
    wanted = {
        "data_dir": str(folder),
        "database_url": url,
        "port": port.number,
        "public_url": f"http://127.0.0.1:{port.number}",
        "checkpoint_interval": 1.0,
        "client_rate": 0,  # one agent asks as fast as it can
        "refusal_rate": 0,
        **_PATIENT,
        **given,
    }
    settings = ServerSettings(**wanted)
    # Between two statements of a migration a busy machine may take longer than `given` allows.
    admin = await initialise(ServerSettings(**{**wanted, **_PATIENT}))
    try:
        with Zygote(wanted, folder / "servers.log") as zygote:
            one = Scene(settings, zygote, admin.text(), chance)
            zygote.start()
            await one.traffic.begin()
            zygote.kill()
            yield one
    finally:
        port.release()


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty database of each kind, which flushes each commit to the disk."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path / 'authsec.db'}"
        return
    server: LocalPostgres = request.getfixturevalue("durable_postgres")
    url = server.create_database()
    yield url
    server.drop_database(url)


@pytest.mark.req("RU1")
@pytest.mark.req("RU2")
@pytest.mark.req("RV9")
def test_no_kill_of_the_authority_loses_what_it_acknowledged(url: str, tmp_path: Path, chance: Random) -> None:
    """Killed sixty times while it issues and revokes, it loses nothing that it answered, and starts by itself."""

    async def run() -> None:
        async with scene(tmp_path, url, chance) as one:
            for number in range(_ROUNDS):
                await one.kill(number)
            one.zygote.start()
            await one.check(in_full=True)
            report = await one.verify()
            one.zygote.kill()
            assert "Traceback" not in one.zygote.log, one.zygote.log
        sys.stdout.write(f"{_ROUNDS} kills, {report.entries} entries verified; acknowledged: {one.facts}\n")
        # The kills would show nothing otherwise.
        assert len(one.facts.revoked) > _ROUNDS / 4, "hardly anything was going on when it was killed"

    asyncio.run(run())


@pytest.mark.req("RU1")
@pytest.mark.req("RU2")
@pytest.mark.req("RV9")
def test_no_kill_of_the_database_loses_what_was_acknowledged(
    durable_postgres: LocalPostgres, tmp_path: Path, chance: Random
) -> None:
    """While PostgreSQL is away everything gets 503; when it is back the authority goes on by itself, with all there."""

    async def run(url: str) -> None:
        # It is waited for at each outage; and a healthy server has to keep it, on however busy a machine.
        async with scene(tmp_path, url, chance, database_timeout=2.0) as one:
            one.zygote.start(moment="held", times=3)
            async with one.traffic.flowing() as tasks:
                for number in range(_OUTAGES):
                    await one.traffic.everyone_is("served")
                    await one.traffic.serves(chance.randint(1, _MOST_SERVED))
                    await asyncio.wait(tasks, timeout=chance.random() * _AFTERWARDS)
                    if number % 2:  # one commit gets on its way when nobody is there to take it
                        await one.traffic.get("/begin")
                        await one.traffic.get("/held")
                    await asyncio.to_thread(durable_postgres.kill)
                    one.traffic.away = True
                    await one.traffic.get("/release")
                    await one.traffic.everyone_is("unavailable")
                    one.traffic.away = False
                    await asyncio.to_thread(durable_postgres.start)
                    await one.books.check(deepcopy(one.facts))  # what was acknowledged before we look
                await one.traffic.everyone_is("served")
                one.zygote.kill()  # the first server, to the end
            one.zygote.start()
            await one.check(in_full=True)
            report = await one.verify()
        sys.stdout.write(
            f"{_OUTAGES} outages, {one.traffic.unavailable} answers of 503, {report.entries} entries verified; "
            f"acknowledged: {one.facts}\n"
        )
        assert one.facts.revoked

    asyncio.run(run(durable_postgres.create_database()))
