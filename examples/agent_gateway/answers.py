"""What goes in and out: a question, a turn as server-sent events, and errors as `{"detail": …, "code": …}`.

Nothing that the caller sent is echoed, and nothing of what the model or its maker said about an error.
"""

from __future__ import annotations

import contextlib
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from http import HTTPStatus
from typing import Annotated, Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from agent_gateway.agents import Event, Finished, ModelUnavailableError, Said, Used
from authsec_core.errors import AuthSecError, ConfigurationError
from authsec_fastapi import AuthSecGuard
from authsec_fastapi.refusals import refusal_of

__all__ = ["EventStream", "Question", "add_error_handlers"]

_MODEL: Final = {"detail": "The model cannot be asked right now: try again later.", "code": "model_unavailable"}
_BROKEN: Final = {"detail": "Something went wrong here. It is in the log.", "code": "internal_error"}
_log = logging.getLogger("agent_gateway")


def add_error_handlers(app: FastAPI, guard: AuthSecGuard) -> None:
    """Give all errors one form."""

    @app.exception_handler(HTTPException)
    async def plain(_request: Request, error: HTTPException) -> JSONResponse:
        code = HTTPStatus(error.status_code).name.lower()
        return JSONResponse({"detail": error.detail, "code": code}, error.status_code, headers=error.headers)

    @app.exception_handler(RequestValidationError)
    async def wrong_body(_request: Request, error: RequestValidationError) -> JSONResponse:
        detail = "; ".join(f"{_place(one['loc'])}: {one['msg']}" for one in error.errors()[:5])
        return JSONResponse({"detail": detail, "code": "invalid_request"}, 422)

    @app.exception_handler(ConfigurationError)
    async def wrong_policy(_request: Request, error: ConfigurationError) -> JSONResponse:
        # Only /admin/reload gets here, and who may call that may know where in the file it is.
        detail = f"The policy was not reloaded, and the old one still holds. {error.message}"
        return JSONResponse({"detail": detail, "code": "policy_refused"}, 409)

    @app.exception_handler(AuthSecError)
    async def refused(_request: Request, error: AuthSecError) -> JSONResponse:
        refusal = refusal_of(error, realm=guard.realm)
        code = HTTPStatus(refusal.status).name.lower()
        return JSONResponse({"detail": refusal.detail, "code": code}, refusal.status, headers=dict(refusal.headers))

    @app.exception_handler(ModelUnavailableError)
    async def no_model(_request: Request, error: ModelUnavailableError) -> JSONResponse:
        _log.warning("the model failed: %s", type(error.__cause__).__name__)
        return JSONResponse(_MODEL, 502)

    @app.exception_handler(Exception)
    async def broken(_request: Request, _error: Exception) -> JSONResponse:
        return JSONResponse(_BROKEN, 500)  # Starlette logs it


class Question(BaseModel):
    """What somebody asks the agent.

    Attributes:
        conversation: As an answer gave it, to go on; without one a new conversation begins.
    """

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    message: Annotated[str, Field(min_length=1, max_length=2000)]
    conversation: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{1,64}$")] | None = None


class EventStream(StreamingResponse):
    """One turn as `text/event-stream`: `token`, `tool`, then `done` or `error`. It ends when the client leaves."""

    def __init__(self, turn: AsyncGenerator[Event, None], *, conversation: str, realm: str) -> None:
        self._turn = turn
        self._conversation = conversation
        self._realm = realm
        super().__init__(self._lines(), media_type="text/event-stream")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it, and end the turn however that ends."""
        async with contextlib.aclosing(self._turn):
            await super().__call__(scope, receive, send)

    async def _lines(self) -> AsyncIterator[str]:
        try:
            async for event in self._turn:
                yield _line(event, self._conversation)
        except AuthSecError as error:
            refusal = refusal_of(error, realm=self._realm)
            yield _sse("error", {"detail": refusal.detail, "code": HTTPStatus(refusal.status).name.lower()})
        except ModelUnavailableError as error:
            _log.warning("the model failed: %s", type(error.__cause__).__name__)
            yield _sse("error", _MODEL)
        except Exception:  # noqa: BLE001 -- the rim: the status has been sent, so that a 500 has to be an event
            _log.exception("a turn failed")
            yield _sse("error", _BROKEN)


def _place(loc: Sequence[object]) -> str:
    # A field that is not ours has a name that the caller wrote.
    return next((str(name) for name in loc if name in Question.model_fields), "body")


def _line(event: Event, conversation: str) -> str:
    if isinstance(event, Said):
        return _sse("token", {"text": event.text})
    if isinstance(event, Used):
        return _sse("tool", {"name": event.tool, "worked": event.worked})
    assert isinstance(event, Finished)
    done = {"response": event.response, "conversation": conversation, "tools_used": list(event.tools)}
    return _sse("done", done)


def _sse(name: str, data: dict[str, Any]) -> str:
    # JSON has no bare line end, so that no text of the model's can begin an event of its own.
    return f"event: {name}\ndata: {json.dumps(data)}\n\n"
