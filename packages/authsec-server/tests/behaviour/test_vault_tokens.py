"""Vault tokens: what they are good for, how often, from where, and until when."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
import sqlalchemy as sa
from behaviour.support import OpenSite, Site, inside, rows
from behaviour.vault import (
    WHOLE,
    ask,
    code_of,
    id_of,
    read,
    read_at_once,
    say,
    secret,
    token,
)

from authsec_core.wire import parse_time
from authsec_server.authority import Authority
from authsec_server.db import tables
from authsec_server.testing import OnboardedAgent

EMPTY_ACCESS: dict[str, list[str]] = {"namespaces": [], "scopes": []}


def entries_of(site: Site, token: str, **filters: str) -> list[dict[str, Any]]:
    """Return what the audit says about one token, the oldest first."""
    return site.entries(jti=id_of(token), **filters)


def test_a_token_may_do_what_it_says_and_no_more(site: Site) -> None:
    """Another path, another action and a namespace that only begins alike are 403, and so is what the agent may do."""
    agent = site.onboard(vault=WHOLE)
    mine, other = secret(site, agent), secret(site, agent, namespace="production-x")
    scoped = token(site, agent, f"secrets:read:{mine}", "secrets:read:production/*")
    assert read(site, mine, scoped) == 200
    assert read(site, other, scoped) == 403
    for method in ("PUT", "DELETE"):
        reply = say(site, method, f"/secrets/{mine}", scoped, json={"value": "other"} if method == "PUT" else None)
        assert (reply.status_code, code_of(reply)) == (403, "SCOPE_DENIED")
    assert read(site, other, agent.agent_key) == 200


def test_the_reply_shows_the_token_once(site: Site) -> None:
    """It says what was granted and until when, is not to be stored by anyone, and its id is no secret."""
    agent = site.onboard(vault="secrets:read:production/*")
    reply = ask(site, agent, "secrets:read:production/b/*", "secrets:read:production/a/*", ttl="30m", max_uses=3)
    shown = reply.json()
    assert reply.headers["cache-control"] == "no-store"
    assert shown["scopes"] == ["secrets:read:production/a/*", "secrets:read:production/b/*"]
    assert shown["token_id"] == id_of(shown["token"])
    assert 1740 < parse_time(shown["expires_at"]) - site.clock.wall() <= 1800
    assert (shown["max_uses"], shown["access_tier"], shown["requires_approval"]) == (3, "standard", False)


@pytest.mark.inside
def test_what_is_kept_of_a_token_is_not_the_token(site: Site) -> None:
    """Nothing that is in the database holds the part that is secret."""
    agent = site.onboard(vault=WHOLE)
    given = token(site, agent, WHOLE)
    assert id_of(given) in str(rows(site))
    assert given.partition(".")[2] not in str(rows(site))


@pytest.mark.parametrize(
    ("ttl", "seconds"), [(None, 3600), (1, 1), (86400, 86400), ("45s", 45), ("30m", 1800), ("1h", 3600), ("1d", 86400)]
)
def test_a_life_is_seconds_or_a_text(timed: Site, ttl: Any, seconds: int) -> None:
    """By default an hour, and at most what the operator has set."""
    agent = timed.onboard(vault=WHOLE)
    shown = ask(timed, agent, WHOLE, ttl=ttl).json()
    assert parse_time(shown["expires_at"]) == int(timed.clock.wall() + seconds)


def test_a_token_ends(timed: Site) -> None:
    """It is good until its end, and not at it."""
    agent = timed.onboard(vault=WHOLE)
    path, given = secret(timed, agent), token(timed, agent, WHOLE, ttl=60)
    timed.fake.advance(59.5)
    assert read(timed, path, given) == 200
    timed.fake.advance(0.5)
    assert read(timed, path, given) == 401


WRONG: dict[str, Any] = {
    "no scope": {},
    "an empty list": {"scopes": []},
    "a scope that is none": {"scopes": ["read:canary"]},
    "a traversal": {"scopes": ["secrets:read:production/../*"]},
    "a wildcard in the middle": {"scopes": ["secrets:read:*/key"]},
    "65 scopes": {"scopes": [f"secrets:read:production/{n}/*" for n in range(65)]},
    "no time": {"scopes": [WHOLE], "ttl": 0},
    "a time below zero": {"scopes": [WHOLE], "ttl": -1},
    "too long": {"scopes": [WHOLE], "ttl": "2d"},
    "far too long": {"scopes": [WHOLE], "ttl": 10**30},
    "another unit": {"scopes": [WHOLE], "ttl": "1canary"},
    "digits of another script": {"scopes": [WHOLE], "ttl": "١h"},
    "a fraction": {"scopes": [WHOLE], "ttl": 1.5},
    "no use": {"scopes": [WHOLE], "max_uses": 0},
    "too many uses": {"scopes": [WHOLE], "max_uses": 1_000_001},
    "a text of uses": {"scopes": [WHOLE], "max_uses": "1"},
    "no address": {"scopes": [WHOLE], "ip_allowlist": []},
    "a name": {"scopes": [WHOLE], "ip_allowlist": ["canary.example"]},
    "a network with a host in it": {"scopes": [WHOLE], "ip_allowlist": ["10.0.0.1/8"]},
    "a zone": {"scopes": [WHOLE], "ip_allowlist": ["fe80::1%eth0"]},
    "33 addresses": {"scopes": [WHOLE], "ip_allowlist": [f"10.0.0.{n}" for n in range(33)]},
    "two lines": {"scopes": [WHOLE], "description": "canary\nb"},
    "a long description": {"scopes": [WHOLE], "description": "x" * 201},
    "another tier": {"scopes": [WHOLE], "access_tier": "low"},
    "an approval and more": {"scopes": [WHOLE], "approval_id": "00000000-0000-4000-8000-000000000000"},
    "an unknown member": {"scopes": [WHOLE], "other": 1},
    "no object": [],
}


def test_what_cannot_be_a_token_is_400(site: Site) -> None:
    """It is told to the agent what is wrong, without a word of what was sent; a stranger is told nothing."""
    agent = site.onboard(vault=WHOLE)
    for what, body in WRONG.items():
        reply = say(site, "POST", "/tokens", agent.agent_key, json=body)
        assert (reply.status_code, code_of(reply)) == (400, "VALIDATION_ERROR"), what
        assert "canary" not in reply.text
        wrong_key = f"{agent.key_id}.{'A' * 43}"
        assert say(site, "POST", "/tokens", wrong_key, json=body).status_code == 401, what


BEYOND = (
    "secrets:read:*",
    "secrets:read:staging/*",
    "secrets:write:production/a/*",
    "secrets:*:production/*",
    "secrets:read:production-x/*",
)


def test_an_agent_gives_no_more_than_it_has(site: Site) -> None:
    """A scope beyond its own or its namespaces is 403: nothing is issued, and the audit says what was asked."""
    agent = site.onboard(vault="secrets:read:production/* secrets:read:staging/*", vault_namespaces=["production"])
    for scope in BEYOND:
        reply = ask(site, agent, "secrets:read:production/*", scope)
        assert (reply.status_code, code_of(reply)) == (403, "SCOPE_DENIED"), scope
        entry = site.entries(client_id=agent.client_id, action="vault.token.issue")[-1]
        assert (entry["decision"], entry["reason"]) == ("deny", "scope_denied")
        assert scope in entry["asked"].split()
    assert not site.entries(client_id=agent.client_id, action="vault.token.issue", decision="allow")


def test_a_token_gets_no_token(site: Site) -> None:
    """Only the agent's key does, so that what a token may do ends with it."""
    agent = site.onboard(vault=WHOLE)
    reply = say(site, "POST", "/tokens", token(site, agent, WHOLE), json={"scopes": ["secrets:read:a/*"]})
    assert (reply.status_code, code_of(reply)) == (403, "SCOPE_DENIED")


@pytest.mark.req("RW3")
def test_a_single_use_token_is_used_once(site: Site) -> None:
    """100 read with it at the same time: one gets the value, 99 get 410, and each of them is in the audit."""
    agent = site.onboard(vault=WHOLE)
    path = secret(site, agent)
    given = token(site, agent, f"secrets:read:{path}", max_uses=1)
    replies = read_at_once(site, path, given, 100)
    assert Counter(reply.status_code for reply in replies) == {200: 1, 410: 99}
    assert {code_of(reply) for reply in replies if reply.status_code == 410} == {"TOKEN_EXHAUSTED"}
    said = Counter(
        (each["decision"], each.get("reason")) for each in entries_of(site, given, action="vault.secret.read")
    )
    assert said == {("allow", None): 1, ("deny", "token_exhausted"): 99}


@pytest.mark.req("RW3")
def test_a_token_is_used_as_often_as_it_may_be(site: Site) -> None:
    """Of 64 uses at the same time exactly 7 are good, where the token has 7."""
    agent = site.onboard(vault=WHOLE)
    path = secret(site, agent)
    given = token(site, agent, WHOLE, max_uses=7)
    replies = read_at_once(site, path, given, 64)
    assert Counter(reply.status_code for reply in replies) == {200: 7, 410: 57}


@pytest.mark.req("RW3")
def test_what_discloses_nothing_uses_nothing_up(site: Site) -> None:
    """A refusal, a secret that is not there, a wrong request and a look at oneself leave a single use unused."""
    agent = site.onboard(vault=WHOLE)
    path = secret(site, agent)
    given = token(site, agent, "secrets:read:production/*", max_uses=1)
    assert read(site, "production/nothing/here", given) == 404
    assert read(site, "staging/some/thing", given) == 403
    assert read(site, path, given, params={"version": "x"}) == 400
    assert read(site, path, f"{id_of(given)}.{'A' * 43}") == 401
    assert say(site, "GET", "/me", given).status_code == 200
    assert read(site, path, given) == 200
    assert read(site, path, given) == 410


FROM = {
    "10.1.2.3": (["10.0.0.0/8"], ["10.1.2.3"], ["::ffff:10.0.0.0/104"], ["192.0.2.1", "10.1.2.3/32"]),
    "::ffff:10.1.2.3": (["10.0.0.0/8"], ["::ffff:10.1.2.3"], ["10.1.2.3"]),
    "2001:db8::1": (["2001:db8::/32"], ["2001:db8::1"], ["::/0"]),
}
NOT_FROM = {
    "10.1.2.3": (["11.0.0.0/8"], ["10.1.2.4"], ["::/0"], ["2001:db8::/32"]),
    "::ffff:10.1.2.3": (["11.0.0.0/8"], ["2001:db8::/32"]),
    "2001:db8::1": (["2001:db9::/32"], ["0.0.0.0/0"], ["2001:db8::2"]),
}


def test_a_token_is_good_from_its_addresses_alone(open_site: OpenSite) -> None:
    """IPv4, IPv6, and IPv4 in the clothes of IPv6; from anywhere else it is 403, and that is in the audit."""
    with open_site(behind_proxy=True, trusted_proxies="127.0.0.1") as site:
        agent = site.onboard(vault=WHOLE)
        path = secret(site, agent)
        for expected, table in ((200, FROM), (403, NOT_FROM)):
            for peer, lists in table.items():
                for allowed in lists:
                    given = token(site, agent, WHOLE, ip_allowlist=allowed)
                    found = read(site, path, given, headers={"X-Forwarded-For": peer})
                    assert found == expected, (peer, allowed)
        elsewhere = token(site, agent, WHOLE, ip_allowlist=["192.0.2.0/24"])
        read(site, path, elsewhere, headers={"X-Forwarded-For": "2001:db8::1"})
        entry = entries_of(site, elsewhere)[-1]
        assert (entry["decision"], entry["reason"], entry["address"]) == ("deny", "address_denied", "2001:db8::1")


def revoke_agent(site: Site, agent: OnboardedAgent) -> None:
    """End the agent."""
    site.admin("POST", f"/clients/{agent.client_id}/revoke")


def disable_agent(site: Site, agent: OnboardedAgent) -> None:
    """Stop the agent."""
    site.admin("PATCH", f"/clients/{agent.client_id}", json={"state": "disabled"})


def revoke_key(site: Site, agent: OnboardedAgent) -> None:
    """End the key that the token was asked for with."""
    site.admin("POST", f"/clients/{agent.client_id}/keys/{agent.key_id}/revoke")


def cut_access(site: Site, agent: OnboardedAgent) -> None:
    """Let the agent do nothing any more."""
    site.admin("PUT", f"/clients/{agent.client_id}/vault-access", json=EMPTY_ACCESS)


def narrow_namespaces(site: Site, agent: OnboardedAgent) -> None:
    """Let the agent do the same elsewhere alone."""
    access = {"namespaces": ["staging"], "scopes": [WHOLE]}
    site.admin("PUT", f"/clients/{agent.client_id}/vault-access", json=access)


ENDS: list[tuple[Callable[[Site, OnboardedAgent], None], int]] = [
    (revoke_agent, 401),
    (disable_agent, 401),
    (revoke_key, 401),
    (cut_access, 403),
    (narrow_namespaces, 403),
]


@pytest.mark.req("RW3")
@pytest.mark.parametrize(("end", "status"), ENDS, ids=[end.__name__ for end, _ in ENDS])
def test_a_token_ends_with_what_it_rests_on(
    site: Site, end: Callable[[Site, OnboardedAgent], None], status: int
) -> None:
    """Once an operator has been told that it is done, no server discloses anything for the token."""
    agent = site.onboard(vault=WHOLE)
    path = secret(site, agent)
    tokens = [token(site, agent, WHOLE), token(site, agent, WHOLE, max_uses=100)]
    for at in site.base_urls:
        assert [read(site, path, each, at=at) for each in tokens] == [200, 200]
    end(site, agent)
    for at in site.base_urls:
        assert [read(site, path, each, at=at) for each in tokens] == [status, status]


def test_a_key_ends_its_own_tokens_alone(site: Site) -> None:
    """What was asked for with another key of the agent goes on."""
    agent = site.onboard(vault=WHOLE)
    path = secret(site, agent)
    other = site.admin("POST", f"/clients/{agent.client_id}/keys", json={})["agent_key"]
    reply = say(site, "POST", "/tokens", other, json={"scopes": [WHOLE]})
    revoke_key(site, agent)
    assert read(site, path, reply.json()["token"]) == 200


@pytest.mark.parametrize("by", ["its agent's key", "the token itself"])
def test_a_token_is_taken_back(site: Site, by: str) -> None:
    """It is good for nothing at once, at every server; to do it again with the key is harmless, and no second entry."""
    agent = site.onboard(vault=WHOLE)
    path, given = secret(site, agent), token(site, agent, WHOLE)
    address, bearer = f"/tokens/{id_of(given)}", given if by == "the token itself" else agent.agent_key
    assert [read(site, path, given, at=at) for at in site.base_urls] == [200] * len(site.base_urls)
    assert say(site, "DELETE", address, bearer).status_code == 204
    assert [read(site, path, given, at=at) for at in site.base_urls] == [401] * len(site.base_urls)
    assert say(site, "DELETE", address, agent.agent_key).status_code == 204
    assert say(site, "DELETE", address, given).status_code == 401
    (entry,) = entries_of(site, given, action="vault.token.revoke", decision="allow")
    assert (entry["actor"]["id"], entry["scope"]) == (agent.client_id, WHOLE)


def test_another_ones_token_is_not_there(site: Site) -> None:
    """For another agent, for another token, and where there is none: the same 404, and it lives on."""
    agent, other = site.onboard(vault=WHOLE), site.onboard(vault=WHOLE)
    path, given = secret(site, agent), token(site, agent, WHOLE)
    address = f"/tokens/{id_of(given)}"
    replies = [
        say(site, "DELETE", address, other.agent_key),
        say(site, "DELETE", address, token(site, agent, WHOLE)),
        say(site, "DELETE", f"/tokens/vlt_{'0' * 16}", agent.agent_key),
    ]
    assert [(reply.status_code, code_of(reply)) for reply in replies] == [(404, "NOT_FOUND")] * 3
    assert len({reply.text for reply in replies}) == 1
    assert read(site, path, given) == 200


@pytest.mark.req("RU1")
def test_the_entry_of_a_token_says_what_it_is(site: Site) -> None:
    """Its id, whose it is, what was asked and granted; the agent's own words stand apart, and the token is nowhere."""
    agent = site.onboard(vault=WHOLE)
    body = {"scopes": [WHOLE], "ttl": 60, "max_uses": 2, "ip_allowlist": ["127.0.0.0/8"], "description": "a session"}
    headers = {"X-Agent-Name": "somebody else", "X-Access-Reason": "curious"}
    given = str(say(site, "POST", "/tokens", agent.agent_key, json=body, headers=headers).json()["token"])
    (entry,) = entries_of(site, given)
    assert (entry["action"], entry["decision"], entry["actor"]["name"]) == ("vault.token.issue", "allow", agent.name)
    assert (entry["asked"], entry["scope"]) == (WHOLE, WHOLE)
    assert entry["details"] == {
        "key_id": agent.key_id,
        "ttl": 60,
        "max_uses": 2,
        "ip_allowlist": ["127.0.0.0/8"],
        "access_tier": "standard",
    }
    assert entry["claimed"] == {"agent_name": "somebody else", "reason": "curious", "description": "a session"}
    assert given.partition(".")[2] not in str(site.entries())


@pytest.mark.req("RU1")
def test_no_credential_is_kept_among_the_agents_words(site: Site) -> None:
    """People and models write keys and tokens into what is meant for the audit, which is kept and read by others."""
    agent = site.onboard(vault=WHOLE)
    headers = {"X-Conversation-ID": f"my key: {agent.agent_key}!", "X-Access-Reason": f"or {site.token(agent)}"}
    # Of no secret that needs it: with such a secret here, the tokens of other tests would need consent, too.
    scopes, description = ["secrets:read:quiet/*"], f"{agent.agent_key} may read it"
    wish = {"scopes": scopes, "access_tier": "sensitive", "description": description}
    asked = say(site, "POST", "/tokens", agent.agent_key, json=wish, headers=headers).json()
    (entry,) = site.entries(client_id=agent.client_id, action="vault.approval.request")
    assert entry["claimed"] == {"conversation_id": "my key: *", "reason": "or *", "description": "* may read it"}
    shown = say(site, "GET", "/approvals", site.authority.admin_token, params={"limit": 200}).json()["items"]
    assert [item["description"] for item in shown if item["id"] == asked["approval_id"]] == ["* may read it"]


@pytest.mark.req("RU1")
@pytest.mark.parametrize("table", ["audit", "head", "vault_tokens"])
def test_without_the_entry_there_is_no_token(open_site: OpenSite, table: str) -> None:
    """Where the audit, its head or the token's row cannot be written: 503, and no token; then it goes on."""

    def rename(site: Site, before: str, after: str) -> None:
        async def work(authority: Authority) -> None:
            renamed = sa.text(f"ALTER TABLE {before} RENAME TO {after}")
            await authority.database.write(lambda connection: connection.execute(renamed))

        inside(site, work)

    with open_site() as site:
        agent = site.onboard(vault=WHOLE)
        rename(site, table, "away")
        reply = ask(site, agent, WHOLE)
        rename(site, "away", table)
        assert (reply.status_code, code_of(reply)) == (503, "INTERNAL")
        assert token(site, agent, WHOLE)
        assert len(site.entries(action="vault.token.issue")) == 1


@pytest.mark.inside
def test_what_ended_is_forgotten_a_day_later(timed: Site) -> None:
    """Not before, so that it can be asked what became of it; and whoever shows it then is a stranger."""

    def kept() -> set[str]:
        async def work(authority: Authority) -> set[str]:
            await authority.vault_tokens.purge()
            async with authority.database.read() as connection:
                return set((await connection.execute(sa.select(tables.vault_tokens.c.token_id))).scalars())

        return set(inside(timed, work))

    agent = timed.onboard(vault=WHOLE)
    given = token(timed, agent, WHOLE, ttl=60)
    timed.fake.advance(60 + 86_400)
    assert id_of(given) in kept()
    timed.fake.advance(1)
    assert id_of(given) not in kept()
    assert say(timed, "GET", "/me", given).status_code == 401
