"""One thing asked of the vault: what to send, when to try again, and which error an answer is.

Nothing is sent twice that can have been counted: a token may be good for one use, and who holds it does not know. So
whatever is asked is repeated only where no connection came about, but for reads with the agent's own key.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Final, TypeVar

from authsec_core._clock import Clock
from authsec_core._driving import Pause, Steps, http_date, usual_pause
from authsec_core._http import Call, Failure, Reply
from authsec_core._vault_refusals import Place, failed, refused
from authsec_core._vault_replies import Received
from authsec_core._vault_wire import Asked, list_page
from authsec_core.errors import VaultError, VaultReplyError
from authsec_core.token import Secret
from authsec_core.vault_values import SecretInfo
from authsec_core.wire import WireError

__all__ = ["VAULT_REPLY_LIMIT", "Shown", "VaultRules", "ask", "ask_for_all"]

T = TypeVar("T")
VAULT_REPLY_LIMIT: Final = 524288  # bytes: a secret of 64 KiB, each character of which JSON may write as six
_LIST_LIMIT: Final = 8388608  # bytes of one page: a vault may say much of each secret
_REPEATED: Final = frozenset({408, 429})
_log = logging.getLogger("authsec.vault")


@dataclass(frozen=True, slots=True, kw_only=True)
class VaultRules:
    """Where the vault is, and how patient to be.

    Attributes:
        place: Its address, and which settings say so.
        timeout: Seconds for everything: connecting, waiting, trying again.
        retries: How often a failed attempt is repeated, where that may be done at all.
    """

    place: Place
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
            return _accepted(asked, outcome, rules.place, sent_at)
        error, cause = _error(outcome, asked, shown, rules.place, clock)
        pause = max(usual_pause(attempt, clock), getattr(error, "retry_after", None) or 0.0)
        may_repeat = _did_not_arrive(outcome) or (_counts_nothing(asked, shown) and _is_passing(outcome))
        if not may_repeat or attempt >= rules.retries or clock.steady() + pause >= deadline:
            _log.info("%s %s: %s", asked.method, asked.words.concerns, error.code)
            raise error from cause
        attempt += 1
        yield Pause(pause)


def _call(asked: Asked[T], shown: Shown, rules: VaultRules, deadline: float, limit: int) -> Call:
    headers = {**asked.headers, "Authorization": f"Bearer {shown.credential()}"}
    if asked.body is not None:
        headers["Content-Type"] = "application/json"
    return Call(
        method=asked.method,
        url=f"{rules.place.url}/v1{asked.path}",
        params=asked.params,
        headers=headers,
        content=None if asked.body is None else asked.body().encode(),
        deadline=deadline,
        limit=limit,
        reads_refusals=True,
    )


def _accepted(asked: Asked[T], reply: Reply, place: Place, sent_at: float) -> T:
    date = http_date(reply.headers.get("Date", ""))
    try:
        return asked.read(Received(body=reply.body, here=sent_at, there=sent_at if date is None else date))
    except WireError as exc:
        exc.__traceback__ = None  # its frames hold the body
        raise VaultReplyError(
            f"The vault's reply cannot be used: {exc}. Check {place.variable}, or tell its operator."
        ) from exc


def _counts_nothing(asked: Asked[T], shown: Shown) -> bool:
    return asked.method == "GET" and shown.is_key


def _did_not_arrive(outcome: Reply | Failure | None) -> bool:
    return isinstance(outcome, Failure) and outcome.kind == "connect"


def _is_passing(outcome: Reply | Failure | None) -> bool:
    return isinstance(outcome, Reply) and (outcome.status in _REPEATED or outcome.status >= 500)


def _error(
    outcome: Reply | Failure | None, asked: Asked[T], shown: Shown, place: Place, clock: Clock
) -> tuple[VaultError, BaseException | None]:
    if isinstance(outcome, Reply):
        return refused(outcome, asked.words, place, clock, by_key=shown.is_key), None
    return failed(outcome, place), None if outcome is None else outcome.cause
