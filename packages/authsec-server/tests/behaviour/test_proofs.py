"""By what does an agent prove who it is? Keys are shown once, kept as HMACs, several at once, and end when they end."""

from __future__ import annotations

import base64
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import pytest
import sqlalchemy as sa
from behaviour.support import BARE, NOBODY, PATIENCE, OpenSite, Site, inside, rows
from sqlalchemy.ext.asyncio import AsyncConnection

from authsec_core.testing import assert_no_secret
from authsec_server import credentials
from authsec_server.authority import Authority
from authsec_server.db.tables import client_keys, head
from authsec_server.testing import LocalPostgres, OnboardedAgent


def basic(user: str, password: str) -> str:
    """Return a Basic header as it is written without any encoding of the halves."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


def percent(text: str) -> str:
    """Return a text with each of its characters percent-encoded, which nobody does and everybody has to read."""
    return "".join(f"%{byte:02x}" for byte in text.encode())


def another_key(site: Site, agent: OnboardedAgent, **more: str) -> tuple[str, str]:
    """Make another key; return its id and the key."""
    made = site.admin("POST", f"/clients/{agent.client_id}/keys", status=201, json=more)
    return made["key_id"], made["agent_key"]


@pytest.mark.req("RA2")
def test_a_key_is_shown_once(site: Site) -> None:
    """Whoever reads agents, keys, operators, tokens or the audit later finds no key and no token in any guise."""
    agent = site.onboard()
    _, second = another_key(site, agent, label="second")
    operator, operators_token = site.operator("operator", name="shown once")
    token = site.token(agent)
    client = f"/clients/{agent.client_id}"
    pages = ["/clients", client, f"{client}/keys", "/operators", f"/operators/{operator}/tokens", "/audit?limit=200"]
    shown = [site.authority.client.get(page).text for page in pages]
    assert agent.key_id in shown[2], "a key is listed by its id"
    assert_no_secret(shown, agent.agent_key, second, operators_token, token)


@pytest.mark.req("RA2")
def test_what_shows_a_key_is_not_to_be_stored(site: Site) -> None:
    """Each reply with a secret in it forbids to keep it."""
    client = site.authority.client
    body = {"name": "not stored", "agent_type": "mcp-agent", "platform": "docker"}
    agent = client.post("/clients", json=body)
    operator = client.post("/operators", json={"name": "not stored", "role": "auditor"}).json()["operator_id"]
    replies = [
        agent,
        client.post(f"/clients/{agent.json()['client_id']}/keys", json={}),
        client.post(f"/operators/{operator}/tokens", json={}),
    ]
    for reply in replies:
        assert (reply.status_code, reply.headers["cache-control"]) == (201, "no-store")


@pytest.mark.req("RA2")
def test_only_hmacs_are_in_the_database(site: Site, request: pytest.FixtureRequest) -> None:
    """Neither rows nor files of the database hold a key or a token of any kind; names they do hold."""
    agent = site.onboard(name="found-in-the-database")
    _, second = another_key(site, agent)
    _, operators_token = site.operator("operator", name="found there too")
    token = site.token(agent)
    site.ask(agent, f"Bearer {second[:-1]}_")
    secrets = [agent.agent_key, second, operators_token, token, site.authority.admin_token]
    # A checkpoint is a JWS, too, and for everyone to read.
    everything = [value for table, row in rows(site) for value in row if table != "checkpoints"]
    assert "found-in-the-database" in everything
    assert_no_secret(everything, *secrets)
    files = b"".join(path.read_bytes() for path in database_files(site, request))
    assert b"found-in-the-database" in files, "these are not the files"
    for secret in secrets:
        last = secret.rpartition(".")[2]
        for guise in (last.encode(), last.encode().hex().encode(), base64.b64encode(last.encode())[:-4]):
            assert guise not in files
        if secret is not token:
            assert base64.urlsafe_b64decode(last + "=") not in files


def database_files(site: Site, request: pytest.FixtureRequest) -> list[Path]:
    """Return the files that the database consists of, written out."""
    if site.kind == "sqlite":
        database = Path(site.authority.settings.database_url.get_secret_value().removeprefix("sqlite:///"))
        return [path for path in database.parent.iterdir() if path.name.startswith(database.name)]
    server: LocalPostgres = request.getfixturevalue("postgres")
    server._ask("CHECKPOINT")
    assert server._cluster is not None
    return [path for path in server._cluster._data.rglob("*") if path.is_file()]


@pytest.mark.req("RA2")
def test_basic_is_percent_decoded(site: Site) -> None:
    """RFC 6749 section 2.3.1: both halves are form-encoded before they are joined; a plain one is its own encoding."""
    agent = site.onboard()
    client_id, key = agent.client_id, agent.agent_key
    good = [
        basic(client_id, key),
        basic(percent(client_id), percent(key)),
        basic(client_id, percent(key)),
        basic(client_id.upper(), key),
        basic(client_id, key).replace("Basic", "basic"),
    ]
    for header in good:
        assert site.ask(agent, header).status_code == 200, header
    bad = [
        basic(client_id, percent(percent(key))),
        basic(client_id, key + "%0a"),
        basic(client_id, key + "+"),
        basic(NOBODY, key),
        basic("", key),
        basic(client_id, ""),
        basic(client_id, key[:-1]),
        basic(key, client_id),
        basic(client_id, key) + "=",
        basic(client_id, key)[:-3],
        "Basic " + base64.b64encode(key.encode()).decode(),
        "Basic " + base64.b64encode(f"{client_id}:%zz{key}".encode()).decode(),
    ]
    for header in bad:
        assert site.ask(agent, header).status_code == 401, header


@pytest.mark.req("RA2")
def test_keys_can_be_rotated(site: Site) -> None:
    """Two keys are good at once; the end of one is not the other's, but ends the tokens that were issued for it."""
    agent = site.onboard()
    _, second = another_key(site, agent, label="January")
    old, new = site.token(agent), site.ask(agent, f"Bearer {second}").json()["token"]
    site.admin("POST", f"/clients/{agent.client_id}/keys/{agent.key_id}/revoke", status=200)
    assert site.ask(agent).status_code == 401
    assert site.ask(agent, f"Bearer {second}").status_code == 200
    assert (site.is_listed(old), site.is_listed(new)) == (True, False)


@pytest.mark.req("RA2")
def test_a_key_ends_when_it_is_said_to(timed: Site) -> None:
    """In the last second before `not_after` a key gets nothing any more; the other key of the agent goes on."""
    agent = timed.onboard()
    _, short = another_key(timed, agent, not_after=timed.after(60))
    timed.fake.advance(59)
    assert timed.ask(agent, f"Bearer {short}").status_code == 200
    timed.fake.advance(0.001)
    assert timed.ask(agent, f"Bearer {short}").status_code == 401
    assert timed.ask(agent).status_code == 200


@pytest.mark.req("RA2")
def test_what_proves_nothing_is_401(site: Site) -> None:
    """Whatever is not a live key of this very client: no token, and the same words for all of it."""
    agent, other = site.onboard(), site.onboard()
    key_id, _, secret = agent.agent_key.partition(".")
    others_id, _, others_secret = other.agent_key.partition(".")
    proofs = {
        "none": None,
        "an empty one": "Bearer",
        "another agent's key": f"Bearer {other.agent_key}",
        "an operator's token": f"Bearer {site.authority.admin_token}",
        "an invented key": f"Bearer {credentials.generate('agent-key').text()}",
        "another's secret under its id": f"Bearer {key_id}.{others_secret}",
        "its secret under another's id": f"Bearer {others_id}.{secret}",
        "its secret under an operator token's id": f"Bearer opt_{key_id[4:]}.{secret}",
        "the secret alone": f"Bearer {secret}",
        "a key that is cut": f"Bearer {agent.agent_key[:-1]}",
        "a key and more": f"Bearer {agent.agent_key}A",
        "a key in capitals": f"Bearer {agent.agent_key.upper()}",
        "a key in quotes": f'Bearer "{agent.agent_key}"',
        "two keys": f"Bearer {agent.agent_key}, Bearer {agent.agent_key}",
        "another scheme": f"Token {agent.agent_key}",
        "no scheme": agent.agent_key,
        "a delegation token": f"Bearer {site.token(agent)}",
    }
    words = set()
    for what, proof in proofs.items():
        reply = site.ask(agent, proof)
        assert reply.status_code == 401, what
        assert reply.headers["www-authenticate"] == "Bearer"
        if proof is not None:
            words.add(reply.text)
    assert len(words) == 1
    url = f"{site.authority.base_url}/authsec/uflow/sdk/delegation-token?client_id={agent.client_id}"
    twice = [("Authorization", f"Bearer {agent.agent_key}")] * 2
    assert site.http.get(url, headers=twice).status_code == 401
    assert site.http.get(f"{url}&agent_key={agent.agent_key}&access_token={agent.agent_key}").status_code == 401


@pytest.mark.req("RA2")
def test_one_client_cannot_be_another(site: Site) -> None:
    """A good key with the id of another client, in query, header or both, gives no token of either."""
    agent, victim = site.onboard(), site.onboard("admin:everything")
    own = f"Bearer {agent.agent_key}"
    url = f"{site.authority.base_url}/authsec/uflow/sdk/delegation-token"
    headers = {"Authorization": own, "X-Client-ID": victim.client_id}
    assert site.http.get(url, headers=headers).status_code == 401
    assert site.http.get(url, params={"client_id": agent.client_id}, headers=headers).status_code == 400
    twice = f"{url}?client_id={agent.client_id}&client_id={victim.client_id}"
    assert site.http.get(twice, headers={"Authorization": own}).status_code == 400
    assert site.ask(victim, own).status_code == 401
    assert site.ask(victim, basic(victim.client_id, agent.agent_key)).status_code == 401


@pytest.mark.req("RA2")
def test_an_id_alone_is_enough_in_development_only(open_site: OpenSite, site: Site) -> None:
    """With `--dev` a bare client id gets a token, on loopback; what is brought as a proof has to be one."""
    assert site.ask(site.onboard(), None).status_code == 401
    with open_site(dev=True) as trial:
        agent = trial.onboard()
        assert trial.ask(agent, None).status_code == 200
        assert trial.ask(agent, "Bearer garbage").status_code == 401
        assert urlsplit(trial.authority.base_url).hostname == "127.0.0.1"
        url = f"{trial.authority.base_url}/authsec/uflow/sdk/delegation-token?client_id={agent.client_id}"
        for host in ("evil.example", "authority.internal:8321", "169.254.169.254"):
            reply = httpx.get(url, headers={"Host": host}, verify=BARE, trust_env=False, timeout=PATIENCE)
            assert (reply.status_code, "token" in reply.text) == (421, False)


@pytest.mark.req("RA2")
def test_keys_are_compared_under_the_pepper(site: Site) -> None:
    """What is kept of a key is its HMAC under the pepper: a row moved to another client opens nothing there."""
    agent, victim = site.onboard(), site.onboard()

    async def steal(inner: Authority) -> None:
        async def work(connection: AsyncConnection) -> None:
            execute = connection.execute
            mac = (await execute(sa.select(client_keys.c.mac).where(client_keys.c.key_id == agent.key_id))).scalar_one()
            moved = sa.update(client_keys).where(client_keys.c.key_id == victim.key_id).values(mac=mac)
            await execute(moved)
            await execute(sa.update(head).values(policy_version=head.c.policy_version + 1))

        await inner.database.write(work)

    inside(site, steal)
    secret = agent.agent_key.partition(".")[2]
    assert site.ask(victim, f"Bearer {victim.key_id}.{secret}").status_code == 401
    assert site.ask(agent).status_code == 200
