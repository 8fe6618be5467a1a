"""Agents over HTTP: shapes, statuses, and what is shown once. The rules behind them have tests of their own."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from registry_support import Registry
from routes_support import NOBODY, Speaker, app_of, routes, speaking

from authsec_server.credentials import parse

NEW = {
    "name": "Customer Support",
    "agent_type": "autogen-agent",
    "platform": "kubernetes",
    "selectors": {"k8s:ns": "production", "k8s:sa": "support-sa"},
}


def test_an_agent_is_onboarded_disabled_and_revoked(tmp_path: Path) -> None:
    """The key is shown once and is not to be stored; times are RFC 3339; who is second to revoke gets 409."""

    async def test(say: Speaker, one: Registry) -> None:
        reply = await say.reply("POST", "/clients", json=NEW)
        made = reply.json()
        assert (reply.status_code, reply.headers["cache-control"]) == (201, "no-store")
        key = parse(made.pop("agent_key"))
        assert key is not None
        assert key.id == made.pop("key_id")
        assert made == {
            **NEW,
            "client_id": made["client_id"],
            "spiffe_id": "spiffe://example.org/ns/production/sa/support-sa",
            "state": "active",
            "created_at": "2027-01-15T08:00:00Z",
            "created_by": "root",
            "ended_at": None,
        }
        path = f"/clients/{made['client_id']}"
        assert await say("GET", path, status=200) == made
        assert await say("GET", "/clients", status=200) == {"items": [made], "next": None}
        assert (await say("PATCH", path, status=200, json={"state": "disabled"}))["state"] == "disabled"
        assert (await say("POST", f"{path}/revoke", status=200))["ended_at"] == "2027-01-15T08:00:00Z"
        problem = await say("POST", f"{path}/revoke", status=409)
        assert problem["code"] == "conflict"
        await say("PATCH", path, status=409, json={"state": "active"})
        await say("POST", "/clients", status=409, json=NEW)

    speaking(tmp_path, test)


def test_keys_are_made_listed_and_revoked(tmp_path: Path) -> None:
    """The new key is shown once; the list has none."""

    async def test(say: Speaker, one: Registry) -> None:
        client, _ = await one.onboard()
        path = f"/clients/{client.client_id}/keys"
        reply = await say.reply("POST", path, json={"label": "new", "not_after": "2027-01-15T10:00:00+01:00"})
        assert (reply.status_code, reply.headers["cache-control"]) == (201, "no-store")
        made = reply.json()
        key = parse(made.pop("agent_key"))
        assert key is not None
        assert (made["key_id"], made["not_after"]) == (key.id, "2027-01-15T09:00:00Z")
        listed = await say("GET", path, status=200)
        assert made in listed["items"]
        assert key.secret() not in str(listed)
        ended = await say("POST", f"{path}/{made['key_id']}/revoke", status=200)
        assert ended["revoked_at"] == "2027-01-15T08:00:00Z"
        await say("POST", f"{path}/{made['key_id']}/revoke", status=409)

    speaking(tmp_path, test)


_WRONG: tuple[Any, ...] = (
    {},
    {**NEW, "role": "admin"},
    {**NEW, "name": ""},
    {**NEW, "name": "x" * 101},
    {**NEW, "name": 7},
    {**NEW, "name": "a\ud800"},
    {**NEW, "name": "a\0"},
    {**NEW, "agent_type": "robot"},
    {**NEW, "platform": "moon"},
    {**NEW, "selectors": {"k8s:ns": "*"}},
    {**NEW, "selectors": {"k8s:ns": 1}},
    {**NEW, "selectors": {f"k8s:pod-label:{n}": "x" for n in range(33)}},
    [],
    "text",
    None,
)


def test_what_does_not_fit_is_422_and_makes_nothing(tmp_path: Path) -> None:
    """Missing, unknown, of another type, too long, or not allowed by the service: all alike."""

    async def test(say: Speaker, one: Registry) -> None:
        for wrong in _WRONG:
            problem = await say("POST", "/clients", status=422, content=json.dumps(wrong))
            assert problem["code"] == "invalid_request"
        assert await one.entries("client.onboard") == []

    speaking(tmp_path, test)


def test_a_cursor_that_is_none_is_422(tmp_path: Path) -> None:
    """And so is a limit beyond 1 to 200."""

    async def test(say: Speaker, one: Registry) -> None:
        for after in ("", "x", "MS4wIGF", "\0", "\xff", "a" * 300):
            await say("GET", "/clients", status=422, params={"after": after})
        for limit in ("0", "201", "x"):
            await say("GET", "/clients", status=422, params={"limit": limit})
        await say("GET", "/clients", status=200, params={"limit": "200"})

    speaking(tmp_path, test)


def test_ids_that_are_none_never_reach_a_query(tmp_path: Path) -> None:
    """What is no UUID or key id is 422; what is one and does not exist is 404."""

    async def test(say: Speaker, one: Registry) -> None:
        for wrong in ("x", "%00", NOBODY.upper().replace("0", "A"), f"{NOBODY}0", "%F0%9F%94%91"):
            await say("GET", f"/clients/{wrong}", status=422)
            await say("POST", f"/clients/{wrong}/revoke", status=422)
        await say("GET", f"/clients/{NOBODY}", status=404)
        await say("POST", f"/clients/{NOBODY}/keys/agk_0000000000000000/revoke", status=404)
        await say("POST", f"/clients/{NOBODY}/keys/opt_0000000000000000/revoke", status=422)

    speaking(tmp_path, test)


@pytest.mark.req("RA1")
def test_every_route_asks_who_it_is_before_it_looks_at_the_request(tmp_path: Path) -> None:
    """Without a token: 401 for each route and method, whatever the path, the query and the body hold."""

    async def test(say: Speaker, one: Registry) -> None:
        before = len(await one.entries())
        for path, operations in app_of(one).openapi()["paths"].items():
            for method in operations:
                named = path.removeprefix("/api/v1").replace("{", "").replace("}", "")
                more: dict[str, Any] = {} if method in ("get", "delete") else {"json": {"no": "such"}}
                problem = await say(method.upper(), named, status=401, token="", params={"limit": "x"}, **more)
                assert problem["code"] == "unauthenticated"
        assert len(await one.entries()) == before

    speaking(tmp_path, test)


@pytest.mark.req("RA1")
def test_each_operation_needs_what_the_table_says(tmp_path: Path) -> None:
    """Every GET is open to auditors; operators manage agents and delegations; the rest is for admins."""
    needed: dict[str | None, str] = {}
    for route in routes():
        asked = [getattr(each.call, "needs", None) for each in route.dependant.dependencies]
        (needed[route.operation_id],) = [need for need in asked if need is not None]
    administered = {"role_put", "role_delete", "operator_create", "operator_update"}
    administered |= {"operator_token_create", "operator_token_revoke"}
    administered |= {"issuer_register", "issuer_change", "issuer_revoke"}
    for operation, needs in needed.items():
        assert operation is not None
        reads = operation == "whoami" or operation.endswith(("_get", "_list"))
        assert needs == ("administer" if operation in administered else "read" if reads else "manage"), operation
    assert len(needed) == 30


def test_the_description_holds_no_secret_and_every_operation_has_a_name() -> None:
    """Each has an id of its own, a tag and a summary; keys and tokens have no example."""
    schema = app_of(None).openapi()
    operations = [operation for path in schema["paths"].values() for operation in path.values()]
    assert len({operation["operationId"] for operation in operations}) == len(operations) == 30
    assert all(operation["tags"] and operation["summary"] and operation["security"] for operation in operations)
    assert "agk_" not in str(schema["components"])
    assert "opt_" not in str(schema["components"])
    for name, model in schema["components"]["schemas"].items():
        if name.startswith(("New", "OperatorChanges")) and not name.endswith("Reply"):
            assert model["additionalProperties"] is False, name
