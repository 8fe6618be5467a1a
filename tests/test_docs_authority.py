"""Do the pages about the authority name all that it has, and nothing else? Held against its own code; nothing is run.

The commands on these pages are run by `test_docs_authority_commands`.
"""

from __future__ import annotations

import argparse
import ast
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final, get_args

import pytest
from fastapi.routing import APIRoute

import authsec_server.agents.routes as agents
import authsec_server.audit.routes as audit
import authsec_server.delegations.routes as delegations
import authsec_server.issuers.routes as issuers
import authsec_server.keys.routes as keys
import authsec_server.oauth.routes as oauth
import authsec_server.operators.routes as operators
import authsec_server.reports.routes as reports
import authsec_server.telemetry.routes as telemetry
import authsec_server.tokens.routes as tokens
import authsec_server.vault.access_routes as vault_access
import authsec_server.vault.account_routes as vault_account
import authsec_server.vault.agent_routes as vault_agents
import authsec_server.vault.approval_routes as vault_approvals
import authsec_server.vault.secret_routes as vault_secrets
import authsec_server.vault.token_routes as vault_tokens
import authsec_server.vault.trail_routes as vault_trail
from authsec_core.errors import (
    AuthorityUnreachableError,
    AuthSecError,
    BadReplyError,
    ConfigurationError,
    InsecureTransportError,
)
from authsec_server import errors, health, middleware
from authsec_server.agents.service import MOST_KEYS
from authsec_server.agents.spiffe import PLATFORMS
from authsec_server.app import create_app
from authsec_server.cli._arguments import _parser
from authsec_server.cli._fields import PAGE
from authsec_server.cli._outcome import error_outcome
from authsec_server.delegations.service import MOST_DELEGATIONS
from authsec_server.limits.service import Limited
from authsec_server.operators.access import _GIVEN
from authsec_server.operators.service import MOST_TOKENS
from authsec_server.problems import _HTTP, _VAULT_BY_STATUS, ERRORS, OAUTH_PREFIX, SDK_PREFIX
from authsec_server.protocol import Closing
from authsec_server.refusals import OAUTH_ERRORS, REFUSALS, VAULT_ERRORS
from authsec_server.settings import ServerSettings
from authsec_server.telemetry import metrics
from authsec_server.tokens.policy import Check

ROOT = Path(__file__).resolve().parents[1]
PAGES = ROOT / "docs" / "authority"
SOURCES = ROOT / "packages" / "authsec-server" / "src" / "authsec_server"
ROUTERS = (
    health.router,
    keys.public,
    tokens.public,
    tokens.sdk,
    reports.router,
    oauth.router,
    agents.router,
    delegations.roles,
    delegations.router,
    tokens.admin,
    keys.admin,
    issuers.router,
    operators.router,
    audit.router,
    telemetry.router,
    vault_secrets.reading,
    vault_secrets.router,
    vault_access.router,
    vault_tokens.router,
    vault_approvals.router,
    vault_approvals.admin,
    vault_agents.router,
    vault_account.public,
    vault_account.router,
    vault_trail.router,
)
PAGES_OF_ROUTES: Final = ("api.md", "vault.md", "vault-tokens.md")
PROOFS: Final = {  # of who is no operator
    SDK_PREFIX: "agent key",
    OAUTH_PREFIX: "client",
    "/v1/secrets": "agent key, vault token",
    "/v1/tokens/": "agent key, vault token",
    "/v1/tokens": "agent key",
    "/v1/me": "agent key, vault token",
}
CLIENTS: Final = ("client_id", "client_secret", "client_assertion_type", "client_assertion")  # below "a proof"
ANY_REQUEST = {"408", "413", "421", "429", "500", "503"}  # named once on the page, and not in each row
# Which table of api.md says what the members of a reply are.
REPLIES: Final = {
    "Token reply": "DelegationTokenReply",
    "Access token reply": "TokenReply",
    "Reported event": "GuardEvent",
    "Introspection": "Introspection",
    "Discovery": "MetadataReply",
    "Client": "ClientReply",
    "Agent key": "authsec_server__agents__routes__KeyReply",
    "Vault access": "VaultAccessReply",
    "Role": "RoleReply",
    "Delegation": "DelegationReply",
    "Token": "Token",
    "Dry run": "DryRunReply",
    "Issuer": "IssuerReply",
    "Signing key": "authsec_server__keys__routes__KeyReply",
    "Checkpoint": "CheckpointReply",
    "Operator": "OperatorReply",
    "Operator token": "OperatorTokenReply",
}
# And which table of vault-tokens.md.
VAULT_REPLIES: Final = {
    "A token": "VaultTokenReply",
    "A wait": "WaitingReply",
    "An approval": "ApprovalReply",
    "An agent": "VaultAgentReply",
}


def _text(page: str) -> str:
    return (PAGES / page).read_text(encoding="utf-8")


def _section(page: str, heading: str) -> str:
    """Return what stands below a heading, up to the next one of any level."""
    found = re.search(rf"^#+ {re.escape(heading)}\n(.*?)(?=^#|\Z)", _text(page), re.MULTILINE | re.DOTALL)
    assert found, f"{page} has no heading {heading}"
    return found[1]


def _rows(text: str) -> list[list[str]]:
    """Return the cells of all rows of tables that are no heads."""
    rows = [line.strip()[1:-1].split("|") for line in text.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in row] for row in rows if set(row[0].strip()) != {"-"}]


def _code(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


# Settings


def test_the_table_of_settings_is_what_the_code_says() -> None:
    """settings.md has each setting with the default and the words of `ServerSettings.describe`, in that order."""
    expected = []
    for setting in ServerSettings.describe():
        plain = " " in setting.default or setting.default == "none"
        default = setting.default if plain else f"`{setting.default}`"
        expected.append(f"| `{setting.variable}` | {default} | {setting.meaning} |")
    assert [line for line in _text("settings.md").splitlines() if line.startswith("| `AUTHSEC_")] == expected


# The command


def _below(parser: argparse.ArgumentParser) -> Mapping[str, argparse.ArgumentParser]:
    actions = [action for action in parser._actions if isinstance(action, argparse._SubParsersAction)]
    return actions[0].choices if actions else {}


def _leaves(parser: argparse.ArgumentParser, *words: str) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    if not _below(parser):
        yield " ".join(words), parser
    for word, below in _below(parser).items():
        yield from _leaves(below, *words, word)


def _options(parser: argparse.ArgumentParser) -> set[str]:
    return {option for option in parser._option_string_actions if option.startswith("--")} - {"--help", "--json"}


def test_every_command_has_a_section_and_every_option_a_row() -> None:
    """cli.md has what works on the database: each command, and each option with the commands that have it."""
    commands = {name: parser for name, parser in _below(_parser()).items() if name != "admin"}
    for name in (*commands, "admin"):
        assert _section("cli.md", name)
    found: dict[str, set[str]] = {}
    for name, parser in commands.items():
        for option in _options(parser):
            found.setdefault(option, set()).add(name)
    documented = {}
    for cells in _rows(_text("cli.md").partition("## serve")[0]):
        if cells[0].startswith("`--") and cells[0] not in ("`--json`", "`--version`, `--help`"):
            everyone = cells[1].startswith("all but")
            documented[_code(cells[0])[0].split()[0]] = set(commands) if everyone else set(_code(cells[1]))
    assert documented == found


def test_every_operation_of_admin_is_documented_with_its_arguments() -> None:
    """cli.md has a row for each operation: what is typed by its place, its options, and what the operator needs."""
    paging = {field.option for field in PAGE} | {"--all", "--jsonl"}
    expected = {}
    for name, parser in _leaves(_below(_parser())["admin"]):
        options = _options(parser) - {"--token-file"}
        pages = {"PAGE"} if paging <= options else set()
        positional = {str(action.metavar) for action in parser._actions if not action.option_strings}
        expected[name] = options - (paging if pages else set()) | pages | positional
    documented = {
        _code(cells[0])[0]: {re.split(r"[ \]]", text.strip("["))[0] for text in _code(cells[1])}
        for cells in _rows(_section("cli.md", "admin").partition("| command |")[2])
    }
    assert documented == expected


def test_admin_is_said_to_need_what_its_route_needs() -> None:
    """The last column of cli.md agrees with the route that the operation asks."""
    from authsec_server.cli._admin_arguments import COMMANDS

    needs = {(method, path): needed for method, path, needed in _routes()}
    rows = {_code(cells[0])[0]: cells[3] for cells in _rows(_section("cli.md", "admin").partition("| command |")[2])}
    assert rows == {command.words: needs[command.method, f"/api/v1{command.path}"] for command in COMMANDS}


def test_the_codes_of_the_command_have_their_exit_codes() -> None:
    """cli.md names the errors that the command can end with, and the exit code of each."""
    kinds: dict[str, type[AuthSecError]] = {kind.code: kind for kind in _errors()}
    kinds |= {k.code: k for k in (AuthorityUnreachableError, InsecureTransportError, BadReplyError)}
    rows = {_code(cells[0])[0]: int(cells[1]) for cells in _rows(_section("cli.md", "Codes"))[1:]}
    assert rows.pop("usage") == 2
    for code, stated in rows.items():
        error = kinds[code].__new__(kinds[code])
        AuthSecError.__init__(error, "why")
        assert error_outcome(error).exit_code == stated, code
    offline = {"conflict", "storage_unavailable", "audit_damaged", "unsafe_settings", "wrong_master_key"}
    assert offline | {"configuration", "unseal_failed"} <= rows.keys()


# The HTTP API


@cache
def _api() -> Any:
    return create_app(ServerSettings(dev=True, data_dir="unused")).openapi()


def _routes() -> Iterator[tuple[str, str, str]]:
    """Yield method and path of each route, and what an operator needs for it."""
    for router in ROUTERS:
        for route in router.routes:
            assert isinstance(route, APIRoute)
            asked = [getattr(each.call, "needs", None) for each in route.dependant.dependencies]
            needs = next((str(need) for need in asked if need), "")
            needs = next((proof for prefix, proof in PROOFS.items() if route.path.startswith(prefix)), needs)
            for method in route.methods or ():
                yield method, route.path.replace(":path}", "}"), needs


def _documented_routes() -> dict[tuple[str, str], list[str]]:
    rows = [cells for page in PAGES_OF_ROUTES for cells in _rows(_text(page)) if _is_route(cells[0])]
    found = {}
    for cells in rows:
        method, path = _code(cells[0])[0].split()
        assert (method, path) not in found
        found[method, path] = cells
    return found


def _is_route(cell: str) -> bool:
    return re.match(r"`(GET|POST|PUT|PATCH|DELETE) /", cell) is not None


def test_every_route_is_documented_with_who_may_ask() -> None:
    """A page has a row for each route, and says what one needs for it."""
    documented = {route: cells[1] for route, cells in _documented_routes().items()}
    assert documented == {(method, path): needs for method, path, needs in _routes()}
    assert len(documented) > 40


@pytest.mark.parametrize("route", sorted(_documented_routes()), ids=lambda route: " ".join(route))
def test_every_status_of_a_route_is_documented(route: tuple[str, str]) -> None:
    """A row has the statuses that the OpenAPI document declares, but for those that any request may meet."""
    method, path = route
    responses = _api()["paths"][path][method.lower()]["responses"]
    declared = {status for status, said in responses.items() if not _is_the_frameworks(said)}
    cells = _documented_routes()[route]
    stated = set(re.findall(r"\b[2-5]\d\d\b", " ".join(cells[3:])))
    assert stated - ANY_REQUEST == declared - ANY_REQUEST


def _is_the_frameworks(response: Any) -> bool:
    """Return whether FastAPI declared this by itself, for any parameter at all."""
    return "HTTPValidationError" in str(response)


@pytest.mark.parametrize("route", sorted(_documented_routes()), ids=lambda route: " ".join(route))
def test_everything_that_is_sent_is_documented(route: tuple[str, str]) -> None:
    """A row names the parameters of the query and the members of the body, and marks those that may be left out."""
    method, path = route
    described = _api()["paths"][path][method.lower()]
    sent = {given["name"]: not given["required"] for given in described.get("parameters", []) if given["in"] == "query"}
    body = str(described.get("requestBody", {}).get("content", {}))
    for name in re.findall(r"schemas/(\w+)", body):
        schema = _api()["components"]["schemas"][name]
        sent |= {member: member not in schema.get("required", []) for member in schema["properties"]}
    form = described.get("requestBody", {}).get("content", {}).get("application/x-www-form-urlencoded")
    if form is not None:
        sent |= form["schema"]["properties"]
    cell = _documented_routes()[route][2]
    named = {name: bool(mark) for name, mark in re.findall(r"`(\w+)`(\?)?", re.sub(r": [^,]*", "", cell))}
    if form is not None and cell.startswith("a form: ") and cell.endswith("and a proof"):
        assert all(f"`{name}`" in _section("api.md", "Standard OAuth") for name in CLIENTS)
        named = dict.fromkeys([*_code(cell), *CLIENTS], True)
    if method == "PATCH" and cell.startswith("any of"):
        named = dict.fromkeys(named, True)
    if path.startswith("/authsec/"):  # the page says in words what each of them is without
        sent, named = dict.fromkeys(sent, True), dict.fromkeys(named, True)
    assert named == sent


@pytest.mark.parametrize("heading", REPLIES)
def test_every_member_of_a_reply_is_documented(heading: str) -> None:
    """Each kind of object that a reply is made of has a table with all of its members, and no other."""
    table = _section("api.md", heading)
    named = {name for cells in _rows(table)[1:] for name in _code(cells[0])}
    assert named == set(_api()["components"]["schemas"][REPLIES[heading]]["properties"])


@pytest.mark.parametrize("heading", VAULT_REPLIES)
def test_every_member_of_a_reply_about_tokens_is_documented(heading: str) -> None:
    """The same for what vault-tokens.md is about; what a vote is made of is in the row of the votes."""
    schemas = _api()["components"]["schemas"]
    named = {name for cells in _rows(_section("vault-tokens.md", heading))[1:] for name in _code(cells[0])}
    assert named == set(schemas[VAULT_REPLIES[heading]]["properties"])
    (votes,) = [cells for cells in _rows(_section("vault-tokens.md", "An approval")) if cells[0] == "`votes`"]
    assert set(_code(votes[1])) == set(schemas["VoteReply"]["properties"])


def test_the_rest_of_the_replies_about_tokens_is_named() -> None:
    """What is said of the caller, of the audit, and of what a token can be asked for."""
    schemas, text = _api()["components"]["schemas"], _text("vault-tokens.md")
    for name in ("AccountReply", "VaultHealth", "TrailPageReply", "TrailEventReply", "NewVaultToken"):
        assert set(schemas[name]["properties"]) <= set(re.findall(r"`(\w+)`", text)), name


def test_every_code_of_a_problem_is_documented() -> None:
    """The table of problems has each code with its status: of errors, of the framework's and of what stands before."""
    expected = {kind.code: row.status for kind, row in ERRORS.items() if row.says and kind is not errors.RefusedError}
    expected |= {code: status for status, code, _ in _HTTP.values()}
    for trouble in (middleware._TOO_LARGE, middleware._SLOW_BODY, middleware._SLOW_WORK):
        expected[trouble.code] = trouble.status
    expected |= {"unknown_host": 421, "internal_error": 500}
    rows = {_code(cells[0])[0]: int(cells[1]) for cells in _rows(_section("api.md", "Problems"))[1:]}
    assert rows == expected


def test_the_members_of_a_problem_are_named() -> None:
    """So that a program can be written from the page."""
    text = _section("api.md", "Problems")
    assert {f"`{name}`" for name in _api()["components"]["schemas"]["Problem"]["properties"]} <= set(
        re.findall(r"`\w+`", text)
    )


# Agents, revocation, audit, security


def test_every_refusal_is_documented_with_its_status() -> None:
    """agents.md has each code that an agent can be refused with, but for those that only the vault has."""
    tables = (_section("agents.md", "Refusals"), _section("vault.md", "Refusals of the vault"))
    rows = [(_code(cells[0])[0], int(cells[1])) for table in tables for cells in _rows(table)[1:]]
    assert dict(rows) == dict(REFUSALS)
    assert len(rows) == len(REFUSALS)


def test_every_error_of_the_vault_is_documented() -> None:
    """vault.md has each code with the statuses that it comes with."""
    expected = {code: {status} for status, code in _VAULT_BY_STATUS.items()}
    for reason, code in VAULT_ERRORS.items():
        if code != "UNAUTHORIZED":
            expected.setdefault(code, set()).add(REFUSALS[reason])
    rows = {
        _code(cells[0])[0]: set(map(int, cells[1].split(", "))) for cells in _rows(_section("vault.md", "Errors"))[1:]
    }
    assert rows == {**expected, "VALIDATION_ERROR": {400}, "INTERNAL": {500, 503}}


@pytest.mark.parametrize("heading", ["A secret", "A list"])
def test_every_member_of_a_secret_is_documented(heading: str) -> None:
    """vault.md names each member of what is read, written, listed and imported."""
    schemas = _api()["components"]["schemas"]
    text = {"A secret": ("SecretReply", "WrittenSecret"), "A list": ("SecretList",)}[heading]
    members = {member for name in text for member in schemas[name]["properties"]} - {"id"}
    assert members <= set(_code(_section("vault.md", heading)))
    assert set(schemas["ImportReply"]["properties"]) <= set(re.findall(r"`(\w+)`", _section("vault.md", "Import")))


def test_every_refusal_is_documented_with_its_standard_error() -> None:
    """oauth.md has each code with the `error` that standard clients are told, and the status of that."""
    rows = {_code(cells[0])[0]: (cells[1], _code(cells[2])[0]) for cells in _rows(_section("oauth.md", "Errors"))[1:]}
    assert rows == {
        code: ("401" if error == "invalid_client" else "400", error) for code, error in OAUTH_ERRORS.items()
    }


def test_every_way_to_show_who_one_is_is_documented() -> None:
    """oauth.md has each method that the discovery document of an authority can name."""
    table = _section("oauth.md", "How a client shows who it is")
    assert {name for cells in _rows(table)[1:] for name in _code(cells[0])} == {*keys._METHODS, "none"}


def test_every_check_of_the_dry_run_is_documented() -> None:
    """agents.md has each value of `failed`."""
    rows = {_code(cells[0])[0] for cells in _rows(_section("agents.md", "Why not?"))[1:]}
    assert rows == set(get_args(Check))


def test_every_selector_of_every_platform_is_documented() -> None:
    """The table of selectors is that of the code."""
    documented: dict[str, set[str]] = {}
    for cells in _rows(_section("agents.md", "Selectors"))[1:]:
        names = set(_code(cells[1]))
        if "docker" in names:
            names |= documented["docker"]
        documented |= dict.fromkeys(_code(cells[0]), names - {"docker"})
    assert documented == {platform: set(names) for platform, names in PLATFORMS.items()}


def test_every_member_of_an_entry_is_documented() -> None:
    """audit.md has each member of an audit entry, and of its actor."""
    table = _section("audit.md", "What is recorded").partition("| member |")[2]
    schemas = _api()["components"]["schemas"]
    assert [_code(cells[0])[0] for cells in _rows(table) if _code(cells[0])] == list(
        schemas["AuditEntry"]["properties"]
    )
    actor = next(line for line in table.splitlines() if line.startswith("| `actor`"))
    assert set(schemas["AuditActor"]["properties"]) <= set(_code(actor))


def test_every_action_of_the_audit_is_documented() -> None:
    """audit.md has each action that the code can record."""
    table = _section("audit.md", "What is recorded").partition("| member |")[0]
    assert {action for cells in _rows(table)[1:] for action in _code(cells[0])} == _actions()


def _actions() -> set[str]:
    return {
        node.value
        for path in SOURCES.rglob("*.py")
        if "cli" not in path.parts and "testing" not in path.parts
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
        if re.fullmatch(
            r"(token|client|guard|key|role|delegation|issuer|operator|operator_token|signing_key|master_key|audit|vault(\.[a-z]+)?)"
            r"\.[a-z]+",
            node.value,
        )
    }


def test_the_reasons_of_a_refused_operator_are_documented() -> None:
    """audit.md has each reason of `operator.denied`."""
    source = (SOURCES / "operators" / "admission.py").read_text(encoding="utf-8")
    reasons = set(re.findall(r'"(token_\w+|operator_disabled|role)"', source)) - {"token_id"}
    line = next(line for line in _text("audit.md").splitlines() if line.startswith("| `operator.denied`"))
    assert set(_code(line)) == reasons | {"operator.denied"}


def test_what_operators_may_do_is_documented() -> None:
    """The table of security.md is the one of the code."""
    table = {_code(cells[0])[0]: cells[1:] for cells in _rows(_section("security.md", "Operators"))[1:]}
    columns = ("read", "manage", "administer")
    rows = {
        role: {column for column, cell in zip(columns, cells, strict=False) if cell == "yes"}
        for role, cells in table.items()
    }
    assert rows == {role: set(given) for role, given in _GIVEN.items()}


def test_the_limits_that_are_stated_hold() -> None:
    """How many keys, delegations and tokens there may be is as security.md and agents.md say."""
    assert (MOST_KEYS, MOST_DELEGATIONS, MOST_TOKENS) == (10, 64, 10)
    assert "up to ten keys and 64 delegations, an operator up to ten tokens" in _section("security.md", "Limits")
    assert "may have ten keys" in _text("agents.md")


def test_every_metric_is_documented_with_its_labels() -> None:
    """operations.md has each metric, as Prometheus has its name, with the labels that the code gives it."""
    named: dict[str, tuple[str, ...]] = {f"authsec_{level}": () for level, _ in metrics._LEVELS}
    named |= {name if buckets else f"{name}_total": labels for name, _, labels, buckets in metrics._METRICS}
    rows = {_code(cells[0])[0]: tuple(_code(cells[1])) for cells in _rows(_section("operations.md", "Metrics"))[1:]}
    assert rows == named


def test_every_value_of_a_small_label_is_documented() -> None:
    """Where a label has a handful of values, operations.md names them."""
    rows = {_code(cells[0])[0]: set(_code(cells[2])) for cells in _rows(_section("operations.md", "Metrics"))[1:]}
    assert rows["authsec_connections_closed_total"] == set(get_args(Closing))
    assert rows["authsec_rate_limited_total"] == set(get_args(Limited))
    told = {
        match
        for path in SOURCES.rglob("*.py")
        for match in re.findall(r'(?:database_failed|self\._unavailable)\("(\w+)"', path.read_text(encoding="utf-8"))
    }
    assert rows["authsec_database_errors_total"] == told
    revoked = {action for action in _actions() if action.endswith(".revoke")}
    assert {f"{what}.revoke" for what in rows["authsec_revocations_total"]} == revoked


def test_every_attribute_of_a_span_is_documented() -> None:
    """operations.md has each attribute that the code can set, and each span below a request."""
    source = (SOURCES / "telemetry" / "tracing.py").read_text(encoding="utf-8")
    table = _section("operations.md", "Traces")
    spans, attributes = table.split("| attribute |")
    assert {_code(cells[0])[0] for cells in _rows(attributes)} == set(
        re.findall(r'"((?:http|authsec|error)\.[a-z_.]+)"', source)
    ) - {"authsec.decide", "authsec.sign"}
    assert {_code(cells[0])[0] for cells in _rows(spans)[2:]} == {"authsec.decide", "authsec.sign"}


def test_the_promise_in_seconds_is_that_of_the_code() -> None:
    """revocation.md adds up: a list is half a second old at most, and a verifier's is its `revocation_max_age`."""
    import inspect

    from authsec_core import TokenVerifier
    from authsec_server.tokens import status

    defaults = {name: given.default for name, given in inspect.signature(TokenVerifier).parameters.items()}
    assert (defaults["revocation_max_age"], defaults["jwks_refresh"], defaults["jwks_max_age"]) == (5.0, 300.0, 3600.0)
    assert (status._FRESH_FOR, status._GOOD_FOR) == (0.5, 60)
    page = " ".join(_text("revocation.md").split())
    for stated in ("So 6 seconds is the whole", "at most half a second after the last, and ends after a minute"):
        assert stated in page


def _errors() -> list[type[AuthSecError]]:
    return [getattr(errors, name) for name in errors.__all__ if isinstance(getattr(errors, name), type)] + [
        ConfigurationError
    ]
