"""Agents: onboarding, keys, and what ends when they are disabled or revoked."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import pytest
from registry_support import PEPPER, Registry, race, sqlite, with_registry
from server_support import CALLER, rows

from authsec_core._clock import SYSTEM_CLOCK
from authsec_core.testing import FakeClock
from authsec_server import credentials
from authsec_server.checks import AGENT_TYPES
from authsec_server.db import tables
from authsec_server.errors import ConflictError, InvalidRequestError, NotFoundError
from authsec_server.pages import Cursor, Paging

NOBODY = "00000000-0000-4000-8000-000000000000"


@pytest.mark.req("RA2")
def test_of_a_key_only_the_mac_is_kept(database_url: str) -> None:
    """The key is returned once; the database has its HMAC under the pepper, and no table and no entry has its text."""

    async def test(one: Registry) -> None:
        client, credential = await one.onboard()
        (kept,) = await rows(one.database, tables.client_keys)
        assert kept.key_id == credential.id
        assert bytes(kept.mac) == credentials.mac(PEPPER, "agent-key", credential)
        everything = [await rows(one.database, table) for table in tables.METADATA.sorted_tables]
        assert credential.secret() not in repr(everything)
        assert credential.secret() not in repr(
            (client, credential, await one.agents.list_keys(client.client_id, Paging()))
        )

    with_registry(database_url, test)


def test_onboarding_is_one_entry_that_names_who_did_it(database_url: str) -> None:
    """The entry has the operator, the client, its SPIFFE ID and what was entered; the policy has a new version."""

    async def test(one: Registry) -> None:
        selectors = {"k8s:ns": "production", "k8s:sa": "support-sa"}
        client, credential = await one.onboard(selectors=selectors)
        (entry,) = await one.entries()
        assert (entry["action"], entry["decision"], entry["actor"]["name"]) == ("client.onboard", "allow", "ada")
        assert (entry["client_id"], entry["subject"]) == (client.client_id, client.spiffe_id)
        assert entry["details"] == {
            "name": "Customer Support",
            "agent_type": "autogen-agent",
            "platform": "kubernetes",
            "selectors": selectors,
            "key_id": credential.id,
        }
        assert await one.version() == 1
        assert client == await one.agents.get(client.client_id)
        assert (client.state, client.created_by, client.ended_at) == ("active", "ada", None)

    with_registry(database_url, test)


@pytest.mark.req("RA4")
def test_the_spiffe_id_is_made_of_the_selectors_or_of_the_client(database_url: str) -> None:
    """A namespace and a service account give the customary id; without them the client itself is named."""

    async def test(one: Registry) -> None:
        account = await one.client("a", selectors={"k8s:ns": "production", "k8s:sa": "support-sa"})
        assert account.spiffe_id == "spiffe://example.org/ns/production/sa/support-sa"
        other = await one.client("b", agent_type="mcp-agent")
        assert other.spiffe_id == f"spiffe://example.org/tenants/t1/agents/mcp-agent/{other.client_id}"

    with_registry(database_url, test)


_HIDDEN = ("", " a", "a ", "a\nb", "a\0b", "a\x1b[31m", "a\u202eb", "a\ud800", "a\u2028b", "a\u200bb", "x" * 101)


def test_a_name_is_one_visible_line(tmp_path: Path) -> None:
    """What could forge a log line, hide or not be stored is refused, and nothing is written."""

    async def test(one: Registry) -> None:
        for name in _HIDDEN:
            with pytest.raises(InvalidRequestError) as caught:
                await one.client(name)
            assert caught.value.field == "name"
        assert await one.entries() == []

    with_registry(sqlite(tmp_path), test)


_UNKNOWN: tuple[tuple[dict[str, Any], str], ...] = (
    ({"agent_type": "robot"}, "agent_type"),
    ({"agent_type": "AutoGen-agent"}, "agent_type"),
    ({"platform": "moon"}, "platform"),
    ({"selectors": {"k8s:moon": "x"}}, "selectors"),
    ({"selectors": {"k8s:ns": "a/b", "k8s:sa": "x"}}, "selectors"),
    ({"selectors": {"k8s:ns": "*"}}, "selectors"),
)


def test_what_is_not_known_is_refused_by_its_member(tmp_path: Path) -> None:
    """The refusal names the member to mend."""

    async def test(one: Registry) -> None:
        for wrong, field in _UNKNOWN:
            with pytest.raises(InvalidRequestError) as caught:
                await one.client(**wrong)
            assert caught.value.field == field

    with_registry(sqlite(tmp_path), test)


def test_every_kind_of_agent_can_be_onboarded(tmp_path: Path) -> None:
    """The five kinds of the wire contract."""

    async def test(one: Registry) -> None:
        for kind in AGENT_TYPES:
            assert (await one.client(kind, agent_type=kind)).agent_type == kind

    with_registry(sqlite(tmp_path), test)


def test_a_name_belongs_to_one_client_for_ever(database_url: str) -> None:
    """A revoked client keeps its name, so that no audit entry means two."""

    async def test(one: Registry) -> None:
        client = await one.client()
        with pytest.raises(ConflictError):
            await one.client()
        await one.agents.revoke(CALLER, client.client_id)
        with pytest.raises(ConflictError):
            await one.client()
        assert len(await one.entries("client.onboard")) == 1

    with_registry(database_url, test)


@pytest.mark.req("RA8")
def test_of_64_who_onboard_one_name_one_wins(database_url: str) -> None:
    """Over three replicas: one client, one key, one entry; the others are told of a conflict."""

    async def test(one: Registry) -> None:
        got = await race(database_url, one, lambda replica, _: replica.onboard("one of us"))
        assert sum(isinstance(result, tuple) for result in got) == 1
        assert all(isinstance(result, (tuple, ConflictError)) for result in got)
        assert len(await rows(one.database, tables.clients)) == len(await rows(one.database, tables.client_keys)) == 1
        assert len(await one.entries()) == 1

    with_registry(database_url, test, clock=SYSTEM_CLOCK)


@pytest.mark.req("RA8")
def test_of_64_who_revoke_a_client_one_wins(database_url: str) -> None:
    """Over three replicas: one succeeds and stands in the audit; the others are told that it was revoked before."""

    async def test(one: Registry) -> None:
        client = await one.client()
        got = await race(database_url, one, lambda replica, _: replica.agents.revoke(CALLER, client.client_id))
        assert sum(isinstance(result, ConflictError) for result in got) == 63
        (entry,) = await one.entries("client.revoke")
        assert entry["decision"] == "allow"
        assert await one.version() == 2

    with_registry(database_url, test, clock=SYSTEM_CLOCK)


@pytest.mark.req("RV9")
@pytest.mark.parametrize("end", ["disable", "revoke"])
def test_disabling_and_revoking_a_client_withdraw_its_tokens(database_url: str, end: str) -> None:
    """All of its live tokens end in the same transaction, and nobody else's."""

    async def test(one: Registry) -> None:
        await one.roles.put(CALLER, "reader", ["read:metrics"])
        client, other = await one.client("a"), await one.client("b")
        for each in (client, other):
            delegation = await one.delegation(each)
            await one.hand_out(f"of {each.name}", each, delegations=[delegation.delegation_id])
        if end == "disable":
            assert (await one.agents.set_state(CALLER, client.client_id, "disabled")).state == "disabled"
        else:
            assert (await one.agents.revoke(CALLER, client.client_id)).state == "revoked"
        assert await one.alive() == {"of b"}
        (entry,) = await one.entries(f"client.{end}")
        assert (entry["client_id"], entry["details"]) == (client.client_id, {"withdrawn": 1})

    with_registry(database_url, test)


def test_a_disabled_client_can_work_again_but_not_with_old_tokens(database_url: str) -> None:
    """Enabling is an entry too; what was withdrawn stays withdrawn. What it is already is no change and no entry."""

    async def test(one: Registry) -> None:
        client = await one.client()
        await one.hand_out("old", client)
        states: tuple[Literal["active", "disabled"], ...] = ("active", "disabled", "disabled", "active", "active")
        for state in states:
            await one.agents.set_state(CALLER, client.client_id, state)
        assert [entry["action"] for entry in await one.entries()] == [
            "client.onboard",
            "client.disable",
            "client.enable",
        ]
        assert await one.alive() == set()
        assert await one.version() == 3

    with_registry(database_url, test)


def test_a_revoked_client_stays_revoked(database_url: str) -> None:
    """No state, key or second revocation brings it back or counts again."""

    async def test(one: Registry) -> None:
        client = await one.client()
        await one.agents.revoke(CALLER, client.client_id)
        for again in (
            one.agents.set_state(CALLER, client.client_id, "active"),
            one.agents.set_state(CALLER, client.client_id, "disabled"),
            one.agents.revoke(CALLER, client.client_id),
            one.agents.create_key(CALLER, client.client_id),
        ):
            with pytest.raises(ConflictError):
                await again
        found = await one.agents.get(client.client_id)
        assert (found.state, found.ended_at) == ("revoked", FakeClock().wall())
        assert len(await one.entries()) == 2

    with_registry(database_url, test)


def test_what_does_not_exist_is_not_found(tmp_path: Path) -> None:
    """Clients and keys alike; a key is looked for under its own client only."""

    async def test(one: Registry) -> None:
        client, other = await one.client("a"), await one.client("b")
        key, _ = await one.agents.create_key(CALLER, other.client_id)
        for missing in (
            one.agents.get(NOBODY),
            one.agents.set_state(CALLER, NOBODY, "disabled"),
            one.agents.revoke(CALLER, NOBODY),
            one.agents.create_key(CALLER, NOBODY),
            one.agents.list_keys(NOBODY, Paging()),
            one.agents.revoke_key(CALLER, NOBODY, key.key_id),
            one.agents.revoke_key(CALLER, client.client_id, key.key_id),
            one.agents.revoke_key(CALLER, client.client_id, "agk_0000000000000000"),
        ):
            with pytest.raises(NotFoundError):
                await missing

    with_registry(sqlite(tmp_path), test)


def test_keys_are_rotated_without_a_gap(database_url: str) -> None:
    """A second key works beside the first; revoking the first is an entry, and a second time a conflict."""

    async def test(one: Registry) -> None:
        client, first = await one.onboard()
        ends_at = client.created_at + 3600
        second, credential = await one.agents.create_key(CALLER, client.client_id, label="rotation", not_after=ends_at)
        assert (second.key_id, second.label, second.not_after) == (credential.id, "rotation", ends_at)
        revoked = await one.agents.revoke_key(CALLER, client.client_id, first.id)
        assert revoked.revoked_at is not None
        with pytest.raises(ConflictError):
            await one.agents.revoke_key(CALLER, client.client_id, first.id)
        listed = await one.agents.list_keys(client.client_id, Paging())
        assert {key.key_id: key.revoked_at is None for key in listed.items} == {first.id: False, second.key_id: True}
        (made,), (ended,) = await one.entries("key.create"), await one.entries("key.revoke")
        assert made["details"] == {"key_id": second.key_id, "label": "rotation", "not_after": ends_at}
        assert ended["details"] == {"key_id": first.id, "withdrawn": 0}

    with_registry(database_url, test)


@pytest.mark.req("RV9")
def test_revoking_a_key_withdraws_the_tokens_that_were_got_with_it(database_url: str) -> None:
    """Those of the client's other keys live on."""

    async def test(one: Registry) -> None:
        await one.roles.put(CALLER, "reader", ["read:metrics"])
        client, first = await one.onboard()
        second, _ = await one.agents.create_key(CALLER, client.client_id)
        held = [(await one.delegation(client)).delegation_id]
        await one.hand_out("by the first", client, key_id=first.id, delegations=held)
        await one.hand_out("by the second", client, key_id=second.key_id, delegations=held)
        await one.agents.revoke_key(CALLER, client.client_id, first.id)
        assert await one.alive() == {"by the second"}

    with_registry(database_url, test)


def test_a_client_has_ten_keys_at_most(tmp_path: Path, clock: FakeClock) -> None:
    """Revoked keys and those that ended by themselves do not count."""

    async def test(one: Registry) -> None:
        client, first = await one.onboard()
        for _ in range(9):
            await one.agents.create_key(CALLER, client.client_id, not_after=clock.wall() + 60)
        with pytest.raises(ConflictError):
            await one.agents.create_key(CALLER, client.client_id)
        await one.agents.revoke_key(CALLER, client.client_id, first.id)
        await one.agents.create_key(CALLER, client.client_id)
        with pytest.raises(ConflictError):
            await one.agents.create_key(CALLER, client.client_id)
        clock.advance(60)
        await one.agents.create_key(CALLER, client.client_id)

    with_registry(sqlite(tmp_path), test, clock=clock)


def test_a_key_ends_in_the_future(tmp_path: Path) -> None:
    """Neither in the past, nor now, nor at a time that no calendar writes."""

    async def test(one: Registry) -> None:
        client = await one.client()
        for ahead in (-1.0, 0.0, 101 * 366 * 86400.0, float("inf"), float("nan")):
            with pytest.raises(InvalidRequestError) as caught:
                await one.agents.create_key(CALLER, client.client_id, not_after=client.created_at + ahead)
            assert caught.value.field == "not_after"

    with_registry(sqlite(tmp_path), test)


def test_pages_show_each_client_once(database_url: str) -> None:
    """Also when all were made in the same moment, so that only their ids tell them apart."""

    async def test(one: Registry) -> None:
        names = {(await one.client(f"agent {number}")).name for number in range(7)}
        seen: list[str] = []
        page = await one.agents.list(Paging(limit=3))
        while True:
            seen += [client.name for client in page.items]
            if page.next is None:
                break
            page = await one.agents.list(Paging(limit=3, after=Cursor.decode(page.next)))
        assert len(seen) == 7
        assert set(seen) == names

    with_registry(database_url, test)
