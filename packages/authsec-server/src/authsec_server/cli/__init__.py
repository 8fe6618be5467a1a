"""The `authsec-server` command: runs an authority, sets one up, and administers one that runs.

A composition root: it reads the command line, runs one command, shows what came of it and returns the exit code.
Nothing else of the server imports this package.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from authsec_core._clock import SYSTEM_CLOCK, Clock
from authsec_core.cli._arguments import UsageError
from authsec_core.cli._output import let_go_of_stdout, write_json
from authsec_core.errors import AuthSecError
from authsec_server.cli._arguments import Arguments, parse
from authsec_server.cli._outcome import FAILED, USAGE, Outcome, error_outcome
from authsec_server.cli._output import Printer

__all__ = ["main"]

_INTERRUPTED: Final = 130  # what shells report for an interrupt


def main(argv: Sequence[str] | None = None, *, clock: Clock = SYSTEM_CLOCK) -> int:
    """Run one command and return its exit code. Prints; blocks; `serve` until it is stopped.

    Args:
        argv: The arguments after the program's name; by default those of this process.
        clock: For tests.

    Returns:
        0 when all is well, 1 when something failed, 2 when the command line or the settings are wrong, 130 when
        interrupted.
    """
    given = list(sys.argv[1:] if argv is None else argv)
    try:
        try:
            arguments = parse(given)
        except UsageError as exc:
            return _explain(exc, as_json="--json" in given)
        printer = Printer(sys.stdout, sys.stderr, as_json=arguments.as_json)
        return _run(arguments, clock, printer)
    except KeyboardInterrupt:
        sys.stderr.write("authsec-server: interrupted\n")
        return _INTERRUPTED
    except BrokenPipeError:
        let_go_of_stdout()
        return FAILED
    except SystemExit as exc:  # argparse, after --help and --version
        return exc.code if isinstance(exc.code, int) else 0


def _run(arguments: Arguments, clock: Clock, printer: Printer) -> int:
    try:
        if arguments.admin is not None:
            return _ask(arguments, clock, printer)
        with _private_files():
            return _work(arguments, clock, printer)
    except AuthSecError as exc:
        shown = error_outcome(exc)
    printer.print(shown)
    return shown.exit_code


# Imported when they are needed, so that `--help` and `admin` answer before the database's libraries are loaded.
def _ask(arguments: Arguments, clock: Clock, printer: Printer) -> int:
    from authsec_server.cli._admin import admin
    from authsec_server.cli._api import ProblemError

    if arguments.admin is None:
        raise TypeError("these are the arguments of another command")
    try:
        return admin(arguments.admin, os.environ, clock, printer.print)
    except ProblemError as exc:
        printer.print(Outcome(document=exc.document, said=exc.said))
        return FAILED


def _work(arguments: Arguments, clock: Clock, printer: Printer) -> int:
    if arguments.command == "serve":
        from authsec_server.cli._serve import serve

        return serve(arguments, clock, printer)
    from authsec_server.cli._offline import offline

    outcome = offline(arguments, clock, printer)
    printer.print(outcome)
    return outcome.exit_code


@contextmanager
def _private_files() -> Iterator[None]:
    """Let nobody but this user read the files that are made: databases hold what proves who asks."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


def _explain(error: UsageError, *, as_json: bool) -> int:
    if as_json:
        write_json({"status": "error", "code": "usage", "message": error.message, "retryable": False}, sys.stdout)
        sys.stdout.flush()
    else:
        sys.stderr.write(f"{error.usage}authsec-server: {error.message}\n")
    return USAGE
