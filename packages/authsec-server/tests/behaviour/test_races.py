"""Of many who try the same at once exactly one wins, on each database, at one server and at three.

Everyone is held at the ledger's door until all of them stand there (`starting_line`): nobody wins by coming first, and
what was read before the door is old for all but one.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from behaviour.support import (
    BARE,
    PATIENCE,
    Call,
    Databases,
    Kind,
    OpenSite,
    Site,
    at_once,
    busy_database,
    hurry,
    peek,
    running_site,
    starting_line,
)

from authsec_core._clock import SYSTEM_CLOCK
from authsec_core.testing import FakeClock
from authsec_server.db.tables import operators
from authsec_server.testing import OnboardedAgent

MANY = 64
SDK = "/authsec/uflow/sdk/delegation-token"


@pytest.fixture(scope="module", params=[1, 3], ids=["one server", "three servers"])
def servers(request: pytest.FixtureRequest, databases: Databases, kind: Kind) -> Iterator[list[Site]]:
    """One server, or three of one authority."""
    with ExitStack() as stack:
        first = stack.enter_context(running_site(databases, kind))
        yield [first, *(stack.enter_context(first.replica()) for _ in range(request.param - 1))]


def spread(servers: Sequence[Site], method: str, path: str, bodies: Sequence[object]) -> list[Call]:
    """Return one call for each body, at one server after the other."""
    found = []
    for number, body in enumerate(bodies):
        authority = servers[number % len(servers)].authority
        found.append(Call(method, f"{authority.base_url}/api/v1{path}", authority.admin_token, body))
    return found


def race(servers: Sequence[Site], method: str, path: str, bodies: Sequence[object] = (None,) * MANY) -> Counter[int]:
    """Send all at once, and return how often each status came."""
    with starting_line(len(bodies), *servers):
        replies = at_once(spread(servers, method, path, bodies))
    return Counter(reply.status_code for reply in replies)


def entries_since(site: Site, seq: int, **filters: str) -> list[dict[str, Any]]:
    """Return the entries that are newer."""
    return [entry for entry in site.entries(**filters) if entry["seq"] > seq]


def last_seq(site: Site) -> int:
    """Return the number of the last entry."""
    return int(site.admin("GET", "/audit", params={"limit": 1})["items"][0]["seq"])


def _token(site: Site, agent: OnboardedAgent) -> str:
    return f"/tokens/{peek(site.token(agent))['jti']}/revoke"


REVOCATIONS: dict[str, tuple[int, Callable[[Site, OnboardedAgent], str]]] = {
    "token.revoke": (204, _token),
    "client.revoke": (200, lambda _, agent: f"/clients/{agent.client_id}/revoke"),
    "key.revoke": (200, lambda _, agent: f"/clients/{agent.client_id}/keys/{agent.key_id}/revoke"),
    "delegation.revoke": (200, lambda _, agent: f"/trust-delegations/{agent.delegation_id}/revoke"),
}


@pytest.mark.req("RA8")
@pytest.mark.parametrize("action", list(REVOCATIONS))
def test_one_revokes(servers: list[Site], action: str) -> None:
    """64 revoke the same: one has done it, 63 are told that it was done before, and the audit has one entry."""
    first = servers[0]
    done, address = REVOCATIONS[action]
    path, before = address(first, first.onboard()), last_seq(first)
    assert race(servers, "POST", path) == {done: 1, 409: MANY - 1}
    (entry,) = entries_since(first, before)
    assert (entry["action"], entry["decision"]) == (action, "allow")


@pytest.mark.req("RA8")
def test_one_revokes_an_operators_token(servers: list[Site]) -> None:
    """The same for those who run the authority."""
    first = servers[0]
    operator, token = first.operator("auditor", name="once")
    before = last_seq(first)
    path = f"/operators/{operator}/tokens/{token.partition('.')[0]}/revoke"
    assert race(servers, "POST", path) == {200: 1, 409: MANY - 1}
    assert [entry["action"] for entry in entries_since(first, before)] == ["operator_token.revoke"]


@pytest.mark.req("RA8")
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/clients", {"name": "the only one", "agent_type": "mcp-agent", "platform": "docker"}),
        ("/operators", {"name": "the only one", "role": "auditor"}),
    ],
)
def test_one_has_the_name(servers: list[Site], path: str, body: dict[str, str]) -> None:
    """64 take the same name: one has it, 63 are told that it is taken; nothing of theirs is left."""
    first, before = servers[0], last_seq(servers[0])
    assert race(servers, "POST", path, [body] * MANY) == {201: 1, 409: MANY - 1}
    assert len(entries_since(first, before)) == 1
    named = [one for one in first.admin("GET", path, params={"limit": 200})["items"] if one["name"] == "the only one"]
    assert len(named) == 1


@pytest.mark.req("RA8")
def test_one_makes_the_role(servers: list[Site]) -> None:
    """64 say the same of a new role: it is made once, and said once."""
    first, before = servers[0], last_seq(servers[0])
    bodies = [{"permissions": ["read:metrics"]}] * MANY
    assert race(servers, "PUT", "/roles/made-once", bodies) == {201: 1, 200: MANY - 1}
    assert [entry["action"] for entry in entries_since(first, before)] == ["role.put"]


@pytest.mark.req("RA8")
def test_one_activates(servers: list[Site]) -> None:
    """64 activate the same prepared key: one has done it; there is one active key, with which everyone signs."""
    first, before = servers[0], last_seq(servers[0])
    kid = first.admin("POST", "/signing-keys/prepare", status=201)["kid"]
    assert race(servers, "POST", f"/signing-keys/{kid}/activate", [{"at_once": True}] * MANY) == {200: 1, 409: MANY - 1}
    active = [key["kid"] for key in first.admin("GET", "/signing-keys")["items"] if key["state"] == "active"]
    assert active == [kid]
    done = [entry["action"] for entry in entries_since(first, before)]
    assert done.count("signing_key.activate") == 1


@pytest.mark.req("RA8")
def test_one_of_several_keys_is_active(servers: list[Site]) -> None:
    """Of several prepared keys that are activated at once each has its turn: in the end one is active, none is lost."""
    first = servers[0]
    kids = [first.admin("POST", "/signing-keys/prepare", status=201)["kid"] for _ in range(3)]
    with starting_line(len(kids), *servers):
        replies = at_once(
            [
                call
                for number, kid in enumerate(kids)
                for call in spread(
                    servers[number % len(servers) :] + servers,
                    "POST",
                    f"/signing-keys/{kid}/activate",
                    [{"at_once": True}],
                )
            ]
        )
    assert {reply.status_code for reply in replies} == {200}
    states = Counter(key["state"] for key in first.admin("GET", "/signing-keys")["items"] if key["kid"] in kids)
    assert states == {"active": 1, "retired": 2}


@pytest.mark.req("RA8")
def test_the_last_admin_stays(servers: list[Site]) -> None:
    """All admins are disabled at once, each by the one before them: one stays, or nobody could ever enable them."""
    first = servers[0]
    (own,) = [each["operator_id"] for each in first.admin("GET", "/operators")["items"] if each["name"] == "admin"]
    admins = [(own, first.authority.admin_token), *(first.operator("admin", name=f"admin {n}") for n in range(7))]
    calls = [
        Call(
            method="PATCH",
            url=f"{servers[n % len(servers)].authority.base_url}/api/v1/operators/{admins[(n + 1) % len(admins)][0]}",
            bearer=token,
            body={"enabled": False},
        )
        for n, (_, token) in enumerate(admins)
    ]
    with starting_line(len(calls), *servers):
        replies = Counter(reply.status_code for reply in at_once(calls))
    enabled = first.authority.run(_enabled)
    # The one who is left lets the others in again; from inside, for it may not be the one whose token we have.
    first.authority.run(_enable_all)
    assert replies.keys() <= {200, 401, 409}
    assert 1 <= enabled == len(admins) - replies[200]


async def _enabled(inner: Any) -> int:
    async with inner.database.read() as connection:
        return len(
            (
                await connection.execute(sa.select(operators).where(operators.c.enabled, operators.c.role == "admin"))
            ).all()
        )


async def _enable_all(inner: Any) -> None:
    await inner.database.write(lambda connection: connection.execute(sa.update(operators).values(enabled=True)))


@pytest.mark.req("RA8")
@pytest.mark.parametrize(
    ("what", "method", "path", "body", "refused"),
    [
        ("client.revoke", "POST", "/clients/{client_id}/revoke", None, 410),
        ("client.disable", "PATCH", "/clients/{client_id}", {"state": "disabled"}, 403),
        ("key.revoke", "POST", "/clients/{client_id}/keys/{key_id}/revoke", None, 401),
        ("delegation.revoke", "POST", "/trust-delegations/{delegation_id}/revoke", None, 410),
        ("role.put", "PUT", "/roles/{role}", {"permissions": []}, 403),
    ],
)
def test_a_revocation_among_requests_cuts_them_in_two(
    servers: list[Site], what: str, method: str, path: str, body: object, refused: int
) -> None:
    """Requests and a revocation at once: each is before it, and its token is taken back, or after it, and has none."""
    first = servers[0]
    agent = first.onboard()
    before = last_seq(first)
    names = ("client_id", "key_id", "delegation_id", "role")
    (revocation,) = spread(servers, method, path.format(**{name: getattr(agent, name) for name in names}), [body])
    asks = [
        Call(
            "GET",
            f"{servers[number % len(servers)].authority.base_url}{SDK}?client_id={agent.client_id}",
            agent.agent_key,
        )
        for number in range(MANY - 1)
    ]
    with starting_line(MANY, *servers):
        replies = at_once([*asks[: MANY // 2], revocation, *asks[MANY // 2 :]])
    revoked = replies.pop(MANY // 2)
    assert revoked.is_success, revoked.text
    statuses = Counter(reply.status_code for reply in replies)
    assert set(statuses) <= {200, refused}, statuses
    assert [server.ask(agent).status_code for server in servers] == [refused] * len(servers)
    tokens = [reply.json()["token"] for reply in replies if reply.status_code == 200]
    for server in servers:
        server.forget_lists()
        assert all(server.is_listed(token) for token in tokens)
    entries = entries_since(first, before)
    (cut,) = [entry["seq"] for entry in entries if entry["action"] == what]
    issued = [entry["seq"] for entry in entries if entry["action"] == "token.issue" and entry["decision"] == "allow"]
    assert len(issued) == len(tokens)
    assert all(seq < cut for seq in issued)


@pytest.mark.req("RA8")
def test_after_the_answer_there_is_no_token(servers: list[Site]) -> None:
    """While others ask without a pause, a revocation is acknowledged; who asks from then on gets nothing, anywhere."""
    first = servers[0]
    agent = first.onboard()
    acknowledged, asked = threading.Event(), threading.Semaphore(0)

    def ask(server: Site) -> list[tuple[bool, int, str | None]]:
        found = []
        after = 0
        while after < 3:
            was_acknowledged = acknowledged.is_set()
            reply = server.ask(agent)
            found.append((was_acknowledged, reply.status_code, reply.json().get("token")))
            after += was_acknowledged
            asked.release()
        return found

    with ThreadPoolExecutor(6) as threads:
        asking = [threads.submit(ask, servers[number % len(servers)]) for number in range(6)]
        try:
            for _ in range(20):
                assert asked.acquire(timeout=PATIENCE)
            first.admin("POST", f"/clients/{agent.client_id}/revoke", status=200)
        finally:
            acknowledged.set()
        found = [one for future in asking for one in future.result(PATIENCE)]
    assert {status for after, status, _ in found if after} == {410}
    assert {status for _, status, _ in found} == {200, 410}
    first.forget_lists()
    listed = {peek(token)["jti"] for _, _, token in found if token and first.is_listed(token)}
    assert listed == {peek(token)["jti"] for _, _, token in found if token}


@pytest.mark.req("RA8")
def test_places_in_the_status_list_are_given_once(servers: list[Site]) -> None:
    """Tokens that are issued at once, anywhere: each has a `jti` and a place of its own, and the audit no gap."""
    first = servers[0]
    agents = [first.onboard() for _ in range(4)]
    before = last_seq(first)
    calls = [
        Call(
            "GET",
            f"{servers[number % len(servers)].authority.base_url}{SDK}?client_id={agent.client_id}",
            agent.agent_key,
        )
        for number, agent in enumerate(agents * (MANY // 4))
    ]
    with starting_line(MANY, *servers):
        replies = at_once(calls)
    claims = [peek(reply.json()["token"]) for reply in replies]
    assert len({one["jti"] for one in claims}) == MANY
    assert len({one["status"]["status_list"]["idx"] for one in claims}) == MANY
    seqs = [entry["seq"] for entry in first.entries()]
    assert seqs == list(range(1, before + MANY + 1))
    first.check_audit()


class _Patient:
    """The system's clock, which notes that somebody waits for the next try."""

    def __init__(self) -> None:
        self.waiting = threading.Event()
        self.wall, self.steady, self.sleep = SYSTEM_CLOCK.wall, SYSTEM_CLOCK.steady, SYSTEM_CLOCK.sleep
        self.chance = SYSTEM_CLOCK.chance

    async def asleep(self, seconds: float) -> None:
        self.waiting.set()
        await SYSTEM_CLOCK.asleep(seconds)


@pytest.mark.req("RA8")
def test_a_busy_database_is_tried_again(open_site: OpenSite) -> None:
    """While another process holds the writers' place, requests wait and try again; let go, all are answered."""
    clock = _Patient()
    with open_site(clock=clock) as site:
        agent = site.onboard()
        url = site.authority.settings.database_url.get_secret_value()
        begun = threading.Event()
        site.authority.run(lambda inner: _note_writing(inner, begun))
        with busy_database(url) as let_go, ThreadPoolExecutor(3) as threads:
            clock.waiting.clear()
            token = threads.submit(site.ask, agent)
            change = threads.submit(site.admin, "PUT", "/roles/in-the-meantime", json={"permissions": []})
            tried = clock.waiting if site.kind == "sqlite" else begun  # PostgreSQL lines up who waits by itself
            assert tried.wait(PATIENCE)
            assert not token.done()
            let_go()
            assert token.result(PATIENCE).status_code == 200
            assert change.result(PATIENCE)["name"] == "in-the-meantime"


async def _note_writing(inner: Any, begun: threading.Event) -> None:
    def noting(way: Any) -> Any:
        async def noted(work: Any) -> Any:
            begun.set()
            return await way(work)

        return noted

    for name in ("settle", "write"):  # whichever of the two is first in line
        vars(inner.database)[name] = noting(getattr(inner.database, name))


@pytest.mark.req("RA8")
@pytest.mark.req("RU1")
def test_a_database_that_stays_busy_is_a_503(open_site: OpenSite) -> None:
    """No token and no change come of it, the answer says when to try again, and then it works."""
    with open_site(clock=FakeClock()) as site:
        agent = site.onboard()
        hurry(site, 0.25)
        with busy_database(site.authority.settings.database_url.get_secret_value()) as let_go:
            replies: list[httpx.Response] = [
                site.ask(agent),
                site.authority.client.post(f"/clients/{agent.client_id}/revoke"),
            ]
            for reply in replies:
                assert reply.status_code == 503, reply.text
                assert int(reply.headers["retry-after"]) > 0
                assert "token" not in reply.json()
            let_go()
        assert site.ask(agent).status_code == 200


@pytest.mark.req("RA8")
def test_who_hangs_up_loses_nothing(open_site: OpenSite) -> None:
    """A revocation whose caller does not wait for the answer is made all the same."""
    with open_site() as site:
        agent = site.onboard()

        async def hang_up() -> None:
            async with httpx.AsyncClient(trust_env=False, verify=BARE, timeout=PATIENCE) as client:
                url = f"{site.authority.base_url}/api/v1/clients/{agent.client_id}/revoke"
                headers = {"Authorization": f"Bearer {site.authority.admin_token}"}
                task = asyncio.create_task(client.post(url, headers=headers))
                await asyncio.to_thread(begun.wait, PATIENCE)
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

        with busy_database(site.authority.settings.database_url.get_secret_value()) as let_go:
            begun = threading.Event()
            site.authority.run(lambda inner: _note_writing(inner, begun))
            asyncio.run(hang_up())
            let_go()
        assert site.ask(agent).status_code == 410
