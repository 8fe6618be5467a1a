"""A model that says what its script says: a loopback server that speaks OpenAI's chat completions.

Every agent framework can be pointed at it, so that a whole conversation runs offline, and everything that would have
left the machine can be looked at afterwards. Which form a reply takes is decided in `_chat`.
"""

from __future__ import annotations

import itertools
import json
import threading
from typing import TYPE_CHECKING, Any

from authsec_core.testing._chat import (
    Body,
    Call,
    OfferedTool,
    Turn,
    call,
    completion,
    offered_tools,
    sse,
    tool_results,
)
from authsec_core.testing._http import Reply, Request
from authsec_core.testing._loopback import LoopbackServer

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

__all__ = ["Call", "OfferedTool", "ScriptedModel", "Turn", "call"]

# Without it the clients' connection pools outlive the event loops that AutoGen makes and throws away.
_CLOSE = {"Connection": "close"}
# 400, because the clients of OpenAI repeat a 500 again and again.
_BAD_REQUEST = 400


class ScriptedModel:
    """An OpenAI-compatible model on a free port of 127.0.0.1 that plays its turns in the order of the requests.

    A turn is text, a `Call`, a list of calls made at once, or a function that is given the request's body and returns
    one of these. A request after the last turn is answered 400. Leaving the `with` block raises again what a turn's
    function raised. Thread-safe; agents that share a model share its script.

    Args:
        turns: The script.
        model: The name that `llm_config` and `crewai_llm` use.

    >>> with ScriptedModel(call("fetch", endpoint="/metrics"), "done") as model:
    ...     model.base_url.endswith("/v1"), model.remaining
    (True, 2)
    """

    api_key = "sk-stub"

    def __init__(self, *turns: Turn, model: str = "gpt-4o") -> None:
        self.model = model
        crash = _error("the script failed; see the exception that leaving the with block raises")
        self._server = LoopbackServer(self._answer, on_crash=crash)
        self._lock = threading.Lock()  # guards the two lists
        self._turns, self._given = list(turns), len(turns)
        self._bodies: list[Body] = []
        # Unlike those of any other model: agents of one conversation may have one each.
        self._call_ids = (f"call_{id(self):x}_{number}" for number in itertools.count(1))

    def start(self) -> ScriptedModel:
        """Listen; after `close`, on the same port."""
        self._server.start()
        return self

    def close(self) -> None:
        """Stop listening. Harmless when closed."""
        self._server.close()

    def __enter__(self) -> ScriptedModel:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.__exit__(kind, error, trace)

    @property
    def base_url(self) -> str:
        """What OpenAI's clients call the base URL; ends in `/v1`."""
        return f"{self._server.base_url}/v1"

    @property
    def llm_config(self) -> dict[str, Any]:
        """The `llm_config` of a classic AutoGen or AG2 agent, with AutoGen's disk cache switched off."""
        # The price keeps AutoGen from warning about a model that it has no price for.
        one = {"model": self.model, "api_key": self.api_key, "base_url": self.base_url, "price": [0, 0]}
        return {"config_list": [one], "cache_seed": None}

    @property
    def crewai_llm(self) -> dict[str, Any]:
        """The keyword arguments of CrewAI's `LLM`."""
        return {"model": self.model, "base_url": self.base_url, "api_key": self.api_key}

    @property
    def requests(self) -> list[Body]:
        """The body of every completion that was asked for, in order."""
        with self._lock:
            return list(self._bodies)

    @property
    def transcript(self) -> str:
        """Everything that left for the model as one JSON text: paths, headers and bodies."""
        sent = [
            {
                "method": request.method,
                "path": request.path,
                "query": request.query,
                "headers": dict(request.headers),
                "body": _json_or_text(request.body),
            }
            for request in self._server.requests
        ]
        return json.dumps(sent, ensure_ascii=False)

    @property
    def remaining(self) -> int:
        """How many turns have not been played."""
        with self._lock:
            return len(self._turns)

    @property
    def tool_results(self) -> list[str]:
        """What tools gave back to the model, in order, each once.

        A result is known by its `tool_call_id`; in the two older forms by the tool's name and the text, so that two
        equal results count as one there.
        """
        return tool_results(self.requests)

    @property
    def offered_tools(self) -> dict[str, OfferedTool]:
        """The tools of the latest request that offers any, by name; none in ReAct text."""
        return offered_tools(self.requests)

    def wait_for_requests(self, count: int, *, timeout: float = 30.0) -> None:
        """Wait until `count` requests have come in all.

        Raises:
            AssertionError: They did not come within `timeout` seconds.
        """
        self._server.wait_for_requests(count, timeout=timeout)

    def _answer(self, request: Request) -> Reply:
        if request.path == "/v1/models":
            models = {"object": "list", "data": [{"id": self.model, "object": "model", "owned_by": "script"}]}
            return Reply.of_json(models, headers=_CLOSE)
        if (request.method, request.path) != ("POST", "/v1/chat/completions"):
            return _error("only chat completions are scripted", status=404)
        try:
            body = request.json()
        except ValueError:
            return _error("the body is not JSON")
        return self._play(body)

    def _play(self, body: Body) -> Reply:
        with self._lock:
            self._bodies.append(body)
            if not self._turns:
                return _error(f"the script has no turn left: {self._given} given, {len(self._bodies)} asked for")
            turn = self._turns.pop(0)
        whole = completion(body, _settle(turn, body), self._call_ids)
        if body.get("stream"):
            return Reply(headers={"Content-Type": "text/event-stream", **_CLOSE}, body=sse(body, whole))
        return Reply.of_json(whole, headers=_CLOSE)


def _settle(turn: Turn, body: Body) -> str | Sequence[Call]:
    while callable(turn):
        turn = turn(body)
    return [turn] if isinstance(turn, Call) else turn


def _error(message: str, *, status: int = _BAD_REQUEST) -> Reply:
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": "scripted_model"}
    return Reply.of_json({"error": error}, status=status, headers=_CLOSE)


def _json_or_text(body: bytes) -> object:
    try:
        return json.loads(body)
    except ValueError:
        return body.decode("utf-8", "backslashreplace")
