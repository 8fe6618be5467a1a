"""Events in the authority's hash-chained audit, beside its own. Each is there, durable, before `record` returns.

The service is an agent at the authority, with a key and a delegation for the scope `audit:report`; what it may report
and what becomes of that is for the authority. What waits while a request is out goes together in the next one; denials
of strangers go along with the others, or seldom. What is sent again after a lost answer is on record once, because the
authority knows an event by its id.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

from authsec_core._clock import SYSTEM_CLOCK, Clock
from authsec_core.errors import AuthSecError
from authsec_core.wire import AUDIT_EVENTS_PATH, WireError, json_object
from authsec_fastapi._grouping import Grouped, Outcome, Patience
from authsec_fastapi.audit import AuditEvent
from authsec_fastapi.errors import AuditUnavailableError

if TYPE_CHECKING:
    import httpx

    from authsec_core._driving import Steps
    from authsec_core._http import Call, Failure, Reply

__all__ = ["AuthoritySink"]

_MOST: Final = 100  # events of one request, as the authority has it
_LARGEST: Final = 98304  # bytes of one request; the authority takes 131072 unless it is told otherwise
_WAITING: Final = 2048
# What strangers alone can make a service report: in a minute some 90 requests. The authority's usual limit for one
# client is 50 a second, so that they cannot use it up.
_STRANGERS: Final = Patience(pause=1.0, burst=30)
_REPLY_LIMIT: Final = 4096  # bytes
_REPEATED: Final = frozenset({408, 429})
_ONE_IS_WRONG: Final = frozenset({400, 413})
_CODE: Final = re.compile(r"[^A-Za-z0-9_.]")
_MENDS: Final = {
    401: "it does not accept the key: check AUTHSEC_AGENT_KEY",
    403: "this service may not report: have audit:report delegated to it",
    404: "it does not know this service, or delegates nothing to it: check AUTHSEC_AGENT_CLIENT_ID",
    410: "this service, or what was delegated to it, was revoked",
}


class AuthoritySink:
    """Reports events to the authority. Thread-safe, loop-safe, and never printed with its key.

    What is not given is read from the environment, as `authsec_core.AuthSecConfig` has it.

    Args:
        base_url: The authority's root: `https`, or loopback.
        client_id: The service's own.
        agent_key: Its proof; or
        workload_token_file: A file with a workload's token.
        timeout: Seconds for one request, with all attempts. Who waits for its turn waits for up to two of them; a
            denial of who presented no good token may for longer.
        retries: How often a failed attempt is repeated: 0 to 3.
        ca_file: A PEM file of the authorities to trust instead of the usual ones.
        transport: An httpx transport.

    Raises:
        ConfigurationError: Something is missing, wrong or unsafe.
    """

    def __init__(
        self,
        *,
        base_url: str | None = None,
        client_id: str | None = None,
        agent_key: str | None = None,
        workload_token_file: str | Path | None = None,
        timeout: float = 5.0,
        retries: int | None = None,
        ca_file: str | Path | None = None,
        transport: httpx.BaseTransport | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        from authsec_core._options import Options
        from authsec_core._parts import identity_of
        from authsec_core._pool import Pool
        from authsec_core.config import AuthSecConfig

        config = AuthSecConfig(
            mode="live",
            base_url=base_url,
            client_id=client_id,
            agent_key=agent_key,
            workload_token_file=workload_token_file,
            timeout=timeout,
            retries=retries,
            ca_file=ca_file,
        )
        self._identity = identity_of(config)
        self._url = self._identity.base_url.removesuffix("/authsec") + AUDIT_EVENTS_PATH
        self._timeout, self._retries = config.timeout, config.retries
        self._clock = clock
        self._pool = Pool(Options(config, "authsec-fastapi"), transport)
        self._grouped = Grouped(
            self._report, most=_MOST, largest=_LARGEST, waiting=_WAITING, patience=_STRANGERS, clock=clock
        )

    def record(self, event: AuditEvent) -> None:
        """Return once the event is in the authority's audit.

        Raises:
            AuditUnavailableError: It is not, as far as we have heard.
        """
        self._grouped.write(_encoded(event), yields=event.yields, patient=event.is_of_a_stranger)

    async def arecord(self, event: AuditEvent) -> None:
        """Do what `record` does, without blocking the loop."""
        await self._grouped.awrite(_encoded(event), yields=event.yields, patient=event.is_of_a_stranger)

    def close(self) -> None:
        """Close the connection; what is recorded after it fails. May be called twice."""
        self._pool.close()

    def __repr__(self) -> str:
        return f"AuthoritySink(base_url={self._identity.base_url!r}, client_id={self._identity.client_id!r})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("an AuthoritySink has a key and is not pickled: make one in the other process")

    def _report(self, events: Sequence[bytes]) -> list[Outcome]:
        """Send some events, and where one of them is no good, each half alone: it must not take the others with it."""
        from authsec_core._driving import drive
        from authsec_core._http import send

        deadline = self._clock.steady() + self._timeout
        try:
            refused = drive(
                self._steps(events, deadline), lambda call: send(self._pool.client(), call, self._clock), self._clock
            )
        except AuthSecError as exc:
            return [exc] * len(events)
        if refused is None:
            return [None] * len(events)
        if len(events) == 1:
            return [AuditUnavailableError(f"The authority refuses the event as wrong ({refused}).")]
        half = len(events) // 2
        return [*self._report(events[:half]), *self._report(events[half:])]

    def _steps(self, events: Sequence[bytes], deadline: float) -> Steps[int | None]:
        """Ask until there is an answer; return None, or the status of a request that has something wrong in it."""
        from authsec_core._driving import Pause, retry_after, usual_pause
        from authsec_core._http import Reply

        attempt = 0
        while True:
            outcome = yield self._call(events, deadline)
            if isinstance(outcome, Reply) and outcome.status == 201 and _is_receipt(outcome.body, len(events)):
                return None
            if isinstance(outcome, Reply) and outcome.status in _ONE_IS_WRONG:
                return outcome.status
            wait = retry_after(outcome.headers, self._clock) if isinstance(outcome, Reply) else None
            pause = max(usual_pause(attempt, self._clock), wait or 0.0)
            if not _is_passing(outcome) or attempt >= self._retries or self._clock.steady() + pause >= deadline:
                raise _unavailable(outcome)
            attempt += 1
            yield Pause(pause)

    def _call(self, events: Sequence[bytes], deadline: float) -> Call:
        """Return the request. Not where it can fail: there the headers would stand in the frame of an exception."""
        from authsec_core._http import Call

        return Call(
            method="POST",
            url=self._url,
            headers={
                **self._identity.proof.headers(),
                "X-Client-ID": self._identity.client_id,
                "Content-Type": "application/json",
            },
            content=b'{"events":[' + b",".join(events) + b"]}",
            deadline=deadline,
            limit=_REPLY_LIMIT,
        )


def _encoded(event: AuditEvent) -> bytes:
    shown: dict[str, Any] = json.loads(event.to_json())
    shown["at"] = shown.pop("time")
    shown["reason"] = _CODE.sub("_", shown["reason"])[:64] or "unknown"
    return json.dumps(shown).encode("ascii")


def _is_receipt(body: bytes, sent: int) -> bool:
    """Return whether this is what the authority says, and not what stands before it."""
    try:
        recorded = json_object(body, "the reply").get("recorded")
    except WireError:
        return False
    return isinstance(recorded, int) and not isinstance(recorded, bool) and 0 <= recorded <= sent


def _is_passing(outcome: Reply | Failure | None) -> bool:
    from authsec_core._http import Reply

    if isinstance(outcome, Reply):
        return outcome.status in _REPEATED or outcome.status >= 500
    return outcome is None or outcome.kind in {"connect", "timeout", "cut"}


def _unavailable(outcome: Reply | Failure | None) -> AuthSecError:
    from authsec_core._http import Reply

    if isinstance(outcome, Reply):
        if 300 <= outcome.status < 400:
            mend = "redirects are not followed: set AUTHSEC_BASE_URL to the final address"
        else:
            mend = _MENDS.get(outcome.status, "try again later, and check AUTHSEC_BASE_URL")
        return AuditUnavailableError(f"The authority took no report ({outcome.status}): {mend}.")
    if outcome is not None and outcome.kind == "tls":
        return AuditUnavailableError("TLS to the authority failed: check its certificate and AUTHSEC_CA_FILE.")
    return AuditUnavailableError("The authority could not be reached, or did not answer in time.")
