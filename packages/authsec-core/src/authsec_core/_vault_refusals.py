"""Which error it is that the vault refused, or did not answer. Pure.

A status says which, and the vault's code where several share one. Its message is counted and never shown.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from authsec_core._clock import Clock
from authsec_core._driving import retry_after
from authsec_core._http import Failure, Reply
from authsec_core._origin import is_loopback, origin_or_none
from authsec_core._vault_words import Words, scope_denied
from authsec_core.errors import (
    ApprovalRequiredError,
    SecretNotFoundError,
    VaultConflictError,
    VaultError,
    VaultInsecureTransportError,
    VaultRateLimitedError,
    VaultReplyError,
    VaultRequestError,
    VaultScopeDeniedError,
    VaultTokenExhaustedError,
    VaultUnauthorizedError,
    VaultUnavailableError,
)
from authsec_core.wire import WireError, json_object

__all__ = ["Place", "failed", "refused"]

_LINE: Final = r"\bline (\d{1,6})\b"  # compiled when an import fails


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The vault that was asked, and the settings that say so.

    Attributes:
        url: Its root, without a trailing slash.
        variable: The setting that holds it, such as `AUTHSEC_VAULT_URL`.
        key_variable: The setting that holds the agent's key.
    """

    url: str
    variable: str
    key_variable: str

    @property
    def is_here(self) -> bool:
        """Whether it runs on this machine."""
        origin = origin_or_none(self.url)
        return origin is not None and is_loopback(origin.host)


def failed(outcome: Failure | None, place: Place) -> VaultError:
    """Return the error that it is to have no answer."""
    kind, cause = (outcome.kind, outcome.cause) if outcome else ("cut", None)
    if kind == "tls":
        if _is_about_certificate(cause):
            mend = "the vault's certificate is not good: check it, the host's name, and AUTHSEC_CA_FILE."
        else:
            mend = f"check scheme and port in {place.variable}, since a server that speaks http answers so; else "
            mend += "its certificate and AUTHSEC_CA_FILE."
        return VaultInsecureTransportError(f"TLS to the vault failed: {mend}")
    if kind == "too_large":
        return VaultReplyError(f"The vault's reply is larger than any good one: check {place.variable}.")
    why = {"connect": "cannot be reached", "timeout": "did not answer in time"}.get(kind, "broke the connection off")
    return VaultUnavailableError(f"The vault {why}: check {place.variable}, then try again.")


def refused(reply: Reply, words: Words, place: Place, clock: Clock, *, by_key: bool) -> VaultError:
    """Return the error that a refusal is.

    Args:
        by_key: The agent's own key was shown, and no token.
    """
    status, concerns = reply.status, words.concerns
    if status == 401:
        return _unproven(place, by_key=by_key)
    if status == 403:
        return _denied(reply, words, by_key=by_key)
    if status == 404:
        return _absent(reply, words, place)
    if status == 410:
        return VaultTokenExhaustedError("This vault token has been used as often as it could be: ask for another.")
    if status == 409:
        return VaultConflictError(f"{concerns}: it was changed meanwhile: look at it again.")
    if status == 429:
        wait = retry_after(reply.headers, clock)
        return VaultRateLimitedError("The vault was asked too often: try again later.", retry_after=wait)
    if status == 408 or status >= 500:
        wait = retry_after(reply.headers, clock)
        return VaultUnavailableError(f"The vault answered {status}: try again later.", retry_after=wait)
    if status in {400, 413, 422}:
        return _wrong(reply, words)
    if 300 <= status < 400:
        return VaultReplyError(
            f"The vault answered {status}; redirects are not followed: set {place.variable} to the final address."
        )
    return VaultReplyError(f"The vault answered {status}, which this protocol does not know: check {place.variable}.")


def _unproven(place: Place, *, by_key: bool) -> VaultUnauthorizedError:
    if not by_key:
        return VaultUnauthorizedError(
            "The vault does not accept this vault token: it has ended or was revoked: ask for another."
        )
    again = "; a restart of authsec-server serve --dev makes a new one" if place.is_here else ""
    return VaultUnauthorizedError(f"The vault does not accept this agent key: check {place.key_variable}{again}.")


def _denied(reply: Reply, words: Words, *, by_key: bool) -> VaultError:
    scopes = frozenset(words.scopes)
    if _told(reply, "code") != "APPROVAL_REQUIRED":
        return VaultScopeDeniedError(scope_denied(words, by_key=by_key), scopes=scopes)
    if words.unapproved is not None:
        return ApprovalRequiredError(f"{words.concerns}: {words.unapproved}")
    return ApprovalRequiredError(
        f"{words.concerns}: it takes a token for this secret alone, which an operator has approved: ask for one with "
        f"the scope {' '.join(words.scopes)}.",
        scopes=scopes,
    )


def _absent(reply: Reply, words: Words, place: Place) -> VaultError:
    """Tell what is not there from a server that is no vault, or whose vault begins elsewhere."""
    if words.absent is not None and _told(reply, "code") in words.absent_codes:
        return SecretNotFoundError(f"{words.concerns}: {words.absent}")
    return VaultReplyError(
        f"What answered 404 is no vault, or has it at another address: check {place.variable}, which is the vault's "
        "root, without /v1."
    )


def _wrong(reply: Reply, words: Words) -> VaultRequestError:
    lines = tuple(map(int, re.findall(_LINE, _told(reply, "message"))))
    where = f" Lines that cannot be read: {', '.join(map(str, lines))}." if lines else ""
    mend = words.lines if lines else words.takes
    said = f"{words.concerns}: the vault refuses the request as wrong ({reply.status}).{where}"
    return VaultRequestError(f"{said} {mend}".rstrip(), lines=lines)


def _told(reply: Reply, member: str) -> str:
    """Return a member of the vault's error, or nothing. It is compared and counted, and never shown."""
    try:
        error = json_object(reply.body, "the reply").get("error")
    except WireError:
        return ""
    text = error.get(member) if isinstance(error, dict) else None
    return text if isinstance(text, str) else ""


def _is_about_certificate(cause: BaseException | None) -> bool:
    return any(isinstance(error, ssl.SSLCertVerificationError) for error in _chain(cause))


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__
