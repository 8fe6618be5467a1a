"""`rotate-master-key`: a new master key in the file, everything sealed with it, and the old one out of the file.

Each step may end at any moment: the next call goes on. No key leaves the file before nothing needs it.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Final

from authsec_core._clock import Clock
from authsec_core.errors import ConfigurationError
from authsec_server.authority import Authority, system_caller
from authsec_server.cli._arguments import Arguments
from authsec_server.cli._files import changing_alone
from authsec_server.cli._outcome import FAILED, Outcome
from authsec_server.keys.masterkey import MasterKey, replace_master_keys
from authsec_server.keys.resealing import Resealing
from authsec_server.settings import ServerSettings

__all__ = ["rotate_master_key"]

_CALLER: Final = system_caller("rotate-master-key")
_Notify = Callable[[int, int], None]


async def rotate_master_key(arguments: Arguments, settings: ServerSettings, clock: Clock, notify: _Notify) -> Outcome:
    """Do the next step, or the one that was asked for.

    Raises:
        ConfigurationError: A key is missing, or the file is not ours to change.
        ConflictError: Something is sealed with a key that was to be retired, or another command changes the file.
        StorageUnavailableError: The database was busy or away for too long: call it again.
    """
    if arguments.retire:
        with _own_file(settings) as path:
            return await _retire(settings, clock, path)
    if not arguments.rewrap_only:
        with _own_file(settings) as path:
            added = await _add_key(settings, clock, path)
        if added is not None and not settings.uses_sqlite:
            return _done(
                added,
                f"{path} begins with the new master key {added.id}, which seals nothing yet: bring the file to every "
                "server, then run this again",
            )
    return await _reseal(settings, clock, notify)


async def _add_key(settings: ServerSettings, clock: Clock, path: Path) -> MasterKey | None:
    """Put a new key first, unless one is there that is not in use yet, or old ones are still to be retired."""
    async with _opened(settings, clock) as (authority, resealing):
        if len(authority.masters.ids) > 1 or await resealing.left():
            return None
        fresh = MasterKey.generate()
        replace_master_keys(path, [fresh, authority.masters.first])
    return fresh


async def _reseal(settings: ServerSettings, clock: Clock, notify: _Notify) -> Outcome:
    async with _opened(settings, clock) as (authority, resealing):
        total = await resealing.left()
        changed = await resealing.change_over(_CALLER)
        came = await resealing.run(_CALLER, lambda done: notify(done + changed, total))
        master, old = authority.masters.first, authority.masters.ids[1:]
    done = sum(came.rows.values()) + changed
    rows = {"server": int(changed), **came.rows}
    if came.failed:
        names = ", ".join(came.failed)
        said = f"these cannot be opened, and stay as they are: {names}; look into it: no key can be retired before"
        return _done(master, said, rows=rows, failed=list(came.failed), exit_code=FAILED)
    said = f"{done} things were sealed anew; nothing is sealed with a master key other than {master.id}"
    if old:
        said += f": {', '.join(old)} can be taken out, which --retire does; old backups need them"
    return _done(master, said, rows=rows, old=list(old))


async def _retire(settings: ServerSettings, clock: Clock, path: Path) -> Outcome:
    async with _opened(settings, clock) as (authority, resealing):
        master, old = authority.masters.first, authority.masters.ids[1:]
        if not old:
            return _done(master, f"nothing to do: {path} has no other master key than {master.id}")
        await resealing.retire(_CALLER, old)
        replace_master_keys(path, [master])
    said = f"{path} has no other master key than {master.id} any more; backups from before need {', '.join(old)}"
    return _done(master, said, old=list(old))


@contextmanager
def _own_file(settings: ServerSettings) -> Iterator[Path]:
    """Lend the file, for this process alone to change."""
    path = settings.master_key_file
    if settings.master_key is not None or path is None:
        raise ConfigurationError(
            "the master key comes from AUTHSEC_SERVER_MASTER_KEY: put a new one and a space before it, on every "
            "server, then run this with --rewrap-only; take the old one out when that says so"
        )
    with changing_alone(path):
        yield path


@asynccontextmanager
async def _opened(settings: ServerSettings, clock: Clock) -> AsyncIterator[tuple[Authority, Resealing]]:
    async with Authority.open(settings, clock=clock) as authority:
        yield (
            authority,
            Resealing(
                authority.ledger, authority.database, masters=authority.masters, tenant_id=authority.settings.tenant_id
            ),
        )


def _done(master: MasterKey, said: str, *, exit_code: int = 0, **more: Any) -> Outcome:
    status = "error" if exit_code else "success"
    document = {"status": status, "done": said, "master_key": master.id, **more}
    return Outcome(document=document, said=said, exit_code=exit_code)
