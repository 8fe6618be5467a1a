"""What the parts of the authority tell of their work, to whoever counts it. This module counts nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

from authsec_server.audit.entry import Entry

__all__ = ["UNOBSERVED", "Level", "Observer"]

Level = Literal["ledger_waiting", "connections"]


class Observer:
    """Hears of the work, and must cost next to nothing. This one lets it pass."""

    __slots__ = ()

    def request(self, method: str, route: str | None, status: int, seconds: float) -> None:
        """A request was answered.

        Args:
            route: Its template; None where nothing is served.
            status: 0 where the connection ended before there was one.
        """

    def settled(self, entries: Sequence[Entry], *, asked: int, issued: int, seconds: float) -> None:
        """A transaction of the ledger is durable.

        Args:
            entries: What it put into the audit.
            asked: How many decisions it made; 0 for a change.
            issued: How many tokens.
            seconds: What it took.
        """

    def signed(self, seconds: float) -> None:
        """Something was signed, after waiting for a thread."""

    def limited(self, what: str) -> None:
        """A request has to wait, because of its `client` or its `address`."""

    def connection_closed(self, why: str) -> None:
        """A connection did not keep to the limits."""

    def database_failed(self, where: str) -> None:
        """The database did not take a `read`, a `write`, or `refused` what was written."""

    def chore_failed(self, chore: str) -> None:
        """Something that is done in time by itself failed, and will be tried again."""

    def watch(self, level: Level, read: Callable[[], float]) -> None:
        """Look at this level now and then."""

    async def look(self) -> None:
        """Read all levels that are to be watched."""


UNOBSERVED = Observer()
