"""Operators and their tokens: each change names who made it, and an admin can always sign in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from registry_support import PEPPER, Registry, race, sqlite, with_registry
from server_support import CALLER, rows

from authsec_core._clock import SYSTEM_CLOCK
from authsec_core.testing import FakeClock
from authsec_server import credentials
from authsec_server.db import tables
from authsec_server.errors import ConflictError, InvalidRequestError, NotFoundError
from authsec_server.operators.access import OPERATOR_ROLES, allows
from authsec_server.pages import Cursor, Paging

NOBODY = "00000000-0000-4000-8000-000000000000"


def test_who_may_what_is_the_table_of_the_module() -> None:
    """Auditors read, operators manage as well, admins administer as well; whoever is anything else may nothing."""
    may = {
        role: [needs for needs in ("read", "manage", "administer") if allows(role, needs)] for role in OPERATOR_ROLES
    }
    assert may == {"auditor": ["read"], "operator": ["read", "manage"], "admin": ["read", "manage", "administer"]}
    for role in ("", "Admin", "admin ", "root"):
        assert not any(allows(role, needs) for needs in ("read", "manage", "administer"))
    slip: Any = "anything"
    assert not allows("admin", slip)


@pytest.mark.req("RA2")
def test_of_an_operators_token_only_the_mac_is_kept(database_url: str) -> None:
    """The token is returned once; no table and no entry has its text."""

    async def test(one: Registry) -> None:
        operator, credential = await one.admin()
        (kept,) = await rows(one.database, tables.operator_tokens)
        assert (kept.token_id, kept.operator_id) == (credential.id, operator.operator_id)
        assert bytes(kept.mac) == credentials.mac(PEPPER, "operator-token", credential)
        everything = [await rows(one.database, table) for table in tables.METADATA.sorted_tables]
        assert credential.secret() not in repr(everything)

    with_registry(database_url, test)


def test_every_change_is_an_entry_that_names_who(database_url: str) -> None:
    """Of operators and of their tokens: who did it, whom it is about, and from what to what."""

    async def test(one: Registry) -> None:
        await one.admin()
        operator, credential = await one.operator("bob", "auditor")
        changed = await one.operators.update(CALLER, operator.operator_id, role="operator", enabled=False)
        assert changed == await one.operators.get(operator.operator_id)
        assert (changed.role, changed.enabled) == ("operator", False)
        await one.operators.revoke_token(CALLER, operator.operator_id, credential.id)
        said = (await one.entries())[2:]
        assert {entry["actor"]["name"] for entry in said} == {"ada"}
        about = {"operator_id": operator.operator_id, "operator": "bob"}
        assert [(entry["action"], entry["details"]) for entry in said] == [
            ("operator.create", {**about, "role": "auditor"}),
            ("operator_token.create", {**about, "token_id": credential.id, "label": "", "not_after": None}),
            (
                "operator.update",
                {**about, "role": {"from": "auditor", "to": "operator"}, "enabled": {"from": True, "to": False}},
            ),
            ("operator_token.revoke", {**about, "token_id": credential.id}),
        ]

    with_registry(database_url, test)


def test_what_an_operator_is_already_is_no_change(tmp_path: Path) -> None:
    """No entry is written for it."""

    async def test(one: Registry) -> None:
        operator, _ = await one.admin()
        same: tuple[dict[str, Any], ...] = ({}, {"role": "admin"}, {"enabled": True})
        for said in same:
            assert await one.operators.update(CALLER, operator.operator_id, **said) == operator
        assert await one.entries("operator.update") == []

    with_registry(sqlite(tmp_path), test)


def test_names_are_plain_and_belong_to_one(tmp_path: Path) -> None:
    """The audit names operators by them. Roles are the three that there are."""

    async def test(one: Registry) -> None:
        await one.operators.create(CALLER, name="bob", role="operator")
        with pytest.raises(ConflictError):
            await one.operators.create(CALLER, name="bob", role="admin")
        for name in ("", "a\nb", " a", "a\u202eb", "x" * 101):
            with pytest.raises(InvalidRequestError):
                await one.operators.create(CALLER, name=name, role="operator")
        wrong: Any = "root"
        with pytest.raises(InvalidRequestError):
            await one.operators.create(CALLER, name="eve", role=wrong)
        (bob,) = (await one.operators.list(Paging())).items
        with pytest.raises(InvalidRequestError):
            await one.operators.update(CALLER, bob.operator_id, role=wrong)

    with_registry(sqlite(tmp_path), test)


@pytest.mark.parametrize(
    "locked_out",
    [
        lambda one, operator, _: one.operators.update(CALLER, operator.operator_id, enabled=False),
        lambda one, operator, _: one.operators.update(CALLER, operator.operator_id, role="operator"),
        lambda one, operator, _: one.operators.update(CALLER, operator.operator_id, role="auditor", enabled=False),
        lambda one, operator, token: one.operators.revoke_token(CALLER, operator.operator_id, token.id),
    ],
    ids=["disabled", "demoted", "both", "last token"],
)
def test_the_last_admin_who_can_sign_in_stays_one(database_url: str, locked_out: Any, clock: FakeClock) -> None:
    """Not disabled, not demoted, not without a token; others count only if their token works. Nothing is written."""

    async def test(one: Registry) -> None:
        operator, token = await one.admin()
        await one.operators.create(CALLER, name="without a token", role="admin")
        ended = await one.operators.create(CALLER, name="with one that ended", role="admin")
        await one.operators.create_token(CALLER, ended.operator_id, not_after=clock.wall() + 60)
        disabled, _ = await one.admin("disabled")
        await one.operators.update(CALLER, disabled.operator_id, enabled=False)
        await one.operator("no admin", "operator")
        clock.advance(60)
        before = len(await one.entries())
        with pytest.raises(ConflictError, match="no admin could sign in"):
            await locked_out(one, operator, token)
        assert len(await one.entries()) == before
        assert (await one.operators.get(operator.operator_id)) == operator
        await one.admin("another")
        await locked_out(one, operator, token)

    with_registry(database_url, test, clock=clock)


@pytest.mark.req("RA8")
def test_admins_who_disable_each_other_leave_one(database_url: str) -> None:
    """Over three replicas: of 64 admins who are disabled at once, one is left."""

    async def test(one: Registry) -> None:
        admins = [(await one.admin(f"admin {number}"))[0] for number in range(64)]
        got = await race(
            database_url,
            one,
            lambda replica, number: replica.operators.update(CALLER, admins[number].operator_id, enabled=False),
        )
        assert sum(isinstance(result, ConflictError) for result in got) == 1
        assert sum(row.enabled for row in await rows(one.database, tables.operators)) == 1

    with_registry(database_url, test, clock=SYSTEM_CLOCK)


@pytest.mark.req("RA8")
def test_of_64_who_revoke_a_token_or_take_a_name_one_wins(database_url: str) -> None:
    """Over three replicas: one succeeds and stands in the audit; the others are told of a conflict."""

    async def test(one: Registry) -> None:
        await one.admin()
        operator, token = await one.admin("other")
        got: list[Any] = await race(
            database_url, one, lambda replica, _: replica.operators.revoke_token(CALLER, operator.operator_id, token.id)
        )
        assert sum(isinstance(result, ConflictError) for result in got) == 63
        assert len(await one.entries("operator_token.revoke")) == 1
        got = await race(
            database_url, one, lambda replica, _: replica.operators.create(CALLER, name="bob", role="auditor")
        )
        assert sum(isinstance(result, ConflictError) for result in got) == 63
        assert len(await one.entries("operator.create")) == 3

    with_registry(database_url, test, clock=SYSTEM_CLOCK)


def test_tokens_are_many_bounded_and_end(tmp_path: Path, clock: FakeClock) -> None:
    """Ten that are good; each with an end in the future, if it has one. Lists never show what proves them."""

    async def test(one: Registry) -> None:
        operator, _ = await one.admin()
        for _ in range(9):
            await one.operators.create_token(CALLER, operator.operator_id, label="laptop", not_after=clock.wall() + 60)
        with pytest.raises(ConflictError):
            await one.operators.create_token(CALLER, operator.operator_id)
        clock.advance(60)
        token, _ = await one.operators.create_token(CALLER, operator.operator_id, label="new")
        wrongs: tuple[dict[str, Any], ...] = ({"not_after": clock.wall()}, {"label": "a\nb"})
        for wrong in wrongs:
            with pytest.raises(InvalidRequestError):
                await one.operators.create_token(CALLER, operator.operator_id, **wrong)
        first = await one.operators.list_tokens(operator.operator_id, Paging(limit=6))
        assert first.next is not None
        second = await one.operators.list_tokens(operator.operator_id, Paging(limit=6, after=Cursor.decode(first.next)))
        listed = [*first.items, *second.items]
        assert (len(listed), len({item.token_id for item in listed}), listed[-1]) == (11, 11, token)

    with_registry(sqlite(tmp_path), test, clock=clock)


def test_what_does_not_exist_is_not_found(tmp_path: Path) -> None:
    """Operators and tokens alike; a token is looked for under its own operator only."""

    async def test(one: Registry) -> None:
        _, token = await one.admin()
        other, _ = await one.admin("other")
        for missing in (
            one.operators.get(NOBODY),
            one.operators.update(CALLER, NOBODY, enabled=False),
            one.operators.create_token(CALLER, NOBODY),
            one.operators.list_tokens(NOBODY, Paging()),
            one.operators.revoke_token(CALLER, NOBODY, token.id),
            one.operators.revoke_token(CALLER, other.operator_id, token.id),
        ):
            with pytest.raises(NotFoundError):
                await missing

    with_registry(sqlite(tmp_path), test)


def test_admin_is_granted_to_whoever_has_the_host(database_url: str) -> None:
    """A new operator, one who was demoted and disabled, and one who is admin already: each gets a token that works."""

    async def test(one: Registry) -> None:
        first = await one.operators.grant_admin(CALLER, "root")
        (root,) = (await one.operators.list(Paging())).items
        assert (root.name, root.role, root.enabled) == ("root", "admin", True)
        again = await one.operators.grant_admin(CALLER, "root")
        assert again.id != first.id
        bob = await one.operators.create(CALLER, name="bob", role="auditor")
        await one.operators.update(CALLER, bob.operator_id, enabled=False)
        token = await one.operators.grant_admin(CALLER, "bob")
        for credential in (first, again, token):
            await one.operators.admit(
                f"Bearer {credential.text()}", "administer", request_id="r", address=None, path="/"
            )
        with pytest.raises(InvalidRequestError):
            await one.operators.grant_admin(CALLER, "a\0b")

    with_registry(database_url, test)
