"""The commands that work on the database directly, from `init` to `verify-audit`.

Whoever can run them has the authority's database and master key, and so needs no other proof. What they change is in
the audit, as the system's doing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from authsec_core._clock import Clock
from authsec_core.wire import format_time
from authsec_server.authority import Authority, database_of, initialise, system_caller
from authsec_server.cli._arguments import Arguments
from authsec_server.cli._database import Found, look, run
from authsec_server.cli._files import make_data_dir, make_master_key, require_database
from authsec_server.cli._outcome import Outcome, Sheet
from authsec_server.cli._output import Printer
from authsec_server.db import migrate
from authsec_server.errors import ConflictError
from authsec_server.keys.rotation import KeyRow, ready_at
from authsec_server.settings import ServerSettings

__all__ = ["offline"]

_ONCE: Final = "this token is shown once: keep it where only its owner can read it"


def offline(arguments: Arguments, clock: Clock, printer: Printer) -> Outcome:
    """Run one of the commands.

    Raises:
        AuthSecError: It could not do what it was asked; the message says what to do.
    """
    settings = ServerSettings(**arguments.settings)
    if arguments.command != "init":
        require_database(settings)
    if arguments.command == "verify-audit":
        from authsec_server.cli._verify import verify_audit

        with printer.counting("entries") as notify:
            return run(lambda: verify_audit(arguments, settings, clock, notify))
    if arguments.command == "rotate-master-key":
        from authsec_server.cli._master_key import rotate_master_key

        with printer.counting("sealed anew") as notify:
            return run(lambda: rotate_master_key(arguments, settings, clock, notify))
    return run(lambda: _COMMANDS[arguments.command](arguments, settings, clock))


async def _init(arguments: Arguments, settings: ServerSettings, clock: Clock) -> Outcome:
    make_data_dir(settings)
    found = await _look(settings, clock)
    found.require_empty()
    key_file = make_master_key(settings)
    token = (await initialise(settings, admin_name=arguments.name, clock=clock)).text()
    said = (
        f"{_ONCE}; back up the master key {key_file}: without it the database is worth nothing" if key_file else _ONCE
    )
    document = {
        "status": "success",
        "admin": arguments.name,
        "admin_token": token,
        "master_key_file": str(key_file) if key_file else None,
    }
    return Outcome(document=document, lines=(token,), said=said)


async def _migrate(_arguments: Arguments, settings: ServerSettings, clock: Clock) -> Outcome:
    database = database_of(settings, clock)
    try:
        found = await look(database)
        found.require_kind(settings)
        if found.revision is None:
            raise ConflictError("the database is empty: run authsec-server init")
        if changed := found.revision < migrate.expected():
            await migrate.upgrade(database)
        else:
            await migrate.require_shape(database)
        reached = await migrate.current(database)
    finally:
        await database.close()
    document = {"status": "success", "from": found.revision, "to": reached, "changed": changed}
    said = f"migrated from {found.revision} to {reached}" if changed else f"nothing to do: it is at {reached}"
    return Outcome(document=document, said=said)


async def _grant_admin(arguments: Arguments, settings: ServerSettings, clock: Clock) -> Outcome:
    async with Authority.open(settings, clock=clock) as authority:
        token = (await authority.operators.grant_admin(system_caller("grant-admin"), arguments.name)).text()
    document = {"status": "success", "admin": arguments.name, "admin_token": token}
    return Outcome(document=document, lines=(token,), said=_ONCE)


async def _rotate_keys(arguments: Arguments, settings: ServerSettings, clock: Clock) -> Outcome:
    async with Authority.open(settings, clock=clock) as authority:
        done = await _rotate(authority, clock.wall(), at_once=arguments.now)
        rows = await authority.keys.list()
        items = [_item(row, ready_at(row, authority.keys.timing)) for row in rows]
    sheet = Sheet(columns=tuple(_TITLES), rows=tuple(tuple(item[name] or "" for name in _TITLES) for item in items))
    return Outcome(document={"status": "success", "done": done, "items": items}, sheets=(sheet,), said=done)


async def _rotate(authority: Authority, now: float, *, at_once: bool) -> str:
    caller, timing = system_caller("rotate-keys"), authority.keys.timing
    rows = await authority.keys.list()
    at_once = at_once or all(row.state != "active" for row in rows)  # no token is out that verifiers wait with
    prepared = [row for row in rows if row.state == "prepared"]
    waiting = min(prepared, key=lambda row: (row.created_at, row.kid), default=None)
    if waiting is None:
        waiting = await authority.keys.prepare(caller)
        if not at_once:
            ready = format_time(ready_at(waiting, timing))
            return f"prepared {waiting.kid}: run this again after {ready}, when verifiers know it"
    elif now < ready_at(waiting, timing) and not at_once:
        ready = format_time(ready_at(waiting, timing))
        return f"nothing to do: verifiers may not know {waiting.kid} before {ready}; run this again then"
    await authority.keys.activate(caller, waiting.kid, at_once=at_once)
    return f"activated {waiting.kid}"


_TITLES: Final = ("kid", "state", "created_at", "ready_at", "activated_at", "retired_at", "revoked_at")


def _item(row: KeyRow, ready: float) -> dict[str, str | None]:
    instants = {name: getattr(row, name) for name in ("created_at", "activated_at", "retired_at", "revoked_at")}
    instants["ready_at"] = ready if row.state == "prepared" else None
    return {
        "kid": row.kid,
        "state": row.state,
        **{name: None if at is None else format_time(at) for name, at in instants.items()},
    }


async def _look(settings: ServerSettings, clock: Clock) -> Found:
    database = database_of(settings, clock)
    try:
        return await look(database)
    finally:
        await database.close()


_COMMANDS: Final[Mapping[str, Callable[[Arguments, ServerSettings, Clock], Awaitable[Outcome]]]] = {
    "init": _init,
    "migrate": _migrate,
    "grant-admin": _grant_admin,
    "rotate-keys": _rotate_keys,
}
