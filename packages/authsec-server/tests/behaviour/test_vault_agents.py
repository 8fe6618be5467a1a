"""Agents as the vault's clients know them, what operators let them do there, and what is seen of it afterwards."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from typing import Any

import pytest
from behaviour.support import NOBODY, OpenSite, Site, inside
from behaviour.vault import CANARY, WHOLE, code_of, read, say, secret, token

from authsec_core._version import __version__
from authsec_server.audit.entry import Actor, Caller, Entry
from authsec_server.audit.ledger import Change
from authsec_server.authority import Authority
from authsec_server.credentials import generate
from authsec_server.testing import OnboardedAgent

READER = {"allowed_namespaces": ["production"], "allowed_scopes": ["secrets:read:production/*"]}


def onboard(site: Site, **more: Any) -> dict[str, Any]:
    """Onboard an agent by the vault's own address."""
    body = {"name": f"agent-{secrets.token_hex(4)}", **READER, **more}
    reply = say(site, "POST", "/agents", site.authority.admin_token, json=body)
    assert (reply.status_code, reply.headers["cache-control"]) == (201, "no-store"), reply.text
    shown: dict[str, Any] = reply.json()
    return shown


def listed(site: Site, agent_id: str) -> dict[str, Any]:
    """Return an agent as the list has it."""
    after = None
    while True:
        params = {"limit": 200, **({"after": after} if after else {})}
        page = say(site, "GET", "/agents", site.authority.admin_token, params=params).json()
        for item in page["items"]:
            if item["id"] == agent_id:
                assert isinstance(item, dict)
                return item
        after = page["next"]
        assert after, "it is not listed"


def access(site: Site, agent: OnboardedAgent, namespaces: list[str], scopes: list[str]) -> Any:
    """Say what an agent may do."""
    body = {"namespaces": namespaces, "scopes": scopes}
    return site.admin("PUT", f"/clients/{agent.client_id}/vault-access", json=body)


def test_an_agent_is_onboarded_with_what_it_may_do(site: Site) -> None:
    """Its key, shown this once, reads what it may, and nothing else; it is an agent like any other."""
    path = secret(site, site.onboard(vault=WHOLE))
    shown = onboard(site, description="reads at night")
    key = shown.pop("api_key")
    assert shown == {**listed(site, shown["id"]), "last_active_at": None}
    assert shown["api_key_prefix"] == key.partition(".")[0]
    assert read(site, path, key) == 200
    assert say(site, "PUT", f"/secrets/{path}", key, json={"value": CANARY}).status_code == 403
    client = site.admin("GET", f"/clients/{shown['id']}")
    assert (client["agent_type"], client["platform"], client["name"]) == ("autonomous-workload", "other", shown["name"])
    said = site.entries(client_id=shown["id"], decision="allow")
    assert [entry["action"] for entry in said[:2]] == ["client.onboard", "vault.access.change"]
    assert said[1]["details"] == {"namespaces": ["production"], "description": "reads at night"}
    assert said[1]["scope"] == "secrets:read:production/*"


def test_an_agent_is_onboarded_with_its_access_or_not_at_all(site: Site) -> None:
    """What cannot be a scope or a namespace, or a name that is taken, leaves nothing behind."""
    name = f"agent-{secrets.token_hex(4)}"
    for wrong in (
        {"allowed_scopes": ["secrets:read:a/../b"]},
        {"allowed_scopes": ["read:metrics"]},
        {"allowed_namespaces": ["a//b"]},
        {"allowed_namespaces": ["staging"]},
        {"allowed_namespaces": ["import"]},
        {"name": ""},
        {"name": "a\nb"},
        {"description": "a\nb"},
        {"other": 1},
    ):
        body = {"name": name, **READER, **wrong}
        reply = say(site, "POST", "/agents", site.authority.admin_token, json=body)
        assert (reply.status_code, code_of(reply)) == (400, "VALIDATION_ERROR"), wrong
    assert onboard(site, name=name)["name"] == name
    reply = say(site, "POST", "/agents", site.authority.admin_token, json={"name": name, **READER})
    assert (reply.status_code, code_of(reply)) == (409, "CONFLICT")


def test_an_agent_is_ended_for_good(site: Site) -> None:
    """Its key and its tokens are good for nothing; whoever does it again gets 409, and for nobody it is 404."""
    shown = onboard(site)
    key = shown["api_key"]
    given = say(site, "POST", "/tokens", key, json={"scopes": ["secrets:read:production/*"]}).json()["token"]
    ends = [say(site, "DELETE", f"/agents/{shown['id']}", site.authority.admin_token).status_code for _ in range(2)]
    assert ends == [204, 409]
    assert [say(site, "GET", "/me", bearer).status_code for bearer in (key, given)] == [401, 401]
    assert listed(site, shown["id"])["active"] is False
    assert say(site, "DELETE", f"/agents/{NOBODY}", site.authority.admin_token).status_code == 404


def test_when_an_agent_was_last_active(timed: Site) -> None:
    """The latest moment at which it proved who it is, and not what operators or strangers do with its id."""
    shown = onboard(timed)
    timed.fake.advance(10)
    assert say(timed, "GET", "/secrets/production/a/key", shown["api_key"]).status_code == 404
    active_at = timed.after(0)
    timed.fake.advance(10)
    wrong = f"{shown['api_key_prefix']}.{'A' * 43}"
    assert say(timed, "GET", "/secrets/production/a/key", wrong).status_code == 401
    timed.admin("POST", f"/clients/{shown['id']}/keys", json={})
    assert listed(timed, shown["id"])["last_active_at"] == active_at


def test_the_newest_key_that_lives_is_shown(site: Site) -> None:
    """By its id, which is no secret; an agent without one has none."""
    shown = onboard(site)
    path = f"/clients/{shown['id']}/keys"
    newer = site.admin("POST", path, json={})["key_id"]
    assert listed(site, shown["id"])["api_key_prefix"] == newer
    site.admin("POST", f"{path}/{newer}/revoke")
    assert listed(site, shown["id"])["api_key_prefix"] == shown["api_key_prefix"]
    site.admin("POST", f"{path}/{shown['api_key_prefix']}/revoke")
    assert listed(site, shown["id"])["api_key_prefix"] is None


DOORS = (
    ("GET", "/agents"),
    ("POST", "/agents"),
    ("DELETE", f"/agents/{NOBODY}"),
    ("GET", "/approvals"),
    ("POST", f"/approvals/{NOBODY}/approve"),
    ("POST", f"/approvals/{NOBODY}/deny"),
    ("GET", "/audit"),
)


@pytest.mark.req("RA1")
def test_what_is_the_operators_is_not_the_agents(site: Site) -> None:
    """An agent that may use the whole vault gets 401 there, with its key as with its token; an auditor may read."""
    agent = site.onboard(vault=WHOLE)
    _, auditor = site.operator("auditor", name=f"auditor-{secrets.token_hex(4)}")
    for method, path in DOORS:
        for bearer in (agent.agent_key, token(site, agent, WHOLE)):
            reply = say(site, method, path, bearer)
            assert (reply.status_code, code_of(reply)) == (401, "UNAUTHORIZED"), (method, path)
        assert say(site, method, path, auditor).status_code == (200 if method == "GET" else 403), (method, path)
    for method, path in (("GET", "/me"), ("POST", "/tokens"), ("GET", "/secrets"), ("DELETE", "/tokens/vlt_0")):
        assert say(site, method, path, site.authority.admin_token).status_code == 401, (method, path)


def test_without_a_word_of_an_operator_an_agent_may_nothing(site: Site) -> None:
    """That it is delegated everything elsewhere is no matter; and what it may is said by scope and by namespace."""
    path = secret(site, site.onboard(vault=WHOLE))
    agent = site.onboard("read:metrics write:metrics")
    empty = site.admin("GET", f"/clients/{agent.client_id}/vault-access")
    assert (empty["namespaces"], empty["scopes"], empty["updated_at"], empty["updated_by"]) == ([], [], None, None)
    assert read(site, path, agent.agent_key) == 403
    for namespaces, scopes, status in (
        (["*"], [], 403),
        ([], [WHOLE], 403),
        (["staging"], [WHOLE], 403),
        (["produc"], [WHOLE], 403),
        (["production"], ["secrets:write:*"], 403),
        (["production"], ["secrets:read:*"], 200),
        (["*"], [f"secrets:read:{path}"], 200),
    ):
        access(site, agent, namespaces, scopes)
        assert [read(site, path, agent.agent_key, at=at) for at in site.base_urls] == [status] * len(site.base_urls)


def test_what_an_agent_may_do_is_said_in_place_of_what_was_said(site: Site) -> None:
    """Sorted and once; each change is one entry with who made it, and what is the case already is none."""
    agent = site.onboard(vault="secrets:read:production/*")
    shown = access(site, agent, ["b", "a", "b"], ["secrets:write:b/*", "secrets:read:a/*", "secrets:read:a/*"])
    assert shown == site.admin("GET", f"/clients/{agent.client_id}/vault-access")
    assert (shown["namespaces"], shown["updated_by"]) == (["a", "b"], "admin")
    assert shown["scopes"] == ["secrets:read:a/*", "secrets:write:b/*"]
    assert access(site, agent, ["a", "b"], list(reversed(shown["scopes"]))) == shown
    said = site.entries(client_id=agent.client_id, action="vault.access.change")
    assert [entry["scope"] for entry in said] == ["secrets:read:production/*", "secrets:read:a/* secrets:write:b/*"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"scopes": [WHOLE]},
        {"namespaces": ["*"]},
        {"namespaces": ["*"], "scopes": ["secrets:*"]},
        {"namespaces": ["a/*"], "scopes": [WHOLE]},
        {"namespaces": ["a/../b"], "scopes": [WHOLE]},
        {"namespaces": ["a"], "scopes": ["secrets:*:b/*"]},
        {"namespaces": ["a", "b/c"], "scopes": ["secrets:read:a-x/*", "secrets:write:b/d/*"]},
        {"namespaces": ["a/b"], "scopes": ["secrets:read:a/b"]},
        {"namespaces": [f"n{number}" for number in range(65)], "scopes": [WHOLE]},
        {"namespaces": ["*"], "scopes": [f"secrets:read:a/{number}" for number in range(65)]},
    ],
)
def test_what_cannot_be_access_is_422(site: Site, wrong: dict[str, Any]) -> None:
    """And changes nothing."""
    agent = site.onboard(vault=WHOLE)
    site.admin("PUT", f"/clients/{agent.client_id}/vault-access", status=422, json=wrong)
    assert site.admin("GET", f"/clients/{agent.client_id}/vault-access")["scopes"] == [WHOLE]


@pytest.mark.parametrize(
    ("namespaces", "scopes"),
    [
        (["a"], ["secrets:read:b/*", "secrets:delete:a/b/*"]),
        (["a/b/c"], ["secrets:write:a/*"]),
        (["*"], ["secrets:read:a/b"]),
        (["a"], ["secrets:read:a/b"]),
        (["a"], [WHOLE]),
        (["a"], []),
        ([], [WHOLE]),
        ([], []),
    ],
)
def test_scopes_may_lie_in_part_in_the_namespaces(site: Site, namespaces: list[str], scopes: list[str]) -> None:
    """One that lies in one of them is enough; and whoever leaves something out means that nothing is allowed."""
    shown = access(site, site.onboard(), namespaces, scopes)
    assert (shown["namespaces"], shown["scopes"]) == (namespaces, sorted(scopes))


def test_there_is_no_access_for_who_is_not_there(site: Site) -> None:
    """404 for nobody, and 409 for an agent that was revoked."""
    agent = site.onboard(vault=WHOLE)
    body = {"namespaces": ["*"], "scopes": [WHOLE]}
    site.admin("PUT", f"/clients/{NOBODY}/vault-access", status=404, json=body)
    site.admin("GET", f"/clients/{NOBODY}/vault-access", status=404)
    site.admin("POST", f"/clients/{agent.client_id}/revoke")
    site.admin("PUT", f"/clients/{agent.client_id}/vault-access", status=409, json=body)


def test_a_caller_learns_of_itself(site: Site) -> None:
    """Its name, and how many secrets it can read: within its scopes, its namespaces and its token, deleted ones not."""
    root = site.onboard(vault=WHOLE)
    some = [secret(site, root, namespace="counted/a") for _ in range(3)] + [secret(site, root, namespace="counted/b")]
    say(site, "DELETE", f"/secrets/{some[0]}", root.agent_key)
    agent = site.onboard(vault="secrets:*:counted/* secrets:write:production/*", vault_namespaces=["counted"])

    def count(bearer: str) -> Any:
        reply = say(site, "GET", "/me", bearer)
        assert {**reply.json(), "secret_count": 0} == {
            "email": "",
            "name": agent.name,
            "plan": "self-hosted",
            "secret_count": 0,
            "agent_count": 1,
        }
        return reply.json()["secret_count"]

    assert count(agent.agent_key) == 3
    assert count(token(site, agent, "secrets:read:counted/a/*")) == 2
    assert count(token(site, agent, f"secrets:read:{some[3]}", f"secrets:read:{some[0]}")) == 1
    assert count(token(site, agent, "secrets:write:counted/*")) == 0
    access(site, agent, ["counted/b"], [WHOLE])
    assert count(agent.agent_key) == 1


def test_it_says_that_it_lives(site: Site) -> None:
    """To anyone, with its release."""
    reply = site.http.get(f"{site.authority.base_url}/v1/health")
    assert (reply.status_code, reply.json()) == (200, {"status": "ok", "version": __version__})


@pytest.mark.req("RU1")
def test_the_trail_has_what_was_asked_of_the_vault(site: Site) -> None:
    """The newest first, with who it was, what it was about and what they said; nothing else of the audit is in it."""
    agent = site.onboard(vault=WHOLE)
    path = secret(site, agent)
    given = token(site, agent, f"secrets:read:{path}")
    read(site, path, given, headers={"X-Access-Reason": "for the report"})
    site.ask(agent)
    read(site, "staging/a/key", given)
    page = trail(site, limit=5)
    assert [(event["event_type"], event["resource_type"], event["resource_id"]) for event in page["events"]] == [
        ("vault.secret.read", "secret", "staging/a/key"),
        ("vault.secret.read", "secret", path),
        ("vault.token.issue", "token", given.partition(".")[0]),
        ("vault.secret.write", "secret", path),
        ("vault.access.change", "access", agent.client_id),
    ]
    denied, allowed = page["events"][:2]
    assert (denied["metadata"]["decision"], denied["metadata"]["reason"]) == ("deny", "scope_denied")
    assert (allowed["actor_id"], allowed["metadata"]["claimed"]) == (agent.client_id, {"reason": "for the report"})
    assert allowed["created_at"] == allowed["metadata"]["at"]
    (entry,) = [one for one in site.entries(jti=given.partition(".")[0]) if str(one["seq"]) == allowed["id"]]
    assert entry == allowed["metadata"]
    assert CANARY not in str(page)


def trail(site: Site, **params: int) -> dict[str, Any]:
    """Return a page of the vault's audit."""
    reply = say(site, "GET", "/audit", site.authority.admin_token, params=params)
    assert reply.status_code == 200, reply.text
    found: dict[str, Any] = reply.json()
    return found


def write_entries(site: Site, actions: Callable[[int], str], count: int) -> None:
    """Write so many entries."""

    async def work(authority: Authority) -> None:
        async def transaction(change: Change) -> None:
            caller = Caller(actor=Actor(kind="system"), request_id="test")
            for number in range(count):
                change.record(Entry(action=actions(number), decision="allow", caller=caller))

        await authority.ledger.change(transaction)

    inside(site, work)


def test_the_trail_goes_back_page_by_page(open_site: OpenSite) -> None:
    """Each entry is on one page, whatever else is in the audit; what lies deeper than 10 000 is 400 and not slow."""
    actions = ("vault.secret.read", "token.issue", "vault.secret.write", "vault.token.issue")
    with open_site() as site:
        write_entries(site, lambda number: actions[number % 4], 400)
        pages = [trail(site, page=number, limit=77) for number in range(1, 6)]
        ids = [int(event["id"]) for page in pages for event in page["events"]]
        assert ids == sorted(set(ids), reverse=True)
        assert len(ids) == 300
        assert {page["total"] for page in pages} == {300}
        assert trail(site, page=50, limit=200)["events"] == []
        write_entries(site, lambda number: actions[number % 4], 14_000)
        assert trail(site)["total"] == 10_000
        deep = trail(site, page=50, limit=200)["events"]
        assert len(deep) == 200
        for params in ({"page": 51, "limit": 200}, {"page": 0}, {"limit": 201}, {"page": 10_001, "limit": 1}):
            reply = say(site, "GET", "/audit", site.authority.admin_token, params=params)
            assert (reply.status_code, code_of(reply)) == (400, "VALIDATION_ERROR"), params


def test_an_unknown_credential_is_nobodys(site: Site) -> None:
    """Keys and tokens that were never given, or of another kind, are 401 with one text."""
    agent = site.onboard(vault=WHOLE)
    wrong = [
        generate("agent-key").text(),
        generate("vault-token").text(),
        f"{agent.key_id}.{'A' * 43}",
        f"{token(site, agent, WHOLE).partition('.')[0]}.{agent.agent_key.partition('.')[2]}",
    ]
    replies = [say(site, "GET", "/me", bearer) for bearer in wrong]
    assert {reply.status_code for reply in replies} == {401}
    assert len({reply.text for reply in replies}) == 1
