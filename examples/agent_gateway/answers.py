"""What goes in and out: a question, a turn as server-sent events, and errors in the form of the guard's own.

Nothing that the caller sent is echoed, and nothing of what the model or its maker said about an error.
"""

from __future__ import annotations

import contextlib
import json
import logging
import re
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Annotated, Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field
from starlette.types import Receive, Scope, Send

from agent_gateway.agents import Event, Finished, ModelUnavailableError, Said, Used
from authsec_core.errors import AuthSecError, ConfigurationError
from authsec_fastapi import AuthSecGuard
from authsec_fastapi.refusals import refusal_of

__all__ = ["EventStream", "Question", "add_error_handlers"]

_NO_MODEL: Final = "The model cannot be asked right now: try again later."
_BROKEN: Final = "Something went wrong here. It is in the log."
_JSON: Final = re.compile(r"\s*application/json\s*(;|$)", re.IGNORECASE)
_log = logging.getLogger("agent_gateway")


def add_error_handlers(app: FastAPI, guard: AuthSecGuard) -> None:
    """Give all errors one form: what the guard refuses has it already."""
    app.add_exception_handler(AuthSecError, guard.answer)

    @app.exception_handler(RequestValidationError)
    async def wrong_body(request: Request, error: RequestValidationError) -> JSONResponse:
        detail = "; ".join(f"{_place(one['loc'])}: {one['msg']}" for one in error.errors()[:5])
        if not _JSON.match(request.headers.get("content-type", "")):
            detail = "The body has to be JSON: send Content-Type: application/json."
        return JSONResponse({"detail": detail}, 422)

    @app.exception_handler(ConfigurationError)
    async def wrong_policy(_request: Request, error: ConfigurationError) -> JSONResponse:
        # Only /admin/reload gets here, and who may call that may know where in the file it is.
        return JSONResponse({"detail": error.message[:1].upper() + error.message[1:]}, 409)

    @app.exception_handler(ModelUnavailableError)
    async def no_model(_request: Request, error: ModelUnavailableError) -> JSONResponse:
        _log_model(error)
        return JSONResponse({"detail": _NO_MODEL}, 502)

    @app.exception_handler(Exception)
    async def broken(_request: Request, _error: Exception) -> JSONResponse:
        return JSONResponse({"detail": _BROKEN}, 500)  # Starlette logs it


class Question(BaseModel):
    """What somebody asks the agent.

    Attributes:
        conversation: As an answer gave it, to go on; without one a new conversation begins.
    """

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    message: Annotated[str, Field(min_length=1, max_length=2000)]
    conversation: str | None = None


class EventStream(StreamingResponse):
    """One turn as `text/event-stream`: `token`, `tool`, then `done` or `error`. It ends when the client leaves.

    The answer's own status has been sent by then, so an `error` has the one that it would have been.
    """

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
            yield _sse("error", {"detail": refusal.detail, "status": refusal.status})
        except ModelUnavailableError as error:
            _log_model(error)
            yield _sse("error", {"detail": _NO_MODEL, "status": 502})
        except Exception:  # noqa: BLE001 -- the rim: the status has been sent, so that a 500 has to be an event
            _log.exception("a turn failed")
            yield _sse("error", {"detail": _BROKEN, "status": 500})


def _log_model(error: ModelUnavailableError) -> None:
    cause = error.__cause__
    status = getattr(cause, "status_code", None)
    _log.warning(
        "the model failed (%s%s): check OPENAI_API_KEY, OPENAI_MODEL, the account and the way to OpenAI",
        type(cause).__name__,
        "" if status is None else f", status {status:d}",
    )


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
