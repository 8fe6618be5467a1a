"""The loopback authority, checked with PyJWT as the oracle for what it signs."""

from __future__ import annotations

import base64
import json
import ssl
import threading
import uuid
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import httpx
import jwt
import pytest

from authsec_core.testing import FakeClock, LocalAgent, LocalAuthority, SigningKey, loopback_certificate

NOW = 1_800_000_000
# Loading the usual certificates takes longer than any request here, and plain http needs none.
BARE = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


@pytest.fixture
def clock() -> FakeClock:
    """The authority's time."""
    return FakeClock(wall=NOW + 0.75)


@pytest.fixture
def authority(clock: FakeClock) -> Iterator[LocalAuthority]:
    """A running authority."""
    with LocalAuthority(clock=clock) as authority:
        yield authority


@pytest.fixture
def agent(authority: LocalAuthority) -> LocalAgent:
    """An agent that may read metrics and records, and needs no proof."""
    return authority.register(permissions=["read:metrics", "read:records"])


def ask(
    authority: LocalAuthority,
    agent: LocalAgent | str | None,
    headers: dict[str, str] | None = None,
    *,
    method: str = "GET",
    **query: str,
) -> httpx.Response:
    """Ask for a delegation token as the SDK does."""
    if agent is not None:
        query["client_id"] = agent if isinstance(agent, str) else agent.client_id
    url = f"{authority.base_url}/authsec/uflow/sdk/delegation-token"
    return httpx.request(method, url, params=query, headers=headers, verify=BARE, trust_env=False)


def jwks(authority: LocalAuthority) -> dict[str, Any]:
    """Return the published keys by kid, as PyJWT sees them."""
    document = httpx.get(authority.jwks_url, verify=BARE, trust_env=False).json()
    return {key.key_id: key.key for key in jwt.PyJWKSet.from_dict(document).keys if key.key_id}


def claims_of(authority: LocalAuthority, token: str, audience: str = "authsec-api") -> dict[str, Any]:
    """Verify everything but the times, which are the fake clock's."""
    key = jwks(authority)[jwt.get_unverified_header(token)["kid"]]
    unchecked: Any = {"verify_exp": False, "verify_nbf": False, "verify_iat": False}
    return jwt.decode(token, key, algorithms=["RS256"], audience=audience, issuer=authority.issuer, options=unchecked)


def is_revoked(authority: LocalAuthority, token: str) -> bool:
    """Return what the status list says of a token."""
    entry = claims_of(authority, token)["status"]["status_list"]
    text = httpx.get(entry["uri"], verify=BARE, trust_env=False).text
    key = jwks(authority)[jwt.get_unverified_header(text)["kid"]]
    listed = jwt.decode(text, key, algorithms=["RS256"], options={"verify_exp": False, "verify_iat": False})
    packed = zlib.decompress(base64.urlsafe_b64decode(listed["status_list"]["lst"] + "=="))
    return bool(packed[entry["idx"] // 8] >> (entry["idx"] % 8) & 1)


def test_the_whole_delegation_is_granted_when_no_scope_is_asked(authority: LocalAuthority, agent: LocalAgent) -> None:
    """The reply has every member of the contract, is not to be stored, and agrees with the token."""
    reply = ask(authority, agent)
    body = reply.json()
    token = body.pop("token")
    claims = claims_of(authority, token)
    assert reply.headers["cache-control"] == "no-store"
    assert body == {
        "token_type": "Bearer",
        "jti": claims["jti"],
        "client_id": agent.client_id,
        "spiffe_id": agent.spiffe_id,
        "tenant_id": "tenant-1",
        "permissions": ["read:metrics", "read:records"],
        "scope": "read:metrics read:records",
        "audience": ["authsec-api"],
        "expires_at": "2027-01-15T08:30:00Z",
        "ttl_seconds": 1800,
        "status": "active",
        "issued_at": "2027-01-15T08:00:00Z",
        "updated_at": "2027-01-15T08:00:00Z",
    }


def test_the_token_has_the_header_and_claims_of_the_contract(authority: LocalAuthority, agent: LocalAgent) -> None:
    """`typ` JWT, a thumbprint `kid`, whole-second times, and everything that a verifier may require."""
    token = ask(authority, agent).json()["token"]
    header, claims = jwt.get_unverified_header(token), claims_of(authority, token)
    assert header == {"alg": "RS256", "typ": "JWT", "kid": authority.signing_key.kid}
    assert (claims["iat"], claims["nbf"], claims["exp"]) == (NOW, NOW, NOW + 1800)
    assert claims["sub"] == agent.spiffe_id
    assert (claims["client_id"], claims["tenant_id"]) == (agent.client_id, "tenant-1")
    assert (claims["permissions"], claims["scope"]) == (["read:metrics", "read:records"], "read:metrics read:records")
    assert claims["status"]["status_list"]["uri"].startswith(f"{authority.issuer}/statuslists/")
    assert {"delegated_by", "agent_type", "jti"} <= set(claims)


def test_the_kid_is_the_rfc_7638_thumbprint_of_a_2048_bit_key(authority: LocalAuthority) -> None:
    """Checked against the example of RFC 7638 section 3.1 by its own recipe, on the published key."""
    from cryptography.hazmat.primitives.hashes import SHA256, Hash

    (member,) = httpx.get(authority.jwks_url, verify=BARE, trust_env=False).json()["keys"]
    digest = Hash(SHA256())
    digest.update(f'{{"e":"{member["e"]}","kty":"RSA","n":"{member["n"]}"}}'.encode())
    assert base64.urlsafe_b64encode(digest.finalize()).rstrip(b"=").decode() == member["kid"]
    assert (member["use"], member["alg"]) == ("sig", "RS256")
    assert jwks(authority)[member["kid"]].key_size == 2048


@pytest.mark.parametrize(
    ("scope", "granted"),
    [
        ("read:metrics", ["read:metrics"]),
        ("read:records  read:metrics", ["read:metrics", "read:records"]),
        ("read:metrics write:all", ["read:metrics"]),
    ],
)
def test_a_scope_narrows_the_grant(
    authority: LocalAuthority, agent: LocalAgent, scope: str, granted: list[str]
) -> None:
    """What is granted is what was asked, as far as it was delegated."""
    body = ask(authority, agent, scope=scope).json()
    assert body["permissions"] == granted
    assert claims_of(authority, body["token"])["permissions"] == granted


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ({"scope": "write:all"}, 403),
        ({"scope": "read"}, 403),
        ({"scope": ""}, 400),
        ({"scope": "  "}, 400),
        ({"scope": 'a"b'}, 400),
        ({"ttl": "0"}, 400),
        ({"ttl": "-1"}, 400),
        ({"ttl": "1.5"}, 400),
        ({"ttl": ""}, 400),
        ({"audience": " "}, 400),
    ],
)
def test_bad_requests_and_empty_grants_are_refused(
    authority: LocalAuthority, agent: LocalAgent, query: dict[str, str], status: int
) -> None:
    """400 for what cannot be understood, 403 for what was not delegated; nothing is issued."""
    reply = ask(authority, agent, None, **query)
    assert (reply.status_code, list(reply.json())) == (status, ["error"])
    assert reply.headers["cache-control"] == "no-store"
    assert authority.issued == ()


def test_an_agent_without_permissions_is_granted_nothing(authority: LocalAuthority) -> None:
    """An empty delegation is nothing, not everything."""
    assert ask(authority, authority.register(permissions=[])).status_code == 403


@pytest.mark.parametrize(
    ("client_id", "status"),
    [
        (None, 400),
        ("", 400),
        ("agent-1", 400),
        ("{00000000-0000-0000-0000-000000000000}", 400),
        (str(uuid.UUID(int=1)), 404),
    ],
)
def test_a_client_is_known_by_its_uuid(authority: LocalAuthority, client_id: str | None, status: int) -> None:
    """A missing or malformed client id is 400, an unknown one 404."""
    assert ask(authority, client_id).status_code == status


def test_the_client_id_may_come_in_a_header(authority: LocalAuthority, agent: LocalAgent) -> None:
    """`X-Client-ID` serves instead of the query; the query wins; case does not matter."""
    assert ask(authority, None, {"X-Client-ID": agent.client_id.upper()}).status_code == 200
    assert ask(authority, agent, {"X-Client-ID": str(uuid.uuid4())}).status_code == 200


def test_a_parameter_given_twice_is_refused(authority: LocalAuthority, agent: LocalAgent) -> None:
    """Two values of one parameter are ambiguous (RFC 6749 section 3.1)."""
    url = f"{authority.base_url}/authsec/uflow/sdk/delegation-token"
    reply = httpx.get(f"{url}?client_id={agent.client_id}&scope=a&scope=read:metrics", verify=BARE, trust_env=False)
    assert reply.status_code == 400


def test_the_ttl_is_capped_and_the_audience_honoured(authority: LocalAuthority, agent: LocalAgent) -> None:
    """A shorter life is given, a longer one is not; the token is for the audience that was asked for."""
    short = ask(authority, agent, ttl="60", audience="https://api.example").json()
    claims = claims_of(authority, short["token"], audience="https://api.example")
    assert (short["ttl_seconds"], claims["exp"] - claims["iat"]) == (60, 60)
    assert (short["audience"], claims["aud"]) == (["https://api.example"], ["https://api.example"])
    assert ask(authority, agent, ttl="999999").json()["ttl_seconds"] == 1800


@pytest.mark.parametrize("key", ["agent-1.s3cret-key-0123456789", "with space+plus:colon%41é"])
def test_a_proof_is_required_of_an_agent_that_has_a_key(authority: LocalAuthority, key: str) -> None:
    """Bearer, or Basic with both halves form-urlencoded (RFC 6749 section 2.3.1); anything else is 401."""
    agent = authority.register(permissions=["a"], agent_key=key)

    def basic(user: str, password: str) -> dict[str, str]:
        pair = f"{quote_plus(user)}:{quote_plus(password)}"
        return {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}

    good = [basic(agent.client_id, key)]
    if key.isascii() and " " not in key:
        good.append({"Authorization": f"bearer {key}"})
    bad: list[dict[str, str]] = [
        {},
        {"Authorization": "Bearer"},
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Basic not-base64!"},
        {"Authorization": "Basic /w=="},
        {"Authorization": f"Digest {quote_plus(key)}"},
        basic(agent.client_id, "wrong"),
        basic(str(uuid.uuid4()), key),
    ]
    assert [ask(authority, agent, headers).status_code for headers in good] == [200] * len(good)
    refused = [ask(authority, agent, headers) for headers in bad]
    assert [reply.status_code for reply in refused] == [401] * len(bad)
    assert refused[0].headers["www-authenticate"] == "Bearer"


def test_the_agents_key_is_not_kept_or_shown(authority: LocalAuthority) -> None:
    """Neither the agent's repr nor the log of requests has the key; the rest of the request is there."""
    key = "key-0123456789"
    agent = authority.register(permissions=["a"], agent_key=key)
    ask(authority, agent, {"Authorization": f"Bearer {key}"}, scope="a")
    (seen,) = authority.requests
    assert key not in repr(agent) + repr(authority.requests)
    assert (seen.headers["authorization"], dict(seen.query)) == ("Bearer", {"scope": "a", "client_id": agent.client_id})


def test_what_was_issued_is_listed_without_the_token(authority: LocalAuthority, agent: LocalAgent) -> None:
    """One record for each token, with the time by the authority's clock."""
    body = ask(authority, agent, scope="read:metrics", ttl="60").json()
    (record,) = authority.issued
    assert record.jti == body["jti"]
    assert (record.client_id, record.scopes, record.ttl) == (agent.client_id, ("read:metrics",), 60)
    assert (record.audience, record.at) == (("authsec-api",), NOW + 0.75)
    assert body["token"] not in repr(record)


def test_revoking_a_token_flips_its_bit_only(authority: LocalAuthority, agent: LocalAgent) -> None:
    """The next status list has the token, and no other one."""
    tokens = [ask(authority, agent).json() for _ in range(12)]
    authority.revoke(tokens[9]["jti"])
    assert [is_revoked(authority, one["token"]) for one in tokens] == [n == 9 for n in range(12)]
    with pytest.raises(KeyError):
        authority.revoke("no such jti")


def test_revoking_an_agent_ends_its_tokens_and_its_delegation(authority: LocalAuthority, agent: LocalAgent) -> None:
    """All its tokens are revoked and it gets 410, until it is registered again; others are not touched."""
    other = authority.register(permissions=["a"])
    mine, theirs = ask(authority, agent).json()["token"], ask(authority, other).json()["token"]
    authority.revoke_agent(agent.client_id)
    assert (is_revoked(authority, mine), is_revoked(authority, theirs)) == (True, False)
    assert (ask(authority, agent).status_code, ask(authority, other).status_code) == (410, 200)
    authority.register(permissions=["read:metrics"], client_id=agent.client_id)
    assert ask(authority, agent).json()["permissions"] == ["read:metrics"]
    assert is_revoked(authority, mine)


def test_the_status_list_is_a_token_of_its_own_kind(clock: FakeClock) -> None:
    """`statuslist+jwt`, named by its own URI, with `iat`, `exp` and the `ttl` that was configured."""
    with LocalAuthority(clock=clock, status_ttl=5) as authority:
        reply = httpx.get(f"{authority.issuer}/statuslists/1", verify=BARE, trust_env=False)
    claims = jwt.decode(reply.text, options={"verify_signature": False})
    assert reply.headers["content-type"] == "application/statuslist+jwt"
    assert jwt.get_unverified_header(reply.text)["typ"] == "statuslist+jwt"
    assert (claims["sub"], claims["iat"], claims["ttl"]) == (f"{authority.issuer}/statuslists/1", NOW, 5)
    assert claims["exp"] > NOW + 5
    assert claims["status_list"]["bits"] == 1


def test_a_rotated_key_stays_published_unless_it_is_withdrawn(authority: LocalAuthority, agent: LocalAgent) -> None:
    """New tokens have the new key; old tokens verify until their key is withdrawn."""
    first, before = authority.signing_key, ask(authority, agent).json()["token"]
    authority.rotate_key()
    after = ask(authority, agent).json()["token"]
    assert jwt.get_unverified_header(after)["kid"] == authority.signing_key.kid != first.kid
    assert claims_of(authority, before)
    assert claims_of(authority, after)
    authority.rotate_key(withdraw_old=True)
    assert list(jwks(authority)) == [authority.signing_key.kid]


def test_a_minted_token_is_good_until_it_is_made_hostile(authority: LocalAuthority, agent: LocalAgent) -> None:
    """By default it verifies and can be revoked; claims and header can be replaced, added and left out."""
    good = authority.mint(agent)
    assert claims_of(authority, good)["client_id"] == agent.client_id
    authority.revoke(claims_of(authority, good)["jti"])
    assert is_revoked(authority, good)
    assert claims_of(authority, authority.mint())["permissions"] == ["read:metrics"]
    hostile = authority.mint(header={"typ": "at+jwt", "kid": 7}, omit=("exp", "alg"), iss=["x"], extra=float("nan"))
    header, claims, _ = (base64.urlsafe_b64decode(part + "==") for part in hostile.split("."))
    assert json.loads(header) == {"typ": "at+jwt", "kid": 7}
    assert "exp" not in json.loads(claims)
    assert b'"iss":["x"]' in claims
    assert b'"extra":NaN' in claims
    assert authority.issued == ()


def test_a_token_can_be_signed_with_a_foreign_key(authority: LocalAuthority) -> None:
    """A stranger's key with the authority's kid makes a bad signature."""
    token = authority.mint(key=SigningKey.generate(), header={"kid": authority.signing_key.kid})
    with pytest.raises(jwt.InvalidSignatureError):
        claims_of(authority, token)


def test_the_environment_of_an_agent_names_what_it_needs(authority: LocalAuthority, agent: LocalAgent) -> None:
    """Only what is set: the key when there is one, the API when it is given."""
    assert authority.environ(agent) == {
        "AUTHSEC_BASE_URL": authority.base_url,
        "AUTHSEC_AGENT_CLIENT_ID": agent.client_id,
    }
    keyed = authority.register(permissions=["a"], agent_key="key-0123456789")
    settings = authority.environ(keyed, api_base_url="http://127.0.0.1:9")
    assert settings["AUTHSEC_AGENT_KEY"] == "key-0123456789"
    assert settings["AUTHSEC_API_BASE_URL"] == "http://127.0.0.1:9"


def test_it_speaks_https_when_given_a_certificate(tmp_path: Path) -> None:
    """URLs are https and the environment names the CA file."""
    with LocalAuthority(certificate=loopback_certificate(tmp_path)) as authority:
        agent = authority.register(permissions=["a"])
        trusting = ssl.create_default_context(cafile=authority.environ(agent)["AUTHSEC_CA_FILE"])
        assert authority.issuer.startswith("https://")
        assert httpx.get(authority.jwks_url, verify=trusting, trust_env=False).status_code == 200


def test_anything_else_is_not_found_or_not_allowed(authority: LocalAuthority, agent: LocalAgent) -> None:
    """Unknown paths are 404, other methods 405."""
    assert httpx.get(f"{authority.base_url}/authsec", verify=BARE, trust_env=False).status_code == 404
    assert ask(authority, agent, method="POST").status_code == 405


@pytest.mark.parametrize("status", [400, 401, 404, 429, 500, 503])
def test_a_status_is_answered_and_nothing_is_issued(authority: LocalAuthority, agent: LocalAgent, status: int) -> None:
    """While it fails with a status no token exists, and `recover` ends it."""
    authority.fail(status=status, retry_after=2.5, headers={"Location": "http://127.0.0.1:9/"})
    replies = [ask(authority, agent) for _ in range(2)]
    assert [reply.status_code for reply in replies] == [status, status]
    assert (replies[0].headers["retry-after"], replies[0].headers["location"]) == ("2.5", "http://127.0.0.1:9/")
    assert authority.issued == ()
    authority.recover()
    assert ask(authority, agent).status_code == 200
    assert len(authority.requests) == 3


def test_failures_come_in_the_order_in_which_they_were_planned(authority: LocalAuthority, agent: LocalAgent) -> None:
    """`times` counts requests; then comes the next failure, and at last the good answer."""
    authority.fail(status=503, times=2)
    authority.fail(status=429, times=1)
    assert [ask(authority, agent).status_code for _ in range(4)] == [503, 503, 429, 200]


@pytest.mark.parametrize(
    ("fault", "issued"),
    [({"cut": True}, 1), ({"cut": "body"}, 1), ({"raw": b"garbage\r\n\r\n"}, 0)],
)
def test_a_broken_connection_is_a_protocol_error(
    authority: LocalAuthority, agent: LocalAgent, fault: dict[str, Any], issued: int
) -> None:
    """Cut before the answer or in its middle (the token was issued and lost), or bytes that are not HTTP."""
    authority.fail(**fault, times=1)
    with pytest.raises(httpx.RemoteProtocolError):
        ask(authority, agent)
    assert len(authority.issued) == issued
    assert ask(authority, agent).status_code == 200


def test_garbage_is_a_body_of_choice(authority: LocalAuthority, agent: LocalAgent) -> None:
    """A good status with a body that is no reply, or an error with a body of choice."""
    authority.fail(garbage=b"<html>", times=1)
    authority.fail(status=500, garbage=b"stack trace", times=1)
    replies = [ask(authority, agent), ask(authority, agent)]
    assert [(reply.status_code, reply.text) for reply in replies] == [(200, "<html>"), (500, "stack trace")]
    assert authority.issued == ()


def test_an_answer_can_be_altered(authority: LocalAuthority, agent: LocalAgent) -> None:
    """A good reply with other members, to play other servers and hostile ones."""
    authority.fail(alter=lambda body: {"access_token": body["token"], "expires_in": 60}, times=1)
    body = ask(authority, agent).json()
    assert set(body) == {"access_token", "expires_in"}
    assert claims_of(authority, body["access_token"])["jti"] == authority.issued[0].jti


def test_an_answer_can_be_held_back(authority: LocalAuthority, agent: LocalAgent) -> None:
    """A request that has arrived is answered when the event is set, by what was decided on arrival."""
    release = threading.Event()
    authority.fail(delay=release, times=1)
    with ThreadPoolExecutor(1) as pool:
        held = pool.submit(ask, authority, agent)
        authority.wait_for_requests(1)
        assert ask(authority, agent).status_code == 200
        assert not held.done()
        release.set()
        assert held.result(timeout=10).status_code == 200


def test_seconds_of_delay_go_through_the_given_wait() -> None:
    """A slow authority costs a test no real time."""
    waited: list[float] = []
    with LocalAuthority(wait=waited.append) as authority:
        authority.fail(delay=30.0, status=503)
        assert ask(authority, authority.register(permissions=["a"])).status_code == 503
    assert waited == [30.0]


def test_jwks_and_status_list_fail_by_themselves(authority: LocalAuthority, agent: LocalAgent) -> None:
    """`where` names one endpoint; the others work on, each with its own count."""
    status_list = f"{authority.issuer}/statuslists/1"
    authority.fail(where="jwks", status=503)
    authority.fail(where="statuslist", garbage=b"junk")
    assert httpx.get(authority.jwks_url, verify=BARE, trust_env=False).status_code == 503
    assert httpx.get(status_list, verify=BARE, trust_env=False).text == "junk"
    assert ask(authority, agent).status_code == 200
    authority.recover("jwks")
    assert httpx.get(authority.jwks_url, verify=BARE, trust_env=False).status_code == 200
    assert httpx.get(status_list, verify=BARE, trust_env=False).text == "junk"
    assert [authority.count(where) for where in ("delegation", "jwks", "statuslist")] == [1, 2, 2]
    authority.wait_for_requests(2, where="jwks", timeout=0)


@pytest.mark.parametrize("mistake", [{}, {"times": 1}, {"status": 503, "times": 0}])
def test_a_failure_that_fails_nothing_is_a_mistake(authority: LocalAuthority, mistake: dict[str, Any]) -> None:
    """`fail` wants to know what fails, and at least once."""
    with pytest.raises(ValueError, match="what is to fail"):
        authority.fail(**mistake)


def test_it_remembers_everything_while_it_is_down(authority: LocalAuthority, agent: LocalAgent) -> None:
    """Closed, it refuses connections; started again, it is the same authority at the same address."""
    token = ask(authority, agent).json()["token"]
    authority.close()
    with pytest.raises(httpx.ConnectError):
        ask(authority, agent)
    authority.start()
    assert claims_of(authority, token)["client_id"] == agent.client_id
    assert ask(authority, agent).status_code == 200


def test_tokens_asked_for_at_once_have_places_of_their_own(authority: LocalAuthority, agent: LocalAgent) -> None:
    """Concurrent issues share neither `jti` nor index in the status list."""
    gate = threading.Barrier(16)

    def one(_: int) -> str:
        gate.wait(timeout=10)
        return str(ask(authority, agent).json()["token"])

    with ThreadPoolExecutor(16) as pool:
        tokens = list(pool.map(one, range(16)))
    entries = [jwt.decode(token, options={"verify_signature": False}) for token in tokens]
    assert len({claims["jti"] for claims in entries}) == 16
    assert {claims["status"]["status_list"]["idx"] for claims in entries} == set(range(16))
    assert len(authority.issued) == 16


def test_the_list_grows_with_the_tokens(authority: LocalAuthority, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last of more tokens than the list starts with can be revoked, alone."""
    monkeypatch.setattr("authsec_core.testing._signing._FEWEST_STATUSES", 8)
    tokens = [authority.mint() for _ in range(17)]
    authority.revoke(jwt.decode(tokens[-1], options={"verify_signature": False})["jti"])
    assert [is_revoked(authority, token) for token in (tokens[0], tokens[-2], tokens[-1])] == [False, False, True]
