"""Which settings are unsafe together, or on this disk (RO1). Each refusal says what to set instead."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from authsec_core._origin import is_loopback, origin_of
from authsec_core.errors import ConfigurationError
from authsec_server._environment import variable
from authsec_server.db.url import database_url, is_protected
from authsec_server.errors import UnsafeSettingsError

if TYPE_CHECKING:
    from authsec_server.settings import ServerSettings

__all__ = ["check_files", "check_together"]


def check_together(settings: ServerSettings) -> None:
    """Refuse settings that contradict each other.

    Raises:
        UnsafeSettingsError: They would let someone in.
        ConfigurationError: They could not work.
    """
    for problem in _dev_problems(settings) if settings.dev else _production_problems(settings):
        raise UnsafeSettingsError(problem)
    for problem in _contradictions(settings):
        raise ConfigurationError(problem)


def check_files(settings: ServerSettings) -> None:
    """Refuse files of TLS that are missing, and a key that everyone on the machine can read. Reads their modes only.

    Raises:
        UnsafeSettingsError: The message names the file, and what to do.
    """
    required = {
        "tls_cert_file": settings.tls_cert_file,
        "tls_key_file": settings.tls_key_file,
        "issuer_ca_file": settings.issuer_ca_file,
    }
    for field, path in required.items():
        if path is not None:
            _check_file(field, path)


def _check_file(field: str, path: Path) -> None:
    try:
        mode = path.stat().st_mode
    except OSError as exc:
        raise UnsafeSettingsError(f"{variable(field)}: {path} cannot be read ({exc.strerror}): mend the path") from exc
    if not stat.S_ISREG(mode):
        raise UnsafeSettingsError(f"{variable(field)}: {path} is not a file: mend the path")
    if field == "tls_key_file" and mode & stat.S_IROTH:
        raise UnsafeSettingsError(f"{variable(field)}: everyone on this machine can read {path}: chmod 600 it")


def _dev_problems(settings: ServerSettings) -> Iterator[str]:
    """Whatever would let others than this machine's user use a server that asks for no proof."""
    why = "a --dev server takes a bare client id as proof, and must be reachable from this machine only"
    if not is_loopback(settings.host):
        yield f"{variable('host')} is not a loopback address, and {why}: use 127.0.0.1, or leave dev mode"
    if not is_loopback(origin_of(settings.public_url).host):
        yield f"{variable('public_url')} is not on loopback, and {why}: unset it, or leave dev mode"
    if settings.behind_proxy or settings.trusted_proxies:
        yield f"{variable('behind_proxy')} or {variable('trusted_proxies')} is set, and {why}: unset it"


def _production_problems(settings: ServerSettings) -> Iterator[str]:
    if not settings.public_url:
        yield (
            f"{variable('public_url')} is missing: set it to the https URL that clients use, such as "
            "https://authority.example.com, or try out with --dev"
        )
    elif (public := origin_of(settings.public_url)).scheme == "http" and not is_loopback(public.host):
        yield f"{variable('public_url')} is http, which anyone on the way can read: use https"
    if not is_loopback(settings.host) and not (settings.tls_cert_file or settings.behind_proxy):
        yield (
            f"{variable('host')} is reachable from other machines over plain http: set {variable('tls_cert_file')} and "
            f"{variable('tls_key_file')}, or {variable('behind_proxy')}=true if TLS ends at a proxy in front of it"
        )
    if settings.master_key is None and settings.master_key_file is None:
        yield (
            f"there is no master key to seal the signing keys with: set {variable('master_key')}, "
            f"{variable('master_key_file')} or {variable('data_dir')}"
        )
    url = settings.database_url.get_secret_value()
    if url and not settings.uses_sqlite and not is_protected(database_url(url)):
        yield (
            f"{variable('database_url')} leads to another machine, and does not say how it is protected: add "
            "?sslmode=verify-full, or ?sslmode=disable on a network that you trust"
        )
    if any(network.prefixlen == 0 for network in settings.trusted_proxies):
        yield f"{variable('trusted_proxies')} names every address, so that anyone could claim any: name the proxy"


def _contradictions(settings: ServerSettings) -> Iterator[str]:
    if not settings.database_url.get_secret_value():
        yield (
            f"{variable('data_dir')} is missing: set it to the folder that keeps the SQLite database, or set "
            f"{variable('database_url')}"
        )
    if not settings.trust_domain or ":" in settings.trust_domain:
        yield f"{variable('trust_domain')} is missing: an address has none, so set it, such as example.com"
    if {"master_key", "master_key_file"} <= settings.model_fields_set:
        yield f"{variable('master_key')} and {variable('master_key_file')} are both set: keep one"
    if (settings.tls_cert_file is None) != (settings.tls_key_file is None):
        yield f"{variable('tls_cert_file')} and {variable('tls_key_file')} belong together: set both or none"
    elif settings.tls_cert_file and settings.public_url.startswith("http:"):
        yield f"{variable('public_url')} is http, but the server speaks TLS: use https"
    if settings.token_ttl > settings.max_token_ttl:
        yield f"{variable('token_ttl')} is above {variable('max_token_ttl')}: lower the one or raise the other"
    if settings.critical_delay >= settings.approval_lifetime:
        yield (
            f"{variable('critical_delay')} must be below {variable('approval_lifetime')}, or no request could wait "
            "long enough: lower it"
        )
    if settings.signing_key_lifetime <= settings.max_token_ttl + settings.jwks_max_age:
        yield (
            f"{variable('signing_key_lifetime')} must be above {variable('max_token_ttl')} + "
            f"{variable('jwks_max_age')}, or keys would be replaced while their tokens live: raise it"
        )
    if settings.database_timeout >= settings.request_timeout:
        yield (
            f"{variable('database_timeout')} must be below {variable('request_timeout')}, or a request would be cut "
            "off while the database is tried again: lower it"
        )
