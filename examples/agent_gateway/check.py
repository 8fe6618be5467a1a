"""Does a running gateway let in whom it should, and nobody else? Calls it over HTTP as everybody; prints a table."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Final

import httpx

from agent_gateway.modes import Gateway

__all__ = ["check"]

_HELLO: Final = {"message": "Show my orders"}
_SECRET: Final = "the blue heron"  # said by one caller, and looked for at another
_PATIENCE: Final = 10.0  # seconds until a revoked token has to be refused


@dataclass(frozen=True, slots=True)
class Case:
    """One call and what it came to."""

    who: str
    what: str
    expected: str
    came: str

    @property
    def good(self) -> bool:
        """Whether it came as expected."""
        return self.expected == self.came


def check(base_url: str, made: Gateway, *, as_json: bool = False) -> int:
    """Run all cases that there are tokens for; the exit code is 0 when each came as expected."""
    with httpx.Client(base_url=base_url, trust_env=False, timeout=60.0) as http:
        cases = [*_strangers(http), *_callers(http, made), *_conversations(http, made), *_revoked(http, made)]
    good = all(case.good for case in cases)
    if as_json:
        print(json.dumps({"good": good, "cases": [asdict(case) for case in cases]}))
        return 0 if good else 1
    print(_table(cases))
    print("Everything came out as it should." if good else "SOMETHING DID NOT COME OUT AS IT SHOULD.")
    return 0 if good else 1


def _strangers(http: httpx.Client) -> Iterator[Case]:
    for who, headers in (("nobody", {}), ("a wrong token", {"Authorization": "Bearer not-the-token"})):
        yield _case(http, who, headers, "GET /health", 200)
        yield _case(http, who, headers, "POST /chat", 401)
        yield _case(http, who, headers, "POST /chat/stream", 401)
        yield _case(http, who, headers, "POST /admin/reload", 401)
        yield _case(http, who, headers, "GET /nowhere", 401)


def _callers(http: httpx.Client, made: Gateway) -> Iterator[Case]:
    for role, token in made.tokens.items():
        headers = _bearer(token)
        chat = 403 if role == "viewer" else 200
        yield _case(http, role, headers, "GET /orders", 200)
        yield _case(http, role, headers, "POST /chat", chat)
        yield _case(http, role, headers, "POST /chat/stream", chat)
        yield _case(http, role, headers, "POST /admin/reload", 200 if role == "admin" else 403)


def _conversations(http: httpx.Client, made: Gateway) -> Iterator[Case]:
    if not {"agent", "admin"} <= made.tokens.keys():
        return
    _say(http, made, "agent", f"Please note {_SECRET}.")
    for role, expected in (("agent", "remembered"), ("admin", "not known")):
        answer = _say(http, made, role, "What do you remember?")
        came = "remembered" if _SECRET in answer else "not known"
        yield Case(role, "what the agent said in the conversation 'check'", expected, came)


def _revoked(http: httpx.Client, made: Gateway) -> Iterator[Case]:
    if made.revoke is None:
        return
    made.revoke("agent")
    end = time.monotonic() + _PATIENCE
    answer = 200
    while answer == 200 and time.monotonic() < end:
        time.sleep(0.2)
        answer = http.post("/chat", json=_HELLO, headers=_bearer(made.tokens["agent"])).status_code
    yield Case("agent, revoked", "POST /chat", "401", str(answer))


def _say(http: httpx.Client, made: Gateway, role: str, message: str) -> str:
    body = {"message": message, "conversation": "check"}
    reply = http.post("/chat", json=body, headers=_bearer(made.tokens[role]))
    return str(reply.json().get("response", "")) if reply.status_code == 200 else ""


def _case(http: httpx.Client, who: str, headers: dict[str, str], what: str, expected: int) -> Case:
    method, path = what.split()
    reply = http.request(method, path, headers=headers, json=_HELLO if path.startswith("/chat") else None)
    came = str(reply.status_code)
    if path == "/chat/stream" and reply.status_code == 200 and "event: done" not in reply.text:
        came = "no end"
    return Case(who, what, str(expected), came)


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def _table(cases: list[Case]) -> str:
    rows = [("who", "what", "expected", "came"), *((one.who, one.what, one.expected, one.came) for one in cases)]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    # What differs is found by its mark, in a table of which most is as it should be.
    lines[1:] = [line if case.good else f"{line}  <-- differs" for line, case in zip(lines[1:], cases, strict=True)]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:], ""])
