"""What was typed: the command line as a value, or what is wrong with it. Prints nothing but help and version.

No message repeats what was typed beside an option's name: whoever passes a token that has no place here must not find
it in a log.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from authsec_core._version import __version__
from authsec_core.cli._arguments import UsageError
from authsec_server.cli import _values as values
from authsec_server.cli._admin_arguments import AdminArguments, add_admin, take_admin

__all__ = ["Arguments", "parse"]

_EPILOG = (
    "Settings come from AUTHSEC_SERVER_* variables and from --env-file; `admin` reads AUTHSEC_ADMIN_URL and "
    "AUTHSEC_ADMIN_TOKEN. Exit codes: 0 well, 1 failed, 2 wrong usage or settings, 130 interrupted."
)
_KID = re.compile(r"-[A-Za-z0-9_-]{42}")  # a thumbprint (RFC 7638) that begins like an option: one in 64 does
_NAME = re.compile(r"--[a-z][a-z-]{1,20}(?==|$)|-[A-Za-z]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Arguments:
    """One command line.

    Attributes:
        name: Of an operator, for `init` and `grant-admin`.
        now: `rotate-keys` shall not wait until verifiers know the new key.
        rewrap_only: `rotate-master-key` shall not make a key: the new one has been put first.
        retire: It shall take the old keys out of the file.
        checkpoints: Exported ones, which the audit is held against.
        jwks: The public keys that signed them, as they were kept elsewhere.
        admin: What was typed for `admin`.
    """

    command: str
    as_json: bool = False
    dev: bool | None = None
    data: Path | None = None
    env_file: Path | None = None
    host: str | None = None
    port: int | None = None
    workers: int | None = None
    name: str = "admin"
    now: bool = False
    rewrap_only: bool = False
    retire: bool = False
    checkpoints: tuple[Path, ...] = ()
    jwks: tuple[Path, ...] = ()
    admin: AdminArguments | None = None

    @property
    def settings(self) -> dict[str, Any]:
        """What it says of the settings, the port aside; None where it says nothing."""
        return {
            "dev": self.dev,
            "data_dir": self.data,
            "env_file": self.env_file,
            "host": self.host,
            "workers": self.workers,
        }


def parse(argv: Sequence[str]) -> Arguments:
    """Return what was typed.

    Raises:
        UsageError: It is wrong.
        SystemExit: Help or the version was asked for, and has been printed.
    """
    parser = _parser()
    namespace, extra = parser.parse_known_args(_kids_last(argv))
    if extra:
        options = ", ".join(name[0] for name in map(_NAME.match, extra) if name is not None)
        unnamed = "is no such option" if any(name.startswith("-") for name in extra) else "are arguments too many"
        parser.error(f"there is no option {options}" if options else f"there {unnamed}")
    typed = vars(namespace)
    admin = take_admin(typed) if typed["command"] == "admin" else None
    return Arguments(
        **{
            **typed,
            "checkpoints": tuple(typed.get("checkpoints", ())),
            "jwks": tuple(typed.get("jwks", ())),
            "admin": admin,
        }
    )


def _kids_last(argv: Sequence[str]) -> list[str]:
    """Return the arguments with a key's id that looks like an option where argparse takes it for what it is."""
    kids = [argument for argument in argv if _KID.fullmatch(argument)]
    if not kids or "--" in argv:
        return list(argv)
    return [*(argument for argument in argv if argument not in kids), "--", *kids]


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise UsageError(re.split(r":? ['\"]", message)[0], self.format_usage())


def _parser() -> argparse.ArgumentParser:
    as_json = _Parser(add_help=False)
    # Suppressed defaults, so that the option may stand before the command, too.
    as_json.add_argument(
        "--json", action="store_true", dest="as_json", default=argparse.SUPPRESS, help="print one JSON document"
    )
    parser = _Parser(
        prog="authsec-server",
        description="The authority: it knows agents, what each was delegated, and hands out short-lived tokens.",
        epilog=_EPILOG,
        parents=[as_json],
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"authsec-server {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    local = _local(as_json)
    _add_serve(commands, local)
    _add_local(commands, local)
    admin = _add(commands, [as_json], "admin", "administer a running authority over its API")
    add_admin(admin, [as_json], _EPILOG)
    return parser


def _local(as_json: _Parser) -> list[argparse.ArgumentParser]:
    where = _Parser(add_help=False)
    where.add_argument("--data", type=Path, metavar="DIR", help="the folder with database and master key")
    where.add_argument("--env-file", type=Path, metavar="FILE", help="read settings from this .env file too")
    where.add_argument(
        "--dev", action="store_true", default=None, help="the data of a try-out on this machine: no proof is asked for"
    )
    return [as_json, where]


def _add_serve(commands: Any, parents: list[argparse.ArgumentParser]) -> None:
    serve = _add(commands, parents, "serve", "run the authority; with --dev nothing has to be set up before")
    serve.add_argument("--host", type=values.text, metavar="ADDRESS", help="the address to listen on")
    serve.add_argument("--port", type=_port, metavar="PORT", help="the port to listen on; 0 takes a free one")
    serve.add_argument("--workers", type=_count, metavar="COUNT", help="the processes that serve at this port")


def _add_local(commands: Any, parents: list[argparse.ArgumentParser]) -> None:
    init = _add(commands, parents, "init", "make master key, database, signing key and the first admin")
    init.add_argument(
        "--admin", dest="name", type=values.text, default="admin", metavar="NAME", help="what the first admin is called"
    )
    _add(commands, parents, "migrate", "bring the database to the shape that this release needs")
    grant = _add(commands, parents, "grant-admin", "make a token for an admin without the API, when all are lost")
    grant.add_argument("name", type=values.text, metavar="NAME", help="the operator; made if there is none")
    rotate = _add(commands, parents, "rotate-keys", "prepare the next signing key, or activate the one that is ready")
    rotate.add_argument(
        "--now", action="store_true", help="activate at once: verifiers that do not know the key yet refuse its tokens"
    )
    master = _add(
        commands, parents, "rotate-master-key", "seal the database with a new master key, while servers serve"
    )
    steps = master.add_mutually_exclusive_group()
    steps.add_argument(
        "--rewrap-only", action="store_true", help="make no key: you have put the new one first, on every server"
    )
    steps.add_argument(
        "--retire", action="store_true", help="take the old keys out of the file, if nothing is sealed with them"
    )
    verify = _add(commands, parents, "verify-audit", "check that no entry of the audit was changed, and name the first")
    verify.add_argument(
        "--checkpoint",
        dest="checkpoints",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="exported checkpoints to hold it against; may be repeated",
    )
    verify.add_argument(
        "--jwks",
        type=Path,
        action="append",
        default=[],
        metavar="FILE",
        help="the public keys that signed them, as they were kept elsewhere; may be repeated",
    )


def _add(commands: Any, parents: list[argparse.ArgumentParser], name: str, what: str) -> argparse.ArgumentParser:
    described = what[0].upper() + what[1:] + "."
    command: argparse.ArgumentParser = commands.add_parser(
        name, help=what, description=described, epilog=_EPILOG, parents=parents, allow_abbrev=False
    )
    return command


def _port(typed: str) -> int:
    if not re.fullmatch(r"[0-9]{1,5}", typed, re.ASCII) or int(typed) > 65535:
        raise argparse.ArgumentTypeError("give a number from 0 to 65535")
    return int(typed)


def _count(typed: str) -> int:
    if not re.fullmatch(r"[0-9]{1,2}", typed, re.ASCII) or not 1 <= int(typed) <= 64:
        raise argparse.ArgumentTypeError("give a number from 1 to 64")
    return int(typed)
