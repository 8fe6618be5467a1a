from __future__ import annotations

import asyncio
import threading

import pytest

from authsec_core._fetching import Get, Steps, Wait
from authsec_core._refreshing import Fresh, Pace, Refreshing
from authsec_core.errors import VerificationUnavailableError
from authsec_core.testing import FakeClock

GET = Get(url="https://a.example/", what="it", accept="text/plain", limit=10)
URL = "https://issuer.example/it?key=canary"
DOWN = VerificationUnavailableError("it cannot be fetched")


class _Done:
    def __init__(self, value: object) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Done) and other.value == self.value

    __hash__ = None  # type: ignore[assignment]  # compared, never kept


def _go(steps: Steps[str | None], answer: object = None) -> object:
    try:
        return steps.throw(answer) if isinstance(answer, Exception) else steps.send(answer)
    except StopIteration as done:
        return _Done(done.value)


def _renew(previous: str | None) -> Steps[Fresh[str]]:
    return Fresh(value=(yield GET), due_in=10.0, good_for=20.0)


def _anything(value: str) -> str | None:
    return value


def _letter(letter: str, value: str) -> str | None:
    return letter if letter in value else None


@pytest.fixture
def clock() -> FakeClock:
    """A clock that stands still."""
    return FakeClock()


@pytest.fixture
def kept(clock: FakeClock) -> Refreshing[str]:
    """A value due after 10 seconds and good for 20, with pauses of 5."""
    return Refreshing("it", _renew, url=URL, clock=clock, pace=Pace(cooldown=5.0, patience=30.0))


def _fill(kept: Refreshing[str], value: str) -> None:
    steps = kept.obtain(_anything)
    assert _go(steps) == GET
    assert _go(steps, value) == _Done(value)


def test_the_age_counts_from_the_sending_of_the_request(kept: Refreshing[str], clock: FakeClock) -> None:
    """A reply that took eight seconds is fresh for two more and good for twelve more."""
    steps = kept.obtain(_anything)
    assert _go(steps) == GET
    clock.advance(8.0)
    assert _go(steps, "slow") == _Done("slow")
    clock.advance(1.999)
    assert kept.peek() == "slow"
    clock.advance(0.001)
    assert kept.peek() is None
    leader = kept.obtain(_anything)
    assert _go(leader) == GET
    clock.advance(9.999)
    assert _go(kept.obtain(_anything)) == _Done("slow")
    clock.advance(0.001)
    assert isinstance(_go(kept.obtain(_anything)), Wait)


def test_a_failed_refresh_is_swallowed_while_the_value_is_good_and_not_after(
    kept: Refreshing[str], clock: FakeClock
) -> None:
    """Without grace an outage ends the value exactly when it stops being good."""
    _fill(kept, "a")
    clock.advance(10.0)
    leader = kept.obtain(_anything)
    assert _go(leader) == GET
    assert _go(leader, DOWN) == _Done("a")
    clock.advance(5.0)
    leader = kept.obtain(_anything)
    assert _go(leader) == GET
    clock.advance(5.0)
    with pytest.raises(VerificationUnavailableError) as caught:
        _go(leader, DOWN)
    assert caught.value is DOWN


def test_a_dead_server_is_asked_once_in_a_pause(kept: Refreshing[str], clock: FakeClock) -> None:
    """After a failure everyone is refused at once until the pause is over."""
    steps = kept.obtain(_anything)
    assert _go(steps) == GET
    with pytest.raises(VerificationUnavailableError):
        _go(steps, DOWN)
    clock.advance(4.999)
    with pytest.raises(VerificationUnavailableError, match="try again"):
        _go(kept.obtain(_anything))
    clock.advance(0.001)
    _fill(kept, "a")


def test_an_outage_that_old_values_bridge_is_logged_once_in_a_pause(
    kept: Refreshing[str], clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Operators learn of a failing fetch, and where to look, while there is time, and not from every request."""
    _fill(kept, "a")
    clock.advance(10.0)
    leader = kept.obtain(_anything)
    _go(leader)
    assert _go(leader, DOWN) == _Done("a")
    for _ in range(10):
        assert _go(kept.obtain(_anything)) == _Done("a")
    assert [record.name for record in caplog.records] == ["authsec.verify"]
    assert f"https://issuer.example/it: {DOWN.message} (" in caplog.text
    assert "canary" not in caplog.text


def test_those_who_wait_for_a_failure_each_get_an_error_of_their_own(kept: Refreshing[str]) -> None:
    """One failure wakes all, and none of them fetches again."""
    leader, *followers = [kept.obtain(_anything) for _ in range(5)]
    assert _go(leader) == GET
    waits = [_go(follower) for follower in followers]
    assert all(isinstance(wait, Wait) for wait in waits)
    with pytest.raises(VerificationUnavailableError):
        _go(leader, DOWN)
    errors = []
    for follower in followers:
        with pytest.raises(VerificationUnavailableError) as caught:
            _go(follower, True)
        errors.append(caught.value)
    assert len({id(error) for error in errors}) == len(followers)


def test_an_abandoned_leader_strands_nobody(kept: Refreshing[str]) -> None:
    """When the leader is cancelled, its flight lands and one who waited takes over."""
    leader, first, second = (kept.obtain(_anything) for _ in range(3))
    assert _go(leader) == GET
    wait = _go(first)
    assert isinstance(wait, Wait)
    assert isinstance(_go(second), Wait)
    leader.close()
    assert wait.flight.wait(0.0) is not None
    assert _go(first, True) == GET
    assert isinstance(_go(second, True), Wait)
    assert _go(first, "a") == _Done("a")
    assert _go(second, True) == _Done("a")


def test_a_bug_in_the_leader_strands_nobody(kept: Refreshing[str]) -> None:
    """An error that nobody expected also lands the flight."""
    leader, follower = kept.obtain(_anything), kept.obtain(_anything)
    assert _go(leader) == GET
    assert isinstance(_go(follower), Wait)
    with pytest.raises(ZeroDivisionError):
        _go(leader, ZeroDivisionError())
    assert _go(follower, True) == GET


@pytest.mark.req("RV4")
@pytest.mark.parametrize("end", [GeneratorExit, KeyboardInterrupt, asyncio.CancelledError, ZeroDivisionError])
def test_a_fetch_that_was_broken_off_is_followed_by_a_pause(
    kept: Refreshing[str], clock: FakeClock, end: type[BaseException]
) -> None:
    """However often callers with made-up names are interrupted, they fetch once in a pause, and harm nobody else."""
    _fill(kept, "a")
    clock.advance(1.0)
    leader = kept.obtain(lambda value: _letter("b", value))
    assert _go(leader) == GET
    with pytest.raises(end):
        leader.throw(end())
    clock.advance(4.999)
    with pytest.raises(VerificationUnavailableError, match="try again"):
        _go(kept.obtain(lambda value: _letter("c", value)))
    assert _go(kept.obtain(_anything)) == _Done("a")
    clock.advance(0.001)
    assert _go(kept.obtain(lambda value: _letter("c", value))) == GET


@pytest.mark.req("RV4")
def test_the_pause_of_a_broken_off_fetch_ends_with_the_value(kept: Refreshing[str], clock: FakeClock) -> None:
    """Who is interrupted cannot keep the others from the fetch that they need."""
    _fill(kept, "a")
    clock.advance(19.0)
    leader = kept.obtain(_anything)
    assert _go(leader) == GET
    leader.close()
    assert _go(kept.obtain(_anything)) == _Done("a")
    clock.advance(1.0)
    _fill(kept, "b")


def test_a_leader_that_is_lost_is_replaced(kept: Refreshing[str], clock: FakeClock) -> None:
    """A leader whose thread is gone is given up after `patience`; if it comes back, its older reply changes nothing."""
    lost = kept.obtain(_anything)
    assert _go(lost) == GET
    clock.advance(30.0)
    waiting = kept.obtain(_anything)
    assert isinstance(_go(waiting), Wait)
    clock.advance(0.001)
    assert _go(waiting, True) == GET
    assert _go(waiting, "new") == _Done("new")
    assert _go(lost, "old") == _Done("new")
    assert kept.peek() == "new"


def test_a_leader_that_comes_back_does_not_end_the_flight_of_its_successor(
    kept: Refreshing[str], clock: FakeClock
) -> None:
    """While the successor still fetches, newcomers wait for it and fetch nothing themselves."""
    lost = kept.obtain(_anything)
    assert _go(lost) == GET
    clock.advance(30.001)
    successor = kept.obtain(_anything)
    assert _go(successor) == GET
    assert isinstance(_go(lost, "too old to be used"), Wait)
    assert isinstance(_go(kept.obtain(_anything)), Wait)
    assert _go(successor, "new") == _Done("new")
    assert _go(lost, True) == _Done("new")


def test_who_cannot_wait_fetches_alone(kept: Refreshing[str], clock: FakeClock) -> None:
    """A blocking call on the thread whose own loop is fetching makes a fetch of its own, once nothing else is good."""
    leader, blocked = kept.obtain(_anything), kept.obtain(_anything)
    assert _go(leader) == GET
    assert isinstance(_go(blocked), Wait)
    clock.advance(0.1)
    assert _go(blocked, False) == GET
    assert isinstance(_go(kept.obtain(_anything)), Wait), "others still wait for one of the two"
    assert _go(blocked, "alone") == _Done("alone")
    assert _go(leader, "leader") == _Done("alone")


def test_who_cannot_wait_for_something_new_tries_again_later(kept: Refreshing[str], clock: FakeClock) -> None:
    """With a good value in hand, a second fetch beside the first is not made for what may not exist."""
    _fill(kept, "a")
    clock.advance(1.0)
    leader, blocked = kept.obtain(lambda value: _letter("b", value)), kept.obtain(lambda value: _letter("b", value))
    assert _go(leader) == GET
    assert isinstance(_go(blocked), Wait)
    with pytest.raises(VerificationUnavailableError):
        _go(blocked, False)


def test_absence_is_only_told_by_a_value_that_was_asked_for_later(kept: Refreshing[str], clock: FakeClock) -> None:
    """Only a fetch that began after the question says "not there"; it starts a pause, which a useful one does not."""
    _fill(kept, "a")
    clock.advance(1.0)
    steps = kept.obtain(lambda value: _letter("b", value))
    assert _go(steps) == GET
    assert _go(steps, "ab") == _Done("b")
    clock.advance(1.0)
    steps = kept.obtain(lambda value: _letter("c", value))
    assert _go(steps) == GET
    assert _go(steps, "ab") == _Done(None)
    clock.advance(1.0)
    with pytest.raises(VerificationUnavailableError):
        _go(kept.obtain(lambda value: _letter("d", value)))


def test_a_fetch_that_outlasts_the_value_is_not_repeated(kept: Refreshing[str], clock: FakeClock) -> None:
    """Who fetched uses what came, though it is due again on arrival; what is no longer good on arrival is an outage."""
    steps = kept.obtain(_anything)
    assert _go(steps) == GET
    clock.advance(15.0)
    assert _go(steps, "slow") == _Done("slow")
    clock.advance(5.0)
    steps = kept.obtain(_anything)
    assert _go(steps) == GET
    clock.advance(20.0)
    with pytest.raises(VerificationUnavailableError):
        _go(steps, "too slow")


def test_the_wall_clock_is_not_read(kept: Refreshing[str], clock: FakeClock) -> None:
    """A jump of the calendar neither ends nor prolongs anything."""
    _fill(kept, "a")
    for jump in (10**6, -2 * 10**6):
        clock.jump(jump)
        assert kept.peek() == "a"
    clock.advance(10.0)
    assert kept.peek() is None


def test_a_child_process_forgets_what_its_parents_threads_were_doing(kept: Refreshing[str]) -> None:
    """After a fork nobody waits for a leader that does not exist there, and a held lock is free."""
    leader = kept.obtain(_anything)
    assert _go(leader) == GET
    holder = threading.Thread(target=kept._lock.acquire)
    holder.start()
    holder.join()
    assert not kept._lock.acquire(blocking=False)
    kept.after_fork()
    assert kept._lock.acquire(blocking=False)
    kept._lock.release()
    _fill(kept, "child")
