"""Signing on threads: every signature for the one who waits for it, and few wake-ups."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from typing import Any

import jwt
import pytest

from authsec_core._signing import SigningKey
from authsec_server.keys.signers import Signers

HEADER = {"alg": "RS256", "typ": "JWT", "kid": "k"}


class Stub:
    """Passes for a key: its signature is what the claims say, or their error; after the `last` it waits to `go_on`."""

    def __init__(self, last: int = 0) -> None:
        self.signed, self.last = 0, last
        self.done, self.go_on = threading.Event(), threading.Event()

    def sign(self, header: Mapping[str, object], claims: Mapping[str, object]) -> str:
        """Return the `jti`."""
        if "error" in claims:
            raise ValueError(claims["error"])
        if 0 < self.signed == self.last:
            self.done.set()  # all before this one were handed over
            self.go_on.wait(10)
        self.signed += 1
        return str(claims["jti"])


def stub(**more: Any) -> Any:
    """Return a stub where a key is wanted."""
    return Stub(**more)


def test_each_gets_the_signature_that_it_asked_for() -> None:
    """Many at once, on two threads: each token verifies, with its own claims."""

    async def run() -> list[str]:
        signers = Signers(2)
        try:
            return await asyncio.gather(*(signers.sign(key, HEADER, {"jti": str(n)}) for n in range(20)))
        finally:
            signers.close()

    key = SigningKey.generate()
    tokens = asyncio.run(run())
    public = key.private.public_key()
    assert [jwt.decode(token, public, algorithms=["RS256"])["jti"] for token in tokens] == [str(n) for n in range(20)]


def test_what_fails_is_told_to_who_asked() -> None:
    """An error belongs to one signature; the thread goes on with the next one."""

    async def run() -> None:
        signers, key = Signers(1), stub()
        with pytest.raises(ValueError, match="broken"):
            await signers.sign(key, HEADER, {"error": "broken"})
        assert await signers.sign(key, HEADER, {"jti": "a"}) == "a"
        signers.close()

    asyncio.run(run())


def test_a_caller_that_has_gone_harms_nobody() -> None:
    """Whoever was cancelled is passed over, and the others get theirs."""

    async def run() -> None:
        signers, key = Signers(1), stub()
        gone = asyncio.create_task(signers.sign(key, HEADER, {"jti": "gone"}))
        stays = asyncio.create_task(signers.sign(key, HEADER, {"jti": "stays"}))
        await asyncio.sleep(0)
        gone.cancel()
        assert await stays == "stays"
        signers.close()

    asyncio.run(run())


def test_signatures_that_are_ready_together_share_a_wake_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the loop is busy it is woken once, however many signatures are finished meanwhile."""

    async def run() -> int:
        signers, key, loop = Signers(1), stub(last=30), asyncio.get_running_loop()
        woken: list[object] = []
        wake = loop.call_soon_threadsafe

        def noted(*what: Any, **more: Any) -> object:
            woken.append(what)
            return wake(*what, **more)

        monkeypatch.setattr(loop, "call_soon_threadsafe", noted)
        *asked, one_more = [asyncio.create_task(signers.sign(key, HEADER, {"jti": str(n)})) for n in range(31)]
        await asyncio.sleep(0)
        assert key.done.wait(10)  # and so the loop is busy
        await asyncio.gather(*asked)
        count = len(woken)
        key.go_on.set()
        await one_more
        signers.close()
        return count

    assert asyncio.run(run()) == 1


def test_closing_ends_the_threads() -> None:
    """No thread is left, whether any had started or not; and a loop that was closed harms no thread."""
    idle = Signers(2)
    idle.close()

    async def run() -> None:
        signers = Signers(2)
        await signers.sign(stub(), HEADER, {"jti": "a"})
        signers.close()

    before = set(threading.enumerate())
    asyncio.run(run())
    for thread in set(threading.enumerate()) - before:
        thread.join(10)
        assert not thread.is_alive()
