"""`authsec run`: a program with secrets in its environment, and nowhere else. It reads them all before it starts.

For programs that know nothing of a vault. What they hold in their environment, everything that they start holds too; so
the agent's own credentials are taken out of it.
"""

from __future__ import annotations

import os
from pathlib import PurePath
from typing import Final

from authsec_core.cli._outcome import InputError, Launch, Outcome
from authsec_core.cli._program import find_program
from authsec_core.cli._secrets import claims
from authsec_core.cli._session import Session
from authsec_core.cli._vault_arguments import RunArguments

__all__ = ["run"]

_CREDENTIALS: Final = frozenset({"AUTHSEC_AGENT_KEY", "ASS_AGENT_KEY", "AUTHSEC_VAULT_TOKEN"})
_OPERATORS: Final = frozenset({"AUTHSEC_ADMIN_TOKEN"})  # no agent needs it, and it could approve its own requests


def run(session: Session, arguments: RunArguments) -> Outcome:
    """Read every secret and return the program to start."""
    program = find_program(arguments.program[0], os.environ)
    called = PurePath(arguments.program[0]).name
    told = claims(arguments, f"authsec run {called}" if called.isprintable() else "authsec run")
    paths = list(dict.fromkeys(path for _, path in arguments.variables))
    values = {}
    for number, path in enumerate(paths, start=1):
        session.notify(f"Reading {number} of {len(paths)}")
        values[path] = session.vault.get_secret(path, metadata=told, **session.using).value
        _check(path, values[path])
    removed = _OPERATORS if arguments.keep_key else _OPERATORS | _CREDENTIALS
    # The settings know no case, so that a credential may stand under its name in any.
    environ = {name: value for name, value in os.environ.items() if name.upper() not in removed}
    environ |= {name: values[path] for name, path in arguments.variables}
    names = [name for name, _ in arguments.variables]
    return session.done(
        "done",
        f"starting {called} with {' '.join(names)}",
        {"program": called, "variables": names},
        launch=Launch(file=program, argv=arguments.program, environ=environ),
    )


def _check(path: str, value: str) -> None:
    """Refuse a value that no environment can hold, here, where no error about it quotes it."""
    try:
        held = "\0" not in os.fsdecode(os.fsencode(value))
    except UnicodeError:
        held = False
    if not held:
        raise InputError(f"{path} has a character that no environment can hold: nothing was started")
