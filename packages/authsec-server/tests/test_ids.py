"""UUIDs that the authority makes by itself."""

from __future__ import annotations

import multiprocessing
import sys
import threading
import uuid

import pytest

from authsec_server.ids import random_uuid


def test_it_is_a_random_uuid() -> None:
    """Each is spelt as RFC 9562 has it, of version 4, and none comes twice."""
    made = [random_uuid() for _ in range(2000)]
    assert all(str(uuid.UUID(text)) == text for text in made)
    assert {(uuid.UUID(text).version, uuid.UUID(text).variant) for text in made} == {(4, uuid.RFC_4122)}
    assert len(set(made)) == len(made)


def test_no_two_threads_get_the_same() -> None:
    """Threads that ask at once get different ones."""
    made: list[list[str]] = [[] for _ in range(4)]

    def ask(mine: list[str]) -> None:
        mine.extend(random_uuid() for _ in range(3000))

    threads = [threading.Thread(target=ask, args=(mine,)) for mine in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({text for mine in made for text in mine}) == 12_000


@pytest.mark.skipif(sys.platform != "linux", reason="forks")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_does_not_repeat_its_parent() -> None:
    """A process that was forked forgets what its parent had in store."""
    random_uuid()
    context = multiprocessing.get_context("fork")
    receiving, sending = context.Pipe(duplex=False)
    child = context.Process(target=lambda: sending.send([random_uuid() for _ in range(50)]))
    child.start()
    theirs = receiving.recv()
    child.join()
    assert set(theirs).isdisjoint(random_uuid() for _ in range(300))
