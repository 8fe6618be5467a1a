"""How the operations of the admin API are typed: the rows of the `_…_commands` modules as parsers.

It knows no operation by name.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from authsec_server.cli._agent_commands import AGENT_COMMANDS
from authsec_server.cli._authority_commands import AUTHORITY_COMMANDS
from authsec_server.cli._fields import Command, Field
from authsec_server.cli._issuer_commands import ISSUER_COMMANDS

__all__ = ["COMMANDS", "AdminArguments", "add_admin", "take_admin"]

COMMANDS: Final = (*AGENT_COMMANDS, *ISSUER_COMMANDS, *AUTHORITY_COMMANDS)
_GROUPS: Final[Mapping[str, str]] = {
    "clients": "the agents",
    "keys": "the keys with which agents prove who they are",
    "roles": "what can be delegated",
    "delegations": "what each agent was delegated",
    "tokens": "issued tokens, and why one is refused",
    "approvals": "vault tokens that somebody has to consent to",
    "issuers": "others who vouch for workloads and users",
    "signing-keys": "the keys that sign tokens",
    "checkpoints": "signed checkpoints of the audit",
    "operators": "the people who administer this authority",
    "operator-tokens": "the tokens of operators",
}
_FIELD: Final = "field "  # before a field's name, to keep it apart from what else was typed
_OWN: Final = ("operation", "token_file", "every_page", "as_lines", "admin_command", "group_command")


@dataclass(frozen=True, slots=True, kw_only=True)
class AdminArguments:
    """What was typed after `admin`.

    Attributes:
        given: What was typed for the operation's fields, by their names.
        every_page: Ask for the following pages, too.
        as_lines: Print each item as one line of JSON.
    """

    operation: Command
    given: Mapping[str, Any]
    token_file: Path | None = None
    every_page: bool = False
    as_lines: bool = False


def take_admin(typed: dict[str, Any]) -> AdminArguments:
    """Return what was typed for `admin`, and take it out of `typed`."""
    given = {name.removeprefix(_FIELD): typed.pop(name) for name in list(typed) if name.startswith(_FIELD)}
    own = {name: typed.pop(name) for name in _OWN if name in typed}
    return AdminArguments(
        operation=own["operation"],
        given=given,
        token_file=own.get("token_file"),
        every_page=own.get("every_page", False),
        as_lines=own.get("as_lines", False),
    )


def add_admin(admin: argparse.ArgumentParser, parents: Sequence[argparse.ArgumentParser], epilog: str) -> None:
    """Add a parser for each operation below `admin`."""
    common = type(admin)(add_help=False)
    common.add_argument(
        "--token-file",
        type=Path,
        default=argparse.SUPPRESS,
        metavar="FILE",
        help="read the operator token from this file, in place of AUTHSEC_ADMIN_TOKEN",
    )
    groups: dict[str, Any] = {}
    below = admin.add_subparsers(dest="admin_command", metavar="COMMAND", required=True)
    for command in COMMANDS:
        group, _, verb = command.words.partition(" ")
        if verb and group not in groups:
            parser = below.add_parser(group, help=_GROUPS[group], description=_sentence(_GROUPS[group]), epilog=epilog)
            groups[group] = parser.add_subparsers(dest="group_command", metavar="COMMAND", required=True)
        parser = (groups[group] if verb else below).add_parser(
            verb or group,
            help=command.what,
            description=_sentence(command.what),
            epilog=epilog,
            parents=[*parents, common],
            allow_abbrev=False,
        )
        parser.set_defaults(operation=command)
        _add_fields(parser, command)


def _add_fields(parser: argparse.ArgumentParser, command: Command) -> None:
    by_name: dict[str, list[Field]] = defaultdict(list)
    for field in command.fields:
        by_name[field.name].append(field)
    for fields in by_name.values():
        # What speaks of the same member contradicts itself when it is typed together.
        to: Any = parser if len(fields) == 1 else parser.add_mutually_exclusive_group()
        for field in fields:
            _add_field(to, field)
    if command.columns:
        pages = parser.add_mutually_exclusive_group()
        pages.add_argument("--all", action="store_true", dest="every_page", help="show every page")
        pages.add_argument(
            "--jsonl",
            action="store_true",
            dest="as_lines",
            help="print every item as one line of JSON; --limit says how many",
        )


def _add_field(to: Any, field: Field) -> None:
    named: dict[str, Any] = {"dest": _FIELD + field.name, "help": field.what, "default": argparse.SUPPRESS}
    if field.constant is not ...:
        to.add_argument(field.option, action="store_const", const=field.constant, **named)
        return
    named["type"] = field.parse
    named["metavar"] = field.shown or (None if field.choices else field.option.strip("-").replace("-", "_").upper())
    if field.choices:
        named["choices"] = field.choices
    if field.option:
        to.add_argument(field.option, required=field.required, action="append" if field.many else "store", **named)
    else:
        to.add_argument(nargs="+" if field.many else None, **named)


def _sentence(what: str) -> str:
    return what[0].upper() + what[1:] + "."
