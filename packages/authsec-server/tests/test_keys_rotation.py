"""The life of a signing key: which moves there are, what is published, and what is due, to the second."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from authsec_server.errors import ConflictError
from authsec_server.keys.rotation import (
    Activate,
    KeyRow,
    KeyState,
    Prepare,
    Timing,
    active,
    due,
    may_activate,
    move,
    published,
    ready_at,
    withdrawn_at,
)

TIMING = Timing(jwks_max_age=300, longest_ttl=3600, lifetime=86_400, leeway=30)
OVERLAP = 3600 + 300 + 30
T0 = 1_800_000_000.0
STATES: tuple[KeyState, ...] = ("prepared", "active", "retired", "revoked")

PREPARED = KeyRow(kid="p", state="prepared", created_at=T0)
ACTIVE = KeyRow(kid="a", state="active", created_at=T0, activated_at=T0)
RETIRED = KeyRow(kid="r", state="retired", created_at=T0 - 1000, activated_at=T0 - 500, retired_at=T0)
REVOKED = KeyRow(kid="x", state="revoked", created_at=T0, activated_at=T0, revoked_at=T0)
ROWS = {row.state: row for row in (PREPARED, ACTIVE, RETIRED, REVOKED)}


def kids(rows: tuple[KeyRow, ...]) -> list[str]:
    """Return the names alone."""
    return [row.kid for row in rows]


class TestMoves:
    """RA7: a key goes forward only."""

    @pytest.mark.req("RA7")
    @pytest.mark.parametrize(("before", "after"), list(itertools.product(STATES, STATES)))
    def test_there_are_six_moves(self, before: KeyState, after: KeyState) -> None:
        """Every other one is refused, and says what the key is."""
        allowed = {("prepared", "active"), ("prepared", "retired"), ("active", "retired")}
        allowed |= {(state, "revoked") for state in STATES if state != "revoked"}
        if (before, after) in allowed:
            moved = move(ROWS[before], after, T0 + 5)
            assert moved.state == after
            instants = {"active": moved.activated_at, "retired": moved.retired_at, "revoked": moved.revoked_at}
            assert instants[after] == T0 + 5
        else:
            with pytest.raises(ConflictError, match=f"is {before}"):
                move(ROWS[before], after, T0 + 5)

    def test_a_move_keeps_what_was(self) -> None:
        """The earlier instants stay."""
        moved = move(move(move(PREPARED, "active", T0 + 1), "retired", T0 + 2), "revoked", T0 + 3)
        assert moved == KeyRow(
            kid="p", state="revoked", created_at=T0, activated_at=T0 + 1, retired_at=T0 + 2, revoked_at=T0 + 3
        )


class TestPublished:
    """RA7: what the JWKS has."""

    @pytest.mark.req("RA7")
    def test_it_has_all_that_may_verify_a_token(self) -> None:
        """The active one first, then the prepared and the retired; a revoked one never."""
        assert kids(published([REVOKED, PREPARED, RETIRED, ACTIVE], T0, TIMING)) == ["a", "r", "p"]

    @pytest.mark.req("RA7")
    @pytest.mark.parametrize(
        ("after", "there"), [(0, True), (OVERLAP - 1, True), (OVERLAP, False), (OVERLAP + 1, False)]
    )
    def test_a_retired_key_stays_until_its_last_token_has_ended_everywhere(self, after: float, there: bool) -> None:
        """That is the longest life of a token, the age of a cached JWKS, and what clocks differ by."""
        assert bool(published([RETIRED], T0 + after, TIMING)) is there
        assert withdrawn_at(RETIRED, TIMING) == T0 + OVERLAP

    @pytest.mark.req("RA7")
    def test_a_revoked_key_is_gone_at_once_whatever_it_was(self) -> None:
        """No token of it is to be verified any more."""
        for row in (PREPARED, ACTIVE, RETIRED):
            assert published([move(row, "revoked", T0)], T0, TIMING) == ()

    def test_a_key_that_never_signed_is_gone_when_it_is_given_up(self) -> None:
        """Nobody needs it, so nobody has to trust it."""
        assert published([move(PREPARED, "retired", T0 + 1)], T0 + 1, TIMING) == ()

    def test_the_order_does_not_depend_on_the_database(self) -> None:
        """All replicas publish the same text."""
        rows = [ACTIVE, PREPARED, RETIRED, replace(PREPARED, kid="q")]
        orders = {tuple(kids(published(order, T0, TIMING))) for order in itertools.permutations(rows)}
        assert orders == {("a", "r", "p", "q")}


class TestActivation:
    """RA7: published before use."""

    @pytest.mark.req("RA7")
    @pytest.mark.parametrize(("after", "ready"), [(0, False), (329, False), (330, True), (331, True)])
    def test_a_key_signs_when_every_cached_jwks_has_it(self, after: float, ready: bool) -> None:
        """Not a second before; the message says when."""
        if ready:
            may_activate(PREPARED, T0 + after, TIMING)
        else:
            with pytest.raises(ConflictError, match=r"wait until 2027-01-15T08:05:30Z"):
                may_activate(PREPARED, T0 + after, TIMING)
        assert ready_at(PREPARED, TIMING) == T0 + 330

    def test_it_can_be_done_at_once(self) -> None:
        """On request, where refused tokens are the lesser evil."""
        may_activate(PREPARED, T0, TIMING, at_once=True)

    @pytest.mark.req("RA7")
    @pytest.mark.parametrize("row", [ACTIVE, RETIRED, REVOKED])
    def test_only_a_prepared_key_can_be_activated(self, row: KeyRow) -> None:
        """Not at once, either."""
        with pytest.raises(ConflictError):
            may_activate(row, T0 + 9999, TIMING, at_once=True)


class TestSchedule:
    """RA7: what is due."""

    @pytest.mark.req("RA7")
    def test_the_first_key_is_made_and_signs_at_once(self) -> None:
        """Nothing was signed before, so nobody is waiting for an older key."""
        assert due([], T0, TIMING) == Prepare()
        assert due([PREPARED], T0, TIMING) == Activate("p")
        assert due([REVOKED, RETIRED], T0, TIMING) == Prepare()

    @pytest.mark.parametrize(("age", "step"), [(0, None), (85_769, None), (85_770, Prepare()), (86_400, Prepare())])
    def test_the_next_key_is_made_before_the_end(self, age: float, step: Prepare | None) -> None:
        """Twice the age of a cached JWKS before, and what clocks differ by."""
        assert due([ACTIVE], T0 + age, TIMING) == step

    @pytest.mark.parametrize(("age", "step"), [(86_399, None), (86_400, Activate("p")), (86_401, Activate("p"))])
    def test_the_next_key_signs_at_the_end(self, age: float, step: Activate | None) -> None:
        """Not before, even though it is ready."""
        assert due([ACTIVE, PREPARED], T0 + age, TIMING) == step

    @pytest.mark.req("RA7")
    def test_a_late_key_is_waited_for(self) -> None:
        """The schedule never takes a key that verifiers may not have: the old one signs a little longer."""
        late = replace(PREPARED, created_at=T0 + 90_000)
        assert due([ACTIVE, late], T0 + 90_329, TIMING) is None
        assert due([ACTIVE, late], T0 + 90_330, TIMING) == Activate("p")

    def test_the_oldest_prepared_key_is_next(self) -> None:
        """It is the one that most verifiers know."""
        older = replace(PREPARED, kid="older", created_at=T0 - 1)
        assert due([ACTIVE, PREPARED, older], T0 + 86_400, TIMING) == Activate("older")

    def test_a_clock_that_went_back_makes_nothing_happen(self) -> None:
        """No key is made or changed for a time that has been."""
        assert due([ACTIVE], T0 - 1e6, TIMING) is None
        assert due([ACTIVE, replace(PREPARED, created_at=T0 + 1e6)], T0 + 86_400, TIMING) is None

    @pytest.mark.req("RA7")
    @given(
        timing=st.builds(
            lambda age, ttl, leeway, more: Timing(
                jwks_max_age=age,
                longest_ttl=ttl,
                leeway=leeway,
                lifetime=max(ttl + age, leeway) + more,
            ),
            age=st.integers(1, 900),
            ttl=st.integers(1, 86_400),
            leeway=st.integers(1, 60),
            more=st.integers(0, 10**6),
        ),
        pauses=st.lists(st.floats(0.01, 1.5), min_size=1, max_size=40),
    )
    def test_whenever_it_runs_no_verifier_is_surprised(self, timing: Timing, pauses: list[float]) -> None:
        """Whatever the timing: one key signs, known to every cache; the one before stays; few are published."""
        rows: dict[str, KeyRow] = {}
        now, names = T0, itertools.count()
        for pause in [0.0, *pauses]:
            now += pause * timing.lifetime / 4
            first = not rows
            while (step := due(list(rows.values()), now, timing)) is not None:
                before = active(rows.values())
                if isinstance(step, Prepare):
                    kid = f"k{next(names)}"
                    rows[kid] = KeyRow(kid=kid, state="prepared", created_at=now)
                    continue
                may_activate(rows[step.kid], now, timing, at_once=first)
                if before is not None:
                    rows[before.kid] = move(before, "retired", now)
                rows[step.kid] = move(rows[step.kid], "active", now)
            shown = published(rows.values(), now, timing)
            assert sum(row.state == "active" for row in rows.values()) == 1
            assert shown[0].state == "active"
            assert len(shown) <= 5
            for row in rows.values():
                if row.retired_at is not None and now < row.retired_at + timing.longest_ttl + timing.jwks_max_age:
                    assert row in shown


@pytest.mark.parametrize("name", ["jwks_max_age", "longest_ttl", "lifetime", "leeway"])
@pytest.mark.parametrize("value", [0, -1, math.inf, math.nan])
def test_a_time_that_is_none_is_refused(name: str, value: float) -> None:
    """Every duration is a positive number of seconds."""
    with pytest.raises(ValueError, match=name):
        replace(TIMING, **{name: value})


@pytest.mark.req("RA7")
def test_a_lifetime_that_is_too_short_is_refused() -> None:
    """Keys must not pile up."""
    replace(TIMING, lifetime=3900)
    for short in ({"lifetime": 3899}, {"leeway": 86_401}):
        with pytest.raises(ValueError, match="lifetime must be at least"):
            replace(TIMING, **short)
