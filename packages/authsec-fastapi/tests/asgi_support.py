"""What the guard's tests share that call an application as a server does: any bytes in a header, many at once."""

from __future__ import annotations

from typing import Any

from fastapi import Depends, FastAPI

from authsec_fastapi import AuthSecGuard

__all__ = ["open_to_callers", "status_of"]


def open_to_callers(guard: AuthSecGuard) -> FastAPI:
    """Return an application with one route, for everybody with a good token."""
    app = FastAPI(openapi_url=None, dependencies=[Depends(guard.require_caller())])

    @app.get("/")
    async def answer() -> str:
        return "in"

    return app


async def status_of(app: FastAPI, authorization: bytes) -> int:
    """Return how the application answers a request with this Authorization header."""
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": "/",
        "raw_path": b"/",
        "query_string": b"",
        "root_path": "",
        "headers": [(b"host", b"api"), (b"authorization", authorization)],
        "server": ("api", 80),
    }
    await app(scope, receive, send)
    return int(sent[0]["status"])
