"""The `authsec` command: what do these settings come to, here and now, and what does the vault hold for them?

A composition root: it reads the command line, runs one command, prints what came of it and returns the exit code. The
commands themselves print nothing; they return an `Outcome`. Nothing else of authsec imports this package.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import takewhile
from typing import Final

from authsec_core._clock import SYSTEM_CLOCK, Clock
from authsec_core._version import __version__
from authsec_core.cli._arguments import Arguments, UsageError, parse
from authsec_core.cli._outcome import InputError, Launch, Outcome, input_outcome
from authsec_core.cli._output import Tables, let_go_of_stdout, say, write_json

__all__ = ["main"]

_FAILED: Final = 1
_USAGE: Final = 2
_INTERRUPTED: Final = 130  # what shells report for an interrupt
_NO_RICH: Final = (
    "authsec: tables need rich, which the wheel's extra 'cli' brings: "
    f'pip install "dist/authsec_core-{__version__}-py3-none-any.whl[cli]", or add --json'
)


def main(argv: Sequence[str] | None = None, *, clock: Clock = SYSTEM_CLOCK) -> int:
    """Run one command and return its exit code. Prints; shows no credential unasked; blocks while it asks the network.

    Args:
        argv: The arguments after the program's name; by default those of this process.
        clock: For tests.

    Returns:
        0 when all is well, 1 when something failed, 2 when the command line is wrong or rich is missing, 130 when
        interrupted. After `run`, the program's own.
    """
    given = list(sys.argv[1:] if argv is None else argv)
    try:
        try:
            arguments = parse(given)
        except UsageError as exc:
            return _explain(exc, as_json="--json" in takewhile("--".__ne__, given))
        with _quiet_log():
            return _run(arguments, clock)
    except KeyboardInterrupt:
        sys.stderr.write("authsec: interrupted\n")
        return _INTERRUPTED
    except BrokenPipeError:
        let_go_of_stdout()
        return _FAILED
    except SystemExit as exc:  # argparse, after --help and --version
        return exc.code if isinstance(exc.code, int) else 0


def _run(arguments: Arguments, clock: Clock) -> int:
    try:
        tables = Tables(sys.stdout, sys.stderr)
    except ImportError:
        tables = None
    if tables is None and not (arguments.as_json or arguments.command == "run"):  # which has no table to show
        sys.stderr.write(f"{_NO_RICH}\n")
        return _USAGE
    if tables is None:
        outcome = _outcome(arguments, clock, lambda _: None)
    else:
        with tables.progress() as notify:
            outcome = _outcome(arguments, clock, notify)
    if outcome.launch is not None:
        return _launch(outcome, outcome.launch, arguments, tables)
    _print(outcome, arguments, tables)
    return outcome.exit_code


def _launch(outcome: Outcome, launch: Launch, arguments: Arguments, tables: Tables | None) -> int:
    """Start the program. Both streams are its own, so that only MOCK mode has a word before."""
    from authsec_core.cli._program import become

    if outcome.document["mode"] == "mock":
        say(outcome.document, sys.stderr)
    try:
        return become(launch)
    except InputError as exc:
        failed = input_outcome(exc, outcome.document["mode"])
        _print(failed, arguments, tables)
        return failed.exit_code


def _print(outcome: Outcome, arguments: Arguments, tables: Tables | None) -> None:
    if arguments.as_json:
        write_json(outcome.whole, sys.stdout)
    elif tables is None:
        say(outcome.document, sys.stderr)
    else:
        tables.show(outcome)
    sys.stdout.flush()  # here, where a reader that has gone away is still noticed


def _outcome(arguments: Arguments, clock: Clock, notify: Callable[[str], None]) -> Outcome:
    # Imported here, so that `--help` and `--version` answer before HTTP and pydantic are loaded.
    if arguments.command == "doctor":
        from authsec_core.cli._doctor import doctor

        return doctor(arguments, clock, notify)
    if arguments.vault is not None:
        from authsec_core.cli._vault import vault_command

        return vault_command(arguments, arguments.vault, clock, notify)
    if arguments.command == "token":
        from authsec_core.cli._token import token

        return token(arguments, clock, notify)
    from authsec_core.cli._fetch import fetch

    return fetch(arguments, clock, notify)


@contextmanager
def _quiet_log() -> Iterator[None]:
    """Keep the log's warnings off stderr, where Python puts them when logging is not set up: the outcome says it."""
    log, handler = logging.getLogger("authsec"), logging.NullHandler()
    log.addHandler(handler)
    try:
        yield
    finally:
        log.removeHandler(handler)


def _explain(error: UsageError, *, as_json: bool) -> int:
    if as_json:
        write_json({"status": "error", "code": "usage", "message": error.message, "retryable": False}, sys.stdout)
        sys.stdout.flush()
    else:
        sys.stderr.write(f"{error.usage}authsec: {error.message}\n")
    return _USAGE
