"""The guard in a FastAPI application: who gets in, who does not, and what is on record of it.

No `from __future__ import annotations`: FastAPI reads those of functions that are made inside others.
"""

from typing import Annotated, Any

import pytest
from fastapi import Depends, FastAPI
from guard_support import Issuer, Memory, bearer, behind
from starlette.testclient import TestClient

from authsec_core import ConfigurationError
from authsec_fastapi import AuthSecGuard, Policy, Principal, StaticToken

issuer = Issuer()
POLICY = Policy(roles={"viewer": frozenset({"read"}), "agent": frozenset({"read", "respond"})})
STATIC = "a-token-for-a-first-try"


def api(guard: AuthSecGuard) -> TestClient:
    """Return a client of an application whose routes say what they need."""
    app = FastAPI()

    def route(path: str, dependency: Any) -> None:
        async def answer(caller: Annotated[Principal, Depends(dependency)]) -> dict[str, str]:
            return {"subject": caller.subject}

        app.get(path)(answer)

    route("/metrics", guard.require("read:metrics"))
    route("/anybody", guard.require_caller())
    if "agent" in guard.policy.roles:
        route("/respond", guard.require_action("respond"))
        route("/agents", guard.require_role("agent"))
        route("/both", guard.require("read:metrics", role="agent", action="respond"))
    return behind(app)


@pytest.mark.parametrize(
    ("path", "token", "status"),
    [
        ("/metrics", issuer.token("read:metrics"), 200),
        ("/metrics", issuer.token("read:metrics", "x"), 200),
        ("/metrics", issuer.token("read"), 403),
        ("/metrics", issuer.token("read:metrics:all"), 403),
        ("/metrics", issuer.token(), 403),
        ("/anybody", issuer.token(), 200),
        ("/respond", issuer.token(roles=["agent"]), 200),
        ("/respond", issuer.token(roles=["viewer"]), 403),
        ("/respond", issuer.token(roles=["Agent"]), 403),
        ("/respond", issuer.token(), 403),
        ("/agents", issuer.token(roles=["viewer", "agent"]), 200),
        ("/agents", issuer.token(roles=["viewer"]), 403),
        ("/both", issuer.token("read:metrics", roles=["agent"]), 200),
        ("/both", issuer.token("read:metrics", roles=["viewer"]), 403),
        ("/both", issuer.token(roles=["agent"]), 403),
        ("/metrics", issuer.token("read:metrics", exp=1), 401),
        ("/metrics", issuer.token("read:metrics", aud=["another"]), 401),
        ("/metrics", issuer.token("read:metrics", iss="https://another.example"), 401),
        ("/anybody", issuer.token(roles={"agent": True}), 401),
        ("/anybody", "x", 401),
        ("/anybody", "", 401),
    ],
)
def test_a_route_says_what_it_needs(path: str, token: str, status: int) -> None:
    """Scope, role and action are each needed, exactly as spelled; a bad token is 401, whatever it says."""
    assert api(issuer.guard(policy=POLICY)).get(path, headers=bearer(token)).status_code == status


@pytest.mark.req("RV8")
def test_refusals_are_those_of_rfc_6750() -> None:
    """401 and 403 name scheme, realm, error and scopes; nothing that was sent is in them."""
    client = api(issuer.guard(realm="shop"))
    missing = client.get("/metrics")
    assert (missing.status_code, missing.headers["www-authenticate"]) == (401, 'Bearer realm="shop"')
    wrong = client.get("/metrics", headers=bearer("canary.canary.canary"))
    assert (wrong.status_code, wrong.headers["www-authenticate"]) == (401, 'Bearer realm="shop", error="invalid_token"')
    assert "canary" not in wrong.text
    short = client.get("/metrics", headers=bearer(issuer.token("canary")))
    assert short.status_code == 403
    assert short.headers["www-authenticate"] == 'Bearer realm="shop", error="insufficient_scope", scope="read:metrics"'
    assert "canary" not in short.text
    twice = client.get("/metrics", headers=[("Authorization", "Bearer a"), ("Authorization", "Bearer b")])
    assert (twice.status_code, twice.headers["www-authenticate"]) == (
        400,
        'Bearer realm="shop", error="invalid_request"',
    )


def test_every_decision_is_on_record() -> None:
    """Who, what was needed, where and why; of an unknown caller nothing that they sent."""
    memory = Memory()
    client = api(issuer.guard(sink=memory))
    client.get("/metrics?secret=canary", headers=bearer(issuer.token("read:metrics")))
    client.get("/metrics", headers=bearer(issuer.token("other")))
    client.get("/metrics", headers=bearer("canary.canary.canary"))
    assert [(event.outcome, event.reason, event.subject, event.route) for event in memory.events] == [
        ("allow", "allowed", "spiffe://example.org/ns/shop/sa/bot", "/metrics"),
        ("deny", "insufficient_scope", "spiffe://example.org/ns/shop/sa/bot", "/metrics"),
        ("deny", "token_malformed", None, "/metrics"),
    ]
    assert {event.needed for event in memory.events} == {("read:metrics",)}
    assert "canary" not in "".join(event.to_json() for event in memory.events)


def test_who_lacks_a_role_is_on_record_with_the_roles_that_they_have() -> None:
    """An operator sees which these are, or that the token names none; a denial for a scope, or an answer, has none."""
    memory = Memory()
    client = api(issuer.guard(policy=POLICY, sink=memory))
    many = [f"role-{number:03}" for number in range(100)]
    for path, scopes, roles in (
        ("/respond", (), ["viewer", "b"]),
        ("/agents", (), ["viewer"]),
        ("/respond", (), []),
        ("/respond", (), many),
        ("/metrics", (), ["viewer"]),
        ("/respond", (), ["agent"]),
    ):
        client.get(path, headers=bearer(issuer.token(*scopes, roles=roles)))
    shown = [event.to_dict().get("roles") for event in memory.events]
    assert shown == [["b", "viewer"], ["viewer"], None, many[:64], None, None]


def test_with_audit_first_nothing_is_answered_without_a_record() -> None:
    """A sink that fails means 503 for who would be let in; who is not stays out."""
    client = api(issuer.guard(sink=Memory(failing=True)))
    allowed = client.get("/metrics", headers=bearer(issuer.token("read:metrics")))
    assert (allowed.status_code, allowed.headers["retry-after"]) == (503, "5")
    assert client.get("/metrics").status_code == 401
    relaxed = api(issuer.guard(sink=Memory(failing=True), audit_first=False))
    assert relaxed.get("/metrics", headers=bearer(issuer.token("read:metrics"))).status_code == 200
    assert relaxed.get("/metrics").status_code == 401


def test_the_openapi_shows_scheme_and_scopes() -> None:
    """Whoever reads the application's description sees which token and which scopes a route needs."""
    described = api(issuer.guard()).get("/openapi.json").json()
    assert described["components"]["securitySchemes"]["authsec"]["scheme"] == "bearer"
    assert described["paths"]["/metrics"]["get"]["security"] == [{"authsec": ["read:metrics"]}]
    assert described["paths"]["/anybody"]["get"]["security"] == [{"authsec": []}]


def test_a_static_token_is_for_a_first_try(caplog: pytest.LogCaptureFixture) -> None:
    """It stands for one caller and says so at start; it is refused beside an issuer, and when it is short."""
    guard = AuthSecGuard(static_token=StaticToken(STATIC, subject="ann", scopes="read:metrics"), sink=Memory())
    assert "static token" in caplog.text
    client = api(guard)
    assert client.get("/metrics", headers=bearer(STATIC)).json() == {"subject": "ann"}
    assert client.get("/metrics", headers=bearer(STATIC + "x")).status_code == 401
    assert client.get("/metrics", headers=bearer(STATIC[:-1])).status_code == 401
    assert client.get("/metrics").status_code == 401
    assert STATIC not in repr(guard) + repr(vars(guard)) + caplog.text
    with pytest.raises(ConfigurationError, match="16 or more"):
        StaticToken("short")
    with pytest.raises(ConfigurationError, match="first try"):
        AuthSecGuard(issuers=[issuer.trusted()], static_token=StaticToken(STATIC))


@pytest.mark.req("RV5")
def test_what_nobody_could_fulfil_is_refused_at_start() -> None:
    """A role or action that the policy does not know, two scopes in one, and nothing at all are errors when made."""
    guard = issuer.guard(policy=POLICY)
    with pytest.raises(ConfigurationError, match="admin"):
        guard.require_role("admin")
    with pytest.raises(ConfigurationError, match="respondd"):
        guard.require_action("respondd")
    with pytest.raises(ConfigurationError, match="respond"):
        issuer.guard().require_action("respond")
    with pytest.raises(ValueError, match="one scope"):
        guard.require("a b")
    with pytest.raises(ValueError, match="name what is needed"):
        guard.require()
    with pytest.raises(ConfigurationError, match="revocation"):
        AuthSecGuard(issuer="https://a.example", audience="a", revocation="of")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="issuer"):
        AuthSecGuard()
    with pytest.raises(ConfigurationError, match="audience"):
        AuthSecGuard(issuer="https://a.example")
    with pytest.raises(ConfigurationError, match="jwks_url"):
        AuthSecGuard(issuer="https://a.example", audience="a", profile="oidc")
