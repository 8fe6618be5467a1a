"""The only writer: what is decided or changed commits together with its audit entries, or not at all.

Decisions are collected while a transaction is under way and settled together in the next one (group commit). Each
transaction holds the head of the chain, so that a decision sees every revocation that was acknowledged before, on
whichever replica. What a decision says, and what a change does, is for others.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import sqlalchemy as sa
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncConnection

from authsec_core._clock import Clock
from authsec_server.agents.standing import load_standings
from authsec_server.audit import memory
from authsec_server.audit.entry import Caller, Entry
from authsec_server.audit.memory import Memory
from authsec_server.audit.page import Page
from authsec_server.audit.questions import Question, Slot
from authsec_server.db.engine import Database
from authsec_server.errors import StorageUnavailableError
from authsec_server.telemetry.observer import UNOBSERVED, Observer
from authsec_server.telemetry.tracing import step

__all__ = ["Change", "Ledger"]

_LARGEST_BATCH: Final = 256  # decisions in one transaction
_MOST_WAITING: Final = 1024  # decisions, and as many changes

_log = logging.getLogger("authsec.server")

T = TypeVar("T")
Recheck = Callable[[AsyncConnection, Caller, float], Awaitable[None]]


class Change:
    """One change under way: do it with `connection`, and say with `record` what was done.

    Attributes:
        connection: In the transaction.
        at: Epoch seconds, the same for the whole transaction.
    """

    def __init__(self, connection: AsyncConnection, at: float) -> None:
        self.connection = connection
        self.at = at
        self.entries: list[Entry] = []
        self.touches_policy = False

    def record(self, entry: Entry) -> None:
        """Add an audit entry to the transaction."""
        self.entries.append(entry)

    async def judge(self, question: Question[T]) -> T:
        """Decide a question here, where its answer can be acted upon; what it decides is recorded.

        It sees what this transaction has changed, and must not use a mark, or be issued a row of `tokens`.
        """
        asked_about = [] if question.client_id is None else [question.client_id]
        standings = await load_standings(self.connection, asked_about)
        found = await self.connection.run_sync(memory.looked_up, set(question.wants))
        standing = None if question.client_id is None else standings.get(question.client_id)
        verdict = question.judge(standing, Slot(at=self.at, index=-1, kid="", found=found))
        if question.mark is not None or verdict.token is not None or verdict.marks:
            raise RuntimeError("this question has to be settled with others: hand it to Ledger.judge")
        for entry in verdict.entries:
            self.record(entry)
        return verdict.result

    def policy_changed(self) -> None:
        """Say that clients, keys, roles, delegations or signing keys are not what they were."""
        self.touches_policy = True


class Ledger:
    """Settles decisions and changes, one transaction after the other. For one event loop; `start` it first.

    Decisions and changes take turns, so that no crowd of the ones keeps the others waiting. Of the changes those come
    first that somebody is named for, so that no client's revocations keep an operator waiting.

    Args:
        database: Where everything is.
        clock: Gives each transaction its time.
        recheck: Raises when the caller of a change may no longer make it. It is asked inside the transaction.
        observer: Is told of what became durable.
    """

    def __init__(
        self, database: Database, *, clock: Clock, recheck: Recheck | None = None, observer: Observer = UNOBSERVED
    ) -> None:
        self._database = database
        self._clock = clock
        self._recheck = recheck
        self._observer = observer
        self._memory = Memory()
        self._asked: deque[tuple[_Waiting, Question[Any]]] = deque()
        self._changes: deque[tuple[_Waiting, _Work]] = deque()
        self._rest: deque[tuple[_Waiting, _Work]] = deque()  # changes that nobody is named for
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closing = False

    def start(self) -> None:
        """Begin to settle."""
        self._task = asyncio.create_task(self._run(), name="authsec-ledger")

    @property
    def is_running(self) -> bool:
        """Whether it settles what it is given."""
        return self._task is not None and not self._task.done() and not self._closing

    @property
    def waiting(self) -> int:
        """How many decisions and changes wait for a transaction."""
        return len(self._asked) + len(self._changes) + len(self._rest)

    async def close(self) -> None:
        """Settle what waits, and stop."""
        self._closing = True
        self._wake.set()
        if self._task is not None:
            await self._task

    async def judge(self, question: Question[T]) -> T:
        """Return the decision, once its audit entry is durable. Costs a share of a transaction.

        Raises:
            StorageUnavailableError: It could not be made durable. Nothing was decided.
        """
        with step("authsec.decide"):
            result: T = await self._enqueue(self._asked, question)
        return result

    async def change(self, work: Callable[[Change], Awaitable[T]], *, by: Caller | None = None) -> T:
        """Run `work` in a transaction of its own and return what it returns; what it raises undoes everything.

        A caller that is cancelled does not cancel the change. While the database is busy `work` is run again.

        Args:
            by: Who wants it: looked at again in the transaction, since they may have lost the right while they waited.

        Raises:
            StorageUnavailableError: It could not be made durable.
            UnauthenticatedError, ForbiddenError: The caller may no longer do it.
        """
        result: T = await self._enqueue(self._rest if by is None else self._changes, _Work(work, by))
        return result

    async def _enqueue(self, queue: deque[tuple[_Waiting, Any]], item: Any) -> Any:
        if not self.is_running:
            raise StorageUnavailableError("the authority is shutting down: try again")
        if len(queue) >= _MOST_WAITING:
            raise StorageUnavailableError("too many requests are waiting for the database: try again")
        waiting = _Waiting(asyncio.get_running_loop().create_future())
        queue.append((waiting, item))
        self._wake.set()
        return await waiting.outcome

    async def _run(self) -> None:
        while (waits := bool(self._asked or self._changes or self._rest)) or not self._closing:
            if changes := self._changes or self._rest:
                await self._make(*changes.popleft())
            if self._asked:
                await self._settle(self._next_batch())
            if not waits and not self._closing:
                self._wake.clear()
                await self._wake.wait()

    def _next_batch(self) -> list[tuple[_Waiting, Question[Any]]]:
        batch: list[tuple[_Waiting, Question[Any]]] = []
        while self._asked and len(batch) < _LARGEST_BATCH:
            waiting, question = self._asked.popleft()
            if not waiting.outcome.done():  # whoever asked has gone: nothing is decided, and so nothing is recorded
                batch.append((waiting, question))
        return batch

    async def _make(self, waiting: _Waiting, item: _Work) -> None:
        entries: list[Entry] = []

        async def transaction(connection: AsyncConnection) -> Any:
            page = await connection.run_sync(Page.open)
            change = Change(connection, self._clock.wall())
            if item.by is not None and self._recheck is not None:
                await self._recheck(connection, item.by, change.at)
            result = await item.work(change)
            page.write(change.entries, change.at)
            entries[:] = change.entries
            await connection.run_sync(page.close, policy_changed=change.touches_policy)
            return result

        started_at = self._clock.steady()
        try:
            waiting.resolve(await self._database.write(transaction))
        except DBAPIError as exc:
            waiting.fail(self._refused(exc))
        except Exception as exc:  # noqa: BLE001 -- whatever it is, it belongs to the one who asked for the change
            waiting.fail(exc)
        else:
            self._count(entries, asked=0, issued=0, started_at=started_at)

    async def _settle(self, batch: Sequence[tuple[_Waiting, Question[Any]]]) -> None:
        if not batch:
            return
        questions, started_at = [question for _, question in batch], self._clock.steady()
        try:
            outcomes = await self._database.settle(lambda connection: self._decide(connection, questions))
        except DBAPIError as exc:
            if len(batch) == 1:
                batch[0][0].fail(self._refused(exc))
                return
            for single in batch:  # one row that the database does not take must not fail the others
                await self._settle([single])
        except Exception as exc:  # noqa: BLE001 -- the loop must go on, and everyone who waits must be told
            for waiting, _ in batch:
                waiting.fail(exc)
        else:
            for (waiting, _), outcome in zip(batch, outcomes, strict=True):
                outcome.tell(waiting)
            recorded = [entry for outcome in outcomes for entry in outcome.entries]
            issued = sum(outcome.is_issued for outcome in outcomes)
            self._count(recorded, asked=len(batch), issued=issued, started_at=started_at)

    def _count(self, entries: Sequence[Entry], *, asked: int, issued: int, started_at: float) -> None:
        try:
            seconds = self._clock.steady() - started_at
            self._observer.settled(entries, asked=asked, issued=issued, seconds=seconds)
        except Exception:  # noqa: BLE001 -- the loop must go on, whether it can be counted or not
            _log.exception("what was settled could not be counted")

    def _refused(self, exc: DBAPIError) -> StorageUnavailableError:
        self._observer.database_failed("refused")
        return _refused(exc)

    def _decide(self, connection: sa.Connection, questions: Sequence[Question[Any]]) -> list[_Outcome]:
        page = Page.open(connection)
        asked_about = {question.client_id for question in questions if question.client_id is not None}
        known = self._memory.recall(connection, page.policy_version, asked_about)
        found = memory.looked_up(connection, {want for question in questions for want in question.wants})
        used = memory.used(connection, {question.mark for question in questions} - {None})
        at = self._clock.wall()
        outcomes: list[_Outcome] = []
        marked: set[str] = set()
        for question in questions:
            standing = None if question.client_id is None else known.standings.get(question.client_id)
            slot = Slot(
                at=at,
                index=page.next_index,
                kid=known.kid,
                issuers=known.issuers,
                found=found,
                is_used=question.mark in used,
                marked=marked,
            )
            try:
                verdict = question.judge(standing, slot)
                entries = verdict.entries
                page.write(entries, at)
            except Exception as exc:  # noqa: BLE001 -- a decision that fails must not fail its neighbours
                outcomes.append(_Outcome(error=exc))
                continue
            if verdict.token is not None:
                page.issue(verdict.token)
            if question.mark is not None and verdict.used_until is not None:
                used.add(question.mark)
                page.use(question.mark, verdict.used_until)
            marked |= verdict.marks.keys()
            for mark, until in verdict.marks.items():
                page.use(mark, until)
            is_issued = verdict.token is not None
            outcomes.append(_Outcome(result=verdict.result, entries=entries, is_issued=is_issued))
        page.close(connection, policy_changed=False)
        return outcomes


def _refused(exc: DBAPIError) -> StorageUnavailableError:
    """Return what is said where the database works and refuses all the same: a full disk, a lost right, a broken table.

    Whatever the reason, nothing is durable and so nothing is disclosed (RU1); the log has it, the answer has not.
    """
    _log.error("the database refuses what has to be recorded", exc_info=exc)
    error = StorageUnavailableError("the database refuses it, and nothing was done: the operator finds why in the log")
    error.__cause__ = exc
    return error


@dataclass(frozen=True, slots=True)
class _Work:
    work: Callable[[Change], Awaitable[Any]]
    by: Caller | None


@dataclass(frozen=True, slots=True)
class _Waiting:
    outcome: asyncio.Future[Any]

    def resolve(self, result: Any) -> None:
        if not self.outcome.done():
            self.outcome.set_result(result)

    def fail(self, error: BaseException) -> None:
        if not self.outcome.done():
            self.outcome.set_exception(error)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Outcome:
    result: Any = None
    error: Exception | None = None
    entries: Sequence[Entry] = ()
    is_issued: bool = False

    def tell(self, waiting: _Waiting) -> None:
        if self.error is None:
            waiting.resolve(self.result)
        else:
            waiting.fail(self.error)
