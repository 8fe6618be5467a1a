"""Which answer each error becomes, and that no answer holds anything that was sent."""

from __future__ import annotations

import json
from typing import Any

import pytest
from fastapi import Depends, FastAPI
from guard_http import asked, serving
from guard_support import Issuer, Memory

import authsec_core.errors as core
import authsec_fastapi.errors as own
from authsec_core.errors import AuthSecError
from authsec_fastapi import AuthSecMiddleware
from authsec_fastapi.refusals import refusal_of

issuer = Issuer()
CANARY = "canary-5f1d"


def tree(root: type[AuthSecError] = AuthSecError) -> list[type[AuthSecError]]:
    """Return a class of errors of this project and all below it."""
    below = [one for child in root.__subclasses__() for one in tree(child)]
    return [root, *below] if root.__module__ in {core.__name__, own.__name__} else below


# Status, `error` of the challenge (None: there is no challenge), and whether the words are those of the error, whose
# class promises to hold nothing that was sent.
ANSWERS: dict[str, tuple[int, str | None, bool]] = {
    "TokenMissingError": (401, "", True),
    "TokenRejectedError": (401, "invalid_token", False),
    "AccessDeniedError": (403, "insufficient_scope", True),
    "CredentialsError": (400, "invalid_request", True),
    "ConversationIdError": (400, None, True),
    "ConversationBusyError": (409, None, True),
    "ConversationLimitError": (503, None, True),
    "AuthSecError": (503, None, False),
}


def made(kind: type[AuthSecError]) -> AuthSecError:
    """Return an error of that class that is full of what must not be told."""
    error = kind.__new__(kind)
    error.args = (CANARY,)
    error.__dict__.update(
        message=CANARY, reason="insufficient_scope", missing=frozenset(), needed=frozenset(), retry_after=CANARY
    )
    return error


@pytest.mark.req("RV8")
@pytest.mark.parametrize("kind", tree())
def test_every_error_has_its_answer(kind: type[AuthSecError]) -> None:
    """What is about the token carries the challenge of RFC 6750; what nobody foresaw is a 503, and nobody is let in."""
    refusal = refusal_of(made(kind), realm="shop")
    status, error, own_words = next(ANSWERS[one.__name__] for one in kind.__mro__ if one.__name__ in ANSWERS)
    assert refusal.status == status
    assert refusal.headers["Cache-Control"] == "no-store"
    assert ("Retry-After" in refusal.headers) == (status in {409, 503})
    challenge = None if error is None else 'Bearer realm="shop"' + (f', error="{error}"' if error else "")
    assert refusal.headers.get("WWW-Authenticate") == challenge
    assert (refusal.detail == CANARY) == own_words


def test_the_tree_is_whole() -> None:
    """The table above cannot pass by looking at nothing: it has the errors of the core and of the guard."""
    assert {core.RevokedTokenError, core.VaultError, own.AccessDeniedError, own.AuditUnavailableError} <= set(tree())
    assert len(tree()) > 30


@pytest.mark.req("RV8")
def test_scopes_are_named_where_scopes_are_missing() -> None:
    """`scope=` says what is needed; where it is for want of a role, no scope would help, and none is named."""
    short = own.AccessDeniedError("x", reason="insufficient_scope", missing=["b"], needed=["b", "a"])
    assert refusal_of(short, realm="shop").headers["WWW-Authenticate"].endswith('scope="a b"')
    role = own.AccessDeniedError("x", reason="role_missing", needed=["a"])
    assert "scope=" not in refusal_of(role, realm="shop").headers["WWW-Authenticate"]


@pytest.mark.req("RV8")
@pytest.mark.parametrize("guarded_by", ["dependency", "middleware"])
@pytest.mark.parametrize("kind", ["GET", "CANARY-5F1D", "WEBSOCKET"])
@pytest.mark.parametrize(
    "authorization",
    [
        [],
        [CANARY],
        [f"Bearer {CANARY}"],
        [f"Bearer {CANARY} {CANARY}"],
        [f"Basic {CANARY}"],
        [f"Bearer {CANARY}", f"Bearer {CANARY}"],
        [f"Bearer {issuer.token(CANARY, sub=CANARY, jti=CANARY, roles=[CANARY], client_id=CANARY)}"],
        [f"Bearer {issuer.token(CANARY, iss='https://canary-5f1d.example')}"],
    ],
)
def test_nothing_that_was_sent_comes_back(guarded_by: str, kind: str, authorization: list[str]) -> None:
    """Path, query, headers, token and method are neither in the answer nor, of an unknown caller, on record."""
    memory = Memory()
    guard = issuer.guard(sink=memory)
    app = FastAPI()
    if guarded_by == "middleware":
        app.add_middleware(AuthSecMiddleware, guard=guard)
    for path in ("/{name}", "/"):
        app.api_route(path, methods=["GET", "CANARY-5F1D"], dependencies=[Depends(guard.require("read"))])(lambda: None)
        app.websocket(path, dependencies=[Depends(guard.require("read"))])(_never)
    headers = [(b"authorization", value.encode()) for value in authorization]
    headers += [(b"x-canary", CANARY.encode()), (b"host", CANARY.encode()), (b"referer", CANARY.encode())]
    answer = asked(app, kind, f"/{CANARY}", headers, query_string=CANARY.encode())
    assert answer.status in {400, 401, 403}
    assert CANARY not in (json.dumps(dict(answer.headers)) + answer.body.decode()).lower()
    assert answer.headers["cache-control"] == "no-store"
    for event in memory.events:
        if event.subject is None:
            assert CANARY not in event.to_json().lower()


async def _never() -> None:
    raise AssertionError("nobody gets here")


@pytest.mark.req("RV8")
@pytest.mark.parametrize("http", ["h11", "httptools"])
def test_a_head_request_gets_the_head_of_the_answer(http: str) -> None:
    """HEAD is refused like GET, without a body, by the middleware and by a dependency."""
    guard = issuer.guard()
    for middleware in (False, True):
        app = FastAPI()
        app.api_route("/", methods=["GET", "HEAD"], dependencies=[Depends(guard.require_caller())])(lambda: None)
        if middleware:
            app.add_middleware(AuthSecMiddleware, guard=guard)
        with serving(app, http=http) as port:
            status, answer = port.send("HEAD / HTTP/1.1")
            assert (status, answer.partition(b"\r\n\r\n")[2]) == (401, b"")
            status, answer = port.send("GET / HTTP/1.1")
            assert (status, json.loads(answer.partition(b"\r\n\r\n")[2])) == (
                401,
                {"detail": "The request has no bearer token."},
            )


@pytest.mark.parametrize("guarded_by", ["dependency", "middleware"])
def test_an_unforeseen_fault_lets_nobody_in(guarded_by: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is no error of ours is a fault, which servers answer with 500; the application is not reached."""

    async def broken(token: str) -> Any:
        raise ZeroDivisionError

    guard = issuer.guard()
    monkeypatch.setattr(guard.judge._authenticator, "aauthenticate", broken)
    app = FastAPI(dependencies=[Depends(guard.require_caller())] if guarded_by == "dependency" else [])
    app.get("/")(_never)
    if guarded_by == "middleware":
        app.add_middleware(AuthSecMiddleware, guard=guard)
    with pytest.raises(ZeroDivisionError):
        asked(app, "GET", "/", [(b"authorization", b"Bearer x")])
