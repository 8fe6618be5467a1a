"""The audit over HTTP: pages, JSON lines, checkpoints, and who may ask for them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest
import sqlalchemy as sa
from audit_support import ISSUER, keys, signing_key
from fastapi import FastAPI
from fastapi.testclient import TestClient
from server_support import CALLER, entry, ledger, made

from authsec_core._signing import SigningKey
from authsec_core.testing import FakeClock
from authsec_server import problems
from authsec_server.audit.checkpoint_jws import read_checkpoint
from authsec_server.audit.checkpoints import Checkpoints
from authsec_server.audit.ledger import Change
from authsec_server.audit.log import AuditLog
from authsec_server.audit.routes import AuditPage, router
from authsec_server.errors import ForbiddenError

AGENT = "4f0a2a44-1111-4222-8333-444455556666"


class Gate:
    """Stands in for the operators: remembers what was needed, and lets those pass who may do that."""

    def __init__(self) -> None:
        self.may = {"read", "manage", "administer"}
        self.asked: list[str] = []

    async def admit(self, header: str | None, needs: str, **_: object) -> Any:
        """Return who asks."""
        self.asked.append(needs)
        if needs not in self.may:
            raise ForbiddenError("not for this role")
        return CALLER


@pytest.fixture
def gate() -> Gate:
    """Whether to let operators pass."""
    return Gate()


@pytest.fixture
def client(tmp_path: Any, clock: FakeClock, gate: Gate) -> Iterator[TestClient]:
    """An app with the audit's routes, and seven entries."""

    async def key() -> SigningKey:
        return signing_key()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> Any:
        url = f"sqlite:///{tmp_path / 'authsec.db'}"
        async with made(url, clock=clock) as database, ledger(database, clock=clock) as running:

            async def work(change: Change) -> None:
                for number in range(7):
                    more = {"client_id": AGENT, "claimed": {"reason": "\x1b[2J\n"}} if number == 3 else {}
                    change.record(entry("token.issue" if number % 2 else "role.put", **more))

            await running.change(work)
            app.state.authority = SimpleNamespace(
                operators=gate,
                database=database,
                ledger=running,
                audit=AuditLog(database),
                checkpoints=Checkpoints(database, key, issuer=ISSUER, clock=clock),
            )
            yield

    app = FastAPI(lifespan=lifespan)
    app.include_router(router)
    problems.install(app)
    with TestClient(app) as client:
        yield client


def seqs(reply: Any) -> list[int]:
    """Return the entries on a page."""
    assert reply.status_code == 200, reply.text
    return [item["seq"] for item in reply.json()["items"]]


def test_pages_go_on_where_the_last_ended(client: TestClient) -> None:
    """The newest first, `next` until there is no more."""
    first = client.get("/api/v1/audit", params={"limit": 3})
    assert (seqs(first), first.json()["next"]) == ([7, 6, 5], "5")
    second = client.get("/api/v1/audit", params={"limit": 3, "after": "5"})
    assert (seqs(second), second.json()["next"]) == ([4, 3, 2], "2")
    last = client.get("/api/v1/audit", params={"limit": 3, "after": "2"})
    assert (seqs(last), last.json()["next"]) == ([1], None)
    assert seqs(client.get("/api/v1/audit", params={"order": "oldest", "limit": 2})) == [1, 2]


@pytest.mark.parametrize(
    ("params", "found"),
    [
        ({"client_id": AGENT}, [4]),
        ({"action": "role.put"}, [7, 5, 3, 1]),
        ({"decision": "deny"}, []),
        ({"jti": AGENT}, []),
        ({"since": "2000-01-01T00:00:00Z", "until": "2000-01-02T00:00:00Z"}, []),
        ({"since": "2000-01-01T00:00:00.5+01:00"}, [7, 6, 5, 4, 3, 2, 1]),
    ],
)
def test_a_page_has_what_was_asked_for(client: TestClient, params: dict[str, str], found: list[int]) -> None:
    """By agent, action, decision, token and time."""
    assert seqs(client.get("/api/v1/audit", params=params)) == found


@pytest.mark.parametrize(
    "params",
    [
        {"decision": "maybe"},
        {"client_id": "x"},
        {"action": "DROP TABLE"},
        {"action": "a\x00"},
        {"since": "yesterday"},
        {"after": "-1"},
        {"after": "1" * 19},
        {"limit": "0"},
        {"limit": "1000"},
        {"order": "random"},
        {"format": "xml"},
    ],
)
def test_what_makes_no_sense_is_refused(client: TestClient, params: dict[str, str]) -> None:
    """With a problem, and without echoing it."""
    reply = client.get("/api/v1/audit", params=params)
    assert reply.status_code == 422
    assert reply.headers["content-type"] == "application/problem+json"


@pytest.mark.req("RU3")
@pytest.mark.parametrize(
    "request_",
    [{"params": {"format": "jsonl"}}, {"headers": {"Accept": "application/x-ndjson"}}],
    ids=["query", "accept"],
)
def test_json_lines_have_everything_from_the_oldest(client: TestClient, request_: dict[str, Any]) -> None:
    """One line for each entry, whatever an agent wrote."""
    reply = client.get("/api/v1/audit", **request_)
    assert reply.headers["content-type"].startswith("application/x-ndjson")
    lines = reply.text.splitlines()
    assert [json.loads(line)["seq"] for line in lines] == [1, 2, 3, 4, 5, 6, 7]
    assert reply.text.isascii()
    assert "\x1b" not in reply.text
    assert json.loads(lines[3])["claimed"] == {"reason": "\x1b[2J\n"}


def test_json_lines_can_be_resumed(client: TestClient) -> None:
    """A reader that remembers the last `seq` goes on after it."""
    reply = client.get("/api/v1/audit", params={"format": "jsonl", "after": "5"})
    assert [json.loads(line)["seq"] for line in reply.text.splitlines()] == [6, 7]
    assert client.get("/api/v1/audit", params={"format": "jsonl", "after": "7"}).text == ""


def test_a_checkpoint_is_written_on_request(client: TestClient) -> None:
    """It covers the entry that says who asked for it, is signed, and is listed."""
    reply = client.post("/api/v1/audit/checkpoints")
    assert reply.status_code == 201
    written = reply.json()
    assert read_checkpoint(written["jws"], keys().public).seq == written["seq"] == 8
    newest = client.get("/api/v1/audit", params={"limit": 1}).json()["items"][0]
    assert (newest["action"], newest["actor"]["name"]) == ("audit.checkpoint", "ada")
    client.post("/api/v1/audit/checkpoints")
    first = client.get("/api/v1/audit/checkpoints", params={"limit": 1}).json()
    assert ([item["seq"] for item in first["items"]], first["next"]) == ([9], "9")
    rest = client.get("/api/v1/audit/checkpoints", params={"limit": 1, "after": "9"}).json()
    assert (rest["items"], rest["next"]) == ([written], None)


@pytest.mark.parametrize(
    ("method", "path", "needs"),
    [
        ("GET", "/api/v1/audit", "read"),
        ("GET", "/api/v1/audit?format=jsonl", "read"),
        ("GET", "/api/v1/audit/checkpoints", "read"),
        ("POST", "/api/v1/audit/checkpoints", "administer"),
    ],
)
def test_each_route_needs_its_role(client: TestClient, gate: Gate, method: str, path: str, needs: str) -> None:
    """Auditors read, administrators sign; nobody else learns or does anything."""
    gate.may.discard(needs)
    assert client.request(method, path).status_code == 403
    assert gate.asked == [needs]


def test_a_damaged_entry_is_shown_and_harms_no_page(client: TestClient) -> None:
    """Whoever edited it to be no entry at all does not blind the auditor."""
    authority = client.app.state.authority  # type: ignore[attr-defined]  # the app of the fixture

    async def damage() -> None:
        statement = sa.text("UPDATE audit SET text = '{\"at\": 1}' WHERE seq = 6")
        await authority.database.write(lambda connection: connection.execute(statement))

    assert client.portal is not None
    client.portal.call(damage)
    reply = client.get("/api/v1/audit")
    assert seqs(reply) == [7, 6, 5, 4, 3, 2, 1]
    shown = reply.json()["items"]
    assert {name: shown[1][name] for name in ("seq", "damaged")} == {"seq": 6, "damaged": True}


def test_what_is_answered_is_what_openapi_says(client: TestClient) -> None:
    """Pages are written without the model, and fit it."""
    page = AuditPage.model_validate(client.get("/api/v1/audit").json())
    assert page.model_dump(exclude_none=True) == {
        name: value for name, value in client.get("/api/v1/audit").json().items() if value is not None
    }
