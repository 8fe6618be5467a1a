"""A guard for a FastAPI application: in which words a route says what it needs, and what happens when that is missing.

The decisions themselves are made by `judging`; the middleware that denies by default is in `middleware`.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

from authsec_core._clock import SYSTEM_CLOCK, Clock
from authsec_core.errors import ConfigurationError
from authsec_core.scopes import parse_scopes
from authsec_core.verify import Profile
from authsec_fastapi._dependencies import dependency
from authsec_fastapi.audit import AuditSink, LoggingSink
from authsec_fastapi.authentication import Authenticator, StaticAuthenticator, TokenAuthenticator
from authsec_fastapi.issuers import RevocationCheck, TrustedIssuer
from authsec_fastapi.judging import Judge
from authsec_fastapi.policy import NOTHING_PERMITTED, Policy
from authsec_fastapi.principal import Principal, RolesClaim
from authsec_fastapi.recording import Recorder
from authsec_fastapi.requirement import ANY_CALLER, Requirement
from authsec_fastapi.runs import AgentRun
from authsec_fastapi.static_token import StaticToken

if TYPE_CHECKING:
    import httpx
    from starlette.requests import HTTPConnection

__all__ = ["AuthSecGuard", "CallerDependency"]

CallerDependency: TypeAlias = Callable[["HTTPConnection"], Awaitable[Principal]]

_log = logging.getLogger("authsec.guard")


class AuthSecGuard:
    """Decides who may call what. Make one when the application starts; thread-safe, loop-safe, nothing to close.

    The first request costs a fetch of the issuer's keys; `authsec_core.TokenVerifier` says how long they and the
    revocations count. Every decision goes on record, by default as a line of the log `authsec.audit`.

    Args:
        issuer: Whose tokens to accept, `iss`: the authority's URL with `/authsec`, or an identity provider's.
        audience: The name of your API, as the tokens have it in `aud`.
        jwks_url: See `TrustedIssuer`; so are the next four.
        jwks: The issuer's keys, instead of a URL.
        profile: The kind of its tokens.
        roles_claim: Where they say the roles.
        revocation: Whether a token that could not be revoked is refused.
        issuers: Several issuers, or one on terms of its own, instead of the six before.
        static_token: One token for a first try, instead of any issuer.
        policy: Which role may do what, and which tool needs what. Without it no role permits anything.
        sink: Where decisions and runs go on record.
        audit_first: Refuse with 503 what could not be put on record.
        realm: What the challenge of a 401 calls your API.
        transport: An httpx transport for blocking fetches.
        async_transport: An httpx transport for the others.
        clock: For tests.

    Raises:
        ConfigurationError: It says what is missing, contradictory or unsafe.
    """

    def __init__(
        self,
        *,
        issuer: str | None = None,
        audience: str | Iterable[str] | None = None,
        jwks_url: str | None = None,
        jwks: Mapping[str, Any] | None = None,
        profile: Profile = "delegation",
        roles_claim: RolesClaim = "roles",
        revocation: RevocationCheck | None = None,
        issuers: Iterable[TrustedIssuer] = (),
        static_token: StaticToken | None = None,
        policy: Policy | None = None,
        sink: AuditSink | None = None,
        audit_first: bool = True,
        realm: str = "authsec",
        transport: httpx.BaseTransport | None = None,
        async_transport: httpx.AsyncBaseTransport | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        trusted = list(issuers)
        if issuer is not None:
            if trusted:
                raise ConfigurationError("give issuer= or issuers=, not both")
            if audience is None:
                raise ConfigurationError("give audience=: the name of your API, as tokens have it in aud")
            trusted.append(
                TrustedIssuer(
                    issuer=issuer,
                    audience=audience if isinstance(audience, str) else tuple(audience),
                    jwks_url=jwks_url,
                    jwks=jwks,
                    profile=profile,
                    roles_claim=roles_claim,
                    revocation=revocation,
                )
            )
        self.policy = policy if policy is not None else NOTHING_PERMITTED
        self._has_policy = policy is not None
        authenticator = _authenticator(trusted, static_token, clock, transport, async_transport)
        recorder = Recorder(sink if sink is not None else LoggingSink(), audit_first=audit_first, clock=clock)
        self.judge = Judge(authenticator, self.policy, recorder)  # for who builds on it: tools, middleware
        self.realm = _checked_realm(realm)

    def require(self, *scopes: str, role: str | None = None, action: str | None = None) -> CallerDependency:
        """Return a dependency for `Depends(…)` that lets in who has all of these, and hands on who that is.

        It works on routes, routers and whole applications, for requests and for WebSockets, and the application's
        OpenAPI shows its scopes.

        Args:
            scopes: Each is needed, exactly as spelled. Without any, `role` or `action` is needed.
            role: The caller has to have it.
            action: One of the caller's roles has to permit it, by the policy.

        Raises:
            ValueError: Nothing is named (`require_caller` lets in everybody with a good token), or a scope is none.
            ConfigurationError: The policy does not know the role or the action, so that nobody would be let in.
        """
        if not (scopes or role or action):
            raise ValueError("name what is needed; require_caller() lets in everybody with a good token")
        return dependency(self.judge, self._requirement(scopes, role, action), realm=self.realm)

    def require_caller(self) -> CallerDependency:
        """Return a dependency that lets in everybody with a good token."""
        return dependency(self.judge, ANY_CALLER, realm=self.realm)

    def require_role(self, role: str) -> CallerDependency:
        """Return a dependency that lets in who has this role; see `require`."""
        return self.require(role=role)

    def require_action(self, action: str) -> CallerDependency:
        """Return a dependency that lets in who has a role that permits this; see `require`."""
        return self.require(action=action)

    def run(self, principal: Principal, *, agent: str, conversation: str | None = None) -> AgentRun:
        """Return what puts a run of an agent on record, for `with` or `async with`; see `AgentRun`.

        Args:
            principal: For whom it runs.
            agent: What you call it.
            conversation: For which of the caller's conversations.

        Raises:
            ValueError: The principal was made by hand, or the agent has no name.
            ConversationIdError: No conversation can be called that.
        """
        return AgentRun(self.judge.recorder, principal, agent=agent, conversation=conversation)

    def _requirement(self, scopes: tuple[str, ...], role: str | None, action: str | None) -> Requirement:
        for scope in scopes:
            if parse_scopes(scope) != frozenset({scope}):
                raise ValueError(f"{scope!r} is not one scope: name each as an argument of its own")
        if role is not None and self._has_policy and role not in self.policy.roles:
            raise ConfigurationError(f"the policy has no role {role!r}: add it, or mend the name")
        if action is not None and action not in self.policy.actions:
            raise ConfigurationError(f"no role of the policy permits {action!r}: add it, or mend the name")
        return Requirement(scopes=frozenset(scopes), role=role, action=action)


def _authenticator(
    issuers: list[TrustedIssuer],
    static_token: StaticToken | None,
    clock: Clock,
    transport: httpx.BaseTransport | None,
    async_transport: httpx.AsyncBaseTransport | None,
) -> Authenticator:
    if static_token is None:
        return TokenAuthenticator(issuers, clock=clock, transport=transport, async_transport=async_transport)
    if issuers:
        raise ConfigurationError("a static token is for a first try: take it out where an issuer is trusted")
    _log.warning("a static token lets in everyone who has ever seen it: name an issuer before this goes anywhere")
    return StaticAuthenticator(static_token)


def _checked_realm(realm: str) -> str:
    if not realm or not realm.isascii() or not realm.isprintable() or {'"', "\\"} & set(realm):
        raise ConfigurationError("the realm needs visible ASCII without quotes and backslashes")
    return realm
