"""Events in the authority's audit: what is sent, when it is sent again, what is refused, and that no key is shown."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import pickle
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import pytest
from guard_support import Issuer, bearer, behind

from authsec_core import ConfigurationError
from authsec_core.testing import FakeClock, LoopbackServer, Raw, Reply, Request, assert_no_secret
from authsec_fastapi import AuditEvent, AuditSink, AuditUnavailableError, AuthoritySink
from authsec_fastapi import authority_sink as module
from authsec_fastapi._grouping import Grouped, Patience
from authsec_fastapi.testing import AuditSinkContract
from authsec_server.testing import RunningAuthority

CLIENT_ID = "ce608d83-40df-4bcf-93ae-f0bf0552589c"
KEY = "agk_0123456789abcdef.cccccccccccccccccccccccccccccccccccccccccccc"
PATH = "/authsec/uflow/sdk/audit-events"


@dataclass
class Stub:
    """An authority's place: it keeps what it is sent, once for each id, unless it is told what to answer."""

    events: dict[str, dict[str, Any]] = field(default_factory=dict)
    answers: list[Reply | Raw | None] = field(default_factory=list)
    always: Reply | Raw | None = None
    refuses: set[str] = field(default_factory=set)
    hold: threading.Event | None = None
    sizes: list[int] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __call__(self, request: Request) -> Reply | Raw:
        assert (request.method, request.path) == ("POST", PATH)
        assert request.headers["authorization"] == f"Bearer {KEY}"
        assert request.headers["x-client-id"] == CLIENT_ID
        sent = request.json()["events"]
        with self.lock:
            self.sizes.append(len(sent))
            told = self.answers.pop(0) if self.answers else self.always
        if self.hold is not None:
            self.hold.wait(30)
        if told is not None:
            return told
        if any(one.get("subject") in self.refuses for one in sent):
            return Reply.of_json({"error": "wrong"}, status=400)
        with self.lock:
            new = [one for one in sent if one["id"] not in self.events]
            self.events |= {one["id"]: one for one in new}
        return Reply.of_json({"recorded": len(new)}, status=201)


def event(**said: Any) -> AuditEvent:
    """Return an event."""
    return AuditEvent(**{"event": "request", "outcome": "allow", "reason": "allowed", "at": 1_800_000_000.25, **said})


def sink_at(server: LoopbackServer, **given: Any) -> AuthoritySink:
    """Return a sink that reports there."""
    return AuthoritySink(base_url=server.base_url, client_id=CLIENT_ID, agent_key=KEY, **given)


@pytest.fixture(autouse=True)
def _nothing_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BASE_URL", "AGENT_CLIENT_ID", "AGENT_KEY", "MODE", "ENV_FILE"):
        monkeypatch.delenv(f"AUTHSEC_{name}", raising=False)


@pytest.fixture
def stub() -> Stub:
    """What answers."""
    return Stub()


@pytest.fixture
def server(stub: Stub) -> Iterator[LoopbackServer]:
    """Where it does."""
    with LoopbackServer(stub) as running:
        yield running


@pytest.fixture
def sink(server: LoopbackServer) -> Iterator[AuthoritySink]:
    """A sink that reports there, and waits for nothing."""
    made = sink_at(server, clock=FakeClock())
    yield made
    made.close()


@pytest.mark.req("RU1")
class TestAuthoritySink(AuditSinkContract):
    """It keeps the promise of all sinks."""

    @pytest.fixture
    def sink(self, server: LoopbackServer) -> Iterator[AuditSink]:
        made = sink_at(server, clock=FakeClock())
        yield made
        made.close()

    @pytest.fixture
    def recorded(self, stub: Stub) -> Callable[[], Sequence[Mapping[str, Any]]]:
        return lambda: list(stub.events.values())

    @pytest.fixture
    def outage(self, stub: Stub) -> Callable[[], AbstractContextManager[object]]:
        @contextmanager
        def away() -> Iterator[None]:
            stub.always = Reply(status=503)
            yield
            stub.always = None

        return away


def test_what_is_sent_is_the_event_in_the_authoritys_words(stub: Stub, sink: AuthoritySink) -> None:
    """The instant is text, and the reason a code, whatever it was."""
    one = event(subject="ada", reason="Was anders\n", needed=("read:a",), duration=1.5)
    sink.record(one)
    assert stub.events[one.id] == {
        "id": one.id,
        "event": "request",
        "outcome": "allow",
        "reason": "Was_anders_",
        "at": "2027-01-15T08:00:00.250+00:00",
        "subject": "ada",
        "needed": ["read:a"],
        "duration": 1.5,
    }


def test_who_waits_meanwhile_goes_together(stub: Stub, server: LoopbackServer) -> None:
    """While a request is out all others wait for the next one, threads and tasks alike; it has 100 at most."""
    sink, stub.hold = sink_at(server), threading.Event()

    async def put() -> None:
        first = asyncio.create_task(sink.arecord(event()))
        await asyncio.to_thread(server.wait_for_requests, 1)
        rest = [asyncio.create_task(sink.arecord(event())) for _ in range(150)]
        await asyncio.sleep(0)
        assert stub.hold is not None
        stub.hold.set()
        await asyncio.gather(first, *rest)

    asyncio.run(put())
    assert stub.sizes == [1, 100, 50]
    sink.close()


STRANGER: dict[str, Any] = {"outcome": "deny", "reason": "token_missing"}
LONG = 120.0  # seconds: no test waits so long that goes well, and one that fails ends all the same


def _until(condition: Callable[[], bool]) -> None:
    waited = threading.Event()
    for _ in range(int(LONG / 0.01)):
        if condition():
            return
        waited.wait(0.01)
    raise AssertionError("it did not happen")


def test_strangers_alone_cause_few_requests(
    stub: Stub, server: LoopbackServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After some of them, one in a while; a caller who has proven something takes along who waits, and never waits."""
    monkeypatch.setattr(module, "_STRANGERS", Patience(pause=LONG, burst=2))
    sink = sink_at(server, clock=FakeClock(), timeout=60.0)
    for _ in range(3):
        sink.record(event(**STRANGER))
    assert stub.sizes == [1, 1, 1]
    waiting = [threading.Thread(target=sink.record, args=[event(**STRANGER)]) for _ in range(4)]
    for thread in waiting:
        thread.start()
    _until(lambda: len(sink._grouped._patient) == 4)
    sink.record(event(outcome="deny", reason="insufficient_scope", subject="ada"))
    for thread in waiting:
        thread.join()
    assert stub.sizes == [1, 1, 1, 5]
    assert [one.get("subject") for one in stub.events.values()][3] == "ada"
    sink.close()


def test_strangers_wait_no_longer_than_the_pause(
    stub: Stub, server: LoopbackServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody else has to come along: what they were denied is on record all the same."""
    monkeypatch.setattr(module, "_STRANGERS", Patience(pause=0.05, burst=1))
    sink = sink_at(server, timeout=60.0)
    for _ in range(5):
        sink.record(event(**STRANGER))
    assert len(stub.events) == 5
    sink.close()


def test_a_flood_of_strangers_takes_no_place_from_others(
    stub: Stub, server: LoopbackServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two requests' worth of them wait; of more the service hears that they are not on record, and they stay denied."""
    monkeypatch.setattr(module, "_STRANGERS", Patience(pause=LONG, burst=0))
    sink = sink_at(server, clock=FakeClock(), timeout=60.0)

    async def flood() -> list[BaseException | None]:
        await sink.arecord(event(**STRANGER))
        crowd = [asyncio.create_task(sink.arecord(event(**STRANGER))) for _ in range(250)]
        await asyncio.wait(crowd, return_when=asyncio.FIRST_COMPLETED)
        for _ in range(3):  # each takes 99 along
            await sink.arecord(event(subject="ada"))
        return await asyncio.gather(*crowd, return_exceptions=True)

    came = asyncio.run(flood())
    assert sum(isinstance(one, AuditUnavailableError) for one in came) == 50
    assert sum(one is None for one in came) == 200
    assert stub.sizes == [1, 100, 100, 3]
    sink.close()


def test_strangers_are_not_passed_over_for_ever() -> None:
    """Where others fill one write after the other, who can wait has a turn all the same, before those."""
    writes: list[list[bytes]] = []
    stranger: list[Future[None]] = []

    def write(items: Sequence[bytes]) -> list[None]:
        writes.append(list(items))
        if len(writes) == 1:
            stranger.append(grouped._submit(b"stranger", yields=False, patient=True))
        for _ in range(2 if len(writes) < 40 else 0):
            grouped._submit(b"other", yields=False, patient=False)
        return [None] * len(items)

    grouped = Grouped(write, most=2, largest=100, waiting=100, patience=Patience(pause=LONG, burst=1))
    grouped.write(b"other")
    stranger[0].result(LONG)
    assert writes[:12] == [[b"other"], *[[b"other", b"other"]] * 10, [b"stranger", b"other"]]


def test_one_request_is_no_larger_than_the_authority_takes(stub: Stub, server: LoopbackServer) -> None:
    """Long events go in several requests."""
    sink, stub.hold = sink_at(server), threading.Event()

    async def put() -> None:
        first = asyncio.create_task(sink.arecord(event()))
        await asyncio.to_thread(server.wait_for_requests, 1)
        rest = [asyncio.create_task(sink.arecord(event(tools=("x" * 190,) * 64))) for _ in range(30)]
        await asyncio.sleep(0)
        assert stub.hold is not None
        stub.hold.set()
        await asyncio.gather(first, *rest)

    asyncio.run(put())
    assert max(len(request.body) for request in server.requests) < 131072
    assert len(stub.events) == 31
    sink.close()


@pytest.mark.parametrize(
    "passing",
    [
        Reply(status=500),
        Reply(status=503),
        Reply(status=429),
        Reply(status=408),
        Raw(),
        Reply(status=201, cut_after=0, body=b"x"),
    ],
    ids=["500", "503", "429", "408", "hung up", "cut"],
)
def test_what_passes_is_tried_again(stub: Stub, sink: AuthoritySink, passing: Reply | Raw) -> None:
    """Twice, and no more."""
    stub.answers = [passing, passing]
    sink.record(one := event())
    assert (list(stub.events), len(stub.sizes)) == ([one.id], 3)
    stub.always = passing
    with pytest.raises(AuditUnavailableError):
        sink.record(event())
    assert len(stub.sizes) == 6


def test_an_answer_that_was_lost_records_nothing_twice(stub: Stub, server: LoopbackServer) -> None:
    """The same ids are sent again, by the sink itself and by who tries again."""
    real, lost = Stub.__call__, [True, True, True]

    def losing(request: Request) -> Reply | Raw:
        answer = real(stub, request)
        return Raw() if lost and lost.pop() else answer

    with LoopbackServer(losing) as other:
        sink, one = sink_at(other, clock=FakeClock()), event()
        with pytest.raises(AuditUnavailableError):
            sink.record(one)
        assert list(stub.events) == [one.id]
        sink.record(one)
        assert list(stub.events) == [one.id]
        sink.close()


def test_the_authority_says_when_to_come_again(stub: Stub, server: LoopbackServer) -> None:
    """It is waited for, unless that takes longer than there is time."""
    clock = FakeClock()
    sink = sink_at(server, clock=clock, timeout=5.0)
    stub.answers = [Reply(status=429, headers={"Retry-After": "3"})]
    sink.record(event())
    assert clock.slept == (3.0,)
    stub.answers = [Reply(status=429, headers={"Retry-After": "30"})]
    with pytest.raises(AuditUnavailableError, match="429"):
        sink.record(event())
    assert clock.slept == (3.0,)
    sink.close()


@pytest.mark.parametrize(
    ("status", "mend"),
    [
        (301, "redirects"),
        (401, "AUTHSEC_AGENT_KEY"),
        (403, "audit:report"),
        (404, "AUTHSEC_AGENT_CLIENT_ID"),
        (410, "revoked"),
        (200, "AUTHSEC_BASE_URL"),
    ],
)
def test_a_refusal_is_not_tried_again(stub: Stub, sink: AuthoritySink, status: int, mend: str) -> None:
    """It says what to mend; a redirect is not followed, and nothing but a 201 counts."""
    stub.always = Reply(status=status, headers={"Location": "http://127.0.0.1:1/"}, body=b'{"recorded": 1}')
    with pytest.raises(AuditUnavailableError, match=mend):
        sink.record(event())
    assert len(stub.sizes) == 1


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b"{}", b'{"recorded": true}', b'{"recorded": 2}', b'{"recorded": -1}']
)
def test_an_answer_that_is_no_receipt_counts_for_nothing(stub: Stub, sink: AuthoritySink, body: bytes) -> None:
    """What stands before the authority may answer 201, too."""
    stub.always = Reply(status=201, body=body)
    with pytest.raises(AuditUnavailableError):
        sink.record(event())


def test_one_bad_event_takes_no_other_along(stub: Stub, server: LoopbackServer) -> None:
    """Where the authority finds something wrong, the others are on record all the same."""
    sink, stub.hold, stub.refuses = sink_at(server), threading.Event(), {"wrong"}

    async def put() -> list[BaseException | None]:
        first = asyncio.create_task(sink.arecord(event()))
        await asyncio.to_thread(server.wait_for_requests, 1)
        rest = [asyncio.create_task(sink.arecord(event(subject=f"s{n}" if n != 7 else "wrong"))) for n in range(20)]
        await asyncio.sleep(0)
        assert stub.hold is not None
        stub.hold.set()
        await first
        return await asyncio.gather(*rest, return_exceptions=True)

    outcomes = asyncio.run(put())
    assert [place for place, outcome in enumerate(outcomes) if outcome is not None] == [7]
    assert isinstance(outcomes[7], AuditUnavailableError)
    assert len(stub.events) == 20
    sink.close()


@pytest.mark.parametrize(
    ("given", "mend"),
    [
        ({"base_url": None}, "AUTHSEC_BASE_URL"),
        ({"client_id": None}, "AUTHSEC_AGENT_CLIENT_ID"),
        ({"client_id": "x"}, "AUTHSEC_AGENT_CLIENT_ID"),
        ({"base_url": "http://authority.example"}, "https"),
        ({"base_url": "https://user@authority.example"}, "user name"),
        ({"agent_key": "a key"}, "AUTHSEC_AGENT_KEY"),
        ({"timeout": 0}, "AUTHSEC_TIMEOUT"),
    ],
)
def test_what_could_not_work_is_found_at_start(given: dict[str, Any], mend: str) -> None:
    """No address, no name, a way that others can read."""
    usual = {"base_url": "https://authority.example", "client_id": CLIENT_ID, "agent_key": KEY}
    with pytest.raises(ConfigurationError, match=mend):
        AuthoritySink(**{name: value for name, value in {**usual, **given}.items() if value is not None})


def test_what_is_not_given_is_in_the_environment(
    stub: Stub, server: LoopbackServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Under the names that agents have."""
    monkeypatch.setenv("AUTHSEC_BASE_URL", f"{server.base_url}/authsec/")
    monkeypatch.setenv("AUTHSEC_AGENT_CLIENT_ID", CLIENT_ID)
    monkeypatch.setenv("AUTHSEC_AGENT_KEY", KEY)
    sink = AuthoritySink()
    sink.record(event())
    assert len(stub.events) == 1
    sink.close()
    with pytest.raises(AuditUnavailableError, match="RuntimeError"):
        sink.record(event())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows cannot fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_process_reports_by_itself(stub: Stub, server: LoopbackServer) -> None:
    """It has connections and a thread of its own, also where the parent was in the middle of a report."""
    sink, stub.hold = sink_at(server), threading.Event()
    waiting = threading.Thread(target=sink.record, args=(event(subject="parent"),))
    waiting.start()
    server.wait_for_requests(1)
    child = os.fork()
    if child == 0:
        try:
            sink.record(event(subject="child"))
        except BaseException:  # noqa: BLE001 -- a child must not run the tests of its parent
            os._exit(1)
        os._exit(0)
    server.wait_for_requests(2)
    stub.hold.set()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    waiting.join(30)
    assert sorted(one["subject"] for one in stub.events.values()) == ["child", "parent"]
    sink.close()


@pytest.mark.req("RS8")
def test_the_key_is_shown_nowhere(stub: Stub, server: LoopbackServer, caplog: pytest.LogCaptureFixture) -> None:
    """Not in the sink itself, nor in what it raises and logs, whatever the authority answers."""
    caplog.set_level(logging.DEBUG)
    sink, raised = sink_at(server, clock=FakeClock()), []
    hostile: list[Reply | Raw] = [Reply(status=401, body=KEY.encode()), Raw(data=f"HTTP/1.1 {KEY}".encode())]
    for answer in (*hostile, Reply(status=500), Raw()):
        stub.always = answer
        try:
            sink.record(event())
        except AuditUnavailableError as exc:
            raised.append(exc.with_traceback(None))  # the frames of this test know the key
    server.close()
    with pytest.raises(AuditUnavailableError) as caught:
        sink.record(event())
    with pytest.raises(TypeError) as pickled:
        pickle.dumps(sink)
    told = [
        traceback.TracebackException.from_exception(exc, capture_locals=True)
        for exc in (*raised, caught.value.with_traceback(None))
    ]
    assert len(raised) == 4
    shown = ["".join(one.format()) for one in told]
    assert_no_secret([sink, vars(sink), shown, raised, pickled.value, caplog.records, caplog.text], KEY)
    sink.close()


@pytest.mark.req("RU1")
def test_a_guard_reports_to_a_real_authority(caplog: pytest.LogCaptureFixture) -> None:
    """What it decides is in the authority's chain, by the service as it proved itself; without it nobody gets in."""
    from fastapi import Depends, FastAPI

    issuer, ran = Issuer(), []
    with RunningAuthority() as authority:
        service = authority.onboard("audit:report")
        sink = AuthoritySink(base_url=authority.base_url, client_id=service.client_id, agent_key=service.agent_key)
        guard, app = issuer.guard(sink=sink), FastAPI()

        @app.get("/metrics", dependencies=[Depends(guard.require("read:metrics"))])
        async def metrics() -> None:
            ran.append(1)

        client = behind(app)
        assert client.get("/metrics", headers=bearer(issuer.token("read:metrics"))).status_code == 200
        assert client.get("/metrics", headers=bearer(issuer.token("other"))).status_code == 403
        reply = authority.client.get("/audit", params={"client_id": service.client_id, "action": "guard.decision"})
        found = reply.json()["items"]
        assert [(one["decision"], one["claimed"]["reason"]) for one in found] == [
            ("deny", "insufficient_scope"),
            ("allow", "allowed"),
        ]
        assert {one["actor"]["id"] for one in found} == {service.client_id}
        authority.client.post(f"/clients/{service.client_id}/revoke")
        assert client.get("/metrics", headers=bearer(issuer.token("read:metrics"))).status_code == 503
        assert client.get("/metrics", headers=bearer(issuer.token("other"))).status_code == 403
    assert client.get("/metrics", headers=bearer(issuer.token("read:metrics"))).status_code == 503
    assert ran == [1]
    assert_no_secret([caplog.records, json.dumps(found)], service.agent_key)
    with suppress(RuntimeError):
        sink.close()
