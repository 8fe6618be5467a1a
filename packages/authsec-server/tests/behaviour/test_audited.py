"""Is everything in the audit before anyone has it, told apart into proven and claimed, whole, and fit to be read?"""

from __future__ import annotations

import json
import re
import socket
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import sqlalchemy as sa
from behaviour.support import BARE, NOBODY, PATIENCE, PATIENT, OpenSite, Site

from authsec_core.testing import FakeClock
from authsec_server.authority import Authority
from authsec_server.db.tables import audit
from authsec_server.errors import DamagedAuditError
from authsec_server.testing import LocalPostgres, OnboardedAgent, RunningAuthority

REASON = "quarterly report"


def entry_of(site: Site, jti: str) -> dict[str, Any]:
    """Return the one entry about a token's issue."""
    (entry,) = site.entries(jti=jti, action="token.issue")
    return entry


def hostile_request(site: Site, agent: OnboardedAgent, headers: list[bytes]) -> int:
    """Send a request with header lines that no client would write, and return the status."""
    parts = urlsplit(site.authority.base_url)
    head = [
        f"GET /authsec/uflow/sdk/delegation-token?client_id={agent.client_id} HTTP/1.1".encode(),
        f"Host: {parts.netloc}".encode(),
        f"Authorization: Bearer {agent.agent_key}".encode(),
        b"Connection: close",
        *headers,
    ]
    with socket.create_connection((parts.hostname, parts.port), timeout=30) as line, line.makefile("rb") as answer:
        line.sendall(b"\r\n".join(head) + b"\r\n\r\n")
        status = int(answer.readline().split()[1])
        with suppress(ConnectionResetError):
            answer.read()
        return status


@pytest.mark.req("RU1")
def test_the_entry_is_there_before_the_token_is_signed(open_site: OpenSite) -> None:
    """When the token is about to be signed, its entry and its row can be read by everyone else already."""
    with open_site() as site:
        agent = site.onboard()
        seen: list[tuple[str, int]] = []

        async def watch(inner: Authority) -> None:
            sign = inner.keyring.sign

            async def watched(kid: str, header: Any, claims: Any) -> str:
                async with inner.database.read() as connection:
                    count = sa.select(sa.func.count()).select_from(audit).where(audit.c.jti == claims["jti"])
                    seen.append((claims["jti"], (await connection.execute(count)).scalar_one()))
                return await sign(kid, header, claims)

            vars(inner.keyring)["sign"] = watched

        site.authority.run(watch)
        jti = site.ask(agent).json()["jti"]
        assert seen == [(jti, 1)]


@pytest.mark.req("RU1")
@pytest.mark.parametrize("table", ["audit", "head", "tokens"])
def test_without_the_entry_there_is_no_token(open_site: OpenSite, table: str) -> None:
    """Where the audit, its head or the token's row cannot be written: 503, no token; then it goes on."""
    with open_site(clock=FakeClock()) as site:
        agent = site.onboard()
        before = len(site.entries())
        site.authority.run(lambda inner: _rename(inner, table, f"{table}_away"))
        try:
            replies = [site.ask(agent), site.authority.client.post(f"/clients/{agent.client_id}/revoke")]
            for reply in replies:
                assert reply.status_code == 503, reply.text
                assert not re.search(r"eyJ|token\"|away|sql", reply.text, re.IGNORECASE)
        finally:
            site.authority.run(lambda inner: _rename(inner, f"{table}_away", table))
        assert len(site.entries()) == before
        assert site.ask(agent).status_code == 200


@pytest.mark.req("RU1")
def test_while_the_database_is_down_there_is_no_token() -> None:
    """PostgreSQL stops: 503 for agents, operators and verifiers, and not ready; it is back, and nothing is missing."""
    with LocalPostgres(fsync=False) as server:
        url = server.create_database()
        clock = FakeClock()  # by which nobody has to wait until the authority has tried for long enough
        with (
            RunningAuthority(clock=clock, database_url=url, **PATIENT) as authority,
            httpx.Client(verify=BARE, trust_env=False, timeout=PATIENCE) as http,
        ):
            site = Site("postgresql", authority, http, clock)
            agent = site.onboard()
            before = site.ask(agent).json()["jti"]
            server.stop()
            base, client = authority.base_url, authority.client
            for reply in (
                site.ask(agent),
                client.get("/clients"),
                client.post(f"/clients/{agent.client_id}/revoke"),
                http.get(f"{base}/readyz"),
            ):
                assert reply.status_code == 503, reply.text
                assert "eyJ" not in reply.text
            assert http.get(f"{base}/healthz").status_code == 200
            server.start()
            clock.advance(1)  # for as long a server goes by what it has found out about itself
            after = site.ask(agent).json()["jti"]
            issued = [entry["jti"] for entry in site.entries(action="token.issue")]
            assert issued == [before, after]
            assert http.get(f"{base}/readyz").status_code == 200
            site.check_audit()


@pytest.mark.req("RU1")
def test_an_entry_tells_proven_from_claimed(site: Site) -> None:
    """Actor, client, subject, key and grant are what was proven and given; the agent's words stand under `claimed`."""
    agent = site.onboard("read:metrics read:records")
    headers = {
        "X-Agent-Name": "admin",
        "X-Access-Reason": REASON,
        "X-Conversation-ID": "conversation-7",
        "X-Request-ID": "request-7",
    }
    body = site.ask(agent, headers=headers, scope="read:metrics write:all", ttl="60").json()
    entry = entry_of(site, body["jti"])
    assert entry["actor"] == {"kind": "agent", "id": agent.client_id, "name": agent.name}
    assert (entry["client_id"], entry["subject"]) == (agent.client_id, agent.spiffe_id)
    assert (entry["decision"], entry["asked"], entry["scope"]) == ("allow", "read:metrics write:all", "read:metrics")
    assert entry["claimed"] == {"agent_name": "admin", "reason": REASON, "conversation_id": "conversation-7"}
    assert (entry["request_id"], entry["address"]) == ("request-7", "127.0.0.1")
    details = entry["details"]
    assert (details["key_id"], details["ttl"]) == (agent.key_id, 60)
    assert (details["delegations"], details["audience"]) == ([agent.delegation_id], "authsec-api")
    assert "admin" not in json.dumps({name: value for name, value in entry.items() if name != "claimed"})


@pytest.mark.req("RU1")
def test_denials_are_entries(site: Site) -> None:
    """Each refusal is one entry with its reason; who proved nothing is nobody there, whatever name they used."""
    agent, disabled = site.onboard(), site.onboard()
    site.admin("PATCH", f"/clients/{disabled.client_id}", json={"state": "disabled"})
    asked: dict[str, Callable[[], httpx.Response]] = {
        "proof_missing": lambda: site.ask(agent, None),
        "proof_wrong": lambda: site.ask(agent, f"Bearer {disabled.agent_key}"),
        "not_covered": lambda: site.ask(agent, scope="write:all"),
        "client_disabled": lambda: site.ask(disabled),
        "client_unknown": lambda: site.ask(NOBODY, f"Bearer {agent.agent_key}"),
    }
    for reason, ask in asked.items():
        before = site.entries(decision="deny")
        assert ask().json()["details"] == reason
        (entry,) = site.entries(decision="deny")[len(before) :]
        assert (entry["action"], entry["reason"]) == ("token.issue", reason)
        assert "jti" not in entry
        assert "scope" not in entry
        proven = reason in ("not_covered", "client_disabled")
        assert entry["actor"]["kind"] == ("agent" if proven else "anonymous")
        assert ("subject" in entry) is proven


@pytest.mark.req("RU1")
def test_an_operators_denial_is_an_entry(site: Site) -> None:
    """Who may not do something is named there, with what it was."""
    name = "the curious auditor"
    _, token = site.operator("auditor", name=name)
    url = f"{site.authority.base_url}/api/v1/roles/mine"
    assert site.http.put(url, json={}, headers={"Authorization": f"Bearer {token}"}).status_code == 403
    entry = site.entries(action="operator.denied")[-1]
    assert (entry["decision"], entry["reason"], entry["actor"]["name"]) == ("deny", "role", name)
    assert entry["details"]["path"] == "/api/v1/roles/mine"
    pasted = f"{site.authority.base_url}/api/v1/roles/{token}"
    assert site.http.put(pasted, json={}, headers={"Authorization": f"Bearer {token}"}).status_code == 403
    assert site.entries(action="operator.denied")[-1]["details"]["path"] == "/api/v1/roles/*"


@pytest.mark.req("RU1")
def test_each_change_names_who_made_it(site: Site) -> None:
    """Every change by an operator is one entry with their name; what changes nothing is none."""
    _, token = site.operator("operator", name="grace")
    agent = site.onboard()
    before = len(site.entries())
    base, headers = f"{site.authority.base_url}/api/v1", {"Authorization": f"Bearer {token}"}
    for state in ("disabled", "disabled", "active"):
        assert site.http.patch(f"{base}/clients/{agent.client_id}", json={"state": state}, headers=headers).is_success
    assert site.http.post(f"{base}/trust-delegations/{agent.delegation_id}/revoke", headers=headers).is_success
    made = site.entries()[before:]
    assert [entry["action"] for entry in made] == ["client.disable", "client.enable", "delegation.revoke"]
    assert {(entry["actor"]["kind"], entry["actor"]["name"]) for entry in made} == {("operator", "grace")}


@pytest.mark.req("RU2")
def test_all_servers_write_one_order(open_site: OpenSite) -> None:
    """Entries of three servers, in turn: no gap, each time not before the last, one chain, with checkpoints in it."""
    with open_site() as site, site.replica() as second, site.replica() as third:
        agent = site.onboard()
        for _ in range(10):
            for each in (site, second, third):
                each.token(agent)
            second.admin("POST", "/audit/checkpoints", status=201)
        entries = third.entries()
        assert [entry["seq"] for entry in entries] == list(range(1, len(entries) + 1))
        assert [entry["at"] for entry in entries] == sorted(entry["at"] for entry in entries)
        assert Counter(entry["action"] for entry in entries)["token.issue"] == 30
        assert site.check_audit() == second.check_audit() == len(entries)


@pytest.mark.req("RU2")
def test_a_changed_entry_is_named(open_site: OpenSite) -> None:
    """Someone makes an approval of a denial in the database: the check names that entry, until it is undone."""
    with open_site() as site:
        agent = site.onboard()
        site.ask(agent, scope="write:all")
        (denied,) = site.entries(decision="deny")
        site.token(agent)

        async def edit(inner: Authority) -> None:
            changed = sa.update(audit).where(audit.c.seq == denied["seq"])
            await inner.database.write(lambda connection: connection.execute(changed.values(decision="allow")))

        async def mend(inner: Authority) -> None:
            changed = sa.update(audit).where(audit.c.seq == denied["seq"])
            await inner.database.write(lambda connection: connection.execute(changed.values(decision="deny")))

        site.authority.run(edit)
        with pytest.raises(DamagedAuditError) as caught:
            site.check_audit()
        assert caught.value.seq == denied["seq"]
        site.authority.run(mend)


HOSTILE = {
    "a terminal escape": b"\x1b[2J\x1b[31mroot",
    "a tab": b"a\tb",
    "latin-1": b"caf\xe9 \xa0 \xad",
    "UTF-8 that turns text around": "\u202egnp.exe\u2028forged".encode(),
    "not UTF-8": b"\xff\xfe\xfd",
    "an encoded line break": b"a%0d%0aCRITICAL forged",
    "an escaped line break": rb"a\r\nCRITICAL forged",
    "JSON": b'x","decision":"allow","actor":{"kind":"system"},"a":"',
    "HTML": b"<script>alert(1)</script>",
    "much": b"A" * 16_000,
    "much that is escaped": b"\xe9" * 8_000,
    "nothing": b"",
}


@pytest.mark.req("RU3")
@pytest.mark.parametrize("what", list(HOSTILE))
def test_what_an_agent_says_is_one_bounded_line(site: Site, what: str) -> None:
    """Whatever comes in a header: it is refused, or is in one line of printable ASCII that is right otherwise."""
    agent = site.onboard()
    issued = 0
    for header in (b"X-Access-Reason", b"X-Agent-Name", b"X-Conversation-ID", b"X-Request-ID"):
        status = hostile_request(site, agent, [header + b": " + HOSTILE[what]])
        assert status in (200, 400, 431), status
        issued += status == 200
    search = {"format": "jsonl", "client_id": agent.client_id, "action": "token.issue"}
    lines = site.authority.client.get("/audit", params=search).content.splitlines()
    assert len(lines) == issued
    for line in lines:
        assert len(line) < 4096
        assert re.fullmatch(rb"[\x20-\x7e]+", line)
        entry = json.loads(line)
        assert (entry["decision"], entry["actor"]["kind"]) == ("allow", "agent")
        assert set(entry.get("claimed", {})) <= {"agent_name", "reason", "conversation_id"}
        assert all(len(said) <= 500 for said in entry.get("claimed", {}).values())


@pytest.mark.req("RU3")
@pytest.mark.parametrize("bad", [b"\x00", b"\x0b", b"\x0c", b"\x7f", b"\x85"])
def test_no_control_character_gets_through(site: Site, bad: bytes) -> None:
    """A request with one in a header is refused, or its entry has it escaped; each entry stays one line."""
    agent = site.onboard()
    hostile_request(site, agent, [b"X-Access-Reason: a" + bad + b"CRITICAL forged"])
    reply = site.authority.client.get("/audit", params={"format": "jsonl", "client_id": agent.client_id})
    assert bad not in reply.content
    assert all(json.loads(line)["client_id"] == agent.client_id for line in reply.text.splitlines())


@pytest.mark.req("RU3")
def test_what_an_operator_enters_is_one_line_too(site: Site) -> None:
    """A name with a line break or a text-direction mark is refused; what is let in is read back as it was."""
    body = {"agent_type": "mcp-agent", "platform": "docker"}
    for name in ("a\nCRITICAL forged", "a\r", "a\x1b[2J", "a\u2028b", "a\u202eb", "\x00", "a" * 101):
        assert site.authority.client.post("/clients", json={**body, "name": name}).status_code == 422, ascii(name)
    name = 'Müller & Söhne 株式会社 "\\" <b>'
    made = site.admin("POST", "/clients", json={**body, "name": name})
    (entry,) = site.entries(client_id=made["client_id"])
    assert entry["details"]["name"] == made["name"] == name


async def _rename(inner: Authority, old: str, new: str) -> None:
    await inner.database.write(lambda connection: connection.execute(sa.text(f"ALTER TABLE {old} RENAME TO {new}")))
