"""The JWKS, discovery and the operators' side of the signing keys, over HTTP."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import httpx
import jwt
import pytest
from fastapi import FastAPI
from keys_support import READY, World, hand_out_keys, play
from server_support import CALLER

from authsec_core.testing import FakeClock
from authsec_server import problems
from authsec_server.audit.entry import Caller
from authsec_server.errors import ForbiddenError, StorageUnavailableError, UnauthenticatedError
from authsec_server.keys import routes

ISSUER = "https://authority.example.com/authsec"
JWKS = "/authsec/.well-known/jwks.json"
DISCOVERY = (
    "/authsec/.well-known/openid-configuration",
    "/authsec/.well-known/oauth-authorization-server",
    "/.well-known/oauth-authorization-server/authsec",
)
KEYS = "/api/v1/signing-keys"
LEVELS = ("read", "manage", "administer")
Story = Callable[[World, httpx.AsyncClient], Awaitable[None]]


@pytest.fixture(autouse=True)
def _quick_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    hand_out_keys(monkeypatch)


class Door:
    """Lets those in whose credential names a level that is high enough."""

    async def admit(self, authorization: str | None, needs: str, **_more: Any) -> Caller:
        """Compare levels."""
        if authorization is None:
            raise UnauthenticatedError("no credential")
        if LEVELS.index(authorization) < LEVELS.index(needs):
            raise ForbiddenError("not for you")
        return CALLER


def visit(tmp_path: Any, clock: FakeClock, story: Story) -> None:
    """Run a story with an HTTP client that speaks for an admin."""
    settings = SimpleNamespace(issuer=ISSUER, jwks_url=f"{ISSUER}/.well-known/jwks.json", jwks_max_age=300, dev=False)

    async def inside(at: World) -> None:
        app = FastAPI()
        app.include_router(routes.public)
        app.include_router(routes.admin)
        problems.install(app)
        app.state.authority = SimpleNamespace(keys=at.keys, clock=at.clock, settings=settings, operators=Door())
        async with httpx.AsyncClient(
            transport=httpx.ASGITransport(app), base_url="https://server", headers={"Authorization": "administer"}
        ) as client:
            await story(at, client)

    play(f"sqlite:///{tmp_path / 'authsec.db'}", clock, inside)


@pytest.mark.req("RA7")
def test_the_jwks_is_what_verifiers_read(tmp_path: Any, clock: FakeClock) -> None:
    """Every key that may verify, in JSON that PyJWT takes, with no private member and the agreed age."""

    async def story(at: World, client: httpx.AsyncClient) -> None:
        first, second = await at.first(), (await at.keys.prepare(CALLER)).kid
        reply = await client.get(JWKS)
        assert reply.headers["content-type"] == "application/json"
        assert reply.headers["cache-control"] == "public, max-age=300"
        assert [key.key_id for key in jwt.PyJWKSet.from_dict(reply.json()).keys] == [first, second]
        for key in reply.json()["keys"]:
            assert set(key) == {"kty", "n", "e", "use", "alg", "kid"}

    visit(tmp_path, clock, story)


def test_what_did_not_change_is_not_sent_again(tmp_path: Any, clock: FakeClock) -> None:
    """By its tag, weak or among others; after a change it is sent."""

    async def story(at: World, client: httpx.AsyncClient) -> None:
        first = await at.first()
        tag = (await client.get(JWKS)).headers["etag"]
        for known in (tag, f"W/{tag}", f'"x", {tag}', "*"):
            reply = await client.get(JWKS, headers={"If-None-Match": known})
            assert (reply.status_code, reply.content) == (304, b"")
            assert (reply.headers["etag"], reply.headers["cache-control"]) == (tag, "public, max-age=300")
        await at.keys.revoke(CALLER, first)
        reply = await client.get(JWKS, headers={"If-None-Match": tag})
        assert reply.status_code == 200
        assert reply.headers["etag"] != tag

    visit(tmp_path, clock, story)


@pytest.mark.req("RA7")
def test_an_old_jwks_is_never_passed_off_as_new(
    tmp_path: Any, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the database is away it is not answered: verifiers know themselves how long the last one is good."""

    async def story(at: World, client: httpx.AsyncClient) -> None:
        await at.first()
        assert (await client.get(JWKS)).status_code == 200

        def away() -> None:
            raise StorageUnavailableError("away")

        monkeypatch.setattr(at.database, "read", away)
        clock.advance(0.9)
        assert (await client.get(JWKS)).status_code == 200
        clock.advance(0.1)
        reply = await client.get(JWKS)
        assert (reply.status_code, reply.json()["code"]) == (503, "storage_unavailable")
        assert "public" not in reply.headers["cache-control"]

    visit(tmp_path, clock, story)


@pytest.mark.parametrize("path", DISCOVERY)
def test_discovery_says_what_is_there(path: str, tmp_path: Any, clock: FakeClock) -> None:
    """The issuer, letter for letter, and its keys; no endpoint that does not exist."""

    async def story(at: World, client: httpx.AsyncClient) -> None:
        reply = await client.get(path)
        assert reply.headers["cache-control"] == "public, max-age=300"
        found = reply.json()
        endpoints = {name: found.pop(name) for name in sorted(found) if "_endpoint" in name}
        assert len(endpoints) == 9
        assert {url for url in endpoints.values() if isinstance(url, str)} == {
            f"{ISSUER}/oauth2/{name}" for name in ("token", "introspect", "revoke")
        }
        assert found == {
            "issuer": ISSUER,
            "jwks_uri": f"{ISSUER}/.well-known/jwks.json",
            "response_types_supported": [],
            "grant_types_supported": ["client_credentials", "urn:ietf:params:oauth:grant-type:token-exchange"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": ["RS256"],
        }

    visit(tmp_path, clock, story)


@pytest.mark.req("RA1")
@pytest.mark.parametrize("path", [JWKS, *DISCOVERY])
def test_verifiers_need_no_credential(path: str, tmp_path: Any, clock: FakeClock) -> None:
    """What is published is for everyone."""

    async def story(at: World, client: httpx.AsyncClient) -> None:
        await at.first()
        del client.headers["Authorization"]
        assert (await client.get(path)).status_code == 200

    visit(tmp_path, clock, story)


@pytest.mark.req("RA1")
def test_operators_need_their_level(tmp_path: Any, clock: FakeClock) -> None:
    """Everyone who may read sees the keys; only admins change them; strangers do neither."""

    async def story(at: World, client: httpx.AsyncClient) -> None:
        kid = await at.first()
        changes = [f"{KEYS}/prepare", *(f"{KEYS}/{kid}/{verb}" for verb in ("activate", "retire", "revoke"))]
        for level in ("read", "manage"):
            headers = {"Authorization": level}
            assert (await client.get(KEYS, headers=headers)).status_code == 200
            for path in changes:
                assert (await client.post(path, headers=headers)).status_code == 403
        del client.headers["Authorization"]
        assert (await client.get(KEYS)).status_code == 401
        for path in changes:
            assert (await client.post(path)).status_code == 401
        assert await at.states() == {kid: "active"}

    visit(tmp_path, clock, story)


@pytest.mark.req("RA7")
def test_the_life_of_a_key_over_http(tmp_path: Any, clock: FakeClock) -> None:
    """Prepared, refused while it is new, activated, given up or revoked; each reply shows what became of it."""

    async def story(at: World, client: httpx.AsyncClient) -> None:
        first = await at.first()
        made = await client.post(f"{KEYS}/prepare")
        assert made.status_code == 201
        second = made.json()["kid"]
        assert made.json() == {
            "kid": second,
            "state": "prepared",
            "published": True,
            "created_at": "2027-01-15T08:00:00Z",
            "ready_at": "2027-01-15T08:05:30Z",
            "activated_at": None,
            "retired_at": None,
            "withdrawn_at": None,
            "revoked_at": None,
        }
        early = await client.post(f"{KEYS}/{second}/activate")
        assert (early.status_code, early.json()["code"]) == (409, "conflict")
        assert "2027-01-15T08:05:30Z" in early.json()["detail"]
        clock.advance(READY)
        assert (await client.post(f"{KEYS}/{second}/activate")).json()["state"] == "active"
        third = (await client.post(f"{KEYS}/prepare")).json()["kid"]
        at_once = await client.post(f"{KEYS}/{third}/activate", json={"at_once": True})
        assert at_once.json()["activated_at"] == "2027-01-15T08:05:30Z"
        assert (await client.post(f"{KEYS}/{third}/retire")).status_code == 409
        assert (await client.post(f"{KEYS}/{third}/revoke")).json()["published"] is False
        listed = {item["kid"]: item for item in (await client.get(KEYS)).json()["items"]}
        assert {kid: item["state"] for kid, item in listed.items()} == await at.states()
        assert listed[first]["withdrawn_at"] == "2027-01-15T09:11:00Z"
        assert listed[third]["revoked_at"] == "2027-01-15T08:05:30Z"

    visit(tmp_path, clock, story)


def test_the_list_has_pages(tmp_path: Any, clock: FakeClock) -> None:
    """From old to new, each key once."""

    async def story(at: World, client: httpx.AsyncClient) -> None:
        kids = [await at.first()]
        for _ in range(4):
            clock.advance(1)
            kids.append((await at.keys.prepare(CALLER)).kid)
        found: list[str] = []
        after: dict[str, str] = {}
        while True:
            page = (await client.get(KEYS, params={"limit": "2", **after})).json()
            found += [item["kid"] for item in page["items"]]
            if page["next"] is None:
                break
            after = {"after": page["next"]}
        assert found == kids

    visit(tmp_path, clock, story)


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        (f"{KEYS}/{'x' * 43}/activate", None, 404),
        (f"{KEYS}/{'x' * 43}/retire", None, 404),
        (f"{KEYS}/{'x' * 43}/revoke", None, 404),
        (f"{KEYS}/short/revoke", None, 422),
        (f"{KEYS}/{'x' * 44}/revoke", None, 422),
        (f"{KEYS}/{'x' * 43}/activate", {"at_once": "yes"}, 422),
        (f"{KEYS}/{'x' * 43}/activate", {"atonce": True}, 422),
    ],
)
def test_a_wrong_request_is_a_problem(path: str, body: Any, status: int, tmp_path: Any, clock: FakeClock) -> None:
    """A key that is not there, a name that cannot be one, and a member that is a slip."""

    async def story(at: World, client: httpx.AsyncClient) -> None:
        await at.first()
        reply = await client.post(path, json=body) if body is not None else await client.post(path)
        assert reply.status_code == status
        assert reply.headers["content-type"] == "application/problem+json"

    visit(tmp_path, clock, story)


@pytest.mark.req("RA7")
def test_damage_is_not_described_to_strangers(tmp_path: Any, clock: FakeClock) -> None:
    """A key that cannot be unsealed stops the JWKS; the operator finds the reason in the log."""

    async def story(at: World, client: httpx.AsyncClient) -> None:
        first = await at.first()
        await client.get(JWKS)
        await at.damage(first, jwk={})
        assert (await client.get(JWKS)).status_code == 200  # this process has opened it before, and knows it
        at.keyring._known = None
        clock.advance(1)
        reply = await client.get(JWKS)
        assert reply.status_code == 500
        assert first not in reply.text

    visit(tmp_path, clock, story)
