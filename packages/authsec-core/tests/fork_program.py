"""A program that forks with the SDK in use, for `test_fork`: pytest's own process has too many threads to fork safely.

`python fork_program.py <case>` prints what the case found as JSON.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import MappingProxyType, MethodType
from typing import Any

from core_support import CLIENT_ID, PATIENT, compact

from authsec_core import AgentVault, AgentVaultSync, AsyncAuthSecClient, AuthSecClient, AuthSecConfig, MockVault
from authsec_core._clock import SYSTEM_CLOCK
from authsec_core.testing import LocalAuthority, LocalVault, LoopbackServer, Reply, Request

_LOCKS = (type(threading.Lock()), type(threading.RLock()))
_WALKED = ("authsec_core.", "http.cookiejar.", "httpx.")
_HOLDERS = (dict, list, tuple, set, frozenset, MethodType, MappingProxyType)


def in_child(work: Callable[[], object]) -> Any:
    """Return what `work` came to in a forked child, which is killed where it hangs."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(int(PATIENT))
        code = 1
        try:
            os.write(writer, json.dumps(work()).encode())
            code = 0
        except BaseException:  # noqa: BLE001 -- the child's whole program
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(code)
    os.close(writer)
    with open(reader, "rb") as pipe:
        answer = pipe.read()
    _, status = os.waitpid(child, 0)
    assert status == 0, f"the child ended with status {status}"
    return json.loads(answer)


@contextmanager
def authority(*, held: threading.Event | None = None) -> Iterator[tuple[LocalAuthority, AuthSecConfig]]:
    """Yield a running authority and its agent's settings; the first reply waits for `held`."""
    with LocalAuthority() as authority:
        agent = authority.register(["read"])
        if held is not None:
            authority.fail(times=1, delay=held)
        yield authority, AuthSecConfig(base_url=authority.base_url, client_id=agent.client_id)


def locks_of(*roots: object) -> list[Any]:
    """Return every lock that can be reached from `roots` through our own objects, httpx's and containers."""
    seen: set[int] = set()
    found, waiting = [], list(roots)
    while waiting:
        thing = waiting.pop()
        if id(thing) in seen:
            continue
        seen.add(id(thing))
        if isinstance(thing, _LOCKS):
            found.append(thing)
        elif isinstance(thing, _HOLDERS) or f"{type(thing).__module__}.".startswith(_WALKED):
            waiting.extend(gc.get_referents(thing))
    return found


@contextmanager
def all_held(locks: list[Any]) -> Iterator[None]:
    """Hold the locks on another thread, as if that were in the middle of using them."""
    done, ready = threading.Event(), threading.Event()

    def hold() -> None:
        with ExitStack() as held:
            for lock in locks:
                held.enter_context(lock)
            ready.set()
            done.wait(PATIENT)

    holder = threading.Thread(target=hold)
    holder.start()
    assert ready.wait(PATIENT)
    try:
        yield
    finally:
        done.set()
        holder.join()


def sync_shares_tokens() -> object:
    """A child goes on with its parent's token, and gets one of its own when it asks."""
    with authority() as (_, config), AuthSecClient(config) as client:
        mine = client.get_delegation_token()
        same, other = in_child(lambda: [client.get_delegation_token(), client.get_delegation_token(force_refresh=True)])
        return {"same": same == mine, "other": other != mine, "after": client.get_delegation_token() == mine}


def sync_own_connections() -> object:
    """Parent and child talk over connections of their own."""
    connections: list[int] = []

    def issue(request: Request) -> Reply:
        connections.append(threading.get_ident())  # the server has one thread for each connection
        now = int(SYSTEM_CLOCK.wall())
        return Reply.of_json({"token": compact({"iat": now, "exp": now + 60, "jti": str(len(connections))})})

    with LoopbackServer(issue) as server, AuthSecClient(base_url=server.base_url, client_id=CLIENT_ID) as client:
        for _ in range(2):
            client.get_delegation_token(force_refresh=True)
        in_child(lambda: client.get_delegation_token(force_refresh=True))
        client.get_delegation_token(force_refresh=True)
    parent, again, child, after = connections
    return {"reused": parent == again == after, "own": child != parent}


def sync_in_flight() -> object:
    """A request that a thread of the parent has in the air holds up nobody in the child."""
    answer = threading.Event()
    with authority(held=answer) as (server, config), AuthSecClient(config) as client:
        leader = threading.Thread(target=client.get_delegation_token)
        leader.start()
        server.wait_for_requests(1)
        child = in_child(client.get_delegation_token)
        answer.set()
        leader.join(PATIENT)
        return {"child": bool(child), "own": client.get_delegation_token() != child}


def sync_all_locks() -> object:
    """Whichever of our locks another thread of the parent holds at that moment, the child needs none of them."""
    with authority() as (_, config), AuthSecClient(config) as client:
        client.get_delegation_token()
        locks = locks_of(client, client._pool._client)
        with all_held(locks):
            child = in_child(lambda: client.get_delegation_token(force_refresh=True))
        return {"child": bool(child), "locks": len(locks) >= 2}


def mock_all_locks() -> object:
    """Nor in MOCK mode, where the process has one key for all."""
    from authsec_core import mock

    with AuthSecClient(AuthSecConfig(mode="mock")) as client:
        client.get_delegation_token("read")
        locks = locks_of(client, mock._key)
        with all_held(locks):
            child = in_child(lambda: client.get_delegation_token("write"))
        return {"child": bool(child), "locks": len(locks) >= 2}


def vault_all_locks() -> object:
    """A vault for threads, one for coroutines on a loop of its own, and one to play with: no lock of them is needed."""
    mock = MockVault({"a/b": "sample"})

    async def read(vault: AgentVault) -> str:
        return (await vault.get_secret("a/b")).value

    with LocalVault({"a/b": "live"}) as local, AgentVaultSync(local.base_url, agent_key=local.agent_key) as vault:
        shared = AgentVault(local.base_url, agent_key=local.agent_key)
        vault.get_secret("a/b")
        asyncio.run(read(shared))
        locks = [*locks_of(vault, vault._pool._client), *locks_of(shared, shared._pool), *locks_of(mock)]
        with all_held(locks):
            child = in_child(
                lambda: [
                    vault.get_secret("a/b").value,
                    asyncio.run(read(shared)),
                    asyncio.run(read(AgentVault(secrets=mock))),
                    asyncio.run(read(AgentVault(local.base_url, agent_key=local.agent_key))),
                ]
            )
        return {"child": child == ["live", "live", "sample", "live"], "locks": len(locks) >= 4}


def async_in_flight() -> object:
    """A loop that runs on another thread of the parent does not exist in the child, and nor does its leader."""
    answer = threading.Event()
    with authority(held=answer) as (server, config):
        client = AsyncAuthSecClient(config)
        leader = threading.Thread(target=lambda: asyncio.run(client.get_delegation_token()))
        leader.start()
        server.wait_for_requests(1)
        locks = locks_of(client)
        with all_held(locks):
            child = in_child(lambda: asyncio.run(client.get_delegation_token()))
        answer.set()
        leader.join(PATIENT)
        mine = asyncio.run(client.get_delegation_token())
        return {"child": bool(child), "own": mine != child, "locks": len(locks) >= 2}


def async_fork_on_the_loop() -> object:
    """A fork from inside a coroutine leaves the parent's loop and connections as they were."""

    async def main(client: AsyncAuthSecClient) -> object:
        mine = await client.get_delegation_token()

        def work() -> object:
            tokens: list[str] = []
            loop = threading.Thread(  # this thread has a loop already, or rather the parent's does
                target=lambda: tokens.append(asyncio.run(client.get_delegation_token(force_refresh=True)))
            )
            loop.start()
            loop.join()
            return tokens

        [child] = in_child(work)
        after = await client.get_delegation_token(force_refresh=True)
        await client.aclose()
        return {"child": child != mine, "after": after not in (mine, child)}

    with authority() as (_, config):
        return asyncio.run(main(AsyncAuthSecClient(config)))


if __name__ == "__main__":
    print(json.dumps(globals()[sys.argv[1]]()))  # noqa: T201 -- the answer to the test
