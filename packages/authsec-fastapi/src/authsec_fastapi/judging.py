"""Who presents this token, may they do this, and is that on record? The steps of each decision, blocking and async.

`Judge` joins what the other modules know: `authentication` who, `requirement` whether, `recording` that it was. It
knows no web framework.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

from authsec_core.errors import AuthSecError
from authsec_fastapi._policy_in_force import PolicyInForce
from authsec_fastapi.audit import AuditEvent
from authsec_fastapi.authentication import Authenticator
from authsec_fastapi.bearer import bearer_token
from authsec_fastapi.policy import Policy
from authsec_fastapi.principal import Principal, Standing
from authsec_fastapi.recording import About, Recorder, decision_event, error_reason
from authsec_fastapi.requirement import Decision, Requirement, decide

__all__ = ["Judge"]

Headers: TypeAlias = Iterable[tuple[bytes, bytes]]


class Judge:
    """Decides, and puts each decision on record. Thread-safe and loop-safe."""

    def __init__(self, authenticator: Authenticator, policies: PolicyInForce, recorder: Recorder) -> None:
        self._authenticator = authenticator
        self._policies = policies
        self.recorder = recorder

    @property
    def policy(self) -> Policy:
        """The policy in force. Take it once for each decision: the next one may be another."""
        return self._policies.current

    async def admit(self, headers: Headers, requirement: Requirement, about: About) -> Principal:
        """Return the caller of a request, if they may do what the requirement is of.

        Raises:
            AuthSecError: They may not, or nobody can tell; `refusals` has the answer.
        """
        principal: Principal | None = None
        try:
            principal = await self._authenticator.aauthenticate(bearer_token(headers))
            decision = decide(principal, requirement, self.policy)
            decision.enforce()
        except AuthSecError as error:
            await self.recorder.arecord(self._denied(principal, requirement, error, about))
            raise
        await self.recorder.arecord(self._allowed(principal, requirement, decision, about))
        return principal

    async def arecheck(self, principal: Principal, requirement: Requirement, about: About) -> None:
        """Return if a caller that was admitted still may, and may do this too.

        Raises:
            ValueError: The principal was made by hand, so that nobody vouches for it.
            AuthSecError: As `admit`.
        """
        standing = _standing(principal)
        try:
            await standing.acheck()
            decision = decide(principal, requirement, self.policy)
            decision.enforce()
        except AuthSecError as error:
            await self.recorder.arecord(self._denied(principal, requirement, error, about))
            raise
        await self.recorder.arecord(self._allowed(principal, requirement, decision, about))

    def recheck(self, principal: Principal, requirement: Requirement, about: About) -> None:
        """Do what `arecheck` does for blocking code; may fetch keys or a status list."""
        standing = _standing(principal)
        try:
            standing.check()
            decision = decide(principal, requirement, self.policy)
            decision.enforce()
        except AuthSecError as error:
            self.recorder.record(self._denied(principal, requirement, error, about))
            raise
        self.recorder.record(self._allowed(principal, requirement, decision, about))

    def _allowed(self, principal: Principal, requirement: Requirement, decision: Decision, about: About) -> AuditEvent:
        return decision_event(
            principal,
            requirement,
            reason=decision.reason,
            outcome="allow",
            at=self.recorder.clock.wall(),
            about=about,
            needed=decision.needed,
        )

    def _denied(
        self, principal: Principal | None, requirement: Requirement, error: AuthSecError, about: About
    ) -> AuditEvent:
        return decision_event(
            principal,
            requirement,
            reason=error_reason(error),
            outcome="deny",
            at=self.recorder.clock.wall(),
            about=about,
            needed=getattr(error, "needed", ()),
        )


def _standing(principal: Principal) -> Standing:
    standing = principal._standing
    if standing is None:
        raise ValueError("this principal did not come from a guard, so that nothing can be decided for it")
    return standing
