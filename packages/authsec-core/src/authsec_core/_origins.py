"""The origins that an `httpx.Auth` may serve, and the one that a request goes to. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from authsec_core._origin import Origin, check_origin, origin_or_none
from authsec_core.errors import ConfigurationError

__all__ = ["origins_of", "url_origin"]


def origins_of(given: Iterable[str]) -> frozenset[Origin]:
    """Return what the argument `origins=` names.

    Raises:
        ConfigurationError: One is none, or has a user name, a path or anything else in it.
    """
    if isinstance(given, str):
        raise ConfigurationError("origins= takes a list: write origins=['https://api.example.com']")
    origins = set()
    for number, url in enumerate(given, 1):
        try:
            origins.add(check_origin(url))
        except ValueError as exc:  # without the text itself, in which a password may stand
            raise ConfigurationError(
                f"origins=: number {number}: {exc} (scheme, host and port alone, such as https://api.example.com)"
            ) from exc
    return frozenset(origins)


@lru_cache(maxsize=256)
def url_origin(scheme: str, netloc: bytes) -> Origin | None:
    """Return the origin of a URL that httpx has taken apart, or None where it has none."""
    try:
        return origin_or_none(f"{scheme}://{netloc.decode('ascii')}")
    except UnicodeDecodeError:
        return None
