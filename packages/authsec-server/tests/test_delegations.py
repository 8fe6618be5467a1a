"""Trust delegations: what they may be, how they change and end, and what ends with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from registry_support import HOUR, Registry, race, sqlite, with_registry
from server_support import CALLER

from authsec_core._clock import SYSTEM_CLOCK
from authsec_core.testing import FakeClock
from authsec_server.agents.standing import load_standings
from authsec_server.agents.values import Client
from authsec_server.delegations.service import Wanted
from authsec_server.delegations.values import DelegationChanges, MaxDuration
from authsec_server.errors import ConflictError, InvalidRequestError, NotFoundError
from authsec_server.pages import Cursor, Paging

NOBODY = "00000000-0000-4000-8000-000000000000"


async def furnished(one: Registry) -> Client:
    """Make a role and a client."""
    await one.roles.put(CALLER, "reader", ["read:metrics", "read:records"])
    return await one.client()


def test_a_delegation_is_what_was_asked_for(database_url: str) -> None:
    """It is kept and shown as it was given, and it is one entry that names who made it."""

    async def test(one: Registry) -> None:
        client = await furnished(one)
        ends_at = client.created_at + 86400
        made = await one.delegation(
            client, allowed_actions=["read:metrics"], audiences=["b", "a", "b"], not_after=ends_at
        )
        assert made == await one.delegations.get(made.delegation_id)
        assert (made.role, made.target_type, made.client_id) == ("reader", "autogen-agent", client.client_id)
        assert (made.allowed_actions, made.audiences, made.not_after) == (("read:metrics",), ("a", "b"), ends_at)
        assert (made.duration, made.enabled, made.revoked_at, made.created_by) == (HOUR, True, None, "ada")
        (entry,) = await one.entries("delegation.create")
        assert (entry["actor"]["name"], entry["client_id"], entry["scope"]) == ("ada", client.client_id, "read:metrics")
        assert entry["details"] == {
            "delegation_id": made.delegation_id,
            "role": "reader",
            "target_type": "autogen-agent",
            "allowed_actions": ["read:metrics"],
            "audiences": ["a", "b"],
            "max_duration": 3600,
            "unit": "hours",
            "enabled": True,
            "not_after": ends_at,
        }
        assert await one.version() == 3

    with_registry(database_url, test)


@pytest.mark.req("RA3")
def test_select_all_means_whatever_the_role_has_now(database_url: str) -> None:
    """Kept as "all" and not as a copy: it follows the role. The default audience is the authority's."""

    async def test(one: Registry) -> None:
        client = await furnished(one)
        made = await one.delegation(client)
        assert (made.allowed_actions, made.audiences) == (None, ("authsec-api",))
        await one.roles.put(CALLER, "reader", ["write:all"])
        async with one.database.read() as connection:
            standing = (await load_standings(connection, [client.client_id]))[client.client_id]
        (delegation,) = standing.delegations
        assert delegation.allowed_actions is None
        assert delegation.permissions == {"write:all"}
        assert delegation.max_duration == 3600

    with_registry(database_url, test)


_WRONG: tuple[tuple[dict[str, Any], str, str], ...] = (
    ({"role": "writer"}, "role", "no such role"),
    ({"role": "a\0b"}, "role", "no such role"),
    ({"client_id": NOBODY}, "client_id", "no such client"),
    ({"target_type": "crewai-agent"}, "target_type", "of type autogen-agent"),
    ({"target_type": "robot"}, "target_type", "must be one of"),
    ({"allowed_actions": []}, "allowed_actions", "empty"),
    ({"allowed_actions": ["read:metrics", "write:all"]}, "allowed_actions", "does not have write:all"),
    ({"allowed_actions": ["READ:metrics"]}, "allowed_actions", "does not have READ:metrics"),
    ({"allowed_actions": ["a b"]}, "allowed_actions", "RFC 6749"),
    ({"allowed_actions": [f"x{n}" for n in range(7)]}, "allowed_actions", "x4 and 2 more"),
    ({"audiences": []}, "audiences", "1 to 16"),
    ({"audiences": [""]}, "audiences", "visible ASCII"),
    ({"audiences": ["a b"]}, "audiences", "visible ASCII"),
    ({"audiences": ["a\n"]}, "audiences", "visible ASCII"),
    ({"audiences": ["x" * 257]}, "audiences", "visible ASCII"),
    ({"audiences": [f"a{n}" for n in range(17)]}, "audiences", "1 to 16"),
    ({"not_after": FakeClock().wall()}, "not_after", "future"),
    ({"not_after": FakeClock().wall() - 1}, "not_after", "future"),
)


@pytest.mark.req("RA3")
def test_what_cannot_be_delegated_is_refused_by_its_member(tmp_path: Path) -> None:
    """The refusal names the member, and the action that the role does not have; nothing is written."""

    async def test(one: Registry) -> None:
        client = await furnished(one)
        said = {"role": "reader", "target_type": client.agent_type, "client_id": client.client_id, "duration": HOUR}
        for wrong, field, named in _WRONG:
            with pytest.raises(InvalidRequestError, match=named) as caught:
                await one.delegations.create(CALLER, Wanted(**{**said, **wrong}))
            assert caught.value.field == field
        assert await one.entries("delegation.create") == []

    with_registry(sqlite(tmp_path), test)


_DURATIONS: tuple[tuple[int, Any, int], ...] = (
    (1, "seconds", 1),
    (90, "minutes", 5400),
    (1, "hours", 3600),
    (30, "days", 2_592_000),
    (720, "hours", 2_592_000),
)


def test_a_duration_keeps_its_unit(tmp_path: Path) -> None:
    """It is shown as it was given, and counts in seconds."""

    async def test(one: Registry) -> None:
        client = await furnished(one)
        for amount, unit, seconds in _DURATIONS:
            made = await one.delegation(client, duration=MaxDuration(amount=amount, unit=unit))
            again = await one.delegations.get(made.delegation_id)
            assert (again.duration.amount, again.duration.unit, again.duration.seconds) == (amount, unit, seconds)

    with_registry(sqlite(tmp_path), test)


@pytest.mark.parametrize(
    ("amount", "unit"),
    [(0, "seconds"), (-1, "days"), (31, "days"), (2_592_001, "seconds"), (10**30, "seconds"), (1, "weeks")],
)
def test_a_duration_is_a_second_to_30_days(amount: int, unit: Any) -> None:
    """Nothing shorter, longer or in another unit."""
    with pytest.raises(InvalidRequestError):
        MaxDuration(amount=amount, unit=unit)


def test_nothing_is_delegated_to_a_revoked_client(tmp_path: Path) -> None:
    """A disabled one may be prepared; a revoked one is at its end."""

    async def test(one: Registry) -> None:
        client = await furnished(one)
        await one.agents.set_state(CALLER, client.client_id, "disabled")
        await one.delegation(client)
        await one.agents.revoke(CALLER, client.client_id)
        with pytest.raises(ConflictError):
            await one.delegation(client)

    with_registry(sqlite(tmp_path), test)


def test_a_client_has_64_delegations_at_most(tmp_path: Path) -> None:
    """All of them are weighed for each token; revoked ones do not count."""

    async def test(one: Registry) -> None:
        client = await furnished(one)
        made = [await one.delegation(client) for _ in range(64)]
        with pytest.raises(ConflictError):
            await one.delegation(client)
        await one.delegations.revoke(CALLER, made[0].delegation_id)
        await one.delegation(client)

    with_registry(sqlite(tmp_path), test)


def test_only_what_is_named_changes(database_url: str) -> None:
    """The rest stays, and the entry says from what to what; what is so already is no change and no entry."""

    async def test(one: Registry) -> None:
        client = await furnished(one)
        made = await one.delegation(client, not_after=client.created_at + 60)
        days = MaxDuration(amount=2, unit="days")
        changed = await one.delegations.update(
            CALLER, made.delegation_id, DelegationChanges(duration=days, not_after=None, enabled=False)
        )
        assert changed == await one.delegations.get(made.delegation_id)
        assert (changed.duration, changed.not_after, changed.enabled) == (days, None, False)
        assert (changed.allowed_actions, changed.audiences) == (None, ("authsec-api",))
        (entry,) = await one.entries("delegation.update")
        assert entry["details"] == {
            "delegation_id": made.delegation_id,
            "max_duration": {"from": 3600, "to": 172800},
            "unit": {"from": "hours", "to": "days"},
            "not_after": {"from": client.created_at + 60, "to": None},
            "enabled": {"from": True, "to": False},
            "withdrawn": 0,
        }
        for nothing in (DelegationChanges(), DelegationChanges(enabled=False, duration=days)):
            assert await one.delegations.update(CALLER, made.delegation_id, nothing) == changed
        assert len(await one.entries("delegation.update")) == 1

    with_registry(database_url, test)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        (DelegationChanges(allowed_actions=()), "allowed_actions"),
        (DelegationChanges(allowed_actions=("write:all",)), "allowed_actions"),
        (DelegationChanges(audiences=()), "audiences"),
        (DelegationChanges(not_after=1.0), "not_after"),
    ],
)
def test_a_change_is_held_to_the_same_rules(tmp_path: Path, changes: DelegationChanges, field: str) -> None:
    """What could not be made cannot be changed to; the delegation stays as it is."""

    async def test(one: Registry) -> None:
        made = await one.delegation(await furnished(one))
        with pytest.raises(InvalidRequestError) as caught:
            await one.delegations.update(CALLER, made.delegation_id, changes)
        assert caught.value.field == field
        assert await one.delegations.get(made.delegation_id) == made

    with_registry(sqlite(tmp_path), test)


def test_one_that_ended_can_be_changed_without_a_new_end(tmp_path: Path, clock: FakeClock) -> None:
    """The end that it has is not asked again whether it lies in the future."""

    async def test(one: Registry) -> None:
        made = await one.delegation(await furnished(one), not_after=clock.wall() + 60)
        clock.advance(61)
        changes = DelegationChanges(enabled=False, not_after=made.not_after)
        assert (await one.delegations.update(CALLER, made.delegation_id, changes)).enabled is False

    with_registry(sqlite(tmp_path), test, clock=clock)


@pytest.mark.req("RV9")
@pytest.mark.parametrize(
    "narrower",
    [
        DelegationChanges(enabled=False),
        DelegationChanges(allowed_actions=("read:records",)),
        DelegationChanges(audiences=("another-api",)),
        DelegationChanges(duration=MaxDuration(amount=599, unit="seconds")),
        DelegationChanges(not_after=FakeClock().wall() + 598),
    ],
)
def test_tokens_that_exceed_what_is_left_are_revoked(database_url: str, narrower: DelegationChanges) -> None:
    """Whichever term is narrowed, in the same transaction; a token by another delegation lives on."""

    async def test(one: Registry) -> None:
        client = await furnished(one)
        made, other = await one.delegation(client), await one.delegation(client)
        await one.hand_out("exceeds", client, delegations=[made.delegation_id])
        await one.hand_out("by another", client, delegations=[other.delegation_id])
        await one.delegations.update(CALLER, made.delegation_id, narrower)
        assert await one.alive() == {"by another"}
        assert (await one.entries("delegation.update"))[0]["details"]["withdrawn"] == 1

    with_registry(database_url, test)


@pytest.mark.req("RV9")
def test_revoking_ends_it_for_good_with_its_tokens(database_url: str) -> None:
    """It is shown as revoked, cannot be changed or revoked again, and leaves one entry."""

    async def test(one: Registry) -> None:
        client = await furnished(one)
        made = await one.delegation(client)
        await one.hand_out("t", client, delegations=[made.delegation_id])
        revoked = await one.delegations.revoke(CALLER, made.delegation_id)
        assert revoked == await one.delegations.get(made.delegation_id)
        assert revoked.revoked_at == client.created_at
        assert await one.alive() == set()
        for again in (
            one.delegations.revoke(CALLER, made.delegation_id),
            one.delegations.update(CALLER, made.delegation_id, DelegationChanges(enabled=True)),
        ):
            with pytest.raises(ConflictError):
                await again
        (entry,) = await one.entries("delegation.revoke")
        assert entry["details"] == {"delegation_id": made.delegation_id, "role": "reader", "withdrawn": 1}

    with_registry(database_url, test)


@pytest.mark.req("RA8")
def test_of_64_who_revoke_a_delegation_one_wins(database_url: str) -> None:
    """Over three replicas: one succeeds and stands in the audit; the others are told of a conflict."""

    async def test(one: Registry) -> None:
        made = await one.delegation(await furnished(one))
        got = await race(database_url, one, lambda replica, _: replica.delegations.revoke(CALLER, made.delegation_id))
        assert sum(isinstance(result, ConflictError) for result in got) == 63
        assert len(await one.entries("delegation.revoke")) == 1

    with_registry(database_url, test, clock=SYSTEM_CLOCK)


@pytest.mark.req("RA8")
def test_of_delegating_and_revoking_the_client_the_second_knows_of_the_first(database_url: str) -> None:
    """Over three replicas: what was delegated before the revocation stands, and nothing is delegated after it."""

    async def test(one: Registry) -> None:
        client = await furnished(one)

        async def attempt(replica: Registry, number: int) -> object:
            if number == 31:
                return await replica.agents.revoke(CALLER, client.client_id)
            return await replica.delegation(client)

        got = await race(database_url, one, attempt)
        actions = [entry["action"] for entry in await one.entries()][2:]
        assert actions.count("client.revoke") == 1
        assert actions[-1] == "client.revoke"
        assert sum(isinstance(result, ConflictError) for result in got) == 64 - len(actions)

    with_registry(database_url, test, clock=SYSTEM_CLOCK)


def test_delegations_are_listed_by_client_and_by_role(database_url: str) -> None:
    """Page by page, also those that were revoked."""

    async def test(one: Registry) -> None:
        client = await furnished(one)
        other = await one.client("other")
        await one.roles.put(CALLER, "writer", ["write:all"])
        mine = [await one.delegation(client), await one.delegation(client, "writer")]
        theirs = await one.delegation(other)
        await one.delegations.revoke(CALLER, mine[0].delegation_id)

        async def listed(**only: str) -> set[str]:
            found: set[str] = set()
            paging = Paging(limit=1)
            while True:
                page = await one.delegations.list(paging, **only)
                found |= {item.delegation_id for item in page.items}
                if page.next is None:
                    return found
                paging = Paging(limit=1, after=Cursor.decode(page.next))

        mine_ids = {item.delegation_id for item in mine}
        assert await listed() == mine_ids | {theirs.delegation_id}
        assert await listed(client_id=client.client_id) == mine_ids
        assert await listed(role="reader") == {mine[0].delegation_id, theirs.delegation_id}
        assert await listed(client_id=client.client_id, role="writer") == {mine[1].delegation_id}
        assert await listed(client_id=NOBODY) == set()

    with_registry(database_url, test)


def test_what_does_not_exist_is_not_found(tmp_path: Path) -> None:
    """To look at, to change and to revoke."""

    async def test(one: Registry) -> None:
        for missing in (
            one.delegations.get(NOBODY),
            one.delegations.update(CALLER, NOBODY, DelegationChanges(enabled=False)),
            one.delegations.revoke(CALLER, NOBODY),
        ):
            with pytest.raises(NotFoundError):
                await missing

    with_registry(sqlite(tmp_path), test)
