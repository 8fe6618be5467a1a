"""How long may a connection keep the server waiting, and how many may there be?

uvicorn gives a request's head all the time in the world, and a client that reads nothing, too. Here a head has to be
complete in time, what was written has to be taken in time, and connections are counted: in all, and by address. It
stands before uvicorn's own protocol, whichever of its two that is, and begins after TLS: asyncio gives a handshake a
minute.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from uvicorn.protocols.http.auto import AutoHTTPProtocol

from authsec_core._clock import Clock
from authsec_server.limits.addresses import neighbourhood

if TYPE_CHECKING:
    from authsec_server.settings import ServerSettings

__all__ = ["Closing", "ConnectionLimits", "Door", "http_protocol"]

Closing = Literal["too_many", "too_many_of_address", "slow_head", "large_head", "slow_reader"]
_LARGEST_HEAD: Final = 64 * 1024  # bytes; httptools has no limit of its own
_QUIET: Final = 1.0  # seconds between two lines of the log about closed connections

_log = logging.getLogger("authsec.server.connections")


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionLimits:
    """What connections have to keep to.

    Attributes:
        head: Seconds in which a request's head has to arrive.
        reading: Seconds in which what was written has to be taken.
        before: Bytes that may come before a head is complete: it, and what was left of a body that nobody read.
        most: Connections at the same time.
        most_of_address: From one address, or one /64, that is no trusted proxy.
    """

    head: float
    reading: float
    before: int
    most: int
    most_of_address: int
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = ()

    @classmethod
    def of(cls, settings: ServerSettings) -> ConnectionLimits:
        """Return those of the settings."""
        return cls(
            head=settings.header_timeout,
            reading=settings.request_timeout,
            before=_LARGEST_HEAD + settings.body_limit,
            most=settings.max_connections,
            most_of_address=settings.address_connections,
            trusted_proxies=settings.trusted_proxies,
        )


class Door:
    """Counts the connections of one server, and says when there are too many. For one event loop.

    Args:
        clock: Keeps the log quiet.
        closed: Is told of each connection that is closed, and why.
    """

    def __init__(
        self, limits: ConnectionLimits, *, clock: Clock, closed: Callable[[Closing], None] | None = None
    ) -> None:
        self.limits: Final = limits
        self._clock, self._closed = clock, closed
        self._open, self._of_address = 0, Counter[str]()
        self._told_at = -_QUIET

    @property
    def open(self) -> int:
        """How many connections there are."""
        return self._open

    def enter(self, address: str | None) -> Closing | None:
        """Count a connection, and return why it must not stay, if so. Either way it has to `leave`."""
        self._open += 1
        if address is not None:
            self._of_address[address] += 1
        if self._open > self.limits.most:
            return "too_many"
        return "too_many_of_address" if self._of_address[address or ""] > self.limits.most_of_address else None

    def leave(self, address: str | None) -> None:
        """Count it no more."""
        self._open -= 1
        if address is not None:
            self._of_address[address] -= 1
            if not self._of_address[address]:
                del self._of_address[address]

    def counted_as(self, peer: str | None) -> str | None:
        """Return under which address a peer is counted; None for a proxy that is trusted, or no address at all."""
        if peer is None:
            return None
        name = neighbourhood(peer)
        return None if self.limits.trusted_proxies and self._is_trusted(peer) else name

    def tell(self, why: Closing, address: str | None) -> None:
        """Say that a connection is closed; in the log, once a second at most."""
        if self._closed is not None:
            self._closed(why)
        now = self._clock.steady()
        if now - self._told_at >= _QUIET:
            self._told_at = now
            fields = {"why": why, "address": address, "open": self._open}
            _log.warning("a connection is closed: %(why)s, %(open)d are open", fields, extra=fields)

    def _is_trusted(self, peer: str) -> bool:
        try:
            found = ip_address(peer.partition("%")[0])
        except ValueError:
            return False
        address = getattr(found, "ipv4_mapped", None) or found
        return any(address in network for network in self.limits.trusted_proxies)


def http_protocol(door: Door, base: type[asyncio.Protocol] = AutoHTTPProtocol) -> type[asyncio.Protocol]:
    """Return uvicorn's HTTP protocol with these limits, for `uvicorn.Config(http=…)`.

    Args:
        base: One of uvicorn's two protocols; by default the one that it would choose.
    """
    return cast("type[asyncio.Protocol]", type("LimitedHTTPProtocol", (_Limits, base), {"door": door}))


if TYPE_CHECKING:
    # What the two have in common.
    from uvicorn.protocols.http.h11_impl import H11Protocol as _Uvicorn
else:
    _Uvicorn = object


class _Limits(_Uvicorn):
    """One connection, with its two deadlines: for the next head, and for the reading of what was written."""

    door: Door
    _address: str | None = None
    _head: asyncio.TimerHandle | None = None
    _head_size = 0
    _reading: asyncio.TimerHandle | None = None
    _is_paused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        super().connection_made(transport)
        self._address = self.door.counted_as(self.client[0] if self.client else None)
        why = self.door.enter(self._address)
        if why is not None:
            self._cut(why)
            return
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        self.door.leave(self._address)
        self._end_head()
        self._end_reading()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        before: Any = self.cycle
        if self._head is None and _is_over(before):
            self._expect_head()  # what comes after a response begins the next request
        super().data_received(data)
        if self._head is None:
            return
        if self.cycle is not before:
            self._end_head()
            return
        self._head_size += len(data)
        if self._head_size > self.door.limits.before:
            self._cut("large_head")

    def on_response_complete(self) -> None:
        super().on_response_complete()
        if self._is_unread():  # to close it now would wait for the client as long as that likes
            self._expect_reading()

    def pause_writing(self) -> None:
        self._is_paused = True
        self._expect_reading()
        super().pause_writing()

    def resume_writing(self) -> None:
        self._is_paused = False
        self._end_reading()
        if self._is_unread() and _is_over(self.cycle):
            self._expect_reading()
        super().resume_writing()

    def _expect_head(self) -> None:
        self._head_size = 0
        self._head = self.loop.call_later(self.door.limits.head, self._cut, "slow_head")

    def _end_head(self) -> None:
        if self._head is not None:
            self._head.cancel()
            self._head = None

    def _expect_reading(self) -> None:
        self._end_reading()
        self._reading = self.loop.call_later(self.door.limits.reading, self._look_whether_it_was_read)

    def _end_reading(self) -> None:
        if self._reading is not None:
            self._reading.cancel()
            self._reading = None

    def _look_whether_it_was_read(self) -> None:
        self._reading = None
        if self._is_unread() and (self._is_paused or _is_over(self.cycle)):
            self._cut("slow_reader")

    def _is_unread(self) -> bool:
        return self.transport.get_write_buffer_size() > 0

    def _cut(self, why: Closing) -> None:
        """End the connection at once: closing it in order would wait until everything that was written is read."""
        self.door.tell(why, self._address)
        self.transport.abort()


def _is_over(cycle: Any) -> bool:
    return cycle is not None and cycle.response_complete
