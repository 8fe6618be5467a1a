"""Any number of callers, one request: threads, tasks and both, over real HTTP; and leaders that fail or vanish."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from core_support import CLIENT_ID, PATIENT, Driver, Joined, ScriptedSource, made_token

from authsec_core import AsyncAuthSecClient, AuthSecClient, AuthSecConfig, DelegationToken, TokenCache
from authsec_core._flight import ABANDONED, LOST, Flight, Landing
from authsec_core._proof import NoProof
from authsec_core.cache import Join, Lead
from authsec_core.errors import AuthorityUnreachableError, AuthSecError, DelegationRefusedError, TokenUnavailableError
from authsec_core.source import AsyncCachingSource, CachingSource, Identity, TokenRequest
from authsec_core.testing import FakeClock, LocalAuthority

pytestmark = pytest.mark.req("RS5")

THREADS, TASKS = 200, 1000
IDENTITY = Identity(base_url="https://authority.test", client_id=CLIENT_ID, proof=NoProof())
READ = TokenRequest.of("read")


class Caller(threading.Thread):
    """One caller on a thread of its own, begun at once."""

    def __init__(self, call: Callable[[], object]) -> None:
        super().__init__(daemon=True)
        self._call = call
        self._outcome: object = None
        self.start()

    def run(self) -> None:
        """Call, and keep what comes of it."""
        try:
            self._outcome = self._call()
        except BaseException as error:  # noqa: BLE001 -- handed to the test
            self._outcome = error

    def outcome(self) -> object:
        """Return what was returned or raised."""
        self.join(PATIENT)
        assert not self.is_alive(), "a caller was left waiting"
        return self._outcome


class Scene:
    """An authority that answers when told to, and two clients of one agent that share a cache."""

    def __init__(self, authority: LocalAuthority, joined: Joined, running: ExitStack) -> None:
        self.authority, self.joined = authority, joined
        self.answer = threading.Event()
        agent = authority.register(["read", "write"])
        config = AuthSecConfig(base_url=authority.base_url, client_id=agent.client_id, retries=0, timeout=60)
        cache = TokenCache()
        self.client = running.enter_context(AuthSecClient(config, token_cache=cache))
        self.async_client = AsyncAuthSecClient(config, token_cache=cache)  # its loops close it as they end

    def hold(self, *, times: int = 1, status: int | None = None) -> None:
        """Let the next replies wait for `answer`."""
        self.authority.fail(times=times, status=status, delay=self.answer)

    async def all_wait(self, count: int) -> None:
        """Wait without blocking the loop until so many callers wait for another; then let the authority answer."""
        await asyncio.to_thread(self.joined.until, count)
        self.answer.set()

    async def tasks(self, count: int) -> list[object]:
        """Call from so many tasks at once."""
        calls = (self.async_client.get_delegation_token("read") for _ in range(count))
        return list(await asyncio.gather(*calls, return_exceptions=True))

    def token(self) -> str:
        """Call from this thread."""
        return self.client.get_delegation_token("read")


@pytest.fixture
def scene(joined: Joined) -> Iterator[Scene]:
    """All is set up and nobody has called yet."""
    with ExitStack() as running:
        scene = Scene(running.enter_context(LocalAuthority()), joined, running)
        running.callback(scene.answer.set)
        yield scene


def _one_token(outcomes: list[object], scene: Scene) -> None:
    assert {type(outcome) for outcome in outcomes} == {str}
    assert len(set(outcomes)) == 1
    assert scene.authority.count("delegation") == 1


# One request for all


def test_threads_make_one_request(scene: Scene) -> None:
    """200 threads that come before the first answer get the one token that was asked for."""
    scene.hold()
    callers = [Caller(scene.token) for _ in range(THREADS)]
    scene.joined.until(THREADS - 1)
    scene.answer.set()
    _one_token([caller.outcome() for caller in callers], scene)


def test_tasks_make_one_request(scene: Scene) -> None:
    """So do 1000 tasks of one loop."""

    async def main() -> list[object]:
        release = asyncio.create_task(scene.all_wait(TASKS - 1))
        outcomes = await scene.tasks(TASKS)
        await release
        return outcomes

    scene.hold()
    _one_token(asyncio.run(main()), scene)


def test_threads_and_tasks_make_one_request(scene: Scene) -> None:
    """200 threads with one client and 1000 tasks with the other, over one shared cache."""
    callers: list[Caller] = []

    async def main() -> list[object]:
        callers.extend(Caller(scene.token) for _ in range(THREADS))
        release = asyncio.create_task(scene.all_wait(THREADS + TASKS - 1))
        outcomes = await scene.tasks(TASKS)
        await release
        return outcomes

    scene.hold()
    outcomes = asyncio.run(main())
    _one_token([*outcomes, *(caller.outcome() for caller in callers)], scene)


def test_loops_on_several_threads_make_one_request(scene: Scene) -> None:
    """One async client serves loops that run at the same time."""
    scene.hold()
    callers = [Caller(lambda: asyncio.run(scene.tasks(50))) for _ in range(4)]
    scene.joined.until(199)
    scene.answer.set()
    outcomes = [one for caller in callers for one in _list(caller.outcome())]
    assert len(outcomes) == 200
    _one_token(outcomes, scene)


def _list(outcome: object) -> list[object]:
    assert isinstance(outcome, list)
    return outcome


def test_other_requests_do_not_wait(scene: Scene) -> None:
    """What is held up is the one request, and nothing else of the same client."""
    scene.hold()
    caller = Caller(scene.token)
    scene.authority.wait_for_requests(1)
    assert scene.client.delegation_token("write").scopes == {"write"}
    assert scene.client.delegation_token("read", ttl=60).scopes == {"read"}
    scene.answer.set()
    assert isinstance(caller.outcome(), str)


@pytest.mark.req("RS6")
def test_a_renewal_holds_nobody_up(joined: Joined, clock: FakeClock) -> None:
    """While one caller renews a STALE token, everyone else goes on with it."""
    with LocalAuthority(clock=clock) as authority:
        agent = authority.register(["read"], ttl=100)
        with AuthSecClient(base_url=authority.base_url, client_id=agent.client_id, clock=clock) as client:
            old = client.get_delegation_token()
            clock.advance(80)
            answer = threading.Event()
            authority.fail(delay=answer)
            leader = Caller(client.get_delegation_token)
            authority.wait_for_requests(2)
            assert [client.get_delegation_token() for _ in range(50)] == [old] * 50
            answer.set()
            assert leader.outcome() == client.get_delegation_token() != old
        assert authority.count("delegation") == 2


# Leaders that fail


@pytest.mark.parametrize(("status", "error"), [(503, AuthorityUnreachableError), (410, DelegationRefusedError)])
def test_one_failure_wakes_all(scene: Scene, status: int, error: type[TokenUnavailableError]) -> None:
    """Each of them gets an error of its own that says the same, and nobody asks again."""
    callers: list[Caller] = []

    async def main() -> list[object]:
        callers.extend(Caller(scene.token) for _ in range(20))
        release = asyncio.create_task(scene.all_wait(119))
        outcomes = await scene.tasks(100)
        await release
        return outcomes

    scene.hold(status=status)
    outcomes = asyncio.run(main())
    outcomes += [caller.outcome() for caller in callers]
    assert {type(outcome) for outcome in outcomes} == {error}
    assert len({id(outcome) for outcome in outcomes}) == 120
    assert len({str(outcome) for outcome in outcomes}) == 1
    assert {vars(outcome).get("status") for outcome in outcomes} == {status if status == 410 else None}
    assert scene.authority.count("delegation") == 1


# Leaders that are cancelled, stopped, or vanish


def test_a_cancelled_leader_strands_nobody(scene: Scene) -> None:
    """A thread, tasks beside it and tasks of another loop all wait; one of them asks, and all get its token."""
    scene.hold()

    async def main() -> list[object]:
        leader = asyncio.create_task(scene.async_client.get_delegation_token("read"))
        await asyncio.to_thread(scene.authority.wait_for_requests, 1)
        thread, loop = Caller(scene.token), Caller(lambda: asyncio.run(scene.tasks(2)))
        beside = asyncio.create_task(scene.tasks(2))
        await asyncio.to_thread(scene.joined.until, 5)
        leader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leader
        outcomes = await beside
        return [*outcomes, await asyncio.to_thread(thread.outcome), *_list(await asyncio.to_thread(loop.outcome))]

    outcomes = asyncio.run(main())
    assert {type(outcome) for outcome in outcomes} == {str}
    assert (len(outcomes), len(set(outcomes))) == (5, 1)
    assert scene.authority.count("delegation") == 2


def test_a_cancelled_waiter_disturbs_nobody(scene: Scene) -> None:
    """The leader goes on, and the others get its token."""
    scene.hold()

    async def main() -> list[object]:
        tasks = [asyncio.create_task(scene.async_client.get_delegation_token("read")) for _ in range(4)]
        await asyncio.to_thread(scene.joined.until, 3)
        tasks[1].cancel()
        with pytest.raises(asyncio.CancelledError):
            await tasks[1]
        scene.answer.set()
        return [await task for task in (tasks[0], tasks[2], tasks[3])]

    _one_token(asyncio.run(main()), scene)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, RuntimeError])
def test_a_leader_that_breaks_strands_nobody(clock: FakeClock, joined: Joined, error: type[BaseException]) -> None:
    """An interrupt on the leader's thread is its own affair: one of the others asks."""
    answer, asked = threading.Event(), threading.Event()

    def first() -> DelegationToken:
        source.answer = lambda: made_token(clock)
        asked.set()
        answer.wait(PATIENT)
        raise error

    source = ScriptedSource(first)
    caching = CachingSource(source, IDENTITY, TokenCache(clock=clock), patience=PATIENT)
    leader = Caller(lambda: caching.token(READ))
    assert asked.wait(PATIENT)
    others = [Caller(lambda: caching.token(READ)) for _ in range(5)]
    joined.until(5)
    answer.set()
    assert type(leader.outcome()) is error
    assert len({id(other.outcome()) for other in others}) == 1
    assert isinstance(others[0].outcome(), DelegationToken)
    assert len(source.asked) == 2


class Hanging(ScriptedSource):
    """Its first token never comes; the others come at once."""

    def __init__(self, clock: FakeClock) -> None:
        super().__init__(lambda: made_token(clock))

    async def atoken(self, request: TokenRequest, *, force: bool = False) -> DelegationToken:
        """Hang, the first time."""
        token = self.token(request)
        if len(self.asked) == 1:
            await asyncio.Event().wait()
        return token


def _stopped(source: AsyncCachingSource) -> tuple[asyncio.AbstractEventLoop, asyncio.Task[DelegationToken]]:
    """Return a loop that was stopped while a task of it led."""
    loop = asyncio.new_event_loop()
    leader = loop.create_task(source.atoken(READ))
    loop.run_until_complete(asyncio.sleep(0))
    return loop, leader


@pytest.mark.filterwarnings("ignore:coroutine 'Event.wait' was never awaited")
def test_a_leader_whose_loop_is_closed_strands_nobody(clock: FakeClock, joined: Joined) -> None:
    """As soon as the interpreter takes its task away, one of those who wait asks."""
    source, cache = Hanging(clock), TokenCache(clock=clock)
    caching = CachingSource(source, IDENTITY, cache, patience=PATIENT)
    loop, leader = _stopped(AsyncCachingSource(source, IDENTITY, cache, patience=PATIENT))
    callers = [Caller(lambda: caching.token(READ)) for _ in range(3)]
    joined.until(3)
    loop.call_exception_handler = lambda context: None  # type: ignore[method-assign] # the task's end is the test
    loop.close()
    del leader, loop
    gc.collect()
    assert len({id(caller.outcome()) for caller in callers}) == 1
    assert isinstance(callers[0].outcome(), DelegationToken)
    assert len(source.asked) == 2


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_leader_whose_loop_was_left_lying_is_lost(clock: FakeClock, joined: Joined, kind: str) -> None:
    """After its patience a caller leads, and those who come later wait for the lost leader no more."""
    source, cache = Hanging(clock), TokenCache(clock=clock)
    waiting = CachingSource(source, IDENTITY, cache, patience=0.02)
    waiting_async = AsyncCachingSource(source, IDENTITY, cache, patience=0.02)
    loop, leader = _stopped(waiting_async)

    def token() -> object:
        call = (lambda: waiting.token(READ)) if kind == "sync" else lambda: asyncio.run(waiting_async.atoken(READ))
        return Caller(call).outcome()  # not on this thread, which is the leader's

    try:
        first = token()
        assert token() is first
        clock.advance(100)
        assert token() is not first
        assert joined.count == 1
    finally:
        leader.cancel()
        loop.run_until_complete(asyncio.gather(leader, return_exceptions=True))
        loop.close()


class Held(ScriptedSource):
    """It answers when told to, and blocks no loop until then."""

    def __init__(self, answer: Callable[[], DelegationToken]) -> None:
        super().__init__(answer)
        self.release = threading.Event()

    def token(self, request: TokenRequest, *, force: bool = False) -> DelegationToken:
        """Wait, then answer."""
        self.asked.append(request)
        assert self.release.wait(PATIENT)
        return self.answer()

    async def atoken(self, request: TokenRequest, *, force: bool = False) -> DelegationToken:
        """Wait, then answer."""
        return await asyncio.to_thread(self.token, request)


class Crowd:
    """200 threads and 1000 tasks that begin to wait for someone's request, over one cache."""

    def __init__(self, source: Held, clock: FakeClock, *, force: bool = False) -> None:
        self.cache = TokenCache(clock=clock)
        lead = self.cache.enter(IDENTITY.key(READ))
        assert isinstance(lead, Lead)
        self.lead = lead
        caching = CachingSource(source, IDENTITY, self.cache, patience=PATIENT)
        caching_async = AsyncCachingSource(source, IDENTITY, self.cache, patience=PATIENT)

        async def tasks() -> list[object]:
            calls = (caching_async.atoken(READ, force=force) for _ in range(TASKS))
            return list(await asyncio.gather(*calls, return_exceptions=True))

        self._threads = [Caller(lambda: caching.token(READ, force=force)) for _ in range(THREADS)]
        self._loop = Caller(lambda: asyncio.run(tasks()))

    def outcomes(self) -> list[object]:
        """Return what each of them got."""
        return [*_list(self._loop.outcome()), *(thread.outcome() for thread in self._threads)]


def test_those_who_lose_a_leader_make_one_request(clock: FakeClock, joined: Joined) -> None:
    """All lose their patience at once; one of them leads, all the others wait for that one, and it was enough."""
    source = Held(lambda: made_token(clock))
    crowd = Crowd(source, clock)
    joined.until(THREADS + TASKS)
    crowd.lead.flight.land(LOST)
    joined.until(2 * (THREADS + TASKS) - 1)
    source.release.set()
    outcomes = crowd.outcomes()
    assert {type(outcome) for outcome in outcomes} == {DelegationToken}
    assert (len({id(outcome) for outcome in outcomes}), len(source.asked)) == (1, 1)


def test_those_who_lose_a_leader_share_a_failure(clock: FakeClock, joined: Joined) -> None:
    """It wakes all of them, and begins a cool-down: who comes next neither waits for the lost leader nor asks."""

    def fail() -> DelegationToken:
        raise AuthorityUnreachableError("down")

    source = Held(fail)
    crowd = Crowd(source, clock)
    joined.until(THREADS + TASKS)
    crowd.lead.flight.land(LOST)
    joined.until(2 * (THREADS + TASKS) - 1)
    source.release.set()
    assert {type(outcome) for outcome in crowd.outcomes()} == {AuthorityUnreachableError}
    with pytest.raises(AuthorityUnreachableError, match="down"):
        crowd.cache.enter(IDENTITY.key(READ))
    assert len(source.asked) == 1


@pytest.mark.parametrize(("landing", "took", "waits"), [(LOST, 10.0, [10, 10, 0]), (ABANDONED, 7.5, [10, 10, 5])])
def test_nobody_waits_for_more_than_twice_the_patience(
    driver: Driver, clock: FakeClock, monkeypatch: pytest.MonkeyPatch, landing: Landing, took: float, waits: list[float]
) -> None:
    """Where one leader after the other fails to come back, a caller gives up, and leaves the last one its chance."""
    source, cache, key = ScriptedSource(lambda: made_token(clock)), TokenCache(clock=clock), IDENTITY.key(READ)
    waited: list[float] = []

    def wait(flight: Flight, timeout: float) -> Landing:
        waited.append(timeout)
        clock.advance(min(timeout, took))
        if timeout < took:
            return LOST
        cache.lose(key, flight)
        assert isinstance(Caller(lambda: cache.enter(key)).outcome(), Lead)  # another caller was quicker
        return landing

    async def wait_async(flight: Flight, timeout: float) -> Landing:
        return wait(flight, timeout)

    monkeypatch.setattr(Flight, "wait", wait)
    monkeypatch.setattr(Flight, "wait_async", wait_async)
    monkeypatch.setattr("core_support.PATIENT", 10.0)
    assert isinstance(cache.enter(key), Lead)
    start = clock.steady()
    caller = Caller(lambda: driver.caching(source, IDENTITY, cache).token(READ))
    assert isinstance(caller.outcome(), AuthorityUnreachableError)
    assert (waited, clock.steady() - start, source.asked) == (waits, 20, [])
    assert isinstance(cache.enter(key), Join)


def test_a_sync_call_on_the_leaders_own_loop_does_not_wait_for_it(scene: Scene) -> None:
    """Waiting would be a deadlock: the leader goes on only when this very thread comes back to its loop."""
    scene.hold()

    async def main() -> tuple[str, str]:
        leader = asyncio.create_task(scene.async_client.get_delegation_token("read"))
        await asyncio.to_thread(scene.authority.wait_for_requests, 1)
        mine = scene.token()
        scene.answer.set()
        return mine, await leader

    mine, theirs = asyncio.run(main())
    assert mine != theirs
    assert scene.authority.count("delegation") == 2


def test_loops_that_block_on_each_others_leaders_come_free(clock: FakeClock, joined: Joined) -> None:
    """Each thread runs a loop with a leader and makes a sync call that waits for the other's: patience ends it."""
    cache, gate = TokenCache(clock=clock), threading.Barrier(2)
    one, other = Hanging(clock), Hanging(clock)
    blocking = CachingSource(ScriptedSource(lambda: made_token(clock)), IDENTITY, cache, patience=0.02)

    def caller(source: Hanging, mine: str, theirs: str) -> object:
        async def main() -> object:
            leading = AsyncCachingSource(source, IDENTITY, cache)
            leader = asyncio.create_task(leading.atoken(TokenRequest.of(mine)))
            await asyncio.sleep(0)
            gate.wait(PATIENT)
            token = blocking.token(TokenRequest.of(theirs))
            gate.wait(PATIENT)  # a leader that ended sooner would be waited for by nobody
            leader.cancel()
            return token

        return asyncio.run(main())

    callers = [Caller(lambda: caller(one, "a", "b")), Caller(lambda: caller(other, "b", "a"))]
    assert {type(caller.outcome()) for caller in callers} == {DelegationToken}
    joined.until(2)


# Callers who insist on a new token


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_forced_caller_takes_no_token_that_was_asked_for_before(scene: Scene, kind: str) -> None:
    """What is in the air may be what it was told to replace: it waits that out, and asks."""
    scene.hold()
    cold = Caller(scene.token)
    scene.authority.wait_for_requests(1)
    if kind == "sync":
        forced = Caller(lambda: scene.client.get_delegation_token("read", force_refresh=True))
    else:
        forced = Caller(lambda: asyncio.run(scene.async_client.get_delegation_token("read", force_refresh=True)))
    scene.joined.until(1)
    assert scene.authority.count("delegation") == 1
    scene.answer.set()
    assert cold.outcome() != forced.outcome()
    assert scene.token() == forced.outcome()
    assert scene.authority.count("delegation") == 2


@pytest.mark.parametrize("landing", ["a token", AuthorityUnreachableError("down"), ABANDONED, LOST])
def test_forced_callers_share_one_request(clock: FakeClock, joined: Joined, landing: Landing | str) -> None:
    """Whatever came of the one that was in the air, the next one is for all of them, also for who wakes up late."""
    source = Held(lambda: made_token(clock, jti="jti-new"))
    crowd = Crowd(source, clock, force=True)
    joined.until(THREADS + TASKS)
    source.release.set()
    if landing == "a token":
        crowd.cache.store(crowd.lead, made_token(clock, jti="jti-old"))
    elif isinstance(landing, AuthSecError):
        crowd.cache.fail(crowd.lead, landing)
    elif landing == ABANDONED:
        crowd.cache.abandon(crowd.lead)
    else:
        crowd.lead.flight.land(LOST)
    outcomes = crowd.outcomes()
    assert {getattr(outcome, "jti", outcome) for outcome in outcomes} == {"jti-new"}
    assert (len({id(outcome) for outcome in outcomes}), len(source.asked)) == (1, 1)
