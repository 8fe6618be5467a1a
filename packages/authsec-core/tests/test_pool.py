"""Which httpx client a request travels with: one per process, one per running loop, and none after closing."""

from __future__ import annotations

import asyncio
import gc
import threading
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from core_support import PATIENT, echo_server, options

from authsec_core._http import ClientOptions
from authsec_core._pool import AsyncPool, Pool
from authsec_core.errors import ConfigurationError
from authsec_core.testing import LoopbackServer


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    """A server that keeps its connections open."""
    with echo_server() as server:
        yield server


class Lent(httpx.MockTransport):
    """A transport that belongs to the test and knows whether somebody has closed it."""

    def __init__(self) -> None:
        super().__init__(lambda request: httpx.Response(200))
        self.closed = False

    def close(self) -> None:
        self.closed = True

    async def aclose(self) -> None:
        self.closed = True


class TestPool:
    """The pool for threads."""

    def test_nothing_is_made_before_it_is_needed(self) -> None:
        """A client that is constructed and never used costs no TLS context and no socket."""

        def fail() -> ClientOptions:
            raise AssertionError

        Pool(fail, None).close()

    @pytest.mark.req("RS5")
    def test_threads_share_one_client(self) -> None:
        """Also those that come at the same time."""
        pool, gate = Pool(options, None), threading.Barrier(8)

        def client() -> httpx.Client:
            gate.wait(PATIENT)
            return pool.client()

        with ThreadPoolExecutor(8) as threads:
            clients = {one.result() for one in [threads.submit(client) for _ in range(8)]}
        assert len(clients) == 1
        pool.close()

    def test_after_closing_there_is_none(self) -> None:
        """A closed pool says so, and may be closed again."""
        pool = Pool(options, None)
        client = pool.client()
        pool.close()
        pool.close()
        assert client.is_closed
        for use in (pool.client, pool.check_open):
            with pytest.raises(RuntimeError, match="closed: make a new one"):
                use()

    def test_a_transport_that_was_lent_is_not_closed(self) -> None:
        """It goes on serving whoever it belongs to."""
        transport = Lent()
        pool = Pool(options, transport)
        assert pool.client().get("https://api.test").status_code == 200
        pool.close()
        assert not transport.closed

    def test_a_child_has_a_client_of_its_own(self) -> None:
        """It shares no connection with its parent, and needs no lock that a thread of the parent had."""
        pool = Pool(options, None)
        parent = pool.client()
        pool._lock.acquire()
        pool.after_fork()
        assert pool.client() is not parent
        pool.close()
        assert not parent.is_closed
        parent.close()


class TestAsyncPool:
    """The pool for coroutines."""

    def test_tasks_of_a_loop_share_one_client(self) -> None:
        """The first one makes it."""

        async def main() -> set[httpx.AsyncClient]:
            return set(await asyncio.gather(*(pool.client() for _ in range(8))))

        pool = AsyncPool(options, None)
        assert len(asyncio.run(main())) == 1

    def test_loops_in_turn_have_a_client_each(self, server: LoopbackServer) -> None:
        """Each loop's end closes its connections: nothing is left for the interpreter to warn of."""

        async def main() -> httpx.AsyncClient:
            client = await pool.client()
            assert (await client.get(server.base_url)).status_code == 200
            return client

        gc.collect()  # what another test has left is not what is looked for
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            pool = AsyncPool(options, None)
            clients = [asyncio.run(main()) for _ in range(3)]
            assert len(set(clients)) == 3
            assert all(client.is_closed for client in clients)
            del clients
            gc.collect()
        assert [str(warning.message) for warning in caught] == []

    def test_loops_at_once_have_a_client_each(self, server: LoopbackServer) -> None:
        """A connection of one loop is useless on another."""
        pool, gate = AsyncPool(options, None), threading.Barrier(3)

        async def main() -> httpx.AsyncClient:
            client = await pool.client()
            gate.wait(PATIENT)
            await asyncio.gather(*(client.get(server.base_url) for _ in range(5)))
            return client

        with ThreadPoolExecutor(3) as threads:
            clients = [one.result(PATIENT) for one in [threads.submit(asyncio.run, main()) for _ in range(3)]]
        assert len(set(clients)) == 3
        assert all(client.is_closed for client in clients)

    def test_a_loop_that_has_ended_is_let_go(self) -> None:
        """However many loops there were, only living ones are remembered."""
        pool = AsyncPool(options, None)
        for _ in range(20):
            asyncio.run(_client(pool))
        assert len(pool._loops) == 1

    def test_loops_that_were_dropped_are_let_go(self) -> None:
        """A program that makes a loop for each call and closes none keeps a handful of clients, not one per call."""
        pool = AsyncPool(options, None)
        loops = [asyncio.new_event_loop() for _ in range(20)]
        first = loops[0].run_until_complete(_client(pool))
        assert loops[0].run_until_complete(_client(pool)) is first
        for loop in loops:
            loop.run_until_complete(_client(pool))
        assert len(pool._loops) == 9
        last = loops[-1].run_until_complete(_client(pool))
        assert loops[-1].run_until_complete(_client(pool)) is last
        assert loops[0].run_until_complete(_client(pool)) is not first
        for loop in loops:
            loop.close()

    def test_a_paused_loop_with_work_is_not_forgotten(self) -> None:
        """A request that waits on a loop which is not running just now finds its connections when it runs again."""

        async def start() -> asyncio.Task[httpx.AsyncClient]:
            return asyncio.create_task(wait())

        async def wait() -> httpx.AsyncClient:
            client = await pool.client()
            await go.wait()
            return client

        pool, paused, go = AsyncPool(options, None), asyncio.new_event_loop(), asyncio.Event()
        task = paused.run_until_complete(start())
        client = paused.run_until_complete(_client(pool))
        others = [asyncio.new_event_loop() for _ in range(12)]
        for loop in others:
            loop.run_until_complete(_client(pool))
        go.set()
        assert paused.run_until_complete(task) is client
        assert not client.is_closed
        assert paused.run_until_complete(_client(pool)) is client
        for loop in [paused, *others]:
            loop.close()

    def test_a_loop_that_is_released_leaves_nothing_behind(self, server: LoopbackServer) -> None:
        """AutoGen closes its loops without `shutdown_asyncgens`; after a release there is nothing to shut down."""

        async def main() -> httpx.AsyncClient:
            client = await pool.client()
            await client.get(server.base_url)
            await pool.release()
            await pool.release()
            return client

        gc.collect()  # what another test has left is not what is looked for
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            pool = AsyncPool(options, None)
            for loop in [asyncio.new_event_loop() for _ in range(3)]:
                assert loop.run_until_complete(main()).is_closed
                loop.close()
            gc.collect()
        assert [str(warning.message) for warning in caught] == []
        assert pool._loops == {}

    def test_a_release_is_for_one_loop(self) -> None:
        """The pool stays open, and the clients of other loops do not notice."""

        async def main() -> httpx.AsyncClient:
            client = await pool.client()
            other = await asyncio.to_thread(asyncio.run, turn())
            assert (client.is_closed, other.is_closed) == (False, True)
            return client

        async def turn() -> httpx.AsyncClient:
            client = await pool.client()
            await pool.release()
            assert await pool.client() is not client
            return client

        pool = AsyncPool(options, None)
        asyncio.run(main())

    def test_closing_closes_the_clients_of_all_loops(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Those of other loops are closed there, while those loops go on."""
        pool, opened = AsyncPool(options, None), threading.Event()

        async def other() -> httpx.AsyncClient:
            client, done = await pool.client(), asyncio.Event()
            close = client.aclose

            async def aclose() -> None:
                await close()
                done.set()

            monkeypatch.setattr(client, "aclose", aclose)
            opened.set()
            await asyncio.wait_for(done.wait(), PATIENT)
            return client

        async def main() -> httpx.AsyncClient:
            client = await pool.client()
            await pool.aclose()
            await pool.aclose()
            return client

        with ThreadPoolExecutor(1) as threads:
            running = threads.submit(asyncio.run, other())
            assert opened.wait(PATIENT)
            mine = asyncio.run(main())
            theirs = running.result(PATIENT)
        assert (mine.is_closed, theirs.is_closed) == (True, True)
        with pytest.raises(RuntimeError, match="closed: make a new one"):
            asyncio.run(_client(pool))

    def test_closing_does_not_mind_a_loop_that_ends_just_then(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Between the question whether it runs and the order to close, a loop may be over."""
        pool, ended = AsyncPool(options, None), asyncio.new_event_loop()
        ended.run_until_complete(_client(pool))
        ended.close()
        monkeypatch.setattr(ended, "is_running", lambda: True)
        asyncio.run(pool.aclose())
        gc.collect()

    def test_without_a_loop_there_is_none(self) -> None:
        """It is for coroutines only."""
        coroutine = AsyncPool(options, None).client()
        with pytest.raises(RuntimeError, match="no running event loop"):
            coroutine.send(None)

    def test_a_transport_that_was_lent_is_not_closed(self) -> None:
        """Neither when a loop ends nor when the pool is closed."""
        transport = Lent()
        pool = AsyncPool(options, transport)

        async def main(close: bool) -> int:
            response = await (await pool.client()).get("https://api.test")
            if close:
                await pool.aclose()
            return response.status_code

        assert [asyncio.run(main(close)) for close in (False, False, True)] == [200] * 3
        assert not transport.closed

    def test_a_child_has_clients_of_its_own(self) -> None:
        """It knows no loop of its parent, and needs no lock that a thread of the parent had."""
        pool = AsyncPool(options, None)

        async def main() -> tuple[httpx.AsyncClient, httpx.AsyncClient]:
            parent = await pool.client()
            pool._lock.acquire()
            pool.after_fork()
            return parent, await pool.client()

        parent, child = asyncio.run(main())
        assert parent is not child


async def _client(pool: AsyncPool) -> httpx.AsyncClient:
    return await pool.client()


@pytest.mark.parametrize("proxy", ["ftp://proxy.test", "socks9://proxy.test", "http://user:swordfish@[::1"])
def test_a_proxy_that_cannot_be_used_is_a_mistake_in_the_settings(monkeypatch: pytest.MonkeyPatch, proxy: str) -> None:
    """The error names the variables and shows no password; it can only come where the environment is trusted."""
    monkeypatch.setenv("HTTPS_PROXY", proxy)
    trusting: ClientOptions = {**options(), "trust_env": True}
    for use in (Pool(lambda: trusting, None).client, lambda: asyncio.run(_client(AsyncPool(lambda: trusting, None)))):
        with pytest.raises(ConfigurationError, match="HTTPS_PROXY") as caught:
            use()
        assert (caught.value.__cause__, caught.value.__context__) == (None, None)
        assert "swordfish" not in str(caught.value)
    Pool(options, None).client().close()
