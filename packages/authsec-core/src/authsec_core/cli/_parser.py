"""The parser that every command shares: how it is laid out, and what it says of a wrong line.

No message repeats what was typed beside an option's name: whoever passes a key that has no place here must not find it
in a log.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from typing import Any, Final, NoReturn

__all__ = ["EPILOG", "Parser", "UsageError", "add_command", "add_group"]

EPILOG: Final = (
    "Settings come from AUTHSEC_* variables and from --env-file. Exit codes: 0 well, 1 failed, 2 wrong usage."
)


class UsageError(Exception):
    """The command line is wrong.

    Attributes:
        usage: How to write it, with a line end.
    """

    def __init__(self, message: str, usage: str) -> None:
        super().__init__(message)
        self.message, self.usage = message, usage


class Parser(argparse.ArgumentParser):
    """One that raises and does not quote."""

    def error(self, message: str) -> NoReturn:
        """Raise UsageError, without the words of argparse that repeat what was typed."""
        raise UsageError(re.split(r":? ['\"]", message)[0], self.format_usage())


def add_command(
    commands: Any, parents: Sequence[argparse.ArgumentParser], name: str, what: str, **more: Any
) -> argparse.ArgumentParser:
    """Add one command to those below a parser, and return its own."""
    command: argparse.ArgumentParser = commands.add_parser(
        name, help=what, description=_sentence(what), epilog=EPILOG, parents=parents, allow_abbrev=False, **more
    )
    return command


def add_group(commands: Any, name: str, what: str) -> Any:
    """Add a command that is the first word of several, and return the place for the second."""
    group = commands.add_parser(name, help=what, description=_sentence(what), epilog=EPILOG, allow_abbrev=False)
    return group.add_subparsers(dest="operation", metavar="COMMAND", required=True)


def _sentence(what: str) -> str:
    return what[0].upper() + what[1:] + "."
