"""The gateway over real HTTP, with tokens of a real authority: who gets in, what their agent may do, what is on record.

The model is scripted, so that everything that left for it can be looked at. Time is the test's: nothing here sleeps.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import re
import shutil
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from gateway_world import PATIENCE, Open, World, bearer, gateways, worlds

from agent_gateway import modes
from agent_gateway.identities import AUDIENCE
from agent_gateway.terminal import TerminalSink
from authsec_core.errors import ConfigurationError
from authsec_core.testing import assert_no_secret, call
from authsec_fastapi import AuditEvent
from authsec_fastapi.audit import EventKind, Outcome
from authsec_server.testing import DevAuthority

Run = Callable[..., "subprocess.CompletedProcess[str]"]
Start = Callable[..., "contextlib.AbstractContextManager[str]"]
GUIDE = Path(__file__).resolve().parents[2] / "docs" / "guides" / "agent-gateway.md"
ORDERS = {"message": "Show my orders"}


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """An authority, and callers of each role."""
    with worlds() as world:
        yield world


@pytest.fixture
def gateway(world: World, tmp_path: Path) -> Iterator[Open]:
    """Return a function that serves a gateway whose model plays these turns."""
    with gateways(world, tmp_path) as serve:
        yield serve


def test_missing_wrong_and_valid(gateway: Open, world: World) -> None:
    """Without a token and with a wrong one the answer is 401, and no model is asked; a good one gets the agent's."""
    place = gateway()
    missing, wrong = place.post("/chat", None, ORDERS), place.post("/chat", "super-secret-token", ORDERS)
    assert (missing.status_code, wrong.status_code) == (401, 401)
    assert missing.headers["WWW-Authenticate"].startswith("Bearer ")
    assert 'error="invalid_token"' in wrong.headers["WWW-Authenticate"]
    assert place.model.requests == []
    answer = place.ask(world.token("agent"), "Show my orders")
    assert answer["response"].startswith("You have 2 orders.")
    assert answer["tools_used"] == ["my_orders"]


@pytest.mark.parametrize(
    ("role", "statuses"),
    [("viewer", [200, 403, 403, 403]), ("agent", [200, 200, 200, 403]), ("admin", [200, 200, 200, 200])],
)
def test_roles(gateway: Open, world: World, role: str, statuses: list[int]) -> None:
    """A viewer reads and cannot respond, an agent cannot reload, an admin can."""
    place, token = gateway(), world.token(role)
    answers = [
        place.http.get("/orders", headers=bearer(token)),
        place.post("/chat", token, ORDERS),
        place.post("/chat/stream", token, ORDERS),
        place.post("/admin/reload", token),
    ]
    assert [answer.status_code for answer in answers] == statuses
    for answer in answers:
        if answer.status_code == 403:
            assert 'error="insufficient_scope"' in answer.headers["WWW-Authenticate"]


def test_what_is_public_holds_no_data(gateway: Open) -> None:
    """Health and the page answer to anybody; the page runs nothing but its own script, and nobody may frame it."""
    place = gateway()
    assert place.http.get("/health").json() == {"status": "ok"}
    for path in ("/", "/page.css", "/page.js", "/icon.svg"):
        answer = place.http.get(path)
        assert answer.status_code == 200
        policy = answer.headers["Content-Security-Policy"]
        assert {"default-src 'none'", "frame-ancestors 'none'"} <= {*policy.split("; ")}
        assert "unsafe" not in policy
        assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", answer.text)


SPELLINGS = [
    *(
        "/Chat",
        "//chat",
        "/chat/",
        "/chat//",
        "/%63hat",
        "/chat%2f",
        "/./chat",
        "/health/../chat",
        "/chat/.",
        "/chat;x",
    ),
    *("/health/", "/HEALTH", "/health%00", "/health/x", "/health%2e", "//health", "/%2e%2e/health", "/health;/../chat"),
    *("/admin", "/admin/reload/", "/ADMIN/RELOAD", "/admin%2freload", "/page.js/", "/page/page.html", "/policy.yaml"),
    *("/docs", "/redoc", "/openapi.json", "/me", "/orders", "/chat", "/chat/stream", "/admin/reload", "/nowhere", "*"),
    *("/?next=/health", "/chat?public=true", "/chat#/health", "http://127.0.0.1/chat"),
]
METHODS = ["GET", "POST", "PUT", "DELETE", "PATCH", "HEAD", "OPTIONS", "TRACE", "PROPFIND", "get", "X"]
PUBLIC = {"/", "/?next=/health", "/health", "/page.css", "/page.js", "/icon.svg"}


@pytest.mark.req("RV7")
def test_without_a_token_all_else_is_401(gateway: Open) -> None:
    """Every route but the public ones, by every spelling and method, is refused without a token."""
    place = gateway()
    origin = place.http.base_url
    for path in SPELLINGS:
        for method in METHODS:
            if (method, path) in {("GET", public) for public in PUBLIC}:
                continue
            connection = http.client.HTTPConnection(origin.host, origin.port, timeout=PATIENCE)
            with contextlib.closing(connection):
                connection.putrequest(method, path, skip_accept_encoding=True)
                connection.putheader("Content-Length", "0")
                connection.endheaders()
                status = connection.getresponse().status
            # 400: the server itself could not read it.
            assert status == 401 or (status == 400 and method in {"get", "X"}), (method, path, status)
    assert place.model.requests == []


def test_conversations_are_kept_apart(gateway: Open, world: World) -> None:
    """Nothing of one caller's conversation is in the model request of another's, whatever they call it."""
    place = gateway()
    marks = {"agent": "heron", "admin": "osprey"}

    def talk(role: str) -> None:
        for number in range(4):
            place.ask(world.token(role), f"Remember {marks[role]}-{number}", "shared-name")

    for role in marks:
        world.token(role)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(talk, marks))
    assert place.ask(world.token("agent"), "remember", "shared-name")["response"].endswith("heron-0")
    assert place.ask(world.token("admin"), "remember", "shared-name")["response"].endswith("osprey-0")
    for body in map(json.dumps, place.model.requests):
        assert ("heron" in body) != ("osprey" in body), body


def test_another_conversation_of_the_same_caller_knows_nothing(gateway: Open, world: World) -> None:
    """A conversation without an id is a new one."""
    place, token = gateway(), world.token("agent")
    first = place.ask(token, "Remember the heron")
    second = place.ask(token, "What do you remember?")
    assert first["conversation"] != second["conversation"]
    assert "heron" not in json.dumps(place.model.requests[-1])
    assert "heron" in place.ask(token, "What do you remember?", first["conversation"])["response"]


def test_a_tool_that_is_not_the_callers_is_neither_offered_nor_run(gateway: Open, world: World) -> None:
    """The model sees the tools that this token gives, and one that it names all the same does not run."""
    token = world.fetch(world.onboard("agent", allowed_actions=["read:orders"]))
    order: dict[str, str] = {}

    def refund(_body: Any) -> Any:
        return [call("refund_order", order_id=order["id"]), call("reload_policy")]

    place = gateway(refund, "Done, they say.")
    order.update(place.orders(token)[0])
    answer = place.ask(token, "Refund it")
    assert set(place.model.offered_tools) == {"my_orders"}
    assert answer["response"] == "Done, they say."
    assert place.orders(token)[0]["status"] == order["status"]
    assert not [event for event in place.sink.events if event.event == "tool" and event.outcome == "allow"]


def test_the_caller_is_not_the_models_to_choose(gateway: Open, world: World) -> None:
    """The model cannot say whose orders it means, and another's order is as unknown as one that does not exist."""
    mine, theirs = world.token("agent"), world.token("admin")
    order: dict[str, str] = {}

    def steal(_body: Any) -> Any:
        return [
            call("my_orders", caller="admin"),
            call("refund_order", order_id=order["id"], caller={"subject": "admin"}),
            call("refund_order", order_id=order["id"]),
            call("refund_order", order_id="ABCDEF-1"),
        ]

    place = gateway(steal, "No.")
    order.update(place.orders(theirs)[0])
    place.ask(mine, "Refund the admin's order")
    for tool in place.model.offered_tools.values():
        assert "caller" not in tool.parameters.get("properties", {})
    assert order["id"] not in "".join(place.model.tool_results)
    assert place.model.tool_results[-1] == place.model.tool_results[-2]
    assert place.orders(theirs)[0] == order


def test_revoked_in_the_middle_of_a_conversation(gateway: Open, world: World) -> None:
    """A token that was good a moment ago is refused once the revocation counts."""
    place, agent = gateway(), world.onboard("agent")
    token = world.fetch(agent)
    first = place.ask(token, "Show my orders")
    world.revoke(agent)
    refused = place.post("/chat", token, {"message": "And now?", "conversation": first["conversation"]})
    assert refused.status_code == 401
    assert 'error="invalid_token"' in refused.headers["WWW-Authenticate"]


def test_revoked_while_the_model_thinks(gateway: Open, world: World) -> None:
    """A token that is revoked between the model's request and its tool call runs no tool, and ends the turn."""
    agent = world.onboard("agent")
    token = world.fetch(agent)

    def think(_body: Any) -> Any:
        world.revoke(agent)
        return call("my_orders")

    place = gateway(think, "You have orders.")
    refused = place.post("/chat", token, ORDERS)
    assert refused.status_code == 401
    assert place.sink.wait_for("run.ended").outcome == "error"
    assert "Desk lamp" not in "".join(place.model.tool_results)


def events(answer: httpx.Response) -> Iterator[tuple[str, Any]]:
    """Yield name and data of server-sent events."""
    name = ""
    for line in answer.iter_lines():
        field_name, _, value = line.partition(": ")
        if field_name == "event":
            name = value
        elif field_name == "data":
            yield name, json.loads(value)


def test_a_stream_is_the_same_turn(gateway: Open, world: World) -> None:
    """Its pieces make up the answer, it names the tools, and it ends with what /chat would have said."""
    place, token = gateway(), world.token("agent")
    with place.http.stream("POST", "/chat/stream", json=ORDERS, headers=bearer(token)) as answer:
        assert answer.status_code == 200
        assert answer.headers["Content-Type"].startswith("text/event-stream")
        said = list(events(answer))
    assert said[0] == ("tool", {"name": "my_orders", "worked": True})
    name, done = said[-1]
    assert name == "done"
    assert done["tools_used"] == ["my_orders"]
    assert "".join(data["text"] for name, data in said if name == "token") == done["response"]
    assert "Remember" not in place.ask(token, "remember", done["conversation"])["response"]


def test_a_stream_ends_with_its_token(gateway: Open, world: World) -> None:
    """A token that is revoked while the model says nothing ends the stream, with an error that says so."""
    agent, go_on = world.onboard("agent"), threading.Event()
    token = world.fetch(agent)

    def slow(_body: Any) -> str:
        go_on.wait(PATIENCE)
        return "Too late."

    place = gateway(slow)
    try:
        with place.http.stream("POST", "/chat/stream", json=ORDERS, headers=bearer(token)) as answer:
            place.model.wait_for_requests(1)
            world.revoke(agent)
            assert list(events(answer)) == [
                ("error", {"detail": "The token is not good, or not any more.", "status": 401})
            ]
        assert place.sink.wait_for("run.ended").outcome == "error"
    finally:
        go_on.set()


def test_a_stream_ends_when_the_client_leaves(gateway: Open, world: World) -> None:
    """Who closes the connection ends the run, which is on record as cancelled, and may go on afterwards."""
    go_on, token = threading.Event(), world.token("agent")

    def slow(_body: Any) -> str:
        go_on.wait(PATIENCE)
        return "Nobody reads this."

    place = gateway(slow, "Here again.")
    body = {**ORDERS, "conversation": "left"}
    try:
        with place.http.stream("POST", "/chat/stream", json=body, headers=bearer(token)):
            place.model.wait_for_requests(1)
        assert place.sink.wait_for("run.ended").outcome == "cancelled"
        assert place.ask(token, "Hello?", "left")["response"] == "Here again."
    finally:
        go_on.set()


def test_a_model_that_fails_is_a_502(gateway: Open, world: World) -> None:
    """What the model said about its failure, and where it is, reaches nobody."""
    place, token = gateway("The only turn."), world.token("agent")
    place.ask(token, "Hello")
    failed = place.post("/chat", token, ORDERS)
    assert failed.status_code == 502
    with place.http.stream("POST", "/chat/stream", json=ORDERS, headers=bearer(token)) as answer:
        [(name, said)] = events(answer)
    assert (name, said) == ("error", {**failed.json(), "status": 502})
    for text in (failed.text, json.dumps(said)):
        assert not re.search(r"script|127\.0\.0\.1|Traceback", text)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 422),
        ({"message": " "}, 422),
        ({"message": "x" * 2001}, 422),
        ({"message": 7}, 422),
        ({"message": "hello", "conversation": "../canary"}, 400),
        ({"message": "hello", "conversation": ""}, 400),
        ({"message": "hello", "canary": "canary"}, 422),
        ({"message": "x" * 20_000}, 413),
    ],
)
def test_a_wrong_body_is_refused_and_not_echoed(gateway: Open, world: World, body: dict[str, Any], status: int) -> None:
    """What does not fit is refused before a model is asked, in one form, and without what was sent."""
    place = gateway()
    refused = place.post("/chat", world.token("agent"), body)
    assert refused.status_code == status, refused.text
    assert [*map(type, refused.json().values())] == [str]
    assert not re.search("canary|xxx", refused.text)
    streamed = place.post("/chat/stream", world.token("agent"), body)
    assert (streamed.status_code, streamed.json()) == (status, refused.json())
    assert place.model.requests == []


def test_the_audit_tells_who_ran_which_agent_with_which_tools(gateway: Open, world: World) -> None:
    """Each run has its beginning, its tools and its end on record, with caller and conversation and without a token."""
    place, token = gateway(), world.token("agent")
    place.ask(token, "Show my orders", "c1")
    place.post("/chat", "wrong-token-canary", ORDERS)
    place.sink.wait_for("run.ended")
    lines = [json.loads(line) for line in place.audit.read_text(encoding="utf-8").splitlines()]
    started, tool, ended = (
        next(line for line in lines if line["event"] == kind) for kind in ("run.started", "tool", "run.ended")
    )
    for line in (started, tool, ended):
        assert (line["agent"], line["conversation"], line["run_id"]) == ("support", "c1", started["run_id"])
        assert line["subject"].startswith("spiffe://")
    assert tool["tool"] == "my_orders"
    assert ended["outcome"] == "success"
    assert set(ended["tools"]) == {"my_orders", "refund_order"}
    assert ended["duration"] >= 0
    assert lines[-1]["outcome"] == "deny"
    assert "subject" not in lines[-1]
    asked = [line for line in lines if line.get("method") == "POST" and line["outcome"] == "allow"]
    assert len(asked) == 1, "one request is one event"
    assert_no_secret(lines, token, "wrong-token-canary")


def test_a_body_that_is_not_called_json_is_told_the_header(gateway: Open, world: World) -> None:
    """Who forgets the Content-Type is told to send it."""
    headers = bearer(world.token("agent"))
    refused = gateway().http.post("/chat", content=json.dumps(ORDERS), headers=headers)
    assert (refused.status_code, "Content-Type: application/json" in refused.json()["detail"]) == (422, True)


def test_who_has_no_role_of_the_policy_can_see_that(gateway: Open, world: World) -> None:
    """A good token without a right gets nothing but what it is taken for."""
    place = gateway()
    token = world.fetch(world.authority.onboard(["read:orders"], role="passer-by", audiences=[AUDIENCE]))
    assert place.http.get("/me", headers=bearer(token)).json()["roles"] == ["passer-by"]
    assert place.http.get("/orders", headers=bearer(token)).status_code == 403


def test_a_route_that_is_public_by_mistake_lets_nobody_in(gateway: Open, world: World) -> None:
    """What a route gives to its caller it gives to nobody, where the policy asks for none."""
    place = gateway()
    whole = place.policy.read_text(encoding="utf-8")
    closed = "{path: /orders, methods: [GET], scopes: [read:orders], action: read}"
    place.policy.write_text(whole.replace(closed, "{path: /orders, methods: [GET], public: true}"), encoding="utf-8")
    assert place.post("/admin/reload", world.token("admin")).status_code == 200
    assert place.http.get("/orders").status_code == 401


def test_an_order_is_refunded_once(gateway: Open, world: World) -> None:
    """Who asks for it again is told that it was done before."""
    token = world.fetch(world.onboard("agent"))
    order: dict[str, str] = {}
    refund = lambda _body: call("refund_order", order_id=order["id"])  # noqa: E731 -- a turn of the model
    place = gateway(refund, "Done.", refund, "Again?")
    order.update(place.orders(token)[0])
    place.ask(token, "Refund it")
    place.ask(token, "Refund it again")
    assert "refunded before" in place.model.tool_results[-1]


def test_a_broken_policy_is_not_taken(gateway: Open, world: World) -> None:
    """Who reloads a policy that cannot be read is told where it is wrong, and the old one goes on."""
    place, admin, agent = gateway(), world.token("admin"), world.token("agent")
    whole = place.policy.read_text(encoding="utf-8")
    place.policy.write_text(whole.replace("action: admin}", "acton: admin}"), encoding="utf-8")
    refused = place.post("/admin/reload", admin)
    assert refused.status_code == 409
    assert refused.json()["detail"].startswith("The policy stays as it was: ")
    assert "acton" in refused.json()["detail"]
    assert place.post("/admin/reload", agent).status_code == 403
    assert place.ask(agent, "Show my orders")["tools_used"] == ["my_orders"]


@pytest.mark.parametrize("rule", ["", "- {path: /admin/reload, methods: [POST], public: true}"], ids=["none", "public"])
def test_a_policy_that_nobody_could_reload_is_not_taken(gateway: Open, world: World, rule: str) -> None:
    """By the route it is a 409 that says what is missing; by the tool a refusal. The old one goes on, and is mended."""
    admin = world.token("admin")
    place = gateway(lambda _body: call("reload_policy"), "It was not.")
    whole = place.policy.read_text(encoding="utf-8")
    closed = "- {path: /admin/reload, methods: [POST], action: admin}"
    place.policy.write_text(whole.replace(closed, rule), encoding="utf-8")
    refused = place.post("/admin/reload", admin)
    assert refused.status_code == 409
    assert "a rule for POST /admin/reload" in refused.json()["detail"]
    place.ask(admin, "Reload the policy")
    assert "The old one still holds" in place.model.tool_results[-1]
    place.policy.write_text(whole, encoding="utf-8")
    assert place.post("/admin/reload", admin).status_code == 200


def test_a_new_policy_is_taken(gateway: Open, world: World) -> None:
    """After a reload the next turn goes by the new rules."""
    place, admin, agent = gateway(), world.token("admin"), world.token("agent")
    place.ask(agent, "Hello")
    assert set(place.model.offered_tools) == {"my_orders", "refund_order"}
    whole = place.policy.read_text(encoding="utf-8")
    place.policy.write_text(
        whole.replace(
            "refund_order: {scopes: [write:refunds], action: respond}",
            "refund_order: {scopes: [write:refunds], action: admin}",
        ),
        encoding="utf-8",
    )
    assert place.post("/admin/reload", admin).json()["reloaded"] is True
    place.ask(agent, "Hello")
    assert set(place.model.offered_tools) == {"my_orders"}


def test_a_real_token_is_in_no_request_to_the_model(gateway: Open, world: World) -> None:
    """Whatever the model is sent, the caller's token is not in it."""
    place, token = gateway(), world.token("agent")
    place.ask(token, "Show my orders")
    assert_no_secret(place.model.transcript, token)


def test_the_check_passes_and_keeps_tokens_private(run: Run, tmp_path: Path) -> None:
    """The command that starts everything finds that everybody gets what is theirs, and shows no token."""
    done = run("-m", "agent_gateway", "--check", "--port", "0", "--folder", "kept")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "agent, revoked" in done.stdout
    assert "Everything came out as it should." in done.stdout
    assert "eyJ" not in done.stdout + done.stderr
    files = sorted((tmp_path / "kept").glob("*.header"))
    assert [file.stem for file in files] == ["admin", "agent", "viewer"]
    assert {stat.S_IMODE(file.stat().st_mode) for file in files} == {0o600}
    assert "eyJ" not in (tmp_path / "kept" / "audit.jsonl").read_text(encoding="utf-8")


def test_a_second_gateway_takes_nothing_from_the_first(run: Run, run_in_background: Start, tmp_path: Path) -> None:
    """Neither one that cannot start nor a check touches tokens and audit of one that runs, nor does a later one."""
    with run_in_background("-m", "agent_gateway", "--port", "0") as said:
        [address] = re.findall(r"serves (http://\S+)\n", said)
        folder = tmp_path / "gateway-data"
        token = (folder / "agent.header").read_text(encoding="utf-8").split()[-1]
        httpx.get(f"{address}/orders", headers=bearer(token), trust_env=False).raise_for_status()
        audit = (folder / "audit.jsonl").read_bytes()
        taken = run("-m", "agent_gateway", "--port", address.rpartition(":")[2], "--folder", "another")
        assert (taken.returncode, (tmp_path / "another").exists()) == (2, False)
        assert "is in use: stop what listens there" in taken.stderr
        beside = run("-m", "agent_gateway", "--port", "0")
        assert beside.returncode == 2
        assert f"another gateway uses {folder}" in beside.stderr
        assert httpx.get(f"{address}/orders", headers=bearer(token), trust_env=False).status_code == 200
        assert (folder / "audit.jsonl").read_bytes().startswith(audit)
    with run_in_background("-m", "agent_gateway", "--port", "0"):
        assert (folder / "audit.jsonl").read_bytes().startswith(audit)
        assert (folder / "agent.header").read_text(encoding="utf-8").split()[-1] != token


def test_the_terminal_shows_a_line_and_no_more() -> None:
    """People read who, what and why; looks at a token under way are left out, and no caller moves the cursor."""
    lines: list[str] = []
    sink = TerminalSink({"c1": "viewer"}, show=lines.append)

    def record(event: EventKind, outcome: Outcome | None, reason: str = "allowed", **about: Any) -> None:
        sink.record(AuditEvent(event=event, outcome=outcome, reason=reason, at=0.0, **about))

    known = {"subject": "spiffe://a/b", "client_id": "c1"}
    record("request", "deny", "action_not_permitted", method="POST", route="/chat", roles=("viewer", "x"), **known)
    record("tool", "deny", "role_missing", tool="my_orders", **known)
    record("request", "deny", "token_missing", method="GET")
    record("request", "allow", run_id="r", **known)
    record("run.started", None, agent="support", **known)
    record("tool", "allow", tool="my_orders", subject="x\x1b[2J\nallow: all")
    record("run.ended", "success", agent="support", duration=0.5, **known)
    assert lines == [
        "deny: POST /chat for viewer (action_not_permitted; roles: viewer, x)",
        "deny: tool my_orders for viewer (role_missing; roles: none)",
        "deny: GET (no such route) for nobody known (token_missing)",
        "allow: tool my_orders for x?[2J?allow: all",
        "success: run of support for viewer, 0.50 s",
    ]


def test_a_check_can_be_read_by_programs(run: Run) -> None:
    """With --json the table is one value."""
    done = run("-m", "agent_gateway", "--check", "--json", APP_BEARER_TOKEN="super-secret-token")
    said = json.loads(done.stdout)
    assert said["good"] is True
    assert {"who": "agent", "what": "POST /chat", "expected": "200", "came": "200"} in said["cases"]


def test_a_static_token_for_a_first_try(run: Run) -> None:
    """One token in the environment lets its holder in, and the gateway warns of it."""
    done = run("-m", "agent_gateway", "--check", "--port", "0", APP_BEARER_TOKEN="super-secret-token")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "lets in everyone" in done.stderr
    assert "super-secret-token" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    "environ",
    [
        {"AUTHSEC_GUARD_ISSUER": "https://issuer.example"},
        {"AUTHSEC_GUARD_AUDIENCE": "api"},
        {
            "AUTHSEC_GUARD_ISSUER": "https://issuer.example",
            "AUTHSEC_GUARD_AUDIENCE": "api",
            "APP_BEARER_TOKEN": "super-secret-token",
        },
        {"APP_BEARER_TOKEN": "short"},
        {"APP_BEARER_TOKEN": ""},
        {"APP_BEARER_TOKEN": "super-secret-token", "APP_BEARER_ROLE": "agnet"},
        {"APP_BEARER_TOKEN": "super-secret-token", "AUTHSEC_GUARD_STATIC_TOKEN": "super-secret-token"},
        {"AUTHSEC_GUARD_ISUER": "https://issuer.example"},
    ],
)
def test_half_a_configuration_starts_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, environ: dict[str, str]
) -> None:
    """What is half set, contradictory or misspelt is an error, and never the mode for trying it out."""
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError), modes.gateway(tmp_path):
        pass


def test_what_is_wrong_is_said_in_one_line(run: Run) -> None:
    """The command ends with the error's code and words, and without a traceback."""
    done = run("-m", "agent_gateway", "--port", "0", AUTHSEC_GUARD_ISSUER="https://issuer.example")
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"configuration\w*: .*\n", done.stderr), done.stderr


IN_A_SHELL = pytest.mark.skipif(
    shutil.which("curl") is None or shutil.which("bash") is None, reason="the lines are for a shell"
)


def guide(*, own_issuer: bool = False) -> list[str]:
    """Return the shell blocks of the guide: up to the section about issuers, or of that."""
    text = GUIDE.read_text(encoding="utf-8")
    usual, _, own = text.partition("## With your own issuer\n")
    return re.findall(r"^```sh\n(.*?)^```$", own if own_issuer else usual, re.MULTILINE | re.DOTALL)


def in_bash(script: str, folder: Path, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    """Run what a reader would paste."""
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env=environment,
        capture_output=True,
        encoding="utf-8",
        timeout=300,
        check=False,
    )


# What a reader waits a second for, which is too short on a busy machine: that the latest run has started.
_UNTIL_IT_RUNS = """
begun() { grep -c '"event": *"run.started"' gateway-data/audit.jsonl; }
ended() { grep -c '"event": *"run.ended"' gateway-data/audit.jsonl; }
until [ "$(begun)" -gt "$(ended)" ]; do sleep 0.1; done
"""


@IN_A_SHELL
def test_the_guide_runs_as_it_stands(run_in_background: Start, tmp_path: Path) -> None:
    """Every line that a reader copies works, and comes to what the guide says; Ctrl-C ends the gateway in order."""
    start, *blocks = guide()
    script = "\n".join(blocks)
    assert script.count("\nsleep 1\n") == 1
    assert start == "python3 noxfile.py -s gateway\n"
    folder = tmp_path / "gateway-data"  # where that command puts the tokens, seen from the repository
    with run_in_background("-m", "agent_gateway", "--port", "0") as said:
        [address] = re.findall(r"serves (http://\S+)\n", said)
        here = script.replace("\nsleep 1\n", _UNTIL_IT_RUNS).replace("http://127.0.0.1:8000", address)
        done = in_bash(here, tmp_path)
    assert done.returncode == 0, done.stderr
    statuses = re.findall(r" (\d{3})$", done.stdout, re.MULTILINE)
    assert statuses == ["401", "401", "200", "403", "403", "200", "200", "200", "200", "401"]
    mine, admins = re.findall(r"The first thing you said here was: ([^\"]+)\"", done.stdout)[:2]
    assert (mine, admins) == ("Show my orders", "What do you remember?")
    assert re.findall(r"^event: (tool|done|error)$", done.stdout, re.MULTILINE) == ["tool", "done", "error"]
    assert '"status": 401' in done.stdout
    audit = [json.loads(line) for line in (folder / "audit.jsonl").read_text(encoding="utf-8").splitlines()]
    [example] = re.findall(r"^```json\n(.*?)^```$", GUIDE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert [*json.loads(example)] == [*next(line for line in audit if line["event"] == "run.ended")]


@IN_A_SHELL
def test_an_authority_of_ones_own(run_in_background: Start, tmp_path: Path, environment: dict[str, str]) -> None:
    """With the guide's lines for an authority that runs already, its sample agent gets in, and has the role."""
    operator, start, caller = guide(own_issuer=True)
    terms, command = start.removeprefix("export ").splitlines()
    assert command == "python3 noxfile.py -s gateway"
    scripts = Path(sys.executable).parent
    with DevAuthority() as authority:
        admin = {"AUTHSEC_ADMIN_URL": authority.base_url, "AUTHSEC_ADMIN_TOKEN": authority.admin_token}
        paste = environment | authority.environ() | admin
        told = in_bash(operator.replace(".venv/bin/", f"{scripts}/"), tmp_path, paste)
        assert told.returncode == 0, told.stderr
        settings = dict(one.split("=") for one in terms.replace("http://127.0.0.1:8321", authority.base_url).split())
        with run_in_background("-m", "agent_gateway", "--port", "0", **settings) as said:
            [address] = re.findall(r"serves (http://\S+)\n", said)
            assert f"tokens of {authority.issuer} for agent-gateway (aud), whose roles are in delegated_by" in said
            lines = caller.replace(".venv/bin/", f"{scripts}/").replace("http://127.0.0.1:8000", address)
            done = in_bash(lines, tmp_path, paste)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.search(r'"roles": *\["agent"\]', re.sub(r"\s+", " ", done.stdout).replace("[ ", "[").replace(" ]", "]"))
    assert "Desk lamp" in done.stdout
