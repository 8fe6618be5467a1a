"""What was typed: the command line as a value, or what is wrong with it. Prints nothing but help and version."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from authsec_core._version import __version__
from authsec_core.cli import _values as values
from authsec_core.cli._parser import EPILOG, Parser, UsageError, add_command
from authsec_core.cli._vault_arguments import VaultArguments, take_vault
from authsec_core.cli._vault_parsers import add_vault

__all__ = ["Arguments", "UsageError", "parse"]

_NAME: Final = re.compile(r"--[a-z][a-z-]{1,20}(?==|$)|-[A-Za-z]")
_PROGRAM: Final = "program"  # what stands after `--`, for `run`
_NO_VALUES: Final = "a secret's value is never an argument, where others can see it: it is read from stdin or a prompt"


@dataclass(frozen=True, slots=True, kw_only=True)
class Arguments:
    """One command line.

    Attributes:
        command: `doctor`, `token`, `fetch`, `secrets`, `tokens` or `run`.
        env_file: A `.env` file to read the settings from.
        scope: The scopes to ask for; None where none were named.
        ttl: The longest life wanted, in seconds.
        vault: What was typed for the vault's commands.
    """

    command: str
    as_json: bool = False
    env_file: Path | None = None
    scope: str | None = None
    ttl: float | None = None
    audience: str | None = None
    endpoint: str = ""
    vault: VaultArguments | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """What it says of the settings; None where it says nothing."""
        return {"env_file": self.env_file, "audience": self.audience}


def parse(argv: Sequence[str]) -> Arguments:
    """Return what was typed.

    Raises:
        UsageError: It is wrong.
        SystemExit: Help or the version was asked for, and has been printed.
    """
    own, program = _split(argv)
    parser = _parser()
    namespace, extra = parser.parse_known_args(own)
    typed = vars(namespace)
    if typed["command"] == "run":
        _take_program(parser, typed, extra, program)
    elif extra:
        parser.error(_unexpected(typed, extra))
    vault = take_vault(typed)
    typed.pop("operation", None)
    return Arguments(**typed, vault=vault)


def _split(argv: Sequence[str]) -> tuple[Sequence[str], Sequence[str] | None]:
    """Part what is ours from the program after `--`, which `run` alone has; None where there is no `--`."""
    if "run" not in argv or "--" not in argv or argv.index("--") < argv.index("run"):
        return argv, None
    at = argv.index("--")
    return argv[:at], argv[at + 1 :]


def _take_program(
    parser: argparse.ArgumentParser, typed: dict[str, Any], extra: Sequence[str], program: Sequence[str] | None
) -> None:
    if not program or not program[0]:
        parser.error("put the program after --, such as authsec run --env NAME=PATH -- python agent.py")
    if extra:
        parser.error(_unexpected(typed, extra))
    names = [name for name, _ in typed["variables"]]
    if len(set(names)) < len(names):
        parser.error("argument --env: a variable can hold one secret: name each once")
    typed[_PROGRAM] = tuple(program)


def _unexpected(typed: dict[str, Any], extra: Sequence[str]) -> str:
    options = ", ".join(name[0] for name in map(_NAME.match, extra) if name is not None)
    if options:
        return f"there is no option {options}"
    if any(name.startswith("-") for name in extra):
        return "there is no such option"
    takes_value = typed.get("operation") in ("set", "rotate")
    return f"there are arguments too many; {_NO_VALUES}" if takes_value else "there are arguments too many"


def _parser() -> Parser:
    common = Parser(add_help=False)
    # Suppressed defaults, so that either option may stand before the command, too.
    common.add_argument(
        "--json", action="store_true", dest="as_json", default=argparse.SUPPRESS, help="print one JSON document"
    )
    common.add_argument(
        "--env-file", type=Path, default=argparse.SUPPRESS, metavar="FILE", help="read settings from this .env file too"
    )
    parser = Parser(
        prog="authsec",
        description="Credentials for AI agents: check a set-up, get a token, fetch data, keep and use secrets.",
        epilog=EPILOG,
        parents=[common],
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"authsec {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    _add_delegation(commands, common)
    add_vault(commands, common)
    return parser


def _add_delegation(commands: Any, common: Parser) -> None:
    doctor = add_command(
        commands, [common], "doctor", "check settings, authority, proof, keys and API; say how to mend what is wrong"
    )
    token = add_command(commands, [common], "token", "get a token and show what it says, never the token itself")
    fetch = add_command(commands, [common], "fetch", "GET an endpoint of the protected API, as an agent's tool does")
    token.add_argument("--ttl", type=values.seconds, metavar="SECONDS", help="the longest life wanted")
    token.add_argument("--audience", metavar="API", help="the API that the token is for, in place of AUTHSEC_AUDIENCE")
    fetch.add_argument("endpoint", metavar="ENDPOINT", help="a path relative to AUTHSEC_API_BASE_URL")
    for command in (doctor, token, fetch):
        command.add_argument(
            "--scope",
            type=values.scope,
            required=command is fetch,
            metavar="SCOPES",
            help="the scopes to ask for, separated by spaces" + ("" if command is fetch else "; else all delegated"),
        )
