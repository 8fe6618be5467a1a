"""Start the gateway: `python -m agent_gateway`. Which tokens it accepts depends on what is set.

- `AUTHSEC_GUARD_ISSUER` and `AUTHSEC_GUARD_AUDIENCE`: those of that issuer. Nothing is started but the gateway.
- `APP_BEARER_TOKEN`: that one token, for a first try.
- neither: an authority is started on this machine, with three callers to try the gateway with.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import shlex
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Final, NoReturn

from agent_gateway.check import check
from agent_gateway.folder import held as folder_held
from agent_gateway.modes import POLICY, Gateway, gateway
from agent_gateway.serving import Served, bound
from authsec_core.errors import AuthSecError

_PORT: Final = 8000
_DATA: Final = Path("gateway-data")


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until Ctrl-C, or run the check."""
    options = _parser().parse_args(arguments)
    _log_to_stderr(verbose=options.verbose)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        with contextlib.ExitStack() as held:
            # What can fail does so before anything is written, and before another gateway's tokens are replaced.
            listening = held.enter_context(bound(_port(options)))
            folder = held.enter_context(folder_held(_folder(options, held)))
            shown = {"quiet": options.check, "verbose": options.verbose}
            made = held.enter_context(gateway(folder, policy=options.policy, **shown))
            served = held.enter_context(Served(made.app, on=listening))
            if options.check:
                return check(served.base_url, made, as_json=options.json)
            print(_told(served.base_url, made), flush=True)
            served.wait()
    except AuthSecError as exc:
        print(f"{exc.code}: {exc.message}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nEnded.", file=sys.stderr)
    return 0


def _port(options: argparse.Namespace) -> int:
    default = 0 if options.check else _PORT
    return default if options.port is None else int(options.port)


def _folder(options: argparse.Namespace, held: contextlib.ExitStack) -> Path:
    if options.folder is not None:
        return Path(options.folder)
    # A check leaves nothing behind, and gets in the way of no gateway that is running.
    return Path(held.enter_context(tempfile.TemporaryDirectory(prefix="agent-gateway-"))) if options.check else _DATA


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="agent_gateway", description="An agent behind an API that knows who calls.")
    parser.add_argument("--port", type=int, help="on 127.0.0.1; 0 takes a free one (default: 8000; of a check: 0)")
    parser.add_argument(
        "--folder", type=Path, help=f"for the audit and the sample tokens (default: ./{_DATA}; of a check: none)"
    )
    parser.add_argument("--policy", type=Path, default=POLICY, help="who may do what (default: the example's)")
    parser.add_argument("--check", action="store_true", help="call the gateway as everybody, print a table, and end")
    parser.add_argument("--json", action="store_true", help="with --check: print JSON instead of a table")
    parser.add_argument("--verbose", action="store_true", help="log whole events as well, as they stand in the audit")
    return parser


def _log_to_stderr(*, verbose: bool) -> None:
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(name)s %(message)s")
    if verbose:
        logging.getLogger("authsec.audit").setLevel(logging.INFO)


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _told(base_url: str, made: Gateway) -> str:
    """Return what to say when it serves. No token: they are in their files."""
    lines = [
        "",
        f"The agent gateway serves {base_url}",
        f"  accepts  {made.mode}",
        f"  model    {made.model}",
        f"  audit    {made.audit}",
        "",
    ]
    body = """-H 'Content-Type: application/json' -d '{"message": "Show my orders"}'"""
    if made.files and made.revocation is not None:
        lines += [
            "Three callers, each with a token in a file, good until this gateway ends. In the page: Choose a file,",
            f"in {made.audit.parent}. In a shell:",
            "",
            f"  curl {base_url}/orders -H {_quoted(made.files['viewer'])}",
            f"  curl {base_url}/chat -H {_quoted(made.files['agent'])} {body}",
            f"  curl -X POST {base_url}/admin/reload -H {_quoted(made.files['admin'])}",
            "",
            "This revokes the second of them at the authority, for ever; within seconds it is refused here:",
            "",
            f"  curl -K {shlex.quote(str(made.revocation))}",
            "",
        ]
    elif made.tokens:
        lines += [f'  curl {base_url}/chat -H "Authorization: Bearer $APP_BEARER_TOKEN" {body}', ""]
    else:
        lines += ["Whom it takes you for, when TOKEN.header has `Authorization: Bearer` and a token of yours:", ""]
        lines += [f"  curl {base_url}/me -H @TOKEN.header", ""]
    return "\n".join([*lines, "Ctrl-C ends it."])


def _quoted(file: Path) -> str:
    return shlex.quote(f"@{file}")


if __name__ == "__main__":
    sys.exit(main())
