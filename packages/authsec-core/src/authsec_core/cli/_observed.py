"""What was seen of a peer during one request, as values, and what an exception that ended it says. Pure.

Nothing here holds a header or a body that could carry a credential in its repr.
"""

from __future__ import annotations

import base64
import json
import socket
import ssl
from collections.abc import Iterator
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import Any, Literal, TypeAlias

import httpx

from authsec_core.errors import AuthSecError
from authsec_core.token import DelegationToken

__all__ = ["Contact", "Exchanged", "Tls", "Trouble", "certificate_problem", "decoded", "http_date", "reason"]

Trouble: TypeAlias = Literal["connect", "tls", "timeout", "cut", "too_large"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """A TLS connection whose certificate was good.

    Attributes:
        protocol: Such as `TLSv1.3`.
        ends_at: Epoch seconds at which the certificate ends.
    """

    protocol: str
    ends_at: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Contact:
    """What one request came to.

    Attributes:
        sent_at: Epoch seconds by our clock.
        answered_at: Epoch seconds by our clock.
        status: The HTTP status, where there was an answer, even one that broke off.
        date: Epoch seconds by the peer's clock, from its `Date` header.
        trouble: What ended the request, if something did.
        cause: The exception behind it.
        body: That of a 2xx.
    """

    url: str
    sent_at: float
    answered_at: float
    status: int | None = None
    date: float | None = None
    tls: Tls | None = None
    trouble: Trouble | None = None
    cause: BaseException | None = field(default=None, repr=False)
    body: bytes = field(default=b"", repr=False)

    @property
    def unreached(self) -> bool:
        """Whether no connection came about, so that no other request has a chance."""
        return self.status is None and self.trouble in {"connect", "tls"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Exchanged:
    """What one token exchange came to: a token or an error.

    Attributes:
        contact: What was seen on the way; None in MOCK mode, and where no request was made.
    """

    token: DelegationToken | None = None
    error: AuthSecError | None = None
    contact: Contact | None = None


def reason(cause: BaseException | None) -> str:
    """Return why a connection did not come about, in words that a peer had no part in."""
    for error in _chain(cause):
        # OpenSSL's own errors have these attributes; those that Python code raises have not.
        if isinstance(error, ssl.SSLCertVerificationError):
            return getattr(error, "verify_message", "") or "the certificate is not good"
        if isinstance(error, ssl.SSLError):
            return (getattr(error, "reason", "") or "the handshake failed").lower().replace("_", " ")
        if isinstance(error, socket.gaierror):
            return "its name cannot be resolved"
        if isinstance(error, (TimeoutError, httpx.TimeoutException)):
            return "it did not answer in time"
        if isinstance(error, httpx.ProxyError):
            return "the proxy did not let us through"
        if isinstance(error, OSError) and error.strerror:
            return error.strerror.lower()
    return "no connection came about"


def certificate_problem(cause: BaseException | None) -> int | None:
    """Return OpenSSL's number for what is wrong with a certificate, or None where that was not the problem."""
    for error in _chain(cause):
        if isinstance(error, ssl.SSLCertVerificationError):
            return getattr(error, "verify_code", None)
    return None


def http_date(text: str) -> float | None:
    """Return the epoch seconds of an HTTP date (RFC 9110 section 5.6.7), or None where it is none.

    >>> http_date("Thu, 01 Jan 1970 00:00:10 GMT")
    10.0
    """
    try:
        return parsedate_to_datetime(text).timestamp()
    except (TypeError, ValueError, IndexError, OverflowError):
        return None


def decoded(token: DelegationToken) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the header and the claims of a token, which nobody has verified here: only a verifier does that."""
    header, claims = (_segment(part) for part in token.value.split(".")[:2])
    return header, claims


def _segment(text: str) -> dict[str, Any]:
    # The exchange has taken the token apart before, or it is one of our own: both are JSON objects.
    fields: dict[str, Any] = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
    return fields


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
