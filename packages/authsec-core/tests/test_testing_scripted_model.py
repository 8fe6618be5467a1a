"""The model that plays a script. That real frameworks accept it is shown in the adapters' tests."""

from __future__ import annotations

import json
import ssl
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from authsec_core.testing import Call, ScriptedModel, call

# Loading the usual certificates takes longer than any request here, and plain http needs none.
BARE = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
TOOLS = [
    {
        "type": "function",
        "function": {"name": "fetch", "description": "Fetch it", "parameters": {"type": "object", "properties": {}}},
    }
]
REACT = {"role": "system", "content": "Use this format:\nAction: ...\nAction Input: ...\nor\nFinal Answer: ..."}


def ask(model: ScriptedModel, *messages: dict[str, Any], **more: Any) -> httpx.Response:
    """Send one completion request."""
    body = {"model": "gpt-4o", "messages": list(messages) or [{"role": "user", "content": "go"}], **more}
    return httpx.post(
        f"{model.base_url}/chat/completions",
        json=body,
        headers={"Authorization": f"Bearer {model.api_key}"},
        verify=BARE,
        trust_env=False,
    )


def choice(response: httpx.Response) -> dict[str, Any]:
    """Return the only choice of a completion."""
    (only,) = response.raise_for_status().json()["choices"]
    return dict(only)


def events(response: httpx.Response) -> list[dict[str, Any]]:
    """Return the chunks of a stream."""
    assert response.headers["content-type"] == "text/event-stream"
    lines = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]
    assert lines.pop() == "[DONE]"
    return [json.loads(line) for line in lines]


def test_text_and_calls_are_played_in_order() -> None:
    """A call becomes `tool_calls`, text becomes content, one turn for each request."""
    with ScriptedModel(call("fetch", endpoint="/x", scope="s"), "done") as model:
        first, second = choice(ask(model, tools=TOOLS)), choice(ask(model, tools=TOOLS))
        assert model.remaining == 0
    (made,) = first["message"]["tool_calls"]
    assert (first["finish_reason"], made["type"], made["function"]["name"]) == ("tool_calls", "function", "fetch")
    assert json.loads(made["function"]["arguments"]) == {"endpoint": "/x", "scope": "s"}
    assert (second["finish_reason"], second["message"]["content"]) == ("stop", "done")


def test_calls_made_at_once_have_ids_of_their_own() -> None:
    """A list is one turn of parallel calls, and no two calls of a model share an id."""
    with ScriptedModel([call("fetch", a=1), call("fetch", a=2)], call("fetch", a=3)) as model:
        made = choice(ask(model, tools=TOOLS))["message"]["tool_calls"]
        made += choice(ask(model, tools=TOOLS))["message"]["tool_calls"]
    assert len({one["id"] for one in made}) == 3


def test_a_function_chooses_the_turn_from_the_request() -> None:
    """A callable turn is given the body and may return any turn, another callable included."""
    with ScriptedModel(lambda body: lambda again: [call(body["messages"][0]["content"], n=len(again))]) as model:
        message = choice(ask(model, {"role": "user", "content": "chosen"}, tools=TOOLS))["message"]
    assert message["tool_calls"][0]["function"]["name"] == "chosen"


def test_a_tool_that_was_not_offered_can_be_called() -> None:
    """A hostile model names what it likes, also when the request offers no tools."""
    with ScriptedModel(call("not_offered", a=1)) as model:
        assert choice(ask(model))["message"]["tool_calls"][0]["function"]["name"] == "not_offered"


def test_arguments_given_as_text_are_sent_as_they_are() -> None:
    """A model that writes broken JSON can be played."""
    with ScriptedModel(Call("fetch", '{"endpoint": ')) as model:
        assert choice(ask(model, tools=TOOLS))["message"]["tool_calls"][0]["function"]["arguments"] == '{"endpoint": '


def test_an_exhausted_script_is_a_bad_request() -> None:
    """After the last turn the answer is 400, which clients do not repeat; the request is kept all the same."""
    with ScriptedModel("only", "two") as model:
        assert [ask(model).status_code for _ in range(4)] == [200, 200, 400, 400]
        assert len(model.requests) == 4


def test_an_exhausted_script_says_how_short_it_was() -> None:
    """What a framework shows of the error tells how many turns there were and how many were asked for."""
    with ScriptedModel("only", "two") as model:
        errors = [ask(model).json().get("error", {}).get("message") for _ in range(4)]
    assert errors == [
        None,
        None,
        "the script has no turn left: 2 given, 3 asked for",
        "the script has no turn left: 2 given, 4 asked for",
    ]


def test_a_turn_that_raises_fails_the_test_and_is_not_repeated() -> None:
    """The client sees 400, and the exception comes out of the with block."""

    def check(body: dict[str, Any]) -> str:
        raise AssertionError("the prompt is wrong")

    with pytest.raises(AssertionError, match="the prompt is wrong"), ScriptedModel(check) as model:
        assert ask(model).status_code == 400


def test_requests_are_recorded_whole() -> None:
    """`requests` has each body; `transcript` has all that was sent, headers included, without escapes."""
    with ScriptedModel("one", "two") as model:
        ask(model, {"role": "user", "content": "größe"})
        ask(model, {"role": "user", "content": "canary-1234"})
        assert [body["messages"][0]["content"] for body in model.requests] == ["größe", "canary-1234"]
        for part in ("größe", "canary-1234", "Bearer sk-stub", "/v1/chat/completions"):
            assert part in model.transcript


def test_the_transcript_has_what_is_not_json_too() -> None:
    """A body that is not JSON is answered 400 and is in the transcript."""
    with ScriptedModel("never") as model:
        url = f"{model.base_url}/chat/completions"
        assert httpx.post(url, content=b"canary-1234 \xff", verify=BARE, trust_env=False).status_code == 400
        assert "canary-1234" in model.transcript
        assert (model.requests, model.remaining) == ([], 1)


def test_other_endpoints_are_not_scripted() -> None:
    """The models are listed; anything but chat completions is 404 and plays no turn."""
    with ScriptedModel("never", model="local") as model:
        assert httpx.get(f"{model.base_url}/models", verify=BARE, trust_env=False).json()["data"][0]["id"] == "local"
        assert httpx.post(f"{model.base_url}/responses", json={}, verify=BARE, trust_env=False).status_code == 404
        assert model.remaining == 1


@pytest.mark.parametrize("stream", [False, True])
def test_connections_are_closed_after_each_reply(stream: bool) -> None:
    """Pooled connections would outlive the event loops that AutoGen throws away."""
    with ScriptedModel("done") as model:
        assert ask(model, stream=stream).headers["connection"] == "close"


def test_text_is_streamed() -> None:
    """`stream` gets server-sent events; usage comes when it is asked for."""
    with ScriptedModel("done", "again") as model:
        plain = events(ask(model, stream=True))
        with_usage = events(ask(model, stream=True, stream_options={"include_usage": True}))
    deltas = [chunk["choices"][0]["delta"] for chunk in plain]
    assert deltas == [{"role": "assistant"}, {"content": "done"}, {}]
    assert plain[-1]["choices"][0]["finish_reason"] == "stop"
    assert with_usage[-1]["choices"] == []
    assert with_usage[-1]["usage"]["total_tokens"] == 2


def test_calls_are_streamed_in_pieces() -> None:
    """The pieces of each parallel call, put together by index, are the whole calls."""
    with ScriptedModel([call("fetch", a=1), call("drop", b=2)]) as model:
        chunks = events(ask(model, stream=True, tools=TOOLS))
    names: dict[int, str] = {}
    arguments = {0: "", 1: ""}
    for chunk in chunks:
        for piece in chunk["choices"][0]["delta"].get("tool_calls", []):
            names.setdefault(piece["index"], piece["function"].get("name"))
            arguments[piece["index"]] += piece["function"]["arguments"]
    assert names == {0: "fetch", 1: "drop"}
    assert arguments == {0: '{"a": 1}', 1: '{"b": 2}'}
    assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"


def test_the_older_functions_form_is_spoken() -> None:
    """A request that offers `functions` and no `tools` is answered with `function_call`."""
    functions = [TOOLS[0]["function"]]
    with ScriptedModel(call("fetch", a=1), call("fetch", a=2)) as model:
        whole = choice(ask(model, functions=functions))
        chunks = events(ask(model, functions=functions, stream=True))
        assert model.offered_tools["fetch"].description == "Fetch it"
    assert whole["message"]["function_call"] == {"name": "fetch", "arguments": '{"a": 1}'}
    assert whole["finish_reason"] == "function_call"
    assert {"function_call": {"name": "fetch", "arguments": '{"a": 2}'}} in [
        chunk["choices"][0]["delta"] for chunk in chunks
    ]


def test_react_text_is_spoken_to_those_who_ask_for_it() -> None:
    """A prompt with ReAct instructions and no tools gets Action and Final Answer lines."""
    with ScriptedModel(call("fetch", endpoint="/x"), "all done") as model:
        action = choice(ask(model, REACT))["message"]["content"]
        answer = choice(ask(model, REACT))["message"]["content"]
    assert action.splitlines()[1:] == ["Action: fetch", 'Action Input: {"endpoint": "/x"}']
    assert answer.splitlines()[1:] == ["Final Answer: all done"]


def test_tools_win_over_react_instructions() -> None:
    """Where tools are offered the native form is used, whatever the prompt says."""
    with ScriptedModel(call("fetch", a=1), "done") as model:
        assert choice(ask(model, REACT, tools=TOOLS))["message"]["tool_calls"]
        assert choice(ask(model, REACT, tools=TOOLS))["message"]["content"] == "done"


@pytest.mark.parametrize("more", [{"functions": [{"name": "fetch"}]}, {}], ids=["functions", "react"])
def test_parallel_calls_need_a_form(more: dict[str, Any]) -> None:
    """A script with parallel calls for a dialect that has none is a mistake in the test."""
    with pytest.raises(ValueError, match="parallel"), ScriptedModel([call("a"), call("b")]) as model:
        ask(model, REACT, **more)


def test_tool_results_are_listed_once_in_order() -> None:
    """History is sent again with every request; a result counts once, in every dialect."""
    history: list[dict[str, Any]] = [
        {"role": "user", "content": "Observation: not one"},
        {"role": "tool", "tool_call_id": "call_1", "content": "first"},
        {"role": "tool", "tool_call_id": "call_2", "content": [{"type": "text", "text": "fir"}, {"text": "st"}]},
        {"role": "function", "name": "fetch", "content": "older"},
        {"role": "assistant", "content": "Action: fetch\nAction Input: {}\nObservation: react"},
        {"role": "assistant", "content": None},
    ]
    with ScriptedModel(*"123") as model:
        for end in (2, 4, 6):
            ask(model, *history[:end])
        assert model.tool_results == ["first", "first", "older", "react"]


def test_offered_tools_are_those_of_the_latest_request_that_offers_any() -> None:
    """Name, description and parameters as the model was told them."""
    with ScriptedModel(*"123") as model:
        assert model.offered_tools == {}
        ask(model, tools=[{"type": "function", "function": {"name": "old"}}])
        ask(model, tools=TOOLS)
        ask(model)
        (tool,) = model.offered_tools.values()
    assert (tool.description, tool.parameters["type"]) == ("Fetch it", "object")


def test_settings_for_the_frameworks_name_the_stub() -> None:
    """`llm_config` (with the disk cache off) and `crewai_llm` point at this model."""
    with ScriptedModel(model="local") as model:
        (entry,) = model.llm_config["config_list"]
        assert entry == {**model.crewai_llm, "price": [0, 0]}
        assert model.crewai_llm == {"model": "local", "base_url": model.base_url, "api_key": "sk-stub"}
        assert model.llm_config["cache_seed"] is None


def test_each_turn_is_played_once_to_callers_at_once() -> None:
    """Concurrent requests share the script without losing or repeating a turn."""
    gate = threading.Barrier(16)

    def one(_: int) -> str:
        gate.wait(timeout=10)
        return str(choice(ask(model))["message"]["content"])

    with ScriptedModel(*map(str, range(16))) as model, ThreadPoolExecutor(16) as pool:
        assert sorted(pool.map(one, range(16)), key=int) == [str(n) for n in range(16)]
        model.wait_for_requests(16, timeout=0)


def test_it_starts_again_where_it_was() -> None:
    """`close` and `start` keep port and script, to play a model that goes away."""
    model = ScriptedModel("done").start()
    try:
        url = model.base_url
        model.close()
        with pytest.raises(httpx.ConnectError):
            ask(model)
        model.start()
        assert (model.base_url, choice(ask(model))["message"]["content"]) == (url, "done")
    finally:
        model.close()
