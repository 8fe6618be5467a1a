"""Signing keys in the database: one signs, whatever happens at once, and nothing makes up for what cannot be read."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import jwt
import pytest
import sqlalchemy as sa
from keys_support import MASTER, OTHER_MASTER, OVERLAP, READY, TIMING, World, hand_out_keys, play, replica
from server_support import CALLER, Asks, rows

from authsec_core._signing import SigningKey
from authsec_core.testing import FakeClock
from authsec_server.audit.ledger import Change, Ledger
from authsec_server.db import tables
from authsec_server.db.engine import Database
from authsec_server.errors import (
    ConflictError,
    NotFoundError,
    StorageUnavailableError,
    UnsealError,
    WrongMasterKeyError,
)
from authsec_server.keys import keypair
from authsec_server.keys.changes import MOST_PUBLISHED
from authsec_server.keys.keyring import Keyring
from authsec_server.keys.masterkeys import MasterKeys
from authsec_server.keys.rotation import Activate, KeyRow, Prepare
from authsec_server.keys.service import SigningKeys
from authsec_server.keys.store import StoredKey

NOBODY = "x" * 43


@pytest.fixture(autouse=True)
def _quick_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    hand_out_keys(monkeypatch)


class TestSchedule:
    """RA7: keys follow each other by themselves."""

    @pytest.mark.req("RA7")
    def test_a_new_authority_gets_a_key_that_signs_at_once(self, database_url: str, clock: FakeClock) -> None:
        """It is made, published and activated; a second run does nothing."""

        async def story(at: World) -> None:
            done = await at.keys.run_schedule(CALLER)
            kid = await at.active()
            assert done == (Prepare(), Activate(kid))
            assert await at.published() == [kid]
            assert await at.keys.run_schedule(CALLER) == ()
            assert [action for action, _ in await at.audit()] == ["signing_key.prepare", "signing_key.activate"]
            assert await at.policy_version() == 2

        play(database_url, clock, story)

    @pytest.mark.req("RA7")
    def test_a_lifetime_of_keys(self, database_url: str, clock: FakeClock) -> None:
        """The next one is published before it signs, and the last one is published until its tokens have ended."""

        async def story(at: World) -> None:
            first = await at.first()
            clock.advance(86_400 - 631)
            assert await at.keys.run_schedule(CALLER) == ()
            clock.advance(1)
            assert await at.keys.run_schedule(CALLER) == (Prepare(),)
            (second,) = set(await at.published()) - {first}
            assert await at.active() == first
            clock.advance(629)
            assert await at.keys.run_schedule(CALLER) == ()
            clock.advance(1)
            assert await at.keys.run_schedule(CALLER) == (Activate(second),)
            assert await at.states() == {first: "retired", second: "active"}
            clock.advance(OVERLAP - 1)
            assert await at.published() == [second, first]
            clock.advance(1)
            assert await at.published() == [second]

        play(database_url, clock, story)

    @pytest.mark.req("RA7")
    @pytest.mark.req("RA8")
    def test_of_many_replicas_one_is_first(self, database_url: str, clock: FakeClock) -> None:
        """Whoever tries at the same time, one key is made and one is active, and the audit says so once."""

        async def story(at: World) -> None:
            async with replica(database_url, clock) as two, replica(database_url, clock) as three:
                done = await asyncio.gather(*(one.keys.run_schedule(CALLER) for one in (at, two, three) * 2))
                assert sorted(str(step) for steps in done for step in steps) == sorted(
                    [str(Prepare()), str(Activate(await at.active()))]
                )
                assert len(await at.audit()) == 2
                for one in (at, two, three):
                    assert await one.published() == [await at.active()]

        play(database_url, clock, story)

    @pytest.mark.req("RA7")
    def test_a_database_that_does_not_answer_is_no_reason_for_a_key(
        self, database_url: str, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The schedule fails, nothing is made, and what was there signs on."""

        async def story(at: World) -> None:
            first = await at.first()
            clock.advance(90_000)

            @asynccontextmanager
            async def away() -> AsyncIterator[None]:
                raise StorageUnavailableError("away")
                yield

            with monkeypatch.context() as broken:
                broken.setattr(at.database, "read", away)
                broken.setattr(SigningKey, "generate", lambda bits: pytest.fail("a key was made"))
                with pytest.raises(StorageUnavailableError):
                    await at.keys.run_schedule(CALLER)
                with pytest.raises(StorageUnavailableError):
                    await at.keys.jwks()
            assert await at.states() == {first: "active"}

        play(database_url, clock, story)


class TestCommands:
    """RA7: what operators do, and what they cannot."""

    @pytest.mark.req("RA7")
    def test_a_key_that_verifiers_may_not_know_is_not_activated(self, database_url: str, clock: FakeClock) -> None:
        """Unless it is to be at once; the one that signed is retired in the same moment, and the audit has both."""

        async def story(at: World) -> None:
            first = await at.first()
            second, third = (await at.keys.prepare(CALLER)).kid, (await at.keys.prepare(CALLER)).kid
            clock.advance(READY - 1)
            with pytest.raises(ConflictError, match="wait until"):
                await at.keys.activate(CALLER, second)
            assert await at.active() == first
            row = await at.keys.activate(CALLER, second, at_once=True)
            assert (row.state, row.activated_at) == ("active", clock.wall())
            clock.advance(1)
            await at.keys.activate(CALLER, third)
            assert await at.states() == {first: "retired", second: "retired", third: "active"}
            assert (await at.audit())[4:] == [
                ("signing_key.retire", {"kid": first, "was": "active", "successor": second}),
                ("signing_key.activate", {"kid": second, "was": "prepared", "at_once": True}),
                ("signing_key.retire", {"kid": second, "was": "active", "successor": third}),
                ("signing_key.activate", {"kid": third, "was": "prepared", "at_once": False}),
            ]

        play(database_url, clock, story)

    @pytest.mark.req("RA7")
    def test_the_active_key_is_not_retired_alone(self, database_url: str, clock: FakeClock) -> None:
        """Somebody has to sign. A prepared one can be given up, and leaves the JWKS, since it never signed."""

        async def story(at: World) -> None:
            first = await at.first()
            with pytest.raises(ConflictError, match="activate another one"):
                await at.keys.retire(CALLER, first)
            second = (await at.keys.prepare(CALLER)).kid
            assert await at.published() == [first, second]
            await at.keys.retire(CALLER, second)
            assert await at.published() == [first]
            for refused in (at.keys.retire(CALLER, second), at.keys.activate(CALLER, second, at_once=True)):
                with pytest.raises(ConflictError):
                    await refused
            assert await at.active() == first

        play(database_url, clock, story)

    def test_a_key_that_is_not_there_is_not_found(self, database_url: str, clock: FakeClock) -> None:
        """And nothing is written."""

        async def story(at: World) -> None:
            await at.first()
            before = await at.policy_version()
            for refused in (
                at.keys.retire(CALLER, NOBODY),
                at.keys.activate(CALLER, NOBODY, at_once=True),
                at.keys.revoke(CALLER, NOBODY),
            ):
                with pytest.raises(NotFoundError):
                    await refused
            assert await at.policy_version() == before

        play(database_url, clock, story)

    def test_verifiers_are_not_flooded_with_keys(
        self, database_url: str, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """There are so many at most as a JWKS can have; the core takes that many."""

        async def story(at: World) -> None:
            await at.first()
            for _ in range(MOST_PUBLISHED - 1):
                await at.keys.prepare(CALLER)
            with pytest.raises(ConflictError, match="wait until some are gone"):
                await at.keys.prepare(CALLER)
            assert len(await at.published()) == MOST_PUBLISHED

        play(database_url, clock, story)

    @pytest.mark.parametrize("bits", [1024, 2047, 0])
    def test_a_small_key_cannot_be_asked_for(self, bits: int, tmp_path: Any, clock: FakeClock) -> None:
        """2048 bits are the least that verifiers take."""
        database = Database(f"sqlite:///{tmp_path / 'x.db'}", clock=clock)
        keyring = Keyring(database, MasterKeys([MASTER]), tenant_id="t", clock=clock)
        with pytest.raises(ValueError, match="2048, 3072, 4096"):
            SigningKeys(
                Ledger(database, clock=clock),
                database,
                masters=MasterKeys([MASTER]),
                keyring=keyring,
                timing=TIMING,
                tenant_id="t",
                clock=clock,
                bits=bits,
            )


class TestRevocation:
    """RA7, RV9: a key that leaked."""

    @pytest.mark.req("RA7")
    @pytest.mark.req("RV9")
    def test_the_next_key_takes_over_in_the_same_transaction(self, database_url: str, clock: FakeClock) -> None:
        """The one that was published first signs at once, and the revoked one has no private half any more."""

        async def story(at: World) -> None:
            first = await at.first()
            second = (await at.keys.prepare(CALLER)).kid
            clock.advance(1)
            await at.keys.prepare(CALLER)
            before = len(await at.audit())
            row = await at.keys.revoke(CALLER, first)
            assert (row.state, row.revoked_at) == ("revoked", clock.wall())
            assert await at.active() == second
            assert first not in await at.published()
            stored = {row.kid: bytes(row.sealed) for row in await rows(at.database, tables.signing_keys)}
            assert stored[first] == b""
            assert stored[second] != b""
            assert (await at.audit())[before:] == [
                ("signing_key.revoke", {"kid": first, "was": "active", "tokens": 0}),
                ("signing_key.activate", {"kid": second, "was": "prepared", "at_once": True}),
            ]
            with pytest.raises(ConflictError, match="is revoked"):
                await at.keys.revoke(CALLER, first)

        play(database_url, clock, story)

    @pytest.mark.req("RA7")
    def test_where_there_is_no_next_key_one_is_made(self, database_url: str, clock: FakeClock) -> None:
        """There is no moment without a key that signs; the audit has all three steps."""

        async def story(at: World) -> None:
            first = await at.first()
            await at.keys.revoke(CALLER, first)
            second = await at.active()
            assert await at.states() == {first: "revoked", second: "active"}
            assert await at.published() == [second]
            actions = [action for action, _ in await at.audit()][2:]
            assert actions == ["signing_key.revoke", "signing_key.prepare", "signing_key.activate"]

        play(database_url, clock, story)

    @pytest.mark.req("RV9")
    def test_its_live_tokens_are_revoked_and_no_others(self, database_url: str, clock: FakeClock) -> None:
        """The status list says what the JWKS says."""

        async def story(at: World) -> None:
            first = await at.first()
            await asyncio.gather(*(at.ledger.judge(Asks(f"old-{n}", token=True)) for n in range(3)))
            clock.advance(61 + 360)  # a verifier may be late by its leeway, and a clock wrong
            await asyncio.gather(*(at.ledger.judge(Asks(f"live-{n}", token=True)) for n in range(3)))
            await at.keys.activate(CALLER, (await at.keys.prepare(CALLER)).kid, at_once=True)
            await at.ledger.judge(Asks("of the next key", token=True))
            await at.keys.revoke(CALLER, first)
            revoked = {row.jti for row in await rows(at.database, tables.tokens) if row.revoked_at is not None}
            assert revoked == {"live-0", "live-1", "live-2"}
            assert (await at.audit())[-1] == ("signing_key.revoke", {"kid": first, "was": "retired", "tokens": 3})

        play(database_url, clock, story)

    @pytest.mark.req("RA8")
    def test_of_many_that_revoke_one_wins(self, database_url: str, clock: FakeClock) -> None:
        """One successor is made, whatever was tried at once; the losers are told."""

        async def story(at: World) -> None:
            async with replica(database_url, clock) as two:
                first = await at.first()
                told = await asyncio.gather(
                    *(one.keys.revoke(CALLER, first) for one in (at, two) * 4), return_exceptions=True
                )
                assert sum(isinstance(result, KeyRow) for result in told) == 1
                assert sum(isinstance(result, ConflictError) for result in told) == 7
                assert sorted((await at.states()).values()) == ["active", "revoked"]

        play(database_url, clock, story)

    @pytest.mark.req("RV9")
    def test_every_replica_drops_it_within_a_second(self, database_url: str, clock: FakeClock) -> None:
        """The one that revoked it at once; another one when it reads again."""

        async def story(at: World) -> None:
            async with replica(database_url, clock) as other:
                first = await at.first()
                assert await other.published() == [first]
                await at.keys.revoke(CALLER, first)
                second = await at.active()
                assert await at.published() == [second]
                clock.advance(1)
                assert await other.published() == [second]

        play(database_url, clock, story)

    @pytest.mark.req("RA7")
    def test_a_damaged_key_can_be_replaced(self, database_url: str, clock: FakeClock) -> None:
        """What does not open is passed over, and a good one signs."""

        async def story(at: World) -> None:
            first, damaged = await at.first(), (await at.keys.prepare(CALLER)).kid
            (sealed,) = [
                bytes(row.sealed) for row in await rows(at.database, tables.signing_keys) if row.kid == damaged
            ]
            await at.damage(damaged, sealed=sealed[:-1] + bytes([sealed[-1] ^ 1]))
            await at.damage(first, sealed=b"\x01" + bytes.fromhex(MASTER.id) + bytes(28))
            await at.keys.revoke(CALLER, first)
            await at.keys.revoke(CALLER, damaged)
            third = await at.active()
            assert third not in (first, damaged)
            assert await at.published() == [third]

        play(database_url, clock, story)


class TestKeyring:
    """RA7: what a process holds."""

    @pytest.mark.req("RA7")
    def test_the_private_halves_are_sealed_in_the_database(self, database_url: str, clock: FakeClock) -> None:
        """No part of one is to be found in it."""

        async def story(at: World) -> None:
            await at.first()
            key = await at.keyring.active()()
            numbers = key.private.private_numbers()
            (row,) = await rows(at.database, tables.signing_keys)
            for secret in (numbers.d, numbers.p, numbers.q):
                part = secret.to_bytes((secret.bit_length() + 7) // 8, "big")[8:40]
                assert part not in bytes(row.sealed)
                assert part.hex() not in str(row.jwk)

        play(database_url, clock, story)

    @pytest.mark.req("RA7")
    def test_it_signs_what_its_jwks_verifies(self, database_url: str, clock: FakeClock) -> None:
        """By the name that a transaction gave, and with whichever is active; PyJWT takes both."""

        async def story(at: World) -> None:
            first = await at.first()
            await at.keys.activate(CALLER, (await at.keys.prepare(CALLER)).kid, at_once=True)
            one = await at.keyring.sign(first, {"alg": "RS256", "typ": "JWT", "kid": first}, {"sub": "a"})
            other = await at.keyring.active().sign("statuslist+jwt", {"sub": "b"})
            keys = {key["kid"]: jwt.PyJWK(key) for key in (await at.keys.jwks())["keys"]}
            for token, sub, typ, kid in ((one, "a", "JWT", first), (other, "b", "statuslist+jwt", await at.active())):
                header = jwt.get_unverified_header(token)
                assert (header["typ"], header["kid"]) == (typ, kid)
                assert jwt.decode(token, keys[kid], algorithms=["RS256"]) == {"sub": sub}

        play(database_url, clock, story)

    def test_signing_does_not_block_the_loop(
        self, database_url: str, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Neither signing nor making a key is done on the loop's own thread."""
        seen: list[threading.Thread] = []

        def spied(real: Callable[..., Any]) -> Callable[..., Any]:
            def spy(*args: Any) -> Any:
                seen.append(threading.current_thread())
                return real(*args)

            return spy

        monkeypatch.setattr(SigningKey, "generate", spied(SigningKey.generate))
        monkeypatch.setattr(SigningKey, "sign", spied(SigningKey.sign))

        async def story(at: World) -> None:
            kid = await at.first()
            await at.keyring.sign(kid, {}, {})
            assert len(seen) == 2
            assert threading.main_thread() not in seen

        play(database_url, clock, story)

    def test_a_key_is_opened_once(self, database_url: str, clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
        """However often the rows are read again."""
        opened: list[str] = []

        def spy(masters: MasterKeys, tenant: str, stored: StoredKey) -> SigningKey:
            opened.append(stored.row.kid)
            return keypair.open_key(masters, tenant, stored)

        monkeypatch.setattr("authsec_server.keys.keyring.open_key", spy)

        async def story(at: World) -> None:
            first = await at.first()
            for _ in range(3):
                clock.advance(2)
                await at.published()
            assert opened == [first]

        play(database_url, clock, story)

    def test_many_readers_cost_one_query(
        self, database_url: str, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """At once, and within a second; one of them that is cancelled fails no other."""

        async def story(at: World) -> None:
            await at.first()
            read, reads = at.database.read, 0

            def counted() -> Any:
                nonlocal reads
                reads += 1
                return read()

            monkeypatch.setattr(at.database, "read", counted)
            at.keyring.forget()
            tasks = [asyncio.create_task(at.keys.jwks()) for _ in range(20)]
            await asyncio.sleep(0)
            tasks[0].cancel()
            found = await asyncio.gather(*tasks, return_exceptions=True)
            assert isinstance(found[0], asyncio.CancelledError)
            assert all(isinstance(jwks, dict) for jwks in found[1:])
            clock.advance(0.99)
            await at.keys.jwks()
            assert reads == 1
            clock.advance(0.01)
            await at.keys.jwks()
            assert reads == 2

        play(database_url, clock, story)

    def test_what_was_read_before_a_change_is_not_held_after_it(self, database_url: str, clock: FakeClock) -> None:
        """A change that ends while the rows are being read is seen by the next who asks."""

        async def story(at: World) -> None:
            first = await at.first()
            clock.advance(2)
            read, arrived, go_on = at.database.read, asyncio.Event(), asyncio.Event()

            @asynccontextmanager
            async def slow() -> AsyncIterator[Any]:
                async with read() as connection:
                    yield connection
                arrived.set()
                await go_on.wait()

            at.database.read = slow  # type: ignore[method-assign]  # to hold up one reader
            reader = asyncio.create_task(at.keys.jwks())
            await arrived.wait()
            at.database.read = read  # type: ignore[method-assign]  # the others go on
            await at.keys.revoke(CALLER, first)
            go_on.set()
            await reader
            assert first not in await at.published()

        play(database_url, clock, story)

    @pytest.mark.req("RA7")
    def test_a_key_that_a_transaction_names_is_read_at_once(self, database_url: str, clock: FakeClock) -> None:
        """Another replica's newest key signs here, too; one that was revoked before it was known does not."""

        async def story(at: World) -> None:
            async with replica(database_url, clock) as other:
                await at.first()
                await other.published()
                kid = (await at.keys.prepare(CALLER)).kid
                await at.keys.activate(CALLER, kid, at_once=True)
                assert await other.keyring.sign(kid, {}, {})
                await at.keys.revoke(CALLER, kid)
            async with replica(database_url, clock) as new:
                with pytest.raises(StorageUnavailableError, match="withdrawn"):
                    await new.keyring.sign(kid, {}, {})

        play(database_url, clock, story)

    def test_without_an_active_key_it_says_so(self, database_url: str, clock: FakeClock) -> None:
        """An authority that is being set up is not ready, and signs nothing."""

        async def story(at: World) -> None:
            assert not await at.keyring.has_active()
            with pytest.raises(StorageUnavailableError, match="rotate-keys"):
                await at.keyring.active()()
            await at.first()
            assert await at.keyring.has_active()

        play(database_url, clock, story)


class TestDamage:
    """RA7: what cannot be opened is an error, never a new key; what was smuggled in is not published."""

    @pytest.mark.req("RA7")
    @pytest.mark.parametrize("damage", ["flipped", "cut", "empty", "moved", "public half", "name"])
    def test_damage_is_an_error_and_never_a_new_key(self, database_url: str, clock: FakeClock, damage: str) -> None:
        """Nothing is signed, nothing is published, nothing is written."""

        async def story(at: World) -> None:
            first, second = await at.first(), (await at.keys.prepare(CALLER)).kid
            stored = {row.kid: row for row in await rows(at.database, tables.signing_keys)}
            sealed = bytes(stored[first].sealed)
            damages: dict[str, dict[str, Any]] = {
                "flipped": {"sealed": sealed[:-1] + bytes([sealed[-1] ^ 1])},
                "cut": {"sealed": sealed[:-1]},
                "empty": {"sealed": b""},
                "moved": {"sealed": bytes(stored[second].sealed)},
                "public half": {"jwk": {**stored[first].jwk, "n": stored[second].jwk["n"]}},
                "name": {"kid": NOBODY},
            }
            await at.damage(first, **damages[damage])
            before = [tuple(row) for row in await rows(at.database, tables.signing_keys)]
            async with replica(database_url, clock) as fresh:
                for refused in (
                    fresh.keys.jwks(),
                    fresh.keyring.sign(first, {}, {}),
                    fresh.keyring.active().sign("JWT", {}),
                    fresh.keyring.has_active(),
                ):
                    with pytest.raises(UnsealError, match="signing key"):
                        await refused
                await fresh.keys.run_schedule(CALLER)
            assert [tuple(row) for row in await rows(at.database, tables.signing_keys)] == before

        play(database_url, clock, story)

    @pytest.mark.req("RA7")
    def test_a_key_that_does_not_open_is_not_activated(self, database_url: str, clock: FakeClock) -> None:
        """By command or by the schedule: the one that works signs on."""

        async def story(at: World) -> None:
            first, second = await at.first(), (await at.keys.prepare(CALLER)).kid
            await at.damage(second, sealed=b"\x01" + bytes.fromhex(MASTER.id) + bytes(28))
            clock.advance(90_000)
            with pytest.raises(UnsealError):
                await at.keys.activate(CALLER, second)
            with pytest.raises(UnsealError):
                await at.keys.run_schedule(CALLER)
            assert await at.active() == first

        play(database_url, clock, story)

    @pytest.mark.req("RA7")
    def test_a_replica_with_another_master_key_changes_nothing(self, database_url: str, clock: FakeClock) -> None:
        """What it sealed, the others could not open: it is told which master key belongs to the database."""

        async def story(at: World) -> None:
            first = await at.first()
            clock.advance(90_000)
            before = await at.policy_version()
            async with replica(database_url, clock, masters=MasterKeys([OTHER_MASTER])) as stranger:
                for refused in (
                    stranger.keys.prepare(CALLER),
                    stranger.keys.run_schedule(CALLER),
                    stranger.keys.jwks(),
                    stranger.keyring.sign(first, {}, {}),
                ):
                    with pytest.raises(WrongMasterKeyError, match=MASTER.id):
                        await refused
            assert await at.states() == {first: "active"}
            assert await at.policy_version() == before

        play(database_url, clock, story)

    @pytest.mark.req("RA7")
    def test_a_key_that_was_smuggled_in_is_not_published(self, database_url: str, clock: FakeClock) -> None:
        """Whoever can write rows, and has no master key, cannot have own tokens verified."""

        async def story(at: World) -> None:
            await at.first()
            foreign = keypair.make_key(OTHER_MASTER, "t", 2048, clock.wall())
            row: dict[str, Any] = {"kid": foreign.row.kid, "state": "retired", "sealed": b"", "jwk": dict(foreign.jwk)}
            row |= {"created_at": 0.0, "activated_at": 1.0, "retired_at": clock.wall()}
            await at.database.write(lambda c: c.execute(sa.insert(tables.signing_keys).values(**row)))
            clock.advance(1)
            with pytest.raises(UnsealError):
                await at.keys.jwks()

        play(database_url, clock, story)

    @pytest.mark.req("RU1")
    def test_a_change_that_is_not_recorded_is_not_made(
        self, database_url: str, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """If the audit does not take it, the key stays what it was."""

        async def story(at: World) -> None:
            first = await at.first()

            def full(change: Change, entry: object) -> None:
                raise StorageUnavailableError("full")

            with monkeypatch.context() as broken:
                broken.setattr(Change, "record", full)
                with pytest.raises(StorageUnavailableError):
                    await at.keys.revoke(CALLER, first)
            assert await at.states() == {first: "active"}

        play(database_url, clock, story)
