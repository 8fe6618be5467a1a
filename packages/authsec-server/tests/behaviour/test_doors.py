"""Which doors are open to strangers? The whole route table, with every proof and spelling that is not a good one."""

from __future__ import annotations

import http.client
import json
import re
from base64 import b64encode
from collections.abc import Iterable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import pytest
from behaviour.support import OpenSite, Site
from behaviour.vault import say, token

from authsec_core.testing import SigningKey
from authsec_core.wire import AUDIT_EVENTS_PATH, DELEGATION_TOKEN_PATH
from authsec_server import credentials

# All that answers to everyone. Whoever adds to it opens a door: the same for all, and nothing about anyone.
PUBLIC = {
    "/healthz",
    "/readyz",
    "/openapi.json",
    "/authsec/.well-known/jwks.json",
    "/authsec/.well-known/openid-configuration",
    "/authsec/.well-known/oauth-authorization-server",
    "/.well-known/oauth-authorization-server/authsec",
    "/authsec/statuslists/{number}",
    "/v1/health",
}
OAUTH = frozenset(f"/authsec/oauth2/{name}" for name in ("token", "introspect", "revoke"))
OF_AGENTS = OAUTH | {AUDIT_EVENTS_PATH, DELEGATION_TOKEN_PATH}
# Where agents' keys and vault tokens are good, and nobody else's: not even an operator's.
OF_THE_VAULT = re.compile(r"/v1/(me|tokens|secrets)(/.*)?")
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "get", "QUERY")
# What a role below admin may do, said here once more and not taken from the code.
READS_BY_POST = {("POST", "/api/v1/tokens/dry-run")}
ADMINS_ONLY = re.compile(
    r"(PUT|DELETE) /api/v1/roles/.*|POST /api/v1/signing-keys/.*|POST /api/v1/audit/checkpoints"
    r"|(POST|PATCH) /api/v1/issuers.*"
    r"|(GET|POST|PATCH) /api/v1/operators.*"
)


@dataclass(frozen=True)
class Door:
    """One operation, at an address where there is something."""

    method: str
    template: str
    path: str

    def __str__(self) -> str:
        return f"{self.method} {self.template}"


class Line:
    """A connection that sends a request exactly as it is written."""

    def __init__(self, base_url: str) -> None:
        parts = urlsplit(base_url)
        assert parts.hostname
        self._host = parts.netloc
        self._connection = http.client.HTTPConnection(parts.hostname, parts.port, timeout=30)

    def __call__(
        self, method: str, target: str, headers: Iterable[tuple[str, str]] = (), body: bytes = b""
    ) -> tuple[int, Mapping[str, str], bytes]:
        """Return status, headers and body of the answer."""
        self._connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
        for name, value in (("Host", self._host), ("Content-Length", str(len(body))), *headers):
            self._connection.putheader(name, value)
        self._connection.endheaders(body)
        answer = self._connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()

    def close(self) -> None:
        """Hang up."""
        self._connection.close()


@pytest.fixture
def line(site: Site) -> Iterator[Line]:
    """A connection to the authority."""
    with closing(Line(site.authority.base_url)) as made:
        yield made


@pytest.fixture(scope="module")
def schema(site: Site) -> dict[str, Any]:
    """What the authority says of itself."""
    found: dict[str, Any] = site.http.get(f"{site.authority.base_url}/openapi.json").json()
    return found


@pytest.fixture(scope="module")
def doors(site: Site, schema: dict[str, Any]) -> list[Door]:
    """Every operation that is not public, each at the address of something that exists."""
    agent = site.onboard(vault="secrets:*:*")
    secret = {"value": "canary"}
    assert say(site, "PUT", "/secrets/production/openai/key", agent.agent_key, json=secret).status_code == 200
    wish = {"scopes": ["secrets:read:*"], "access_tier": "sensitive"}
    operator, _ = site.operator("auditor", name="somebody")
    key = SigningKey.generate()
    issuer = {"name": "somebody", "kind": "users", "issuer": "https://somebody.example"}
    values = {
        "client_id": agent.client_id,
        "key_id": agent.key_id,
        "delegation_id": agent.delegation_id,
        "name": agent.role,
        "jti": site.ask(agent).json()["jti"],
        "kid": site.admin("GET", "/signing-keys")["items"][0]["kid"],
        "issuer_id": site.admin("POST", "/issuers", json={**issuer, "jwks": {"keys": [dict(key.jwk)]}})["issuer_id"],
        "operator_id": operator,
        "token_id": site.admin("GET", f"/operators/{operator}/tokens")["items"][0]["token_id"],
        "agent_id": agent.client_id,
        "approval_id": say(site, "POST", "/tokens", agent.agent_key, json=wish).json()["approval_id"],
        "path": "production/openai/key",
    }
    in_the_vault = {**values, "token_id": token(site, agent, "secrets:read:*").partition(".")[0]}
    return [
        Door(
            method.upper(),
            template,
            template.format_map(in_the_vault if OF_THE_VAULT.fullmatch(template) else values),
        )
        for template, operations in schema["paths"].items()
        if template not in PUBLIC
        for method in operations
    ]


@pytest.fixture(scope="module")
def bad_proofs(site: Site) -> dict[str, list[str]]:
    """What proves nothing to the admin API: the `Authorization` headers of a request, by what they are."""
    agent = site.onboard()
    disabled, disabled_token = site.operator("admin", name="disabled")
    site.admin("PATCH", f"/operators/{disabled}", json={"enabled": False})
    revoked, revoked_token = site.operator("admin", name="revoked")
    site.admin("POST", f"/operators/{revoked}/tokens/{revoked_token.partition('.')[0]}/revoke")
    _, good = site.operator("admin", name="good")
    token_id, _, _ = good.partition(".")
    return {
        "nothing": [],
        "garbage": ["Bearer garbage"],
        "blank": ["Bearer "],
        "another scheme": [f"Basic {good}"],
        "no scheme": [good],
        "an agent key": [f"Bearer {agent.agent_key}"],
        "a delegation token": [f"Bearer {site.token(agent)}"],
        "an invented token": [f"Bearer {credentials.generate('operator-token').text()}"],
        "a wrong secret": [f"Bearer {token_id}.{'A' * 43}"],
        "an agent key's secret under a token's id": [f"Bearer {token_id}.{agent.agent_key.partition('.')[2]}"],
        "a good token, cut": [f"Bearer {good[:-1]}"],
        "a good token and more": [f"Bearer {good} {good}"],
        "a good token twice": [f"Bearer {good}", f"Bearer {good}"],
        "a disabled operator's": [f"Bearer {disabled_token}"],
        "a revoked one": [f"Bearer {revoked_token}"],
    }


def walk(routes: Iterable[Any]) -> Iterator[tuple[str, frozenset[str]]]:
    """Yield path and methods of every route; newer versions of FastAPI keep what was included in one of its own."""
    for route in routes:
        included = getattr(route, "original_router", None)
        if included is not None:
            yield from walk(included.routes)
        else:
            yield route.path, frozenset(route.methods or ())


def changes(site: Site) -> list[int]:
    """Return the entries of all that was allowed so far."""
    return [entry["seq"] for entry in site.entries(decision="allow")]


@pytest.mark.req("RA1")
@pytest.mark.inside
def test_the_description_names_every_route(site: Site, schema: dict[str, Any]) -> None:
    """There is no route beside those in `/openapi.json`, so that the tests here see all of them; and none is lost."""
    app = site.authority._serving._app  # type: ignore[union-attr]  # the one that runs
    found: dict[str, set[str]] = {}
    for path, methods in walk(app.routes):
        found.setdefault(path.replace(":path}", "}"), set()).update(methods - {"HEAD"})
    described = {path: {method.upper() for method in operations} for path, operations in schema["paths"].items()}
    assert found == {**described, "/openapi.json": {"GET"}}
    assert set(found) >= PUBLIC, "a public address is gone"
    assert len(set(found) - PUBLIC) > 20


@pytest.mark.req("RA1")
def test_what_is_public_says_nothing_of_anyone(site: Site, line: Line) -> None:
    """What answers without proof names no agent, operator, role or delegation, and takes no other method than GET."""
    agent = site.onboard(name="an agent that nobody is to know of")
    site.token(agent)
    secrets = [agent.client_id, agent.name, agent.role, agent.delegation_id, agent.key_id, agent.spiffe_id]
    for template in sorted(PUBLIC):
        path = template.format(number=0)
        status, _, body = line("GET", path)
        assert status == 200, path
        assert not [text for text in secrets if text.encode() in body], path
        for method in ("POST", "PUT", "PATCH", "DELETE"):
            assert line(method, path)[0] == 405, (method, path)


@pytest.mark.req("RA1")
def test_nothing_opens_to_a_proof_that_is_none(
    site: Site, line: Line, doors: list[Door], bad_proofs: Mapping[str, list[str]]
) -> None:
    """Every operation × every bad proof is 401 in the shape of its errors; one text for all; nothing has changed."""
    before = changes(site)
    answers = set()
    for door in doors:
        if door.template in OF_AGENTS or OF_THE_VAULT.fullmatch(door.template):
            continue  # agents prove themselves there: the tests below
        for what, values in bad_proofs.items():
            status, headers, body = line(door.method, door.path, [("Authorization", value) for value in values])
            assert status == 401, (str(door), what, status)
            assert headers["www-authenticate"] == "Bearer"
            if door.template.startswith("/v1/"):
                assert json.loads(body)["error"]["code"] == "UNAUTHORIZED"
                answers.add(json.loads(body)["error"]["message"])
            else:
                assert headers["content-type"] == "application/problem+json"
                assert json.loads(body)["code"] == "unauthenticated"
                answers.add(json.loads(body)["detail"])
    assert len(answers) == 1, "which proof comes how near is for the audit, and not for who tries"
    assert changes(site) == before


@pytest.mark.req("RA1")
def test_the_endpoint_of_agents_wants_an_agent_key(site: Site, bad_proofs: Mapping[str, list[str]], line: Line) -> None:
    """No operator's token opens it, not even a good one; nor does any bad proof."""
    agent, other = site.onboard(), site.onboard()
    proofs = {
        **bad_proofs,
        "another agent's key": [f"Bearer {other.agent_key}"],
        "the admin's token": [f"Bearer {site.authority.admin_token}"],
    }
    for what, values in proofs.items():
        headers = [("Authorization", value) for value in values]
        status, _, body = line("GET", f"{DELEGATION_TOKEN_PATH}?client_id={agent.client_id}", headers)
        assert status == 401, what
        assert set(json.loads(body)) == {"error", "details"}


@pytest.mark.req("RA1")
def test_the_vault_wants_an_agent_key_or_a_vault_token(
    site: Site, line: Line, doors: list[Door], bad_proofs: Mapping[str, list[str]]
) -> None:
    """No operator's token opens it, not even a good one, nor does any bad proof; nothing of it comes out or changes."""
    agent, other = site.onboard(vault="secrets:*:*"), site.onboard(vault="secrets:*:*")
    vault_token = token(site, agent, "secrets:*:*")
    proofs = {
        **bad_proofs,
        "the admin's token": [f"Bearer {site.authority.admin_token}"],
        "a key, cut": [f"Bearer {agent.agent_key[:-1]}"],
        "a key twice": [f"Bearer {agent.agent_key}"] * 2,
        "a key in another scheme": [f"Basic {b64encode(f'{agent.client_id}:{agent.agent_key}'.encode()).decode()}"],
        "a key with another's secret": [f"Bearer {agent.key_id}.{other.agent_key.partition('.')[2]}"],
        "a token with the key's secret": [
            f"Bearer {vault_token.partition('.')[0]}.{agent.agent_key.partition('.')[2]}"
        ],
        "a key with the token's secret": [f"Bearer {agent.key_id}.{vault_token.partition('.')[2]}"],
    }
    del proofs["an agent key"]
    before = changes(site)
    of_the_vault = [door for door in doors if OF_THE_VAULT.fullmatch(door.template)]
    assert len(of_the_vault) > 8
    for door in of_the_vault:
        for what, values in proofs.items():
            status, headers, body = line(door.method, door.path, [("Authorization", value) for value in values])
            assert status == 401, (str(door), what, status)
            assert headers["www-authenticate"] == "Bearer"
            assert json.loads(body)["error"]["code"] == "UNAUTHORIZED"
            assert b"canary" not in body
    assert changes(site) == before


@pytest.mark.req("RA1")
def test_the_standard_endpoints_want_a_clients_proof(
    site: Site, bad_proofs: Mapping[str, list[str]], line: Line
) -> None:
    """Whatever proves nothing is `invalid_client` or no request at all, in the shape of OAuth; nothing has changed."""
    agent, other = site.onboard(), site.onboard()
    token = site.token(agent)
    before = changes(site)
    basic = {
        "another agent's key": [f"Basic {b64encode(f'{agent.client_id}:{other.agent_key}'.encode()).decode()}"],
        "the admin's token": [
            f"Basic {b64encode(f'{agent.client_id}:{site.authority.admin_token}'.encode()).decode()}"
        ],
    }
    form = f"grant_type=client_credentials&client_id={agent.client_id}&token={token}".encode()
    for path in sorted(OAUTH):
        for what, values in {**bad_proofs, **basic}.items():
            headers = [("Content-Type", "application/x-www-form-urlencoded")]
            headers += [("Authorization", value) for value in values]
            status, answered, body = line("POST", path, headers, form)
            assert status in (400, 401), (path, what)
            assert (status == 401) == (json.loads(body)["error"] == "invalid_client"), (path, what)
            assert ("www-authenticate" in answered) == (status == 401)
    assert changes(site) == before


@pytest.mark.req("RA1")
def test_other_methods_open_nothing(site: Site, line: Line, doors: list[Door]) -> None:
    """A method that an address does not take is refused, whoever asks; a HEAD is no way around its GET."""
    before = changes(site)
    declared = {(door.method, door.path) for door in doors}
    admin = ("Authorization", f"Bearer {site.authority.admin_token}")
    for path in sorted({door.path for door in doors}):
        for method in METHODS:
            if (method, path) in declared:
                continue
            assert line(method, path)[0] in (400, 401, 405), (method, path)
            if method not in ("get", "QUERY") and "/dry-run" not in path:  # as a GET that would be a token's id
                # What follows `/v1/secrets/` may be a path, which is then asked for without a good proof.
                refused = (401, 405) if path.startswith("/v1/secrets/") else (405,)
                assert line(method, path, [admin])[0] in refused, (method, path)
    assert changes(site) == before


def spellings(path: str) -> Iterator[str]:
    """Yield other ways to write an address."""
    first, _, rest = path[1:].partition("/")
    last = path.rpartition("/")[2]
    yield path + "/"
    yield path + "//"
    yield "/" + path
    yield path.replace("/", "//")
    yield path.upper()
    yield path.title()
    yield f"/%2e{path}"
    yield f"/.{path}"
    yield f"/healthz/..{path}"
    yield f"/healthz/%2e%2e{path}"
    yield f"/%2e%2e{path}"
    yield f"/{first}/./{rest}"
    yield f"/{first}%2f{rest}"
    yield f"/{first}\\{rest}"
    yield path[: -len(last)] + "".join(f"%{byte:02X}" for byte in last.encode())
    yield path + "%00"
    yield path + "%20"
    yield path + ";/healthz"
    yield path + "?/healthz"
    yield path + "/../../healthz"
    yield path + ".json"


@pytest.mark.req("RA1")
def test_no_odd_spelling_opens_anything(site: Site, line: Line, doors: list[Door]) -> None:
    """However an address is written: without proof it is refused, and nothing is redirected or fails."""
    before = changes(site)
    host = urlsplit(site.authority.base_url).netloc
    for door in doors:
        for target in (*spellings(door.path), f"http://{host}{door.path}", f"http://{host}/healthz/..{door.path}"):
            status, headers, _ = line(door.method, target)
            refused = (400, 401, 404, 405) if door.template in OF_AGENTS else (401, 404, 405)
            assert status in refused, (door.method, target, status)
            assert "location" not in headers
    assert changes(site) == before


@pytest.mark.req("RA1")
def test_a_stranger_is_a_stranger_whatever_they_send(site: Site, line: Line, doors: list[Door]) -> None:
    """Who asks is found out before what is sent is looked at: good and bad bodies, queries and ids get the same 401."""
    before = changes(site)
    for door in doors:
        if door.template in OF_AGENTS:
            continue
        nowhere = re.sub(r"\{[^}]*\}", "%00", door.template)
        for target in (door.path, f"{door.path}?limit=-1&after=%FF", nowhere):
            assert line(door.method, target)[0] == 401, target
        if door.method not in ("GET", "DELETE"):
            body = b'{"name":"x","role":"admin","state":"active","unknown":1}'
            assert line(door.method, door.path, [("Content-Type", "application/json")], body)[0] == 401, str(door)
    assert changes(site) == before


@pytest.mark.req("RA1")
def test_a_role_opens_what_it_is_for_and_no_more(site: Site, line: Line, doors: list[Door]) -> None:
    """An auditor may read, an operator manage agents too; what is an admin's is nobody else's."""
    _, auditor = site.operator("auditor", name="the auditor")
    _, operator = site.operator("operator", name="the operator")
    before = changes(site)
    kept_out = 0
    for door in doors:
        if door.template in OF_AGENTS or OF_THE_VAULT.fullmatch(door.template):
            continue
        reads = door.method == "GET" or (door.method, door.template) in READS_BY_POST
        for bearer, may in (
            (auditor, reads),
            (operator, reads or not ADMINS_ONLY.fullmatch(str(door))),
        ):
            if may and not reads:
                continue  # it would be done
            status, _, _ = line(door.method, door.path, [("Authorization", f"Bearer {bearer}")])
            assert (status == 403) is not may, (str(door), status)
            kept_out += not may
    assert kept_out > 15
    assert changes(site) == before


@pytest.mark.req("RA1")
def test_a_token_that_ended_is_no_proof(timed: Site) -> None:
    """An operator's token is good until its `not_after`, and not at it."""
    operator, _ = timed.operator("admin", name="for a minute")
    ends_at = timed.after(60)
    token = timed.admin("POST", f"/operators/{operator}/tokens", json={"not_after": ends_at})["token"]

    def status() -> int:
        headers = {"Authorization": f"Bearer {token}"}
        return timed.http.get(f"{timed.authority.base_url}/api/v1/whoami", headers=headers).status_code

    timed.fake.advance(59.5)
    assert status() == 200
    timed.fake.advance(0.5)
    assert status() == 401


@pytest.mark.req("RA1")
def test_a_host_that_is_not_its_own_gets_nothing(open_site: OpenSite) -> None:
    """With `--dev` a page whose DNS name was rebound to this machine gets 421 everywhere, health included."""
    with open_site(dev=True) as site, closing(Line(site.authority.base_url)) as line:
        agent = site.onboard()
        asked = f"{DELEGATION_TOKEN_PATH}?client_id={agent.client_id}"
        assert line("GET", asked)[0] == 200
        for host in ("evil.example", "127.0.0.1.evil.example", "localhost.evil.example", "127.0.0.1@evil.example", ""):
            line._host = host
            for path in (asked, "/healthz", "/api/v1/clients", "/authsec/.well-known/jwks.json"):
                assert line("GET", path)[0] in (400, 421), (host, path)
