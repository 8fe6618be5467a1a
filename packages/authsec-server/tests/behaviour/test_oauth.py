"""The standard endpoints: who gets a token by them, what it says, what is said of one, and how it is taken back."""

from __future__ import annotations

import base64
import json
from typing import Any

import httpx
import jwt
import pytest
from behaviour.support import NOBODY, OpenSite, Site, peek
from behaviour.test_proofs import another_key, basic, percent

from authsec_core.testing import assert_no_secret
from authsec_server.testing import OnboardedAgent

CLIENT_CREDENTIALS = {"grant_type": "client_credentials"}


def granted(reply: httpx.Response) -> dict[str, Any]:
    """Return what the token says that has to be in the reply."""
    assert reply.status_code == 200, reply.text
    return peek(reply.json()["access_token"])


def refused(reply: httpx.Response) -> tuple[int, str]:
    """Return status and error of a refusal, which has to have the form of RFC 6749 section 5.2."""
    body = reply.json()
    assert set(body) <= {"error", "error_description"}
    assert reply.headers["cache-control"] == "no-store"
    assert ("www-authenticate" in reply.headers) == (reply.status_code == 401)
    return reply.status_code, body["error"]


def test_client_credentials_give_an_access_token(site: Site) -> None:
    """The reply is RFC 6749's, the token RFC 9068's, for the same grant that the SDK's endpoint gives."""
    agent = site.onboard("read:metrics write:metrics")
    reply = site.oauth("token", agent, **CLIENT_CREDENTIALS, scope="read:metrics")
    body = reply.json()
    claims = granted(reply)
    assert jwt.get_unverified_header(body["access_token"])["typ"] == "at+jwt"
    assert (body["token_type"], body["scope"]) == ("Bearer", "read:metrics")
    assert body["expires_in"] == claims["exp"] - claims["iat"]
    assert (claims["sub"], claims["client_id"], claims["aud"]) == (agent.spiffe_id, agent.client_id, ["authsec-api"])
    assert (reply.headers["cache-control"], reply.headers["pragma"]) == ("no-store", "no-cache")
    own = peek(site.token(agent, scope="read:metrics"))
    assert claims.keys() == own.keys()


def test_the_kinds_of_tokens_do_not_mix(site: Site) -> None:
    """A verifier of delegation tokens refuses an access token, and says that it is of another kind."""
    agent = site.onboard()
    token = site.oauth("token", agent, **CLIENT_CREDENTIALS).json()["access_token"]
    with site.verifier() as verifier, pytest.raises(Exception, match="another type"):
        verifier.verify(token)
    with site.verifier(profile="at+jwt", require_status=True) as verifier:
        assert verifier.verify(token).client_id == agent.client_id


@pytest.mark.req("RA2")
def test_a_secret_travels_by_basic_or_in_the_form(site: Site) -> None:
    """Either way is good, percent-encoded or not; both at once, or one in the URL, are refused."""
    agent = site.onboard()
    secret = {"client_id": agent.client_id, "client_secret": agent.agent_key}
    encoded = {"Authorization": basic(percent(agent.client_id), percent(agent.agent_key))}
    for reply in (
        site.oauth("token", agent, **CLIENT_CREDENTIALS),
        site.oauth("token", agent, **CLIENT_CREDENTIALS, client_id=agent.client_id),
        site.oauth("token", headers=encoded, **CLIENT_CREDENTIALS),
        site.oauth("token", **CLIENT_CREDENTIALS, **secret),
    ):
        assert granted(reply)["client_id"] == agent.client_id
    assert refused(site.oauth("token", agent, **CLIENT_CREDENTIALS, **secret)) == (400, "invalid_request")
    in_url = site.http.post(f"{site.authority.issuer}/oauth2/token", params=secret, data=CLIENT_CREDENTIALS)
    assert refused(in_url) == (400, "invalid_request")


@pytest.mark.req("RA2")
def test_who_proves_nothing_gets_nothing(site: Site) -> None:
    """Every proof that is not a live key of this client is `invalid_client`, and each refusal is in the audit."""
    agent, other = site.onboard(), site.onboard()
    key_id, revoked = another_key(site, agent)
    site.admin("POST", f"/clients/{agent.client_id}/keys/{key_id}/revoke")
    operator, operators_token = site.operator("admin", name="no client")
    before = len(site.entries(action="token.issue", decision="deny"))
    replies = [
        site.oauth("token", **CLIENT_CREDENTIALS, client_id=agent.client_id),
        site.oauth("token", **CLIENT_CREDENTIALS, client_id=NOBODY, client_secret=agent.agent_key),
        *(
            site.oauth("token", **CLIENT_CREDENTIALS, client_id=agent.client_id, client_secret=secret)
            for secret in (other.agent_key, revoked, operators_token, agent.agent_key[:-1], "secret", operator)
        ),
    ]
    assert {refused(reply) for reply in replies} == {(401, "invalid_client")}
    assert len(site.entries(action="token.issue", decision="deny")) == before + len(replies)
    assert_no_secret([reply.text for reply in replies], agent.agent_key, revoked, operators_token)


@pytest.mark.parametrize(
    ("form", "expected"),
    [
        ({}, (400, "invalid_request")),
        ({"grant_type": ""}, (400, "invalid_request")),
        ({"grant_type": "password"}, (400, "unsupported_grant_type")),
        ({"grant_type": ["client_credentials", "client_credentials"]}, (400, "invalid_request")),
        ({**CLIENT_CREDENTIALS, "scope": "read:nothing"}, (400, "invalid_scope")),
        ({**CLIENT_CREDENTIALS, "scope": 'read:"metrics"'}, (400, "invalid_request")),
        ({**CLIENT_CREDENTIALS, "resource": "https://elsewhere.example"}, (400, "invalid_target")),
        ({**CLIENT_CREDENTIALS, "resource": "not a uri"}, (400, "invalid_target")),
        ({**CLIENT_CREDENTIALS, "resource": "https://api.example/#fragment"}, (400, "invalid_target")),
        ({**CLIENT_CREDENTIALS, "audience": ["a", "b"]}, (400, "invalid_target")),
        ({**CLIENT_CREDENTIALS, "audience": "a\nb"}, (400, "invalid_request")),
    ],
    ids=str,
)
def test_what_cannot_be_granted_has_its_error(site: Site, form: dict[str, Any], expected: tuple[int, str]) -> None:
    """Each error is the one that RFC 6749 section 5.2 and RFC 8707 section 2 name for it."""
    assert refused(site.oauth("token", site.onboard(), **form)) == expected


def test_who_has_proven_themselves_hears_what_is_not_covered(site: Site) -> None:
    """The scope or the audience is named in words that RFC 6749 allows; to anybody else not even that one exists."""
    agent = site.onboard()
    for asked, words in (
        ({"scope": "read:nothing"}, "for the default audience: read:nothing."),
        ({"resource": "https://elsewhere.example"}, "for the audience 'https://elsewhere.example'"),
    ):
        body = site.oauth("token", agent, **CLIENT_CREDENTIALS, **asked).json()
        assert words in body["error_description"]
        form = {**CLIENT_CREDENTIALS, **asked, "client_id": agent.client_id, "client_secret": "made-up"}
        stranger = site.oauth("token", **form)
        assert refused(stranger) == (401, "invalid_client")
        assert not any(value in stranger.text for value in asked.values())


def test_a_resource_is_an_audience(site: Site) -> None:
    """A token is for the API whose URI was asked for, where the delegation names it, and for no other."""
    agent = site.onboard(audiences=["https://api.example/v1", "authsec-api"])
    assert granted(site.oauth("token", agent, **CLIENT_CREDENTIALS, resource="https://api.example/v1"))["aud"] == [
        "https://api.example/v1"
    ]
    assert granted(site.oauth("token", agent, **CLIENT_CREDENTIALS, audience="authsec-api"))["aud"] == ["authsec-api"]


def test_a_client_that_was_ended_is_told_so(site: Site) -> None:
    """Disabled, revoked, or with nothing delegated: the client is known, and may not have this grant."""
    agent, other = site.onboard(), site.onboard()
    site.admin("PATCH", f"/clients/{agent.client_id}", json={"state": "disabled"})
    assert refused(site.oauth("token", agent, **CLIENT_CREDENTIALS)) == (400, "unauthorized_client")
    site.admin("POST", f"/clients/{agent.client_id}/revoke")
    assert refused(site.oauth("token", agent, **CLIENT_CREDENTIALS)) == (400, "unauthorized_client")
    assert refused(site.oauth("introspect", agent, token="x")) == (400, "unauthorized_client")
    site.admin("POST", f"/trust-delegations/{other.delegation_id}/revoke")
    assert refused(site.oauth("token", other, **CLIENT_CREDENTIALS)) == (400, "unauthorized_client")


def test_forms_are_read_strictly(site: Site) -> None:
    """JSON, a broken encoding, a flood of fields and a body that is too large are refused in the right shape."""
    url = f"{site.authority.issuer}/oauth2/token"
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert refused(site.http.post(url, json=CLIENT_CREDENTIALS)) == (400, "invalid_request")
    for body in (
        b"grant_type=%ff",
        b"grant_type",
        "grant_type=ü".encode(),
        b"&".join([b"a%d=1" % n for n in range(40)]),
    ):
        reply = site.http.post(url, content=body, headers=form)
        assert refused(reply) == (400, "invalid_request"), body
    assert refused(site.http.post(url, content=b"a=" + b"b" * 140_000, headers=form)) == (413, "invalid_request")
    assert refused(site.http.get(url)) == (405, "invalid_request")


def test_a_bare_client_id_is_enough_with_dev_only(open_site: OpenSite) -> None:
    """Where the SDK's endpoint takes a client id alone, the standard one does, and says so in its metadata."""
    with open_site(dev=True) as site:
        agent = site.onboard()
        assert granted(site.oauth("token", **CLIENT_CREDENTIALS, client_id=agent.client_id))["sub"] == agent.spiffe_id
        assert "none" in metadata(site)["token_endpoint_auth_methods_supported"]


def metadata(site: Site) -> dict[str, Any]:
    """Return what the issuer says of itself."""
    found: dict[str, Any] = site.http.get(f"{site.authority.issuer}/.well-known/oauth-authorization-server").json()
    return found


def test_the_metadata_name_what_there_is(site: Site) -> None:
    """Each endpoint that is named answers, and no method or grant is named that is refused (RFC 8414)."""
    found = metadata(site)
    assert found["issuer"] == site.authority.issuer
    assert "none" not in found["token_endpoint_auth_methods_supported"]
    assert found["grant_types_supported"] == [
        "client_credentials",
        "urn:ietf:params:oauth:grant-type:token-exchange",
    ]
    for name in ("token", "introspection", "revocation"):
        assert refused(site.http.post(found[f"{name}_endpoint"], data={})) == (400, "invalid_request")
    for path in ("/authsec/.well-known/openid-configuration", "/.well-known/oauth-authorization-server/authsec"):
        assert site.http.get(f"{site.authority.base_url}{path}").json() == found


def test_introspection_tells_of_good_tokens_only(site: Site) -> None:
    """Of a good token, of either kind, it says what the token says; of any other text that it is not active."""
    agent, asks = site.onboard("read:metrics"), site.onboard()
    for token in (site.token(agent), site.oauth("token", agent, **CLIENT_CREDENTIALS).json()["access_token"]):
        found = site.oauth("introspect", asks, token=token, token_type_hint="access_token").json()
        claims = peek(token)
        assert found == {
            "active": True,
            "token_type": "Bearer",
            "scope": "read:metrics",
            **{name: claims[name] for name in ("iss", "sub", "aud", "exp", "iat", "nbf", "jti", "client_id")},
        }
    head, payload, signature = site.token(agent).split(".")
    forged = base64.urlsafe_b64encode(json.dumps({**peek(token), "scope": "admin"}).encode()).rstrip(b"=").decode()
    for text in ("x", agent.agent_key, f"{head}.{forged}.{signature}", f"{head}.{payload}.", token[:-4] + "AAAA"):
        assert site.oauth("introspect", asks, token=text).json() == {"active": False}
    assert refused(site.oauth("introspect", token=token)) == (400, "invalid_request")
    assert refused(site.oauth("introspect", asks)) == (400, "invalid_request")


@pytest.mark.req("RV9")
def test_introspection_is_as_fresh_as_the_database(site: Site) -> None:
    """What was revoked, by whatever means, is not active at the next question."""
    asks = site.onboard()

    def active(token: str) -> bool:
        return bool(site.oauth("introspect", asks, token=token).json()["active"])

    def by_operator(agent: OnboardedAgent, token: str) -> None:
        site.admin("POST", f"/tokens/{peek(token)['jti']}/revoke")

    def by_client(agent: OnboardedAgent, token: str) -> None:
        assert site.oauth("revoke", agent, token=token).status_code == 200

    def with_client(agent: OnboardedAgent, token: str) -> None:
        site.admin("POST", f"/clients/{agent.client_id}/revoke")

    for revokes in (by_operator, by_client, with_client):
        agent = site.onboard()
        token = site.token(agent)
        assert active(token)
        revokes(agent, token)
        assert not active(token)


def test_an_ended_token_is_not_active(timed: Site) -> None:
    """A token is good until its end, and not a second longer."""
    agent = timed.onboard()
    token = timed.token(agent, ttl=60)
    timed.fake.advance(59)
    assert timed.oauth("introspect", agent, token=token).json()["active"]
    timed.fake.advance(1)
    assert timed.oauth("introspect", agent, token=token).json() == {"active": False}


@pytest.mark.req("RV9")
def test_a_client_takes_its_own_token_back(site: Site) -> None:
    """The status list has it at once; another client's is refused; what is no token is none of our business."""
    agent, other = site.onboard(), site.onboard()
    token = site.token(agent)
    assert refused(site.oauth("revoke", other, token=token)) == (400, "invalid_grant")
    site.forget_lists()
    assert not site.is_listed(token)
    for _ in range(2):
        assert site.oauth("revoke", agent, token=token).status_code == 200
    site.forget_lists()
    assert site.is_listed(token)
    assert site.oauth("revoke", agent, token="unknown").status_code == 200
    assert refused(site.oauth("revoke", token=token)) == (400, "invalid_request")
    (entry,) = site.entries(action="token.revoke", client_id=agent.client_id, decision="allow")
    assert entry["actor"] == {"id": agent.client_id, "kind": "agent", "name": agent.name}


@pytest.mark.req("RU1")
def test_who_takes_back_what_is_anothers_is_on_record(site: Site) -> None:
    """The refusal names who tried, and whose token it was."""
    agent, other = site.onboard(), site.onboard()
    token = site.token(agent)
    site.oauth("revoke", other, token=token)
    (entry,) = site.entries(action="token.revoke", client_id=agent.client_id)
    assert (entry["decision"], entry["reason"]) == ("deny", "token_of_another")
    assert (entry["actor"]["id"], entry["jti"]) == (other.client_id, peek(token)["jti"])


def test_a_token_that_has_just_ended_can_be_taken_back(timed: Site) -> None:
    """A verifier may accept it for a while yet, because clocks differ."""
    agent = timed.onboard()
    token = timed.token(agent, ttl=60)
    timed.fake.advance(61)
    assert timed.oauth("revoke", agent, token=token).status_code == 200
    timed.forget_lists()
    assert timed.is_listed(token)


def test_long_tokens_are_taken(site: Site) -> None:
    """A token with all the scopes that an agent may have is introspected, exchanged and taken back like any other."""
    permissions = " ".join(f"read:a-scope-of-some-length-{number:02}" for number in range(60))
    agent, other = site.onboard(permissions), site.onboard(permissions)
    token = site.token(agent)
    assert len(token) > 2048
    assert site.oauth("introspect", other, token=token).json()["active"]
    assert granted(site.exchange(other, token))["sub"] == agent.spiffe_id
    assert site.oauth("revoke", agent, token=token).status_code == 200
    assert not site.oauth("introspect", other, token=token).json()["active"]


@pytest.mark.req("RU3")
def test_of_strangers_no_words_are_kept(site: Site) -> None:
    """Who names a client that does not exist cannot fill the audit with what they have to say."""
    said = {"X-Agent-Name": "x" * 400, "X-Access-Reason": "y" * 400, "X-Conversation-ID": "z" * 400}
    site.ask(NOBODY, "Bearer x", headers=said, scope="s" * 2000, audience="a" * 500)
    entry = site.entries(client_id=NOBODY)[-1]
    assert entry["reason"] == "client_unknown"
    assert len(json.dumps(entry)) < 500
