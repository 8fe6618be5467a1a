"""Start the gateway: `python -m agent_gateway`. Which tokens it accepts depends on what is set.

- `AUTHSEC_GUARD_ISSUER` and `AUTHSEC_GUARD_AUDIENCE`: those of that issuer. Nothing is started but the gateway.
- `APP_BEARER_TOKEN`: that one token, for a first try.
- neither: an authority is started on this machine, with three callers to try the gateway with.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import signal
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import NoReturn

from agent_gateway.check import check
from agent_gateway.modes import POLICY, Gateway, gateway
from agent_gateway.serving import Served
from authsec_core.errors import AuthSecError, ConfigurationError


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until Ctrl-C, or run the check."""
    options = _parser().parse_args(arguments)
    _log_to_stderr(quiet=options.check)
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        with contextlib.ExitStack() as held:
            folder = options.folder or Path(held.enter_context(tempfile.TemporaryDirectory(prefix="agent-gateway-")))
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            made = held.enter_context(gateway(folder, policy=options.policy))
            served = held.enter_context(_served(made, options.port))
            if options.check:
                return check(served.base_url, made)
            print(_told(served.base_url, made), flush=True)
            served.wait()
    except AuthSecError as exc:
        print(f"{exc.code}: {exc.message}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nEnded.", file=sys.stderr)
    return 0


def _served(made: Gateway, port: int) -> Served:
    try:
        return Served(made.app, port=port)
    except OSError as exc:
        raise ConfigurationError(f"port {port} cannot be had ({exc.strerror}): name another one with --port") from exc


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="agent_gateway", description="An agent behind an API that knows who calls.")
    parser.add_argument("--port", type=int, default=8000, help="on 127.0.0.1; 0 takes a free one (default: 8000)")
    parser.add_argument("--folder", type=Path, help="for the audit and the sample tokens (default: a temporary one)")
    parser.add_argument("--policy", type=Path, default=POLICY, help="who may do what (default: the example's)")
    parser.add_argument("--check", action="store_true", help="call the gateway as everybody, print a table, and end")
    return parser


def _log_to_stderr(*, quiet: bool) -> None:
    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(levelname)s %(name)s %(message)s")
    if quiet:
        logging.getLogger("authsec.audit").setLevel(logging.CRITICAL)  # the table tells it
    else:
        logging.getLogger("authsec.audit").setLevel(logging.INFO)


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _told(base_url: str, made: Gateway) -> str:
    """Return what to say when it serves. No token: they are in their files."""
    lines = ["", f"The agent gateway serves {base_url} with {made.mode}.", f"Every decision is put into {made.audit}"]
    body = """-H 'Content-Type: application/json' -d '{"message": "Show my orders"}'"""
    if made.files:
        lines += ["", "Three callers, each with a token in a file. In the page: Choose a file. In a shell:", ""]
        lines += [
            f"  curl {base_url}/orders -H @{made.files['viewer']}",
            f"  curl {base_url}/chat -H @{made.files['agent']} {body}",
            f"  curl -X POST {base_url}/admin/reload -H @{made.files['admin']}",
        ]
    elif made.tokens:
        lines += ["", f'  curl {base_url}/chat -H "Authorization: Bearer $APP_BEARER_TOKEN" {body}']
    return "\n".join([*lines, "", "Ctrl-C ends it."])


if __name__ == "__main__":
    sys.exit(main())
