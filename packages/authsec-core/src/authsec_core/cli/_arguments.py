"""What was typed: the command line as a value, or what is wrong with it. Prints nothing but help and version.

No message repeats what was typed beside an option's name: whoever passes a key that has no place here must not find it
in a log.
"""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from authsec_core._version import __version__
from authsec_core.scopes import parse_scopes

__all__ = ["Arguments", "UsageError", "parse"]

_EPILOG = "Settings come from AUTHSEC_* variables and from --env-file. Exit codes: 0 well, 1 failed, 2 wrong usage."
_NAME = re.compile(r"--[a-z][a-z-]{1,20}(?==|$)|-[A-Za-z]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Arguments:
    """One command line.

    Attributes:
        command: `doctor`, `token` or `fetch`.
        env_file: A `.env` file to read the settings from.
        scope: The scopes to ask for; None where none were named.
        ttl: The longest life wanted, in seconds.
    """

    command: str
    as_json: bool = False
    env_file: Path | None = None
    scope: str | None = None
    ttl: float | None = None
    audience: str | None = None
    endpoint: str = ""

    @property
    def settings(self) -> dict[str, Any]:
        """What it says of the settings; None where it says nothing."""
        return {"env_file": self.env_file, "audience": self.audience}


class UsageError(Exception):
    """The command line is wrong.

    Attributes:
        usage: How to write it, with a line end.
    """

    def __init__(self, message: str, usage: str) -> None:
        super().__init__(message)
        self.message, self.usage = message, usage


def parse(argv: Sequence[str]) -> Arguments:
    """Return what was typed.

    Raises:
        UsageError: It is wrong.
        SystemExit: Help or the version was asked for, and has been printed.
    """
    parser = _parser()
    values, extra = parser.parse_known_args(argv)
    if extra:
        options = ", ".join(name[0] for name in map(_NAME.match, extra) if name is not None)
        unnamed = "is no such option" if any(name.startswith("-") for name in extra) else "are arguments too many"
        parser.error(f"there is no option {options}" if options else f"there {unnamed}")
    return Arguments(**vars(values))


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(re.split(r":? ['\"]", message)[0], self.format_usage())


def _parser() -> argparse.ArgumentParser:
    common = _Parser(add_help=False)
    # Suppressed defaults, so that either option may stand before the command, too.
    common.add_argument(
        "--json", action="store_true", dest="as_json", default=argparse.SUPPRESS, help="print one JSON document"
    )
    common.add_argument(
        "--env-file", type=Path, default=argparse.SUPPRESS, metavar="FILE", help="read settings from this .env file too"
    )
    parser = _Parser(
        prog="authsec",
        description="Short-lived delegation tokens for AI agents: check a set-up, get a token, fetch data.",
        epilog=_EPILOG,
        parents=[common],
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"authsec {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    _add(commands, common, "doctor", "check settings, authority, proof, keys and API; say how to mend what is wrong")
    token = _add(commands, common, "token", "get a token and show what it says, never the token itself")
    fetch = _add(commands, common, "fetch", "GET an endpoint of the protected API, as an agent's tool does")
    token.add_argument("--ttl", type=_seconds, metavar="SECONDS", help="the longest life wanted")
    token.add_argument("--audience", metavar="API", help="the API that the token is for, in place of AUTHSEC_AUDIENCE")
    fetch.add_argument("endpoint", metavar="ENDPOINT", help="a path relative to AUTHSEC_API_BASE_URL")
    for command in commands.choices.values():
        command.add_argument(
            "--scope",
            type=_scope,
            required=command is fetch,
            metavar="SCOPES",
            help="the scopes to ask for, separated by spaces" + ("" if command is fetch else "; else all delegated"),
        )
    return parser


def _add(commands: Any, common: _Parser, name: str, what: str) -> argparse.ArgumentParser:
    described = what[0].upper() + what[1:] + "."
    command: argparse.ArgumentParser = commands.add_parser(
        name, help=what, description=described, epilog=_EPILOG, parents=[common], allow_abbrev=False
    )
    return command


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (value > 0 and math.isfinite(value)):
        raise argparse.ArgumentTypeError("give a positive number of seconds")
    return value


def _scope(text: str) -> str:
    try:
        parse_scopes(text)
    except ValueError as exc:
        raise argparse.ArgumentTypeError("name scopes such as read:metrics, separated by spaces") from exc
    return text
