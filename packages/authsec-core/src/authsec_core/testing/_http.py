"""What a loopback server receives and what it answers, as frozen values. No socket is touched here.

`Reply` is HTTP, whole or cut short; `Raw` is whatever bytes a broken peer might send instead of HTTP.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from threading import Event
from typing import Any

__all__ = ["Answer", "Handler", "Raw", "Reply", "Request"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One request as it came in.

    Attributes:
        path: The path as it was sent: not percent-decoded, without the query.
        query: The decoded parameters in their order, blank ones and repeated ones included.
        headers: By lower-case name; the values of a repeated header are joined by `", "`. Not in the repr.
        body: Not in the repr.
    """

    method: str
    path: str
    query: tuple[tuple[str, str], ...] = ()
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes = field(default=b"", repr=False)

    def parameters(self, name: str) -> tuple[str, ...]:
        """Return every value that the query gives this parameter."""
        return tuple(value for key, value in self.query if key == name)

    def json(self) -> Any:
        """Return the body's JSON value.

        Raises:
            ValueError: The body is not JSON.
        """
        return json.loads(self.body)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """One HTTP response.

    Attributes:
        headers: Sent as given; `Content-Length` is added. `Connection: close` closes the connection afterwards.
        cut_after: Send this many bytes of the body (0: the headers only), then drop the connection.
        delay: Seconds to wait before answering, or an Event to wait for. Closing the server ends either wait.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    cut_after: int | None = None
    delay: float | Event = 0.0

    @classmethod
    def of_json(cls, value: object, *, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
        """Return a reply whose body is `value` as JSON."""
        named = {"Content-Type": "application/json", **(headers or {})}
        return cls(status=status, headers=named, body=json.dumps(value).encode())


@dataclass(frozen=True, slots=True, kw_only=True)
class Raw:
    """Bytes written to the socket as they are, after which the connection is dropped; none at all cuts it at once.

    Attributes:
        delay: Seconds to wait before, or an Event to wait for. Closing the server ends either wait.
    """

    data: bytes = b""
    delay: float | Event = 0.0


Answer = Reply | Raw
Handler = Callable[[Request], Answer]
