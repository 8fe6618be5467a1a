"""The demo: AutoGen and CrewAI agents fetch protected data, in MOCK and then LIVE; then a refusal and a revocation.

Everything is real but the model: the frameworks, HTTP, RS256, an authority with its database and audit, and a protected
API, all on this machine. The authority keeps its data in SQLite; with `--postgres`, in a PostgreSQL that is started for
it. `--json` prints the outcome for programs. The exit code is 0 when every step came out as it should.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import sys
import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from authsec_core import AuthSecClient, AuthSecConfig, DelegationToken, TokenVerifier
from authsec_core.testing import LoopbackServer, ScriptedModel, assert_no_secret, call
from authsec_server.testing import DevAuthority, LocalPostgres, OnboardedAgent
from model import summary
from protected_api import protected_api

Chat = Callable[[AuthSecClient, str, ScriptedModel, str], None]

METRICS = {"endpoint": "secure-vault/metrics", "scope": "read:metrics"}
RECORDS = {"endpoint": "secure-vault/records", "scope": "read:records"}
PAYROLL = {"endpoint": "finance/payroll", "scope": "read:payroll"}
MAX_AGE = 1.0  # seconds that the API goes by a status list; 5 by default
SETTLE = 1.0 + MAX_AGE  # seconds until a revoked token is refused: the authority publishes it within one


@dataclass(frozen=True, kw_only=True)
class Step:
    """What one conversation came to."""

    title: str
    agent: str
    mode: str
    scope: str
    jti: str
    ttl: int
    decision: str
    as_expected: bool
    transcript: list[str] = field(default_factory=list)


def chat_autogen(client: AuthSecClient, name: str, model: ScriptedModel, task: str) -> None:
    """Let an AutoGen assistant propose calls and a user proxy run them."""
    import autogen

    from authsec_autogen import register_secure_fetch

    assistant = autogen.AssistantAgent(name, llm_config=model.llm_config)
    proxy = autogen.UserProxyAgent(
        "proxy",
        human_input_mode="NEVER",
        code_execution_config=False,
        is_termination_msg=lambda message: "TERMINATE" in (message.get("content") or ""),
    )
    register_secure_fetch(caller=assistant, executor=proxy, client=client, name="fetch_secure_data")
    proxy.initiate_chat(assistant, message=task, silent=True)


def chat_crewai(client: AuthSecClient, name: str, model: ScriptedModel, task: str) -> None:
    """Let a CrewAI agent do one task with the tool."""
    from crewai import LLM, Agent, Crew, Task

    from authsec_crewai import AuthSecSecureFetchTool, forget_tool_results

    tool = AuthSecSecureFetchTool(client=client, name="fetch_secure_data")
    agent = Agent(role=name, goal="Report", backstory="A careful analyst.", tools=[tool], llm=LLM(**model.crewai_llm))
    report = Task(description=task, expected_output="A brief summary.", agent=agent)
    # CrewAI would keep what the tool returned in a database of its own: forget_tool_results sees to it.
    Crew(agents=[agent], tasks=[report], tracing=False, task_callback=forget_tool_results).kickoff()


class Demo:
    """The steps, one after the other, each reported as it ends."""

    def __init__(self, say: Callable[[str], None], *, postgres: bool) -> None:
        self._say = say
        self._postgres = postgres
        self.steps: list[Step] = []
        self.audit: list[dict[str, Any]] = []

    def run(self) -> None:
        """Run all of them."""
        for framework, chat in (("AutoGen", chat_autogen), ("CrewAI", chat_crewai)):
            self._say(f"\nLoading {framework} ...")
            with AuthSecClient(AuthSecConfig(mode="mock")) as client:
                self._converse(f"{framework}, MOCK", chat, client, METRICS, "success")
        with self._authority() as authority:
            verifier = TokenVerifier(
                issuer=authority.issuer,
                audience="authsec-api",
                jwks_url=authority.jwks_url,
                require_status=True,
                revocation_max_age=MAX_AGE,
            )
            with protected_api(verifier) as api:
                self._live(authority, api)
            self.audit = authority.client.get("/audit", params={"limit": 50}).raise_for_status().json()["items"][::-1]

    @contextlib.contextmanager
    def _authority(self) -> Iterator[DevAuthority]:
        with contextlib.ExitStack() as held:
            url = None
            if self._postgres:
                self._say("\nStarting PostgreSQL ...")
                url = held.enter_context(LocalPostgres()).create_database()
            self._say(f"\nStarting an authority on {'PostgreSQL' if url else 'SQLite'} ...")
            yield held.enter_context(DevAuthority(database_url=url))

    def _live(self, authority: DevAuthority, api: LoopbackServer) -> None:
        analyst = authority.onboard(
            ["read:metrics", "read:records"],
            name="analyst",
            role="analyst",
            agent_type="autogen-agent",
            max_duration=15,
            unit="minutes",
        )
        with live_client(authority, api, analyst) as client:
            self._converse("AutoGen, LIVE", chat_autogen, client, METRICS, "success")
        with live_client(authority, api, analyst) as client:
            self._converse("CrewAI, LIVE", chat_crewai, client, RECORDS, "success")
        with live_client(authority, api, analyst) as client:
            before = len(api.requests)
            self._converse("a scope that was never granted", chat_autogen, client, PAYROLL, "delegation_refused")
            self._say(f"     the API was called {len(api.requests) - before} times")
        with live_client(authority, api, analyst) as client:
            self._revoke_midway(authority, analyst, client)

    def _revoke_midway(self, authority: DevAuthority, agent: OnboardedAgent, client: AuthSecClient) -> None:
        def revoke(_body: object) -> object:
            authority.client.post(f"/clients/{agent.client_id}/revoke").raise_for_status()
            time.sleep(SETTLE)
            return call("fetch_secure_data", **METRICS)

        self._converse("revoked after the first call", chat_autogen, client, METRICS, "delegation_refused", revoke)

    def _converse(
        self, title: str, chat: Chat, client: AuthSecClient, ask: dict[str, str], expected: str, *turns: Any
    ) -> None:
        self._say(f"\n{len(self.steps) + 1}. {title}")
        said: list[str] = []

        def close(body: dict[str, Any]) -> str:
            said.append(summary("Here is what I found: {data}.")(body))
            return said[-1]

        script = [call("fetch_secure_data", **ask), *turns, close]
        held = None if expected != "success" and not turns else client.delegation_token(ask["scope"])
        with ScriptedModel(*script) as model:
            with quiet():
                chat(client, "analyst", model, "Fetch what you may from the protected API and sum it up.")
            step = self._judge(title, client, ask["scope"], held, expected, model)
        step.transcript.extend(f"agent says   {text.removesuffix(' TERMINATE')}" for text in said)
        self.steps.append(step)
        for line in step.transcript:
            self._say(textwrap.fill(line, 110, initial_indent=" " * 5, subsequent_indent=" " * 18))

    def _judge(
        self,
        title: str,
        client: AuthSecClient,
        scope: str,
        held: DelegationToken | None,
        expected: str,
        model: ScriptedModel,
    ) -> Step:
        """Read off the model's own requests what happened, and that no credential was among them."""
        secrets = [held.value] if held else []
        if client.config.agent_key is not None:
            secrets.append(client.config.agent_key.get_secret_value())
        if secrets:
            assert_no_secret(model.transcript, *secrets)
        result = json.loads(model.tool_results[-1])
        outcome = "success" if result["status"] == "success" else result["code"]
        return Step(
            title=title,
            agent=client.config.client_id or "(mock agent)",
            mode=result["mode"],
            scope=scope,
            jti=held.jti or "-" if held else "-",
            ttl=round(held.lifetime) if held else 0,
            decision="allowed" if outcome == "success" else f"refused: {outcome}",
            as_expected=outcome == expected,
            transcript=list(transcript(model)),
        )


def live_client(authority: DevAuthority, api: LoopbackServer, agent: OnboardedAgent) -> AuthSecClient:
    """Return a client for `agent`, as its environment would configure it."""
    return AuthSecClient(
        AuthSecConfig(
            mode="live",
            base_url=authority.base_url,
            client_id=agent.client_id,
            agent_key=agent.agent_key,
            api_base_url=api.base_url,
        )
    )


def transcript(model: ScriptedModel) -> Iterator[str]:
    """Yield the conversation as the model saw it, without its instructions."""
    for message in model.requests[-1]["messages"]:
        for made in message.get("tool_calls") or ():
            arguments = json.loads(made["function"]["arguments"])
            yield f"agent calls  {made['function']['name']}({', '.join(f'{k}={v!r}' for k, v in arguments.items())})"
        if message["role"] == "tool":
            yield f"tool answers {message['content']}"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the frameworks' own console output out of the transcript."""
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        yield


def table(steps: Sequence[Step]) -> str:
    """Return the closing table."""
    rows = [("agent", "mode", "scope", "jti", "ttl", "decision")]
    rows += [(s.agent[:13], s.mode, s.scope, s.jti[:13], f"{s.ttl} s" if s.ttl else "-", s.decision) for s in steps]
    return aligned(rows)


def audit_table(entries: Sequence[dict[str, Any]]) -> str:
    """Return what the authority recorded of its agents."""
    rows = [("#", "at", "who", "action", "decision", "scope, or why not")]
    rows += [
        (
            str(entry["seq"]),
            entry["at"][11:19],
            entry["actor"].get("name") or entry["actor"]["kind"],
            entry["action"],
            entry["decision"],
            entry.get("scope") or entry.get("reason") or "",
        )
        for entry in entries
        if entry["action"] in ("client.onboard", "client.revoke", "delegation.create", "token.issue")
    ]
    return aligned(rows)


def aligned(rows: Sequence[Sequence[str]]) -> str:
    """Return the rows as columns, the first of them as their heads."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "  ".join("-" * width for width in widths), *lines[1:]])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the demo and report it."""
    parser = argparse.ArgumentParser(description="Agents fetch protected data with short-lived tokens.")
    parser.add_argument("--json", action="store_true", help="print the outcome as JSON; the transcript goes to stderr")
    parser.add_argument("--postgres", action="store_true", help="let the authority use PostgreSQL, which is started")
    options = parser.parse_args(arguments)
    for name in [name for name in os.environ if name.startswith(("AUTHSEC_", "DOWNSTREAM_URL"))]:
        del os.environ[name]  # the demo is about none of your own agents
    started = time.monotonic()
    said = sys.stderr if options.json else sys.stdout
    demo = Demo(lambda text: print(text, file=said, flush=True), postgres=options.postgres)
    demo.run()
    good = all(step.as_expected for step in demo.steps)
    if options.json:
        print(json.dumps({"ok": good, "steps": [asdict(step) for step in demo.steps], "audit": demo.audit}, indent=2))
    else:
        print(f"\n{table(demo.steps)}\n\nWhat the authority recorded:\n\n{audit_table(demo.audit)}\n")
        print("No credential was in anything that a model received; each was searched for.")
        print(f"{'Everything came out as it should' if good else 'SOMETHING DID NOT COME OUT AS IT SHOULD'}", end=" ")
        print(f"({time.monotonic() - started:.0f} s).")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
