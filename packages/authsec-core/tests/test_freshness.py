"""FRESH, STALE, EXPIRED: where the borders lie, for every lifetime and margin."""

from __future__ import annotations

import pytest
from core_support import made_token
from hypothesis import given
from hypothesis import strategies as st

from authsec_core._freshness import Freshness, Lease
from authsec_core.testing import FakeClock

lifetimes = st.floats(min_value=1.0, max_value=1e6)
margins = st.floats(min_value=0.0, max_value=1e6)


def _lease(lifetime: float, *, margin: float = 60.0, longest: float | None = None) -> Lease:
    return Lease(made_token(FakeClock(steady=0), lifetime=lifetime), margin=margin, longest=longest)


@pytest.mark.req("RS6")
@pytest.mark.parametrize(
    ("lifetime", "fresh_until"),
    [(1, 0.75), (4, 3), (60, 45), (239, 179.25), (240, 180), (241, 181), (1800, 1740), (2_592_000, 2_591_940)],
)
def test_the_margin_scales_with_the_lifetime(lifetime: float, fresh_until: float) -> None:
    """It is 60 seconds, but never more than a quarter of the lifetime."""
    lease = _lease(lifetime)
    assert lease.fresh_until == pytest.approx(fresh_until)
    assert lease.ends_at == pytest.approx(lifetime)


@pytest.mark.req("RS6")
@pytest.mark.parametrize(
    ("now", "state"),
    [
        (0, Freshness.FRESH),
        (74.999, Freshness.FRESH),
        (75, Freshness.STALE),
        (76, Freshness.STALE),
        (99.999, Freshness.STALE),
        (100, Freshness.EXPIRED),
        (101, Freshness.EXPIRED),
    ],
)
def test_the_borders_belong_to_the_later_state(now: float, state: Freshness) -> None:
    """At the margin a token is STALE; at its end it is EXPIRED."""
    assert _lease(100).at(now) is state


@pytest.mark.req("RS6")
@given(lifetimes, margins, st.floats(min_value=0, max_value=1.5))
def test_the_states_follow_one_another(lifetime: float, margin: float, part: float) -> None:
    """FRESH for at least three quarters, never beyond the end, whatever the lifetime and the margin."""
    lease = _lease(lifetime, margin=margin)
    state = lease.at(part * lifetime)
    if part < 0.7499:
        assert state is Freshness.FRESH
    if part > 1.0001:
        assert state is Freshness.EXPIRED
    assert 0.7499 * lifetime <= lease.fresh_until <= lease.ends_at


@pytest.mark.req("RS6")
def test_without_a_margin_a_token_is_never_stale() -> None:
    """It then goes from FRESH to EXPIRED."""
    lease = _lease(100, margin=0)
    assert (lease.at(99.999), lease.at(100)) == (Freshness.FRESH, Freshness.EXPIRED)


@pytest.mark.parametrize(("longest", "ends_at"), [(10, 10), (100, 100), (1000, 100), (None, 100)])
def test_a_life_asked_for_bounds_the_lease(longest: float | None, ends_at: float) -> None:
    """An authority that does not know `ttl` gives a longer token; the holder lets go of it in time all the same."""
    assert _lease(100, longest=longest).ends_at == pytest.approx(ends_at)


@pytest.mark.req("RS6")
def test_the_life_begins_when_the_request_is_sent() -> None:
    """Not when the reply arrives: what the exchange took is part of the lifetime."""
    clock = FakeClock(steady=500)
    assert Lease(made_token(clock, lifetime=100), margin=60).ends_at == pytest.approx(600)


def test_a_withdrawn_lease_is_expired() -> None:
    """Every holder of it sees that, at any time."""
    lease = _lease(100)
    lease.withdraw()
    assert [lease.at(now) for now in (float("-1e300"), 0, 99)] == [Freshness.EXPIRED] * 3


@pytest.mark.req("RS8")
def test_a_lease_does_not_show_its_token() -> None:
    """It stands in frames and dictionaries that are printed."""
    assert "secret.of" not in repr(_lease(100))
