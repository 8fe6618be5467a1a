"""What does the agent learn when access ends or the authority fails in the middle of a conversation? One clean line."""

from __future__ import annotations

import json
from typing import Any

import pytest

from authsec_autogen import register_secure_fetch
from authsec_core.testing import LocalAuthority, call

METRICS = {"endpoint": "secure-vault/metrics", "scope": "read:metrics"}


def answers(model: Any) -> list[dict[str, Any]]:
    """Return what the tools told the model."""
    return [json.loads(text) for text in model.tool_results]


@pytest.mark.req("RS1", "RD4")
@pytest.mark.parametrize("per_call", [True, False])
def test_a_revocation_ends_access_with_the_next_call(
    model: Any, agents: Any, live: Any, converse: Any, authority: LocalAuthority, api: Any, per_call: bool
) -> None:
    """A held token is refused by the API and a new one by the authority; the model is told so, and gets no data."""
    agent = authority.register(["read:metrics"])

    def revoke(_body: object) -> Any:
        authority.revoke_agent(agent.client_id)
        api.clock.advance(3.0)  # by then the API has to have read the status list again
        return call("fetch", **METRICS)

    llm = model(call("fetch", **METRICS), revoke, "I was refused. TERMINATE")
    assistant, proxy = agents("assistant", llm), agents("proxy")
    register_secure_fetch(caller=assistant, executor=proxy, client=live(agent), name="fetch", per_call=per_call)
    converse(proxy, assistant, "go")
    before, after = answers(llm)
    assert (before["status"], before["mode"]) == ("success", "live")
    assert (after["status"], after["code"], after["retryable"]) == ("error", "delegation_refused", False)
    assert "data" not in after
    assert len(api.callers) == 1


@pytest.mark.req("RD3", "RD4")
def test_a_scope_that_was_never_granted_is_refused_before_the_api_is_called(
    model: Any, agents: Any, live: Any, converse: Any, authority: LocalAuthority, api: Any
) -> None:
    """The authority says no, and the API never hears of it."""
    llm = model(call("fetch", endpoint="secure-vault/records", scope="read:records"), "TERMINATE")
    assistant, proxy = agents("assistant", llm), agents("proxy")
    register_secure_fetch(
        caller=assistant, executor=proxy, client=live(authority.register(["read:metrics"])), name="fetch"
    )
    converse(proxy, assistant, "go")
    assert answers(llm)[0]["code"] == "delegation_refused"
    assert api.server.requests == ()


@pytest.mark.req("RS1", "RD4")
def test_an_outage_is_told_from_a_refusal_and_passes(
    model: Any, agents: Any, live: Any, converse: Any, authority: LocalAuthority, api: Any
) -> None:
    """While the authority is down the model reads that it may try again, never sample data; later it works."""
    authority.fail(status=503)

    def recover(_body: object) -> Any:
        authority.recover()
        return call("fetch", **METRICS)

    llm = model(call("fetch", **METRICS), recover, "TERMINATE")
    assistant, proxy = agents("assistant", llm), agents("proxy")
    client = live(authority.register(["read:metrics"]), retries=0, failure_cooldown=0)
    register_secure_fetch(caller=assistant, executor=proxy, client=client, name="fetch")
    converse(proxy, assistant, "go")
    down, up = answers(llm)
    assert (down["code"], down["mode"], down["retryable"]) == ("authority_unreachable", "live", True)
    assert (up["status"], up["mode"]) == ("success", "live")
