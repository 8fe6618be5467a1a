"""Nothing of one caller's conversation is in another's: through an application, with requests that are interleaved.

No `from __future__ import annotations`: FastAPI reads those of functions that are made inside others.
"""

import asyncio
import threading
from collections import Counter
from typing import Annotated, Any

import httpx
import pytest
from fastapi import Depends, FastAPI, Request
from fastapi.responses import JSONResponse
from guard_support import Issuer, Memory, bearer

from authsec_core.errors import AuthSecError
from authsec_fastapi import AuthSecGuard, Conversations, Policy, Principal, ToolRule
from authsec_fastapi.refusals import refusal_of

issuer = Issuer()
other = Issuer(url="https://other.example/authsec")
ALONE: dict[str, Any] = {"sub": "anna", "client_id": None}
AGENT, SECOND_AGENT = "spiffe://example.org/ns/shop/sa/agent", "spiffe://example.org/ns/shop/sa/second"
# Callers whom something tells apart, each from at least one other.
TOKENS = {
    "anna": issuer.token("read:orders", **ALONE),
    "anna of another issuer": other.token("read:orders", **ALONE),
    "anna by a client": issuer.token("read:orders", sub="anna", client_id="client-1"),
    "anna by another client": issuer.token("read:orders", sub="anna", client_id="client-2"),
    "anna through an agent": issuer.token("read:orders", **ALONE, act={"sub": AGENT}),
    "anna through another agent": issuer.token("read:orders", **ALONE, act={"sub": SECOND_AGENT}),
    "the agent": issuer.token("read:orders", sub=AGENT, client_id=None),
    "boris": issuer.token("read:orders", sub="boris", client_id=None),
    "one who is called as the client": issuer.token("read:orders", sub="client-1", client_id=None),
    "anna in other letters": issuer.token("read:orders", sub="Anna", client_id=None),
}


class Meeting:
    """Lets requests go on when all that are expected have come, so that they are in their blocks at the same time."""

    def __init__(self, expected: int) -> None:
        self._expected = expected
        self._come = 0
        self._all = asyncio.Event()

    async def wait(self) -> None:
        self._come += 1
        if self._come == self._expected:
            self._all.set()
        await asyncio.wait_for(self._all.wait(), 30)


def application(guard: AuthSecGuard, conversations: Conversations, meeting: Meeting | None = None) -> FastAPI:
    """Return an application whose agent answers with everything that it knows."""
    app = FastAPI()
    caller_of = guard.require("read:orders")

    async def chat(caller: Annotated[Principal, Depends(caller_of)], conversation: str, said: str) -> dict[str, Any]:
        async with (
            conversations.open(caller, conversation) as memory,
            guard.run(caller, agent="support", conversation=conversation) as run,
        ):
            [whose] = guard.tools(caller, [whoami], run=run)
            agent = [*(memory.state or []), said]
            if meeting is not None:
                await meeting.wait()
            agent.append(whose())
            memory.state = agent
        return {"knows": agent}

    app.post("/chat/{conversation}")(chat)

    def forget(caller: Annotated[Principal, Depends(caller_of)], conversation: str) -> bool:
        return conversations.forget(caller, conversation)

    app.delete("/chat/{conversation}")(forget)

    @app.exception_handler(AuthSecError)
    async def refuse(request: Request, error: AuthSecError) -> JSONResponse:
        refusal = refusal_of(error, realm="shop")
        return JSONResponse({"detail": refusal.detail}, refusal.status, dict(refusal.headers))

    return app


def whoami(caller: Principal) -> str:
    """Return who it is, as the tool knows them."""
    return f"{caller.issuer} {caller.subject} {caller.client_id} {caller.actor}"


def guard_of(sink: Memory | None = None) -> AuthSecGuard:
    """Return a guard that trusts both issuers."""
    return AuthSecGuard(
        issuers=[issuer.trusted(), other.trusted()],
        policy=Policy(tools={"whoami": ToolRule(scopes=frozenset({"read:orders"}))}),
        sink=sink or Memory(),
    )


def client(app: FastAPI) -> httpx.AsyncClient:
    """Return a client whose requests run side by side on this loop."""
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1")


async def says(api: httpx.AsyncClient, who: str, said: str, conversation: str = "c1") -> list[str]:
    """Return everything that the agent knows after this."""
    answer = await api.post(f"/chat/{conversation}", params={"said": said}, headers=bearer(TOKENS[who]))
    answer.raise_for_status()
    knows: list[str] = answer.json()["knows"]
    return knows


@pytest.mark.req("RD7")
def test_the_same_id_is_another_conversation_for_each_caller() -> None:
    """Three rounds of all callers, in their blocks at the same time: each agent knows its own caller's words."""

    async def rounds() -> dict[str, list[list[str]]]:
        heard: dict[str, list[list[str]]] = {who: [] for who in TOKENS}
        guard, conversations = guard_of(), Conversations(patience=0)
        for round_ in range(3):
            app = application(guard, conversations, Meeting(len(TOKENS)))
            async with client(app) as api:
                answers = await asyncio.gather(*(says(api, who, f"{who} {round_}") for who in TOKENS))
            for who, knows in zip(TOKENS, answers, strict=True):
                heard[who].append(knows)
        return heard

    for who, answers in asyncio.run(rounds()).items():
        assert [len(knows) for knows in answers] == [2, 4, 6]
        assert answers[-1][::2] == [f"{who} {round_}" for round_ in range(3)]
        assert len(set(answers[-1][1::2])) == 1, "tools that ran for somebody else"


@pytest.mark.req("RD7")
def test_all_of_these_callers_are_different_ones() -> None:
    """What their tools know of them differs: else the test above would show nothing."""

    async def asked() -> list[str]:
        async with client(application(guard_of(), Conversations())) as api:
            return [(await says(api, who, "hello"))[1] for who in TOKENS]

    assert Counter(asyncio.run(asked())).most_common(1)[0][1] == 1


def test_a_new_token_of_the_same_caller_goes_on_with_the_conversation() -> None:
    """The conversation is the caller's and not the token's: with other scopes and roles, and another jti."""

    async def renewed() -> list[str]:
        async with client(application(guard_of(), Conversations())) as api:
            await says(api, "anna", "first")
            again = issuer.token("read:orders", "more", **ALONE, jti="jti-2", roles=["admin"])
            answer = await api.post("/chat/c1", params={"said": "second"}, headers=bearer(again))
            return list(answer.json()["knows"])

    assert asyncio.run(renewed())[::2] == ["first", "second"]


def test_one_callers_requests_in_one_conversation_come_one_after_the_other() -> None:
    """None of them is lost, on whatever loop it is answered."""
    guard, conversations = guard_of(), Conversations(patience=30.0)
    app = application(guard, conversations)

    def talk(name: str) -> None:
        async def some() -> None:
            async with client(app) as api:
                await asyncio.gather(*(says(api, "anna", f"{name}{number}") for number in range(4)))

        asyncio.run(some())

    threads = [threading.Thread(target=talk, args=(name,)) for name in "abc"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    with conversations.open(_principal(guard), "c1") as memory:
        assert sorted(memory.state[::2]) == [f"{name}{number}" for name in "abc" for number in range(4)]


def _principal(guard: AuthSecGuard) -> Principal:
    return guard.judge._authenticator.authenticate(TOKENS["anna"])


def test_nobody_learns_of_or_ends_anothers_conversation() -> None:
    """To forget another's says what it says of one that never was; an odd id is 400, a busy one 409."""

    async def tried() -> None:
        conversations = Conversations(patience=0)
        async with client(application(guard_of(), conversations)) as api:
            await says(api, "anna", "secret", "c1")
            for conversation in ("c1", "never-was"):
                answer = await api.delete(f"/chat/{conversation}", headers=bearer(TOKENS["boris"]))
                assert (answer.status_code, answer.json()) == (200, False)
            assert (await says(api, "anna", "more"))[0] == "secret"
            odd = await api.post("/chat/a%20b", params={"said": "x"}, headers=bearer(TOKENS["anna"]))
            assert odd.status_code == 400
            with conversations.open(_principal(guard_of()), "c1"):
                busy = await api.post("/chat/c1", params={"said": "x"}, headers=bearer(TOKENS["anna"]))
                assert (busy.status_code, busy.headers["retry-after"]) == (409, "5")
            assert (await api.delete("/chat/c1", headers=bearer(TOKENS["anna"]))).json() is True

    asyncio.run(tried())


def test_what_a_caller_asked_for_is_on_record_as_theirs() -> None:
    """Beginning, tool and end of a run have one id, one conversation and one caller."""
    sink = Memory()

    async def talk() -> None:
        app = application(guard_of(sink), Conversations(), Meeting(len(TOKENS)))
        async with client(app) as api:
            await asyncio.gather(*(says(api, who, "hello") for who in TOKENS))

    asyncio.run(talk())
    runs: dict[str, list[Any]] = {}
    for event in sink.events:
        if event.run_id is not None:
            runs.setdefault(event.run_id, []).append(event)
    assert len(runs) == len(TOKENS)
    for events in runs.values():
        assert [event.event for event in events] == ["run.started", "tool", "run.ended"]
        assert len({(e.issuer, e.subject, e.client_id, e.spiffe_id, e.conversation, e.agent) for e in events}) == 1
        assert events[-1].tools == ("whoami",)
