"""Roles: what they may be, and what ends when one loses a permission."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from registry_support import Registry, race, sqlite, with_registry
from server_support import CALLER, rows

from authsec_core._clock import SYSTEM_CLOCK
from authsec_server import checks
from authsec_server.db import tables
from authsec_server.delegations.values import DelegationChanges
from authsec_server.errors import ConflictError, InvalidRequestError, NotFoundError
from authsec_server.pages import Cursor, Paging


def test_a_role_is_made_and_replaced(database_url: str) -> None:
    """Permissions are a set; each change is one entry with all of them, and what is new and gone."""

    async def test(one: Registry) -> None:
        role, is_new = await one.roles.put(CALLER, "reader", ["b", "a", "b"])
        assert (role.name, role.permissions, is_new) == ("reader", ("a", "b"), True)
        role, is_new = await one.roles.put(CALLER, "reader", ["b", "c"])
        assert (role.permissions, is_new) == (("b", "c"), False)
        assert await one.roles.get("reader") == role
        made, changed = await one.entries("role.put")
        assert (made["scope"], made["details"]) == ("a b", {"role": "reader", "created": True})
        assert changed["scope"] == "b c"
        assert changed["details"] == {"role": "reader", "added": ["c"], "removed": ["a"], "withdrawn": 0}
        assert await one.version() == 2

    with_registry(database_url, test)


def test_what_a_role_is_already_is_no_change(tmp_path: Path) -> None:
    """No entry, no new version of the policy."""

    async def test(one: Registry) -> None:
        await one.roles.put(CALLER, "reader", ["a", "b"])
        assert await one.roles.put(CALLER, "reader", ["b", "a"]) == (await one.roles.get("reader"), False)
        assert (len(await one.entries()), await one.version()) == (1, 1)

    with_registry(sqlite(tmp_path), test)


def test_all_permissions_of_the_largest_role_are_in_the_audit(tmp_path: Path) -> None:
    """The entry's scope is long enough for 256 permissions; its details, which are cut, are not needed for that."""

    async def test(one: Registry) -> None:
        permissions = [f"read:{number:03}" for number in range(256)]
        await one.roles.put(CALLER, "reader", permissions)
        (entry,) = await one.entries()
        assert entry["scope"].split() == permissions
        with pytest.raises(InvalidRequestError):
            await one.roles.put(CALLER, "reader", [*permissions, "one:more"])

    with_registry(sqlite(tmp_path), test)


def test_a_role_has_a_plain_name(tmp_path: Path) -> None:
    """It stands in a path and, separated by commas, in a token."""

    async def test(one: Registry) -> None:
        for name in ("", "a b", "a/b", "a\n", "ä", "a,b", "x" * 65, "%2e"):
            with pytest.raises(InvalidRequestError):
                await one.roles.put(CALLER, name, ["a"])

    with_registry(sqlite(tmp_path), test)


def test_a_permission_is_a_scope_token(tmp_path: Path) -> None:
    """As in RFC 6749 section 3.3, and bounded."""

    async def test(one: Registry) -> None:
        for permission in ("", " ", "a b", 'a"', "a\\", "ä", "a\n", "\ud800", "x" * 257):
            with pytest.raises(InvalidRequestError) as caught:
                await one.roles.put(CALLER, "reader", ["a", permission])
            assert caught.value.field == "permissions"

    with_registry(sqlite(tmp_path), test)


def test_permissions_fit_into_one_token() -> None:
    """What the SDK would refuse to read in one token cannot be granted in one."""
    assert len(checks.scope_tokens([f"{number:02}" + "x" * 254 for number in range(16)], field="permissions")) == 16
    with pytest.raises(InvalidRequestError):
        checks.scope_tokens([f"{number:02}" + "x" * 254 for number in range(17)], field="permissions")


@pytest.mark.req("RV9")
def test_what_a_role_loses_is_gone_at_once(database_url: str) -> None:
    """Tokens that hold it by this role are revoked with the change; others, and by other roles, live on."""

    async def test(one: Registry) -> None:
        await one.roles.put(CALLER, "reader", ["read:metrics", "read:records"])
        await one.roles.put(CALLER, "other", ["read:records"])
        client, elsewhere = await one.client("a"), await one.client("b")
        held = [(await one.delegation(client)).delegation_id]
        await one.hand_out("loses", client, delegations=held, scope="read:metrics read:records")
        await one.hand_out("keeps", client, delegations=held, scope="read:metrics")
        by_other = [(await one.delegation(elsewhere, "other")).delegation_id]
        await one.hand_out("by another role", elsewhere, delegations=by_other, scope="read:records")
        await one.roles.put(CALLER, "reader", ["read:metrics"])
        assert await one.alive() == {"keeps", "by another role"}
        assert (await one.entries("role.put"))[-1]["details"]["withdrawn"] == 1
        await one.roles.put(CALLER, "reader", [])
        assert await one.alive() == {"by another role"}

    with_registry(database_url, test)


def test_a_role_that_is_named_cannot_be_forgotten(database_url: str) -> None:
    """Not while a delegation names it, not even a revoked one: its history would lose its meaning."""

    async def test(one: Registry) -> None:
        await one.roles.put(CALLER, "reader", ["a"])
        await one.roles.put(CALLER, "unused", ["a"])
        delegation = await one.delegation(await one.client())
        with pytest.raises(ConflictError, match="revoke them first"):
            await one.roles.delete(CALLER, "reader")
        await one.delegations.update(CALLER, delegation.delegation_id, DelegationChanges(enabled=False))
        with pytest.raises(ConflictError, match="revoke them first"):
            await one.roles.delete(CALLER, "reader")
        await one.delegations.revoke(CALLER, delegation.delegation_id)
        with pytest.raises(ConflictError, match="take its permissions away"):
            await one.roles.delete(CALLER, "reader")
        await one.roles.delete(CALLER, "unused")
        (entry,) = await one.entries("role.delete")
        assert entry["details"] == {"role": "unused"}
        for missing in (one.roles.delete(CALLER, "unused"), one.roles.get("unused"), one.roles.get("a\n")):
            with pytest.raises(NotFoundError):
                await missing

    with_registry(database_url, test)


@pytest.mark.req("RA8")
def test_of_64_who_make_and_who_delete_a_role_one_does(database_url: str) -> None:
    """Over three replicas: one makes it and the others find it made; one deletes it and the others find it gone."""

    async def test(one: Registry) -> None:
        made = await race(database_url, one, lambda replica, _: replica.roles.put(CALLER, "reader", ["a"]))
        assert sorted(result[1] for result in made if isinstance(result, tuple)) == [False] * 63 + [True]
        gone = await race(database_url, one, lambda replica, _: replica.roles.delete(CALLER, "reader"))
        assert gone.count(None) == 1
        assert sum(isinstance(result, NotFoundError) for result in gone) == 63
        assert [entry["action"] for entry in await one.entries()] == ["role.put", "role.delete"]
        assert await rows(one.database, tables.roles) == []

    with_registry(database_url, test, clock=SYSTEM_CLOCK)


def test_roles_are_listed_page_by_page(database_url: str) -> None:
    """In the order of their names where they were made in the same moment."""

    async def test(one: Registry) -> None:
        for name in ("c", "a", "b"):
            await one.roles.put(CALLER, name, [])
        first = await one.roles.list(Paging(limit=2))
        assert [role.name for role in first.items] == ["a", "b"]
        assert first.next is not None
        second = await one.roles.list(Paging(limit=2, after=Cursor.decode(first.next)))
        assert ([role.name for role in second.items], second.next) == (["c"], None)

    with_registry(database_url, test)


_PERMISSIONS = st.frozensets(st.sampled_from("abcde"), max_size=5)


@pytest.mark.req("RA3")
@given(role=_PERMISSIONS, later=_PERMISSIONS, held=_PERMISSIONS.filter(len))
@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
def test_a_token_lives_on_exactly_if_the_role_still_covers_it(
    tmp_path_factory: pytest.TempPathFactory, role: frozenset[str], later: frozenset[str], held: frozenset[str]
) -> None:
    """Against sets: what was held lives on if, and only if, it is a part of what the role is later."""

    async def test(one: Registry) -> None:
        await one.roles.put(CALLER, "reader", role | held)
        client = await one.client()
        delegation = await one.delegation(client)
        await one.hand_out("t", client, delegations=[delegation.delegation_id], scope=" ".join(sorted(held)))
        await one.roles.put(CALLER, "reader", later)
        assert (await one.alive() == {"t"}) == (held <= later)

    with_registry(sqlite(tmp_path_factory.mktemp("roles")), test)
