"""A guard for a FastAPI application: in which words a route says what it needs, and what happens when that is missing.

The decisions themselves are made by `judging`; the middleware that denies by default is in `middleware`.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, overload

from authsec_core._clock import SYSTEM_CLOCK, Clock
from authsec_core.errors import ConfigurationError
from authsec_core.verify import Profile
from authsec_fastapi._admitted import remembered
from authsec_fastapi._dependencies import dependency
from authsec_fastapi._given import checked_issuers, checked_sink, checked_token, requirement_for
from authsec_fastapi._refusing import answer
from authsec_fastapi._reloading import PolicySource, Reloading
from authsec_fastapi._scheme import bearer_scheme, refusing_responses
from authsec_fastapi.audit import AuditSink, LoggingSink
from authsec_fastapi.authentication import Authenticator, StaticAuthenticator, TokenAuthenticator
from authsec_fastapi.issuers import RevocationCheck, TrustedIssuer
from authsec_fastapi.judging import Judge
from authsec_fastapi.policy import Policy
from authsec_fastapi.principal import ClaimPath, Principal
from authsec_fastapi.recording import Recorder
from authsec_fastapi.requirement import ANY_CALLER, Requirement
from authsec_fastapi.runs import AgentRun
from authsec_fastapi.settings import GuardSettings
from authsec_fastapi.static_token import StaticToken
from authsec_fastapi.tools import ToolRun, guarded_tools

if TYPE_CHECKING:
    import httpx
    from starlette.requests import HTTPConnection, Request
    from starlette.responses import Response
    from starlette.websockets import WebSocket

__all__ = ["AuthSecGuard", "CallerDependency"]

CallerDependency: TypeAlias = Callable[["HTTPConnection"], Awaitable[Principal]]

_log = logging.getLogger("authsec.guard")


class AuthSecGuard:
    """Decides who may call what. Make one when the application starts; thread-safe, loop-safe, nothing to close.

    The first request costs a fetch of the issuer's keys; `authsec_core.TokenVerifier` says how long they and the
    revocations count. Every decision goes on record, by default as a line of the log `authsec.audit`.

    What is not given is read from the `AUTHSEC_GUARD_*` variables that `GuardSettings` lists; arguments win.

    Args:
        issuer: Whose tokens to accept, `iss`: the authority's URL with `/authsec`, or an identity provider's.
        audience: The name of your API, as the tokens have it in `aud`.
        jwks_url: See `TrustedIssuer`; so are the next five.
        jwks: The issuer's keys, instead of a URL.
        profile: The kind of its tokens.
        roles_claim: Where they say the roles.
        scopes_claim: Where they say the scopes.
        revocation: Whether a token that could not be revoked is refused.
        issuers: Several issuers, or one on terms of its own, instead of the seven before.
        static_token: One token for a first try, instead of any issuer.
        policy: Which role may do what, and which tool needs what: a `Policy`, or a file's path. Without it no role
            permits anything.
        sink: Where decisions and runs go on record.
        audit_first: Refuse with 503 what could not be put on record.
        realm: What the challenge of a 401 calls your API, and what its OpenAPI calls the scheme: two guards of one
            application need two.
        env_file: A `.env` file with settings; the environment wins over it.
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
        profile: Profile | None = None,
        roles_claim: ClaimPath | None = None,
        scopes_claim: ClaimPath | None = None,
        revocation: RevocationCheck | None = None,
        issuers: Iterable[TrustedIssuer] = (),
        static_token: StaticToken | None = None,
        policy: PolicySource | None = None,
        sink: AuditSink | None = None,
        audit_first: bool | None = None,
        realm: str | None = None,
        env_file: str | Path | None = None,
        transport: httpx.BaseTransport | None = None,
        async_transport: httpx.AsyncBaseTransport | None = None,
        clock: Clock = SYSTEM_CLOCK,
    ) -> None:
        issuers, static_token = checked_issuers(issuers), checked_token(static_token)
        settings = GuardSettings(
            issuer=issuer,
            audience=audience,
            jwks_url=jwks_url,
            profile=profile,
            roles_claim=roles_claim,
            scopes_claim=scopes_claim,
            revocation=revocation,
            audit_first=audit_first,
            realm=realm,
            env_file=env_file,
        )
        trusted = settings.trusted_issuers(issuers, jwks=jwks, static_token=static_token)
        static_token = static_token or settings.token()
        self._reloading = Reloading(policy if policy is not None else settings.policy_file)
        authenticator = _authenticator(trusted, static_token, clock, transport, async_transport)
        sink = checked_sink(sink) if sink is not None else LoggingSink()
        recorder = Recorder(sink, audit_first=settings.audit_first, clock=clock)
        # For who builds on it: tools, middleware.
        self.judge: Judge = Judge(authenticator, self._reloading.first, recorder)
        self.realm: str = _checked_realm(settings.realm)
        if static_token is not None:
            self._reloading.remember_roles(static_token.roles, self.judge)
        self._scheme = bearer_scheme(self.realm, trusted)

    @property
    def policy(self) -> Policy:
        """The policy in force. Take it once where several answers have to go together."""
        return self.judge.policy

    def reload_policy(self, *, check: Callable[[Policy], None] | None = None) -> Policy:
        """Read the policy's file anew, put it in force for each decision from now on, and return it.

        Blocks on the disk: call it from a route that is no coroutine, or by `asyncio.to_thread`.

        Args:
            check: Looks at the new policy before it is in force, one at a time, and raises ConfigurationError where the
                application cannot do with it. It is not to call `require` or `reload_policy` itself, which wait until
                it is done.

        Raises:
            ConfigurationError: It cannot be read, is no policy, lacks a role or an action that a route asks for, has
                lost all routes, or `check` refuses it. The policy that was in force stays.
        """
        return self._reloading.reload(self.judge, check)

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
            TypeError: A name is no text.
            ConfigurationError: The policy does not know the role or the action, so that nobody would be let in.
        """
        if not (scopes or role or action):
            raise ValueError("name what is needed; require_caller() lets in everybody with a good token")
        return dependency(self.judge, self._requirement(scopes, role, action), scheme=self._scheme)

    def require_caller(self) -> CallerDependency:
        """Return a dependency that lets in everybody with a good token."""
        return dependency(self.judge, ANY_CALLER, scheme=self._scheme)

    def require_role(self, role: str) -> CallerDependency:
        """Return a dependency that lets in who has this role; see `require`."""
        return self.require(role=role)

    def require_action(self, action: str) -> CallerDependency:
        """Return a dependency that lets in who has a role that permits this; see `require`."""
        return self.require(action=action)

    def tools(
        self, principal: Principal, tools: Iterable[Callable[..., Any]], *, run: ToolRun | None = None
    ) -> list[Callable[..., Any]]:
        """Return those of an agent's functions that the caller may use, by the policy's rules for tools.

        They look as before and are called as before, sync or async. Each call looks at the caller's token and the
        policy again, and goes on record; what is refused is not run, and answered with JSON text for the model. What
        the functions themselves return and raise is left as it is. A parameter annotated `Principal` is filled in with
        the caller, and is not in the signature that a framework shows to the model.

        Make them anew for each request: they act for this caller, whoever calls them, on whichever thread.

        Args:
            tools: Functions and bound methods. For the tools of a framework there are modules of its name.
            run: The run of the agent, so that decisions go on record as its.

        Raises:
            ConfigurationError: The policy does not know a tool.
            TypeError: Something is neither function nor bound method, or has a signature that no model can be told.
            ValueError: Two have one name, or no guard vouches for the principal.
        """
        return guarded_tools(self.judge, principal, tools, run=run)

    def run(self, principal: Principal, *, agent: str, conversation: str | None = None) -> AgentRun:
        """Return what puts a run of an agent on record, for `with` or `async with`; see `AgentRun`.

        Args:
            principal: For whom it runs.
            agent: What you call it.
            conversation: For which of the caller's conversations.

        Raises:
            ValueError: The principal was made by hand or by another guard, or the agent has no name.
            ConversationIdError: No conversation can be called that.
        """
        self.judge.standing_of(principal)
        return AgentRun(self.judge.recorder, principal, agent=agent, conversation=conversation)

    async def check_again(
        self,
        principal: Principal,
        *scopes: str,
        role: str | None = None,
        action: str | None = None,
        run: ToolRun | None = None,
    ) -> None:
        """Return if a caller who was let in may go on; for WebSockets and streams, which outlive tokens.

        It costs a digest, and at times a fetch of keys or of a status list; each look goes on record.

        Args:
            scopes: What is needed besides a good token; so are the next two.
            run: The run of an agent that goes on, so that the look goes on record as its.

        Raises:
            TokenRejectedError: The token has ended, or was revoked: stop, and close a WebSocket with 1008.
            AccessDeniedError: It does not allow this.
            VerificationUnavailableError: Nobody can tell: stop too, or ask again before anything else is done.
        """
        requirement = requirement_for(scopes, role, action)
        await self.judge.arecheck(principal, requirement, {} if run is None else run.about)

    def caller_of(self, connection: HTTPConnection) -> Principal | None:
        """Return whom the middleware has let in, for what is no FastAPI route; None where the request is public."""
        return remembered(self.judge, connection.scope)

    @overload
    async def answer(self, connection: Request, error: Exception) -> Response: ...

    @overload
    async def answer(self, connection: WebSocket, error: Exception) -> None: ...

    async def answer(self, connection: Request | WebSocket, error: Exception) -> Response | None:
        """Answer what is raised inside a route as a dependency would: `app.add_exception_handler(AuthSecError, …)`.

        Without it, what `run`, `check_again` or a conversation raises is a 500. A WebSocket is closed with 1008.
        """
        return await answer(error, connection, realm=self.realm)

    @property
    def responses(self) -> dict[int | str, dict[str, Any]]:
        """How OpenAPI describes the refusals: `FastAPI(responses=guard.responses)`, or a router's or a route's."""
        return refusing_responses()

    def _requirement(self, scopes: tuple[str, ...], role: str | None, action: str | None) -> Requirement:
        return self._reloading.remember(requirement_for(scopes, role, action), self.judge)


def _authenticator(
    issuers: list[TrustedIssuer],
    static_token: StaticToken | None,
    clock: Clock,
    transport: httpx.BaseTransport | None,
    async_transport: httpx.AsyncBaseTransport | None,
) -> Authenticator:
    if static_token is None:
        return TokenAuthenticator(issuers, clock=clock, transport=transport, async_transport=async_transport)
    _log.warning("a static token lets in everyone who has ever seen it: name an issuer before this goes anywhere")
    return StaticAuthenticator(static_token)


def _checked_realm(realm: str) -> str:
    if not realm or not realm.isascii() or not realm.isprintable() or {'"', "\\"} & set(realm):
        raise ConfigurationError("the realm needs visible ASCII without quotes and backslashes")
    return realm
