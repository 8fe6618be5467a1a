"""`authsec-server admin` and the admin API, held against each other: neither has what the other has not."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest

from authsec_server.app import create_app
from authsec_server.checks import AGENT_TYPES
from authsec_server.cli import _values as values
from authsec_server.cli._admin_arguments import COMMANDS
from authsec_server.cli._fields import Command
from authsec_server.issuers.values import KINDS
from authsec_server.operators.access import OPERATOR_ROLES
from authsec_server.pages import LARGEST_PAGE
from authsec_server.settings import ServerSettings

PREFIX = "/api/v1"
# `--jsonl` asks page by page, so that a long audit needs neither one long request nor the memory for it.
NOT_TYPED = {("/audit", "format")}
NAMES = [command.words for command in COMMANDS]
by_command = pytest.mark.parametrize("command", COMMANDS, ids=NAMES)


@cache
def api() -> Any:
    """Return the API's own description."""
    return create_app(ServerSettings(dev=True, data_dir=Path("unused"))).openapi()


def operation(command: Command) -> Any:
    """Return the description of the command's operation."""
    return api()["paths"][PREFIX + command.path][command.method.lower()]


def resolved(schema: Any) -> Any:
    """Return the schema that a reference names, or the one that is not null of several."""
    if "$ref" in schema:
        return resolved(api()["components"]["schemas"][schema["$ref"].rpartition("/")[2]])
    if "anyOf" in schema:
        (only,) = [choice for choice in schema["anyOf"] if choice.get("type") != "null"]
        return resolved(only)
    return schema


def body(command: Command) -> Any:
    """Return the schema of the request's body; an empty one where there is none."""
    described = operation(command).get("requestBody")
    return resolved(described["content"]["application/json"]["schema"]) if described else {}


def reply(command: Command) -> Any:
    """Return the schema of the reply's members."""
    statuses = [status for status in operation(command)["responses"] if status.startswith("2")]
    content = operation(command)["responses"][statuses[0]].get("content", {})
    return resolved(content["application/json"]["schema"])["properties"] if content else {}


def named(command: Command, place: str) -> set[str]:
    """Return the names of what the command says at one place."""
    fields = [field for field in command.fields if field.place == place]
    extra = {"unit"} if any(field.parse is values.span for field in fields) else set()
    return {field.name for field in fields} | extra | (set(command.fixed) if place == "body" else set())


def test_every_route_has_a_command() -> None:
    """What the API can do, the command line can, and the other way round."""
    routes = {
        (method.upper(), path.removeprefix(PREFIX))
        for path, methods in api()["paths"].items()
        if path.startswith(f"{PREFIX}/")
        for method in methods
    }
    assert len(routes) > 30
    assert {(command.method, command.path) for command in COMMANDS} == routes


@by_command
def test_every_parameter_has_its_option(command: Command) -> None:
    """Those of the query and those of the path, under the API's names."""
    parameters = operation(command).get("parameters", [])
    for place in ("query", "path"):
        known = {each["name"] for each in parameters if each["in"] == place}
        assert named(command, place) == {name for name in known if (command.path, name) not in NOT_TYPED}


@by_command
def test_every_member_of_the_body_has_its_option(command: Command) -> None:
    """One route serves two commands where one member says which; together they say all."""
    twins = [other for other in COMMANDS if (other.method, other.path) == (command.method, command.path)]
    assert set().union(*(named(other, "body") for other in twins)) == set(body(command).get("properties", {}))
    assert (command.takes_body or bool(named(command, "body"))) == bool(body(command))


@by_command
def test_what_the_api_requires_must_be_typed(command: Command) -> None:
    """And nothing else must be, but for a role's permissions, which are not to be emptied by a slip."""
    required = set(body(command).get("required", ())) - {"unit"} - set(command.fixed)
    typed = {field.name for field in command.fields if field.place == "body" and (field.required or not field.option)}
    assert typed == required


@by_command
def test_choices_are_the_api_s(command: Command) -> None:
    """Where a field has some, they are those that the API takes."""
    described = {each["name"]: each["schema"] for each in operation(command).get("parameters", [])}
    described |= body(command).get("properties", {})
    for field in command.fields:
        if field.choices:
            assert set(field.choices) == set(resolved(described[field.name])["enum"])


@by_command
def test_what_is_shown_is_there(command: Command) -> None:
    """A list's columns are members of its items, and what is shown once is a member of the reply."""
    members = reply(command)
    assert ("items" in members) == bool(command.columns)
    for column in command.columns.replace("+", " ").split():
        name, _, inner = column.partition(".")
        item = members["items"]["items"]
        # An entry of the audit that somebody has changed may look otherwise: the first kind is the usual one.
        items = resolved(item["anyOf"][0] if "anyOf" in item else item)["properties"]
        assert name in items
        assert not inner or inner in resolved(items[name])["properties"]
    assert not command.once or command.once in members
    assert ("this once" in str(members)) == bool(command.once)


def test_the_largest_page() -> None:
    """Lists are asked for in the largest pages that the API hands out."""
    from authsec_server.cli import _admin

    assert _admin._LARGEST_PAGE == LARGEST_PAGE


def test_kinds_and_roles() -> None:
    """The command line has words of its own for them, which load nothing."""
    from authsec_server.cli import _agent_commands, _authority_commands, _issuer_commands

    assert _agent_commands._TYPES == AGENT_TYPES
    assert _authority_commands._MAY == OPERATOR_ROLES
    assert _issuer_commands._KINDS == KINDS
