"""Sources that wrap each other: when the authority is asked, and what a caller gets while it does not answer."""

from __future__ import annotations

import itertools
import logging
import math
from collections.abc import Callable

import pytest
from core_support import CLIENT_ID, Driver, ScriptedSource, made_token
from hypothesis import example, given
from hypothesis import strategies as st

from authsec_core import DelegationToken, TokenCache
from authsec_core._proof import NoProof
from authsec_core.errors import (
    AuthorityUnreachableError,
    AuthSecError,
    DelegationRefusedError,
)
from authsec_core.source import CachingSource, Identity, TokenRequest
from authsec_core.testing import FakeClock

IDENTITY = Identity(base_url="https://authority.test", client_id=CLIENT_ID, proof=NoProof())
READ = TokenRequest.of("read")
DECADE = 315_576_000.0  # seconds
lifetimes = st.floats(min_value=1.0, max_value=1e6)


class _Authority:
    """A source that issues numbered tokens of one lifetime, or raises what the test says."""

    def __init__(self, clock: FakeClock, lifetime: float) -> None:
        self._clock, self._lifetime, self._numbers = clock, lifetime, itertools.count(1)
        self.asked_at: list[float] = []
        self.error: AuthSecError | None = None
        self.source = ScriptedSource(self._answer)

    def _answer(self) -> DelegationToken:
        self.asked_at.append(self._clock.steady())
        if self.error is not None:
            raise self.error.again()
        return made_token(self._clock, lifetime=self._lifetime, jti=f"jti-{next(self._numbers)}")


def _set_up(clock: FakeClock, lifetime: float, *, margin: float = 60.0) -> tuple[_Authority, CachingSource]:
    authority = _Authority(clock, lifetime)
    return authority, CachingSource(authority.source, IDENTITY, TokenCache(clock=clock, refresh_margin=margin))


@pytest.mark.req("RS6")
@given(lifetimes, st.floats(min_value=0, max_value=1e6), st.lists(st.floats(min_value=0, max_value=1.3), max_size=30))
@example(1.0, 60.0, [0.1] * 30)
@example(1e6, 60.0, [0.1] * 30)
@example(60.0, 0.0, [0.25] * 30)
def test_there_is_at_most_one_refresh_per_three_quarters_of_a_lifetime(
    lifetime: float, margin: float, steps: list[float]
) -> None:
    """However often a caller comes, for any lifetime and margin; and what it gets has never ended."""
    clock = FakeClock(steady=0)
    authority, source = _set_up(clock, lifetime, margin=margin)
    for step in [0.0, *steps]:
        clock.advance(step * lifetime)
        token = source.token(READ)
        assert clock.steady() < token.sent_at + token.lifetime
    gaps = [after - before for before, after in itertools.pairwise(authority.asked_at)]
    assert all(gap >= 0.7499 * lifetime for gap in gaps)


@pytest.mark.req("RS6")
@given(
    lifetimes,
    st.lists(
        st.tuples(st.floats(min_value=0, max_value=0.6), st.booleans(), st.floats(min_value=-DECADE, max_value=DECADE)),
        max_size=30,
    ),
)
def test_outages_and_wrong_clocks_do_no_harm(lifetime: float, steps: list[tuple[float, bool, float]]) -> None:
    """A token is used until its end and not after; an error comes only where there is none; no one asks in vain twice.

    The wall clock jumps by up to ten years at each step.
    """
    clock = FakeClock(steady=0)
    authority, source = _set_up(clock, lifetime)
    held: DelegationToken | None = None
    for part, up, jump in [(0.0, True, 0.0), *steps]:
        clock.advance(part * lifetime)
        clock.jump(jump)
        authority.error = None if up else AuthorityUnreachableError("down")
        alive = held is not None and clock.steady() < held.sent_at + held.lifetime
        try:
            held = source.token(READ)
        except AuthorityUnreachableError:
            assert not alive
        else:
            assert clock.steady() < held.sent_at + held.lifetime
    gaps = [after - before for before, after in itertools.pairwise(authority.asked_at)]
    assert all(gap >= min(1.0, 0.7499 * lifetime) for gap in gaps)


@pytest.mark.req("RS6")
@pytest.mark.parametrize("lifetime", [1.0, 60.0, 1800.0, 2_592_000.0])
def test_a_token_outlives_an_outage_to_its_very_end(driver: Driver, clock: FakeClock, lifetime: float) -> None:
    """One step before the end the old token is handed out; at the end and after it the error is."""
    authority = _Authority(clock, lifetime)
    source = driver.caching(authority.source, IDENTITY, TokenCache(clock=clock, failure_cooldown=0))
    token = source.token(READ)
    authority.error = AuthorityUnreachableError("down")
    step = lifetime / 1024
    clock.advance(lifetime - step)
    assert source.token(READ) is token
    for wait in (step, step, lifetime):
        clock.advance(wait)
        with pytest.raises(AuthorityUnreachableError):
            source.token(READ)
    authority.error = None
    assert source.token(READ).jti == "jti-2"


@pytest.mark.req("RS6")
@pytest.mark.parametrize("status", [403, 410])
def test_a_refusal_ends_a_stale_token(driver: Driver, clock: FakeClock, status: int) -> None:
    """What the authority has taken back is not handed out for the rest of its life; nor asked for all the time."""
    authority = _Authority(clock, 100)
    source = driver.caching(authority.source, IDENTITY, TokenCache(clock=clock))
    source.token(READ)
    clock.advance(75)
    authority.error = DelegationRefusedError("no", reason="delegation_ended", status=status)
    for _ in range(3):
        with pytest.raises(DelegationRefusedError) as caught:
            source.token(READ)
        assert (caught.value.status, caught.value.reason) == (status, "delegation_ended")
    assert len(authority.asked_at) == 2
    clock.advance(1)
    authority.error = None
    assert source.token(READ).jti == "jti-2"


@pytest.mark.req("RS6")
def test_the_use_of_an_old_token_is_logged(driver: Driver, clock: FakeClock, caplog: pytest.LogCaptureFixture) -> None:
    """An operator can see that the authority is away, by the token's jti and the error's code."""
    authority = _Authority(clock, 100)
    source = driver.caching(authority.source, IDENTITY, TokenCache(clock=clock))
    source.token(READ)
    clock.advance(80)
    authority.error = AuthorityUnreachableError("down")
    with caplog.at_level(logging.WARNING, "authsec"):
        source.token(READ)
    [record] = caplog.records
    assert "jti-1" in record.getMessage()
    assert "authority_unreachable" in record.getMessage()
    assert "secret.of" not in caplog.text


@pytest.mark.req("RS6")
def test_the_life_asked_for_is_kept(driver: Driver, clock: FakeClock) -> None:
    """Where the authority gives a longer life than `ttl=`, the token is renewed as if it had not."""
    authority = _Authority(clock, 1800)
    source = driver.caching(authority.source, IDENTITY, TokenCache(clock=clock))
    wish = TokenRequest.of("read", ttl=100.0)
    assert source.token(wish).jti == "jti-1"
    clock.advance(74)
    assert source.token(wish).jti == "jti-1"
    clock.advance(1)
    assert source.token(wish).jti == "jti-2"


@pytest.mark.req("RS5")
@pytest.mark.parametrize("error", [GeneratorExit, MemoryError, ValueError])
def test_whatever_breaks_a_leader_the_next_one_leads(
    driver: Driver, clock: FakeClock, error: type[BaseException]
) -> None:
    """What is no answer of the authority goes to its caller as it is, and neither blocks nor cools down the next."""
    answers: list[Callable[[], DelegationToken]] = [lambda: _raise(error()), lambda: made_token(clock)]
    source = driver.caching(ScriptedSource(lambda: answers.pop(0)()), IDENTITY, TokenCache(clock=clock))
    with pytest.raises(error):
        source.token(READ)
    assert source.token(READ).jti == "jti-1"


def _raise(error: BaseException) -> DelegationToken:
    raise error


@pytest.mark.parametrize("ttl", [0, -1, -0.001, math.nan, math.inf, -math.inf])
def test_a_ttl_is_a_positive_number_of_seconds(ttl: float) -> None:
    """Anything else is the caller's mistake and reaches no authority."""
    with pytest.raises(ValueError, match="ttl"):
        TokenRequest.of("read", ttl)


@pytest.mark.parametrize("scope", ["", " ", "   ", "a\tb", "a\nb", 'a"b', "a\\b", "é", "a" * 4097])
def test_a_scope_is_text_that_the_rfc_allows(scope: str) -> None:
    """Present but blank is a mistake too: None asks for the whole delegation."""
    with pytest.raises(ValueError, match="scope"):
        TokenRequest.of(scope)
