"""Where services report what they decided: HTTP only. Who may is for `service`."""

from __future__ import annotations

import re
from collections.abc import Callable, Coroutine
from typing import Annotated, Any, Final, Literal, cast

from fastapi import APIRouter, Depends, Header, HTTPException, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from pydantic import Field, StringConstraints, model_validator

from authsec_core.wire import AUDIT_EVENTS_PATH
from authsec_server import deps, shapes
from authsec_server.agents.presented import named_client, presented
from authsec_server.audit.chain import format_instant
from authsec_server.problems import sdk_responses
from authsec_server.reports.service import DENIED, MOST_EVENTS, Report, ReportedEvent
from authsec_server.tokens.issue import ClientRequest

__all__ = ["router"]

_BEARER: Final = HTTPBearer(
    auto_error=False, scheme_name="reporter", description="An agent key, or a workload's token."
)
_UUID: Final = r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}"
_DECISIONS: Final = ("request", "tool")
_YEAR_10000: Final = 253402300800.0  # epoch seconds

Words = Annotated[str, StringConstraints(max_length=512)]
Names = Annotated[list[Annotated[str, StringConstraints(max_length=256)]], Field(max_length=64)]


class ReportRoute(APIRoute):
    """A route for services: it looks at who asks before it looks at what was sent. FastAPI parses a body first."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Return what handles a request. Called by FastAPI, once."""
        handle = super().get_route_handler()

        async def ask_first(request: Request) -> Response:
            request.state.reporter = asked = await _who_asks(request)
            try:
                return await handle(request)
            except (RequestValidationError, HTTPException):
                # Whoever has no good proof is told that, and not what is wrong with the request.
                await deps.authority(request).tokens.authenticate(asked, DENIED)
                raise

        return ask_first


router = APIRouter(tags=["reports"], route_class=ReportRoute)


class GuardEvent(shapes.Request):
    """One decision of a service, or the beginning or end of an agent's run there, in the service's own words."""

    id: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$"), Field(description="Random, and its own.")]
    event: Literal["request", "tool", "run.started", "run.ended"]
    outcome: Literal["allow", "deny", "success", "error", "cancelled"] | None = None
    reason: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_.]{1,64}$")]
    at: shapes.Instant
    subject: Words | None = None
    issuer: Words | None = None
    client_id: Words | None = None
    spiffe_id: Words | None = None
    user: Words | None = None
    jti: Words | None = None
    needed: Names | None = None
    role: Words | None = None
    action: Words | None = None
    roles: Names | None = None
    tool: Words | None = None
    request_id: Words | None = None
    method: Words | None = None
    route: Words | None = None
    agent: Words | None = None
    conversation: Words | None = None
    tools: Names | None = None
    duration: Annotated[float | None, Field(ge=0, allow_inf_nan=False, description="Seconds.")] = None
    run_id: Words | None = None

    @model_validator(mode="after")
    def _is_possible(self) -> GuardEvent:
        if (self.event in _DECISIONS) != (self.outcome in ("allow", "deny")):
            raise ValueError("a decision, and nothing else, has the outcome allow or deny")
        if not 0 <= self.at < _YEAR_10000:
            raise ValueError("at is in no year from 1970 to 9999")
        return self

    def reported(self) -> ReportedEvent:
        """Return what becomes an entry."""
        said = self.model_dump(exclude={"id"}, exclude_none=True)
        return ReportedEvent(
            id=self.id,
            action="guard.decision" if self.event in _DECISIONS else "guard.run",
            decision="deny" if self.outcome == "deny" else "allow",
            jti=self.jti if self.jti and re.fullmatch(_UUID, self.jti) else None,
            asked=" ".join(self.needed or ()) or None,
            claimed={name: _as_text(name, value) for name, value in said.items()},
        )


class GuardEvents(shapes.Request):
    """Some of them; those that are on record already are left out."""

    events: Annotated[list[GuardEvent], Field(min_length=1, max_length=MOST_EVENTS)]


class RecordedReply(shapes.Reply):
    """All of them are on record."""

    recorded: Annotated[int, Field(description="How many were not on record before.")]


async def _who_asks(request: Request) -> ClientRequest:
    inner, address = deps.authority(request), deps.peer(request)
    with deps.within_limits(request):
        client_id = named_client(*request.headers.getlist("x-client-id"))
        given = request.headers.getlist("authorization")
        proof = await presented(
            given, client_id, bare_ids=inner.settings.dev, pepper=inner.pepper, foreign=inner.foreign
        )
    return ClientRequest(client_id=client_id, proof=proof, request_id=deps.request_id(request), address=address)


def _reporter(
    request: Request,
    _shown: Annotated[HTTPAuthorizationCredentials | None, Depends(_BEARER)] = None,
    _named: Annotated[str | None, Header(alias="X-Client-ID", description="The client id of who reports.")] = None,
) -> ClientRequest:
    return cast("ClientRequest", request.state.reporter)


@router.post(
    AUDIT_EVENTS_PATH,
    operation_id="audit_report",
    summary="Report decisions of a service to the audit",
    status_code=201,
    responses=sdk_responses(400, 401, 403, 404, 408, 410, 429),
)
async def report(
    request: Request, asked: Annotated[ClientRequest, Depends(_reporter)], body: GuardEvents
) -> RecordedReply:
    """Record what a service decided, once for each event, however often it is sent; durable before this answers."""
    inner = deps.authority(request)
    events = [event.reported() for event in body.events]
    return RecordedReply(recorded=await inner.tokens.judge(asked, Report(asked, events, inner.caps)))


def _as_text(name: str, value: Any) -> str:
    if name == "at":
        return format_instant(value)
    return " ".join(value) if isinstance(value, list) else str(value)
