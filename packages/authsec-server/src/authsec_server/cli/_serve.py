"""`authsec-server serve`: one authority over HTTP until it is stopped, by this process or by several workers.

What can be refused is refused before anything is served, in one line. It makes keys and databases with `--dev` only;
without it, `init` and `migrate` do, when someone says so.
"""

from __future__ import annotations

import errno
import json
import socket
import sys
from contextlib import ExitStack
from typing import Final

from authsec_core._clock import Clock
from authsec_core.errors import ConfigurationError
from authsec_server import logs
from authsec_server.cli import _database as database
from authsec_server.cli._arguments import Arguments
from authsec_server.cli._dev import TryOut, prepare
from authsec_server.cli._files import alone, make_data_dir, require_database
from authsec_server.cli._output import Printer
from authsec_server.cli._worker import answer, try_open
from authsec_server.cli._workers import supervise
from authsec_server.errors import ConflictError
from authsec_server.settings import ServerSettings

__all__ = ["serve"]

_BACKLOG: Final = 2048


def serve(arguments: Arguments, clock: Clock, printer: Printer) -> int:
    """Serve until stopped, and return the exit code.

    Raises:
        ConfigurationError: The settings are unsafe or wrong, or the database is not ready; it says what to run.
        ConflictError: The port is in use, or another server works on the same data.
        StorageUnavailableError: The database cannot be reached.
    """
    with ExitStack() as held:
        settings, listener = _listen(arguments)
        held.enter_context(listener)
        settings.check_files()
        if settings.dev:
            make_data_dir(settings)
        else:
            require_database(settings)
        held.enter_context(alone(settings))
        logs.configure(settings)
        if settings.dev:
            tried = database.run(lambda: prepare(settings, clock))
        else:
            tried = None
            database.run(lambda: try_open(settings, clock))
        _announce(settings, tried, printer, as_json=arguments.as_json)
        if settings.workers == 1:
            return answer(settings, listener, clock)
        others = [_bind(settings.host, settings.port, shared=True) for _ in range(settings.workers - 1)]
        for other in others:
            held.enter_context(other)
        return supervise([listener, *others], arguments.settings, settings.port, clock)


def _listen(arguments: Arguments) -> tuple[ServerSettings, socket.socket]:
    """Take the port before anything else, for with `--port 0` the settings follow from it."""
    wanted = ServerSettings(**arguments.settings, port=arguments.port or None)
    port, shared = wanted.port if arguments.port is None else arguments.port, wanted.workers > 1
    if shared:
        _require_sharing()
        _bind(wanted.host, port).close()  # refused where another server listens, which sharing would not notice
    listener = _bind(wanted.host, port, shared=shared)
    if arguments.port != 0:
        return wanted, listener
    try:
        return ServerSettings(**arguments.settings, port=listener.getsockname()[1]), listener
    except BaseException:
        listener.close()
        raise


def _require_sharing() -> None:
    if not hasattr(socket, "SO_REUSEPORT") or sys.platform == "win32":
        raise ConfigurationError(
            "several workers share a port by SO_REUSEPORT, which this system has not: leave --workers at 1"
        )


def _bind(host: str, port: int, *, shared: bool = False) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=_BACKLOG, reuse_port=shared)
    except OSError as exc:
        if exc.errno == errno.EADDRINUSE:
            raise ConflictError(
                f"port {port} of {host} is in use: stop what listens there, or choose another port with --port"
            ) from exc
        why = exc.strerror or "it cannot be listened on"
        raise ConfigurationError(f"cannot listen on port {port} of {host} (--host, --port): {why}") from exc
    # Connections inherit it. asyncio would set it only where the socket's protocol is named, which is not so here, and
    # then each reply on a kept connection waits 40 ms for an acknowledgement that the other side puts off.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _announce(settings: ServerSettings, tried: TryOut | None, printer: Printer, *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(_document(settings, tried)) + "\n")
    elif tried is None:
        printer.say(f"serving {settings.public_url} on {settings.listen_url}")
    else:
        sys.stdout.write("\n".join(_lines(settings, tried)) + "\n")
    sys.stdout.flush()


def _document(settings: ServerSettings, tried: TryOut | None) -> dict[str, str | None]:
    token, key = (tried.admin_token, tried.agent_key) if tried else (None, None)
    return {
        "base_url": settings.public_url,
        "issuer": settings.issuer,
        "jwks_url": settings.jwks_url,
        "admin_token": token() if token else None,
        "client_id": tried.client_id if tried else None,
        "agent_key": key() if key else None,
        "database": database.shown_url(settings),
        "data_dir": str(settings.data_dir) if settings.data_dir else None,
    }


def _lines(settings: ServerSettings, tried: TryOut) -> list[str]:
    url, client_id = settings.public_url, tried.client_id
    lines = [
        f"An authority for development at {url}. Agents need no proof here: keep it on this machine.",
        f"Its data is in {settings.data_dir}; delete that folder to start over.",
        "",
        "For a program that uses authsec, paste one of these lines:",
        f"  export AUTHSEC_BASE_URL={url} AUTHSEC_AGENT_CLIENT_ID={client_id}",
        f'  $env:AUTHSEC_BASE_URL = "{url}"; $env:AUTHSEC_AGENT_CLIENT_ID = "{client_id}"',
        "",
        *_key_lines(tried),
    ]
    if tried.admin_token is None:
        return [
            *lines,
            "The admin token was shown at the first start; `authsec-server grant-admin --dev` makes another.",
        ]
    token = tried.admin_token()
    return [
        *lines,
        "For `authsec-server admin`. The token is shown this once:",
        f"  export AUTHSEC_ADMIN_URL={url} AUTHSEC_ADMIN_TOKEN={token}",
        f'  $env:AUTHSEC_ADMIN_URL = "{url}"; $env:AUTHSEC_ADMIN_TOKEN = "{token}"',
    ]


def _key_lines(tried: TryOut) -> list[str]:
    if tried.agent_key is None:
        return []
    key = tried.agent_key()
    return [
        "For the vault, in addition. The key is the sample agent's until the next start, which makes another:",
        f"  export AUTHSEC_AGENT_KEY={key}",
        f'  $env:AUTHSEC_AGENT_KEY = "{key}"',
        "",
    ]
