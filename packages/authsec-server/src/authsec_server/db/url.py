"""Which database a URL means, with which driver, and how the way to it is protected. Opens nothing."""

from __future__ import annotations

import ssl
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError

from authsec_core._origin import is_loopback
from authsec_core.errors import ConfigurationError

__all__ = ["database_url", "is_protected", "tls"]

_DRIVERS: Final = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg"}
_TLS_MODES: Final = ("verify-full", "require", "disable")  # of libpq's, those that mean what they say


def database_url(text: str) -> URL:
    """Return the URL with the driver that is used for it.

    Raises:
        ConfigurationError: It is for no database that is supported, or has a parameter that is not.
    """
    try:
        url = sa.make_url(text)
    except (ArgumentError, ValueError):
        url = None
    driver = _DRIVERS.get(url.drivername) if url is not None else None
    # Raised out here: the text can hold a password, and an ArgumentError quotes it.
    if url is None or driver is None:
        raise ConfigurationError("the database URL must begin with sqlite:/// or postgresql://")
    if driver == _DRIVERS["sqlite"]:
        _check_file(url)
    else:
        _check_parameters(url)
    return url.set(drivername=driver)


def is_protected(url: URL) -> bool:
    """Return whether nobody on the way can read along, or the URL says in so many words that nobody is there."""
    return url.host is None or is_loopback(url.host) or "sslmode" in url.query


def tls(url: URL) -> ssl.SSLContext | bool:
    """Return what asyncpg is told of TLS: False is none, also where the server offers it.

    Raises:
        ConfigurationError: The file of authorities cannot be used.
    """
    mode, roots = url.query.get("sslmode", "disable"), url.query.get("sslrootcert")
    if mode == "disable":
        return False
    try:
        context = ssl.create_default_context(cafile=roots if isinstance(roots, str) else None)
    except OSError as exc:
        raise ConfigurationError(f"sslrootcert of the database URL cannot be used: {exc.strerror or 'no PEM'}") from exc
    if mode == "require":
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _check_file(url: URL) -> None:
    if url.database in (None, "", ":memory:") or url.query:
        raise ConfigurationError("an SQLite database must be a file: sqlite:///path/to/authsec.db")


def _check_parameters(url: URL) -> None:
    if not url.query.keys() <= {"sslmode", "sslrootcert"} or url.query.get("sslmode", "disable") not in _TLS_MODES:
        raise ConfigurationError(
            f"a PostgreSQL URL may have ?sslmode= ({', '.join(_TLS_MODES)}) and &sslrootcert=, and nothing else there"
        )
