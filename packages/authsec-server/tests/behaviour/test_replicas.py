"""Three server processes are one authority: what one of them has said, the others know."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import jwt
import pytest
from behaviour.replicas import Nursery
from behaviour.support import Call, Databases, ReplicatedSite, at_once, peek, replicated_site, wait_until

from authsec_core.errors import RevokedTokenError

MANY = 64
SDK = "/authsec/uflow/sdk/delegation-token"


@pytest.fixture(scope="module")
def three(
    databases: Databases, nursery: Nursery, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ReplicatedSite]:
    """An authority of three server processes, for all tests here that leave the others alone."""
    request.getfixturevalue("postgres")  # before it is copied from, and so closed after it
    folder: Path = tmp_path_factory.mktemp("three")
    with replicated_site(databases, nursery, folder) as found:
        yield found


def race(site: ReplicatedSite, method: str, path: str, body: object = None) -> Counter[int]:
    """Send the same from 64 connections, to one server after the other, and return how often each status came."""
    bearer = site.authority.admin_token
    calls = [Call(method, f"{site.authority.base_url}/api/v1{path}", bearer, body) for _ in range(MANY)]
    return Counter(reply.status_code for reply in at_once(calls))


REVOCATIONS: dict[str, tuple[int, Callable[[Any, str], str]]] = {
    "token": (204, lambda _, token: f"/tokens/{peek(token)['jti']}/revoke"),
    "client": (200, lambda agent, _: f"/clients/{agent.client_id}/revoke"),
    "key": (200, lambda agent, _: f"/clients/{agent.client_id}/keys/{agent.key_id}/revoke"),
    "delegation": (200, lambda agent, _: f"/trust-delegations/{agent.delegation_id}/revoke"),
}


@pytest.mark.req("RA8")
@pytest.mark.req("RO2")
@pytest.mark.parametrize("what", list(REVOCATIONS))
def test_one_of_many_revokes(three: ReplicatedSite, what: str) -> None:
    """64 revoke the same at three servers: one has done it, and the audit says so once."""
    agent = three.onboard()
    token = three.token(agent)
    status, address = REVOCATIONS[what]
    assert race(three, "POST", address(agent, token)) == {status: 1, 409: MANY - 1}
    done = [entry for entry in three.entries(client_id=agent.client_id) if entry["action"].endswith(".revoke")]
    assert len(done) == 1


@pytest.mark.req("RA8")
@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/clients", {"name": "the only one", "agent_type": "mcp-agent", "platform": "docker"}),
        ("/operators", {"name": "the only one", "role": "auditor"}),
    ],
)
def test_one_of_many_has_the_name(three: ReplicatedSite, path: str, body: dict[str, str]) -> None:
    """64 take the same name at three servers: one has it."""
    assert race(three, "POST", path, body) == {201: 1, 409: MANY - 1}


@pytest.mark.req("RA7")
@pytest.mark.req("RA8")
def test_one_of_many_activates(three: ReplicatedSite) -> None:
    """64 activate a key at three servers: one has done it; from then on all sign with it, and soon all publish it."""
    agent = three.onboard()
    kid = three.admin("POST", "/signing-keys/prepare", status=201)["kid"]
    wait_until(lambda: all(kid in _published(three, url) for url in three.base_urls))
    assert race(three, "POST", f"/signing-keys/{kid}/activate", {"at_once": True}) == {200: 1, 409: MANY - 1}
    tokens = [three.token(agent) for _ in three.base_urls]
    assert {jwt.get_unverified_header(token)["kid"] for token in tokens} == {kid}
    with three.verifier() as verifier:
        assert {verifier.verify(token).client_id for token in tokens} == {agent.client_id}


def _published(site: ReplicatedSite, base_url: str) -> set[str]:
    keys = site.http.get(f"{base_url}/authsec/.well-known/jwks.json").json()["keys"]
    return {key["kid"] for key in keys}


@pytest.mark.req("RA8")
@pytest.mark.req("RU2")
def test_every_token_has_a_place_of_its_own(three: ReplicatedSite) -> None:
    """Issued at once by three servers, tokens have a `jti` and a place in the list each; the audit has no gap."""
    agent = three.onboard()
    query = f"{SDK}?client_id={agent.client_id}"
    replies = at_once([Call("GET", f"{three.authority.base_url}{query}", agent.agent_key) for _ in range(MANY)])
    claims = [peek(reply.json()["token"]) for reply in replies]
    assert len({one["jti"] for one in claims}) == MANY
    assert len({one["status"]["status_list"]["idx"] for one in claims}) == MANY
    seqs = [entry["seq"] for entry in three.entries()]
    assert seqs == list(range(1, len(seqs) + 1))


@pytest.mark.req("RV9")
@pytest.mark.parametrize("what", list(REVOCATIONS))
def test_what_one_server_ends_all_refuse(three: ReplicatedSite, what: str) -> None:
    """Ended at one: the next request is refused at each, each list says so soon, and a verifier refuses in time."""
    agent, other = three.onboard(), three.onboard()
    token, others = three.token(agent), three.token(other)
    assert [three.ask(agent).status_code for _ in range(3)] == [200] * 3, "each of them knows the agent well"
    with three.verifier() as verifier:
        assert verifier.verify(token).client_id == agent.client_id
        three.admin("POST", REVOCATIONS[what][1](agent, token))
        refused = {"token": 200, "key": 401}.get(what, 410)
        assert [three.ask(agent).status_code for _ in range(3)] == [refused] * 3
        wait_until(lambda: all(three.is_listed(token) for _ in three.base_urls))
        wait_until(partial(_is_refused, verifier, token))
        assert verifier.verify(others).client_id == other.client_id
    assert [three.ask(other).status_code for _ in range(3)] == [200] * 3


def _is_refused(verifier: Any, token: str) -> bool:
    try:
        verifier.verify(token)
    except RevokedTokenError:
        return True
    return False
