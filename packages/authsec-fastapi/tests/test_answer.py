"""What a route raises is answered like what its dependencies raise, once the application says so.

No `from __future__ import annotations`: FastAPI reads those of functions that are made inside others.
"""

from collections.abc import Mapping
from typing import Any

import pytest
from fastapi import Depends, FastAPI, WebSocket
from guard_support import Issuer, Memory, bearer, behind
from starlette.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from authsec_core import RevokedTokenError, VerificationUnavailableError
from authsec_core.errors import AuthSecError
from authsec_fastapi import (
    AccessDeniedError,
    AuditUnavailableError,
    ConversationBusyError,
    ConversationIdError,
    ConversationLimitError,
)

issuer = Issuer()


def raising(error: Exception) -> TestClient:
    """Return a client of an application whose route and WebSocket raise an error."""
    guard = issuer.guard(realm="shop", sink=Memory())
    app = FastAPI()
    app.add_exception_handler(AuthSecError, guard.answer)
    app.add_exception_handler(KeyError, guard.answer)

    @app.get("/", dependencies=[Depends(guard.require_caller())])
    async def route() -> None:
        raise error

    @app.websocket("/socket", dependencies=[Depends(guard.require_caller())])
    async def socket(connection: WebSocket) -> None:
        await connection.accept()
        raise error

    client = behind(app)
    client.headers.update(bearer(issuer.token()))
    return client


@pytest.mark.req("RV8")
@pytest.mark.parametrize(
    ("error", "status", "headers"),
    [
        (RevokedTokenError("canary"), 401, {"www-authenticate": 'Bearer realm="shop", error="invalid_token"'}),
        (
            AccessDeniedError("No.", reason="insufficient_scope", missing=["a"], needed=["a"]),
            403,
            {"www-authenticate": 'Bearer realm="shop", error="insufficient_scope", scope="a"'},
        ),
        (VerificationUnavailableError("canary"), 503, {"retry-after": "5"}),
        (AuditUnavailableError("canary"), 503, {"retry-after": "5"}),
        (ConversationIdError("No."), 400, {}),
        (ConversationBusyError("No."), 409, {"retry-after": "5"}),
        (ConversationLimitError("No."), 503, {"retry-after": "5"}),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else "",
)
def test_what_a_route_raises_is_answered(error: AuthSecError, status: int, headers: Mapping[str, str]) -> None:
    """The status and the headers of the refusal, and no word that is not ours."""
    answer: Any = raising(error).get("/")
    assert answer.status_code == status
    assert headers.items() <= dict(answer.headers).items()
    assert list(answer.json()) == ["detail"]
    assert "canary" not in answer.text


def test_a_websocket_is_closed() -> None:
    """With the code for a policy that was not kept, because no answer can be sent any more."""
    client = raising(RevokedTokenError("canary"))
    with client.websocket_connect("/socket") as socket, pytest.raises(WebSocketDisconnect) as closed:
        socket.receive_text()
    assert closed.value.code == 1008


def test_what_is_not_ours_stays_an_error() -> None:
    """A defect of the application is no refusal."""
    with pytest.raises(KeyError):
        raising(KeyError("x")).get("/")
