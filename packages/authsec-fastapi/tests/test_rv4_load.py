"""RV4 through the guard and under load: keys that change, keys that cannot be fetched, and strangers who name no key.

A good token is never called bad, whatever happens to the issuer; a withdrawn key is dropped in time; and a flood of
made-up tokens costs the issuer next to nothing and good callers nothing.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from asgi_support import open_to_callers, status_of
from fastapi import FastAPI
from guard_support import Memory, let_in

from authsec_core import AuthSecError, TokenRejectedError, VerificationUnavailableError
from authsec_core._clock import SYSTEM_CLOCK, Clock
from authsec_core.testing import FakeClock, LocalAuthority, SigningKey
from authsec_fastapi import AuthSecGuard, TrustedIssuer
from authsec_fastapi.authentication import TokenAuthenticator

Ask = Callable[[str], int]


class Guarded:
    """One guard, asked in both ways: over an application by tasks, and by blocking code on threads."""

    def __init__(self, authority: LocalAuthority, clock: Clock = SYSTEM_CLOCK, **terms: Any) -> None:
        self.authority = authority
        trusted = TrustedIssuer(
            issuer=authority.issuer, audience="authsec-api", **{"revocation": "when-present", **terms}
        )
        guard = AuthSecGuard(issuers=[trusted], sink=Memory(), clock=clock)
        authenticator = guard.judge._authenticator
        assert isinstance(authenticator, TokenAuthenticator)
        self._authenticator = authenticator
        self.app: FastAPI = open_to_callers(guard)

    def blocking(self, token: str) -> int:
        """Return what a blocking look at the token comes to, as the status that it would be."""
        try:
            self._authenticator.authenticate(token)
        except TokenRejectedError:
            return 401
        except VerificationUnavailableError:
            return 503
        except AuthSecError:
            return 500
        return 200

    async def over_http(self, token: str) -> int:
        return await status_of(self.app, f"Bearer {token}".encode())

    def asynchronous(self, token: str) -> int:
        return asyncio.run(self.over_http(token))


@pytest.fixture(params=["blocking", "over HTTP"])
def way(request: pytest.FixtureRequest) -> Callable[[Guarded], Ask]:
    """How a guard is asked."""
    return lambda guarded: guarded.blocking if request.param == "blocking" else guarded.asynchronous


@pytest.fixture
def clock() -> FakeClock:
    """A clock that stands still."""
    return FakeClock(wall=SYSTEM_CLOCK.wall())


@pytest.fixture
def authority(clock: FakeClock) -> Iterator[LocalAuthority]:
    """A healthy authority that goes by that clock."""
    with LocalAuthority(clock=clock) as authority:
        yield authority


def bare(authority: LocalAuthority, **given: Any) -> str:
    """Return a good token that is in no status list, so that only keys matter; it is good for an hour."""
    return authority.mint(omit=("status",), exp=2**35, **given)


# --- rotation ---


@pytest.mark.req("RV4")
@pytest.mark.parametrize("withdraw_old", [False, True], ids=["old keys stay", "old keys go"])
def test_while_keys_rotate_no_good_token_is_called_bad(withdraw_old: bool) -> None:
    """Threads and tasks with tokens of the newest key, through ten rotations: never 401, and 200 in the end.

    A token whose key is withdrawn while it is looked at may be refused: then it is not good any more.
    """
    with LocalAuthority() as authority:
        guarded = Guarded(authority, revocation="required", cooldown=0.05)
        done, answers, false = threading.Event(), Counter[int](), []

        def judged(key: SigningKey, status: int) -> None:
            answers[status] += 1
            if status not in (200, 503) and (not withdraw_old or authority.signing_key is key):
                false.append(status)

        def on_a_thread() -> None:
            while not done.is_set():
                key = authority.signing_key
                judged(key, guarded.blocking(authority.mint(key=key)))

        async def in_tasks() -> None:
            async def one() -> None:
                while not done.is_set():
                    key = authority.signing_key
                    judged(key, await guarded.over_http(authority.mint(key=key)))

            await asyncio.gather(*(one() for _ in range(8)))

        callers = [threading.Thread(target=on_a_thread) for _ in range(4)]
        callers.append(threading.Thread(target=lambda: asyncio.run(in_tasks())))
        for caller in callers:
            caller.start()
        try:
            for _ in range(10):
                seen = answers[200]
                authority.rotate_key(withdraw_old=withdraw_old)
                _until(lambda seen=seen: answers[200] > seen + 20)  # type: ignore[misc]  # mypy loses the default
        finally:
            done.set()
            for caller in callers:
                caller.join()
        assert false == []
        assert answers[200] > 200
        assert guarded.blocking(authority.mint()) == 200


@pytest.mark.req("RV4")
def test_a_withdrawn_key_is_refused_within_the_promised_seconds(
    authority: LocalAuthority, clock: FakeClock, way: Callable[[Guarded], Ask]
) -> None:
    """At the latest `jwks_refresh` seconds after it was withdrawn, also where the token is known already."""
    guarded = Guarded(authority, clock, jwks_refresh=60.0, remember=16)
    ask, token = way(guarded), bare(authority)
    clock.advance(1.0)
    assert ask(token) == 200
    authority.rotate_key(withdraw_old=True)
    newest = bare(authority)
    clock.advance(60.0)
    assert ask(token) == 401
    assert ask(token) == 401
    assert ask(newest) == 200


@pytest.mark.req("RV4")
def test_a_withdrawn_key_is_refused_in_time_by_the_real_clock() -> None:
    """With a second instead of five minutes: no request that begins later than that is let in."""
    with LocalAuthority() as authority:
        guarded = Guarded(authority, jwks_refresh=1.0, jwks_max_age=10.0, remember=16)
        token = bare(authority)
        assert guarded.blocking(token) == 200
        authority.rotate_key(withdraw_old=True)
        withdrawn_at = SYSTEM_CLOCK.steady()
        let_in: list[float] = []

        def refused() -> bool:
            began_at = SYSTEM_CLOCK.steady() - withdrawn_at
            status = guarded.asynchronous(token)
            let_in.extend([began_at] if status == 200 else [])
            return status == 401

        _until(refused)
        assert max(let_in, default=0.0) <= 1.0


# --- outages ---


def _refuse(authority: LocalAuthority) -> None:
    authority.close()


def _hang(authority: LocalAuthority) -> None:
    authority.fail(where="jwks", delay=threading.Event())  # closing the authority ends the wait


def _error(authority: LocalAuthority) -> None:
    authority.fail(where="jwks", status=500)


def _garbage(authority: LocalAuthority) -> None:
    authority.fail(where="jwks", garbage=b"<html>sign in</html>")


def _weak(authority: LocalAuthority) -> None:
    authority.fail(where="jwks", alter=lambda jwks: {"keys": [{**key, "n": "AQAB"} for key in jwks["keys"]]})


def _cut(authority: LocalAuthority) -> None:
    authority.fail(where="jwks", cut="body")


def _huge(authority: LocalAuthority) -> None:
    authority.fail(where="jwks", alter=lambda jwks: {**jwks, "pad": "x" * 100_000})


def _timeout(broken: Callable[[LocalAuthority], None]) -> float:
    """Return how long a guard waits for keys: short only where that time has to pass."""
    return 0.2 if broken is _hang else 30.0


@pytest.mark.req("RV4")
@pytest.mark.parametrize("broken", [_refuse, _hang, _error, _garbage, _weak, _cut, _huge])
def test_while_keys_cannot_be_fetched_the_last_good_ones_serve_up_to_their_limit(
    authority: LocalAuthority,
    clock: FakeClock,
    way: Callable[[Guarded], Ask],
    broken: Callable[[LocalAuthority], None],
) -> None:
    """200 until `jwks_max_age`, then 503, never 401; a forged token is refused all the while, and it ends by itself."""
    guarded = Guarded(authority, clock, jwks_refresh=60.0, jwks_max_age=300.0, timeout=_timeout(broken))
    ask, token, forged = way(guarded), bare(authority), bare(authority, key=_stranger(authority))
    let_in(ask, token, lambda: clock.advance(5.0))
    broken(authority)
    for _ in range(9):
        clock.advance(33.0)
        assert ask(token) == 200
        assert ask(forged) == 401
    clock.advance(3.0)
    for _ in range(3):
        assert ask(token) == 503
        clock.advance(1.0)
    authority.start() if broken is _refuse else authority.recover()
    clock.advance(5.0)
    let_in(ask, token, lambda: clock.advance(5.0))


@pytest.mark.req("RV4")
@pytest.mark.parametrize("broken", [_refuse, _hang, _error, _garbage])
def test_a_guard_that_never_had_keys_cannot_tell(
    authority: LocalAuthority,
    clock: FakeClock,
    way: Callable[[Guarded], Ask],
    broken: Callable[[LocalAuthority], None],
) -> None:
    """Started during the outage: 503, and 200 once it is over."""
    guarded = Guarded(authority, clock, timeout=_timeout(broken))
    ask, token = way(guarded), bare(authority)
    broken(authority)
    assert ask(token) == 503
    assert ask("a.b.c") == 401
    authority.start() if broken is _refuse else authority.recover()
    clock.advance(5.0)
    let_in(ask, token, lambda: clock.advance(5.0))


@pytest.mark.req("RV4")
def test_an_outage_under_load_is_not_noticed_by_good_callers() -> None:
    """Threads and tasks with good tokens while the issuer's keys cannot be fetched, again and again: only 200."""
    clock = FakeClock(wall=SYSTEM_CLOCK.wall())  # by a real one, keys that come late on a busy machine are old already
    with LocalAuthority(clock=clock) as authority:
        guarded = Guarded(authority, clock, jwks_refresh=60.0, jwks_max_age=86_400.0, cooldown=5.0, timeout=30.0)
        token = bare(authority)
        assert guarded.blocking(token) == 200
        done, answers = threading.Event(), Counter[int]()

        def on_a_thread() -> None:
            while not done.is_set():
                answers[guarded.blocking(token)] += 1

        async def in_tasks() -> None:
            async def one() -> None:
                while not done.is_set():
                    answers[await guarded.over_http(token)] += 1

            await asyncio.gather(*(one() for _ in range(8)))

        def answered(enough: int) -> bool:
            return answers[200] > enough or answers.keys() > {200}

        def time_passes_until_keys_were_asked_for(times: int) -> None:
            until = authority.count("jwks") + times
            while authority.count("jwks") < until:
                _until(partial(answered, answers[200] + 20))
                assert answers.keys() == {200}
                clock.advance(20.0)

        callers = [threading.Thread(target=on_a_thread) for _ in range(3)]
        callers.append(threading.Thread(target=lambda: asyncio.run(in_tasks())))
        for caller in callers:
            caller.start()
        try:
            for broken in (_error, _garbage, _cut, _huge):
                broken(authority)
                time_passes_until_keys_were_asked_for(3)
                authority.recover()
                time_passes_until_keys_were_asked_for(1)
        finally:
            done.set()
            for caller in callers:
                caller.join()
        assert set(answers) == {200}


# --- strangers ---


@pytest.mark.req("RV4")
def test_a_flood_of_made_up_key_ids_costs_one_fetch_and_harms_nobody(
    authority: LocalAuthority, clock: FakeClock
) -> None:
    """From threads and tasks at once: one fetch in a cooldown, and every good token between them is let in."""
    guarded = Guarded(authority, clock, cooldown=5.0)
    good, stranger = bare(authority), _stranger(authority)
    assert guarded.blocking(good) == 200
    clock.advance(1.0)
    made_up = [bare(authority, key=stranger, header={"kid": f"made-up-{number}"}) for number in range(60)]
    answers: Counter[tuple[str, int]] = Counter()

    def on_a_thread() -> None:
        for token in made_up[:30]:
            clock.advance(0.001)  # or all of them would have asked at the moment of the one fetch
            answers["made up", guarded.blocking(token)] += 1
            answers["good", guarded.blocking(good)] += 1

    async def one(token: str) -> None:
        clock.advance(0.001)
        answers["made up", await guarded.over_http(token)] += 1
        answers["good", await guarded.over_http(good)] += 1

    async def in_tasks() -> None:
        await asyncio.gather(*map(one, made_up[30:]))

    callers = [threading.Thread(target=on_a_thread) for _ in range(3)]
    callers.append(threading.Thread(target=lambda: asyncio.run(in_tasks())))
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert authority.count("jwks") == 2
    assert {kind: status for kind, status in answers if kind == "good"} == {"good": 200}
    assert {status for kind, status in answers if kind == "made up"} <= {401, 503}
    assert answers["good", 200] == 120
    clock.advance(5.0)
    for token in made_up[:5]:
        guarded.blocking(token)
    assert authority.count("jwks") == 3


@pytest.mark.req("RV4")
def test_strangers_who_name_another_issuer_cost_nothing(authority: LocalAuthority, clock: FakeClock) -> None:
    """Tokens that do not even claim to be from the issuer cause no fetch at all, whatever key they name."""
    guarded = Guarded(authority, clock)
    for number in range(20):
        token = bare(authority, iss="https://another.example", header={"kid": f"made-up-{number}"})
        assert guarded.blocking(token) == guarded.asynchronous(token) == 401
    assert authority.count("jwks") == 0


def _stranger(authority: LocalAuthority) -> SigningKey:
    """Return a key that has the name of the issuer's own."""
    made = SigningKey.generate()
    return SigningKey(private=made.private, kid=authority.signing_key.kid, jwk=made.jwk)


def _until(condition: Callable[[], bool], *, seconds: float = 60.0) -> None:
    """Ask until it is so."""
    until = SYSTEM_CLOCK.steady() + seconds
    tick = threading.Event()
    while not condition():
        assert SYSTEM_CLOCK.steady() < until, "it did not come about"
        tick.wait(0.001)  # so that the others get a turn
