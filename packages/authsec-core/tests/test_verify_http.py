from __future__ import annotations

import asyncio
import gc
import logging
import random  # noqa: TID251  # seeded
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from authsec_core.errors import RevokedTokenError, TokenRejectedError, VerificationUnavailableError
from authsec_core.testing import FakeClock, LocalAuthority, loopback_certificate
from authsec_core.testing._signing import SigningKey
from authsec_core.verify import TokenVerifier, VerifiedToken

AUDIENCE = "authsec-api"

Verify = Callable[[TokenVerifier, str], VerifiedToken]


@pytest.fixture(params=["sync", "async"])
def verify(request: pytest.FixtureRequest) -> Verify:
    """Verify a token blocking, or on a loop of its own."""
    if request.param == "sync":
        return lambda verifier, token: verifier.verify(token)
    return lambda verifier, token: asyncio.run(verifier.averify(token))


@pytest.fixture
def clock() -> FakeClock:
    """A clock that stands still; the authority goes by it too."""
    return FakeClock()


@pytest.fixture
def authority(clock: FakeClock) -> Iterator[LocalAuthority]:
    """A loopback authority."""
    with LocalAuthority(clock=clock) as running:
        yield running


@pytest.fixture
def make(authority: LocalAuthority, clock: FakeClock) -> Callable[..., TokenVerifier]:
    """A function that makes a verifier of the authority's tokens."""

    def verifier(**changes: Any) -> TokenVerifier:
        usual = {"issuer": authority.issuer, "audience": AUDIENCE, "jwks_url": authority.jwks_url, "clock": clock}
        return TokenVerifier(**{**usual, "timeout": 30.0, **changes})

    return verifier


def _asked(authority: LocalAuthority) -> tuple[int, int]:
    return authority.count("jwks"), authority.count("statuslist")


# --- good and bad servers ---


@pytest.mark.req("RV9")
def test_tokens_are_verified_and_revoked_over_http(
    authority: LocalAuthority, clock: FakeClock, make: Callable[..., TokenVerifier], verify: Verify
) -> None:
    """Real sockets, keys and lists: a token and an agent are revoked and refused within the promised seconds."""
    verifier, agent = make(revocation_max_age=20.0), authority.register(["read:metrics"])
    single, first, second = authority.mint(), authority.mint(agent), authority.mint(agent)
    jtis = [verify(verifier, text).jti for text in (single, first, second)]
    authority.revoke(str(jtis[0]))
    authority.revoke_agent(agent.client_id)
    clock.advance(20.0)
    for text in (single, first, second):
        with pytest.raises(RevokedTokenError):
            verify(verifier, text)
    assert verify(verifier, authority.mint()).covers("read:metrics")


@pytest.mark.req("RV9")
def test_every_replica_refuses_a_revoked_token(
    authority: LocalAuthority, clock: FakeClock, make: Callable[..., TokenVerifier], verify: Verify
) -> None:
    """Several verifiers that started at different times all refuse it within the same promise."""
    agent = authority.register(["read:metrics"])
    text, replicas = authority.mint(agent), [make(revocation_max_age=20.0) for _ in range(3)]
    for replica in replicas:
        verify(replica, text)
        clock.advance(6.0)
    authority.revoke_agent(agent.client_id)
    clock.advance(20.0)
    for replica in replicas:
        with pytest.raises(RevokedTokenError):
            verify(replica, text)


@pytest.mark.req("RV4")
@pytest.mark.parametrize(
    "failure", [{"cut": "start"}, {"cut": "body"}, {"status": 500}, {"garbage": b"<html>"}, {"raw": b"\0\1\2"}], ids=str
)
@pytest.mark.parametrize("where", ["jwks", "statuslist"])
def test_an_endpoint_that_fails_on_the_wire_is_unavailable(
    authority: LocalAuthority,
    clock: FakeClock,
    make: Callable[..., TokenVerifier],
    verify: Verify,
    where: Any,
    failure: dict[str, Any],
) -> None:
    """Cut connections, errors and garbage from a real server: unavailable, and fine once it works again."""
    verifier, text = make(), authority.mint()
    authority.fail(where=where, **failure)
    with pytest.raises(VerificationUnavailableError):
        verify(verifier, text)
    authority.recover()
    clock.advance(5.0)
    assert verify(verifier, text).covers("read:metrics")


@pytest.mark.req("RV4")
def test_a_server_that_does_not_answer_is_given_up(
    authority: LocalAuthority, make: Callable[..., TokenVerifier], verify: Verify
) -> None:
    """A reply that never comes costs `timeout` seconds."""
    never = threading.Event()
    authority.fail(where="jwks", delay=never)
    with pytest.raises(VerificationUnavailableError, match="timeout"):
        verify(make(timeout=0.05), authority.mint())
    never.set()


@pytest.mark.req("RV4")
def test_a_redirect_is_not_followed(
    authority: LocalAuthority, make: Callable[..., TokenVerifier], verify: Verify
) -> None:
    """Not even to the same server."""
    authority.fail(where="jwks", status=302, headers={"Location": authority.jwks_url}, times=1)
    with pytest.raises(VerificationUnavailableError, match="302"):
        verify(make(), authority.mint())
    assert _asked(authority) == (1, 0)


@pytest.mark.req("RS3")
def test_a_server_that_nobody_vouches_for_is_not_believed(tmp_path: Path, verify: Verify) -> None:
    """TLS is verified: without its authority's certificate a server's keys cannot be had; with it they can."""
    certificate = loopback_certificate(tmp_path)
    with LocalAuthority(certificate=certificate) as authority:
        place: dict[str, Any] = {"issuer": authority.issuer, "audience": AUDIENCE, "jwks_url": authority.jwks_url}
        with pytest.raises(VerificationUnavailableError, match="tls"):
            verify(TokenVerifier(**place), authority.mint())
        assert verify(TokenVerifier(**place, ca_file=certificate.ca_file), authority.mint()).covers("read:metrics")


# --- threads and loops ---


@pytest.mark.req("RV4")
def test_many_threads_cold_make_one_fetch(authority: LocalAuthority, make: Callable[..., TokenVerifier]) -> None:
    """Fifty threads that start with nothing share one fetch of the keys and one of the list."""
    verifier, text, everyone = make(), authority.mint(jti="one"), threading.Barrier(50)

    def one() -> VerifiedToken:
        everyone.wait(20)
        return verifier.verify(text)

    with ThreadPoolExecutor(50) as pool:
        tokens = [future.result(20) for future in [pool.submit(one) for _ in range(50)]]
    assert {token.jti for token in tokens} == {"one"}
    assert _asked(authority) == (1, 1)


@pytest.mark.req("RV4")
def test_many_tasks_cold_make_one_fetch_and_a_cancelled_leader_strands_nobody(
    authority: LocalAuthority, make: Callable[..., TokenVerifier]
) -> None:
    """A hundred tasks share one fetch; it goes on for the others when the one that began it is cancelled."""
    verifier, text, answer = make(), authority.mint(), threading.Event()
    authority.fail(where="jwks", delay=answer, times=1)

    async def scene() -> list[VerifiedToken | BaseException]:
        tasks = [asyncio.create_task(verifier.averify(text)) for _ in range(100)]
        await asyncio.to_thread(authority.wait_for_requests, 1, where="jwks")
        assert _asked(authority) == (1, 0)
        tasks[0].cancel()
        await asyncio.wait(tasks[:1])
        assert not answer.is_set(), "the cancelled one waits for nothing"
        answer.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    cancelled, *others = asyncio.run(scene())
    assert isinstance(cancelled, asyncio.CancelledError)
    assert all(isinstance(result, VerifiedToken) for result in others)
    assert _asked(authority) == (1, 1)


@pytest.mark.req("RV4")
@pytest.mark.parametrize("cold", [True, False])
def test_callers_that_hang_up_cause_one_fetch_in_a_pause(
    authority: LocalAuthority, clock: FakeClock, make: Callable[..., TokenVerifier], cold: bool
) -> None:
    """Fifty calls with made-up key ids, each cancelled on its way, share one fetch, and its pause holds after it."""
    verifier, text, answer = make(), authority.mint(), threading.Event()
    if not cold:
        verifier.verify(text)
        clock.advance(1.0)
    before = authority.count("jwks")
    authority.fail(where="jwks", delay=answer)

    async def scene() -> None:
        for number in range(50):
            call = asyncio.create_task(verifier.averify(authority.mint(header={"kid": f"made-up-{number}"})))
            if number == 0:
                await asyncio.to_thread(authority.wait_for_requests, before + 1, where="jwks")
            for _ in range(5):
                await asyncio.sleep(0)
            call.cancel()
            assert isinstance((await asyncio.gather(call, return_exceptions=True))[0], asyncio.CancelledError)
        waiting = asyncio.create_task(verifier.averify(text))
        await asyncio.sleep(0)
        answer.set()
        assert (await waiting).covers("read:metrics")
        await asyncio.gather(*verifier._fetcher._tasks, return_exceptions=True)
        clock.advance(1.0)
        with pytest.raises(VerificationUnavailableError, match="try again"):
            await verifier.averify(authority.mint(header={"kid": "made-up"}))

    asyncio.run(scene())
    assert authority.count("jwks") == before + 1
    assert not verifier._fetcher._tasks


@pytest.mark.req("RV4")
def test_a_fetch_that_fails_after_its_caller_hung_up_is_nobodys_surprise(
    authority: LocalAuthority, make: Callable[..., TokenVerifier], caplog: pytest.LogCaptureFixture
) -> None:
    """The failure starts the pause and is logged once; asyncio has nothing to complain of."""
    verifier, answer, complaints = make(), threading.Event(), []
    authority.fail(where="jwks", delay=answer, garbage=b"<html>")

    async def scene() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        call = asyncio.create_task(verifier.averify(authority.mint()))
        await asyncio.to_thread(authority.wait_for_requests, 1, where="jwks")
        call.cancel()
        await asyncio.wait([call])
        (fetching,) = verifier._fetcher._tasks
        answer.set()
        await asyncio.wait([fetching])
        del fetching
        gc.collect()
        with pytest.raises(VerificationUnavailableError, match="try again"):
            await verifier.averify(authority.mint())

    asyncio.run(scene())
    assert complaints == []
    assert [record.name for record in caplog.records if record.levelno >= logging.WARNING] == ["authsec.verify"]
    assert authority.count("jwks") == 1


@pytest.mark.req("RV4")
@pytest.mark.parametrize("begun", [True, False])
def test_a_loop_that_is_shut_down_strands_nobody(
    authority: LocalAuthority, make: Callable[..., TokenVerifier], begun: bool
) -> None:
    """A fetch ends with its loop, whether it had begun or not, and the next caller fetches at once."""
    verifier, text, answer = make(), authority.mint(), threading.Event()
    if begun:
        authority.fail(where="jwks", delay=answer, times=1)

    async def scene() -> None:
        call = asyncio.create_task(verifier.averify(text))
        await asyncio.sleep(0)
        if begun:
            await asyncio.to_thread(authority.wait_for_requests, 1, where="jwks")
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await asyncio.wait([call])

    asyncio.run(scene())
    assert verifier.verify(text).covers("read:metrics")
    assert authority.count("jwks") == 1 + begun
    answer.set()


@pytest.mark.req("RV4")
def test_a_loop_waits_for_a_threads_fetch_without_blocking(
    authority: LocalAuthority, make: Callable[..., TokenVerifier]
) -> None:
    """Threads and tasks share one flight: a task uses what a thread fetches, and its loop goes on meanwhile."""
    verifier, text, answer = make(), authority.mint(), threading.Event()
    authority.fail(where="jwks", delay=answer, times=1)

    async def scene() -> VerifiedToken:
        task = asyncio.create_task(verifier.averify(text))
        for _ in range(10):
            await asyncio.sleep(0)
        assert not task.done()
        answer.set()
        return await task

    with ThreadPoolExecutor(1) as pool:
        thread = pool.submit(verifier.verify, text)
        authority.wait_for_requests(1, where="jwks")
        assert asyncio.run(scene()) == thread.result(10)
    assert _asked(authority) == (1, 1)


@pytest.mark.req("RV4")
def test_a_blocking_call_on_the_thread_of_the_fetching_loop_does_not_deadlock(
    authority: LocalAuthority, make: Callable[..., TokenVerifier]
) -> None:
    """While a task of this loop fetches, a blocking `verify` on the same thread makes a fetch of its own."""
    verifier, text, answer = make(), authority.mint(), threading.Event()
    authority.fail(where="jwks", delay=answer, times=1)

    async def scene() -> None:
        task = asyncio.create_task(verifier.averify(text))
        await asyncio.to_thread(authority.wait_for_requests, 1, where="jwks")
        token = verifier.verify(text)
        answer.set()
        assert await task == token

    asyncio.run(scene())
    assert authority.count("jwks") == 2


@pytest.mark.req("RV4")
def test_one_verifier_works_across_successive_loops(
    authority: LocalAuthority, clock: FakeClock, make: Callable[..., TokenVerifier]
) -> None:
    """Nothing of a loop that is gone is used again."""
    verifier = make()
    for _ in range(3):
        assert asyncio.run(verifier.averify(authority.mint())).covers("read:metrics")
        clock.advance(301.0)
    assert _asked(authority) == (3, 3)


@pytest.mark.req("RV4")
def test_known_keys_never_wait_for_a_strangers_fetch(
    authority: LocalAuthority, clock: FakeClock, make: Callable[..., TokenVerifier]
) -> None:
    """While the fetch for a made-up key id hangs, tokens with known keys are verified at once."""
    verifier, text, answer = make(), authority.mint(), threading.Event()
    verifier.verify(text)
    clock.advance(0.5)
    authority.fail(where="jwks", delay=answer, times=1)
    with ThreadPoolExecutor(1) as pool:
        stranger = pool.submit(verifier.verify, authority.mint(key=SigningKey.generate()))
        authority.wait_for_requests(2, where="jwks")
        for _ in range(100):
            verifier.verify(text)
        assert not stranger.done()
        answer.set()
        with pytest.raises(TokenRejectedError):
            stranger.result(10)


@pytest.mark.req("RV4")
def test_rotation_under_load_refuses_no_good_token() -> None:
    """Threads verify while keys are published and used at once: no good token is ever called bad."""
    with LocalAuthority() as authority:
        agent = authority.register(["read:metrics"])
        verifier = TokenVerifier(issuer=authority.issuer, audience=AUDIENCE, jwks_url=authority.jwks_url, cooldown=0.05)
        good, stop, refused = [authority.mint(agent)], threading.Event(), []

        def load(seed: int) -> int:
            choose, verified = random.Random(seed), 0  # noqa: S311  # which token comes next is no secret
            while not stop.is_set():
                try:
                    verifier.verify(choose.choice(good))
                    verified += 1
                except VerificationUnavailableError:
                    continue
                except TokenRejectedError as exc:
                    refused.append(exc)
            return verified

        with ThreadPoolExecutor(4) as pool:
            loads = [pool.submit(load, seed) for seed in range(4)]
            try:
                for _ in range(4):
                    authority.rotate_key()
                    good.append(authority.mint(agent))
                    assert _verified_in_the_end(verifier, good[-1])
            finally:
                stop.set()
            assert all(future.result(20) > 0 for future in loads)
    assert refused == []


def _verified_in_the_end(verifier: TokenVerifier, text: str) -> bool:
    for _ in range(100_000):
        try:
            return verifier.verify(text).covers("read:metrics")
        except VerificationUnavailableError:
            continue
    return False
