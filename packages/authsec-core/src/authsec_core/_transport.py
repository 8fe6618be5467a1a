"""How long a blocking call may keep its thread: no longer than its deadline, however slowly the peer speaks.

httpx bounds each read of a socket, not the sum of them: a peer that sends one byte of a header each second, or one
`103 Early Hints` after the other, holds a thread for ever. So the sockets here know the deadline of the call that they
work for. Coroutines need none of this, because they can be cancelled. Name resolution is the system's and unbounded.
"""

from __future__ import annotations

import math
import socket
import ssl
from collections.abc import Iterable
from typing import Any

import httpcore
import httpx

from authsec_core._deadline import seconds_left

__all__ = ["BoundedTransport"]


class BoundedTransport(httpx.HTTPTransport):
    """httpx's own transport, but for the sockets. Thread-safe.

    It stays an `HTTPTransport`, because that is what mocks and instrumentations of httpx take hold of.
    """

    def __init__(self, verify: ssl.SSLContext) -> None:
        super().__init__(verify=verify, trust_env=False)
        # httpx has no public place for a network backend; its pool has had this name since 0.18.
        self._pool = httpcore.ConnectionPool(
            ssl_context=verify,
            network_backend=_Backend(),
            max_connections=100,  # this and the next two are httpx's own defaults
            max_keepalive_connections=20,
            keepalive_expiry=5.0,
        )


class _Backend(httpcore.NetworkBackend):
    def __init__(self) -> None:
        self._sockets = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Connect to the first address that answers. One by one, because the whole list has but one deadline."""
        failed: Exception = httpcore.ConnectError("the name has no address")
        for address in _addresses(host, port):
            try:
                seconds = _at_most(timeout, httpcore.ConnectTimeout)
                return _Stream(self._sockets.connect_tcp(address, port, seconds, local_address, socket_options))
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as exc:
                failed = exc
        raise failed


class _Stream(httpcore.NetworkStream):
    def __init__(self, stream: httpcore.NetworkStream) -> None:
        self._stream = stream

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, _at_most(timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, _at_most(timeout, httpcore.WriteTimeout))

    def close(self) -> None:
        self._stream.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        seconds = _at_most(timeout, httpcore.ConnectTimeout)
        return _Stream(self._stream.start_tls(ssl_context, server_hostname, seconds))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


def _addresses(host: str, port: int) -> list[str]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as exc:
        raise httpcore.ConnectError(str(exc)) from exc
    return list(dict.fromkeys(map(_text, (address for *_, address in found))))


def _text(address: tuple[Any, ...]) -> str:
    """Return the address as text: of an IPv6 address with its zone, without which a link-local one leads nowhere."""
    zone = address[3] if len(address) == 4 else 0
    return f"{address[0]}%{zone}" if zone and "%" not in address[0] else str(address[0])


def _at_most(timeout: float | None, too_late: type[Exception]) -> float | None:
    left = seconds_left()
    if left <= 0:
        raise too_late("the call's deadline has passed")
    return timeout if left == math.inf else min(timeout or left, left)
