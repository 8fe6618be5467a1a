"""What every authority promises at the endpoint that agents call, as a class of tests to inherit.

It is the contract that clients by others rely on: addresses, statuses, bodies, headers, and what a token says. What one
authority can do beyond that (audiences that are refused, an audit) is for its own tests.
"""

from __future__ import annotations

import asyncio
import base64
import ssl
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import httpx
import jwt
import pytest

from authsec_core import AsyncAuthSecClient, AuthSecClient
from authsec_core.errors import DelegationRefusedError, RevokedTokenError, ScopeNotGrantedError
from authsec_core.testing import FakeClock
from authsec_core.verify import TokenVerifier
from authsec_core.wire import DELEGATION_TOKEN_PATH, parse_time

__all__ = ["AuthorityContract", "Subject", "SubjectAgent"]

# Loading the usual certificates takes longer than any request here, and plain http needs none.
_BARE = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
_REPLY = {
    *("token", "token_type", "jti", "client_id", "spiffe_id", "tenant_id", "permissions", "scope", "audience"),
    *("expires_at", "ttl_seconds", "status", "issued_at", "updated_at"),
}
_CLAIMS = {
    *("iss", "sub", "aud", "exp", "iat", "nbf", "jti", "client_id", "agent_type", "tenant_id", "permissions", "scope"),
    *("delegated_by", "status"),
}


@dataclass(frozen=True, kw_only=True)
class SubjectAgent:
    """An agent of the authority that is tested."""

    client_id: str
    key: str = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Subject:
    """The authority that is tested, and how to do there what an operator does.

    Attributes:
        onboard: Makes an agent to which these permissions are delegated, for half an hour at most.
        end: Revokes what was delegated to an agent.
        revoke: Revokes one token, by its `jti`.
    """

    base_url: str
    issuer: str
    jwks_url: str
    clock: FakeClock
    onboard: Callable[[str], SubjectAgent]
    end: Callable[[SubjectAgent], object]
    revoke: Callable[[str], object]

    def ask(
        self, agent: SubjectAgent | None, proof: str | None = "", *, method: str = "GET", path: str = "", **more: Any
    ) -> httpx.Response:
        """Ask for a token; `more` is the query, but for `headers`."""
        headers = dict(more.pop("headers", {}))
        if agent is not None:
            more.setdefault("client_id", agent.client_id)
            if proof == "":
                proof = f"Bearer {agent.key}"
        if proof:
            headers["Authorization"] = proof
        url = self.base_url + (path or DELEGATION_TOKEN_PATH)
        return httpx.request(method, url, params=more, headers=headers, verify=_BARE, trust_env=False, timeout=60.0)


class AuthorityContract:
    """Inherit it, and override the fixture `subject`."""

    @pytest.fixture
    def subject(self) -> Any:
        """The authority: to be overridden."""
        raise NotImplementedError("define a fixture `subject` in the class that inherits the contract")

    @pytest.fixture
    def agent(self, subject: Subject) -> SubjectAgent:
        """An agent that may do two things."""
        return subject.onboard("read:metrics read:records")

    def test_the_reply_has_all_members(self, subject: Subject, agent: SubjectAgent) -> None:
        """Each member of the contract is there, has its form and agrees with the token; nobody is to keep the reply."""
        reply = subject.ask(agent)
        body = reply.json()
        claims = jwt.decode(body["token"], options={"verify_signature": False})
        assert reply.status_code == 200
        assert reply.headers["cache-control"] == "no-store"
        assert reply.headers["content-type"] == "application/json"
        assert set(body) == _REPLY
        assert (body["token_type"], body["status"], body["client_id"]) == ("Bearer", "active", agent.client_id)
        assert (body["jti"], body["spiffe_id"], body["tenant_id"]) == (
            claims["jti"],
            claims["sub"],
            claims["tenant_id"],
        )
        assert body["permissions"] == claims["permissions"] == ["read:metrics", "read:records"]
        assert body["scope"] == claims["scope"] == "read:metrics read:records"
        assert body["audience"] == claims["aud"] == ["authsec-api"]
        assert body["ttl_seconds"] == claims["exp"] - claims["iat"] == 1800
        assert (parse_time(body["expires_at"]), parse_time(body["issued_at"])) == (claims["exp"], claims["iat"])
        assert body["expires_at"].endswith("Z")
        assert body["updated_at"] == body["issued_at"]

    def test_the_token_is_what_verifiers_expect(self, subject: Subject, agent: SubjectAgent) -> None:
        """RS256, `typ` JWT, a `kid` of the JWKS, a SPIFFE ID, a place in a status list under the issuer."""
        token = subject.ask(agent).json()["token"]
        header = jwt.get_unverified_header(token)
        assert (header["alg"], header["typ"], set(header)) == ("RS256", "JWT", {"alg", "typ", "kid"})
        key = jwt.PyJWKClient(subject.jwks_url).get_signing_key(header["kid"])
        unchecked: Any = {"verify_exp": False, "verify_nbf": False, "verify_iat": False}
        claims = jwt.decode(
            token, key, algorithms=["RS256"], audience="authsec-api", issuer=subject.issuer, options=unchecked
        )
        assert set(claims) == _CLAIMS
        assert claims["iat"] == claims["nbf"] == int(subject.clock.wall())
        assert claims["sub"].startswith("spiffe://")
        assert claims["client_id"] == agent.client_id
        assert claims["status"]["status_list"]["uri"].startswith(f"{subject.issuer}/statuslists/")

    @pytest.mark.parametrize(
        ("scope", "granted"),
        [
            ("read:metrics", "read:metrics"),
            ("read:records  read:metrics", "read:metrics read:records"),
            ("read:metrics write:all", "read:metrics"),
        ],
    )
    def test_a_scope_narrows(self, subject: Subject, agent: SubjectAgent, scope: str, granted: str) -> None:
        """What is granted is what was asked, as far as it is delegated: 200 with less, never more."""
        assert subject.ask(agent, scope=scope).json()["scope"] == granted

    @pytest.mark.parametrize(("ttl", "lives"), [("1", 1), ("60", 60), ("999999", 1800)])
    def test_a_ttl_shortens(self, subject: Subject, agent: SubjectAgent, ttl: str, lives: int) -> None:
        """A life can be asked to be shorter, and is not longer than delegated."""
        body = subject.ask(agent, ttl=ttl).json()
        claims = jwt.decode(body["token"], options={"verify_signature": False})
        assert body["ttl_seconds"] == claims["exp"] - claims["iat"] == lives

    def test_the_id_may_come_in_a_header(self, subject: Subject, agent: SubjectAgent) -> None:
        """`X-Client-ID` serves as well, and letters may be capitals; what it does not know it ignores."""
        proof = f"Bearer {agent.key}"
        in_header = {"X-Client-ID": agent.client_id}
        assert subject.ask(None, proof, headers=in_header).json()["client_id"] == agent.client_id
        capitals = agent.client_id.upper()
        assert subject.ask(None, proof, client_id=capitals).json()["client_id"] == agent.client_id
        assert subject.ask(agent, unknown="parameter").status_code == 200

    def test_basic_is_a_proof(self, subject: Subject, agent: SubjectAgent) -> None:
        """Client id and key, percent-encoded or not (RFC 6749 section 2.3.1)."""
        encoded = "".join(f"%{byte:02X}" for byte in agent.key.encode())
        for password in (agent.key, quote(agent.key, safe=""), encoded):
            text = base64.b64encode(f"{agent.client_id}:{password}".encode()).decode()
            assert subject.ask(agent, f"Basic {text}").status_code == 200
        other = base64.b64encode(f"{uuid.uuid4()}:{agent.key}".encode()).decode()
        assert subject.ask(agent, f"Basic {other}").status_code == 401

    @pytest.mark.parametrize(
        "query",
        [
            {"client_id": ""},
            {"client_id": "not-a-uuid"},
            {"client_id": "{00000000-0000-4000-8000-000000000000}"},
            {"scope": ""},
            {"scope": "  "},
            {"scope": 'a"b'},
            {"audience": " "},
            {"ttl": "0"},
            {"ttl": "-1"},
            {"ttl": "1.5"},
            {"ttl": "soon"},
            {"ttl": ["1", "2"]},
            {"scope": ["read:metrics", "write:all"]},
        ],
        ids=str,
    )
    def test_a_request_that_is_none_is_400(self, subject: Subject, agent: SubjectAgent, query: dict[str, Any]) -> None:
        """A blank, malformed or repeated parameter, with a good proof."""
        _refused(subject.ask(agent, **query), 400)

    def test_an_id_is_needed(self, subject: Subject, agent: SubjectAgent) -> None:
        """400 without any."""
        _refused(subject.ask(None, f"Bearer {agent.key}"), 400)

    def test_no_proof_or_a_wrong_one_is_401(self, subject: Subject, agent: SubjectAgent) -> None:
        """None, garbage, cut, of another agent, of another scheme: 401 with a challenge."""
        other = subject.onboard("read:metrics")
        for proof in (
            None,
            "Bearer garbage",
            f"Bearer {agent.key[:-1]}",
            f"Bearer {other.key}",
            f"Token {agent.key}",
            agent.key,
            "Basic !",
        ):
            reply = subject.ask(agent, proof)
            _refused(reply, 401)
            assert reply.headers["www-authenticate"] == "Bearer"

    def test_what_is_not_delegated_is_403(self, subject: Subject, agent: SubjectAgent) -> None:
        """Where nothing of what was asked is delegated."""
        _refused(subject.ask(agent, scope="write:all"), 403)

    def test_who_is_unknown_is_404(self, subject: Subject, agent: SubjectAgent) -> None:
        """A client id that nobody has."""
        _refused(subject.ask(agent, client_id=str(uuid.uuid4())), 404)

    def test_what_was_revoked_is_410(self, subject: Subject, agent: SubjectAgent) -> None:
        """Once the delegation has been revoked, with a good proof only."""
        subject.end(agent)
        _refused(subject.ask(agent), 410)
        _refused(subject.ask(agent, "Bearer garbage"), 401)

    def test_it_takes_get_only(self, subject: Subject, agent: SubjectAgent) -> None:
        """Other methods are 405, and other addresses 404."""
        for method in ("POST", "PUT", "DELETE"):
            assert subject.ask(agent, method=method).status_code == 405
        assert subject.ask(agent, path=DELEGATION_TOKEN_PATH + "/more").status_code == 404

    def test_our_verifier_takes_its_tokens_until_they_are_revoked(self, subject: Subject, agent: SubjectAgent) -> None:
        """With default settings: good now, refused five seconds after the token, or the delegation, was revoked."""
        first, second = subject.ask(agent).json(), subject.ask(agent).json()
        verifier = TokenVerifier(
            issuer=subject.issuer, audience="authsec-api", jwks_url=subject.jwks_url, clock=subject.clock
        )
        assert verifier.verify(first["token"]).scopes == {"read:metrics", "read:records"}
        subject.revoke(first["jti"])
        subject.clock.advance(5.0)
        with pytest.raises(RevokedTokenError):
            verifier.verify(first["token"])
        assert verifier.verify(second["token"]).key_id
        subject.end(agent)
        subject.clock.advance(5.0)
        with pytest.raises(RevokedTokenError):
            verifier.verify(second["token"])

    @pytest.mark.parametrize("driver", ["sync", "async"])
    def test_our_sdk_speaks_to_it(self, subject: Subject, agent: SubjectAgent, driver: str) -> None:
        """A token with what was asked; what is missing is missed; each refusal has its reason."""

        def client(kind: Callable[..., Any], of: SubjectAgent) -> Any:
            given = {"client_id": of.client_id, "agent_key": of.key, "clock": subject.clock}
            return kind(base_url=subject.base_url, **given)

        async def in_a_loop(of: SubjectAgent, scope: str | None) -> Any:
            async with client(AsyncAuthSecClient, of) as made:
                return await made.delegation_token(scope)

        def ask(of: SubjectAgent, scope: str | None = None) -> Any:
            if driver == "async":
                return asyncio.run(in_a_loop(of, scope))
            with client(AuthSecClient, of) as made:
                return made.delegation_token(scope)

        token = ask(agent, "read:metrics")
        assert (token.scopes, token.mode, token.lifetime) == ({"read:metrics"}, "live", 1800)
        with pytest.raises(ScopeNotGrantedError):
            ask(agent, "read:metrics write:all")
        subject.end(agent)
        stranger = SubjectAgent(client_id=str(uuid.uuid4()), key=agent.key)
        thief = SubjectAgent(client_id=agent.client_id, key=agent.key[:-1] + "~")
        reasons = {"delegation_ended": agent, "unknown_client": stranger, "proof_rejected": thief}
        for reason, of in reasons.items():
            with pytest.raises(DelegationRefusedError) as caught:
                ask(of)
            assert caught.value.reason == reason


def _refused(reply: httpx.Response, status: int) -> None:
    assert reply.status_code == status, reply.text
    assert reply.headers["cache-control"] == "no-store"
    assert reply.headers["content-type"] == "application/json"
    body = reply.json()
    assert {"error"} <= set(body) <= {"error", "details"}
    assert all(isinstance(text, str) and text for text in body.values())
