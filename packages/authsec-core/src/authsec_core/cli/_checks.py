"""From what was seen of the authority and the API to findings. Pure; `_grants` judges what the authority granted.

A finding names the mend, because whoever runs a doctor wants to know what to do next and not only what is wrong.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

from authsec_core._origin import is_loopback, origin_of
from authsec_core.cli._observed import Contact, certificate_problem, reason
from authsec_core.cli._outcome import Finding

__all__ = [
    "BEHIND",
    "SKIPPED_UNREACHED",
    "check_api",
    "check_authority",
    "check_clock",
    "check_tls",
    "offset",
    "skipped",
]

SKIPPED_UNREACHED: Final = "the authority was not reached"
_SOON: Final = 14  # days before a certificate's end from which it is a warning
_DAY: Final = 86400.0  # seconds
_STORED: Final = 5.0  # seconds between `iat` and `Date` from which a token was kept and not made, as `_exchange` says
_TOLERATED: Final = 5.0  # seconds: the leeway that verifiers have by default
_HOPELESS: Final = 300.0  # seconds: the most leeway that a verifier can be given

BEHIND: Final = {
    "timeout": "it did not answer in time",
    "cut": "it broke the connection off, or does not speak HTTP",
    "too_large": "its answer is too large",
}
_EXPIRED: Final = frozenset({10})  # OpenSSL's X509_V_ERR_ numbers
_NOT_YET: Final = frozenset({9})
_UNKNOWN_AUTHORITY: Final = frozenset({2, 18, 19, 20, 21})
_OTHER_NAME: Final = frozenset({62, 64})


def skipped(check: str, why: str) -> Finding:
    """Return the finding of a check that does not apply, or that nothing can be said of."""
    return Finding(check=check, status="skip", message=why)


def check_authority(contacts: Sequence[Contact]) -> Finding:
    """Say whether the authority answers at all: one answer to any of the requests will do."""
    origin = origin_of(contacts[0].url)
    if any(contact.status is not None for contact in contacts):
        return Finding(check="authority", status="ok", message=f"{origin} answers")
    first = contacts[0]
    if first.trouble == "tls":
        return Finding(
            check="authority",
            status="fail",
            message=f"{origin} is there, but no safe connection came about",
            mend="see tls",
        )
    why = BEHIND.get(first.trouble or "") or reason(first.cause)
    return Finding(
        check="authority",
        status="fail",
        message=f"{origin} cannot be reached: {why}",
        mend="check AUTHSEC_BASE_URL, that the authority is running, and that name resolution, firewall and "
        "proxy (AUTHSEC_TRUST_ENV) let this machine through",
    )


def check_tls(check: str, variable: str, contacts: Sequence[Contact], *, now: float) -> Finding:
    """Say what protects the connection to the peer that `variable` names.

    Args:
        check: `tls` or `api_tls`.
        variable: The setting that holds the peer's address.
        contacts: Every request to it, at least one.
        now: Epoch seconds.
    """
    origin = origin_of(contacts[0].url)
    if origin.scheme == "http":
        return _plain_http(check, variable, is_loopback(origin.host))
    for contact in contacts:
        if contact.trouble == "tls":
            return _refused(check, variable, contact)
    for contact in contacts:
        if contact.tls is not None:
            return _verified(check, contact.tls.protocol, contact.tls.ends_at, now)
    return skipped(check, "no connection came about")


def check_clock(contact: Contact, issued_at: float | None) -> Finding:
    """Say by how much our clock and the authority's differ, as far as one request can tell.

    Args:
        contact: The exchange, or another request to the authority.
        issued_at: The `iat` of the token that it brought.
    """
    moments = [moment for moment in (contact.date, issued_at) if moment is not None]
    if contact.date is not None and issued_at is not None and contact.date - issued_at > _STORED:
        moments = [contact.date]  # the token was made earlier and kept
    offsets = [offset(moment, contact.sent_at, contact.answered_at) for moment in moments]
    if not offsets:
        return skipped("clock", "the authority does not tell its time")
    worst = max(offsets, key=abs)
    if abs(worst) <= _TOLERATED:
        return Finding(check="clock", status="ok", message="our clock and the authority's agree within 5 seconds")
    ours = "behind" if worst > 0 else "ahead of"
    return Finding(
        check="clock",
        status="fail" if abs(worst) > _HOPELESS else "warn",
        message=f"our clock is {abs(worst):.0f} seconds {ours} the authority's: verifiers here would refuse its tokens",
        mend="set the clock (NTP) on this machine, or on the authority's",
    )


def offset(moment: float, sent_at: float, answered_at: float) -> float:
    """Return by how many seconds the peer's clock is ahead of ours, at least; 0 where they may well agree.

    `moment` is some second, told in whole seconds, between sending and answering.

    >>> offset(100.0, 99.0, 100.2), offset(160.0, 99.0, 100.0), offset(39.0, 100.0, 100.5)
    (0.0, 60.0, -60.0)
    """
    if moment > answered_at:
        return moment - answered_at
    return min(0.0, moment + 1 - sent_at)


def check_api(contact: Contact) -> Finding:
    """Say whether the protected API answers a request without a credential, whatever it answers."""
    origin = origin_of(contact.url)
    status = contact.status
    if status is None:
        why = BEHIND.get(contact.trouble or "") or reason(contact.cause)
        return Finding(
            check="api",
            status="fail",
            message=f"{origin} cannot be used: {why}",
            mend="see api_tls"
            if contact.trouble == "tls"
            else "check AUTHSEC_API_BASE_URL and that the API is running",
        )
    if status >= 500:
        return Finding(
            check="api",
            status="warn",
            message=f"{origin} answers {status}",
            mend="ask the API's operator; calls will fail while this lasts",
        )
    return Finding(check="api", status="ok", message=f"{origin} answers ({status} without a credential)")


def _plain_http(check: str, variable: str, loopback: bool) -> Finding:
    if loopback:
        return skipped(check, "plain http, which does not leave this machine")
    return Finding(
        check=check,
        status="warn",
        message="plain http: everyone on the way can read the agent's key and tokens",
        mend=f"give {variable} an https address and unset AUTHSEC_ALLOW_HTTP",
    )


def _refused(check: str, variable: str, contact: Contact) -> Finding:
    problem = certificate_problem(contact.cause)
    if problem in _EXPIRED:
        mend = f"have the certificate renewed by whoever runs the server behind {variable}"
    elif problem in _NOT_YET:
        mend = "set the clock (NTP) on this machine"
    elif problem in _UNKNOWN_AUTHORITY:
        mend = "set AUTHSEC_CA_FILE to a PEM file of the certificate authority that signed it"
    elif problem in _OTHER_NAME:
        mend = f"use the name in {variable} that the certificate was made for"
    else:
        mend = f"check the scheme and port in {variable}; the server has to speak TLS 1.2 or later"
    return Finding(check=check, status="fail", message=f"refused: {reason(contact.cause)}", mend=mend)


def _verified(check: str, protocol: str, ends_at: float | None, now: float) -> Finding:
    if ends_at is None:
        return Finding(check=check, status="ok", message=f"{protocol}, the certificate is good")
    days = math.floor((ends_at - now) / _DAY)
    message = f"{protocol}, the certificate is good for {days} more days"
    if days >= _SOON:
        return Finding(check=check, status="ok", message=message)
    return Finding(check=check, status="warn", message=message, mend="have the certificate renewed soon")
