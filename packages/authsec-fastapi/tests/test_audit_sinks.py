"""Every sink keeps the promise of all sinks, and each its own; what an event shows is one bounded line."""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from guard_support import Memory

from authsec_core import ConfigurationError
from authsec_fastapi import AuditEvent, AuditSink, AuditUnavailableError, CombinedSink, JsonLinesSink, LoggingSink
from authsec_fastapi import json_lines as module
from authsec_fastapi.testing import AuditSinkContract

Recorded = Callable[[], Sequence[Mapping[str, Any]]]
Outage = Callable[[], AbstractContextManager[object]]
ON_UNIX = pytest.mark.skipif(sys.platform == "win32", reason="Windows has neither modes nor forks")


def event(**said: Any) -> AuditEvent:
    """Return an event."""
    return AuditEvent(**{"event": "request", "outcome": "allow", "reason": "allowed", "at": 1_800_000_000.25, **said})


def lines(path: Path) -> list[dict[str, Any]]:
    """Return what is in a file, which has nothing but whole lines."""
    text = path.read_bytes()
    assert text.endswith(b"\n") or not text
    return [json.loads(line) for line in text.split(b"\n")[:-1]]


@contextmanager
def full_disk(monkeypatch: pytest.MonkeyPatch, takes: int | None) -> Iterator[None]:
    """Let the disk take so many bytes of a write and no more; None is not even one."""
    real = os.write

    def write(descriptor: int, data: bytes) -> int:
        if takes is None:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(descriptor, data[:takes])

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", write)
        yield


class TestLoggingSink(AuditSinkContract):
    """The sink that needs nothing."""

    @pytest.fixture
    def sink(self) -> AuditSink:
        return LoggingSink()

    @pytest.fixture
    def recorded(self, caplog: pytest.LogCaptureFixture) -> Recorded:
        caplog.set_level(logging.INFO, "authsec.audit")
        return lambda: [json.loads(record.getMessage()) for record in caplog.records if record.name == "authsec.audit"]


@pytest.mark.req("RU1")
class TestJsonLinesSink(AuditSinkContract):
    """A file, with and without waiting for the disk."""

    @pytest.fixture(params=[False, True], ids=["quick", "durable"])
    def sink(self, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[AuditSink]:
        made = JsonLinesSink(tmp_path / "audit.jsonl", durable=request.param)
        yield made
        made.close()

    @pytest.fixture
    def recorded(self, tmp_path: Path) -> Recorded:
        return lambda: lines(tmp_path / "audit.jsonl")

    @pytest.fixture(params=[None, 0, 1, 40], ids=["refuses", "takes nothing", "takes a byte", "takes a part"])
    def outage(self, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Outage:
        return lambda: full_disk(monkeypatch, request.param)


class TestCombinedSink(AuditSinkContract):
    """A file and one's own sink."""

    @pytest.fixture
    def memory(self) -> Memory:
        """One's own."""
        return Memory()

    @pytest.fixture
    def sink(self, memory: Memory, tmp_path: Path) -> AuditSink:
        return CombinedSink(memory, JsonLinesSink(tmp_path / "audit.jsonl"))

    @pytest.fixture
    def recorded(self, tmp_path: Path) -> Recorded:
        return lambda: lines(tmp_path / "audit.jsonl")

    @pytest.fixture
    def outage(self, memory: Memory) -> Outage:
        @contextmanager
        def failing() -> Iterator[None]:
            memory.failing = True
            yield
            memory.failing = False

        return failing


@pytest.mark.parametrize("way", ["record", "arecord"])
def test_all_sinks_of_several_have_to_have_it(way: str) -> None:
    """Where one fails, the others have it all the same, and whoever waits is told."""
    first, second, third = Memory(), Memory(failing=True), Memory()
    sink = CombinedSink(first, second, third)
    with pytest.raises(AuditUnavailableError, match=r"1 of 3 sinks .* OSError"):
        sink.record(event()) if way == "record" else asyncio.run(sink.arecord(event()))
    assert (len(first.events), len(third.events)) == (1, 1)
    with pytest.raises(ValueError, match="at least one"):
        CombinedSink()


@pytest.mark.req("RU3")
@pytest.mark.parametrize(
    "text", ["\r\n", "\x1b[31m", "\u2028\u2029\u0085", '"}\n{"a":"', "\ud800x", "\x7f\x00", "ö" * 10**6]
)
def test_an_event_is_one_bounded_line(text: str) -> None:
    """Whatever stands in it: ASCII that can be printed, JSON that each reader takes, and not much of it."""
    words = {"subject", "issuer", "client_id", "spiffe_id", "user", "jti", "role", "action", "tool", "request_id"}
    words |= {"method", "route", "agent", "conversation", "run_id"}
    line = event(
        **dict.fromkeys(words, text), needed=(text,) * 1000, roles=(text,) * 1000, tools=(text,) * 1000
    ).to_json()
    assert line.isascii()
    assert line.isprintable()
    assert len(line) <= 32768
    json.loads(line)["subject"].encode("utf-8")


def test_an_event_shows_what_is_known_and_when() -> None:
    """The time for machines and for people; what has no value is left out; no two have one id."""
    shown = event(subject="ada", needed=("b", "a")).to_dict()
    assert len(shown.pop("id")) == 32
    assert shown == {
        "event": "request",
        "outcome": "allow",
        "reason": "allowed",
        "at": 1_800_000_000.25,
        "time": "2027-01-15T08:00:00.250+00:00",
        "subject": "ada",
        "needed": ["b", "a"],
    }
    assert event().id != event().id


@ON_UNIX
def test_the_file_is_its_owners_alone(tmp_path: Path) -> None:
    """0600, whatever the umask says; one that is there keeps its mode."""
    JsonLinesSink(tmp_path / "new.jsonl").record(event())
    assert stat.S_IMODE((tmp_path / "new.jsonl").stat().st_mode) == 0o600
    there = tmp_path / "there.jsonl"
    there.touch(0o640)
    JsonLinesSink(there).record(event())
    assert stat.S_IMODE(there.stat().st_mode) == 0o640


def test_a_file_that_cannot_be_written_is_found_at_start(tmp_path: Path) -> None:
    """A folder that is not there, or something that is no file."""
    with pytest.raises(ConfigurationError, match="No such file"):
        JsonLinesSink(tmp_path / "nowhere" / "audit.jsonl")
    with pytest.raises(ConfigurationError):
        JsonLinesSink(tmp_path)


@ON_UNIX
def test_a_pipe_is_no_file(tmp_path: Path) -> None:
    """Nothing could be taken back from it; and the start does not wait for a reader."""
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigurationError, match="regular file"):
        JsonLinesSink(tmp_path / "pipe")


@ON_UNIX
def test_a_symbolic_link_is_not_followed(tmp_path: Path) -> None:
    """At start or later: else who may write to the folder chooses which of the service's files gets the events."""
    secret, path = tmp_path / "other", tmp_path / "audit.jsonl"
    secret.write_text("as it was")
    path.symlink_to(secret)
    with pytest.raises(ConfigurationError, match="symbolic link: name the file"):
        JsonLinesSink(path)
    path.unlink()
    sink = JsonLinesSink(path)
    path.unlink()
    path.symlink_to(secret)
    with pytest.raises(OSError, match="symbolic link"):
        sink.reopen()
    with pytest.raises(OSError, match="symbolic link"):  # the old file has no name any more
        sink.record(event())
    assert secret.read_text() == "as it was"


@ON_UNIX
def test_a_link_to_nowhere_makes_no_file(tmp_path: Path) -> None:
    """What is not there yet is made in the folder that was named, and nowhere else."""
    (tmp_path / "audit.jsonl").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigurationError, match="symbolic link"):
        JsonLinesSink(tmp_path / "audit.jsonl")
    assert not (tmp_path / "elsewhere").exists()


@ON_UNIX
def test_the_folder_may_be_a_link(tmp_path: Path) -> None:
    """`/var/log` often is one: who may exchange it may do what they like with all that lies there."""
    (tmp_path / "real").mkdir()
    (tmp_path / "log").symlink_to(tmp_path / "real")
    JsonLinesSink(tmp_path / "log" / "audit.jsonl").record(one := event())
    assert [line["id"] for line in lines(tmp_path / "real" / "audit.jsonl")] == [one.id]


@pytest.mark.parametrize("durable", [False, True])
def test_half_a_line_swallows_no_other(tmp_path: Path, durable: bool) -> None:
    """What a crash left at the end is ended before the next event is written."""
    path = tmp_path / "audit.jsonl"
    path.write_bytes(b'{"id": "cut o')
    JsonLinesSink(path, durable=durable).record(one := event())
    cut, whole, rest = path.read_bytes().split(b"\n")
    assert (cut, json.loads(whole)["id"], rest) == (b'{"id": "cut o', one.id, b"")


@ON_UNIX
def test_the_file_can_be_moved_away(tmp_path: Path) -> None:
    """As logrotate does: after `reopen` a new one is written to. One that was deleted is made again by itself."""
    path = tmp_path / "audit.jsonl"
    sink = JsonLinesSink(path)
    sink.record(event(subject="1"))
    path.rename(tmp_path / "old")
    sink.record(event(subject="2"))
    sink.reopen()
    sink.record(event(subject="3"))
    assert [[one["subject"] for one in lines(file)] for file in (tmp_path / "old", path)] == [["1", "2"], ["3"]]
    path.unlink()
    sink.record(event(subject="4"))
    assert [one["subject"] for one in lines(path)] == ["4"]


def test_a_closed_file_takes_nothing(tmp_path: Path) -> None:
    """And that is told."""
    sink = JsonLinesSink(tmp_path / "audit.jsonl")
    sink.close()
    sink.close()
    with pytest.raises(OSError, match="closed"):
        sink.record(event())
    with pytest.raises(AuditUnavailableError):
        asyncio.run(sink.arecord(event()))


def test_durable_waits_for_the_disk_once_for_all_who_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many at once cost few waits; and who waits is not told before."""
    real, waits, may_go = os.fsync, [0], threading.Event()

    def fsync(descriptor: int) -> None:
        may_go.wait(30)
        waits[0] += 1
        real(descriptor)

    sink = JsonLinesSink(tmp_path / "audit.jsonl", durable=True)
    monkeypatch.setattr(os, "fsync", fsync)

    async def put() -> None:
        tasks = [asyncio.create_task(sink.arecord(event())) for _ in range(100)]
        await asyncio.wait(tasks, timeout=0.01)
        assert not [task for task in tasks if task.done()]
        may_go.set()
        await asyncio.gather(*tasks)

    asyncio.run(put())
    assert len(lines(tmp_path / "audit.jsonl")) == 100
    assert waits[0] <= 3


def test_a_disk_that_does_not_keep_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An fsync that fails is an event that is not on record."""

    def fsync(_: int) -> None:
        raise OSError(errno.EIO, "Input/output error")

    sink = JsonLinesSink(tmp_path / "audit.jsonl", durable=True)
    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(AuditUnavailableError, match="OSError"):
        sink.record(event())


def test_processes_share_a_file(tmp_path: Path) -> None:
    """Each line of each is whole."""
    path = tmp_path / "audit.jsonl"
    program = """
import sys
from authsec_fastapi import AuditEvent, JsonLinesSink
sink = JsonLinesSink(sys.argv[1])
for number in range(200):
    said = {"subject": f"{sys.argv[2]}-{number}", "agent": "x" * 400}
    sink.record(AuditEvent(event="request", outcome="allow", reason="allowed", at=1.0, **said))
"""
    children = [subprocess.Popen([sys.executable, "-c", program, str(path), str(name)]) for name in range(3)]
    assert [child.wait(60) for child in children] == [0, 0, 0]
    assert len({one["subject"] for one in lines(path)}) == 600


@ON_UNIX
def test_a_writer_waits_for_another_process(tmp_path: Path) -> None:
    """Else what one takes away after a full disk could be the other's line."""
    import fcntl

    path = tmp_path / "audit.jsonl"
    sink = JsonLinesSink(path)
    with path.open("ab") as other:
        fcntl.flock(other, fcntl.LOCK_SH)
        writer = threading.Thread(target=sink.record, args=(event(),))
        writer.start()
        writer.join(0.05)
        assert not lines(path)
    writer.join(30)
    assert len(lines(path)) == 1


@ON_UNIX
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("durable", [False, True])
def test_a_child_process_goes_on(tmp_path: Path, durable: bool) -> None:
    """A fork leaves both with a sink that works, even while a thread of the parent holds the file."""
    path = tmp_path / "audit.jsonl"
    sink = JsonLinesSink(path, durable=durable)
    sink.record(event(subject="before"))
    with sink._lock:
        child = os.fork()
        if child == 0:
            try:
                sink.record(event(subject="child"))
                asyncio.run(sink.arecord(event(subject="child, too")))
            except BaseException:  # noqa: BLE001 -- a child must not run the tests of its parent
                os._exit(1)
            os._exit(0)
        _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
    sink.record(event(subject="parent"))
    assert [one["subject"] for one in lines(path)] == ["before", "child", "child, too", "parent"]


def test_a_crowd_that_cannot_be_served_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What waits is bounded: the next one is refused at once, and those who wait are served."""
    may_go, is_writing, real = threading.Event(), threading.Event(), os.fsync
    monkeypatch.setattr(module, "_WAITING", 5)
    sink = JsonLinesSink(tmp_path / "audit.jsonl", durable=True)

    def fsync(descriptor: int) -> None:
        is_writing.set()
        may_go.wait(30)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)

    async def put() -> None:
        first = asyncio.create_task(sink.arecord(event()))
        await asyncio.to_thread(is_writing.wait, 30)
        rest = [asyncio.create_task(sink.arecord(event())) for _ in range(5)]
        await asyncio.sleep(0)
        with pytest.raises(AuditUnavailableError, match="Too many"):
            await sink.arecord(event())
        may_go.set()
        await asyncio.gather(first, *rest)

    asyncio.run(put())
    assert len(lines(tmp_path / "audit.jsonl")) == 6


def test_without_a_thread_nothing_is_promised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that can start none any more, because it ends, is told so; and nothing is left behind."""

    def start(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    sink = JsonLinesSink(tmp_path / "audit.jsonl", durable=True)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", start)
        with pytest.raises(AuditUnavailableError, match="thread"):
            sink.record(event(subject="1"))
    sink.record(event(subject="2"))
    assert [one["subject"] for one in lines(tmp_path / "audit.jsonl")] == ["2"]
