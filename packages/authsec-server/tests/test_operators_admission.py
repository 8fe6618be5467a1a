"""Who is let in: only an operator whose token is good and whose role suffices, and what refusals leave behind."""

from __future__ import annotations

import logging
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from registry_support import Registry, sqlite, with_registry
from server_support import CALLER

from authsec_core.testing import FakeClock
from authsec_server import credentials
from authsec_server.audit.entry import Caller
from authsec_server.errors import ForbiddenError, UnauthenticatedError
from authsec_server.operators.access import Access


async def admit(one: Registry, authorization: str | None, needs: Access = "read") -> Caller:
    """Ask to be let in."""
    return await one.operators.admit(
        authorization, needs, request_id="req-9", address="192.0.2.1", path="/api/v1/clients"
    )


def test_who_is_let_in_is_who_did_it(database_url: str) -> None:
    """The caller has the operator's id and name, the request's id and where it came from. It leaves no entry."""

    async def test(one: Registry) -> None:
        operator, credential = await one.operator("bob", "operator")
        before = len(await one.entries())
        caller = await admit(one, f"Bearer {credential.text()}", "manage")
        assert (caller.actor.kind, caller.actor.id, caller.actor.name) == ("operator", operator.operator_id, "bob")
        assert (caller.request_id, caller.address) == ("req-9", "192.0.2.1")
        assert (caller.token_id, caller.needs) == (credential.id, "manage")
        assert await admit(one, f"bEARER  {credential.text()}", "manage") == caller
        assert len(await one.entries()) == before

    with_registry(database_url, test)


@pytest.mark.req("RA1")
@pytest.mark.parametrize(
    ("role", "allowed"),
    [("auditor", {"read"}), ("operator", {"read", "manage"}), ("admin", {"read", "manage", "administer"})],
)
def test_a_role_that_does_not_suffice_is_refused_and_recorded(tmp_path: Path, role: str, allowed: set[str]) -> None:
    """With 403 in mind; the entry has who, what they needed, where, and the reason."""

    async def test(one: Registry) -> None:
        operator, credential = await one.operator("bob", role)
        needed: Access
        for needed in ("read", "manage", "administer"):
            if needed in allowed:
                await admit(one, f"Bearer {credential.text()}", needed)
                continue
            with pytest.raises(ForbiddenError):
                await admit(one, f"Bearer {credential.text()}", needed)
            entry = (await one.entries("operator.denied"))[-1]
            assert (entry["decision"], entry["reason"], entry["actor"]["id"]) == ("deny", "role", operator.operator_id)
            assert entry["details"] == {"token_id": credential.id, "needs": needed, "path": "/api/v1/clients"}
        assert len(await one.entries("operator.denied")) == 3 - len(allowed)

    with_registry(sqlite(tmp_path), test)


@pytest.mark.req("RA1")
def test_strangers_leave_a_line_in_the_log_and_no_entry(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Without a token, with an invented one, an agent's key or another scheme: refused alike, and the audit stays."""

    async def test(one: Registry) -> None:
        _, token = await one.admin()
        _, key = await one.onboard()
        text = token.text()
        before = len(await one.entries())
        for wrong in (
            None,
            "",
            "Bearer",
            "Bearer ",
            text,
            f"Basic {text}",
            f"Token {text}",
            f"Bearer {text} ",
            f"Bearer {text},",
            f"Bearer\t{text}",
            f"Bearer {text[:-1]}",
            f"Bearer {text.upper()}",
            f"Bearer {key.text()}",
            f"Bearer {credentials.generate('operator-token').text()}",
        ):
            with pytest.raises(UnauthenticatedError):
                await admit(one, wrong)
        assert len(await one.entries()) == before
        assert len(caplog.records) == 14
        assert token.secret() not in caplog.text

    with caplog.at_level(logging.WARNING, "authsec.server.operators"):
        with_registry(sqlite(tmp_path), test)


@pytest.mark.req("RA2")
def test_a_wrong_secret_for_a_token_that_exists_is_recorded_as_nobodys(database_url: str) -> None:
    """Its operator is not blamed: nothing was proven."""

    async def test(one: Registry) -> None:
        _, credential = await one.admin()
        wrong = f"{credential.id}.{credentials.generate('operator-token').secret()}"
        with pytest.raises(UnauthenticatedError):
            await admit(one, f"Bearer {wrong}")
        (entry,) = await one.entries("operator.denied")
        assert (entry["actor"], entry["reason"]) == ({"kind": "anonymous"}, "token_wrong")
        assert entry["details"]["token_id"] == credential.id

    with_registry(database_url, test)


def test_a_token_that_was_good_once_is_refused_and_recorded(database_url: str, clock: FakeClock) -> None:
    """Revoked, ended (at its last second, not before), or of an operator who is disabled: the entry names them."""

    async def test(one: Registry) -> None:
        await one.admin()
        operator, first = await one.operator("bob", "operator")
        _, second = await one.operators.create_token(CALLER, operator.operator_id, not_after=clock.wall() + 60)
        _, third = await one.operators.create_token(CALLER, operator.operator_id)
        await one.operators.revoke_token(CALLER, operator.operator_id, first.id)
        clock.advance(59)
        await admit(one, f"Bearer {second.text()}")
        clock.advance(1)
        await admit(one, f"Bearer {third.text()}")
        await one.operators.update(CALLER, operator.operator_id, enabled=False)
        told: set[str] = set()
        for credential in (first, second, third):
            with pytest.raises(UnauthenticatedError) as caught:
                await admit(one, f"Bearer {credential.text()}")
            told.add(caught.value.message)
        assert len(told) == 1  # which of them it was is for those who read the audit
        denied = await one.entries("operator.denied")
        assert [entry["reason"] for entry in denied] == ["token_revoked", "token_ended", "operator_disabled"]
        assert {entry["actor"]["name"] for entry in denied} == {"bob"}
        await one.operators.update(CALLER, operator.operator_id, enabled=True)
        await admit(one, f"Bearer {third.text()}")

    with_registry(database_url, test, clock=clock)


@pytest.mark.req("RA2")
def test_an_unknown_token_costs_what_a_known_one_costs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One HMAC and one comparison in constant time, whether there is a token, and whether it exists, or not."""
    done: list[str] = []
    mac, matches = credentials.mac, credentials.matches

    def counted_mac(*given: Any) -> bytes:
        done.append("mac")
        return mac(*given)

    def counted_matches(*given: Any) -> bool:
        done.append("matches")
        return matches(*given)

    async def test(one: Registry) -> None:
        _, credential = await one.admin()
        monkeypatch.setattr(credentials, "mac", counted_mac)
        monkeypatch.setattr(credentials, "matches", counted_matches)
        unknown = credentials.generate("operator-token").text()
        for text in (None, "Bearer x", f"Bearer {unknown}", f"Bearer {credential.text()}"):
            done.clear()
            with suppress(UnauthenticatedError):
                await admit(one, text)
            assert done == ["mac", "matches"]

    with_registry(sqlite(tmp_path), test)
