"""The vault's tools in real crews: what a model gets, what it never sees, and what is left of a copied tool."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from crew_support import dump_json, need, told

import authsec_crewai
from authsec_core import AgentVaultSync, ConfigurationError, MockVault
from authsec_core.testing import LoopbackServer, Reply, ScriptedModel, assert_no_secret, call

CANARY = "tvly-canary-0123456789abcdef0123456789abcdef"
SECRETS = {
    "production/search/tavily-key": CANARY,
    "production/publishing/wordpress-key": "wp-canary-0123456789abcdef",
}
SEARCH, PUBLISHING = SECRETS
KINDS = ["AuthSecVaultTool", "AuthSecSecretFetchTool"]

StartModel = Callable[..., ScriptedModel]


@pytest.fixture
def mock() -> MockVault:
    """A vault in this process, which remembers who asked for what."""
    return MockVault(SECRETS)


@pytest.fixture
def vault(mock: MockVault) -> Iterator[AgentVaultSync]:
    """A client of that vault."""
    with AgentVaultSync(secrets=mock) as made:
        yield made


@pytest.fixture
def service() -> Iterator[LoopbackServer]:
    """A careless service: what it was sent comes back."""

    def answer(request: Any) -> Reply:
        if request.headers.get("authorization") != f"Bearer {CANARY}":
            return Reply(status=401)
        return Reply.of_json({"found": 3, "debug": dict(request.headers)})

    with LoopbackServer(answer) as server:
        yield server


@pytest.fixture
def reader(vault: AgentVaultSync) -> Callable[..., Any]:
    """A function that makes a tool that reads what lies in an area."""

    def make(area: str = "search", **more: Any) -> Any:
        token = vault.request_token(scope=f"secrets:read:production/{area}/*")
        return authsec_crewai.AuthSecVaultTool(**{"vault_token": token, "vault": vault, **more})

    return make


@pytest.fixture
def fetcher(vault: AgentVaultSync, service: LoopbackServer) -> Callable[..., Any]:
    """A function that makes a tool that asks the service."""

    def make(**more: Any) -> Any:
        given = {"path": SEARCH, "base_url": service.base_url, "allowed_endpoints": ["search"], "vault": vault}
        return authsec_crewai.AuthSecSecretFetchTool(**{**given, **more})

    return make


@pytest.fixture(params=KINDS)
def tool(request: pytest.FixtureRequest, reader: Callable[..., Any], fetcher: Callable[..., Any]) -> Any:
    """Each kind of tool, which has been used once."""
    made = reader(agent_name="researcher") if request.param == KINDS[0] else fetcher()
    assert works(made)
    return made


def works(tool: Any) -> bool:
    """Say whether a call of the tool has the outcome that it is there for."""
    if isinstance(tool, authsec_crewai.AuthSecVaultTool):
        return bool(tool._run(SEARCH) == CANARY)
    return bool(json.loads(tool._run("search"))["status"] == "success")


def code(text: str) -> str:
    """Return the code of an error that a model was told."""
    answer = json.loads(text)
    assert (answer["status"], "message" in answer) == ("error", True)
    return str(answer["code"])


@pytest.mark.req("RD4", "RS8")
def test_a_secret_that_is_only_used_reaches_no_model(
    fetcher: Callable[..., Any],
    start_model: StartModel,
    make_crew: Any,
    mock: MockVault,
    capfd: pytest.CaptureFixture[str],
    home: Path,
) -> None:
    """Prompts, prints and CrewAI's own files hold neither secret nor key; the service got what it wanted."""
    tool = fetcher()
    model = start_model(call(tool.name, endpoint="search", reason="to search"), "Three findings.")
    make_crew(model, tool, task_callback=authsec_crewai.forget_tool_results).kickoff()
    assert json.loads(model.tool_results[0])["data"]["found"] == 3
    written = [path.read_bytes() for path in home.rglob("*") if path.is_file()]
    assert_no_secret([model.transcript, *capfd.readouterr(), *written], *mock.secrets)
    assert [(one.path, one.decision, one.claimed) for one in mock.accesses] == [
        (SEARCH, "allow", {"reason": "to search"})
    ]


def test_a_crew_reads_a_secret_and_the_audit_knows_for_whom(
    reader: Callable[..., Any], start_model: StartModel, make_crew: Any, mock: MockVault
) -> None:
    """The model gets the plain value; name and reason are told to the vault, as are refusals."""
    tool = reader(agent_name="researcher")
    model = start_model(
        call(tool.name, path=PUBLISHING, reason="curious"), call(tool.name, path=SEARCH, reason="to\nsearch"), "done"
    )
    make_crew(model, tool).kickoff()
    denied, value = model.tool_results
    assert (code(denied), value) == ("vault_scope_denied", CANARY)
    reads = [(one.path, one.decision, one.claimed) for one in mock.accesses if one.action == "read"]
    assert reads == [
        (PUBLISHING, "SCOPE_DENIED", {"agent_name": "researcher", "reason": "curious"}),
        (SEARCH, "allow", {"agent_name": "researcher", "reason": "to search"}),
    ]


@pytest.mark.req("RD7")
def test_two_agents_of_a_crew_never_share_what_was_read(
    reader: Callable[..., Any], start_model: StartModel, make_agent: Any, make_crew: Any, mock: MockVault
) -> None:
    """CrewAI caches by name and arguments for all agents: the second asks the vault itself, and is refused."""
    first, second = reader("search"), reader("publishing")
    assert first.name != second.name
    model = start_model(call(first.name, path=SEARCH), "done", call(second.name, path=SEARCH), "done")
    agents = [make_agent(model, first, role="First"), make_agent(model, second, role="Second")]
    make_crew(model, *agents, cache=True).kickoff()
    value, denied = model.tool_results
    assert (value, code(denied)) == (CANARY, "vault_scope_denied")


def test_a_token_that_was_revoked_ends_access_at_once(
    vault: AgentVaultSync, reader: Callable[..., Any], start_model: StartModel, make_crew: Any
) -> None:
    """A second kickoff is not served from what the first one read."""
    token = vault.request_token(scope="secrets:read:production/search/*")
    tool = reader(vault_token=token)
    model = start_model(call(tool.name, path=SEARCH), "done", call(tool.name, path=SEARCH), "done")
    crew = make_crew(model, tool, cache=True)
    crew.kickoff()
    vault.revoke_token(token)
    crew.kickoff()
    before, after = model.tool_results
    assert (before, code(after)) == (CANARY, "vault_unauthorized")


@pytest.mark.req("RD1", "RD2", "RD5", "RD6")
def test_a_hostile_model_gets_errors_and_nothing_else(
    fetcher: Callable[..., Any], reader: Callable[..., Any], service: LoopbackServer, mock: MockVault
) -> None:
    """Whatever it makes up for arguments, no other secret is read, no other server called and nothing is raised."""
    fetch, read = fetcher(), reader()
    before = len(mock.accesses)
    with LoopbackServer(lambda _request: Reply.of_json({})) as evil:
        wrong: list[dict[str, Any]] = [
            {"endpoint": evil.base_url},
            {"endpoint": "search/../admin"},
            {"endpoint": 7},
            {"endpoint": None, "base_url": evil.base_url},
            {},
        ]
        assert {code(fetch._run(**one)) for one in wrong} == {"endpoint_refused"}
        assert (evil.requests, service.requests, len(mock.accesses)) == ((), (), before)
    paths: list[dict[str, Any]] = [
        {"path": PUBLISHING, "token": "vlt_x"},
        {"path": PUBLISHING, "vault_token": None, "agent_name": "writer"},
        {"path": "production/search/../publishing/wordpress-key"},
        {"path": ["production"]},
        {},
    ]
    texts = [read._run(**one) for one in paths]
    assert {code(text) for text in texts} <= {"vault_scope_denied", "vault_bad_request"}
    assert_no_secret(texts, *SECRETS.values())


@pytest.mark.req("RD4")
def test_failures_are_told_apart(vault: AgentVaultSync, reader: Callable[..., Any], service: LoopbackServer) -> None:
    """Denied, not there, used up and unavailable have codes of their own, in either tool."""
    once = vault.request_token(scope="secrets:read:production/search/*", max_uses=1)
    tool = reader(vault_token=once)
    assert works(tool)
    with AgentVaultSync("http://127.0.0.1:9", agent_key="key-of-the-agent", timeout=1.0) as nowhere:
        make = authsec_crewai.AuthSecSecretFetchTool
        told = [
            tool._run(SEARCH),
            reader()._run(PUBLISHING),
            reader()._run("production/search/nothing"),
            make(path=PUBLISHING, base_url=service.base_url, vault=vault)._run("search"),
            make(path=SEARCH, base_url="http://127.0.0.1:9", vault=vault)._run("search"),
            make(path=SEARCH, base_url=service.base_url, vault=nowhere)._run("search"),
        ]
    assert [code(text) for text in told] == [
        "vault_token_exhausted",
        "vault_scope_denied",
        "secret_not_found",
        "downstream_denied",
        "downstream_unavailable",
        "vault_unavailable",
    ]


@pytest.mark.parametrize(
    "duplicate",
    [copy.copy, copy.deepcopy, lambda tool: tool.model_copy(deep=True), lambda tool: copy.deepcopy({"t": [tool]})],
    ids=["copy", "deepcopy", "model_copy deep", "inside"],
)
def test_copies_share_the_identity(duplicate: Callable[[Any], Any], tool: Any) -> None:
    """A copy in the same process is the same agent."""
    twin = duplicate(tool)
    assert works(twin["t"][0] if isinstance(twin, dict) else twin)


@pytest.mark.req("RS8")
def test_no_form_of_a_tool_shows_a_secret(tool: Any, mock: MockVault) -> None:
    """Neither repr nor any dump nor what hangs on the object holds a token, a key or a secret; pickling is refused."""
    forms = [repr(tool), str(tool), tool.model_dump(), dump_json(tool), vars(tool), tool.to_structured_tool()]
    private = [repr(tool.__pydantic_private__)]
    assert_no_secret([*forms, *private], *mock.secrets)
    with pytest.raises(TypeError, match="is not pickled") as refusal:
        pickle.dumps(tool)
    assert_no_secret(refusal.value, *mock.secrets)


@pytest.mark.req("RS9", "RD7")
@pytest.mark.parametrize("how", ["dict", "json", "construct", "forged", "with settings"])
def test_a_restored_tool_does_nothing(how: str, tool: Any, mock: MockVault, monkeypatch: pytest.MonkeyPatch) -> None:
    """Made of a dump it has no identity, and does not take on that of the environment, whatever the dump says."""
    monkeypatch.setenv("AUTHSEC_MOCK_SECRETS", json.dumps(SECRETS))
    kind, dump = type(tool), tool.model_dump()
    settings = {"vault_token": "vlt_x", "path": SEARCH, "base_url": "https://evil.example", "token": "vlt_x"}
    wanted = {name: settings[name] for name in settings if name in kind.__init__.__annotations__}
    ways: dict[str, Callable[[], Any]] = {
        "dict": lambda: kind.model_validate(dump),
        "json": lambda: kind.model_validate_json(dump_json(tool)),
        "construct": lambda: kind.model_construct(**dump),
        "forged": lambda: kind.model_validate({**dump, "authsec: made by": "__init__"}),
        "with settings": lambda: kind.model_validate({**dump, **wanted}),
    }
    restored = ways[how]()
    before = len(mock.accesses)
    for attempt in (restored, copy.deepcopy(restored)):
        text = attempt._run("search") if kind.__name__ == KINDS[1] else attempt._run(SEARCH)
        assert code(text) == "configuration"
        assert kind.__name__ in json.loads(text)["message"]
    assert len(mock.accesses) == before
    assert restored.name == tool.name


def test_the_name_tells_identities_apart(reader: Callable[..., Any], fetcher: Callable[..., Any]) -> None:
    """CrewAI knows tools by their names alone, so each token, secret and API has one of its own."""
    names = [
        reader().name,
        reader().name,
        fetcher().name,
        fetcher(allowed_endpoints=["other"]).name,
        fetcher(header="X-Key").name,
        fetcher(token="vlt_x").name,
    ]
    assert len(set(names)) == len(names)
    assert fetcher().name == fetcher().name
    with (
        AgentVaultSync("https://a.example", agent_key="one") as one,
        AgentVaultSync("https://a.example", agent_key="two") as two,
    ):
        assert fetcher(vault=one).name != fetcher(vault=two).name
    assert reader(name="get_secret").name == "get_secret"


def test_the_schema_has_what_the_model_may_say(
    reader: Callable[..., Any], fetcher: Callable[..., Any], start_model: StartModel, make_crew: Any
) -> None:
    """One required text and a reason; the name and the description reach the model as they are."""
    for tool, needed in ((reader(), "path"), (fetcher(), "endpoint")):
        schema = tool.args_schema.model_json_schema()
        assert (sorted(schema["properties"]), schema["required"]) == (sorted([needed, "reason"]), [needed])
        model = start_model("done")
        make_crew(model, tool).kickoff()
        name, description = told(model.requests[0])
        assert name == tool.name
        assert "'reason'" in description
    assert "'search'" in fetcher().description


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "wrong",
    [{"vault": object()}, {"cache_function": print}, {"args_schema": None}, {"nonsense": 1}, {"agent_name": "a\nb"}],
    ids=lambda wrong: "+".join(wrong),
)
def test_misuse_is_told_when_it_is_made(kind: str, wrong: dict[str, Any], vault: AgentVaultSync) -> None:
    """A mistake of the programmer is found at start, and the error holds no token."""
    given: dict[str, Any] = {"vault": vault, **wrong}
    needed = {KINDS[0]: {"vault_token": CANARY}, KINDS[1]: {"path": SEARCH, "base_url": "https://a.example"}}[kind]
    with pytest.raises((TypeError, ValueError)) as refused:
        getattr(authsec_crewai, kind)(**needed, **given)
    assert_no_secret(refused.value, CANARY)


def test_without_a_token_there_is_no_vault_tool(vault: AgentVaultSync) -> None:
    """None and blank are no tokens: the tool would act with the agent's own key."""
    for none in (None, "", 7):
        with pytest.raises((TypeError, ValueError)):
            authsec_crewai.AuthSecVaultTool(vault_token=none, vault=vault)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        authsec_crewai.AuthSecVaultTool(vault=vault)  # type: ignore[call-arg]


def test_where_nothing_is_set_it_is_told_at_once() -> None:
    """Without a vault in the environment the program stops at its start, not in mid-conversation."""
    with pytest.raises(ConfigurationError, match="AUTHSEC_VAULT_URL"):
        authsec_crewai.AuthSecVaultTool(vault_token="vlt_x")


def test_they_declare_the_variables_that_they_read(tool: Any) -> None:
    """CrewAI's tooling can tell an operator what to set."""
    need("crewai.tools.base_tool:EnvVar", "this CrewAI's tools declare no variables")
    declared = {variable.name for variable in tool.env_vars}
    assert declared == {"AUTHSEC_VAULT_URL", "AUTHSEC_AGENT_KEY", "AUTHSEC_MOCK_SECRETS"}
