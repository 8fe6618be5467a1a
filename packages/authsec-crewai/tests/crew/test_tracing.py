"""CrewAI's tracing: what it sends, that the tool warns of it exactly where it is on, and that the mend works.

The traces go to a server of ours, as those of a company go to the CrewAI of its own.
"""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from crew_support import find, from_description, need

import authsec_crewai
from authsec_core.testing import LocalAuthority, LoopbackServer, Reply, Request, ScriptedModel, assert_no_secret
from authsec_crewai import AuthSecCrewAIWarning, _retention

if TYPE_CHECKING:
    from crew.conftest import Deployment

KEY = "agent-key-that-nobody-may-see"
FETCHED = "eu-canary-7"  # is in the API's answer and never in the agent's
MEND = ("CREWAI_TRACING_ENABLED=false", "tracing=False")
CONSENT = {"first_execution_done": True, "trace_consent": True}  # as CrewAI remembers it


@dataclass
class Run:
    """What one run of the crew sent to CrewAI, and what our tool said of tracing before."""

    sent: bytes
    said: bool


@dataclass
class Traced:
    """Runs the crew in a process of its own, with CrewAI's server on loopback."""

    home: Path
    authority: LocalAuthority
    api: LoopbackServer
    crewai: LoopbackServer

    def run(self, variable: str | None, *, consent: bool = False, **options: bool) -> Run:
        """Run it with CREWAI_TRACING_ENABLED as given, and with or without somebody's consent in the past.

        On a busy machine CrewAI 1.9 closes a batch before its threads have put all events into it. So where we warned
        and nothing was sent it runs again, up to three times: where it never sends, it was wrong to warn.
        """
        run = self._run_once(variable, consent=consent, **options)
        for _ in range(2):
            if run.said and FETCHED.encode() not in run.sent:
                run = self._run_once(variable, consent=consent, **options)
        return run

    def _run_once(self, variable: str | None, *, consent: bool, **options: bool) -> Run:
        if consent:
            (self.home / ".crewai_user.json").write_text(json.dumps(CONSENT), encoding="utf-8")
        # Where CrewAI itself asks for its server: the environment, and before 1.9 this file alone.
        settings = self.home / ".config" / "crewai" / "settings.json"
        settings.parent.mkdir(parents=True, exist_ok=True)
        settings.write_text(json.dumps({"enterprise_base_url": self.crewai.base_url}), encoding="utf-8")
        with ScriptedModel(from_description, "17 agents") as model:
            done = self._process(model, variable, options)
        assert done.returncode == 0, done.stderr
        assert model.remaining == 0
        assert FETCHED in model.transcript
        assert_no_secret([self._sent(), done.stdout, done.stderr, model.transcript], KEY, *self._bearers())
        said = json.loads(self._report.read_text(encoding="utf-8"))
        return Run(self._sent(), any(all(part in text for part in MEND) for text in said))

    def _process(
        self, model: ScriptedModel, variable: str | None, options: dict[str, bool]
    ) -> subprocess.CompletedProcess[str]:
        agent = self.authority.register(["read:metrics"], agent_key=KEY)
        environ = {
            **{name: value for name, value in os.environ.items() if name != "CREWAI_TRACING_ENABLED"},
            **self.authority.environ(agent, api_base_url=self.api.base_url),
            "AUTHSEC_ENDPOINT_SCOPES": '{"secure-vault/metrics": "read:metrics"}',
            "OPENAI_BASE_URL": model.base_url,
            "OPENAI_API_KEY": model.api_key,
            "CREWAI_PLUS_URL": self.crewai.base_url,
            "CREWAI_USER_PAT": "pat-of-the-operator",
            **({} if variable is None else {"CREWAI_TRACING_ENABLED": variable}),
        }
        program = Path(__file__).with_name("traced_crew.py")
        return subprocess.run(
            [sys.executable, str(program), json.dumps(options), str(self._report)],
            env=environ,
            cwd=self.home,
            stdin=subprocess.DEVNULL,  # nobody is there to answer CrewAI's questions
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )

    @property
    def _report(self) -> Path:
        return self.home / "said.json"

    def _sent(self) -> bytes:
        return b"\n".join(map(_body, self.crewai.requests))

    def _bearers(self) -> list[str]:
        return [request.headers["authorization"].removeprefix("Bearer ") for request in self.api.requests]


def _body(request: Request) -> bytes:
    return gzip.decompress(request.body) if request.headers.get("content-encoding") == "gzip" else request.body


@pytest.fixture
def traced(home: Path) -> Iterator[Traced]:
    """A `Traced` whose CrewAI server takes whatever it is sent, batches of before 1.15 and spans."""

    def take(request: Request) -> Reply:
        if not request.path.endswith("/grants"):
            identifiers = {"trace_id": "0", "ephemeral_trace_id": "0", "access_code": "0"}
            return Reply.of_json(identifiers, status=200 if request.path.endswith("/finalize") else 201)
        asked = json.loads(request.body)["execution_uuid"]
        rest = {"tier": "authenticated", "token": "grant", "expires_at": "2999-01-01T00:00:00Z"}
        return Reply.of_json({**rest, "execution_uuid": asked, "collector_url": f"{crewai.base_url}/v1/traces"})

    need("crewai.events.listeners.tracing", "this CrewAI has no tracing")
    with (
        LocalAuthority() as authority,
        LoopbackServer(lambda _request: Reply.of_json({"region": FETCHED})) as api,
        LoopbackServer(take) as crewai,
    ):
        yield Traced(home, authority, api, crewai)


@pytest.mark.req("RS8")
def test_traces_hold_what_was_fetched_and_no_token(traced: Traced) -> None:
    """Switched on, tracing sends results away, whatever the telemetry settings say; the token is not among them."""
    run = traced.run("true", consent=True)  # else older ones take it for their first run, and ask before they send
    assert FETCHED.encode() in run.sent
    assert run.said


@pytest.mark.parametrize(("variable", "consent"), [(None, False), (None, True), ("false", True)])
def test_it_is_warned_of_where_traces_are_sent(variable: str | None, consent: bool, traced: Traced) -> None:
    """Consent that CrewAI remembers counts or does not, by its version: the tool says what then happens."""
    run = traced.run(variable, consent=consent)
    assert (FETCHED.encode() in run.sent) is run.said


def test_the_mend_keeps_results_here(traced: Traced) -> None:
    """With the variable and the option that the warning names, no version sends anything, not even upon consent."""
    assert traced.run("false", consent=True, tracing=False).sent == b""


@pytest.mark.parametrize(("setting", "expected"), [("true", True), ("TRUE", True), ("false", False), (None, False)])
def test_a_live_tool_goes_by_the_variable(
    setting: str | None, expected: bool, deployment: Deployment, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an operator has switched on is warned of on every version, since another may be installed tomorrow."""
    monkeypatch.setattr(_retention, "_said", set())
    monkeypatch.setattr(_retention, "_database_keeps_messages", lambda: False)
    monkeypatch.delenv("CREWAI_TRACING_ENABLED")
    if setting is not None:
        monkeypatch.setenv("CREWAI_TRACING_ENABLED", setting)
    client = deployment.client(deployment.authority.register(["read:metrics"]))
    if expected:
        with pytest.warns(AuthSecCrewAIWarning, match="CREWAI_TRACING_ENABLED=false"):
            authsec_crewai.AuthSecSecureFetchTool(client=client)
    else:
        authsec_crewai.AuthSecSecureFetchTool(client=client)


def test_without_a_readable_data_folder_the_variable_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where CrewAI cannot say whether it traces, what the operator set is believed, and nothing is raised."""

    def unreadable() -> bool:
        raise PermissionError

    utils = find("crewai.events.listeners.tracing.utils")
    if hasattr(utils, "should_enable_tracing"):  # older ones cannot say in any case
        monkeypatch.setattr(utils, "should_enable_tracing", unreadable)
    assert not _retention._tracing_is_on()
    monkeypatch.setenv("CREWAI_TRACING_ENABLED", "TRUE")
    assert _retention._tracing_is_on()
