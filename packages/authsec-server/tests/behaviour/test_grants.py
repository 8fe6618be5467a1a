"""What does an agent get? Asked ∩ delegated ∩ the role's, now; the smallest cap; and not a word of its own."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

import pytest
from behaviour.support import NOBODY, Site, peek

from authsec_core.wire import parse_time
from authsec_server.testing import OnboardedAgent

ROLES = {
    "reader": "read:metrics read:records",
    "writer": "read:metrics write:records delete:records",
    "empty": "",
}
# A delegation: a role, the allowed actions (None is all of them), and what else it says.
Delegated = tuple[str, "str | None", dict[str, Any]]
READER: Delegated = ("reader", None, {})
WRITER: Delegated = ("writer", None, {})
WRITE_ONLY: Delegated = ("writer", "write:records", {})
OTHER_API: Delegated = ("writer", None, {"audiences": ["billing-api"]})
OFF: Delegated = ("reader", None, {"enabled": False})
SHORT: Delegated = ("reader", None, {"max_duration": 1, "unit": "minutes"})

# delegations, scope asked, audience asked -> the grant, or the status
TABLE: list[tuple[str, list[Delegated], str | None, str | None, str | int]] = [
    ("all of a role", [READER], None, None, "read:metrics read:records"),
    ("some of it", [READER], "read:metrics", None, "read:metrics"),
    ("some of what was asked", [READER], "read:metrics write:records", None, "read:metrics"),
    ("nothing of what was asked", [READER], "write:records", None, 403),
    ("scopes are words, not prefixes", [READER], "read", None, 403),
    ("nor patterns", [READER], "read:* *", None, 403),
    ("nor spelled otherwise", [READER], "READ:METRICS", None, 403),
    ("some allowed actions", [WRITE_ONLY], None, None, "write:records"),
    ("not the others of the role", [WRITE_ONLY], "delete:records", None, 403),
    ("two delegations add up", [READER, WRITE_ONLY], None, None, "read:metrics read:records write:records"),
    ("what both have counts once", [READER, WRITER], "read:metrics", None, "read:metrics"),
    ("a role without permissions", [("empty", None, {})], None, None, 403),
    ("it adds nothing", [("empty", None, {}), READER], None, None, "read:metrics read:records"),
    ("none at all", [], None, None, 404),
    ("a disabled one", [OFF], None, None, 404),
    ("a disabled one adds nothing", [OFF, WRITE_ONLY], None, None, "write:records"),
    ("for another API", [OTHER_API], None, None, 403),
    ("for the API asked", [OTHER_API, READER], "read:metrics", "billing-api", "read:metrics"),
    ("not what is for others", [OTHER_API, READER], "read:records", "billing-api", 403),
    ("an API that nobody named", [READER], None, "root", 403),
    ("a blank scope", [READER], "", None, 400),
    ("spaces for a scope", [READER], "   ", None, 400),
    ("a scope that is none", [READER], 'read:"metrics"', None, 400),
    ("a blank audience", [READER], None, " ", 400),
    (
        "a short one decides for all",
        [SHORT, WRITER],
        None,
        None,
        "delete:records read:metrics read:records write:records",
    ),
]


@pytest.fixture(scope="module")
def bare(timed: Site) -> OnboardedAgent:
    """The roles, and an agent to copy: it has a delegation that no other has."""
    for role, permissions in ROLES.items():
        timed.admin("PUT", f"/roles/{role}", json={"permissions": permissions.split()})
    return timed.onboard()


def agent_with(site: Site, delegated: list[Delegated]) -> OnboardedAgent:
    """Return an agent with these delegations and no other."""
    agent = site.onboard("none:such")
    body = {"target_type": "autonomous-workload", "client_id": agent.client_id, "max_duration": 1, "unit": "hours"}
    made = [
        site.admin(
            "POST",
            "/trust-delegations",
            json={**body, "role": role, "allowed_actions": None if actions is None else actions.split(), **more},
        )
        for role, actions, more in delegated
    ]
    site.admin("PATCH", f"/trust-delegations/{agent.delegation_id}", json={"enabled": False})
    assert all(one["client_id"] == agent.client_id for one in made)
    return agent


def dry_run(site: Site, agent: OnboardedAgent, **ask: Any) -> dict[str, Any]:
    """Ask what the agent would get."""
    found: dict[str, Any] = site.admin("POST", "/tokens/dry-run", json={"client_id": agent.client_id, **ask})
    return found


@pytest.mark.req("RA3")
@pytest.mark.parametrize(
    ("delegated", "scope", "audience", "expected"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE]
)
def test_the_grant_is_the_intersection(
    timed: Site,
    bare: OnboardedAgent,
    delegated: list[Delegated],
    scope: str | None,
    audience: str | None,
    expected: str | int,
) -> None:
    """The token holds exactly asked ∩ delegated ∩ the role's, reply and claims agree, and the dry run foretold it."""
    agent = agent_with(timed, delegated)
    asked: dict[str, Any] = {
        name: value for name, value in (("scope", scope), ("audience", audience)) if value is not None
    }
    reply = timed.ask(agent, **asked)
    if isinstance(expected, int):
        assert reply.status_code == expected, reply.text
        assert set(reply.json()) == {"error", "details"}
        assert "token" not in reply.json()
        if expected != 400:
            foretold = dry_run(timed, agent, **asked)
            assert (foretold["granted"], foretold["code"]) == (False, reply.json()["details"])
        return
    body, claims = reply.json(), peek(reply.json()["token"])
    assert body["permissions"] == claims["permissions"] == expected.split()
    assert body["scope"] == claims["scope"] == expected
    assert body["audience"] == claims["aud"] == [audience or "authsec-api"]
    foretold = dry_run(timed, agent, **asked)
    assert (foretold["granted"], foretold["scopes"]) == (True, expected.split())
    contributing = [line for line in foretold["delegations"] if line["failed"] is None]
    assert claims["delegated_by"] == ",".join(sorted({line["role"] for line in contributing}))
    assert foretold["ttl"] == body["ttl_seconds"] == claims["exp"] - claims["iat"]


@pytest.mark.req("RA3")
@pytest.mark.parametrize(
    ("caps", "asked", "lives"),
    [
        ({}, None, 1800),
        ({}, "60", 60),
        ({}, "3600", 3600),
        ({}, "999999999", 3600),
        ({"max_duration": 5, "unit": "minutes"}, None, 300),
        ({"max_duration": 5, "unit": "minutes"}, "3600", 300),
        ({"max_duration": 2, "unit": "days"}, "999999999", 3600),
        ({"not_after": 120.0}, None, 120),
        ({"not_after": 120.0, "max_duration": 1, "unit": "minutes"}, None, 60),
        ({"not_after": 120.0}, "1", 1),
    ],
)
def test_a_token_lives_as_long_as_the_smallest_cap(
    timed: Site, caps: Mapping[str, Any], asked: str | None, lives: int
) -> None:
    """The ttl is the smallest of: asked, the server's usual and longest, the delegation's, the time to its end."""
    agent = timed.onboard()
    ends = {"not_after": timed.after(caps["not_after"])} if "not_after" in caps else {}
    terms = {"max_duration": 30, "unit": "days", **caps, **ends}
    timed.admin("PATCH", f"/trust-delegations/{agent.delegation_id}", json=terms)
    body = timed.ask(agent, **_ttl(asked)).json()
    claims = peek(body["token"])
    assert body["ttl_seconds"] == claims["exp"] - claims["iat"] == lives
    assert parse_time(body["expires_at"]) == claims["exp"]
    assert claims["exp"] <= timed.clock.wall() + lives
    assert dry_run(timed, agent, ttl=None if asked is None else int(asked))["ttl"] == lives


def _ttl(asked: str | None) -> dict[str, Any]:
    return {} if asked is None else {"ttl": asked}


@pytest.mark.req("RA3")
def test_each_cap_of_several_delegations_counts(timed: Site) -> None:
    """Of two delegations in one token the shorter decides, and one that gives nothing of it decides nothing."""
    agent = timed.onboard("read:metrics", max_duration=600)
    timed.delegate(agent, "write:records", max_duration=60)
    assert timed.ask(agent).json()["ttl_seconds"] == 60
    assert timed.ask(agent, scope="read:metrics").json()["ttl_seconds"] == 600


@pytest.mark.req("RA3")
@pytest.mark.parametrize("ttl", ["0", "-1", "1.5", "1e3", " 60", "60s", "", "٦٠", "9999999999", "nan"])
def test_a_ttl_that_is_none_is_refused(timed: Site, bare: OnboardedAgent, ttl: str) -> None:
    """Whole positive seconds in ASCII digits, or 400."""
    assert timed.ask(bare, ttl=ttl).status_code == 400


@pytest.mark.req("RA3")
def test_what_ended_or_is_off_gives_nothing(timed: Site) -> None:
    """404 for nothing delegated or enabled; 410 for what ended; 403 for a disabled client; and who comes back."""
    agent = timed.onboard()
    delegation = f"/trust-delegations/{agent.delegation_id}"
    timed.admin("PATCH", delegation, json={"enabled": False})
    assert timed.ask(agent).status_code == 404
    timed.admin("PATCH", delegation, json={"enabled": True, "not_after": timed.after(10)})
    timed.fake.advance(8.5)
    assert timed.ask(agent).json()["ttl_seconds"] == 1
    timed.fake.advance(1.5)
    assert timed.ask(agent).status_code == 410
    assert dry_run(timed, agent)["delegations"][0]["failed"] == "expired"
    timed.admin("PATCH", delegation, json={"not_after": None})
    assert timed.ask(agent).status_code == 200
    timed.admin("PATCH", f"/clients/{agent.client_id}", json={"state": "disabled"})
    assert timed.ask(agent).status_code == 403
    timed.admin("PATCH", f"/clients/{agent.client_id}", json={"state": "active"})
    assert timed.ask(agent).status_code == 200
    timed.admin("POST", f"{delegation}/revoke")
    assert timed.ask(agent).status_code == 410
    assert dry_run(timed, agent)["delegations"][0]["failed"] == "revoked"
    timed.delegate(agent, "read:metrics")
    assert timed.ask(agent).status_code == 200
    timed.admin("POST", f"/clients/{agent.client_id}/revoke")
    assert timed.ask(agent).status_code == 410
    assert timed.ask(NOBODY, f"Bearer {agent.agent_key}").status_code == 404


@pytest.mark.req("RA3")
def test_a_narrower_role_narrows_what_is_out(timed: Site) -> None:
    """What a role loses is not in the next token, and is taken back where a token holds it; the others go on."""
    agent, other = timed.onboard("read:metrics write:records"), timed.onboard("read:metrics write:records")
    wide, narrow, others = timed.token(agent), timed.token(agent, scope="read:metrics"), timed.token(other)
    timed.admin("PUT", f"/roles/{agent.role}", json={"permissions": ["read:metrics", "read:more"]})
    timed.fake.advance(1.0)
    assert [timed.is_listed(token) for token in (wide, narrow, others)] == [True, False, False]
    assert timed.ask(agent).json()["permissions"] == ["read:metrics", "read:more"]
    assert timed.ask(agent, scope="write:records").status_code == 403
    timed.admin("PUT", f"/roles/{agent.role}", json={"permissions": []})
    timed.fake.advance(1.0)
    assert timed.is_listed(narrow)
    assert timed.ask(agent).status_code == 403


@pytest.mark.req("RA3")
def test_allowed_actions_do_not_outlive_the_role(timed: Site) -> None:
    """What was delegated by name and the role no longer has is not given; when the role has it again, it is."""
    agent = timed.onboard("read:metrics write:records", allowed_actions=["write:records"])
    role = f"/roles/{agent.role}"
    timed.admin("PUT", role, json={"permissions": ["read:metrics"]})
    assert timed.ask(agent).status_code == 403
    (line,) = dry_run(timed, agent)["delegations"]
    assert (line["failed"], line["missing"]) == ("actions", ["write:records"])
    timed.admin("PUT", role, json={"permissions": ["write:records"]})
    assert timed.ask(agent).json()["permissions"] == ["write:records"]


@pytest.mark.req("RA3")
def test_the_dry_run_says_why(timed: Site, bare: OnboardedAgent) -> None:
    """It names the first check that each delegation fails and what is missing; it issues and records nothing."""
    agent = agent_with(timed, [READER, WRITE_ONLY, OTHER_API])
    before = len(timed.entries(client_id=agent.client_id))
    found = dry_run(timed, agent, scope="write:records delete:records", ttl=60)
    assert (found["granted"], found["scopes"], found["missing"]) == (True, ["write:records"], ["delete:records"])
    by_role = {(line["role"], line["failed"]) for line in found["delegations"]}
    assert by_role == {(agent.role, "disabled"), ("reader", "scopes"), ("writer", None), ("writer", "audience")}
    giving = next(line for line in found["delegations"] if line["failed"] is None)
    assert "in the role but not among the allowed actions: delete:records" in giving["message"]
    assert len(timed.entries(client_id=agent.client_id)) == before
    nobody = timed.authority.client.post("/tokens/dry-run", json={"client_id": NOBODY})
    assert nobody.status_code == 404


CLAIMS = {
    *("iss", "sub", "aud", "exp", "iat", "nbf", "jti", "client_id", "agent_type", "tenant_id"),
    *("permissions", "scope", "delegated_by", "status"),
}
HOSTILE = 'admin\u202e"},"roles":["root"]'


@pytest.mark.req("RA4")
def test_nothing_that_an_agent_sends_is_a_claim(site: Site) -> None:
    """Parameters and headers named like claims, and hostile values everywhere: the claims are the operator's."""
    agent = site.onboard("read:metrics")
    invented: dict[str, str] = dict.fromkeys(
        ("sub", "iss", "aud", "roles", "role", "permissions", "tenant_id", "agent_type", "delegated_by"),
        "hostile-value",
    )
    invented |= {"jti": NOBODY, "exp": "9999999999", "act": '{"sub":"hostile-value"}', "claims": HOSTILE}
    headers = {
        **{f"X-{name}": "hostile-value" for name in ("Agent-Name", "Access-Reason", "Conversation-ID", "Tenant-ID")},
        **{f"X-{name}": "hostile-value" for name in ("Role", "Subject", "Forwarded-For", "Forwarded-Host")},
        "X-Request-ID": "hostile-value",
        "X-Client-ID": agent.client_id.upper(),
        "User-Agent": "hostile-value",
        "Forwarded": "host=hostile-value",
        "Cookie": "role=hostile-value",
    }
    reply = site.ask(agent, headers=headers, **invented)
    assert reply.status_code == 200, reply.text
    claims = peek(reply.json()["token"])
    assert set(claims) == CLAIMS
    assert "hostile" not in str(claims)
    assert "root" not in str(claims)
    assert claims["iss"] == site.authority.issuer
    assert claims["sub"] == agent.spiffe_id == reply.json()["spiffe_id"]
    assert (claims["client_id"], claims["agent_type"]) == (agent.client_id, "autonomous-workload")
    assert claims["permissions"] == ["read:metrics"]
    assert claims["status"]["status_list"]["uri"] == f"{site.authority.issuer}/statuslists/0"


@pytest.mark.req("RA4")
@pytest.mark.parametrize(
    "scope",
    [
        "read:metrics admin",
        "read:metrics root:*",
        'read:metrics {"a":1}',
        "read:metrics\nadmin",
        "read:metrics\tadmin",
        "read:metrics\x00admin",
        "read:metrics\u3000admin",
        "ｒead:metrics",
        "read:metrics\u200b",
        "x" * 5000,
    ],
)
def test_a_hostile_scope_reaches_no_token(site: Site, scope: str) -> None:
    """What is no scope is refused, what is not delegated is left out: a token holds the operator's own spellings."""
    agent = site.onboard("read:metrics")
    reply = site.ask(agent, scope=scope)
    if reply.status_code == 200:
        assert peek(reply.json()["token"])["permissions"] == ["read:metrics"]
    else:
        assert reply.status_code in (400, 403, 414), reply.text
        assert scope not in reply.text


@pytest.mark.req("RA4")
@pytest.mark.parametrize(
    "audience", ["authsec-api,root", "authsec-api root", '["root"]', "AUTHSEC-API", "authsec-api\n", "é", "a" * 600]
)
def test_a_hostile_audience_reaches_no_token(site: Site, audience: str) -> None:
    """An audience is one that an operator named, letter by letter."""
    reply = site.ask(site.onboard(), audience=audience)
    assert reply.status_code in (400, 403)
    assert "token" not in reply.json()


SEGMENTS = [
    "",
    " ",
    ".",
    "..",
    "a/b",
    "a/../b",
    "a%2fb",
    "a\\b",
    "*",
    "a?",
    "a#b",
    "ns ",
    "é",
    "ａ",
    "a\n",
    "a\x00",
    "a" * 3000,
]


@pytest.mark.req("RA4")
@pytest.mark.parametrize("value", SEGMENTS, ids=ascii)
@pytest.mark.parametrize("selector", ["k8s:ns", "k8s:sa"])
def test_a_segment_of_an_identity_is_a_plain_name(site: Site, selector: str, value: str) -> None:
    """Not even an operator can put a path, a wildcard or a look-alike into a SPIFFE ID: 422, and no client."""
    selectors = {"k8s:ns": "production", "k8s:sa": "support", selector: value}
    body = {"name": f"hostile {selector} {SEGMENTS.index(value)}", "agent_type": "mcp-agent", "platform": "kubernetes"}
    reply = site.authority.client.post("/clients", json={**body, "selectors": selectors})
    assert reply.status_code == 422, reply.text
    assert "agent_key" not in reply.json()
    # The name is still free: nothing was kept.
    site.admin("POST", "/clients", status=201, json={**body, "selectors": {"k8s:ns": "a.b_C-1", "k8s:sa": "x"}})


@pytest.mark.req("RA4")
def test_an_identity_is_made_of_plain_names(site: Site) -> None:
    """With a service account it is the customary one, else it names the client; a client's name is no part of it."""
    named = site.onboard(name="spiffe://evil/../x", platform="kubernetes", selectors={"k8s:ns": "prod", "k8s:sa": "s"})
    plain = site.onboard(name='"; DROP TABLE clients; --')
    assert named.spiffe_id.endswith("/ns/prod/sa/s")
    assert plain.spiffe_id.endswith(f"/agents/autonomous-workload/{plain.client_id}")
    for agent in (named, plain):
        claims = peek(site.token(agent))
        assert re.fullmatch(r"spiffe://[a-z0-9._-]+(/[a-zA-Z0-9._-]+)+", claims["sub"])
        assert agent.name not in str(claims)


@pytest.mark.req("RA4")
@pytest.mark.parametrize("name", ["a,b", "a b", "a/b", "a%2fb", "é", "a" * 65, "a\n"])
def test_a_role_cannot_pass_for_two(site: Site, name: str) -> None:
    """`delegated_by` joins the names of roles with commas: none has one, nor anything else that is not plain."""
    reply = site.authority.client.put(f"/roles/{quote(name, safe='')}", json={"permissions": ["read:metrics"]})
    assert reply.status_code in (404, 422), reply.text
