"""Operators over HTTP: shapes, statuses, and what is shown once."""

from __future__ import annotations

from pathlib import Path

import pytest
from fastapi import APIRouter
from registry_support import Registry
from routes_support import NOBODY, Speaker, speaking

from authsec_server import deps
from authsec_server.credentials import parse


def test_an_operator_is_named_gets_a_token_and_loses_it(tmp_path: Path) -> None:
    """The token is shown once, lets its operator in and says who they are; revoked, it lets nobody in."""

    async def test(say: Speaker, one: Registry) -> None:
        made = await say("POST", "/operators", status=201, json={"name": "bob", "role": "auditor"})
        assert made == {
            "operator_id": made["operator_id"],
            "name": "bob",
            "role": "auditor",
            "enabled": True,
            "created_at": "2027-01-15T08:00:00Z",
        }
        path = f"/operators/{made['operator_id']}"
        reply = await say.reply("POST", f"{path}/tokens", json={"label": "laptop"})
        assert (reply.status_code, reply.headers["cache-control"]) == (201, "no-store")
        shown = reply.json()
        text = shown.pop("token")
        token = parse(text)
        assert token is not None
        assert token.id == shown["token_id"]
        assert await say("GET", f"{path}/tokens", status=200) == {"items": [shown], "next": None}
        assert await say("GET", "/whoami", status=200, token=text) == made
        await say("POST", "/operators", status=403, token=text, json={"name": "eve", "role": "admin"})
        changed = await say("PATCH", path, status=200, json={"role": "operator"})
        assert (changed["role"], changed["enabled"]) == ("operator", True)
        assert {item["name"] for item in (await say("GET", "/operators", status=200))["items"]} == {"root", "bob"}
        await say("POST", f"{path}/tokens/{shown['token_id']}/revoke", status=200)
        await say("POST", f"{path}/tokens/{shown['token_id']}/revoke", status=409)
        problem = await say("GET", "/whoami", status=401, token=text)
        assert problem["code"] == "unauthenticated"

    speaking(tmp_path, test)


def test_the_last_admin_stays(tmp_path: Path) -> None:
    """409, whichever way it is tried."""

    async def test(say: Speaker, one: Registry) -> None:
        me = await say("GET", "/whoami", status=200)
        path = f"/operators/{me['operator_id']}"
        await say("PATCH", path, status=409, json={"enabled": False})
        await say("PATCH", path, status=409, json={"role": "auditor"})
        (token,) = (await say("GET", f"{path}/tokens", status=200))["items"]
        await say("POST", f"{path}/tokens/{token['token_id']}/revoke", status=409)
        assert await say("GET", "/whoami", status=200) == me

    speaking(tmp_path, test)


_WRONG = (
    {"name": "bob"},
    {"name": "bob", "role": "root"},
    {"name": "", "role": "admin"},
    {"name": "a\n", "role": "admin"},
)


def test_what_does_not_fit_is_422(tmp_path: Path) -> None:
    """And what does not exist is 404."""

    async def test(say: Speaker, one: Registry) -> None:
        for wrong in _WRONG:
            await say("POST", "/operators", status=422, json=wrong)
        me = await say("GET", "/whoami", status=200)
        path = f"/operators/{me['operator_id']}"
        for change in ({"enabled": "no"}, {"enabled": 0}, {"role": "root"}, {"name": "eve"}):
            await say("PATCH", path, status=422, json=change)
        for token in (
            {"not_after": "tomorrow"},
            {"not_after": "2020-01-01T00:00:00Z"},
            {"not_after": 1},
            {"label": "a\n"},
        ):
            await say("POST", f"{path}/tokens", status=422, json=token)
        await say("POST", f"/operators/{NOBODY}/tokens", status=404, json={})
        await say("PATCH", f"/operators/{NOBODY}", status=404, json={})

    speaking(tmp_path, test)


def test_a_route_that_says_nothing_of_who_may_use_it_cannot_be_made() -> None:
    """In the admin API, a route that forgets its access level fails when it is written, and not when it is attacked."""
    router = APIRouter(route_class=deps.OperatorRoute)
    with pytest.raises(RuntimeError, match="who may use it"):

        @router.get("/open")
        async def forgot() -> None:
            """Let everyone in."""
