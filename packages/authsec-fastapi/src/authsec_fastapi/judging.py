"""Who presents this token, may they do this, and is that on record? The steps of each decision, blocking and async.

`Judge` joins what the other modules know: `authentication` who, `requirement` whether, `recording` that it was. It
knows no web framework.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TypeAlias

from authsec_core.errors import AuthSecError, ConfigurationError
from authsec_fastapi._telemetry import observe_decision
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

    def __init__(self, authenticator: Authenticator, policy: Policy, recorder: Recorder) -> None:
        self._authenticator = authenticator
        self.policy = policy
        self.recorder = recorder
        self._tools_known: set[str] = set()

    async def admit(
        self, headers: Headers, requirement: Requirement, about: About, *, policy: Policy | None = None
    ) -> Principal:
        """Return the caller of a request, if they may do what the requirement is of.

        Args:
            policy: By which to decide, where it is not the one of now.

        Raises:
            AuthSecError: They may not, or nobody can tell; `refusals` has the answer.
        """

        def look() -> Awaitable[Principal]:
            return self._authenticator.aauthenticate(bearer_token(headers))

        return await self._adecide(None, look, requirement, about, policy)

    async def readmit(
        self, principal: Principal, requirement: Requirement, about: About, *, policy: Policy | None = None
    ) -> None:
        """Return if a caller that was admitted with the same request may do this too; the token is not looked at again.

        Raises:
            AuthSecError: As `admit`.
        """

        async def look() -> Principal:
            return principal

        await self._adecide(principal, look, requirement, about, policy)

    async def arecheck(self, principal: Principal, requirement: Requirement, about: About) -> None:
        """Return if a caller that was admitted still may, and may do this too.

        Raises:
            ValueError: The principal was made by hand or by another guard, so that nobody here vouches for it.
            AuthSecError: As `admit`.
        """
        standing = self.standing_of(principal)

        async def look() -> Principal:
            await standing.acheck()
            return principal

        await self._adecide(principal, look, requirement, about, None)

    def recheck(self, principal: Principal, requirement: Requirement, about: About) -> None:
        """Do what `arecheck` does for blocking code; may fetch keys or a status list."""
        standing = self.standing_of(principal)
        with observe_decision() as told:
            try:
                standing.check()
                decision = self._enforced(principal, requirement, None)
            except AuthSecError as error:
                self.recorder.record(told.decided(self._denied(principal, requirement, error, about)))
                raise
            self.recorder.record(told.decided(self._allowed(principal, requirement, decision, about)))

    async def _adecide(
        self,
        known: Principal | None,
        look: Callable[[], Awaitable[Principal]],
        requirement: Requirement,
        about: About,
        policy: Policy | None,
    ) -> Principal:
        with observe_decision() as told:
            try:
                known = principal = await look()
                decision = self._enforced(principal, requirement, policy)
            except AuthSecError as error:
                await self.recorder.arecord(told.decided(self._denied(known, requirement, error, about)))
                raise
            await self.recorder.arecord(told.decided(self._allowed(principal, requirement, decision, about)))
        return principal

    def _enforced(self, principal: Principal, requirement: Requirement, policy: Policy | None) -> Decision:
        decision = decide(principal, requirement, policy or self.policy)
        decision.enforce()
        return decision

    def offers(self, principal: Principal, tool: str) -> bool:
        """Return whether an agent is to be given this tool for a caller that was admitted.

        That is a look at the policy, which goes on record nowhere: each call of the tool is decided when it comes.

        Raises:
            ValueError: The principal was made by hand or by another guard, so that nobody here vouches for it.
            ConfigurationError: The policy does not know the tool. One that it once knew is just not offered any more.
        """
        self.standing_of(principal)
        decision = decide(principal, Requirement(tool=tool), self.policy)
        if decision.reason != "tool_unknown":
            self._tools_known.add(tool)
        elif tool not in self._tools_known:
            raise ConfigurationError(f"the policy has no rule for the tool {tool!r}: add one, or mend the name")
        return decision.allowed

    def standing_of(self, principal: Principal) -> Standing:
        """Return what looks at the caller's token again.

        Raises:
            ValueError: The principal was made by hand; or by another guard, whose issuers may call anybody an admin.
        """
        standing = principal._standing
        if standing is None:
            raise ValueError("this principal did not come from a guard, so that nothing can be decided for it")
        if not standing.is_of(self._authenticator):
            raise ValueError("this principal came from another guard: use the one that let the caller in")
        return standing

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
