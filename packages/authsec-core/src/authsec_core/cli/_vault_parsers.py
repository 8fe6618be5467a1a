"""How the vault's commands are typed: `secrets`, `tokens` and `run`. No option takes a secret's value or a token.

Arguments are seen by every process of the machine and kept by the shell, so a value comes from stdin or a prompt.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, Final

from authsec_core.cli import _values as values
from authsec_core.cli._parser import Parser, add_command, add_group

__all__ = ["add_vault"]

_TYPES: Final = ("api_key", "oauth_token", "db_credential", "ssh_key", "certificate", "payment_credential", "custom")
_TIERS: Final = ("standard", "sensitive", "critical")
_FORMATS: Final = ("dotenv", "json", "shell")


def add_vault(commands: Any, common: Parser) -> None:
    """Add the parsers of the vault's commands."""
    _add_secrets(
        add_group(commands, "secrets", "the vault's secrets: read, write and list them, move them in and out"), common
    )
    _add_tokens(add_group(commands, "tokens", "tokens for the vault, narrower than the agent's key"), common)
    _add_run(commands, common)


def _add_secrets(secrets: Any, common: Parser) -> None:
    token, told, kept, to_file = _token_file(), _told(), _kept(), _to_file("the value")
    get = add_command(
        secrets, [common, token, told, to_file], "get", "show what is known of a secret; its value only if told to"
    )
    put = add_command(
        secrets, [common, token, kept], "set", "store a value, read from stdin or a prompt, as a secret's next version"
    )
    list_ = add_command(secrets, [common, token], "list", "show which secrets there are, never their values")
    delete = add_command(secrets, [common, token], "delete", "delete a secret with all its versions")
    rotate = add_command(
        secrets, [common, token, to_file], "rotate", "replace a secret's value and keep all else that is known of it"
    )
    import_ = add_command(
        secrets, [common, token, kept], "import", "store what a .env file holds, all of it or nothing"
    )
    export = add_command(
        secrets,
        [common, token, told, to_file],
        "export",
        "write a namespace's values for programs that read them from a file",
    )
    for command in (get, put, delete, rotate):
        command.add_argument("path", type=values.path, metavar="PATH", help="such as production/openai/api-key")
    get.add_argument(
        "--version", type=values.count, metavar="N", help="the value of this version, in place of the newest"
    )
    for command in (put, rotate):
        command.add_argument(
            "--exact", action="store_true", help="keep the line end that stdin ends in, as SSH keys need it"
        )
    rotate.add_argument("--generate", action="store_true", help="let the vault make up the value")
    delete.add_argument("--yes", action="store_true", help="do not ask back")
    list_.add_argument(
        "namespace", nargs="?", type=values.namespace, metavar="NAMESPACE", help="only what lies in it and below"
    )
    import_.add_argument("source", type=Path, metavar="FILE", help="the .env file; - reads stdin")
    for command in (import_, export):
        command.add_argument(
            "--namespace", type=values.namespace, required=True, metavar="NAMESPACE", help="where the secrets lie"
        )
    export.add_argument(
        "--format", dest="form", choices=_FORMATS, default="dotenv", help="how to write it; else dotenv"
    )


def _add_tokens(tokens: Any, common: Parser) -> None:
    issue = add_command(tokens, [common], "issue", "get a token with these scopes and show it, once")
    revoke = add_command(tokens, [common], "revoke", "end a token at once")
    issue.add_argument(
        "--scope",
        dest="scopes",
        action="append",
        required=True,
        type=values.vault_scope,
        metavar="SCOPE",
        help="such as secrets:read:production/*; may be repeated",
    )
    issue.add_argument("--ttl", type=values.span, metavar="TIME", help="how long it lives, such as 45s, 30m, 12h or 1d")
    issue.add_argument("--max-uses", type=values.count, metavar="N", help="how often it can be used")
    issue.add_argument(
        "--allow-ip",
        dest="allowed_ips",
        action="append",
        default=[],
        type=values.address,
        metavar="ADDRESS",
        help="an address or network that may use it; may be repeated",
    )
    issue.add_argument("--description", type=values.name, metavar="TEXT", help="what it is for; the audit has it")
    issue.add_argument(
        "--tier",
        dest="access_tier",
        choices=_TIERS,
        help="have it approved up to this tier, even if nothing that the scopes reach has it now",
    )
    issue.add_argument(
        "--approval-id",
        type=values.identifier,
        metavar="ID",
        help="collect the token of a request that somebody had to approve",
    )
    issue.add_argument(
        "--wait", type=values.span, metavar="TIME", help="wait so long for the approval, where one is needed"
    )
    issue.add_argument(
        "--out", type=Path, metavar="FILE", help="write the token to this new file, which only its owner can read"
    )
    revoke.add_argument("token_id", type=values.identifier, metavar="TOKEN_ID", help="its id, never the token itself")


def _add_run(commands: Any, common: Parser) -> None:
    run = add_command(
        commands,
        [common, _token_file(), _told()],
        "run",
        "start a program with secrets in its environment",
        usage="%(prog)s [OPTION ...] --env NAME=PATH [--env NAME=PATH ...] -- PROGRAM [ARGUMENT ...]",
    )
    run.add_argument(
        "--env",
        dest="variables",
        action="append",
        required=True,
        type=values.assignment,
        metavar="NAME=PATH",
        help="a variable and the secret that it shall hold; may be repeated",
    )
    run.add_argument(
        "--keep-key", action="store_true", help="leave the program the agent's key and vault token as well"
    )


def _token_file() -> Parser:
    parent = Parser(add_help=False)
    parent.add_argument(
        "--token-file", type=Path, metavar="FILE", help="use the vault token in this file, in place of the agent's key"
    )
    return parent


def _told() -> Parser:
    """Return what is told to the audit of a read."""
    parent = Parser(add_help=False)
    parent.add_argument("--agent-name", type=values.name, metavar="NAME", help="who reads, as the audit shall quote it")
    parent.add_argument("--reason", type=values.line, metavar="TEXT", help="what for, as the audit shall quote it")
    return parent


def _kept() -> Parser:
    """Return what is kept beside a value."""
    parent = Parser(add_help=False)
    parent.add_argument("--type", dest="secret_type", choices=_TYPES, help="what kind of secret it is")
    parent.add_argument(
        "--tier",
        dest="access_tier",
        choices=_TIERS,
        help="what reading it takes: above standard, tokens need an approval",
    )
    parent.add_argument(
        "--metadata",
        action="append",
        default=[],
        type=values.pair,
        metavar="NAME=TEXT",
        help="not secret, and shown in lists; may be repeated",
    )
    return parent


def _to_file(what: str) -> argparse.ArgumentParser:
    parent = Parser(add_help=False)
    where = parent.add_mutually_exclusive_group()
    where.add_argument("--reveal", action="store_true", help=f"show {what} on stdout")
    where.add_argument(
        "--out", type=Path, metavar="FILE", help=f"write {what} to this new file, which only its owner can read"
    )
    return parent
