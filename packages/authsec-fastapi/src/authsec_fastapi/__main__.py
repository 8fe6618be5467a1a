"""`python -m authsec_fastapi`: is this policy good, who may do what by it, and why may somebody not?

A composition root: it reads the command line, prints what came of it and returns the exit code. 0: the policy is good,
or it is allowed. 1: it is not. 2: the question cannot be answered as it was asked.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Final, NamedTuple

from authsec_core.errors import ConfigurationError
from authsec_fastapi._policy_doubts import doubts
from authsec_fastapi._policy_report import caller, overview, tables
from authsec_fastapi.policy import Policy
from authsec_fastapi.policy_file import load_policy
from authsec_fastapi.requirement import Requirement, check_known, decide, decide_route

__all__ = ["main"]

_GOOD, _NOT, _UNANSWERED = 0, 1, 2
_WHY: Final = {
    "allowed": "allowed",
    "insufficient_scope": "denied: the token lacks",
    "role_missing": "denied: the caller lacks the role that is needed",
    "action_not_permitted": "denied: none of the roles permits the action that is needed",
    "tool_unknown": "denied: the policy has no such tool",
    "route_unknown": "denied: the policy has no rule for this method and path",
}


class _Answer(NamedTuple):
    code: int
    text: str
    document: Mapping[str, Any]


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code. Prints; reads the policy's file, and asks nothing else.

    Args:
        argv: The arguments after the program's name; by default those of this process.
    """
    try:
        given = _parser().parse_args(argv)
    except SystemExit as exc:  # argparse has said why, or printed its help
        return exc.code if isinstance(exc.code, int) else _UNANSWERED
    try:
        answer = _check(given) if given.command == "check" else _explain(given)
    except ConfigurationError as exc:
        answer = _bad(_NOT if given.command == "check" else _UNANSWERED, exc.message)
    return _print(answer, as_json=given.json)


def _check(given: argparse.Namespace) -> _Answer:
    policy = load_policy(given.policy)
    document, notes = overview(policy), doubts(policy)
    text = tables(document) + "".join(f"\nnote: {note}" for note in notes) + ("\n" if notes else "")
    return _Answer(_GOOD, text, {"status": "ok", **document, "notes": notes})


def _explain(given: argparse.Namespace) -> _Answer:
    requirement = Requirement(tool=given.tool, action=given.action)
    if (given.route is None) == (requirement == Requirement()):
        return _bad(_UNANSWERED, "name what is asked for: --route, or else --tool, --action or both")
    policy, somebody = load_policy(given.policy), caller(given.scope, given.role)
    if given.route is None:
        decision = decide(somebody, requirement, policy)
    else:
        method, path = given.route
        decision = decide_route(somebody, method, path, policy)
    missing, notes = sorted(decision.missing), _notes(given.role, requirement, policy)
    document = {
        "status": "allowed" if decision.allowed else "denied",
        "reason": decision.reason,
        "needed": sorted(decision.needed),
        "missing": missing,
        "notes": notes,
    }
    text = "\n".join([" ".join([_WHY[decision.reason], *missing]), *(f"note: {note}" for note in notes), ""])
    return _Answer(_GOOD if decision.allowed else _NOT, text, document)


def _notes(roles: Sequence[str], requirement: Requirement, policy: Policy) -> list[str]:
    """Return which of the names the policy does not know."""
    asked = [*(Requirement(role=role) for role in roles), Requirement(tool=requirement.tool)]
    notes = []
    for one in [*asked, Requirement(action=requirement.action)]:
        try:
            check_known(one, policy)
        except ConfigurationError as exc:
            notes.append(exc.message)
    return notes


def _bad(code: int, message: str) -> _Answer:
    return _Answer(code, f"{message}\n", {"status": "error", "message": message})


def _print(answer: _Answer, *, as_json: bool) -> int:
    failed = answer.document["status"] == "error"
    stream = sys.stderr if failed and not as_json else sys.stdout
    # ASCII for programs. For people, what the encoding has; names and messages are printable by then.
    text = json.dumps(answer.document, indent=2) + "\n" if as_json else answer.text
    encoding = stream.encoding or "utf-8"
    try:
        stream.write(text.encode(encoding, "backslashreplace").decode(encoding))
        stream.flush()
    except BrokenPipeError:
        with suppress(OSError, ValueError):  # else Python says so when it exits
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    return answer.code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m authsec_fastapi", description="What a policy file says.")
    commands = parser.add_subparsers(dest="command", required=True)
    check = commands.add_parser("check", allow_abbrev=False, help="is it good, and who may do what?")
    about = "may somebody with these roles and scopes do this?"
    explain = commands.add_parser("explain", allow_abbrev=False, help=about)
    for command in (check, explain):
        command.add_argument("policy", help="the file: .yaml, .yml or .toml")
        command.add_argument("--json", action="store_true", help="one JSON document, for programs")
    explain.add_argument("--role", action="append", default=[], help="that the caller has; may stand several times")
    explain.add_argument("--scope", action="append", default=[], help="that the token has; may stand several times")
    explain.add_argument("--tool", help="that is to be used")
    explain.add_argument("--action", help="that is to be done")
    explain.add_argument("--route", nargs=2, metavar=("METHOD", "PATH"), help="that is to be called")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
