"""Whoever uses an authority without a pause while something happens to it, and what they may be answered meanwhile."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Protocol

import httpx
import jwt
from behaviour.balancing import Balanced
from behaviour.support import PATIENCE, ReplicatedSite, Site
from crash.facts import Facts, Token

from authsec_core._clock import Clock
from authsec_core.verify import TokenVerifier
from authsec_core.wire import DELEGATION_TOKEN_PATH
from authsec_server.testing import OnboardedAgent

__all__ = ["Act", "Bookkeeper", "Load", "Verifying"]

_KEPT = 2  # tokens that are verified again in each round


class Act(Protocol):
    """Something that is done again and again, by one thread at a time."""

    def __call__(self) -> None:
        """Do it once."""
        ...

    def close(self) -> None:
        """Let go of connections."""
        ...


class Load:
    """Does things again and again, each in a thread of its own, until it is left; which raises what one of them raised.

    Args:
        acts: What is done.
    """

    def __init__(self, *acts: Act) -> None:
        self._acts = acts
        self._gates = [threading.Lock() for _ in acts]  # one is held for each round
        self._rounds = [0] * len(acts)
        self._news = threading.Condition()  # guards the rounds
        self._enough = threading.Event()

    def __enter__(self) -> Load:
        self._threads = ThreadPoolExecutor(len(self._acts))
        self._tasks = [self._threads.submit(self._repeat, number) for number in range(len(self._acts))]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._enough.set()
        self._threads.shutdown()
        for act in self._acts:
            act.close()
        for task in self._tasks:
            task.result()

    def go_on(self, rounds: int = 1) -> None:
        """Wait until everyone has begun and ended so many more rounds; raise what one of them has raised."""
        with self._news:
            wanted = [done + rounds + 1 for done in self._rounds]  # the one under way does not count
            reached = self._news.wait_for(lambda: self._have_done(wanted), PATIENCE)
        for task in self._tasks:
            if task.done():
                task.result()
        assert reached, "someone is not answered"

    @contextmanager
    def standstill(self) -> Iterator[None]:
        """Hold everyone between two rounds."""
        with ExitStack() as stack:
            for gate in self._gates:
                stack.enter_context(gate)
            yield

    def _have_done(self, wanted: Sequence[int]) -> bool:
        return any(task.done() for task in self._tasks) or all(
            done >= least for done, least in zip(self._rounds, wanted, strict=True)
        )

    def _repeat(self, number: int) -> None:
        try:
            while not self._enough.is_set():
                with self._gates[number]:
                    self._acts[number]()
                with self._news:
                    self._rounds[number] += 1
                    self._news.notify_all()
        finally:
            with self._news:
                self._news.notify_all()


class Verifying:
    """An agent that gets a token in each round, and an API that accepts it, and those before it as long as they live.

    The API uses core's verifier as it is by default. Nobody is ever refused. For one thread.

    Args:
        clock: What the API goes by.
    """

    def __init__(self, site: ReplicatedSite, agent: OnboardedAgent, clock: Clock) -> None:
        self._agent = agent
        self._way = Balanced(*site.base_urls)
        self._client = httpx.Client(transport=Balanced(*site.base_urls), trust_env=False, timeout=PATIENCE)
        self._url = f"{site.authority.issuer.removesuffix('/authsec')}{DELEGATION_TOKEN_PATH}"
        self._verifier = TokenVerifier(
            issuer=site.authority.issuer,
            audience="authsec-api",
            jwks_url=f"{site.authority.issuer}/.well-known/jwks.json",
            transport=self._way,
            clock=clock,
        )
        self._clock = clock
        self._living: list[tuple[float, str]] = []
        self.kids: set[str] = set()

    def __call__(self) -> None:
        """Do one round."""
        headers = {"Authorization": f"Bearer {self._agent.agent_key}"}
        reply = self._client.get(self._url, params={"client_id": self._agent.client_id}, headers=headers)
        assert reply.status_code == 200, reply.text
        token = reply.json()["token"]
        self.kids.add(jwt.get_unverified_header(token)["kid"])
        ends_at = jwt.decode(token, options={"verify_signature": False})["exp"]
        now = self._clock.wall()
        living = [(end, each) for end, each in self._living if end > now + 1]
        self._living = [*living[-_KEPT:], (ends_at, token)]
        for _, each in self._living:
            assert self._verifier.verify(each).client_id == self._agent.client_id

    def close(self) -> None:
        """Let go of connections."""
        self._client.close()
        self._way.close()


class Bookkeeper:
    """An agent that gets tokens, and operators who take each of them back twice; all that is acknowledged is noted.

    What is answered with 503, or not at all, may have happened or not.

    Attributes:
        facts: What was acknowledged.
        unavailable: How often 503 was answered.
    """

    def __init__(self, site: Site, facts: Facts, lock: threading.Lock) -> None:
        self.facts = facts
        self.unavailable = 0
        self._lock = lock  # guards the facts, which several may note
        self._site = site
        self._agent = site.onboard()
        self._client = httpx.Client(transport=Balanced(*site.base_urls), trust_env=False, timeout=PATIENCE)
        self._base = site.authority.issuer.removesuffix("/authsec")

    def __call__(self) -> None:
        """Do one round."""
        params, key = {"client_id": self._agent.client_id}, self._agent.agent_key
        reply = self._ask("GET", DELEGATION_TOKEN_PATH, key, 200, params=params)
        if reply is None:
            return
        token = Token.read(reply.json()["token"])
        with self._lock:
            self.facts.issued[token.jti] = token
            self.facts.note("token.issue", token.client_id, jti=token.jti)
            self.facts.attempted.add(token.jti)
        path = f"/api/v1/tokens/{token.jti}/revoke"
        answers = [self._ask("POST", path, self._site.authority.admin_token, 204, 409) for _ in range(2)]
        done = [reply.status_code for reply in answers if reply is not None]
        assert done.count(204) <= 1, "it was taken back twice"
        if done:
            with self._lock:
                self.facts.revoked.add(token.jti)
                if 204 in done:
                    self.facts.note("token.revoke", token.client_id, jti=token.jti)

    def close(self) -> None:
        """Let go of connections."""
        self._client.close()

    def _ask(self, method: str, path: str, bearer: str, *expected: int, **more: object) -> httpx.Response | None:
        """Return the answer; None where there was none, or nothing was done for certain."""
        try:
            headers = {"Authorization": f"Bearer {bearer}"}
            reply = self._client.request(method, f"{self._base}{path}", headers=headers, **more)  # type: ignore[arg-type]  # the query
        except httpx.TransportError:
            return None
        if reply.status_code == 503:
            self.unavailable += 1
            return None
        assert reply.status_code in expected, f"{method} {path} got {reply.status_code}: {reply.text}"
        return reply
