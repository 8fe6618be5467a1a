"""Tokens that need consent: who has to give it, who cannot, and for how long it is good."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from behaviour.support import PATIENCE, Call, Site, at_once, inside
from behaviour.vault import WHOLE, approver, ask, code_of, id_of, read, say, secret, token

from authsec_core.wire import format_time
from authsec_server.authority import Authority
from authsec_server.db import tables
from authsec_server.testing import OnboardedAgent

DELAY = 900.0  # seconds, by default
LIFETIME = 86_400.0  # seconds, by default
NOBODY = "00000000-0000-4000-8000-000000000000"


@dataclass(frozen=True)
class Wish:
    """A token that an agent has asked for and that waits for consent."""

    site: Site
    agent: OnboardedAgent
    path: str
    id: str

    def redeem(self, agent: OnboardedAgent | None = None) -> httpx.Response:
        """Come for the token."""
        return say(self.site, "POST", "/tokens", (agent or self.agent).agent_key, json={"approval_id": self.id})

    def decide(self, say_what: str, by: str, **body: str) -> httpx.Response:
        """Let the operator with this token decide."""
        return say(self.site, "POST", f"/approvals/{self.id}/{say_what}", by, json=body or None)

    def shown(self) -> dict[str, Any]:
        """Return it as operators see it."""
        items = say(self.site, "GET", "/approvals", self.site.authority.admin_token, params={"limit": 200}).json()
        (found,) = [item for item in items["items"] if item["id"] == self.id]
        assert isinstance(found, dict)
        return found

    def entries(self, action: str) -> list[dict[str, Any]]:
        """Return what the audit says of it."""
        found = self.site.entries(client_id=self.agent.client_id, action=action)
        return [entry for entry in found if entry["details"].get("approval_id") == self.id]


def wish(site: Site, tier: str, **more: Any) -> Wish:
    """Let a new agent ask for a token for a new secret of this tier."""
    agent = site.onboard(vault=WHOLE)
    path = secret(site, agent, tier=tier)
    reply = ask(site, agent, f"secrets:read:{path}", **more)
    assert reply.status_code == 200
    assert "token" not in reply.json()
    return Wish(site, agent, path, reply.json()["approval_id"])


def operators(site: Site, count: int) -> list[str]:
    """Return the tokens of so many operators who have onboarded nobody."""
    known = len(site.admin("GET", "/operators", params={"limit": 200})["items"])
    return [approver(site, f"operator {known + number}") for number in range(count)]


def test_a_sensitive_secret_takes_one_operator(site: Site) -> None:
    """Neither the agent's key nor a token without consent opens it; the token that was approved does, and it alone."""
    waiting = wish(site, "sensitive", description="the night's report")
    plain = token(site, waiting.agent, "secrets:read:staging/*")
    for bearer in (waiting.agent.agent_key, plain):
        assert read(site, waiting.path, bearer) == 403
    assert waiting.redeem().json()["status"] == "pending"
    (operator,) = operators(site, 1)
    assert waiting.shown()["description"] == "the night's report"
    decided = waiting.decide("approve", operator, reason="as agreed")
    assert (decided.status_code, decided.json()["status"]) == (200, "approved")
    given = waiting.redeem().json()
    assert (given["access_tier"], given["scopes"]) == ("sensitive", [f"secrets:read:{waiting.path}"])
    assert read(site, waiting.path, given["token"]) == 200
    assert waiting.shown()["status"] == "redeemed"


def test_a_secret_of_the_agents_own_key_says_what_is_missing(site: Site) -> None:
    """It is told to ask for a token of its own, by a code that clients know."""
    waiting = wish(site, "sensitive")
    reply = say(site, "GET", f"/secrets/{waiting.path}", waiting.agent.agent_key)
    assert (reply.status_code, code_of(reply)) == (403, "APPROVAL_REQUIRED")


def test_any_secret_that_a_scope_reaches_counts(site: Site) -> None:
    """A wide scope needs what the strictest secret below it needs, and one beside it nothing."""
    agent = site.onboard(vault=WHOLE)
    secret(site, agent, namespace="mixed/a")
    for tier in ("sensitive", "critical"):
        path = secret(site, agent, tier=tier, namespace="mixed/b")
        for scope in (f"secrets:read:{path}", "secrets:delete:mixed/b/*", "secrets:*:mixed/*"):
            assert ask(site, agent, "secrets:read:mixed/a/*", scope).json()["access_tier"] == tier, scope
        assert token(site, agent, "secrets:*:mixed/a/*", "secrets:read:mixed/bc/*")
    assert ask(site, agent, WHOLE).json()["access_tier"] == "critical"


def test_a_critical_secret_takes_two_and_a_while(timed: Site) -> None:
    """The second is another operator than the first; after both, there is a delay in which somebody may notice."""
    waiting = wish(timed, "critical")
    one, other = operators(timed, 2)
    assert waiting.decide("approve", one).json()["status"] == "pending"
    again = waiting.decide("approve", one)
    assert (again.status_code, code_of(again)) == (409, "CONFLICT")
    assert waiting.redeem().json()["good_from"] is None
    good_from = format_time(timed.clock.wall() + DELAY)
    assert waiting.decide("approve", other).json()["good_from"] == good_from
    timed.fake.advance(DELAY - 1)
    assert waiting.redeem().json() == {
        "requires_approval": True,
        "approval_id": waiting.id,
        "status": "approved",
        "access_tier": "critical",
        "scopes": [f"secrets:read:{waiting.path}"],
        "expires_at": waiting.shown()["expires_at"],
        "good_from": good_from,
    }
    timed.fake.advance(1)
    assert read(timed, waiting.path, waiting.redeem().json()["token"]) == 200


def test_a_token_for_sensitive_secrets_opens_no_critical_one(site: Site) -> None:
    """What was approved for less is not good for more, also when the secret has become stricter since."""
    waiting = wish(site, "sensitive")
    (operator,) = operators(site, 1)
    waiting.decide("approve", operator)
    given = waiting.redeem().json()["token"]
    deeper = say(
        site, "PUT", f"/secrets/{waiting.path}", approved(site, waiting), json={"value": "x", "access_tier": "critical"}
    )
    assert deeper.status_code == 200
    assert read(site, waiting.path, given) == 403


def approved(site: Site, waiting: Wish) -> str:
    """Return a token of the same agent that may write to the same sensitive secret."""
    wanted = ask(site, waiting.agent, f"secrets:write:{waiting.path}").json()
    (operator,) = operators(site, 1)
    say(site, "POST", f"/approvals/{wanted['approval_id']}/approve", operator)
    reply = say(site, "POST", "/tokens", waiting.agent.agent_key, json={"approval_id": wanted["approval_id"]})
    return str(reply.json()["token"])


def test_who_has_had_a_key_in_hand_cannot_approve(site: Site) -> None:
    """Neither who onboarded the agent nor who ever made a key for it: they would be asking themselves."""
    waiting = wish(site, "sensitive")
    maker, registrar, free = operators(site, 3)
    keys = f"/clients/{waiting.agent.client_id}/keys"
    key = site.http.post(
        f"{site.authority.base_url}/api/v1{keys}", json={}, headers={"Authorization": f"Bearer {maker}"}
    )
    site.admin("POST", f"{keys}/{key.json()['key_id']}/revoke")
    register(site, waiting.agent, registrar)
    for token_ in (site.authority.admin_token, maker, registrar):
        assert waiting.decide("approve", token_).status_code == 403
    denied = waiting.entries("vault.approval.approve")
    assert [(entry["decision"], entry["reason"]) for entry in denied] == [("deny", "own_agent")] * 3
    assert waiting.shown()["votes"] == []
    assert waiting.decide("approve", free).status_code == 200


def new_key(site: Site, agent: OnboardedAgent, by: str) -> str:
    """Let an operator make a key of the agent, and return it."""
    url = f"{site.authority.base_url}/api/v1/clients/{agent.client_id}/keys"
    reply = site.http.post(url, json={}, headers={"Authorization": f"Bearer {by}"})
    return str(reply.json()["agent_key"])


def test_who_approved_cannot_fetch_it(site: Site) -> None:
    """No key is good for it but the one that it was asked for with; with another one the same is another wish."""
    waiting = wish(site, "sensitive")
    one, other = operators(site, 2)
    waiting.decide("approve", one)
    for maker in (one, other):
        key = new_key(site, waiting.agent, maker)
        reply = say(site, "POST", "/tokens", key, json={"approval_id": waiting.id})
        assert (reply.status_code, code_of(reply)) == (403, "APPROVAL_REQUIRED")
        again = say(site, "POST", "/tokens", key, json={"scopes": [f"secrets:read:{waiting.path}"]}).json()
        assert (again["status"], again["approval_id"] == waiting.id) == ("pending", False)
    denied = [entry["reason"] for entry in waiting.entries("vault.token.issue")]
    assert denied == ["approval_required"] * 2
    assert waiting.redeem().json()["requires_approval"] is False


def test_what_was_asked_for_with_a_key_ends_with_it(site: Site) -> None:
    """It cannot be fetched any more, and does not count among those that are open."""
    waiting = wish(site, "sensitive")
    (operator,) = operators(site, 1)
    waiting.decide("approve", operator)
    scope = f"secrets:read:{waiting.path}"
    for number in range(31):
        ask(site, waiting.agent, scope, ttl=number + 1)
    key = new_key(site, waiting.agent, operator)
    site.admin("POST", f"/clients/{waiting.agent.client_id}/keys/{waiting.agent.key_id}/revoke")
    assert waiting.redeem().status_code == 401
    assert say(site, "POST", "/tokens", key, json={"scopes": [scope]}).json()["status"] == "pending"


def test_who_made_an_operators_token_has_it_in_hand(site: Site) -> None:
    """One person with two tokens is one: who onboarded the agent, or has approved, does not approve with another's."""
    waiting = wish(site, "critical")
    _, lent = site.operator("operator", name=f"lent {waiting.id}")
    assert waiting.decide("approve", lent).status_code == 403
    _, boss = site.operator("admin", name=f"boss {waiting.id}")
    own = made_by(boss, site, f"boss {waiting.id}")
    one, two = (made_by(own, site, f"{which} of boss {waiting.id}") for which in ("one", "two"))
    assert waiting.decide("approve", one).json()["status"] == "pending"
    for bearer in (two, own):
        reply = waiting.decide("approve", bearer)
        assert (reply.status_code, code_of(reply)) == (403, "SCOPE_DENIED")
    (free,) = operators(site, 1)
    assert waiting.decide("approve", free).json()["status"] == "approved"
    said = [
        (entry.get("reason"), entry["details"]["token_id"], entry["details"]["token_made_by"])
        for entry in waiting.entries("vault.approval.approve")
    ]
    boss_name = f"boss {waiting.id}"
    assert said[:4] == [
        ("own_agent", id_of(lent), "admin"),
        (None, id_of(one), boss_name),
        ("own_vote", id_of(two), boss_name),
        ("own_vote", id_of(own), boss_name),
    ]


def made_by(maker: str, site: Site, name: str) -> str:
    """Return a token of the operator of this name, who may be new, made with this one."""
    with httpx.Client(
        base_url=f"{site.authority.base_url}/api/v1",
        headers={"Authorization": f"Bearer {maker}"},
        timeout=PATIENCE,
    ) as http:
        known = {item["name"]: item["operator_id"] for item in http.get("/operators?limit=200").json()["items"]}
        found = (
            known.get(name) or http.post("/operators", json={"name": name, "role": "operator"}).json()["operator_id"]
        )
        return str(http.post(f"/operators/{found}/tokens", json={}).json()["token"])


def test_anybody_may_say_no(site: Site) -> None:
    """Also who could not approve: to be stopped by one of them harms nobody."""
    waiting = wish(site, "critical")
    _, lent = site.operator("operator", name=f"lent {waiting.id}")
    assert waiting.decide("deny", lent).json()["status"] == "denied"


@pytest.mark.parametrize("ended", [{"enabled": False}, {"role": "auditor"}], ids=str)
def test_a_consent_ends_with_the_right_to_give_it(timed: Site, ended: dict[str, Any]) -> None:
    """Before the second one and after it: then another operator is needed, and who is let in again says it again."""
    waiting, decided = wish(timed, "critical"), wish(timed, "critical")
    one, two, three = operators(timed, 3)
    for each in (waiting, decided):
        each.decide("approve", one)
    decided.decide("approve", two)
    timed.fake.advance(DELAY)
    name = waiting.shown()["votes"][0]["operator"]
    known = timed.admin("GET", "/operators", params={"limit": 200})["items"]
    (operator_id,) = [item["operator_id"] for item in known if item["name"] == name]
    timed.admin("PATCH", f"/operators/{operator_id}", json=ended)
    assert waiting.decide("approve", two).json()["status"] == "pending"
    assert decided.redeem().json()["status"] == "pending"
    (change,) = timed.entries(action="operator.update")[-1:]
    assert set(change["details"]["consents_ended"]) == {waiting.id, decided.id}
    timed.admin("PATCH", f"/operators/{operator_id}", json={"enabled": True, "role": "operator"})
    assert decided.redeem().json()["status"] == "pending"
    assert waiting.decide("approve", one).json()["status"] == "approved"
    assert decided.decide("approve", three).json()["status"] == "approved"
    assert decided.redeem().json()["good_from"] == format_time(timed.clock.wall() + DELAY)


@pytest.mark.inside
def test_a_token_that_nobody_is_known_to_have_made_is_in_the_way(timed: Site) -> None:
    """Of a release that did not note it: anybody may have it, so that none can approve with it."""
    waiting = wish(timed, "sensitive")
    (operator,) = operators(timed, 1)

    async def forget(authority: Authority) -> None:
        forgotten = sa.update(tables.operator_tokens).values(created_by=None)
        await authority.database.write(lambda connection: connection.execute(forgotten))

    inside(timed, forget)
    assert waiting.decide("approve", operator).status_code == 409


def register(site: Site, agent: OnboardedAgent, by: str) -> None:
    """Let an operator register a public key of the agent, whose private half they may have."""
    from authsec_core.testing import SigningKey

    body = {"jwk": dict(SigningKey.generate().jwk)}
    url = f"{site.authority.base_url}/api/v1/clients/{agent.client_id}/public-keys"
    reply = site.http.post(url, json=body, headers={"Authorization": f"Bearer {by}"})
    assert reply.status_code == 201, reply.text


def test_one_no_is_final(site: Site) -> None:
    """The agent hears it, nobody can approve it any more, and asking anew is another request."""
    waiting = wish(site, "critical")
    one, other = operators(site, 2)
    waiting.decide("approve", one)
    assert waiting.decide("deny", other, reason="not tonight").json()["status"] == "denied"
    reply = waiting.redeem()
    assert (reply.status_code, code_of(reply)) == (403, "SCOPE_DENIED")
    (third,) = operators(site, 1)
    assert waiting.decide("approve", third).status_code == 409
    votes = waiting.shown()["votes"]
    assert [(vote["decision"], vote["reason"]) for vote in votes] == [("approve", ""), ("deny", "not tonight")]
    assert ask(site, waiting.agent, f"secrets:read:{waiting.path}").json()["approval_id"] != waiting.id


def test_until_it_was_fetched_anybody_may_object(timed: Site) -> None:
    """That is what the delay is for: a no counts after all said yes, also of who said yes. Later it is too late."""
    found = operators(timed, 3)
    for objector in (0, 2):
        waiting = wish(timed, "critical")
        for operator in found[:2]:
            waiting.decide("approve", operator)
        assert waiting.shown()["status"] == "approved"
        timed.fake.advance(DELAY)
        assert waiting.decide("deny", found[objector], reason="stolen key").json()["status"] == "denied"
        assert waiting.redeem().status_code == 403
        assert Counter(vote["decision"] for vote in waiting.shown()["votes"])["deny"] == 1
        assert waiting.entries("vault.approval.deny")[0]["decision"] == "allow"
    waiting = wish(timed, "sensitive")
    waiting.decide("approve", found[0])
    assert read(timed, waiting.path, waiting.redeem().json()["token"]) == 200
    assert waiting.decide("deny", found[1]).status_code == 409


def test_an_approval_ends(timed: Site) -> None:
    """Neither can it be decided on nor the token be had, a day after it was asked for."""
    pending, decided = wish(timed, "sensitive"), wish(timed, "sensitive")
    (operator,) = operators(timed, 1)
    decided.decide("approve", operator)
    timed.fake.advance(LIFETIME - 1)
    assert pending.redeem().json()["status"] == "pending"
    timed.fake.advance(1)
    assert pending.decide("approve", operator).status_code == 409
    for waiting in (pending, decided):
        reply = waiting.redeem()
        assert (reply.status_code, code_of(reply)) == (403, "APPROVAL_REQUIRED")
        assert waiting.shown()["status"] == "ended"


@pytest.mark.req("RA8")
def test_one_of_many_gets_the_token(site: Site) -> None:
    """64 come for the same token at the same time, at all servers: one has it, and the others are in the audit."""
    waiting = wish(site, "sensitive")
    (operator,) = operators(site, 1)
    waiting.decide("approve", operator)
    urls, body = site.base_urls, {"approval_id": waiting.id}
    calls = [Call("POST", f"{urls[n % len(urls)]}/v1/tokens", waiting.agent.agent_key, body) for n in range(64)]
    replies = at_once(calls)
    assert Counter(reply.status_code for reply in replies) == {200: 1, 403: 63}
    assert sum("token_id" in reply.json() for reply in replies) == 1
    said = Counter((entry["decision"], entry.get("reason")) for entry in waiting.entries("vault.token.issue"))
    assert said == {("allow", None): 1, ("deny", "approval_ended"): 63}


@pytest.mark.req("RA8")
def test_one_of_many_operators_decides(site: Site) -> None:
    """16 operators say yes at the same time: one decides, and each other one is told that it was decided."""
    waiting = wish(site, "sensitive")
    urls = site.base_urls
    calls = [
        Call("POST", f"{urls[n % len(urls)]}/v1/approvals/{waiting.id}/approve", operator, {})
        for n, operator in enumerate(operators(site, 16))
    ]
    assert Counter(reply.status_code for reply in at_once(calls)) == {200: 1, 409: 15}
    assert len(waiting.shown()["votes"]) == 1


def test_only_who_asked_gets_it(site: Site) -> None:
    """For another agent, and for an id of nothing, it is the same 404; and a token cannot come for one."""
    waiting, other = wish(site, "sensitive"), site.onboard(vault=WHOLE)
    (operator,) = operators(site, 1)
    waiting.decide("approve", operator)
    nothing = say(site, "POST", "/tokens", other.agent_key, json={"approval_id": NOBODY})
    replies = [waiting.redeem(other), nothing]
    assert [(reply.status_code, code_of(reply)) for reply in replies] == [(404, "NOT_FOUND")] * 2
    assert replies[0].text == replies[1].text
    plain = token(site, waiting.agent, "secrets:read:staging/*")
    assert say(site, "POST", "/tokens", plain, json={"approval_id": waiting.id}).status_code == 403


def test_an_agent_that_may_do_less_now_gets_nothing(site: Site) -> None:
    """Consent to what it might do once is not consent to what it may not do any more."""
    waiting = wish(site, "sensitive")
    (operator,) = operators(site, 1)
    waiting.decide("approve", operator)
    access = {"namespaces": ["staging"], "scopes": [WHOLE]}
    site.admin("PUT", f"/clients/{waiting.agent.client_id}/vault-access", json=access)
    reply = waiting.redeem()
    assert (reply.status_code, code_of(reply)) == (403, "SCOPE_DENIED")


def test_who_asks_again_waits_for_the_same(site: Site) -> None:
    """The same wish is one approval and one entry; another wish is another; and none of them is without end."""
    waiting = wish(site, "sensitive")
    scope = f"secrets:read:{waiting.path}"
    for _ in range(3):
        assert ask(site, waiting.agent, scope).json()["approval_id"] == waiting.id
    assert len(waiting.entries("vault.approval.request")) == 1
    for number in range(31):
        assert ask(site, waiting.agent, scope, ttl=number + 1).json()["approval_id"] != waiting.id
    reply = ask(site, waiting.agent, scope, ttl=60)
    assert (reply.status_code, code_of(reply)) == (409, "CONFLICT")
    (refused,) = site.entries(client_id=waiting.agent.client_id, action="vault.token.issue")
    assert (refused["decision"], refused["reason"], refused["asked"]) == ("deny", "limit_reached", scope)
    assert ask(site, waiting.agent, scope).json()["approval_id"] == waiting.id


def test_consent_can_be_asked_for_where_no_secret_needs_it(site: Site) -> None:
    """So a version of a secret that was stricter then can be read: its tier is its own."""
    agent = site.onboard(vault=WHOLE)
    reply = ask(site, agent, "secrets:read:quiet/*", access_tier="critical").json()
    assert (reply["requires_approval"], reply["access_tier"]) == (True, "critical")


def test_operators_find_what_waits(site: Site) -> None:
    """By how it stands, page by page, with all that they need to decide; agents and auditors decide nothing."""
    waiting = wish(site, "sensitive", ttl=60, max_uses=2, ip_allowlist=["127.0.0.1"])
    operator, (_, auditor) = operators(site, 1)[0], site.operator("auditor", name=f"auditor of {waiting.id}")

    def ids(status: str) -> set[str]:
        found, after = set(), None
        while True:
            params = {"status": status, "limit": "2", **({"after": after} if after else {})}
            page = say(site, "GET", "/approvals", auditor, params=params).json()
            found |= {item["id"] for item in page["items"]}
            after = page["next"]
            if after is None:
                return found

    assert waiting.id in ids("pending") - ids("approved") - ids("denied") - ids("redeemed") - ids("ended")
    shown = waiting.shown()
    assert {name: shown[name] for name in ("agent_id", "agent_name", "access_tier", "scopes")} == {
        "agent_id": waiting.agent.client_id,
        "agent_name": waiting.agent.name,
        "access_tier": "sensitive",
        "scopes": [f"secrets:read:{waiting.path}"],
    }
    assert (shown["ttl"], shown["max_uses"], shown["ip_allowlist"]) == (60, 2, ["127.0.0.1/32"])
    assert waiting.decide("approve", auditor).status_code == 403
    for bearer in (waiting.agent.agent_key, token(site, waiting.agent, "secrets:read:staging/*")):
        assert waiting.decide("approve", bearer).status_code == 401
        assert say(site, "GET", "/approvals", bearer).status_code == 401
    waiting.decide("approve", operator)
    assert waiting.id in ids("approved") - ids("pending")
    waiting.redeem()
    assert waiting.id in ids("redeemed") - ids("approved")


def test_the_admin_api_has_the_same(site: Site) -> None:
    """What waits is listed and decided there, too, with its own pages and problems."""
    waiting = wish(site, "sensitive")
    path = f"/approvals/{waiting.id}/approve"
    items = site.admin("GET", "/approvals", params={"status": "pending", "limit": 200})["items"]
    assert waiting.shown() in items
    assert site.admin("POST", path, status=403)["code"] == "forbidden"
    (operator,) = operators(site, 1)
    url, headers = f"{site.authority.base_url}/api/v1{path}", {"Authorization": f"Bearer {operator}"}
    assert site.http.post(url, headers=headers).json() == waiting.shown()
    assert waiting.redeem().json()["requires_approval"] is False


@pytest.mark.req("RU1")
def test_each_step_is_an_entry(site: Site) -> None:
    """What was asked, who said what, and which token came of it; what an operator says is one line."""
    waiting = wish(site, "sensitive")
    (operator,) = operators(site, 1)
    assert waiting.decide("approve", operator, reason="a\nb").status_code == 400
    waiting.decide("approve", operator, reason="as agreed")
    given = waiting.redeem().json()["token_id"]
    (asked,) = waiting.entries("vault.approval.request")
    (said,) = waiting.entries("vault.approval.approve")
    (issued,) = waiting.entries("vault.token.issue")
    scope = f"secrets:read:{waiting.path}"
    assert (asked["actor"]["id"], asked["asked"], asked["details"]["access_tier"]) == (
        waiting.agent.client_id,
        scope,
        "sensitive",
    )
    assert (said["actor"]["kind"], said["asked"], said["details"]["reason"]) == ("operator", scope, "as agreed")
    assert (issued["jti"], issued["scope"]) == (given, scope)


@pytest.mark.inside
def test_a_key_that_nobody_is_known_to_have_made_is_in_the_way(timed: Site) -> None:
    """Keys from before it was noted who makes them: any operator may have had one in hand, so that none can approve."""
    waiting = wish(timed, "sensitive")
    timed.fake.advance(1)
    timed.admin("POST", f"/clients/{waiting.agent.client_id}/keys", json={})

    async def forget(authority: Authority) -> None:
        forgotten = sa.update(tables.client_keys).values(created_by=None)
        await authority.database.write(lambda connection: connection.execute(forgotten))

    inside(timed, forget)
    (operator,) = operators(timed, 1)
    assert waiting.decide("approve", operator).status_code == 409


@pytest.mark.inside
def test_what_ended_is_forgotten_a_day_later(timed: Site) -> None:
    """With what operators said to it."""
    waiting = wish(timed, "critical")
    (operator,) = operators(timed, 1)
    waiting.decide("approve", operator)

    def kept() -> set[str]:
        async def work(authority: Authority) -> set[str]:
            await authority.vault_tokens.purge()
            async with authority.database.read() as connection:
                return set((await connection.execute(sa.select(tables.approval_votes.c.approval_id))).scalars())

        return set(inside(timed, work))

    timed.fake.advance(LIFETIME + 86_400)
    assert waiting.id in kept()
    timed.fake.advance(1)
    assert waiting.id not in kept()
    assert waiting.redeem().status_code == 404
