"""The requests of one `authsec doctor`: sent the way the SDK sends its own, observed on the way. Decides nothing.

The agent's proof goes with the exchange, and to the vault where it was given for that; what asks for keys or knocks at
the API is bare.
"""

from __future__ import annotations

import ssl
from dataclasses import replace
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

import httpx

from authsec_core._exchange import exchange
from authsec_core._http import Call, Failure, send
from authsec_core._pool import Pool
from authsec_core.cli._observed import Contact, Exchanged, Tls, http_date
from authsec_core.errors import AuthSecError
from authsec_core.source import TokenRequest
from authsec_core.wire import REPLY_LIMIT

if TYPE_CHECKING:
    from authsec_core._clock import Clock
    from authsec_core._options import Options
    from authsec_core._parts import Parts
    from authsec_core.token import Secret

__all__ = ["Probes"]

_ANY: Final = {"Accept": "*/*"}


class Probes:
    """The peers of one agent, asked once each. Close it, or use it in a `with` block.

    Args:
        timeout: Seconds for one request.

    Raises:
        ConfigurationError: The environment, which is to be trusted, names a proxy that cannot be used.
    """

    def __init__(self, options: Options, clock: Clock, *, timeout: float) -> None:
        self._clock, self._timeout = clock, timeout
        self._pool = Pool(options, None)
        self._http = self._pool.client()
        self._http.event_hooks = {"response": [self._note]}
        self._seen: dict[str, Any] = {}

    def knock(self, url: str, credential: Secret | None = None) -> Contact:
        """GET `url`, with the credential that is named, or else without one."""
        clock = self._clock
        sent_at = self._begin()
        headers = _ANY if credential is None else {**_ANY, "Authorization": f"Bearer {credential()}"}
        call = Call(url=url, headers=headers, deadline=clock.steady() + self._timeout, limit=REPLY_LIMIT)
        answer = send(self._http, call, clock)
        contact = self._contact(url, sent_at)
        if isinstance(answer, Failure):
            return replace(contact, trouble=answer.kind, cause=answer.cause)
        return replace(contact, body=answer.body)

    def exchange(self, parts: Parts, request: TokenRequest) -> Exchanged:
        """Ask the authority for a token, once: a doctor does not wait for things to get better."""
        wire_request = parts.identity.wire_request(request)
        rules = replace(parts.rules, retries=0)
        sent_at = self._begin()
        try:
            token = exchange(wire_request, parts.identity.proof, rules, self._http, parts.clock)
        except AuthSecError as exc:
            return Exchanged(error=exc, contact=self._contact(wire_request.url, sent_at))
        return Exchanged(token=token, contact=self._contact(wire_request.url, sent_at))

    def close(self) -> None:
        """Close the connections."""
        self._pool.close()

    def __enter__(self) -> Probes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _begin(self) -> float:
        self._seen = {}
        return self._clock.wall()

    def _contact(self, url: str, sent_at: float) -> Contact:
        return Contact(url=url, sent_at=sent_at, answered_at=self._clock.wall(), **self._seen)

    def _note(self, response: httpx.Response) -> None:
        """Called by httpx when the headers are there and the connection is still open."""
        self._seen = {
            "status": response.status_code,
            "date": http_date(response.headers.get("Date", "")),
            "tls": _tls(response.extensions.get("network_stream")),
        }


def _tls(stream: Any) -> Tls | None:
    if stream is None:  # a transport of httpx's mocks has none
        return None
    # An SSLObject where TLS runs inside the TLS of a proxy, whose socket is then not the peer's.
    for connection in map(stream.get_extra_info, ("ssl_object", "socket")):
        if isinstance(connection, (ssl.SSLObject, ssl.SSLSocket)):
            ends = (connection.getpeercert() or {}).get("notAfter")
            return Tls(
                protocol=connection.version() or "TLS",
                ends_at=float(ssl.cert_time_to_seconds(ends)) if isinstance(ends, str) else None,
            )
    return None
