"""Which connections vaults use: one pool for each running loop, shared by blocks, and nothing left when it ends."""

from __future__ import annotations

import asyncio
import gc
import threading
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import httpx
import pytest
from core_support import PATIENT
from vault_support import PATH, VALUE

from authsec_core import AgentVault, AgentVaultSync
from authsec_core._vault_pool import SharedPool
from authsec_core.testing import LocalVault


@pytest.fixture
def local() -> Iterator[LocalVault]:
    """A vault on this machine."""
    with LocalVault({PATH: VALUE}) as vault:
        yield vault


@contextmanager
def no_warning() -> Iterator[None]:
    """Fail where something was left open."""
    gc.collect()  # by another test, it is not what is looked for
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
        gc.collect()
    assert [str(warning.message) for warning in caught] == []


def made(local: LocalVault, **more: object) -> AgentVault:
    """Return a vault of this place."""
    return AgentVault(local.base_url, agent_key=local.agent_key, **more)  # type: ignore[arg-type]


async def client_of(vault: AgentVault) -> httpx.AsyncClient:
    """Return what it sends with."""
    return await vault._pool.client(vault)


def test_blocks_at_once_share_their_connections(local: LocalVault) -> None:
    """A tool makes a vault for each call; the calls of one loop travel over one pool."""
    inside = []

    async def read(all_inside: asyncio.Event) -> httpx.AsyncClient:
        async with made(local) as vault:
            inside.append(vault)
            if len(inside) == 5:
                all_inside.set()
            await all_inside.wait()
            assert (await vault.get_secret(PATH)).value == VALUE
            return await client_of(vault)

    async def main() -> set[httpx.AsyncClient]:
        all_inside = asyncio.Event()
        return set(await asyncio.gather(*(read(all_inside) for _ in range(5))))

    with no_warning():
        [client] = asyncio.run(main())
        assert client.is_closed


def test_leaving_a_block_closes_nothing_that_another_uses(local: LocalVault) -> None:
    """Nor does closing a vault that was made without one."""

    async def main() -> None:
        async with made(local) as outer:
            client = await client_of(outer)
            async with made(local) as inner:
                assert await client_of(inner) is client
            await made(local).aclose()
            assert not client.is_closed
            await outer.get_secret(PATH)
        assert client.is_closed

    with no_warning():
        asyncio.run(main())


def test_on_a_loop_that_goes_on_the_next_block_finds_them(local: LocalVault) -> None:
    """Where there are other tasks; the loop's end closes them."""

    async def main() -> httpx.AsyncClient:
        forever = asyncio.ensure_future(asyncio.Event().wait())
        clients = []
        for _ in range(2):
            async with made(local) as vault:
                await vault.get_secret(PATH)
                clients.append(await client_of(vault))
        assert clients[0] is clients[1]
        assert not clients[0].is_closed
        forever.cancel()
        return clients[0]

    with no_warning():
        assert asyncio.run(main()).is_closed


def test_a_loop_that_is_closed_without_a_word_leaves_nothing(local: LocalVault) -> None:
    """As AutoGen closes those that it makes for each call of a tool."""

    async def read() -> None:
        async with made(local) as vault:
            await vault.get_secret(PATH)

    with no_warning():
        for _ in range(3):
            loop = asyncio.new_event_loop()
            loop.run_until_complete(read())
            loop.close()


def test_a_vault_of_several_loops_can_be_released(local: LocalVault) -> None:
    """One that is made once and used on a loop for each call lets go of each loop, and stays usable."""
    vault = made(local)

    async def read() -> httpx.AsyncClient:
        await vault.get_secret(PATH)
        client = await client_of(vault)
        await vault.release()
        return client

    with no_warning():
        clients = []
        for _ in range(3):
            loop = asyncio.new_event_loop()
            clients.append(loop.run_until_complete(read()))
            loop.close()
        assert len(set(clients)) == 3
        assert all(client.is_closed for client in clients)
        del clients


def test_a_call_that_is_under_way_is_not_cut_off(local: LocalVault) -> None:
    """Another call of the same vault may end, and be released, meanwhile."""
    vault = made(local)

    async def main() -> None:
        client = await client_of(vault)

        async def read() -> str:
            secret = await vault.get_secret(PATH)
            await vault.release()
            return secret.value

        assert set(await asyncio.gather(*(read() for _ in range(8)))) == {VALUE}
        assert not client.is_closed
        await vault.aclose()
        assert client.is_closed

    with no_warning():
        asyncio.run(main())


def test_loops_at_once_have_connections_of_their_own(local: LocalVault) -> None:
    """A connection of one loop is useless on another."""
    gate = threading.Barrier(3)

    async def read() -> httpx.AsyncClient:
        async with made(local) as vault:
            await vault.get_secret(PATH)
            gate.wait(PATIENT)
            return await client_of(vault)

    with no_warning(), ThreadPoolExecutor(3) as threads:
        clients = [one.result(PATIENT) for one in [threads.submit(asyncio.run, read()) for _ in range(3)]]
        assert len(set(clients)) == 3
        del clients


def test_vaults_that_differ_do_not_share(local: LocalVault) -> None:
    """In how long they wait, say; and a transport that was lent is for its vault alone."""

    async def main() -> None:
        transport = httpx.MockTransport(lambda _: httpx.Response(404))
        async with made(local) as one, made(local, timeout=1) as two, made(local, transport=transport) as three:
            clients = [await client_of(vault) for vault in (one, two, three)]
            assert len(set(clients)) == 3

    with no_warning():
        asyncio.run(main())


def test_a_vault_that_was_closed_says_so(local: LocalVault) -> None:
    """Of either kind; closing twice is no error, and other vaults go on."""

    async def main() -> None:
        async with made(local) as vault:
            pass
        await vault.aclose()
        with pytest.raises(RuntimeError, match="closed: make a new one"):
            await vault.get_secret(PATH)
        async with made(local) as other:
            await other.get_secret(PATH)

    with no_warning():
        asyncio.run(main())
        sync = AgentVaultSync(local.base_url, agent_key=local.agent_key)
        assert sync.get_secret(PATH).value == VALUE
        sync.close()
        sync.close()
        with pytest.raises(RuntimeError, match="closed: make a new one"):
            sync.get_secret(PATH)


@pytest.mark.req("RS5")
def test_threads_share_a_vault(local: LocalVault) -> None:
    """Each call is one request: a read that may be counted is never shared."""
    with no_warning(), AgentVaultSync(local.base_url, agent_key=local.agent_key) as vault:
        with ThreadPoolExecutor(16) as threads:
            values = list(threads.map(lambda _: vault.get_secret(PATH).value, range(64)))
        assert values == [VALUE] * 64
    assert len(local.requests) == 64


def test_a_child_shares_no_loop_with_its_parent() -> None:
    """It has to forget who used what, and may not wait for a thread of its parent."""
    pool = SharedPool(lambda: pytest.fail("no client is needed"))

    async def main() -> None:
        pool.enter(pool)
        lock = pool._lock
        pool.after_fork()
        assert pool._lock is not lock
        assert not pool._users
        pool._pool.after_fork()

    asyncio.run(main())
