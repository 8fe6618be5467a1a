"""The gateway's HTTP: which routes there are, and what each does.

Who may call a route stands in policy.yaml, and the guard's middleware refuses all else before it gets here. What goes
in and out, and what an error looks like, is for `answers`; the agent's turn is in `agents`.

No `from __future__ import annotations`: FastAPI reads the annotations of what is made inside a function here.
"""

import contextlib
import secrets
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Annotated, Any, Final, TypeAlias

from autogen_core.models import ChatCompletionClient
from fastapi import Depends, FastAPI, Request
from fastapi.responses import FileResponse, Response

from agent_gateway.agents import Event, Finished, Support
from agent_gateway.answers import EventStream, Question, add_error_handlers
from agent_gateway.edge import BodyLimit, SafeHeaders
from agent_gateway.orders import OrderBook
from agent_gateway.reloading import RELOAD_PATH, reloaded
from agent_gateway.tools import support_tools
from authsec_fastapi import AuthSecGuard, AuthSecMiddleware, Conversations, Principal, TokenMissingError

__all__ = ["create_app"]

_PAGE: Final = Path(__file__).parent / "page"
_FILES: Final = {
    "/": ("page.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
_LARGEST_BODY: Final = 16 * 1024  # bytes: the longest message, escaped, and some room


def create_app(
    guard: AuthSecGuard, *, model: ChatCompletionClient, orders: OrderBook | None = None, interval: float = 1.0
) -> FastAPI:
    """Return the gateway.

    Args:
        guard: With a policy such as policy.yaml.
        model: Closed when the application ends.
        interval: Seconds between two looks at the token of a caller whose turn takes long.
    """
    book = orders if orders is not None else OrderBook()
    tools = support_tools(book, guard)
    support = Support(guard, model=model, tools=tools, conversations=Conversations(), interval=interval)
    # No pages of documentation: they would fetch their scripts from elsewhere.
    app = FastAPI(
        title="Agent gateway", lifespan=lambda _: _closing(model), docs_url=None, redoc_url=None, openapi_url=None
    )
    app.add_middleware(BodyLimit, most=_LARGEST_BODY)
    # It decides by the policy's routes: what those say is not said here a second time, and is on record once.
    app.add_middleware(AuthSecMiddleware, guard=guard)
    app.add_middleware(SafeHeaders)  # added last, it comes first: refusals have its headers too
    add_error_handlers(app, guard)
    _add_page(app)

    def let_in(request: Request) -> Principal:
        caller = guard.caller_of(request)
        if caller is None:  # the policy calls a route public that is not made for that: nobody gets in
            raise TokenMissingError("A bearer token is needed.")
        return caller

    Caller: TypeAlias = Annotated[Principal, Depends(let_in)]

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/me")
    async def me(caller: Caller) -> dict[str, Any]:
        return {
            "subject": caller.subject,
            "user": caller.user,
            "roles": sorted(caller.roles),
            "scopes": sorted(caller.scopes),
            "tools": [tool.__name__ for tool in guard.tools(caller, tools)],
            "expires_at": caller.expires_at,
        }

    @app.get("/orders")
    async def orders_of(caller: Caller) -> dict[str, Any]:
        return {"orders": [order.to_dict() for order in book.of(caller)]}

    @app.post("/chat")
    async def chat(question: Question, caller: Caller) -> dict[str, Any]:
        conversation = _conversation(question)
        last: Event | None = None
        async with contextlib.aclosing(support.turn(caller, question.message, conversation)) as events:
            async for event in events:
                last = event
        assert isinstance(last, Finished)
        return {"response": last.response, "conversation": conversation, "tools_used": list(last.tools)}

    @app.post("/chat/stream")
    async def stream(question: Question, caller: Caller) -> Response:
        conversation = _conversation(question)
        turn = support.turn(caller, question.message, conversation)
        return EventStream(turn, conversation=conversation, realm=guard.realm)

    @app.post(RELOAD_PATH)
    def reload(_caller: Caller) -> dict[str, Any]:
        policy = reloaded(guard)
        return {"reloaded": True, "roles": sorted(policy.roles), "tools": sorted(policy.tools)}

    return app


@contextlib.asynccontextmanager
async def _closing(model: ChatCompletionClient) -> AsyncIterator[None]:
    yield
    await model.close()


def _add_page(app: FastAPI) -> None:
    def sender(name: str, media_type: str) -> Callable[[], FileResponse]:
        return lambda: FileResponse(_PAGE / name, media_type=media_type)

    for path, (name, media_type) in _FILES.items():
        app.add_api_route(path, sender(name, media_type), response_model=None)


def _conversation(question: Question) -> str:
    return secrets.token_urlsafe(12) if question.conversation is None else question.conversation
