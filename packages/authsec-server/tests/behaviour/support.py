"""What the behaviour tests share: an authority with a database of its own kind, and how agents and verifiers meet it.

Everything goes over HTTP on loopback, as it does in production; only what nobody can see from outside is asked inside.
"""

from __future__ import annotations

import asyncio
import base64
import json
import shutil
import threading
import zlib
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast
from urllib.parse import urlsplit

import httpx
import jwt
import sqlalchemy as sa
from behaviour.balancing import BARE as BARE
from behaviour.balancing import Balanced
from behaviour.replicas import Nursery, Replicas

from authsec_core._clock import SYSTEM_CLOCK, Clock
from authsec_core.testing import FakeClock
from authsec_core.verify import TokenVerifier
from authsec_core.wire import DELEGATION_TOKEN_PATH, format_time
from authsec_server.audit.verify import verify_database
from authsec_server.authority import Authority, initialise
from authsec_server.db import tables
from authsec_server.db.engine import Database
from authsec_server.keys.masterkey import create_master_key
from authsec_server.oauth.requests import ACCESS_TOKEN, TOKEN_EXCHANGE
from authsec_server.settings import ServerSettings
from authsec_server.testing import LocalPostgres, OnboardedAgent, RunningAuthority

Kind = Literal["sqlite", "postgresql", "replicas"]  # replicas: three server processes on PostgreSQL
KINDS: tuple[Kind, ...] = ("sqlite", "postgresql")
NOBODY = "00000000-0000-4000-8000-000000000000"
MADE_AT = 1_600_000_000.0  # epoch seconds: before every clock of a test
LIST_KEPT = 0.5  # seconds for which a server goes by the status list that it has
PATIENCE = 60.0  # seconds for what should come at once
# Of servers whose test is about no timeout: whoever is served in the end was served, on however busy a machine.
PATIENT: dict[str, Any] = {"database_timeout": 30.0, "request_timeout": PATIENCE, "header_timeout": PATIENCE}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Template:
    url: str
    master_key_file: Path
    admin_token: str


class Databases:
    """Databases with an initialised authority in them: made once for each kind, and copied for each who wants one."""

    def __init__(self, folder: Path, postgres: Callable[[], LocalPostgres]) -> None:
        self._folder = folder
        self._postgres = postgres
        self._templates: dict[tuple[Kind, bool], _Template] = {}
        self._count = 0

    @contextmanager
    def copy(self, kind: Kind, *, dev: bool = False) -> Iterator[_Template]:
        """Lend one."""
        template = self._templates.get((kind, dev)) or self._made(kind, dev)
        self._count += 1
        if kind == "sqlite":
            file = self._folder / f"copy-{self._count}.db"
            shutil.copy(template.url.removeprefix("sqlite:///"), file)
            yield _Template(
                url=f"sqlite:///{file}",
                master_key_file=template.master_key_file,
                admin_token=template.admin_token,
            )
            return
        url = self._postgres().create_database(template.url)
        yield _Template(url=url, master_key_file=template.master_key_file, admin_token=template.admin_token)
        self._postgres().drop_database(url)

    def _made(self, kind: Kind, dev: bool) -> _Template:
        name = f"{kind}-dev" if dev else kind
        key_file = self._folder / f"{name}.key"
        create_master_key(key_file)
        url = f"sqlite:///{self._folder / name}.db" if kind == "sqlite" else self._postgres().create_database()
        public_url = "http://127.0.0.1:8321"  # nobody hears of it: a copy has its own
        known: dict[str, Any] = {"dev": dev, "database_url": url, "master_key_file": key_file, "public_url": public_url}
        settings = ServerSettings(**known, **PATIENT)
        # Real servers go by the real time, and would replace a key of long ago.
        clock = SYSTEM_CLOCK if kind == "replicas" else FakeClock(wall=MADE_AT)
        credential = asyncio.run(initialise(settings, clock=clock))
        template = _Template(url=url, master_key_file=key_file, admin_token=credential.text())
        self._templates[kind, dev] = template
        return template


class Site:
    """An authority that runs, and what agents, operators and verifiers do there.

    Args:
        clock: What the authority goes by.
    """

    def __init__(self, kind: Kind, authority: RunningAuthority, http: httpx.Client, clock: Clock) -> None:
        self.kind = kind
        self.authority = authority
        self.http = http
        self.clock = clock

    @property
    def fake(self) -> FakeClock:
        """The clock, of a site whose time the test moves."""
        assert isinstance(self.clock, FakeClock)
        return self.clock

    @property
    def base_urls(self) -> list[str]:
        """Where its servers are reached."""
        return [self.authority.base_url]

    @contextmanager
    def replica(self, **settings: Any) -> Iterator[Site]:
        """Lend another server of the same authority."""
        with self.authority.replica(**settings) as authority:
            warm_up(authority)
            yield Site(self.kind, authority, self.http, self.clock)

    def onboard(self, permissions: str = "read:metrics", **more: Any) -> OnboardedAgent:
        """Register an agent with one delegation."""
        return self.authority.onboard(permissions, **more)

    def admin(self, method: str, path: str, *, status: int | None = None, **more: Any) -> Any:
        """Do something as the first admin, see that it got this status (or any good one), and return the body."""
        reply = self.authority.client.request(method, path, **more)
        assert reply.status_code == status if status else reply.is_success, f"{method} {path}: {reply.text}"
        return reply.json() if reply.content else None

    def ask(
        self,
        agent: OnboardedAgent | str,
        proof: str | None = "",
        *,
        headers: Mapping[str, str | bytes] | None = None,
        **query: Any,
    ) -> httpx.Response:
        """Ask for a delegation token.

        Args:
            proof: The whole `Authorization` header; by default the agent's key as a bearer, None is none at all.
        """
        client_id = agent if isinstance(agent, str) else agent.client_id
        if proof == "":
            assert isinstance(agent, OnboardedAgent)
            proof = f"Bearer {agent.agent_key}"
        given: dict[str, str | bytes] = {**({} if proof is None else {"Authorization": proof}), **(headers or {})}
        url = f"{self.authority.base_url}{DELEGATION_TOKEN_PATH}"
        return self.http.get(url, params={"client_id": client_id, **query}, headers=given)  # type: ignore[arg-type]  # bytes for a header that no str can be

    def oauth(
        self, endpoint: str, agent: OnboardedAgent | None = None, /, *, headers: Any = None, **form: Any
    ) -> httpx.Response:
        """Send a form to an OAuth endpoint, with the agent's id and key in Basic if one is given."""
        url = f"{self.authority.issuer}/oauth2/{endpoint}"
        auth = httpx.USE_CLIENT_DEFAULT if agent is None else httpx.BasicAuth(agent.client_id, agent.agent_key)
        return self.http.post(url, data=form, auth=auth, headers=dict(headers or {}))

    def exchange(self, agent: OnboardedAgent, token: str, **form: Any) -> httpx.Response:
        """Let an agent exchange a token."""
        asked = {"grant_type": TOKEN_EXCHANGE, "subject_token": token, "subject_token_type": ACCESS_TOKEN, **form}
        return self.oauth("token", agent, **asked)

    def after(self, seconds: float) -> str:
        """Return the instant that is so many seconds away, as the admin API writes it."""
        return format_time(self.clock.wall() + seconds)

    def token(self, agent: OnboardedAgent, **query: Any) -> str:
        """Return a token, which has to be given."""
        reply = self.ask(agent, **query)
        assert reply.status_code == 200, reply.text
        return str(reply.json()["token"])

    def operator(self, role: str, *, name: str) -> tuple[str, str]:
        """Name an operator; return their id and a token."""
        operator = self.admin("POST", "/operators", json={"name": name, "role": role})["operator_id"]
        return operator, self.admin("POST", f"/operators/{operator}/tokens", json={})["token"]

    def delegate(self, agent: OnboardedAgent, permissions: str, **more: Any) -> tuple[str, str]:
        """Delegate to an agent by a role of its own; return the role and the delegation's id."""
        role = more.pop("role", f"more-{agent.name}-{abs(hash((permissions, str(more))))}"[:64])
        self.admin("PUT", f"/roles/{role}", json={"permissions": permissions.split()})
        body = {"role": role, "target_type": "autonomous-workload", "client_id": agent.client_id}
        body |= {"max_duration": 3600, "unit": "seconds", **more}
        return role, self.admin("POST", "/trust-delegations", json=body)["delegation_id"]

    def entries(self, **filters: str) -> list[dict[str, Any]]:
        """Return the audit, the oldest entry first."""
        reply = self.authority.client.get("/audit", params={**filters, "format": "jsonl"})
        assert reply.status_code == 200
        return [json.loads(line) for line in reply.text.splitlines()]

    def status_list(self, number: int = 0) -> str:
        """Return the status list that this server publishes."""
        reply = self.http.get(f"{self.authority.base_url}/authsec/statuslists/{number}")
        assert reply.status_code == 200, reply.text
        return reply.text

    def is_listed(self, token: str) -> bool:
        """Return whether this server's status list says that the token was taken back."""
        place = peek(token)["status"]["status_list"]
        listed = peek(self.status_list(int(place["uri"].rpartition("/")[2])))["status_list"]
        bits = zlib.decompress(base64.urlsafe_b64decode(listed["lst"] + "=="))
        return bool(bits[place["idx"] // 8] >> (place["idx"] % 8) & 1)

    def forget_lists(self) -> None:
        """Let the next status list be made of what is in the database then: by the system's clock it may be kept."""

        async def forget(inner: Authority) -> None:
            inner.status_lists._kept.clear()

        self.authority.run(forget)

    @contextmanager
    def verifier(self, **settings: Any) -> Iterator[TokenVerifier]:
        """Lend core's verifier with its default settings, which reads what this server publishes."""
        with Balanced(*self.base_urls) as transport:
            yield TokenVerifier(
                issuer=self.authority.issuer,
                audience="authsec-api",
                jwks_url=self.authority.jwks_url,
                transport=transport,
                clock=self.clock,
                **settings,
            )

    def check_audit(self) -> int:
        """Verify the chain, and return how many entries it has."""
        return self.authority.run(lambda inner: verify_database(inner.database)).entries


class ReplicatedSite(Site):
    """An authority of three server processes, each of which gets every third request.

    Attributes:
        servers: The processes.
        is_troubled: Whether the log may show failures, since the test makes some.
    """

    def __init__(self, servers: Replicas, http: httpx.Client) -> None:
        # It offers what a test needs that goes over HTTP alone; the others do not run on this kind.
        super().__init__("replicas", cast(RunningAuthority, servers), http, SYSTEM_CLOCK)
        self.servers = servers
        self.is_troubled = False

    def is_listed(self, token: str) -> bool:
        """Return whether the next server's list says so, if it is read after this: one half a second old may serve."""
        old_until, asked_at = SYSTEM_CLOCK.steady() + LIST_KEPT, 0.0
        while asked_at <= old_until:
            asked_at = SYSTEM_CLOCK.steady()
            if super().is_listed(token):
                return True
        return False

    @property
    def base_urls(self) -> list[str]:
        """Where its servers are reached."""
        return self.servers.base_urls


OpenSite = Callable[..., AbstractContextManager[Site]]
OpenReplicas = Callable[..., AbstractContextManager[ReplicatedSite]]


@contextmanager
def running_site(
    databases: Databases, kind: Kind, *, clock: Clock = SYSTEM_CLOCK, dev: bool = False, **settings: Any
) -> Iterator[Site]:
    """Lend a site, without rate limits or short timeouts unless they are given: all tests come from one address.

    When it is given back, its audit has to be whole, whatever was done to it meanwhile.
    """
    settings = {"client_rate": 0, "refusal_rate": 0, **PATIENT, **settings}
    with ExitStack() as stack:
        database = stack.enter_context(databases.copy(kind, dev=dev))
        authority = RunningAuthority(
            clock=clock, dev=dev, database_url=database.url, master_key_file=database.master_key_file, **settings
        )
        authority._admin_token = database.admin_token  # it was initialised already, as a template
        stack.enter_context(authority)
        warm_up(authority)
        http = stack.enter_context(httpx.Client(verify=BARE, trust_env=False, timeout=PATIENCE))
        found = Site(kind, authority, http, clock)
        yield found
        assert found.check_audit() > 0


@contextmanager
def replicated_site(databases: Databases, nursery: Nursery, folder: Path, **settings: Any) -> Iterator[ReplicatedSite]:
    """Lend a site of three server processes. When it is given back, its audit is whole, and no server has failed.

    Args:
        settings: Of all servers.
    """
    with databases.copy("replicas") as database:
        given = {
            "client_rate": 0,
            "refusal_rate": 0,
            "master_key_file": database.master_key_file,
            "log_level": "WARNING",
            **PATIENT,
            **settings,
        }
        servers = Replicas(nursery, folder, database_url=database.url, admin_token=database.admin_token, **given)
        with servers, httpx.Client(verify=BARE, trust_env=False, timeout=PATIENCE) as http:
            found = ReplicatedSite(servers, http)
            yield found
            assert found.check_audit() > 0
            assert found.is_troubled or "Traceback" not in servers.log, servers.log


def wait_until(holds: Callable[[], bool]) -> None:
    """Ask again and again until something holds that is promised to hold soon."""
    ends_at = SYSTEM_CLOCK.steady() + PATIENCE
    while not holds():
        assert SYSTEM_CLOCK.steady() < ends_at, "it does not come"


def warm_up(authority: RunningAuthority) -> None:
    """Make the first request, for which newer versions of FastAPI build their routes, with warnings silenced meanwhile.

    That is not to happen in two threads at once, for `warnings.catch_warnings` is the process's.
    """
    assert authority.client.get("/whoami/none").status_code == 404


def peek(token: str) -> dict[str, Any]:
    """Return what a JWS says, unverified."""
    claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    return claims


@dataclass(frozen=True, slots=True)
class Call:
    """One of many requests that are made at once."""

    method: str
    url: str
    bearer: str = ""
    body: object = None
    form: str = ""


def at_once(calls: Sequence[Call]) -> list[httpx.Response]:
    """Make all these requests, each on a connection of its own, and return the replies in the same order."""

    async def run() -> list[httpx.Response]:
        return list(await asyncio.gather(*[_send(call) for call in calls]))

    return asyncio.run(run())


async def _send(call: Call) -> httpx.Response:
    # By hand, for an HTTP client takes longer for each of these than the authority does.
    parts = urlsplit(call.url)
    body = call.form.encode() if call.body is None else json.dumps(call.body).encode()
    head = [
        f"{call.method} {parts.path}?{parts.query} HTTP/1.1",
        f"Host: {parts.netloc}",
        f"Content-Length: {len(body)}",
        f"Content-Type: application/{'x-www-form-urlencoded' if call.form else 'json'}",
        "Connection: close",
        *([f"Authorization: Bearer {call.bearer}"] if call.bearer else []),
    ]
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        writer.write("\r\n".join(head).encode() + b"\r\n\r\n" + body)
        answer = await asyncio.wait_for(reader.read(), PATIENCE)
    finally:
        writer.close()
    first, _, content = answer.partition(b"\r\n\r\n")
    return httpx.Response(int(first.split()[1]), content=content)


@contextmanager
def starting_line(count: int, *sites: Site) -> Iterator[None]:
    """Hold whoever wants to write at these servers, until `count` of them have read all that they read before.

    So none of them can win by being through before the others came, and what was read outside of a transaction is old.
    """
    line = _StartingLine(count)
    for each in sites:
        each.authority.run(line.draw)
    try:
        yield
    finally:
        for each in sites:
            each.authority.run(line.erase)


class _StartingLine:
    def __init__(self, count: int) -> None:
        self._missing = count
        self._lock = threading.Lock()
        self._open: list[Callable[[], object]] = []

    async def draw(self, inner: Authority) -> None:
        opened, loop, enqueue = asyncio.Event(), asyncio.get_running_loop(), inner.ledger._enqueue
        self._open.append(lambda: loop.call_soon_threadsafe(opened.set))

        async def held(queue: Any, item: Any) -> Any:
            self._arrive()
            await opened.wait()
            return await enqueue(queue, item)

        vars(inner.ledger)["_enqueue"] = held

    async def erase(self, inner: Authority) -> None:
        del vars(inner.ledger)["_enqueue"]

    def _arrive(self) -> None:
        with self._lock:
            self._missing -= 1
            all_here = self._missing == 0
        if all_here:
            for opens in self._open:
                opens()


@contextmanager
def busy_database(url: str) -> Iterator[Callable[[], None]]:
    """Hold the database's one place for writers, as another process would; the function that is lent lets go of it."""
    taken, released = threading.Event(), threading.Event()

    async def hold() -> None:
        database = Database(url, clock=SYSTEM_CLOCK, timeout=PATIENCE)  # PostgreSQL ends who is idle for longer

        async def work(connection: Any) -> None:
            await connection.execute(sa.select(tables.head).with_for_update())
            taken.set()
            await asyncio.to_thread(released.wait, PATIENCE)

        try:
            await database.write(work)
        finally:
            await database.close()

    with ThreadPoolExecutor(1) as thread:
        holding = thread.submit(asyncio.run, hold())
        assert taken.wait(PATIENCE)

        def let_go() -> None:
            released.set()
            holding.result(PATIENCE)

        try:
            yield let_go
        finally:
            let_go()


def hurry(site: Site, seconds: float) -> None:
    """Have this server wait only so long for whoever writes; all else that it does may take as long as before."""

    async def work(inner: Authority) -> None:
        inner.database._timeout = seconds
        if not inner.database.is_sqlite:
            limit = sa.text(f"SET lock_timeout = {int(seconds * 1000)}")
            await inner.database.write(lambda connection: connection.execute(limit))
            await inner.database.settle(lambda connection: connection.execute(limit))

    site.authority.run(work)


def inside(site: Site, work: Callable[[Authority], Awaitable[Any]]) -> Any:
    """Run something with the authority itself, on its own loop."""
    return site.authority.run(work)


def rows(site: Site) -> list[tuple[str, tuple[Any, ...]]]:
    """Return everything that is in the database, with the name of its table."""

    async def read(inner: Authority) -> list[tuple[str, tuple[Any, ...]]]:
        async with inner.database.read() as connection:
            found = []
            for table in tables.METADATA.sorted_tables:
                found += [(table.name, tuple(row)) for row in await connection.execute(sa.select(table))]
            return found

    return site.authority.run(read)
