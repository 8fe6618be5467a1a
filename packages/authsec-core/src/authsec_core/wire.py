"""The delegation-token endpoint's messages as values, for clients and servers alike. Pure: no HTTP, no cryptography.

A reply is taken apart and each member's type is checked; whether the grant is good enough is decided by `_exchange`.
"""

from __future__ import annotations

import base64
import json
import math
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import lru_cache
from typing import Any, NoReturn

from authsec_core.scopes import format_scopes
from authsec_core.token import Secret

__all__ = [
    "AUDIT_EVENTS_PATH",
    "DELEGATION_TOKEN_PATH",
    "REPLY_LIMIT",
    "DelegationReply",
    "DelegationRequest",
    "WireError",
    "format_time",
    "granted",
    "is_plain",
    "json_object",
    "parse_reply",
    "parse_time",
    "seconds",
]

AUDIT_EVENTS_PATH = "/authsec/uflow/sdk/audit-events"
DELEGATION_TOKEN_PATH = "/authsec/uflow/sdk/delegation-token"  # noqa: S105 -- a path, not a password
REPLY_LIMIT = 65536  # bytes of a reply
_LONGEST_NAME = 2048  # characters: what a SPIFFE ID may have (SPIFFE-ID section 2.3), the longest of all names

_UNREADABLE = object()
_BASE64URL = re.compile(r"[A-Za-z0-9_-]+")
_RFC3339 = r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(\.\d{1,9}\d*)?([Zz]|[+-]\d\d:\d\d)"


class WireError(ValueError):
    """The other side broke the protocol; the text says where, and quotes nothing of what it sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DelegationRequest:
    """What one agent asks for.

    Attributes:
        base_url: The authority's root; a trailing slash or a base that already ends in `/authsec` is tolerated.
        scopes: The scopes asked for; None is the whole delegation.
        audience: The API that the token is for; None leaves it to the authority.
        ttl: The longest life wanted, in seconds; None leaves it to the authority.
    """

    base_url: str
    client_id: str
    scopes: frozenset[str] | None = None
    audience: str | None = None
    ttl: float | None = None

    @property
    def url(self) -> str:
        """The endpoint's absolute URL, without its query."""
        return self.base_url.rstrip("/").removesuffix("/authsec") + DELEGATION_TOKEN_PATH

    @property
    def params(self) -> dict[str, str]:
        """The query. A server that does not know `scope`, `audience` or `ttl` ignores them."""
        wanted = {
            "client_id": self.client_id,
            "scope": None if self.scopes is None else format_scopes(self.scopes),
            "audience": self.audience,
            "ttl": None if self.ttl is None else str(max(1, math.floor(self.ttl))),
        }
        return {name: value for name, value in wanted.items() if value is not None}


@dataclass(frozen=True, slots=True, kw_only=True, repr=False)
class DelegationReply:
    """A well-formed reply, never printed. Times are epoch seconds by the authority's clock; None where it did not say.

    Attributes:
        token: The compact JWS.
        header: Its JOSE header, decoded and **not** verified: only the protected API can do that.
        claims: Its claims, likewise.
        permissions: The grant that the body names; None where it names none.
        expires_at: When the body says that the token ends.
        expires_in: For how many seconds the body says that it lives.
    """

    token: Secret
    header: Mapping[str, Any]
    claims: Mapping[str, Any]
    token_type: str
    permissions: frozenset[str] | None
    expires_at: float | None
    expires_in: float | None
    client_id: str | None
    jti: str | None
    spiffe_id: str | None


def parse_reply(body: bytes) -> DelegationReply:
    """Take apart the body of a 200.

    Raises:
        WireError: It is not a JSON object with a compact JWS and members of the right types.
    """
    fields = json_object(body, "the reply")
    text = fields.get("token") or fields.get("access_token")
    if not isinstance(text, str):
        raise WireError("the reply has no token")
    header, claims = _peek(text)
    ends = fields.get("expires_at")
    return DelegationReply(
        token=Secret(text),
        header=header,
        claims=claims,
        token_type=_name(fields, "token_type") or "Bearer",
        permissions=_permissions(fields),
        expires_at=parse_time(ends) if ends is not None else None,
        expires_in=seconds(fields, "expires_in" if fields.get("expires_in") is not None else "ttl_seconds"),
        client_id=_name(fields, "client_id") or _name(claims, "client_id"),
        jti=_name(claims, "jti") or _name(fields, "jti"),
        spiffe_id=_name(claims, "sub") or _name(fields, "spiffe_id"),
    )


def granted(reply: DelegationReply) -> frozenset[str] | None:
    """Return what the token itself grants, else what the body says of it, else None."""
    claimed = _permissions(reply.claims)
    return reply.permissions if claimed is None else claimed


def json_object(raw: bytes, what: str) -> dict[str, Any]:
    """Return the JSON object that a message is.

    Args:
        raw: The message.
        what: What an error calls it.

    Raises:
        WireError: It is none.
    """
    value: object = _UNREADABLE
    with suppress(ValueError, RecursionError):
        value = json.loads(raw, parse_constant=_refuse_constant)
    # Raised out here: a JSONDecodeError carries the whole text, token and all, and would ride along as the context.
    if value is _UNREADABLE:
        raise WireError(f"{what} is not JSON")
    if not isinstance(value, dict):
        raise WireError(f"{what} is not a JSON object")
    return value


def is_plain(text: str) -> bool:
    """Return whether a name may stand in a log line or an audit entry: one line, bounded, and nothing hidden in it.

    No control characters, line separators, text-direction marks or lone surrogates; at most 2048 characters.

    >>> is_plain("spiffe://example.org/ns/default/sa/agent"), is_plain("agent" + chr(10) + "CRITICAL forged")
    (True, False)
    """
    return len(text) <= _LONGEST_NAME and text.isprintable()


def parse_time(text: object) -> float:
    """Return the epoch seconds of an RFC 3339 time, with or without fraction digits.

    Raises:
        WireError: It is none.

    >>> parse_time("1970-01-01T00:00:01.5Z")
    1.5
    """
    match = re.fullmatch(_RFC3339, text, re.ASCII) if isinstance(text, str) else None
    if match is None:
        raise WireError("a time is not RFC 3339")
    day, clock, fraction, zone = match.groups()
    try:
        moment = datetime.fromisoformat(f"{day}T{clock}{'+00:00' if zone in 'Zz' else zone}")
        return moment.timestamp() + float(fraction or 0)
    except (ValueError, OverflowError) as exc:
        raise WireError("a time is not RFC 3339") from exc


def format_time(at: float) -> str:
    """Return epoch seconds as RFC 3339 UTC, whole seconds, with `Z`.

    >>> format_time(1.5)
    '1970-01-01T00:00:01Z'
    """
    return _format_second(math.floor(at))


@lru_cache(maxsize=64)  # what a server writes in one second is mostly about that second
def _format_second(at: int) -> str:
    return datetime.fromtimestamp(at, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")


def _peek(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    parts = token.split(".")
    if len(parts) != 3 or not all(parts) or not token.isascii():
        raise WireError("the token is not a signed JWT")
    header, claims, _ = (_base64url(part) for part in parts)  # the signature too: it will go into a header
    return json_object(header, "the token"), json_object(claims, "the token")


def _base64url(text: str) -> bytes:
    if not _BASE64URL.fullmatch(text) or len(text) % 4 == 1:
        raise WireError("the token is not base64url")
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(name)


def _permissions(fields: Mapping[str, Any]) -> frozenset[str] | None:
    listed = fields.get("permissions")
    if listed is None:
        spaced = _text(fields, "scope")
        listed = None if spaced is None else spaced.split()
    if listed is None:
        return None
    if not isinstance(listed, list) or not all(isinstance(item, str) and is_plain(item) for item in listed):
        raise WireError("the permissions are not a list of plain text")
    return frozenset(listed)


def _text(fields: Mapping[str, Any], name: str) -> str | None:
    value = fields.get(name)
    if value is not None and not isinstance(value, str):
        raise WireError(f"{name} is not text")
    return value


def _name(fields: Mapping[str, Any], name: str) -> str | None:
    value = _text(fields, name)
    if value is not None and not is_plain(value):
        raise WireError(f"{name} is too long or has characters that cannot be printed")
    return value


def seconds(fields: Mapping[str, Any], name: str) -> float | None:
    """Return the member `name` as seconds, or None where it is missing.

    Raises:
        WireError: It is there and is not a finite number.
    """
    value = fields.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not abs(value) < 1e12:
        raise WireError(f"{name} is not a number of seconds")
    return float(value)
