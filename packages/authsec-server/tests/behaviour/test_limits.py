"""Floods: who has to wait, who has not, what it leaves behind, and what a stranger's guess costs."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from behaviour.support import NOBODY, OpenSite, Site, inside

from authsec_core.testing import FakeClock
from authsec_core.wire import DELEGATION_TOKEN_PATH
from authsec_server.authority import Authority
from authsec_server.testing import OnboardedAgent

AT_ONCE = 5  # that the rates below let through
WRONG = "Bearer agk_0123456789abcdef.0123456789012345678901234567890123456789012"


@pytest.fixture
def limited(open_site: OpenSite) -> Iterator[Site]:
    """An authority behind a proxy, where five may come at once; its clock stands still."""
    rates = {"client_rate": AT_ONCE / 10, "refusal_rate": AT_ONCE / 10}
    with open_site(clock=FakeClock(), trusted_proxies="127.0.0.1", **rates) as site:
        yield site


def ask(site: Site, agent: OnboardedAgent | str, proof: str = "", *, home: str, **query: Any) -> httpx.Response:
    """Ask for a token, from this address."""
    return site.ask(agent, proof, headers={"X-Forwarded-For": home}, **query)


def call(site: Site, token: str | None, *, home: str) -> httpx.Response:
    """Ask who this operator is, from this address."""
    headers = {"X-Forwarded-For": home} | ({} if token is None else {"Authorization": f"Bearer {token}"})
    return site.http.get(f"{site.authority.base_url}/api/v1/whoami", headers=headers)


def waits(reply: httpx.Response) -> bool:
    """Return whether it has to wait, and see that it is told how long in the shape of its endpoint."""
    if reply.status_code != 429:
        return False
    assert int(reply.headers["retry-after"]) >= 1
    code = reply.json()["details"] if DELEGATION_TOKEN_PATH in str(reply.url) else reply.json()["code"]
    assert code == "rate_limited"
    return True


@pytest.mark.req("RA9")
def test_who_guesses_has_to_wait(limited: Site) -> None:
    """Unknown clients, wrong keys, requests that cannot be read and operators' tokens: together, for one address."""
    agent = limited.onboard()
    guesses = [
        ask(limited, NOBODY, WRONG, home="203.0.113.1"),
        ask(limited, agent, WRONG, home="203.0.113.1"),
        ask(limited, "no uuid", WRONG, home="203.0.113.1"),
        call(limited, None, home="203.0.113.1"),
        call(limited, WRONG.partition(" ")[2].replace("agk", "opt"), home="203.0.113.1"),
    ]
    assert [reply.status_code for reply in guesses] == [404, 401, 400, 401, 401]
    entries = len(limited.entries())
    for reply in (
        ask(limited, NOBODY, WRONG, home="203.0.113.1"),
        ask(limited, "no uuid", WRONG, home="203.0.113.1"),
        ask(limited, agent, home="203.0.113.1"),
        call(limited, None, home="203.0.113.1"),
        call(limited, limited.authority.admin_token, home="203.0.113.1"),
    ):
        assert waits(reply)
    assert len(limited.entries()) == entries, "what has to wait is no entry of the audit"
    assert ask(limited, agent, home="203.0.113.2").status_code == 200
    assert call(limited, limited.authority.admin_token, home="203.0.113.2").status_code == 200
    limited.fake.advance(2)
    assert ask(limited, agent, home="203.0.113.1").status_code == 200


@pytest.mark.req("RA9")
def test_a_stranger_who_knows_its_id_does_not_lock_an_agent_out(limited: Site) -> None:
    """A client id is no secret: wrong proofs for it are charged to where they come from."""
    agent = limited.onboard()
    for number in range(10 * AT_ONCE):
        assert ask(limited, agent, WRONG, home=f"203.0.113.{number}").status_code == 401
    assert ask(limited, agent, home="192.0.2.1").status_code == 200


@pytest.mark.req("RA9")
@pytest.mark.parametrize("query", [{}, {"scope": "write:everything"}])
def test_an_agent_has_its_rate(limited: Site, query: dict[str, str]) -> None:
    """For what it is given and for what is refused to it, wherever it asks from; others at its address go on."""
    agent, other = limited.onboard(), limited.onboard()
    expected = 403 if query else 200
    for number in range(AT_ONCE):
        assert ask(limited, agent, home=f"192.0.2.{number}", **query).status_code == expected
    entries = len(limited.entries())
    assert all(waits(ask(limited, agent, home=f"192.0.2.{number}")) for number in range(3))
    assert len(limited.entries()) == entries
    assert ask(limited, other, home="192.0.2.1").status_code == 200
    limited.fake.advance(2)
    assert ask(limited, agent, home="192.0.2.1").status_code == 200
    assert waits(ask(limited, agent, home="192.0.2.1"))


@pytest.mark.req("RA9")
def test_an_ipv6_connection_is_one_guesser(limited: Site) -> None:
    """Another of its 2^64 addresses gives no new guess."""
    for number in range(AT_ONCE):
        assert call(limited, None, home=f"2001:db8::{number}").status_code == 401
    assert waits(call(limited, None, home="2001:db8::ffff"))
    assert call(limited, None, home="2001:db8:0:1::1").status_code == 401


def test_a_role_that_does_not_suffice_is_no_guess(limited: Site) -> None:
    """An operator who tries too much is known, and on record: that costs the address nothing."""
    _, token = limited.operator("auditor", name="curious")
    headers = {"Authorization": f"Bearer {token}", "X-Forwarded-For": "203.0.113.1"}
    for _ in range(3 * AT_ONCE):
        reply = limited.http.post(f"{limited.authority.base_url}/api/v1/signing-keys/prepare", headers=headers)
        assert reply.status_code == 403


@pytest.mark.req("RA9")
def test_replicas_count_together(open_site: OpenSite) -> None:
    """With `shared_limits`: who is refused at one, waits at the other a second later."""
    rates = {"client_rate": 0.02, "refusal_rate": 0.02, "shared_limits": True}
    with open_site(clock=FakeClock(), trusted_proxies="127.0.0.1", **rates) as site, site.replica() as twin:
        agent = site.onboard()
        for each in (site, twin):
            assert call(each, None, home="203.0.113.1").status_code == 401
        assert ask(site, agent, home="192.0.2.1").status_code == 200
        assert ask(twin, agent, home="192.0.2.1").status_code == 200  # it does not know yet
        told: dict[str, int] = {}
        for each in (site, twin):
            inside(each, exchange)
        for reply in (call(twin, None, home="203.0.113.1"), ask(twin, agent, home="192.0.2.1")):
            assert waits(reply)
            told[str(reply.url.path)] = int(reply.headers["retry-after"])
        assert all(50 < seconds <= 100 for seconds in told.values()), told


async def exchange(inner: Authority) -> None:
    """Do once what the chores do every second."""
    await inner.shared_limits.exchange()


@contextmanager
def counted_statements(site: Site) -> Iterator[list[str]]:
    """Count what this server asks its database."""
    found: list[str] = []

    def count(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        found.append(statement.split(None, 1)[0])

    async def engines(inner: Authority) -> list[Any]:
        return [inner.database._reader.sync_engine, inner.database._writer.sync_engine]

    watched = inside(site, engines)
    for engine in watched:
        sa.event.listen(engine, "before_cursor_execute", count)
    try:
        yield found
    finally:
        for engine in watched:
            sa.event.remove(engine, "before_cursor_execute", count)


@pytest.mark.req("RA9")
def test_an_unknown_id_costs_what_a_known_one_costs(site: Site) -> None:
    """As many statements, and one entry of about the same size: for agents at first sight and later, and operators."""
    admin = site.authority.admin_token.partition(".")[0]
    known_token, unknown_token = (f"Bearer {token_id}.{'A' * 43}" for token_id in (admin, "opt_0123456789abcdef"))
    warm, fresh = site.onboard(), site.onboard()
    site.ask(warm)  # what is read once for all agents is read
    costs: dict[str, list[str]] = {}
    for name, client_id in (("known", fresh.client_id), ("unknown", NOBODY)):
        for turn in ("first", "again"):
            with counted_statements(site) as made:
                assert site.ask(client_id, WRONG).status_code in (401, 404)
            costs[f"{name} {turn}"] = sorted(made)
    assert costs["unknown again"] == costs["known again"]
    assert len(costs["unknown first"]) <= len(costs["known first"])
    sizes = [len(json.dumps(entry)) for entry in site.entries(action="token.issue")[-4:]]
    assert max(sizes) - min(sizes) < 20
    url = f"{site.authority.base_url}/api/v1/whoami"
    for name, token in (("known operator", known_token), ("unknown operator", unknown_token)):
        with counted_statements(site) as made:
            assert site.http.get(url, headers={"Authorization": token}).status_code == 401
        costs[name] = made
    # A wrong secret for a token that exists is recorded; a stranger's invention costs less, and never more.
    assert len(costs["unknown operator"]) <= len(costs["known operator"])
