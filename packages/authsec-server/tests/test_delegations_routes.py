"""Roles and trust delegations over HTTP: shapes, statuses, and the difference between null and left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from registry_support import Registry
from routes_support import NOBODY, Speaker, speaking


async def furnished(say: Speaker, one: Registry) -> dict[str, Any]:
    """Make a role and a client, and return what a delegation of the one to the other takes."""
    await say("PUT", "/roles/reader", status=201, json={"permissions": ["read:metrics", "read:records"]})
    client = await one.client()
    return {
        "role": "reader",
        "target_type": "autogen-agent",
        "client_id": client.client_id,
        "max_duration": 1,
        "unit": "hours",
    }


def test_a_role_is_put_read_and_deleted(tmp_path: Path) -> None:
    """201 when it is new, 200 when it is not, 204 when it is gone; 409 while it is named."""

    async def test(say: Speaker, one: Registry) -> None:
        new = await furnished(say, one)
        role = await say("PUT", "/roles/reader", status=200, json={"permissions": ["b", "a", "read:metrics"]})
        assert role == {
            "name": "reader",
            "permissions": ["a", "b", "read:metrics"],
            "created_at": "2027-01-15T08:00:00Z",
            "updated_at": "2027-01-15T08:00:00Z",
        }
        assert await say("GET", "/roles/reader", status=200) == role
        assert await say("GET", "/roles", status=200) == {"items": [role], "next": None}
        await say("PUT", "/roles/unused", status=201, json={"permissions": []})
        await say("DELETE", "/roles/unused", status=204)
        await say("DELETE", "/roles/unused", status=404)
        await say("GET", "/roles/unused", status=404)
        await say("POST", "/trust-delegations", status=201, json=new)
        await say("DELETE", "/roles/reader", status=409)
        for wrong in ({}, {"permissions": None}, {"permissions": ["a b"]}, {"permissions": [1]}, {"permissions": "a"}):
            await say("PUT", "/roles/reader", status=422, json=wrong)
        for name in ("a%20b", "%00", "x" * 65, "a%2Cb"):
            await say("PUT", f"/roles/{name}", status=422, json={"permissions": []})

    speaking(tmp_path, test)


def test_a_delegation_is_made_changed_and_revoked(tmp_path: Path) -> None:
    """It is shown in the unit that it was given in; null and left out differ where null means something."""

    async def test(say: Speaker, one: Registry) -> None:
        new = await furnished(say, one)
        made = await say(
            "POST",
            "/trust-delegations",
            status=201,
            json={**new, "allowed_actions": ["read:metrics"], "not_after": "2027-01-15T09:00:00Z"},
        )
        assert made == {
            **new,
            "delegation_id": made["delegation_id"],
            "allowed_actions": ["read:metrics"],
            "audiences": ["authsec-api"],
            "enabled": True,
            "not_after": "2027-01-15T09:00:00Z",
            "revoked_at": None,
            "created_at": "2027-01-15T08:00:00Z",
            "created_by": "root",
        }
        path = f"/trust-delegations/{made['delegation_id']}"
        assert await say("GET", path, status=200) == made
        for nothing in ({}, {"enabled": None, "audiences": None, "max_duration": None, "unit": None}):
            assert await say("PATCH", path, status=200, json=nothing) == made
        wide = {"allowed_actions": None, "not_after": None, "max_duration": 2, "unit": "days"}
        changed = await say("PATCH", path, status=200, json=wide)
        assert changed == {**made, **wide}
        narrow = {"allowed_actions": ["read:records"], "enabled": False, "audiences": ["b"]}
        assert await say("PATCH", path, status=200, json=narrow) == {**changed, **narrow}
        assert (await say("POST", f"{path}/revoke", status=200))["revoked_at"] == "2027-01-15T08:00:00Z"
        await say("POST", f"{path}/revoke", status=409)
        await say("PATCH", path, status=409, json={"enabled": True})

    speaking(tmp_path, test)


def test_delegations_are_listed_by_client_and_role(tmp_path: Path) -> None:
    """Both filters hold at once; what cannot be a client or a role is 422."""

    async def test(say: Speaker, one: Registry) -> None:
        new = await furnished(say, one)
        made = await say("POST", "/trust-delegations", status=201, json=new)
        for params, found in (
            ({}, [made]),
            ({"client_id": new["client_id"], "role": "reader"}, [made]),
            ({"client_id": NOBODY}, []),
            ({"role": "writer"}, []),
        ):
            page = await say("GET", "/trust-delegations", status=200, params=params)
            assert page == {"items": found, "next": None}
        for params in ({"client_id": "x"}, {"client_id": "\0"}, {"role": "a b"}, {"role": ""}):
            await say("GET", "/trust-delegations", status=422, params=params)

    speaking(tmp_path, test)


_WRONG: tuple[dict[str, Any], ...] = (
    {"role": "writer"},
    {"role": "a b"},
    {"client_id": NOBODY},
    {"client_id": "x"},
    {"target_type": "crewai-agent"},
    {"target_type": "robot"},
    {"allowed_actions": []},
    {"allowed_actions": ["write:all"]},
    {"audiences": []},
    {"audiences": ["a b"]},
    {"max_duration": 0},
    {"max_duration": 721},
    {"max_duration": 1.5},
    {"max_duration": True},
    {"max_duration": 10**30},
    {"unit": "weeks"},
    {"enabled": "yes"},
    {"not_after": "2020-01-01T00:00:00Z"},
    {"not_after": "9999-12-31T23:59:59-23:59"},
    {"not_after": "2027-01-15"},
    {"not_after": 1_900_000_000},
    {"more": 1},
)


def test_what_does_not_fit_is_422_and_makes_nothing(tmp_path: Path) -> None:
    """Whether the shape or the service refuses it; a change is held to the same."""

    async def test(say: Speaker, one: Registry) -> None:
        new = await furnished(say, one)
        for wrong in _WRONG:
            await say("POST", "/trust-delegations", status=422, json={**new, **wrong})
        assert await one.entries("delegation.create") == []
        made = await say("POST", "/trust-delegations", status=201, json=new)
        path = f"/trust-delegations/{made['delegation_id']}"
        for wrong in _WRONG:
            await say("PATCH", path, status=422, json={**wrong, "unit": wrong.get("unit", "hours")})
        assert await say("GET", path, status=200) == made

    speaking(tmp_path, test)
