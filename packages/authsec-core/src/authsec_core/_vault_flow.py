"""One thing asked of the vault: what to send, when to try again, and which error an answer is.

Nothing is sent twice that can have been counted: a token may be good for one use, and who holds it does not know. So
whatever is asked is repeated only where no connection came about, but for reads with the agent's own key.
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from typing import Final, TypeVar

from authsec_core._clock import Clock
from authsec_core._driving import Pause, Steps, http_date, retry_after, usual_pause
from authsec_core._http import Call, Failure, Reply
from authsec_core._vault_replies import Received
from authsec_core._vault_wire import Asked, list_page
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
from authsec_core.token import Secret
from authsec_core.vault_values import SecretInfo
from authsec_core.wire import WireError, json_object

__all__ = ["VAULT_REPLY_LIMIT", "Shown", "VaultRules", "ask", "ask_for_all"]

T = TypeVar("T")
VAULT_REPLY_LIMIT: Final = 524288  # bytes: a secret of 64 KiB, each character of which JSON may write as six
_LIST_LIMIT: Final = 8388608  # bytes of one page: a vault may say much of each secret
_REPEATED: Final = frozenset({408, 429})
_LINE: Final = r"\bline (\d{1,6})\b"  # compiled when an import fails
_log = logging.getLogger("authsec.vault")


@dataclass(frozen=True, slots=True, kw_only=True)
class VaultRules:
    """Where the vault is, and how patient to be.

    Attributes:
        url: Its root, without a trailing slash.
        timeout: Seconds for everything: connecting, waiting, trying again.
        retries: How often a failed attempt is repeated, where that may be done at all.
    """

    url: str
    timeout: float
    retries: int


@dataclass(frozen=True, slots=True)
class Shown:
    """What is shown to the vault: the agent's own key, or a token."""

    credential: Secret
    is_key: bool


def ask_for_all(namespace: str | None, shown: Shown, rules: VaultRules, clock: Clock) -> Steps[tuple[SecretInfo, ...]]:
    """Ask for one page of a list after the other. Raises what `ask` raises."""
    found: list[SecretInfo] = []
    deadline, following = clock.steady() + rules.timeout, None
    while True:
        page = yield from ask(
            list_page(namespace, following), shown, rules, clock, deadline=deadline, limit=_LIST_LIMIT
        )
        found += page.items
        following = page.following
        if following is None:
            return tuple(found)


def ask(
    asked: Asked[T],
    shown: Shown,
    rules: VaultRules,
    clock: Clock,
    *,
    deadline: float | None = None,
    limit: int = VAULT_REPLY_LIMIT,
) -> Steps[T]:
    """Ask once, and again where that can do no harm.

    Args:
        deadline: The steady clock's reading after which no more is waited for; the rules' timeout by default.
        limit: The most bytes of a reply that are read.

    Raises:
        VaultError: One of its subclasses, by what to do next.
    """
    deadline = clock.steady() + rules.timeout if deadline is None else deadline
    attempt = 0
    while True:
        sent_at = clock.wall()
        outcome = yield _call(asked, shown, rules, deadline, limit)
        if isinstance(outcome, Reply) and 200 <= outcome.status < 300:
            return _accepted(asked, outcome, sent_at)
        error, cause = _error(outcome, asked, shown, clock)
        pause = max(usual_pause(attempt, clock), getattr(error, "retry_after", None) or 0.0)
        may_repeat = _did_not_arrive(outcome) or (_counts_nothing(asked, shown) and _is_passing(outcome))
        if not may_repeat or attempt >= rules.retries or clock.steady() + pause >= deadline:
            _log.info("%s %s: %s", asked.method, asked.concerns, error.code)
            raise error from cause
        attempt += 1
        yield Pause(pause)


def _call(asked: Asked[T], shown: Shown, rules: VaultRules, deadline: float, limit: int) -> Call:
    headers = {**asked.headers, "Authorization": f"Bearer {shown.credential()}"}
    if asked.body is not None:
        headers["Content-Type"] = "application/json"
    return Call(
        method=asked.method,
        url=f"{rules.url}/v1{asked.path}",
        params=asked.params,
        headers=headers,
        content=None if asked.body is None else asked.body().encode(),
        deadline=deadline,
        limit=limit,
        reads_refusals=True,
    )


def _accepted(asked: Asked[T], reply: Reply, sent_at: float) -> T:
    date = http_date(reply.headers.get("Date", ""))
    try:
        return asked.read(Received(body=reply.body, here=sent_at, there=sent_at if date is None else date))
    except WireError as exc:
        exc.__traceback__ = None  # its frames hold the body
        raise VaultReplyError(
            f"The vault's reply cannot be used: {exc}. Check AUTHSEC_VAULT_URL, or tell its operator."
        ) from exc


def _counts_nothing(asked: Asked[T], shown: Shown) -> bool:
    return asked.method == "GET" and shown.is_key


def _did_not_arrive(outcome: Reply | Failure | None) -> bool:
    return isinstance(outcome, Failure) and outcome.kind == "connect"


def _is_passing(outcome: Reply | Failure | None) -> bool:
    return isinstance(outcome, Reply) and (outcome.status in _REPEATED or outcome.status >= 500)


def _error(
    outcome: Reply | Failure | None, asked: Asked[T], shown: Shown, clock: Clock
) -> tuple[VaultError, BaseException | None]:
    if isinstance(outcome, Reply):
        return _refusal(outcome, asked, shown, clock), None
    kind, cause = (outcome.kind, outcome.cause) if outcome else ("cut", None)
    if kind == "tls":
        return VaultInsecureTransportError("TLS to the vault failed: check its certificate and AUTHSEC_CA_FILE."), cause
    if kind == "too_large":
        return VaultReplyError("The vault's reply is larger than any good one: check AUTHSEC_VAULT_URL."), cause
    why = {"connect": "cannot be reached", "timeout": "did not answer in time"}.get(kind, "broke the connection off")
    return VaultUnavailableError(f"The vault {why}: check AUTHSEC_VAULT_URL, then try again."), cause


def _refusal(reply: Reply, asked: Asked[T], shown: Shown, clock: Clock) -> VaultError:
    """Return the error that a status means, and the code where several share one."""
    status, code, concerns = reply.status, _told(reply, "code"), asked.concerns
    mine = "agent key" if shown.is_key else "vault token"
    if status == 401:
        mend = "check AUTHSEC_AGENT_KEY" if shown.is_key else "it has ended or was revoked: ask for another"
        return VaultUnauthorizedError(f"The vault does not accept this {mine}: {mend}.")
    if status == 403 and code == "APPROVAL_REQUIRED":
        return ApprovalRequiredError(f"{concerns}: ask for a token for this secret alone, which has to be approved.")
    if status == 403:
        return VaultScopeDeniedError(f"{concerns}: the vault denies that to this {mine}.")
    if status == 404:
        return SecretNotFoundError(f"{concerns}: it is not there: check the path, the version and the vault's URL.")
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
        return _bad_request(reply, concerns)
    if 300 <= status < 400:
        return VaultReplyError(
            f"The vault answered {status}; redirects are not followed: set AUTHSEC_VAULT_URL to the final address."
        )
    return VaultReplyError(f"The vault answered {status}, which this protocol does not know: check AUTHSEC_VAULT_URL.")


def _bad_request(reply: Reply, concerns: str) -> VaultRequestError:
    lines = tuple(map(int, re.findall(_LINE, _told(reply, "message"))))
    where = f" Lines that cannot be read: {', '.join(map(str, lines))}." if lines else ""
    return VaultRequestError(
        f"{concerns}: the vault refuses the request as wrong ({reply.status}).{where}", lines=lines
    )


def _told(reply: Reply, member: str) -> str:
    """Return a member of the vault's error, or nothing. It is compared and counted, and never shown."""
    try:
        error = json_object(reply.body, "the reply").get("error")
    except WireError:
        return ""
    text = error.get(member) if isinstance(error, dict) else None
    return text if isinstance(text, str) else ""
